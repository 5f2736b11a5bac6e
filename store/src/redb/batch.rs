//! Writes: gathered while one commit is under way, done together by the next.
//!
//! Segments and their deletions are only noted in [`Pending`] and go to the file with the commit that comes next,
//! before any cell that may name them; so one sync covers a fold, and segments that no cell ever named do not
//! reach the disk. After any error of the file it is opened again, and the batch's number tells what was done.

use std::collections::BTreeMap;

use ::redb::{Database, ReadableTable, WriteTransaction};
use bytes::Bytes;
use tokio::sync::oneshot;

use super::file::{CELLS, HISTORY, PARTS};
use super::{Shared, keys, lock};
use crate::{Cas, Cell, CellKey, StoreError, Token};

/// Noted bytes and entries at which they are written without waiting for a cell.
const PENDING_BYTES_MAX: usize = 16 * 1024 * 1024;
const PENDING_MAX: usize = 4096;

/// Segment parts by key; `None` is to be deleted.
#[derive(Debug, Default)]
pub(super) struct Pending {
    parts: BTreeMap<Vec<u8>, Option<Bytes>>,
    bytes: usize,
}

impl Pending {
    /// What is noted for the part: `None` is nothing.
    pub(super) fn get(&self, key: &[u8]) -> Option<Option<Bytes>> {
        self.parts.get(key).cloned()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    fn list(&self) -> Vec<(Vec<u8>, Option<Bytes>)> {
        let parts = self.parts.iter();
        parts
            .map(|(key, part)| (key.clone(), part.clone()))
            .collect()
    }

    pub(super) fn note(&mut self, key: Vec<u8>, part: Option<Bytes>) {
        self.bytes += part.as_ref().map_or(0, Bytes::len);
        let before = self.parts.insert(key, part).flatten();
        self.bytes -= before.as_ref().map_or(0, Bytes::len);
    }

    pub(super) fn is_large(&self) -> bool {
        self.bytes > PENDING_BYTES_MAX || self.parts.len() > PENDING_MAX
    }

    /// Takes these out, unless they were changed since.
    pub(super) fn done(&mut self, written: &[(Vec<u8>, Option<Bytes>)]) {
        for (key, part) in written {
            if self.parts.get(key) == Some(part) {
                let before = self.parts.remove(key).flatten();
                self.bytes -= before.as_ref().map_or(0, Bytes::len);
            }
        }
    }
}

/// One write that is answered when it is durable.
#[derive(Debug)]
pub(super) enum Write {
    Cas {
        key: CellKey,
        expect: Option<Token>,
        new: Option<Cell>,
    },
    History {
        key: Vec<u8>,
        value: Bytes,
    },
    DeleteHistory {
        keys: Vec<Vec<u8>>,
    },
    /// Nothing but what is pending.
    Flush,
}

/// A write and who waits for it. Anything but a compare-and-set is answered `Won`.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) write: Write,
    pub(super) done: oneshot::Sender<Result<Cas, StoreError>>,
}

/// How a batch ended.
enum Ended {
    /// All of it is durable, or nothing had to be written.
    Done(Vec<Cas>),
    /// The commit failed: done or not, its number tells.
    Unsure {
        number: u64,
        answers: Vec<Cas>,
        why: StoreError,
    },
}

impl Shared {
    /// Does all writes that are queued. Runs on a blocking thread, one at a time.
    pub(super) fn run(&self) {
        let mut jobs = std::mem::take(&mut *lock(&self.queue));
        // Given up before it was begun: certainly not done.
        jobs.retain(|job| !job.done.is_closed());
        let (writes, waiting): (Vec<_>, Vec<_>) =
            jobs.into_iter().map(|job| (job.write, job.done)).unzip();
        if writes.is_empty() {
            return;
        }
        match self.batch(&writes) {
            Ok(answers) => {
                for (done, answer) in waiting.into_iter().zip(answers) {
                    // Whoever went away must expect either.
                    let _ = done.send(Ok(answer));
                }
            }
            Err(err) => {
                for done in waiting {
                    let _ = done.send(Err(err.clone()));
                }
            }
        }
    }

