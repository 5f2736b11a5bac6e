//! The lease between a holder and a standby, in paused time, also through errors.

use std::sync::Arc;
use std::time::Duration;

use onair_store::faulty::{Counts, Faults, Faulty};
use onair_store::lease::{Beat, HeldLease, Standby, Step};
use onair_store::redb::RedbStore;
use onair_store::{ShardStore, StoreError};
use tempfile::TempDir;
use tokio::time::{Instant, advance};

const PATIENCE: Duration = Duration::from_secs(5);
const EVERY: Duration = Duration::from_secs(1);

fn standby(reader_id: u64) -> Standby {
    Standby::new(
        &"s".into(),
        reader_id,
        format!("reader {reader_id}"),
        PATIENCE,
    )
}

async fn take(standby: &mut Standby, store: &dyn ShardStore) -> HeldLease {
    loop {
        match standby.step(store).await {
            Ok(Step::Taken(held)) => return held,
            Ok(Step::Waiting(_))
            | Err(StoreError::Unavailable { .. } | StoreError::Unknown { .. }) => {}
            Err(error) => panic!("{error}"),
        }
        advance(EVERY).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_standby_takes_over_when_the_beat_stops_and_not_before() {
    let dir = TempDir::new().unwrap();
    let store = RedbStore::open(dir.path().join("store.redb")).unwrap();
    let mut held = take(&mut standby(1), &store).await;
    let mut second = standby(2);
    for _ in 0..20 {
        let step = second.step(&store).await.unwrap();
        let Step::Waiting(Some(holder)) = step else {
            panic!("{step:?}");
        };
        assert_eq!(holder.reader_id, 1);
        assert_eq!(held.beat(&store).await, Ok(Beat::Held));
        assert!(held.is_sure());
        advance(EVERY).await;
    }
    let stopped = Instant::now();
    let taken = take(&mut second, &store).await;
    assert!(stopped.elapsed() >= PATIENCE - EVERY && stopped.elapsed() <= PATIENCE + EVERY);
    assert!(!held.is_sure(), "the old holder must know first");
    let lost = held.beat(&store).await.unwrap();
    assert_eq!(lost, Beat::Lost(Some(taken.lease().clone())));
    taken.release(&store).await.unwrap();
    let at_once = Instant::now();
    take(&mut standby(3), &store).await;
    assert_eq!(at_once.elapsed(), Duration::ZERO);
    // Where nobody else can be alive there is nothing to wait for.
    let mut alone = Standby::new(&"s".into(), 4, String::new(), Duration::ZERO);
    assert!(matches!(alone.step(&store).await, Ok(Step::Taken(_))));
}

#[tokio::test(start_paused = true)]
async fn through_errors_two_are_never_sure_at_once() {
    let mut total = Counts::default();
    for seed in 0..8 {
        let dir = TempDir::new().unwrap();
        let store = Arc::new(RedbStore::open(dir.path().join("store.redb")).unwrap());
        let store = Faulty::new(store, seed, Faults::OFTEN);
        let mut standbys = [standby(1), standby(2)];
        let mut held: [Option<HeldLease>; 2] = [None, None];
        let mut changes = 0;
        for round in 0..120 {
            for who in 0..2 {
                // Each falls silent for a while now and then.
                let silent = (round / 15 + who) % 4 == 0;
                match &mut held[who] {
                    Some(lease) if !silent => {
                        if let Ok(Beat::Lost(_)) = lease.beat(&store).await {
                            held[who] = None;
                        }
                    }
                    None => {
                        if let Ok(Step::Taken(lease)) = standbys[who].step(&store).await {
                            held[who] = Some(lease);
                            changes += 1;
                        }
                    }
                    Some(_) => {}
                }
                let sure = held.iter().flatten().filter(|lease| lease.is_sure());
                assert!(sure.count() <= 1, "seed {seed}, round {round}");
            }
            advance(EVERY).await;
        }
        println!(
            "seed {seed}: changed hands {changes} times, {}",
            store.counts()
        );
        assert!(changes >= 3);
        total = total + store.counts();
    }
    let never: Vec<_> = total
        .never()
        .into_iter()
        .filter(|kind| *kind != "torn")
        .collect();
    assert_eq!(never, [""; 0]);
}
