//! Wire types to the model and back. What comes from outside is checked here, once: a value that converts
//! keeps every order and range that the model assumes.

use bytes::{Bytes, BytesMut};
use onair_model::cut::Proven;
use onair_model::schema::{Field, FieldKind, Schema};
use onair_model::{
    Body, Bucket, Commit, CutRecord, Digest, Epoch, Event, Gtid, GtidSet, Key, Lineage, Record,
    Row, Seal, Version,
};

use crate::entries::{self, Entries, EntriesError};
use crate::v1;

/// Why a message is not what it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConvertError {
    /// It is not a message of this type at all.
    #[error("not a message of this type: {0}")]
    Decode(#[from] prost::DecodeError),
    /// A field is missing or out of range.
    #[error("field {0} is missing or out of range")]
    Field(&'static str),
    /// The entries are cut short.
    #[error(transparent)]
    Entries(#[from] EntriesError),
}

type Result<T> = std::result::Result<T, ConvertError>;

/// 16 bytes, big-endian.
pub fn bytes16(value: u128) -> Bytes {
    Bytes::copy_from_slice(&value.to_be_bytes())
}

/// 16 bytes, big-endian.
pub fn u128_of(bytes: &[u8], field: &'static str) -> Result<u128> {
    <[u8; 16]>::try_from(bytes)
        .map(u128::from_be_bytes)
        .map_err(|_| ConvertError::Field(field))
}

/// A digest from its 16 bytes.
pub fn digest(bytes: &[u8]) -> Result<Digest> {
    u128_of(bytes, "digest").map(Digest::new)
}

/// A lineage from its 16 bytes.
pub fn lineage(bytes: &[u8]) -> Result<Lineage> {
    u128_of(bytes, "lineage").map(Lineage::new)
}

/// A version from its 64-bit form.
pub fn version(value: u64) -> Result<Version> {
    Version::from_u64(value).ok_or(ConvertError::Field("version"))
}

/// An epoch from its number.
pub fn epoch(value: u32) -> Result<Epoch> {
    Epoch::new(value).ok_or(ConvertError::Field("epoch"))
}

/// A GTID from its text; empty is none.
pub fn gtid(text: &str) -> Result<Option<Gtid>> {
    if text.is_empty() {
        return Ok(None);
    }
    text.parse()
        .map(Some)
        .map_err(|_| ConvertError::Field("gtid"))
}

/// A GTID set from its text.
pub fn gtid_set(text: &str) -> Result<GtidSet> {
    text.parse().map_err(|_| ConvertError::Field("executed"))
}

/// A GTID as text; none is empty.
pub fn gtid_text(gtid: Option<&Gtid>) -> String {
    gtid.map(ToString::to_string).unwrap_or_default()
}

fn bucket(number: u32) -> Result<Bucket> {
    u16::try_from(number)
        .map(Bucket::new)
        .map_err(|_| ConvertError::Field("bucket"))
}

/// A record for `bucket`'s partition.
pub fn record_to_wire(bucket: Bucket, record: &Record) -> v1::Record {
    let body = match &record.body {
        Body::Commits { prev, commits } => v1::record::Body::Commits(v1::Commits {
            prev: prev.get(),
            commits: commits.iter().map(commit_to_wire).collect(),
        }),
        Body::Replace { d, rows } => v1::record::Body::Replace(v1::Replace {
            d: d.get(),
            entries: entries::encode(rows.iter().map(|(key, row)| (key, Some(row)))),
        }),
        Body::Carry { old } => v1::record::Body::Carry(v1::Carry { old: old.get() }),
    };
    v1::Record {
        lineage: bytes16(record.lineage.get()),
        epoch: record.epoch.get(),
        body: Some(body),
        through: record.through.get(),
        digest: bytes16(record.digest.get()),
        count: record.count,
        source_time: record.source_time,
        reader_id: record.reader_id,
        part: record.part,
        parts: record.parts,
        bucket: u32::from(bucket.get()),
    }
}

/// A record and the bucket that it is for.
pub fn record_from_wire(wire: v1::Record) -> Result<(Bucket, Record)> {
    let epoch = epoch(wire.epoch)?;
    let body = match wire.body.ok_or(ConvertError::Field("body"))? {
        v1::record::Body::Commits(body) => {
            let prev = version(body.prev)?;
            let commits: Vec<Commit> = body
                .commits
                .into_iter()
                .map(commit_from_wire)
                .collect::<Result<_>>()?;
            let ascending = commits
                .windows(2)
                .all(|pair| pair[0].version < pair[1].version);
            let after = commits.first().is_none_or(|first| first.version > prev);
            let of_epoch = commits.iter().all(|commit| commit.version.epoch() == epoch);
            if !(ascending && after && of_epoch) {
                return Err(ConvertError::Field("commits"));
            }
            Body::Commits { prev, commits }
        }
        v1::record::Body::Replace(body) => Body::Replace {
            d: version(body.d)?,
            rows: Entries::new(body.entries)
                .map(|entry| match entry? {
                    (key, Some(row)) => Ok((key, row)),
                    (_, None) => Err(ConvertError::Field("entries")),
                })
                .collect::<Result<_>>()?,
        },
        v1::record::Body::Carry(body) => Body::Carry {
            old: version(body.old)?,
        },
    };
    let record = Record {
        lineage: lineage(&wire.lineage)?,
        epoch,
        body,
        through: version(wire.through)?,
        digest: digest(&wire.digest)?,
        count: wire.count,
        source_time: wire.source_time,
        reader_id: wire.reader_id,
        part: wire.part,
        parts: wire.parts.max(1),
    };
    if record.part >= record.parts {
        return Err(ConvertError::Field("part"));
    }
    Ok((bucket(wire.bucket)?, record))
}

/// A commit for the wire.
pub fn commit_to_wire(commit: &Commit) -> v1::Commit {
    v1::Commit {
        version: commit.version.get(),
        commit_time: commit.commit_time,
        gtid: commit.gtid.to_string(),
        events: commit.events.iter().map(event_to_wire).collect(),
    }
}

/// A commit, its keys ascending.
pub fn commit_from_wire(wire: v1::Commit) -> Result<Commit> {
    let events: Vec<Event> = wire
        .events
        .into_iter()
        .map(event_from_wire)
        .collect::<Result<_>>()?;
    if !events.windows(2).all(|pair| pair[0].key() < pair[1].key()) {
        return Err(ConvertError::Field("events"));
    }
    Ok(Commit {
        version: version(wire.version)?,
        commit_time: wire.commit_time,
        gtid: gtid(&wire.gtid)?.ok_or(ConvertError::Field("gtid"))?,
        events,
    })
}

fn event_to_wire(event: &Event) -> v1::Event {
    let kind = match event {
        Event::On { .. } => v1::event::Kind::On,
        Event::Change { .. } => v1::event::Kind::Change,
        Event::Off { .. } => v1::event::Kind::Off,
    };
    v1::Event {
        kind: kind.into(),
        key: event.key().to_bytes(),
        row: event
            .row()
            .map(|row| row.bytes().clone())
            .unwrap_or_default(),
    }
}

fn event_from_wire(wire: v1::Event) -> Result<Event> {
    let kind = v1::event::Kind::try_from(wire.kind).map_err(|_| ConvertError::Field("kind"))?;
    let key = Key::from_bytes(wire.key);
    let row = Row::new(wire.row);
    Ok(match kind {
        v1::event::Kind::On => Event::On { key, row },
        v1::event::Kind::Change => Event::Change { key, row },
        v1::event::Kind::Off => Event::Off { key },
        v1::event::Kind::Unspecified => return Err(ConvertError::Field("kind")),
    })
}

/// A cut for the wire.
pub fn cut_to_wire(cut: &CutRecord) -> v1::Cut {
    v1::Cut {
        lineage: bytes16(cut.lineage.get()),
        prev_cut: cut.prev_cut.get(),
        version: cut.version.get(),
        commit_time: cut.commit_time,
        source_time: cut.source_time,
        gtid: gtid_text(cut.gtid.as_ref()),
        executed: cut.executed.to_string(),
        position: cut.position.clone(),
        digest: bytes16(cut.digest.get()),
        count: cut.count,
        touched: cut
            .touched
            .iter()
            .map(|(bucket, d)| v1::Touched {
                bucket: u32::from(bucket.get()),
                d: d.get(),
            })
            .collect(),
        full: cut.full,
        proven: cut.proven.map(proven_to_wire),
        lost_tail: cut.lost_tail,
    }
}

/// A cut.
pub fn cut_from_wire(wire: v1::Cut) -> Result<CutRecord> {
    Ok(CutRecord {
        lineage: lineage(&wire.lineage)?,
        prev_cut: version(wire.prev_cut)?,
        version: version(wire.version)?,
        commit_time: wire.commit_time,
        source_time: wire.source_time,
        gtid: gtid(&wire.gtid)?,
        executed: gtid_set(&wire.executed)?,
        position: wire.position,
        digest: digest(&wire.digest)?,
        count: wire.count,
        touched: wire
            .touched
            .into_iter()
            .map(|touched| Ok((bucket(touched.bucket)?, version(touched.d)?)))
            .collect::<Result<_>>()?,
        full: wire.full,
        proven: wire.proven.map(proven_from_wire).transpose()?,
        lost_tail: wire.lost_tail,
    })
}

/// A proof for the wire.
pub fn proven_to_wire(proven: Proven) -> v1::Proven {
    v1::Proven {
        version: proven.version.get(),
        at: proven.at,
    }
}

/// A proof.
pub fn proven_from_wire(wire: v1::Proven) -> Result<Proven> {
    Ok(Proven {
        version: version(wire.version)?,
        at: wire.at,
    })
}

/// A seal; `executed` is what the receiver must add to the set that it holds.
pub fn seal_to_wire(seal: &Seal, executed: &GtidSet) -> v1::Seal {
    v1::Seal {
        version: seal.version.get(),
        digest: bytes16(seal.digest.get()),
        count: seal.count,
        commit_time: seal.commit_time,
        gtid: gtid_text(seal.gtid.as_ref()),
        executed: executed.to_string(),
        proven: seal.proven.map(proven_to_wire),
        source_time: seal.source_time,
        rewound: seal.rewound,
        lineage: bytes16(seal.lineage.get()),
    }
}

/// A seal; its `executed` is what the sender wrote, whole or a delta.
pub fn seal_from_wire(wire: v1::Seal) -> Result<Seal> {
    Ok(Seal {
        lineage: lineage(&wire.lineage)?,
        version: version(wire.version)?,
        digest: digest(&wire.digest)?,
        count: wire.count,
        commit_time: wire.commit_time,
        source_time: wire.source_time,
        gtid: gtid(&wire.gtid)?,
        executed: std::sync::Arc::new(gtid_set(&wire.executed)?),
        proven: wire.proven.map(proven_from_wire).transpose()?,
        rewound: wire.rewound,
    })
}

/// A frame's payload: every key touched.
pub fn touched_to_wire(touched: &[(Key, Option<Row>)]) -> Bytes {
    let size = touched
        .iter()
        .map(|(key, row)| entries::size(key, row.as_ref()))
        .sum();
    let mut out = BytesMut::with_capacity(size);
    for (key, row) in touched {
        entries::write(&mut out, key, row.as_ref());
    }
    out.freeze()
}

/// A frame and the digest and count of the seal after it.
pub fn frame_from_wire(wire: v1::Frame, digest: Digest, count: u64) -> Result<onair_model::Frame> {
    Ok(onair_model::Frame {
        from: version(wire.from)?,
        to: version(wire.to)?,
        exact: wire.exact,
        touched: Entries::new(wire.entries)
            .map(|entry| Ok(entry?))
            .collect::<Result<_>>()?,
        digest,
        count,
    })
}

const KINDS: &[(FieldKind, &str)] = &[
    (FieldKind::Int, "int"),
    (FieldKind::UInt, "uint"),
    (FieldKind::Float, "float"),
    (FieldKind::Double, "double"),
    (FieldKind::Decimal, "decimal"),
    (FieldKind::Bit, "bit"),
    (FieldKind::Year, "year"),
    (FieldKind::Date, "date"),
    (FieldKind::Time, "time"),
    (FieldKind::DateTime, "datetime"),
    (FieldKind::Timestamp, "timestamp"),
    (FieldKind::Text, "text"),
    (FieldKind::Binary, "binary"),
    (FieldKind::Enum, "enum"),
    (FieldKind::Set, "set"),
    (FieldKind::Json, "json"),
    (FieldKind::Vector, "vector"),
    (FieldKind::Geometry, "geometry"),
];

/// A schema for the wire.
pub fn schema_to_wire(schema: &Schema, buckets: usize) -> v1::Schema {
    let field = |field: &Field| v1::Field {
        column: field.column.to_string(),
        name: field.name.to_string(),
        number: field.number,
        kind: KINDS
            .iter()
            .find(|(kind, _)| *kind == field.kind)
            .map(|(_, text)| (*text).to_owned())
            .unwrap_or_default(),
    };
    v1::Schema {
        feed: schema.feed.to_string(),
        table: schema.table.to_string(),
        key: schema.key.iter().map(field).collect(),
        columns: schema.columns.iter().map(field).collect(),
        buckets: buckets as u32,
    }
}

/// A schema and the number of buckets.
pub fn schema_from_wire(wire: v1::Schema) -> Result<(Schema, u32)> {
    let field = |field: v1::Field| {
        let kind = KINDS.iter().find(|(_, text)| *text == field.kind);
        Ok(Field {
            column: field.column.into(),
            name: field.name.into(),
            number: field.number,
            kind: kind.ok_or(ConvertError::Field("kind"))?.0,
        })
    };
    let schema = Schema {
        feed: wire.feed.into(),
        table: wire.table.into(),
        key: wire.key.into_iter().map(field).collect::<Result<_>>()?,
        columns: wire.columns.into_iter().map(field).collect::<Result<_>>()?,
    };
    Ok((schema, wire.buckets))
}
