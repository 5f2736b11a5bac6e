//! What the store tells of the past, against the truth: every version of the writer is kept in plain maps. `ONAIR_SEED`
//! repeats a life; each prints its own.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use onair_log::EventLog;
use onair_log::faulty as log;
use onair_log::testing::{Opening, Workload, append};
use onair_model::{Bucket, CutRecord, Epoch, Event, Key, Row, Sum, Version};
use onair_store::ShardStore;
use onair_store::faulty as store;
use onair_store::index::Entry;
use onair_store::past::{self, Cause, KeyHistory, Moment, Past, PastError};
use rand::RngExt;
use rand::seq::IndexedRandom;

use crate::support::{FEED, World, content};

const LIVES: u64 = 3;
const STEPS: usize = 120;
const KEYS: u64 = 80;

/// What the writer said of each epoch: its last version that the log was given.
type Said = BTreeMap<Epoch, Version>;

/// What a life read of the past.
#[derive(Debug, Default)]
struct Read {
    whole: usize,
    parts: usize,
    unstated: usize,
    epochs: usize,
    replaced: usize,
}

/// Folds, merges of deltas, bases written anew, epochs, mergers killed; under faults records lost and stated anew.
async fn live(seed: u64, faulty: bool, read: &mut Read) {
    let mut workload = Workload::new(seed, KEYS, 4000);
    let mut world = World::new(2, workload.rows()).await;
    world.settings.deltas_max = 4;
    world.settings.history_every = Duration::from_secs(2);
    let mut log_faults = log::Faults::NONE;
    if faulty {
        log_faults.dropped = 0.03;
    }
    let faults = if faulty {
        store::Faults::OFTEN
    } else {
        store::Faults::NONE
    };
    let log = Arc::new(log::Faulty::new(Arc::clone(&world.log), seed, log_faults));
    let store = Arc::new(store::Faulty::new(Arc::clone(&world.store), seed, faults));
    let through: Arc<dyn EventLog> = Arc::clone(&log) as _;
    let start = |world: &World| world.start_on(Arc::clone(&log) as _, Arc::clone(&store) as _);
    let mut merger = start(&world);
    let mut said = Said::new();
    for _ in 0..STEPS {
        match workload.rng.random_range(0..40) {
            0 => {
                let from = workload.checkpoint(&world.writer);
                world.writer.restart(from);
            }
            1 => {
                let drift = workload.writes();
                let lost = workload.rng.random_range(0..3);
                let opening = Opening {
                    lost: lost.min(world.writer.version().sequence() as usize),
                    said: true,
                    drift,
                    restated: workload.rng.random(),
                };
                append(&*through, world.writer.open_epoch(opening)).await;
                world.writer.acknowledge();
                read.epochs += 1;
            }
            2 => {
                merger.kill().await;
                merger = start(&world);
            }
            3..20 => {
                let pause = Duration::from_millis(workload.rng.random_range(0..3000));
                tokio::time::sleep(pause).await;
                read.replaced += world.answer(&*through).await;
            }
            _ => {}
        }
        for _ in 0..workload.rng.random_range(0..4) {
            workload.step(&mut world.writer);
        }
        let full = workload.rng.random_ratio(1, 3);
        world.writer.write(&*through, full).await;
        let flushed = world.writer.flushed();
        let last = said.entry(flushed.epoch()).or_insert(flushed);
        *last = flushed.max(*last);
    }
    log.set(log::Faults::NONE);
    store.set(store::Faults::NONE);
    let end = world.writer.commit(workload.writes());
    world.writer.write(&*through, true).await;
    said.insert(end.epoch(), end);
    for _ in 0..20 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        read.replaced += world.answer(&*through).await;
        world.writer.write(&*through, true).await;
    }
    world.until_folded().await;
    world.until_cut(end).await;
    merger.stop().await;

    let cuts = cuts(&world).await;
    for cut in &cuts {
        whole(&world, Moment::Version(cut.version)).await;
        read.whole += 1;
    }
    let versions: Vec<Version> = world.writer.versions().collect();
    for version in versions {
        let mut epoch = cuts.iter().filter(|cut| cut.epoch() == version.epoch());
        let is_begun = epoch.next().is_some_and(|cut| cut.version <= version);
        // Of all that was said until the epoch ended: the last cuts taken say how far it went.
        let between = is_begun && version <= said[&version.epoch()];
        for bucket in world.buckets().all() {
            match past::bucket_at(&*world.store, &FEED.into(), bucket, version).await {
                Ok(held) => {
                    is_true(&world, bucket, version, &held);
                    read.parts += 1;
                }
                Err(PastError::Unstated { .. } | PastError::TooOld { .. })
                    if faulty || !between =>
                {
                    read.unstated += 1;
                }
                Err(error) => panic!("{version}, bucket {bucket}: {error:?}"),
            }
        }
    }
    if !faulty {
        for _ in 0..20 {
            let key = Key::from_u64(workload.rng.random_range(0..KEYS));
            let steps = steps(&*world.store, &world, &key).await;
            assert_eq!(steps, expected(&world, &said, &key), "{key:?}");
        }
    }
}

