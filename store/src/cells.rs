//! Moving cells safely: every attempt has a token, and what an unknown outcome was is read back, never guessed.

use bytes::Bytes;

use crate::{CELL_MAX, Cas, Cell, CellKey, LARGE_CELL_MAX, ShardStore, StoreError, Token};

/// Reads before an unknown outcome is given back to the caller.
const READS_MAX: u32 = 3;

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
/// # Errors
/// [`StoreError::Unknown`] when even reading back did not tell: the caller must not act on either outcome.
pub async fn move_cell(
    store: &dyn ShardStore,
    key: &CellKey,
    expect: Option<Token>,
    value: Bytes,
) -> Result<Moved, StoreError> {
    let max = match key {
        CellKey::Checkpoint(_) | CellKey::CutsHead(_) | CellKey::Columns(_) => LARGE_CELL_MAX,
        _ => CELL_MAX,
    };
    if value.len() > max {
        return Err(StoreError::TooLarge {
            what: format!("{key:?}"),
            bytes: value.len(),
            max,
        });
    }
    let token = Token(random_id());
    let outcome = store.cas(key, expect, Some(Cell { token, value })).await;
    match outcome {
        Ok(Cas::Won) => Ok(Moved::Won(token)),
        // A driver may send an attempt twice: then the second finds the first.
        Ok(Cas::Lost(Some(cell))) if cell.token == token => Ok(Moved::Won(token)),
        Ok(Cas::Lost(cell)) => Ok(Moved::Lost(cell)),
        Err(StoreError::Unknown { reason }) => resolve(store, key, expect, token, reason).await,
        Err(error) => Err(error),
    }
}

/// Reads back what stands there now. Our token: won. The one we expected to replace: not done, or not yet, which only
/// another attempt can tell. Anything else: lost.
async fn resolve(
    store: &dyn ShardStore,
    key: &CellKey,
    expect: Option<Token>,
    token: Token,
    reason: String,
) -> Result<Moved, StoreError> {
    for _ in 0..READS_MAX {
        match store.cell(key).await {
            Ok(Some(cell)) if cell.token == token => return Ok(Moved::Won(token)),
            Ok(cell) if cell.as_ref().map(|cell| cell.token) == expect => break,
            Ok(cell) => return Ok(Moved::Lost(cell)),
            Err(StoreError::Unknown { .. } | StoreError::Unavailable { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Err(StoreError::Unknown { reason })
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
        place: format!("cell {key:?}"),
        reason: reason.to_string(),
        remedy: "restore the store from a backup, or empty it and let OnAir scan anew".to_owned(),
    }
}
