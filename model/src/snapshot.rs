//! Snapshots: the content of a feed at one cut, immutable and shared.

use std::sync::Arc;

use crate::bucket::Buckets;
use crate::cut::Proven;
use crate::digest::Digest;
use crate::gtid::{Gtid, GtidSet};
use crate::key::{Key, Row};
use crate::rows::Rows;
use crate::version::{Lineage, Version};

/// What is known of a cut beside its rows: the proof that travels with every snapshot and frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seal {
    /// The world.
    pub lineage: Lineage,
    /// The cut's version.
    pub version: Version,
    /// Digest of the content.
    pub digest: Digest,
    /// Rows of the content.
    pub count: u64,
    /// When the source committed the version, microseconds since 1970.
    pub commit_time: i64,
    /// Source time through which the content is known to be complete, microseconds since 1970.
    pub source_time: i64,
    /// Last transaction of the feed contained.
    pub gtid: Option<Gtid>,
    /// The source's GTID set at which the content is exact.
    pub executed: Arc<GtidSet>,
    /// Newest proof against the source.
    pub proven: Option<Proven>,
    /// The source lost transactions before this epoch: the content went back.
    pub rewound: bool,
}

/// The content of a feed at one cut.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// What it is, and its proof.
    pub seal: Seal,
    /// How keys spread over buckets.
    pub layout: Buckets,
    /// Rows by bucket.
    pub buckets: Vec<Rows<Row>>,
}

impl Snapshot {
    /// The row of a key.
    pub fn get(&self, key: &Key) -> Option<&Row> {
        self.buckets[self.layout.of(key).index()].get(key)
    }

    /// All rows, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&Key, &Row)> {
        self.buckets.iter().flat_map(Rows::iter)
    }
}
