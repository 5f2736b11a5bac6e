//! Events, commits and bucket records: what the reader writes to the log for one bucket.

use crate::digest::Digest;
use crate::gtid::Gtid;
use crate::key::{Key, Row};
use crate::version::{Epoch, Lineage, Version};

/// What one transaction did to one key of the live set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The key came on air with this row.
    On {
        /// The key.
        key: Key,
        /// Its row.
        row: Row,
    },
    /// The key stayed on air; its row changed to this.
    Change {
        /// The key.
        key: Key,
        /// Its row from now on.
        row: Row,
    },
    /// The key went off air.
    Off {
        /// The key.
        key: Key,
    },
}

impl Event {
    /// The key.
    pub const fn key(&self) -> &Key {
        match self {
            Event::On { key, .. } | Event::Change { key, .. } | Event::Off { key } => key,
        }
    }

    /// The row after it, `None` when off.
    pub const fn row(&self) -> Option<&Row> {
        match self {
            Event::On { row, .. } | Event::Change { row, .. } => Some(row),
            Event::Off { .. } => None,
        }
    }

    /// Bytes of key and row, for bounds.
    pub fn size(&self) -> usize {
        self.key().with_bytes(<[u8]>::len) + self.row().map_or(0, |row| row.bytes().len())
    }
}

/// What one transaction did to one bucket: all of it, together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    /// The transaction's version.
    pub version: Version,
    /// When the source committed it, microseconds since 1970.
    pub commit_time: i64,
    /// The transaction.
    pub gtid: Gtid,
    /// Its events in this bucket, at most one a key, by ascending key.
    pub events: Vec<Event>,
}

/// One record of a bucket's partition, or a numbered part of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The world it belongs to.
    pub lineage: Lineage,
    /// The epoch it belongs to.
    pub epoch: Epoch,
    /// What it says of the content.
    pub body: Body,
    /// The bucket is complete through this version.
    pub through: Version,
    /// Digest of the bucket after the record.
    pub digest: Digest,
    /// Rows of the bucket after the record.
    pub count: u64,
    /// Source time through which the content is complete, microseconds since 1970.
    pub source_time: i64,
    /// The process that wrote it: new with each process.
    pub reader_id: u64,
    /// Which part of it this is, from 0.
    pub part: u32,
    /// Of how many; 1 when it is whole. The digest and count of the last part count.
    pub parts: u32,
}

/// The content of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// The transactions after `prev`; none is progress only.
    Commits {
        /// The bucket's data version before the first of them.
        prev: Version,
        /// Ascending by version.
        commits: Vec<Commit>,
    },
    /// The full content at the bucket's last data version.
    Replace {
        /// That version.
        d: Version,
        /// All rows, any order.
        rows: Vec<(Key, Row)>,
    },
    /// The content of another epoch goes on unchanged in this one, at its start.
    Carry {
        /// The bucket's last data version there. Digest and count stand in the record.
        old: Version,
    },
}

impl Record {
    /// The highest data version that it names for the bucket.
    pub fn claims(&self) -> Version {
        match &self.body {
            Body::Commits { prev, commits } => commits.last().map_or(*prev, |last| last.version),
            Body::Replace { d, .. } => *d,
            Body::Carry { .. } => self.epoch.start(),
        }
    }
}
