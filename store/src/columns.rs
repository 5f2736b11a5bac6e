//! Field numbers of a feed's exported columns: given once, never taken back, never given again.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::cells::{Moved, move_cell};
use crate::checkpoint::{self, CellValue, Held};
use crate::{CellKey, ShardStore, StoreError};

/// Attempts beside another process that gives numbers too.
const ATTEMPTS_MAX: u32 = 5;

/// The feed's numbers by column, after `give` gave one to each wanted column that has none. It is asked again with the
/// numbers that stand then when another process gives some at the same time.
pub async fn ensure<E: From<StoreError>>(
    store: &dyn ShardStore,
    feed: &Arc<str>,
    mut give: impl FnMut(&BTreeMap<String, u32>) -> Result<BTreeMap<String, u32>, E>,
) -> Result<(), E> {
    let key = CellKey::Columns(Arc::clone(feed));
    let mut held = checkpoint::read::<BTreeMap<String, u32>>(store, &key).await?;
    for _ in 0..ATTEMPTS_MAX {
        let none = BTreeMap::new();
        let known = held.as_ref().map_or(&none, |held| &held.value);
        let numbers = give(known)?;
        if numbers == *known {
            return Ok(());
        }
        let expect = held.as_ref().map(|held| held.token);
        held = match move_cell(store, &key, expect, numbers.to_bytes()).await? {
            Moved::Won(_) => return Ok(()),
            Moved::Lost(Some(cell)) => Some(Held::of(&key, &cell)?),
            Moved::Lost(None) => None,
        };
    }
    let reason = format!("{key} is moved by another process all the time");
    Err(StoreError::Unavailable { reason }.into())
}
