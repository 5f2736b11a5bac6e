//! The rows of one bucket: a hash map whose copies share what they have in common, so that a snapshot costs
//! no copy and a change costs the same however many rows there are.
//!
//! Most rows stand in the base, found as in any hash map. A base that nobody shares is changed in place.
//! What changes beside a shared one stands in a patch: a small map in leaves, of which a change copies one. A patch that
//! has grown above a [`PATCH_SHARE`]th of its base becomes part of a new one, so each change pays for that many rows'
//! copies once.

mod tables;

use std::sync::Arc;

use crate::bucket;
use crate::digest::Digest;
use crate::key::{Key, Row};
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

/// The larger, the less memory and time of lookups goes to the patch, and the more time of changes to new bases.
const PATCH_SHARE: usize = 8;
/// A patch of so many changes is no reason for a new base.
const PATCH_MIN: usize = 64;
/// A change copies a leaf and the list of them: there are about as many leaves as a leaf has entries, but a leaf of so
/// many is as good as a smaller one.
const LEAF_MEAN_MIN: usize = 8;

/// A map from key to `V` with cheap copies. `V` is a [`Row`] in merger and server, the decoded row in an SDK.
#[derive(Debug)]
pub struct Rows<V> {
    base: Arc<[Table<V>]>,
    /// `None`: the base's row of this key is gone. A leaf is copied more often than the base: its rows are shared.
    patch: Leaves<Option<Arc<V>>>,
    len: usize,
}

impl<V> Clone for Rows<V> {
    fn clone(&self) -> Self {
        Rows {
            base: Arc::clone(&self.base),
            patch: self.patch.clone(),
            len: self.len,
        }
    }
}

type Table<V> = HashTable<(Key, V)>;

/// Rows of which nobody has a copy yet: to fill a map at once.
#[derive(Debug)]
pub struct RowsBuilder<V> {
    base: Vec<Table<V>>,
}

impl<V> RowsBuilder<V> {
    /// No rows, with room for this many.
    pub fn with_capacity(rows: usize) -> Self {
        RowsBuilder {
            base: tables::with_capacity(rows),
        }
    }

    /// Sets the row of a key, and says whether it had none; with the key's [`bucket::hash`].
    pub fn insert_hashed(&mut self, hash: u64, key: Key, row: V) -> bool {
        insert(tables::of_mut(&mut self.base, hash), hash, key, row)
    }

    /// Sets the row of a key, and says whether it had none.
    pub fn insert(&mut self, key: Key, row: V) -> bool {
        self.insert_hashed(hash(&key), key, row)
    }

    /// The map.
    pub fn build(self) -> Rows<V> {
        Rows {
            len: count(&self.base),
            base: self.base.into(),
            patch: Leaves::default(),
        }
    }
}

fn hash(key: &Key) -> u64 {
    key.with_bytes(bucket::hash)
}

/// A table uses a hash's lowest and highest bits. All keys of a bucket may have the lowest ones in common.
const fn in_table(hash: u64) -> u64 {
    hash.rotate_right(16)
}

#[inline]
fn find<V>(table: &Table<V>, hash: u64, is_key: impl Fn(&Key) -> bool) -> Option<&(Key, V)> {
    table.find(in_table(hash), |entry| is_key(&entry.0))
}

/// Whether the key was not there.
fn insert<V>(table: &mut Table<V>, hash: u64, key: Key, row: V) -> bool {
    let entry = table.entry(
        in_table(hash),
        |entry| entry.0 == key,
        |entry| in_table(self::hash(&entry.0)),
    );
    match entry {
        Entry::Occupied(mut held) => {
            held.get_mut().1 = row;
            false
        }
        Entry::Vacant(free) => {
            free.insert((key, row));
            true
        }
    }
}

/// Whether the key was there.
fn remove<V>(table: &mut Table<V>, hash: u64, key: &Key) -> bool {
    let held = table.find_entry(in_table(hash), |entry| entry.0 == *key);
    held.map(|held| held.remove()).is_ok()
}

impl<V: Clone> Rows<V> {
    /// No rows.
    pub fn new() -> Self {
        RowsBuilder::with_capacity(0).build()
    }

    /// Sets the row of a key.
    pub fn insert(&mut self, key: Key, row: V) {
        self.insert_hashed(hash(&key), key, row);
    }

