//! Rows as the user's type: what a feed sends for a row, and the trait that makes a value of it.
//!
//! In: a key, the row's protobuf bytes, the feed's schema. Out: a `T`, once for each row, when it arrives. May go
//! wrong: the type does not fit the feed; then nothing of the version that holds the row is shown.

use std::sync::Arc;

use onair_model::Key;
use onair_model::schema::{FieldKind, Schema};

use crate::raw::{self, Value};

/// A type that a feed's rows can be read into.
///
/// By column name, without any generated code:
///
/// ```
/// use onair_sdk::{FromRow, RowError, RowRef};
///
/// #[derive(Clone)]
/// struct Room {
///     uid: u64,
///     title: Option<String>,
/// }
///
/// impl FromRow for Room {
///     fn from_row(row: RowRef<'_>) -> Result<Self, RowError> {
///         Ok(Room { uid: row.get("uid")?, title: row.get("title")? })
///     }
/// }
/// ```
///
/// With the feature `prost`, `prost_row!(Room)` does it for a generated message.
/// Rows stand in a map, one beside the other, and are cloned when a part of it is copied to be changed, and into the
/// steps of [`Feed::changes`](crate::Feed::changes). Of a type that is dear to clone, hold `Arc<Room>`: it is a row too.
pub trait FromRow: Clone + Sized + Send + Sync + 'static {
    /// Reads one row. Called once for each row that comes or changes, on the feed's own task.
    fn from_row(row: RowRef<'_>) -> Result<Self, RowError>;

    /// Whether the type fits a feed of this schema: asked before the first row, so that a misfit shows on an
    /// empty feed too. Fits by default.
    fn check(schema: &Schema) -> Result<(), RowError> {
        let _ = schema;
        Ok(())
    }
}

impl<T: FromRow> FromRow for Arc<T> {
    fn from_row(row: RowRef<'_>) -> Result<Self, RowError> {
        T::from_row(row).map(Arc::new)
    }

    fn check(schema: &Schema) -> Result<(), RowError> {
        T::check(schema)
    }
}

/// One row as it arrived.
#[derive(Clone, Copy, Debug)]
pub struct RowRef<'a> {
    pub(crate) key: &'a Key,
    pub(crate) bytes: &'a [u8],
    pub(crate) schema: &'a Arc<Schema>,
}

impl<'a> RowRef<'a> {
    /// A row that did not come from a server: to test a [`FromRow`].
    pub const fn new(key: &'a Key, bytes: &'a [u8], schema: &'a Arc<Schema>) -> Self {
        RowRef { key, bytes, schema }
    }

    /// The row's key.
    pub const fn key(&self) -> &'a Key {
        self.key
    }

    /// The row: a protobuf message with the fields of [`RowRef::schema`]; NULL is an absent field.
    pub const fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The feed's schema.
    pub const fn schema(&self) -> &'a Arc<Schema> {
        self.schema
    }

    /// The value of an exported column, or else of a key column, by its name in MySQL.
    pub fn get<V: FromValue>(&self, column: &str) -> Result<V, RowError> {
        let value = raw::value(self.schema, self.key, self.bytes, column)?;
        V::from_value(value).ok_or_else(|| {
            let kind = raw::field(self.schema, column).map(|field| field.kind);
            RowError::new(
                column,
                format!(
                    "a value of kind {} is not a {}",
                    kind_text(kind),
                    std::any::type_name::<V>()
                ),
            )
        })
    }
}

fn kind_text(kind: Option<FieldKind>) -> String {
    kind.map_or_else(String::new, |kind| format!("{kind:?}").to_lowercase())
}

/// Why a row cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}{reason}", self.prefix())]
pub struct RowError {
    /// Empty: the row as a whole.
    field: Arc<str>,
    reason: Arc<str>,
}

impl RowError {
    /// `field` is the column or field that does not fit, `reason` why.
    pub fn new(field: impl Into<Arc<str>>, reason: impl Into<Arc<str>>) -> Self {
        RowError {
            field: field.into(),
            reason: reason.into(),
        }
    }

    /// The row as a whole does not fit; the reason says more.
    pub fn whole(reason: impl Into<Arc<str>>) -> Self {
        RowError::new("", reason)
    }

    fn prefix(&self) -> String {
        match &*self.field {
            "" => String::new(),
            field => format!("column {field}: "),
        }
    }

    /// The column or field that does not fit; empty when it is the row as a whole.
    pub fn field(&self) -> &str {
        &self.field
    }
}

/// A Rust type that a column's value can be read into. Integers of any width take what fits into them; `Option`
/// takes NULL.
pub trait FromValue: Sized {
    /// The value, when it fits.
    fn from_value(value: Value<'_>) -> Option<Self>;
}

impl<V: FromValue> FromValue for Option<V> {
    fn from_value(value: Value<'_>) -> Option<Self> {
        match value {
            Value::Null => Some(None),
            value => V::from_value(value).map(Some),
        }
    }
}

macro_rules! integers {
    ($($int:ty),*) => {$(
        impl FromValue for $int {
            fn from_value(value: Value<'_>) -> Option<Self> {
                match value {
                    Value::Int(n) => n.try_into().ok(),
                    Value::UInt(n) => n.try_into().ok(),
                    _ => None,
                }
            }
        }
    )*};
}
integers!(
    i8, i16, i32, i64, i128, isize, u8, u16, u32, u64, u128, usize
);

impl FromValue for bool {
    fn from_value(value: Value<'_>) -> Option<Self> {
        i128::from_value(value).map(|n| n != 0)
    }
}

impl FromValue for f64 {
    fn from_value(value: Value<'_>) -> Option<Self> {
        match value {
            Value::Float(n) => Some(f64::from(n)),
            Value::Double(n) => Some(n),
            _ => None,
        }
    }
}

impl FromValue for f32 {
    fn from_value(value: Value<'_>) -> Option<Self> {
        match value {
            Value::Float(n) => Some(n),
            _ => None,
        }
    }
}

impl FromValue for String {
    fn from_value(value: Value<'_>) -> Option<Self> {
        match value {
            Value::Text(text) => Some(text.into_owned()),
            _ => None,
        }
    }
}

impl FromValue for Arc<str> {
    fn from_value(value: Value<'_>) -> Option<Self> {
        match value {
            Value::Text(text) => Some(text.into()),
            _ => None,
        }
    }
}

impl FromValue for Vec<u8> {
    fn from_value(value: Value<'_>) -> Option<Self> {
        match value {
            Value::Bytes(bytes) => Some(bytes.into_owned()),
            _ => None,
        }
    }
}

/// A row that the user's type could not be made of.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {error}", self.subject())]
#[non_exhaustive]
pub struct BadRow {
    /// Its key, by column; `None` when the type does not fit the feed's schema at all.
    pub key: Option<Arc<str>>,
    /// What does not fit.
    pub error: RowError,
}

impl BadRow {
    fn subject(&self) -> String {
        match &self.key {
            Some(key) => {
                format!("the row with key {key} does not fit the type that it is read into")
            }
            None => "the type does not fit the feed".to_owned(),
        }
    }
}

/// Calls the user's code; its panic is an error like any other.
pub(crate) fn read<T: FromRow>(row: RowRef<'_>) -> Result<T, BadRow> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| T::from_row(row)))
        .unwrap_or_else(|_| Err(RowError::whole("reading it panicked")))
        .map_err(|error| BadRow {
            key: Some(raw::key_text(row.schema, row.key).into()),
            error,
        })
}
