//! What heads do not name any more: kept for the window, then deleted, and nothing else with it.

use std::collections::BTreeSet;
use std::time::Duration;

use onair_log::testing::Workload;
use onair_model::Bucket;
use onair_store::head::{self, SegmentRef};
use onair_store::index::{Entry, Superseded};
use onair_store::{HistoryLine, SegmentId, ShardStore, StoreError};

use crate::support::{FEED, World};

const B0: Bucket = Bucket::new(0);

/// Every segment that a head of the feed named, ever.
async fn named(world: &World, all: &mut Vec<SegmentRef>) {
    for bucket in world.buckets().all() {
        let head = world.head(bucket).await;
        for segment in head.iter().flat_map(head::Head::segments) {
            if all.iter().all(|held| held.id != segment.id) {
                all.push(*segment);
            }
        }
    }
}

async fn is_there(world: &World, segment: &SegmentRef) -> bool {
    let read = world.store.read_segment(FEED, segment.id, segment.parts);
    match read.await {
        Ok(_) => true,
        Err(StoreError::Missing { .. }) => false,
        Err(error) => panic!("{error}"),
    }
}

/// A feed whose heads have moved often; every segment that they named.
async fn moved() -> (World, Vec<SegmentRef>) {
    let mut workload = Workload::new(1, 40, 16);
    let mut world = World::new(2, workload.rows()).await;
    world.settings.deltas_max = 3;
    world.settings.history_every = Duration::ZERO;
    let log = std::sync::Arc::clone(&world.log);
    let merger = world.start();
    let mut all = Vec::new();
    for _ in 0..30 {
        for bucket in world.buckets().all() {
            world.touch(&mut workload, bucket);
        }
        let version = world.writer.version();
        world.writer.write(&*log, true).await;
        world.until_cut(version).await;
        named(&world, &mut all).await;
    }
    merger.stop().await;
    (world, all)
}

#[tokio::test(start_paused = true)]
async fn superseded_segments_stay_for_the_window_and_then_go() {
    let (mut world, all) = moved().await;
    let mut now = Vec::new();
    named(&world, &mut now).await;
    let now: BTreeSet<_> = now.iter().map(|segment| segment.id).collect();
    assert!(all.len() > now.len() + 20);
    // Days pass for the merger's timers; the window is counted by the clock on the wall, which stands.
    let merger = world.start();
    tokio::time::sleep(Duration::from_secs(3600)).await;
    for segment in &all {
        assert!(is_there(&world, segment).await, "{segment:?}");
    }
    merger.stop().await;
    world.settings.history_window = Duration::ZERO;
    let merger = world.start();
    for segment in &all {
        if now.contains(&segment.id) {
            continue;
        }
        let gone = async |world: &World| !is_there(world, segment).await;
        world.until("it is collected", gone).await;
    }
    tokio::time::sleep(Duration::from_secs(60)).await;
    for segment in all.iter().filter(|segment| now.contains(&segment.id)) {
        assert!(is_there(&world, segment).await, "a head names {segment:?}");
    }
    world.until_folded().await;
    world.whole_cut().await;
    merger.stop().await;
}

#[tokio::test(start_paused = true)]
async fn every_full_cut_and_every_superseded_segment_is_in_the_index() {
    let (world, all) = moved().await;
    let mut now = Vec::new();
    named(&world, &mut now).await;
    let lines = world.store.history(FEED, 0, i64::MAX, 10_000).await;
    let (mut cuts, mut segments) = (Vec::new(), Vec::new());
    for line in lines.unwrap() {
        match Entry::from_bytes(&FEED.into(), &line.value).unwrap() {
            Entry::Cut(cut) => cuts.push(cut.version),
            Entry::Superseded(gone) => segments.extend(gone.segments().copied()),
            Entry::Schema(schema) => panic!("nobody wrote {schema:?}"),
        }
    }
    assert!(cuts.is_sorted());
    assert!(cuts.len() >= 30, "{}", cuts.len());
    for segment in &all {
        let superseded = segments.iter().filter(|held| held.id == segment.id).count();
        let held = now.iter().any(|held| held.id == segment.id);
        assert_eq!(superseded, usize::from(!held), "{segment:?}");
    }
}

async fn enter(world: &World, at: i64, segment: &SegmentRef) {
    let gone = Superseded {
        bucket: B0,
        bases: Vec::new(),
        deltas: vec![*segment],
    };
    let line = HistoryLine {
        at,
        id: segment.id.0,
        value: Entry::Superseded(gone).to_bytes(),
    };
    world.store.write_history(FEED, line).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_a_head_names_is_not_deleted_whatever_the_index_says() {
    let (world, _) = moved().await;
    let segment = world.head(B0).await.unwrap().base;
    // As after a move that was entered and not made.
    enter(&world, 1, &segment).await;
    let merger = world.start();
    let worked_off = async |world: &World| {
        let lines = world.store.history(FEED, 0, 2, 10).await;
        lines.unwrap().is_empty()
    };
    world.until("the entry is worked off", worked_off).await;
    assert!(is_there(&world, &segment).await);
    merger.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_long_list_of_superseded_segments_is_worked_off() {
    const LINES: u128 = 2000;
    let (world, _) = moved().await;
    let segment = world.head(B0).await.unwrap().base;
    for number in 0..LINES {
        let gone = SegmentRef {
            id: SegmentId(number),
            ..segment
        };
        enter(&world, number as i64, &gone).await;
    }
    let merger = world.start();
    // The window is a week: it looks every ten minutes, and does not leave until all is done.
    tokio::time::sleep(Duration::from_secs(660)).await;
    let left = world.store.history(FEED, 0, LINES as i64, 10_000).await;
    assert_eq!(left.unwrap().len(), 0);
    merger.stop().await;
}
