//! Row images to net key changes: a plan compiled per table map that skips what is not needed.
//!
//! In: bodies of table map and rows events. Out: [`Net`], what the transaction did to each key of each feed.
//! Wrong: [`DecodeError`].
//!
//! [`table_map`] reads the columns, [`plan`] compares them with the bound feed and compiles the walk,
//! [`rows`] and [`image`] go through the images, [`crate::live`] judges them, [`net`] folds a transaction.

mod bytes;
mod collation;
pub(crate) mod image;
pub(crate) mod net;
pub(crate) mod plan;
mod rows;
mod table_map;
#[cfg(test)]
mod tests;
mod value;
mod wire;

use std::sync::Arc;

use self::bytes::Reader;
use self::image::Span;
use self::plan::Plan;
use self::rows::{Deed, Head, NO_TABLE, Shape};
use self::table_map::{Columns, Described, Header};
use crate::barrier::Barrier;
use crate::encode::{Encoder, Misfit};
use crate::feed::{Feed, TableName};
use crate::json::BadJson;
use crate::live::Judge;
use crate::source::Dialect;

pub(crate) use self::value::bin_to_decimal;

pub use self::collation::name as collation_name;
pub use self::net::Net;

/// Decodes the rows events of one stream for a set of feeds.
#[derive(Debug)]
pub struct Decoder {
    feeds: Arc<[Arc<Feed>]>,
    dialect: Dialect,
    names_required: bool,
    /// One a feed.
    encoders: Vec<Encoder>,
    /// The feeds of each captured table.
    tables: Vec<(TableName, Vec<usize>)>,
    /// Table maps of captured tables that came before.
    known: Vec<Known>,
    /// Table ids told since the last statement ended, with the place in `known` of captured ones.
    told: Vec<(u64, Option<usize>)>,
    statement_ended: bool,
    scratch: Scratch,
}

/// A table map, and what to do with its rows.
#[derive(Debug)]
struct Known {
    id: u64,
    body: Box<[u8]>,
    plans: Vec<Plan>,
}

#[derive(Debug, Default)]
struct Scratch {
    before: Vec<Span>,
    after: Vec<Span>,
    json: Vec<u8>,
    partial: Vec<u16>,
}

/// Table maps kept; beyond it all are compiled anew.
const KNOWN_MAX: usize = 1024;

/// Why an event could not be decoded.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// It is sound, but does not tell the content of a captured table: the epoch must end.
    #[error("{0}")]
    Barrier(Barrier),
    /// It does not follow the format.
    #[error("damaged event: {0}")]
    Damaged(String),
}

impl From<Misfit> for DecodeError {
    fn from(misfit: Misfit) -> Self {
        DecodeError::Damaged(misfit.to_string())
    }
}

impl From<BadJson> for DecodeError {
    fn from(bad: BadJson) -> Self {
        DecodeError::Damaged(bad.to_string())
    }
}

impl Decoder {
    /// A decoder of MySQL's events for these feeds; their index here is the index in [`Net::take`].
    pub fn new(feeds: Arc<[Arc<Feed>]>) -> Self {
        let mut tables: Vec<(TableName, Vec<usize>)> = Vec::new();
        for (index, feed) in feeds.iter().enumerate() {
            let name = &feed.config.table;
            match tables.iter_mut().find(|(table, _)| table == name) {
                Some((_, indexes)) => indexes.push(index),
                None => tables.push((name.clone(), vec![index])),
            }
        }
        Decoder {
            encoders: feeds.iter().map(|feed| Encoder::new(feed)).collect(),
            feeds,
            dialect: Dialect::Mysql,
            names_required: false,
            tables,
            known: Vec::new(),
            told: Vec::new(),
            statement_ended: false,
            scratch: Scratch::default(),
        }
    }

    /// The same, of a server that speaks `dialect`: collation ids and a part of the metadata differ.
    #[must_use]
    pub fn speaking(mut self, dialect: Dialect) -> Self {
        self.dialect = dialect;
        self.known.clear();
        self
    }

    /// The same, of a source whose table maps tell the names of columns: one that does not is a barrier then, since
    /// a definition that has changed meanwhile cannot be told from places alone.
    #[must_use]
    pub fn requiring_names(mut self, required: bool) -> Self {
        self.names_required = required;
        self.known.clear();
        self
    }

    /// The feeds that it decodes for.
    pub fn feeds(&self) -> &Arc<[Arc<Feed>]> {
        &self.feeds
    }

    /// How many invalid character sequences became U+FFFD so far.
    pub fn replaced(&self) -> u64 {
        self.encoders.iter().map(Encoder::replaced).sum()
    }

    /// Takes a TABLE_MAP body (event kind 19). Cheap when the same bytes came before under the same id.
    pub fn table_map(&mut self, body: &[u8]) -> Result<(), DecodeError> {
        if std::mem::take(&mut self.statement_ended) {
            self.told.clear();
            if self.known.len() > KNOWN_MAX {
                self.known.clear();
            }
        }
        let header = Header::read(body)?;
        let table = self.tables.iter().position(|(name, _)| {
            name.table.as_bytes() == header.table && name.database.as_bytes() == header.database
        });
        let place = match table {
            Some(table) => Some(self.known(&header, body, table)?),
            None => None,
        };
        match self.told.iter_mut().find(|(id, _)| *id == header.id) {
            Some(told) => told.1 = place,
            None => self.told.push((header.id, place)),
        }
        Ok(())
    }

