//! What a feed held at an earlier moment, read from the store alone.
//!
//! In: a version or a time. Out: the content of each bucket at it, from the head's own base and deltas or from those
//! that heads ceased to name, which the history index keeps for a window. What is proven: every base and every delta
//! that is read must give the digest and count of its reference, so a bucket's content at any version is that of a
//! verified chain; at a version that a full cut states, the buckets together must give the cut's digest
//! ([`Past::check`]). A version between two cuts has no digest of the whole feed that anybody stated.
//!
//! May go wrong: the moment is older than what is kept, or newer than what is folded; the bucket was stated anew after
//! it had lacked data, and nothing says what it held in between; segments are gone or damaged.

mod cuts;
mod key;
mod route;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use onair_model::{Bucket, CutRecord, Epoch, Gtid, Row, Rows, Sum, Version};

use crate::head::{Head, LoadError};
use crate::index::Entry;
use crate::schema::{self, FeedSchema};
use crate::{CellKey, HistoryLine, ShardStore, StoreError};

use cuts::Around;
pub use key::{Cause, KeyHistory, KeyStep};
use route::{Route, Segments};

/// Lines that one read of the index brings, about, when it is read on and on.
const PAGE: usize = 1024;

/// A segment that a cut needs may have been entered so long before the cut, in microseconds: a merger that stood still
/// between entering it and moving the head, or a clock that was set back.
const SLACK: i64 = 60_000_000;

/// A moment of the past.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// Exactly this version.
    Version(Version),
    /// The last full cut that was committed at or before this time of the source, microseconds since 1970.
    Time(i64),
}

impl Moment {
    /// Whether it is before a cut of this time.
    fn is_before(self, cut: &CutRecord, time: i64) -> bool {
        match self {
            Moment::Version(version) => version < cut.version,
            Moment::Time(at) => at < time,
        }
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Moment::Version(version) => fmt::Display::fmt(version, f),
            Moment::Time(micros) => utc(*micros, f),
        }
    }
}

/// Since when a cut's content was the table's: its commit time; in an epoch without a transaction yet, the time through
/// which it is complete, or else the one at which the cut was entered.
const fn time_of(cut: &CutRecord, entered: i64) -> i64 {
    match (cut.commit_time, cut.source_time) {
        (0, 0) => entered,
        (0, time) | (time, _) => time,
    }
}

/// Why the past cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum PastError {
    /// The window has passed over it.
    #[error(
        "feed {feed}: {asked} is older than what is kept; the oldest that can be read is {version} of {}",
        Moment::Time(*.time)
    )]
    TooOld {
        /// The feed.
        feed: Arc<str>,
        /// What was asked for.
        asked: Moment,
        /// The oldest cut that is kept.
        version: Version,
        /// Its time.
        time: i64,
    },
    /// It has not come yet, or not to the store.
    #[error(
        "feed {feed}: {asked} is not in the store yet, which is at {newest}; ask again in a moment, or for one up to it"
    )]
    Ahead {
        /// The feed.
        feed: Arc<str>,
        /// What was asked for.
        asked: Moment,
        /// The newest full cut in the store.
        newest: Version,
    },
    /// The first cut has not come yet.
    #[error(
        "feed {feed}: nothing is kept yet; ask again once `onair status` shows a version of the feed"
    )]
    Nothing {
        /// The feed.
        feed: Arc<str>,
    },
    /// A part of its epoch that nothing states.
    #[error(
        "feed {feed}: nothing that is kept says what bucket {bucket} held at {version}: it was stated anew about then, \
         or there was no such version; ask for an earlier or a later one"
    )]
    Unstated {
        /// The feed.
        feed: Arc<str>,
        /// The bucket.
        bucket: Bucket,
        /// What was asked for.
        version: Version,
    },
    /// The schema of its epoch is not kept.
    #[error(
        "feed {feed}: what the rows of epoch {epoch} are made of is not kept; ask for a moment of a later epoch"
    )]
    Undescribed {
        /// The feed.
        feed: Arc<str>,
        /// The epoch.
        epoch: Epoch,
    },
    /// It was deleted while it was read.
    #[error(
        "feed {feed}: a segment of bucket {bucket} that {version} needs is gone: the window passed over it just now, or \
         part of the store was lost; ask for a later one"
    )]
    Gone {
        /// The feed.
        feed: Arc<str>,
        /// The bucket.
        bucket: Bucket,
        /// What was asked for.
        version: Version,
        /// Which.
        source: StoreError,
    },
    /// What is read is not what was written.
    #[error(
        "feed {feed}: what the store keeps of bucket {bucket} does not give its digest at {version}: it is damaged; ask \
         for another version, and check the disk"
    )]
    Digest {
        /// The feed.
        feed: Arc<str>,
        /// The bucket.
        bucket: Bucket,
        /// Where it differs.
        version: Version,
    },
    /// The buckets do not give what the cut states.
    #[error(
        "feed {feed}: the buckets do not add up to the digest that the cut at {version} states; ask for another version, \
         and report this as a fault of OnAir"
    )]
    Sum {
        /// The feed.
        feed: Arc<str>,
        /// The cut.
        version: Version,
    },
    /// A head, a segment or a line cannot be read.
    #[error(
        "feed {feed}: the store does not give what it keeps of the past; ask again, or for another version"
    )]
    Load {
        /// The feed.
        feed: Arc<str>,
        /// Why.
        source: LoadError,
    },
}

