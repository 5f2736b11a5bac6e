//! The schema of a feed as everybody downstream of the reader sees it: key columns, exported columns,
//! field numbers. A row is a protobuf message of exactly these fields.

use std::sync::Arc;

/// What a client needs to read keys and rows of a feed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schema {
    /// Feed name; also names the message (`rooms` -> `Rooms`).
    pub feed: Arc<str>,
    /// The table, `database.table`.
    pub table: Arc<str>,
    /// The primary key's columns in key order. Their numbers are 0: a key is not a message.
    pub key: Vec<Field>,
    /// Exported columns, ascending by field number.
    pub columns: Vec<Field>,
}

/// One exported or key column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// Column name in MySQL.
    pub column: Arc<str>,
    /// Name in the protobuf message.
    pub name: Arc<str>,
    /// Field number: given once, append-only, never reused.
    pub number: u32,
    /// How the value is carried and shown.
    pub kind: FieldKind,
}

/// How a MySQL type is carried in protobuf (the comment) and shown in JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FieldKind {
    /// `sint64`, JSON number: signed integers.
    Int,
    /// `uint64`, JSON number: unsigned integers.
    UInt,
    /// `float`, JSON number.
    Float,
    /// `double`, JSON number.
    Double,
    /// `string`, JSON string: exactly the digits that SELECT prints.
    Decimal,
    /// `uint64`, JSON number.
    Bit,
    /// `uint32`, JSON number.
    Year,
    /// `string` as SELECT prints it, JSON string.
    Date,
    /// `string` as SELECT prints it, JSON string.
    Time,
    /// `string` as SELECT prints it, JSON string.
    DateTime,
    /// `string` as SELECT prints it with `time_zone = '+00:00'`, JSON string.
    Timestamp,
    /// `string`, JSON string.
    Text,
    /// `bytes`, JSON base64.
    Binary,
    /// `string`, the label, JSON string.
    Enum,
    /// `string`, labels joined by commas, JSON string.
    Set,
    /// `string`, the JSON text, JSON as it is.
    Json,
    /// `bytes`, JSON base64.
    Vector,
    /// `bytes`, JSON base64.
    Geometry,
}
