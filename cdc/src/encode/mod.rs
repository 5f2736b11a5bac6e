//! The value code: one for stream and scan. Values in, a row's canonical protobuf and a key's canonical bytes out.
//!
//! A row's fields stand ascending by number; NULL is absent and everything else is written, 0 and '' too
//! (the fields are `optional`). docs/types.md has the mapping. Text becomes UTF-8 here: an invalid sequence
//! becomes U+FFFD and is counted. Wrong: [`Misfit`], a value of another shape than its column.

pub mod charset;
pub(crate) mod print;

use std::sync::Arc;

use onair_model::Key;
use onair_model::column::{Column, ColumnType};
use onair_model::key::KeyWriter;
use onair_model::value::Value;

use crate::feed::Feed;
use charset::Charset;
use print::Short;

/// A value does not have the shape that its column's type says.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("column {column} holds a value of another type than it was bound with")]
pub struct Misfit {
    /// The column.
    pub column: Arc<str>,
}

/// Encodes rows and keys of one feed. Keeps buffers, so one a thread.
#[derive(Clone, Debug)]
pub struct Encoder {
    fields: Vec<FieldCode>,
    key: Vec<KeyCode>,
    text: Text,
    key_bytes: Vec<u8>,
}

#[derive(Clone, Debug)]
struct FieldCode {
    column: Arc<str>,
    tag: Tag,
    form: Form,
}

/// Number and wire type of a field, encoded: five bytes at most.
#[derive(Clone, Copy, Debug)]
struct Tag {
    bytes: [u8; 5],
    len: usize,
}

#[derive(Clone, Debug)]
struct KeyCode {
    column: Arc<str>,
    form: Form,
}

/// How a column's values are written.
#[derive(Clone, Debug)]
enum Form {
    Int,
    UInt,
    Float,
    Double,
    Decimal,
    Date,
    Time(u8),
    DateTime(u8),
    Text(Charset),
    Fixed(usize),
    Bytes,
    Enum(Arc<[Arc<str>]>),
    Set(Arc<[Arc<str>]>),
}

/// A buffer for one value's text, and the count of what was not text.
#[derive(Clone, Debug, Default)]
struct Text {
    buffer: Vec<u8>,
    replaced: u64,
}

impl Encoder {
    /// An encoder for this feed.
    pub fn new(feed: &Feed) -> Self {
        let fields = feed.schema.columns.iter().zip(&feed.exported);
        Encoder {
            fields: fields
                .map(|(field, &ordinal)| FieldCode::new(field.number, &feed.columns[ordinal]))
                .collect(),
            key: feed
                .key
                .iter()
                .map(|&ordinal| KeyCode {
                    column: feed.columns[ordinal].name.clone(),
                    form: Form::of(&feed.columns[ordinal].ty),
                })
                .collect(),
            text: Text::default(),
            key_bytes: Vec::new(),
        }
    }

