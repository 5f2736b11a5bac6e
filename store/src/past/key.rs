//! The history of one key: what every commit that is kept did to it, and what changed where the bucket was stated anew.

use std::sync::Arc;

use onair_model::{Bucket, Commit, Epoch, Event, Gtid, Key, Row, Version};

use super::route::{Broken, Segments, Walk};
use super::{Moment, Pages, PastError, SLACK, cuts, head, of};
use crate::head::{LoadError, SegmentRef};
use crate::index::Entry;
use crate::schema::{self, FeedSchema};
use crate::{ShardStore, StoreError};

/// Why a key's row became what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// A transaction in the binlog.
    Binlog,
    /// The bucket was stated anew within its epoch after it had lacked data; when the row changed is not known.
    Replace,
    /// Another epoch began with a scan that found it so; when the row changed is not known.
    Epoch,
    /// It was so already where what is kept, or was asked for, begins.
    Kept,
}

/// What became of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyStep {
    /// The version at which it was so.
    pub version: Version,
    /// What happened, with the row.
    pub event: Event,
    /// Why.
    pub cause: Cause,
    /// The transaction, if it was one.
    pub gtid: Option<Gtid>,
    /// When it was committed, microseconds since 1970; 0 where it was no transaction.
    pub commit_time: i64,
}

/// The steps of one key, oldest first, read segment by segment. It holds one content of the bucket.
#[derive(Debug)]
pub struct KeyHistory {
    feed: Arc<str>,
    bucket: Bucket,
    key: Key,
    /// Commit times that are wanted.
    times: (i64, i64),
    /// The first version that is beyond them for certain.
    end: Option<Version>,
    /// Ascending by the epoch since which they are.
    schemas: Vec<FeedSchema>,
    segments: Segments,
    walk: Walk,
    /// What was so where it begins, until it is told.
    first: Option<KeyStep>,
}

impl KeyHistory {
    /// Begins with the content at the last full cut at or before `times.0`, or with the oldest that is kept, and ends
    /// with what was committed at `times.1`; both microseconds since 1970.
    pub async fn open(
        store: &dyn ShardStore,
        feed: &Arc<str>,
        (bucket, key): (Bucket, Key),
        times: (i64, i64),
    ) -> Result<Self, PastError> {
        let around = cuts::around(store, feed, Moment::Time(times.0)).await?;
        let end = cuts::around(store, feed, Moment::Time(times.1)).await?;
        let mut segments = Segments::default();
        if let Some(head) = head(store, feed, bucket).await? {
            segments.add(head.all_bases(), head.all_deltas());
        }
        let held = schema::held(store, feed).await;
        let held = held.map_err(|error| of(feed, error))?;
        let mut schemas: Vec<FeedSchema> = held.into_iter().map(|held| held.value).collect();
        let mut pages = Pages::new(around.at.saturating_sub(SLACK));
        while let Some(page) = pages.next(store, feed).await? {
            for (_, entry) in page {
                match entry {
                    Entry::Superseded(gone) if gone.bucket == bucket => {
                        segments.add(&gone.bases, &gone.deltas);
                    }
                    Entry::Schema(old) => schemas.push(old),
                    Entry::Superseded(_) | Entry::Cut(_) => {}
                }
            }
        }
        schemas.sort_unstable_by_key(|schema| schema.since);
        if let Some(first) = one_layout(&schemas) {
            segments.begin_with(first);
        }
        let broken = |version| move |broken: Broken| broken.of(feed, bucket, version);
        let begin = around.before.as_ref();
        let begin =
            begin.filter(|cut| one_layout(&schemas).is_none_or(|first| cut.epoch() >= first));
        let walk = match begin {
            Some(cut) => {
                let complete = around.complete(bucket, cut.version);
                let route = segments.route(cut.version, complete);
                let moment = Moment::Version(cut.version);
                let route =
                    route.ok_or_else(|| around.no_route(feed, bucket, moment, cut.version))?;
                let content = route.read(store, feed, cut.version).await;
                Walk {
                    content: content.map_err(broken(cut.version))?,
                }
            }
            None => match oldest(store, feed, &segments).await {
                Ok(walk) => {
                    walk.ok_or_else(|| around.nothing_before(feed, Moment::Time(times.0)))?
                }
                Err(error) => return Err(broken(Version::ZERO)(error)),
            },
        };
        let mut history = KeyHistory {
            feed: Arc::clone(feed),
            bucket,
            key,
            times,
            end: end.after.map(|(cut, _)| cut.version),
            schemas,
            segments,
            walk,
            first: None,
        };
        history.first = history.stated(None, Cause::Kept);
        Ok(history)
    }

