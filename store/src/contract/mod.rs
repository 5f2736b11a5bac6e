//! What every [`ShardStore`] must do, as tests that any implementation calls.
//!
//! [`exact`] asks a store that answers: each outcome is the one that the contract names. [`resolved`] asks through
//! errors and unknown outcomes, resolved as documented, so it passes under [`crate::faulty`] too; what must hold is
//! that nothing acknowledged is lost, nothing is done twice, and no head names a segment that is not whole.
//! `make` gives an empty store at each call.

#![expect(
    clippy::unwrap_used,
    reason = "a test suite: a failure is a panic with its place"
)]

mod exact;
mod past;
mod resolved;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use onair_model::{
    Bucket, BucketState, Commit, Digest, Epoch, Event, Gtid, GtidSet, Key, Lineage, Row, Rows, Sum,
    Version, fold,
};
use tokio::task::JoinSet;

use crate::cells::{self, Moved, move_cell, random_id, remove_cell};
use crate::checkpoint::{self, Checkpoint, EpochState, Fingerprint, Saved};
use crate::epoch::Burned;
use crate::head::{self, Head, LoadError};
use crate::status::{RoleStatus, StatusRow};
use crate::{
    CELL_MAX, Cas, Cell, CellKey, HistoryLine, LARGE_CELL_MAX, PART_MAX, SegmentId, ShardStore,
    StoreError, Token, columns, epoch, requests, status,
};

type Store = Arc<dyn ShardStore>;

/// Every case, on a store that answers.
pub async fn exact(make: impl AsyncFn() -> Store) {
    exact::cells_move_by_their_tokens(&*make().await).await;
    exact::cells_are_listed_by_kind_and_name(&*make().await).await;
    exact::values_have_limits(&*make().await).await;
    exact::segments_are_whole_or_missing(&*make().await).await;
    exact::history_is_a_half_open_range_in_order(&*make().await).await;
    past::the_past_is_read_by_version_and_by_time(&*make().await).await;
}

/// Every case that holds through errors and unknown outcomes too.
pub async fn resolved(make: impl AsyncFn() -> Store) {
    resolved::no_increment_is_lost_or_done_twice(make().await).await;
    resolved::what_a_head_names_is_whole(make().await).await;
    resolved::there_is_one_lineage(make().await).await;
    resolved::no_epoch_is_opened_twice(make().await).await;
    resolved::checkpoints_only_go_on(&*make().await).await;
    resolved::a_column_keeps_its_number(make().await).await;
    resolved::requests_stand_until_answered(&*make().await).await;
    resolved::history_survives_repeated_writes(&*make().await).await;
}

fn name(text: &str) -> Arc<str> {
    text.into()
}

fn some_cell(token: u128, value: &[u8]) -> Cell {
    Cell {
        token: Token(token),
        value: Bytes::copy_from_slice(value),
    }
}

/// Bytes that do not compress.
fn noise(len: usize) -> Bytes {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64 ^ len as u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..len).map(|_| next()).collect()
}
