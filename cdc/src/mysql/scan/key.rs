//! Primary keys as the scan handles them: fetched from the server, written back as literals, and halved.
//!
//! A boundary between two ranges is always a key that the server itself gave, so that its order is the server's
//! own (collation, ENUM order); what is computed here is only a guess of where to look for one.

use mysql_async::Value as Sent;
use onair_model::Key;
use onair_model::column::{Collation, Column, ColumnType};
use onair_model::key::KeyReader;

use super::values::{big_endian, selected};
use crate::mysql::connect::identifier;

/// The columns of one table's primary key.
#[derive(Debug)]
pub(super) struct KeyColumns(Vec<Column>);

/// Values of the first columns of a key, or of all.
pub(super) type KeyValues = Vec<Sent>;

impl KeyColumns {
    pub(super) fn new(columns: Vec<Column>) -> Self {
        KeyColumns(columns)
    }

    /// The select list that gives a key.
    pub(super) fn selected(&self) -> String {
        let columns: Vec<_> = self.0.iter().map(selected).collect();
        columns.join(", ")
    }

    /// The key's order.
    pub(super) fn order(&self, direction: &str) -> String {
        let columns: Vec<_> = self
            .0
            .iter()
            .map(|column| format!("{} {direction}", identifier(&column.name)))
            .collect();
        columns.join(", ")
    }

    /// SQL that is true of the keys at or after `from`; `None` when a value has no literal.
    pub(super) fn at_or_after(&self, from: &[Sent]) -> Option<String> {
        self.bound(from, ">", ">=")
    }

    /// SQL that is true of the keys before `to`.
    pub(super) fn before(&self, to: &[Sent]) -> Option<String> {
        self.bound(to, "<", "<")
    }

    /// Spelled out, because the optimizer makes no range of `(a, b) >= (1, 2)`; with a plain bound on the first
    /// column in front, so that it needs no luck.
    fn bound(&self, values: &[Sent], beyond: &str, last: &str) -> Option<String> {
        let mut parts = self.0.iter().zip(values).rev();
        let (column, value) = parts.next()?;
        let mut sql = format!(
            "{} {last} {}",
            identifier(&column.name),
            literal(column, value)?
        );
        for (column, value) in parts {
            let (name, value) = (identifier(&column.name), literal(column, value)?);
            sql = format!("({name} {beyond} {value} OR ({name} = {value} AND {sql}))");
        }
        if values.len() > 1 {
            let (column, value) = (&self.0[0], &values[0]);
            let first = literal(column, value)?;
            sql = format!("{} {beyond}= {first} AND {sql}", identifier(&column.name));
        }
        Some(sql)
    }

    /// SQL that is true of the row with this key, given by the feed's canonical bytes; `None` when they are not a key of
    /// these columns.
    pub(super) fn equal_to(&self, key: &Key) -> Option<String> {
        key.with_bytes(|bytes| {
            let mut reader = KeyReader::new(bytes, self.0.len());
            let parts = self.0.iter().map(|column| {
                let name = identifier(&column.name);
                Some(format!("{name} = {}", canonical(&column.ty, &mut reader)?))
            });
            let parts = parts.collect::<Option<Vec<_>>>()?;
            reader.is_done().then(|| parts.join(" AND "))
        })
    }

    /// A guess of a key after `first` and not after `last`; `None` when there is none or the types say nothing.
    pub(super) fn between(&self, first: &[Sent], last: &[Sent]) -> Option<KeyValues> {
        for (at, column) in self.0.iter().enumerate() {
            if first.get(at)? == last.get(at)? {
                continue;
            }
            let middle = middle(&column.ty, &first[at], &last[at])?;
            let mut guess = first[..at].to_vec();
            guess.push(middle);
            return Some(guess);
        }
        None
    }
}

