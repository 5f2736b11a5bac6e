//! Keys and values as they stand in the file. Names are length-framed, numbers big-endian, so that the keys of
//! one kind and name stand together and in order. Every value ends with a checksum: the file's own pages are
//! checked only when it is repaired.

use std::sync::Arc;

use bytes::Bytes;
use onair_model::Bucket;
use xxhash_rust::xxh3::xxh3_64;

use crate::{Cell, CellKey, SegmentId, Token};

/// The key's kind and first name: what all keys of its group begin with.
pub(super) fn cell_group(key: &CellKey) -> Vec<u8> {
    let (kind, name) = match key {
        CellKey::Lineage => (0, ""),
        CellKey::Head(feed, _) => (1, &**feed),
        CellKey::CutsHead(feed) => (2, &**feed),
        CellKey::Columns(feed) => (3, &**feed),
        CellKey::ReplaceRequest(feed, _) => (4, &**feed),
        CellKey::Lease(source) => (5, &**source),
        CellKey::Epoch(source) => (6, &**source),
        CellKey::Checkpoint(source) => (7, &**source),
        CellKey::Run(feed, _) => (8, &**feed),
        CellKey::Status(role, _) => (9, &**role),
        CellKey::Schema(feed) => (10, &**feed),
    };
    let mut out = vec![kind];
    put_name(&mut out, name);
    out
}

pub(super) fn cell(key: &CellKey) -> Vec<u8> {
    let mut out = cell_group(key);
    match key {
        CellKey::Head(_, bucket) | CellKey::ReplaceRequest(_, bucket) => {
            out.extend_from_slice(&bucket.get().to_be_bytes());
        }
        CellKey::Run(_, second) | CellKey::Status(_, second) => {
            out.extend_from_slice(second.as_bytes());
        }
        _ => {}
    }
    out
}

/// A cell's key from its bytes, `None` when they are none.
pub(super) fn cell_of(bytes: &[u8]) -> Option<CellKey> {
    let (&kind, rest) = bytes.split_first()?;
    let (name, rest) = take_name(rest)?;
    let name: Arc<str> = name.into();
    let bucket = || {
        let number = rest.try_into().ok()?;
        Some(Bucket::new(u16::from_be_bytes(number)))
    };
    let second = || Some(Arc::from(std::str::from_utf8(rest).ok()?));
    Some(match kind {
        0 => CellKey::Lineage,
        1 => CellKey::Head(name, bucket()?),
        2 => CellKey::CutsHead(name),
        3 => CellKey::Columns(name),
        4 => CellKey::ReplaceRequest(name, bucket()?),
        5 => CellKey::Lease(name),
        6 => CellKey::Epoch(name),
        7 => CellKey::Checkpoint(name),
        8 => CellKey::Run(name, second()?),
        9 => CellKey::Status(name, second()?),
        10 => CellKey::Schema(name),
        _ => return None,
    })
}

pub(super) fn part(feed: &str, id: SegmentId, part: u32) -> Vec<u8> {
    let mut out = Vec::new();
    put_name(&mut out, feed);
    out.extend_from_slice(&id.0.to_be_bytes());
    out.extend_from_slice(&part.to_be_bytes());
    out
}

pub(super) fn history(feed: &str, at: i64, id: u128) -> Vec<u8> {
    let mut out = Vec::new();
    put_name(&mut out, feed);
    out.extend_from_slice(&(at as u64 ^ 1 << 63).to_be_bytes());
    out.extend_from_slice(&id.to_be_bytes());
    out
}

/// Time and id in a history key.
pub(super) fn history_of(key: &[u8]) -> Option<(i64, u128)> {
    let (rest, id) = key.split_last_chunk()?;
    let at = u64::from_be_bytes(*rest.last_chunk()?);
    Some(((at ^ 1 << 63) as i64, u128::from_be_bytes(*id)))
}

/// Value and checksum.
pub(super) fn seal(value: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(value.len() + 8);
    out.extend_from_slice(value);
    out.extend_from_slice(&xxh3_64(value).to_le_bytes());
    out
}

/// The value of a sealed one, `None` when it is damaged.
pub(super) fn unseal(sealed: &[u8]) -> Option<&[u8]> {
    let (value, sum) = sealed.split_last_chunk()?;
    (u64::from_le_bytes(*sum) == xxh3_64(value)).then_some(value)
}

pub(super) fn seal_cell(cell: &Cell) -> Vec<u8> {
    seal(&[&cell.token.0.to_be_bytes(), &*cell.value].concat())
}

pub(super) fn unseal_cell(sealed: &[u8]) -> Option<Cell> {
    let (token, value) = unseal(sealed)?.split_first_chunk()?;
    Some(Cell {
        token: Token(u128::from_be_bytes(*token)),
        value: Bytes::copy_from_slice(value),
    })
}

fn put_name(out: &mut Vec<u8>, name: &str) {
    out.extend_from_slice(&(name.len() as u32).to_be_bytes());
    out.extend_from_slice(name.as_bytes());
}

fn take_name(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let (len, rest) = bytes.split_first_chunk()?;
    let (name, rest) = rest.split_at_checked(u32::from_be_bytes(*len) as usize)?;
    Some((std::str::from_utf8(name).ok()?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cell_keys_round_trip_and_stay_apart() {
        let name = |text: &str| Arc::<str>::from(text);
        let keys = [
            CellKey::Lineage,
            CellKey::Head(name("a"), Bucket::new(0)),
            CellKey::Head(name("a"), Bucket::new(300)),
            CellKey::Head(name("a\0"), Bucket::new(0)),
            CellKey::CutsHead(name("a")),
            CellKey::Columns(name("a")),
            CellKey::Schema(name("a")),
            CellKey::ReplaceRequest(name(""), Bucket::new(1)),
            CellKey::Lease(name("s")),
            CellKey::Epoch(name("s")),
            CellKey::Checkpoint(name("s")),
            CellKey::Run(name("a"), name("bc")),
            CellKey::Run(name("ab"), name("c")),
            CellKey::Status(name("merger"), name("")),
        ];
        for (at, key) in keys.iter().enumerate() {
            assert_eq!(cell_of(&cell(key)).as_ref(), Some(key));
            assert!(keys[..at].iter().all(|other| cell(other) != cell(key)));
        }
        assert!(!cell(&keys[3]).starts_with(&cell_group(&keys[1])));
    }

    #[test]
    fn history_keys_order_by_time_also_before_1970() {
        let key = |(at, id)| history("f", at, id);
        let lines = [
            (i64::MIN, 9),
            (-5, 0),
            (-5, u128::MAX),
            (0, 1),
            (i64::MAX, 0),
        ];
        for pair in lines.windows(2) {
            assert!(key(pair[0]) < key(pair[1]));
        }
        for line in lines {
            assert_eq!(history_of(&key(line)), Some(line));
        }
    }
}