/// What one bucket held.
#[derive(Clone, Debug)]
pub struct Content {
    /// Its last data version then.
    pub d: Version,
    /// Digest and count of the rows.
    pub sum: Sum,
    /// The rows.
    pub rows: Rows<Row>,
    /// The last transaction in it, where a delta that was read names it.
    pub last: Option<Last>,
}

/// A transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Last {
    /// Its version.
    pub version: Version,
    /// Its id.
    pub gtid: Gtid,
    /// When it was committed, microseconds since 1970.
    pub commit_time: i64,
}

/// A feed at one moment. What is read of it is found first, by [`Past::find`].
#[derive(Clone, Debug)]
pub struct Past {
    feed: Arc<str>,
    asked: Moment,
    version: Version,
    around: Around,
    routes: BTreeMap<Bucket, Route>,
}

/// A bucket to which no route is known yet.
#[derive(Debug)]
struct Sought {
    segments: Segments,
    /// The data version at which it is complete through the version, if that is known.
    complete: Option<Version>,
}

/// The content of one bucket at a version, verified.
pub async fn bucket_at(
    store: &dyn ShardStore,
    feed: &Arc<str>,
    bucket: Bucket,
    version: Version,
) -> Result<Content, PastError> {
    let mut past = Past::open(store, feed, Moment::Version(version)).await?;
    past.find(store, [bucket]).await?;
    past.bucket(store, bucket).await
}

/// The first full cut at or after a version, of its epoch, if what is kept reaches back to the version.
pub async fn full_cut_from(
    store: &dyn ShardStore,
    feed: &Arc<str>,
    version: Version,
) -> Result<Option<CutRecord>, PastError> {
    let around = cuts::around(store, feed, Moment::Version(version)).await?;
    let Some(before) = around.before else {
        return Ok(None);
    };
    if before.version == version {
        return Ok(Some(before));
    }
    let after = around.after.map(|(after, _)| after);
    Ok(after.filter(|after| after.epoch() == version.epoch()))
}

impl Past {
    /// Finds the version of a moment.
    pub async fn open(
        store: &dyn ShardStore,
        feed: &Arc<str>,
        asked: Moment,
    ) -> Result<Self, PastError> {
        let around = cuts::around(store, feed, asked).await?;
        let version = match (asked, &around.before) {
            (Moment::Version(version), _) => version,
            (Moment::Time(_), Some(found)) => found.version,
            (Moment::Time(_), None) => return Err(around.nothing_before(feed, asked)),
        };
        Ok(Past {
            feed: Arc::clone(feed),
            asked,
            version,
            around,
            routes: BTreeMap::new(),
        })
    }

    /// What its rows are made of, and over how many buckets they are spread.
    pub async fn schema(&self, store: &dyn ShardStore) -> Result<FeedSchema, PastError> {
        let feed = &self.feed;
        let epoch = self.version.epoch();
        let held = schema::held(store, feed).await;
        let held = held.map_err(|error| of(feed, error))?;
        let mut found = held.map(|held| held.value);
        if found.as_ref().is_none_or(|held| held.since > epoch) {
            found = None;
            let mut pages = self.pages();
            while let Some(page) = pages.next(store, feed).await? {
                for (_, entry) in page {
                    if let Entry::Schema(old) = entry
                        && old.since <= epoch
                        && found.as_ref().is_none_or(|found| found.since < old.since)
                    {
                        found = Some(old);
                    }
                }
            }
        }
        found.ok_or_else(|| PastError::Undescribed {
            feed: Arc::clone(feed),
            epoch,
        })
    }

    /// Finds where the content of these buckets stands. Nothing of it is read yet.
    pub async fn find(
        &mut self,
        store: &dyn ShardStore,
        buckets: impl IntoIterator<Item = Bucket> + Send,
    ) -> Result<(), PastError> {
        let (feed, version) = (&self.feed, self.version);
        // Heads first: what they cease to name after that is entered in the index before.
        let mut sought = BTreeMap::new();
        for bucket in buckets {
            let mut complete = self.around.complete(bucket, version);
            let mut segments = Segments::default();
            if let Some(head) = head(store, feed, bucket).await? {
                segments.add(head.all_bases(), head.all_deltas());
                let state = head.state;
                if state.epoch == version.epoch() && (state.d..=state.through).contains(&version) {
                    complete = complete.or(Some(state.d));
                }
            }
            sought.insert(bucket, Sought { segments, complete });
        }
        let routes = &mut self.routes;
        let mut settle = |sought: &mut BTreeMap<Bucket, Sought>| {
            sought.retain(
                |bucket, sought| match sought.segments.route(version, sought.complete) {
                    Some(route) => {
                        routes.insert(*bucket, route);
                        false
                    }
                    None => true,
                },
            );
            sought.is_empty()
        };
        let mut pages = Pages::new(self.around.at.saturating_sub(SLACK));
        while !settle(&mut sought) {
            let Some(page) = pages.next(store, feed).await? else {
                break;
            };
            for (_, entry) in page {
                if let Entry::Superseded(gone) = entry
                    && let Some(sought) = sought.get_mut(&gone.bucket)
                {
                    sought.segments.add(&gone.bases, &gone.deltas);
                }
            }
        }
        match sought.keys().next() {
            Some(bucket) => Err(self.around.no_route(feed, *bucket, self.asked, version)),
            None => Ok(()),
        }
    }

