//! Rows events: header, columns present, images in their order.
//!
//! Formats: MySQL's `Rows_event` in `rows_event.h`, versions 1 and 2 and the partial update.

use super::DecodeError;
use super::bytes::Reader;

/// What an event does to its rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Deed {
    Insert,
    Update,
    /// The after image may hold JSON columns as differences.
    PartialUpdate,
    Delete,
}

/// A rows event before its images.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) table_id: u64,
    /// The statement ends here: table ids are told anew before the next rows.
    pub(super) ends_statement: bool,
}

/// The id in an event that only ends a statement.
pub(super) const NO_TABLE: u64 = 0xff_ffff;

impl Head {
    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Head, DecodeError> {
        let table_id = reader.uint(6)?;
        let flags = reader.uint(2)?;
        Ok(Head {
            table_id,
            ends_statement: flags & 1 != 0,
        })
    }
}

/// What stands between the header and the first image.
#[derive(Debug)]
pub(super) struct Shape<'a> {
    pub(super) columns: usize,
    /// Columns that images have: of the only one, or before and after.
    pub(super) present: [&'a [u8]; 2],
}

impl<'a> Shape<'a> {
    pub(super) fn read(
        reader: &mut Reader<'a>,
        deed: Deed,
        version_2: bool,
    ) -> Result<Self, DecodeError> {
        if version_2 {
            let len = reader.uint(2)? as usize;
            let extra = len.checked_sub(2).ok_or_else(|| {
                DecodeError::Damaged("extra row data shorter than its length field".to_owned())
            })?;
            reader.take(extra)?;
        }
        let columns = reader.lenenc_len()?;
        let first = reader.take(columns.div_ceil(8))?;
        let second = match deed {
            Deed::Update | Deed::PartialUpdate => reader.take(columns.div_ceil(8))?,
            Deed::Insert | Deed::Delete => first,
        };
        Ok(Shape {
            columns,
            present: [first, second],
        })
    }

    /// The first column that an image lacks.
    pub(super) fn absent(&self) -> Option<usize> {
        let mut absent = None;
        for bitmap in self.present {
            let whole = self.columns / 8;
            let rest = (1u16 << (self.columns % 8)) as u8 - 1;
            let full = bitmap[..whole].iter().all(|&byte| byte == 0xff)
                && bitmap.get(whole).is_none_or(|&byte| byte & rest == rest);
            if !full {
                let lacks = |&i: &usize| bitmap[i / 8] >> (i % 8) & 1 == 0;
                absent = absent.or((0..self.columns).find(lacks));
            }
        }
        absent
    }
}

/// What the kind of a rows event says: the deed, and whether it is of version 2.
pub(super) fn deed(kind: u8) -> Option<(Deed, bool)> {
    Some(match kind {
        23 => (Deed::Insert, false),
        24 => (Deed::Update, false),
        25 => (Deed::Delete, false),
        30 => (Deed::Insert, true),
        31 => (Deed::Update, true),
        32 => (Deed::Delete, true),
        39 => (Deed::PartialUpdate, true),
        _ => return None,
    })
}
