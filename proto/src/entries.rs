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

    fn entry(&mut self) -> Result<(Key, Option<Row>), EntriesError> {
        let key = self.key()?;
        let row = self.take_optional()?;
        Ok((key, row.map(Row::new)))
    }

    fn key(&mut self) -> Result<Key, EntriesError> {
        // Most keys have eight bytes: those need no share of the buffer.
        if let [8, rest @ ..] = &self.rest[..]
            && let Some(eight) = rest.first_chunk::<8>()
        {
            let key = Key::copy_from(eight);
            self.rest.advance(9);
            return Ok(key);
        }
        let len = decode_varint(&mut self.rest).map_err(|_| EntriesError)?;
        self.split(len).map(Key::from_bytes)
    }

    fn take_optional(&mut self) -> Result<Option<Bytes>, EntriesError> {
        match decode_varint(&mut self.rest)
            .map_err(|_| EntriesError)?
            .checked_sub(1)
        {
            Some(len) => self.split(len).map(Some),
            None => Ok(None),
        }
    }

    fn split(&mut self, len: u64) -> Result<Bytes, EntriesError> {
        let len = usize::try_from(len).map_err(|_| EntriesError)?;
        if len > self.rest.remaining() {
            return Err(EntriesError);
        }
        Ok(self.rest.split_to(len))
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
