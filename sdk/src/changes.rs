//! Changes as steps from one version to another: each net change exactly once, whatever happened to streams and
//! servers between the two.
//!
//! A cursor keeps the last snapshot that it gave and compares it with the newest: no queue, nothing to overrun.
//! Versions share their rows, so the comparison costs what changed.

use std::fmt;
use std::sync::Arc;

use onair_model::{Key, Version};
use tokio::sync::watch;

use crate::content::Content;
use crate::feed::Shared;
use crate::snapshot::Snapshot;

/// A cursor over a feed's changes, from [`Feed::changes`](crate::Feed::changes).
pub struct Changes<T> {
    shared: Arc<Shared<T>>,
    published: watch::Receiver<u64>,
    last: Option<Snapshot<T>>,
}

/// What changed from one version to another: the net of all transactions between the two, keys ascending.
#[non_exhaustive]
pub struct Step<T> {
    /// The version before it; `None` for the first step, whose `on` is the whole content.
    pub from: Option<Version>,
    /// The version after it.
    pub to: Version,
    /// Rows that came on air.
    pub on: Vec<(Key, T)>,
    /// Rows that stayed and changed.
    pub change: Vec<Change<T>>,
    /// Rows that went off air, as they last were.
    pub off: Vec<(Key, T)>,
    /// Versions that were shown between the two and are contained in this step, because the consumer was behind.
    pub merged: u64,
    /// Why a server sent a whole snapshot on the way ("first", "too old", "lagged", ..). The step is exact all the same.
    pub reason: Option<Arc<str>>,
    /// `from` is of another lineage: the two versions cannot be compared.
    pub other_lineage: bool,
    /// The source lost transactions that `from` contained.
    pub rewound: bool,
    /// The feed at `to`.
    pub snapshot: Snapshot<T>,
}

/// A row that changed.
pub struct Change<T> {
    /// Its key.
    pub key: Key,
    /// The row at `from`.
    pub before: T,
    /// The row at `to`.
    pub after: T,
}

impl<T: Clone> Changes<T> {
    pub(crate) fn new(shared: Arc<Shared<T>>) -> Self {
        let published = shared.published();
        Changes {
            shared,
            published,
            last: None,
        }
    }

    /// The first step: the whole content.
    pub(crate) fn first(&mut self) -> Step<T> {
        let now = self.shared.snapshot();
        let first = step(None, &now);
        self.last = Some(now);
        first
    }

    /// Begins after a snapshot instead of with the whole content.
    #[must_use]
    pub fn after(mut self, snapshot: Snapshot<T>) -> Self {
        self.last = Some(snapshot);
        self
    }

    /// The next step; waits for one. `None` once the feed is closed and its last version was given. Dropping the
    /// future loses nothing.
    pub async fn next(&mut self) -> Option<Step<T>> {
        loop {
            if let Some(step) = self.try_next() {
                return Some(step);
            }
            if self.published.changed().await.is_err() {
                return self.try_next();
            }
        }
    }

    /// The step to the newest version, if it is not the last one given.
    pub fn try_next(&mut self) -> Option<Step<T>> {
        let now = self.shared.snapshot();
        let last_ordinal = self.last.as_ref().map(|last| last.held.ordinal);
        if last_ordinal == Some(now.held.ordinal) {
            return None;
        }
        let step = step(self.last.as_ref(), &now);
        self.last = Some(now);
        Some(step)
    }
}

pub(crate) fn step<T: Clone>(last: Option<&Snapshot<T>>, now: &Snapshot<T>) -> Step<T> {
    let before = last.map(|last| &last.held);
    let mut step = Step {
        from: last.map(Snapshot::version),
        to: now.version(),
        on: Vec::new(),
        change: Vec::new(),
        off: Vec::new(),
        merged: before.map_or(0, |before| {
            now.held.ordinal.saturating_sub(before.ordinal + 1)
        }),
        reason: before
            .is_none_or(|before| before.wholes != now.held.wholes)
            .then(|| now.held.reason.clone()),
        other_lineage: last.is_some_and(|last| last.lineage() != now.lineage()),
        rewound: before.is_some_and(|before| before.rewinds != now.held.rewinds),
        snapshot: now.clone(),
    };
    let content = &now.held.verified.content;
    match before {
        None => {
            let all = content.iter();
            step.on = all.map(|(key, row)| (key.clone(), row.clone())).collect();
        }
        Some(before) => {
            let differ = |key: &Key, was: Option<&T>, is: Option<&T>| {
                let key = key.clone();
                match (was.cloned(), is.cloned()) {
                    (None, Some(is)) => step.on.push((key, is)),
                    (Some(before), Some(after)) => step.change.push(Change { key, before, after }),
                    (Some(was), None) => step.off.push((key, was)),
                    (None, None) => {}
                }
            };
            // The next version is compared in what its frame touched, any other by what the two do not share.
            let touched = now.held.touched.as_ref();
            let touched = touched.filter(|_| before.ordinal + 1 == now.held.ordinal);
            Content::differing(
                &before.verified.content,
                content,
                touched.map(|keys| &**keys),
                differ,
            );
        }
    }
    step.on.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    step.change.sort_unstable_by(|a, b| a.key.cmp(&b.key));
    step.off.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    step
}

impl<T> fmt::Debug for Changes<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Changes")
            .field("last", &self.last)
            .finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for Step<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Step")
            .field("from", &self.from)
            .field("to", &self.to)
            .field("on", &self.on.len())
            .field("change", &self.change.len())
            .field("off", &self.off.len())
            .field("merged", &self.merged)
            .field("reason", &self.reason)
            .finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for Change<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Change")
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}
