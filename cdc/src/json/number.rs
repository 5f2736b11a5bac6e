//! Doubles as MySQL prints them in JSON.

/// Shortest digits that read back as the same double; from 1e-15 up to below 1e15 without an exponent
/// (MySQL's `my_gcvt`), and `.0` after a whole number so that it stays a double.
pub(super) fn double(value: f64, out: &mut Vec<u8>) {
    let shortest = format!("{:e}", value.abs());
    let (mantissa, exponent) = shortest.split_once('e').unwrap_or((&shortest, "0"));
    let digits: Vec<u8> = mantissa.bytes().filter(u8::is_ascii_digit).collect();
    // The value is 0.DIGITS times ten to this power.
    let point: i32 = exponent.parse().unwrap_or(0) + 1;
    if value.is_sign_negative() {
        out.push(b'-');
    }
    match point {
        ..-14 | 16.. if value != 0.0 => {
            out.push(digits[0]);
            if digits.len() > 1 {
                out.push(b'.');
                out.extend_from_slice(&digits[1..]);
            }
            out.push(b'e');
            out.extend_from_slice(exponent.as_bytes());
        }
        ..=0 => {
            out.extend_from_slice(b"0.");
            out.resize(out.len() + point.unsigned_abs() as usize, b'0');
            out.extend_from_slice(&digits);
        }
        1.. => {
            let whole = point.unsigned_abs() as usize;
            if digits.len() > whole {
                out.extend_from_slice(&digits[..whole]);
                out.push(b'.');
                out.extend_from_slice(&digits[whole..]);
            } else {
                out.extend_from_slice(&digits);
                out.resize(out.len() + whole - digits.len(), b'0');
                out.extend_from_slice(b".0");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn doubles() {
        for (value, text) in [
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (1.0, "1.0"),
            (-1.5, "-1.5"),
            (0.1, "0.1"),
            (100.0, "100.0"),
            (123_456.789, "123456.789"),
            (1e14, "100000000000000.0"),
            (1e15, "1e15"),
            (123_456_789_012_345.6, "123456789012345.6"),
            (1_234_567_890_123_456.0, "1.234567890123456e15"),
            (1e-15, "0.000000000000001"),
            (1e-16, "1e-16"),
            (1.5e-300, "1.5e-300"),
            (f64::MAX, "1.7976931348623157e308"),
            (5e-324, "5e-324"),
        ] {
            let mut out = Vec::new();
            super::double(value, &mut out);
            assert_eq!(std::str::from_utf8(&out), Ok(text));
        }
    }
}
