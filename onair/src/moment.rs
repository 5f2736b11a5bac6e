//! A moment of the past, as people write it.

use std::fmt;
use std::str::FromStr;

use jiff::{SignedDuration, Timestamp};
use onair_proto::v1::past_request;
use onair_sdk::Version;

use crate::config::units::parse_duration;

/// A version, or a time of the source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// Exactly this version.
    Version(Version),
    /// The last full cut at or before it.
    Time(Timestamp),
}

impl Moment {
    /// `3-1842`; `2026-11-22T10:00:00Z`, or with another offset; `15m`, before `now`.
    pub fn parse(text: &str, now: Timestamp) -> Result<Self, String> {
        if let Ok(version) = Version::from_str(text) {
            return Ok(Moment::Version(version));
        }
        parse_time(text, now).map(Moment::Time).map_err(|_| {
            format!(
                "{text:?} is neither a version like 3-1842, nor a time like 2026-11-22T10:00:00Z, nor a span back like 15m"
            )
        })
    }

    /// As a request has it.
    pub fn to_wire(self) -> past_request::Moment {
        match self {
            Moment::Version(version) => past_request::Moment::Version(version.get()),
            Moment::Time(time) => past_request::Moment::Time(time.as_microsecond()),
        }
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Moment::Version(version) => fmt::Display::fmt(version, f),
            Moment::Time(time) => fmt::Display::fmt(time, f),
        }
    }
}

/// A time: `2026-11-22T10:00:00Z`, or `15m` before `now`.
pub fn parse_time(text: &str, now: Timestamp) -> Result<Timestamp, String> {
    let back = parse_duration(text)
        .ok()
        .and_then(|back| SignedDuration::try_from(back).ok())
        .and_then(|back| now.checked_sub(back).ok());
    back.or_else(|| text.parse().ok()).ok_or_else(|| {
        format!("{text:?} is neither a time like 2026-11-22T10:00:00Z nor a span back like 15m")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_versions_times_and_spans_back() {
        let now: Timestamp = "2026-11-22T10:00:00Z".parse().unwrap();
        let time = |text: &str| Ok(Moment::Time(text.parse().unwrap()));
        let parse = |text| Moment::parse(text, now);
        assert_eq!(
            parse("3-1842"),
            Ok(Moment::Version("3-1842".parse().unwrap()))
        );
        assert_eq!(parse("15m"), time("2026-11-22T09:45:00Z"));
        assert_eq!(parse("1h30m"), time("2026-11-22T08:30:00Z"));
        assert_eq!(parse("0"), time("2026-11-22T10:00:00Z"));
        assert_eq!(
            parse("2026-11-22T10:00:00.5+02:00"),
            time("2026-11-22T08:00:00.5Z")
        );
        for wrong in ["", "now", "2026-11-22", "10:00", "3-", "-5m", "5 minutes"] {
            let error = parse(wrong).unwrap_err();
            assert!(error.contains("3-1842") && error.contains("15m"), "{error}");
            assert!(parse_time(wrong, now).is_err(), "{wrong}");
        }
        assert!(parse_time("3-1842", now).is_err());
    }
}
