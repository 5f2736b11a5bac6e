//! The messages that the fake server sends.

use std::time::Duration;

use bytes::Bytes;
use onair_model::schema::Schema;
use onair_model::{GtidSet, Key, Lineage, Row, Seal, Version};
use onair_proto::v1::subscribe_response::Message;
use onair_proto::{convert, entries, v1};

pub(crate) fn start_whole(schema: &Schema, seal: &Seal, buckets: usize, reason: &str) -> Message {
    Message::Start(v1::Start {
        mode: v1::start::Mode::Full.into(),
        reason: reason.to_owned(),
        lineage: convert::bytes16(seal.lineage.get()),
        schema: Some(convert::schema_to_wire(schema, buckets)),
        count: seal.count,
        version: seal.version.get(),
    })
}

pub(crate) fn start_resume(
    schema: &Schema,
    lineage: Lineage,
    version: Version,
    buckets: usize,
) -> Message {
    Message::Start(v1::Start {
        mode: v1::start::Mode::Resume.into(),
        reason: String::new(),
        lineage: convert::bytes16(lineage.get()),
        schema: Some(convert::schema_to_wire(schema, buckets)),
        count: 0,
        version: version.get(),
    })
}

pub(crate) fn chunk(version: Version, index: u32, rows: &[(Key, Bytes)]) -> Message {
    let rows: Vec<(Key, Row)> = rows
        .iter()
        .map(|(key, row)| (key.clone(), Row::new(row.clone())))
        .collect();
    Message::Chunk(v1::Chunk {
        version: version.get(),
        index,
        entries: entries::encode(rows.iter().map(|(key, row)| (key, Some(row)))),
    })
}

pub(crate) fn frame(
    from: Version,
    to: Version,
    exact: bool,
    touched: &[(Key, Option<Row>)],
) -> Message {
    Message::Frame(v1::Frame {
        from: from.get(),
        to: to.get(),
        exact,
        entries: convert::touched_to_wire(touched),
    })
}

pub(crate) fn seal(seal: &Seal, executed: &GtidSet) -> Message {
    Message::Seal(convert::seal_to_wire(seal, executed))
}

pub(crate) fn progress(seal: &Seal, executed: &GtidSet, held: &str, age: Duration) -> Message {
    Message::Progress(v1::Progress {
        version: seal.version.get(),
        source_time: seal.source_time,
        executed: executed.to_string(),
        proven: seal.proven.map(convert::proven_to_wire),
        held: held.to_owned(),
        age_ms: u64::try_from(age.as_millis()).unwrap_or(u64::MAX),
    })
}

pub(crate) fn go_away(retry_after: Duration, reason: &str) -> Message {
    let retry_after_ms = u32::try_from(retry_after.as_millis()).unwrap_or(u32::MAX);
    Message::GoAway(v1::GoAway {
        retry_after_ms,
        reason: reason.to_owned(),
    })
}

pub(crate) fn not_yet(version: Version, retry_after: Duration) -> Message {
    let retry_after_ms = u32::try_from(retry_after.as_millis()).unwrap_or(u32::MAX);
    Message::NotYet(v1::NotYet {
        version: version.get(),
        retry_after_ms,
    })
}