    /// The place of a captured table's map in `known`; compiles its plans when it is new.
    fn known(
        &mut self,
        header: &Header<'_>,
        body: &[u8],
        table: usize,
    ) -> Result<usize, DecodeError> {
        let same = |known: &Known| known.id == header.id && *known.body == *body;
        if let Some(place) = self.known.iter().rposition(same) {
            return Ok(place);
        }
        let (name, indexes) = &self.tables[table];
        let columns = Columns::read(header)?.map_err(|(ordinal, unknown)| {
            DecodeError::Barrier(Barrier::UnknownType {
                table: name.to_string(),
                place: ordinal + 1,
                code: unknown.0,
            })
        })?;
        let described = Described::read(&columns, self.dialect)?;
        if self.names_required && described.names.is_none() {
            return Err(DecodeError::Barrier(Barrier::NoNames {
                table: name.to_string(),
            }));
        }
        let plan = |&index: &usize| {
            let feed = &self.feeds[index];
            Plan::compile(index, feed, &columns, &described, self.dialect)
        };
        let plans = indexes.iter().map(plan).collect::<Result<_, _>>()?;
        self.known.push(Known {
            id: header.id,
            body: body.into(),
            plans,
        });
        Ok(self.known.len() - 1)
    }

    /// Takes a rows body: kinds 23-25 (v1), 30-32 (v2), 39 (partial JSON update).
    pub fn rows(&mut self, kind: u8, body: &[u8], net: &mut Net) -> Result<(), DecodeError> {
        let (deed, version_2) = rows::deed(kind)
            .ok_or_else(|| DecodeError::Damaged(format!("event kind {kind} has no rows")))?;
        let mut reader = Reader::new(body);
        let head = Head::read(&mut reader)?;
        self.statement_ended |= head.ends_statement;
        let told = self.told.iter().rfind(|(id, _)| *id == head.table_id);
        let known = match told {
            Some((_, Some(place))) => &self.known[*place],
            Some((_, None)) => return Ok(()),
            None if head.table_id == NO_TABLE => return Ok(()),
            None => {
                return Err(DecodeError::Damaged(format!(
                    "rows of table id {} without a table map",
                    head.table_id
                )));
            }
        };
        let shape = Shape::read(&mut reader, deed, version_2)?;
        let start = body.len() - reader.rest().len();
        if i32::try_from(body.len()).is_err() {
            return Err(DecodeError::Damaged(
                "more than 2 GiB of rows in one event".to_owned(),
            ));
        }
        for plan in &known.plans {
            let feed = &*self.feeds[plan.feed];
            if shape.columns != plan.columns {
                return Err(DecodeError::Damaged(format!(
                    "rows of {} columns for a table map of {}",
                    shape.columns, plan.columns
                )));
            }
            if let Some(absent) = shape.absent() {
                return Err(absent_column(feed, plan, absent));
            }
            let Scratch {
                before,
                after,
                json,
                partial,
            } = &mut self.scratch;
            let judge = Judge {
                feed,
                plan,
                body,
                encoder: &mut self.encoders[plan.feed],
                net: net.feed(plan.feed),
                json,
                partial,
                judged: None,
            };
            images(judge, deed, start, before, after)?;
        }
        Ok(())
    }
}

fn images(
    mut judge: Judge<'_>,
    deed: Deed,
    start: usize,
    before: &mut Vec<Span>,
    after: &mut Vec<Span>,
) -> Result<(), DecodeError> {
    let (plan, body) = (judge.plan, judge.body);
    before.resize(plan.cells.len(), Span::NULL);
    after.resize(plan.cells.len(), Span::NULL);
    judge.partial.clear();
    let mut at = start;
    while at < body.len() {
        if deed == Deed::Update {
            // Most rows are not live: those are looked at for that alone.
            let middle = plan.glance.image(body, at, before)?;
            let end = plan.glance.image(body, middle, after)?;
            if !judge.touches(before, after)? {
                at = end;
                continue;
            }
        }
        at = plan.walk.image(body, at, before)?;
        match deed {
            Deed::Insert => judge.insert(before)?,
            Deed::Delete => judge.delete(before)?,
            Deed::Update => {
                at = plan.walk.image(body, at, after)?;
                judge.update(before, after)?;
            }
            Deed::PartialUpdate => {
                at = partial_columns(plan, body, at, judge.partial)?;
                at = plan.walk.image(body, at, after)?;
                judge.update(before, after)?;
                judge.partial.clear();
            }
        }
    }
    Ok(())
}

/// Reads what stands before the after image of a partial update: options, and with the lowest one set a bit a
/// JSON column. Returns where the image begins.
fn partial_columns(
    plan: &Plan,
    body: &[u8],
    at: usize,
    partial: &mut Vec<u16>,
) -> Result<usize, DecodeError> {
    let mut reader = Reader::new(body.get(at..).unwrap_or_default());
    let options = reader.lenenc()?;
    if options > 1 {
        let text = format!("options {options:#x} of a partial update");
        return Err(DecodeError::Damaged(text));
    }
    partial.clear();
    if options == 1 {
        let bits = reader.take(plan.json.len().div_ceil(8))?;
        let slots = plan.json.iter().enumerate();
        let slots = slots.filter(|(i, _)| bits[i / 8] >> (i % 8) & 1 == 1);
        partial.extend(slots.filter_map(|(_, slot)| *slot));
    }
    Ok(body.len() - reader.rest().len())
}

fn absent_column(feed: &Feed, plan: &Plan, ordinal: usize) -> DecodeError {
    let column = match feed.columns.get(ordinal) {
        Some(column) if feed.columns.len() == plan.columns => column.name.to_string(),
        _ => format!("number {}", ordinal + 1),
    };
    DecodeError::Barrier(Barrier::RowImage {
        table: feed.config.table.to_string(),
        column,
    })
}
