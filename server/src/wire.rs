//! gRPC messages as bytes, framed once and shared by every subscriber.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use onair_model::plant::{Bug, planted};
use onair_model::{Frame, GtidSet, Seal, Snapshot};
use onair_proto::{convert, entries, v1};
use prost::Message;

/// Payload of one chunk, in bytes: below every client's default message limit, large enough for few messages, and with
/// what is around it within one HTTP/2 frame of 256 KiB, which our SDK allows.
pub(crate) const CHUNK_BYTES: usize = 255 * 1024;

/// Appends one message with gRPC's five-byte prefix.
pub(crate) fn append(out: &mut BytesMut, message: v1::subscribe_response::Message) {
    let response = v1::SubscribeResponse {
        message: Some(message),
    };
    let len = response.encoded_len();
    out.reserve(5 + len);
    out.put_u8(0);
    out.put_u32(len as u32);
    response.encode_raw(out);
}

/// One framed message.
pub(crate) fn message(message: v1::subscribe_response::Message) -> Bytes {
    let mut out = BytesMut::new();
    append(&mut out, message);
    out.freeze()
}

/// A frame and its seal; `executed` is what came to the set since the seal before.
pub(crate) fn frame(frame: &Frame, seal: &Seal, executed: &GtidSet) -> BytesMut {
    let mut out = BytesMut::new();
    let mut rest = &frame.touched[..];
    loop {
        let mut bytes = 0;
        let fits = rest.iter().take_while(|(key, row)| {
            bytes += entries::size(key, row.as_ref());
            bytes <= CHUNK_BYTES
        });
        let (piece, later) = rest.split_at(fits.count().max(1).min(rest.len()));
        let body = v1::Frame {
            from: frame.from.get(),
            to: frame.to.get(),
            exact: frame.exact,
            entries: convert::touched_to_wire(piece),
        };
        append(&mut out, v1::subscribe_response::Message::Frame(body));
        rest = later;
        if rest.is_empty() {
            break;
        }
    }
    append(
        &mut out,
        v1::subscribe_response::Message::Seal(convert::seal_to_wire(seal, executed)),
    );
    out
}

/// Appends that the content was complete so long ago; `executed` is what came to the set since the message before.
pub(crate) fn progress(
    out: &mut BytesMut,
    seal: &Seal,
    executed: &GtidSet,
    held: &str,
    age: Duration,
) {
    let message = v1::Progress {
        version: seal.version.get(),
        source_time: seal.source_time,
        executed: executed.to_string(),
        proven: seal.proven.map(convert::proven_to_wire),
        held: held.to_owned(),
        age_ms: age.as_millis() as u64,
    };
    append(out, v1::subscribe_response::Message::Progress(message));
}

/// A snapshot's chunks and its seal.
pub(crate) fn snapshot(snapshot: &Snapshot) -> Vec<Bytes> {
    let mut messages = Vec::new();
    let version = snapshot.seal.version.get();
    let mut index = 0;
    let mut held = BytesMut::with_capacity(CHUNK_BYTES + 4096);
    let mut chunk = |held: &mut BytesMut| {
        let chunk = v1::Chunk {
            version,
            index,
            entries: held.split().freeze(),
        };
        index += 1;
        let mut out = BytesMut::new();
        append(&mut out, v1::subscribe_response::Message::Chunk(chunk));
        out
    };
    for (key, row) in snapshot.iter() {
        if held.len() + entries::size(key, Some(row)) > CHUNK_BYTES && !held.is_empty() {
            messages.push(chunk(&mut held).freeze());
            if planted(Bug::DigestIgnored) && messages.len() == 1 {
                continue;
            }
        }
        entries::write(&mut held, key, Some(row));
    }
    // The seal goes out with the last of them.
    let mut last = match held.is_empty() {
        true => BytesMut::new(),
        false => chunk(&mut held),
    };
    let seal = convert::seal_to_wire(&snapshot.seal, &snapshot.seal.executed);
    append(&mut last, v1::subscribe_response::Message::Seal(seal));
    messages.push(last.freeze());
    messages
}
