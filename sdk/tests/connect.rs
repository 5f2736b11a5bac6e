//! Connecting, snapshots, keys, status.

use onair_sdk::State;

use crate::support::{Room, connect, room, server};

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
