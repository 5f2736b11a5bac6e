//! Where to connect next, and when: a plain function of how the last stream ended.

use std::time::Duration;

use crate::status::Problem;

/// A stream that lived this long was a good one: the waits begin anew.
pub(crate) const GOOD_AFTER: Duration = Duration::from_secs(10);

/// How long to wait between two attempts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// The first wait, and the most before another server is tried.
    pub first: Duration,
    /// Waits double up to this one.
    pub max: Duration,
}

impl Default for Backoff {
    /// 100 ms to 30 s. Every wait is drawn from zero up to its full length, so that clients that lost a server
    /// together do not come back together.
    fn default() -> Self {
        Backoff {
            first: Duration::from_millis(100),
            max: Duration::from_secs(30),
        }
    }
}

/// The servers in turn.
#[derive(Debug)]
pub(crate) struct Plan {
    endpoints: usize,
    at: usize,
    backoff: Backoff,
    /// Streams that ended since a good one.
    tries: usize,
    /// Those of them that make waits grow: a server that is merely behind does not.
    failures: usize,
    /// What was sent last was damaged: ask for everything anew.
    anew: bool,
}

/// How a stream ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) problem: Problem,
    /// Whether it had lived for [`GOOD_AFTER`].
    pub(crate) was_good: bool,
    /// What the server asked to wait before it is asked again.
    pub(crate) asked: Duration,
}

impl Plan {
    pub(crate) const fn new(endpoints: usize, at: usize, backoff: Backoff) -> Self {
        Plan {
            endpoints,
            at,
            backoff,
            tries: 0,
            failures: 0,
            anew: false,
        }
    }

    /// The server to ask now.
    pub(crate) const fn at(&self) -> usize {
        self.at
    }

    pub(crate) const fn asks_anew(&self) -> bool {
        self.anew
    }

    pub(crate) const fn has_others(&self) -> bool {
        self.endpoints > 1
    }

    /// Something was verified: it can be gone on from.
    pub(crate) fn verified(&mut self) {
        self.anew = false;
    }

    /// Moves on to the next server and says how long to wait. `luck` is drawn from 0 to 1.
    pub(crate) fn ended(&mut self, ended: &Ended, luck: f64) -> Duration {
        if let Problem::Refused { refusal, .. } = &ended.problem
            && refusal.is_damage()
        {
            self.anew = true;
        }
        if ended.was_good {
            self.tries = 0;
            self.failures = 0;
        }
        self.tries = self.tries.saturating_add(1);
        if !matches!(ended.problem, Problem::Behind { .. }) {
            self.failures = self.failures.saturating_add(1);
        }
        self.at = (self.at + 1) % self.endpoints;
        let doublings = (self.failures / self.endpoints).saturating_sub(1).min(31);
        let longest = self.backoff.first.saturating_mul(1 << doublings);
        let wait = longest.min(self.backoff.max).mul_f64(luck);
        // A server that said when to ask again is not asked before; another one may be.
        if self.tries.is_multiple_of(self.endpoints) {
            wait + ended.asked
        } else {
            wait
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::refusal::Refusal;

    fn ended(was_good: bool, asked_ms: u64) -> Ended {
        let problem = Problem::Ended {
            endpoint: "a".into(),
            message: "gone".into(),
        };
        Ended {
            problem,
            was_good,
            asked: Duration::from_millis(asked_ms),
        }
    }

    fn waits(endpoints: usize, ends: impl IntoIterator<Item = Ended>) -> Vec<(usize, u128)> {
        let mut plan = Plan::new(endpoints, 0, Backoff::default());
        let step = |end: Ended| {
            let wait = plan.ended(&end, 1.0);
            (plan.at(), wait.as_millis())
        };
        ends.into_iter().map(step).collect()
    }

    #[test]
    fn v06_waits_double_up_to_the_longest_and_begin_anew_after_a_good_stream() {
        let mut ends: Vec<Ended> = (0..10).map(|_| ended(false, 0)).collect();
        ends.push(ended(true, 0));
        let waits: Vec<u128> = waits(1, ends).into_iter().map(|(_, wait)| wait).collect();
        assert_eq!(
            waits,
            [
                100, 200, 400, 800, 1600, 3200, 6400, 12800, 25600, 30000, 100
            ]
        );
    }

    #[test]
    fn every_server_is_tried_before_waits_grow() {
        let ends = (0..6).map(|_| ended(false, 0));
        let expected = [(1, 100), (2, 100), (0, 100), (1, 100), (2, 100), (0, 200)];
        assert_eq!(waits(3, ends), expected);
    }

    #[test]
    fn a_wait_that_was_asked_for_counts_once_all_were_tried() {
        let ends = (0..2).map(|_| ended(false, 5000));
        assert_eq!(waits(2, ends), [(1, 100), (0, 5100)]);
        let mut plan = Plan::new(1, 0, Backoff::default());
        assert_eq!(plan.ended(&ended(false, 5000), 0.0), Duration::from_secs(5));
    }

    #[test]
    fn only_damage_asks_for_everything_anew() {
        let mut plan = Plan::new(1, 0, Backoff::default());
        let refused = |refusal| Ended {
            problem: Problem::Refused {
                endpoint: "a".into(),
                refusal,
            },
            was_good: false,
            asked: Duration::ZERO,
        };
        plan.ended(
            &refused(Refusal::OtherContent(onair_model::Version::ZERO)),
            0.0,
        );
        assert!(!plan.asks_anew());
        plan.ended(&refused(Refusal::KeyTwice), 0.0);
        assert!(plan.asks_anew());
        plan.ended(&ended(true, 0), 0.0);
        assert!(plan.asks_anew());
        plan.verified();
        assert!(!plan.asks_anew());
    }
}
