//! The rows of one version: a map in buckets whose copies share what they have in common, with its digest kept
//! up to date row by row.

use std::sync::Arc;

use onair_model::schema::Schema;
use onair_model::{Buckets, Digest, Key, Row, Rows, Sum, bucket};

use crate::key::AsKey;
use crate::row::{self, BadRow, FromRow, RowRef};

/// A server's word on how many rows will come is taken up to here; the map grows by itself beyond.
const CAPACITY_MAX: usize = 4 << 20;

/// A row and its digest: two rows of a key are the same exactly when their digests are.
#[derive(Debug)]
pub(crate) struct Entry<T> {
    // Not a u128, whose alignment would cost eight bytes a row.
    digest: [u64; 2],
    pub(crate) row: Arc<T>,
}

impl<T> Entry<T> {
    fn new(digest: Digest, row: Arc<T>) -> Self {
        let digest = digest.get();
        Entry {
            digest: [(digest >> 64) as u64, digest as u64],
            row,
        }
    }

    fn digest(&self) -> Digest {
        Digest::new(u128::from(self.digest[0]) << 64 | u128::from(self.digest[1]))
    }

    pub(crate) fn is_same(&self, other: &Entry<T>) -> bool {
        self.digest == other.digest
    }
}

impl<T> Clone for Entry<T> {
    fn clone(&self) -> Self {
        Entry {
            digest: self.digest,
            row: self.row.clone(),
        }
    }
}

/// All rows of a feed at one version.
#[derive(Debug)]
pub(crate) struct Content<T> {
    layout: Buckets,
    buckets: Vec<Rows<Entry<T>>>,
    sum: Sum,
    schema: Arc<Schema>,
}

impl<T> Clone for Content<T> {
    fn clone(&self) -> Self {
        Content {
            layout: self.layout,
            buckets: self.buckets.clone(),
            sum: self.sum,
            schema: self.schema.clone(),
        }
    }
}

impl<T> Content<T> {
    pub(crate) fn empty(schema: Arc<Schema>, layout: Buckets, rows: u64) -> Self {
        let rows = usize::try_from(rows)
            .unwrap_or(CAPACITY_MAX)
            .min(CAPACITY_MAX);
        let each = rows / layout.count();
        Content {
            layout,
            buckets: (0..layout.count())
                .map(|_| Rows::with_capacity(each))
                .collect(),
            sum: Sum {
                digest: Digest::EMPTY,
                count: 0,
            },
            schema,
        }
    }

    pub(crate) const fn sum(&self) -> Sum {
        self.sum
    }

    pub(crate) const fn schema(&self) -> &Arc<Schema> {
        &self.schema
    }

    /// One hash a lookup: it chooses the bucket, the leaf and the place in the leaf.
    pub(crate) fn get(&self, key: &(impl AsKey + ?Sized)) -> Option<(&Key, &Arc<T>)> {
        let entry = key.with_key(&self.schema.key, |bytes| {
            let hash = bucket::hash(bytes);
            let rows = &self.buckets[self.layout.of_hash(hash).index()];
            rows.find(hash, |held| held.with_bytes(|held| held == bytes))
        });
        entry.flatten().map(|(key, entry)| (key, &entry.row))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Key, &Arc<T>)> {
        self.buckets
            .iter()
            .flat_map(Rows::iter)
            .map(|(key, entry)| (key, &entry.row))
    }

    /// Sets a row that is not read from bytes.
    pub(crate) fn put_value(&mut self, key: Key, value: T) {
        let digest = Digest::of(&key, &Row::new(bytes::Bytes::new()));
        let hash = key.with_bytes(bucket::hash);
        self.insert(hash, key, Entry::new(digest, Arc::new(value)));
    }

    fn insert(&mut self, hash: u64, key: Key, entry: Entry<T>) -> Option<Entry<T>> {
        self.sum.digest = self.sum.digest.plus(entry.digest());
        self.sum.count += 1;
        let before =
            self.buckets[self.layout.of_hash(hash).index()].insert_hashed(hash, key, entry);
        self.took(before.as_ref());
        before
    }

