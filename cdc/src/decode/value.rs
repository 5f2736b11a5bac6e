//! One column's bytes in a row image to its [`Value`].
//!
//! Formats: MySQL's `my_time.cc` and `decimal.cc` (`bin2decimal`), `log_event.cc` for the rest.

use onair_model::plant::{Bug, planted};
use onair_model::value::{DateTime, Decimal, Value};

use super::bytes::{int_le, uint_be, uint_le};
use super::wire::{DIGIT_BYTES, Wire};

/// The bytes are not a value of the column's type.
#[derive(Clone, Copy, Debug)]
pub(super) struct BadValue;

/// Reads a value that is not NULL; `raw` is without the length before it. Binary JSON stays as it is.
#[inline]
pub(super) fn value(wire: Wire, unsigned: bool, raw: &[u8]) -> Result<Value<'_>, BadValue> {
    Ok(match wire {
        Wire::Int(_) if unsigned => Value::UInt(uint_le(raw)),
        Wire::Int(_) if planted(Bug::SignLost) => Value::Int(uint_le(raw) as i64),
        Wire::Int(_) => Value::Int(int_le(raw)),
        Wire::Char { .. }
        | Wire::VarChar { .. }
        | Wire::Blob { .. }
        | Wire::Json { .. }
        | Wire::Geometry { .. }
        | Wire::Vector { .. }
        | Wire::Compressed { .. } => Value::Bytes(raw),
        Wire::Enum { .. } | Wire::Set { .. } => Value::UInt(uint_le(raw)),
        Wire::Bit { .. } => Value::UInt(uint_be(raw)),
        Wire::Float => Value::Float(f32::from_le_bytes(raw.try_into().map_err(|_| BadValue)?)),
        Wire::Double => Value::Double(f64::from_le_bytes(raw.try_into().map_err(|_| BadValue)?)),
        Wire::Decimal { precision, scale } => Value::Decimal(decimal(precision, scale, raw)?),
        Wire::Year => Value::UInt(match uint_le(raw) {
            0 => 0,
            since => since + 1900,
        }),
        Wire::Null => Value::Null,
        Wire::Date
        | Wire::DateTime { .. }
        | Wire::Timestamp { .. }
        | Wire::OldTimestamp
        | Wire::OldDateTime => Value::DateTime(date_time(wire, raw)?),
        Wire::Time { .. } | Wire::OldTime => Value::Time(time(wire, raw)?),
    })
}

fn date_time(wire: Wire, raw: &[u8]) -> Result<DateTime, BadValue> {
    let value = match wire {
        Wire::Date => packed_date(uint_le(raw)),
        Wire::DateTime { .. } => {
            let (whole, fraction) = raw.split_at_checked(5).ok_or(BadValue)?;
            // The highest bit is the sign, always set.
            let packed = uint_be(whole) & 0x7f_ffff_ffff;
            let (days, clock) = (packed >> 17, packed & 0x1_ffff);
            let months = days >> 5;
            DateTime {
                year: (months / 13) as u16,
                month: (months % 13) as u8,
                day: (days & 31) as u8,
                hour: (clock >> 12) as u8,
                minute: (clock >> 6 & 63) as u8,
                second: (clock & 63) as u8,
                micros: micros(fraction),
            }
        }
        Wire::Timestamp { .. } => {
            let (whole, fraction) = raw.split_at_checked(4).ok_or(BadValue)?;
            unix(uint_be(whole), micros(fraction))
        }
        Wire::OldTimestamp => unix(uint_le(raw), 0),
        _ => {
            let number = uint_le(raw);
            let (days, clock) = (number / 1_000_000, number % 1_000_000);
            if days > 99_999_999 {
                return Err(BadValue);
            }
            DateTime {
                year: (days / 10_000) as u16,
                month: (days / 100 % 100) as u8,
                day: (days % 100) as u8,
                hour: (clock / 10_000) as u8,
                minute: (clock / 100 % 100) as u8,
                second: (clock % 100) as u8,
                micros: 0,
            }
        }
    };
    let sound = value.year <= 9999
        && value.month <= 12
        && value.day <= 31
        && value.hour <= 23
        && value.minute <= 59
        && value.second <= 59
        && value.micros <= 999_999;
    sound.then_some(value).ok_or(BadValue)
}

fn packed_date(packed: u64) -> DateTime {
    DateTime {
        year: (packed >> 9) as u16,
        month: (packed >> 5 & 15) as u8,
        day: (packed & 31) as u8,
        hour: 0,
        minute: 0,
        second: 0,
        micros: 0,
    }
}

