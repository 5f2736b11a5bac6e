//! Literals into their column's own form, without loss or not at all.
//!
//! In: what the user wrote and the column it meets. Out: [`Literal`]. Wrong: [`LiteralProblem`].
//! A literal that no value of the column can equal is refused too: the comparison would have one outcome for
//! every row, which is never what was meant.

use std::sync::Arc;

use crate::column::{ColumnType, IntWidth};
use crate::value::Decimal;

use super::tree::Literal;
use super::{LiteralProblem, bytes, temporal};

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
        ColumnType::Date => temporal::date(written),
        ColumnType::Time { fsp } => temporal::time(written, *fsp),
        ColumnType::DateTime { fsp } => temporal::datetime(written, *fsp),
        ColumnType::Timestamp { fsp } => temporal::timestamp(written, *fsp),
        ColumnType::Text { collation } => bytes::text(written, collation),
        ColumnType::FixedBinary { len } => bytes::fixed_binary(written, *len),
        ColumnType::Binary => bytes::variable_binary(written),
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

pub(super) fn out_of_range(least: impl ToString, most: impl ToString) -> LiteralProblem {
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

/// An ENUM's label in exactly its own letters, as its index. Whether MySQL would take another spelling for it
/// depends on a collation that is not known here.
fn label(written: &Written, labels: &[Arc<str>]) -> Result<Literal, LiteralProblem> {
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
fn list(labels: &[Arc<str>]) -> String {
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
