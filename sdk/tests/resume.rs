//! Streams that end, servers that change: going on without a snapshot, and never back.

use std::time::Duration;

use onair_sdk::testing::{Answer, Tail};
use onair_sdk::{Problem, Refusal, State};

use crate::support::{Mirror, agrees, builder, connect, room, server, until};

#[tokio::test(start_paused = true)]
async fn v01_a_server_that_dies_a_hundred_times_is_gone_on_with() {
    let server = server(50);
    let rooms = connect(&server).await;
    let mut mirror = Mirror::new(&rooms);
    for round in 1..=100 {
        server.cut();
        server.on(round, room(round + 1000, "again"));
        server.off(round + 7);
        let version = server.commit();
        rooms.wait_for(version).await.unwrap();
        mirror.catch_up();
        agrees(&rooms, &server);
    }
    let subscriptions = server.subscriptions();
    assert_eq!(subscriptions.len(), 101);
    assert!(
        subscriptions[1..]
            .iter()
            .all(|subscription| subscription.resumed)
    );
    assert_eq!((rooms.status().wholes, rooms.status().refusals), (1, 0));
}

/// What a client gets that comes back `missed` commits later to a server that has kept frames since commit `kept`.
async fn check_resume(missed: u64, forget_at: Option<u64>, resumed: bool) {
    let server = server(10);
    let rooms = connect(&server).await;
    let mut mirror = Mirror::new(&rooms);
    mirror.next().await;
    server.answer(Answer::Unreachable);
    server.cut();
    for commit in 1..=missed {
        if forget_at == Some(commit) {
            server.forget_frames();
        }
        server.on(commit, room(commit + 100, "missed"));
        server.off(commit + 1);
        server.commit();
    }
    server.answer(Answer::Well);
    rooms
        .wait_for(server.version())
        .await
        .expect("the feed is open");
    server.wait_for_subscriptions(2).await;
    mirror.catch_up();
    agrees(&rooms, &server);
    let subscription = server.subscriptions().pop().expect("two of them");
    assert_eq!(
        subscription.resumed, resumed,
        "missed {missed}, forgotten at {forget_at:?}"
    );
    assert_eq!(rooms.status().wholes, if resumed { 1 } else { 2 });
}

#[tokio::test(start_paused = true)]
async fn v02_h29_resume_at_the_floor_below_it_above_it_and_at_the_current_version() {
    // Nothing missed, all frames kept, and forgotten.
    check_resume(0, None, true).await;
    check_resume(3, None, true).await;
    // The oldest frame kept begins at the client's version: the floor.
    check_resume(3, Some(1), true).await;
    // It begins one version later: too old.
    check_resume(3, Some(2), false).await;
    check_resume(3, Some(3), false).await;
}

#[tokio::test(start_paused = true)]
async fn v02_a_client_of_an_older_epoch_gets_what_is_later_whole() {
    let server = server(10);
    let rooms = connect(&server).await;
    server.answer(Answer::Unreachable);
    server.cut();
    server.off(3);
    server.open_epoch(Tail::Kept);
    server.forget_frames();
    server.on(4, room(44, "later"));
    server.commit();
    server.answer(Answer::Well);
    rooms.wait_for(server.version()).await.unwrap();
    agrees(&rooms, &server);
    assert_eq!(rooms.status().wholes, 2);
}

#[tokio::test(start_paused = true)]
async fn v03_an_older_server_is_waited_for_and_versions_never_go_back() {
    let ahead = server(10);
    let behind = ahead.fork();
    ahead.on(1, room(11, "newer"));
    ahead.commit();
    let rooms = builder(&[&ahead, &behind]).connect().await.unwrap();
    let mut mirror = Mirror::new(&rooms);
    mirror.next().await;

    ahead.answer(Answer::Unreachable);
    ahead.cut();
    behind.wait_for_subscriptions(2).await;
    assert_eq!(rooms.snapshot().version(), ahead.version());
    let status = until(&rooms, |status| {
        matches!(status.last_problem, Some(Problem::Behind { .. }))
    })
    .await;
    assert_eq!(status.version, ahead.version());

    // It catches up: the client goes on there, without a snapshot.
    behind.on(1, room(11, "newer"));
    behind.commit();
    behind.on(2, room(22, "newest"));
    behind.commit();
    rooms.wait_for(behind.version()).await.unwrap();
    assert_eq!(mirror.catch_up().unwrap().reason, None);
    agrees(&rooms, &behind);
    assert_eq!(rooms.status().wholes, 1);
    assert!(
        behind
            .subscriptions()
            .iter()
            .all(|subscription| subscription.have.is_some())
    );
}

#[tokio::test(start_paused = true)]
async fn c07_an_older_snapshot_is_refused_also_when_it_is_pressed_on_us() {
    let ahead = server(10);
    let behind = ahead.fork();
    ahead.off(1);
    let version = ahead.commit();
    behind.answer(Answer::Whole);
    let rooms = builder(&[&ahead, &behind]).connect().await.unwrap();
    ahead.answer(Answer::Unreachable);
    ahead.cut();
    let refused = |problem: &Option<Problem>| {
        matches!(
            problem,
            Some(Problem::Refused {
                refusal: Refusal::Backwards { .. },
                ..
            })
        )
    };
    until(&rooms, |status| refused(&status.last_problem)).await;
    assert_eq!(rooms.snapshot().version(), version);
    agrees(&rooms, &ahead);
    // What we hold is sound: the next one is asked to go on from it.
    behind.wait_for_subscriptions(2).await;
    assert!(
        behind
            .subscriptions()
            .iter()
            .all(|subscription| subscription.have == Some(version))
    );
}

