//! Moving cells safely: every attempt has a token, and what an unknown outcome was is read back, never guessed.

use std::time::Duration;

use bytes::Bytes;
use onair_model::plant::{Bug, planted};

use crate::{Cas, Cell, CellKey, ShardStore, StoreError, Token, fits};

/// Attempts before an unknown outcome is given back to the caller.
const ATTEMPTS_MAX: u32 = 5;

/// Before the second attempt; doubled for each after it.
const PAUSE: Duration = Duration::from_millis(20);

/// What became of an attempt to move a cell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Moved {
    /// The cell is ours, with this token.
    Won(Token),
    /// Another's value stands there, or none.
    Lost(Option<Cell>),
}

/// A fresh token or segment id.
///
/// # Panics
/// When the system has no randomness to give: nothing could be named safely then.
pub fn random_id() -> u128 {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).expect("the system gives random bytes");
    u128::from_be_bytes(bytes)
}

/// Writes `value` if the cell still has the token `expect` (`None`: does not exist).
///
/// An attempt whose outcome is unknown is read back, and made again with the same token while nothing has changed:
/// two of it are one. `Lost` says what stands there now; where it was ours for a moment before another moved it on,
/// the other knew.
///
/// # Errors
/// [`StoreError::Unknown`] when even that did not tell: the caller must not act on either outcome. Any other error:
/// certainly not done.
pub async fn move_cell(
    store: &dyn ShardStore,
    key: &CellKey,
    expect: Option<Token>,
    value: Bytes,
) -> Result<Moved, StoreError> {
    fits(key, value.len(), key.value_max())?;
    let token = Token(random_id());
    let settled = settle(store, key, expect, Some(Cell { token, value })).await?;
    Ok(match settled {
        Settled::Done => Moved::Won(token),
        Settled::Found(cell) => Moved::Lost(cell),
    })
}

/// Deletes the cell if it still has the token `expect`, and gives back what stands there instead: `None` when it is
/// gone, by us or by another.
///
/// # Errors
/// As [`move_cell`].
pub async fn remove_cell(
    store: &dyn ShardStore,
    key: &CellKey,
    expect: Token,
) -> Result<Option<Cell>, StoreError> {
    let settled = settle(store, key, Some(expect), None).await?;
    Ok(match settled {
        Settled::Done => None,
        Settled::Found(cell) => cell,
    })
}

enum Settled {
    Done,
    Found(Option<Cell>),
}

async fn settle(
    store: &dyn ShardStore,
    key: &CellKey,
    mut expect: Option<Token>,
    new: Option<Cell>,
) -> Result<Settled, StoreError> {
    let token = |cell: &Option<Cell>| cell.as_ref().map(|cell| cell.token);
    let ours = token(&new);
    // Of the last attempt that may have been done.
    let mut unknown = None;
    for attempt in 0..ATTEMPTS_MAX {
        if attempt > 0 {
            tokio::time::sleep(PAUSE * (1 << (attempt - 1))).await;
        }
        match store.cas(key, expect, new.clone()).await {
            Ok(Cas::Won) => return Ok(Settled::Done),
            // A driver may send an attempt twice: then the second finds the first.
            Ok(Cas::Lost(cell)) if token(&cell) == ours => return Ok(Settled::Done),
            Ok(Cas::Lost(Some(cell))) if planted(Bug::TokenIgnored) && expect.is_some() => {
                expect = Some(cell.token);
                continue;
            }
            Ok(Cas::Lost(cell)) => return Ok(Settled::Found(cell)),
            Err(StoreError::Unknown { .. }) if planted(Bug::UnknownIsWon) => {
                return Ok(Settled::Done);
            }
            Err(StoreError::Unknown { .. }) if planted(Bug::UnknownIsLost) => {
                return Ok(Settled::Found(None));
            }
            Err(StoreError::Unknown { reason }) => unknown = Some(reason),
            Err(error) if unknown.is_none() => return Err(error),
            // This attempt was certainly not done; an earlier one may have been.
            Err(_) => {}
        }
        match store.cell(key).await {
            Ok(cell) if token(&cell) == ours => return Ok(Settled::Done),
            // Not done, or not yet: what another attempt does is the same.
            Ok(cell) if token(&cell) == expect => {}
            Ok(cell) => return Ok(Settled::Found(cell)),
            Err(_) => {}
        }
    }
    Err(StoreError::Unknown {
        reason: unknown.unwrap_or_default(),
    })
}

/// The store's lineage; made when the store is empty.
pub async fn lineage(store: &dyn ShardStore) -> Result<onair_model::Lineage, StoreError> {
    let found = match store.cell(&CellKey::Lineage).await? {
        Some(cell) => cell,
        None => {
            let value = Bytes::copy_from_slice(&random_id().to_be_bytes());
            match move_cell(store, &CellKey::Lineage, None, value.clone()).await? {
                Moved::Won(token) => Cell { token, value },
                Moved::Lost(Some(cell)) => cell,
                Moved::Lost(None) => {
                    return Err(StoreError::Unknown {
                        reason: "the lineage was made and taken away".to_owned(),
                    });
                }
            }
        }
    };
    let id = <[u8; 16]>::try_from(&found.value[..])
        .map_err(|_| unreadable(&CellKey::Lineage, "it is not 16 bytes"))?;
    Ok(onair_model::Lineage::new(u128::from_be_bytes(id)))
}

/// The error of a cell whose bytes are not what they should be.
pub(crate) fn unreadable(key: &CellKey, reason: impl ToString) -> StoreError {
    StoreError::Unreadable {
        place: key.to_string(),
        reason: reason.to_string(),
        remedy: "restore the store from a backup, or empty it and let OnAir scan anew".to_owned(),
    }
}
