//! Keys and rows: the canonical bytes that are hashed, compared and sent.
//!
//! A key's columns are encoded one after the other so that byte order is column order: integers as eight
//! bytes big-endian with the sign bit flipped for signed ones; text (in UTF-8) and binary with every 0x00
//! written 0x00 0xFF and 0x00 0x01 as the end, except as the only column, which stands as it is.
//! Dates and times are encoded as their text. A key of exactly eight bytes is held as a `u64`.
//!
//! Collation: keys are compared by these bytes. MySQL's own uniqueness is at least as coarse (it may
//! fold case, accents and trailing spaces), so two rows of a table never share bytes; an UPDATE that
//! changes only the case of a key is an Off and an On in one commit, which is the same set.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use bytes::Bytes;

/// The primary key of a row in its canonical bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct Key(Repr);

#[derive(Clone, PartialEq, Eq)]
enum Repr {
    /// Exactly eight bytes, read big-endian: every single-column integer key.
    Eight(u64),
    /// Any other length. Behind a pointer: nearly all keys have eight, and maps are full of keys.
    Bytes(Arc<Bytes>),
}

impl Key {
    /// The key of an unsigned integer column.
    #[inline]
    pub const fn from_u64(value: u64) -> Self {
        Key(Repr::Eight(value))
    }

    /// The key of a signed integer column.
    pub const fn from_i64(value: i64) -> Self {
        Key(Repr::Eight(value as u64 ^ (1 << 63)))
    }

    /// The key with these canonical bytes.
    pub fn from_bytes(bytes: Bytes) -> Self {
        match <[u8; 8]>::try_from(&bytes[..]) {
            Ok(eight) => Key(Repr::Eight(u64::from_be_bytes(eight))),
            Err(_) => Key(Repr::Bytes(Arc::new(bytes))),
        }
    }

    /// The key with a copy of these canonical bytes.
    #[inline]
    pub fn copy_from(bytes: &[u8]) -> Self {
        match <[u8; 8]>::try_from(bytes) {
            Ok(eight) => Key(Repr::Eight(u64::from_be_bytes(eight))),
            Err(_) => Key(Repr::Bytes(Arc::new(Bytes::copy_from_slice(bytes)))),
        }
    }

    /// The eight-byte form as a number, for integer keys.
    pub const fn as_u64(&self) -> Option<u64> {
        match self.0 {
            Repr::Eight(value) => Some(value),
            Repr::Bytes(_) => None,
        }
    }

    /// Whether these are its canonical bytes.
    #[inline]
    pub fn is(&self, bytes: &[u8]) -> bool {
        match &self.0 {
            Repr::Eight(value) => {
                <[u8; 8]>::try_from(bytes).is_ok_and(|bytes| u64::from_be_bytes(bytes) == *value)
            }
            Repr::Bytes(held) => bytes == &***held,
        }
    }

    /// Calls `f` with the canonical bytes.
    #[inline]
    pub fn with_bytes<T>(&self, f: impl FnOnce(&[u8]) -> T) -> T {
        match &self.0 {
            Repr::Eight(value) => f(&value.to_be_bytes()),
            Repr::Bytes(bytes) => f(bytes),
        }
    }

    /// The canonical bytes, owned; no copy except for eight-byte keys.
    pub fn to_bytes(&self) -> Bytes {
        match &self.0 {
            Repr::Eight(value) => Bytes::copy_from_slice(&value.to_be_bytes()),
            Repr::Bytes(bytes) => Bytes::clone(bytes),
        }
    }
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        match &self.0 {
            Repr::Eight(value) => state.write_u64(*value),
            Repr::Bytes(bytes) => state.write(bytes),
        }
    }
}

impl Ord for Key {
    fn cmp(&self, other: &Self) -> Ordering {
        match (&self.0, &other.0) {
            (Repr::Eight(a), Repr::Eight(b)) => a.cmp(b),
            _ => self.with_bytes(|a| other.with_bytes(|b| a.cmp(b))),
        }
    }
}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Repr::Eight(value) => write!(f, "Key({value})"),
            Repr::Bytes(bytes) => write!(f, "Key({bytes:?})"),
        }
    }
}

/// The exported columns of a live row: one protobuf message in canonical bytes (fields ascending, NULL absent).
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Row(Bytes);

impl Row {
    /// Wraps the encoded message.
    pub const fn new(bytes: Bytes) -> Self {
        Row(bytes)
    }

    /// The encoded message.
    pub const fn bytes(&self) -> &Bytes {
        &self.0
    }
}

impl fmt::Debug for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Row({:?})", self.0)
    }
}

