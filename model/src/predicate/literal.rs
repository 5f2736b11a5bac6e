//! Literals into their column's own form, without loss or not at all.
//!
//! In: what the user wrote and the column it meets. Out: [`Literal`]. Wrong: [`LiteralProblem`].
//! A literal that no value of the column can equal is refused too: the comparison would have one outcome for
//! every row, which is never what was meant.

use crate::column::{Collation, ColumnType, IntWidth};
use crate::value::{DateTime, Decimal};

use super::LiteralProblem;
use super::tree::{ByteRule, Literal};

/// A literal as the user wrote it, escapes and quotes resolved.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Written {
    Null,
    Boolean(bool),
    Number(Number),
    Text(String),
    /// `DATE '..'`.
    Date(String),
    /// `TIMESTAMP '..'`.
    Timestamp(String),
    /// The digits of `x'..'` and `0x..`.
    Hex(String),
    /// The digits of `b'..'`.
    Bits(String),
}

/// A number in its digits.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Number {
    /// A minus stood before it.
    pub(super) negative: bool,
    /// As written, without its sign.
    pub(super) text: String,
}

impl Number {
    fn has_exponent(&self) -> bool {
        self.text.contains(['e', 'E'])
    }

    /// Digits before and after the point, without leading and trailing zeros.
    fn digits(&self) -> (&str, &str) {
        let (whole, fraction) = self.text.split_once('.').unwrap_or((&self.text, ""));
        (
            whole.trim_start_matches('0'),
            fraction.trim_end_matches('0'),
        )
    }

    fn whole(&self) -> Result<i128, LiteralProblem> {
        if self.has_exponent() {
            return Err(LiteralProblem::Exponent);
        }
        let (whole, fraction) = self.digits();
        if !fraction.is_empty() {
            return Err(LiteralProblem::Fraction);
        }
        // Beyond 38 digits it is out of any range.
        let magnitude = match whole {
            "" => 0,
            whole => whole.parse().unwrap_or(i128::MAX),
        };
        Ok(if self.negative { -magnitude } else { magnitude })
    }
}

pub(super) fn convert(written: &Written, ty: &ColumnType) -> Result<Literal, LiteralProblem> {
    match ty {
        ColumnType::Int { width, unsigned } => integer(written, *width, *unsigned),
        ColumnType::Decimal { precision, scale } => decimal(written, *precision, *scale),
        ColumnType::Float => floating(written, true),
        ColumnType::Double => floating(written, false),
        ColumnType::Bit { bits } => bit(written, *bits),
        ColumnType::Year => year(written),
        ColumnType::Date => date(written),
        ColumnType::Time { fsp } => time(written, *fsp),
        ColumnType::DateTime { fsp } => datetime(written, *fsp),
        ColumnType::Timestamp { fsp } => timestamp(written, *fsp),
        ColumnType::Text { collation } => text(written, collation),
        ColumnType::FixedBinary { len } => fixed_binary(written, *len),
        ColumnType::Binary => Ok(bytes(binary(written)?, ByteRule::Exact)),
        ColumnType::Enum { labels } => label(written, labels),
        // No comparison reaches these.
        ColumnType::Set { .. }
        | ColumnType::Json
        | ColumnType::Vector
        | ColumnType::Geometry
        | ColumnType::Other { .. } => Err(LiteralProblem::Kind { write: "IS NULL" }),
    }
}

fn integer(written: &Written, width: IntWidth, unsigned: bool) -> Result<Literal, LiteralProblem> {
    let number = match written {
        Written::Number(number) => number.whole()?,
        Written::Boolean(truth) => i128::from(*truth),
        _ => {
            return Err(LiteralProblem::Kind {
                write: "a whole number without quotes, e.g. 1",
            });
        }
    };
    let bits = 8 * width.bytes();
    let (least, most) = if unsigned {
        (0, (1_i128 << bits) - 1)
    } else {
        (-(1_i128 << (bits - 1)), (1_i128 << (bits - 1)) - 1)
    };
    if !(least..=most).contains(&number) {
        return Err(out_of_range(least, most));
    }
    Ok(if unsigned {
        Literal::UInt(number as u64)
    } else {
        Literal::Int(number as i64)
    })
}

