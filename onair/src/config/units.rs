//! The kinds of values that settings have: one text form each, for the file, the environment and the command line.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

/// What a setting's value looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Any text.
    Text,
    /// The path of a file that must be there.
    File,
    /// Several texts: a list in the file, with commas between them elsewhere.
    List,
    /// One of these.
    Choice(&'static [&'static str]),
    /// A whole number.
    Number,
    /// A number with or without a point.
    Share,
    /// `500ms`, `1m30s`.
    Duration,
    /// A duration, or `off`.
    Period,
    /// `64MiB`.
    Bytes,
    /// A whole number, or `off`.
    Limit,
}

impl Kind {
    /// For the table of settings.
    pub fn describe(self) -> String {
        match self {
            Kind::Text => "text".to_owned(),
            Kind::File => "a file's path".to_owned(),
            Kind::List => "list of text".to_owned(),
            Kind::Choice(words) => words.join(", "),
            Kind::Number => "number".to_owned(),
            Kind::Share => "number with a point".to_owned(),
            Kind::Duration => "duration".to_owned(),
            Kind::Period => "duration or off".to_owned(),
            Kind::Bytes => "size".to_owned(),
            Kind::Limit => "number or off".to_owned(),
        }
    }
}

pub(super) type Parsed<T> = Result<T, String>;

/// Text as it stands.
pub(super) mod text {
    use super::*;
    pub(crate) const KIND: Kind = Kind::Text;
    pub(crate) fn parse(text: &str) -> Parsed<String> {
        if text.is_empty() {
            Err("is empty".to_owned())
        } else {
            Ok(text.to_owned())
        }
    }
    pub(crate) fn show(value: &str) -> String {
        value.to_owned()
    }
}

/// Text that may be absent.
pub(super) mod optional_text {
    use super::*;
    pub(crate) const KIND: Kind = Kind::Text;
    pub(crate) fn parse(text: &str) -> Parsed<Option<String>> {
        super::text::parse(text).map(Some)
    }
    pub(crate) fn show(value: &Option<String>) -> String {
        value.clone().unwrap_or_default()
    }
}

/// Some texts, or none.
pub(super) mod list {
    use super::*;
    pub(crate) const KIND: Kind = Kind::List;
    pub(crate) fn parse(text: &str) -> Parsed<Vec<String>> {
        text.split(',')
            .map(|one| super::text::parse(one.trim()))
            .collect()
    }
    pub(crate) fn show(value: &[String]) -> String {
        value.join(",")
    }
}

/// What has a text form of its own, and may be absent.
pub(super) mod optional {
    use super::*;
    pub(crate) const KIND: Kind = Kind::Text;
    pub(crate) fn parse<T: FromStr>(text: &str) -> Parsed<Option<T>>
    where
        T::Err: ToString,
    {
        text.parse()
            .map(Some)
            .map_err(|why: T::Err| why.to_string())
    }
    pub(crate) fn show<T: ToString>(value: &Option<T>) -> String {
        value.as_ref().map(ToString::to_string).unwrap_or_default()
    }
}

/// A path that may be absent.
pub(super) mod optional_path {
    use super::*;
    pub(crate) const KIND: Kind = Kind::Text;
    pub(crate) fn parse(text: &str) -> Parsed<Option<PathBuf>> {
        super::text::parse(text).map(|text| Some(PathBuf::from(text)))
    }
    pub(crate) fn show(value: &Option<PathBuf>) -> String {
        value
            .as_ref()
            .map(|path| path.display().to_string())
            .unwrap_or_default()
    }
}

/// A file's path that may be absent.
pub(super) mod optional_file {
    use super::*;
    pub(crate) const KIND: Kind = Kind::File;
    pub(crate) use super::optional_path::{parse, show};
}

/// A number that may be zero.
pub(super) mod number {
    use super::*;
    pub(crate) const KIND: Kind = Kind::Number;
    pub(crate) fn parse<T: FromStr>(text: &str) -> Parsed<T> {
        text.replace('_', "")
            .parse()
            .map_err(|_| format!("{text:?} is not a whole number that fits here"))
    }
    pub(crate) fn show<T: ToString>(value: &T) -> String {
        value.to_string()
    }
}

