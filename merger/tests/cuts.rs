//! The cuts head: it moves to a full cut that every head has passed, and to nothing else.

use std::time::Duration;

use onair_log::testing::{Workload, append};
use onair_model::Bucket;
use onair_store::{CellKey, ShardStore};

use crate::support::World;

const B0: Bucket = Bucket::new(0);
const B1: Bucket = Bucket::new(1);

/// Longer than any fold takes to come.
const LONG: Duration = Duration::from_secs(10);

#[tokio::test(start_paused = true)]
async fn the_cuts_head_waits_for_the_last_head() {
    let mut workload = Workload::new(1, 40, 16);
    let mut world = World::new(2, workload.rows()).await;
    let merger = world.start();
    let start = world.writer.version();
    world.until_cut(start).await;
    world.touch(&mut workload, B0);
    let version = world.touch(&mut workload, B1);
    let mut flush = world.writer.flush(true);
    let late = flush.records.pop().unwrap();
    assert_eq!(late.0, B1);
    append(&*world.log, flush.clone()).await;
    tokio::time::sleep(LONG).await;
    assert!(world.head(B0).await.unwrap().state.d > start);
    assert_eq!(
        world.whole_cut().await,
        Some(start),
        "bucket 1 has not passed the cut"
    );
    flush.records = vec![late];
    append(&*world.log, flush).await;
    world.until_cut(version).await;
    assert_eq!(world.whole_cut().await, Some(version));
    assert_eq!(merger.feed().cut, Some(version));
    merger.stop().await;
}

#[tokio::test(start_paused = true)]
async fn partial_cuts_do_not_move_it() {
    let mut workload = Workload::new(2, 40, 16);
    let mut world = World::new(2, workload.rows()).await;
    let merger = world.start();
    let start = world.writer.version();
    world.until_cut(start).await;
    for _ in 0..10 {
        workload.step(&mut world.writer);
        world.writer.write(&*world.log, false).await;
    }
    world.until_folded().await;
    tokio::time::sleep(LONG).await;
    assert_eq!(world.whole_cut().await, Some(start));
    merger.stop().await;
}

#[tokio::test(start_paused = true)]
async fn it_goes_to_the_newest_that_is_passed_and_never_back() {
    let mut workload = Workload::new(3, 40, 16);
    let mut world = World::new(2, workload.rows()).await;
    // All in the log before the merger starts: the heads pass many cuts at once.
    let mut middle = None;
    for number in 0..200 {
        workload.step(&mut world.writer);
        world.writer.write(&*world.log, true).await;
        if number == 100 {
            middle = Some(world.writer.flush(true));
        }
    }
    let newest = world.writer.version();
    // A zombie says an old cut again.
    append(&*world.log, middle.unwrap()).await;
    let merger = world.start();
    world.until_cut(newest).await;
    tokio::time::sleep(LONG).await;
    assert_eq!(world.whole_cut().await, Some(newest));
    merger.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_base_stays_behind_the_cuts_head() {
    let mut workload = Workload::new(4, 40, 60_000);
    let mut world = World::new(2, workload.rows()).await;
    world.settings.deltas_max = 2;
    let merger = world.start();
    for round in 0..60 {
        let key = world.key(B0, 1);
        let row = workload.row(30_000);
        world.writer.commit(vec![(key, Some(row))]);
        if round % 3 == 0 {
            world.touch(&mut workload, B1);
        }
        world.writer.write(&*world.log, round % 7 == 0).await;
        world.until_folded().await;
        let Some(cuts) = world.cuts_head().await else {
            continue;
        };
        for (bucket, d) in cuts.cut.touched {
            assert!(world.head(bucket).await.unwrap().base.d <= d);
        }
        world.whole_cut().await;
    }
    merger.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_cuts_head_moved_by_another_is_read_again() {
    let mut workload = Workload::new(5, 40, 16);
    let mut world = World::new(2, workload.rows()).await;
    let start = world.writer.version();
    let merger = world.start();
    world.until_cut(start).await;
    // Somebody else writes the same cut under a token of its own.
    let key = CellKey::CutsHead(crate::support::FEED.into());
    let held = world.store.cell(&key).await.unwrap().unwrap();
    let token = Some(held.token);
    let moved = onair_store::cells::move_cell(&*world.store, &key, token, held.value).await;
    assert!(matches!(moved, Ok(onair_store::cells::Moved::Won(_))));
    let version = world.touch(&mut workload, B0);
    world.writer.write(&*world.log, true).await;
    world.until_cut(version).await;
    merger.stop().await;
}