#[tokio::test(start_paused = true)]
async fn v04_another_lineage_comes_whole_and_is_flagged() {
    let server = server(10);
    let rooms = connect(&server).await;
    let mut mirror = Mirror::new(&rooms);
    for _ in 0..5 {
        server.on(1, room(1, "x"));
        server.commit();
    }
    rooms.wait_for(server.version()).await.unwrap();
    let before = mirror.next().await.unwrap().to;

    server.off(1);
    server.commit();
    let lineage = server.new_lineage();
    let step = mirror.next().await.unwrap();
    let step = if step.other_lineage {
        step
    } else {
        mirror.next().await.unwrap()
    };
    assert!(step.other_lineage && step.to < before);
    assert_eq!(step.reason.as_deref(), Some("other lineage"));
    assert_eq!(step.snapshot.lineage(), lineage);
    agrees(&rooms, &server);
}

#[tokio::test(start_paused = true)]
async fn another_server_goes_on_without_a_snapshot() {
    let first = server(300);
    let second = first.fork();
    let rooms = builder(&[&first, &second]).connect().await.unwrap();
    let mut mirror = Mirror::new(&rooms);
    mirror.next().await;
    first.answer(Answer::Unreachable);
    first.cut();
    second.on(7, room(77, "over there"));
    let version = second.commit();
    rooms.wait_for(version).await.unwrap();
    let step = mirror.next().await.unwrap();
    assert_eq!((step.reason.as_deref(), step.change.len()), (None, 1));
    let status = until(&rooms, |status| status.endpoint.is_some()).await;
    assert_eq!(status.endpoint, Some(second.endpoint().name()));
    assert!(second.subscriptions()[0].resumed);
    assert_eq!(status.wholes, 1);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_drains_is_left_and_nothing_is_missed() {
    let first = server(10);
    let second = first.fork();
    let rooms = builder(&[&first, &second]).connect().await.unwrap();
    first.go_away(Duration::from_secs(20));
    // Followed until it is left.
    first.off(1);
    second.off(1);
    let version = first.commit();
    second.commit();
    rooms.wait_for(version).await.unwrap();
    let status = until(&rooms, |status| {
        status.endpoint == Some(second.endpoint().name())
    })
    .await;
    assert!(matches!(status.last_problem, Some(Problem::Drained { .. })));
    assert!(second.subscriptions()[0].resumed);
    agrees(&rooms, &second);
}

#[tokio::test(start_paused = true)]
async fn v06_the_only_server_that_drains_is_asked_again_after_the_time_it_gave() {
    let server = server(10);
    let rooms = connect(&server).await;
    let began = tokio::time::Instant::now();
    server.go_away(Duration::from_secs(20));
    server.answer(Answer::Unreachable);
    server.cut();
    server.answer(Answer::Well);
    server.wait_for_subscriptions(2).await;
    let waited = began.elapsed();
    assert!(
        waited >= Duration::from_secs(20) && waited < Duration::from_secs(21),
        "{waited:?}"
    );
    until(&rooms, |status| status.state == State::Live).await;
}

#[tokio::test(start_paused = true)]
async fn an_epoch_that_contains_everything_is_one_exact_step() {
    let server = server(10);
    let rooms = connect(&server).await;
    let mut mirror = Mirror::new(&rooms);
    mirror.next().await;
    server.on(3, room(33, "from the scan"));
    server.off(4);
    let version = server.open_epoch(Tail::Kept);
    let step = mirror.next().await.unwrap();
    assert_eq!(
        (step.to, step.change.len(), step.off.len()),
        (version, 1, 1)
    );
    assert!(!step.rewound && step.reason.is_none());
    agrees(&rooms, &server);
}

#[tokio::test(start_paused = true)]
async fn a_source_that_lost_transactions_is_followed_and_flagged() {
    let server = server(10);
    let rooms = connect(&server).await;
    let mut mirror = Mirror::new(&rooms);
    server.on(5, room(55, "will be lost"));
    let lost = server.commit();
    let snapshot = rooms.wait_for(lost).await.unwrap();
    let gtid = *snapshot.gtid().unwrap();
    mirror.catch_up();
    server.on(5, room(5, "room"));
    server.open_epoch(Tail::Lost);
    let step = mirror.next().await.unwrap();
    assert!(step.rewound);
    assert!(!step.snapshot.executed().contains(&gtid));
    // Told once.
    server.off(1);
    server.commit();
    assert!(!mirror.next().await.unwrap().rewound);
    agrees(&rooms, &server);
}

#[tokio::test(start_paused = true)]
async fn c07_an_epoch_that_loses_transactions_and_does_not_say_so_is_not_shown() {
    let server = server(10);
    let rooms = connect(&server).await;
    server.on(5, room(55, "must not be lost"));
    let version = server.commit();
    rooms.wait_for(version).await.unwrap();
    server.on(5, room(5, "room"));
    server.open_epoch(Tail::LostSilently);
    let refused = |problem: &Option<Problem>| {
        matches!(
            problem,
            Some(Problem::Refused {
                refusal: Refusal::LosesTransactions { .. },
                ..
            })
        )
    };
    until(&rooms, |status| refused(&status.last_problem)).await;
    let snapshot = rooms.snapshot();
    assert_eq!(
        (snapshot.version(), snapshot.get(&5).unwrap().uid),
        (version, 55)
    );
    // Until the source has all of it again.
    server.commit_elsewhere();
    let later = server.commit();
    assert_eq!(rooms.wait_for(later).await.unwrap().get(&5).unwrap().uid, 5);
}