    /// Takes a key out, if it is there.
    pub(crate) fn remove(&mut self, key: &Key) {
        let hash = key.with_bytes(bucket::hash);
        let before = self.buckets[self.layout.of_hash(hash).index()].remove_hashed(hash, key);
        self.took(before.as_ref());
    }

    fn took(&mut self, before: Option<&Entry<T>>) {
        if let Some(before) = before {
            self.sum.digest = self.sum.digest.minus(before.digest());
            self.sum.count -= 1;
        }
    }

    fn find(&self, hash: u64, key: &Key) -> Option<&Entry<T>> {
        let rows = &self.buckets[self.layout.of_hash(hash).index()];
        rows.find(hash, |held| held == key).map(|(_, entry)| entry)
    }

    /// Calls `each` with every key that is not the same in both, and its rows before and after. `touched`, when it is
    /// given, names all of them, and maybe others.
    pub(crate) fn differing(
        before: &Content<T>,
        after: &Content<T>,
        touched: Option<&[Key]>,
        mut each: impl FnMut(&Key, Option<&Arc<T>>, Option<&Arc<T>>),
    ) {
        let mut differ = |key: &Key, was: Option<&Entry<T>>, is: Option<&Entry<T>>| match (was, is)
        {
            (Some(was), Some(is)) if was.is_same(is) => {}
            (was, is) => each(key, was.map(|entry| &entry.row), is.map(|entry| &entry.row)),
        };
        let hash = |key: &Key| key.with_bytes(bucket::hash);
        if let Some(touched) = touched {
            for key in touched {
                let hash = hash(key);
                differ(key, before.find(hash, key), after.find(hash, key));
            }
            return;
        }
        if before.layout == after.layout {
            for (before, after) in before.buckets.iter().zip(&after.buckets) {
                Rows::differing(before, after, &mut differ);
            }
            return;
        }
        for (key, is) in after.buckets.iter().flat_map(Rows::iter) {
            differ(key, before.find(hash(key), key), Some(is));
        }
        for (key, was) in before.buckets.iter().flat_map(Rows::iter) {
            if after.find(hash(key), key).is_none() {
                differ(key, Some(was), None);
            }
        }
    }
}

/// A key that has a row already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Held;

impl<T: FromRow> Content<T> {
    /// Sets the row of a key that has none yet. A row that is held in `known` is not read again.
    pub(crate) fn add(
        &mut self,
        key: &Key,
        row: &Row,
        known: Option<&Content<T>>,
    ) -> Result<Result<(), Held>, BadRow> {
        let hash = key.with_bytes(bucket::hash);
        let digest = Digest::of(key, row);
        let known = known.and_then(|known| known.find(hash, key));
        let entry = match known.filter(|entry| entry.digest() == digest) {
            Some(entry) => entry.clone(),
            None => self.read(key, row, digest)?,
        };
        Ok(match self.insert(hash, copied(key), entry) {
            Some(_) => Err(Held),
            None => Ok(()),
        })
    }

    /// Sets the row of a key. A row that is held already is not read again.
    pub(crate) fn put(&mut self, key: &Key, row: &Row) -> Result<(), BadRow> {
        let hash = key.with_bytes(bucket::hash);
        let digest = Digest::of(key, row);
        let held = self.find(hash, key);
        if held.is_none_or(|held| held.digest() != digest) {
            let entry = self.read(key, row, digest)?;
            self.insert(hash, copied(key), entry);
        }
        Ok(())
    }

    fn read(&self, key: &Key, row: &Row, digest: Digest) -> Result<Entry<T>, BadRow> {
        let row = RowRef {
            key,
            bytes: row.bytes(),
            schema: &self.schema,
        };
        Ok(Entry::new(digest, Arc::new(row::read(row)?)))
    }
}

/// A slice would hold the whole message that it came in.
fn copied(key: &Key) -> Key {
    key.with_bytes(Key::copy_from)
}
