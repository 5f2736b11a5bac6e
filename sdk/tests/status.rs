//! State, age, and what a feed says when something is wrong.

use std::time::Duration;

use onair_sdk::testing::{Answer, Damage};
use onair_sdk::{Backoff, ConnectError, Feed, Problem, State};

use crate::support::{Room, builder, connect, server, until};

#[tokio::test(start_paused = true)]
async fn v16_age_is_what_the_server_says_and_grows_without_it() {
    let server = server(3);
    let rooms = builder(&[&server])
        .stale_after(Duration::from_secs(8))
        .connect()
        .await
        .unwrap();
    let mut watch = rooms.status_watch();
    server.set_age(Duration::from_secs(3));
    server.progress();
    until_age(&rooms, Duration::from_secs(3)).await;
    assert_eq!(rooms.status().state, State::Live);
    // The source stands still: it is said, though messages come.
    server.set_age(Duration::from_secs(9));
    let status = watch
        .wait_for(|status| status.state == State::Stale)
        .await
        .unwrap();
    assert!(status.age >= Duration::from_secs(8) && status.endpoint.is_some());
    server.set_age(Duration::ZERO);
    watch
        .wait_for(|status| status.state == State::Live)
        .await
        .unwrap();
    assert!(rooms.age() < Duration::from_secs(2));
}

