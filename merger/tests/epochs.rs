//! Epoch changes: Replace and Carry, the report of what was different, and the old epoch's content that is kept.

use std::time::Duration;

use onair_log::testing::{Opening, Workload, append};
use onair_model::Bucket;

use crate::support::World;

const B0: Bucket = Bucket::new(0);
const B1: Bucket = Bucket::new(1);

#[tokio::test(start_paused = true)]
async fn a_replace_is_told_apart_into_missing_extra_and_stale() {
    let mut workload = Workload::new(1, 0, 16);
    let mut world = World::new(2, Vec::new()).await;
    let keys: Vec<u64> = (0..6).map(|nth| world.key(B0, nth)).collect();
    let rows: Vec<_> = (0..8).map(|_| workload.row(20)).collect();
    let live = keys[..4].iter().zip(&rows);
    let live = live.map(|(key, row)| (*key, Some(row.clone()))).collect();
    world.writer.commit(live);
    world.touch(&mut workload, B1);
    let log = std::sync::Arc::clone(&world.log);
    world.writer.write(&*log, true).await;
    let merger = world.start();
    world.until_folded().await;
    let before = merger.feed().reports.len();
    let drift = vec![
        (keys[0], None),
        (keys[1], Some(rows[4].clone())),
        (keys[2], Some(rows[5].clone())),
        (keys[3], Some(rows[3].clone())),
        (keys[4], Some(rows[6].clone())),
        (keys[5], Some(rows[7].clone())),
        (world.key(B0, 6), Some(rows[7].clone())),
    ];
    let flush = world.writer.open_epoch(Opening {
        drift,
        ..Opening::default()
    });
    append(&*log, flush).await;
    world.writer.acknowledge();
    world.until_folded().await;
    let reports: Vec<_> = merger.feed().reports.into_iter().skip(before).collect();
    let [report] = &reports[..] else {
        panic!("bucket 1 was carried: {reports:?}")
    };
    assert_eq!(report.bucket, B0);
    assert_eq!((report.missing, report.extra, report.stale), (3, 1, 2));
    assert_eq!(report.examples.len(), 6);
    merger.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_carried_bucket_keeps_its_rows_in_the_new_epoch() {
    let mut workload = Workload::new(2, 40, 16);
    let mut world = World::new(2, workload.rows()).await;
    let log = std::sync::Arc::clone(&world.log);
    let merger = world.start();
    world.until_folded().await;
    let flush = world.writer.open_epoch(Opening::default());
    append(&*log, flush).await;
    world.writer.acknowledge();
    let start = world.writer.version();
    world.until_cut(start).await;
    world.until_folded().await;
    assert_eq!(world.whole_cut().await, Some(start));
    merger.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_carry_of_another_state_is_a_gap() {
    let mut workload = Workload::new(3, 40, 16);
    let mut world = World::new(2, workload.rows()).await;
    let log = std::sync::Arc::clone(&world.log);
    let merger = world.start();
    world.until_folded().await;
    // The last commit of the old epoch is in no log: the merger is not where the Carry says.
    world.touch(&mut workload, B0);
    let flush = world.writer.open_epoch(Opening::default());
    append(&*log, flush).await;
    world.writer.acknowledge();
    let asked = async |world: &World| {
        let key = onair_store::CellKey::ReplaceRequest(crate::support::FEED.into(), B0);
        let cell = onair_store::ShardStore::cell(&*world.store, &key).await;
        cell.unwrap().is_some()
    };
    world.until("bucket 0 is asked for", asked).await;
    world.answer(&*log).await;
    world.until_folded().await;
    merger.stop().await;
}

#[tokio::test(start_paused = true)]
async fn the_old_cut_can_be_shown_until_the_new_epoch_has_one() {
    let mut workload = Workload::new(4, 40, 16);
    let mut world = World::new(2, workload.rows()).await;
    let log = std::sync::Arc::clone(&world.log);
    let merger = world.start();
    for _ in 0..10 {
        workload.step(&mut world.writer);
        world.writer.write(&*log, true).await;
    }
    let last = world.writer.version();
    world.until_cut(last).await;
    // Each epoch reaches one of the two buckets only: no cut of it can be passed.
    for _ in 0..2 {
        let mut flush = world.writer.open_epoch(Opening {
            restated: true,
            ..Opening::default()
        });
        flush.records.retain(|(bucket, _)| *bucket == B0);
        append(&*log, flush).await;
        let epoch = world.writer.version().epoch();
        let opened = async |world: &World| world.head(B0).await.unwrap().state.epoch == epoch;
        world.until("bucket 0 is in the new epoch", opened).await;
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert_eq!(world.whole_cut().await, Some(last));
    }
    let start = world.writer.version();
    append(&*log, world.writer.restate(&[B0, B1])).await;
    world.until_cut(start).await;
    world.touch(&mut workload, B0);
    world.touch(&mut workload, B1);
    world.writer.write(&*log, false).await;
    world.until_folded().await;
    for bucket in [B0, B1] {
        let head = world.head(bucket).await.unwrap();
        assert_eq!(head.old, None, "nobody needs the old epoch any more");
    }
    merger.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_head_that_keeps_an_old_epoch_stays_small() {
    let mut workload = Workload::new(5, 20, 16);
    let mut world = World::new(2, workload.rows()).await;
    let log = std::sync::Arc::clone(&world.log);
    let merger = world.start();
    world.until_cut(world.writer.version()).await;
    // As many deltas as there may be, and then an epoch that bucket 1 never reaches.
    while world
        .head(B0)
        .await
        .is_none_or(|head| head.deltas.len() < 32)
    {
        fold_one(&mut world, &mut workload).await;
    }
    let mut flush = world.writer.open_epoch(Opening {
        restated: true,
        ..Opening::default()
    });
    flush.records.retain(|(bucket, _)| *bucket == B0);
    append(&*log, flush).await;
    world.writer.acknowledge();
    for _ in 0..40 {
        fold_one(&mut world, &mut workload).await;
        assert_eq!(merger.feed().trouble, None);
    }
    let head = world.check_bucket(B0).await.unwrap();
    assert!(head.old.is_some(), "bucket 1 is still in the old epoch");
    merger.stop().await;
}

async fn fold_one(world: &mut World, workload: &mut Workload) {
    let version = world.touch(workload, B0);
    let log = std::sync::Arc::clone(&world.log);
    world.writer.write(&*log, false).await;
    let folded = async |world: &World| {
        let head = world.head(B0).await;
        head.is_some_and(|head| head.state.d == version)
    };
    world.until("bucket 0 is folded", folded).await;
}

#[tokio::test(start_paused = true)]
async fn a_zombie_of_the_old_epoch_changes_nothing() {
    let mut workload = Workload::new(6, 40, 16);
    let mut world = World::new(2, workload.rows()).await;
    let log = std::sync::Arc::clone(&world.log);
    let merger = world.start();
    world.until_folded().await;
    let mut zombie = world.writer.clone();
    let flush = world.writer.open_epoch(Opening::default());
    append(&*log, flush).await;
    world.writer.acknowledge();
    for _ in 0..5 {
        workload.step(&mut zombie);
        zombie.write(&*log, true).await;
    }
    let version = world.touch(&mut workload, B0);
    world.writer.write(&*log, true).await;
    world.until_cut(version).await;
    world.until_folded().await;
    assert_eq!(world.whole_cut().await, Some(version));
    assert_eq!(merger.feed().stopped, []);
    merger.stop().await;
}