fn out_of_range(least: impl ToString, most: impl ToString) -> LiteralProblem {
    LiteralProblem::OutOfRange {
        least: least.to_string(),
        most: most.to_string(),
    }
}

fn decimal(written: &Written, precision: u8, scale: u8) -> Result<Literal, LiteralProblem> {
    let Written::Number(number) = written else {
        return Err(LiteralProblem::Kind {
            write: "a number without quotes, e.g. 1.50",
        });
    };
    if number.has_exponent() {
        return Err(LiteralProblem::Exponent);
    }
    let (whole, fraction) = number.digits();
    if fraction.len() > usize::from(scale) {
        return Err(LiteralProblem::Scale { scale });
    }
    let room = usize::from(precision.saturating_sub(scale));
    if whole.len() > room {
        let most = decimal_text(&"9".repeat(usize::from(precision)), usize::from(scale));
        return Err(out_of_range(format!("-{most}"), most));
    }
    let zeros = usize::from(scale) - fraction.len();
    let mut magnitude = [0_u64; 4];
    for digit in whole
        .bytes()
        .chain(fraction.bytes())
        .chain(std::iter::repeat_n(b'0', zeros))
    {
        let mut carry = u128::from(digit - b'0');
        for limb in &mut magnitude {
            let sum = u128::from(*limb) * 10 + carry;
            *limb = sum as u64;
            carry = sum >> 64;
        }
    }
    Ok(Literal::Decimal(Decimal {
        negative: number.negative && magnitude != [0; 4],
        magnitude,
        scale,
    }))
}

/// Digits with a point before the last `scale` of them.
pub(super) fn decimal_text(digits: &str, scale: usize) -> String {
    let digits = format!("{digits:0>width$}", width = scale + 1);
    let (whole, fraction) = digits.split_at(digits.len() - scale);
    match fraction {
        "" => whole.to_owned(),
        fraction => format!("{whole}.{fraction}"),
    }
}

/// MySQL compares FLOAT and DOUBLE as doubles, and reads a number to the nearest double, as Rust does. A FLOAT is
/// widened for that, so a number that it does not hold exactly is never equal to it.
fn floating(written: &Written, single: bool) -> Result<Literal, LiteralProblem> {
    let Written::Number(number) = written else {
        return Err(LiteralProblem::Kind {
            write: "a number without quotes, e.g. 1.5",
        });
    };
    let magnitude: f64 = number.text.parse().unwrap_or(f64::INFINITY);
    let is_zero = !number
        .text
        .bytes()
        .take_while(|b| !b"eE".contains(b))
        .any(|b| (b'1'..=b'9').contains(&b));
    let limit = if single {
        f64::from(f32::MAX)
    } else {
        f64::MAX
    };
    if magnitude > limit || (magnitude == 0.0) != is_zero {
        return Err(out_of_range(format!("-{limit:e}"), format!("{limit:e}")));
    }
    let sign = if number.negative { "-" } else { "" };
    if !number.has_exponent() {
        let (whole, fraction) = number.digits();
        // Beyond these a DECIMAL literal is cut before it becomes a double; a whole number is rounded unseen.
        let cut = fraction.len() > 30 || whole.len() + fraction.len() > 65;
        let rounded = fraction.is_empty() && !is_zero && format!("{magnitude:.0}") != whole;
        if cut || rounded {
            return Err(LiteralProblem::Rounded {
                nearest: format!("{sign}{magnitude:e}"),
            });
        }
    }
    if single && f64::from(magnitude as f32) != magnitude {
        return Err(LiteralProblem::RoundedFloat {
            nearest: format!("{sign}{:e}", f64::from(magnitude as f32)),
        });
    }
    let value = if number.negative && !is_zero {
        -magnitude
    } else {
        magnitude
    };
    Ok(Literal::Double(value))
}

