//! The reader: versions, chain, digests, parts, cuts, epochs.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use onair_model::gtid::{SourceId, Tag};
use onair_model::parts::split;
use onair_model::{
    Body, Bucket, Buckets, Commit, CutRecord, Epoch, Gtid, GtidSet, Lineage, Record, Version,
};

use super::truth::{Moment, NOTHING, Writes, events, put, sum};
use crate::{EventLog, Flush, Layout, LogError};

/// Between two attempts of an append.
const RETRY: Duration = Duration::from_millis(1);

/// Attempts of an append before the test is given up.
const ATTEMPTS_MAX: usize = 1000;

/// How the next epoch goes on from this one.
#[derive(Clone, Debug, Default)]
pub struct Opening {
    /// So many of the last transactions are lost.
    pub lost: usize,
    /// Whether its cuts say so.
    pub said: bool,
    /// What its scan finds different.
    pub drift: Writes,
    /// Every bucket gets a Replace, also where a Carry would do.
    pub restated: bool,
}

/// Writes one feed, and knows what it wrote.
#[derive(Clone, Debug)]
pub struct Writer {
    /// The feed.
    pub layout: Layout,
    /// The world.
    pub lineage: Lineage,
    /// Records above about this many bytes go in parts.
    pub part_bytes: usize,
    /// Source time of everything, microseconds since 1970; each transaction adds one.
    pub time: i64,
    reader_id: u64,
    version: Version,
    /// The newest cut that the log acknowledged.
    flushed: Version,
    flushed_executed: GtidSet,
    /// No cut of this reader's life is in the log yet.
    is_new: bool,
    moments: BTreeMap<Version, Moment>,
    executed: GtidSet,
    number: u64,
    lost_tail: bool,
    /// Lost by the last opening, oldest first.
    lost: Vec<(Gtid, Writes)>,
}

impl Writer {
    /// A feed with no rows at the start of epoch 1. Nothing is in a log yet: [`Writer::open_flush`] goes first.
    pub fn new(feed: &str, buckets: Buckets, lineage: Lineage) -> Self {
        let count = buckets.count();
        let start = Epoch::new(1).unwrap().start();
        let moment = Moment {
            buckets: vec![Arc::default(); count],
            sums: vec![NOTHING; count],
            d: vec![start; count],
            commits: vec![None; count],
            writes: Vec::new(),
            transaction: None,
            gtid: None,
            executed: GtidSet::mysql(),
            commit_time: 0,
        };
        Writer {
            layout: Layout {
                feed: feed.into(),
                buckets,
            },
            lineage,
            part_bytes: 64 * 1024,
            time: 0,
            reader_id: 1,
            version: start,
            flushed: start,
            flushed_executed: GtidSet::mysql(),
            is_new: true,
            moments: [(start, moment)].into(),
            executed: GtidSet::mysql(),
            number: 1,
            lost_tail: false,
            lost: Vec::new(),
        }
    }

    /// The version that it is at.
    pub const fn version(&self) -> Version {
        self.version
    }

    /// The newest cut that the log acknowledged.
    pub const fn flushed(&self) -> Version {
        self.flushed
    }

    /// The feed at a version that it wrote.
    ///
    /// # Panics
    /// When it did not.
    pub fn at(&self, version: Version) -> &Moment {
        self.moments
            .get(&version)
            .unwrap_or_else(|| panic!("nobody wrote {version}"))
    }

    /// The feed now.
    pub fn now(&self) -> &Moment {
        self.at(self.version)
    }

    /// Every version so far.
    pub fn versions(&self) -> impl DoubleEndedIterator<Item = Version> {
        self.moments.keys().copied()
    }

    /// The reader's whole GTID set now.
    pub const fn executed(&self) -> &GtidSet {
        &self.executed
    }

    /// One bucket's commits in `(from, to]`.
    pub fn commits(&self, bucket: Bucket, from: Version, to: Version) -> Vec<Commit> {
        let between = self.moments.range(from..=to).skip(1);
        between
            .filter_map(|(_, moment)| moment.commits[bucket.index()].clone())
            .collect()
    }

    /// A transaction of the feed. Writes that change nothing are none.
    pub fn commit(&mut self, writes: Writes) -> Version {
        let gtid = self.next_gtid();
        self.apply(gtid, writes)
    }

    /// A transaction of another feed of the source: it takes a version and touches nothing.
    pub fn commit_elsewhere(&mut self) -> Version {
        self.commit(Vec::new())
    }

