//! The store in one file, by redb: for one process on one machine.
//!
//! Writes that arrive while a commit is under way share the next one, and one sync (see `batch`). Survives kill -9
//! and a full disk: what was acknowledged is there, and writing goes on when there is room again. All of its work
//! is done on blocking threads.

mod batch;
mod file;
mod keys;

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use ::redb::{Database, StorageBackend};
use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::{Semaphore, oneshot};

use crate::{
    Cas, Cell, CellKey, HistoryLine, LARGE_CELL_MAX, PART_MAX, SegmentId, ShardStore, StoreError,
    Token, fits,
};
use batch::{Job, Pending, Write};
use file::{CELLS, HISTORY, PARTS, Place};

/// A store in one file. Dropping it waits for the write under way and lets go of the file.
#[derive(Debug)]
pub struct RedbStore {
    shared: Arc<Shared>,
    /// Held by whoever does the queued writes of all.
    turn: Arc<Semaphore>,
}

#[derive(Debug)]
struct Shared {
    place: Place,
    handle: RwLock<Handle>,
    queue: Mutex<Vec<Job>>,
    pending: Mutex<Pending>,
}

#[derive(Debug)]
enum Handle {
    /// An error of the file ended the use of its last handle; the next user opens it again.
    Shut,
    Open(Database),
    /// The store was dropped.
    Closed,
}

impl RedbStore {
    /// Opens the file, or makes it. [`StoreError::InUse`] while another process has it, [`StoreError::Unreadable`]
    /// when it is damaged, of another release, or not a store at all. Blocks; opening after a crash reads the file.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        RedbStore::at(Place::new(path.as_ref()))
    }

    /// The same with something between the store and its file, e.g. a disk that fails on purpose.
    pub fn open_on<B: StorageBackend>(
        path: impl AsRef<Path>,
        backend: impl Fn(File) -> io::Result<B> + Send + Sync + 'static,
    ) -> Result<Self, StoreError> {
        RedbStore::at(Place::on(path.as_ref(), backend))
    }

    fn at(place: Place) -> Result<Self, StoreError> {
        let db = place.open()?;
        Ok(RedbStore {
            shared: Arc::new(Shared {
                place,
                handle: RwLock::new(Handle::Open(db)),
                queue: Mutex::default(),
                pending: Mutex::default(),
            }),
            turn: Arc::new(Semaphore::new(1)),
        })
    }

    /// Queues a write and waits until it is durable. The first in the queue does the work of all.
    async fn write(&self, write: Write) -> Result<Cas, StoreError> {
        let unknown = |reason: String| StoreError::Unknown { reason };
        let (done, mut answer) = oneshot::channel();
        lock(&self.shared.queue).push(Job { write, done });
        let turn = Arc::clone(&self.turn).acquire_owned().await;
        let turn = turn.map_err(|err| unknown(err.to_string()))?;
        if let Ok(answered) = answer.try_recv() {
            return answered;
        }
        let shared = Arc::clone(&self.shared);
        let run = tokio::task::spawn_blocking(move || {
            // Kept until the work is done, also when the caller goes away.
            let _turn = turn;
            shared.run();
        });
        run.await.map_err(|err| unknown(err.to_string()))?;
        answer.await.map_err(|err| unknown(err.to_string()))?
    }

    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Shared) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let shared = Arc::clone(&self.shared);
        tokio::task::spawn_blocking(move || read(&shared))
            .await
            .unwrap_or_else(|err| {
                Err(StoreError::Unavailable {
                    reason: err.to_string(),
                })
            })
    }
}

impl Drop for RedbStore {
    fn drop(&mut self) {
        let pending = !lock(&self.shared.pending).is_empty();
        if pending {
            // Deletions; segments that nothing names would not be missed.
            let _ = self.shared.batch(&[Write::Flush]);
        }
        *write_lock(&self.shared.handle) = Handle::Closed;
    }
}

