//! Power loss: what was synced is there, of what was written since any part may be, in any order.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use onair_model::Bucket;
use onair_store::cells::{Moved, move_cell, random_id};
use onair_store::redb::RedbStore;
use onair_store::{CellKey, SegmentId, ShardStore};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use redb::StorageBackend;
use tempfile::TempDir;
use tokio::task::JoinSet;

use crate::noise;

/// A disk with a cache: what is read, what is safe, and the writes between the two.
#[derive(Debug, Default)]
struct Disk {
    image: Mutex<Image>,
    syncs: AtomicU64,
}

#[derive(Debug, Default, Clone)]
struct Image {
    now: Vec<u8>,
    safe: Vec<u8>,
    cached: Vec<Change>,
}

#[derive(Debug, Clone)]
enum Change {
    Write(usize, Vec<u8>),
    Len(usize),
}

fn apply(bytes: &mut Vec<u8>, change: &Change) {
    match change {
        Change::Len(len) => bytes.resize(*len, 0),
        Change::Write(at, data) => {
            bytes.resize(bytes.len().max(at + data.len()), 0);
            bytes[*at..at + data.len()].copy_from_slice(data);
        }
    }
}

impl Disk {
    /// What is on it after the power went: safe bytes, and some of the cached writes, some of them in part.
    fn lose_power(&self, rng: &mut StdRng) -> Disk {
        let Image {
            mut safe, cached, ..
        } = self.image.lock().unwrap().clone();
        let often = rng.random();
        for change in cached {
            if !rng.random_bool(often) {
                continue;
            }
            match change {
                Change::Write(at, mut data) if rng.random_ratio(1, 8) => {
                    data.truncate(rng.random_range(0..=data.len() / 512) * 512);
                    apply(&mut safe, &Change::Write(at, data));
                }
                change => apply(&mut safe, &change),
            }
        }
        Disk {
            image: Mutex::new(Image {
                now: safe.clone(),
                safe,
                cached: Vec::new(),
            }),
            syncs: AtomicU64::new(0),
        }
    }
}

#[derive(Debug)]
struct Cached(Arc<Disk>);

impl Cached {
    fn change(&self, change: Change) {
        let mut image = self.0.image.lock().unwrap();
        apply(&mut image.now, &change);
        image.cached.push(change);
    }
}

impl StorageBackend for Cached {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.image.lock().unwrap().now.len() as u64)
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let image = self.0.image.lock().unwrap();
        let at = offset as usize;
        let found = image.now.get(at..at + out.len());
        out.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.change(Change::Len(len as usize));
        Ok(())
    }
    fn sync_data(&self) -> io::Result<()> {
        let mut image = self.0.image.lock().unwrap();
        let Image { safe, cached, .. } = &mut *image;
        for change in cached.drain(..) {
            apply(safe, &change);
        }
        self.0.syncs.fetch_add(1, Relaxed);
        Ok(())
    }
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.change(Change::Write(offset as usize, data.to_vec()));
        Ok(())
    }
}

fn open(dir: &TempDir, disk: &Arc<Disk>) -> RedbStore {
    let disk = Arc::clone(disk);
    // The file only gives the store its name.
    let file = dir.path().join(random_id().to_string());
    RedbStore::open_on(file, move |_| Ok(Cached(Arc::clone(&disk)))).unwrap()
}

const BUCKETS: u16 = 3;

fn key(bucket: u16) -> CellKey {
    CellKey::Head("f".into(), Bucket::new(bucket))
}

fn parts(bucket: u16, number: u64) -> Vec<Bytes> {
    let seed = u64::from(bucket) << 32 | number;
    vec![noise(seed, (seed % 30_000) as usize), noise(seed + 1, 300)]
}