    /// As [`Rows::insert`], with the key's [`bucket::hash`].
    pub fn insert_hashed(&mut self, hash: u64, key: Key, row: V) {
        let is_new = if let Some(base) = self.own_base() {
            insert(tables::of_mut(base, hash), hash, key, row)
        } else {
            let is_new = self.find(hash, |held| *held == key).is_none();
            self.patch.insert(hash, key, Some(Arc::new(row)));
            self.settle();
            is_new
        };
        self.len += usize::from(is_new);
    }

    /// Takes a key out, if it is there.
    pub fn remove(&mut self, key: &Key) {
        self.remove_hashed(hash(key), key);
    }

    /// As [`Rows::remove`], with the key's [`bucket::hash`].
    pub fn remove_hashed(&mut self, hash: u64, key: &Key) {
        // Not copying a leaf for a key that is not there.
        if self.find(hash, |held| held == key).is_none() {
            return;
        }
        if let Some(base) = self.own_base() {
            remove(tables::of_mut(base, hash), hash, key);
        } else if let Some((key, _)) = self.find_base(hash, |held| held == key) {
            let key = key.clone();
            self.patch.insert(hash, key, None);
            self.settle();
        } else {
            self.patch.remove(hash, key);
        }
        self.len -= 1;
    }

    /// The base to be changed in place, when nobody shares it. The patch is part of it then.
    fn own_base(&mut self) -> Option<&mut [Table<V>]> {
        let base = Arc::get_mut(&mut self.base)?;
        if self.patch.len > 0 {
            apply(base, &std::mem::take(&mut self.patch));
        }
        Some(base)
    }

    /// Makes a new base of base and patch when the patch has grown large.
    fn settle(&mut self) {
        if self.patch.len <= PATCH_MIN.max(count(&self.base) / PATCH_SHARE) {
            return;
        }
        let mut base = if tables::suit(&self.base, self.len) {
            self.base.to_vec()
        } else {
            let mut base = tables::with_capacity(self.len);
            for (key, row) in self.base.iter().flatten() {
                let hash = hash(key);
                insert(
                    tables::of_mut(&mut base, hash),
                    hash,
                    key.clone(),
                    row.clone(),
                );
            }
            base
        };
        apply(&mut base, &std::mem::take(&mut self.patch));
        self.base = base.into();
    }
}

impl<V> Rows<V> {
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
    #[inline]
    pub fn find(&self, hash: u64, is_key: impl Fn(&Key) -> bool) -> Option<(&Key, &V)> {
        if self.patch.len > 0
            && let Some((key, row)) = self.patch.find(hash, &is_key)
        {
            return row.as_deref().map(|row| (key, row));
        }
        self.find_base(hash, is_key).map(|(key, row)| (key, row))
    }

    #[inline]
    fn find_base(&self, hash: u64, is_key: impl Fn(&Key) -> bool) -> Option<&(Key, V)> {
        find(tables::of(&self.base, hash), hash, is_key)
    }

