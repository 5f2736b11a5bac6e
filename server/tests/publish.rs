//! Publishing: at cuts and nowhere else, the truth at each; what holds it back, and what is shown meanwhile.

use std::sync::Arc;
use std::time::Duration;

use onair_log::faulty as log;
use onair_log::testing::{Workload, append};
use onair_model::{Bucket, Digest};
use onair_store::{CellKey, faulty as store};

use crate::client::{Client, Said};
use crate::support::{FEED, World};

const B0: Bucket = Bucket::new(0);
const B1: Bucket = Bucket::new(1);

/// Longer than any patience of the server.
const LONG: Duration = Duration::from_secs(10);

#[tokio::test(start_paused = true)]
async fn every_version_shown_is_the_truth_at_a_cut() {
    let mut workload = Workload::new(1, 80, 3000);
    let mut world = World::new(3, workload.rows()).await;
    let server = world.serving().await;
    let mut client = Client::new(&server.url).await;
    client.until(world.writer.version()).await;
    let mut cuts = vec![world.writer.version()];
    for round in 0..100 {
        for _ in 0..1 + round % 3 {
            workload.step(&mut world.writer);
        }
        world.writer.write(&*world.log, round % 10 == 0).await;
        let version = world.writer.version();
        if cuts.last() == Some(&version) {
            continue;
        }
        cuts.push(version);
        assert_eq!(client.news().await, Said::Sealed(version));
        world.check(&client);
    }
    assert!(cuts.len() > 80);
    server.ended().await;
}

#[tokio::test(start_paused = true)]
async fn records_beyond_a_cut_are_held_back() {
    let mut workload = Workload::new(2, 80, 50);
    let mut world = World::new(2, workload.rows()).await;
    let server = world.serving().await;
    let mut client = Client::new(&server.url).await;
    client.until(world.writer.version()).await;
    let start = world.writer.version();
    // Records of both buckets are there; the cut that states them comes first for the older.
    let first = world.touch(&mut workload, B0);
    let mut early = world.writer.flush(false);
    let old_cut = early.cut.clone();
    world.touch(&mut workload, B1);
    world.touch(&mut workload, B0);
    let mut late = world.writer.flush(false);
    let new_cut = std::mem::replace(&mut late.cut, old_cut);
    early.records.clear();
    append(&*world.log, late.clone()).await;
    assert_eq!(client.news().await, Said::Sealed(first));
    world.check(&client);
    tokio::time::sleep(LONG).await;
    assert_eq!(server.version(), Some(first));
    late.records.clear();
    late.cut = new_cut;
    append(&*world.log, late).await;
    let newest = world.writer.version();
    assert_eq!(client.news().await, Said::Sealed(newest));
    world.check(&client);
    assert!(start < first);
    server.ended().await;
}

#[tokio::test(start_paused = true)]
async fn a_cut_waits_for_its_records() {
    let mut workload = Workload::new(3, 80, 50);
    let mut world = World::new(2, workload.rows()).await;
    let server = world.serving().await;
    let start = world.writer.version();
    world.touch(&mut workload, B0);
    let version = world.touch(&mut workload, B1);
    let mut flush = world.writer.flush(false);
    let records = std::mem::take(&mut flush.records);
    append(&*world.log, flush.clone()).await;
    tokio::time::sleep(LONG).await;
    assert_eq!(server.version(), Some(start));
    let stopped: Vec<String> = server
        .status()
        .await
        .buckets
        .into_iter()
        .map(|b| b.stopped)
        .collect();
    assert_eq!(stopped, ["gap", "gap"]);
    assert!(server.report().held.contains("has not been read"));
    flush.records = records;
    append(&*world.log, flush).await;
    server.until_at(version).await;
    let clear = async |server: &crate::support::Running| {
        let status = server.status().await;
        status.held.is_empty()
            && status
                .buckets
                .iter()
                .all(|bucket| bucket.stopped.is_empty())
    };
    server.until("nothing is held any more", clear).await;
    server.ended().await;
}

