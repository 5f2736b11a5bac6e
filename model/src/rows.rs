//! The rows of one bucket: a hash map whose copies share what they have in common, so that a snapshot costs
//! no copy and a change copies one small leaf.
//!
//! Leaves are chosen by the high bits of the key's bucket hash; a map doubles its leaves when they grow
//! above [`LEAF_MEAN_MAX`] entries on average.

use std::sync::Arc;

use crate::bucket;
use crate::digest::Digest;
use crate::key::{Key, Row};
use hashbrown::HashTable;

/// A leaf is copied when one of its keys changes: small enough to copy in about a microsecond.
const LEAF_MEAN_MAX: usize = 48;

/// A map from key to `V` with cheap copies. `V` is a [`Row`] in merger and server, the decoded row in an SDK.
#[derive(Clone, Debug)]
pub struct Rows<V> {
    leaves: Arc<Vec<Arc<Leaf<V>>>>,
    len: usize,
}

type Leaf<V> = HashTable<(Key, V)>;

fn hash(key: &Key) -> u64 {
    key.with_bytes(bucket::hash)
}

impl<V: Clone> Rows<V> {
    /// No rows.
    pub fn new() -> Self {
        Rows {
            leaves: Arc::new(vec![Arc::new(HashTable::new())]),
            len: 0,
        }
    }

    /// No rows, with leaves for about this many.
    pub fn with_capacity(rows: usize) -> Self {
        let leaves = rows.div_ceil(LEAF_MEAN_MAX).next_power_of_two();
        Rows {
            leaves: Arc::new((0..leaves).map(|_| Arc::new(HashTable::new())).collect()),
            len: 0,
        }
    }

    /// How many rows.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The row of a key.
    pub fn get(&self, key: &Key) -> Option<&V> {
        self.find(hash(key), |held| held == key).map(|(_, row)| row)
    }

    /// The entry with this [`bucket::hash`] whose key passes `is_key`: for a caller who has hashed already, or
    /// has no [`Key`] at hand.
    pub fn find(&self, hash: u64, is_key: impl Fn(&Key) -> bool) -> Option<(&Key, &V)> {
        let leaf = &self.leaves[self.leaf(hash)];
        leaf.find(hash, |entry| is_key(&entry.0))
            .map(|entry| (&entry.0, &entry.1))
    }

    /// Sets the row of a key and returns the one before.
    pub fn insert(&mut self, key: Key, row: V) -> Option<V> {
        self.insert_hashed(hash(&key), key, row)
    }

    /// As [`Rows::insert`], with the key's [`bucket::hash`].
    pub fn insert_hashed(&mut self, hash: u64, key: Key, row: V) -> Option<V> {
        if self.len >= self.leaves.len() * LEAF_MEAN_MAX {
            self.grow();
        }
        let leaf = self.leaf_mut(hash);
        match leaf.entry(hash, |entry| entry.0 == key, |entry| self::hash(&entry.0)) {
            hashbrown::hash_table::Entry::Occupied(mut held) => {
                Some(std::mem::replace(&mut held.get_mut().1, row))
            }
            hashbrown::hash_table::Entry::Vacant(free) => {
                free.insert((key, row));
                self.len += 1;
                None
            }
        }
    }

    /// Takes a key out and returns its row.
    pub fn remove(&mut self, key: &Key) -> Option<V> {
        self.remove_hashed(hash(key), key)
    }

    /// As [`Rows::remove`], with the key's [`bucket::hash`].
    pub fn remove_hashed(&mut self, hash: u64, key: &Key) -> Option<V> {
        // Not copying a leaf for a key that is not there.
        self.find(hash, |held| held == key)?;
        let leaf = self.leaf_mut(hash);
        let (held, _) = leaf
            .find_entry(hash, |entry| entry.0 == *key)
            .ok()?
            .remove();
        self.len -= 1;
        Some(held.1)
    }

