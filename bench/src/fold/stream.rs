//! Events as a reader writes them: each transaction of its own touches one row.

use std::collections::HashMap;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use onair_log::{Flush, Layout};
use onair_model::gtid::{SourceId, Tag};
use onair_model::{
    Body, Bucket, Buckets, Commit, CutRecord, Digest, Epoch, Event, Gtid, GtidSet, Key, Lineage,
    Record, Row, Version,
};

pub(crate) const LINEAGE: Lineage = Lineage::new(7);
pub(super) const FEED: &str = "room";
/// Rooms that are live now and then, at least.
const KEYS_MIN: u64 = 100_000;

/// A reader's state of one bucket.
#[derive(Debug)]
struct Held {
    d: Version,
    digest: Digest,
    count: u64,
    rows: HashMap<u64, Digest>,
    commits: Vec<Commit>,
    /// `d` as the log has it.
    flushed: Version,
}

/// A feed and its reader, in short.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) layout: Layout,
    buckets: Vec<Held>,
    /// So many keys there are.
    keys: u64,
    version: Version,
    cut: Version,
    number: u64,
    executed: GtidSet,
    /// What came to it since the last cut.
    added: GtidSet,
}

fn row_of(at: u64) -> Row {
    let text = format!("uid {at:020}, area {}", at % 40);
    Row::new(text.into_bytes().into())
}

/// An event as a row of a log that has no chain.
#[derive(Clone, Debug)]
#[cfg_attr(
    not(feature = "scylla"),
    expect(dead_code, reason = "only those who go without a merger read it")
)]
pub(crate) struct Bare {
    pub(super) bucket: Bucket,
    pub(super) key: u64,
    /// `None`: off.
    pub(super) row: Option<Row>,
}

impl Stream {
    /// With so many live rows to begin with.
    pub(crate) fn new(buckets: Buckets, live: u64) -> Result<Self> {
        let start = Epoch::new(1).context("the first epoch")?.start();
        let held = |_| Held {
            d: start,
            digest: Digest::EMPTY,
            count: 0,
            rows: HashMap::new(),
            commits: Vec::new(),
            flushed: start,
        };
        let mut stream = Stream {
            keys: KEYS_MIN.max(2 * live),
            layout: Layout {
                feed: FEED.into(),
                buckets,
            },
            buckets: buckets.all().map(held).collect(),
            version: start,
            cut: start,
            number: 0,
            executed: GtidSet::mysql(),
            added: GtidSet::mysql(),
        };
        for id in 0..live {
            let key = Key::from_u64(id);
            let digest = Digest::of(&key, &row_of(id));
            let held = &mut stream.buckets[buckets.of(&key).index()];
            held.digest = held.digest.plus(digest);
            held.count += 1;
            held.rows.insert(id, digest);
        }
        Ok(stream)
    }

    /// The last data version of each bucket.
    pub(super) fn ds(&self) -> Vec<Version> {
        self.buckets.iter().map(|bucket| bucket.d).collect()
    }

    /// The content that the epoch begins with. Nothing has happened yet.
    pub(crate) fn opening(&self) -> Flush {
        let records = self.layout.buckets.all().map(|bucket| {
            let ids = self.buckets[bucket.index()].rows.keys();
            let body = Body::Replace {
                d: self.version,
                rows: ids.map(|id| (Key::from_u64(*id), row_of(*id))).collect(),
            };
            (bucket, self.record(bucket, body))
        });
        self.flush_of(records.collect(), true)
    }

    /// The next event: a room goes on air, changes or goes off.
    pub(crate) fn step(&mut self) -> Result<Bare> {
        self.number += 1;
        self.version = self.version.next().context("the epoch is full")?;
        let at = self.number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let id = (at >> 20) % self.keys;
        let key = Key::from_u64(id);
        let bucket = self.layout.buckets.of(&key);
        let held = &mut self.buckets[bucket.index()];
        let was_live = held.rows.contains_key(&id);
        let row = (!was_live || at.is_multiple_of(2)).then(|| row_of(at));
        if let Some(before) = held.rows.remove(&id) {
            held.digest = held.digest.minus(before);
            held.count -= 1;
        }
        if let Some(row) = &row {
            let digest = Digest::of(&key, row);
            held.digest = held.digest.plus(digest);
            held.count += 1;
            held.rows.insert(id, digest);
        }
        let event = match row.clone() {
            Some(row) if was_live => Event::Change { key, row },
            Some(row) => Event::On { key, row },
            None => Event::Off { key },
        };
        let gtid = Gtid::Mysql {
            source: SourceId {
                uuid: 1,
                tag: Tag::NONE,
            },
            number: self.number,
        };
        self.executed.insert(&gtid);
        self.added.insert(&gtid);
        held.d = self.version;
        held.commits.push(Commit {
            version: self.version,
            commit_time: self.number as i64,
            gtid,
            events: vec![event],
        });
        Ok(Bare {
            bucket,
            key: id,
            row,
        })
    }

    /// Everything since the last one.
    pub(crate) fn flush(&mut self, full: bool) -> Flush {
        let mut records = Vec::new();
        for bucket in self.layout.buckets.all() {
            let held = &mut self.buckets[bucket.index()];
            let commits = std::mem::take(&mut held.commits);
            if commits.is_empty() && !full {
                continue;
            }
            let prev = held.flushed;
            records.push((bucket, self.record(bucket, Body::Commits { prev, commits })));
        }
        let flush = self.flush_of(records, full);
        for held in &mut self.buckets {
            held.flushed = held.d;
        }
        self.cut = self.version;
        self.added = GtidSet::mysql();
        flush
    }

    fn record(&self, bucket: Bucket, body: Body) -> Record {
        let held = &self.buckets[bucket.index()];
        Record {
            lineage: LINEAGE,
            epoch: self.version.epoch(),
            body,
            through: self.version,
            digest: held.digest,
            count: held.count,
            source_time: self.number as i64,
            reader_id: 1,
            part: 0,
            parts: 1,
        }
    }

    fn flush_of(&self, records: Vec<(Bucket, Record)>, full: bool) -> Flush {
        let all = self.layout.buckets.all().zip(&self.buckets);
        let touched = all.filter(|(_, held)| full || held.d != held.flushed);
        let digests = self.buckets.iter().map(|held| held.digest);
        let cut = CutRecord {
            lineage: LINEAGE,
            prev_cut: self.cut,
            version: self.version,
            commit_time: self.number as i64,
            source_time: self.number as i64,
            gtid: None,
            executed: if full {
                self.executed.clone()
            } else {
                self.added.clone()
            },
            position: String::new(),
            digest: digests.fold(Digest::EMPTY, Digest::plus),
            count: self.buckets.iter().map(|held| held.count).sum(),
            touched: touched.map(|(bucket, held)| (bucket, held.d)).collect(),
            full,
            proven: None,
            lost_tail: false,
        };
        Flush {
            feed: Arc::clone(&self.layout.feed),
            records,
            cut,
        }
    }
}
