//! When each transaction should be sent, known before the first one is.

use std::hint::spin_loop;
use std::thread;
use std::time::{Duration, Instant};

/// Of each run, from its first intended time on: connections, caches and the stream begin there.
pub const DISCARDED: Duration = Duration::from_secs(1);
/// What the system's timers may be late by. The rest of the time is spun away.
const SPUN: Duration = Duration::from_micros(80);

/// The intended times of one run.
#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    pub start: Instant,
    pub rate: u32,
    pub count: u64,
}

impl Schedule {
    /// After the start.
    pub fn offset(&self, number: u64) -> Duration {
        Duration::from_nanos((u128::from(number) * 1_000_000_000 / u128::from(self.rate)) as u64)
    }

    /// How long after its intended time it is now; `None` for one of the start, which does not count.
    pub fn latency(&self, number: u64, now: Instant) -> Option<Duration> {
        let offset = self.offset(number);
        let latency = now.saturating_duration_since(self.start + offset);
        (offset >= DISCARDED).then_some(latency)
    }

    /// Sleeps, then spins, until a transaction is due; at once when it is late. How late it is then.
    pub fn wait_for(&self, number: u64) -> Duration {
        let due = self.start + self.offset(number);
        let left = due.saturating_duration_since(Instant::now());
        if left > SPUN {
            thread::sleep(left - SPUN);
        }
        while Instant::now() < due {
            spin_loop();
        }
        Instant::now().saturating_duration_since(due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_even_and_the_first_second_does_not_count() {
        let start = Instant::now();
        let schedule = Schedule {
            start,
            rate: 3_000,
            count: 9_000,
        };
        assert_eq!(schedule.offset(0), Duration::ZERO);
        assert_eq!(schedule.offset(1), Duration::from_nanos(333_333));
        assert_eq!(schedule.offset(3_000), Duration::from_secs(1));
        let now = start + Duration::from_secs(2);
        assert_eq!(schedule.latency(2_999, now), None);
        assert_eq!(schedule.latency(3_000, now), Some(Duration::from_secs(1)));
        assert_eq!(schedule.latency(9_000, now), Some(Duration::ZERO));
    }

    #[test]
    fn waiting_ends_when_it_is_due_and_at_once_when_it_is_late() {
        let schedule = Schedule {
            start: Instant::now(),
            rate: 1_000,
            count: 3,
        };
        schedule.wait_for(2);
        assert!(schedule.start.elapsed() >= Duration::from_millis(2));
        assert!(schedule.wait_for(1) >= Duration::from_millis(1));
    }
}
