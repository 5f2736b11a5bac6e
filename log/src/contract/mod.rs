//! What every [`EventLog`] must do, as tests that any implementation calls.
//!
//! [`exact`] asks a log that answers. [`resolved`] asks through errors and unknown outcomes, resolved as documented
//! (append again, follow again), so it passes under [`crate::faulty`] too; what must hold is that everything
//! acknowledged is there, first in its order, repeats or not. `make` gives a log at each call; feeds get names of
//! their own, so it may be the same one each time.

#![expect(
    clippy::unwrap_used,
    reason = "a test suite: a failure is a panic with its place"
)]

mod exact;
mod resolved;

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;

use onair_model::cut::{Taken, admit};
use onair_model::{
    Body, Bucket, Buckets, Commit, CutRecord, Digest, Epoch, Event, GtidSet, Key, Lineage, Proven,
    Record, Row, Version,
};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::task::JoinSet;

use crate::{Ends, Entry, EventLog, Flush, Layout, LogError, Offset, Partition, Payload};

type Log = Arc<dyn EventLog>;

const BUCKETS: u16 = 3;
const LINEAGE: Lineage = Lineage::new(77);

/// Every case, on a log that answers.
pub async fn exact(make: impl AsyncFn() -> Log) {
    exact::a_feed_is_opened_once(&*make().await).await;
    exact::entries_come_back_as_they_were_written(&*make().await).await;
    exact::followers_see_their_partitions_from_their_offsets(&*make().await).await;
    exact::a_waiting_follower_is_woken_and_may_be_cancelled(&*make().await).await;
    exact::places_that_never_were_are_out_of_range(&*make().await).await;
    exact::appends_begun_in_order_stay_in_order(make().await).await;
    exact::what_is_not_released_stays(&*make().await).await;
    exact::who_is_alone_has_all_of_the_work(&*make().await).await;
    resolved(make).await;
}

/// Every case that holds through errors and unknown outcomes too.
pub async fn resolved(make: impl AsyncFn() -> Log) {
    for seed in 0..4 {
        resolved::everything_acknowledged_is_there_in_order(make().await, seed).await;
        resolved::the_last_cuts_add_up_to_all_of_them(&*make().await, seed).await;
    }
}

fn layout() -> Layout {
    Layout {
        feed: format!("contract-{:016x}", rand::random::<u64>()).into(),
        buckets: Buckets::new(NonZeroU16::new(BUCKETS).unwrap()),
    }
}

fn partitions() -> Vec<Partition> {
    let buckets = (0..BUCKETS).map(|bucket| Partition::Bucket(Bucket::new(bucket)));
    buckets.chain([Partition::Cuts]).collect()
}

fn version(epoch: u32, sequence: u64) -> Version {
    Version::new(Epoch::new(epoch).unwrap(), sequence).unwrap()
}

/// A cut of epoch 1 that touched nothing.
fn cut(prev: u64, sequence: u64) -> CutRecord {
    CutRecord {
        lineage: LINEAGE,
        prev_cut: version(1, prev),
        version: version(1, sequence),
        commit_time: sequence as i64,
        source_time: sequence as i64 + 1,
        gtid: Some(format!("0-1-{}", sequence + 1).parse().unwrap()),
        executed: format!("0-1-{}", sequence + 1).parse().unwrap(),
        position: format!("binlog.000001:{sequence}"),
        digest: Digest::new(u128::from(sequence) << 80 | 5),
        count: sequence,
        touched: Vec::new(),
        full: false,
        proven: None,
        lost_tail: false,
    }
}

/// A record of one commit with a row of `len` bytes; `reader_id` and version tell it from all others.
fn record(reader_id: u64, sequence: u64, len: usize) -> Record {
    let key = Key::from_u64(sequence);
    let row = Row::new(vec![sequence as u8; len].into());
    Record {
        lineage: LINEAGE,
        epoch: Epoch::new(1).unwrap(),
        body: Body::Commits {
            prev: version(1, sequence - 1),
            commits: vec![Commit {
                version: version(1, sequence),
                commit_time: -5,
                gtid: format!("0-1-{sequence}").parse().unwrap(),
                events: vec![Event::On { key, row }],
            }],
        },
        through: version(1, sequence),
        digest: Digest::new(u128::from(sequence)),
        count: sequence,
        source_time: 9,
        reader_id,
        part: 0,
        parts: 1,
    }
}

fn flush(layout: &Layout, records: Vec<(u16, Record)>, cut: CutRecord) -> Flush {
    let records = records.into_iter();
    Flush {
        feed: Arc::clone(&layout.feed),
        records: records
            .map(|(bucket, record)| (Bucket::new(bucket), record))
            .collect(),
        cut,
    }
}

/// A flush of one record in bucket `sequence % BUCKETS`.
fn small(layout: &Layout, reader_id: u64, sequence: u64) -> Flush {
    let bucket = (sequence % u64::from(BUCKETS)) as u16;
    let records = vec![(bucket, record(reader_id, sequence, 10))];
    flush(layout, records, cut(sequence - 1, sequence))
}

/// Follows from these offsets until `count` entries are there.
async fn read(
    log: &dyn EventLog,
    layout: &Layout,
    from: &[(Partition, Offset)],
    count: usize,
) -> Vec<Entry> {
    let mut follower = log.follow(&layout.feed, from).await.unwrap();
    let mut entries = Vec::new();
    while entries.len() < count {
        let more = follower.next().await.unwrap();
        assert!(!more.is_empty());
        entries.extend(more);
    }
    assert_eq!(entries.len(), count);
    entries
}

async fn lows(log: &dyn EventLog, layout: &Layout) -> Vec<(Partition, Offset)> {
    let ends = log.ends(&layout.feed).await.unwrap();
    let listed: Vec<_> = ends.iter().map(|(partition, _)| *partition).collect();
    assert_eq!(listed, partitions());
    ends.into_iter()
        .map(|(partition, ends)| (partition, ends.low))
        .collect()
}

/// Partition and version of an entry, and that its place ascends.
#[derive(Default)]
struct Sorted {
    last: BTreeMap<Partition, Offset>,
    versions: BTreeMap<Partition, Vec<u64>>,
}

impl Sorted {
    fn take(&mut self, entries: &[Entry]) {
        for entry in entries {
            let before = self.last.insert(entry.partition, entry.offset);
            assert!(before.is_none_or(|before| before < entry.offset));
            let version = match &entry.payload {
                Payload::Record(record) => record.claims(),
                Payload::Cut(cut) => cut.version,
                Payload::Garbage(reason) => panic!("{reason}"),
            };
            let versions = self.versions.entry(entry.partition).or_default();
            versions.push(version.sequence());
        }
    }

    fn of(&self, partition: Partition) -> &[u64] {
        self.versions.get(&partition).map_or(&[], Vec::as_slice)
    }
}
