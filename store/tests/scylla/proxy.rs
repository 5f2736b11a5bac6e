//! Answers that a proxy between driver and node loses, delays or forges.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use onair_store::cells::{Moved, move_cell};
use onair_store::scylla::ScyllaStore;
use onair_store::scylla::proxy::{CqlProxy, Fault, Plan};
use onair_store::{Cell, CellKey, ShardStore, StoreError};
use tokio::task::JoinSet;

use super::{drop_keyspace, settings, shared};

/// Of each request, reads and plain writes too, to meet each fault.
const CHANCE: f64 = 0.04;

const RIVALS: usize = 2;
const MOVES: u64 = 150;

fn key() -> CellKey {
    CellKey::CutsHead("f".into())
}

fn tally(cell: Option<&Cell>) -> [u64; RIVALS] {
    let mut tally = [0; RIVALS];
    if let Some(cell) = cell {
        for (at, bytes) in cell.value.chunks_exact(8).enumerate() {
            tally[at] = u64::from_be_bytes(bytes.try_into().unwrap());
        }
    }
    tally
}

/// What one rival met.
#[derive(Debug, Default)]
struct Met {
    lost: u64,
    unknown: u64,
    unavailable: u64,
    reads_again: u64,
}

/// Moves the cell on [`MOVES`] times; each step is checked against what it knows to be done.
async fn rival(store: Arc<ScyllaStore>, me: usize) -> Met {
    let mut met = Met::default();
    for round in 1..=MOVES {
        loop {
            let found = loop {
                match store.cell(&key()).await {
                    Ok(found) => break found,
                    Err(StoreError::Unavailable { .. }) => {
                        met.reads_again += 1;
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                    Err(error) => panic!("{error}"),
                }
            };
            let mut counts = tally(found.as_ref());
            if counts[me] == round {
                break;
            }
            assert_eq!(counts[me], round - 1, "a move is gone, or was done twice");
            counts[me] = round;
            let value: Bytes = counts
                .iter()
                .flat_map(|count| count.to_be_bytes())
                .collect();
            let expect = found.map(|cell| cell.token);
            match move_cell(&*store, &key(), expect, value).await {
                Ok(Moved::Won(_)) => break,
                Ok(Moved::Lost(_)) => met.lost += 1,
                Err(StoreError::Unknown { .. }) => met.unknown += 1,
                Err(StoreError::Unavailable { .. }) => met.unavailable += 1,
                Err(error) => panic!("{error}"),
            }
        }
    }
    met
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_that_are_lost_or_forged_lose_no_move_and_repeat_none() {
    let Some(node) = shared() else { return };
    let seed = rand::random();
    println!("seed {seed}");
    let mut settings = settings(node);
    settings.request_timeout = Duration::from_millis(150);
    let plan = Plan {
        seed,
        meets: |_| true,
        late: settings.request_timeout..2 * settings.request_timeout,
    };
    let proxy = CqlProxy::start(node.address(), plan).await.unwrap();
    settings.nodes = vec![proxy.address()];

    let mut direct = settings.clone();
    direct.nodes = vec![node.address().to_owned()];
    direct.request_timeout = Duration::from_secs(10);
    let truth = super::store(&direct).await;
    let mut rivals = JoinSet::new();
    let mut stores = Vec::new();
    for _ in 0..RIVALS {
        let store = ScyllaStore::open(settings.clone()).await.unwrap();
        stores.push(Arc::new(store));
    }
    for fault in Fault::ALL {
        proxy.set(fault, CHANCE);
    }
    for (me, store) in stores.into_iter().enumerate() {
        rivals.spawn(rival(store, me));
    }
    while let Some(met) = rivals.join_next().await {
        println!("{:?}", met.unwrap());
    }
    let counts = proxy.counts();
    println!("{counts}");
    for fault in Fault::ALL {
        assert!(counts.of(fault) > 0, "{fault:?} never fired");
    }
    let stands = truth.cell(&key()).await.unwrap();
    assert_eq!(tally(stands.as_ref()), [MOVES; RIVALS]);
    drop_keyspace(&direct).await;
}
