//! Buckets that lack data or have forked: the reader is asked to state them again.

use std::sync::Arc;

use onair_model::Bucket;
use onair_store::CellKey;
use onair_store::cells::{Moved, move_cell};
use onair_store::checkpoint::CellValue as _;
use tokio::time::Instant;
use tracing::info;

use super::{FeedMerger, Run, Trouble};

impl FeedMerger {
    /// Asks the reader to state buckets again that lack data or have forked. A cut often arrives before the records that
    /// it names: a bucket stands still only when it has not moved for as long as patience says.
    pub(super) async fn ask(&self, run: &mut Run) -> Result<(), Trouble> {
        let now = Instant::now();
        let mut stopped: Vec<(Bucket, &str)> = Vec::new();
        for (bucket, shard) in &run.shards {
            let reason = match (shard.forked, shard.state.is_behind_claim()) {
                (true, _) => "fork",
                (false, true) => "gap",
                (false, false) => {
                    run.behind.remove(bucket);
                    continue;
                }
            };
            let at = (shard.state.d, now);
            let (d, since) = run.behind.entry(*bucket).or_insert(at);
            if *d != shard.state.d && !shard.forked {
                (*d, *since) = at;
            }
            if since.elapsed() >= self.settings.claim_patience {
                stopped.push((*bucket, reason));
            }
        }
        self.status.stopped(&self.feed.name, &stopped);
        for (bucket, reason) in stopped {
            let key = CellKey::ReplaceRequest(Arc::clone(&self.feed.name), bucket);
            let asked = move_cell(&*self.store, &key, None, reason.to_owned().to_bytes()).await?;
            if matches!(asked, Moved::Won(_)) {
                info!(feed = %self.feed.name, %bucket, reason, "the reader is asked to state the bucket again");
            }
        }
        Ok(())
    }
}
