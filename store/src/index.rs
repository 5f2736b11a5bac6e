//! The lines of a feed's history index: full cuts, segments that heads ceased to name, schemas that were replaced.
//!
//! The merger enters and clears them, the reader enters schemas; [`past`](crate::past) reads them.

use std::sync::Arc;

use bytes::Bytes;
use onair_model::{Bucket, CutRecord};
use onair_proto::convert::{self, ConvertError};
use onair_proto::v1;
use prost::Message;

use crate::head::{Head, LoadError, SegmentRef, damaged, segment_from_wire, segment_to_wire};
use crate::schema::FeedSchema;

/// What a line says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// A full cut that the cuts head held.
    Cut(CutRecord),
    /// What one move of a head left behind.
    Superseded(Superseded),
    /// A schema that another took the place of.
    Schema(FeedSchema),
}

/// Segments that a bucket's head names no more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Superseded {
    /// The bucket.
    pub bucket: Bucket,
    /// Bases.
    pub bases: Vec<SegmentRef>,
    /// Deltas.
    pub deltas: Vec<SegmentRef>,
}

impl Superseded {
    /// What `before` names and `after` does not; `None` when that is nothing.
    pub fn between(bucket: Bucket, before: &Head, after: &Head) -> Option<Self> {
        let is_gone = |segment: &&SegmentRef| after.segments().all(|named| named.id != segment.id);
        let gone = Superseded {
            bucket,
            bases: before.all_bases().filter(is_gone).copied().collect(),
            deltas: before.all_deltas().filter(is_gone).copied().collect(),
        };
        (!gone.bases.is_empty() || !gone.deltas.is_empty()).then_some(gone)
    }

    /// All of them.
    pub fn segments(&self) -> impl Iterator<Item = &SegmentRef> {
        self.bases.iter().chain(&self.deltas)
    }
}

impl Entry {
    /// A line's value.
    pub fn to_bytes(&self) -> Bytes {
        let entry = match self {
            Entry::Cut(cut) => v1::history_entry::Entry::Cut(convert::cut_to_wire(cut)),
            Entry::Superseded(gone) => v1::history_entry::Entry::Superseded(v1::Superseded {
                bucket: u32::from(gone.bucket.get()),
                bases: gone.bases.iter().map(segment_to_wire).collect(),
                deltas: gone.deltas.iter().map(segment_to_wire).collect(),
            }),
            Entry::Schema(schema) => v1::history_entry::Entry::Schema(schema.to_wire()),
        };
        v1::HistoryEntry { entry: Some(entry) }
            .encode_to_vec()
            .into()
    }

    /// What a line of this feed says.
    pub fn from_bytes(feed: &Arc<str>, bytes: &Bytes) -> Result<Self, LoadError> {
        let read = || -> Result<Self, ConvertError> {
            let entry = v1::HistoryEntry::decode(bytes.clone())?.entry;
            Ok(match entry.ok_or(ConvertError::Field("entry"))? {
                v1::history_entry::Entry::Cut(cut) => Entry::Cut(convert::cut_from_wire(cut)?),
                v1::history_entry::Entry::Superseded(gone) => Entry::Superseded(superseded(gone)?),
                v1::history_entry::Entry::Schema(schema) => {
                    Entry::Schema(FeedSchema::from_wire(schema)?)
                }
            })
        };
        read().map_err(|source| damaged(feed, "a line of the history".to_owned(), source))
    }
}

fn superseded(wire: v1::Superseded) -> Result<Superseded, ConvertError> {
    let list = |list: Vec<v1::SegmentRef>| -> Result<Vec<SegmentRef>, ConvertError> {
        list.into_iter().map(segment_from_wire).collect()
    };
    let bucket = u16::try_from(wire.bucket).map_err(|_| ConvertError::Field("bucket"))?;
    Ok(Superseded {
        bucket: Bucket::new(bucket),
        bases: list(wire.bases)?,
        deltas: list(wire.deltas)?,
    })
}