/// The cuts in the index, by version.
async fn cuts(world: &World) -> Vec<CutRecord> {
    let lines = world.store.history(FEED, 0, i64::MAX, 100_000).await;
    let mut cuts = BTreeMap::new();
    for line in lines.unwrap() {
        if let Entry::Cut(cut) = Entry::from_bytes(&FEED.into(), &line.value).unwrap() {
            cuts.insert(cut.version, cut);
        }
    }
    cuts.into_values().collect()
}

fn is_true(world: &World, bucket: Bucket, version: Version, held: &past::Content) {
    let truth = world.writer.at(version);
    assert_eq!(
        content(held.rows.iter()),
        *truth.bucket(bucket),
        "bucket {bucket} at {version}"
    );
    assert_eq!(held.sum, truth.sum(bucket), "bucket {bucket} at {version}");
    assert_eq!(held.d, truth.d(bucket), "bucket {bucket} at {version}");
}

/// A moment can be read whole, and is what the cut at it states.
async fn whole(world: &World, moment: Moment) -> Version {
    let (store, feed) = (&*world.store, FEED.into());
    let past = Past::open(store, &feed, moment).await;
    let mut past = past.unwrap_or_else(|error| panic!("{moment}: {error:?}"));
    let found = past.find(store, world.buckets().all()).await;
    found.unwrap_or_else(|error| panic!("{moment}: {error:?}"));
    let mut total = Sum {
        digest: onair_model::Digest::EMPTY,
        count: 0,
    };
    for bucket in world.buckets().all() {
        let held = past.bucket(store, bucket).await;
        let held = held.unwrap_or_else(|error| panic!("{moment}, bucket {bucket}: {error:?}"));
        is_true(world, bucket, past.version(), &held);
        total.digest = total.digest.plus(held.sum.digest);
        total.count += held.sum.count;
    }
    past.check(total).unwrap();
    past.version()
}

type Step = (Version, Event, Cause);

async fn steps(store: &dyn ShardStore, world: &World, key: &Key) -> Vec<Step> {
    let bucket = world.buckets().of(key);
    let times = (i64::MIN, i64::MAX);
    let opened = KeyHistory::open(store, &FEED.into(), (bucket, key.clone()), times).await;
    let mut history = opened.unwrap();
    let mut steps = Vec::new();
    while let Some(more) = history.next(store).await.unwrap() {
        for step in more {
            let is_transaction = step.cause == Cause::Binlog;
            assert_eq!(step.gtid.is_some(), is_transaction, "{step:?}");
            steps.push((step.version, step.event, step.cause));
        }
    }
    steps
}

/// The same by the maps: each commit that the log was given, and what epochs began with.
fn expected(world: &World, said: &Said, key: &Key) -> Vec<Step> {
    let bucket = world.buckets().of(key);
    let row = |version| world.writer.at(version).bucket(bucket).get(key).cloned();
    let mut steps = Vec::new();
    let mut held: Option<Row> = None;
    for (epoch, last) in said {
        let cause = match epoch.get() {
            1 => Cause::Kept,
            _ => Cause::Epoch,
        };
        let start = row(epoch.start());
        let event = match (&held, &start) {
            (None, Some(row)) => Some(Event::On {
                key: key.clone(),
                row: row.clone(),
            }),
            (Some(before), Some(row)) if before != row => Some(Event::Change {
                key: key.clone(),
                row: row.clone(),
            }),
            (Some(_), None) => Some(Event::Off { key: key.clone() }),
            _ => None,
        };
        steps.extend(event.map(|event| (epoch.start(), event, cause)));
        for commit in world.writer.commits(bucket, epoch.start(), *last) {
            let touching = commit.events.into_iter().filter(|event| event.key() == key);
            steps.extend(touching.map(|event| (commit.version, event, Cause::Binlog)));
        }
        held = row(*last);
    }
    steps
}

fn seeds() -> std::ops::Range<u64> {
    #[expect(clippy::disallowed_methods, reason = "a test's own switch")]
    let given = std::env::var("ONAIR_SEED");
    match given.ok().and_then(|seed| seed.parse().ok()) {
        Some(seed) => seed..seed + 1,
        None => 1..LIVES + 1,
    }
}

#[tokio::test(start_paused = true)]
async fn every_version_that_was_folded_can_be_read() {
    let mut read = Read::default();
    for seed in seeds() {
        println!("seed {seed}");
        live(seed, false, &mut read).await;
    }
    println!("{read:?}");
    assert_eq!(read.replaced, 0, "nothing was lost");
    assert!(seeds().count() == 1 || read.epochs > 2 && read.whole > 50 && read.parts > 500);
}

