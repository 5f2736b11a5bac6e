//! Doubles as MySQL prints them in JSON.

/// Shortest digits that read back as the same double, without an exponent from 1e-15 on, for whole numbers up
/// to below 1e15, for others without limit (MySQL's `my_gcvt`); and `.0` after a whole number so that it stays
/// a double.
pub(super) fn double(value: f64, out: &mut Vec<u8>) {
    let shortest = format!("{:e}", value.abs());
    let (mut digits, exponent) = scientific(&shortest);
    break_tie(value.abs(), &mut digits, exponent);
    // The value is 0.DIGITS times ten to this power.
    let point: i32 = exponent.parse().unwrap_or(0) + 1;
    if value.is_sign_negative() {
        out.push(b'-');
    }
    let is_whole = digits.len() <= point.max(0).unsigned_abs() as usize;
    match point {
        ..=-15 => exponential(&digits, exponent, out),
        16.. if is_whole => exponential(&digits, exponent, out),
        -14..=0 => {
            out.extend_from_slice(b"0.");
            out.resize(out.len() + point.unsigned_abs() as usize, b'0');
            out.extend_from_slice(&digits);
        }
        1.. => {
            let whole = point.unsigned_abs() as usize;
            if is_whole {
                out.extend_from_slice(&digits);
                out.resize(out.len() + whole - digits.len(), b'0');
                out.extend_from_slice(b".0");
            } else {
                out.extend_from_slice(&digits[..whole]);
                out.push(b'.');
                out.extend_from_slice(&digits[whole..]);
            }
        }
    }
}

/// The digits and the exponent of `d.ddde-dd`.
fn scientific(text: &str) -> (Vec<u8>, &str) {
    let (mantissa, exponent) = text.split_once('e').unwrap_or((text, "0"));
    let digits = mantissa.bytes().filter(u8::is_ascii_digit);
    (digits.collect(), exponent)
}

/// Where two texts of the same length are as near, MySQL takes the one that ends even, Rust the larger one.
fn break_tie(value: f64, digits: &mut [u8], exponent: &str) {
    /// No double is nearer than this many digits to a decimal of 18 without being equal to it.
    const BEYOND: usize = 40;
    let len = digits.len();
    let Some(last) = digits.last_mut().filter(|last| **last % 2 == 1) else {
        return;
    };
    *last -= 1;
    let (exact, _) = scientific(&format!("{value:.0$e}", len + BEYOND));
    let (head, tail) = exact.split_at(len.min(exact.len()));
    let half = tail.first() == Some(&b'5') && tail[1..].iter().all(|&digit| digit == b'0');
    let even = || {
        format!(
            "{}e{}",
            String::from_utf8_lossy(digits),
            exponent_of(exponent, len)
        )
    };
    if head != &*digits || !half || even().parse() != Ok(value) {
        digits[len - 1] += 1;
    }
}

/// The exponent when the point stands behind the last of `len` digits.
fn exponent_of(scientific: &str, len: usize) -> i64 {
    scientific.parse::<i64>().unwrap_or(0) + 1 - len as i64
}

fn exponential(digits: &[u8], exponent: &str, out: &mut Vec<u8>) {
    let (first, rest) = digits.split_at(1.min(digits.len()));
    out.extend_from_slice(first);
    if !rest.is_empty() {
        out.push(b'.');
        out.extend_from_slice(rest);
    }
    out.push(b'e');
    out.extend_from_slice(exponent.as_bytes());
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
            (1_683_135_692_511_449.2, "1683135692511449.2"),
            (685_585_021.972_656_2, "685585021.9726562"),
            (0.5, "0.5"),
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
