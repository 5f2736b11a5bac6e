//! What `move_cell` says is what was done, whatever happened to its attempts.

use std::sync::Arc;

use bytes::Bytes;
use onair_store::cells::{Moved, move_cell, remove_cell};
use onair_store::faulty::{Faults, Faulty};
use onair_store::redb::RedbStore;
use onair_store::{CellKey, ShardStore, StoreError};
use tempfile::TempDir;

fn store() -> (TempDir, Arc<RedbStore>) {
    let dir = TempDir::new().unwrap();
    let store = RedbStore::open(dir.path().join("store.redb")).unwrap();
    (dir, Arc::new(store))
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_meets_itself_has_won() {
    let (_dir, inner) = store();
    let faults = Faults {
        twice: 1.0,
        ..Faults::NONE
    };
    let store = Faulty::new(inner, 1, faults);
    let key = CellKey::CutsHead("f".into());
    let moved = move_cell(&store, &key, None, Bytes::new()).await;
    let Ok(Moved::Won(token)) = moved else {
        panic!("{moved:?}");
    };
    assert_eq!(remove_cell(&store, &key, token).await, Ok(None));
}

#[tokio::test(start_paused = true)]
async fn an_outcome_is_true_and_a_refusal_certain() {
    let (_dir, inner) = store();
    // Every attempt meets something; nobody else writes, so that the cell tells what was done.
    let faults = Faults {
        refused: 0.4,
        lost: 0.3,
        undone: 0.6,
        ..Faults::OFTEN
    };
    let key = CellKey::CutsHead("f".into());
    let (mut won, mut refused, mut unknown) = (0, 0, 0);
    for seed in 0..300u64 {
        let store = Faulty::new(Arc::clone(&inner), seed, faults);
        let before = inner.cell(&key).await.unwrap();
        let value = Bytes::copy_from_slice(&seed.to_be_bytes());
        let expect = before.as_ref().map(|cell| cell.token);
        let outcome = move_cell(&store, &key, expect, value.clone()).await;
        let after = inner.cell(&key).await.unwrap();
        match outcome {
            Ok(Moved::Won(token)) => {
                let after = after.unwrap();
                assert_eq!((after.token, after.value), (token, value), "seed {seed}");
                won += 1;
            }
            Err(StoreError::Unavailable { .. }) => {
                assert_eq!(after, before, "seed {seed}");
                refused += 1;
            }
            Err(StoreError::Unknown { .. }) => unknown += 1,
            other => panic!("seed {seed}: {other:?}"),
        }
    }
    println!("{won} won, {refused} refused, {unknown} unknown");
    assert!(won > 20 && refused > 20 && unknown > 5);
}