    /// What rows are made of, each since its epoch, ascending, as far as that is kept.
    pub fn schemas(&self) -> &[FeedSchema] {
        &self.schemas
    }

    /// What the next segment says of the key, perhaps nothing; `None` when all were read.
    pub async fn next(
        &mut self,
        store: &dyn ShardStore,
    ) -> Result<Option<Vec<KeyStep>>, PastError> {
        if let Some(step) = self.first.take() {
            return Ok(Some(vec![step]));
        }
        let d = self.walk.content.d;
        if self.end.is_some_and(|end| d >= end) {
            return Ok(None);
        }
        let last = d.epoch().last();
        if let Some(delta) = self.segments.next(d, last).copied() {
            return self.commits(store, &delta).await.map(Some);
        }
        // The chain ends here: the next base was not derived from it.
        let later = self.segments.bases.iter().filter(|base| base.d > d);
        let Some(base) = later.min_by_key(|base| base.d).copied() else {
            return Ok(None);
        };
        if self.end.is_some_and(|end| base.d >= end) {
            return Ok(None);
        }
        let before = self.walk.content.rows.get(&self.key).cloned();
        let walk = Walk::begin(store, &self.feed, &base).await;
        self.walk = walk.map_err(|broken| broken.of(&self.feed, self.bucket, base.d))?;
        let cause = match base.d.epoch() == d.epoch() {
            true => Cause::Replace,
            false => Cause::Epoch,
        };
        Ok(Some(self.stated(before, cause).into_iter().collect()))
    }

    async fn commits(
        &mut self,
        store: &dyn ShardStore,
        delta: &SegmentRef,
    ) -> Result<Vec<KeyStep>, PastError> {
        let (key, times) = (&self.key, self.times);
        let mut steps = Vec::new();
        let each = |commit: &Commit| {
            let is_wanted = (times.0..=times.1).contains(&commit.commit_time);
            let touching = commit.events.iter().filter(|event| event.key() == key);
            steps.extend(touching.filter(|_| is_wanted).map(|event| KeyStep {
                version: commit.version,
                event: event.clone(),
                cause: Cause::Binlog,
                gtid: Some(commit.gtid),
                commit_time: commit.commit_time,
            }));
        };
        let to = delta.d;
        let walked = self.walk.delta(store, &self.feed, delta, to, each).await;
        walked.map_err(|broken| broken.of(&self.feed, self.bucket, delta.d))?;
        Ok(steps)
    }

    /// What a content that no commit led to changed.
    fn stated(&self, before: Option<Row>, cause: Cause) -> Option<KeyStep> {
        let key = self.key.clone();
        let event = match (before, self.walk.content.rows.get(&key).cloned()) {
            (None, Some(row)) => Event::On { key, row },
            (Some(before), Some(row)) if before != row => Event::Change { key, row },
            (Some(_), None) => Event::Off { key },
            (None, None) | (Some(_), Some(_)) => return None,
        };
        Some(KeyStep {
            version: self.walk.content.d,
            event,
            cause,
            gtid: None,
            commit_time: 0,
        })
    }
}

/// The first epoch since which keys are spread over the buckets as now: before it, the bucket held other keys.
fn one_layout(schemas: &[FeedSchema]) -> Option<Epoch> {
    let now = schemas.last()?;
    let before = schemas.iter().rposition(|old| old.buckets != now.buckets)?;
    schemas.get(before + 1).map(|first| first.since)
}

/// The oldest base that is still there: the window may be passing over the first ones now.
async fn oldest(
    store: &dyn ShardStore,
    feed: &Arc<str>,
    segments: &Segments,
) -> Result<Option<Walk>, Broken> {
    let mut bases: Vec<_> = segments.bases.iter().collect();
    bases.sort_unstable_by_key(|base| base.d);
    for base in bases {
        match Walk::begin(store, feed, base).await {
            Err(Broken::Load(LoadError::Store(StoreError::Missing { .. }))) => {}
            walk => return walk.map(Some),
        }
    }
    Ok(None)
}
