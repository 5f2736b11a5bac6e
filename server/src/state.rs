//! What a feed's worker says of itself: for status, readiness and health.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use onair_model::{Bucket, BucketState, Seal};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::clock;

/// Why a bucket stands still.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stopped {
    /// It lacks data that is known to exist.
    Gap,
    /// Its chain is contradicted.
    Fork,
}

/// Shared by a worker and everybody who asks.
#[derive(Debug)]
pub(crate) struct FeedState {
    inner: Mutex<Inner>,
    ready: watch::Sender<bool>,
}

#[derive(Debug, Default, Clone)]
pub(crate) struct Inner {
    pub(crate) seal: Option<Seal>,
    /// When the content was last known to be complete, by the monotonic clock.
    complete_at: Option<Instant>,
    source_time: i64,
    pub(crate) held: String,
    pub(crate) trouble: Option<String>,
    pub(crate) buckets: Vec<(BucketState, bool)>,
    pub(crate) stopped: Vec<(Bucket, Stopped)>,
    pub(crate) frames: u64,
    pub(crate) spacing: Duration,
    read: bool,
}

impl FeedState {
    pub(crate) fn new() -> Self {
        FeedState {
            inner: Mutex::default(),
            ready: watch::Sender::new(false),
        }
    }

    /// Ready: a cut was verified, and the log was read to the ends seen at start.
    pub(crate) fn ready(&self) -> watch::Receiver<bool> {
        self.ready.subscribe()
    }

    pub(crate) fn get(&self) -> Inner {
        self.lock().clone()
    }

    /// How long ago the content was known to be complete. The first reading compares two wall clocks, later ones
    /// go by the monotonic clock.
    pub(crate) fn age(&self) -> Duration {
        self.lock()
            .complete_at
            .map_or(Duration::MAX, |at| at.elapsed())
    }

    pub(crate) fn published(&self, seal: &Seal) {
        let mut inner = self.lock();
        if seal.source_time > inner.source_time || inner.complete_at.is_none() {
            let behind = clock::now().saturating_sub(seal.source_time).max(0);
            let now = Instant::now();
            let at = now
                .checked_sub(Duration::from_micros(behind as u64))
                .unwrap_or(now);
            inner.complete_at = Some(inner.complete_at.map_or(at, |before| before.max(at)));
            inner.source_time = seal.source_time;
        }
        if inner
            .seal
            .as_ref()
            .is_none_or(|before| before.version != seal.version)
        {
            inner.frames += 1;
            // What was held back is shown now; the next progress says whether more is.
            inner.held.clear();
        }
        inner.seal = Some(seal.clone());
        let ready = inner.read;
        drop(inner);
        self.set_ready(ready);
    }

    pub(crate) fn read(&self, all: bool) {
        let mut inner = self.lock();
        inner.read |= all;
        let ready = inner.read && inner.seal.is_some();
        drop(inner);
        self.set_ready(ready);
    }

    pub(crate) fn held(&self, reason: &str) {
        reason.clone_into(&mut self.lock().held);
    }

    pub(crate) fn trouble(&self, reason: Option<String>) {
        self.lock().trouble = reason;
    }

    pub(crate) fn stopped(&self, stopped: Vec<(Bucket, Stopped)>) {
        self.lock().stopped = stopped;
    }

    pub(crate) fn spacing(&self, spacing: Duration) {
        self.lock().spacing = spacing;
    }

    pub(crate) fn buckets(&self, buckets: impl Iterator<Item = (BucketState, bool)>) {
        let mut inner = self.lock();
        inner.buckets.clear();
        inner.buckets.extend(buckets);
    }

    fn set_ready(&self, ready: bool) {
        self.ready
            .send_if_modified(|held| std::mem::replace(held, ready || *held) != (ready || *held));
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
