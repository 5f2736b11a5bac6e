//! Versions, chain and digests: from transactions to what a flush writes. Pure; holds no rows.
//!
//! A digest is kept from before and after images alone, so the reader's memory does not grow with the table.

use std::collections::BTreeSet;
use std::sync::Arc;

use onair_log::Flush;
use onair_model::cut::Proven;
use onair_model::plant::{Bug, planted};
use onair_model::{
    Body, Bucket, Buckets, Commit, CutRecord, Digest, Epoch, Event, Gtid, GtidSet, Key, Lineage,
    Record, Row, Sum, Version,
};

use crate::assemble::Place;
use crate::change::{KeyChange, Transaction};

/// Everything that the reader knows of what it has produced, for all feeds of its source.
#[derive(Clone, Debug)]
pub struct Sequence {
    lineage: Lineage,
    reader_id: u64,
    /// Last version given.
    version: Version,
    /// Commit time of that version.
    commit_time: i64,
    /// Every transaction delivered.
    executed: GtidSet,
    /// Source time through which everything is delivered.
    source_time: i64,
    /// Where the stream stands, for people.
    place: Option<Place>,
    lost_tail: bool,
    feeds: Vec<FeedSequence>,
    pending_bytes: usize,
}

#[derive(Clone, Debug)]
struct FeedSequence {
    name: Arc<str>,
    layout: Buckets,
    buckets: Vec<BucketSequence>,
    sum: Sum,
    gtid: Option<Gtid>,
    proven: Option<Proven>,
    /// Buckets with commits that no flush has taken yet.
    pending: BTreeSet<Bucket>,
    /// Version of the last cut stated, `None` before the first of this reader's life in this epoch.
    last_cut: Option<Version>,
    /// What came to `executed` since that cut.
    executed_since: GtidSet,
    /// Buckets without a record since the last full cut.
    idle: BTreeSet<Bucket>,
}

#[derive(Clone, Debug)]
struct BucketSequence {
    d: Version,
    sum: Sum,
    /// Data version before the first pending commit.
    prev: Version,
    pending: Vec<Commit>,
}

/// A bucket as a checkpoint keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BucketMark {
    /// Last data version.
    pub d: Version,
    /// Digest and count at it.
    pub sum: Sum,
}

/// A feed as a checkpoint keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeedMark {
    /// Its buckets.
    pub buckets: Vec<BucketMark>,
    /// Last transaction of the feed contained.
    pub gtid: Option<Gtid>,
    /// Newest proof.
    pub proven: Option<Proven>,
}

/// Where a sequence begins.
#[derive(Clone, Debug)]
pub struct Begin {
    /// The world.
    pub lineage: Lineage,
    /// This process.
    pub reader_id: u64,
    /// Last version given: a checkpoint's, or an epoch's start.
    pub version: Version,
    /// Its commit time.
    pub commit_time: i64,
    /// Every transaction delivered.
    pub executed: GtidSet,
    /// The epoch began by losing transactions.
    pub lost_tail: bool,
    /// Name, layout and marks of each feed, in the order of feed indexes.
    pub feeds: Vec<(Arc<str>, Buckets, FeedMark)>,
}

/// The epoch has no versions left: open the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("all versions of epoch {0} are used up")]
pub struct EpochFull(pub Epoch);

/// What a flush states of the whole feed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CutKind {
    /// The touched buckets only.
    Partial,
    /// Every bucket, with progress for idle ones.
    Full,
}

impl Sequence {
    /// Goes on from a checkpoint, or begins an epoch.
    pub fn new(begin: Begin) -> Self {
        let feeds = begin
            .feeds
            .into_iter()
            .map(|(name, layout, mark)| FeedSequence {
                name,
                layout,
                sum: total(&mark.buckets),
                buckets: mark
                    .buckets
                    .iter()
                    .map(|mark| BucketSequence {
                        d: mark.d,
                        sum: mark.sum,
                        prev: mark.d,
                        pending: Vec::new(),
                    })
                    .collect(),
                gtid: mark.gtid,
                proven: mark.proven,
                pending: BTreeSet::new(),
                last_cut: None,
                executed_since: GtidSet::mysql(),
                idle: layout.all().collect(),
            })
            .collect();
        Sequence {
            lineage: begin.lineage,
            reader_id: begin.reader_id,
            version: begin.version,
            commit_time: begin.commit_time,
            executed: begin.executed,
            source_time: 0,
            place: None,
            lost_tail: begin.lost_tail,
            feeds,
            pending_bytes: 0,
        }
    }

    /// The last version given.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Commit time of the last version.
    pub fn commit_time(&self) -> i64 {
        self.commit_time
    }

