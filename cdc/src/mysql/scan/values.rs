//! Values of the binary protocol as the model's values: the same that a row image of the same row would give.

use onair_model::column::{Column, ColumnType};
use onair_model::value::{DateTime, Decimal, Value};

use crate::mysql::connect::identifier;
use crate::mysql::wire::Sent;

const MICROS_PER_SECOND: i64 = 1_000_000;

/// What to select so that the value is exact.
pub(super) fn selected(column: &Column) -> String {
    let name = identifier(&column.name);
    match column.ty {
        // As text, the invalid value of an ENUM and an empty label are the same, and so are the labels of a
        // SET whose text is cut; the number is what a row image has.
        ColumnType::Enum { .. } | ColumnType::Set { .. } => format!("CAST({name} AS UNSIGNED)"),
        _ => name,
    }
}

/// A value of a column as sent. `Err` says what does not fit.
pub(super) fn value<'a>(column: &Column, sent: Sent<'a>) -> Result<Value<'a>, String> {
    converted(&column.ty, sent).ok_or_else(|| {
        // Not the value: it may be private.
        let kind = match sent {
            Sent::Null => "NULL",
            Sent::Bytes(_) => "a string",
            Sent::Int(_) | Sent::UInt(_) => "an integer",
            Sent::Float(_) | Sent::Double(_) => "a floating point number",
            Sent::Date { .. } => "a date",
            Sent::Time { .. } => "a time",
        };
        format!(
            "column {} came as {kind}, which its type {:?} is not",
            column.name, column.ty
        )
    })
}

fn converted<'a>(ty: &ColumnType, sent: Sent<'a>) -> Option<Value<'a>> {
    Some(match (ty, sent) {
        (_, Sent::Null) => Value::Null,
        (
            ColumnType::Int {
                unsigned: false, ..
            },
            sent,
        ) => Value::Int(signed(sent)?),
        (ColumnType::Int { .. } | ColumnType::Year, sent) => Value::UInt(unsigned(sent)?),
        (ColumnType::Enum { .. } | ColumnType::Set { .. }, sent) => Value::UInt(unsigned(sent)?),
        (ColumnType::Bit { .. }, Sent::Bytes(bytes)) => Value::UInt(big_endian(bytes)?),
        (ColumnType::Bit { .. }, sent) => Value::UInt(unsigned(sent)?),
        (ColumnType::Decimal { scale, .. }, Sent::Bytes(text)) => {
            Value::Decimal(decimal(text, *scale)?)
        }
        (ColumnType::Float, Sent::Float(value)) => Value::Float(value),
        (ColumnType::Double, Sent::Double(value)) => Value::Double(value),
        (
            ColumnType::Date | ColumnType::DateTime { .. } | ColumnType::Timestamp { .. },
            Sent::Date {
                year,
                rest: [month, day, hour, minute, second],
                micros,
            },
        ) => Value::DateTime(DateTime {
            year,
            month,
            day,
            hour,
            minute,
            second,
            micros,
        }),
        (
            ColumnType::Time { .. },
            Sent::Time {
                negative,
                days,
                rest: [hours, minutes, seconds],
                micros,
            },
        ) => {
            let hours = i64::from(days) * 24 + i64::from(hours);
            let seconds = (hours * 60 + i64::from(minutes)) * 60 + i64::from(seconds);
            let micros = seconds * MICROS_PER_SECOND + i64::from(micros);
            Value::Time(if negative { -micros } else { micros })
        }
        (
            ColumnType::Text { .. }
            | ColumnType::FixedBinary { .. }
            | ColumnType::Binary
            | ColumnType::Json
            | ColumnType::Vector
            | ColumnType::Geometry,
            Sent::Bytes(bytes),
        ) => Value::Bytes(bytes),
        _ => return None,
    })
}

fn signed(sent: Sent<'_>) -> Option<i64> {
    match sent {
        Sent::Int(value) => Some(value),
        Sent::UInt(value) => i64::try_from(value).ok(),
        _ => None,
    }
}

fn unsigned(sent: Sent<'_>) -> Option<u64> {
    match sent {
        Sent::UInt(value) => Some(value),
        Sent::Int(value) => u64::try_from(value).ok(),
        _ => None,
    }
}

pub(super) fn big_endian(bytes: &[u8]) -> Option<u64> {
    if bytes.len() > 8 {
        return None;
    }
    Some(
        bytes
            .iter()
            .fold(0, |value, byte| value << 8 | u64::from(*byte)),
    )
}

/// `-12.340` with the column's scale, which is what the server prints.
fn decimal(text: &[u8], scale: u8) -> Option<Decimal> {
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    let mut magnitude = [0u64; 4];
    let mut after_point = None;
    for byte in digits {
        match byte {
            b'0'..=b'9' => {
                times_ten_plus(&mut magnitude, u64::from(byte - b'0'))?;
                after_point = after_point.map(|digits: u8| digits + 1);
            }
            b'.' if after_point.is_none() => after_point = Some(0),
            _ => return None,
        }
    }
    if after_point.unwrap_or(0) != scale {
        return None;
    }
    Some(Decimal {
        negative: negative && magnitude != [0; 4],
        magnitude,
        scale,
    })
}

fn times_ten_plus(magnitude: &mut [u64; 4], digit: u64) -> Option<()> {
    let mut carry = digit;
    for limb in magnitude {
        let wide = u128::from(*limb) * 10 + u128::from(carry);
        *limb = wide as u64;
        carry = (wide >> 64) as u64;
    }
    (carry == 0).then_some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_keep_every_digit() {
        let nines = "9".repeat(65);
        let largest = decimal(nines.as_bytes(), 0).unwrap();
        let next = decimal(format!("-{}", &nines[..64]).as_bytes(), 0).unwrap();
        assert!(next.negative);
        assert_eq!(largest.compare(&next), Some(std::cmp::Ordering::Greater));
        assert_eq!(decimal(b"-0.00", 2).unwrap(), decimal(b"0.00", 2).unwrap());
        assert_eq!(decimal(b"12.34", 2).unwrap().magnitude, [1234, 0, 0, 0]);
        assert_eq!(decimal(b"00012.34", 2).unwrap().magnitude, [1234, 0, 0, 0]);
        for wrong in [&b"1.2.3"[..], b"1e5", b"1.234", b"12"] {
            assert_eq!(decimal(wrong, 2), None, "{wrong:?}");
        }
    }

    #[test]
    fn times_and_bits() {
        let time = Sent::Time {
            negative: true,
            days: 34,
            rest: [22, 59, 59],
            micros: 1,
        };
        let micros = -((34 * 24 + 22) * 3600 + 59 * 60 + 59) * MICROS_PER_SECOND - 1;
        assert_eq!(
            converted(&ColumnType::Time { fsp: 6 }, time),
            Some(Value::Time(micros))
        );
        let bits = Sent::Bytes(&[1, 0, 255]);
        assert_eq!(
            converted(&ColumnType::Bit { bits: 24 }, bits),
            Some(Value::UInt(0x1_00ff))
        );
        assert_eq!(converted(&ColumnType::Date, Sent::Int(1)), None);
    }
}