async fn until_age(rooms: &Feed<Room>, age: Duration) {
    while rooms.age() < age {
        tokio::time::advance(Duration::from_millis(100)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn c01_silence_for_ten_minutes_is_noticed_and_caught_up_with() {
    let server = server(3);
    let rooms = connect(&server).await;
    let mut watch = rooms.status_watch();
    server.stall();
    let began = tokio::time::Instant::now();
    let status = watch
        .wait_for(|status| status.last_problem.is_some())
        .await
        .unwrap();
    assert!(matches!(status.last_problem, Some(Problem::Silent { .. })));
    let noticed = began.elapsed();
    assert!(
        noticed >= Duration::from_secs(5) && noticed < Duration::from_secs(7),
        "{noticed:?}"
    );
    watch
        .wait_for(|status| status.state == State::Stale)
        .await
        .unwrap();
    server.off(1);
    let version = server.commit();
    tokio::time::sleep_until(began + Duration::from_secs(600)).await;
    assert_eq!(rooms.snapshot().len(), 3);
    assert!(rooms.age() > Duration::from_secs(590));
    server.go_on();
    assert_eq!(rooms.wait_for(version).await.unwrap().len(), 2);
    watch
        .wait_for(|status| status.state == State::Live)
        .await
        .unwrap();
    assert_eq!(rooms.status().wholes, 1);
}

#[tokio::test(start_paused = true)]
async fn c01_a_client_that_stood_still_for_ten_minutes_goes_on() {
    let server = server(3);
    let rooms = connect(&server).await;
    tokio::time::advance(Duration::from_secs(600)).await;
    server.off(1);
    assert_eq!(rooms.wait_for(server.commit()).await.unwrap().len(), 2);
    assert_eq!(rooms.status().wholes, 1);
}

#[tokio::test(start_paused = true)]
async fn what_the_server_holds_back_and_what_is_proven_are_told() {
    let server = server(3);
    let rooms = connect(&server).await;
    assert_eq!(rooms.snapshot().proven(), None);
    server.prove();
    server.hold("bucket 3 is behind");
    let status = until(&rooms, |status| status.held.is_some()).await;
    assert_eq!(status.held.as_deref(), Some("bucket 3 is behind"));
    let proven = rooms.snapshot().proven().unwrap();
    assert_eq!(proven.version, server.version());
    server.hold("");
    until(&rooms, |status| status.held.is_none()).await;
}

#[tokio::test(start_paused = true)]
async fn a_feed_that_nobody_has_is_said_at_once() {
    for answer in [Answer::UnknownFeed, Answer::NotAllowed] {
        let (one, two) = (server(1), server(1));
        one.answer(answer);
        two.answer(answer);
        let began = tokio::time::Instant::now();
        let error = builder(&[&one, &two]).connect().await.unwrap_err();
        assert!(
            matches!(error, ConnectError::Refused(Problem::Rejected { .. })),
            "{error}"
        );
        assert!(!error.is_retryable() && began.elapsed() < Duration::from_secs(1));
    }
    // One that has it is enough.
    let (one, two) = (server(1), server(1));
    one.answer(Answer::UnknownFeed);
    assert!(builder(&[&one, &two]).connect().await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_server_that_cannot_be_had_is_tried_until_the_time_is_over() {
    for answer in [
        Answer::Unreachable,
        Answer::Busy,
        Answer::Nothing,
        Answer::OnlyProgress,
    ] {
        let server = server(1);
        server.answer(answer);
        let began = tokio::time::Instant::now();
        let limit = Duration::from_secs(7);
        let error = builder(&[&server])
            .init_timeout(limit)
            .connect()
            .await
            .unwrap_err();
        let ConnectError::Timeout { after, last, .. } = &error else {
            panic!("{error}")
        };
        assert_eq!((*after, began.elapsed()), (limit, limit));
        assert!(last.as_ref().is_some_and(Problem::is_retryable) && error.is_retryable());
    }
    // It comes up in time.
    let server = server(1);
    server.answer(Answer::Unreachable);
    let connecting = builder(&[&server]).connect();
    let (rooms, ()) = tokio::join!(connecting, async {
        tokio::time::sleep(Duration::from_secs(6)).await;
        server.answer(Answer::Well);
    });
    assert!(rooms.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_first_snapshot_that_is_arriving_may_arrive() {
    for (goes_on, arrives) in [(true, true), (false, false)] {
        let server = server(300);
        server.damage_next(Damage::SnapshotSlow);
        let silence = Duration::from_secs(60);
        let connecting = builder(&[&server]).silence_timeout(silence).connect();
        let began = tokio::time::Instant::now();
        let (rooms, ()) = tokio::join!(connecting, async {
            tokio::time::sleep(Duration::from_secs(30)).await;
            if goes_on {
                server.go_on();
            }
        });
        assert_eq!(rooms.is_ok(), arrives);
        let waited = if arrives {
            Duration::from_secs(30)
        } else {
            silence
        };
        assert_eq!(began.elapsed().as_secs(), waited.as_secs());
    }
}

#[tokio::test(start_paused = true)]
async fn v06_a_dead_server_is_asked_ever_more_seldom() {
    let server = server(1);
    let backoff = Backoff {
        first: Duration::from_millis(100),
        max: Duration::from_secs(10),
    };
    let rooms = builder(&[&server])
        .backoff(backoff)
        .connect()
        .await
        .unwrap();
    server.answer(Answer::Busy);
    server.cut();
    tokio::time::sleep(Duration::from_secs(600)).await;
    let attempts = rooms.status().reconnects;
    // Full jitter: 5 s on average once waits have grown.
    assert!((60..300).contains(&attempts), "{attempts}");
}

#[tokio::test]
async fn settings_that_cannot_work_are_named_all_at_once() {
    let error = Feed::<Room>::builder(["localhost:7400", "ftp://host", "http://a b"], "")
        .silence_timeout(Duration::ZERO)
        .connect()
        .await
        .unwrap_err();
    let ConnectError::Settings(faults) = &error else {
        panic!("{error}")
    };
    assert_eq!(faults.len(), 5, "{error}");
    let none: [&str; 0] = [];
    let error = Feed::<Room>::connect(none, "rooms").await.unwrap_err();
    assert_eq!(error.to_string(), "settings: no server is given");
    assert!(!error.is_retryable());
}

#[tokio::test(start_paused = true)]
async fn closing_ends_waits_changes_and_watches_and_keeps_snapshots() {
    let server = server(3);
    let rooms = connect(&server).await;
    let (mut changes, mut watch) = (rooms.changes(), rooms.status_watch());
    changes.next().await.unwrap();
    let clone = rooms.clone();
    let waiting = clone.wait_for("9-9");
    let (waited, ()) = tokio::join!(waiting, async { rooms.close().await });
    assert!(waited.is_err() && changes.next().await.is_none());
    assert!(watch.wait_for(|_| false).await.is_none());
    assert_eq!(
        (rooms.status().state, rooms.snapshot().len()),
        (State::Closed, 3)
    );
}

#[tokio::test(start_paused = true)]
async fn dropping_the_last_clone_ends_the_stream() {
    let server = server(3);
    let rooms = connect(&server).await;
    let clone = rooms.clone();
    let mut changes = rooms.changes();
    changes.next().await.unwrap();
    drop(rooms);
    server.off(1);
    server.commit();
    assert!(changes.next().await.is_some());
    drop(clone);
    assert!(changes.next().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn servers_see_who_asks_for_what() {
    let server = server(1);
    let rooms = builder(&[&server])
        .client_name("gifts")
        .view("vip")
        .connect()
        .await
        .unwrap();
    let subscription = server.subscriptions().pop().unwrap();
    assert_eq!(
        (&*subscription.client, &*subscription.view),
        ("gifts", "vip")
    );
    assert_eq!(subscription.have, None);
    drop(rooms);
}
