//! Literals of dates and times, in the one form each that cannot be misread.

use crate::value::DateTime;

use super::LiteralProblem;
use super::literal::{Written, out_of_range};
use super::tree::Literal;

pub(super) fn date(written: &Written) -> Result<Literal, LiteralProblem> {
    let form = "'YYYY-MM-DD' of a day that exists, or the zero date";
    match written {
        Written::Text(text) | Written::Date(text) => match parse_date(text.as_bytes()) {
            Some((date, [])) if is_on_calendar(&date) => Ok(Literal::DateTime(date)),
            _ => Err(LiteralProblem::Date { form }),
        },
        _ => Err(LiteralProblem::Date { form }),
    }
}

pub(super) fn datetime(written: &Written, fsp: u8) -> Result<Literal, LiteralProblem> {
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
pub(super) fn timestamp(written: &Written, fsp: u8) -> Result<Literal, LiteralProblem> {
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

pub(super) fn time(written: &Written, fsp: u8) -> Result<Literal, LiteralProblem> {
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