fn bit(written: &Written, bits: u8) -> Result<Literal, LiteralProblem> {
    let most = (1_i128 << bits) - 1;
    let number = match written {
        Written::Number(number) => number.whole()?,
        Written::Boolean(truth) => i128::from(*truth),
        // Beyond 63 bits MariaDB's BETWEEN takes them for negative.
        Written::Bits(digits) if digits.trim_start_matches('0').len() > 63 => {
            return Err(LiteralProblem::Kind {
                write: "the number in decimal digits",
            });
        }
        Written::Bits(digits) if digits.bytes().all(|b| b == b'0' || b == b'1') => {
            match digits.trim_start_matches('0') {
                "" => 0,
                digits => i128::from_str_radix(digits, 2).unwrap_or(i128::MAX),
            }
        }
        _ => {
            return Err(LiteralProblem::Kind {
                write: "a whole number or bits, e.g. 5 or b'101'",
            });
        }
    };
    if !(0..=most).contains(&number) {
        return Err(out_of_range(0, most));
    }
    Ok(Literal::UInt(number as u64))
}

fn year(written: &Written) -> Result<Literal, LiteralProblem> {
    let Written::Number(number) = written else {
        return Err(LiteralProblem::Kind {
            write: "a year of four digits without quotes, e.g. 2026",
        });
    };
    match number.whole()? {
        0 => Ok(Literal::UInt(0)),
        year @ 1901..=2155 => Ok(Literal::UInt(year as u64)),
        _ => Err(out_of_range("0, 1901", 2155)),
    }
}

fn date(written: &Written) -> Result<Literal, LiteralProblem> {
    let form = "'YYYY-MM-DD' of a day that exists, or the zero date";
    match written {
        Written::Text(text) | Written::Date(text) => match parse_date(text.as_bytes()) {
            Some((date, [])) if is_on_calendar(&date) => Ok(Literal::DateTime(date)),
            _ => Err(LiteralProblem::Date { form }),
        },
        _ => Err(LiteralProblem::Date { form }),
    }
}

fn datetime(written: &Written, fsp: u8) -> Result<Literal, LiteralProblem> {
    let form = "'YYYY-MM-DD hh:mm:ss' or 'YYYY-MM-DD' of a day that exists, or the zero date";
    let (Written::Text(text) | Written::Timestamp(text)) = written else {
        return Err(LiteralProblem::Date { form });
    };
    let wrong = LiteralProblem::Date { form };
    let Some((mut value, rest)) = parse_date(text.as_bytes()) else {
        return Err(wrong);
    };
    if let Some(clock) = rest.strip_prefix(b" ") {
        let (hour, clock) = two_digits(clock).ok_or(wrong.clone())?;
        let (minute, second, micros) = parse_minutes(clock, fsp, wrong.clone())?;
        if hour > 23 {
            return Err(wrong);
        }
        (value.hour, value.minute, value.second, value.micros) = (hour, minute, second, micros);
    } else if !rest.is_empty() || matches!(written, Written::Timestamp(_)) {
        return Err(wrong);
    }
    if !is_on_calendar(&value) {
        return Err(wrong);
    }
    Ok(Literal::DateTime(value))
}

/// Read as UTC, as the scan's session shows it.
fn timestamp(written: &Written, fsp: u8) -> Result<Literal, LiteralProblem> {
    let literal = datetime(written, fsp)?;
    let moment = |year, month, day, hour, minute, second, micros| DateTime {
        year,
        month,
        day,
        hour,
        minute,
        second,
        micros,
    };
    let first = moment(1970, 1, 1, 0, 0, 1, 0);
    let last = moment(2038, 1, 19, 3, 14, 7, 999_999);
    match &literal {
        Literal::DateTime(value) if *value != DateTime::ZERO && !(first..=last).contains(value) => {
            Err(out_of_range(
                "'1970-01-01 00:00:01'",
                "'2038-01-19 03:14:07.999999'",
            ))
        }
        _ => Ok(literal),
    }
}

/// The zero date, or a day that exists. Partly zero dates can be stored but not safely written: whether MySQL
/// takes them as a literal depends on sql_mode.
fn is_on_calendar(value: &DateTime) -> bool {
    let leap = value.year.is_multiple_of(4)
        && (!value.year.is_multiple_of(100) || value.year.is_multiple_of(400));
    let days = match value.month {
        4 | 6 | 9 | 11 => 30,
        2 if leap => 29,
        2 => 28,
        _ => 31,
    };
    *value == DateTime::ZERO
        || (value.year > 0 && (1..=12).contains(&value.month) && (1..=days).contains(&value.day))
}

