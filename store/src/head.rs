//! Heads: the small rows that name a bucket's whole content, and the segments that they name.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use onair_model::assembly::Loaded;
use onair_model::{
    BucketState, Commit, CutRecord, Digest, Gtid, Key, Lineage, Row, Rows, RowsBuilder, Sum,
    Version,
};
use onair_proto::convert::{self, ConvertError};
use onair_proto::entries::{self, Entries};
use onair_proto::v1;
use prost::Message;

use crate::cells::random_id;
use crate::{PART_MAX, SegmentId, ShardStore, StoreError};

/// zstd's level for segments: ids are entropy, higher levels cost more than they save.
const LEVEL: i32 = 1;

/// Bytes of entries or events in a part before compression. Compressed parts stay below [`PART_MAX`], also
/// when nothing can be compressed.
const PART_TARGET: usize = PART_MAX - 16 * 1024;

/// A head that names this many segments gets no more before some are merged: with the longest ids, GTID and log name it
/// then fits a cell, the two epochs of a change together.
pub const SEGMENTS_MAX: usize = 48;

/// A bucket's head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// The world.
    pub lineage: Lineage,
    /// Epoch, data version, through, digest, count and claim of the content.
    pub state: BucketState,
    /// The last transaction folded, and when it was committed.
    pub gtid: Option<Gtid>,
    /// Commit time of `state.d`, microseconds since 1970.
    pub commit_time: i64,
    /// Source time through which the content is complete.
    pub source_time: i64,
    /// The base.
    pub base: SegmentRef,
    /// Commits after the base, oldest first.
    pub deltas: Vec<SegmentRef>,
    /// The log that `next_offset` counts in.
    pub log: String,
    /// The next offset to read.
    pub next_offset: u64,
    /// Base and deltas from before the content was stated anew (another epoch, a Replace), kept until the cuts head has
    /// passed the base that came then.
    pub old: Option<(SegmentRef, Vec<SegmentRef>)>,
}

/// A segment and what it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentRef {
    /// Its id.
    pub id: SegmentId,
    /// How many parts.
    pub parts: u32,
    /// Bytes of all parts.
    pub bytes: u64,
    /// Data version at its end.
    pub d: Version,
    /// Digest and count of the bucket at its end.
    pub sum: Sum,
    /// Data version before it; for a base its own.
    pub prev: Version,
}

/// The head of the cuts partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CutsHead {
    /// A full cut that every bucket head has passed.
    pub cut: CutRecord,
    /// The log that `next_offset` counts in.
    pub log: String,
    /// The next offset to read.
    pub next_offset: u64,
}

/// Why a bucket could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A head or segment that is not what it should be.
    #[error("feed {feed}: {what} is damaged; the reader will be asked for the bucket again")]
    Damaged {
        /// The feed.
        feed: Arc<str>,
        /// Which.
        what: String,
        /// How.
        source: ConvertError,
    },
    /// A part that cannot be unpacked.
    #[error(
        "feed {feed}: {what} cannot be unpacked; the reader will be asked for the bucket again"
    )]
    Packed {
        /// The feed.
        feed: Arc<str>,
        /// Which.
        what: String,
        /// How.
        source: std::io::Error,
    },
}

impl Head {
    /// Its bytes in the cell.
    pub fn to_bytes(&self) -> Bytes {
        v1::Head {
            lineage: convert::bytes16(self.lineage.get()),
            epoch: self.state.epoch.get(),
            d: self.state.d.get(),
            through: self.state.through.get(),
            digest: convert::bytes16(self.state.digest.get()),
            count: self.state.count,
            claimed: self.state.claimed.get(),
            gtid: convert::gtid_text(self.gtid.as_ref()),
            commit_time: self.commit_time,
            source_time: self.source_time,
            base: Some(segment_to_wire(&self.base)),
            deltas: self.deltas.iter().map(segment_to_wire).collect(),
            log: self.log.clone(),
            next_offset: self.next_offset,
            old_base: self.old.as_ref().map(|(base, _)| segment_to_wire(base)),
            old_deltas: self
                .old
                .iter()
                .flat_map(|(_, deltas)| deltas.iter().map(segment_to_wire))
                .collect(),
        }
        .encode_to_vec()
        .into()
    }

