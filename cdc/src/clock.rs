//! The wall clock, read here and nowhere else in this crate.

use std::time::{SystemTime, UNIX_EPOCH};

/// Microseconds since 1970; 0 when the machine's clock stands before that.
#[expect(
    clippy::disallowed_methods,
    reason = "the one place of this crate that reads the wall clock"
)]
pub(crate) fn unix_micros() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| {
            i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
        })
}

/// A time of the source's clock, but no later than ours says that it is.
pub(crate) fn not_ahead(source_time: i64) -> i64 {
    source_time.min(unix_micros())
}