#[async_trait]
impl ShardStore for RedbStore {
    async fn cell(&self, key: &CellKey) -> Result<Option<Cell>, StoreError> {
        let key = key.clone();
        self.read(move |shared| {
            shared.with_db(|db| {
                let place = &shared.place;
                let read = place.read(db)?;
                let cells = read.open_table(CELLS).map_err(|err| place.table(err))?;
                let found = cells
                    .get(&*keys::cell(&key))
                    .map_err(|err| place.error(err))?;
                found
                    .map(|held| keys::unseal_cell(held.value()).ok_or_else(|| place.damaged(&key)))
                    .transpose()
            })
        })
        .await
    }

    async fn cas(
        &self,
        key: &CellKey,
        expect: Option<Token>,
        new: Option<Cell>,
    ) -> Result<Cas, StoreError> {
        let bytes = new.as_ref().map_or(0, |cell| cell.value.len());
        fits(key, bytes, key.value_max())?;
        let key = key.clone();
        self.write(Write::Cas { key, expect, new }).await
    }

    async fn cells(&self, like: &CellKey) -> Result<Vec<(CellKey, Cell)>, StoreError> {
        let group = keys::cell_group(like);
        self.read(move |shared| {
            shared.with_db(|db| {
                let place = &shared.place;
                let read = place.read(db)?;
                let cells = read.open_table(CELLS).map_err(|err| place.table(err))?;
                let mut found = Vec::new();
                for entry in cells.range(&*group..).map_err(|err| place.error(err))? {
                    let (key, value) = entry.map_err(|err| place.error(err))?;
                    if !key.value().starts_with(&group) {
                        break;
                    }
                    let cell = keys::cell_of(key.value()).zip(keys::unseal_cell(value.value()));
                    found.push(cell.ok_or_else(|| place.damaged("a cell"))?);
                }
                Ok(found)
            })
        })
        .await
    }

    async fn write_segment(
        &self,
        feed: &str,
        id: SegmentId,
        parts: Vec<Bytes>,
    ) -> Result<(), StoreError> {
        for part in &parts {
            fits(&"a part of a segment", part.len(), PART_MAX)?;
        }
        let parts: Vec<_> = (0..)
            .zip(parts)
            .map(|(at, part)| (keys::part(feed, id, at), Some(part)))
            .collect();
        self.note(parts).await
    }

    async fn read_segment(
        &self,
        feed: &str,
        id: SegmentId,
        parts: u32,
    ) -> Result<Vec<Bytes>, StoreError> {
        let feed = Arc::<str>::from(feed);
        self.read(move |shared| {
            // Before the file: what leaves `pending` is in the file by then.
            let noted: Vec<_> = {
                let pending = lock(&shared.pending);
                (0..parts)
                    .map(|part| pending.get(&keys::part(&feed, id, part)))
                    .collect()
            };
            let found = shared.with_db(|db| shared.read_parts(db, &feed, id, noted))?;
            (0..)
                .zip(found)
                .map(|(part, bytes)| {
                    bytes.ok_or_else(|| StoreError::Missing {
                        feed: Arc::clone(&feed),
                        segment: id,
                        part,
                    })
                })
                .collect()
        })
        .await
    }

    async fn delete_segment(
        &self,
        feed: &str,
        id: SegmentId,
        parts: u32,
    ) -> Result<(), StoreError> {
        let parts = (0..parts).map(|part| (keys::part(feed, id, part), None));
        self.note(parts.collect()).await
    }

    async fn write_history(&self, feed: &str, line: HistoryLine) -> Result<(), StoreError> {
        let what = "a line of the history";
        fits(&what, line.value.len(), LARGE_CELL_MAX)?;
        let key = keys::history(feed, line.at, line.id);
        let value = line.value;
        self.write(Write::History { key, value }).await.map(drop)
    }