/// Appends one column to a composite key, or the only column of a single one.
#[derive(Debug)]
pub struct KeyWriter<'a> {
    out: &'a mut Vec<u8>,
    single: bool,
}

impl<'a> KeyWriter<'a> {
    /// A writer for a key of `columns` columns; `out` is emptied.
    pub fn new(out: &'a mut Vec<u8>, columns: usize) -> Self {
        out.clear();
        KeyWriter {
            out,
            single: columns == 1,
        }
    }

    /// An unsigned integer column.
    pub fn unsigned(&mut self, value: u64) {
        self.out.extend_from_slice(&value.to_be_bytes());
    }

    /// A signed integer column.
    pub fn signed(&mut self, value: i64) {
        self.unsigned(value as u64 ^ (1 << 63));
    }

    /// A text (UTF-8), binary, date, time or decimal column.
    pub fn bytes(&mut self, value: &[u8]) {
        if self.single {
            self.out.extend_from_slice(value);
            return;
        }
        for &byte in value {
            self.out.push(byte);
            if byte == 0 {
                self.out.push(0xff);
            }
        }
        self.out.extend_from_slice(&[0, 1]);
    }
}

/// Reads the columns of a key back, in the order and kinds in which they were written.
#[derive(Debug)]
pub struct KeyReader<'a> {
    rest: &'a [u8],
    single: bool,
}

/// The bytes do not hold the columns that the schema says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the key's bytes do not fit the feed's key columns")]
pub struct KeyShapeError;

impl<'a> KeyReader<'a> {
    /// A reader over a key of `columns` columns.
    pub const fn new(bytes: &'a [u8], columns: usize) -> Self {
        KeyReader {
            rest: bytes,
            single: columns == 1,
        }
    }

    /// The next column as an unsigned integer.
    pub fn unsigned(&mut self) -> Result<u64, KeyShapeError> {
        let (eight, rest) = self.rest.split_first_chunk::<8>().ok_or(KeyShapeError)?;
        self.rest = rest;
        Ok(u64::from_be_bytes(*eight))
    }

    /// The next column as a signed integer.
    pub fn signed(&mut self) -> Result<i64, KeyShapeError> {
        Ok((self.unsigned()? ^ (1 << 63)) as i64)
    }

    /// The next column as bytes.
    pub fn bytes(&mut self) -> Result<Vec<u8>, KeyShapeError> {
        if self.single {
            return Ok(std::mem::take(&mut self.rest).to_vec());
        }
        let mut out = Vec::new();
        let mut at = 0;
        loop {
            match (self.rest.get(at), self.rest.get(at + 1)) {
                (Some(0), Some(0xff)) => {
                    out.push(0);
                    at += 2;
                }
                (Some(0), Some(1)) => {
                    self.rest = &self.rest[at + 2..];
                    return Ok(out);
                }
                (Some(&byte), _) if byte != 0 => {
                    out.push(byte);
                    at += 1;
                }
                _ => return Err(KeyShapeError),
            }
        }
    }

    /// Whether all of it was read.
    pub const fn is_done(&self) -> bool {
        self.rest.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn composite_keys_round_trip_and_keep_column_order(
            a in (any::<i64>(), proptest::collection::vec(0u8..3, 0..4), any::<u64>()),
            b in (any::<i64>(), proptest::collection::vec(0u8..3, 0..4), any::<u64>()),
        ) {
            let encode = |(i, s, u): &(i64, Vec<u8>, u64)| {
                let mut out = Vec::new();
                let mut key = KeyWriter::new(&mut out, 3);
                key.signed(*i);
                key.bytes(s);
                key.unsigned(*u);
                Key::copy_from(&out)
            };
            let (ka, kb) = (encode(&a), encode(&b));
            prop_assert_eq!(ka.cmp(&kb), a.cmp(&b));
            ka.with_bytes(|bytes| {
                let mut reader = KeyReader::new(bytes, 3);
                assert_eq!(reader.signed(), Ok(a.0));
                assert_eq!(reader.bytes().unwrap(), a.1);
                assert_eq!(reader.unsigned(), Ok(a.2));
                assert!(reader.is_done());
            });
        }
    }

    #[test]
    fn eight_bytes_are_one_key_however_made() {
        assert_eq!(Key::from_u64(42), Key::copy_from(&42u64.to_be_bytes()));
        assert_eq!(
            Key::copy_from(b"12345678"),
            Key::from_bytes(Bytes::from_static(b"12345678"))
        );
        assert!(Key::from_i64(-1) < Key::from_i64(0));
        assert!(Key::copy_from(b"a") < Key::copy_from(b"b"));
    }
}
