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
    a_feed_is_opened_once(&*make().await).await;
    entries_come_back_as_they_were_written(&*make().await).await;
    followers_see_their_partitions_from_their_offsets(&*make().await).await;
    a_waiting_follower_is_woken_and_may_be_cancelled(&*make().await).await;
    places_that_never_were_are_out_of_range(&*make().await).await;
    appends_begun_in_order_stay_in_order(make().await).await;
    what_is_not_released_stays(&*make().await).await;
    resolved(make).await;
}

/// Every case that holds through errors and unknown outcomes too.
pub async fn resolved(make: impl AsyncFn() -> Log) {
    for seed in 0..4 {
        everything_acknowledged_is_there_in_order(make().await, seed).await;
        the_last_cuts_add_up_to_all_of_them(&*make().await, seed).await;
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

async fn a_feed_is_opened_once(log: &dyn EventLog) {
    let layout = layout();
    let not_open = |done: Result<(), LogError>| {
        assert!(matches!(done, Err(LogError::NotOpen { .. })), "{done:?}");
    };
    not_open(log.append(small(&layout, 1, 1)).await);
    not_open(log.ends(&layout.feed).await.map(drop));
    not_open(log.follow(&layout.feed, &[]).await.map(drop));
    not_open(log.last_cuts(&layout.feed).await.map(drop));
    log.release(&layout.feed, Partition::Cuts, Offset(3));
    let id = log.open(&layout).await.unwrap();
    assert_eq!(log.open(&layout).await.unwrap(), id);
    let other = Layout {
        buckets: Buckets::new(NonZeroU16::new(BUCKETS + 1).unwrap()),
        ..layout.clone()
    };
    let opened = log.open(&other).await;
    assert!(
        matches!(opened, Err(LogError::Mismatch { .. })),
        "{opened:?}"
    );
    for (_, Ends { low, high }) in log.ends(&layout.feed).await.unwrap() {
        assert_eq!(low, high);
    }
    assert_eq!(log.last_cuts(&layout.feed).await.unwrap(), []);
    let nowhere = small(&layout, 1, 1);
    let nowhere = Flush {
        records: vec![(Bucket::new(BUCKETS), nowhere.records[0].1.clone())],
        ..nowhere
    };
    assert!(matches!(
        log.append(nowhere).await,
        Err(LogError::Refused { .. })
    ));
    for (_, Ends { low, high }) in log.ends(&layout.feed).await.unwrap() {
        assert_eq!(low, high, "nothing of a refused flush is there");
    }
}

async fn entries_come_back_as_they_were_written(log: &dyn EventLog) {
    let layout = layout();
    log.open(&layout).await.unwrap();
    let whole = |body, part, parts| Record {
        body,
        part,
        parts,
        through: version(1, 900),
        ..record(u64::MAX, 7, 10)
    };
    let rows = vec![
        (Key::from_u64(1), Row::new(vec![7; 300_000].into())),
        (Key::copy_from(b"text"), Row::new(vec![].into())),
    ];
    let d = version(1, 6);
    let replace = |part| {
        whole(
            Body::Replace {
                d,
                rows: rows.clone(),
            },
            part,
            2,
        )
    };
    let progress = whole(
        Body::Commits {
            prev: d,
            commits: Vec::new(),
        },
        0,
        1,
    );
    let carry = whole(Body::Carry { old: version(0, 3) }, 0, 1);
    let many = CutRecord {
        executed: "3e11fa47-71ca-11e1-9e33-c80aa9429562:1-39:41:tag1:1-2"
            .parse()
            .unwrap(),
        gtid: None,
        touched: (0..BUCKETS)
            .map(|bucket| (Bucket::new(bucket), d))
            .collect(),
        full: true,
        proven: Some(Proven { version: d, at: -1 }),
        lost_tail: true,
        ..cut(1, 900)
    };
    let records = vec![(0, replace(0)), (0, replace(1)), (2, progress), (1, carry)];
    let written = flush(&layout, records, many);
    let from = lows(log, &layout).await;
    log.append(written.clone()).await.unwrap();
    let entries = read(log, &layout, &from, 5).await;
    Sorted::default().take(&entries);
    for partition in partitions() {
        let found: Vec<_> = entries
            .iter()
            .filter(|entry| entry.partition == partition)
            .collect();
        match partition {
            Partition::Cuts => {
                let [
                    Entry {
                        payload: Payload::Cut(cut),
                        ..
                    },
                ] = found[..]
                else {
                    panic!("{found:?}");
                };
                assert_eq!(*cut, written.cut);
            }
            Partition::Bucket(bucket) => {
                let written = written.records.iter().filter(|(of, _)| *of == bucket);
                let written: Vec<_> = written.map(|(_, record)| record).collect();
                let found: Vec<_> = found
                    .iter()
                    .map(|entry| match &entry.payload {
                        Payload::Record(record) => record,
                        other => panic!("{other:?}"),
                    })
                    .collect();
                assert_eq!(found, written);
            }
        }
    }
}

async fn followers_see_their_partitions_from_their_offsets(log: &dyn EventLog) {
    let layout = layout();
    log.open(&layout).await.unwrap();
    let from = lows(log, &layout).await;
    for sequence in 1..=30 {
        log.append(small(&layout, 1, sequence)).await.unwrap();
    }
    let mut all = Sorted::default();
    let entries = read(log, &layout, &from, 60).await;
    all.take(&entries);
    assert_eq!(all.of(Partition::Cuts), (1..=30).collect::<Vec<_>>());
    for bucket in 0..BUCKETS {
        let of: Vec<u64> = (1..=30)
            .filter(|n| n % u64::from(BUCKETS) == u64::from(bucket))
            .collect();
        assert_eq!(all.of(Partition::Bucket(Bucket::new(bucket))), of);
    }
    for (partition, Ends { high, .. }) in log.ends(&layout.feed).await.unwrap() {
        assert!(all.last[&partition] < high);
    }
    // One partition from the middle of it, and from each offset that an entry has.
    let one = Partition::Bucket(Bucket::new(1));
    let mine: Vec<_> = entries
        .iter()
        .filter(|entry| entry.partition == one)
        .collect();
    for (at, entry) in mine.iter().enumerate() {
        let rest = read(log, &layout, &[(one, entry.offset)], mine.len() - at).await;
        assert!(rest.iter().all(|found| found.partition == one));
        assert_eq!(rest[0].offset, entry.offset);
    }
    // From the ends nothing comes but what is new.
    let ends = log.ends(&layout.feed).await.unwrap();
    let ends: Vec<_> = ends.iter().map(|(p, ends)| (*p, ends.high)).collect();
    log.append(small(&layout, 1, 31)).await.unwrap();
    let mut fresh = Sorted::default();
    fresh.take(&read(log, &layout, &ends, 2).await);
    assert_eq!(fresh.of(one), [31]);
    assert_eq!(fresh.of(Partition::Cuts), [31]);
}

async fn a_waiting_follower_is_woken_and_may_be_cancelled(log: &dyn EventLog) {
    let layout = layout();
    log.open(&layout).await.unwrap();
    let from = lows(log, &layout).await;
    let mut follower = log.follow(&layout.feed, &from).await.unwrap();
    let mut seen = Sorted::default();
    let count = |seen: &Sorted| seen.versions.values().flatten().count();
    for sequence in 1..=20 {
        // Given up while it waits: nothing is lost.
        let given_up = tokio::select! {
            biased;
            more = follower.next() => panic!("{more:?}"),
            () = tokio::task::yield_now() => log.append(small(&layout, 1, 2 * sequence - 1)),
        };
        given_up.await.unwrap();
        // Waiting while the next is appended: woken.
        while count(&seen) < 4 * sequence as usize - 2 {
            seen.take(&follower.next().await.unwrap());
        }
        let (more, appended) = tokio::join!(
            biased;
            follower.next(),
            log.append(small(&layout, 1, 2 * sequence))
        );
        appended.unwrap();
        seen.take(&more.unwrap());
        while count(&seen) < 4 * sequence as usize {
            seen.take(&follower.next().await.unwrap());
        }
    }
    assert_eq!(seen.of(Partition::Cuts), (1..=40).collect::<Vec<_>>());
}

async fn places_that_never_were_are_out_of_range(log: &dyn EventLog) {
    let layout = layout();
    log.open(&layout).await.unwrap();
    log.append(small(&layout, 1, 1)).await.unwrap();
    let ends = log.ends(&layout.feed).await.unwrap();
    for (partition, Ends { high, .. }) in ends {
        let beyond = Offset(high.0 + 1);
        let error = match log.follow(&layout.feed, &[(partition, beyond)]).await {
            Ok(mut follower) => follower.next().await.unwrap_err(),
            Err(error) => error,
        };
        let LogError::OutOfRange {
            asked,
            partition: of,
            ..
        } = error
        else {
            panic!("{error}");
        };
        assert_eq!((asked, of), (beyond, partition));
    }
}

async fn appends_begun_in_order_stay_in_order(log: Log) {
    let layout = layout();
    log.open(&layout).await.unwrap();
    let from = lows(&*log, &layout).await;
    let mut begun = Vec::new();
    for sequence in 1..=40 {
        let mut append = log.append(small(&layout, 1, sequence));
        let first = std::future::poll_fn(|cx| std::task::Poll::Ready(append.as_mut().poll(cx)));
        if let std::task::Poll::Ready(done) = first.await {
            done.unwrap();
        } else {
            begun.push(append);
        }
    }
    for append in begun.into_iter().rev() {
        append.await.unwrap();
    }
    let mut seen = Sorted::default();
    seen.take(&read(&*log, &layout, &from, 80).await);
    assert_eq!(seen.of(Partition::Cuts), (1..=40).collect::<Vec<_>>());
    assert!(seen.versions.values().all(|versions| versions.is_sorted()));
}

async fn what_is_not_released_stays(log: &dyn EventLog) {
    let layout = layout();
    log.open(&layout).await.unwrap();
    let from = lows(log, &layout).await;
    for sequence in 1..=20 {
        log.append(small(&layout, 1, sequence)).await.unwrap();
    }
    let entries = read(log, &layout, &from, 40).await;
    let half = entries
        .iter()
        .filter(|entry| entry.partition == Partition::Cuts)
        .nth(10)
        .unwrap();
    log.release(&layout.feed, Partition::Cuts, half.offset);
    log.release(&layout.feed, Partition::Cuts, Offset(0));
    let buckets: Vec<_> = from
        .iter()
        .filter(|(p, _)| *p != Partition::Cuts)
        .copied()
        .collect();
    read(log, &layout, &buckets, 20).await;
    let rest = read(log, &layout, &[(Partition::Cuts, half.offset)], 10).await;
    assert_eq!(rest[0].offset, half.offset);
}

/// Errors that may pass.
fn passes(error: &LogError) -> bool {
    matches!(
        error,
        LogError::Refused { .. } | LogError::Unknown { .. } | LogError::OutOfRange { .. }
    )
}

const TRIES_MAX: usize = 200;

/// Makes an attempt until it is done.
macro_rules! sure {
    ($attempt:expr) => {{
        let mut tries = 0;
        loop {
            match $attempt.await {
                Ok(done) => break done,
                Err(error) => {
                    tries += 1;
                    assert!(passes(&error) && tries < TRIES_MAX, "{error}");
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            }
        }
    }};
}

/// How long what was acknowledged may take to come.
const PATIENCE: Duration = Duration::from_secs(60);

/// Follows all partitions until every version written has been seen in each, following again after errors.
async fn follow_through(
    log: &dyn EventLog,
    layout: &Layout,
    written: &BTreeMap<Partition, Vec<u64>>,
) -> Sorted {
    let lows = sure!(log.ends(&layout.feed));
    let mut next: BTreeMap<_, _> = lows.into_iter().map(|(p, ends)| (p, ends.low)).collect();
    let mut seen = Sorted::default();
    let misses = |seen: &Sorted| {
        let of = |partition: &Partition| BTreeSet::from_iter(seen.of(*partition).iter().copied());
        written.iter().find_map(|(partition, written)| {
            let seen = of(partition);
            let missing = written.iter().find(|version| !seen.contains(version));
            missing.map(|version| (*partition, *version))
        })
    };
    while misses(&seen).is_some() {
        let from: Vec<_> = next.iter().map(|(p, offset)| (*p, *offset)).collect();
        let mut follower = sure!(log.follow(&layout.feed, &from));
        while let Some((partition, version)) = misses(&seen) {
            let more = tokio::time::timeout(PATIENCE, follower.next()).await;
            match more.unwrap_or_else(|_| panic!("{partition}: {version} never came")) {
                Ok(entries) => {
                    seen.take(&entries);
                    for entry in entries {
                        next.insert(entry.partition, Offset(entry.offset.0 + 1));
                    }
                }
                Err(error) => {
                    assert!(passes(&error), "{error}");
                    break;
                }
            }
        }
    }
    seen
}

async fn everything_acknowledged_is_there_in_order(log: Log, seed: u64) {
    let layout = layout();
    sure!(log.open(&layout));
    let mut rng = StdRng::seed_from_u64(seed);
    let mut written: BTreeMap<Partition, Vec<u64>> = BTreeMap::new();
    let mut flushes = Vec::new();
    for sequence in 1..=120 {
        let mut records = Vec::new();
        for bucket in 0..BUCKETS {
            if rng.random_ratio(1, 3) || sequence == 120 {
                let len = if rng.random_ratio(1, 20) { 50_000 } else { 20 };
                records.push((bucket, record(1, sequence, len)));
                let partition = Partition::Bucket(Bucket::new(bucket));
                written.entry(partition).or_default().push(sequence);
            }
        }
        written.entry(Partition::Cuts).or_default().push(sequence);
        flushes.push(flush(&layout, records, cut(sequence - 1, sequence)));
    }
    let written = Arc::new(written);
    let mut followers = JoinSet::new();
    for _ in 0..2 {
        let (log, layout, written) = (Arc::clone(&log), layout.clone(), Arc::clone(&written));
        followers.spawn(async move { follow_through(&*log, &layout, &written).await });
    }
    for flush in flushes {
        sure!(log.append(flush.clone()));
    }
    followers.spawn({
        let (log, layout, written) = (Arc::clone(&log), layout.clone(), Arc::clone(&written));
        async move { follow_through(&*log, &layout, &written).await }
    });
    while let Some(seen) = followers.join_next().await {
        let seen = seen.unwrap_or_else(|panicked| std::panic::resume_unwind(panicked.into_panic()));
        for (partition, written) in &*written {
            let mut first = Vec::new();
            for version in seen.of(*partition) {
                if first.last().is_none_or(|last| version > last) {
                    first.push(*version);
                } else {
                    assert!(
                        first.contains(version),
                        "{partition}: {version} is out of order"
                    );
                }
            }
            assert_eq!(first, *written, "{partition}");
        }
    }
}

/// What a receiver of these cuts has in the end.
fn taken(cuts: &[CutRecord]) -> Option<Taken> {
    let mut taken = None;
    for cut in cuts {
        admit(LINEAGE, BUCKETS.into(), &mut taken, cut);
    }
    taken
}

async fn the_last_cuts_add_up_to_all_of_them(log: &dyn EventLog, seed: u64) {
    let layout = layout();
    sure!(log.open(&layout));
    let mut rng = StdRng::seed_from_u64(seed);
    let mut appended: Vec<CutRecord> = Vec::new();
    let (mut epoch, mut sequence, mut prev) = (1, 0, 0);
    let mut vector = vec![version(1, 0); BUCKETS.into()];
    let mut executed = GtidSet::mariadb();
    for number in 0..150 {
        let again = number % 40 == 39;
        let next = if again {
            // A reader that was started again states what it stated before, whole.
            let old = appended[rng.random_range(0..appended.len())].clone();
            let of_now = old.version.epoch().get() == epoch && old.full;
            if of_now {
                old
            } else {
                appended[appended.len() - 1].clone()
            }
        } else {
            let opens = rng.random_ratio(1, 30);
            if opens {
                (epoch, sequence, prev) = (epoch + 1, 0, 0);
                vector.fill(version(epoch, 0));
            }
            let full = number == 0 || opens || rng.random_ratio(1, 6);
            let moves = rng.random_range(0..3);
            sequence += moves;
            let mut touched = Vec::new();
            for bucket in 0..BUCKETS {
                let moved = moves > 0 && rng.random();
                if moved {
                    vector[usize::from(bucket)] = version(epoch, sequence);
                }
                if moved || full {
                    touched.push((Bucket::new(bucket), vector[usize::from(bucket)]));
                }
            }
            let gtid = format!("0-1-{}", number + 1).parse().unwrap();
            executed.insert(&gtid);
            let mut added = GtidSet::mariadb();
            added.insert(&gtid);
            let proven = Proven {
                version: version(epoch, sequence),
                at: number,
            };
            let state = u128::from(epoch) << 100 | u128::from(sequence);
            let cut = CutRecord {
                prev_cut: version(epoch, prev),
                version: version(epoch, sequence),
                commit_time: sequence as i64,
                source_time: number,
                gtid: Some(gtid).filter(|_| moves > 0),
                executed: if full { executed.clone() } else { added },
                digest: Digest::new(state),
                touched,
                full,
                proven: Some(proven).filter(|_| rng.random_ratio(1, 5)),
                lost_tail: epoch % 2 == 0,
                ..cut(0, sequence)
            };
            prev = sequence;
            cut
        };
        sure!(log.append(flush(&layout, Vec::new(), next.clone())));
        appended.push(next);
        if number % 7 == 0 || again {
            let last = sure!(log.last_cuts(&layout.feed));
            assert!(last.first().is_none_or(|first| first.full));
            assert!(last.is_sorted_by_key(|cut| cut.version));
            let (mut found, mut expected) = (taken(&last).unwrap(), taken(&appended).unwrap());
            // Which cut of one version said it is not told.
            (found.gtid, expected.gtid) = (None, None);
            (found.position, expected.position) = (String::new(), String::new());
            assert_eq!(found, expected, "seed {seed}, cut {number}");
        }
    }
}
