//! A long history is not read from its beginning; what is damaged is not shown.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use onair_model::fold::sum_of;
use onair_model::{
    Bucket, BucketState, Commit, CutRecord, Digest, Epoch, Event, GtidSet, Key, Lineage, Row, Rows,
    Sum, Version,
};
use onair_store::cells::{Moved, move_cell, random_id};
use onair_store::head::{self, Head};
use onair_store::index::Entry;
use onair_store::past::{self, Moment, Past, PastError};
use onair_store::redb::RedbStore;
use onair_store::watched::{Answer, Call, Watch, Watched};
use onair_store::{CellKey, HistoryLine, ShardStore};
use tempfile::TempDir;

/// Counts the lines that are read.
#[derive(Debug, Default)]
struct Lines(AtomicUsize);

#[async_trait]
impl Watch for Lines {
    async fn after(&self, _: Call<'_>, answer: Answer<'_>) {
        if let Answer::Lines(lines) = answer {
            self.0.fetch_add(lines, Ordering::Relaxed);
        }
    }
}

const EVERY: i64 = 10_000_000;
const CUTS: u64 = 6_000;

fn cut(number: u64) -> CutRecord {
    let time = 1_700_000_000_000_000 + number as i64 * EVERY;
    CutRecord {
        lineage: Lineage::new(1),
        prev_cut: Version::ZERO,
        version: Version::new(Epoch::new(1).unwrap(), number).unwrap(),
        commit_time: time,
        source_time: time,
        gtid: None,
        executed: GtidSet::mysql(),
        position: String::new(),
        digest: Digest::EMPTY,
        count: 0,
        touched: Vec::new(),
        full: true,
        proven: None,
        lost_tail: false,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_is_found_without_reading_the_index_from_its_beginning() {
    let dir = TempDir::new().unwrap();
    let store = Arc::new(RedbStore::open(dir.path().join("store.redb")).unwrap());
    let store = Arc::new(Watched::new(store, Lines::default()));
    let mut writes = tokio::task::JoinSet::new();
    for part in 0..16 {
        let store = Arc::clone(&store);
        writes.spawn(async move {
            for number in (part..CUTS).step_by(16) {
                let cut = cut(number);
                let line = HistoryLine {
                    // A merger enters a cut a while after it was made.
                    at: cut.commit_time + 3_000_000,
                    id: random_id(),
                    value: Entry::Cut(cut).to_bytes(),
                };
                store.write_history("f", line).await.unwrap();
            }
        });
    }
    while let Some(done) = writes.join_next().await {
        done.unwrap();
    }
    let feed: Arc<str> = "f".into();
    let mut most = 0;
    for number in [0, 1, 7, 1_234, 4_999, CUTS - 2, CUTS - 1] {
        let exact = cut(number);
        for moment in [
            Moment::Version(exact.version),
            Moment::Time(exact.commit_time),
            Moment::Time(exact.commit_time + EVERY - 1),
        ] {
            store.watch.0.store(0, Ordering::Relaxed);
            let past = Past::open(&*store, &feed, moment).await.unwrap();
            assert_eq!(past.version(), exact.version, "{moment}");
            assert_eq!(past.stated(), Some(&exact));
            most = most.max(store.watch.0.load(Ordering::Relaxed));
        }
    }
    println!("{most} of {CUTS} lines at most");
    assert!(most < 1_000, "{most}");
}

/// Rows of the bucket that is read.
fn rows(value: &'static str) -> Rows<Row> {
    let mut rows = Rows::new();
    rows.insert(
        Key::from_u64(1),
        Row::new(Bytes::from_static(value.as_bytes())),
    );
    rows
}

fn sum(rows: &Rows<Row>) -> Sum {
    sum_of(rows.iter().map(|(key, row)| Digest::of(key, row)))
}

#[tokio::test]
async fn what_does_not_give_its_digest_is_refused() {
    let dir = TempDir::new().unwrap();
    let store = RedbStore::open(dir.path().join("store.redb")).unwrap();
    let feed: Arc<str> = "f".into();
    let (bucket, version) = (Bucket::new(0), |sequence| cut(sequence).version);
    let (before, after) = (rows("a"), rows("b"));
    let commit = Commit {
        version: version(2),
        commit_time: 0,
        gtid: "0-1-2".parse().unwrap(),
        events: vec![Event::Change {
            key: Key::from_u64(1),
            row: Row::new(Bytes::from_static(b"b")),
        }],
    };
    // What is said of base and delta, and whether the first and the second version can be read.
    let cases = [
        (sum(&before), sum(&after), [true, true]),
        (sum(&after), sum(&after), [false, false]),
        // The base alone is sound.
        (sum(&before), sum(&before), [true, false]),
    ];
    for (of_base, of_delta, readable) in cases {
        let base = head::write_base(&store, "f", version(1), of_base, before.iter()).await;
        let commits = std::slice::from_ref(&commit);
        let delta = head::write_delta(&store, "f", version(1), of_delta, commits).await;
        let head = Head {
            lineage: Lineage::new(1),
            state: BucketState {
                epoch: version(2).epoch(),
                d: version(2),
                through: version(2),
                digest: of_delta.digest,
                count: of_delta.count,
                claimed: version(2),
            },
            gtid: None,
            commit_time: 0,
            source_time: 0,
            base: base.unwrap(),
            deltas: delta.unwrap().into_iter().collect(),
            log: String::new(),
            next_offset: 0,
            old: None,
        };
        let key = CellKey::Head(Arc::clone(&feed), bucket);
        let expect = store.cell(&key).await.unwrap().map(|cell| cell.token);
        let moved = move_cell(&store, &key, expect, head.to_bytes()).await;
        assert!(matches!(moved, Ok(Moved::Won(_))));
        for (at, readable) in [version(1), version(2)].into_iter().zip(readable) {
            match past::bucket_at(&store, &feed, bucket, at).await {
                Ok(held) => assert!(readable && held.d == at, "{at}"),
                Err(PastError::Digest { .. }) => assert!(!readable, "{at}"),
                Err(error) => panic!("{at}: {error:?}"),
            }
        }
    }
}
