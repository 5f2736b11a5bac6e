//! Buckets: which part of a feed a key belongs to. One log partition, one base shard, one unit of ownership.

use std::fmt;
use std::num::NonZeroU16;

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::key::Key;

/// Seed of the bucket hash. A layout property: never changes.
pub const SEED: u64 = 0x6f6e_6169_7262_0001;

/// The hash that chooses a key's bucket, of its canonical bytes.
#[inline]
pub fn hash(key: &[u8]) -> u64 {
    xxh3_64_with_seed(key, SEED)
}

/// A bucket's number, below the feed's bucket count.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Bucket(u16);

impl Bucket {
    /// The bucket with this number.
    pub const fn new(number: u16) -> Self {
        Bucket(number)
    }

    /// Its number.
    pub const fn get(self) -> u16 {
        self.0
    }

    /// Its number as an index.
    #[inline]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Debug for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "b{}", self.0)
    }
}

impl fmt::Display for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// How many buckets a feed has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Buckets(NonZeroU16);

impl Buckets {
    /// A layout of this many buckets.
    pub const fn new(count: NonZeroU16) -> Self {
        Buckets(count)
    }

    /// How many.
    pub const fn count(self) -> usize {
        self.0.get() as usize
    }

    /// The bucket of a key.
    pub fn of(self, key: &Key) -> Bucket {
        self.of_hash(key.with_bytes(hash))
    }

    /// The bucket of the key with this [`hash`].
    #[inline]
    pub const fn of_hash(self, hash: u64) -> Bucket {
        let count = self.0.get() as u64;
        // The same, without a division where it can be had.
        let number = if count.is_power_of_two() {
            hash & (count - 1)
        } else {
            hash % count
        };
        Bucket(number as u16)
    }

    /// All of them, ascending.
    pub fn all(self) -> impl Iterator<Item = Bucket> + use<> {
        (0..self.0.get()).map(Bucket)
    }
}
