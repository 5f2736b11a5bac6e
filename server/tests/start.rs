//! Starting: from heads and a cut, with or without a log to go on from; when it is ready, and what it never shows.

use std::sync::Arc;
use std::time::Duration;

use onair_log::faulty as log;
use onair_log::memory::{MemoryConfig, MemoryLog};
use onair_log::testing::{Workload, append};
use onair_model::Bucket;
use onair_store::{CellKey, ShardStore, faulty as store};
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus};

use crate::client::{Client, Said, channel};
use crate::support::{FEED, Running, World};

const B0: Bucket = Bucket::new(0);
const B1: Bucket = Bucket::new(1);
const SERVICE: &str = "onair.v1.OnAir";

async fn health(server: &Running) -> ServingStatus {
    let mut client = HealthClient::new(channel(&server.url).await);
    let mut ask = async |service: &str| {
        let service = service.into();
        let answer = client.check(HealthCheckRequest { service }).await;
        answer.unwrap().into_inner().status()
    };
    let of_service = ask(SERVICE).await;
    assert_eq!(ask("").await, of_service, "the server as a whole");
    of_service
}

async fn until_ready(server: &Running) {
    let ready = async |server: &Running| server.status().await.ready;
    server.until("it is ready", ready).await;
    server.handle.ready().await;
    assert_eq!(health(server).await, ServingStatus::Serving);
}

#[tokio::test(start_paused = true)]
async fn from_the_log_alone() {
    let mut workload = Workload::new(1, 100, 5000);
    let mut world = World::new(3, workload.rows()).await;
    for _ in 0..20 {
        workload.step(&mut world.writer);
        world.writer.write(&*world.log, false).await;
    }
    let server = world.serving().await;
    let mut client = Client::new(&server.url).await;
    client.until(world.writer.version()).await;
    world.check(&client);
    until_ready(&server).await;
    server.ended().await;
}

#[tokio::test(start_paused = true)]
async fn from_heads_deltas_and_the_cut_with_nothing_more_to_read() {
    let mut workload = Workload::new(2, 100, 5000);
    let mut world = World::new(3, workload.rows()).await;
    let start = world.writer.version();
    for _ in 0..20 {
        workload.step(&mut world.writer);
        world.writer.write(&*world.log, false).await;
    }
    world.keep(start).await;
    // Neither reader nor merger is there: what the store holds is shown, and the log is at its end.
    let server = world.serving().await;
    let mut client = Client::new(&server.url).await;
    client.until(world.writer.version()).await;
    world.check(&client);
    until_ready(&server).await;
    server.ended().await;
}

#[tokio::test(start_paused = true)]
async fn from_heads_and_on_with_the_log_from_their_offsets() {
    let mut workload = Workload::new(3, 100, 5000);
    let mut world = World::new(3, workload.rows()).await;
    for round in 0..40 {
        workload.step(&mut world.writer);
        world.writer.write(&*world.log, false).await;
        if round == 20 {
            world.keep(world.writer.version()).await;
        }
    }
    // A log in which nothing before the heads can be read any more.
    let server = world.serving().await;
    let mut client = Client::new(&server.url).await;
    client.until(world.writer.version()).await;
    world.check(&client);
    until_ready(&server).await;
    server.ended().await;
}

#[tokio::test(start_paused = true)]
async fn heads_ahead_of_the_cut_are_shown_at_the_cut() {
    let mut workload = Workload::new(4, 100, 5000);
    let mut world = World::new(2, workload.rows()).await;
    let start = world.writer.version();
    world.keep(start).await;
    for bucket in [B0, B1, B0] {
        world.touch(&mut workload, bucket);
        world.writer.write(&*world.log, false).await;
    }
    // The cuts partition is behind: only the cut at the start is known.
    let newest = world.writer.version();
    world.keep_bucket(B0, start).await;
    let late = Arc::new(log::Faulty::new(
        Arc::clone(&world.log),
        1,
        log::Faults {
            refused: 0.0,
            delayed: 1.0,
            delay_max: Duration::from_secs(3600),
            ..log::Faults::NONE
        },
    ));
    let server = world
        .start_on(Arc::clone(&late) as _, Arc::clone(&world.store) as _)
        .await;
    let mut client = Client::new(&server.url).await;
    assert_eq!(client.next().await, Said::Full("first".into()));
    assert_eq!(client.next().await, Said::Sealed(start));
    world.check(&client);
    // Shown, but not ready: the log has more that was seen at the start.
    assert!(!server.status().await.ready);
    assert_eq!(health(&server).await, ServingStatus::NotServing);
    late.set(log::Faults::NONE);
    client.until(newest).await;
    world.check(&client);
    until_ready(&server).await;
    server.ended().await;
}