/// A number of at least one.
pub(super) mod count {
    use super::*;
    pub(crate) const KIND: Kind = Kind::Number;
    pub(crate) fn parse<T: FromStr + PartialEq + Default>(text: &str) -> Parsed<T> {
        let value: T = super::number::parse(text)?;
        if value == T::default() {
            Err("must be at least 1".to_owned())
        } else {
            Ok(value)
        }
    }
    pub(crate) fn show<T: ToString>(value: &T) -> String {
        value.to_string()
    }
}

/// A number of at least one, or none.
pub(super) mod limit {
    use super::*;
    pub(crate) const KIND: Kind = Kind::Limit;
    pub(crate) fn parse<T: FromStr + PartialEq + Default>(text: &str) -> Parsed<Option<T>> {
        if text == "off" {
            return Ok(None);
        }
        super::count::parse(text)
            .map(Some)
            .map_err(|why| format!("{why}; or write \"off\""))
    }
    pub(crate) fn show<T: ToString>(value: &Option<T>) -> String {
        value
            .as_ref()
            .map_or_else(|| "off".to_owned(), ToString::to_string)
    }
}

/// A number that is absent until it is set.
pub(super) mod optional_number {
    use super::*;
    pub(crate) const KIND: Kind = Kind::Number;
    pub(crate) fn parse<T: FromStr>(text: &str) -> Parsed<Option<T>> {
        super::number::parse(text).map(Some)
    }
    pub(crate) fn show<T: ToString>(value: &Option<T>) -> String {
        value.as_ref().map(ToString::to_string).unwrap_or_default()
    }
}

/// 0 to 1.
pub(super) mod share {
    use super::*;
    pub(crate) const KIND: Kind = Kind::Share;
    pub(crate) fn parse(text: &str) -> Parsed<f64> {
        match text.parse::<f64>() {
            Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
            _ => Err(format!(
                "{text:?} is not a share between 0 and 1, like 0.05"
            )),
        }
    }
    pub(crate) fn show(value: &f64) -> String {
        value.to_string()
    }
}

/// A number a second.
pub(super) mod rate {
    use super::*;
    pub(crate) const KIND: Kind = Kind::Share;
    pub(crate) fn parse(text: &str) -> Parsed<f64> {
        match text.parse::<f64>() {
            Ok(rate) if rate >= 0.0 && rate.is_finite() => Ok(rate),
            _ => Err(format!("{text:?} is not a number of 0 or more, like 300")),
        }
    }
    pub(crate) fn show(value: &f64) -> String {
        value.to_string()
    }
}

/// A duration that may be zero.
pub(super) mod duration {
    use super::*;
    pub(crate) const KIND: Kind = Kind::Duration;
    pub(crate) fn parse(text: &str) -> Parsed<Duration> {
        super::parse_duration(text)
    }
    pub(crate) fn show(value: &Duration) -> String {
        super::show_duration(*value)
    }
}

/// A duration above zero.
pub(super) mod interval {
    use super::*;
    pub(crate) const KIND: Kind = Kind::Duration;
    pub(crate) fn parse(text: &str) -> Parsed<Duration> {
        match super::parse_duration(text)? {
            Duration::ZERO => Err("must be above zero".to_owned()),
            duration => Ok(duration),
        }
    }
    pub(crate) fn show(value: &Duration) -> String {
        super::show_duration(*value)
    }
}

/// A duration above zero, or never.
pub(super) mod period {
    use super::*;
    pub(crate) const KIND: Kind = Kind::Period;
    pub(crate) fn parse(text: &str) -> Parsed<Option<Duration>> {
        if text == "off" {
            return Ok(None);
        }
        super::interval::parse(text)
            .map(Some)
            .map_err(|why| format!("{why}; or write \"off\""))
    }
    pub(crate) fn show(value: &Option<Duration>) -> String {
        value.map_or_else(|| "off".to_owned(), super::show_duration)
    }
}

