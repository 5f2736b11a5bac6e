//! A new epoch: shown only at a cut that contains what is shown, unless a lost tail is said or was waited for.

use std::sync::Arc;
use std::time::Duration;

use onair_log::testing::{Opening, Workload, append};
use onair_model::schema::FieldKind;
use onair_model::{Bucket, Version};
use onair_store::{CellKey, ShardStore, head};

use crate::client::{Client, Said, channel, request};
use crate::support::{FEED, Running, World};

const B0: Bucket = Bucket::new(0);
const B1: Bucket = Bucket::new(1);

/// A server and a client at the tenth version of the first epoch.
async fn at_ten(workload: &mut Workload) -> (World, Running, Client) {
    let mut world = World::new(2, workload.rows()).await;
    let server = world.serving().await;
    world.publish(workload, &server, 10).await;
    let mut client = Client::new(&server.url).await;
    client.until(world.writer.version()).await;
    (world, server, client)
}

async fn open(world: &mut World, opening: Opening) -> Version {
    append(&*world.log, world.writer.open_epoch(opening)).await;
    world.writer.acknowledge();
    world.writer.version()
}

#[tokio::test(start_paused = true)]
async fn one_that_contains_all_is_shown_at_once() {
    let mut workload = Workload::new(1, 60, 500);
    let (mut world, server, mut client) = at_ten(&mut workload).await;
    let opening = Opening {
        drift: workload.writes(),
        ..Opening::default()
    };
    let start = open(&mut world, opening).await;
    assert_eq!(client.news().await, Said::Sealed(start));
    world.check(&client);
    assert!(!client.seal.unwrap().rewound);
    server.ended().await;
}

#[tokio::test(start_paused = true)]
async fn one_that_lacks_transactions_waits_for_the_cut_that_has_them() {
    let mut workload = Workload::new(2, 60, 500);
    let (mut world, server, mut client) = at_ten(&mut workload).await;
    let shown = world.writer.version();
    let opening = Opening {
        lost: 2,
        ..Opening::default()
    };
    open(&mut world, opening).await;
    // Within the wait for them: a later cut without them changes nothing.
    tokio::time::sleep(Duration::from_secs(5)).await;
    world.writer.execute();
    world.writer.write(&*world.log, true).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(server.version(), Some(shown));
    assert!(server.report().held.contains("does not contain"));
    // The source has them after all.
    world.writer.find_lost();
    world.writer.write(&*world.log, false).await;
    let found = world.writer.version();
    assert_eq!(client.news().await, Said::Sealed(found));
    world.check(&client);
    assert!(!client.seal.unwrap().rewound, "nothing was lost");
    server.ended().await;
}

#[tokio::test(start_paused = true)]
async fn a_lost_tail_that_is_said_is_shown_at_once_and_told() {
    let mut workload = Workload::new(3, 60, 500);
    let (mut world, server, mut client) = at_ten(&mut workload).await;
    let opening = Opening {
        lost: 2,
        said: true,
        ..Opening::default()
    };
    let start = open(&mut world, opening).await;
    assert_eq!(client.news().await, Said::Sealed(start));
    world.check(&client);
    assert!(client.seal.unwrap().rewound);
    assert!(client.executed.contains_set(&world.writer.now().executed));
    server.ended().await;
}

#[tokio::test(start_paused = true)]
async fn a_lost_tail_that_nobody_says_is_shown_after_the_wait() {
    let mut workload = Workload::new(4, 60, 500);
    let (mut world, server, mut client) = at_ten(&mut workload).await;
    let shown = world.writer.version();
    let opening = Opening {
        lost: 2,
        ..Opening::default()
    };
    let began = tokio::time::Instant::now();
    let start = open(&mut world, opening).await;
    assert_eq!(client.news().await, Said::Sealed(start));
    let waited = began.elapsed();
    let wait = world.settings.lost_tail_wait;
    assert!(
        waited >= wait && waited <= wait + Duration::from_secs(2),
        "{waited:?}"
    );
    world.check(&client);
    assert!(client.seal.unwrap().rewound);
    assert!(shown < start);
    server.ended().await;
}