    /// All rows, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&Key, &V)> {
        self.leaves
            .iter()
            .flat_map(|leaf| leaf.iter().map(|entry| (&entry.0, &entry.1)))
    }

    /// Calls `each` with the rows before and after of every key that may differ: of each key in leaves that the
    /// two do not share. Copies of one map differ in few leaves, so this costs what changed.
    pub fn differing<'a>(
        before: &'a Rows<V>,
        after: &'a Rows<V>,
        mut each: impl FnMut(&'a Key, Option<&'a V>, Option<&'a V>),
    ) {
        if Arc::ptr_eq(&before.leaves, &after.leaves) {
            return;
        }
        if before.leaves.len() == after.leaves.len() {
            for (before, after) in before.leaves.iter().zip(after.leaves.iter()) {
                if !Arc::ptr_eq(before, after) {
                    let find = |leaf: &'a Leaf<V>, key: &Key| {
                        leaf.find(hash(key), |entry| entry.0 == *key)
                            .map(|entry| &entry.1)
                    };
                    for (key, row) in after.iter() {
                        each(key, find(before, key), Some(row));
                    }
                    for (key, row) in before.iter() {
                        if find(after, key).is_none() {
                            each(key, Some(row), None);
                        }
                    }
                }
            }
            return;
        }
        for (key, row) in after.iter() {
            each(key, before.get(key), Some(row));
        }
        for (key, row) in before.iter() {
            if after.get(key).is_none() {
                each(key, Some(row), None);
            }
        }
    }

    fn leaf(&self, hash: u64) -> usize {
        // The leaf count is a power of two; bits 40.. are used neither by the bucket's modulus alone
        // nor by the table inside the leaf.
        (hash >> 40) as usize & (self.leaves.len() - 1)
    }

    fn leaf_mut(&mut self, hash: u64) -> &mut Leaf<V> {
        let at = self.leaf(hash);
        Arc::make_mut(&mut Arc::make_mut(&mut self.leaves)[at])
    }

    fn grow(&mut self) {
        let count = self.leaves.len() * 2;
        let mut leaves: Vec<Leaf<V>> = (0..count)
            .map(|_| HashTable::with_capacity(LEAF_MEAN_MAX))
            .collect();
        for leaf in self.leaves.iter() {
            for entry in leaf.iter() {
                let hash = hash(&entry.0);
                leaves[(hash >> 40) as usize & (count - 1)].insert_unique(
                    hash,
                    entry.clone(),
                    |entry| self::hash(&entry.0),
                );
            }
        }
        self.leaves = Arc::new(leaves.into_iter().map(Arc::new).collect());
    }
}

impl<V: Clone> Default for Rows<V> {
    fn default() -> Self {
        Rows::new()
    }
}

impl<V: Clone> FromIterator<(Key, V)> for Rows<V> {
    /// Of two rows of one key the later one stays.
    fn from_iter<I: IntoIterator<Item = (Key, V)>>(entries: I) -> Self {
        let mut rows = Rows::new();
        for (key, row) in entries {
            rows.insert(key, row);
        }
        rows
    }
}

/// What `fold` must know of the content that it is asked to change.
pub trait RowDigests {
    /// The digest of the one row that this key has, if it has one.
    fn row_digest(&self, key: &Key) -> Option<Digest>;
}

impl RowDigests for Rows<Row> {
    fn row_digest(&self, key: &Key) -> Option<Digest> {
        self.get(key).map(|row| Digest::of(key, row))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    proptest! {
        #[test]
        fn behaves_as_a_map_and_copies_stay_as_they_were(
            steps in proptest::collection::vec((0u64..600, proptest::option::weighted(0.8, 0u32..5)), 0..2000),
            sized in any::<bool>(),
        ) {
            let mut rows = if sized { Rows::with_capacity(500) } else { Rows::new() };
            let mut model = BTreeMap::new();
            let mut kept = Vec::new();
            for (at, (key, value)) in steps.into_iter().enumerate() {
                match value {
                    Some(value) => prop_assert_eq!(rows.insert(Key::from_u64(key), value), model.insert(key, value)),
                    None => prop_assert_eq!(rows.remove(&Key::from_u64(key)), model.remove(&key)),
                }
                if at % 300 == 0 {
                    kept.push((rows.clone(), model.clone()));
                }
            }
            kept.push((rows, model));
            for (before, model_before) in &kept {
                for (after, model_after) in &kept {
                    let mut differ = BTreeMap::new();
                    Rows::differing(before, after, |key, was, is| {
                        if was != is {
                            differ.insert(key.as_u64().unwrap(), (was.copied(), is.copied()));
                        }
                    });
                    let mut expected = BTreeMap::new();
                    for key in model_before.keys().chain(model_after.keys()) {
                        let pair = (model_before.get(key).copied(), model_after.get(key).copied());
                        if pair.0 != pair.1 {
                            expected.insert(*key, pair);
                        }
                    }
                    prop_assert_eq!(differ, expected);
                }
            }
            for (rows, model) in kept {
                let listed: BTreeMap<u64, u32> = rows.iter().map(|(k, v)| (k.as_u64().unwrap(), *v)).collect();
                prop_assert_eq!(rows.len(), model.len());
                prop_assert_eq!(listed, model);
            }
        }
    }
}
