//! Subscribe: first connect, resume at every version, everything that cannot be resumed, Progress, GoAway.

use std::time::Duration;

use onair_log::testing::{Opening, Workload, append};
use onair_model::{Bucket, Epoch, Version};
use onair_proto::{convert, v1};

use crate::client::{Client, Said, channel, request};
use crate::support::{LINEAGE, Running, World};

const B0: Bucket = Bucket::new(0);

fn have(world: &World, version: Version) -> v1::Have {
    v1::Have {
        lineage: convert::bytes16(LINEAGE.get()),
        version: version.get(),
        digest: convert::bytes16(world.writer.at(version).total().digest.get()),
    }
}

/// Subscribes with this, and holds what the writer had there.
async fn resume(world: &World, server: &Running, have: v1::Have) -> Client {
    let version = Version::from_u64(have.version);
    let mut client = Client::open(channel(&server.url).await, request(Some(have)))
        .await
        .unwrap();
    if let Some(version) = version.filter(|version| *version <= world.writer.version()) {
        let truth = world.writer.versions().any(|written| written == version);
        client.rows = if truth {
            world.writer.at(version).content()
        } else {
            Default::default()
        };
    }
    client.version = version;
    client.lineage = LINEAGE.get().to_be_bytes().to_vec();
    client.executed.clone_from(
        &world
            .writer
            .at(world.writer.versions().next().unwrap())
            .executed,
    );
    client
}

