//! Disks that are full or fail: errors say what was done, nothing acknowledged is lost, writing goes on afterwards.

use std::fs::File;
use std::io;
use std::ops::Bound;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use onair_model::Bucket;
use onair_store::cells::random_id;
use onair_store::redb::RedbStore;
use onair_store::{Cas, Cell, CellKey, HistoryLine, SegmentId, ShardStore, StoreError, Token};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use redb::backends::FileBackend;
use redb::{BackendError, StorageBackend};
use tempfile::TempDir;

use crate::noise;

/// What the disk does now.
#[derive(Debug)]
struct Disk {
    /// Bytes past this place cannot be written.
    room: AtomicU64,
    /// Fail at random.
    failing: AtomicBool,
    rng: Mutex<StdRng>,
    failures: AtomicU64,
}

#[derive(Debug)]
struct Failing {
    file: FileBackend,
    disk: Arc<Disk>,
}

impl Failing {
    fn chance(&self) -> bool {
        let fails =
            self.disk.failing.load(Relaxed) && self.disk.rng.lock().unwrap().random_ratio(1, 60);
        self.disk.failures.fetch_add(u64::from(fails), Relaxed);
        fails
    }
}

impl StorageBackend for Failing {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read(offset, out)
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        if self.chance() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.file.set_len(len)
    }
    fn sync_data(&self) -> io::Result<()> {
        if self.chance() {
            return Err(io::Error::other("the disk failed"));
        }
        self.file.sync_data()
    }
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let room = self.disk.room.load(Relaxed).saturating_sub(offset);
        let mut fits = data.len().min(usize::try_from(room).unwrap_or(usize::MAX));
        if self.chance() {
            fits = self.disk.rng.lock().unwrap().random_range(0..=fits);
        } else if fits == data.len() {
            return self.file.write(offset, data);
        }
        if fits > 0 {
            self.file.write(offset, &data[..fits])?;
        }
        Err(io::ErrorKind::StorageFull.into())
    }
    fn close(&self) -> io::Result<()> {
        self.file.close()
    }
    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.try_lock_range(start, end)
    }
    fn try_lock_shared_range(
        &self,
        start: Bound<u64>,
        end: Bound<u64>,
    ) -> Result<bool, BackendError> {
        self.file.try_lock_shared_range(start, end)
    }
    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.unlock_range(start, end)
    }
    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.query_lock_range(start, end)
    }
}

fn store_on(dir: &TempDir, seed: u64) -> (RedbStore, Arc<Disk>) {
    let disk = Arc::new(Disk {
        room: AtomicU64::new(u64::MAX),
        failing: AtomicBool::new(false),
        rng: Mutex::new(StdRng::seed_from_u64(seed)),
        failures: AtomicU64::new(0),
    });
    let backend = {
        let disk = Arc::clone(&disk);
        move |file: File| {
            Ok(Failing {
                file: FileBackend::new(file).map_err(io::Error::other)?,
                disk: Arc::clone(&disk),
            })
        }
    };
    let store = RedbStore::open_on(dir.path().join("store.redb"), backend).unwrap();
    (store, disk)
}

fn key() -> CellKey {
    CellKey::Head("f".into(), Bucket::new(0))
}

/// Writes a segment and moves the head to it.
async fn fold(store: &RedbStore, expect: Option<Token>, number: u64) -> Result<Cell, StoreError> {
    let id = SegmentId(random_id());
    let parts = vec![noise(number, 60_000), noise(number + 1, 10)];
    store.write_segment("f", id, parts).await?;
    let cell = Cell {
        token: Token(random_id()),
        value: Bytes::from([&number.to_be_bytes()[..], &id.0.to_be_bytes()].concat()),
    };
    match store.cas(&key(), expect, Some(cell.clone())).await? {
        Cas::Won => Ok(cell),
        Cas::Lost(found) => panic!("nobody else writes, and {found:?} stands there"),
    }
}

