//! From a base over deltas to a version: which segments lead there, and what they hold.

use std::sync::Arc;

use onair_model::assembly::apply;
use onair_model::fold::{replay, sum_of};
use onair_model::{Bucket, Commit, Digest, Epoch, Sum, Version};

use super::{Content, Last, PastError, of};
use crate::head::{self, LoadError, SegmentRef};
use crate::{ShardStore, StoreError};

/// Segments of one bucket that are known.
#[derive(Clone, Debug, Default)]
pub(super) struct Segments {
    pub(super) bases: Vec<SegmentRef>,
    pub(super) deltas: Vec<SegmentRef>,
}

/// A base, and the deltas on it that lead to a version. Only the last may lead beyond.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Route {
    base: SegmentRef,
    deltas: Vec<SegmentRef>,
}

impl Segments {
    pub(super) fn add<'a>(
        &mut self,
        bases: impl IntoIterator<Item = &'a SegmentRef>,
        deltas: impl IntoIterator<Item = &'a SegmentRef>,
    ) {
        self.bases.extend(bases);
        self.deltas.extend(deltas);
    }

    /// Forgets those of earlier epochs.
    pub(super) fn begin_with(&mut self, first: Epoch) {
        self.bases.retain(|base| base.d.epoch() >= first);
        self.deltas.retain(|delta| delta.d.epoch() >= first);
    }

    /// The way to `version`. `complete`: the data version at which the bucket is complete through it, where that is
    /// known; else a delta must lead there or beyond.
    pub(super) fn route(&self, version: Version, complete: Option<Version>) -> Option<Route> {
        let is_near = |base: &&SegmentRef| base.d <= version && base.d.epoch() == version.epoch();
        let mut bases: Vec<&SegmentRef> = self.bases.iter().filter(is_near).collect();
        bases.sort_unstable_by_key(|base| std::cmp::Reverse(base.d));
        bases
            .into_iter()
            .find_map(|base| self.route_from(base, version, complete))
    }

    fn route_from(
        &self,
        base: &SegmentRef,
        version: Version,
        complete: Option<Version>,
    ) -> Option<Route> {
        let mut deltas = Vec::new();
        let mut d = base.d;
        while d < version && complete != Some(d) {
            let next = self.next(d, version)?;
            d = next.d;
            deltas.push(*next);
        }
        Some(Route {
            base: *base,
            deltas,
        })
    }

    /// The delta that leads on from `d`: the shortest that reaches `to`, else the longest.
    pub(super) fn next(&self, d: Version, to: Version) -> Option<&SegmentRef> {
        let leads_on =
            |delta: &&SegmentRef| delta.prev <= d && delta.d > d && delta.d.epoch() == d.epoch();
        let on = || self.deltas.iter().filter(leads_on);
        let reaches = on()
            .filter(|delta| delta.d >= to)
            .min_by_key(|delta| (delta.d, std::cmp::Reverse(delta.prev)));
        reaches.or_else(|| on().max_by_key(|delta| delta.d))
    }
}

/// Why segments do not give what they should.
#[derive(Debug)]
pub(super) enum Broken {
    Load(LoadError),
    /// At this version the digest or the chain is another.
    Digest(Version),
}

impl Broken {
    pub(super) fn of(self, feed: &Arc<str>, bucket: Bucket, version: Version) -> PastError {
        let of_feed = Arc::clone(feed);
        match self {
            Broken::Digest(version) => PastError::Digest {
                feed: of_feed,
                bucket,
                version,
            },
            Broken::Load(LoadError::Store(source @ StoreError::Missing { .. })) => {
                PastError::Gone {
                    feed: of_feed,
                    bucket,
                    version,
                    source,
                }
            }
            Broken::Load(error) => of(feed, error),
        }
    }
}

impl Route {
    /// The content at `version`.
    pub(super) async fn read(
        &self,
        store: &dyn ShardStore,
        feed: &Arc<str>,
        version: Version,
    ) -> Result<Content, Broken> {
        let mut walk = Walk::begin(store, feed, &self.base).await?;
        for delta in &self.deltas {
            walk.delta(store, feed, delta, version, |_| {}).await?;
        }
        Ok(walk.content)
    }
}

/// A bucket's content on its way along segments.
#[derive(Debug)]
pub(super) struct Walk {
    pub(super) content: Content,
}

impl Walk {
    /// At a base.
    pub(super) async fn begin(
        store: &dyn ShardStore,
        feed: &Arc<str>,
        base: &SegmentRef,
    ) -> Result<Self, Broken> {
        let rows = head::read_base(store, feed, base).await;
        let rows = rows.map_err(Broken::Load)?;
        let sum = sum_of(rows.iter().map(|(key, row)| Digest::of(key, row)));
        if sum != base.sum {
            return Err(Broken::Digest(base.d));
        }
        Ok(Walk {
            content: Content {
                d: base.d,
                sum,
                rows,
                last: None,
            },
        })
    }

    /// Over a delta's commits up to `to`; all of them are verified. `each` sees every one that is new.
    pub(super) async fn delta(
        &mut self,
        store: &dyn ShardStore,
        feed: &Arc<str>,
        delta: &SegmentRef,
        to: Version,
        mut each: impl FnMut(&Commit) + Send,
    ) -> Result<(), Broken> {
        let commits = head::read_delta(store, feed, delta).await;
        let commits = commits.map_err(Broken::Load)?;
        let now = &mut self.content;
        let known = commits.partition_point(|commit| commit.version <= now.d);
        // The delta's chain must come by where we are.
        let before = match known.checked_sub(1) {
            Some(at) => commits[at].version,
            None => delta.prev,
        };
        if before != now.d {
            return Err(Broken::Digest(now.d));
        }
        let fresh = &commits[known..];
        let sums = replay(now.sum, &now.rows, fresh).ok_or(Broken::Digest(delta.d))?;
        let end: (Option<Version>, Option<&Sum>) =
            (fresh.last().map(|last| last.version), sums.last());
        if end != (Some(delta.d), Some(&delta.sum)) {
            return Err(Broken::Digest(delta.d));
        }
        for (commit, sum) in fresh.iter().zip(sums) {
            if commit.version > to {
                break;
            }
            each(commit);
            apply(&mut now.rows, &commit.events);
            now.d = commit.version;
            now.sum = sum;
            now.last = Some(Last {
                version: commit.version,
                gtid: commit.gtid,
                commit_time: commit.commit_time,
            });
        }
        Ok(())
    }
}
