//! What the heads in the store say.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use onair_model::{Bucket, Version};
use onair_store::head::Head;
use onair_store::scylla::{ScyllaStore, Settings};
use onair_store::{CellKey, ShardStore as _};

use super::BUCKETS;

/// The store, beside the roles.
pub(super) struct Heads(ScyllaStore);

impl Heads {
    pub(super) async fn open(node: &str, keyspace: &str) -> Result<Self> {
        let settings = Settings::new(vec![node.to_owned()], keyspace);
        Ok(Heads(ScyllaStore::open(settings).await?))
    }

    /// Whether every bucket's head has content of this version.
    pub(super) async fn are_at(&self, version: Version) -> Result<bool> {
        let feed: Arc<str> = "room".into();
        let like = CellKey::Head(Arc::clone(&feed), Bucket::new(0));
        let mut there = 0;
        for (key, cell) in self.0.cells(&like).await? {
            if matches!(key, CellKey::Head(..)) {
                let head = Head::from_bytes(&feed, &cell.value).context("a head")?;
                there += u16::from(head.state.d >= version);
            }
        }
        Ok(there == BUCKETS.get())
    }
}
