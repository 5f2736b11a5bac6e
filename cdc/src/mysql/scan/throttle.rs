//! How fast a scan may go over all its connections.

use std::sync::Mutex;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// Rows a second, shared by the connections of one scan.
#[derive(Debug)]
pub(super) struct Throttle {
    max_rate: Option<u64>,
    /// When all that was charged so far is paid for.
    paid_at: Mutex<Instant>,
}

impl Throttle {
    pub(super) fn new(max_rate: Option<u64>) -> Self {
        Throttle {
            max_rate: max_rate.filter(|rate| *rate > 0),
            paid_at: Mutex::new(Instant::now()),
        }
    }

    /// The most rows that one range should hold, so that pauses between ranges keep the rate.
    pub(super) fn range_rows(&self, parallel: usize) -> Option<u64> {
        self.max_rate
            .map(|rate| (rate / parallel.max(1) as u64).max(1))
    }

    /// Charges rows that the server is about to look at, and waits until those charged before are paid for.
    pub(super) async fn charge(&self, rows: u64) {
        let Some(rate) = self.max_rate else {
            return;
        };
        let cost = Duration::from_secs_f64(rows as f64 / rate as f64);
        let wait_until = {
            let mut paid_at = match self.paid_at.lock() {
                Ok(paid_at) => paid_at,
                Err(poisoned) => poisoned.into_inner(),
            };
            let start = (*paid_at).max(Instant::now());
            *paid_at = start + cost;
            start
        };
        sleep_until(wait_until).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_second_payer_waits_for_the_first() {
        let throttle = Throttle::new(Some(1_000));
        let start = Instant::now();
        throttle.charge(2_000).await;
        assert_eq!(start.elapsed(), Duration::ZERO);
        throttle.charge(500).await;
        assert_eq!(start.elapsed().as_secs(), 2);
        throttle.charge(1).await;
        assert_eq!(start.elapsed().as_millis() / 10, 250);
        let free = Throttle::new(None);
        free.charge(1 << 60).await;
        assert_eq!(start.elapsed().as_millis() / 10, 250);
    }
}