fn literal(column: &Column, value: &Sent) -> Option<String> {
    Some(match (&column.ty, value) {
        (_, Sent::Int(value)) => value.to_string(),
        (_, Sent::UInt(value)) => value.to_string(),
        (ColumnType::Bit { .. }, Sent::Bytes(bytes)) => format!("0x{}", hex(bytes)),
        (ColumnType::Decimal { .. }, Sent::Bytes(digits)) => {
            String::from_utf8(digits.clone()).ok()?
        }
        (ColumnType::Text { collation }, Sent::Bytes(bytes)) => format!(
            "_{} x'{}' COLLATE {}",
            collation.charset(),
            hex(bytes),
            collation.name()
        ),
        (ColumnType::FixedBinary { .. } | ColumnType::Binary, Sent::Bytes(bytes)) => {
            format!("x'{}'", hex(bytes))
        }
        (_, Sent::Date(..) | Sent::Time(..)) => value.as_sql(true),
        _ => return None,
    })
}

/// The next column of a key in canonical bytes, as a literal.
fn canonical(ty: &ColumnType, key: &mut KeyReader<'_>) -> Option<String> {
    let plain = |bytes: Vec<u8>, others: &[u8]| {
        let is_plain = |byte: &u8| byte.is_ascii_digit() || others.contains(byte);
        let text = String::from_utf8(bytes).ok()?;
        (!text.is_empty() && text.as_bytes().iter().all(is_plain)).then_some(text)
    };
    Some(match ty {
        ColumnType::Int {
            unsigned: false, ..
        } => key.signed().ok()?.to_string(),
        ColumnType::Int { .. } | ColumnType::Bit { .. } | ColumnType::Year => {
            key.unsigned().ok()?.to_string()
        }
        ColumnType::Decimal { .. } => plain(key.bytes().ok()?, b"-.")?,
        ColumnType::Date
        | ColumnType::Time { .. }
        | ColumnType::DateTime { .. }
        | ColumnType::Timestamp { .. } => format!("'{}'", plain(key.bytes().ok()?, b"-:. ")?),
        // The constant is converted to the column's character set, and compared by its collation.
        ColumnType::Text { .. } | ColumnType::Enum { .. } | ColumnType::Set { .. } => {
            format!("_utf8mb4 x'{}'", hex(&key.bytes().ok()?))
        }
        ColumnType::FixedBinary { .. } | ColumnType::Binary => {
            format!("x'{}'", hex(&key.bytes().ok()?))
        }
        _ => return None,
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn middle(ty: &ColumnType, first: &Sent, last: &Sent) -> Option<Sent> {
    match (ty, first, last) {
        (ColumnType::Text { collation }, Sent::Bytes(first), Sent::Bytes(last)) => {
            middle_text(collation, first, last).map(Sent::Bytes)
        }
        (
            ColumnType::FixedBinary { .. } | ColumnType::Binary,
            Sent::Bytes(first),
            Sent::Bytes(last),
        ) => middle_bytes(first, last).map(Sent::Bytes),
        (_, Sent::Date(..), Sent::Date(..)) => middle_date(first, last),
        (ColumnType::Bit { .. }, Sent::Bytes(first), Sent::Bytes(last)) => {
            let number = |bytes: &[u8]| big_endian(bytes).map(Sent::UInt);
            middle_number(&number(first)?, &number(last)?)
        }
        (ColumnType::Decimal { scale, .. }, Sent::Bytes(first), Sent::Bytes(last)) => {
            middle_decimal(usize::from(*scale), first, last).map(Sent::Bytes)
        }
        _ => middle_number(first, last),
    }
}

fn middle_number(first: &Sent, last: &Sent) -> Option<Sent> {
    let wide = |value: &Sent| match *value {
        Sent::Int(value) => Some(i128::from(value)),
        Sent::UInt(value) => Some(i128::from(value)),
        _ => None,
    };
    let (first, last) = (wide(first)?, wide(last)?);
    let middle = first + (last - first + 1) / 2;
    match u64::try_from(middle) {
        Ok(middle) => Some(Sent::UInt(middle)),
        Err(_) => i64::try_from(middle).ok().map(Sent::Int),
    }
}

/// Halfway between two decimals of one scale that fit an `i128`.
fn middle_decimal(scale: usize, first: &[u8], last: &[u8]) -> Option<Vec<u8>> {
    let number = |text: &[u8]| {
        let digits: Vec<u8> = text.iter().copied().filter(|byte| *byte != b'.').collect();
        std::str::from_utf8(&digits).ok()?.parse::<i128>().ok()
    };
    let (first, last) = (number(first)?, number(last)?);
    let middle = first.checked_add(last.checked_sub(first)?.checked_add(1)? / 2)?;
    let digits = format!("{:0width$}", middle.unsigned_abs(), width = scale + 1);
    let (whole, fraction) = digits.split_at(digits.len() - scale);
    let sign = if middle < 0 { "-" } else { "" };
    Some(format!("{sign}{whole}.{fraction}").into_bytes())
}

/// Halfway in the eight bytes after what both have in common.
fn middle_bytes(first: &[u8], last: &[u8]) -> Option<Vec<u8>> {
    let common = common(first, last);
    let window = |bytes: &[u8]| {
        let mut window = [0; 8];
        let rest = &bytes[common..];
        let len = rest.len().min(8);
        window[..len].copy_from_slice(&rest[..len]);
        u64::from_be_bytes(window)
    };
    let (low, high) = (window(first), window(last));
    let middle = low.checked_add(high.checked_sub(low)?.div_ceil(2))?;
    let mut guess = first[..common].to_vec();
    guess.extend_from_slice(&middle.to_be_bytes());
    Some(guess)
}

/// Letters and digits in the order that nearly every collation has.
const FOLDED: &[u8] = b"0123456789abcdefghijklmnopqrstuvwxyz";
const BINARY: &[u8] = b"-0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz";
/// How many characters are averaged.
const WINDOW: usize = 6;

/// Halfway in the ASCII letters and digits after what both have in common: a valid text, unlike halfway bytes.
fn middle_text(collation: &Collation, first: &[u8], last: &[u8]) -> Option<Vec<u8>> {
    let folds = !collation.is_binary();
    let mut common = first
        .iter()
        .zip(last)
        .take_while(|(a, b)| a == b || (folds && a.eq_ignore_ascii_case(b)))
        .count();
    match collation.charset() {
        "utf8mb4" | "utf8mb3" => {
            while common > 0 && first.get(common).is_some_and(|byte| byte & 0xc0 == 0x80) {
                common -= 1;
            }
        }
        "ascii" | "latin1" | "latin2" | "latin5" | "latin7" | "cp1250" | "cp1251" | "cp1257" => {}
        _ => return None,
    }
    let alphabet = if folds { FOLDED } else { BINARY };
    let base = alphabet.len() as u64;
    let number = |bytes: &[u8]| {
        let mut rest = bytes[common..].iter();
        (0..WINDOW).fold(0, |number, _| {
            let digit = rest.next().map_or(0, |&byte| {
                let byte = if folds {
                    byte.to_ascii_lowercase()
                } else {
                    byte
                };
                let above = alphabet.partition_point(|letter| *letter <= byte);
                above.saturating_sub(1) as u64
            });
            number * base + digit
        })
    };
    let (low, high) = (number(first), number(last));
    let mut middle = low + high.checked_sub(low).filter(|gap| *gap > 0)?.div_ceil(2);
    let mut digits = [0; WINDOW];
    for digit in digits.iter_mut().rev() {
        *digit = alphabet[(middle % base) as usize];
        middle /= base;
    }
    let mut guess = first[..common].to_vec();
    guess.extend_from_slice(&digits);
    Some(guess)
}

fn common(first: &[u8], last: &[u8]) -> usize {
    first.iter().zip(last).take_while(|(a, b)| a == b).count()
}

/// Halfway between two dates, on a day that every month has.
fn middle_date(first: &Sent, last: &Sent) -> Option<Sent> {
    const MONTHS: i128 = 13;
    const DAYS: i128 = 32;
    const SECONDS: i128 = 86_400;
    let number = |date: &Sent| match *date {
        Sent::Date(year, month, day, hour, minute, second, _) => {
            let days = (i128::from(year) * MONTHS + i128::from(month)) * DAYS + i128::from(day);
            let seconds = (i128::from(hour) * 60 + i128::from(minute)) * 60 + i128::from(second);
            Some(days * SECONDS + seconds)
        }
        _ => None,
    };
    let (first, last) = (number(first)?, number(last)?);
    let middle = first + (last - first + 1) / 2;
    let (days, seconds) = (middle / SECONDS, middle % SECONDS);
    let (months, day) = (days / DAYS, days % DAYS);
    Some(Sent::Date(
        u16::try_from(months / MONTHS).ok()?,
        u8::try_from(months % MONTHS).ok()?.clamp(1, 12),
        u8::try_from(day).ok()?.clamp(1, 28),
        u8::try_from(seconds / 3600).ok()?,
        u8::try_from(seconds / 60 % 60).ok()?,
        u8::try_from(seconds % 60).ok()?,
        0,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use onair_model::column::IntWidth;

    fn column(name: &str, ty: ColumnType) -> Column {
        Column {
            name: name.into(),
            ty,
            nullable: false,
        }
    }

    fn int(name: &str) -> Column {
        let width = IntWidth::Big;
        column(
            name,
            ColumnType::Int {
                width,
                unsigned: true,
            },
        )
    }

    fn text(collation: &str) -> ColumnType {
        ColumnType::Text {
            collation: Collation::new(collation),
        }
    }

    #[test]
    fn bounds_of_one_and_of_two_columns() {
        let one = KeyColumns::new(vec![int("id")]);
        assert_eq!(one.at_or_after(&[Sent::UInt(7)]).unwrap(), "`id` >= 7");
        assert_eq!(one.before(&[Sent::Int(-7)]).unwrap(), "`id` < -7");
        let two = KeyColumns::new(vec![int("a"), column("b`", text("utf8mb4_bin"))]);
        let key = [Sent::UInt(7), Sent::Bytes(b"x".to_vec())];
        assert_eq!(
            two.at_or_after(&key).unwrap(),
            "`a` >= 7 AND (`a` > 7 OR (`a` = 7 AND `b``` >= _utf8mb4 x'78' COLLATE utf8mb4_bin))"
        );
        assert_eq!(two.before(&key[..1]).unwrap(), "`a` < 7");
    }

    #[test]
    fn guesses_are_after_the_first_and_not_after_the_last() {
        let keys = KeyColumns::new(vec![int("a"), int("b")]);
        let key = |a, b| vec![Sent::UInt(a), Sent::UInt(b)];
        assert_eq!(
            keys.between(&key(1, 5), &key(9, 0)).unwrap(),
            [Sent::UInt(5)]
        );
        assert_eq!(
            keys.between(&key(1, 5), &key(2, 0)).unwrap(),
            [Sent::UInt(2)]
        );
        assert_eq!(keys.between(&key(1, 5), &key(1, 6)).unwrap(), key(1, 6));
        assert_eq!(keys.between(&key(1, 5), &key(1, 5)), None);
        let ends = [Sent::Int(i64::MIN), Sent::UInt(u64::MAX)];
        assert_eq!(middle_number(&ends[0], &ends[1]), Some(Sent::UInt(1 << 62)));

        let utf8 = Collation::new("utf8mb4_0900_ai_ci");
        let guess = middle_text(&utf8, b"room:0000", b"room:ffff").unwrap();
        assert_eq!(guess, b"room:7pppi0");
        let accents = middle_text(&utf8, "né".as_bytes(), "nü".as_bytes());
        assert!(accents.is_none_or(|guess| String::from_utf8(guess).is_ok()));
        assert_eq!(middle_text(&Collation::new("utf16_bin"), b"a", b"b"), None);
        let guess = middle_text(&utf8, b"uSER-00", b"User-ff").unwrap();
        assert_eq!(guess, b"uSER-7pi000");
        assert_eq!(middle_decimal(3, b"-0.005", b"0.002").unwrap(), b"-0.001");
        assert_eq!(middle_decimal(0, b"5", b"8").unwrap(), b"7.");
        assert_eq!(middle_bytes(b"ab", b"ad").unwrap()[..3], *b"ac\0");
        let date = |year, month, day| Sent::Date(year, month, day, 0, 0, 0, 0);
        let Some(Sent::Date(2025, 1..=12, 1..=28, ..)) =
            middle_date(&date(2025, 1, 31), &date(2025, 12, 31))
        else {
            panic!("not a day that every month has");
        };
    }
}