#[tokio::test(start_paused = true)]
async fn nothing_is_served_before_a_cut_agrees() {
    let mut workload = Workload::new(5, 100, 50);
    let mut world = World::new(2, workload.rows()).await;
    let version = world.writer.version();
    // Bucket 1 never said what it holds.
    let fresh = World::new(2, Vec::new()).await;
    let mut flush = world.writer.open_flush();
    flush.records.retain(|(bucket, _)| *bucket == B0);
    let bare: Arc<MemoryLog> = Arc::new(MemoryLog::new(MemoryConfig::default()));
    onair_log::EventLog::open(&*bare, &world.writer.layout)
        .await
        .unwrap();
    append(&*bare, flush).await;
    let server = fresh
        .start_on(Arc::clone(&bare) as _, Arc::clone(&fresh.store) as _)
        .await;
    let mut client = Client::new(&server.url).await;
    let waited = tokio::time::timeout(Duration::from_secs(30), client.next()).await;
    assert!(waited.is_err(), "{waited:?}");
    assert_eq!(server.version(), None);
    assert!(!server.status().await.ready);
    assert_eq!(health(&server).await, ServingStatus::NotServing);
    assert!(
        server.report().held.contains("bucket 1"),
        "{:?}",
        server.report()
    );
    append(&*bare, world.writer.restate(&[B1])).await;
    client.until(version).await;
    world.check(&client);
    until_ready(&server).await;
    world.writer = fresh.writer;
    server.ended().await;
}

#[tokio::test(start_paused = true)]
async fn an_empty_feed_is_served_like_any_other() {
    let world = World::new(2, Vec::new()).await;
    let server = world.serving().await;
    let mut client = Client::new(&server.url).await;
    client.until(world.writer.version()).await;
    assert!(client.rows.is_empty());
    until_ready(&server).await;
    server.ended().await;
}

#[tokio::test(start_paused = true)]
async fn age_is_shown_and_no_gate() {
    let mut workload = Workload::new(6, 20, 50);
    let mut world = World::new(2, workload.rows()).await;
    world.writer.time -= 3_600_000_000;
    world.touch(&mut workload, B0);
    let flush = world.writer.flush(true);
    append(&*world.log, flush).await;
    world.writer.acknowledge();
    world.keep(world.writer.version()).await;
    world.log = Arc::new(MemoryLog::new(MemoryConfig::default()));
    let server = world.serving().await;
    until_ready(&server).await;
    let age = server.report().age;
    assert!(age >= Duration::from_secs(3599), "{age:?}");
    server.ended().await;
}