    /// All rows, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&Key, &V)> {
        let is_patched = |key: &Key| self.patch.len > 0 && self.patched(key).is_some();
        let base = self.base.iter().flatten();
        let base = base.filter(move |entry| !is_patched(&entry.0));
        let base = base.map(|(key, row)| (key, row));
        base.chain(
            self.patch
                .iter()
                .filter_map(|(key, row)| row.as_deref().map(|row| (key, row))),
        )
    }

    /// Calls `each` with the rows before and after of every key that may differ. Copies of one map differ in few
    /// leaves of their patches, so this costs what changed; once in a while, when a patch became a new base between the
    /// two, it costs all.
    pub fn differing<'a>(
        before: &'a Rows<V>,
        after: &'a Rows<V>,
        mut each: impl FnMut(&'a Key, Option<&'a V>, Option<&'a V>),
    ) {
        if Arc::ptr_eq(&before.base, &after.base) {
            let mut each = |key: &'a Key| each(key, before.get(key), after.get(key));
            Leaves::differing(&before.patch, &after.patch, &mut each);
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

    fn patched(&self, key: &Key) -> Option<&(Key, Option<Arc<V>>)> {
        self.patch.find(hash(key), |held| held == key)
    }
}

fn count<V>(base: &[Table<V>]) -> usize {
    base.iter().map(Table::len).sum()
}

fn apply<V: Clone>(base: &mut [Table<V>], patch: &Leaves<Option<Arc<V>>>) {
    for (key, row) in patch.iter() {
        let hash = hash(key);
        let table = tables::of_mut(base, hash);
        match row {
            Some(row) => insert(table, hash, key.clone(), V::clone(row)),
            None => remove(table, hash, key),
        };
    }
}

/// A small map. Leaves are chosen by the high bits of the key's bucket hash; it doubles them when they have more entries on
/// average than there are leaves.
#[derive(Debug)]
struct Leaves<V> {
    /// A power of two; none while it is empty.
    leaves: Arc<Vec<Arc<Table<V>>>>,
    len: usize,
}

impl<V> Clone for Leaves<V> {
    fn clone(&self) -> Self {
        Leaves {
            leaves: Arc::clone(&self.leaves),
            len: self.len,
        }
    }
}

impl<V> Default for Leaves<V> {
    fn default() -> Self {
        Leaves {
            leaves: Arc::default(),
            len: 0,
        }
    }
}

impl<V> Leaves<V> {
    fn find(&self, hash: u64, is_key: impl Fn(&Key) -> bool) -> Option<&(Key, V)> {
        if self.len == 0 {
            return None;
        }
        find(&self.leaves[self.leaf(hash)], hash, is_key)
    }

    fn iter(&self) -> impl Iterator<Item = &(Key, V)> {
        self.leaves.iter().flat_map(|leaf| leaf.iter())
    }

    /// Each key of the leaves that the two do not share, once.
    fn differing<'a>(before: &'a Leaves<V>, after: &'a Leaves<V>, each: &mut impl FnMut(&'a Key)) {
        if Arc::ptr_eq(&before.leaves, &after.leaves) {
            return;
        }
        let mut of_leaves = |before: &'a Table<V>, after: &'a Table<V>| {
            for (key, _) in after.iter() {
                each(key);
            }
            for (key, _) in before.iter() {
                if find(after, hash(key), |held| held == key).is_none() {
                    each(key);
                }
            }
        };
        if before.leaves.len() == after.leaves.len() {
            for (before, after) in before.leaves.iter().zip(after.leaves.iter()) {
                if !Arc::ptr_eq(before, after) {
                    of_leaves(before, after);
                }
            }
            return;
        }
        for (key, _) in after.iter() {
            each(key);
        }
        for (key, _) in before.iter() {
            if after.find(hash(key), |held| held == key).is_none() {
                each(key);
            }
        }
    }

    fn leaf(&self, hash: u64) -> usize {
        // Bits 40.. are used neither by the bucket's modulus alone nor by the table inside the leaf.
        (hash >> 40) as usize & (self.leaves.len() - 1)
    }
}

impl<V: Clone> Leaves<V> {
    fn insert(&mut self, hash: u64, key: Key, row: V) {
        let leaves = self.leaves.len();
        if self.len >= leaves * leaves.max(LEAF_MEAN_MIN) {
            self.grow();
        }
        self.len += usize::from(insert(self.leaf_mut(hash), hash, key, row));
    }

    fn remove(&mut self, hash: u64, key: &Key) {
        self.len -= usize::from(remove(self.leaf_mut(hash), hash, key));
    }

    fn leaf_mut(&mut self, hash: u64) -> &mut Table<V> {
        let at = self.leaf(hash);
        Arc::make_mut(&mut Arc::make_mut(&mut self.leaves)[at])
    }

    fn grow(&mut self) {
        let count = (self.leaves.len() * 2).max(1);
        let mut leaves: Vec<Table<V>> = (0..count).map(|_| HashTable::new()).collect();
        for (key, row) in self.iter() {
            let hash = hash(key);
            let leaf = &mut leaves[(hash >> 40) as usize & (count - 1)];
            insert(leaf, hash, key.clone(), row.clone());
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
        let entries = entries.into_iter();
        let mut rows = RowsBuilder::with_capacity(entries.size_hint().0);
        for (key, row) in entries {
            rows.insert(key, row);
        }
        rows.build()
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
            steps in proptest::collection::vec((0u64..900, proptest::option::weighted(0.8, 0u32..5)), 0..2000),
            // In one table or in five; with the steps one of them grows to three.
            first in proptest::sample::select(vec![0u64, 500, 1500, 3300]),
        ) {
            let mut model: BTreeMap<u64, u32> = (600..600 + first).map(|key| (key, 7)).collect();
            let mut rows: Rows<u32> = model.iter().map(|(key, row)| (Key::from_u64(*key), *row)).collect();
            let mut kept = Vec::new();
            for (at, (key, value)) in steps.into_iter().enumerate() {
                match value {
                    Some(value) => {
                        rows.insert(Key::from_u64(key), value);
                        model.insert(key, value);
                    }
                    None => {
                        rows.remove(&Key::from_u64(key));
                        model.remove(&key);
                    }
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
