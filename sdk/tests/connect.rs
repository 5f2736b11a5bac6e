//! Connecting, snapshots, keys, status.

use onair_sdk::{Feed, State};

use crate::support::{Room, builder, chain, connect, room, server, until};

#[tokio::test(start_paused = true)]
async fn a_snapshot_is_one_version_whole_and_stays_as_it_is() {
    let server = server(250);
    let rooms = connect(&server).await;
    let before = rooms.snapshot();
    assert_eq!((before.len(), before.version()), (250, server.version()));
    assert_eq!(
        before.get(&7),
        Some(&Room {
            uid: 7,
            title: Some("room".into())
        })
    );
    assert_eq!(before.get(&7u64), before.get(&7i8));
    assert_eq!(
        (before.get(&0), before.get(&-7), before.get("7")),
        (None, None, None)
    );
    assert_eq!(before.iter().count(), 250);
    assert_eq!(before.gtid(), server.gtid().as_ref());

    server.on(7, room(8, "other"));
    server.off(9);
    server.on(1000, room(1000, "new"));
    let version = server.commit();
    let after = rooms.wait_for(version).await.unwrap();
    assert_eq!((after.len(), after.version()), (250, version));
    assert_eq!(after.get(&7).map(|room| room.uid), Some(8));
    assert!(after.contains(&1000) && !after.contains(&9));
    assert_eq!(before.get(&7).map(|room| room.uid), Some(7));
    assert!(before.contains(&9) && !before.contains(&1000));

    let status = rooms.status();
    assert_eq!((status.state, status.version), (State::Live, version));
    assert_eq!(status.endpoint, Some(server.endpoint().name()));
}

#[tokio::test]
async fn a_port_is_as_good_as_a_pipe() {
    let server = server(3);
    let url = server.listen().await.unwrap();
    let rooms = onair_sdk::Feed::<Room>::connect([url], "rooms")
        .await
        .unwrap();
    server.off(2);
    let version = server.commit();
    assert_eq!(rooms.wait_for(version).await.unwrap().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_fixed_feed_needs_no_server() {
    let rooms = Feed::fixed([(42, "a"), (43, "b")]);
    assert_eq!(rooms.snapshot().get(&42u64), Some(&"a"));
    assert_eq!(
        (rooms.snapshot().len(), rooms.status().state),
        (2, State::Fixed)
    );
    assert!(rooms.snapshot().proven().is_none());
    let mut changes = rooms.changes();
    assert_eq!(changes.next().await.unwrap().on.len(), 2);
    assert!(changes.try_next().is_none());
    rooms.close().await;
    assert!(changes.next().await.is_none());

    let pairs = Feed::fixed([(("eu", 7u32), 1.5)]);
    assert_eq!(pairs.snapshot().get(&("eu", 7i64)), Some(&1.5));
    assert_eq!(
        Feed::<u8>::fixed(Vec::<(&str, u8)>::new()).snapshot().len(),
        0
    );
}

#[tokio::test(start_paused = true)]
async fn an_empty_feed_is_served_like_any_other() {
    let server = server(0);
    let rooms = connect(&server).await;
    assert!(rooms.snapshot().is_empty());
    server.on(1, room(1, "first"));
    assert_eq!(rooms.wait_for(server.commit()).await.unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn more_rows_or_bytes_than_a_client_takes_are_refused() {
    let server = server(10);
    let error = builder(&[&server]).max_rows(9).connect().await.unwrap_err();
    assert!(chain(&error).contains("more than 9 rows"), "{error}");
    let error = builder(&[&server])
        .max_message_size(100)
        .connect()
        .await
        .unwrap_err();
    assert!(chain(&error).contains("too long"), "{error}");
    let rooms = builder(&[&server]).max_rows(10).connect().await.unwrap();
    server.on(11, room(11, "one too many"));
    server.commit();
    until(&rooms, |status| status.refusals > 0).await;
    assert_eq!(rooms.snapshot().len(), 10);
}

#[test]
fn handles_may_cross_threads() {
    fn crosses<T: Send + Sync + 'static>() {}
    crosses::<Feed<Room>>();
    crosses::<onair_sdk::Snapshot<Room>>();
    crosses::<onair_sdk::Changes<Room>>();
    crosses::<onair_sdk::StatusWatch<Room>>();
    crosses::<onair_sdk::Index<Room, u64>>();
    crosses::<onair_sdk::ConnectError>();
}
