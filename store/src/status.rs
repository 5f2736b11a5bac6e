//! What each role last said of itself, a cell a process.

use std::sync::Arc;

use bytes::Bytes;
use onair_proto::convert::ConvertError;
use onair_proto::v1;
use prost::Message;

use crate::cells::{Moved, move_cell, remove_cell};
use crate::checkpoint::{CellValue, Held};
use crate::{CellKey, ShardStore, StoreError, Token};

/// What a role says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoleStatus {
    /// "running", "opening epoch", "held", "stopped" ..
    pub state: String,
    /// More of it, for people.
    pub detail: String,
    /// When it was said, microseconds since 1970 by the role's clock.
    pub at: i64,
}

impl CellValue for RoleStatus {
    fn to_bytes(&self) -> Bytes {
        let wire = v1::RoleStatus {
            role: String::new(),
            state: self.state.clone(),
            detail: self.detail.clone(),
            at: self.at,
            // Both stand in the cell's key.
            process: String::new(),
        };
        wire.encode_to_vec().into()
    }

    fn from_bytes(bytes: &Bytes) -> Result<Self, ConvertError> {
        let wire = v1::RoleStatus::decode(bytes.clone())?;
        Ok(RoleStatus {
            state: wire.state,
            detail: wire.detail,
            at: wire.at,
        })
    }
}

/// The row of one process.
#[derive(Debug)]
pub struct StatusRow {
    key: CellKey,
    token: Option<Token>,
}

impl StatusRow {
    /// The row of a role's process. The name should stay the same over restarts: a new one leaves the old row behind.
    pub fn new(role: &str, process: &str) -> Self {
        StatusRow {
            key: CellKey::Status(role.into(), process.into()),
            token: None,
        }
    }

    /// Says it. Where a process of the same name has said something since, what it said is replaced.
    pub async fn say(
        &mut self,
        store: &dyn ShardStore,
        status: &RoleStatus,
    ) -> Result<(), StoreError> {
        let mut moved = move_cell(store, &self.key, self.token, status.to_bytes()).await?;
        if let Moved::Lost(found) = &moved {
            let expect = found.as_ref().map(|cell| cell.token);
            moved = move_cell(store, &self.key, expect, status.to_bytes()).await?;
        }
        self.token = match moved {
            Moved::Won(token) => Some(token),
            Moved::Lost(found) => found.map(|cell| cell.token),
        };
        Ok(())
    }

    /// Takes the row away.
    pub async fn leave(self, store: &dyn ShardStore) -> Result<(), StoreError> {
        match self.token {
            Some(token) => remove_cell(store, &self.key, token).await.map(drop),
            None => Ok(()),
        }
    }
}

/// What every process of a role last said, by process.
pub async fn said(
    store: &dyn ShardStore,
    role: &str,
) -> Result<Vec<(Arc<str>, RoleStatus)>, StoreError> {
    let like = CellKey::Status(role.into(), "".into());
    let mut found = Vec::new();
    for (key, cell) in store.cells(&like).await? {
        if let CellKey::Status(_, process) = &key {
            let held = Held::<RoleStatus>::of(&key, &cell)?;
            found.push((Arc::clone(process), held.value));
        }
    }
    Ok(found)
}
