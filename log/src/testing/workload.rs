//! Seeded transactions.

use std::collections::BTreeMap;

use onair_model::{Row, Version};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, RngExt, SeedableRng};

use super::{Writer, Writes};

/// A seeded stream of transactions.
#[derive(Debug)]
pub struct Workload {
    /// What it draws from.
    pub rng: StdRng,
    /// Keys are below this.
    pub keys: u64,
    /// Bytes of its large rows: one in fifty.
    pub large: usize,
}

impl Workload {
    /// From this seed.
    pub fn new(seed: u64, keys: u64, large: usize) -> Self {
        Workload {
            rng: StdRng::seed_from_u64(seed),
            keys,
            large,
        }
    }

    /// A row that no other is equal to.
    pub fn row(&mut self, len: usize) -> Row {
        let mut bytes = vec![0; len.max(16)];
        self.rng.fill_bytes(&mut bytes);
        Row::new(bytes.into())
    }

    /// Rows for the first of an epoch: every second key, and one in ten of them large.
    pub fn rows(&mut self) -> Writes {
        let keys = (0..self.keys).filter(|key| key % 2 == 0);
        keys.map(|key| {
            let len = if key % 20 == 0 { self.large } else { 20 };
            (key, Some(self.row(len)))
        })
        .collect()
    }

    /// The writes of one transaction: a few keys on, changed, off; sometimes many, sometimes a key as it was.
    pub fn writes(&mut self) -> Writes {
        let count = match self.rng.random_range(0..40) {
            0 => 40,
            1..=12 => 1,
            _ => self.rng.random_range(2..5),
        };
        let mut writes = BTreeMap::new();
        for _ in 0..count {
            let key = self.rng.random_range(0..self.keys);
            let len = if self.rng.random_ratio(1, 50) {
                self.large
            } else {
                self.rng.random_range(16..60)
            };
            let row = (!self.rng.random_ratio(2, 5)).then(|| self.row(len));
            writes.insert(key, row);
        }
        writes.into_iter().collect()
    }

    /// One transaction, of the feed or not.
    pub fn step(&mut self, writer: &mut Writer) {
        match self.rng.random_range(0..20) {
            0 => {
                writer.execute();
            }
            1 => {
                writer.commit_elsewhere();
            }
            _ => {
                let writes = self.writes();
                writer.commit(writes);
            }
        }
    }

    /// One of the versions of the writer's epoch that a reader may start again from.
    pub fn checkpoint(&mut self, writer: &Writer) -> Version {
        let start = writer.version().epoch().start();
        let versions = writer.versions();
        let acknowledged: Vec<Version> = versions
            .filter(|version| (start..=writer.flushed()).contains(version))
            .collect();
        let recent = &acknowledged[acknowledged.len().saturating_sub(30)..];
        *recent.choose(&mut self.rng).unwrap()
    }
}