#[tokio::test(start_paused = true)]
async fn a_base_that_is_not_what_its_head_says_is_not_served() {
    let mut workload = Workload::new(7, 100, 50);
    let mut world = World::new(2, workload.rows()).await;
    let start = world.writer.version();
    world.keep(start).await;
    let sound = world.keep_bucket(B0, start).await;
    let other = world.keep_bucket(B1, start).await;
    let mut lying = sound.clone();
    lying.base.id = other.base.id;
    lying.base.parts = other.base.parts;
    let key = CellKey::Head(FEED.into(), B0);
    world.put(key.clone(), lying.to_bytes()).await;
    // A log that has nothing to say of it.
    world.log = Arc::new(MemoryLog::new(MemoryConfig::default()));
    let server = world.start().await;
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(server.version(), None);
    assert!(!server.status().await.ready);
    assert!(world.store.cell(&key).await.unwrap().is_some());
    // The merger has written it anew.
    let version = world.touch(&mut workload, B0);
    world.writer.write(&*world.log, true).await;
    world.keep_bucket(B0, version).await;
    server.until_at(version).await;
    until_ready(&server).await;
    server.ended().await;
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_down_at_the_start_is_waited_for() {
    let mut workload = Workload::new(11, 100, 50);
    let world = World::new(2, workload.rows()).await;
    world.keep(world.writer.version()).await;
    let down = store::Faults {
        refused: 1.0,
        ..store::Faults::NONE
    };
    let store = Arc::new(store::Faulty::new(Arc::clone(&world.store), 1, down));
    let server = world
        .start_on(Arc::clone(&world.log) as _, Arc::clone(&store) as _)
        .await;
    let mut client = Client::new(&server.url).await;
    let waited = tokio::time::timeout(Duration::from_secs(30), client.next()).await;
    assert!(waited.is_err(), "{waited:?}");
    assert_eq!(server.version(), None);
    assert_eq!(health(&server).await, ServingStatus::NotServing);
    assert!(server.report().held.contains("cannot be reached"));
    store.set(store::Faults::NONE);
    client.until(world.writer.version()).await;
    world.check(&client);
    until_ready(&server).await;
    // Also while nobody writes.
    assert_eq!(server.report().held, "");
    server.ended().await;
}

#[tokio::test(start_paused = true)]
async fn a_base_that_is_gone_is_made_up_for_by_the_log() {
    let mut workload = Workload::new(9, 100, 50);
    let mut world = World::new(2, workload.rows()).await;
    for bucket in [B0, B1] {
        world.touch(&mut workload, bucket);
        world.writer.write(&*world.log, true).await;
    }
    world.keep(world.writer.version()).await;
    let head = world.keep_bucket(B0, world.writer.version()).await;
    let gone = world
        .store
        .delete_segment(FEED, head.base.id, head.base.parts);
    gone.await.unwrap();
    let server = world.serving().await;
    let mut client = Client::new(&server.url).await;
    client.until(world.writer.version()).await;
    world.check(&client);
    until_ready(&server).await;
    server.ended().await;
}

#[tokio::test(start_paused = true)]
async fn a_base_that_is_gone_is_no_matter_to_one_who_has_its_rows() {
    let mut workload = Workload::new(10, 100, 50);
    let mut world = World::new(2, workload.rows()).await;
    let broken = log::Faulty::new(Arc::clone(&world.log), 1, log::Faults::NONE);
    let broken = Arc::new(broken);
    let store = Arc::clone(&world.store);
    let server = world.start_on(Arc::clone(&broken) as _, store).await;
    server.until_at(world.writer.version()).await;
    world.keep(world.writer.version()).await;
    let head = world.keep_bucket(B0, world.writer.version()).await;
    let gone = world
        .store
        .delete_segment(FEED, head.base.id, head.base.parts);
    gone.await.unwrap();
    // It must follow the log anew, and has nothing to read from the store for that.
    broken.set(log::Faults {
        broken: 1.0,
        ..log::Faults::NONE
    });
    let shown = world.touch(&mut workload, B0);
    world.writer.write(&*world.log, true).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    broken.set(log::Faults::NONE);
    let version = world.touch(&mut workload, B0);
    world.writer.write(&*world.log, false).await;
    server.until_at(version).await;
    assert!(shown < version);
    server.ended().await;
}

#[tokio::test(start_paused = true)]
async fn a_head_beyond_the_log_begins_with_the_log() {
    let mut workload = Workload::new(8, 100, 50);
    let mut world = World::new(2, workload.rows()).await;
    let start = world.writer.version();
    world.keep(start).await;
    let mut head = world.keep_bucket(B0, start).await;
    head.next_offset += 1000;
    world
        .put(CellKey::Head(FEED.into(), B0), head.to_bytes())
        .await;
    let version = world.touch(&mut workload, B0);
    world.writer.write(&*world.log, true).await;
    let server = world.serving().await;
    assert_eq!(server.version(), Some(version));
    until_ready(&server).await;
    server.ended().await;
}
