//! The shard store: small cells moved only by compare-and-set, and immutable segments that the cells name.
//!
//! A cell is the unit of truth (a bucket's head, the lease, the checkpoint). A segment is written under an id
//! of its own before any cell names it and is never changed. What an unknown outcome was is told by the cell's
//! token: read it back.

pub mod cells;
pub mod checkpoint;
pub mod columns;
#[cfg(feature = "contract")]
pub mod contract;
pub mod epoch;
pub mod faulty;
pub mod head;
pub mod index;
pub mod lease;
pub mod past;
pub mod redb;
pub mod requests;
pub mod runs;
pub mod schema;
#[cfg(feature = "scylla")]
pub mod scylla;
pub mod status;
pub mod watched;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use onair_model::Bucket;

/// Which cell.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum CellKey {
    /// The store's lineage.
    Lineage,
    /// A bucket's head.
    Head(Arc<str>, Bucket),
    /// The cuts partition's head.
    CutsHead(Arc<str>),
    /// A feed's field numbers.
    Columns(Arc<str>),
    /// The merger's request that the reader state a bucket again.
    ReplaceRequest(Arc<str>, Bucket),
    /// What a feed's rows are made of.
    Schema(Arc<str>),
    /// Who writes for a source.
    Lease(Arc<str>),
    /// A source's epoch.
    Epoch(Arc<str>),
    /// Where a source's reader resumes.
    Checkpoint(Arc<str>),
    /// A reconciliation run of a feed.
    Run(Arc<str>, Arc<str>),
    /// What a role last said of itself: role, process.
    Status(Arc<str>, Arc<str>),
}

/// A compare-and-set attempt's own random id. A cell carries that of the attempt that wrote it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Token(pub u128);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({:032x})", self.0)
    }
}

/// A cell's value, and the attempt that wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cell {
    /// The attempt.
    pub token: Token,
    /// The value, at most [`CellKey::value_max`] bytes.
    pub value: Bytes,
}

/// Largest value of a cell, in bytes: a lightweight transaction carries it whole.
pub const CELL_MAX: usize = 4096;

/// Largest value of a cell that is moved rarely and lists buckets, columns or GTIDs, and of a history line, in bytes.
pub const LARGE_CELL_MAX: usize = 256 * 1024;

impl CellKey {
    /// Largest value that this cell takes, in bytes. A bucket's head and the lease are moved all the time and stay small.
    pub const fn value_max(&self) -> usize {
        match self {
            CellKey::Lineage
            | CellKey::Head(..)
            | CellKey::ReplaceRequest(..)
            | CellKey::Lease(_) => CELL_MAX,
            CellKey::CutsHead(_)
            | CellKey::Columns(_)
            | CellKey::Schema(_)
            | CellKey::Epoch(_)
            | CellKey::Checkpoint(_)
            | CellKey::Run(..)
            | CellKey::Status(..) => LARGE_CELL_MAX,
        }
    }
}

impl fmt::Display for CellKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CellKey::Lineage => f.write_str("lineage"),
            CellKey::Head(feed, bucket) => write!(f, "head of {feed}, bucket {bucket}"),
            CellKey::CutsHead(feed) => write!(f, "head of {feed}, cuts"),
            CellKey::Columns(feed) => write!(f, "columns of {feed}"),
            CellKey::Schema(feed) => write!(f, "schema of {feed}"),
            CellKey::ReplaceRequest(feed, bucket) => {
                write!(f, "replace request of {feed}, bucket {bucket}")
            }
            CellKey::Lease(source) => write!(f, "lease of {source}"),
            CellKey::Epoch(source) => write!(f, "epoch of {source}"),
            CellKey::Checkpoint(source) => write!(f, "checkpoint of {source}"),
            CellKey::Run(feed, id) => write!(f, "run {id} of {feed}"),
            CellKey::Status(role, process) => write!(f, "status of {role} {process}"),
        }
    }
}

/// Largest part of a segment, in bytes.
pub const PART_MAX: usize = 256 * 1024;

/// An immutable segment's id: random, unique, never used again.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SegmentId(pub u128);

impl fmt::Debug for SegmentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Segment({:032x})", self.0)
    }
}

/// What became of a compare-and-set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cas {
    /// The cell is ours now.
    Won,
    /// It was not what we expected: this is what stands there. It may be our own attempt, from before a lost answer:
    /// compare tokens.
    Lost(Option<Cell>),
}

/// One line of a feed's history index. Several processes write them: time and id together are its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryLine {
    /// When it was written, microseconds since 1970 by the merger's clock.
    pub at: i64,
    /// Random: tells lines of one time apart.
    pub id: u128,
    /// What: see [`index::Entry`]. At most [`LARGE_CELL_MAX`] bytes.
    pub value: Bytes,
}

