//! Folds: what heads name after them, and when a base or a delta is written anew.

use std::time::Duration;

use onair_log::EventLog;
use onair_log::testing::Workload;
use onair_model::Bucket;

use crate::support::{LINEAGE, World};

const B0: Bucket = Bucket::new(0);

#[tokio::test(start_paused = true)]
async fn a_head_names_the_content_and_where_the_log_goes_on() {
    let mut workload = Workload::new(1, 100, 400);
    let mut world = World::new(4, workload.rows()).await;
    let merger = world.start();
    for _ in 0..20 {
        workload.step(&mut world.writer);
        world.writer.write(&*world.log, false).await;
    }
    world.until_folded().await;
    let ends = world.log.ends(&world.writer.layout.feed).await.unwrap();
    for (bucket, (_, ends)) in world.buckets().all().zip(ends) {
        let head = world.head(bucket).await.unwrap();
        let truth = world.writer.at(head.state.d);
        assert_eq!(head.lineage, LINEAGE);
        assert_eq!(head.gtid, truth.gtid);
        assert_eq!(head.commit_time, truth.commit_time);
        assert_eq!(head.next_offset, ends.high.0, "all was read");
        assert_eq!(
            head.state.through,
            head.state.claimed.max(head.state.through)
        );
    }
    assert!(merger.feed().folds >= 4);
    assert_eq!(merger.feed().trouble, None);
    merger.stop().await;
}

#[tokio::test(start_paused = true)]
async fn each_fold_adds_a_delta_until_there_are_too_many() {
    let mut workload = Workload::new(2, 20, 16);
    let mut world = World::new(1, workload.rows()).await;
    let merger = world.start();
    world.until_folded().await;
    let base = world.head(B0).await.unwrap().base;
    let mut lens = Vec::new();
    for _ in 0..35 {
        world.touch(&mut workload, B0);
        world.writer.write(&*world.log, false).await;
        world.until_folded().await;
        let head = world.head(B0).await.unwrap();
        // No cut was passed on: a base may not go beyond it, however many deltas there are.
        assert_eq!(head.base, base);
        lens.push(head.deltas.len());
    }
    let expected: Vec<usize> = (1..=32).chain([1, 2, 3]).collect();
    assert_eq!(lens, expected);
    merger.stop().await;
}

