//! Subscribers that do not read: they cost others nothing, and the server a stated number of bytes.

use std::time::Duration;

use onair_log::testing::Workload;
use onair_model::Key;
use tonic::transport::{Channel, Endpoint};

use crate::client::{Client, Said, request};
use crate::support::World;

/// HTTP/2's smallest useful window: what is under way to one who does not read.
const WINDOW: u32 = 65_535;

/// What HTTP/2 and this test's sockets take of a stream beyond the window before the server must wait: hyper's send
/// buffer of a stream (400 KiB) and one piece of it that may be larger (256 KiB).
const UNDER_WAY: usize = WINDOW as usize + (400 << 10) + (256 << 10);

const RING: usize = 200_000;

async fn narrow(url: &str) -> Channel {
    Endpoint::from_shared(url.to_owned())
        .unwrap()
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .connect()
        .await
        .unwrap()
}

async fn slow(url: &str) -> Client {
    Client::open(narrow(url).await, request(None))
        .await
        .unwrap()
}

/// A feed of `rows` rows of `len` bytes, and a small ring.
async fn feed(workload: &mut Workload, rows: u64, len: usize) -> World {
    let rows = (0..rows)
        .map(|key| (key, Some(workload.row(len))))
        .collect();
    let mut world = World::new(2, rows).await;
    world.settings.ring_bytes = RING;
    world
}

/// Commits one row of 5 kB.
fn change(world: &mut World, workload: &mut Workload, number: u64) {
    let row = workload.row(5000);
    world.writer.commit(vec![(number % 20, Some(row))]);
}

#[tokio::test(start_paused = true)]
async fn one_that_does_not_read_costs_others_nothing() {
    let mut workload = Workload::new(1, 0, 0);
    let mut world = feed(&mut workload, 40, 100).await;
    let server = world.serving().await;
    let start = world.writer.version();
    let mut fast = Client::new(&server.url).await;
    fast.until(start).await;
    let mut sleepers = Vec::new();
    for _ in 0..5 {
        let mut sleeper = slow(&server.url).await;
        sleeper.until(start).await;
        sleepers.push(sleeper);
    }
    const CHANGES: u64 = 600;
    for number in 0..CHANGES {
        change(&mut world, &mut workload, number);
        world.writer.write(&*world.log, false).await;
        // Each frame, as soon as its cut is there.
        assert_eq!(fast.news().await, Said::Sealed(world.writer.version()));
    }
    world.check(&fast);
    assert_eq!(fast.frames.len() as u64, CHANGES);
    let newest = world.writer.version();
    let all = CHANGES as usize * 5000;
    let snapshot: usize = world
        .writer
        .now()
        .content()
        .values()
        .map(|row| row.bytes().len())
        .sum();
    for sleeper in &mut sleepers {
        let before = sleeper.bytes;
        sleeper.until(newest).await;
        world.check(sleeper);
        let read = sleeper.bytes - before;
        let bound = UNDER_WAY + RING + 2 * snapshot;
        assert!(
            read < bound && bound < all,
            "{read} of {bound}, {all} in all"
        );
    }
    server.ended().await;
}

#[tokio::test(start_paused = true)]
async fn one_that_is_a_little_behind_gets_one_frame() {
    let mut workload = Workload::new(2, 0, 0);
    let mut world = feed(&mut workload, 40, 100).await;
    world.settings.ring_bytes = 64 << 20;
    let server = world.serving().await;
    let mut sleeper = slow(&server.url).await;
    sleeper.until(world.writer.version()).await;
    for number in 0..400 {
        change(&mut world, &mut workload, number);
        world.writer.write(&*world.log, false).await;
        server.until_at(world.writer.version()).await;
    }
    let newest = world.writer.version();
    sleeper.until(newest).await;
    world.check(&sleeper);
    let widest = sleeper
        .frames
        .iter()
        .map(|(from, to, _)| to.get() - from.get())
        .max();
    assert!(widest > Some(100), "conflated: {widest:?}");
    assert!(sleeper.frames.len() < 300);
    server.ended().await;
}

#[tokio::test(start_paused = true)]
async fn one_that_falls_behind_again_and_again_is_told_to_go() {
    let mut workload = Workload::new(3, 0, 0);
    // The snapshot is larger than what may be under way, so that the next one begins while it is not read.
    let mut world = feed(&mut workload, 40, 60_000).await;
    let server = world.serving().await;
    let mut fast = Client::new(&server.url).await;
    fast.until(world.writer.version()).await;
    let mut sleeper = slow(&server.url).await;
    assert_eq!(sleeper.next().await, Said::Full("first".into()));
    let mut lags = 0;
    let reason = 'lags: loop {
        for _ in 0..60 {
            let key = 20 + lags % 20;
            let row = workload.row(5000);
            world.writer.commit(vec![(100 + key, Some(row))]);
            world.writer.write(&*world.log, false).await;
            assert_eq!(fast.news().await, Said::Sealed(world.writer.version()));
        }
        loop {
            match sleeper.next().await {
                Said::Full(reason) => {
                    assert_eq!(reason, "lagged");
                    lags += 1;
                    break;
                }
                Said::GoAway(reason) => break 'lags reason,
                Said::Sealed(version) => {
                    assert_eq!(sleeper.rows, world.writer.at(version).content());
                }
                Said::Progress(_) => {}
                said => panic!("{said:?}"),
            }
        }
        assert!(lags < 20, "never told to go");
    };
    assert!(reason.contains("more slowly"), "{reason}");
    assert_eq!(lags, 4);
    assert_eq!(sleeper.next().await, Said::End);
    // It comes back, and is welcome.
    let mut back = sleeper.again(&server.url).await;
    back.until(world.writer.version()).await;
    assert!(back.rows.contains_key(&Key::from_u64(0)));
    world.check(&back);
    server.ended().await;
}

#[tokio::test(start_paused = true)]
async fn frames_are_spaced_as_subscribers_grow() {
    let mut workload = Workload::new(4, 0, 0);
    let mut world = feed(&mut workload, 40, 100).await;
    world.settings.delivery_cost = Duration::from_millis(50);
    world.settings.fanout_share = 0.5;
    world.settings.cores = 1;
    let server = world.serving().await;
    let mut clients = Vec::new();
    for _ in 0..2 {
        let mut client = Client::new(&server.url).await;
        client.until(world.writer.version()).await;
        clients.push(client);
    }
    // Two at 50 ms each on half of one processor: a frame every 200 ms.
    for number in 0..100 {
        change(&mut world, &mut workload, number);
        world.writer.write(&*world.log, false).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for client in &mut clients {
        client.until(world.writer.version()).await;
        world.check(client);
        let frames = client.frames.len();
        assert!(
            (8..=22).contains(&frames),
            "{frames} frames of 100 cuts in 2 s"
        );
    }
    assert_eq!(server.status().await.spacing_ms, 200);
    server.ended().await;
}