/// Moves a bucket's head on `times` times; what it writes last may be cut off by the caller.
async fn fold(store: &RedbStore, bucket: u16, times: u64, done: &AtomicU64) {
    let cell = store.cell(&key(bucket)).await.unwrap();
    let mut token = cell.as_ref().map(|cell| cell.token);
    let mut number = cell.map_or(0, |cell| number_of(&cell.value));
    for _ in 0..times {
        number += 1;
        let id = SegmentId(random_id());
        let written = store.write_segment("f", id, parts(bucket, number)).await;
        written.unwrap();
        let value = [&number.to_be_bytes()[..], &id.0.to_be_bytes()].concat();
        let moved = move_cell(store, &key(bucket), token, value.into()).await;
        let Ok(Moved::Won(won)) = moved else {
            panic!("{moved:?}")
        };
        token = Some(won);
        done.store(number, Relaxed);
    }
}

fn number_of(value: &[u8]) -> u64 {
    u64::from_be_bytes(value[..8].try_into().unwrap())
}

#[tokio::test]
async fn what_was_acknowledged_survives_a_power_loss() {
    let dir = TempDir::new().unwrap();
    let seed = rand::random();
    println!("seed {seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let mut disk = Arc::new(Disk::default());
    let mut moved = 0u64;
    let done: Arc<[AtomicU64; BUCKETS as usize]> = Arc::default();
    for _ in 0..60 {
        let store = Arc::new(open(&dir, &disk));
        for bucket in 0..BUCKETS {
            let told = done[bucket as usize].load(Relaxed);
            let cell = store.cell(&key(bucket)).await.unwrap();
            let number = cell.as_ref().map_or(0, |cell| number_of(&cell.value));
            assert!(
                (told..=told + 1).contains(&number),
                "bucket {bucket}: {number} after {told}"
            );
            if let Some(cell) = cell {
                let id = u128::from_be_bytes(cell.value[8..].try_into().unwrap());
                let found = store.read_segment("f", SegmentId(id), 2).await.unwrap();
                assert!(found == parts(bucket, number), "bucket {bucket}");
            }
            done[bucket as usize].store(number, Relaxed);
        }
        let mut folds = JoinSet::new();
        for bucket in 0..BUCKETS {
            let (store, done) = (Arc::clone(&store), Arc::clone(&done));
            folds.spawn(async move {
                fold(&store, bucket, 1 << 20, &done[bucket as usize]).await;
            });
        }
        let until = rng.random_range(0..12);
        let before = disk.syncs.load(Relaxed);
        while disk.syncs.load(Relaxed) < before + until {
            tokio::task::yield_now().await;
            if let Some(ended) = folds.try_join_next() {
                ended.unwrap();
            }
        }
        // The image is taken while all of them write; acknowledgements since count for nothing.
        let told: Vec<u64> = done.iter().map(|done| done.load(Relaxed)).collect();
        let after = Arc::new(disk.lose_power(&mut rng));
        folds.shutdown().await;
        drop(store);
        moved = told.iter().sum();
        for (done, told) in done.iter().zip(told) {
            done.store(told, Relaxed);
        }
        disk = after;
    }
    println!("heads moved {moved} times");
    assert!(moved > 300);
}

#[tokio::test]
async fn one_sync_covers_a_fold_and_folds_share_it() {
    let dir = TempDir::new().unwrap();
    let disk = Arc::new(Disk::default());
    let store = Arc::new(open(&dir, &disk));
    let done = AtomicU64::new(0);
    fold(&store, 0, 1, &done).await;
    let before = disk.syncs.load(Relaxed);
    fold(&store, 0, 10, &done).await;
    let alone = disk.syncs.load(Relaxed) - before;
    let mut folds = JoinSet::new();
    for bucket in 1..33 {
        let store = Arc::clone(&store);
        folds.spawn(async move { fold(&store, bucket, 10, &AtomicU64::new(0)).await });
    }
    folds.join_all().await;
    let together = disk.syncs.load(Relaxed) - before - alone;
    println!("10 folds: {alone} syncs; 320 folds of 32 buckets: {together} syncs");
    // A file that grows is synced once more.
    assert!(alone <= 12, "{alone}");
    assert!(together < 60, "{together}");
}
