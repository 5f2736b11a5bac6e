//! A source's cells: its lease, its epoch, its reader's checkpoint, its feeds' field numbers.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use onair_model::cut::Proven;
use onair_model::plant::{Bug, planted};
use onair_model::{Epoch, Gtid, GtidSet, Sum, Version};
use onair_proto::convert::{self, ConvertError};
use onair_proto::v1;
use prost::Message;

use crate::cells::{Moved, move_cell, remove_cell, unreadable};
use crate::{Cell, CellKey, ShardStore, StoreError, Token};

/// A cell's value with the token that a compare-and-set must expect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held<T> {
    /// Token of the attempt that wrote it.
    pub token: Token,
    /// The value.
    pub value: T,
}

/// Who may write to a source's logs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The process that holds it.
    pub reader_id: u64,
    /// Bumped by the holder; the standby judges by its own monotonic clock.
    pub beat: u64,
    /// For people.
    pub holder: String,
}

/// The epoch of a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EpochState {
    /// Its number.
    pub epoch: Epoch,
    /// Who the source is.
    pub server: String,
    /// What it had executed when the epoch began.
    pub executed: GtidSet,
    /// Hash of everything that decides what a transaction becomes.
    pub plan: u64,
    /// Why it was opened.
    pub reason: String,
}

/// Where a source's reader resumes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The last version that is durable downstream.
    pub version: Version,
    /// Its commit time.
    pub commit_time: i64,
    /// The reader's GTID set at it, verbatim.
    pub executed: GtidSet,
    /// Who the source is.
    pub server: String,
    /// The plan.
    pub plan: u64,
    /// The epoch began by losing transactions.
    pub lost_tail: bool,
    /// State of each feed.
    pub feeds: Vec<FeedCheckpoint>,
    /// The last transactions delivered, oldest first.
    pub fingerprints: Vec<Fingerprint>,
}

/// A feed in a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeedCheckpoint {
    /// Its name.
    pub feed: Arc<str>,
    /// Data version and sum of each bucket.
    pub buckets: Vec<(Version, Sum)>,
    /// Last transaction of the feed contained.
    pub gtid: Option<Gtid>,
    /// Newest proof.
    pub proven: Option<Proven>,
    /// Which log its records stand in; empty where that is of no use to another process.
    pub log: Arc<str>,
}

/// A transaction's id and the CRC-32 of its events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint {
    /// The id.
    pub gtid: Gtid,
    /// The CRC.
    pub crc: u32,
}

/// A value that stands in a cell.
pub trait CellValue: Sized {
    /// Its bytes.
    fn to_bytes(&self) -> Bytes;
    /// From its bytes.
    fn from_bytes(bytes: &Bytes) -> Result<Self, ConvertError>;
}

impl<T: CellValue> Held<T> {
    /// The value in a cell.
    pub fn of(key: &CellKey, cell: &Cell) -> Result<Self, StoreError> {
        Ok(Held {
            token: cell.token,
            value: T::from_bytes(&cell.value).map_err(|error| unreadable(key, error))?,
        })
    }
}

/// Reads a typed cell.
pub async fn read<T: CellValue>(
    store: &dyn ShardStore,
    key: &CellKey,
) -> Result<Option<Held<T>>, StoreError> {
    let cell = store.cell(key).await?;
    cell.map(|cell| Held::of(key, &cell)).transpose()
}

/// Attempts to save beside another reader that saves too.
const ATTEMPTS_MAX: u32 = 5;

/// What became of a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Saved {
    /// It stands there now.
    Yes(Held<Checkpoint>),
    /// One that it may not replace stands there: another reader is further, or in a later epoch.
    Behind(Held<Checkpoint>),
    /// What this reader saw there was taken away: an operator wants the next epoch.
    Forgotten,
}