/// Seconds since 1970 in UTC; 0 is the zero date.
fn unix(seconds: u64, micros: u32) -> DateTime {
    if seconds == 0 {
        return DateTime {
            micros,
            ..packed_date(0)
        };
    }
    let (days, clock) = (seconds / 86_400, (seconds % 86_400) as u32);
    // Days to a civil date: Howard Hinnant's `civil_from_days`, for dates after 1970 only.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let month = if march_month < 10 {
        march_month + 3
    } else {
        march_month - 9
    };
    DateTime {
        year: (year_of_era + era * 400 + u64::from(month <= 2)) as u16,
        month: month as u8,
        day: (day_of_year - (153 * march_month + 2) / 5 + 1) as u8,
        hour: (clock / 3_600) as u8,
        minute: (clock / 60 % 60) as u8,
        second: (clock % 60) as u8,
        micros,
    }
}

/// Microseconds from 0 to 3 bytes of fraction: hundredths, ten-thousandths, millionths.
fn micros(fraction: &[u8]) -> u32 {
    let unit = match fraction.len() {
        1 => 10_000,
        2 => 100,
        _ => 1,
    };
    uint_be(fraction) as u32 * unit
}

fn time(wire: Wire, raw: &[u8]) -> Result<i64, BadValue> {
    const LIMIT: i64 = (838 * 3600 + 59 * 60 + 59) * 1_000_000 + 999_999;
    let clock = |hours: i64, minutes: i64, seconds: i64| {
        let sound = minutes <= 59 && seconds <= 59;
        sound.then_some(((hours * 60 + minutes) * 60 + seconds) * 1_000_000)
    };
    let micros = if let Wire::OldTime = wire {
        let number = int_le(raw);
        let (sign, n) = (number.signum(), number.abs());
        sign * clock(n / 10_000, n / 100 % 100, n % 100).ok_or(BadValue)?
    } else {
        // Whole and fraction are one number with an offset, so that bytes sort like times.
        let (whole, fraction) = raw.split_at_checked(3).ok_or(BadValue)?;
        let bits = 8 * fraction.len() as u32;
        let packed = (uint_be(whole) << bits | uint_be(fraction)) as i64 - (0x80_0000 << bits);
        let (sign, n) = (packed.signum(), packed.abs());
        let (n, part) = (n >> bits, n & ((1 << bits) - 1));
        let unit = match fraction.len() {
            1 => 10_000,
            2 => 100,
            _ => 1,
        };
        let whole = clock(n >> 12 & 0x3ff, n >> 6 & 63, n & 63).ok_or(BadValue)?;
        sign * (whole + part * unit)
    };
    (micros.abs() <= LIMIT).then_some(micros).ok_or(BadValue)
}

/// The decimal in `raw`, if it is one of this precision and scale.
pub(crate) fn bin_to_decimal(precision: u8, scale: u8, raw: &[u8]) -> Option<Decimal> {
    if precision == 0 || precision > 65 || scale > precision || scale > 38 {
        return None;
    }
    decimal(precision, scale, raw).ok()
}

fn decimal(precision: u8, scale: u8, raw: &[u8]) -> Result<Decimal, BadValue> {
    let first = *raw.first().ok_or(BadValue)?;
    let flip = if first & 0x80 == 0 { 0xff } else { 0 };
    let mut magnitude = Magnitude::default();
    let mut at = 0;
    let mut group = |digits: u8| -> Result<(), BadValue> {
        let len = usize::from(DIGIT_BYTES[usize::from(digits)]);
        let bytes = raw.get(at..at + len).ok_or(BadValue)?;
        let mut value = 0;
        for (i, byte) in bytes.iter().enumerate() {
            let sign = if at + i == 0 { 0x80 } else { 0 };
            value = value << 8 | u64::from(byte ^ flip ^ sign);
        }
        at += len;
        let power = POWERS[usize::from(digits)];
        if value >= power {
            return Err(BadValue);
        }
        magnitude.append(power, value);
        Ok(())
    };
    let whole = precision - scale;
    group(whole % 9)?;
    for _ in 0..whole / 9 {
        group(9)?;
    }
    for _ in 0..scale / 9 {
        group(9)?;
    }
    group(scale % 9)?;
    Ok(Decimal {
        negative: flip != 0 && magnitude.limbs != [0; 4],
        magnitude: magnitude.limbs,
        scale,
    })
}

const POWERS: [u64; 10] = [
    1,
    10,
    100,
    1_000,
    10_000,
    100_000,
    1_000_000,
    10_000_000,
    100_000_000,
    1_000_000_000,
];

#[derive(Default)]
struct Magnitude {
    limbs: [u64; 4],
    used: usize,
}