#[tokio::test(start_paused = true)]
async fn under_faults_what_is_read_is_true_and_every_cut_is_whole() {
    let mut read = Read::default();
    for seed in seeds() {
        println!("seed {seed}");
        live(seed, true, &mut read).await;
    }
    println!("{read:?}");
    assert!(seeds().count() == 1 || read.replaced > 2 && read.whole > 30 && read.parts > 500);
}

/// The merger's window goes by the clock on the wall, so this takes a few seconds of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_live_longer_than_the_window_stays_and_what_is_kept_is_whole() {
    const WINDOW: Duration = Duration::from_secs(2);
    let mut workload = Workload::new(5, KEYS, 2000);
    let mut world = World::new(2, workload.rows()).await;
    world.settings.deltas_max = 3;
    world.settings.fold_interval = Duration::from_millis(20);
    world.settings.history_every = Duration::from_millis(100);
    world.settings.history_window = WINDOW;
    let log = Arc::clone(&world.log);
    let merger = world.start();
    // One that nobody touches again; the workload's keys are below it.
    let idle = KEYS + 1;
    let row = workload.row(30);
    let since = world.writer.commit(vec![(idle, Some(row.clone()))]);
    let began = std::time::Instant::now();
    let mut named = BTreeMap::new();
    let mut reads = 0;
    while began.elapsed() < 4 * WINDOW {
        workload.step(&mut world.writer);
        world.writer.write(&*log, true).await;
        tokio::time::sleep(Duration::from_millis(15)).await;
        for bucket in world.buckets().all() {
            let head = world.head(bucket).await;
            let now = head.iter().flat_map(|head| head.segments());
            named.extend(now.map(|segment| (segment.id, *segment)));
        }
        let Some(now) = world
            .cuts_head()
            .await
            .filter(|now| now.cut.version >= since)
        else {
            continue;
        };
        // Some moment that is kept, and the oldest one.
        let kept = cuts(&world).await;
        let in_use =
            (kept.iter()).find(|cut| cut.version >= since && cut.version < now.cut.version);
        let any = kept
            .choose(&mut workload.rng)
            .filter(|cut| cut.version >= since);
        for cut in [in_use, any, Some(&now.cut)].into_iter().flatten() {
            let key = Key::from_u64(idle);
            let bucket = world.buckets().of(&key);
            match past::bucket_at(&*world.store, &FEED.into(), bucket, cut.version).await {
                Ok(held) => {
                    is_true(&world, bucket, cut.version, &held);
                    assert_eq!(held.rows.get(&key), Some(&row), "at {}", cut.version);
                    reads += 1;
                }
                // The window passes over the oldest one at any time.
                Err(PastError::TooOld { .. } | PastError::Gone { .. })
                    if kept.first().map(|first| first.version)
                        < cuts(&world).await.first().map(|first| first.version) => {}
                Err(error) => panic!("{}: {error:?}", cut.version),
            }
        }
    }
    world.until_folded().await;
    merger.stop().await;
    // Nobody moves anything now: every cut that stands in the index is whole.
    let kept = cuts(&world).await;
    assert!(kept.len() > 5, "{}", kept.len());
    for cut in &kept {
        whole(&world, Moment::Version(cut.version)).await;
    }
    let oldest = &kept[0];
    assert!(
        oldest.version > since,
        "the window passed over the first cuts"
    );
    let error = past::bucket_at(&*world.store, &FEED.into(), Bucket::new(0), since).await;
    match error {
        Err(PastError::TooOld { version, .. }) => assert_eq!(version, oldest.version),
        other => panic!("{other:?}"),
    }
    // What is gone was superseded; all else that was ever named is there.
    let mut held: BTreeMap<_, _> = BTreeMap::new();
    for bucket in world.buckets().all() {
        let head = world.head(bucket).await.unwrap();
        held.extend(head.segments().map(|segment| (segment.id, ())));
    }
    for line in world
        .store
        .history(FEED, 0, i64::MAX, 100_000)
        .await
        .unwrap()
    {
        if let Entry::Superseded(gone) = Entry::from_bytes(&FEED.into(), &line.value).unwrap() {
            held.extend(gone.segments().map(|segment| (segment.id, ())));
        }
    }
    let (mut there, mut gone) = (0, 0);
    for segment in named.values() {
        let read = world
            .store
            .read_segment(FEED, segment.id, segment.parts)
            .await;
        assert_eq!(read.is_ok(), held.contains_key(&segment.id), "{segment:?}");
        *(if read.is_ok() { &mut there } else { &mut gone }) += 1;
    }
    println!("{reads} reads, {there} segments kept, {gone} gone");
    assert!(reads > 100 && there > 10 && gone > 10);
}
