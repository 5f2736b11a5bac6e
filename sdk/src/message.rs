//! The messages of a stream as the replica sees them: no generated type, every number checked.

use std::sync::Arc;

use onair_model::schema::Schema;
use onair_model::{Buckets, GtidSet, Lineage, Proven, Seal, Version};
use onair_proto::entries::Entries;

/// A message of the stream, its numbers checked.
#[derive(Clone, Debug)]
pub(crate) enum Message {
    Start(Start),
    Chunk {
        version: Version,
        index: u32,
        entries: Entries,
    },
    Frame {
        from: Version,
        to: Version,
        exact: bool,
        entries: Entries,
    },
    Seal(Seal),
    Progress(Progress),
    GoAway {
        retry_after_ms: u32,
        reason: String,
    },
    /// A kind that this client does not know.
    Unknown,
    NotYet {
        version: Version,
        retry_after_ms: u32,
    },
}

#[derive(Clone, Debug)]
pub(crate) enum Start {
    Full(Whole),
    Resume {
        lineage: Lineage,
        schema: Option<Arc<Schema>>,
    },
}

/// What a whole snapshot says before its chunks.
#[derive(Clone, Debug)]
pub(crate) struct Whole {
    pub(crate) reason: String,
    pub(crate) lineage: Lineage,
    pub(crate) schema: Arc<Schema>,
    pub(crate) layout: Buckets,
    pub(crate) count: u64,
    pub(crate) version: Version,
}

#[derive(Clone, Debug)]
pub(crate) struct Progress {
    pub(crate) version: Version,
    pub(crate) source_time: i64,
    pub(crate) executed: GtidSet,
    pub(crate) proven: Option<Proven>,
    pub(crate) held: String,
    pub(crate) age_ms: u64,
}