    /// A transaction that the source has and no feed.
    pub fn execute(&mut self) -> Gtid {
        let gtid = self.next_gtid();
        self.executed.insert(&gtid);
        self.time += 1;
        gtid
    }

    fn next_gtid(&mut self) -> Gtid {
        self.number += 1;
        gtid(self.number - 1)
    }

    fn apply(&mut self, gtid: Gtid, writes: Writes) -> Version {
        let version = self.version.next().unwrap();
        self.time += 1;
        self.executed.insert(&gtid);
        let mut moment = self.now().clone();
        let before = moment.buckets.clone();
        put(&mut moment, &writes, self.layout.buckets);
        for bucket in self.layout.buckets.all() {
            let at = bucket.index();
            let events = events(&before[at], &moment.buckets[at]);
            moment.commits[at] = (!events.is_empty()).then_some(Commit {
                version,
                commit_time: self.time,
                gtid,
                events,
            });
            if moment.commits[at].is_some() {
                moment.d[at] = version;
                moment.sums[at] = sum(&moment.buckets[at]);
                moment.gtid = Some(gtid);
            }
        }
        moment.writes = writes;
        moment.transaction = Some(gtid);
        moment.executed.clone_from(&self.executed);
        moment.commit_time = self.time;
        self.moments.insert(version, moment);
        self.version = version;
        version
    }

    /// Everything since the newest acknowledged cut, as one flush: records of the buckets touched, and a cut. A full
    /// one, and the first of a reader's life, has a record of every bucket and names all.
    pub fn flush(&self, full: bool) -> Flush {
        let full = full || self.is_new;
        let from = self.flushed;
        let mut records = Vec::new();
        for bucket in self.layout.buckets.all() {
            let commits = self.commits(bucket, from, self.version);
            if full || !commits.is_empty() {
                let prev = self.at(from).d(bucket);
                records.extend(self.record(bucket, Body::Commits { prev, commits }));
            }
        }
        self.with_cut(records, full)
    }

    fn with_cut(&self, records: Vec<(Bucket, Record)>, full: bool) -> Flush {
        Flush {
            feed: Arc::clone(&self.layout.feed),
            records,
            cut: self.cut(full),
        }
    }

    /// The cut at the version now.
    pub fn cut(&self, full: bool) -> CutRecord {
        let now = self.now();
        let since = self.at(self.flushed);
        let touched = self.layout.buckets.all();
        let total = now.total();
        CutRecord {
            lineage: self.lineage,
            prev_cut: if self.is_new {
                self.version
            } else {
                self.flushed
            },
            version: self.version,
            commit_time: now.commit_time,
            source_time: self.time,
            gtid: now.gtid,
            executed: if full {
                self.executed.clone()
            } else {
                self.executed.minus(&self.flushed_executed)
            },
            position: String::new(),
            digest: total.digest,
            count: total.count,
            touched: touched
                .filter(|bucket| full || now.d(*bucket) != since.d(*bucket))
                .map(|bucket| (bucket, now.d(bucket)))
                .collect(),
            full,
            proven: None,
            lost_tail: self.lost_tail,
        }
    }

    /// A record of a bucket as it is now, in parts if it is large.
    pub fn record(&self, bucket: Bucket, body: Body) -> impl Iterator<Item = (Bucket, Record)> {
        let sum = self.now().sum(bucket);
        let whole = Record {
            lineage: self.lineage,
            epoch: self.version.epoch(),
            body,
            through: self.version,
            digest: sum.digest,
            count: sum.count,
            source_time: self.time,
            reader_id: self.reader_id,
            part: 0,
            parts: 1,
        };
        let parts = split(whole, self.part_bytes).into_iter();
        parts.map(move |part| (bucket, part))
    }

    /// Buckets stated again as they are now, with the cut at it.
    ///
    /// # Panics
    /// When something is not flushed yet: it would be claimed by the Replace before its own record.
    pub fn restate(&self, buckets: &[Bucket]) -> Flush {
        assert_eq!(self.flushed, self.version, "flush first");
        let records = buckets.iter().flat_map(|bucket| self.replace(*bucket));
        self.with_cut(records.collect(), true)
    }

    fn replace(&self, bucket: Bucket) -> impl Iterator<Item = (Bucket, Record)> {
        let now = self.now();
        let rows = now.bucket(bucket).iter();
        let rows = rows.map(|(key, row)| (key.clone(), row.clone())).collect();
        let d = now.d(bucket);
        self.record(bucket, Body::Replace { d, rows })
    }

