//! A secondary index: rows by something else than their key.

use std::borrow::Borrow;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::hash::Hash;

use onair_model::Key;

use crate::changes::{Changes, Step};
use crate::snapshot::Snapshot;

/// Rows of a feed by something that a function reads from them, from [`Feed::index`](crate::Feed::index).
///
/// It is of one snapshot, [`Index::snapshot`], until [`Index::refresh`] takes it to the newest one, which costs what
/// changed. It belongs to whoever made it: one for each task or thread that needs it, or one behind a lock.
pub struct Index<T, I> {
    changes: Changes<T>,
    of: Box<dyn Fn(&T) -> I + Send + Sync>,
    rows: HashMap<I, BTreeMap<Key, T>>,
    snapshot: Snapshot<T>,
}

impl<T: Clone, I: Hash + Eq> Index<T, I> {
    pub(crate) fn new(
        mut changes: Changes<T>,
        of: impl Fn(&T) -> I + Send + Sync + 'static,
    ) -> Self {
        let first = changes.first();
        let snapshot = first.snapshot.clone();
        let mut index = Index {
            changes,
            of: Box::new(of),
            rows: HashMap::new(),
            snapshot,
        };
        index.apply(&first);
        index
    }

    /// Goes to the newest version; gives what changed, or `None` when it was there already.
    pub fn refresh(&mut self) -> Option<Step<T>> {
        let step = self.changes.try_next()?;
        self.apply(&step);
        self.snapshot = step.snapshot.clone();
        Some(step)
    }

    fn apply(&mut self, step: &Step<T>) {
        for (key, row) in &step.off {
            self.remove(key, row);
        }
        for change in &step.change {
            self.remove(&change.key, &change.before);
            self.insert(&change.key, &change.after);
        }
        for (key, row) in &step.on {
            self.insert(key, row);
        }
    }

    fn insert(&mut self, key: &Key, row: &T) {
        self.rows
            .entry((self.of)(row))
            .or_default()
            .insert(key.clone(), row.clone());
    }

    fn remove(&mut self, key: &Key, row: &T) {
        let of = (self.of)(row);
        if let Some(rows) = self.rows.get_mut(&of) {
            rows.remove(key);
            if rows.is_empty() {
                self.rows.remove(&of);
            }
        }
    }

    /// The rows of a value, by ascending key.
    pub fn get<Q: Hash + Eq + ?Sized>(&self, value: &Q) -> impl Iterator<Item = (&Key, &T)>
    where
        I: Borrow<Q>,
    {
        self.rows.get(value).into_iter().flatten()
    }

    /// How many rows a value has.
    pub fn count<Q: Hash + Eq + ?Sized>(&self, value: &Q) -> usize
    where
        I: Borrow<Q>,
    {
        self.rows.get(value).map_or(0, BTreeMap::len)
    }

    /// Every value that a live row has, in no order.
    pub fn values(&self) -> impl Iterator<Item = &I> {
        self.rows.keys()
    }

    /// The snapshot that it is of.
    pub const fn snapshot(&self) -> &Snapshot<T> {
        &self.snapshot
    }
}

impl<T, I> fmt::Debug for Index<T, I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Index")
            .field("snapshot", &self.snapshot)
            .field("values", &self.rows.len())
            .finish_non_exhaustive()
    }
}