#[tokio::test(start_paused = true)]
async fn too_many_deltas_become_a_base_once_a_cut_has_passed_them() {
    let mut workload = Workload::new(3, 20, 16);
    let mut world = World::new(1, workload.rows()).await;
    world.settings.deltas_max = 4;
    let merger = world.start();
    world.until_folded().await;
    let first = world.head(B0).await.unwrap().base;
    for _ in 0..4 {
        let version = world.touch(&mut workload, B0);
        world.writer.write(&*world.log, true).await;
        world.until_cut(version).await;
    }
    let before = world.head(B0).await.unwrap();
    assert_eq!((before.base, before.deltas.len()), (first, 4));
    world.touch(&mut workload, B0);
    world.writer.write(&*world.log, false).await;
    world.until_folded().await;
    let after = world.head(B0).await.unwrap();
    assert_eq!(after.base.d, before.state.d, "up to the cut, not beyond it");
    assert_eq!(after.deltas.len(), 1);
    merger.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_base_is_written_anew_when_deltas_pass_a_quarter_of_it() {
    let mut workload = Workload::new(4, 40, 60_000);
    let mut world = World::new(1, workload.rows()).await;
    let merger = world.start();
    world.until_folded().await;
    let first = world.head(B0).await.unwrap().base;
    assert!(first.parts > 0 && first.bytes > 100_000);
    let mut rewritten = None;
    for share in 1..20 {
        let key = world.key(B0, 1);
        let row = workload.row(12_000);
        let version = world.writer.commit(vec![(key, Some(row))]);
        world.writer.write(&*world.log, true).await;
        world.until_cut(version).await;
        let head = world.check_bucket(B0).await.unwrap();
        if head.base != first {
            rewritten = Some(share);
            break;
        }
        let deltas: u64 = head.deltas.iter().map(|delta| delta.bytes).sum();
        assert!(deltas * 4 <= first.bytes, "{deltas} of {}", first.bytes);
    }
    // 12 kB each on 120 kB: the third would pass a quarter.
    assert_eq!(rewritten, Some(3));
    merger.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_bucket_with_many_bytes_is_folded_at_once() {
    let mut workload = Workload::new(5, 40, 16);
    let mut world = World::new(1, workload.rows()).await;
    world.folded().await;
    world.settings.fold_interval = Duration::from_secs(3600);
    world.settings.fold_bytes = 10_000;
    let merger = world.start();
    let small = world.touch(&mut workload, B0);
    world.writer.write(&*world.log, false).await;
    let key = world.key(B0, 3);
    let row = workload.row(20_000);
    world.writer.commit(vec![(key, Some(row))]);
    assert!(world.head(B0).await.unwrap().state.d < small);
    world.writer.write(&*world.log, false).await;
    world.until_folded().await;
    merger.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_was_read_is_folded_before_it_ends() {
    let mut workload = Workload::new(6, 40, 16);
    let mut world = World::new(2, workload.rows()).await;
    world.folded().await;
    world.settings.fold_interval = Duration::from_secs(3600);
    let merger = world.start();
    let version = world.touch(&mut workload, B0);
    world.writer.write(&*world.log, false).await;
    // It reads before it hears of the end: the log wakes it first.
    tokio::time::sleep(Duration::from_millis(1)).await;
    merger.stop().await;
    assert_eq!(world.head(B0).await.unwrap().state.d, version);
    world.check_bucket(B0).await;
}

#[tokio::test(start_paused = true)]
async fn records_in_parts_are_folded_whole_and_the_offset_waits_for_them() {
    let mut workload = Workload::new(7, 40, 16);
    let mut world = World::new(1, workload.rows()).await;
    world.writer.part_bytes = 1000;
    let merger = world.start();
    world.until_folded().await;
    let before = world.head(B0).await.unwrap();
    let writes = (100..110)
        .map(|key| (key, Some(workload.row(400))))
        .collect();
    world.writer.commit(writes);
    let mut flush = world.writer.flush(false);
    assert!(flush.records.len() > 3);
    let last = flush.records.pop().unwrap();
    let mut rest = flush.clone();
    onair_log::testing::append(&*world.log, flush).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(
        world.head(B0).await.unwrap(),
        before,
        "nothing of half a record"
    );
    // A merger that takes over reads from the first part on.
    merger.kill().await;
    let merger = world.start();
    rest.records = vec![last];
    onair_log::testing::append(&*world.log, rest).await;
    world.writer.acknowledge();
    world.until_folded().await;
    merger.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_head_moved_between_parts_names_the_first_of_them() {
    let mut workload = Workload::new(8, 40, 16);
    let mut world = World::new(1, workload.rows()).await;
    world.writer.part_bytes = 1000;
    world.folded().await;
    let log = std::sync::Arc::clone(&world.log);
    let first = log.ends(&world.writer.layout.feed).await.unwrap()[0].1.high;
    // One reader writes two commits in parts and stops before the last; another has the first of the two only.
    let small = world.touch(&mut workload, B0);
    let mut other = world.writer.clone();
    let writes = (100..110)
        .map(|key| (key, Some(workload.row(400))))
        .collect();
    world.writer.commit(writes);
    let mut flush = world.writer.flush(false);
    let last = flush.records.pop().unwrap();
    onair_log::testing::append(&*log, flush.clone()).await;
    other.restart(other.flushed());
    other.write(&*log, false).await;
    let merger = world.start();
    let folded = async |world: &World| world.head(B0).await.unwrap().state.d == small;
    world.until("the first commit is folded", folded).await;
    assert_eq!(world.head(B0).await.unwrap().next_offset, first.0);
    merger.kill().await;
    let merger = world.start();
    flush.records = vec![last];
    onair_log::testing::append(&*log, flush).await;
    world.until_folded().await;
    merger.stop().await;
}
