//! Opening an epoch: its number is burned in the store before anything is written in it, and never used twice.

use std::sync::Arc;

use onair_model::Epoch;
use onair_model::plant::{Bug, planted};

use crate::cells::{Moved, move_cell};
use crate::checkpoint::{CellValue, EpochState, Held};
use crate::{CellKey, ShardStore, StoreError, Token};

/// The epoch after everything burned in the store and seen in the log; `None` when they are used up and a new
/// lineage is needed.
pub fn next(burned: Option<Epoch>, logged: Option<Epoch>) -> Option<Epoch> {
    burned.max(logged).unwrap_or(Epoch::NONE).next()
}

/// What became of the attempt to open an epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Burned {
    /// It is ours.
    Ours(Token),
    /// Another reader moved on: this is what stands there now.
    Taken(Option<Held<EpochState>>),
}

/// Burns an epoch on top of the one held. An unknown outcome costs a number, never gives one twice.
///
/// # Panics
/// When the number is not above the one held.
pub async fn burn(
    store: &dyn ShardStore,
    source: &Arc<str>,
    held: Option<&Held<EpochState>>,
    state: &EpochState,
) -> Result<Burned, StoreError> {
    assert!(
        held.is_none_or(|held| held.value.epoch < state.epoch),
        "an epoch's number is never used twice"
    );
    let key = CellKey::Epoch(Arc::clone(source));
    let expect = held.map(|held| held.token);
    match move_cell(store, &key, expect, state.to_bytes()).await? {
        Moved::Won(token) => Ok(Burned::Ours(token)),
        Moved::Lost(Some(cell)) if planted(Bug::EpochTwice) => Ok(Burned::Ours(cell.token)),
        Moved::Lost(None) => Ok(Burned::Taken(None)),
        Moved::Lost(Some(cell)) => Ok(Burned::Taken(Some(Held::of(&key, &cell)?))),
    }
}
