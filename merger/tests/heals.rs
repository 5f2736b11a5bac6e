//! Gaps, forks and damage: the reader is asked for the bucket, and its Replace heals it.

use std::time::Duration;

use onair_log::testing::{Workload, append};
use onair_model::{Body, Bucket, Digest};
use onair_store::cells::{Moved, move_cell};
use onair_store::{CellKey, ShardStore, requests};

use crate::support::{FEED, Running, World};

const B0: Bucket = Bucket::new(0);
const B1: Bucket = Bucket::new(1);

/// Longer than any patience of the merger.
const LONG: Duration = Duration::from_secs(10);

async fn asked(world: &World) -> Vec<(Bucket, String)> {
    let standing = requests::standing(&*world.store, &FEED.into()).await;
    let standing = standing.unwrap().into_iter();
    standing
        .map(|(bucket, held)| (bucket, held.value))
        .collect()
}

async fn until_asked(world: &World, why: &str) {
    let so = async |world: &World| asked(world).await == [(B0, why.to_owned())];
    world.until("the reader is asked", so).await;
}

/// A feed of two buckets that is folded and has lost a record of bucket 0.
async fn with_gap(workload: &mut Workload) -> (World, Running) {
    let mut world = World::new(2, workload.rows()).await;
    let merger = world.start();
    world.until_folded().await;
    world.touch(workload, B0);
    let mut flush = world.writer.flush(false);
    flush.records.clear();
    append(&*world.log, flush).await;
    world.writer.acknowledge();
    (world, merger)
}

#[tokio::test(start_paused = true)]
async fn a_gap_is_asked_for_and_a_replace_heals_it() {
    let mut workload = Workload::new(1, 40, 16);
    let (mut world, merger) = with_gap(&mut workload).await;
    let log = std::sync::Arc::clone(&world.log);
    let before = world.head(B0).await.unwrap();
    until_asked(&world, "gap").await;
    assert_eq!(merger.feed().stopped, [(B0, "gap".to_owned())]);
    // What comes on top of the hole does not heal it; the other bucket goes on.
    world.touch(&mut workload, B0);
    world.touch(&mut workload, B1);
    world.writer.write(&*log, true).await;
    tokio::time::sleep(LONG).await;
    assert_eq!(world.head(B0).await.unwrap().state.d, before.state.d);
    assert!(world.check_bucket(B1).await.unwrap().state.d > before.state.d);
    assert_eq!(asked(&world).await.len(), 1, "asked once");
    assert_eq!(world.answer(&*log).await, 1);
    world.until_folded().await;
    let healed = async |_: &World| merger.feed().stopped.is_empty();
    world.until("it is not stopped any more", healed).await;
    assert_eq!(asked(&world).await, []);
    // And the chain goes on from there.
    let version = world.touch(&mut workload, B0);
    world.writer.write(&*log, true).await;
    world.until_cut(version).await;
    assert_eq!(world.whole_cut().await, Some(version));
    merger.stop().await;
}