    /// Every transaction delivered.
    pub fn executed(&self) -> &GtidSet {
        &self.executed
    }

    /// Source time through which everything is delivered.
    pub fn source_time(&self) -> i64 {
        self.source_time
    }

    /// Whether the epoch began by losing transactions.
    pub fn lost_tail(&self) -> bool {
        self.lost_tail
    }

    /// Bytes of commits that no flush has taken yet.
    pub fn pending_bytes(&self) -> usize {
        self.pending_bytes
    }

    /// Whether any commit waits for a flush.
    pub fn has_pending(&self) -> bool {
        self.feeds.iter().any(|feed| !feed.pending.is_empty())
    }

    /// Digest and count of a feed at the last version.
    pub fn sum(&self, feed: usize) -> Sum {
        self.feeds[feed].sum
    }

    /// Last transaction of a feed.
    pub fn gtid(&self, feed: usize) -> Option<Gtid> {
        self.feeds[feed].gtid
    }

    /// A feed's buckets as they stand at the last version.
    pub fn mark(&self, feed: usize) -> FeedMark {
        let feed = &self.feeds[feed];
        FeedMark {
            buckets: feed
                .buckets
                .iter()
                .map(|b| BucketMark { d: b.d, sum: b.sum })
                .collect(),
            gtid: feed.gtid,
            proven: feed.proven,
        }
    }

    /// Takes a feed's content as a scan and the stream have made it: every bucket's sum at its `d`.
    /// Pending commits are forgotten, the content has them.
    pub fn settle(&mut self, feed: usize, sums: &[Sum]) {
        let feed = &mut self.feeds[feed];
        for (bucket, sum) in feed.buckets.iter_mut().zip(sums) {
            bucket.sum = *sum;
            bucket.prev = bucket.d;
            bucket.pending.clear();
        }
        feed.pending.clear();
        feed.sum = total_of(sums.iter().copied());
        self.pending_bytes = self
            .feeds
            .iter()
            .flat_map(|feed| feed.buckets.iter().flat_map(|bucket| &bucket.pending))
            .map(size)
            .sum();
    }

    /// Begins the next epoch with the content as it is. Nothing may be pending.
    pub fn begin_epoch(&mut self, epoch: Epoch, lost_tail: bool) {
        assert!(epoch > self.version.epoch(), "epochs only rise");
        assert!(
            !self.has_pending(),
            "what is pending belongs to the epoch before"
        );
        self.version = epoch.start();
        self.lost_tail = lost_tail;
        for feed in &mut self.feeds {
            feed.last_cut = None;
            feed.idle = feed.layout.all().collect();
            for bucket in &mut feed.buckets {
                bucket.d = epoch.start();
                bucket.prev = epoch.start();
            }
        }
    }

    /// A scan agreed with the content at the last version.
    pub fn prove(&mut self, feed: usize, at: i64) {
        self.feeds[feed].proven = Some(Proven {
            version: self.version,
            at,
        });
    }

    /// Everything before `source_time` is delivered. It never goes back, so a commit time is not to be taken for it as it
    /// is: a source whose clock is ahead would leave all later ones behind it, and content that is fresh would age.
    pub fn attest(&mut self, source_time: i64) {
        self.source_time = self.source_time.max(source_time);
    }

    /// Where the stream stands, for people.
    pub fn stands_at(&mut self, place: Option<&Place>) {
        if let Some(place) = place {
            self.place = Some(place.clone());
        }
    }

    /// Counts a transaction that is not one of ours as delivered.
    pub fn delivered(&mut self, gtid: &Gtid) {
        self.executed.insert(gtid);
        for feed in &mut self.feeds {
            feed.executed_since.insert(gtid);
        }
    }

    /// Takes one transaction: a version if it touches a feed, a commit for each bucket touched. Its commit time is
    /// passed on and decides nothing: see [`Sequence::attest`].
    pub fn transaction(&mut self, transaction: Transaction) -> Result<(), EpochFull> {
        self.delivered(&transaction.gtid);
        if transaction.changes.is_empty() {
            return Ok(());
        }
        let version = self.version.next().ok_or(EpochFull(self.version.epoch()))?;
        self.version = version;
        self.commit_time = transaction.commit_time;
        for (index, changes) in transaction.changes {
            let feed = &mut self.feeds[index];
            feed.gtid = Some(transaction.gtid);
            for change in changes {
                let bucket = feed.layout.of(&change.key);
                let slot = &mut feed.buckets[bucket.index()];
                if slot
                    .pending
                    .last()
                    .is_none_or(|last| last.version != version)
                {
                    if slot.pending.is_empty() {
                        slot.prev = slot.d;
                        feed.pending.insert(bucket);
                    }
                    slot.d = version;
                    slot.pending.push(Commit {
                        version,
                        commit_time: transaction.commit_time,
                        gtid: transaction.gtid,
                        events: Vec::new(),
                    });
                } else if planted(Bug::SiblingDropped) {
                    continue;
                }
                let step = delta(&change);
                slot.sum = add(slot.sum, &step);
                feed.sum = add(feed.sum, &step);
                let event = event(change);
                self.pending_bytes += event.size();
                if let Some(commit) = slot.pending.last_mut() {
                    commit.events.push(event);
                }
            }
        }
        Ok(())
    }