#[tokio::test(start_paused = true)]
async fn a_gap_is_healed_by_the_head() {
    let mut workload = Workload::new(4, 80, 50);
    let mut world = World::new(2, workload.rows()).await;
    let server = world.serving().await;
    let mut client = Client::new(&server.url).await;
    let start = world.writer.version();
    client.until(start).await;
    let lost = world.touch(&mut workload, B0);
    let mut flush = world.writer.flush(false);
    flush.records.clear();
    append(&*world.log, flush).await;
    world.writer.acknowledge();
    let head = world.head_of(B0, lost).await;
    for bucket in [B0, B1, B0] {
        world.touch(&mut workload, bucket);
        world.writer.write(&*world.log, true).await;
    }
    tokio::time::sleep(LONG).await;
    assert_eq!(
        server.version(),
        Some(start),
        "nothing is shown over the hole"
    );
    // What was read behind the hole is read again from the head's offset.
    let key = CellKey::Head(FEED.into(), B0);
    world.put(key, head.to_bytes()).await;
    client.until(world.writer.version()).await;
    world.check(&client);
    // The log is followed on from the head.
    let version = world.touch(&mut workload, B0);
    world.writer.write(&*world.log, false).await;
    client.until(version).await;
    world.check(&client);
    server.ended().await;
}

#[tokio::test(start_paused = true)]
async fn a_gap_is_healed_by_a_replace() {
    let mut workload = Workload::new(5, 80, 50);
    let mut world = World::new(2, workload.rows()).await;
    let server = world.serving().await;
    let start = world.writer.version();
    world.touch(&mut workload, B0);
    let mut flush = world.writer.flush(false);
    flush.records.clear();
    append(&*world.log, flush).await;
    world.writer.acknowledge();
    tokio::time::sleep(LONG).await;
    assert_eq!(server.version(), Some(start));
    append(&*world.log, world.writer.restate(&[B0])).await;
    server.until_at(world.writer.version()).await;
    let mut client = Client::new(&server.url).await;
    client.until(world.writer.version()).await;
    world.check(&client);
    server.ended().await;
}

/// A server that shows the start, and has then seen a record that lies about its digest.
async fn forked(workload: &mut Workload) -> (World, crate::support::Running) {
    let mut world = World::new(2, workload.rows()).await;
    let server = world.serving().await;
    let start = world.writer.version();
    world.touch(workload, B0);
    let mut flush = world.writer.flush(false);
    flush.records[0].1.digest = flush.records[0].1.digest.plus(Digest::new(1));
    append(&*world.log, flush).await;
    // The honest record and others after it do not end the fork.
    world.writer.write(&*world.log, false).await;
    world.touch(workload, B0);
    world.writer.write(&*world.log, true).await;
    tokio::time::sleep(LONG).await;
    assert_eq!(server.version(), Some(start), "held");
    assert_eq!(server.status().await.buckets[0].stopped, "fork");
    assert!(server.report().held.contains("contradicts"));
    (world, server)
}

#[tokio::test(start_paused = true)]
async fn a_fork_is_held_until_a_replace() {
    let mut workload = Workload::new(6, 80, 50);
    let (world, server) = forked(&mut workload).await;
    append(&*world.log, world.writer.restate(&[B0])).await;
    server.until_at(world.writer.version()).await;
    let mut client = Client::new(&server.url).await;
    client.until(world.writer.version()).await;
    world.check(&client);
    server.ended().await;
}

#[tokio::test(start_paused = true)]
async fn a_fork_is_held_until_a_head_beyond_it() {
    let mut workload = Workload::new(7, 80, 50);
    let (mut world, server) = forked(&mut workload).await;
    // A head at what it holds ends nothing.
    world.keep_bucket(B0, world.writer.version()).await;
    tokio::time::sleep(LONG).await;
    assert_eq!(server.status().await.buckets[0].stopped, "fork");
    world.touch(&mut workload, B0);
    let mut flush = world.writer.flush(true);
    flush.records.clear();
    append(&*world.log, flush).await;
    world.writer.acknowledge();
    world.keep_bucket(B0, world.writer.version()).await;
    server.until_at(world.writer.version()).await;
    let mut client = Client::new(&server.url).await;
    client.until(world.writer.version()).await;
    world.check(&client);
    server.ended().await;
}

#[tokio::test(start_paused = true)]
async fn two_cuts_of_one_version_are_held_until_a_newer_full_one() {
    let mut workload = Workload::new(8, 80, 50);
    let mut world = World::new(2, workload.rows()).await;
    let server = world.serving().await;
    let start = world.writer.version();
    let version = world.touch(&mut workload, B0);
    let mut flush = world.writer.flush(false);
    let records = std::mem::take(&mut flush.records);
    append(&*world.log, flush.clone()).await;
    let mut other = flush.clone();
    other.cut.digest = Digest::new(1);
    append(&*world.log, other).await;
    flush.records = records;
    append(&*world.log, flush).await;
    world.writer.acknowledge();
    tokio::time::sleep(LONG).await;
    assert_eq!(server.version(), Some(start), "not {version}");
    let newer = world.touch(&mut workload, B0);
    world.writer.write(&*world.log, true).await;
    server.until_at(newer).await;
    server.ended().await;
}

