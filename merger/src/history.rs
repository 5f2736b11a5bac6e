//! A feed's history index: full cuts, and segments that heads have ceased to name. What is older than the window is
//! deleted, unless a head names it.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use onair_model::{Bucket, CutRecord};
use onair_proto::{convert, v1};
use onair_store::cells::random_id;
use onair_store::head::{self, Head, LoadError, SegmentRef};
use onair_store::{CellKey, HistoryLine, SegmentId, ShardStore, StoreError};
use prost::Message;

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
        let entry = v1::history_entry::Entry::Cut(convert::cut_to_wire(cut));
        self.enter(entry).await
    }

    /// Enters the segments that `after` will not name any more. Before the head is moved: one that is moved and then
    /// forgotten would leave them behind for ever, while an entry of one that was not moved is found to be named.
    pub(crate) async fn supersede(
        &self,
        bucket: Bucket,
        before: &Head,
        after: &Head,
    ) -> Result<(), StoreError> {
        let gone: Vec<SegmentRef> = before
            .segments()
            .filter(|held| after.segments().all(|named| named.id != held.id))
            .copied()
            .collect();
        for segment in gone {
            let old = before.old.as_ref().map(|(old, _)| old.id);
            let superseded = v1::Superseded {
                bucket: u32::from(bucket.get()),
                segment: Some(head::segment_to_wire(&segment)),
                base: segment.id == before.base.id || old == Some(segment.id),
            };
            self.enter(v1::history_entry::Entry::Superseded(superseded))
                .await?;
        }
        Ok(())
    }

    async fn enter(&self, entry: v1::history_entry::Entry) -> Result<(), StoreError> {
        let value = v1::HistoryEntry { entry: Some(entry) };
        let line = HistoryLine {
            at: clock::now(),
            id: random_id(),
            value: value.encode_to_vec().into(),
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
        let mut gone = Vec::with_capacity(lines.len());
        for line in &lines {
            if let Some(segment) = superseded(line)
                && !named.contains(&segment.id)
            {
                self.store
                    .delete_segment(&self.feed, segment.id, segment.parts)
                    .await?;
            }
            gone.push((line.at, line.id));
        }
        self.store.delete_history(&self.feed, &gone).await?;
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

fn superseded(line: &HistoryLine) -> Option<SegmentRef> {
    let entry = v1::HistoryEntry::decode(line.value.clone()).ok()?.entry?;
    match entry {
        v1::history_entry::Entry::Superseded(old) => head::segment_from_wire(old.segment?).ok(),
        v1::history_entry::Entry::Cut(_) => None,
    }
}