    /// The index from where it may name what is needed.
    fn pages(&self) -> Pages {
        Pages::new(self.around.at.saturating_sub(SLACK))
    }

    /// The version that is read.
    pub const fn version(&self) -> Version {
        self.version
    }

    /// The last full cut that is kept at or before the version.
    pub const fn cut(&self) -> Option<&CutRecord> {
        self.around.before.as_ref()
    }

    /// The cut that states exactly this version.
    pub fn stated(&self) -> Option<&CutRecord> {
        self.cut().filter(|cut| cut.version == self.version)
    }

    /// Reads one of the buckets and verifies it.
    ///
    /// # Panics
    /// When it is not one that was found.
    pub async fn bucket(
        &self,
        store: &dyn ShardStore,
        bucket: Bucket,
    ) -> Result<Content, PastError> {
        let route = &self.routes[&bucket];
        let walk = route.read(store, &self.feed, self.version).await;
        walk.map_err(|broken| broken.of(&self.feed, bucket, self.version))
    }

    /// Compares all buckets' sums, added up, with the cut that states the version, if one does.
    pub fn check(&self, total: Sum) -> Result<(), PastError> {
        let agrees = self.stated().is_none_or(|cut| {
            let stated = Sum {
                digest: cut.digest,
                count: cut.count,
            };
            stated == total
        });
        if agrees {
            return Ok(());
        }
        Err(PastError::Sum {
            feed: Arc::clone(&self.feed),
            version: self.version,
        })
    }
}

async fn head(
    store: &dyn ShardStore,
    feed: &Arc<str>,
    bucket: Bucket,
) -> Result<Option<Head>, PastError> {
    let key = CellKey::Head(Arc::clone(feed), bucket);
    let cell = store.cell(&key).await.map_err(|error| of(feed, error))?;
    let head = cell.map(|cell| Head::from_bytes(feed, &cell.value));
    head.transpose().map_err(|error| of(feed, error))
}

fn of(feed: &Arc<str>, error: impl Into<LoadError>) -> PastError {
    PastError::Load {
        feed: Arc::clone(feed),
        source: error.into(),
    }
}

/// Reads the index page by page.
#[derive(Debug)]
struct Pages {
    from: i64,
    size: usize,
}

impl Pages {
    fn new(from: i64) -> Self {
        Pages { from, size: PAGE }
    }

    /// The next lines, ascending, at least one; `None` at the end.
    async fn next(
        &mut self,
        store: &dyn ShardStore,
        feed: &Arc<str>,
    ) -> Result<Option<Vec<(i64, Entry)>>, PastError> {
        let lines = store.history(feed, self.from, i64::MAX, self.size).await;
        let lines: Vec<HistoryLine> = lines.map_err(|error| of(feed, error))?;
        let Some(last) = lines.last() else {
            return Ok(None);
        };
        self.from = last.at.saturating_add(1);
        let read = |line: HistoryLine| Ok((line.at, Entry::from_bytes(feed, &line.value)?));
        let entries: Result<Vec<_>, LoadError> = lines.into_iter().map(read).collect();
        entries.map(Some).map_err(|error| of(feed, error))
    }
}

/// Microseconds since 1970 as `2026-11-22T10:00:00.123Z`.
fn utc(micros: i64, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let (days, millis) = (
        micros.div_euclid(86_400_000_000),
        micros.rem_euclid(86_400_000_000) / 1000,
    );
    // Days to a date of the Gregorian calendar: https://howardhinnant.github.io/date_algorithms.html#civil_from_days
    let days = days + 719_468;
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 {
        shifted + 3
    } else {
        shifted - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (seconds, millis) = (millis / 1000, millis % 1000);
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    write!(
        f,
        "{year:04}-{month:02}-{day:02}T{hours:02}:{minutes:02}:{seconds:02}.{millis:03}Z"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_dates() {
        for (micros, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000_000, "2000-02-29T00:00:00.000Z"),
            (1_795_341_600_123_456, "2026-11-22T10:00:00.123Z"),
            (-1, "1969-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(Moment::Time(micros).to_string(), text);
        }
    }
}