#[tokio::test(start_paused = true)]
async fn the_last_good_snapshot_stays_through_an_outage() {
    let mut workload = Workload::new(9, 80, 50);
    let mut world = World::new(2, workload.rows()).await;
    let (no_log, no_store) = (
        log::Faults {
            refused: 1.0,
            broken: 1.0,
            ..log::Faults::NONE
        },
        store::Faults {
            refused: 1.0,
            ..store::Faults::NONE
        },
    );
    let log = Arc::new(log::Faulty::new(
        Arc::clone(&world.log),
        1,
        log::Faults::NONE,
    ));
    let store = Arc::new(store::Faulty::new(
        Arc::clone(&world.store),
        1,
        store::Faults::NONE,
    ));
    let server = world
        .start_on(Arc::clone(&log) as _, Arc::clone(&store) as _)
        .await;
    let start = world.writer.version();
    server.until_at(start).await;
    let mut old = Client::new(&server.url).await;
    old.until(start).await;
    log.set(no_log);
    store.set(no_store);
    // The follower that waits for entries notices only when one comes.
    let version = world.touch(&mut workload, B0);
    world.writer.write(&*world.log, true).await;
    let mut ages = Vec::new();
    for _ in 0..5 {
        tokio::time::sleep(Duration::from_secs(60)).await;
        ages.push(server.report().age);
        assert!(server.status().await.ready, "what is shown is good");
    }
    assert!(
        ages.is_sorted() && ages[4] - ages[0] >= Duration::from_secs(239),
        "{ages:?}"
    );
    // The one who was there hears how old it is, and a new one gets the same.
    let shown = server.version().unwrap();
    let progress = loop {
        let progress = old.progress().await;
        if progress.age_ms >= 240_000 {
            break progress;
        }
    };
    assert!(!progress.held.is_empty(), "{progress:?}");
    let mut new = Client::new(&server.url).await;
    new.until(shown).await;
    world.check(&new);
    log.set(log::Faults::NONE);
    store.set(store::Faults::NONE);
    // Also while nobody writes.
    let clear = async |server: &crate::support::Running| server.report().held.is_empty();
    server.until("nothing is held any more", clear).await;
    let last = world.touch(&mut workload, B1);
    world.writer.write(&*world.log, true).await;
    server.until_at(last).await;
    new.until(last).await;
    world.check(&new);
    old.until(last).await;
    world.check(&old);
    assert!(version < last);
    server.ended().await;
}

#[tokio::test(start_paused = true)]
async fn a_silent_source_shows_in_the_age() {
    let mut workload = Workload::new(10, 80, 50);
    let world = World::new(2, workload.rows()).await;
    let server = world.serving().await;
    let before = server.report().age;
    tokio::time::sleep(Duration::from_secs(100)).await;
    let after = server.report().age;
    assert!(
        after >= before + Duration::from_secs(100),
        "{before:?} {after:?}"
    );
    server.ended().await;
}

#[tokio::test(start_paused = true)]
async fn a_log_that_lost_its_start_is_a_gap_and_no_end() {
    let mut workload = Workload::new(11, 80, 50);
    let mut world = World::new(2, workload.rows()).await;
    let server = world.serving().await;
    // The server's place is gone each time it follows, for a while.
    let gone = log::Faults {
        out_of_range: 0.7,
        ..log::Faults::NONE
    };
    let faulty = Arc::new(log::Faulty::new(Arc::clone(&world.log), 3, gone));
    let other = world
        .start_on(Arc::clone(&faulty) as _, Arc::clone(&world.store) as _)
        .await;
    for _ in 0..20 {
        let version = world.touch(&mut workload, B1);
        world.writer.write(&*world.log, true).await;
        server.until_at(version).await;
        other.until_at(version).await;
    }
    assert!(
        faulty
            .counts()
            .list()
            .any(|(kind, count)| kind == "out of range" && count > 3)
    );
    other.ended().await;
    server.ended().await;
}