    /// What the next flush writes: for each feed with something to say, a record a touched bucket and a cut; with
    /// [`CutKind::Full`], progress for every idle bucket and a full cut of every feed.
    pub fn flush(&mut self, kind: CutKind) -> Vec<Flush> {
        let mut flushes = Vec::new();
        for index in 0..self.feeds.len() {
            let kind = if self.feeds[index].last_cut.is_none() {
                CutKind::Full
            } else {
                kind
            };
            if kind == CutKind::Full || !self.feeds[index].pending.is_empty() {
                flushes.push(self.flush_feed(index, kind));
            }
        }
        self.pending_bytes = 0;
        flushes
    }

    /// The flush that states a feed's whole content in a new epoch, or again in this one: `bodies` by bucket.
    /// Nothing may be pending.
    pub fn restate(&mut self, index: usize, bodies: Vec<(Bucket, Body)>) -> Flush {
        let mut records = Vec::with_capacity(bodies.len());
        for (bucket, body) in bodies {
            records.push((bucket, self.record(index, bucket, body)));
            self.feeds[index].idle.remove(&bucket);
        }
        let mut flush = self.flush_feed(index, CutKind::Full);
        records.append(&mut flush.records);
        Flush { records, ..flush }
    }

    fn flush_feed(&mut self, index: usize, kind: CutKind) -> Flush {
        let touched: Vec<Bucket> = std::mem::take(&mut self.feeds[index].pending)
            .into_iter()
            .collect();
        let mut records = Vec::with_capacity(touched.len());
        for &bucket in &touched {
            let feed = &mut self.feeds[index];
            let slot = &mut feed.buckets[bucket.index()];
            let body = Body::Commits {
                prev: slot.prev,
                commits: std::mem::take(&mut slot.pending),
            };
            feed.idle.remove(&bucket);
            records.push((bucket, self.record(index, bucket, body)));
        }
        let whole = kind == CutKind::Full;
        if whole {
            for bucket in std::mem::take(&mut self.feeds[index].idle) {
                let prev = self.feeds[index].buckets[bucket.index()].d;
                let body = Body::Commits {
                    prev,
                    commits: Vec::new(),
                };
                records.push((bucket, self.record(index, bucket, body)));
            }
        }
        let feed = &mut self.feeds[index];
        let named: Vec<Bucket> = if whole {
            feed.layout.all().collect()
        } else {
            touched
        };
        let executed_since = std::mem::replace(&mut feed.executed_since, GtidSet::mysql());
        let forgotten = planted(Bug::CutRecordsForgotten);
        let cut = CutRecord {
            lineage: self.lineage,
            prev_cut: feed.last_cut.unwrap_or(self.version),
            version: self.version,
            commit_time: self.commit_time,
            source_time: self.source_time,
            gtid: feed.gtid,
            executed: if whole {
                self.executed.clone()
            } else {
                executed_since
            },
            position: (self.place.as_ref()).map_or_else(String::new, Place::to_string),
            digest: feed.sum.digest,
            count: feed.sum.count,
            touched: named
                .into_iter()
                .filter(|_| whole || !forgotten)
                .map(|bucket| (bucket, feed.buckets[bucket.index()].d))
                .collect(),
            full: whole,
            proven: feed.proven,
            lost_tail: self.lost_tail,
        };
        feed.last_cut = Some(self.version);
        if whole {
            feed.idle = feed.layout.all().collect();
        }
        Flush {
            feed: Arc::clone(&feed.name),
            records,
            cut,
        }
    }

    fn record(&self, feed: usize, bucket: Bucket, body: Body) -> Record {
        let slot = &self.feeds[feed].buckets[bucket.index()];
        Record {
            lineage: self.lineage,
            epoch: self.version.epoch(),
            body,
            through: self.version,
            digest: slot.sum.digest,
            count: slot.sum.count,
            source_time: self.source_time,
            reader_id: self.reader_id,
            part: 0,
            parts: 1,
        }
    }
}

