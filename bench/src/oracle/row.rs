//! A row's bytes, its key and its hash, computed from printed values: the second implementation of what
//! `docs/types.md` and the comments in live.proto say.

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_128_with_seed;

use super::Content;
use super::binlog::{self, Image, RowChange, TableMap};

/// One feed as the test set it up: an unsigned integer key, `predicate.0 = predicate.1`.
#[derive(Clone, Debug)]
pub struct Shape {
    /// `database.table`.
    pub table: String,
    pub key: String,
    /// A signed integer column and the value that it has in a live row.
    pub predicate: (String, i128),
    /// Exported columns, ascending by field number from 1.
    pub columns: Vec<(String, Kind)>,
}

/// How a column's value is carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Int,
    UInt,
    /// Text, and everything carried as text.
    Text,
}

impl Shape {
    /// The feed of most tests: `live.room` on air while `live_status = 1`.
    pub fn room() -> Self {
        let columns = [
            ("uid", Kind::UInt),
            ("area_id", Kind::Int),
            ("title", Kind::Text),
            ("live_time", Kind::Text),
        ];
        Shape {
            table: "live.room".into(),
            key: "id".into(),
            predicate: ("live_status".into(), 1),
            columns: columns.map(|(name, kind)| (name.into(), kind)).to_vec(),
        }
    }

    /// Whether a statement leaves the table empty.
    pub(super) fn is_emptied_by(&self, statement: &str) -> bool {
        let plain: String = statement
            .to_lowercase()
            .replace('`', "")
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ");
        let rest = plain
            .strip_prefix("truncate table ")
            .or_else(|| plain.strip_prefix("drop table "));
        rest.is_some_and(|rest| rest.split_whitespace().next() == Some(&self.table))
    }

    /// What a row change does to the live set: at most an Off and a put.
    pub(super) fn changes(&self, change: &RowChange) -> Result<Vec<(u64, Option<Bytes>)>> {
        let before = self.live(&change.table, change.before.as_ref())?;
        let after = self.live(&change.table, change.after.as_ref())?;
        Ok(match (before, after) {
            (Some(before), Some(after)) if before == after => Vec::new(),
            (Some((key, _)), Some((same, row))) if key == same => vec![(key, Some(row))],
            (before, after) => {
                let off = before.map(|(key, _)| (key, None));
                let on = after.map(|(key, row)| (key, Some(row)));
                off.into_iter().chain(on).collect()
            }
        })
    }

    /// The live set from the lines of `SELECT` that [`Shape::select`] gives, tabs between the columns.
    pub fn content(&self, lines: &str) -> Result<Content> {
        let table = TableMap {
            name: self.table.clone(),
            columns: self
                .selected()
                .map(|name| binlog::Column {
                    name: name.to_owned(),
                    is_unsigned: true,
                })
                .collect(),
        };
        let mut content = Content::new();
        for line in lines.lines() {
            let image = line.split('\t').map(|value| value.as_bytes().to_vec());
            content.extend(self.live(&table, Some(&image.collect()))?);
        }
        Ok(content)
    }

    /// A statement that gives the live rows.
    pub fn select(&self) -> String {
        let names: Vec<&str> = self.selected().collect();
        format!(
            "SELECT {} FROM {} WHERE {} = {}",
            names.join(", "),
            self.table,
            self.predicate.0,
            self.predicate.1
        )
    }

    fn selected(&self) -> impl Iterator<Item = &str> {
        let columns = self.columns.iter().map(|(name, _)| name.as_str());
        [self.key.as_str(), self.predicate.0.as_str()]
            .into_iter()
            .chain(columns)
    }

    fn live(&self, table: &TableMap, image: Option<&Image>) -> Result<Option<(u64, Bytes)>> {
        let Some(image) = image else {
            return Ok(None);
        };
        let ordinal = |name: &str| {
            table
                .ordinal(name)
                .with_context(|| format!("{} has no column {name}", table.name))
        };
        let integer = |name: &str| -> Result<Option<i128>> {
            let at = ordinal(name)?;
            if image[at] == b"NULL" {
                return Ok(None);
            }
            binlog::integer(&image[at], table.columns[at].is_unsigned).map(Some)
        };
        if integer(&self.predicate.0)? != Some(self.predicate.1) {
            return Ok(None);
        }
        let Some(key) = integer(&self.key)?.and_then(|key| u64::try_from(key).ok()) else {
            bail!("the key is no unsigned integer");
        };
        let mut row = Vec::new();
        for (index, (name, kind)) in self.columns.iter().enumerate() {
            let number = index as u64 + 1;
            match kind {
                Kind::Text => {
                    if let Some(text) = binlog::string(&image[ordinal(name)?]) {
                        varint(number << 3 | 2, &mut row);
                        varint(text.len() as u64, &mut row);
                        row.extend_from_slice(&text);
                    }
                }
                Kind::Int | Kind::UInt => {
                    if let Some(value) = integer(name)? {
                        varint(number << 3, &mut row);
                        let value = match kind {
                            Kind::Int if value < 0 => (-2 * value - 1) as u64,
                            Kind::Int => (2 * value) as u64,
                            _ => value as u64,
                        };
                        varint(value, &mut row);
                    }
                }
            }
        }
        Ok(Some((key, row.into())))
    }
}

fn varint(mut value: u64, out: &mut Vec<u8>) {
    loop {
        let low = (value & 0x7f) as u8;
        value >>= 7;
        if value == 0 {
            return out.push(low);
        }
        out.push(low | 0x80);
    }
}

/// One row's part of the digest.
pub fn hash(key: u64, row: &[u8]) -> u128 {
    let mut input = Vec::with_capacity(row.len() + 16);
    input.extend_from_slice(&8u32.to_le_bytes());
    input.extend_from_slice(&key.to_be_bytes());
    input.extend_from_slice(&(row.len() as u32).to_le_bytes());
    input.extend_from_slice(row);
    xxh3_128_with_seed(&input, 0x6f6e_6169_7231_0001)
}
