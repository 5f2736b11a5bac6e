//! The seam to the database: identity, table definitions, raw binlog events in server order, the scan.
//!
//! `mysql` is the real one, `demo` the embedded one; both give the bytes that a MySQL server would send.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use onair_model::value::Value;
use onair_model::{GtidSet, Key};
use tokio::sync::watch;

use crate::feed::{Feed, FeedConfig, Table, TableName};

/// Which binlog dialect a server speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// MySQL 8.0 and later.
    Mysql,
    /// MariaDB 10.6 and later.
    Mariadb,
}

/// `binlog_row_metadata` of the source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RowMetadata {
    /// Table maps tell names, signs, character sets and labels, so that a changed definition is seen in them.
    Full,
    /// They do not: any change of a captured table's definition ends the epoch.
    #[default]
    Minimal,
}

/// Who answers at the source's address, and what it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// What it speaks.
    pub dialect: Dialect,
    /// `@@server_uuid`; MariaDB has none, there it is `mariadb-SERVER_ID-PORT`, which survives a restart and
    /// differs within a replication topology.
    pub server: String,
    /// `@@version`.
    pub version: String,
    /// `@@binlog_row_metadata`.
    pub metadata: RowMetadata,
    /// Everything executed: `@@gtid_executed`, or MariaDB's `@@gtid_binlog_pos`.
    pub executed: GtidSet,
    /// What was being committed meanwhile, and is not in `executed`: a dump shows it already, and it may stand in the
    /// binlog before some of `executed`. Empty on MariaDB, whose position is the binlog's.
    pub in_flight: GtidSet,
    /// What the binlog no longer holds: `@@gtid_purged`; empty on MariaDB, where a dump from a purged
    /// position is refused instead.
    pub purged: GtidSet,
}

/// One event as sent: header fields, and the body without header and checksum (verified before).
#[derive(Clone, Debug)]
pub struct RawEvent {
    /// Event type code of the header.
    pub kind: u8,
    /// Header flags.
    pub flags: u16,
    /// Seconds since 1970 at the origin.
    pub timestamp: u32,
    /// Server id of the origin.
    pub server_id: u32,
    /// Position after the event, low 32 bits; 0 for artificial events.
    pub next_position: u32,
    /// The body.
    pub body: Bytes,
}

/// Raw events in server order. Compressed transactions come as they are; the decoder unpacks them.
#[async_trait]
pub trait EventStream: Send {
    /// The next event; waits for it. `Err` ends the stream: open another.
    /// Cancel safe. Heartbeats come as events, so that silence is seen as [`SourceError::Silent`].
    async fn next(&mut self) -> Result<RawEvent, SourceError>;

    /// The next event if it has arrived already, without waiting.
    fn try_next(&mut self) -> Result<Option<RawEvent>, SourceError>;
}

/// Receives the rows of a scan: which of its connections gives one, from 0 to below [`ScanRequest::parallel`], and the
/// values of the columns asked for, in that order. Called from several connections at once, never waits.
pub type RowSink = Arc<dyn Fn(usize, &[Value<'_>]) + Send + Sync>;

/// What to scan, and after what.
#[derive(Clone, Debug)]
pub struct ScanRequest {
    /// The feed: table, columns (key columns first, then exported ones), predicate.
    pub feed: Arc<Feed>,
    /// What the stream had delivered when the scan was asked for: every view must contain it.
    pub delivered: GtidSet,
    /// How many connections read at once.
    pub parallel: usize,
    /// Rows a second over all connections; `None` is as fast as it goes.
    pub max_rate: Option<u64>,
    /// While it is shut, no further range is read. Connections stay open; MariaDB's keep their views.
    pub gate: Gate,
}

/// Holds a scan between two ranges while it is shut. Clones are of one gate.
#[derive(Clone, Debug)]
pub struct Gate(watch::Receiver<bool>);

impl Gate {
    /// A gate that is open while the sender's value is `true`.
    pub fn of(open: &watch::Sender<bool>) -> Self {
        Gate(open.subscribe())
    }

    /// One that nobody shuts.
    pub fn always_open() -> Self {
        Gate(watch::Sender::new(true).subscribe())
    }

    /// Waits until it is open.
    pub async fn pass(&self) {
        // Whoever shut it is gone, and with it the scan.
        let _ = self.0.clone().wait_for(|open| *open).await;
    }
}

/// What a finished scan says.
#[derive(Clone, Debug)]
pub struct Scanned {
    /// Every transaction that any row of the scan may show is in this set.
    pub high: GtidSet,
    /// Rows that the predicate let through.
    pub rows: u64,
    /// Bytes of these rows as the database sent them.
    pub bytes: u64,
    /// How long statements that read rows were under way, summed over the connections.
    pub busy: Duration,
}

/// How bad a finding of the preflight is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// As it should be.
    Ok,
    /// Works, with a limit that the operator should know.
    Warn,
    /// OnAir cannot work like this.
    Fail,
}

/// One line of `onair doctor`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Short stable name, e.g. `binlog_row_image`.
    pub check: &'static str,
    /// How bad.
    pub level: Level,
    /// The value seen.
    pub seen: String,
    /// Why it matters.
    pub why: &'static str,
    /// The exact statement or setting that mends it, empty when nothing is to be done.
    pub fix: String,
}

