//! What a server can send that a replica does not take.

use onair_model::{Digest, Version};
use onair_proto::entries::EntriesError;

/// Why a group of messages was refused. Nothing of it became visible; the version held stays.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// A message is not what it should be.
    #[error("a message is malformed: {0}")]
    Malformed(String),
    /// A message came where it has no meaning.
    #[error("unexpected: {0}")]
    Unexpected(&'static str),
    /// The server goes on from something that we do not hold.
    #[error("the server goes on from a version that this client does not hold")]
    NothingToResume,
    /// Messages of two lineages are in one group.
    #[error("the stream changed its lineage without a snapshot")]
    Lineage,
    /// The columns are others than before, so every row must be read again.
    #[error("the feed's columns changed")]
    Schema,
    /// A snapshot has a chunk of another version.
    #[error("a chunk of version {chunk} in a snapshot of version {snapshot}")]
    ChunkVersion {
        /// What the snapshot began as.
        snapshot: Version,
        /// What the chunk says.
        chunk: Version,
    },
    /// A chunk is missing, came twice, or has an index that cannot be.
    #[error("chunk {0} is missing, came twice, or cannot be")]
    ChunkIndex(u32),
    /// A snapshot names a key twice.
    #[error("a snapshot names a key twice")]
    KeyTwice,
    /// More rows than the server said, or than this client takes.
    #[error("more than {0} rows")]
    TooMany(u64),
    /// A message is longer than this client takes.
    #[error("a message is too long: {0}")]
    TooLong(String),
    /// A frame does not follow the version held.
    #[error("a frame from {from} to {to} does not follow version {ours}")]
    FrameRange {
        /// The version before the frame.
        from: Version,
        /// The version after it.
        to: Version,
        /// The version held.
        ours: Version,
    },
    /// A seal closes another version than the one before it.
    #[error("a seal of version {sealed} after the content of version {expected}")]
    SealVersion {
        /// The version of what came before it.
        expected: Version,
        /// The version that it says.
        sealed: Version,
    },
    /// The digest of the result differs from the seal's.
    #[error("version {version} has digest {found}, its seal says {stated}")]
    Digest {
        /// The version.
        version: Version,
        /// What the seal says.
        stated: Digest,
        /// What the rows give.
        found: Digest,
    },
    /// The count of the result differs from the seal's.
    #[error("version {version} has {found} rows, its seal says {stated}")]
    Count {
        /// The version.
        version: Version,
        /// What the seal says.
        stated: u64,
        /// How many rows there are.
        found: u64,
    },
    /// The server offers an older version than the one held.
    #[error("the server offers version {theirs}, older than version {ours} held")]
    Backwards {
        /// The version held.
        ours: Version,
        /// The version offered.
        theirs: Version,
    },
    /// The server has other content at the version held.
    #[error("the server has other content at version {0}")]
    OtherContent(Version),
    /// A later epoch lacks transactions that the version held contains, and does not say so.
    #[error("version {theirs} does not contain every transaction of version {ours} held")]
    LosesTransactions {
        /// The version held.
        ours: Version,
        /// The version offered.
        theirs: Version,
    },
}

impl Refusal {
    /// Whether what the server sent is damaged, so that the next subscription asks for everything anew; otherwise
    /// it is sound, but nothing to exchange the version held for.
    pub(crate) const fn is_damage(&self) -> bool {
        !matches!(
            self,
            Refusal::Backwards { .. }
                | Refusal::OtherContent(_)
                | Refusal::LosesTransactions { .. }
        )
    }
}

impl From<EntriesError> for Refusal {
    fn from(error: EntriesError) -> Self {
        Refusal::Malformed(error.to_string())
    }
}
