//! Opening files that are in use, of another release, damaged, or no stores at all.

use std::path::Path;

use bytes::Bytes;
use onair_store::redb::RedbStore;
use onair_store::{Cas, Cell, CellKey, HistoryLine, SegmentId, ShardStore, StoreError, Token};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use redb::{Database, TableDefinition};
use tempfile::TempDir;

use crate::noise;

const META: TableDefinition<'static, &'static str, u64> = TableDefinition::new("meta");

fn refusal(file: &Path) -> StoreError {
    let refused = RedbStore::open(file).map(drop).unwrap_err();
    println!("{refused}");
    refused
}

fn assert_unreadable(file: &Path) {
    let refused = refusal(file);
    assert!(
        matches!(refused, StoreError::Unreadable { .. }),
        "{refused:?}"
    );
}

fn set_format(file: &Path, format: u64) {
    let db = Database::create(file).unwrap();
    let write = db.begin_write().unwrap();
    write
        .open_table(META)
        .unwrap()
        .insert("format", format)
        .unwrap();
    write.commit().unwrap();
}

#[test]
fn files_that_cannot_be_a_store_are_refused_with_the_remedy() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("deep/er/store.redb");
    let store = RedbStore::open(&file).unwrap();
    let refused = refusal(&file);
    assert!(matches!(refused, StoreError::InUse { .. }), "{refused:?}");
    drop(store);
    drop(RedbStore::open(&file).unwrap());

    for format in [0, 2] {
        set_format(&file, format);
        assert_unreadable(&file);
    }
    set_format(&file, 1);
    drop(RedbStore::open(&file).unwrap());

    let other = dir.path().join("other.redb");
    let db = Database::create(&other).unwrap();
    let write = db.begin_write().unwrap();
    let table: TableDefinition<'_, u64, u64> = TableDefinition::new("theirs");
    write.open_table(table).unwrap();
    write.commit().unwrap();
    drop(db);
    assert_unreadable(&other);

    let text = dir.path().join("text");
    std::fs::write(&text, "not a store at all\n".repeat(500)).unwrap();
    assert_unreadable(&text);

    let refused = refusal(dir.path());
    assert!(
        matches!(refused, StoreError::Unavailable { .. }),
        "{refused:?}"
    );
}

#[tokio::test]
async fn what_stands_in_a_damaged_file_is_right_or_said_to_be_damaged() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("store.redb");
    let store = RedbStore::open(&file).unwrap();
    let cell = |number: u64| Cell {
        token: Token(number.into()),
        value: noise(number, 200),
    };
    let key = |number: u64| CellKey::Run("f".into(), number.to_string().into());
    for number in 0..40 {
        let won = store.cas(&key(number), None, Some(cell(number))).await;
        assert_eq!(won, Ok(Cas::Won));
        let parts = vec![noise(number, 5000), noise(number, 100)];
        let id = SegmentId(number.into());
        store.write_segment("f", id, parts).await.unwrap();
        let line = HistoryLine {
            at: number as i64,
            id: 0,
            value: Bytes::from_static(b"line"),
        };
        store.write_history("f", line).await.unwrap();
    }
    drop(store);
    let whole = std::fs::read(&file).unwrap();
    let seed = 7;
    let mut rng = StdRng::seed_from_u64(seed);
    let (mut refused, mut found, mut told) = (0, 0, 0);
    for round in 0..300 {
        let mut bytes = whole.clone();
        if round % 10 == 0 {
            bytes.truncate(rng.random_range(1..bytes.len()));
        } else {
            for _ in 0..rng.random_range(1..40) {
                let at = rng.random_range(0..bytes.len());
                bytes[at] ^= 1 << rng.random_range(0..8);
            }
        }
        std::fs::write(&file, &bytes).unwrap();
        let store = match RedbStore::open(&file) {
            Ok(store) => store,
            Err(StoreError::Unreadable { .. }) => {
                refused += 1;
                continue;
            }
            Err(error) => panic!("round {round}: {error:?}"),
        };
        for number in 0..40 {
            match store.cell(&key(number)).await {
                Ok(read) => {
                    assert_eq!(read, Some(cell(number)), "round {round}");
                    found += 1;
                }
                Err(StoreError::Unreadable { .. }) => told += 1,
                Err(error) => panic!("round {round}: {error:?}"),
            }
        }
    }
    println!(
        "seed {seed}: {refused} files refused, {found} cells right, {told} said to be damaged"
    );
    assert!(refused > 0 && found > 0);
}
