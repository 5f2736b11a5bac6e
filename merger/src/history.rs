//! A feed's history index: full cuts, segments that heads have ceased to name, schemas of epochs gone by. What is older
//! than the window is deleted, unless a head names it.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use onair_model::{Bucket, CutRecord};
use onair_store::cells::random_id;
use onair_store::head::{Head, LoadError};
use onair_store::index::{Entry, Superseded};
use onair_store::{CellKey, HistoryLine, SegmentId, ShardStore, StoreError};
use tracing::warn;

use crate::clock;

/// Lines that one clean-up reads.
const CLEAN_MAX: usize = 256;

/// How often the index is looked at when nothing in it is due, at most; else a hundredth of the window.
const CLEAN_EVERY_MAX: Duration = Duration::from_secs(600);

/// What one clean-up left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cleaned {
    /// Nothing older than the window.
    All,
    /// Perhaps more than one clean-up takes.
    Some,
}

/// The index of one feed.
#[derive(Debug)]
pub(crate) struct History {
    pub(crate) feed: Arc<str>,
    pub(crate) store: Arc<dyn ShardStore>,
    pub(crate) window: Duration,
}

impl History {
    /// How long to wait after a clean-up that left nothing.
    pub(crate) fn clean_every(&self) -> Duration {
        (self.window / 100).min(CLEAN_EVERY_MAX)
    }

    /// Enters a full cut.
    pub(crate) async fn cut(&self, cut: &CutRecord) -> Result<(), StoreError> {
        self.enter(&Entry::Cut(cut.clone())).await
    }

    /// Enters the segments that `after` will not name any more. Before the head is moved: one that is moved and then
    /// forgotten would leave them behind for ever, while an entry of one that was not moved is found to be named.
    pub(crate) async fn supersede(
        &self,
        bucket: Bucket,
        before: &Head,
        after: &Head,
    ) -> Result<(), StoreError> {
        match Superseded::between(bucket, before, after) {
            Some(gone) => self.enter(&Entry::Superseded(gone)).await,
            None => Ok(()),
        }
    }

    async fn enter(&self, entry: &Entry) -> Result<(), StoreError> {
        let line = HistoryLine {
            at: clock::now(),
            id: random_id(),
            value: entry.to_bytes(),
        };
        self.store.write_history(&self.feed, line).await
    }

    /// Deletes the oldest lines beyond the window, and by key the segments that they enter.
    pub(crate) async fn clean(&self) -> Result<Cleaned, LoadError> {
        let window = i64::try_from(self.window.as_micros()).unwrap_or(i64::MAX);
        let to = clock::now().saturating_sub(window);
        let lines = self.store.history(&self.feed, 0, to, CLEAN_MAX).await?;
        if lines.is_empty() {
            return Ok(Cleaned::All);
        }
        // What stands in the store, not what this process knows of it: another may have moved the heads.
        let named = self.named().await?;
        let (mut cuts, mut others) = (Vec::new(), Vec::new());
        let mut segments = Vec::new();
        for line in &lines {
            let place = (line.at, line.id);
            match Entry::from_bytes(&self.feed, &line.value) {
                Ok(Entry::Cut(_)) => cuts.push(place),
                Ok(Entry::Schema(_)) => others.push(place),
                Ok(Entry::Superseded(gone)) => {
                    segments.extend(gone.segments().copied());
                    others.push(place);
                }
                Err(error) => {
                    warn!(feed = %self.feed, at = line.at, error = %error, "a line of the history cannot be read; what it names stays in the store");
                    others.push(place);
                }
            }
        }
        // A cut that stands in the index can be read: it goes before its segments, which go before their line.
        self.store.delete_history(&self.feed, &cuts).await?;
        segments.retain(|segment| !named.contains(&segment.id));
        for segment in segments {
            self.store
                .delete_segment(&self.feed, segment.id, segment.parts)
                .await?;
        }
        self.store.delete_history(&self.feed, &others).await?;
        Ok(if lines.len() < CLEAN_MAX {
            Cleaned::All
        } else {
            Cleaned::Some
        })
    }

    /// Every segment that a head of the feed names.
    async fn named(&self) -> Result<HashSet<SegmentId>, LoadError> {
        let like = CellKey::Head(Arc::clone(&self.feed), Bucket::new(0));
        let mut named = HashSet::new();
        for (_, cell) in self.store.cells(&like).await? {
            let head = Head::from_bytes(&self.feed, &cell.value)?;
            named.extend(head.segments().map(|segment| segment.id));
        }
        Ok(named)
    }
}
