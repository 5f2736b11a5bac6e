//! One transaction of the demo server: what it wrote so far, seen by itself alone until it commits.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::room::{Room, TITLE_MAX};
use super::rows::{Gift, Statement};
use super::state::State;

/// A transaction under way. Nothing of it shows before it commits, nothing at all when it is rolled back.
#[derive(Debug)]
pub struct Transaction<'a> {
    state: &'a mut State,
    /// What it changed: the row, or `None` where it deleted it.
    changed: BTreeMap<u64, Option<Arc<Room>>>,
    statements: Vec<Statement>,
    rolled_back: bool,
}

/// Why the server refuses a row.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RowError {
    /// Error 1062.
    #[error("duplicate entry '{0}' for key 'room.PRIMARY'")]
    Duplicate(u64),
    /// Error 1406.
    #[error("data too long for column 'title': {0} characters, {max} fit", max = TITLE_MAX)]
    TitleTooLong(usize),
}

impl<'a> Transaction<'a> {
    pub(super) fn new(state: &'a mut State) -> Self {
        Transaction {
            state,
            changed: BTreeMap::new(),
            statements: Vec::new(),
            rolled_back: false,
        }
    }

    /// The row as this transaction would write it: with all that is committed before it, seen by SELECT or not.
    pub fn get(&self, id: u64) -> Option<Arc<Room>> {
        match self.changed.get(&id) {
            Some(changed) => changed.clone(),
            None => self.state.latest(id),
        }
    }

    /// INSERT of one row.
    pub fn insert(&mut self, room: Room) -> Result<(), RowError> {
        self.insert_all([room])
    }

    /// INSERT of several rows by one statement; all or none.
    pub fn insert_all(&mut self, rooms: impl IntoIterator<Item = Room>) -> Result<(), RowError> {
        let mut fresh = BTreeMap::new();
        let mut rows = Vec::new();
        for room in rooms {
            check(&room)?;
            self.state.lock_row(room.id);
            if fresh.contains_key(&room.id) || self.get(room.id).is_some() {
                return Err(RowError::Duplicate(room.id));
            }
            let room = Arc::new(room);
            fresh.insert(room.id, Some(room.clone()));
            rows.push(room);
        }
        self.changed.extend(fresh);
        self.statement(!rows.is_empty(), Statement::Insert(rows));
        Ok(())
    }

    /// UPDATE of one row, its key too if `change` says so. `false` when there is no such row or nothing changed,
    /// and then nothing is written, as MySQL does.
    pub fn update(&mut self, id: u64, change: impl FnOnce(&mut Room)) -> Result<bool, RowError> {
        let mut change = Some(change);
        let updated = self.update_all([id], |room| {
            if let Some(change) = change.take() {
                change(room);
            }
        })?;
        Ok(updated == 1)
    }

    /// UPDATE of several rows by one statement; returns how many it changed. After an error the statement has
    /// no effect.
    pub fn update_all(
        &mut self,
        ids: impl IntoIterator<Item = u64>,
        mut change: impl FnMut(&mut Room),
    ) -> Result<usize, RowError> {
        let before_statement = self.changed.clone();
        let mut rows = Vec::new();
        for id in ids {
            self.state.lock_row(id);
            let Some(before) = self.get(id) else {
                continue;
            };
            let mut after = Room::clone(&before);
            change(&mut after);
            if after == *before {
                continue;
            }
            self.state.lock_row(after.id);
            let refused = match check(&after) {
                Ok(()) if after.id != id && self.get(after.id).is_some() => {
                    Some(RowError::Duplicate(after.id))
                }
                Ok(()) => None,
                Err(error) => Some(error),
            };
            if let Some(error) = refused {
                self.changed = before_statement;
                return Err(error);
            }
            let after = Arc::new(after);
            self.changed.insert(id, None);
            self.changed.insert(after.id, Some(after.clone()));
            rows.push((before, after));
        }
        let updated = rows.len();
        self.statement(updated > 0, Statement::Update(rows));
        Ok(updated)
    }

    /// DELETE of one row; `false` when there is none.
    pub fn delete(&mut self, id: u64) -> bool {
        self.delete_all([id]) == 1
    }

    /// DELETE of several rows by one statement; returns how many there were.
    pub fn delete_all(&mut self, ids: impl IntoIterator<Item = u64>) -> usize {
        let mut rows = Vec::new();
        for id in ids {
            self.state.lock_row(id);
            if let Some(room) = self.get(id) {
                self.changed.insert(id, None);
                rows.push(room);
            }
        }
        let deleted = rows.len();
        self.statement(deleted > 0, Statement::Delete(rows));
        deleted
    }

    /// INSERT into `live.gift`, which no feed captures.
    pub fn gifts(&mut self, gifts: Vec<Gift>) {
        self.statement(!gifts.is_empty(), Statement::Gifts(gifts));
    }

    /// Ends it without effect, whatever comes after.
    pub fn rollback(&mut self) {
        self.rolled_back = true;
    }

    fn statement(&mut self, wrote: bool, statement: Statement) {
        if wrote {
            self.statements.push(statement);
        }
    }

    /// What is to be committed; `None` when it was rolled back.
    pub(super) fn finish(self) -> Option<Changes> {
        (!self.rolled_back).then_some(Changes {
            rows: self.changed,
            statements: self.statements,
        })
    }
}

/// The outcome of a transaction.
#[derive(Debug)]
pub(super) struct Changes {
    pub(super) rows: BTreeMap<u64, Option<Arc<Room>>>,
    pub(super) statements: Vec<Statement>,
}

fn check(room: &Room) -> Result<(), RowError> {
    let length = room.title.as_ref().map_or(0, |title| title.chars().count());
    if length > TITLE_MAX {
        return Err(RowError::TitleTooLong(length));
    }
    Ok(())
}