/// What it says first, and that it ends at the newest version with the truth.
async fn check(world: &World, server: &Running, have: v1::Have, first: Said) {
    let asked = have.version;
    let mut client = resume(world, server, have).await;
    if matches!(first, Said::Full(_)) {
        client.version = None;
    }
    let said = client.next().await;
    assert_eq!(said, first, "{:?}", Version::from_u64(asked));
    client.until(world.writer.version()).await;
    if matches!(first, Said::Full(_)) {
        world.check(&client);
    } else {
        // After a resume the whole set comes with a Progress of its own; one may have come with the last frame.
        let whole = &world.writer.now().executed;
        client.progress().await;
        if !client.executed.contains_set(whole) {
            client.progress().await;
        }
        assert_eq!(client.rows, world.writer.now().content());
        assert!(client.executed.contains_set(whole));
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_goes_on_from_every_version_of_the_ring() {
    let mut workload = Workload::new(1, 60, 500);
    let mut world = World::new(3, workload.rows()).await;
    let server = world.serving().await;
    let first = world.writer.version();
    world.publish(&mut workload, &server, 40).await;
    let versions: Vec<Version> = world.writer.versions().filter(|v| *v >= first).collect();
    assert_eq!(versions.len(), 41);
    for version in &versions {
        check(&world, &server, have(&world, *version), Said::Resume).await;
        // One that does not hold the content and only wants to know what changed.
        let bare = v1::Have {
            digest: Default::default(),
            ..have(&world, *version)
        };
        check(&world, &server, bare, Said::Resume).await;
    }
    server.ended().await;
}

#[tokio::test(start_paused = true)]
async fn the_first_frame_is_the_one_after_what_the_client_has() {
    let mut workload = Workload::new(2, 60, 500);
    let mut world = World::new(3, workload.rows()).await;
    let server = world.serving().await;
    world.publish(&mut workload, &server, 10).await;
    for back in 1..10 {
        let version = Version::from_u64(world.writer.version().get() - back).unwrap();
        let mut client = resume(&world, &server, have(&world, version)).await;
        client.until(world.writer.version()).await;
        let from: Vec<u64> = client
            .frames
            .iter()
            .map(|(from, _, _)| from.get())
            .collect();
        let expected: Vec<u64> = (version.get()..world.writer.version().get()).collect();
        assert_eq!(from, expected, "each frame once");
    }
    server.ended().await;
}

#[tokio::test(start_paused = true)]
async fn a_version_inside_a_frame_goes_on_with_it() {
    let mut workload = Workload::new(3, 60, 500);
    let mut world = World::new(3, workload.rows()).await;
    let server = world.serving().await;
    for _ in 0..5 {
        for _ in 0..4 {
            let writes = workload.writes();
            world.writer.commit(writes);
        }
        world.writer.write(&*world.log, false).await;
        server.until_at(world.writer.version()).await;
    }
    let versions: Vec<Version> = world.writer.versions().collect();
    for version in versions {
        check(&world, &server, have(&world, version), Said::Resume).await;
    }
    server.ended().await;
}

#[tokio::test(start_paused = true)]
async fn what_cannot_go_on_gets_all_with_the_reason() {
    let mut workload = Workload::new(4, 60, 500);
    let mut world = World::new(3, workload.rows()).await;
    world.settings.ring_bytes = 20_000;
    let server = world.serving().await;
    let first = world.writer.version();
    world.publish(&mut workload, &server, 60).await;
    let newest = world.writer.version();
    let full = |reason: &str| Said::Full(reason.to_owned());
    check(&world, &server, have(&world, first), full("too old")).await;
    check(&world, &server, have(&world, newest), Said::Resume).await;
    let of = |version: u64| v1::Have {
        version,
        digest: Default::default(),
        ..have(&world, newest)
    };
    check(&world, &server, of(0), full("too old")).await;
    check(&world, &server, of(u64::MAX), full("no such version")).await;
    for lineage in [vec![], vec![1], 8u128.to_be_bytes().to_vec()] {
        let other = v1::Have {
            lineage: lineage.into(),
            ..have(&world, newest)
        };
        check(&world, &server, other, full("other lineage")).await;
    }
    for back in 0..2 {
        let version = Version::from_u64(newest.get() - back).unwrap();
        let other = v1::Have {
            digest: convert::bytes16(1),
            ..have(&world, version)
        };
        check(&world, &server, other, full("other content")).await;
    }
    let mut client = Client::open(channel(&server.url).await, request(None))
        .await
        .unwrap();
    assert_eq!(client.next().await, full("first"));
    server.ended().await;
}

#[tokio::test(start_paused = true)]
async fn the_floor_of_the_ring_is_exact() {
    let mut workload = Workload::new(5, 60, 500);
    let mut world = World::new(3, workload.rows()).await;
    world.settings.ring_bytes = 20_000;
    // No Progress among the frames.
    world.settings.progress = Duration::from_secs(3600);
    let server = world.serving().await;
    world.publish(&mut workload, &server, 60).await;
    let versions: Vec<Version> = world.writer.versions().rev().collect();
    let mut floor = None;
    for version in versions {
        let mut client = resume(&world, &server, have(&world, version)).await;
        let said = client.next().await;
        match (&said, floor) {
            (Said::Resume, None) => {
                client.until(world.writer.version()).await;
                assert_eq!(client.rows, world.writer.now().content());
            }
            (Said::Full(reason), None) => {
                assert_eq!(reason, "too old");
                floor = Some(version);
            }
            // Nothing below the floor goes on.
            (said, Some(_)) => assert_eq!(*said, Said::Full("too old".into()), "{version}"),
            (said, None) => panic!("{said:?}"),
        }
    }
    assert!(floor.is_some_and(|floor| floor.sequence() > 5), "{floor:?}");
    server.ended().await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_is_ahead_is_told_so() {
    let mut workload = Workload::new(6, 60, 500);
    let mut world = World::new(3, workload.rows()).await;
    let server = world.serving().await;
    world.publish(&mut workload, &server, 3).await;
    let shown = world.writer.version();
    let next_epoch = Epoch::new(2).unwrap().start();
    for ahead in [shown.next().unwrap(), next_epoch] {
        let have = v1::Have {
            version: ahead.get(),
            ..have(&world, shown)
        };
        let mut client = resume(&world, &server, have).await;
        assert_eq!(client.next().await, Said::NotYet(shown));
        assert_eq!(client.next().await, Said::End);
    }
    server.ended().await;
}

#[tokio::test(start_paused = true)]
async fn a_frame_over_a_jump_is_for_its_beginning_only() {
    let mut workload = Workload::new(7, 60, 500);
    let mut world = World::new(2, workload.rows()).await;
    let server = world.serving().await;
    world.publish(&mut workload, &server, 3).await;
    let before = world.writer.version();
    // Bucket 0 loses a record; its head brings it over the hole.
    let inside = world.touch(&mut workload, B0);
    world.touch(&mut workload, B0);
    let mut flush = world.writer.flush(false);
    flush.records.clear();
    append(&*world.log, flush).await;
    world.writer.acknowledge();
    world.keep_bucket(B0, inside).await;
    server.until_at(world.writer.version()).await;
    let mut client = resume(&world, &server, have(&world, before)).await;
    client.until(world.writer.version()).await;
    assert_eq!(client.rows, world.writer.now().content());
    assert!(client.frames.iter().any(|(_, _, exact)| *exact));
    check(
        &world,
        &server,
        have(&world, inside),
        Said::Full("exact".into()),
    )
    .await;
    server.ended().await;
}

#[tokio::test(start_paused = true)]
async fn a_client_crosses_an_epoch_with_a_frame() {
    let mut workload = Workload::new(8, 60, 500);
    let mut world = World::new(3, workload.rows()).await;
    let server = world.serving().await;
    world.publish(&mut workload, &server, 3).await;
    let mut client = Client::new(&server.url).await;
    client.until(world.writer.version()).await;
    let last = world.writer.version();
    let drift = workload.writes();
    let flush = world.writer.open_epoch(Opening {
        drift,
        ..Opening::default()
    });
    append(&*world.log, flush).await;
    world.writer.acknowledge();
    let start = world.writer.version();
    assert_eq!(client.news().await, Said::Sealed(start));
    world.check(&client);
    assert_eq!(client.frames, [(last, start, true)]);
    check(&world, &server, have(&world, last), Said::Resume).await;
    server.ended().await;
}

#[tokio::test(start_paused = true)]
async fn progress_comes_each_second_and_brings_what_touched_nothing() {
    let mut workload = Workload::new(9, 60, 500);
    let mut world = World::new(3, workload.rows()).await;
    let server = world.serving().await;
    let mut client = Client::new(&server.url).await;
    client.until(world.writer.version()).await;
    for _ in 0..5 {
        let began = tokio::time::Instant::now();
        client.progress().await;
        assert!(began.elapsed() <= Duration::from_millis(1100));
    }
    let elsewhere = world.writer.execute();
    assert!(!client.executed.contains(&elsewhere));
    world.writer.write(&*world.log, true).await;
    let began = tokio::time::Instant::now();
    while !client.executed.contains(&elsewhere) {
        client.progress().await;
    }
    assert!(began.elapsed() <= Duration::from_millis(1100));
    server.ended().await;
}

#[tokio::test(start_paused = true)]
async fn a_draining_server_sends_everybody_away() {
    let mut workload = Workload::new(10, 60, 500);
    let world = World::new(3, workload.rows()).await;
    let server = world.serving().await;
    let mut client = Client::new(&server.url).await;
    client.until(world.writer.version()).await;
    let other = world.start().await;
    server.begin_stop();
    let away = Said::GoAway("this server is going down".into());
    assert_eq!(client.news().await, away);
    assert_eq!(client.next().await, Said::End);
    // It goes on at another one, with nothing to be told.
    other.until_at(world.writer.version()).await;
    let mut client = client.again(&other.url).await;
    assert_eq!(client.next().await, Said::Resume);
    client.progress().await;
    assert_eq!(client.frames, []);
    assert_eq!(client.rows, world.writer.now().content());
    let began = tokio::time::Instant::now();
    server.ended().await;
    assert!(began.elapsed() <= world.settings.drain + Duration::from_millis(100));
    other.ended().await;
}

#[tokio::test(start_paused = true)]
async fn get_answers_at_the_version_shown() {
    let mut workload = Workload::new(11, 60, 500);
    let mut world = World::new(3, workload.rows()).await;
    let server = world.serving().await;
    world.publish(&mut workload, &server, 5).await;
    let now = world.writer.now();
    let content = now.content();
    let keys: Vec<_> = (0..60).map(onair_model::Key::from_u64).collect();
    let request = v1::GetRequest {
        feed: crate::support::FEED.into(),
        keys: keys.iter().map(onair_model::Key::to_bytes).collect(),
    };
    let answer = server.client().await.get(request).await;
    let answer = answer.unwrap().into_inner();
    assert_eq!(answer.seal.unwrap().version, world.writer.version().get());
    let entries = onair_proto::entries::Entries::new(answer.entries);
    for (asked, entry) in keys.iter().zip(entries) {
        let (key, row) = entry.unwrap();
        assert_eq!((&key, row.as_ref()), (asked, content.get(asked)));
    }
    server.ended().await;
}
