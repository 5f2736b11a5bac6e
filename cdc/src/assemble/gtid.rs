//! The events that begin a group: GTID_LOG and GTID_TAGGED_LOG of MySQL, GTID of MariaDB.

use onair_model::Gtid;
use onair_model::gtid::{SourceId, Tag};

use super::body::{Body, Malformed};

/// What the first event of a group says of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) gtid: Gtid,
    /// Microseconds since 1970; `None` when the server does not say.
    pub(super) commit_time: Option<i64>,
    /// Whether statements and rows follow up to a commit at once, without BEGIN.
    pub(super) opened: bool,
}

/// GTID_LOG: fixed offsets; what a newer server appends is left alone.
pub(super) fn mysql(body: &[u8]) -> Result<Head, Malformed> {
    /// The type code of the logical timestamps; other layouts end before the commit time.
    const LOGICAL_TIMESTAMPS: u8 = 2;
    /// Set when the original commit time follows, because it differs.
    const HAS_ORIGINAL: u64 = 1 << 55;

    let mut body = Body(body);
    let _flags = body.u8()?;
    let uuid = uuid(body.take(16)?)?;
    let number = body.number(8)?;
    let mut commit_time = 0;
    if !body.is_empty() && body.u8()? == LOGICAL_TIMESTAMPS {
        body.take(16)?;
        if !body.is_empty() {
            commit_time = body.number(7)? & !HAS_ORIGINAL;
        }
    }
    let source = SourceId {
        uuid,
        tag: Tag::NONE,
    };
    head(source, number, commit_time)
}

/// GTID_TAGGED_LOG: a message of MySQL's serialization library, version, size, last field that must be known, then
/// pairs of field id and value (libs/mysql/binlog/event/control_events.h, `Gtid_event::define_fields`).
pub(super) fn mysql_tagged(body: &[u8]) -> Result<Head, Malformed> {
    const VERSION: u64 = 1;

    let mut message = Body(body);
    let whole = message.0.len();
    if message.varlen()? != VERSION {
        return Err(Malformed("its serialization version is unknown"));
    }
    let size = message.varlen()?;
    let last_to_know = message.varlen()?;
    let header = whole - message.0.len();
    let size = usize::try_from(size)
        .ok()
        .and_then(|size| size.checked_sub(header));
    let mut fields = Body(message.take(size.ok_or(Malformed("its size is too small"))?)?);

    let (mut uuid, mut tag, mut number, mut commit_time) = (None, Tag::NONE, 0, 0);
    while !fields.is_empty() {
        match fields.varlen()? {
            1 => {
                let mut bytes = [0; 16];
                for byte in &mut bytes {
                    *byte = u8::try_from(fields.varlen()?)
                        .map_err(|_| Malformed("its UUID has a byte above 255"))?;
                }
                uuid = Some(u128::from_be_bytes(bytes));
            }
            2 => number = fields.varlen_positive()?,
            3 => {
                let length = usize::try_from(fields.varlen()?)
                    .map_err(|_| Malformed("its tag is too long"))?;
                tag = std::str::from_utf8(fields.take(length)?)
                    .ok()
                    .and_then(Tag::new)
                    .ok_or(Malformed("its tag is none"))?;
            }
            6 => commit_time = fields.varlen()?,
            // Flags, logical timestamps, original time, length, versions, group ticket: integers, whose coded
            // length does not depend on their sign.
            0 | 4 | 5 | 7..=11 => {
                fields.varlen()?;
            }
            // Fields ascend, and the type of an unknown one is unknown: nothing after it can be read.
            unknown if unknown > last_to_know => break,
            _ => return Err(Malformed("it has an unknown field that must be understood")),
        }
    }
    let uuid = uuid.ok_or(Malformed("it has no UUID"))?;
    head(SourceId { uuid, tag }, number, commit_time)
}

fn uuid(bytes: &[u8]) -> Result<u128, Malformed> {
    let bytes = bytes
        .try_into()
        .map_err(|_| Malformed("its UUID is too short"))?;
    Ok(u128::from_be_bytes(bytes))
}

fn head(source: SourceId, number: u64, commit_time: u64) -> Result<Head, Malformed> {
    if number == 0 || number > i64::MAX as u64 {
        return Err(Malformed("its number is out of range"));
    }
    Ok(Head {
        gtid: Gtid::Mysql { source, number },
        commit_time: i64::try_from(commit_time).ok().filter(|&micros| micros > 0),
        opened: false,
    })
}
