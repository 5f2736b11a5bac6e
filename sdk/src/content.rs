//! The rows of one version: a map in buckets whose copies share what they have in common, with its digest kept
//! up to date row by row.

use std::sync::Arc;

use onair_model::schema::Schema;
use onair_model::{Buckets, Digest, Key, Rows, RowsBuilder, Sum, bucket};

use crate::key::AsKey;
use crate::row::{self, BadRow, FromRow, RowRef};

/// A server's word on how many rows will come is taken up to here; the map grows by itself beyond.
const CAPACITY_MAX: usize = 4 << 20;

/// A row and its digest: two rows of a key are the same exactly when their digests are.
#[derive(Clone, Debug)]
pub(crate) struct Entry<T> {
    pub(crate) row: T,
    // Not a u128, whose alignment would cost eight bytes a row.
    digest: [u64; 2],
}

impl<T> Entry<T> {
    fn new(digest: Digest, row: T) -> Self {
        let digest = digest.get();
        Entry {
            row,
            digest: [(digest >> 64) as u64, digest as u64],
        }
    }

    fn digest(&self) -> Digest {
        Digest::new(u128::from(self.digest[0]) << 64 | u128::from(self.digest[1]))
    }

    fn is_same(&self, other: &Entry<T>) -> bool {
        self.digest == other.digest
    }
}

const NOTHING: Sum = Sum {
    digest: Digest::EMPTY,
    count: 0,
};

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
    /// No rows, of no bucket.
    pub(crate) fn empty(schema: Arc<Schema>, layout: Buckets) -> Self {
        Draft::new(schema, layout, 0).finish()
    }

    pub(crate) const fn sum(&self) -> Sum {
        self.sum
    }

    pub(crate) const fn schema(&self) -> &Arc<Schema> {
        &self.schema
    }

    /// One hash a lookup: it chooses the bucket, the leaf and the place in the leaf.
    #[inline]
    pub(crate) fn get(&self, key: &(impl AsKey + ?Sized)) -> Option<&T> {
        let entry = key.with_key(&self.schema.key, |bytes| self.find(bytes));
        entry.flatten().map(|entry| &entry.row)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Key, &T)> {
        self.buckets
            .iter()
            .flat_map(Rows::iter)
            .map(|(key, entry)| (key, &entry.row))
    }

    #[inline]
    fn find(&self, key: &[u8]) -> Option<&Entry<T>> {
        self.find_hashed(bucket::hash(key), key)
    }

    #[inline]
    fn find_hashed(&self, hash: u64, key: &[u8]) -> Option<&Entry<T>> {
        let rows = &self.buckets[self.layout.of_hash(hash).index()];
        rows.find(hash, |held| held.is(key)).map(|(_, entry)| entry)
    }

    /// Calls `each` with every key that is not the same in both, and its rows before and after. `touched`, when it is
    /// given, names all of them, and maybe others.
    pub(crate) fn differing(
        before: &Content<T>,
        after: &Content<T>,
        touched: Option<&[Key]>,
        mut each: impl FnMut(&Key, Option<&T>, Option<&T>),
    ) {
        let mut differ = |key: &Key, was: Option<&Entry<T>>, is: Option<&Entry<T>>| match (was, is)
        {
            (Some(was), Some(is)) if was.is_same(is) => {}
            (was, is) => each(key, was.map(|entry| &entry.row), is.map(|entry| &entry.row)),
        };
        if let Some(touched) = touched {
            for key in touched {
                differ(key, before.find_key(key), after.find_key(key));
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
            differ(key, before.find_key(key), Some(is));
        }
        for (key, was) in before.buckets.iter().flat_map(Rows::iter) {
            if after.find_key(key).is_none() {
                differ(key, Some(was), None);
            }
        }
    }

    fn find_key(&self, key: &Key) -> Option<&Entry<T>> {
        key.with_bytes(|key| self.find(key))
    }
}

