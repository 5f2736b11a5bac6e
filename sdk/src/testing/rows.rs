//! Schemas and rows for tests.

use bytes::{BufMut, Bytes, BytesMut};
use onair_model::schema::{Field, FieldKind, Schema};

use crate::raw::Value;

/// A schema with these key columns and these exported columns, numbered from 1.
pub fn schema(feed: &str, key: &[(&str, FieldKind)], columns: &[(&str, FieldKind)]) -> Schema {
    let field = |number, &(name, kind): &(&str, FieldKind)| Field {
        column: name.into(),
        name: name.into(),
        number,
        kind,
    };
    Schema {
        feed: feed.into(),
        table: format!("test.{feed}").into(),
        key: key.iter().map(|column| field(0, column)).collect(),
        columns: (1..)
            .zip(columns)
            .map(|(number, column)| field(number, column))
            .collect(),
    }
}

/// A row with these columns, the others NULL. Panics when the schema has no such column.
pub fn row(schema: &Schema, values: &[(&str, Value<'_>)]) -> Bytes {
    let mut out = BytesMut::new();
    for field in &schema.columns {
        if let Some((_, value)) = values.iter().find(|(column, _)| *column == &*field.column) {
            write(field.number, value, &mut out);
        }
    }
    for (column, _) in values {
        assert!(
            schema.columns.iter().any(|field| *column == &*field.column),
            "no column {column}"
        );
    }
    out.freeze()
}

fn write(number: u32, value: &Value<'_>, out: &mut BytesMut) {
    let tag = |wire: u64| u64::from(number) << 3 | wire;
    match value {
        Value::Null => {}
        Value::Int(n) => {
            varint(tag(0), out);
            varint((n << 1 ^ n >> 63) as u64, out);
        }
        Value::UInt(n) => {
            varint(tag(0), out);
            varint(*n, out);
        }
        Value::Float(n) => {
            varint(tag(5), out);
            out.put_f32_le(*n);
        }
        Value::Double(n) => {
            varint(tag(1), out);
            out.put_f64_le(*n);
        }
        Value::Text(text) => bytes(tag(2), text.as_bytes(), out),
        Value::Bytes(value) => bytes(tag(2), value, out),
    }
}

fn bytes(tag: u64, value: &[u8], out: &mut BytesMut) {
    varint(tag, out);
    varint(value.len() as u64, out);
    out.put_slice(value);
}

fn varint(mut value: u64, out: &mut BytesMut) {
    while value >= 0x80 {
        out.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}
