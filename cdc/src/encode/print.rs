//! Dates, times and decimals as SELECT prints them.

use onair_model::value::{DateTime, Decimal};

/// A short text on the stack.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Short {
    bytes: [u8; Short::MAX],
    len: usize,
}

impl Short {
    /// The longest is a DATETIME(6) of 26.
    pub(crate) const MAX: usize = 26;

    fn new() -> Self {
        Short {
            bytes: [0; Short::MAX],
            len: 0,
        }
    }

    /// All bytes, those beyond the text too, so that they can be copied as one.
    pub(crate) fn all(&self) -> &[u8; Short::MAX] {
        &self.bytes
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn text(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    fn push(&mut self, byte: u8) {
        self.bytes[self.len] = byte;
        self.len += 1;
    }

    fn two(&mut self, value: u16) {
        let digits = TWO_DIGITS[usize::from(value % 100)];
        self.bytes[self.len..self.len + 2].copy_from_slice(&digits);
        self.len += 2;
    }

    fn fraction(&mut self, micros: u32, fsp: u8) {
        if fsp == 0 {
            return;
        }
        self.push(b'.');
        let end = self.len + usize::from(fsp.min(6));
        self.two((micros / 10_000) as u16);
        if fsp > 2 {
            self.two((micros / 100 % 100) as u16);
        }
        if fsp > 4 {
            self.two((micros % 100) as u16);
        }
        self.len = end;
    }
}

const TWO_DIGITS: [[u8; 2]; 100] = {
    let mut digits = [[0; 2]; 100];
    let mut i = 0;
    while i < 100 {
        digits[i] = [b'0' + (i / 10) as u8, b'0' + (i % 10) as u8];
        i += 1;
    }
    digits
};

/// `YYYY-MM-DD`.
pub(crate) fn date(value: &DateTime) -> Short {
    let mut out = Short::new();
    out.two(value.year / 100);
    out.two(value.year % 100);
    out.push(b'-');
    out.two(u16::from(value.month));
    out.push(b'-');
    out.two(u16::from(value.day));
    out
}

/// `YYYY-MM-DD hh:mm:ss[.ffffff]` with `fsp` fractional digits.
pub(crate) fn date_time(value: &DateTime, fsp: u8) -> Short {
    let mut out = date(value);
    out.push(b' ');
    out.two(u16::from(value.hour));
    out.push(b':');
    out.two(u16::from(value.minute));
    out.push(b':');
    out.two(u16::from(value.second));
    out.fraction(value.micros, fsp);
    out
}

/// `[-]hh:mm:ss[.ffffff]`, hours up to three digits.
pub(crate) fn time(micros: i64, fsp: u8) -> Short {
    let mut out = Short::new();
    if micros < 0 {
        out.push(b'-');
    }
    let magnitude = micros.unsigned_abs();
    let seconds = magnitude / 1_000_000;
    let hours = (seconds / 3600) as u16;
    if hours >= 100 {
        out.push(b'0' + (hours / 100 % 10) as u8);
    }
    out.two(hours);
    out.push(b':');
    out.two((seconds / 60 % 60) as u16);
    out.push(b':');
    out.two((seconds % 60) as u16);
    out.fraction((magnitude % 1_000_000) as u32, fsp);
    out
}

/// All digits that the scale says, one at least before the point.
pub(crate) fn decimal(value: &Decimal, out: &mut Vec<u8>) {
    // Least significant digit first; 4 limbs hold 78 digits at most.
    let mut digits = [b'0'; 80];
    let mut len = 0;
    let mut limbs = value.magnitude;
    while limbs[1..] != [0, 0, 0] {
        let mut group = divide(&mut limbs, 1_000_000_000_000_000_000);
        for digit in &mut digits[len..len + 18] {
            *digit = b'0' + (group % 10) as u8;
            group /= 10;
        }
        len += 18;
    }
    let mut rest = limbs[0];
    while rest > 0 {
        digits[len] = b'0' + (rest % 10) as u8;
        rest /= 10;
        len += 1;
    }
    let scale = usize::from(value.scale.min(38));
    let len = len.max(scale + 1);
    if value.negative {
        out.push(b'-');
    }
    out.extend(digits[scale..len].iter().rev());
    if scale > 0 {
        out.push(b'.');
        out.extend(digits[..scale].iter().rev());
    }
}

/// Divides in place and returns the remainder.
fn divide(limbs: &mut [u64; 4], by: u64) -> u64 {
    let mut remainder = 0u128;
    for limb in limbs.iter_mut().rev() {
        let part = remainder << 64 | u128::from(*limb);
        *limb = (part / u128::from(by)) as u64;
        remainder = part % u128::from(by);
    }
    remainder as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(f: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        f(&mut out);
        String::from_utf8(out).expect("digits")
    }

    #[test]
    fn times() {
        for (micros, fsp, text) in [
            (0, 0, "00:00:00"),
            (-500_000, 1, "-00:00:00.5"),
            (-3_020_399_000_000, 0, "-838:59:59"),
            (3_020_398_999_999, 6, "838:59:58.999999"),
            (36_061_000_000, 3, "10:01:01.000"),
        ] {
            assert_eq!(time(micros, fsp).text(), text.as_bytes());
        }
    }

    #[test]
    fn dates() {
        let value = DateTime {
            year: 26,
            month: 0,
            day: 9,
            hour: 23,
            minute: 5,
            second: 59,
            micros: 1_200,
        };
        assert_eq!(date(&value).text(), b"0026-00-09");
        for (fsp, fraction) in ["", ".0", ".00", ".001", ".0012", ".00120", ".001200"]
            .iter()
            .enumerate()
        {
            let text = format!("0026-00-09 23:05:59{fraction}");
            assert_eq!(date_time(&value, fsp as u8).text(), text.as_bytes());
        }
    }

    #[test]
    fn decimals() {
        for (negative, magnitude, scale, text) in [
            (false, [0, 0, 0, 0], 0, "0"),
            (false, [0, 0, 0, 0], 3, "0.000"),
            (true, [5, 0, 0, 0], 1, "-0.5"),
            (false, [12345, 0, 0, 0], 2, "123.45"),
            (false, [0, 1, 0, 0], 0, "18446744073709551616"),
            (false, [u64::MAX; 4], 2, {
                "1157920892373161954235709850086879078532699846656405640394575840079131296399.35"
            }),
        ] {
            let value = Decimal {
                negative,
                magnitude,
                scale,
            };
            assert_eq!(printed(|out| decimal(&value, out)), text);
        }
    }
}
