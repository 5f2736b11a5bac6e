//! Age by monotonic arithmetic: after the first reading no wall clock is asked, so a clock that jumps makes
//! nothing fresh or stale.

use std::time::{Duration, SystemTime};

use tokio::time::Instant;

/// How old the content was at one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reading {
    at: Instant,
    age: Duration,
    /// Source time through which the content was complete, microseconds since 1970.
    source_time: i64,
}

impl Reading {
    /// The first reading of content that is complete through `source_time`: the only one by the wall clock.
    pub(crate) fn first(source_time: i64, now: Instant) -> Self {
        let age = wall_clock().saturating_sub(source_time).max(0);
        Reading {
            at: now,
            age: Duration::from_micros(age.unsigned_abs()),
            source_time,
        }
    }

    /// Content that is complete through a later `source_time`: younger by what the source's clock went on.
    #[must_use]
    pub(crate) fn sealed(self, source_time: i64, now: Instant) -> Self {
        let advance = source_time.saturating_sub(self.source_time).max(0);
        let age = self
            .age_at(now)
            .saturating_sub(Duration::from_micros(advance.unsigned_abs()));
        Reading {
            at: now,
            age,
            source_time: source_time.max(self.source_time),
        }
    }

    /// The server says how old it is, by its monotonic clock.
    #[must_use]
    pub(crate) fn told(self, age: Duration, source_time: i64, now: Instant) -> Self {
        Reading {
            at: now,
            age,
            source_time: source_time.max(self.source_time),
        }
    }

    pub(crate) fn age_at(&self, now: Instant) -> Duration {
        self.age
            .saturating_add(now.saturating_duration_since(self.at))
    }

    /// When it will be as old as `limit`; `None` when it is already.
    pub(crate) fn reaches(&self, limit: Duration, now: Instant) -> Option<Instant> {
        let left = limit
            .checked_sub(self.age_at(now))
            .filter(|left| !left.is_zero())?;
        now.checked_add(left)
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the home of the wall clock in this crate"
)]
pub(crate) fn wall_clock() -> i64 {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .ok()
        .and_then(|since| i64::try_from(since.as_micros()).ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_by_the_monotonic_clock_and_the_source_time_between_two_readings() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let told = Reading::first(0, start).told(Duration::from_secs(1), 100_000_000, start);
        assert_eq!(told.age_at(after(4)), Duration::from_secs(5));
        // Complete through four seconds later on the source.
        let sealed = told.sealed(104_000_000, after(4));
        assert_eq!(sealed.age_at(after(4)), Duration::from_secs(1));
        // A source time that goes back says nothing.
        assert_eq!(
            sealed.sealed(1, after(5)).age_at(after(5)),
            Duration::from_secs(2)
        );
        assert_eq!(
            sealed.reaches(Duration::from_secs(3), after(4)),
            Some(after(6))
        );
        assert_eq!(sealed.reaches(Duration::from_secs(3), after(6)), None);
    }
}