#[tokio::test(start_paused = true)]
async fn the_wait_goes_on_through_an_outage() {
    let mut workload = Workload::new(5, 60, 500);
    let mut world = World::new(2, workload.rows()).await;
    let log = Arc::new(onair_log::faulty::Faulty::new(
        Arc::clone(&world.log),
        5,
        onair_log::faulty::Faults::NONE,
    ));
    let server = world
        .start_on(Arc::clone(&log) as _, Arc::clone(&world.store) as _)
        .await;
    server.until_at(world.writer.version()).await;
    world.publish(&mut workload, &server, 10).await;
    let opening = Opening {
        lost: 2,
        ..Opening::default()
    };
    let start = open(&mut world, opening).await;
    // The log hiccups every few seconds, as long as the wait is.
    let began = tokio::time::Instant::now();
    while server.version() != Some(start) {
        log.set(onair_log::faulty::Faults {
            broken: 1.0,
            ..onair_log::faulty::Faults::NONE
        });
        world.writer.write(&*world.log, true).await;
        tokio::time::sleep(Duration::from_secs(2)).await;
        log.set(onair_log::faulty::Faults::NONE);
        tokio::time::sleep(Duration::from_secs(3)).await;
        let limit = world.settings.lost_tail_wait * 2;
        assert!(began.elapsed() < limit, "{:?}", server.report());
    }
    server.ended().await;
}

#[tokio::test(start_paused = true)]
async fn a_cut_before_the_buckets_of_its_epoch_waits_for_them() {
    let mut workload = Workload::new(6, 60, 500);
    let (mut world, server, mut client) = at_ten(&mut workload).await;
    let shown = world.writer.version();
    let mut flush = world.writer.open_epoch(Opening {
        drift: workload.writes(),
        restated: true,
        ..Opening::default()
    });
    let mut late = flush.clone();
    flush.records.retain(|(bucket, _)| *bucket == B0);
    late.records.retain(|(bucket, _)| *bucket == B1);
    append(&*world.log, flush).await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(server.version(), Some(shown));
    append(&*world.log, late).await;
    assert_eq!(client.news().await, Said::Sealed(world.writer.version()));
    world.check(&client);
    server.ended().await;
}

#[tokio::test(start_paused = true)]
async fn a_zombie_of_the_old_epoch_changes_nothing() {
    let mut workload = Workload::new(7, 60, 500);
    let (mut world, server, mut client) = at_ten(&mut workload).await;
    let mut zombie = world.writer.clone();
    let start = open(&mut world, Opening::default()).await;
    client.until(start).await;
    for _ in 0..5 {
        workload.step(&mut zombie);
        zombie.write(&*world.log, true).await;
    }
    let version = world.touch(&mut workload, B0);
    world.writer.write(&*world.log, false).await;
    assert_eq!(client.news().await, Said::Sealed(version));
    world.check(&client);
    server.ended().await;
}

#[tokio::test(start_paused = true)]
async fn a_server_that_starts_while_an_epoch_opens_shows_the_old_one() {
    let mut workload = Workload::new(8, 60, 500);
    let mut world = World::new(2, workload.rows()).await;
    let start = world.writer.version();
    for _ in 0..10 {
        workload.step(&mut world.writer);
        world.writer.write(&*world.log, true).await;
    }
    world.keep(start).await;
    let last = world.writer.version();
    let key = CellKey::Head(FEED.into(), B0);
    let cell = world.store.cell(&key).await.unwrap().unwrap();
    let old = head::Head::from_bytes(&FEED.into(), &cell.value).unwrap();
    // Bucket 0's head is in the new epoch and keeps the old content; bucket 1 and the cuts head are not.
    let flush = world.writer.open_epoch(Opening {
        restated: true,
        ..Opening::default()
    });
    let mut partly = flush.clone();
    partly.records.retain(|(bucket, _)| *bucket == B0);
    append(&*world.log, partly).await;
    world.writer.acknowledge();
    let mut head = world.keep_bucket(B0, world.writer.version()).await;
    head.old = Some((old.base, old.deltas));
    world.put(key, head.to_bytes()).await;
    let server = world.start().await;
    server.until_at(last).await;
    let mut client = Client::new(&server.url).await;
    client.until(last).await;
    assert_eq!(client.rows, world.writer.at(last).content());
    append(&*world.log, flush).await;
    client.until(world.writer.version()).await;
    world.check(&client);
    server.ended().await;
}

