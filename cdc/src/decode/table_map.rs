//! TABLE_MAP bodies: which table, its columns' forms, and the optional metadata that
//! `binlog_row_metadata` adds. Formats: MySQL's `Table_map_event` in `rows_event.h`; MariaDB's are the same
//! but for one set of columns (see [`Described::read`]).

use super::DecodeError;
use super::bytes::{Reader, Short};
use super::wire::{UnknownType, Wire, wire};
use crate::source::Dialect;

/// What comes before the columns.
#[derive(Clone, Copy, Debug)]
pub(super) struct Header<'a> {
    pub(super) id: u64,
    pub(super) database: &'a [u8],
    pub(super) table: &'a [u8],
    columns: Reader<'a>,
}

impl<'a> Header<'a> {
    pub(super) fn read(body: &'a [u8]) -> Result<Self, Short> {
        let mut reader = Reader::new(body);
        let id = reader.uint(6)?;
        let _flags = reader.take(2)?;
        let mut name = || {
            let len = reader.u8()?;
            let name = reader.take(usize::from(len))?;
            reader.u8()?;
            Ok(name)
        };
        let (database, table) = (name()?, name()?);
        Ok(Header {
            id,
            database,
            table,
            columns: reader,
        })
    }
}

/// The columns of a table map.
#[derive(Debug)]
pub(super) struct Columns<'a> {
    pub(super) wires: Vec<Wire>,
    optional: Reader<'a>,
}

impl<'a> Columns<'a> {
    /// Reads them. [`UnknownType`] when a column's form is not known, with its ordinal.
    pub(super) fn read(
        header: &Header<'a>,
    ) -> Result<Result<Columns<'a>, (usize, UnknownType)>, Short> {
        let mut reader = header.columns;
        let count = reader.lenenc_len()?;
        let types = reader.take(count)?;
        let mut meta = Reader::new(reader.lenenc_bytes()?);
        let _nullable = reader.take(count.div_ceil(8))?;
        let mut wires = Vec::with_capacity(count);
        for (ordinal, &type_byte) in types.iter().enumerate() {
            match wire(type_byte, &mut meta)? {
                Ok(wire) => wires.push(wire),
                Err(unknown) => return Ok(Err((ordinal, unknown))),
            }
        }
        Ok(Ok(Columns {
            wires,
            optional: reader,
        }))
    }
}

/// What the optional metadata says, by column ordinal. Empty or `None` where it says nothing.
#[derive(Debug, Default)]
pub(super) struct Described<'a> {
    /// `binlog_row_metadata = FULL`: all names.
    pub(super) names: Option<Vec<&'a [u8]>>,
    /// Ordinals of the primary key in key order, with or without prefixes.
    pub(super) primary_key: Option<Vec<usize>>,
    signs: Vec<(usize, bool)>,
    collations: Vec<(usize, u32)>,
    labels: Vec<(usize, Vec<&'a [u8]>)>,
}

impl<'a> Described<'a> {
    /// Reads the metadata. MariaDB tells a collation for GEOMETRY, too, MySQL does not.
    pub(super) fn read(columns: &Columns<'a>, dialect: Dialect) -> Result<Self, DecodeError> {
        let geometry = dialect == Dialect::Mariadb;
        let ordinals = |wanted: &dyn Fn(Wire) -> bool| -> Vec<usize> {
            let wires = columns.wires.iter().enumerate();
            wires.filter(|(_, w)| wanted(**w)).map(|(i, _)| i).collect()
        };
        let numeric = ordinals(&Wire::is_numeric);
        let character = ordinals(&|w| w.is_character(geometry));
        let labelled = ordinals(&|w| matches!(w, Wire::Enum { .. } | Wire::Set { .. }));
        let mut described = Described::default();
        let mut reader = columns.optional;
        while !reader.is_empty() {
            let kind = reader.u8()?;
            let mut field = Reader::new(reader.lenenc_bytes()?);
            match kind {
                1 => described.signs = signs(field.rest(), &numeric)?,
                2 => described.add_collations(default_charset(&mut field, &character)?),
                3 => described.add_collations(each_charset(&mut field, &character)?),
                4 => described.names = Some(names(&mut field, columns.wires.len())?),
                5 | 6 => {
                    let wanted = |w| match w {
                        Wire::Set { .. } => kind == 5,
                        Wire::Enum { .. } => kind == 6,
                        _ => false,
                    };
                    for ordinal in ordinals(&wanted) {
                        described.labels.push((ordinal, labels(&mut field)?));
                    }
                }
                8 => described.primary_key = Some(primary_key(&mut field, false)?),
                9 => described.primary_key = Some(primary_key(&mut field, true)?),
                10 => described.add_collations(default_charset(&mut field, &labelled)?),
                11 => described.add_collations(each_charset(&mut field, &labelled)?),
                // Geometry types, visibility, vector dimensions: nothing that changes a value.
                _ => {}
            }
        }
        Ok(described)
    }

