//! Two mergers on the same buckets: only one can win each move, and the other does no harm.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use onair_log::testing::{Opening, Workload, append};
use onair_log::{EventLog, faulty};
use onair_store::{ShardStore, faulty as store, requests};

use crate::stops::known;
use crate::support::{FEED, World};

#[tokio::test(start_paused = true)]
async fn two_mergers_do_what_one_does() {
    let mut workload = Workload::new(1, 60, 3000);
    let mut world = World::new(3, workload.rows()).await;
    world.settings.deltas_max = 3;
    // The worst case for the loser: what the winner superseded is gone at once.
    world.settings.history_window = Duration::ZERO;
    let log: Arc<dyn EventLog> = Arc::clone(&world.log) as _;
    let one = world.start();
    let other = world.start();
    for round in 0..60 {
        if round == 30 {
            let drift = workload.writes();
            let opening = Opening {
                drift,
                ..Opening::default()
            };
            append(&*log, world.writer.open_epoch(opening)).await;
            world.writer.acknowledge();
        }
        workload.step(&mut world.writer);
        world.writer.write(&*log, round % 2 == 0).await;
        for bucket in world.buckets().all() {
            world.check_bucket(bucket).await;
        }
        if round % 5 == 0 {
            world.until_folded().await;
        }
    }
    let version = world.writer.version();
    world.writer.write(&*log, true).await;
    world.until_cut(version).await;
    world.until_folded().await;
    let overtaken = [&one, &other].map(|merger| merger.feed().folds);
    assert!(overtaken.iter().all(|folds| *folds > 0), "{overtaken:?}");
    assert!(one.feed().stopped.is_empty() && other.feed().stopped.is_empty());
    one.stop().await;
    other.stop().await;
    assert_eq!(world.whole_cut().await, Some(version));
}

#[tokio::test(start_paused = true)]
async fn a_merger_that_wakes_up_late_takes_over_from_the_heads() {
    let mut workload = Workload::new(2, 60, 200);
    let mut world = World::new(3, workload.rows()).await;
    let log: Arc<dyn EventLog> = Arc::clone(&world.log) as _;
    world.settings.fold_interval = Duration::from_secs(100);
    let sleeper = world.start();
    world.settings.fold_interval = Duration::from_secs(1);
    let other = world.start();
    for _ in 0..200 {
        workload.step(&mut world.writer);
        world.writer.write(&*log, true).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        for bucket in world.buckets().all() {
            world.check_bucket(bucket).await;
        }
    }
    let version = world.writer.version();
    world.until_cut(version).await;
    other.kill().await;
    let after = world.touch(&mut workload, onair_model::Bucket::new(0));
    world.writer.write(&*log, true).await;
    world.until_cut(after).await;
    world.until_folded().await;
    assert_eq!(world.whole_cut().await, Some(after));
    sleeper.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_merger_that_lags_does_no_harm() {
    let mut workload = Workload::new(3, 60, 200);
    let mut world = World::new(2, workload.rows()).await;
    let lag = faulty::Faults {
        delayed: 1.0,
        delay_max: Duration::from_millis(1500),
        ..faulty::Faults::NONE
    };
    let lagging = Arc::new(faulty::Faulty::new(Arc::clone(&world.log), 3, lag));
    let slow = world.start_on(lagging, Arc::clone(&world.store) as _);
    let mut folds = 0;
    let mut seen = BTreeMap::new();
    for round in 0..80 {
        // The other one is ahead of it, and gone again and again.
        let fast = (round % 2 == 0).then(|| world.start());
        for _ in 0..4 {
            workload.step(&mut world.writer);
            world.writer.write(&*world.log, true).await;
            tokio::time::sleep(Duration::from_millis(700)).await;
            for bucket in world.buckets().all() {
                world.check_bucket(bucket).await;
            }
        }
        seen.extend(known(&world).await);
        if let Some(fast) = fast {
            folds += fast.feed().folds;
            fast.kill().await;
        }
    }
    assert!(slow.feed().folds > 10 && folds > 10);
    world.until_folded().await;
    slow.stop().await;
    let known = known(&world).await;
    for (id, segment) in seen {
        assert!(known.contains_key(&id), "left behind: {segment:?}");
    }
}

/// The log frees what the one has folded, while the other is still loading the head that was there before.
#[tokio::test(start_paused = true)]
async fn a_merger_whose_head_moves_on_while_it_loads_asks_for_nothing() {
    let mut workload = Workload::new(4, 60, 200);
    let mut world = World::with_room(2, workload.rows(), 6_000).await;
    let log: Arc<dyn EventLog> = Arc::clone(&world.log) as _;
    let lag = store::Faults {
        delayed: 1.0,
        delay_max: Duration::from_secs(1),
        ..store::Faults::NONE
    };
    let lagging = store::Faulty::new(Arc::clone(&world.store), 4, lag);
    let lagging: Arc<dyn ShardStore> = Arc::new(lagging);
    let fast = world.start();
    let mut slow = world.start_on(Arc::clone(&log), Arc::clone(&lagging));
    for round in 1..=600 {
        workload.step(&mut world.writer);
        world.writer.write(&*log, true).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        let standing = requests::standing(&*world.store, &FEED.into()).await;
        assert!(standing.unwrap().is_empty(), "round {round}");
        if round % 200 == 0 {
            slow.kill().await;
            slow = world.start_on(Arc::clone(&log), Arc::clone(&lagging));
        }
    }
    let ends = log.ends(FEED).await.unwrap();
    let is_freed = ends.iter().all(|(_, ends)| ends.low.0 > 0);
    assert!(is_freed, "the log was never short: {ends:?}");
    world.until_folded().await;
    fast.stop().await;
    slow.stop().await;
}
