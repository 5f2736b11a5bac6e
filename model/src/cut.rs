//! Cuts: versions at which the reader states the whole feed, and the rule that admits them.

use std::sync::Arc;

use crate::bucket::Bucket;
use crate::digest::Digest;
use crate::gtid::{Gtid, GtidSet};
use crate::plant::{Bug, planted};
use crate::version::{Epoch, Lineage, Version};

/// A scan of the source agreed with the content at this version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Proven {
    /// The version.
    pub version: Version,
    /// When, microseconds since 1970 by the reader's clock.
    pub at: i64,
}

/// What the reader states of the whole feed at one version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CutRecord {
    /// The world it belongs to.
    pub lineage: Lineage,
    /// The version before it at which its reader stated a cut; its own version for the first of a reader's life.
    pub prev_cut: Version,
    /// The source's last version in the flush.
    pub version: Version,
    /// When the source committed that version, microseconds since 1970.
    pub commit_time: i64,
    /// Source time through which the content is complete, microseconds since 1970.
    pub source_time: i64,
    /// The last transaction of this feed contained; none since the epoch's scan: `None`.
    pub gtid: Option<Gtid>,
    /// The reader's whole GTID set in a full cut; what came to it since `prev_cut` in a partial one.
    pub executed: GtidSet,
    /// Binlog file and position, for people.
    pub position: String,
    /// Digest of the whole feed at `version`.
    pub digest: Digest,
    /// Rows of the whole feed at `version`.
    pub count: u64,
    /// Last data version, at `version`, of each bucket touched since `prev_cut`; of every bucket in a full cut.
    pub touched: Vec<(Bucket, Version)>,
    /// Whether it names every bucket and the whole GTID set.
    pub full: bool,
    /// The newest proof.
    pub proven: Option<Proven>,
    /// The source lost transactions that the epoch before had: what is shown goes back.
    pub lost_tail: bool,
}

impl CutRecord {
    /// Its epoch.
    pub const fn epoch(&self) -> Epoch {
        self.version.epoch()
    }
}

/// The last cut taken, and everything that the cuts taken so far add up to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// Its version.
    pub version: Version,
    /// Last data version of each bucket at it.
    pub vector: Vec<Version>,
    /// The reader's whole GTID set at it.
    pub executed: Arc<GtidSet>,
    /// Commit time of its version.
    pub commit_time: i64,
    /// Source time through which it is complete.
    pub source_time: i64,
    /// Last transaction of the feed contained.
    pub gtid: Option<Gtid>,
    /// Digest of the feed.
    pub digest: Digest,
    /// Rows of the feed.
    pub count: u64,
    /// Newest proof.
    pub proven: Option<Proven>,
    /// Whether its epoch began by losing transactions.
    pub lost_tail: bool,
    /// Binlog position, for people.
    pub position: String,
}

/// What became of a cut record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admitted {
    /// It is the last cut taken now.
    Taken,
    /// Our version again: it agreed, its newer times and proof were merged.
    Merged,
    /// Older than ours, or of another world.
    Dropped,
    /// It follows a cut that we have not seen: a full one will come.
    Hole,
    /// It contradicts the cut that we took.
    Fork,
}

/// Applies DESIGN section 3 to one cut record.
pub fn admit(
    lineage: Lineage,
    buckets: usize,
    taken: &mut Option<Taken>,
    cut: &CutRecord,
) -> Admitted {
    if cut.lineage != lineage && !planted(Bug::ForeignCutTaken) {
        return Admitted::Dropped;
    }
    if cut.full {
        if let Some(held) = taken
            && let Some(known) = against(held, cut)
        {
            return known;
        }
        let mut named = vec![None; buckets];
        for (bucket, d) in &cut.touched {
            if let Some(slot) = named.get_mut(bucket.index()) {
                *slot = Some(*d);
            }
        }
        let Some(vector) = named.into_iter().collect() else {
            return Admitted::Hole;
        };
        // An epoch that lost a tail is told so until the next one.
        let same_epoch = (taken.as_ref()).filter(|held| held.version.epoch() == cut.epoch());
        let lost_tail = cut.lost_tail || same_epoch.is_some_and(|held| held.lost_tail);
        let source_time = same_epoch.map_or(cut.source_time, |held| {
            held.source_time.max(cut.source_time)
        });
        *taken = Some(Taken {
            version: cut.version,
            vector,
            executed: Arc::new(cut.executed.clone()),
            commit_time: cut.commit_time,
            source_time,
            gtid: cut.gtid,
            digest: cut.digest,
            count: cut.count,
            proven: cut.proven.max(taken.as_ref().and_then(|held| held.proven)),
            lost_tail,
            position: cut.position.clone(),
        });
        return Admitted::Taken;
    }
    let Some(held) = taken else {
        return Admitted::Hole;
    };
    if let Some(known) = against(held, cut) {
        return known;
    }
    let crosses = cut.epoch() != held.version.epoch() && !planted(Bug::CutEpochCrossed);
    let skips = cut.prev_cut > held.version && !planted(Bug::CutHoleTaken);
    if crosses || skips {
        return Admitted::Hole;
    }
    for (bucket, d) in &cut.touched {
        if let Some(slot) = held.vector.get_mut(bucket.index()) {
            *slot = *d;
        }
    }
    held.version = cut.version;
    if !cut.executed.is_empty() {
        Arc::make_mut(&mut held.executed).union(&cut.executed);
    }
    held.commit_time = cut.commit_time;
    held.source_time = held.source_time.max(cut.source_time);
    held.gtid = cut.gtid.or(held.gtid);
    held.digest = cut.digest;
    held.count = cut.count;
    held.proven = held.proven.max(cut.proven);
    held.lost_tail |= cut.lost_tail;
    held.position.clone_from(&cut.position);
    Admitted::Taken
}

/// What a cut at or below the one held is; `None` when it is newer.
fn against(held: &mut Taken, cut: &CutRecord) -> Option<Admitted> {
    let older = cut.version < held.version;
    if older && !planted(Bug::OlderCutTaken) {
        return Some(Admitted::Dropped);
    }
    if older || cut.version > held.version {
        return None;
    }
    if (cut.digest != held.digest || cut.count != held.count) && !planted(Bug::CutUnchecked) {
        return Some(Admitted::Fork);
    }
    if !held.executed.contains_set(&cut.executed) {
        Arc::make_mut(&mut held.executed).union(&cut.executed);
    }
    held.source_time = held.source_time.max(cut.source_time);
    held.proven = held.proven.max(cut.proven);
    held.lost_tail |= cut.lost_tail;
    Some(Admitted::Merged)
}