    /// What opens the first epoch: every bucket's content, and a full cut.
    pub fn open_flush(&self) -> Flush {
        let buckets: Vec<Bucket> = self.layout.buckets.all().collect();
        self.restate(&buckets)
    }

    /// Ends the epoch and opens the next: a Carry for each bucket whose content is the same, a Replace for the others,
    /// and a full cut. What is not flushed is never said.
    pub fn open_epoch(&mut self, opening: Opening) -> Flush {
        let Opening {
            lost,
            said,
            drift,
            restated,
        } = opening;
        let old = self.now().clone();
        let mut kept = self.version;
        self.lost.clear();
        for _ in 0..lost {
            let gone = &self.moments[&kept];
            let gtid = gone.transaction.expect("the epoch has so many");
            self.lost.insert(0, (gtid, gone.writes.clone()));
            kept = Version::from_u64(kept.get() - 1).unwrap();
        }
        let mut moment = self.at(kept).clone();
        let mut executed = self.executed.clone();
        if lost > 0 {
            executed.clone_from(&moment.executed);
        }
        self.executed = executed;
        put(&mut moment, &drift, self.layout.buckets);
        let start = self.version.epoch().next().unwrap().start();
        for bucket in self.layout.buckets.all() {
            moment.sums[bucket.index()] = sum(moment.bucket(bucket));
        }
        moment.d.fill(start);
        moment.commits.fill(None);
        moment.writes.clear();
        moment.transaction = None;
        moment.gtid = None;
        moment.executed.clone_from(&self.executed);
        self.moments.insert(start, moment);
        self.version = start;
        self.lost_tail = said;
        self.begin(start);
        let mut records = Vec::new();
        for bucket in self.layout.buckets.all() {
            if old.sum(bucket) == self.now().sum(bucket) && !restated {
                let old = old.d(bucket);
                records.extend(self.record(bucket, Body::Carry { old }));
            } else {
                records.extend(self.replace(bucket));
            }
        }
        self.with_cut(records, true)
    }

    /// What the last opening lost comes after all, under its own GTIDs.
    pub fn find_lost(&mut self) {
        for (gtid, writes) in std::mem::take(&mut self.lost) {
            self.apply(gtid, writes);
        }
    }

    /// Another reader takes over and produces again everything after `from`, a version of this epoch.
    pub fn restart(&mut self, from: Version) {
        assert_eq!(from.epoch(), self.version.epoch(), "only within an epoch");
        self.begin(from);
    }

    fn begin(&mut self, from: Version) {
        self.reader_id += 1;
        self.flushed = from;
        self.flushed_executed = self.at(from).executed.clone();
        self.is_new = true;
    }

    /// The log has everything up to now.
    pub fn acknowledge(&mut self) {
        self.flushed = self.version;
        self.flushed_executed.clone_from(&self.executed);
        self.is_new = false;
    }

    /// Flushes until the log says that it has it.
    pub async fn write(&mut self, log: &dyn EventLog, full: bool) {
        append(log, self.flush(full)).await;
        self.acknowledge();
    }

    /// Opens the feed's log and its first epoch with these rows.
    pub async fn open(&mut self, log: &dyn EventLog, rows: Writes) {
        while let Err(error) = log.open(&self.layout).await {
            assert!(matches!(error, LogError::Refused { .. }), "{error}");
        }
        let start = self.version;
        let mut moment = self.now().clone();
        put(&mut moment, &rows, self.layout.buckets);
        for bucket in self.layout.buckets.all() {
            moment.sums[bucket.index()] = sum(moment.bucket(bucket));
        }
        self.moments.insert(start, moment);
        append(log, self.open_flush()).await;
        self.acknowledge();
    }
}

/// Appends a flush until the log says that it has it.
///
/// # Panics
/// When it never does, or says that it never will.
pub async fn append(log: &dyn EventLog, flush: Flush) {
    for _ in 0..ATTEMPTS_MAX {
        match log.append(flush.clone()).await {
            Ok(()) => return,
            Err(LogError::Refused { .. } | LogError::Unknown { .. }) => {
                tokio::time::sleep(RETRY).await;
            }
            Err(error) => panic!("{error}"),
        }
    }
    panic!("{ATTEMPTS_MAX} attempts of an append failed");
}

fn gtid(number: u64) -> Gtid {
    Gtid::Mysql {
        source: SourceId {
            uuid: 1,
            tag: Tag::NONE,
        },
        number,
    }
}
