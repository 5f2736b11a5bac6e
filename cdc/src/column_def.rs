//! Column types from the words of `information_schema.columns`.
//!
//! In: `DATA_TYPE`, `COLUMN_TYPE` and `COLLATION_NAME` as MySQL 8.0 and later and MariaDB 10.6 and later
//! spell them. Out: [`ColumnType`]; a type that OnAir cannot read becomes [`ColumnType::Other`], so that the
//! rest of its table can be captured. Wrong: [`ColumnTypeError`], for words that contradict each other.

use std::sync::Arc;

use onair_model::column::{Collation, ColumnType, IntWidth};

/// What the information schema says of one column's type.
#[derive(Clone, Copy, Debug)]
pub struct Declared<'a> {
    /// `DATA_TYPE`, e.g. `int`, `enum`.
    pub data_type: &'a str,
    /// `COLUMN_TYPE`, e.g. `int unsigned`, `enum('a','b''c')`.
    pub column_type: &'a str,
    /// `COLLATION_NAME`; NULL for anything that is not text, ENUM or SET.
    pub collation: Option<&'a str>,
}

/// The words of a column's declaration do not fit together.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("column type {column_type:?} ({data_type}) cannot be understood: {reason}")]
pub struct ColumnTypeError {
    /// `DATA_TYPE`.
    pub data_type: String,
    /// `COLUMN_TYPE`.
    pub column_type: String,
    /// What does not fit.
    pub reason: &'static str,
}

/// The type that a column was declared with.
pub fn column_type(declared: &Declared<'_>) -> Result<ColumnType, ColumnTypeError> {
    parse(declared).map_err(|reason| ColumnTypeError {
        data_type: declared.data_type.to_owned(),
        column_type: declared.column_type.to_owned(),
        reason,
    })
}

fn parse(declared: &Declared<'_>) -> Result<ColumnType, &'static str> {
    let full = declared.column_type;
    // MariaDB marks what it stores in another way than the type says: compressed text, temporal types of 5.3.
    if full.contains("/*M!") || full.contains("/* mariadb-5.3 */") {
        return Ok(other(full));
    }
    let int = |width| ColumnType::Int {
        width,
        unsigned: has_word(full, "unsigned") || has_word(full, "zerofill"),
    };
    Ok(match declared.data_type.to_ascii_lowercase().as_str() {
        "tinyint" => int(IntWidth::Tiny),
        "smallint" => int(IntWidth::Small),
        "mediumint" => int(IntWidth::Medium),
        "int" | "integer" => int(IntWidth::Int),
        "bigint" => int(IntWidth::Big),
        "decimal" | "numeric" => decimal(full)?,
        "float" => ColumnType::Float,
        "double" => ColumnType::Double,
        "bit" => ColumnType::Bit {
            bits: number(full, 1, 1..=64)?,
        },
        "year" => ColumnType::Year,
        "date" => ColumnType::Date,
        "time" => ColumnType::Time { fsp: fsp(full)? },
        "datetime" => ColumnType::DateTime { fsp: fsp(full)? },
        "timestamp" => ColumnType::Timestamp { fsp: fsp(full)? },
        "char" | "varchar" | "tinytext" | "text" | "mediumtext" | "longtext" => ColumnType::Text {
            collation: collation(declared.collation.ok_or("text without a collation")?),
        },
        "binary" => ColumnType::FixedBinary {
            len: number(full, 1, 0..=255)?,
        },
        "varbinary" | "tinyblob" | "blob" | "mediumblob" | "longblob" => ColumnType::Binary,
        "enum" | "set" if may_hide_a_label(declared) => ColumnType::Other {
            declared: format!(
                "{full}, where a ? may be a character that information_schema cannot show"
            )
            .into(),
        },
        "enum" => ColumnType::Enum {
            labels: labels(full)?,
        },
        "set" => ColumnType::Set {
            labels: labels(full)?,
        },
        "json" => ColumnType::Json,
        "vector" => ColumnType::Vector,
        "geometry" | "point" | "linestring" | "polygon" | "multipoint" | "multilinestring"
        | "multipolygon" | "geometrycollection" | "geomcollection" => ColumnType::Geometry,
        _ => other(full),
    })
}

/// The information schema is utf8mb3: a character beyond U+FFFF in a label is a `?` there.
fn may_hide_a_label(declared: &Declared<'_>) -> bool {
    let beyond = ["utf8mb4_", "utf16_", "utf16le_", "utf32_", "gb18030_"];
    let collation = declared.collation.unwrap_or_default();
    declared.column_type.contains('?') && beyond.iter().any(|set| collation.starts_with(set))
}

fn other(declared: &str) -> ColumnType {
    ColumnType::Other {
        declared: declared.into(),
    }
}

/// `utf8` was the name of `utf8mb3` until MySQL 8.0.29 and MariaDB 10.5.
fn collation(name: &str) -> Collation {
    match name.strip_prefix("utf8_") {
        Some(rest) => Collation::new(format!("utf8mb3_{rest}")),
        None => Collation::new(name),
    }
}

fn has_word(text: &str, word: &str) -> bool {
    text.split(' ')
        .skip(1)
        .any(|w| w.eq_ignore_ascii_case(word))
}

/// What stands between the first parenthesis and the next closing one.
fn arguments(text: &str) -> Option<&str> {
    let (_, rest) = text.split_once('(')?;
    rest.split_once(')').map(|(inside, _)| inside)
}

fn number<T>(text: &str, absent: T, range: std::ops::RangeInclusive<T>) -> Result<T, &'static str>
where
    T: std::str::FromStr + PartialOrd,
{
    let Some(inside) = arguments(text) else {
        return Ok(absent);
    };
    match inside.trim().parse::<T>() {
        Ok(n) if range.contains(&n) => Ok(n),
        _ => Err("the length is not one that the type allows"),
    }
}

fn fsp(text: &str) -> Result<u8, &'static str> {
    number(text, 0, 0..=6)
}

