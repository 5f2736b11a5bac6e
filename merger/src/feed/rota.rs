//! Whose turn it is. Heads take turns, evenly over the period: a small load all the time instead of a burst.

use std::time::Duration;

use onair_model::Bucket;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval};

/// Least time between two turns: at most ten heads move a second, whatever the rate and the number of buckets.
const TURN_MIN: Duration = Duration::from_millis(100);

/// What a turn is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// The cuts head, and what is done once a period.
    Cuts,
    /// A bucket's head.
    Head(Bucket),
}

/// One turn of a period.
#[derive(Clone, Copy, Debug)]
pub(super) struct Turn {
    pub(super) place: Place,
    /// Which of the period's turns it is, and how many there are.
    at: usize,
    of: usize,
}

impl Turn {
    /// Whether a bucket of another merger is looked at in this turn; each is in one of a period's turns.
    pub(super) fn looks_at(&self, other: Bucket) -> bool {
        other.index() % self.of == self.at
    }
}

/// The cuts head and the heads of some buckets, each once a period.
#[derive(Debug)]
pub(super) struct Rota {
    places: Vec<Place>,
    at: usize,
    each: Duration,
    ticks: Interval,
    begun: Instant,
}

impl Rota {
    /// `least` is the shortest period; more buckets than have their turns in it stretch it.
    pub(super) fn new(buckets: impl Iterator<Item = Bucket>, least: Duration) -> Self {
        let heads = buckets.map(Place::Head);
        let places: Vec<Place> = std::iter::once(Place::Cuts).chain(heads).collect();
        let each = least.div_f64(places.len() as f64).max(TURN_MIN);
        let mut ticks = interval(each);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Rota {
            places,
            at: 0,
            each,
            ticks,
            begun: Instant::now(),
        }
    }

    /// Waits for the next turn. Cancelled, it has not come.
    pub(super) async fn next(&mut self) -> Turn {
        self.ticks.tick().await;
        self.begun = Instant::now();
        let (at, of) = (self.at, self.places.len());
        self.at = (at + 1) % of;
        Turn {
            place: self.places[at],
            at,
            of,
        }
    }

    /// The turn is over. After one that took longer than its time the next comes a whole one later: what is read must
    /// have time, too.
    pub(super) fn over(&mut self) {
        if self.begun.elapsed() >= self.each {
            self.ticks.reset();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Turns of one period: when each comes, and for what.
    async fn period(buckets: u16, least: Duration) -> Vec<(Duration, Place)> {
        let mut rota = Rota::new((0..buckets).map(Bucket::new), least);
        let begun = Instant::now();
        let mut turns = Vec::new();
        for _ in 0..=buckets {
            let turn = rota.next().await;
            turns.push((begun.elapsed(), turn.place));
            rota.over();
        }
        assert_eq!(rota.next().await.place, Place::Cuts, "and again");
        turns.push((begun.elapsed(), Place::Cuts));
        turns
    }

    #[tokio::test(start_paused = true)]
    async fn every_place_has_its_turn_at_even_distances() {
        let second = Duration::from_secs(1);
        for (buckets, least, length) in [
            (0, second, second),
            (1, second, second),
            (3, second, second),
            (9, second, second),
            (16, second, Duration::from_millis(1700)),
            (1023, second, Duration::from_millis(102_400)),
            (3, 10 * second, 10 * second),
            (3, Duration::ZERO, Duration::from_millis(400)),
        ] {
            let turns = period(buckets, least).await;
            let each = length / u32::from(buckets + 1);
            for (number, (at, place)) in (0..).zip(&turns) {
                let late = at.saturating_sub(each * number);
                assert!(*at >= each * number && late < TURN_MIN / 4, "{turns:?}");
                let expected = match number % u32::from(buckets + 1) {
                    0 => Place::Cuts,
                    bucket => Place::Head(Bucket::new(bucket as u16 - 1)),
                };
                assert_eq!(*place, expected);
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_long_turn_there_is_time_before_the_next() {
        let mut rota = Rota::new((0..9).map(Bucket::new), Duration::from_secs(1));
        for _ in 0..30 {
            rota.next().await;
            tokio::time::sleep(3 * TURN_MIN).await;
            rota.over();
            let over = Instant::now();
            rota.next().await;
            assert!(over.elapsed() >= TURN_MIN);
            rota.over();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn each_other_bucket_is_looked_at_once_a_period() {
        let mut rota = Rota::new((0..3).map(Bucket::new), Duration::from_secs(1));
        let mut looks = [0; 100];
        for _ in 0..4 {
            let turn = rota.next().await;
            for (bucket, looks) in (0..).zip(&mut looks) {
                *looks += u32::from(turn.looks_at(Bucket::new(bucket)));
            }
        }
        assert_eq!(looks, [1; 100]);
    }
}
