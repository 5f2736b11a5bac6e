//! What the binlog still holds: dumps from GTID sets, purges, lost tails, resets, broken connections.

use onair_model::{Gtid, GtidSet};

use super::super::commits::Rooms;
use super::super::{DemoServer, DemoSettings, DemoSource, Network};
use super::reader::{Reader, live, on_air};
use super::{quiet, server};
use crate::source::{EventStream, RawEvent, SILENCE_MAX, Source, SourceError};
use crate::stream::StreamError;

fn number(gtid: Gtid) -> u64 {
    match gtid {
        Gtid::Mysql { number, .. } => number,
        Gtid::Mariadb { .. } => panic!(),
    }
}

/// The transactions that a dump gives right now, by the bytes of their GTID events.
fn numbers(stream: &mut dyn EventStream) -> Vec<u64> {
    let mut numbers = Vec::new();
    while let Some(event) = stream.try_next().unwrap() {
        if event.kind == 33 {
            numbers.push(u64::from_le_bytes(event.body[17..25].try_into().unwrap()));
        }
    }
    numbers
}

/// This server's transactions of these numbers.
fn set(server: &DemoServer, intervals: &[(u64, u64)]) -> GtidSet {
    match server.written() {
        GtidSet::Mysql(sources) => {
            let source = *sources.keys().next().unwrap();
            GtidSet::Mysql([(source, intervals.to_vec())].into())
        }
        GtidSet::Mariadb(_) => panic!(),
    }
}

#[tokio::test(start_paused = true)]
async fn a_dump_begins_anywhere_and_leaves_out_what_the_client_has() {
    let server = server(10, 1);
    let source = DemoSource::new(server.clone());
    let add = |id| {
        number(
            server
                .transaction(|t| t.insert(on_air(id, "x")).unwrap())
                .unwrap(),
        )
    };
    let first = add(100);
    for id in 101..110 {
        add(id);
    }
    server.rotate();
    for id in 110..120 {
        add(id);
    }
    let last = first + 19;
    for (had, expected) in [
        (vec![(1, first - 1)], (first..=last).collect::<Vec<_>>()),
        (vec![(1, first + 4)], (first + 5..=last).collect()),
        (vec![(1, first + 9)], (first + 10..=last).collect()),
        (vec![(1, first + 14)], (first + 15..=last).collect()),
        (vec![(1, last)], vec![]),
        // With holes, and other servers' transactions besides.
        (
            vec![(1, first), (first + 3, first + 12), (first + 14, last)],
            vec![first + 1, first + 2, first + 13],
        ),
    ] {
        let mut from = set(&server, &had);
        from.union(&"3e11fa47-71ca-11e1-9e33-c80aa9429562:1-9".parse().unwrap());
        let mut stream = source.follow(&from).await.unwrap();
        assert_eq!(numbers(&mut *stream), expected, "{had:?}");
    }
    for had in [
        vec![],
        vec![(1, first - 2)],
        vec![(2, last)],
        vec![(1, last + 1)],
    ] {
        let from = match had[..] {
            [] => GtidSet::mysql(),
            _ => set(&server, &had),
        };
        let refused = source.follow(&from).await.map(|_| ()).unwrap_err();
        assert!(matches!(refused, SourceError::Purged { .. }), "{refused}");
    }
}

fn small_history(seed: u64) -> DemoSettings {
    DemoSettings {
        history_bytes: 256 << 10,
        history_transactions: 400,
        ..quiet(100, seed)
    }
}

#[tokio::test(start_paused = true)]
async fn a_full_history_drops_its_oldest_file() {
    let server = DemoServer::start(small_history(3));
    let source = DemoSource::new(server.clone());
    let from = server.executed();
    let mut slow = source.follow(&from).await.unwrap();
    let mut quick = Reader::open(&server).await;
    for _ in 0..100 {
        server.work(20);
        quick.reach(&server.written()).await.unwrap();
        let held: usize = server.binlogs().iter().map(|(_, bytes)| bytes.len()).sum();
        assert!(held < 300 << 10, "{held}");
    }
    assert_eq!(quick.held, live(&quick.feed, &server.table()));
    assert!(server.counts().files_purged > 10);

    // What is purged and what the files hold is everything.
    let identity = source.identity().await.unwrap();
    assert_eq!(identity.executed, server.written());
    let mut stream = source.follow(&identity.purged).await.unwrap();
    let mut all = identity.purged.clone();
    let held = numbers(&mut *stream);
    for number in &held {
        all.union(&set(&server, &[(*number, *number)]));
    }
    assert_eq!(all, identity.executed);
    assert!(held.len() > 200, "{}", held.len());

    let refused = source.follow(&from).await.map(|_| ()).unwrap_err();
    assert!(matches!(refused, SourceError::Purged { .. }), "{refused}");
    let seen = loop {
        match slow.try_next() {
            Ok(Some(_)) => {}
            other => break other,
        }
    };
    assert!(matches!(seen, Err(SourceError::Purged { .. })), "{seen:?}");
    server.purge();
    assert_eq!(server.binlogs().len(), 1);
}