    /// A head from its cell.
    pub fn from_bytes(feed: &Arc<str>, bytes: &Bytes) -> Result<Self, LoadError> {
        Self::decode(bytes).map_err(|source| damaged(feed, "a head".to_owned(), source))
    }

    fn decode(bytes: &Bytes) -> Result<Self, ConvertError> {
        let wire = v1::Head::decode(bytes.clone())?;
        let state = BucketState {
            epoch: convert::epoch(wire.epoch)?,
            d: convert::version(wire.d)?,
            through: convert::version(wire.through)?,
            digest: convert::digest(&wire.digest)?,
            count: wire.count,
            claimed: convert::version(wire.claimed)?,
        };
        let list = |list: Vec<v1::SegmentRef>| {
            list.into_iter()
                .map(segment_from_wire)
                .collect::<Result<Vec<_>, _>>()
        };
        Ok(Head {
            lineage: convert::lineage(&wire.lineage)?,
            state,
            gtid: convert::gtid(&wire.gtid)?,
            commit_time: wire.commit_time,
            source_time: wire.source_time,
            base: segment_from_wire(wire.base.ok_or(ConvertError::Field("base"))?)?,
            deltas: list(wire.deltas)?,
            log: wire.log,
            next_offset: wire.next_offset,
            old: match wire.old_base {
                Some(base) => Some((segment_from_wire(base)?, list(wire.old_deltas)?)),
                None => None,
            },
        })
    }

    /// Every segment that it names.
    pub fn segments(&self) -> impl Iterator<Item = &SegmentRef> {
        self.all_bases().chain(self.all_deltas())
    }

    /// Its base, and the one from before the content was stated anew.
    pub fn all_bases(&self) -> impl Iterator<Item = &SegmentRef> {
        std::iter::once(&self.base).chain(self.old.iter().map(|(base, _)| base))
    }

    /// The deltas on each of them.
    pub fn all_deltas(&self) -> impl Iterator<Item = &SegmentRef> {
        let old = self.old.iter().flat_map(|(_, deltas)| deltas);
        self.deltas.iter().chain(old)
    }
}

impl CutsHead {
    /// Its bytes in the cell.
    pub fn to_bytes(&self) -> Bytes {
        let wire = v1::CutsHead {
            cut: Some(convert::cut_to_wire(&self.cut)),
            log: self.log.clone(),
            next_offset: self.next_offset,
        };
        wire.encode_to_vec().into()
    }

    /// A cuts head from its cell.
    pub fn from_bytes(feed: &Arc<str>, bytes: &Bytes) -> Result<Self, LoadError> {
        let decode = || {
            let wire = v1::CutsHead::decode(bytes.clone())?;
            Ok(CutsHead {
                cut: convert::cut_from_wire(wire.cut.ok_or(ConvertError::Field("cut"))?)?,
                log: wire.log,
                next_offset: wire.next_offset,
            })
        };
        decode().map_err(|source| damaged(feed, "the cuts head".to_owned(), source))
    }
}

/// Writes a bucket's whole content as a base.
pub async fn write_base(
    store: &dyn ShardStore,
    feed: &str,
    d: Version,
    sum: Sum,
    rows: impl Iterator<Item = (&Key, &Row)> + Send,
) -> Result<SegmentRef, StoreError> {
    let mut parts = Vec::new();
    let mut held = BytesMut::new();
    for (key, row) in rows {
        if held.len() + entries::size(key, Some(row)) > PART_TARGET && !held.is_empty() {
            parts.push(pack(&v1::BasePart {
                entries: held.split().freeze(),
            })?);
        }
        entries::write(&mut held, key, Some(row));
    }
    parts.push(pack(&v1::BasePart {
        entries: held.freeze(),
    })?);
    write(
        store,
        feed,
        parts,
        SegmentRef {
            id: SegmentId(random_id()),
            parts: 0,
            bytes: 0,
            d,
            sum,
            prev: d,
        },
    )
    .await
}