/// Why the store did not do what was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Certainly not done; may work later.
    #[error("the store cannot be reached: {reason}; check that it is there and may be used")]
    Unavailable {
        /// What it said.
        reason: String,
    },
    /// Perhaps done, perhaps not: read back and compare tokens.
    #[error(
        "the store did not answer, what was asked may or may not be done: {reason}; it is read back before anything else"
    )]
    Unknown {
        /// What it said.
        reason: String,
    },
    /// A segment that a head names is not there, or not all of it.
    #[error(
        "feed {feed}: part {part} of {segment:?} is missing from the store; the reader will be asked for the bucket again"
    )]
    Missing {
        /// The feed.
        feed: Arc<str>,
        /// Which.
        segment: SegmentId,
        /// Which part of it.
        part: u32,
    },
    /// The disk or the quota is full: nothing was written, nothing is lost.
    #[error("{place}: no room to write: {reason}; free some room, OnAir goes on by itself")]
    Full {
        /// Path or host.
        place: String,
        /// What the system said.
        reason: String,
    },
    /// Another process has it.
    #[error("{place} is in use by another process; stop that one, or use another --data-dir")]
    InUse {
        /// Path.
        place: String,
    },
    /// It was written by another release, or its bytes are damaged.
    #[error("{place}: {reason}; {remedy}")]
    Unreadable {
        /// Path, cell or segment.
        place: String,
        /// What is wrong.
        reason: String,
        /// What to do.
        remedy: String,
    },
    /// A value is larger than the contract allows: a bug, or a setting out of proportion.
    #[error("{what} has {bytes} bytes, more than the {max} allowed; {remedy}")]
    TooLarge {
        /// What.
        what: String,
        /// How large.
        bytes: usize,
        /// How large it may be.
        max: usize,
        /// What to do.
        remedy: &'static str,
    },
}

/// Where base shards, cells and history stand. Calls may be slow, fail, or leave their outcome unknown.
#[async_trait]
pub trait ShardStore: Send + Sync + fmt::Debug {
    /// Reads one cell, linearizable with [`ShardStore::cas`]. An attempt whose outcome is unknown and that it does not
    /// show may still be on its way.
    async fn cell(&self, key: &CellKey) -> Result<Option<Cell>, StoreError>;

    /// Writes `new` if the cell's token is `expect` (`None`: if there is no cell). `new: None` deletes it.
    async fn cas(
        &self,
        key: &CellKey,
        expect: Option<Token>,
        new: Option<Cell>,
    ) -> Result<Cas, StoreError>;

    /// Every cell of the same kind and first name as `like`, by ascending key: the runs of a feed, a role's processes,
    /// a feed's heads. Of one moment only cell by cell.
    async fn cells(&self, like: &CellKey) -> Result<Vec<(CellKey, Cell)>, StoreError>;

    /// Writes a new segment's parts, in any order; `Ok`: all are there, and are as lasting as any cell moved after it.
    /// Anything else: perhaps some of them; use another id.
    async fn write_segment(
        &self,
        feed: &str,
        id: SegmentId,
        parts: Vec<Bytes>,
    ) -> Result<(), StoreError>;

    /// Reads all parts of a segment, in order.
    async fn read_segment(
        &self,
        feed: &str,
        id: SegmentId,
        parts: u32,
    ) -> Result<Vec<Bytes>, StoreError>;

    /// Deletes a segment that nothing names any more, part by part; what is gone already is fine.
    async fn delete_segment(&self, feed: &str, id: SegmentId, parts: u32)
    -> Result<(), StoreError>;

    /// Adds a line to the history index. Writing the same line again changes nothing.
    async fn write_history(&self, feed: &str, line: HistoryLine) -> Result<(), StoreError>;

    /// Lines with `from <= at < to`, ascending, about `limit`: lines of one time are given together, so that the next
    /// page begins at the last time and 1.
    async fn history(
        &self,
        feed: &str,
        from: i64,
        to: i64,
        limit: usize,
    ) -> Result<Vec<HistoryLine>, StoreError>;

    /// Deletes lines by their times and ids; what is gone already is fine.
    async fn delete_history(&self, feed: &str, lines: &[(i64, u128)]) -> Result<(), StoreError>;
}

/// Refuses what is larger than the contract allows.
fn fits(what: &dyn fmt::Display, bytes: usize, max: usize) -> Result<(), StoreError> {
    if bytes <= max {
        return Ok(());
    }
    Err(StoreError::TooLarge {
        what: what.to_string(),
        bytes,
        max,
        remedy: "use fewer buckets a feed, fewer feeds a source, or fewer columns",
    })
}
