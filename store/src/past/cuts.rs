//! The full cuts around a moment. The index may be long and can only be read forward: what lies between is left out by
//! halving, as cuts ascend with the time of their lines.

use std::sync::Arc;

use onair_model::{Bucket, CutRecord, Version};

use super::{Moment, Pages, PastError, of, time_of};
use crate::head::CutsHead;
use crate::index::Entry;
use crate::{CellKey, ShardStore};

/// Lines that a look for the next cut reads at once.
const LOOK: usize = 16;

/// Microseconds of the index that are read line by line rather than halved.
const SPAN: i64 = 60_000_000;

/// The cuts around a moment, of those in the index and in the cuts head.
#[derive(Clone, Debug, Default)]
pub(super) struct Around {
    /// The last one at or before it.
    pub(super) before: Option<CutRecord>,
    /// The first one after it, and its time.
    pub(super) after: Option<(CutRecord, i64)>,
    /// Segments that it needs and that no head names are entered in the index from here on, but for the slack.
    pub(super) at: i64,
    newest: Option<Version>,
}

#[derive(Debug)]
struct Line {
    at: i64,
    cut: CutRecord,
}

impl Line {
    fn is_after(&self, moment: Moment) -> bool {
        moment.is_before(&self.cut, time_of(&self.cut, self.at))
    }
}

/// Finds them.
pub(super) async fn around(
    store: &dyn ShardStore,
    feed: &Arc<str>,
    moment: Moment,
) -> Result<Around, PastError> {
    let mut found = in_index(store, feed, moment).await?;
    let key = CellKey::CutsHead(Arc::clone(feed));
    let cell = store.cell(&key).await.map_err(|error| of(feed, error))?;
    let Some(cell) = cell else { return Ok(found) };
    let newest = CutsHead::from_bytes(feed, &cell.value).map_err(|error| of(feed, error))?;
    let newest = newest.cut;
    found.newest = Some(newest.version);
    // Where the cut has no time of its own it stands in the index as well, with that of its line.
    let time = time_of(&newest, i64::MAX);
    if moment.is_before(&newest, time) {
        found.after.get_or_insert((newest, time));
    } else if (found.before.as_ref()).is_none_or(|before| before.version <= newest.version) {
        found.before = Some(newest);
    }
    Ok(found)
}

async fn in_index(
    store: &dyn ShardStore,
    feed: &Arc<str>,
    moment: Moment,
) -> Result<Around, PastError> {
    let Some(mut low) = next_cut(store, feed, 0).await? else {
        return Ok(Around::default());
    };
    if low.is_after(moment) {
        let time = time_of(&low.cut, low.at);
        return Ok(Around {
            after: Some((low.cut, time)),
            ..Around::default()
        });
    }
    // In longer and longer steps until a cut is after the moment, or there is none; then by halves.
    let mut step = SPAN;
    let mut high = loop {
        let at = low.at.saturating_add(step);
        match next_cut(store, feed, at).await? {
            Some(next) if !next.is_after(moment) => low = next,
            _ => break at,
        }
        step = step.saturating_mul(2);
    };
    while high.saturating_sub(low.at) > SPAN {
        let middle = low.at + (high - low.at) / 2;
        match next_cut(store, feed, middle).await? {
            Some(next) if !next.is_after(moment) => low = next,
            _ => high = middle,
        }
    }
    let mut found = Around {
        at: low.at,
        ..Around::default()
    };
    let mut pages = Pages {
        from: low.at,
        size: LOOK,
    };
    while let Some(page) = pages.next(store, feed).await? {
        for (at, entry) in page {
            match entry {
                Entry::Cut(cut) if moment.is_before(&cut, time_of(&cut, at)) => {
                    let time = time_of(&cut, at);
                    found.after = Some((cut, time));
                    return Ok(found);
                }
                // Two mergers may enter theirs the other way round.
                Entry::Cut(cut)
                    if (found.before.as_ref())
                        .is_none_or(|before| before.version <= cut.version) =>
                {
                    found.before = Some(cut);
                    found.at = at;
                }
                _ => {}
            }
        }
    }
    Ok(found)
}

/// The first cut of the index at or after a time.
async fn next_cut(
    store: &dyn ShardStore,
    feed: &Arc<str>,
    from: i64,
) -> Result<Option<Line>, PastError> {
    let mut pages = Pages { from, size: LOOK };
    while let Some(page) = pages.next(store, feed).await? {
        for (at, entry) in page {
            if let Entry::Cut(cut) = entry {
                return Ok(Some(Line { at, cut }));
            }
        }
    }
    Ok(None)
}

impl Around {
    /// The data version at which a bucket is complete through `version`, as far as the cuts say.
    pub(super) fn complete(&self, bucket: Bucket, version: Version) -> Option<Version> {
        let d = |cut: &CutRecord| {
            let mut named = cut.touched.iter();
            named.find(|(of, _)| *of == bucket).map(|(_, d)| *d)
        };
        let stated = self.before.as_ref().filter(|cut| cut.version == version);
        if let Some(cut) = stated {
            return d(cut);
        }
        let (after, _) = self.after.as_ref()?;
        if after.epoch() != version.epoch() {
            return None;
        }
        d(after).filter(|d| *d <= version)
    }

    /// Why there is no cut at or before the moment.
    pub(super) fn nothing_before(&self, feed: &Arc<str>, asked: Moment) -> PastError {
        let feed = Arc::clone(feed);
        match &self.after {
            Some((oldest, time)) => PastError::TooOld {
                feed,
                asked,
                version: oldest.version,
                time: *time,
            },
            None => PastError::Nothing { feed },
        }
    }

    /// Why nothing leads to a version.
    pub(super) fn no_route(
        &self,
        feed: &Arc<str>,
        bucket: Bucket,
        asked: Moment,
        version: Version,
    ) -> PastError {
        if self.before.is_none() {
            return self.nothing_before(feed, asked);
        }
        let feed = Arc::clone(feed);
        match self.newest.filter(|newest| *newest < version) {
            Some(newest) => PastError::Ahead {
                feed,
                asked,
                newest,
            },
            None => PastError::Unstated {
                feed,
                bucket,
                version,
            },
        }
    }
}
