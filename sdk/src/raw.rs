//! Rows and keys read by the feed's schema alone: for tools that know no type, and for reading by column name.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::sync::Arc;

use bytes::Bytes;
use onair_model::Key;
use onair_model::key::{KeyReader, KeyShapeError};
use onair_model::schema::{Field, FieldKind, Schema};

use crate::row::{FromRow, RowError, RowRef};

/// A column's value as the feed carries it; how its kind is shown: `docs/types.md`.
#[derive(Clone, Debug, PartialEq)]
pub enum Value<'a> {
    /// SQL NULL.
    Null,
    /// Signed integers.
    Int(i64),
    /// Unsigned integers, BIT and YEAR.
    UInt(u64),
    /// FLOAT.
    Float(f32),
    /// DOUBLE.
    Double(f64),
    /// Text, and everything that is carried as text: DECIMAL, dates and times, ENUM, SET, JSON.
    Text(Cow<'a, str>),
    /// Binary strings, VECTOR and GEOMETRY.
    Bytes(Cow<'a, [u8]>),
}

/// A row that keeps its bytes and reads columns when asked: `Feed::<Raw>` needs no type of its own.
#[derive(Clone, Debug)]
pub struct Raw {
    bytes: Bytes,
    schema: Arc<Schema>,
}

impl Raw {
    /// A row that came by another way than a feed, to be read by its schema.
    pub const fn new(bytes: Bytes, schema: Arc<Schema>) -> Self {
        Raw { bytes, schema }
    }

    /// The row: a protobuf message with the fields of the schema.
    pub const fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The schema that it is read by.
    pub const fn schema(&self) -> &Arc<Schema> {
        &self.schema
    }

    /// The value of an exported column by its name in MySQL.
    pub fn get(&self, column: &str) -> Result<Value<'_>, RowError> {
        let field = self
            .schema
            .columns
            .iter()
            .find(|field| &*field.column == column);
        column_value(
            field.ok_or_else(|| unknown(&self.schema, column))?,
            &self.bytes,
        )
    }

    /// Every exported column with its value, ascending by field number.
    pub fn values(&self) -> Result<Vec<(&Field, Value<'_>)>, RowError> {
        self.schema
            .columns
            .iter()
            .map(|field| Ok((field, column_value(field, &self.bytes)?)))
            .collect()
    }
}

impl FromRow for Raw {
    fn from_row(row: RowRef<'_>) -> Result<Self, RowError> {
        Ok(Raw {
            bytes: Bytes::copy_from_slice(row.bytes()),
            schema: row.schema().clone(),
        })
    }
}

/// The columns of a key with their values, in key order.
pub fn key_values<'a>(
    schema: &'a Schema,
    key: &Key,
) -> Result<Vec<(&'a Field, Value<'static>)>, KeyShapeError> {
    key.with_bytes(|bytes| {
        let mut reader = KeyReader::new(bytes, schema.key.len());
        let values = schema
            .key
            .iter()
            .map(|field| {
                let value = match field.kind {
                    FieldKind::Int => Value::Int(reader.signed()?),
                    FieldKind::UInt | FieldKind::Bit | FieldKind::Year => {
                        Value::UInt(reader.unsigned()?)
                    }
                    kind => bytes_value(kind, Cow::Owned(reader.bytes()?)).ok_or(KeyShapeError)?,
                };
                Ok((field, value))
            })
            .collect::<Result<Vec<_>, _>>()?;
        if reader.is_done() {
            Ok(values)
        } else {
            Err(KeyShapeError)
        }
    })
}

/// A key for people: `id=42`, `region="eu", id=7`.
pub fn key_text(schema: &Schema, key: &Key) -> String {
    let Ok(values) = key_values(schema, key) else {
        return format!("{key:?}");
    };
    let mut text = String::new();
    for (field, value) in values {
        let separator = if text.is_empty() { "" } else { ", " };
        // Writing to a String cannot fail.
        let _ = match value {
            Value::Int(n) => write!(text, "{separator}{}={n}", field.column),
            Value::UInt(n) => write!(text, "{separator}{}={n}", field.column),
            Value::Text(value) => write!(text, "{separator}{}={value:?}", field.column),
            Value::Bytes(value) => write!(text, "{separator}{}={value:02x?}", field.column),
            value => write!(text, "{separator}{}={value:?}", field.column),
        };
    }
    text
}