impl<T: FromRow> Content<T> {
    /// Sets the row of a key. A row that is held already is not read again.
    pub(crate) fn put(&mut self, key: &[u8], row: &[u8]) -> Result<(), BadRow> {
        let hash = bucket::hash(key);
        let digest = Digest::of_bytes(key, row);
        let held = self.find_hashed(hash, key).map(Entry::digest);
        if held == Some(digest) {
            return Ok(());
        }
        let key = Key::copy_from(key);
        let entry = read(&self.schema, &key, row, digest)?;
        self.took(held);
        self.sum.digest = self.sum.digest.plus(digest);
        self.sum.count += 1;
        self.buckets[self.layout.of_hash(hash).index()].insert_hashed(hash, key, entry);
        Ok(())
    }

    /// Takes a key out, if it is there.
    pub(crate) fn remove(&mut self, key: &[u8]) {
        let hash = bucket::hash(key);
        if let Some(held) = self.find_hashed(hash, key).map(Entry::digest) {
            self.took(Some(held));
            let rows = &mut self.buckets[self.layout.of_hash(hash).index()];
            rows.remove_hashed(hash, &Key::copy_from(key));
        }
    }

    fn took(&mut self, held: Option<Digest>) {
        if let Some(held) = held {
            self.sum.digest = self.sum.digest.minus(held);
            self.sum.count -= 1;
        }
    }
}

/// Content that is being put together, row by row.
#[derive(Debug)]
pub(crate) struct Draft<T> {
    layout: Buckets,
    buckets: Vec<RowsBuilder<Entry<T>>>,
    sum: Sum,
    schema: Arc<Schema>,
}

/// A key that has a row already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Held;

impl<T> Draft<T> {
    /// For about so many rows.
    pub(crate) fn new(schema: Arc<Schema>, layout: Buckets, rows: u64) -> Self {
        let rows = usize::try_from(rows)
            .unwrap_or(CAPACITY_MAX)
            .min(CAPACITY_MAX);
        let each = rows / layout.count();
        let buckets = (0..layout.count()).map(|_| RowsBuilder::with_capacity(each));
        Draft {
            layout,
            buckets: buckets.collect(),
            sum: NOTHING,
            schema,
        }
    }

    pub(crate) const fn sum(&self) -> Sum {
        self.sum
    }

    pub(crate) const fn schema(&self) -> &Arc<Schema> {
        &self.schema
    }

    /// Sets a row that is not read from bytes, of a key that has none yet.
    pub(crate) fn add_value(&mut self, key: Key, row: T) {
        let (hash, digest) = key.with_bytes(|key| (bucket::hash(key), Digest::of_bytes(key, b"")));
        let added = self.insert(hash, key, Entry::new(digest, row));
        debug_assert_eq!(added, Ok(()), "each key once");
    }

    fn insert(&mut self, hash: u64, key: Key, entry: Entry<T>) -> Result<(), Held> {
        self.sum.digest = self.sum.digest.plus(entry.digest());
        self.sum.count += 1;
        let rows = &mut self.buckets[self.layout.of_hash(hash).index()];
        match rows.insert_hashed(hash, key, entry) {
            true => Ok(()),
            false => Err(Held),
        }
    }

    pub(crate) fn finish(self) -> Content<T> {
        Content {
            layout: self.layout,
            buckets: self.buckets.into_iter().map(RowsBuilder::build).collect(),
            sum: self.sum,
            schema: self.schema,
        }
    }
}

impl<T: FromRow> Draft<T> {
    /// Sets the row of a key that has none yet. A row that is held in `known` is not read again.
    pub(crate) fn add(
        &mut self,
        key: &[u8],
        row: &[u8],
        known: Option<&Content<T>>,
    ) -> Result<Result<(), Held>, BadRow> {
        let hash = bucket::hash(key);
        let digest = Digest::of_bytes(key, row);
        let known = known.and_then(|known| known.find_hashed(hash, key));
        // A slice would hold the whole message that it came in.
        let key = Key::copy_from(key);
        let entry = match known.filter(|known| known.digest() == digest) {
            Some(known) => known.clone(),
            None => read(&self.schema, &key, row, digest)?,
        };
        Ok(self.insert(hash, key, entry))
    }
}

fn read<T: FromRow>(
    schema: &Arc<Schema>,
    key: &Key,
    bytes: &[u8],
    digest: Digest,
) -> Result<Entry<T>, BadRow> {
    let row = RowRef { key, bytes, schema };
    Ok(Entry::new(digest, row::read(row)?))
}