/// The error that a stream ends with.
async fn end(reader: &mut Reader) -> SourceError {
    loop {
        match reader.step().await {
            Ok(_) => {}
            Err(StreamError::Source(error)) => return error,
            Err(error) => panic!("{error}"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_lost_tail_is_lost_and_its_numbers_come_again() {
    let server = server(200, 9);
    server.work(50);
    let kept: Rooms = server.table();
    let kept_set = server.written();
    let kept_count = server.counts().transactions;
    let mut early = Reader::open(&server).await;
    let feed = early.feed.clone();
    server.work(10);
    server.truncate();
    server.work(5);
    server.rotate();
    server.work(14);
    let lost_set = server.written();
    early.reach(&lost_set).await.unwrap();
    let tail = server.counts().transactions - kept_count;
    assert!(tail > 10);
    assert_eq!(server.lose_tail(tail), tail);

    assert_eq!(server.table(), kept);
    assert_eq!(server.visible(), kept);
    assert_eq!(
        (server.executed(), server.written()),
        (kept_set.clone(), kept_set.clone())
    );
    let ended = end(&mut early).await;
    assert!(matches!(ended, SourceError::Unreachable { .. }), "{ended}");
    let ahead = early
        .source
        .follow(&lost_set)
        .await
        .map(|_| ())
        .unwrap_err();
    assert!(matches!(ahead, SourceError::Purged { .. }), "{ahead}");

    // The numbers are given again, to other transactions.
    while server.written() != lost_set {
        server.work(1);
    }
    let held = live(&feed, &kept);
    let mut late = Reader::resume(&server, kept_set, held).await.unwrap();
    late.reach(&lost_set).await.unwrap();
    assert_eq!(late.held, live(&feed, &server.table()));
    assert!(late.barriers.is_empty());

    // Never more than the binlog holds.
    server.purge();
    assert_eq!(server.lose_tail(1_000), tail);
    assert_eq!(server.table(), kept);
}

#[tokio::test(start_paused = true)]
async fn a_reset_begins_the_history_anew_and_keeps_the_rows() {
    let server = server(100, 2);
    server.work(40);
    let mut reader = Reader::open(&server).await;
    let (before, rows) = (server.written(), server.table());
    server.reset_gtids();
    assert!(matches!(
        end(&mut reader).await,
        SourceError::Unreachable { .. }
    ));
    assert_eq!(server.table(), rows);
    let identity = reader.source.identity().await.unwrap();
    assert!(identity.executed.is_empty() && identity.purged.is_empty());
    let refused = reader.source.follow(&before).await.map(|_| ()).unwrap_err();
    assert!(matches!(refused, SourceError::Purged { .. }), "{refused}");

    let held = live(&reader.feed, &rows);
    let mut again = Reader::resume(&server, GtidSet::mysql(), held)
        .await
        .unwrap();
    server.work(40);
    again.reach(&server.written()).await.unwrap();
    assert_eq!(again.held, live(&again.feed, &server.table()));
}

#[tokio::test(start_paused = true)]
async fn a_network_that_fails_is_seen_as_such() {
    let server = server(100, 2);
    let mut reader = Reader::open(&server).await;
    server.network(Network::Down);
    assert!(matches!(
        end(&mut reader).await,
        SourceError::Unreachable { .. }
    ));
    let name = super::room::table().name;
    let source = reader.source.clone();
    assert!(matches!(
        source.identity().await,
        Err(SourceError::Unreachable { .. })
    ));
    assert!(matches!(
        source.table(&name).await,
        Err(SourceError::Unreachable { .. })
    ));
    assert!(matches!(
        source.preflight(&[]).await,
        Err(SourceError::Unreachable { .. })
    ));

    server.network(Network::Up);
    let held = reader.held.clone();
    let mut reader = Reader::resume(&server, reader.delivered, held)
        .await
        .unwrap();
    server.network(Network::Hung);
    let begun = tokio::time::Instant::now();
    assert!(matches!(end(&mut reader).await, SourceError::Silent { .. }));
    assert_eq!(begun.elapsed(), SILENCE_MAX);

    server.network(Network::Up);
    let mut reader = Reader::open(&server).await;
    server.disconnect();
    assert!(matches!(
        end(&mut reader).await,
        SourceError::Unreachable { .. }
    ));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_gone_ends_its_streams() {
    let server = server(10, 2);
    let mut stream = DemoSource::new(server.clone())
        .follow(&server.executed())
        .await
        .unwrap();
    drop(server);
    let ended = loop {
        let next: Result<RawEvent, SourceError> = stream.next().await;
        if let Err(error) = next {
            break error;
        }
    };
    assert!(matches!(ended, SourceError::Unreachable { .. }), "{ended}");
}

#[tokio::test(start_paused = true)]
async fn two_servers_are_two_and_one_can_be_named() {
    let identity = |settings: DemoSettings| async {
        let source = DemoSource::new(DemoServer::start(settings));
        source.identity().await.unwrap()
    };
    let (one, other) = (identity(quiet(1, 1)).await, identity(quiet(1, 1)).await);
    assert_ne!(one.server, other.server);
    assert_eq!(one.version, "9.7.4-demo");
    let named = DemoSettings {
        uuid: Some(0x3e11_fa47_71ca_11e1_9e33_c80a_a942_9562),
        ..quiet(1, 1)
    };
    let named = identity(named).await;
    assert_eq!(named.server, "3e11fa47-71ca-11e1-9e33-c80aa9429562");
    assert_eq!(
        named.executed,
        format!("{}:1-2", named.server).parse().unwrap()
    );
}