    async fn history(
        &self,
        feed: &str,
        from: i64,
        to: i64,
        limit: usize,
    ) -> Result<Vec<HistoryLine>, StoreError> {
        if from >= to {
            return Ok(Vec::new());
        }
        let from = keys::history(feed, from, 0);
        let to = keys::history(feed, to, 0);
        self.read(move |shared| {
            shared.with_db(|db| {
                let place = &shared.place;
                let read = place.read(db)?;
                let history = read.open_table(HISTORY).map_err(|err| place.table(err))?;
                let mut lines = Vec::<HistoryLine>::new();
                for entry in history
                    .range(&*from..&*to)
                    .map_err(|err| place.error(err))?
                {
                    let (key, value) = entry.map_err(|err| place.error(err))?;
                    let damaged = || place.damaged("a line of the history");
                    let (at, id) = keys::history_of(key.value()).ok_or_else(damaged)?;
                    if lines.len() >= limit && lines.last().is_none_or(|last| last.at != at) {
                        break;
                    }
                    let value = keys::unseal(value.value()).ok_or_else(damaged)?;
                    let value = Bytes::copy_from_slice(value);
                    lines.push(HistoryLine { at, id, value });
                }
                Ok(lines)
            })
        })
        .await
    }

    async fn delete_history(&self, feed: &str, lines: &[(i64, u128)]) -> Result<(), StoreError> {
        let keys = lines.iter().map(|(at, id)| keys::history(feed, *at, *id));
        let keys = keys.collect();
        self.write(Write::DeleteHistory { keys }).await.map(drop)
    }
}

impl RedbStore {
    /// Notes parts for the next commit; when much is noted, commits now.
    async fn note(&self, parts: Vec<(Vec<u8>, Option<Bytes>)>) -> Result<(), StoreError> {
        let large = {
            let mut pending = lock(&self.shared.pending);
            for (key, part) in &parts {
                pending.note(key.clone(), part.clone());
            }
            pending.is_large()
        };
        if large && let Err(err) = self.write(Write::Flush).await {
            lock(&self.shared.pending).done(&parts);
            return Err(err);
        }
        Ok(())
    }
}

impl Shared {
    /// Uses the file, opening it again if an error ended the last use; an error ends this one.
    fn with_db<T>(
        &self,
        use_it: impl FnOnce(&Database) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        loop {
            let handle = self.handle.read().unwrap_or_else(PoisonError::into_inner);
            if let Handle::Open(db) = &*handle {
                let used = use_it(db);
                drop(handle);
                if used.is_err() {
                    self.shut();
                }
                return used;
            }
            drop(handle);
            let mut handle = write_lock(&self.handle);
            match &*handle {
                Handle::Open(_) => {}
                Handle::Shut => *handle = Handle::Open(self.place.open()?),
                Handle::Closed => {
                    return Err(StoreError::Unavailable {
                        reason: "the store was closed".into(),
                    });
                }
            }
        }
    }

    fn shut(&self) {
        let mut handle = write_lock(&self.handle);
        if matches!(*handle, Handle::Open(_)) {
            *handle = Handle::Shut;
        }
    }

    /// The parts of a segment, those that are noted from there.
    fn read_parts(
        &self,
        db: &Database,
        feed: &str,
        id: SegmentId,
        noted: Vec<Option<Option<Bytes>>>,
    ) -> Result<Vec<Option<Bytes>>, StoreError> {
        let place = &self.place;
        let read = place.read(db)?;
        let table = read.open_table(PARTS).map_err(|err| place.table(err))?;
        let part = |(at, noted): (u32, Option<Option<Bytes>>)| {
            if let Some(noted) = noted {
                return Ok(noted);
            }
            let key = keys::part(feed, id, at);
            let Some(held) = table.get(&*key).map_err(|err| place.error(err))? else {
                return Ok(None);
            };
            let bytes = keys::unseal(held.value())
                .ok_or_else(|| place.damaged(format_args!("part {at} of {id:?}")))?;
            Ok(Some(Bytes::copy_from_slice(bytes)))
        };
        (0..).zip(noted).map(part).collect()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn write_lock(handle: &RwLock<Handle>) -> std::sync::RwLockWriteGuard<'_, Handle> {
    handle.write().unwrap_or_else(PoisonError::into_inner)
}