/// Writes commits as a delta; `prev` is the data version before the first, `sum` the bucket's after the last.
/// `None` when there are none.
pub async fn write_delta(
    store: &dyn ShardStore,
    feed: &str,
    prev: Version,
    sum: Sum,
    commits: &[Commit],
) -> Result<Option<SegmentRef>, StoreError> {
    let Some(d) = commits.last().map(|last| last.version) else {
        return Ok(None);
    };
    let mut parts = Vec::new();
    let mut held = v1::DeltaPart {
        commits: Vec::new(),
    };
    let mut bytes = 0;
    for commit in commits {
        let mut wire = convert::commit_to_wire(commit);
        let events = std::mem::take(&mut wire.events);
        held.commits.push(wire.clone());
        for event in events {
            let size = 32 + event.key.len() + event.row.len();
            if bytes + size > PART_TARGET && bytes > 0 {
                parts.push(pack(&std::mem::take(&mut held))?);
                held.commits.push(wire.clone());
                bytes = 0;
            }
            bytes += size;
            if let Some(commit) = held.commits.last_mut() {
                commit.events.push(event);
            }
        }
    }
    parts.push(pack(&held)?);
    let segment = SegmentRef {
        id: SegmentId(random_id()),
        parts: 0,
        bytes: 0,
        d,
        sum,
        prev,
    };
    write(store, feed, parts, segment).await.map(Some)
}

async fn write(
    store: &dyn ShardStore,
    feed: &str,
    parts: Vec<Bytes>,
    mut segment: SegmentRef,
) -> Result<SegmentRef, StoreError> {
    segment.parts = parts.len() as u32;
    segment.bytes = parts.iter().map(|part| part.len() as u64).sum();
    store.write_segment(feed, segment.id, parts).await?;
    Ok(segment)
}

/// A head's word on how many rows a base has is taken up to here; the map grows by itself beyond.
const CAPACITY_MAX: usize = 1 << 20;

/// Reads a base's rows.
pub async fn read_base(
    store: &dyn ShardStore,
    feed: &Arc<str>,
    base: &SegmentRef,
) -> Result<Rows<Row>, LoadError> {
    let count = usize::try_from(base.sum.count).unwrap_or(usize::MAX);
    let mut rows = RowsBuilder::with_capacity(count.min(CAPACITY_MAX));
    for part in store.read_segment(feed, base.id, base.parts).await? {
        let part: v1::BasePart = unpack(feed, base, &part)?;
        for entry in Entries::new(part.entries) {
            match entry.map_err(|error| damaged(feed, format!("{:?}", base.id), error.into()))? {
                (key, Some(row)) => rows.insert(key, row),
                (_, None) => {
                    return Err(damaged(
                        feed,
                        format!("{:?}", base.id),
                        ConvertError::Field("entries"),
                    ));
                }
            };
        }
    }
    Ok(rows.build())
}

/// Reads a delta's commits.
pub async fn read_delta(
    store: &dyn ShardStore,
    feed: &Arc<str>,
    delta: &SegmentRef,
) -> Result<Vec<Commit>, LoadError> {
    let mut commits: Vec<Commit> = Vec::new();
    for part in store.read_segment(feed, delta.id, delta.parts).await? {
        let part: v1::DeltaPart = unpack(feed, delta, &part)?;
        for wire in part.commits {
            let commit = convert::commit_from_wire(wire)
                .map_err(|source| damaged(feed, format!("{:?}", delta.id), source))?;
            match commits
                .last_mut()
                .filter(|last| last.version == commit.version)
            {
                Some(last) => last.events.extend(commit.events),
                None => commits.push(commit),
            }
        }
    }
    Ok(commits)
}

/// Reads all that a head names. Whether it adds up to the head's digest is for `Assembly::load` and the merger to say:
/// both compute it anyway.
pub async fn load_bucket(
    store: &dyn ShardStore,
    feed: &Arc<str>,
    head: &Head,
) -> Result<Loaded, LoadError> {
    let base = read_base(store, feed, &head.base).await?;
    let mut commits = Vec::new();
    for delta in &head.deltas {
        commits.append(&mut read_delta(store, feed, delta).await?);
    }
    Ok(Loaded {
        state: head.state,
        base_d: head.base.d,
        base,
        commits,
    })
}

/// Reads the content from before it was stated anew, while the head still names it: what the cuts head may need.
pub async fn load_old(
    store: &dyn ShardStore,
    feed: &Arc<str>,
    head: &Head,
) -> Result<Option<Loaded>, LoadError> {
    let Some((base, deltas)) = &head.old else {
        return Ok(None);
    };
    let rows = read_base(store, feed, base).await?;
    let mut commits = Vec::new();
    for delta in deltas {
        commits.append(&mut read_delta(store, feed, delta).await?);
    }
    let last = deltas.last().unwrap_or(base);
    let state = BucketState {
        epoch: last.d.epoch(),
        d: last.d,
        through: last.d,
        digest: last.sum.digest,
        count: last.sum.count,
        claimed: last.d,
    };
    Ok(Some(Loaded {
        state,
        base_d: base.d,
        base: rows,
        commits,
    }))
}

