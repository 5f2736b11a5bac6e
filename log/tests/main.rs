//! The log's tests, in one binary.

#![expect(
    clippy::unwrap_used,
    reason = "tests: a failure is a panic with its place"
)]

mod contracts;
#[cfg(feature = "kafka")]
mod kafka;
mod room;
mod tail;
mod texts;

use std::num::NonZeroU16;
use std::sync::Arc;

use onair_log::{Flush, Layout};
use onair_model::{
    Body, Bucket, Buckets, Commit, CutRecord, Digest, Epoch, Event, Key, Lineage, Record, Row,
    Version,
};

const BUCKETS: u16 = 3;

fn layout(feed: &str) -> Layout {
    Layout {
        feed: feed.into(),
        buckets: Buckets::new(NonZeroU16::new(BUCKETS).unwrap()),
    }
}

fn version(sequence: u64) -> Version {
    Version::new(Epoch::new(1).unwrap(), sequence).unwrap()
}

/// A cut whose digest and count follow from its version; each moves bucket `sequence % BUCKETS`.
fn cut(sequence: u64, full: bool) -> CutRecord {
    let touched = |bucket: u16| {
        let behind = (sequence + u64::from(BUCKETS) - u64::from(bucket)) % u64::from(BUCKETS);
        (
            Bucket::new(bucket),
            version(sequence.saturating_sub(behind)),
        )
    };
    let moved = (sequence % u64::from(BUCKETS)) as u16;
    let buckets = if full { 0..BUCKETS } else { moved..moved + 1 };
    CutRecord {
        lineage: Lineage::new(1),
        prev_cut: version(sequence.saturating_sub(1)),
        version: version(sequence),
        commit_time: 0,
        source_time: 0,
        gtid: None,
        executed: {
            let from = if full { 1 } else { sequence };
            let set = format!("3e11fa47-71ca-11e1-9e33-c80aa9429562:{from}-{sequence}");
            set.parse().unwrap()
        },
        position: String::new(),
        digest: Digest::new(u128::from(sequence) << 70),
        count: sequence * 3,
        touched: buckets.map(touched).collect(),
        full,
        proven: None,
        lost_tail: false,
    }
}

/// One record with a row of `len` bytes in bucket `bucket`, and a cut.
fn flush(feed: &str, bucket: u16, sequence: u64, len: usize) -> Flush {
    let record = Record {
        lineage: Lineage::new(1),
        epoch: Epoch::new(1).unwrap(),
        body: Body::Commits {
            prev: version(sequence - 1),
            commits: vec![Commit {
                version: version(sequence),
                commit_time: 0,
                gtid: format!("0-1-{sequence}").parse().unwrap(),
                events: vec![Event::On {
                    key: Key::from_u64(sequence),
                    row: Row::new(vec![0; len].into()),
                }],
            }],
        },
        through: version(sequence),
        digest: Digest::EMPTY,
        count: 0,
        source_time: 0,
        reader_id: 1,
        part: 0,
        parts: 1,
    };
    Flush {
        feed: Arc::from(feed),
        records: vec![(Bucket::new(bucket), record)],
        cut: cut(sequence, sequence % 5 == 1),
    }
}
