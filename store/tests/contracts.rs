//! The contract on redb, bare and under the faulty decorator.

use std::cell::RefCell;
use std::sync::Arc;

use onair_store::faulty::{Counts, Faults, Faulty};
use onair_store::redb::RedbStore;
use onair_store::{ShardStore, contract};
use tempfile::TempDir;

/// Stores that live as long as their directories.
#[derive(Default)]
struct Dirs(RefCell<Vec<TempDir>>);

impl Dirs {
    fn redb(&self) -> Arc<RedbStore> {
        let dir = TempDir::new().unwrap();
        let store = RedbStore::open(dir.path().join("store.redb")).unwrap();
        self.0.borrow_mut().push(dir);
        Arc::new(store)
    }
}

#[tokio::test]
async fn redb_keeps_the_contract() {
    let dirs = Dirs::default();
    let make = async || dirs.redb() as Arc<dyn ShardStore>;
    contract::exact(make).await;
    contract::resolved(make).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redb_under_faults_keeps_the_contract() {
    let mut total = Counts::default();
    for seed in 1..=3 {
        let dirs = Dirs::default();
        let made = RefCell::new(Vec::new());
        contract::resolved(async || {
            let number = made.borrow().len() as u64;
            let store = Faulty::new(dirs.redb(), seed * 100 + number, Faults::OFTEN);
            let store = Arc::new(store);
            made.borrow_mut().push(Arc::clone(&store));
            store as Arc<dyn ShardStore>
        })
        .await;
        let counts = made.take().into_iter().map(|store| store.counts());
        let counts = counts.reduce(|sum, more| sum + more).unwrap();
        println!("seed {seed}: {counts}");
        total = total + counts;
    }
    assert_eq!(total.never(), [""; 0], "a kind of fault never fired");
}
