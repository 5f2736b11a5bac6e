//! The stages of a commit, one late at a time (facts F1 to F4 of MySQL's group commit).

use std::sync::Arc;
use std::time::Duration;

use onair_model::GtidSet;
use tokio::time::Instant;

use super::super::{CommitOrder, Delay, DemoServer, DemoSource, Hooks};
use super::reader::{Reader, on_air};
use super::server;
use crate::source::{Gate, ScanRequest, Scanned, Source};

const LATE: Duration = Duration::from_millis(500);

fn add(server: &DemoServer, id: u64) -> GtidSet {
    let gtid = server.transaction(|t| t.insert(on_air(id, "new")).unwrap());
    let mut set = GtidSet::mysql();
    set.insert(&gtid.unwrap());
    set
}

async fn scan(reader: &Reader, delivered: &GtidSet) -> Scanned {
    let request = ScanRequest {
        feed: reader.feed.clone(),
        delivered: delivered.clone(),
        parallel: 1,
        max_rate: None,
        gate: Gate::always_open(),
    };
    reader
        .source
        .scan(&request, Arc::new(|_, _| {}))
        .await
        .unwrap()
}

#[tokio::test(start_paused = true)]
async fn the_stream_may_be_ahead_of_select() {
    let server = server(10, 1);
    let mut reader = Reader::open(&server).await;
    let live = reader.held.len() as u64;
    server.set_hooks(Hooks {
        visible_delay: Delay::always(LATE),
        ..Hooks::default()
    });
    let begun = Instant::now();
    let new = add(&server, 1_000);
    reader.reach(&new).await.unwrap();
    assert_eq!(begun.elapsed(), Duration::ZERO);
    assert!(!server.visible().contains_key(&1_000));
    assert!(server.table().contains_key(&1_000));
    assert!(!server.executed().contains_set(&new));

    // A scan that is not told of it does not see it; its high says so all the same, as the GTID is owned.
    let scanned = scan(&reader, &GtidSet::mysql()).await;
    assert_eq!(scanned.rows, live);
    assert!(scanned.high.contains_set(&new));
    assert_eq!(server.counts().views_behind_stream, 1);

    // One that is told waits.
    let scanned = scan(&reader, &reader.delivered).await;
    assert_eq!(scanned.rows, live + 1);
    assert_eq!(begun.elapsed().as_millis(), LATE.as_millis());
    assert_eq!(server.counts().scan_waits, 1);
}

#[tokio::test(start_paused = true)]
async fn select_may_be_ahead_of_executed_and_of_the_stream() {
    let server = server(10, 1);
    let mut reader = Reader::open(&server).await;
    let live = reader.held.len() as u64;
    server.set_hooks(Hooks {
        executed_delay: Delay::always(LATE),
        stream_delay: Delay::always(LATE * 2),
        ..Hooks::default()
    });
    let begun = Instant::now();
    let new = add(&server, 1_000);
    assert!(server.visible().contains_key(&1_000));
    assert!(!server.executed().contains_set(&new));
    let scanned = scan(&reader, &reader.delivered).await;
    assert_eq!(scanned.rows, live + 1);
    assert!(scanned.high.contains_set(&new));
    let counts = server.counts();
    assert_eq!(counts.highs_from_owned, 1);
    assert_eq!(counts.views_ahead_of_executed, 1);
    assert_eq!(counts.views_ahead_of_stream, 1);
    assert_eq!(begun.elapsed(), Duration::ZERO);

    reader.reach(&scanned.high).await.unwrap();
    assert_eq!(begun.elapsed().as_millis(), 2 * LATE.as_millis());
    assert!(server.executed().contains_set(&new));
}

#[tokio::test(start_paused = true)]
async fn engine_commits_keep_the_binlogs_order_unless_told_otherwise() {
    for order in [CommitOrder::Binlog, CommitOrder::Any] {
        let server = server(10, 1);
        let late = Hooks {
            visible_delay: Delay::always(LATE),
            order,
            ..Hooks::default()
        };
        server.set_hooks(late);
        let first = add(&server, 1_000);
        server.set_hooks(Hooks {
            order,
            ..Hooks::default()
        });
        let second = add(&server, 1_001);
        let any = order == CommitOrder::Any;
        assert_eq!(server.visible().contains_key(&1_001), any);
        assert_eq!(server.executed().contains_set(&second), any);
        assert!(!server.visible().contains_key(&1_000));

        // Whoever wants the first row waits for its lock, and so until it is committed.
        server.transaction(|t| assert!(t.delete(1_000)));
        assert_eq!(server.counts().lock_conflicts, 1);
        assert_eq!(server.visible().contains_key(&1_000), !any);
        assert_eq!(server.visible().contains_key(&1_001), any);
        tokio::time::advance(LATE).await;
        assert!(server.executed().contains_set(&first));
        assert_eq!(server.executed(), server.written());
        assert_eq!(server.visible(), server.table());
        assert!(!server.table().contains_key(&1_000));
    }
}

#[tokio::test(start_paused = true)]
async fn ddl_waits_for_all_commits_and_is_a_barrier() {
    let server = server(50, 1);
    let mut reader = Reader::open(&server).await;
    server.set_hooks(Hooks {
        visible_delay: Delay::always(LATE),
        ..Hooks::default()
    });
    add(&server, 1_000);
    server.truncate();
    assert!(server.visible().contains_key(&1_000));
    assert!(server.table().is_empty());
    add(&server, 1_001);
    server.settle();
    assert_eq!(server.visible().len(), 1);
    assert_eq!(server.executed(), server.written());
    reader.held.clear();
    let written = server.written();
    while !reader.delivered.contains_set(&written) {
        reader.step().await.unwrap();
        if !reader.barriers.is_empty() {
            break;
        }
        reader.held.clear();
    }
    assert_eq!(reader.barriers.len(), 1, "{:?}", reader.barriers);
    server.statement("ALTER TABLE room ADD COLUMN note INT");
    reader.held.clear();
    while reader.barriers.len() < 2 {
        reader.step().await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn no_heartbeat_attests_what_is_still_to_be_sent() {
    let server = server(10, 1);
    let source = DemoSource::new(server.clone());
    let mut stream = source.follow(&server.written()).await.unwrap();
    server.set_hooks(Hooks {
        stream_delay: Delay::always(Duration::from_secs(3)),
        ..Hooks::default()
    });
    add(&server, 1_000);
    let mut kinds = Vec::new();
    let begun = Instant::now();
    while kinds.last() != Some(&27) {
        kinds.push(stream.next().await.unwrap().kind);
    }
    // File head, the transaction, and only then a heartbeat.
    assert_eq!(kinds, [4, 15, 35, 33, 2, 19, 30, 16, 27]);
    assert_eq!(begun.elapsed().as_secs(), 4);
}