impl Checkpoint {
    /// Whether it may stand in place of `held`: later in the same epoch or of a later one, or at the same version with
    /// more transactions that did not touch a feed (else the source might purge what an idle feed resumes from).
    pub fn replaces(&self, held: &Checkpoint) -> bool {
        planted(Bug::ZombieCheckpoint)
            || self.version > held.version
            || (self.version == held.version
                && self.executed != held.executed
                && self.executed.contains_set(&held.executed))
    }
}

/// Saves the checkpoint if it replaces what stands there; `held` is what this reader last saw there.
pub async fn save(
    store: &dyn ShardStore,
    source: &Arc<str>,
    mut held: Option<Held<Checkpoint>>,
    checkpoint: &Checkpoint,
) -> Result<Saved, StoreError> {
    let key = CellKey::Checkpoint(Arc::clone(source));
    let value = checkpoint.to_bytes();
    for _ in 0..ATTEMPTS_MAX {
        if held
            .as_ref()
            .is_some_and(|held| !checkpoint.replaces(&held.value))
        {
            // What we last saw may be ours and old; what stands there decides.
            let Some(found) = read(store, &key).await? else {
                return Ok(Saved::Forgotten);
            };
            if !checkpoint.replaces(&found.value) {
                return Ok(Saved::Behind(found));
            }
            held = Some(found);
        }
        let expect = held.as_ref().map(|held| held.token);
        held = match move_cell(store, &key, expect, value.clone()).await? {
            Moved::Won(token) => {
                return Ok(Saved::Yes(Held {
                    token,
                    value: checkpoint.clone(),
                }));
            }
            Moved::Lost(None) if held.is_some() => return Ok(Saved::Forgotten),
            Moved::Lost(cell) => cell.map(|cell| Held::of(&key, &cell)).transpose()?,
        };
    }
    Err(StoreError::Unavailable {
        reason: format!("{key} is moved by another process all the time"),
    })
}

/// Takes a source's checkpoint away, whatever it is: its reader then opens the next epoch. Tells what it was.
pub async fn forget(
    store: &dyn ShardStore,
    source: &Arc<str>,
) -> Result<Option<Checkpoint>, StoreError> {
    let key = CellKey::Checkpoint(Arc::clone(source));
    for _ in 0..ATTEMPTS_MAX {
        let Some(held) = read::<Checkpoint>(store, &key).await? else {
            return Ok(None);
        };
        if remove_cell(store, &key, held.token).await?.is_none() {
            return Ok(Some(held.value));
        }
    }
    Err(StoreError::Unavailable {
        reason: format!("{key} is moved by another process all the time"),
    })
}

impl CellValue for Lease {
    fn to_bytes(&self) -> Bytes {
        let wire = v1::Lease {
            reader_id: self.reader_id,
            beat: self.beat,
            holder: self.holder.clone(),
        };
        wire.encode_to_vec().into()
    }

    fn from_bytes(bytes: &Bytes) -> Result<Self, ConvertError> {
        let wire = v1::Lease::decode(bytes.clone())?;
        Ok(Lease {
            reader_id: wire.reader_id,
            beat: wire.beat,
            holder: wire.holder,
        })
    }
}

impl CellValue for EpochState {
    fn to_bytes(&self) -> Bytes {
        v1::EpochState {
            epoch: self.epoch.get(),
            server: self.server.clone(),
            executed: self.executed.to_string(),
            plan: self.plan,
            reason: self.reason.clone(),
        }
        .encode_to_vec()
        .into()
    }

    fn from_bytes(bytes: &Bytes) -> Result<Self, ConvertError> {
        let wire = v1::EpochState::decode(bytes.clone())?;
        Ok(EpochState {
            epoch: convert::epoch(wire.epoch)?,
            server: wire.server,
            executed: convert::gtid_set(&wire.executed)?,
            plan: wire.plan,
            reason: wire.reason,
        })
    }
}