fn pack(message: &impl Message) -> Result<Bytes, StoreError> {
    let packed = zstd::bulk::compress(&message.encode_to_vec(), LEVEL).map_err(|error| {
        StoreError::Unavailable {
            reason: format!("a segment could not be packed: {error}"),
        }
    })?;
    if packed.len() > PART_MAX {
        // One key and row alone: MySQL's own row limit with BLOBs is far above it.
        return Err(StoreError::TooLarge {
            what: "one row".to_owned(),
            bytes: packed.len(),
            max: PART_MAX,
            remedy: "leave its largest columns out of the feed",
        });
    }
    Ok(packed.into())
}

fn unpack<M: Message + Default>(
    feed: &Arc<str>,
    segment: &SegmentRef,
    part: &Bytes,
) -> Result<M, LoadError> {
    let what = || format!("{:?}", segment.id);
    let bytes = zstd::decode_all(&part[..]).map_err(|source| LoadError::Packed {
        feed: Arc::clone(feed),
        what: what(),
        source,
    })?;
    M::decode(Bytes::from(bytes)).map_err(|error| damaged(feed, what(), error.into()))
}

pub(crate) fn damaged(feed: &Arc<str>, what: String, source: ConvertError) -> LoadError {
    LoadError::Damaged {
        feed: Arc::clone(feed),
        what,
        source,
    }
}

/// A reference for the wire.
pub fn segment_to_wire(segment: &SegmentRef) -> v1::SegmentRef {
    v1::SegmentRef {
        id: convert::bytes16(segment.id.0),
        parts: segment.parts,
        bytes: segment.bytes,
        d: segment.d.get(),
        digest: convert::bytes16(segment.sum.digest.get()),
        count: segment.sum.count,
        prev: segment.prev.get(),
    }
}

/// A reference from the wire.
pub fn segment_from_wire(wire: v1::SegmentRef) -> Result<SegmentRef, ConvertError> {
    Ok(SegmentRef {
        id: SegmentId(convert::u128_of(&wire.id, "id")?),
        parts: wire.parts,
        bytes: wire.bytes,
        d: convert::version(wire.d)?,
        sum: Sum {
            digest: Digest::new(convert::u128_of(&wire.digest, "digest")?),
            count: wire.count,
        },
        prev: convert::version(wire.prev)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::CELL_MAX;
    use onair_model::Epoch;

    #[test]
    fn the_longest_head_fits_a_cell() {
        let last = Version::from_u64(u64::MAX >> 1).unwrap();
        let sum = Sum {
            digest: Digest::new(u128::MAX),
            count: u64::from(u32::MAX),
        };
        let segment = SegmentRef {
            id: SegmentId(u128::MAX),
            parts: 100_000,
            bytes: u64::from(u32::MAX),
            d: last,
            sum,
            prev: last,
        };
        let tag = "t".repeat(32);
        let gtid = format!("ffffffff-ffff-ffff-ffff-ffffffffffff:{tag}:{}", i64::MAX);
        // An epoch change when the old head was full: a new base, and one delta before the next merge.
        let head = Head {
            lineage: Lineage::new(u128::MAX),
            state: BucketState {
                epoch: Epoch::new((1 << 20) - 1).unwrap(),
                d: last,
                through: last,
                digest: sum.digest,
                count: sum.count,
                claimed: last,
            },
            gtid: Some(gtid.parse().unwrap()),
            commit_time: i64::MIN,
            source_time: i64::MIN,
            base: segment,
            deltas: vec![segment],
            log: "l".repeat(100),
            next_offset: u64::MAX,
            old: Some((segment, vec![segment; SEGMENTS_MAX - 1])),
        };
        let bytes = head.to_bytes();
        assert!(bytes.len() <= CELL_MAX, "{}", bytes.len());
        assert_eq!(Head::from_bytes(&"rooms".into(), &bytes).unwrap(), head);
    }
}
