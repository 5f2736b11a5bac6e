//! Reading one's own writes.

use std::time::Duration;

use onair_sdk::{GtidSet, WaitError};

use crate::support::{connect, room, server};

#[tokio::test(start_paused = true)]
async fn a_transaction_of_the_feed_is_waited_for_by_version_and_by_gtid() {
    let server = server(3);
    let rooms = connect(&server).await;
    server.on(4, room(4, "mine"));
    let version = server.commit();
    let gtid = server.gtid().unwrap();
    for snapshot in [
        rooms.wait_for(version).await.unwrap(),
        rooms.wait_for(gtid).await.unwrap(),
        rooms.wait_for(gtid.to_string()).await.unwrap(),
        rooms.wait_for(&*version.to_string()).await.unwrap(),
        rooms
            .wait_for(gtid.to_string().parse::<GtidSet>().unwrap())
            .await
            .unwrap(),
    ] {
        assert!(snapshot.contains(&4));
        assert!(snapshot.executed().contains(&gtid));
    }
}

#[tokio::test(start_paused = true)]
async fn a_transaction_elsewhere_is_reached_with_the_next_progress() {
    let server = server(3);
    let rooms = connect(&server).await;
    let before = rooms.snapshot().version();
    let gtid = server.commit_elsewhere();
    let waited = tokio::time::timeout(Duration::from_millis(1100), rooms.wait_for(gtid)).await;
    assert_eq!(waited.unwrap().unwrap().version(), before);
    // No step for it.
    let mut changes = rooms.changes();
    changes.next().await.unwrap();
    assert!(changes.try_next().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_version_not_reached_is_waited_for() {
    let server = server(3);
    let rooms = connect(&server).await;
    let later = "1-3";
    let waiting = tokio::time::timeout(Duration::from_secs(3600), rooms.wait_for(later));
    assert!(waiting.await.is_err());
    let (reached, ()) = tokio::join!(rooms.wait_for(later), async {
        server.commit();
        tokio::time::sleep(Duration::from_secs(1)).await;
        server.commit();
    });
    assert_eq!(reached.unwrap().version().to_string(), later);
}

#[tokio::test(start_paused = true)]
async fn what_is_no_target_is_said() {
    let server = server(1);
    let rooms = connect(&server).await;
    for text in ["", "57", "x:1", "1-2-3-4"] {
        let error = rooms.wait_for(text).await.unwrap_err();
        assert_eq!(error, WaitError::NotATarget(text.to_owned()));
        assert!(!error.is_retryable());
    }
}
