//! What the merger says of itself, and what its last Replaces found.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use onair_model::{Bucket, Key, Version};
use tracing::info;

use crate::shard::Classified;

/// Reports kept for whoever asks.
const REPORTS_MAX: usize = 64;

/// Keys of each kind kept as examples.
const EXAMPLES_MAX: usize = 5;

/// Shared by the merger and everybody who asks.
#[derive(Debug, Default)]
pub struct Status {
    feeds: Mutex<BTreeMap<Arc<str>, FeedStatus>>,
}

/// One feed as its merger sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FeedStatus {
    /// Buckets that are this merger's.
    pub buckets: usize,
    /// Whether the cuts head is, too.
    pub keeps_cuts: bool,
    /// Heads moved since the start.
    pub folds: u64,
    /// Version of the cuts head.
    pub cut: Option<Version>,
    /// What log or store did not do, while they do not.
    pub trouble: Option<String>,
    /// Buckets that stand still, and why.
    pub stopped: Vec<(Bucket, String)>,
    /// What Replaces changed, newest last.
    pub reports: VecDeque<Report>,
}

/// What one Replace changed in one bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The bucket.
    pub bucket: Bucket,
    /// Rows that were live at the source and not here.
    pub missing: usize,
    /// Rows that were here and not live at the source.
    pub extra: usize,
    /// Rows that differed.
    pub stale: usize,
    /// Some of the keys.
    pub examples: Vec<Key>,
}

impl Status {
    /// Every feed.
    pub fn feeds(&self) -> BTreeMap<Arc<str>, FeedStatus> {
        self.lock().clone()
    }

    pub(crate) fn owned(&self, feed: &Arc<str>, buckets: usize, keeps_cuts: bool) {
        let mut feeds = self.lock();
        let status = feeds.entry(Arc::clone(feed)).or_default();
        (status.buckets, status.keeps_cuts) = (buckets, keeps_cuts);
    }

    pub(crate) fn folded(&self, feed: &Arc<str>) {
        self.lock().entry(Arc::clone(feed)).or_default().folds += 1;
    }

    pub(crate) fn cut(&self, feed: &Arc<str>, version: Version) {
        self.lock().entry(Arc::clone(feed)).or_default().cut = Some(version);
    }

    pub(crate) fn trouble(&self, feed: &Arc<str>, trouble: Option<String>) {
        self.lock().entry(Arc::clone(feed)).or_default().trouble = trouble;
    }

    pub(crate) fn stopped(&self, feed: &Arc<str>, stopped: &[(Bucket, &str)]) {
        self.lock().entry(Arc::clone(feed)).or_default().stopped = stopped
            .iter()
            .map(|(bucket, why)| (*bucket, (*why).to_owned()))
            .collect();
    }

    pub(crate) fn classified(&self, feed: &Arc<str>, bucket: Bucket, found: &Classified) {
        let Classified {
            missing,
            extra,
            stale,
        } = found;
        let of = |keys: &Vec<Key>| keys.iter().take(EXAMPLES_MAX).cloned().collect::<Vec<_>>();
        let report = Report {
            bucket,
            missing: missing.len(),
            extra: extra.len(),
            stale: stale.len(),
            examples: [of(missing), of(extra), of(stale)].concat(),
        };
        info!(feed = %feed, %bucket, missing = report.missing, extra = report.extra, stale = report.stale, "bucket stated anew");
        let mut feeds = self.lock();
        let reports = &mut feeds.entry(Arc::clone(feed)).or_default().reports;
        if reports.len() == REPORTS_MAX {
            reports.pop_front();
        }
        reports.push_back(report);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, FeedStatus>> {
        self.feeds.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
