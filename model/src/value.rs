//! One column value of one row image, as stored: small, borrowed, ready to compare.
//!
//! Text stays in the column's own character set here; it becomes UTF-8 only when it is exported.

use std::cmp::Ordering;

/// A value as the binlog or the binary protocol gives it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    /// SQL NULL.
    Null,
    /// Signed integers.
    Int(i64),
    /// Unsigned integers, BIT, YEAR, the index of an ENUM, the mask of a SET.
    UInt(u64),
    /// FLOAT.
    Float(f32),
    /// DOUBLE.
    Double(f64),
    /// DECIMAL.
    Decimal(Decimal),
    /// DATE, DATETIME, and TIMESTAMP in UTC.
    DateTime(DateTime),
    /// TIME in microseconds, negative below midnight.
    Time(i64),
    /// Text in the column's character set, binary strings, JSON, VECTOR and GEOMETRY bytes.
    Bytes(&'a [u8]),
}

/// A decimal: `magnitude / 10^scale`, 65 digits at most. Two of one column share the scale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decimal {
    /// Below zero. Never set for zero.
    pub negative: bool,
    /// Absolute value times 10^scale, least significant limb first.
    pub magnitude: [u64; 4],
    /// Digits after the point.
    pub scale: u8,
}

impl Decimal {
    /// Compares two decimals of one scale; of two scales they are not comparable.
    pub fn compare(&self, other: &Decimal) -> Option<Ordering> {
        if self.scale != other.scale {
            return None;
        }
        let magnitude = self
            .magnitude
            .iter()
            .rev()
            .cmp(other.magnitude.iter().rev());
        Some(match (self.negative, other.negative) {
            (false, false) => magnitude,
            (true, true) => magnitude.reverse(),
            (true, false) => Ordering::Less,
            (false, true) => Ordering::Greater,
        })
    }
}

/// A calendar date and a time of day, zero parts allowed (`0000-00-00`, `2026-00-00`); ordered as MySQL orders.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DateTime {
    /// 0 to 9999.
    pub year: u16,
    /// 0 to 12.
    pub month: u8,
    /// 0 to 31.
    pub day: u8,
    /// 0 to 23.
    pub hour: u8,
    /// 0 to 59.
    pub minute: u8,
    /// 0 to 59.
    pub second: u8,
    /// 0 to 999 999.
    pub micros: u32,
}

impl DateTime {
    /// `0000-00-00 00:00:00`, MySQL's value for no date at all.
    pub const ZERO: DateTime = DateTime {
        year: 0,
        month: 0,
        day: 0,
        hour: 0,
        minute: 0,
        second: 0,
        micros: 0,
    };
}
