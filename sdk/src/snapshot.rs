//! What a reader holds: one version of a feed, whole and verified, for as long as he likes.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use onair_model::schema::Schema;
use onair_model::{Digest, Gtid, GtidSet, Key, Lineage, Proven, Version};
use tokio::time::Instant;

use crate::changes::{self, Step};
use crate::clock::Reading;
use crate::key::AsKey;
use crate::session::Verified;

/// A feed at one version: immutable, cheap to clone, the same until dropped. Versions share the rows that they
/// have in common, so a snapshot that is kept costs what changed since.
pub struct Snapshot<T> {
    pub(crate) held: Arc<Held<T>>,
}

/// A verified version, and how it came to be the one held.
pub(crate) struct Held<T> {
    pub(crate) verified: Verified<T>,
    pub(crate) age: Reading,
    /// Its place among the versions that this feed has shown; 0 is before the first.
    pub(crate) ordinal: u64,
    /// How many of them came whole, and how many went back.
    pub(crate) wholes: u64,
    pub(crate) rewinds: u64,
    /// What it may differ in from the one before it, keys ascending; `None` when it came whole.
    pub(crate) touched: Option<Arc<[Key]>>,
    /// Why the last whole one came whole.
    pub(crate) reason: Arc<str>,
}

impl<T> Snapshot<T> {
    /// The row of a key: an integer of any width, text, bytes, a tuple of them, or a [`Key`].
    #[inline]
    pub fn get(&self, key: &(impl AsKey + ?Sized)) -> Option<&T> {
        self.held.verified.content.get(key)
    }

    /// Whether the key is live.
    pub fn contains(&self, key: &(impl AsKey + ?Sized)) -> bool {
        self.get(key).is_some()
    }

    /// All rows, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&Key, &T)> {
        self.held.verified.content.iter()
    }

    /// What changed from an older snapshot of the same feed to this one. Costs what changed.
    pub fn since(&self, older: &Snapshot<T>) -> Step<T>
    where
        T: Clone,
    {
        changes::step(Some(older), self)
    }

    /// How many rows.
    pub fn len(&self) -> usize {
        self.held.verified.content.sum().count as usize
    }

    /// Whether no row is live.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The version: of two in one lineage, the higher is the later.
    pub fn version(&self) -> Version {
        self.held.verified.seal.version
    }

    /// The world that the version belongs to.
    pub fn lineage(&self) -> Lineage {
        self.held.verified.seal.lineage
    }

    /// The newest scan of the source that agreed with the feed, if there was one.
    pub fn proven(&self) -> Option<Proven> {
        self.held.verified.seal.proven
    }

    /// The last transaction of the feed contained; none since the epoch's scan: `None`.
    pub fn gtid(&self) -> Option<&Gtid> {
        self.held.verified.seal.gtid.as_ref()
    }

    /// The source's GTID set at which the content is exact: every transaction in it is contained, no other.
    pub fn executed(&self) -> &GtidSet {
        &self.held.verified.seal.executed
    }

    /// The digest that the rows were verified against.
    pub fn digest(&self) -> Digest {
        self.held.verified.seal.digest
    }

    /// When the source committed the version, microseconds since 1970 by its clock.
    pub fn commit_time(&self) -> i64 {
        self.held.verified.seal.commit_time
    }

    /// Source time through which the content is known to be complete, microseconds since 1970.
    pub fn source_time(&self) -> i64 {
        self.held.verified.seal.source_time
    }

    /// Time since the content was last known to be complete.
    pub fn age(&self) -> Duration {
        self.held.age.age_at(Instant::now())
    }

    /// The feed's columns.
    pub fn schema(&self) -> &Schema {
        self.held.verified.content.schema()
    }
}

impl<T> Clone for Snapshot<T> {
    fn clone(&self) -> Self {
        Snapshot {
            held: self.held.clone(),
        }
    }
}

impl<T> fmt::Debug for Snapshot<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot")
            .field("feed", &self.schema().feed)
            .field("version", &self.version())
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}
