//! A case of the past: segments, lines and heads as a merger leaves them, over three days.

use super::*;
use crate::head::{CutsHead, SegmentRef};
use crate::index::{Entry, Superseded};
use crate::past::{self, Moment, Past, PastError};
use onair_model::CutRecord;

const B0: Bucket = Bucket::new(0);
const HOUR: i64 = 3_600_000_000;
const HOURS: u64 = 72;
/// Every so many hours the base is written anew.
const REBASE: u64 = 6;

pub(super) async fn the_past_is_read_by_version_and_by_time(store: &dyn ShardStore) {
    let feed = name("f");
    let read = async |moment| {
        let mut past = Past::open(store, &feed, moment).await?;
        past.find(store, [B0]).await?;
        Ok(past)
    };
    assert!(matches!(
        read(Moment::Time(5)).await,
        Err(PastError::Nothing { .. })
    ));
    write(store).await;
    for hour in 0..=HOURS {
        let version = version(hour);
        let held = past::bucket_at(store, &feed, B0, version).await.unwrap();
        assert_eq!((held.d, held.sum), (version, sum(hour)));
        assert_eq!(held.rows.get(&Key::from_u64(0)), Some(&row(hour)));
        for late in [0, HOUR / 2, HOUR - 1] {
            let past = read(Moment::Time(time(hour) + late)).await.unwrap();
            assert_eq!(past.version(), version, "{late} after hour {hour}");
            past.check(past.bucket(store, B0).await.unwrap().sum)
                .unwrap();
        }
    }
    let TooOld(version_of_oldest) = refused(read(Moment::Time(time(0) - 1)).await) else {
        panic!("older than everything");
    };
    assert_eq!(version_of_oldest, version(0));
    let Ahead(newest) = refused(read(Moment::Version(version(HOURS + 1))).await) else {
        panic!("newer than everything");
    };
    assert_eq!(newest, version(HOURS));
    let earlier = Moment::Version(Epoch::new(1).unwrap().last());
    assert!(matches!(refused(read(earlier).await), TooOld(_)));
}

/// What a refusal says.
enum Refused {
    TooOld(Version),
    Ahead(Version),
}
use Refused::{Ahead, TooOld};

fn refused(opened: Result<Past, PastError>) -> Refused {
    match opened.unwrap_err() {
        PastError::TooOld { version, .. } => TooOld(version),
        PastError::Ahead { newest, .. } => Ahead(newest),
        error => panic!("{error}"),
    }
}

/// Of the second epoch: the first one is not kept.
fn version(hour: u64) -> Version {
    Version::new(Epoch::new(2).unwrap(), hour).unwrap()
}

const fn time(hour: u64) -> i64 {
    1_000 * HOUR + hour as i64 * HOUR
}

fn row(hour: u64) -> Row {
    Row::new(Bytes::copy_from_slice(&hour.to_be_bytes()))
}

/// One row all the time, another one each hour.
fn rows(hour: u64) -> Rows<Row> {
    let mut rows = Rows::new();
    rows.insert(Key::from_u64(0), row(hour));
    rows
}

fn sum(hour: u64) -> Sum {
    fold::sum_of(rows(hour).iter().map(|(key, row)| Digest::of(key, row)))
}

async fn write(store: &dyn ShardStore) {
    let enter = async |at: i64, entry: Entry| {
        let line = HistoryLine {
            at,
            id: random_id(),
            value: entry.to_bytes(),
        };
        store.write_history("f", line).await.unwrap();
    };
    let base = async |hour| {
        let rows = rows(hour);
        let written = head::write_base(store, "f", version(hour), sum(hour), rows.iter()).await;
        written.unwrap()
    };
    let mut now: (SegmentRef, Vec<SegmentRef>) = (base(0).await, Vec::new());
    for hour in 0..=HOURS {
        if hour > 0 {
            let commit = Commit {
                version: version(hour),
                commit_time: time(hour),
                gtid: "0-1-7".parse().unwrap(),
                events: vec![Event::Change {
                    key: Key::from_u64(0),
                    row: row(hour),
                }],
            };
            let prev = version(hour - 1);
            let delta = head::write_delta(store, "f", prev, sum(hour), &[commit]).await;
            now.1.push(delta.unwrap().unwrap());
        }
        if hour > 0 && hour % REBASE == 0 {
            let (old, deltas) = std::mem::replace(&mut now, (base(hour).await, Vec::new()));
            let gone = Superseded {
                bucket: B0,
                bases: vec![old],
                deltas,
            };
            enter(time(hour) + 1, Entry::Superseded(gone)).await;
        }
        // As of another bucket, of which nothing is asked.
        for minute in 1..4 {
            let other = Superseded {
                bucket: Bucket::new(1),
                bases: vec![now.0],
                deltas: Vec::new(),
            };
            enter(time(hour) + minute, Entry::Superseded(other)).await;
        }
        enter(time(hour) + 10, Entry::Cut(cut(hour))).await;
    }
    let (base, deltas) = now;
    let state = BucketState {
        epoch: version(HOURS).epoch(),
        d: version(HOURS),
        through: version(HOURS),
        digest: sum(HOURS).digest,
        count: 1,
        claimed: version(HOURS),
    };
    let head = Head {
        lineage: Lineage::new(1),
        state,
        gtid: None,
        commit_time: time(HOURS),
        source_time: time(HOURS),
        base,
        deltas,
        log: "log".to_owned(),
        next_offset: 0,
        old: None,
    };
    let cuts = CutsHead {
        cut: cut(HOURS),
        log: "log".to_owned(),
        next_offset: 0,
    };
    for (key, value) in [
        (CellKey::Head(name("f"), B0), head.to_bytes()),
        (CellKey::CutsHead(name("f")), cuts.to_bytes()),
    ] {
        let moved = move_cell(store, &key, None, value).await.unwrap();
        assert!(matches!(moved, Moved::Won(_)));
    }
}

fn cut(hour: u64) -> CutRecord {
    CutRecord {
        lineage: Lineage::new(1),
        prev_cut: version(hour),
        version: version(hour),
        commit_time: time(hour),
        source_time: time(hour),
        gtid: None,
        executed: GtidSet::mysql(),
        position: String::new(),
        digest: sum(hour).digest,
        count: 1,
        touched: vec![(B0, version(hour))],
        full: true,
        proven: None,
        lost_tail: false,
    }
}