/// In a healthy system cuts overtake records of other partitions all the time.
#[tokio::test(start_paused = true)]
async fn a_record_that_comes_after_its_cut_stops_nothing() {
    let mut workload = Workload::new(9, 40, 16);
    let mut world = World::new(2, workload.rows()).await;
    let log = std::sync::Arc::clone(&world.log);
    let merger = world.start();
    world.until_folded().await;
    let patience = onair_merger::Settings::default().claim_patience;
    let step = patience / 8;
    // In turns, so that one of them lacks something at every moment, for far longer than patience.
    let mut late = None;
    for turn in 0..64_u16 {
        world.touch(&mut workload, Bucket::new(turn % 2));
        let flush = world.writer.flush(false);
        world.writer.acknowledge();
        let mut cut = flush.clone();
        cut.records.clear();
        append(&*log, cut).await;
        if let Some(late) = late.replace(flush) {
            append(&*log, late).await;
        }
        tokio::time::sleep(step).await;
        assert_eq!(merger.feed().stopped, [], "turn {turn}");
    }
    append(&*log, late.expect("the last turn's")).await;
    world.until_folded().await;
    assert_eq!(merger.feed().stopped, []);
    assert_eq!(asked(&world).await, []);
    merger.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_gap_that_only_a_cut_knows_of_is_seen() {
    let mut workload = Workload::new(2, 40, 16);
    // No record of bucket 0 ever follows; the cut of the lost flush names its version.
    let (mut world, merger) = with_gap(&mut workload).await;
    until_asked(&world, "gap").await;
    let log = std::sync::Arc::clone(&world.log);
    world.answer(&*log).await;
    world.until_folded().await;
    merger.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_gap_is_healed_by_the_record_itself_when_it_comes() {
    let mut workload = Workload::new(3, 40, 16);
    let (mut world, merger) = with_gap(&mut workload).await;
    until_asked(&world, "gap").await;
    // A reader that takes over says again what it cannot know to be there.
    let start = world.writer.version().epoch().start();
    world.writer.restart(start);
    let log = std::sync::Arc::clone(&world.log);
    world.writer.write(&*log, false).await;
    world.until_folded().await;
    let healed = async |_: &World| merger.feed().stopped.is_empty();
    world.until("it is not stopped any more", healed).await;
    merger.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_gap_survives_a_restart_of_the_merger() {
    let mut workload = Workload::new(4, 40, 16);
    let (mut world, merger) = with_gap(&mut workload).await;
    merger.kill().await;
    let merger = world.start();
    until_asked(&world, "gap").await;
    let log = std::sync::Arc::clone(&world.log);
    world.answer(&*log).await;
    world.until_folded().await;
    merger.stop().await;
}

#[tokio::test(start_paused = true)]
async fn only_a_replace_ends_a_fork() {
    let mut workload = Workload::new(5, 40, 16);
    let mut world = World::new(2, workload.rows()).await;
    let log = std::sync::Arc::clone(&world.log);
    let merger = world.start();
    world.until_folded().await;
    // A reader that lies about its digest, then an honest one that says the same commit.
    world.touch(&mut workload, B0);
    let mut flush = world.writer.flush(false);
    flush.records[0].1.digest = flush.records[0].1.digest.plus(Digest::new(1));
    append(&*log, flush).await;
    world.writer.write(&*log, false).await;
    world.touch(&mut workload, B0);
    world.writer.write(&*log, true).await;
    until_asked(&world, "fork").await;
    assert_eq!(merger.feed().stopped, [(B0, "fork".to_owned())]);
    // The rules go on: its chain is folded, and it stays stopped.
    world.until_folded().await;
    tokio::time::sleep(LONG).await;
    assert_eq!(merger.feed().stopped, [(B0, "fork".to_owned())]);
    assert_eq!(world.answer(&*log).await, 1);
    let healed = async |_: &World| merger.feed().stopped.is_empty();
    world.until("the fork is over", healed).await;
    assert_eq!(asked(&world).await, []);
    world.until_folded().await;
    merger.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_bucket_stated_anew_keeps_what_the_cuts_head_needs() {
    let mut workload = Workload::new(11, 40, 16);
    let (mut world, merger) = with_gap(&mut workload).await;
    let start = world.writer.version().epoch().start();
    world.until_cut(start).await;
    let mut flush = world.writer.restate(&[B0]);
    flush.cut.full = false;
    append(&*world.log, flush).await;
    world.until_folded().await;
    assert_eq!(
        world.whole_cut().await,
        Some(start),
        "no cut has passed it yet"
    );
    let key = world.key(B0, 1);
    let version = world.writer.commit(vec![(key, Some(workload.row(20)))]);
    let log = std::sync::Arc::clone(&world.log);
    world.writer.write(&*log, true).await;
    world.until_cut(version).await;
    world.touch(&mut workload, B0);
    world.writer.write(&*log, false).await;
    world.until_folded().await;
    assert_eq!(world.head(B0).await.unwrap().old, None);
    assert_eq!(world.whole_cut().await, Some(version));
    merger.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_base_that_is_gone_is_asked_for() {
    let mut workload = Workload::new(6, 40, 16);
    let mut world = World::new(2, workload.rows()).await;
    let log = std::sync::Arc::clone(&world.log);
    world.folded().await;
    let base = world.head(B0).await.unwrap().base;
    let gone = world.store.delete_segment(FEED, base.id, base.parts).await;
    gone.unwrap();
    let merger = world.start();
    until_asked(&world, "fork").await;
    // Not a short base in the meantime.
    assert_eq!(world.head(B0).await.unwrap().base, base);
    world.answer(&*log).await;
    world.until_sound(B0).await;
    let healed = async |_: &World| merger.feed().stopped.is_empty();
    world.until("the base is there again", healed).await;
    merger.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_base_with_other_rows_is_not_believed() {
    let mut workload = Workload::new(7, 40, 16);
    let mut world = World::new(2, workload.rows()).await;
    let log = std::sync::Arc::clone(&world.log);
    world.folded().await;
    // The head names bucket 1's base: whole, sound, and not its own.
    let mut head = world.head(B0).await.unwrap();
    let other = world.head(B1).await.unwrap().base;
    head.base.id = other.id;
    head.base.parts = other.parts;
    let key = CellKey::Head(FEED.into(), B0);
    let token = world.store.cell(&key).await.unwrap().unwrap().token;
    let moved = move_cell(&*world.store, &key, Some(token), head.to_bytes()).await;
    assert!(matches!(moved, Ok(Moved::Won(_))));
    let merger = world.start();
    until_asked(&world, "fork").await;
    world.answer(&*log).await;
    world.until_sound(B0).await;
    merger.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_delta_that_is_gone_is_asked_for() {
    let mut workload = Workload::new(8, 40, 16);
    let mut world = World::new(1, workload.rows()).await;
    let log = std::sync::Arc::clone(&world.log);
    world.folded().await;
    world.touch(&mut workload, B0);
    world.writer.write(&*log, true).await;
    world.folded().await;
    let delta = world.head(B0).await.unwrap().deltas[0];
    let gone = world
        .store
        .delete_segment(FEED, delta.id, delta.parts)
        .await;
    gone.unwrap();
    let merger = world.start();
    until_asked(&world, "fork").await;
    world.answer(&*log).await;
    world.until_sound(B0).await;
    merger.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_head_beyond_the_log_follows_the_log_from_where_it_is() {
    let mut workload = Workload::new(9, 40, 16);
    let mut world = World::new(1, workload.rows()).await;
    let log = std::sync::Arc::clone(&world.log);
    world.folded().await;
    // As after a log that lost its tail: the head names an offset that was never written again.
    let mut head = world.head(B0).await.unwrap();
    head.next_offset += 1000;
    let key = CellKey::Head(FEED.into(), B0);
    let token = world.store.cell(&key).await.unwrap().unwrap().token;
    let moved = move_cell(&*world.store, &key, Some(token), head.to_bytes()).await;
    assert!(matches!(moved, Ok(Moved::Won(_))));
    let merger = world.start();
    for _ in 0..3 {
        world.touch(&mut workload, B0);
        world.writer.write(&*log, true).await;
    }
    world.until_folded().await;
    merger.stop().await;
}

#[tokio::test(start_paused = true)]
async fn entries_of_other_worlds_change_nothing() {
    let mut workload = Workload::new(10, 40, 16);
    let mut world = World::new(1, workload.rows()).await;
    let log = std::sync::Arc::clone(&world.log);
    let merger = world.start();
    world.until_folded().await;
    let key = world.key(B0, 0);
    let mut stranger =
        onair_log::testing::Writer::new(FEED, world.buckets(), onair_model::Lineage::new(8));
    stranger.commit(vec![(key, Some(workload.row(20)))]);
    let mut flush = stranger.flush(true);
    append(&*log, flush.clone()).await;
    // A part that belongs to nothing.
    flush.records[0].1.lineage = world.writer.lineage;
    flush.records[0].1.parts = 7;
    flush.records[0].1.part = 3;
    flush.records[0].1.body = Body::Commits {
        prev: world.writer.version(),
        commits: Vec::new(),
    };
    append(&*log, flush).await;
    world.touch(&mut workload, B0);
    world.writer.write(&*log, true).await;
    world.until_folded().await;
    assert_eq!(merger.feed().stopped, []);
    merger.stop().await;
}
