//! The set digest: an order-free 128-bit hash of a set of rows that can be kept up to date row by row
//! and added over buckets. Sum mod 2^128 of xxh3-128 (seed [`SEED`]) over
//! `key length u32 LE, key, row length u32 LE, row`; the lengths keep two rows from being cut differently
//! into the same bytes. The digest of nothing is 0.

use std::fmt;
use std::str::FromStr;

use xxhash_rust::xxh3::{Xxh3, xxh3_128_with_seed};

use crate::key::{Key, Row};

/// Seed of every row hash. On the wire and in stores: never changes.
pub const SEED: u64 = 0x6f6e_6169_7231_0001;

/// Up to this many bytes are gathered on the stack and hashed at once; most rows take the smaller one.
const GATHER_FEW: usize = 96;
const GATHER: usize = 512;

/// A 128-bit order-free digest of a set of rows.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Digest(u128);

impl Digest {
    /// The digest of the empty set.
    pub const EMPTY: Digest = Digest(0);

    /// Wraps a digest that was computed elsewhere.
    #[inline]
    pub const fn new(value: u128) -> Self {
        Digest(value)
    }

    /// The 128-bit sum.
    #[inline]
    pub const fn get(self) -> u128 {
        self.0
    }

    /// The digest of the one row.
    pub fn of(key: &Key, row: &Row) -> Self {
        key.with_bytes(|key| Digest::of_bytes(key, row.bytes()))
    }

    /// The digest of the one row with this key, both in their canonical bytes.
    #[inline]
    pub fn of_bytes(key: &[u8], row: &[u8]) -> Self {
        Digest(hash(key, row))
    }

    /// The set with `other` added to it.
    #[must_use]
    #[inline]
    pub const fn plus(self, other: Digest) -> Self {
        Digest(self.0.wrapping_add(other.0))
    }

    /// The set with `other` taken from it.
    #[must_use]
    #[inline]
    pub const fn minus(self, other: Digest) -> Self {
        Digest(self.0.wrapping_sub(other.0))
    }
}

#[inline]
fn hash(key: &[u8], row: &[u8]) -> u128 {
    let total = 8 + key.len() + row.len();
    if total <= GATHER_FEW {
        return gathered::<GATHER_FEW>(key, row);
    }
    if total <= GATHER {
        return gathered::<GATHER>(key, row);
    }
    let mut hasher = Xxh3::with_seed(SEED);
    hasher.update(&(key.len() as u32).to_le_bytes());
    hasher.update(key);
    hasher.update(&(row.len() as u32).to_le_bytes());
    hasher.update(row);
    hasher.digest128()
}

#[inline]
fn gathered<const MAX: usize>(key: &[u8], row: &[u8]) -> u128 {
    let mut buffer = [0u8; MAX];
    let at = 4 + key.len();
    let total = at + 4 + row.len();
    buffer[..4].copy_from_slice(&(key.len() as u32).to_le_bytes());
    buffer[4..at].copy_from_slice(key);
    buffer[at..at + 4].copy_from_slice(&(row.len() as u32).to_le_bytes());
    buffer[at + 4..total].copy_from_slice(row);
    xxh3_128_with_seed(&buffer[..total], SEED)
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// A text that is not a digest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a digest: 32 hexadecimal digits are")]
pub struct ParseDigestError(String);

impl FromStr for Digest {
    type Err = ParseDigestError;

    fn from_str(text: &str) -> Result<Self, ParseDigestError> {
        let hex = text.len() == 32 && text.bytes().all(|b| b.is_ascii_hexdigit());
        match u128::from_str_radix(text, 16) {
            Ok(value) if hex => Ok(Digest(value)),
            _ => Err(ParseDigestError(text.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn row(bytes: &[u8]) -> Row {
        Row::new(Bytes::copy_from_slice(bytes))
    }

    #[test]
    fn short_and_long_rows_hash_alike_by_the_formula() {
        for len in [0, 1, 79, 80, 81, 495, 496, 497, 5000] {
            let body = vec![7u8; len];
            let mut flat = vec![8, 0, 0, 0];
            flat.extend_from_slice(&42u64.to_be_bytes());
            flat.extend_from_slice(&(len as u32).to_le_bytes());
            flat.extend_from_slice(&body);
            let expected = xxh3_128_with_seed(&flat, SEED);
            assert_eq!(
                Digest::of(&Key::from_u64(42), &row(&body)).get(),
                expected,
                "{len}"
            );
        }
    }

    #[test]
    fn cutting_the_same_bytes_differently_gives_another_digest() {
        let a = Digest::of(&Key::copy_from(b"ab"), &row(b"c"));
        let b = Digest::of(&Key::copy_from(b"a"), &row(b"bc"));
        assert_ne!(a, b);
        assert_eq!(a.plus(b).minus(a), b);
    }
}