fn decimal(text: &str) -> Result<ColumnType, &'static str> {
    let Some(inside) = arguments(text) else {
        return Ok(ColumnType::Decimal {
            precision: 10,
            scale: 0,
        });
    };
    let (precision, scale) = inside.split_once(',').unwrap_or((inside, "0"));
    match (precision.trim().parse(), scale.trim().parse()) {
        (Ok(precision @ 1..=65), Ok(scale @ 0..=38)) if scale <= precision => {
            Ok(ColumnType::Decimal { precision, scale })
        }
        _ => Err("precision and scale are not those of a DECIMAL"),
    }
}

/// The labels of `enum(..)` or `set(..)`: quotes doubled, and NUL, newline, return and backslash written with
/// a backslash (the servers' `append_unescaped`).
fn labels(text: &str) -> Result<Arc<[Arc<str>]>, &'static str> {
    const SHAPE: &str = "the list of labels does not end where it should";
    let (_, list) = text.split_once('(').ok_or(SHAPE)?;
    let mut labels = Vec::new();
    let mut chars = list.chars().peekable();
    loop {
        if chars.next() != Some('\'') {
            return Err(SHAPE);
        }
        let mut label = String::new();
        loop {
            match chars.next().ok_or(SHAPE)? {
                '\'' if chars.peek() == Some(&'\'') => {
                    chars.next();
                    label.push('\'');
                }
                '\'' => break,
                '\\' => label.push(match chars.next().ok_or(SHAPE)? {
                    '0' => '\0',
                    'n' => '\n',
                    'r' => '\r',
                    plain => plain,
                }),
                plain => label.push(plain),
            }
        }
        labels.push(Arc::from(label));
        match chars.next() {
            Some(',') => {}
            Some(')') => return Ok(labels.into()),
            _ => return Err(SHAPE),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(data_type: &str, full: &str, collation: Option<&str>, expected: ColumnType) {
        let declared = Declared {
            data_type,
            column_type: full,
            collation,
        };
        assert_eq!(column_type(&declared), Ok(expected), "{full}");
    }

    fn int(width: IntWidth, unsigned: bool) -> ColumnType {
        ColumnType::Int { width, unsigned }
    }

    fn list(labels: &[&str]) -> Arc<[Arc<str>]> {
        labels.iter().map(|&l| Arc::from(l)).collect()
    }

    #[test]
    fn numbers() {
        check("int", "int", None, int(IntWidth::Int, false));
        check("int", "int(11)", None, int(IntWidth::Int, false));
        check("int", "int unsigned", None, int(IntWidth::Int, true));
        check("tinyint", "tinyint(1)", None, int(IntWidth::Tiny, false));
        let zerofill = "bigint(20) unsigned zerofill";
        check("bigint", zerofill, None, int(IntWidth::Big, true));
        let (precision, scale) = (65, 30);
        check(
            "decimal",
            "decimal(65,30) unsigned",
            None,
            ColumnType::Decimal { precision, scale },
        );
        check("float", "float(7,3) unsigned", None, ColumnType::Float);
        check("bit", "bit(64)", None, ColumnType::Bit { bits: 64 });
        check("year", "year(4)", None, ColumnType::Year);
    }

    #[test]
    fn times() {
        check(
            "datetime",
            "datetime(6)",
            None,
            ColumnType::DateTime { fsp: 6 },
        );
        check("time", "time", None, ColumnType::Time { fsp: 0 });
        check(
            "timestamp",
            "timestamp(3)",
            None,
            ColumnType::Timestamp { fsp: 3 },
        );
        check(
            "datetime",
            "datetime(6) /* mariadb-5.3 */",
            None,
            other("datetime(6) /* mariadb-5.3 */"),
        );
    }

    #[test]
    fn strings() {
        let text = |name: &str| ColumnType::Text {
            collation: Collation::new(name),
        };
        let ci = "utf8mb4_0900_ai_ci";
        check("varchar", "varchar(255)", Some(ci), text(ci));
        check("text", "text", Some("utf8_bin"), text("utf8mb3_bin"));
        check(
            "binary",
            "binary(16)",
            None,
            ColumnType::FixedBinary { len: 16 },
        );
        check("varbinary", "varbinary(16)", None, ColumnType::Binary);
        check("uuid", "uuid", None, other("uuid"));
        let compressed = "text /*M!100301 COMPRESSED*/";
        check("text", compressed, Some(ci), other(compressed));
        check("vector", "vector(3)", None, ColumnType::Vector);
        check(
            "geomcollection",
            "geomcollection",
            None,
            ColumnType::Geometry,
        );
    }

    #[test]
    fn labels_with_quotes_commas_and_backslashes() {
        let full = r"enum('a','b''c','d,e)','f\\g','','h\ni')";
        let labels = list(&["a", "b'c", "d,e)", r"f\g", "", "h\ni"]);
        check("enum", full, None, ColumnType::Enum { labels });
        let labels = list(&["x"]);
        check("set", "set('x')", None, ColumnType::Set { labels });
        let hidden = Declared {
            data_type: "enum",
            column_type: "enum('a?b')",
            collation: Some("utf8mb4_bin"),
        };
        assert!(matches!(column_type(&hidden), Ok(ColumnType::Other { .. })));
        let labels = list(&["a?b"]);
        check(
            "enum",
            "enum('a?b')",
            Some("latin1_bin"),
            ColumnType::Enum { labels },
        );
        let broken = Declared {
            data_type: "enum",
            column_type: "enum('a'",
            collation: None,
        };
        assert!(column_type(&broken).is_err());
    }
}