    /// Does these writes in one commit, after everything that is pending.
    pub(super) fn batch(&self, writes: &[Write]) -> Result<Vec<Cas>, StoreError> {
        let parts = lock(&self.pending).list();
        let answers = match self.with_db(|db| self.commit(db, writes, &parts))? {
            Ended::Done(answers) => answers,
            Ended::Unsure {
                number,
                answers,
                why,
            } => {
                self.shut();
                let last = self.with_db(|db| self.place.last_batch(db));
                match last {
                    Ok(last) if last >= number => answers,
                    Ok(_) => return Err(why),
                    Err(err) => {
                        return Err(StoreError::Unknown {
                            reason: format!("{why}; and it cannot be read back: {err}"),
                        });
                    }
                }
            }
        };
        let wrote = answers.contains(&Cas::Won);
        if wrote {
            lock(&self.pending).done(&parts);
        }
        Ok(answers)
    }

    fn commit(
        &self,
        db: &Database,
        writes: &[Write],
        parts: &[(Vec<u8>, Option<Bytes>)],
    ) -> Result<Ended, StoreError> {
        let write = self.place.write(db)?;
        let answers = self.apply(&write, writes)?;
        if !answers.contains(&Cas::Won) {
            return match write.abort() {
                Ok(()) => Ok(Ended::Done(answers)),
                Err(err) => Err(self.place.error(err)),
            };
        }
        self.apply_parts(&write, parts)?;
        let number = self.place.next_batch(&write)?;
        Ok(match write.commit() {
            Ok(()) => Ended::Done(answers),
            Err(err) => Ended::Unsure {
                number,
                answers,
                why: self.place.commit(err),
            },
        })
    }

    fn apply(&self, write: &WriteTransaction, writes: &[Write]) -> Result<Vec<Cas>, StoreError> {
        let place = &self.place;
        let mut cells = write.open_table(CELLS).map_err(|err| place.table(err))?;
        let mut history = write.open_table(HISTORY).map_err(|err| place.table(err))?;
        let mut answers = Vec::with_capacity(writes.len());
        for write in writes {
            let answer = match write {
                Write::Cas { key, expect, new } => {
                    let bytes = keys::cell(key);
                    let found = match cells.get(&*bytes).map_err(|err| place.error(err))? {
                        None => None,
                        Some(held) => Some(
                            keys::unseal_cell(held.value()).ok_or_else(|| place.damaged(key))?,
                        ),
                    };
                    if found.as_ref().map(|cell| cell.token) != *expect {
                        answers.push(Cas::Lost(found));
                        continue;
                    }
                    match new {
                        Some(cell) => cells.insert(&*bytes, &*keys::seal_cell(cell)).map(drop),
                        None => cells.remove(&*bytes).map(drop),
                    }
                }
                Write::History { key, value } => {
                    history.insert(&**key, &*keys::seal(value)).map(drop)
                }
                Write::DeleteHistory { keys } => keys
                    .iter()
                    .try_for_each(|key| history.remove(&**key).map(drop)),
                Write::Flush => Ok(()),
            };
            answer.map_err(|err| place.error(err))?;
            answers.push(Cas::Won);
        }
        Ok(answers)
    }

    fn apply_parts(
        &self,
        write: &WriteTransaction,
        parts: &[(Vec<u8>, Option<Bytes>)],
    ) -> Result<(), StoreError> {
        let place = &self.place;
        let mut table = write.open_table(PARTS).map_err(|err| place.table(err))?;
        for (key, part) in parts {
            match part {
                Some(part) => table.insert(&**key, &*keys::seal(part)).map(drop),
                None => table.remove(&**key).map(drop),
            }
            .map_err(|err| place.error(err))?;
        }
        Ok(())
    }
}