/// Digest to take and to add, rows to take and to add.
struct Delta {
    minus: Digest,
    plus: Digest,
    gone: u64,
    come: u64,
}

fn delta(change: &KeyChange) -> Delta {
    let digest = |row: &Option<Row>| {
        row.as_ref()
            .map_or(Digest::EMPTY, |row| Digest::of(&change.key, row))
    };
    Delta {
        minus: digest(&change.before),
        plus: digest(&change.after),
        gone: u64::from(change.before.is_some()),
        come: u64::from(change.after.is_some()),
    }
}

/// While an epoch opens, sums stand for changes only and may pass below zero: they wrap, and are settled later.
fn add(sum: Sum, delta: &Delta) -> Sum {
    Sum {
        digest: sum.digest.minus(delta.minus).plus(delta.plus),
        count: sum.count.wrapping_add(delta.come).wrapping_sub(delta.gone),
    }
}

fn event(change: KeyChange) -> Event {
    let KeyChange { key, before, after } = change;
    match (before, after) {
        (None, Some(row)) => Event::On { key, row },
        (Some(_), Some(row)) => Event::Change { key, row },
        (_, None) => Event::Off { key },
    }
}

fn size(commit: &Commit) -> usize {
    commit.events.iter().map(Event::size).sum()
}

fn total(marks: &[BucketMark]) -> Sum {
    total_of(marks.iter().map(|mark| mark.sum))
}

/// Digest and count over buckets.
pub fn total_of(sums: impl Iterator<Item = Sum>) -> Sum {
    sums.fold(
        Sum {
            digest: Digest::EMPTY,
            count: 0,
        },
        |total, sum| Sum {
            digest: total.digest.plus(sum.digest),
            count: total.count + sum.count,
        },
    )
}

/// Digest and count of each bucket of a whole content.
pub fn sums_of<'a>(layout: Buckets, rows: impl Iterator<Item = (&'a Key, &'a Row)>) -> Vec<Sum> {
    let mut sums = vec![
        Sum {
            digest: Digest::EMPTY,
            count: 0
        };
        layout.count()
    ];
    for (key, row) in rows {
        let sum = &mut sums[layout.of(key).index()];
        sum.digest = sum.digest.plus(Digest::of(key, row));
        sum.count += 1;
    }
    sums
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU16;

    use onair_model::{Body, Key, Row};

    use super::*;

    /// An hour ahead, behind, a year ahead and back, and nonsense.
    const TIMES: [i64; 6] = [
        1_790_000_000_000_000,
        1_789_996_400_000_000,
        1_821_536_000_000_000,
        1_790_000_000_000_001,
        i64::MAX,
        0,
    ];

    #[test]
    fn versions_are_an_order_whatever_the_sources_clock_says() {
        let layout = Buckets::new(NonZeroU16::MIN);
        let start: Version = "1-0".parse().expect("a version");
        let empty = BucketMark {
            d: start,
            sum: Sum {
                digest: Digest::EMPTY,
                count: 0,
            },
        };
        let mark = FeedMark {
            buckets: vec![empty],
            gtid: None,
            proven: None,
        };
        let mut sequence = Sequence::new(Begin {
            lineage: Lineage::new(1),
            reader_id: 1,
            version: start,
            commit_time: 0,
            executed: GtidSet::mysql(),
            lost_tail: false,
            feeds: vec![("room".into(), layout, mark)],
        });
        for (number, commit_time) in (1..).zip(TIMES) {
            let gtid = format!("3e11fa47-71ca-11e1-9e33-c80aa9429562:{number}");
            let on = KeyChange {
                key: Key::from_u64(number),
                before: None,
                after: Some(Row::new(vec![8, 1].into())),
            };
            let transaction = Transaction {
                gtid: gtid.parse().expect("a GTID"),
                commit_time,
                fingerprint: 0,
                changes: vec![(0, vec![on])],
            };
            sequence
                .transaction(transaction)
                .expect("room for a version");
            let flushes = sequence.flush(CutKind::Partial);
            let [(_, record)] = &flushes[0].records[..] else {
                panic!("one record of the only bucket: {flushes:?}");
            };
            let Body::Commits { commits, .. } = &record.body else {
                panic!("a commit: {record:?}");
            };
            assert_eq!(commits[0].version.sequence(), number);
            assert_eq!(commits[0].commit_time, commit_time, "passed on as it is");
            let cut = &flushes[0].cut;
            assert_eq!((cut.version.sequence(), cut.count), (number, number));
            assert_eq!(cut.source_time, 0, "only what is attested");
        }
    }
}