impl CellValue for BTreeMap<String, u32> {
    fn to_bytes(&self) -> Bytes {
        let numbers = self
            .iter()
            .map(|(name, number)| (name.clone(), *number))
            .collect();
        v1::Columns { numbers }.encode_to_vec().into()
    }

    fn from_bytes(bytes: &Bytes) -> Result<Self, ConvertError> {
        Ok(v1::Columns::decode(bytes.clone())?
            .numbers
            .into_iter()
            .collect())
    }
}

impl CellValue for String {
    /// The reason of a request that a bucket be stated again.
    fn to_bytes(&self) -> Bytes {
        v1::ReplaceRequest {
            reason: self.clone(),
        }
        .encode_to_vec()
        .into()
    }

    fn from_bytes(bytes: &Bytes) -> Result<Self, ConvertError> {
        Ok(v1::ReplaceRequest::decode(bytes.clone())?.reason)
    }
}

impl CellValue for Checkpoint {
    fn to_bytes(&self) -> Bytes {
        v1::Checkpoint {
            epoch: self.version.epoch().get(),
            version: self.version.get(),
            executed: self.executed.to_string(),
            server: self.server.clone(),
            feeds: self
                .feeds
                .iter()
                .map(|feed| feed_to_wire(feed, self.lost_tail))
                .collect(),
            fingerprints: self
                .fingerprints
                .iter()
                .map(|print| v1::Fingerprint {
                    gtid: print.gtid.to_string(),
                    crc: print.crc,
                })
                .collect(),
            plan: self.plan,
            commit_time: self.commit_time,
        }
        .encode_to_vec()
        .into()
    }

    fn from_bytes(bytes: &Bytes) -> Result<Self, ConvertError> {
        let wire = v1::Checkpoint::decode(bytes.clone())?;
        Ok(Checkpoint {
            version: convert::version(wire.version)?,
            commit_time: wire.commit_time,
            executed: convert::gtid_set(&wire.executed)?,
            server: wire.server,
            plan: wire.plan,
            lost_tail: wire.feeds.iter().any(|feed| feed.lost_tail),
            feeds: wire
                .feeds
                .into_iter()
                .map(feed_from_wire)
                .collect::<Result<_, _>>()?,
            fingerprints: wire
                .fingerprints
                .into_iter()
                .map(|print| {
                    let gtid = convert::gtid(&print.gtid)?.ok_or(ConvertError::Field("gtid"))?;
                    Ok(Fingerprint {
                        gtid,
                        crc: print.crc,
                    })
                })
                .collect::<Result<_, ConvertError>>()?,
        })
    }
}

fn feed_to_wire(feed: &FeedCheckpoint, lost_tail: bool) -> v1::FeedCheckpoint {
    v1::FeedCheckpoint {
        feed: feed.feed.to_string(),
        buckets: feed
            .buckets
            .iter()
            .map(|(d, sum)| v1::BucketCheckpoint {
                d: d.get(),
                digest: convert::bytes16(sum.digest.get()),
                count: sum.count,
            })
            .collect(),
        gtid: convert::gtid_text(feed.gtid.as_ref()),
        proven: feed.proven.map(convert::proven_to_wire),
        lost_tail,
        log: feed.log.to_string(),
    }
}

fn feed_from_wire(wire: v1::FeedCheckpoint) -> Result<FeedCheckpoint, ConvertError> {
    Ok(FeedCheckpoint {
        feed: wire.feed.into(),
        buckets: wire
            .buckets
            .into_iter()
            .map(|bucket| {
                let digest = convert::digest(&bucket.digest)?;
                Ok((
                    convert::version(bucket.d)?,
                    Sum {
                        digest,
                        count: bucket.count,
                    },
                ))
            })
            .collect::<Result<_, ConvertError>>()?,
        gtid: convert::gtid(&wire.gtid)?,
        proven: wire.proven.map(convert::proven_from_wire).transpose()?,
        log: wire.log.into(),
    })
}