impl Magnitude {
    /// `self * power + value`; 65 digits always fit.
    fn append(&mut self, power: u64, value: u64) {
        let mut carry = value;
        for limb in &mut self.limbs[..self.used] {
            let wide = u128::from(*limb) * u128::from(power) + u128::from(carry);
            *limb = wide as u64;
            carry = (wide >> 64) as u64;
        }
        if carry > 0 && self.used < 4 {
            self.limbs[self.used] = carry;
            self.used += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use onair_model::column::IntWidth;

    #[track_caller]
    fn check(wire: Wire, unsigned: bool, raw: &[u8], expected: Value<'_>) {
        assert_eq!(value(wire, unsigned, raw).ok(), Some(expected));
    }

    fn dt(year: u16, month: u8, day: u8, clock: (u8, u8, u8), micros: u32) -> Value<'static> {
        let (hour, minute, second) = clock;
        Value::DateTime(DateTime {
            year,
            month,
            day,
            hour,
            minute,
            second,
            micros,
        })
    }

    #[test]
    fn integers() {
        let medium = Wire::Int(IntWidth::Medium);
        check(medium, false, &[0xff, 0xff, 0xff], Value::Int(-1));
        check(medium, true, &[0xff, 0xff, 0xff], Value::UInt(0xff_ffff));
        check(medium, false, &[0, 0, 0x80], Value::Int(-8_388_608));
        let big = Wire::Int(IntWidth::Big);
        check(big, false, &[0xff; 8], Value::Int(-1));
        check(big, true, &[0xff; 8], Value::UInt(u64::MAX));
        check(
            Wire::Bit { bits: 12 },
            false,
            &[0x0a, 0xbc],
            Value::UInt(0xabc),
        );
        check(Wire::Year, false, &[0], Value::UInt(0));
        check(Wire::Year, false, &[126], Value::UInt(2026));
    }

    #[test]
    fn times() {
        // From MySQL's own comment on TIME(2): the order of values around zero.
        let two = Wire::Time { fsp: 2 };
        check(two, false, &[0x80, 0, 0, 0], Value::Time(0));
        check(two, false, &[0x7f, 0xff, 0xff, 0xff], Value::Time(-10_000));
        check(two, false, &[0x7f, 0xff, 0xff, 0x9d], Value::Time(-990_000));
        check(two, false, &[0x7f, 0xff, 0xff, 0], Value::Time(-1_000_000));
        check(
            two,
            false,
            &[0x7f, 0xff, 0xfe, 0xff],
            Value::Time(-1_010_000),
        );
        let old = 8_385_959i32.wrapping_neg().to_le_bytes();
        check(
            Wire::OldTime,
            false,
            &old[..3],
            Value::Time(-3_020_399_000_000),
        );
    }

    #[test]
    fn dates() {
        let zero = dt(0, 0, 0, (0, 0, 0), 0);
        check(Wire::Date, false, &[0, 0, 0], zero);
        let packed = (2026u32 << 9 | 11 << 5 | 22).to_le_bytes();
        check(
            Wire::Date,
            false,
            &packed[..3],
            dt(2026, 11, 22, (0, 0, 0), 0),
        );
        check(Wire::DateTime { fsp: 0 }, false, &[0x80, 0, 0, 0, 0], zero);
        let days: u64 = (9999 * 13 + 12) << 5 | 31;
        let packed = days << 17 | 23 << 12 | 59 << 6 | 59 | 1 << 39;
        let mut raw = packed.to_be_bytes()[3..].to_vec();
        raw.extend_from_slice(&999_999u32.to_be_bytes()[1..]);
        let last = dt(9999, 12, 31, (23, 59, 59), 999_999);
        check(Wire::DateTime { fsp: 6 }, false, &raw, last);
        check(Wire::Timestamp { fsp: 0 }, false, &[0; 4], zero);
        let leap = 1_709_208_001u32.to_be_bytes();
        check(
            Wire::Timestamp { fsp: 0 },
            false,
            &leap,
            dt(2024, 2, 29, (12, 0, 1), 0),
        );
        let last = u32::MAX.to_le_bytes();
        check(
            Wire::OldTimestamp,
            false,
            &last,
            dt(2106, 2, 7, (6, 28, 15), 0),
        );
        let old = 20_261_122_235_959u64.to_le_bytes();
        check(
            Wire::OldDateTime,
            false,
            &old,
            dt(2026, 11, 22, (23, 59, 59), 0),
        );
        assert!(value(Wire::DateTime { fsp: 0 }, false, &[0xff; 5]).is_err());
    }

    #[test]
    fn decimals() {
        // From MySQL's own comment on decimal2bin: 1234567890.1234 in DECIMAL(14,4).
        let wire = Wire::Decimal {
            precision: 14,
            scale: 4,
        };
        let raw = [0x81, 0x0d, 0xfb, 0x38, 0xd2, 0x04, 0xd2];
        let number = |negative| {
            Value::Decimal(Decimal {
                negative,
                magnitude: [12_345_678_901_234, 0, 0, 0],
                scale: 4,
            })
        };
        check(wire, false, &raw, number(false));
        check(wire, false, &raw.map(|b| !b), number(true));
        assert!(value(wire, false, &[0xff; 7]).is_err());
        assert!(value(wire, false, &raw[..6]).is_err());
    }
}
