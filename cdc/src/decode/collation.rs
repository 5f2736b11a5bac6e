//! Collation ids of table maps to the servers' names.
//!
//! The list has those of MySQL; MariaDB's are the same but for a few and two families that follow a rule:
//! 1024 more is the same without padding, and from 2048 on are those of UCA 14.0.

use std::borrow::Cow;

use crate::source::Dialect;

/// `binary`.
pub(super) const BINARY: u32 = 63;

const LIST: &str = include_str!("collations.txt");

/// The languages of UCA 14.0 collations, eight ids each; '' where there is none.
const LANGUAGES: [&str; 25] = [
    "",
    "icelandic",
    "latvian",
    "romanian",
    "slovenian",
    "polish",
    "estonian",
    "spanish",
    "swedish",
    "turkish",
    "czech",
    "danish",
    "lithuanian",
    "slovak",
    "spanish2",
    "roman",
    "persian",
    "esperanto",
    "hungarian",
    "sinhala",
    "german2",
    "",
    "",
    "vietnamese",
    "croatian",
];

/// Whether `id` is the collation with this name.
pub(super) fn is(dialect: Dialect, id: u32, name: &str) -> bool {
    self::name(dialect, id).is_some_and(|known| known == name)
}

/// The name of its character set.
pub(super) fn charset(dialect: Dialect, id: u32) -> Option<Cow<'static, str>> {
    let first_word = |name: &str| name.split('_').next().map(str::len);
    match name(dialect, id)? {
        Cow::Borrowed(name) => Some(Cow::Borrowed(&name[..first_word(name)?])),
        Cow::Owned(name) => Some(Cow::Owned(name[..first_word(&name)?].to_owned())),
    }
}

/// Its name, or its number when that is not known.
pub(super) fn describe(dialect: Dialect, id: u32) -> Cow<'static, str> {
    name(dialect, id).unwrap_or_else(|| Cow::Owned(format!("the unknown collation {id}")))
}

/// The server's name for a collation id, e.g. 255 of MySQL: `utf8mb4_0900_ai_ci`.
pub fn name(dialect: Dialect, id: u32) -> Option<Cow<'static, str>> {
    let (mysql, mariadb) = LIST.split_once("\n\n").unwrap_or((LIST, ""));
    match dialect {
        Dialect::Mysql => listed(mysql, id).map(Cow::Borrowed),
        Dialect::Mariadb => match id {
            0..1024 => listed(mariadb, id)
                .or_else(|| listed(mysql, id))
                .map(Cow::Borrowed),
            1024..2048 => {
                let padding = listed(mysql, id - 1024)?;
                let (name, rule) = padding.rsplit_once('_')?;
                Some(Cow::Owned(format!("{name}_nopad_{rule}")))
            }
            _ => uca_14(id - 2048).map(Cow::Owned),
        },
    }
}

fn listed(list: &'static str, id: u32) -> Option<&'static str> {
    list.lines().find_map(|line| {
        let (number, name) = line.split_once(' ')?;
        (number.parse() == Ok(id)).then_some(name)
    })
}

fn uca_14(id: u32) -> Option<String> {
    let charset = match id / 256 {
        0 => "utf8mb3",
        1 => "utf8mb4",
        2 => "ucs2",
        3 => "utf16",
        4 => "utf32",
        _ => return None,
    };
    let language = match (id % 256 / 8, LANGUAGES.get(id as usize % 256 / 8)?) {
        (0, _) => String::new(),
        (_, &"") => return None,
        (_, language) => format!("_{language}"),
    };
    let padding = if id & 4 == 0 { "" } else { "_nopad" };
    let accents = if id & 2 == 0 { "ai" } else { "as" };
    let case = if id & 1 == 0 { "ci" } else { "cs" };
    Some(format!(
        "{charset}_uca1400{language}{padding}_{accents}_{case}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_by_number() {
        for (dialect, id, expected, set) in [
            (Dialect::Mysql, 8, "latin1_swedish_ci", "latin1"),
            (Dialect::Mysql, 63, "binary", "binary"),
            (Dialect::Mysql, 255, "utf8mb4_0900_ai_ci", "utf8mb4"),
            (Dialect::Mysql, 245, "utf8mb4_croatian_ci", "utf8mb4"),
            (
                Dialect::Mariadb,
                245,
                "utf8mb4_croatian_mysql561_ci",
                "utf8mb4",
            ),
            (Dialect::Mariadb, 46, "utf8mb4_bin", "utf8mb4"),
            (
                Dialect::Mariadb,
                1069,
                "utf8mb4_general_nopad_ci",
                "utf8mb4",
            ),
            (Dialect::Mariadb, 2048, "utf8mb3_uca1400_ai_ci", "utf8mb3"),
            (
                Dialect::Mariadb,
                3271,
                "utf32_uca1400_croatian_nopad_as_cs",
                "utf32",
            ),
        ] {
            assert!(is(dialect, id, expected), "{id}");
            assert_eq!(charset(dialect, id).as_deref(), Some(set));
        }
        assert_eq!(describe(Dialect::Mysql, 9999), "the unknown collation 9999");
    }
}