    /// Whether the column is unsigned, if it is a number and the metadata says so.
    pub(super) fn unsigned(&self, ordinal: usize) -> Option<bool> {
        find(&self.signs, ordinal).copied()
    }

    /// The id of the column's collation.
    pub(super) fn collation(&self, ordinal: usize) -> Option<u32> {
        find(&self.collations, ordinal).copied()
    }

    /// The labels of an ENUM or SET, in the column's character set.
    pub(super) fn labels(&self, ordinal: usize) -> Option<&[&'a [u8]]> {
        find(&self.labels, ordinal).map(Vec::as_slice)
    }

    fn add_collations(&mut self, mut more: Vec<(usize, u32)>) {
        self.collations.append(&mut more);
    }
}

fn find<T>(list: &[(usize, T)], ordinal: usize) -> Option<&T> {
    let found = list.iter().find(|(at, _)| *at == ordinal);
    found.map(|(_, value)| value)
}

/// A bit a numeric column, the highest bit of a byte first.
fn signs(bits: &[u8], numeric: &[usize]) -> Result<Vec<(usize, bool)>, Short> {
    let sign = |(i, &ordinal): (usize, &usize)| {
        let byte = bits.get(i / 8).ok_or(Short)?;
        Ok((ordinal, byte << (i % 8) & 0x80 != 0))
    };
    numeric.iter().enumerate().map(sign).collect()
}

/// One collation for all, then the exceptions as (place among the columns in question, collation).
fn default_charset(
    field: &mut Reader<'_>,
    columns: &[usize],
) -> Result<Vec<(usize, u32)>, DecodeError> {
    let default = collation(field)?;
    let mut all: Vec<_> = columns.iter().map(|&ordinal| (ordinal, default)).collect();
    while !field.is_empty() {
        let place = field.lenenc_len()?;
        let id = collation(field)?;
        let entry = all.get_mut(place).ok_or_else(|| {
            DecodeError::Damaged(format!("a collation for text column {place} of none such"))
        })?;
        entry.1 = id;
    }
    Ok(all)
}

fn each_charset(field: &mut Reader<'_>, columns: &[usize]) -> Result<Vec<(usize, u32)>, Short> {
    let one = |&ordinal: &usize| Ok((ordinal, collation(field)?));
    columns.iter().map(one).collect()
}

fn collation(field: &mut Reader<'_>) -> Result<u32, Short> {
    Ok(field.lenenc()?.try_into().unwrap_or(u32::MAX))
}

fn names<'a>(field: &mut Reader<'a>, count: usize) -> Result<Vec<&'a [u8]>, Short> {
    (0..count).map(|_| field.lenenc_bytes()).collect()
}

fn labels<'a>(field: &mut Reader<'a>) -> Result<Vec<&'a [u8]>, DecodeError> {
    let count = field.lenenc_len()?;
    if count > 65_535 {
        return Err(DecodeError::Damaged(format!("{count} labels")));
    }
    let labels: Result<_, Short> = (0..count).map(|_| field.lenenc_bytes()).collect();
    Ok(labels?)
}

fn primary_key(field: &mut Reader<'_>, prefixes: bool) -> Result<Vec<usize>, Short> {
    let mut key = Vec::new();
    while !field.is_empty() {
        key.push(field.lenenc_len()?);
        if prefixes {
            field.lenenc()?;
        }
    }
    Ok(key)
}