    /// Appends the row whose exported columns, ascending by field number, have these values.
    pub fn row(&mut self, values: &[Value<'_>], out: &mut Vec<u8>) -> Result<(), Misfit> {
        assert_eq!(values.len(), self.fields.len(), "one value a field");
        for (index, value) in values.iter().enumerate() {
            self.field(index, value, out)?;
        }
        Ok(())
    }

    /// Appends the field of one exported column, by its place among them. Call them ascending.
    pub(crate) fn field(
        &mut self,
        index: usize,
        value: &Value<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), Misfit> {
        let code = &self.fields[index];
        code.form
            .append_field(code.tag, value, &mut self.text, out)
            .ok_or_else(|| Misfit {
                column: code.column.clone(),
            })
    }

    /// The key whose columns, in key order, have these values.
    pub fn key(&mut self, values: &[Value<'_>]) -> Result<Key, Misfit> {
        self.key_bytes(values).map(Key::copy_from)
    }

    /// The canonical bytes of the key whose columns, in key order, have these values.
    pub(crate) fn key_bytes(&mut self, values: &[Value<'_>]) -> Result<&[u8], Misfit> {
        assert_eq!(values.len(), self.key.len(), "one value a key column");
        let mut writer = KeyWriter::new(&mut self.key_bytes, values.len());
        for (code, value) in self.key.iter().zip(values) {
            code.form
                .append_key(value, &mut self.text, &mut writer)
                .ok_or_else(|| Misfit {
                    column: code.column.clone(),
                })?;
        }
        Ok(&self.key_bytes)
    }

    /// How many invalid character sequences became U+FFFD so far.
    pub fn replaced(&self) -> u64 {
        self.text.replaced
    }
}

impl FieldCode {
    fn new(number: u32, column: &Column) -> Self {
        let form = Form::of(&column.ty);
        let wire_type = match form {
            Form::Int | Form::UInt => 0,
            Form::Double => 1,
            Form::Float => 5,
            _ => 2,
        };
        FieldCode {
            column: column.name.clone(),
            tag: Tag::new(u64::from(number) << 3 | wire_type),
            form,
        }
    }
}

impl Form {
    fn of(ty: &ColumnType) -> Form {
        match ty {
            ColumnType::Int {
                unsigned: false, ..
            } => Form::Int,
            ColumnType::Int { unsigned: true, .. } | ColumnType::Bit { .. } | ColumnType::Year => {
                Form::UInt
            }
            ColumnType::Decimal { .. } => Form::Decimal,
            ColumnType::Float => Form::Float,
            ColumnType::Double => Form::Double,
            ColumnType::Date => Form::Date,
            ColumnType::Time { fsp } => Form::Time(*fsp),
            ColumnType::DateTime { fsp } | ColumnType::Timestamp { fsp } => Form::DateTime(*fsp),
            // Binding refuses a set that cannot be converted.
            ColumnType::Text { collation } => {
                Form::Text(Charset::named(collation.charset()).unwrap_or(Charset::Ascii))
            }
            ColumnType::FixedBinary { len } => Form::Fixed(usize::from(*len)),
            ColumnType::Enum { labels } => Form::Enum(labels.clone()),
            ColumnType::Set { labels } => Form::Set(labels.clone()),
            ColumnType::Json => Form::Text(Charset::Utf8),
            ColumnType::Binary
            | ColumnType::Vector
            | ColumnType::Geometry
            | ColumnType::Other { .. } => Form::Bytes,
        }
    }

    #[inline]
    fn append_field(
        &self,
        tag: Tag,
        value: &Value<'_>,
        text: &mut Text,
        out: &mut Vec<u8>,
    ) -> Option<()> {
        match (self, value) {
            (_, Value::Null) => {}
            (Form::Int, Value::Int(n)) => tag.number((n << 1 ^ n >> 63) as u64, out),
            (Form::UInt, Value::UInt(n)) => tag.number(*n, out),
            (Form::Text(charset), Value::Bytes(raw)) => match charset.as_utf8(raw) {
                Some(utf8) => tag.bytes(utf8, out),
                None => {
                    text.buffer.clear();
                    text.replaced += charset.append(raw, &mut text.buffer);
                    tag.bytes(&text.buffer, out);
                }
            },
            (Form::DateTime(fsp), Value::DateTime(value)) => {
                tag.short(&print::date_time(value, *fsp), out);
            }
            (Form::Date, Value::DateTime(value)) => tag.short(&print::date(value), out),
            (Form::Time(fsp), Value::Time(micros)) => tag.short(&print::time(*micros, *fsp), out),
            (Form::Float, Value::Float(n)) => {
                tag.alone(out);
                out.extend_from_slice(&n.to_le_bytes());
            }
            (Form::Double, Value::Double(n)) => {
                tag.alone(out);
                out.extend_from_slice(&n.to_le_bytes());
            }
            (Form::Fixed(len), Value::Bytes(raw)) => {
                let missing = len.saturating_sub(raw.len());
                tag.number((raw.len() + missing) as u64, out);
                out.extend_from_slice(raw);
                out.resize(out.len() + missing, 0);
            }
            _ => tag.bytes(self.bytes(value, text)?, out),
        }
        Some(())
    }

    fn append_key(
        &self,
        value: &Value<'_>,
        text: &mut Text,
        key: &mut KeyWriter<'_>,
    ) -> Option<()> {
        match (self, value) {
            (Form::Int, Value::Int(n)) => key.signed(*n),
            (Form::UInt, Value::UInt(n)) => key.unsigned(*n),
            (Form::Fixed(len), Value::Bytes(raw)) if raw.len() < *len => {
                text.buffer.clear();
                text.buffer.extend_from_slice(raw);
                text.buffer.resize(*len, 0);
                key.bytes(&text.buffer);
            }
            (Form::Fixed(_), Value::Bytes(raw)) => key.bytes(raw),
            (Form::Int | Form::UInt | Form::Float | Form::Double, _) => return None,
            _ => key.bytes(self.bytes(value, text)?),
        }
        Some(())
    }

    /// The bytes of everything that is carried as `string` or `bytes` (`Fixed` apart).
    fn bytes<'a>(&self, value: &Value<'a>, text: &'a mut Text) -> Option<&'a [u8]> {
        text.buffer.clear();
        let out = &mut text.buffer;
        match (self, value) {
            (Form::Bytes, Value::Bytes(raw)) => return Some(raw),
            (Form::Text(charset), Value::Bytes(raw)) => {
                if let Some(same) = charset.as_utf8(raw) {
                    return Some(same);
                }
                text.replaced += charset.append(raw, out);
            }
            (Form::Decimal, Value::Decimal(value)) => print::decimal(value, out),
            (Form::Date, Value::DateTime(value)) => {
                out.extend_from_slice(print::date(value).text());
            }
            (Form::DateTime(fsp), Value::DateTime(value)) => {
                out.extend_from_slice(print::date_time(value, *fsp).text());
            }
            (Form::Time(fsp), Value::Time(micros)) => {
                out.extend_from_slice(print::time(*micros, *fsp).text());
            }
            (Form::Enum(labels), Value::UInt(index)) => {
                if let Some(index) = usize::try_from(*index).ok()?.checked_sub(1) {
                    out.extend_from_slice(labels.get(index)?.as_bytes());
                }
            }
            (Form::Set(labels), Value::UInt(mask)) => {
                if mask.checked_shr(labels.len() as u32).unwrap_or(0) != 0 {
                    return None;
                }
                for (bit, label) in labels.iter().enumerate() {
                    if mask >> bit & 1 == 1 {
                        if !out.is_empty() {
                            out.push(b',');
                        }
                        out.extend_from_slice(label.as_bytes());
                    }
                }
            }
            _ => return None,
        }
        Some(out)
    }
}

/// Copies of a fixed size are a few instructions where those of any size are a call, so what is short is put
/// together on the stack, copied whole, and what was too much is cut off.
impl Tag {
    fn new(value: u64) -> Self {
        let mut bytes = [0; 5];
        let mut long = [0; 16];
        let len = varint(value, 0, &mut long).min(bytes.len());
        bytes.copy_from_slice(&long[..5]);
        Tag { bytes, len }
    }

    /// The tag and a varint.
    #[inline]
    fn number(self, value: u64, out: &mut Vec<u8>) {
        let mut bytes = [0; 16];
        bytes[..5].copy_from_slice(&self.bytes);
        let len = varint(value, self.len, &mut bytes);
        put(&bytes, len, out);
    }

    /// The tag, a length and a short text.
    #[inline]
    fn short(self, text: &Short, out: &mut Vec<u8>) {
        let mut bytes = [0; 32];
        bytes[..5].copy_from_slice(&self.bytes);
        bytes[self.len] = text.len() as u8;
        let at = self.len + 1;
        bytes[at..at + Short::MAX].copy_from_slice(text.all());
        put(&bytes, at + text.len(), out);
    }

    /// The tag, a length and bytes.
    #[inline]
    fn bytes(self, bytes: &[u8], out: &mut Vec<u8>) {
        self.number(bytes.len() as u64, out);
        out.extend_from_slice(bytes);
    }

    fn alone(self, out: &mut Vec<u8>) {
        put(&self.bytes, self.len, out);
    }
}

#[inline]
fn put<const N: usize>(bytes: &[u8; N], len: usize, out: &mut Vec<u8>) {
    let end = out.len() + len;
    out.extend_from_slice(bytes);
    out.truncate(end);
}

/// Writes a varint at `at`; returns where it ends.
#[inline]
fn varint(mut value: u64, mut at: usize, bytes: &mut [u8; 16]) -> usize {
    while value >= 0x80 {
        bytes[at] = value as u8 | 0x80;
        value >>= 7;
        at += 1;
    }
    bytes[at] = value as u8;
    at + 1
}
