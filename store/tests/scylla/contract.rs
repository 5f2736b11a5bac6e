//! The contract, bare and under the faulty decorator.

use std::cell::RefCell;
use std::sync::Arc;

use onair_store::faulty::{Counts, Faults, Faulty};
use onair_store::scylla::{ScyllaStore, Settings};
use onair_store::{ShardStore, contract};

use super::{drop_keyspace, settings, shared};

/// Keyspaces, each gone when the next is made.
struct Keyspaces(RefCell<Option<Settings>>);

impl Keyspaces {
    async fn next(&self) -> Option<Arc<ScyllaStore>> {
        self.drop_last().await;
        let settings = settings(shared()?);
        let store = super::store(&settings).await;
        *self.0.borrow_mut() = Some(settings);
        Some(Arc::new(store))
    }

    async fn drop_last(&self) {
        let last = self.0.take();
        if let Some(last) = last {
            drop_keyspace(&last).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cassandra_keeps_the_contract() {
    if shared().is_none() {
        return;
    }
    let keyspaces = Keyspaces(RefCell::default());
    let make = async || keyspaces.next().await.unwrap() as Arc<dyn ShardStore>;
    contract::exact(make).await;
    contract::resolved(make).await;
    keyspaces.drop_last().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cassandra_under_faults_keeps_the_contract() {
    if shared().is_none() {
        return;
    }
    let mut total = Counts::default();
    for seed in 1..=2 {
        let keyspaces = Keyspaces(RefCell::default());
        let made = RefCell::new(Vec::new());
        contract::resolved(async || {
            let number = made.borrow().len() as u64;
            let inner = keyspaces.next().await.unwrap();
            let store = Arc::new(Faulty::new(inner, seed * 100 + number, Faults::OFTEN));
            made.borrow_mut().push(Arc::clone(&store));
            store as Arc<dyn ShardStore>
        })
        .await;
        keyspaces.drop_last().await;
        let counts = made.take().into_iter().map(|store| store.counts());
        let counts = counts.reduce(|sum, more| sum + more).unwrap();
        println!("seed {seed}: {counts}");
        total = total + counts;
    }
    assert_eq!(total.never(), [""; 0], "a kind of fault never fired");
}
