//! What to do with the images of one table map for one feed: the columns to note on the way and what they are for.
//!
//! Compiling checks that the table is still the one that the feed was bound to. Wrong:
//! [`DecodeError::Barrier`] with the column and the difference.

use onair_model::column::{Column, ColumnType};
use onair_model::value::Value;

use super::DecodeError;
use super::collation;
use super::image::{Span, Walk};
use super::table_map::{Columns, Described};
use super::value::{BadValue, value};
use super::wire::Wire;
use crate::barrier::Barrier;
use crate::encode::charset::Charset;
use crate::feed::Feed;
use crate::source::Dialect;

/// The plan for one feed. A slot is the place of a wanted column among the spans of an image.
#[derive(Debug)]
pub(crate) struct Plan {
    /// Index of the feed.
    pub(crate) feed: usize,
    pub(super) walk: Walk,
    /// The same for the predicate's columns alone.
    pub(super) glance: Walk,
    /// By slot.
    pub(crate) cells: Vec<Cell>,
    /// Slots of the key's columns, in key order.
    pub(crate) key: Vec<u16>,
    /// Slots of the predicate's columns, in its order.
    pub(crate) predicate: Vec<u16>,
    /// Slots of the exported columns, by ascending field number.
    pub(crate) exported: Vec<u16>,
    /// Whether the predicate reads a BINARY(n).
    pub(crate) pads: bool,
    /// Columns of the table.
    pub(super) columns: usize,
    /// Slots of JSON columns by their place among all JSON columns of the table; partial updates name them so.
    pub(super) json: Vec<Option<u16>>,
}

/// How a wanted column is read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cell {
    pub(super) wire: Wire,
    pub(super) unsigned: bool,
    /// BINARY(n): zero bytes are added up to this length.
    pub(super) pad_to: usize,
}

impl Plan {
    /// Compiles the plan of the feed with index `index` for a table map.
    pub(super) fn compile(
        index: usize,
        feed: &Feed,
        columns: &Columns<'_>,
        described: &Described<'_>,
        dialect: Dialect,
    ) -> Result<Plan, DecodeError> {
        let table = Match {
            feed,
            columns,
            described,
            dialect,
        };
        let places = match &described.names {
            Some(names) => table.by_name(names)?,
            None => table.by_place()?,
        };
        let mut plan = Plan {
            feed: index,
            walk: Walk::compile(&[], &[]),
            glance: Walk::compile(&[], &[]),
            cells: Vec::new(),
            key: Vec::new(),
            predicate: Vec::new(),
            exported: Vec::new(),
            pads: false,
            columns: columns.wires.len(),
            json: Vec::new(),
        };
        let mut slots = vec![None; columns.wires.len()];
        let mut slot = |bound: usize| -> u16 {
            let place = places[bound];
            *slots[place].get_or_insert_with(|| {
                let column = &feed.columns[bound];
                plan.cells.push(Cell {
                    wire: columns.wires[place],
                    unsigned: matches!(column.ty, ColumnType::Int { unsigned: true, .. }),
                    pad_to: match column.ty {
                        ColumnType::FixedBinary { len } => usize::from(len),
                        _ => 0,
                    },
                });
                plan.cells.len() as u16 - 1
            })
        };
        plan.key = feed.key.iter().map(|&i| slot(i)).collect();
        plan.predicate = feed.live_when.columns().iter().map(|&i| slot(i)).collect();
        let padded = |&i: &usize| matches!(feed.columns[i].ty, ColumnType::FixedBinary { .. });
        plan.pads = feed.live_when.columns().iter().any(padded);
        plan.exported = feed.exported.iter().map(|&i| slot(i)).collect();
        let wires = columns.wires.iter().zip(&slots);
        plan.json = wires
            .filter(|(wire, _)| matches!(wire, Wire::Json { .. }))
            .map(|(_, slot)| *slot)
            .collect();
        plan.walk = Walk::compile(&columns.wires, &slots);
        for slot in &mut slots {
            slot.take_if(|slot| !plan.predicate.contains(slot));
        }
        plan.glance = Walk::compile(&columns.wires, &slots);
        Ok(plan)
    }
}

/// A table map beside the table that a feed was bound to.
struct Match<'a> {
    feed: &'a Feed,
    columns: &'a Columns<'a>,
    described: &'a Described<'a>,
    dialect: Dialect,
}

/// The place in the event of each bound column that is needed; others are `usize::MAX`.
type Places = Vec<usize>;