/// The value of an exported column of a row, or else of a key column.
pub(crate) fn value<'a>(
    schema: &Schema,
    key: &Key,
    row: &'a [u8],
    column: &str,
) -> Result<Value<'a>, RowError> {
    if let Some(field) = schema.columns.iter().find(|field| &*field.column == column) {
        return column_value(field, row);
    }
    let values =
        key_values(schema, key).map_err(|error| RowError::new(column, error.to_string()))?;
    let found = values
        .into_iter()
        .find(|(field, _)| &*field.column == column);
    found
        .map(|(_, value)| value)
        .ok_or_else(|| unknown(schema, column))
}

pub(crate) fn field<'a>(schema: &'a Schema, column: &str) -> Option<&'a Field> {
    schema
        .columns
        .iter()
        .chain(&schema.key)
        .find(|field| &*field.column == column)
}

fn unknown(schema: &Schema, column: &str) -> RowError {
    let names: Vec<&str> = schema
        .columns
        .iter()
        .chain(&schema.key)
        .map(|field| &*field.column)
        .collect();
    RowError::new(
        column,
        format!(
            "feed {} has no such column; it has {}",
            schema.feed,
            names.join(", ")
        ),
    )
}

/// The last value of a field in a message; NULL when there is none.
fn column_value<'a>(field: &Field, row: &'a [u8]) -> Result<Value<'a>, RowError> {
    let damaged = || RowError::new(&*field.column, "the row's bytes are damaged");
    let mut fields = Fields { rest: row };
    let mut found = Value::Null;
    while let Some((number, wire)) = fields.next().ok_or_else(damaged)? {
        if number == u64::from(field.number) {
            found = wire_value(field.kind, wire).ok_or_else(damaged)?;
        }
    }
    Ok(found)
}

fn wire_value(kind: FieldKind, wire: Wire<'_>) -> Option<Value<'_>> {
    Some(match (kind, wire) {
        (FieldKind::Int, Wire::Varint(n)) => Value::Int((n >> 1) as i64 ^ -((n & 1) as i64)),
        (FieldKind::UInt | FieldKind::Bit | FieldKind::Year, Wire::Varint(n)) => Value::UInt(n),
        (FieldKind::Float, Wire::Fixed32(n)) => Value::Float(f32::from_bits(n)),
        (FieldKind::Double, Wire::Fixed64(n)) => Value::Double(f64::from_bits(n)),
        (kind, Wire::Bytes(bytes)) => return bytes_value(kind, Cow::Borrowed(bytes)),
        _ => return None,
    })
}

fn bytes_value(kind: FieldKind, bytes: Cow<'_, [u8]>) -> Option<Value<'_>> {
    Some(match kind {
        FieldKind::Binary | FieldKind::Vector | FieldKind::Geometry => Value::Bytes(bytes),
        FieldKind::Int | FieldKind::UInt | FieldKind::Bit | FieldKind::Year => return None,
        FieldKind::Float | FieldKind::Double => return None,
        _ => Value::Text(match bytes {
            Cow::Borrowed(bytes) => Cow::Borrowed(std::str::from_utf8(bytes).ok()?),
            Cow::Owned(bytes) => Cow::Owned(String::from_utf8(bytes).ok()?),
        }),
    })
}

/// A field's value on the wire (protobuf encoding, wire types 0, 1, 2 and 5).
enum Wire<'a> {
    Varint(u64),
    Fixed64(u64),
    Bytes(&'a [u8]),
    Fixed32(u32),
}

struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    /// `Some(None)` at the end, `None` when the bytes are damaged.
    fn next(&mut self) -> Option<Option<(u64, Wire<'a>)>> {
        if self.rest.is_empty() {
            return Some(None);
        }
        let tag = self.varint()?;
        let wire = match tag & 7 {
            0 => Wire::Varint(self.varint()?),
            1 => Wire::Fixed64(u64::from_le_bytes(self.array()?)),
            2 => {
                let len = usize::try_from(self.varint()?).ok()?;
                let (bytes, rest) = self.rest.split_at_checked(len)?;
                self.rest = rest;
                Wire::Bytes(bytes)
            }
            5 => Wire::Fixed32(u32::from_le_bytes(self.array()?)),
            _ => return None,
        };
        Some(Some((tag >> 3, wire)))
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (array, rest) = self.rest.split_first_chunk::<N>()?;
        self.rest = rest;
        Some(*array)
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0u64;
        for (at, &byte) in self.rest.iter().enumerate().take(10) {
            value |= u64::from(byte & 0x7f) << (7 * at);
            if byte < 0x80 {
                self.rest = &self.rest[at + 1..];
                return Some(value);
            }
        }
        None
    }
}
