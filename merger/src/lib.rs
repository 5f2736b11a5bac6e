//! The merger: folds the log into base shards. Durable, about once a second, not on the fast path.
//!
//! In: records and cuts from the log. Out: segments, and heads that name them, moved only by compare-and-set. A
//! takeover replays exactly: the next offset moves with the head.

mod clock;
pub mod config;
mod feed;
mod history;
mod shard;
pub mod status;
#[cfg(test)]
mod texts;

use std::sync::Arc;

use onair_log::EventLog;
use onair_model::Lineage;
use onair_store::ShardStore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub use crate::config::{BucketList, FeedLayout, Settings};
use crate::feed::FeedMerger;
pub use crate::shard::Classified;
pub use crate::status::Status;

/// Folds feeds.
#[derive(Debug)]
pub struct Merger {
    /// The store's lineage.
    pub lineage: Lineage,
    /// Where the reader writes.
    pub log: Arc<dyn EventLog>,
    /// Where the heads stand.
    pub store: Arc<dyn ShardStore>,
    /// The feeds.
    pub feeds: Vec<FeedLayout>,
    /// Limits and times.
    pub settings: Settings,
    /// What it says of itself.
    pub status: Arc<Status>,
}

impl Merger {
    /// Runs until `shutdown`; then what was read is folded before it ends.
    pub async fn run(self, shutdown: CancellationToken) {
        let mut feeds = JoinSet::new();
        for feed in self.feeds {
            let merger = FeedMerger {
                feed,
                lineage: self.lineage,
                log: Arc::clone(&self.log),
                store: Arc::clone(&self.store),
                settings: self.settings.clone(),
                status: Arc::clone(&self.status),
            };
            feeds.spawn(merger.run(shutdown.clone()));
        }
        while feeds.join_next().await.is_some() {}
    }
}
