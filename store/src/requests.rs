//! The merger's requests that the reader state a bucket again. They stand until the reader that holds the lease has
//! answered.

use std::sync::Arc;

use onair_model::Bucket;

use crate::cells::{move_cell, remove_cell};
use crate::checkpoint::{CellValue, Held};
use crate::{CellKey, ShardStore, StoreError};

/// Asks for a bucket. One that stands already is not asked for again.
pub async fn ask(
    store: &dyn ShardStore,
    feed: &Arc<str>,
    bucket: Bucket,
    reason: &str,
) -> Result<(), StoreError> {
    let key = CellKey::ReplaceRequest(Arc::clone(feed), bucket);
    let value = reason.to_owned().to_bytes();
    move_cell(store, &key, None, value).await.map(drop)
}

/// What is asked for now, and why.
pub async fn standing(
    store: &dyn ShardStore,
    feed: &Arc<str>,
) -> Result<Vec<(Bucket, Held<String>)>, StoreError> {
    let like = CellKey::ReplaceRequest(Arc::clone(feed), Bucket::new(0));
    let mut found = Vec::new();
    for (key, cell) in store.cells(&like).await? {
        if let CellKey::ReplaceRequest(_, bucket) = &key {
            found.push((*bucket, Held::of(&key, &cell)?));
        }
    }
    Ok(found)
}

/// Takes a request away: its Replace is in the log.
pub async fn answered(
    store: &dyn ShardStore,
    feed: &Arc<str>,
    bucket: Bucket,
    request: &Held<String>,
) -> Result<(), StoreError> {
    let key = CellKey::ReplaceRequest(Arc::clone(feed), bucket);
    remove_cell(store, &key, request.token).await.map(drop)
}
