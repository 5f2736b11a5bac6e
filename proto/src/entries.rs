//! Keys and rows one after the other in one `bytes` field: written once, read without copying.
//!
//! An entry is: key length (varint), key, row length + 1 (varint), row. 0 in place of the row's length: no row.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use onair_model::{Key, Row};
use prost::encoding::{decode_varint, encode_varint};

/// Bytes that are not entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the entries are damaged: a length goes past the end")]
pub struct EntriesError;

/// Appends one entry.
pub fn write(out: &mut BytesMut, key: &Key, row: Option<&Row>) {
    key.with_bytes(|key| {
        encode_varint(key.len() as u64, out);
        out.put_slice(key);
    });
    match row {
        Some(row) => {
            encode_varint(row.bytes().len() as u64 + 1, out);
            out.put_slice(row.bytes());
        }
        None => encode_varint(0, out),
    }
}

/// Bytes that [`write()`] will append at most.
pub fn size(key: &Key, row: Option<&Row>) -> usize {
    20 + key.with_bytes(<[u8]>::len) + row.map_or(0, |row| row.bytes().len())
}

/// All of these entries in one buffer.
pub fn encode<'a>(entries: impl Iterator<Item = (&'a Key, Option<&'a Row>)>) -> Bytes {
    let mut out = BytesMut::new();
    for (key, row) in entries {
        write(&mut out, key, row);
    }
    out.freeze()
}

/// Reads entries; rows and long keys share the buffer.
#[derive(Clone, Debug)]
pub struct Entries {
    rest: Bytes,
}

impl Entries {
    /// A reader over a field's bytes.
    pub const fn new(bytes: Bytes) -> Self {
        Entries { rest: bytes }
    }

    /// The entries as slices of the buffer: for who keeps none of it.
    pub fn slices(&self) -> Slices<'_> {
        Slices { rest: &self.rest }
    }

    fn entry(&mut self) -> Result<(Key, Option<Row>), EntriesError> {
        let ((key, row), rest) = split_entry(&self.rest)?;
        let key = match key.len() {
            // Those need no share of the buffer.
            8 => Key::copy_from(key),
            _ => Key::from_bytes(self.rest.slice_ref(key)),
        };
        let row = row.map(|row| Row::new(self.rest.slice_ref(row)));
        self.rest.advance(self.rest.len() - rest.len());
        Ok((key, row))
    }
}

impl Iterator for Entries {
    type Item = Result<(Key, Option<Row>), EntriesError>;

    fn next(&mut self) -> Option<Self::Item> {
        if !self.rest.has_remaining() {
            return None;
        }
        let entry = self.entry();
        if entry.is_err() {
            self.rest.clear();
        }
        Some(entry)
    }
}

/// Entries one after the other, borrowed: canonical bytes of the key, and of the row if there is one.
#[derive(Clone, Debug)]
pub struct Slices<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Slices<'a> {
    type Item = Result<(&'a [u8], Option<&'a [u8]>), EntriesError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let rest = std::mem::take(&mut self.rest);
        Some(split_entry(rest).map(|(entry, rest)| {
            self.rest = rest;
            entry
        }))
    }
}

type Split<'a> = ((&'a [u8], Option<&'a [u8]>), &'a [u8]);

/// The first entry, and the bytes after it.
#[inline]
fn split_entry(bytes: &[u8]) -> Result<Split<'_>, EntriesError> {
    let (len, rest) = varint(bytes)?;
    let (key, rest) = split(rest, len)?;
    let (len, rest) = varint(rest)?;
    let Some(len) = len.checked_sub(1) else {
        return Ok(((key, None), rest));
    };
    let (row, rest) = split(rest, len)?;
    Ok(((key, Some(row)), rest))
}

#[inline]
fn varint(bytes: &[u8]) -> Result<(u64, &[u8]), EntriesError> {
    // Nearly all lengths are one byte.
    if let [len @ 0..0x80, rest @ ..] = bytes {
        return Ok((u64::from(*len), rest));
    }
    let mut rest = bytes;
    let len = decode_varint(&mut rest).map_err(|_| EntriesError)?;
    Ok((len, rest))
}

#[inline]
fn split(bytes: &[u8], len: u64) -> Result<(&[u8], &[u8]), EntriesError> {
    let len = usize::try_from(len).map_err(|_| EntriesError)?;
    bytes.split_at_checked(len).ok_or(EntriesError)
}