/// A database that can be followed and scanned.
#[async_trait]
pub trait Source: Send + Sync {
    /// Asks who is there and what it holds, afresh at each call.
    async fn identity(&self) -> Result<Identity, SourceError>;

    /// A table's columns and primary key from the information schema.
    /// [`SourceError::NoTable`] when it is not there, [`SourceError::Refused`] for a view.
    async fn table(&self, name: &TableName) -> Result<Table, SourceError>;

    /// Opens the binlog just after `from`. [`SourceError::Purged`] when it no longer reaches back that far.
    async fn follow(&self, from: &GtidSet) -> Result<Box<dyn EventStream>, SourceError>;

    /// Reads the live rows of a feed, each view at or after `delivered`; see DESIGN section 5.
    async fn scan(&self, request: &ScanRequest, sink: RowSink) -> Result<Scanned, SourceError>;

    /// Reads the live row of one key as it is now, columns as for a scan. A source that compares keys more coarsely than
    /// by their bytes may give the row of another key, never more than one.
    async fn row(&self, feed: &Feed, key: &Key, sink: RowSink) -> Result<(), SourceError>;

    /// Checks everything that OnAir needs of the source for these feeds, one finding a line.
    async fn preflight(&self, feeds: &[FeedConfig]) -> Result<Vec<Finding>, SourceError>;
}

/// How long without any event, heartbeats included, before a connection counts as dead, once the stream runs
/// (a server may need longer to find the place to begin at).
pub const SILENCE_MAX: Duration = Duration::from_secs(6);

/// Why the source did not do what was asked. Answers [`SourceError::is_final`].
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The server cannot be reached or the connection broke: try again.
    #[error("{address}: cannot talk to the source: {reason}")]
    Unreachable {
        /// host:port.
        address: String,
        /// What the network or the driver said.
        reason: String,
    },
    /// Nothing came for [`SILENCE_MAX`], not even a heartbeat: the connection is half open.
    #[error(
        "{address}: no event and no heartbeat for {seconds} s, the connection counts as dead; another is made"
    )]
    Silent {
        /// host:port.
        address: String,
        /// How long.
        seconds: u64,
    },
    /// Login, TLS or grants: what the server said and what to do.
    #[error("{address}: {reason}; {remedy}")]
    Denied {
        /// host:port.
        address: String,
        /// What the server said.
        reason: String,
        /// What to do.
        remedy: String,
    },
    /// The binlog does not reach back to where the stream should begin: a new epoch is needed.
    #[error(
        "{address}: the binlog no longer holds the transactions after {from}: {reason}; the table is scanned anew"
    )]
    Purged {
        /// host:port.
        address: String,
        /// Where the stream should have begun.
        from: String,
        /// What the server said.
        reason: String,
    },
    /// Another replica with our server id is connected.
    #[error(
        "{address}: another client reads the binlog with server_id {server_id}: {reason}; set [source] server_id to a number of its own for each reader"
    )]
    SameServerId {
        /// host:port.
        address: String,
        /// The id.
        server_id: u32,
        /// What the server said.
        reason: String,
    },
    /// There is no such table.
    #[error(
        "table {table} does not exist at the source, or the account may not see it; create it, or GRANT SELECT ON {table} TO the account"
    )]
    NoTable {
        /// The table.
        table: String,
    },
    /// It cannot be captured, and why.
    #[error("{what} cannot be captured: {reason}; {remedy}")]
    Refused {
        /// Table or server.
        what: String,
        /// Why.
        reason: String,
        /// What to do.
        remedy: String,
    },
    /// Bytes that do not follow the protocol, or a checksum that differs.
    #[error(
        "{at}: damaged or unknown event: {reason}; it is read again, if it stays check network and binlog"
    )]
    Damaged {
        /// Position.
        at: String,
        /// What is wrong.
        reason: String,
    },
}

impl SourceError {
    /// Whether trying again cannot help until somebody does something.
    pub fn is_final(&self) -> bool {
        matches!(
            self,
            SourceError::Denied { .. }
                | SourceError::NoTable { .. }
                | SourceError::Refused { .. }
                | SourceError::SameServerId { .. }
        )
    }
}