/// A number of bytes above zero.
pub(super) mod bytes {
    use super::*;
    pub(crate) const KIND: Kind = Kind::Bytes;
    pub(crate) fn parse<T: TryFrom<u64>>(text: &str) -> Parsed<T> {
        let bytes = super::parse_bytes(text)?;
        if bytes == 0 {
            return Err("must be above zero".to_owned());
        }
        T::try_from(bytes).map_err(|_| format!("{text} is too large"))
    }
    pub(crate) fn show<T: TryInto<u64> + Copy>(value: &T) -> String {
        super::show_bytes((*value).try_into().unwrap_or(u64::MAX))
    }
}

const NANOS: &[(&str, u128)] = &[
    ("d", 86_400_000_000_000),
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];

/// `500ms`, `1s`, `1m30s`, `7d`.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is not a duration like \"500ms\", \"1s\" or \"15m\"");
    let mut rest = text.trim();
    let mut nanos: u128 = 0;
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
        let (number, tail) = rest.split_at(digits);
        let letters = tail
            .find(|c: char| !c.is_ascii_alphabetic())
            .unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(letters);
        let number: u128 = number.parse::<u64>().map_err(|_| wrong())?.into();
        let (_, each) = NANOS
            .iter()
            .find(|(name, _)| *name == unit)
            .ok_or_else(wrong)?;
        nanos += number * each;
        rest = tail;
    }
    let seconds = u64::try_from(nanos / 1_000_000_000).map_err(|_| wrong())?;
    Ok(Duration::new(seconds, (nanos % 1_000_000_000) as u32))
}

/// In the largest units that state it exactly.
pub fn show_duration(duration: Duration) -> String {
    let mut nanos = duration.as_nanos();
    if nanos == 0 {
        return "0s".to_owned();
    }
    let mut text = String::new();
    for (unit, each) in NANOS {
        let number = nanos / each;
        nanos %= each;
        if number > 0 {
            text.push_str(&format!("{number}{unit}"));
        }
    }
    text
}

const SIZES: &[(&str, u64)] = &[
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("B", 1),
];

/// `64MiB`, `1GB`, `4096`.
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is not a size like \"64MiB\" or \"1GB\"");
    let text = text.trim();
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let each = match unit.trim_start() {
        "" => 1,
        unit => {
            SIZES
                .iter()
                .find(|(name, _)| *name == unit)
                .ok_or_else(wrong)?
                .1
        }
    };
    number.checked_mul(each).ok_or_else(wrong)
}

/// In the largest binary unit that states it exactly.
pub fn show_bytes(bytes: u64) -> String {
    let unit = SIZES
        .iter()
        .filter(|(name, _)| name.ends_with("iB"))
        .find(|(_, each)| bytes >= *each && bytes.is_multiple_of(*each));
    match unit {
        Some((name, each)) => format!("{}{name}", bytes / each),
        None => format!("{bytes}B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes_come_back_as_they_went() {
        for text in [
            "1ms", "500ms", "1s", "15m", "7d", "1m30s", "2h30m", "0s", "10us",
        ] {
            assert_eq!(show_duration(parse_duration(text).unwrap()), text);
        }
        assert_eq!(parse_duration("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(parse_duration("0"), Ok(Duration::ZERO));
        for wrong in [
            "",
            "1",
            "s",
            "1.5s",
            "-1s",
            "1 s",
            "1week",
            "99999999999999999999s",
        ] {
            assert!(
                parse_duration(wrong)
                    .unwrap_err()
                    .contains("not a duration"),
                "{wrong}"
            );
        }
        for text in ["64MiB", "1KiB", "3GiB", "1000B", "1025B"] {
            assert_eq!(show_bytes(parse_bytes(text).unwrap()), text);
        }
        assert_eq!(parse_bytes("2 MB"), Ok(2_000_000));
        assert_eq!(parse_bytes("4096"), Ok(4096));
        for wrong in ["", "MiB", "1.5MiB", "1mib", "-1", "99999999999TiB"] {
            assert!(
                parse_bytes(wrong).unwrap_err().contains("not a size"),
                "{wrong}"
            );
        }
    }
}
