//! Why row events do not tell the content of a captured table any more: each is the end of an epoch.

use std::sync::Arc;

/// What happened. OnAir does the rest: it opens the next epoch, which scans the table.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Barrier {
    /// A statement that changes rows without row events, or that is not understood.
    #[error("{what}: {text}")]
    Statement {
        /// The statement's kind and the table.
        what: String,
        /// Its beginning.
        text: String,
    },
    /// An event of a kind that this version does not know, and that says it must not be skipped.
    #[error("an event of an unknown kind, {0}")]
    UnknownEvent(String),
    /// The server lost events.
    #[error("the server says that its binlog lost events (incident {number}: {message})")]
    Incident {
        /// Its number.
        number: u16,
        /// Its message.
        message: String,
    },
    /// A transaction too large to hold.
    #[error(
        "what it changed in captured tables takes more than {limit} bytes of memory, together with XA transactions \
         that are prepared (reader.transaction_bytes_max)"
    )]
    TooLarge {
        /// The limit.
        limit: usize,
    },
    /// A compressed event of MariaDB too large to unpack.
    #[error(
        "a compressed event in it has {length} bytes, more than {limit} (reader.transaction_bytes_max)"
    )]
    EventTooLarge {
        /// Its length.
        length: usize,
        /// The limit.
        limit: usize,
    },
    /// A compressed transaction that cannot be unpacked.
    #[error("its payload is given up: {0}")]
    Payload(String),
    /// ROLLBACK after rows.
    #[error(
        "it changed captured tables and ends with ROLLBACK, where what remains depends on their engine"
    )]
    Rollback,
    /// ROLLBACK TO after rows.
    #[error("it changed captured tables and rolls back to a savepoint")]
    Savepoint,
    /// XA COMMIT of rows that were not seen.
    #[error("XA COMMIT {xid}, whose rows were prepared before the stream began or given up")]
    XaUnseen {
        /// Its id.
        xid: String,
    },
    /// Too many XA transactions are prepared.
    #[error(
        "more than {limit} XA transactions are prepared and neither committed nor rolled back (reader.xa_open_max)"
    )]
    XaTooMany {
        /// The limit.
        limit: usize,
    },
    /// A session's row image lacks a column.
    #[error(
        "{table}: a session wrote a row image without column {column}: its binlog_row_image is MINIMAL or NOBLOB, \
         FULL is needed"
    )]
    RowImage {
        /// The table.
        table: String,
        /// The column.
        column: String,
    },
    /// A column of a type that is not known.
    #[error("{table}: column {place} has a type of code {code} that this version does not know")]
    UnknownType {
        /// The table.
        table: String,
        /// Its place, from 1.
        place: usize,
        /// The type's code.
        code: u8,
    },
    /// Table maps do not name columns any more.
    #[error(
        "{table}: its table map no longer tells the names of columns: binlog_row_metadata was FULL and is not"
    )]
    NoNames {
        /// The table.
        table: String,
    },
    /// Another primary key.
    #[error("{table}: its primary key is another one now")]
    PrimaryKey {
        /// The table.
        table: String,
    },
    /// Another number of columns.
    #[error("{table}: it has {is} columns now, not {was}")]
    ColumnCount {
        /// The table.
        table: String,
        /// Before.
        was: usize,
        /// Now.
        is: usize,
    },
    /// A column that is read is gone or another one.
    #[error("{table}: column {column} {what}")]
    Column {
        /// The table.
        table: String,
        /// The column.
        column: Arc<str>,
        /// What is with it now.
        what: String,
    },
}