async fn check(store: &RedbStore, expected: Option<&Cell>) {
    let found = store.cell(&key()).await.unwrap();
    assert_eq!(found.as_ref(), expected);
    if let Some(cell) = found {
        let number = u64::from_be_bytes(cell.value[..8].try_into().unwrap());
        let id = SegmentId(u128::from_be_bytes(cell.value[8..].try_into().unwrap()));
        let parts = store.read_segment("f", id, 2).await.unwrap();
        assert!(parts == [noise(number, 60_000), noise(number + 1, 10)]);
    }
}

#[tokio::test]
async fn a_full_disk_loses_nothing_and_writing_goes_on_when_there_is_room() {
    let dir = TempDir::new().unwrap();
    let (store, disk) = store_on(&dir, 1);
    let mut held: Option<Cell> = None;
    let mut number = 0;
    let mut full = 0;
    for _ in 0..4 {
        disk.room.store(store_len(&dir) + 500_000, Relaxed);
        let refused = loop {
            number += 1;
            assert!(number < 1000, "the disk is never full");
            match fold(&store, held.as_ref().map(|cell| cell.token), number).await {
                Ok(cell) => held = Some(cell),
                Err(refused) => break refused,
            }
        };
        assert!(matches!(refused, StoreError::Full { .. }), "{refused}");
        println!("{refused}");
        // Full stays full; what stands there can be read.
        for _ in 0..3 {
            number += 1;
            let again = fold(&store, held.as_ref().map(|cell| cell.token), number).await;
            full += u32::from(matches!(again, Err(StoreError::Full { .. })));
            if let Ok(cell) = again {
                held = Some(cell);
            }
            check(&store, held.as_ref()).await;
        }
        disk.room.store(u64::MAX, Relaxed);
        number += 1;
        let expect = held.as_ref().map(|cell| cell.token);
        held = Some(fold(&store, expect, number).await.unwrap());
        check(&store, held.as_ref()).await;
    }
    assert!(full >= 8, "{full}");
    drop(store);
    let store = RedbStore::open(dir.path().join("store.redb")).unwrap();
    check(&store, held.as_ref()).await;
}

fn store_len(dir: &TempDir) -> u64 {
    let file = dir.path().join("store.redb");
    std::fs::metadata(file).unwrap().len()
}

#[tokio::test]
async fn whatever_fails_an_answer_is_true() {
    for seed in 0..6 {
        let dir = TempDir::new().unwrap();
        let (store, disk) = store_on(&dir, seed);
        disk.failing.store(true, Relaxed);
        let mut held: Option<Cell> = None;
        let (mut done, mut refused, mut unknown) = (0, 0, 0);
        for number in 0..150 {
            let cell = Cell {
                token: Token(random_id()),
                value: Bytes::new(),
            };
            let expect = held.as_ref().map(|cell| cell.token);
            match store.cas(&key(), expect, Some(cell.clone())).await {
                Ok(Cas::Won) => {
                    done += 1;
                    held = Some(cell);
                }
                Ok(Cas::Lost(found)) => panic!("{found:?} stands there instead of {held:?}"),
                Err(StoreError::Unknown { .. }) => {
                    unknown += 1;
                    held = read(&store, &disk).await;
                }
                Err(StoreError::Full { .. } | StoreError::Unavailable { .. }) => refused += 1,
                Err(error) => panic!("{error}"),
            }
            let line = HistoryLine {
                at: number,
                id: 0,
                value: noise(1, 3000),
            };
            let _ = store.write_history("f", line).await;
            assert_eq!(
                read(&store, &disk).await,
                held,
                "seed {seed}, number {number}"
            );
        }
        let failures = disk.failures.load(Relaxed);
        println!(
            "seed {seed}: {failures} failures, {done} done, {refused} refused, {unknown} unknown"
        );
        assert!(done > 0 && refused > 0 && failures > 0);
        disk.failing.store(false, Relaxed);
        drop(store);
        let store = RedbStore::open(dir.path().join("store.redb")).unwrap();
        assert_eq!(store.cell(&key()).await.unwrap(), held);
    }
}

/// Reads with a disk that works: the file may have to be opened again.
async fn read(store: &RedbStore, disk: &Disk) -> Option<Cell> {
    disk.failing.store(false, Relaxed);
    let found = store.cell(&key()).await.unwrap();
    disk.failing.store(true, Relaxed);
    found
}
