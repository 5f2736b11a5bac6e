//! The truth: what the live set was after each transaction, rebuilt from the server's own account of its binlog by code
//! that shares nothing with the decoder, the encoder and the digest of the product.
//!
//! The state after each transaction is kept as digest and count, so it costs what changed; contents are rebuilt from
//! the changes where a comparison fails or a sample is compared whole.

pub mod binlog;
mod check;
mod row;

use std::collections::{BTreeMap, HashMap};
use std::io::BufRead;

use anyhow::{Context as _, Result};
use bytes::Bytes;

pub use check::{Report, Wrong, check, compare, difference};
pub use row::{Shape, hash};

use binlog::{Effect, Transaction};

/// Key to row.
pub type Content = BTreeMap<u64, Bytes>;

/// The live set after one transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State {
    pub digest: u128,
    pub count: u64,
}

impl State {
    pub const EMPTY: State = State {
        digest: 0,
        count: 0,
    };

    /// Of a whole content.
    pub fn of(content: &Content) -> Self {
        let digest = content
            .iter()
            .fold(0u128, |sum, (key, row)| sum.wrapping_add(hash(*key, row)));
        State {
            digest,
            count: content.len() as u64,
        }
    }

    /// After `content` took another row for a key, or lost it.
    pub fn put(&mut self, content: &mut Content, key: u64, row: Option<Bytes>) {
        let before = match row {
            Some(row) => {
                self.digest = self.digest.wrapping_add(hash(key, &row));
                self.count += 1;
                content.insert(key, row)
            }
            None => content.remove(&key),
        };
        if let Some(before) = before {
            self.digest = self.digest.wrapping_sub(hash(key, &before));
            self.count -= 1;
        }
    }
}

/// One transaction as it changed the live set.
#[derive(Clone, Debug)]
struct Step {
    gtid: String,
    is_emptied: bool,
    changes: Vec<(u64, Option<Bytes>)>,
    after: State,
}

/// The history of one feed.
#[derive(Debug)]
pub struct Truth {
    steps: Vec<Step>,
    by_gtid: HashMap<String, usize>,
}

impl Truth {
    /// From the text of the whole binlog.
    pub fn read(text: impl BufRead, shape: &Shape) -> Result<Self> {
        Self::of(&binlog::read(text)?, shape)
    }

    fn of(transactions: &[Transaction], shape: &Shape) -> Result<Self> {
        let mut truth = Truth {
            steps: Vec::new(),
            by_gtid: HashMap::new(),
        };
        let mut content = Content::new();
        let mut state = State::EMPTY;
        for transaction in transactions {
            let mut step = Step {
                gtid: transaction.gtid.clone(),
                is_emptied: false,
                changes: Vec::new(),
                after: state,
            };
            for effect in &transaction.effects {
                let changes = match effect {
                    Effect::Statement(text) if shape.is_emptied_by(text) => {
                        step.is_emptied = true;
                        step.changes.clear();
                        content.clear();
                        state = State::EMPTY;
                        continue;
                    }
                    Effect::Row(change) if change.table.name == shape.table => shape
                        .changes(change)
                        .with_context(|| format!("in transaction {}", transaction.gtid))?,
                    _ => continue,
                };
                for (key, row) in changes {
                    state.put(&mut content, key, row.clone());
                    step.changes.push((key, row));
                }
            }
            step.after = state;
            truth.by_gtid.insert(step.gtid.clone(), truth.steps.len());
            truth.steps.push(step);
        }
        Ok(truth)
    }

    /// The same by bucket; `bucket` tells each key's.
    pub fn by_bucket(&self, buckets: usize, bucket: impl Fn(u64) -> usize) -> ByBucket<'_> {
        let mut contents = vec![Content::new(); buckets];
        let mut states = vec![State::EMPTY; buckets];
        let mut after = Vec::with_capacity(self.steps.len());
        for step in &self.steps {
            if step.is_emptied {
                contents.iter_mut().for_each(Content::clear);
                states.fill(State::EMPTY);
            }
            for (key, row) in &step.changes {
                let at = bucket(*key);
                states[at].put(&mut contents[at], *key, row.clone());
            }
            after.push(states.clone());
        }
        ByBucket { truth: self, after }
    }

    /// How many transactions there were.
    pub fn len(&self) -> usize {
        self.steps.len()
    }

    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// How many of them changed the live set.
    pub fn touching(&self) -> usize {
        let touches = |step: &&Step| step.is_emptied || !step.changes.is_empty();
        self.steps.iter().filter(touches).count()
    }

    /// The state after this many transactions.
    fn after(&self, transactions: usize) -> State {
        match transactions.checked_sub(1) {
            Some(last) => self.steps[last].after,
            None => State::EMPTY,
        }
    }

    /// The content after this many transactions.
    pub fn content(&self, transactions: usize) -> Content {
        let mut content = Content::new();
        for step in &self.steps[..transactions] {
            if step.is_emptied {
                content.clear();
            }
            for (key, row) in &step.changes {
                match row {
                    Some(row) => content.insert(*key, row.clone()),
                    None => content.remove(key),
                };
            }
        }
        content
    }
}

/// Digest and count of each bucket after each transaction.
#[derive(Debug)]
pub struct ByBucket<'a> {
    truth: &'a Truth,
    after: Vec<Vec<State>>,
}

impl ByBucket<'_> {
    /// A bucket after a transaction; `None` when the binlog has no such transaction.
    pub fn after(&self, gtid: &str, bucket: usize) -> Option<State> {
        let at = self.truth.by_gtid.get(gtid)?;
        Some(self.after[*at][bucket])
    }
}