impl Match<'_> {
    /// With names: needed columns may have moved, but are what they were.
    fn by_name(&self, names: &[&[u8]]) -> Result<Places, DecodeError> {
        let mut places = vec![usize::MAX; self.feed.columns.len()];
        for bound in self.needed() {
            let column = &self.feed.columns[bound];
            let place = names
                .iter()
                .position(|name| *name == column.name.as_bytes());
            let place = place.ok_or_else(|| self.barrier(column, "is gone"))?;
            self.same(column, place)?;
            places[bound] = place;
        }
        let key: Vec<usize> = self.feed.key.iter().map(|&i| places[i]).collect();
        if self.described.primary_key.as_ref() != Some(&key) {
            return Err(DecodeError::Barrier(Barrier::PrimaryKey {
                table: self.feed.config.table.to_string(),
            }));
        }
        Ok(places)
    }

    /// Without names: the table must have the same columns in the same places, as far as types tell.
    fn by_place(&self) -> Result<Places, DecodeError> {
        let (was, is) = (self.feed.columns.len(), self.columns.wires.len());
        if was != is {
            return Err(DecodeError::Barrier(Barrier::ColumnCount {
                table: self.feed.config.table.to_string(),
                was,
                is,
            }));
        }
        for (place, column) in self.feed.columns.iter().enumerate() {
            self.same_type(column, place)?;
        }
        for bound in self.needed() {
            self.same(&self.feed.columns[bound], bound)?;
        }
        Ok((0..is).collect())
    }

    /// Bound ordinals of key, predicate and exported columns.
    fn needed(&self) -> impl Iterator<Item = usize> {
        let feed = self.feed;
        let predicate = feed.live_when.columns().iter();
        let all = feed.key.iter().chain(predicate).chain(&feed.exported);
        all.copied()
    }

    fn same_type(&self, column: &Column, place: usize) -> Result<(), DecodeError> {
        let wire = self.columns.wires[place];
        if wire.carries(&column.ty) {
            return Ok(());
        }
        Err(self.barrier(column, &format!("is {wire} now")))
    }

    /// Type, and sign, character set and labels where the event tells them.
    fn same(&self, column: &Column, place: usize) -> Result<(), DecodeError> {
        self.same_type(column, place)?;
        match &column.ty {
            ColumnType::Int { unsigned, .. } => match self.described.unsigned(place) {
                Some(true) if !unsigned => Err(self.barrier(column, "is UNSIGNED now")),
                Some(false) if *unsigned => Err(self.barrier(column, "is signed now")),
                _ => Ok(()),
            },
            ColumnType::Text { collation } => match self.described.collation(place) {
                Some(id) if !collation::is(self.dialect, id, collation.name()) => {
                    let name = collation::describe(self.dialect, id);
                    Err(self.barrier(column, &format!("has {name} now, not {}", collation.name())))
                }
                _ => Ok(()),
            },
            ColumnType::FixedBinary { .. } | ColumnType::Binary => {
                match self.described.collation(place) {
                    Some(collation::BINARY) | None => Ok(()),
                    Some(_) => Err(self.barrier(column, "is text now")),
                }
            }
            ColumnType::Enum { labels } | ColumnType::Set { labels } => {
                match self.described.labels(place) {
                    Some(now) if !self.same_labels(labels, now, place) => {
                        Err(self.barrier(column, "has other labels now"))
                    }
                    _ => Ok(()),
                }
            }
            _ => Ok(()),
        }
    }

    fn same_labels(&self, was: &[std::sync::Arc<str>], now: &[&[u8]], place: usize) -> bool {
        let charset = match self.described.collation(place) {
            Some(id) => collation::charset(self.dialect, id).and_then(|name| Charset::named(&name)),
            None => Some(Charset::Utf8),
        };
        let Some(charset) = charset else {
            return false;
        };
        let mut utf8 = Vec::new();
        was.len() == now.len()
            && was.iter().zip(now).all(|(was, now)| {
                utf8.clear();
                charset.append(now, &mut utf8);
                was.as_bytes() == utf8
            })
    }

    fn barrier(&self, column: &Column, what: &str) -> DecodeError {
        DecodeError::Barrier(Barrier::Column {
            table: self.feed.config.table.to_string(),
            column: column.name.clone(),
            what: what.to_owned(),
        })
    }
}

impl Plan {
    /// The value of a slot in an image. Binary JSON stays as it is, BINARY(n) without its zero bytes.
    #[inline]
    pub(crate) fn value<'a>(
        &self,
        slot: u16,
        spans: &[Span],
        body: &'a [u8],
    ) -> Result<Value<'a>, DecodeError> {
        let slot = usize::from(slot);
        let Some(raw) = spans[slot].of(body) else {
            return Ok(Value::Null);
        };
        let cell = &self.cells[slot];
        value(cell.wire, cell.unsigned, raw).map_err(|BadValue| {
            DecodeError::Damaged(format!("a {} that cannot be: {raw:02x?}", cell.wire))
        })
    }

    /// Whether a slot holds binary JSON.
    pub(crate) fn is_json(&self, slot: u16) -> bool {
        matches!(self.cells[usize::from(slot)].wire, Wire::Json { .. })
    }

    /// A BINARY(n) with its zero bytes; empty for anything else and NULL.
    pub(crate) fn padded(&self, slot: u16, spans: &[Span], body: &[u8]) -> Vec<u8> {
        let slot = usize::from(slot);
        let pad_to = self.cells[slot].pad_to;
        let mut raw = match spans[slot].of(body) {
            Some(raw) if pad_to > 0 => raw.to_vec(),
            _ => return Vec::new(),
        };
        raw.resize(raw.len().max(pad_to), 0);
        raw
    }
}