#[tokio::test(start_paused = true)]
async fn a_server_that_starts_after_a_bucket_was_stated_anew_shows_the_cut() {
    let mut workload = Workload::new(9, 60, 500);
    let mut world = World::new(2, workload.rows()).await;
    let start = world.writer.version();
    world.keep(start).await;
    let key = CellKey::Head(FEED.into(), B0);
    let cell = world.store.cell(&key).await.unwrap().unwrap();
    let old = head::Head::from_bytes(&FEED.into(), &cell.value).unwrap();
    // Its base is beyond the cut; no cut that names it can be read.
    world.touch(&mut workload, B0);
    world.writer.acknowledge();
    let mut head = world.keep_bucket(B0, world.writer.version()).await;
    head.old = Some((old.base, old.deltas));
    world.put(key, head.to_bytes()).await;
    let server = world.start().await;
    server.until_at(start).await;
    let mut client = Client::new(&server.url).await;
    client.until(start).await;
    assert_eq!(client.rows, world.writer.at(start).content());
    world.touch(&mut workload, B1);
    world.writer.write(&*world.log, true).await;
    client.until(world.writer.version()).await;
    world.check(&client);
    server.ended().await;
}

/// The kind of the one column in the schema that the client was told.
fn kind(client: &Client) -> String {
    let schema = client.schema.clone().expect("a start has the schema");
    schema.columns[0].kind.clone()
}

#[tokio::test(start_paused = true)]
async fn another_schema_comes_with_a_whole_snapshot() {
    let mut workload = Workload::new(11, 60, 500);
    let (mut world, server, mut client) = at_ten(&mut workload).await;
    let before = kind(&client);
    let held = client.have();
    world.describe(2, FieldKind::Text).await;
    let start = open(&mut world, Opening::default()).await;
    assert_eq!(client.news().await, Said::Full("other schema".into()));
    assert_eq!(client.news().await, Said::Sealed(start));
    world.check(&client);
    assert_ne!(kind(&client), before);
    // What was before leads nowhere, at any server.
    let request = request(Some(held));
    let mut late = Client::open(channel(&server.url).await, request)
        .await
        .unwrap();
    assert!(matches!(late.next().await, Said::Full(_)));
    // And frames go on after it.
    world.publish(&mut workload, &server, 3).await;
    client.until(world.writer.version()).await;
    world.check(&client);
    server.ended().await;
}

#[tokio::test(start_paused = true)]
async fn an_epoch_whose_schema_is_gone_is_not_shown() {
    let mut workload = Workload::new(12, 60, 500);
    let (mut world, server, mut client) = at_ten(&mut workload).await;
    let shown = world.writer.version();
    // The reader is two epochs on before the server has come to the first.
    world.describe(3, FieldKind::Text).await;
    open(&mut world, Opening::default()).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(server.version(), Some(shown));
    assert!(
        server.report().held.contains("made of"),
        "{:?}",
        server.report()
    );
    let start = open(&mut world, Opening::default()).await;
    assert_eq!(client.news().await, Said::Full("other schema".into()));
    assert_eq!(client.news().await, Said::Sealed(start));
    world.check(&client);
    server.ended().await;
}
