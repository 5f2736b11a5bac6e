//! Steps of changes.

use onair_sdk::testing::Damage;

use crate::support::{Mirror, agrees, connect, ids, room, server};

#[tokio::test(start_paused = true)]
async fn the_first_step_is_the_whole_content_then_each_net_change_once() {
    let server = server(3);
    let first = server.version();
    let rooms = connect(&server).await;
    let mut changes = rooms.changes();
    let step = changes.next().await.unwrap();
    assert_eq!((step.from, step.to), (None, first));
    assert_eq!(ids(&step), (vec![1, 2, 3], vec![], vec![]));
    assert_eq!(step.reason.as_deref(), Some("first"));

    server.on(2, room(20, "changed"));
    server.on(4, room(4, "new"));
    server.off(1);
    let second = server.commit();
    let step = changes.next().await.unwrap();
    assert_eq!((step.from, step.to, step.merged), (Some(first), second, 0));
    assert_eq!(ids(&step), (vec![4], vec![2], vec![1]));
    assert_eq!(
        (step.change[0].before.uid, step.change[0].after.uid),
        (2, 20)
    );
    assert_eq!(
        (step.reason, step.other_lineage, step.rewound),
        (None, false, false)
    );

    rooms.close().await;
    assert!(changes.next().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn each_version_is_a_step_for_a_consumer_that_keeps_up() {
    let server = server(3);
    let rooms = connect(&server).await;
    let mut mirror = Mirror::new(&rooms);
    mirror.next().await;
    for round in 0..50 {
        // Also one whose net change is nothing.
        if round % 3 != 0 {
            server.on(round, room(round, "x"));
        }
        let version = server.commit();
        let step = mirror.next().await.unwrap();
        assert_eq!((step.to, step.merged), (version, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn v05_a_consumer_that_lags_gets_one_exact_step_and_is_told() {
    let server = server(10);
    let rooms = connect(&server).await;
    let mut mirror = Mirror::new(&rooms);
    mirror.next().await;
    for round in 0..20u64 {
        server.on(1, room(round, "again and again"));
        server.on(100 + round, room(round, "comes"));
        if round > 0 {
            server.off(99 + round);
        }
        rooms.wait_for(server.commit()).await.unwrap();
    }
    let step = mirror.next().await.unwrap();
    assert_eq!(ids(step), (vec![119], vec![1], vec![]));
    assert_eq!((step.merged, step.to), (19, server.version()));
}

#[tokio::test(start_paused = true)]
async fn a_transaction_of_many_rows_is_followed_like_any_other() {
    let server = server(10);
    let rooms = connect(&server).await;
    let mut mirror = Mirror::new(&rooms);
    mirror.next().await;
    server.set_chunk_rows(7);
    for round in 0..3 {
        for id in 1..=100 {
            server.on(id, room(id + round, "changed"));
        }
        rooms.wait_for(server.commit()).await.unwrap();
        mirror.catch_up();
        agrees(&rooms, &server);
    }
    let status = rooms.status();
    assert_eq!((status.refusals, status.wholes), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn versions_that_come_in_one_go_are_shown_as_one() {
    let server = server(10);
    let rooms = connect(&server).await;
    let mut mirror = Mirror::new(&rooms);
    mirror.next().await;
    let before = rooms.snapshot();
    for round in 0..100u64 {
        server.on(1, room(round, "again and again"));
        server.on(100 + round, room(round, "comes"));
        if round > 0 {
            server.off(99 + round);
        }
        server.commit();
    }
    let mut shown = 0;
    loop {
        let step = mirror.next().await.unwrap();
        shown += 1 + step.merged;
        if step.to == server.version() {
            break;
        }
    }
    // Up to 32 at once, and less where the stream happened to be empty.
    assert!((4..20).contains(&shown), "{shown} shown of 100 versions");
    agrees(&rooms, &server);
    // It was not changed under whoever holds it.
    assert_eq!((before.len(), before.get(&1).unwrap().uid), (10, 1));
}

#[tokio::test(start_paused = true)]
async fn a_version_does_not_wait_for_a_frame_whose_seal_does_not_come() {
    let server = server(10);
    let rooms = connect(&server).await;
    let mut mirror = Mirror::new(&rooms);
    mirror.next().await;
    server.on(1, room(11, "whole"));
    let whole = server.commit();
    server.on(2, room(22, "cut short"));
    server.damage_next(Damage::FrameCut);
    server.commit();
    assert_eq!(mirror.next().await.unwrap().to, whole);
    assert_eq!(mirror.next().await.unwrap().to, server.version());
    assert!(server.is_damage_done());
    agrees(&rooms, &server);
}

#[tokio::test(start_paused = true)]
async fn what_is_refused_among_many_is_sent_anew() {
    let server = server(10);
    let rooms = connect(&server).await;
    let mut mirror = Mirror::new(&rooms);
    mirror.next().await;
    for round in 0..10u64 {
        server.on(1, room(round, "again and again"));
        if round == 5 {
            server.damage_next(Damage::FrameDigest);
        }
        server.commit();
    }
    rooms.wait_for(server.version()).await.unwrap();
    assert!(server.is_damage_done());
    mirror.catch_up();
    agrees(&rooms, &server);
    assert_eq!(rooms.status().refusals, 1);
}

#[tokio::test(start_paused = true)]
async fn a_cursor_can_begin_after_a_snapshot_and_two_snapshots_can_be_compared() {
    let server = server(10);
    let rooms = connect(&server).await;
    let before = rooms.snapshot();
    server.off(3);
    let after = rooms.wait_for(server.commit()).await.unwrap();
    let mut changes = rooms.changes().after(before.clone());
    let step = changes.next().await.unwrap();
    assert_eq!(
        (step.from, ids(&step)),
        (Some(before.version()), (vec![], vec![], vec![3]))
    );
    assert_eq!(ids(&after.since(&before)), (vec![], vec![], vec![3]));
    assert_eq!(ids(&before.since(&after)), (vec![3], vec![], vec![]));
}

#[tokio::test(start_paused = true)]
async fn an_index_is_kept_in_step_with_its_snapshot() {
    let server = server(10);
    let rooms = connect(&server).await;
    let mut by_parity = rooms.index(|room| room.uid % 2);
    assert_eq!((by_parity.count(&0), by_parity.count(&1)), (5, 5));
    assert!(by_parity.refresh().is_none());
    server.on(1, room(2, "even now"));
    server.off(3);
    server.on(11, room(12, "even"));
    rooms.wait_for(server.commit()).await.unwrap();
    assert_eq!(by_parity.count(&1), 5);
    assert_eq!(by_parity.refresh().unwrap().to, server.version());
    let odd: Vec<u64> = by_parity
        .get(&1)
        .filter_map(|(key, _)| key.as_u64())
        .collect();
    assert_eq!((by_parity.count(&0), odd), (7, vec![5, 7, 9]));
    assert_eq!(by_parity.snapshot().version(), server.version());
    for id in [5, 7, 9] {
        server.off(id);
    }
    rooms.wait_for(server.commit()).await.unwrap();
    by_parity.refresh();
    assert_eq!(by_parity.values().collect::<Vec<_>>(), [&0]);
}