/// `YYYY-MM-DD` and what follows it.
fn parse_date(text: &[u8]) -> Option<(DateTime, &[u8])> {
    let (century, rest) = two_digits(text)?;
    let (year, rest) = two_digits(rest)?;
    let (month, rest) = two_digits(rest.strip_prefix(b"-")?)?;
    let (day, rest) = two_digits(rest.strip_prefix(b"-")?)?;
    let date = DateTime {
        year: u16::from(century) * 100 + u16::from(year),
        month,
        day,
        ..DateTime::ZERO
    };
    Some((date, rest))
}

fn two_digits(text: &[u8]) -> Option<(u8, &[u8])> {
    match text {
        [a @ b'0'..=b'9', b @ b'0'..=b'9', rest @ ..] => Some(((a - b'0') * 10 + (b - b'0'), rest)),
        _ => None,
    }
}

/// `:MM:SS[.ffffff]`, to the end.
fn parse_minutes(
    text: &[u8],
    fsp: u8,
    wrong: LiteralProblem,
) -> Result<(u8, u8, u32), LiteralProblem> {
    let parsed = (|| {
        let (minute, rest) = two_digits(text.strip_prefix(b":")?)?;
        let (second, rest) = two_digits(rest.strip_prefix(b":")?)?;
        let fraction = match rest {
            [] => rest,
            [b'.', fraction @ ..] if !fraction.is_empty() => fraction,
            _ => return None,
        };
        (minute < 60 && second < 60 && fraction.iter().all(u8::is_ascii_digit))
            .then_some((minute, second, fraction))
    })();
    let (minute, second, fraction) = parsed.ok_or(wrong)?;
    if fraction.len() > usize::from(fsp) {
        return Err(LiteralProblem::FractionDigits { fsp });
    }
    let micros = (0..6).fold(0, |n, at| {
        n * 10 + u32::from(fraction.get(at).map_or(0, |b| b - b'0'))
    });
    Ok((minute, second, micros))
}

fn time(written: &Written, fsp: u8) -> Result<Literal, LiteralProblem> {
    let wrong = LiteralProblem::Date {
        form: "'hh:mm:ss' or 'hhh:mm:ss', with - before it when negative",
    };
    let Written::Text(text) = written else {
        return Err(wrong);
    };
    let (negative, text) = match text.as_bytes() {
        [b'-', rest @ ..] => (true, rest),
        text => (false, text),
    };
    let (hours, rest) = match text {
        [hundreds @ b'1'..=b'9', rest @ ..] if rest.get(2) == Some(&b':') => {
            let (hours, rest) = two_digits(rest).ok_or(wrong.clone())?;
            (i64::from(hundreds - b'0') * 100 + i64::from(hours), rest)
        }
        text => {
            let (hours, rest) = two_digits(text).ok_or(wrong.clone())?;
            (i64::from(hours), rest)
        }
    };
    let (minute, second, micros) = parse_minutes(rest, fsp, wrong)?;
    let seconds = hours * 3600 + i64::from(minute) * 60 + i64::from(second);
    let time = seconds * 1_000_000 + i64::from(micros);
    // 838:59:59, without a fraction.
    if time > 3_020_399_000_000 {
        return Err(out_of_range("'-838:59:59'", "'838:59:59'"));
    }
    Ok(Literal::Time(if negative { -time } else { time }))
}

fn bytes(bytes: Vec<u8>, rule: ByteRule) -> Literal {
    Literal::Bytes {
        bytes: rule.trim(&bytes).into(),
        rule,
    }
}

fn text(written: &Written, collation: &Collation) -> Result<Literal, LiteralProblem> {
    if collation.charset() == "binary" {
        return Ok(bytes(binary(written)?, ByteRule::Exact));
    }
    let Written::Text(text) = written else {
        return Err(LiteralProblem::Kind {
            write: "text in quotes, e.g. 'on'",
        });
    };
    let rule = if collation.pads() {
        ByteRule::PadSpace
    } else {
        ByteRule::Exact
    };
    let mut out = Vec::with_capacity(text.len());
    for c in text.chars() {
        if !encode(c, collation.charset(), &mut out) {
            return Err(LiteralProblem::Unencodable {
                character: c,
                charset: collation.charset().to_owned(),
            });
        }
    }
    Ok(bytes(out, rule))
}

