//! A feed as the reader is told of it, and as it stands once the table's columns are known.

use std::fmt;
use std::sync::Arc;

use onair_model::Buckets;
use onair_model::column::Column;
use onair_model::predicate::Predicate;
use onair_model::schema::Schema;

/// `database.table`, as the server spells it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TableName {
    /// The database (schema).
    pub database: Arc<str>,
    /// The table in it.
    pub table: Arc<str>,
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.database, self.table)
    }
}

/// A feed as configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeedConfig {
    /// Its name.
    pub name: Arc<str>,
    /// The table.
    pub table: TableName,
    /// The predicate over one row, as SQL text.
    pub live_when: String,
    /// Exported columns, in the order that gives them their first field numbers.
    pub columns: Vec<String>,
    /// How many buckets.
    pub buckets: Buckets,
}

/// A source table: columns in table order and the primary key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// Its name.
    pub name: TableName,
    /// All columns that row images carry, in their order: generated stored and virtual ones, invisible ones
    /// and hidden ones too.
    pub columns: Vec<Column>,
    /// Ordinals into `columns` of the primary key, in key order. Empty: there is none.
    pub primary_key: Vec<usize>,
}

/// A feed bound to its table: everything that decides what a row of the table becomes.
#[derive(Clone, Debug)]
pub struct Feed {
    /// As configured.
    pub config: FeedConfig,
    /// Key columns and exported columns with their field numbers.
    pub schema: Arc<Schema>,
    /// The table's columns as bound.
    pub columns: Arc<[Column]>,
    /// Ordinals of the key's columns in `columns`, in key order.
    pub key: Vec<usize>,
    /// Ordinals of the exported columns in `columns`, by ascending field number.
    pub exported: Vec<usize>,
    /// The compiled predicate over `columns`.
    pub live_when: Predicate,
}
