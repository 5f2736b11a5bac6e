//! What many who watch write on: when the last of them saw each transaction.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use crate::load::Expected;

/// One for all.
#[derive(Debug)]
pub(super) struct Board {
    all: u32,
    run: RwLock<Arc<Run>>,
}

#[derive(Debug, Default)]
struct Run {
    /// How many have seen each transaction.
    counts: Vec<AtomicU32>,
    seen: Mutex<Vec<(u64, u64)>>,
}

impl Board {
    /// For so many who watch.
    pub(super) fn new(all: u32) -> Self {
        Board {
            all,
            run: RwLock::default(),
        }
    }

    /// Another run.
    pub(super) fn begin(&self, expected: &Expected) {
        let counts = (0..expected.count).map(|_| AtomicU32::new(0)).collect();
        let run = Arc::new(Run {
            counts,
            seen: Mutex::default(),
        });
        *self.run.write().unwrap_or_else(PoisonError::into_inner) = run;
    }

    /// One of them saw this transaction.
    pub(super) fn see(&self, number: u64, at: u64) {
        let run = self.run();
        // What is of no run is of one before, on its way out.
        let Some(count) = run.counts.get(number as usize) else {
            return;
        };
        if count.fetch_add(1, Ordering::Relaxed) + 1 == self.all {
            let mut seen = run.seen.lock().unwrap_or_else(PoisonError::into_inner);
            seen.push((number, at));
        }
    }

    /// What all have seen since this was asked last.
    pub(super) fn take(&self) -> Vec<(u64, u64)> {
        let run = self.run();
        let mut seen = run.seen.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut seen)
    }

    fn run(&self) -> Arc<Run> {
        Arc::clone(&self.run.read().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_one_counts() {
        let board = Board::new(2);
        board.see(0, 1);
        board.begin(&Expected {
            count: 2,
            to_close: 0,
        });
        board.see(1, 2);
        assert_eq!(board.take(), []);
        board.see(1, 3);
        board.see(7, 4);
        assert_eq!(board.take(), [(1, 3)]);
        assert_eq!(board.take(), []);
    }
}