/// Whether text of a character set can be written here; see [`encode`].
pub(super) fn is_encodable(charset: &str) -> bool {
    matches!(charset, "utf8mb4" | "utf8mb3" | "utf8" | "ascii" | "latin1")
}

/// Appends a character in a column's set; false where the set has none.
fn encode(c: char, charset: &str, out: &mut Vec<u8>) -> bool {
    let code = u32::from(c);
    match charset {
        "utf8mb4" => {}
        "utf8mb3" | "utf8" if code <= 0xffff => {}
        "ascii" | "latin1" if c.is_ascii() => {}
        // MySQL's latin1 is Windows code page 1252.
        "latin1" => {
            let byte = match code {
                0xa0..=0xff => u8::try_from(code).ok(),
                _ => CP1252
                    .iter()
                    .zip(0x80..)
                    .find(|(at, _)| **at == c)
                    .map(|(_, byte)| byte),
            };
            out.extend(byte);
            return byte.is_some();
        }
        _ => return false,
    }
    out.extend(c.encode_utf8(&mut [0; 4]).bytes());
    true
}

/// 0x80 to 0x9f of Windows code page 1252; a NUL where it has nothing (MySQL has control characters there).
#[rustfmt::skip]
const CP1252: [char; 32] = [
    '€', '\0', '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', '\0', 'Ž', '\0',
    '\0', '‘', '’', '“', '”', '•', '–', '—', '˜', '™', 'š', '›', 'œ', '\0', 'ž', 'Ÿ',
];

/// Text in quotes stands for its bytes in UTF-8.
fn binary(written: &Written) -> Result<Vec<u8>, LiteralProblem> {
    match written {
        Written::Text(text) => Ok(text.clone().into_bytes()),
        Written::Hex(digits) => {
            let pairs = digits.as_bytes().chunks(2);
            pairs
                .map(|pair| match pair {
                    [high, low] => {
                        let high = char::from(*high).to_digit(16)?;
                        let low = char::from(*low).to_digit(16)?;
                        u8::try_from(high * 16 + low).ok()
                    }
                    _ => None,
                })
                .collect::<Option<_>>()
                .ok_or(LiteralProblem::HexDigits)
        }
        _ => Err(LiteralProblem::Kind {
            write: "bytes as x'..' or text in quotes",
        }),
    }
}

fn fixed_binary(written: &Written, len: u16) -> Result<Literal, LiteralProblem> {
    let value = binary(written)?;
    if value.len() != usize::from(len) {
        return Err(LiteralProblem::Length {
            len,
            given: value.len(),
        });
    }
    Ok(bytes(value, ByteRule::PadZero))
}

/// An ENUM's label in exactly its own letters, as its index. Whether MySQL would take another spelling for it
/// depends on a collation that is not known here.
fn label(written: &Written, labels: &[std::sync::Arc<str>]) -> Result<Literal, LiteralProblem> {
    let Written::Text(text) = written else {
        return Err(LiteralProblem::Kind {
            write: "one of its labels in quotes",
        });
    };
    let same = |label: &str| label.to_lowercase() == text.to_lowercase();
    let alike = labels.iter().filter(|label| same(label)).count();
    match labels.iter().position(|label| **label == **text) {
        // '' is also how MySQL shows an invalid value, whose index is 0.
        Some(_) if text.is_empty() => Err(LiteralProblem::EmptyLabel),
        None if text.is_empty() => Ok(Literal::UInt(0)),
        Some(_) if alike > 1 => Err(LiteralProblem::AlikeLabels),
        Some(at) => Ok(Literal::UInt(at as u64 + 1)),
        None => Err(LiteralProblem::Label {
            labels: list(labels),
        }),
    }
}

/// Some labels for an error.
fn list(labels: &[std::sync::Arc<str>]) -> String {
    const SHOWN: usize = 8;
    let mut shown: Vec<_> = labels
        .iter()
        .take(SHOWN)
        .map(|label| format!("'{label}'"))
        .collect();
    if labels.len() > SHOWN {
        shown.push("..".to_owned());
    }
    shown.join(", ")
}
