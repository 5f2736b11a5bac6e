//! The binlog as sent: the driver's dump, each event's checksum verified, silence noticed.
//!
//! In: a GTID set. Out: [`RawEvent`]s in server order, those of a compressed transaction as the one event that
//! the server sent. Wrong: a difference in a checksum is [`SourceError::Damaged`], a stream that says nothing,
//! not even a heartbeat, [`SourceError::Silent`].

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{FutureExt, StreamExt};
use mysql_async::binlog::events::Event;
use mysql_async::{BinlogStream, Error};
use tokio::time::{Instant, timeout_at};

use super::errors::explain_dump;
use crate::source::{EventStream, RawEvent, SILENCE_MAX, SourceError};

const FORMAT_DESCRIPTION_EVENT: u8 = 15;
/// Of the format description event, set while the file is open and left out of its checksum.
const BINLOG_IN_USE: u16 = 1;
const HEADER_LEN: usize = 19;
const CHECKSUM_LEN: usize = 4;
/// The last byte of a format description event: events carry a CRC-32.
const CRC32: u8 = 1;

/// An open dump.
pub(super) struct Events {
    stream: BinlogStream,
    /// What `follow` read to see whether the server agrees.
    first: Option<RawEvent>,
    checksums: Checksums,
    quiet: Quiet,
    asked: Asked,
}

/// What was asked for, for errors.
pub(super) struct Asked {
    /// host:port.
    pub(super) address: Arc<str>,
    /// The set to begin after.
    pub(super) from: String,
    /// Our own id.
    pub(super) server_id: u32,
}

impl Asked {
    /// What the server or the driver said, as what to do next.
    pub(super) fn explain(&self, err: &Error) -> SourceError {
        explain_dump(&self.address, &self.from, self.server_id, err)
    }
}

impl Events {
    /// Waits for the first event: a server that refuses does so instead of it.
    pub(super) async fn open(stream: BinlogStream, asked: Asked) -> Result<Self, SourceError> {
        let mut events = Events {
            stream,
            first: None,
            checksums: Checksums::Unknown,
            quiet: Quiet::default(),
            asked,
        };
        events.first = Some(events.next().await?);
        Ok(events)
    }

    /// What the driver gave: an event of the server's, or nothing when it is one that the driver made.
    fn take(
        &mut self,
        item: Option<Result<Event, Error>>,
    ) -> Result<Option<RawEvent>, SourceError> {
        self.quiet.heard();
        let event = match item {
            Some(Ok(event)) => event,
            Some(Err(err)) => return Err(self.asked.explain(&err)),
            None => {
                return Err(SourceError::Unreachable {
                    address: self.asked.address.to_string(),
                    reason: "the server ended the binlog stream".to_owned(),
                });
            }
        };
        // The driver unpacks a compressed transaction and gives its events after it; those, and only those,
        // have the checksum switched off in their footer.
        if !event.footer().get_checksum_enabled() {
            return Ok(None);
        }
        self.checksums
            .verify(&event)
            .map(Some)
            .map_err(|reason| SourceError::Damaged {
                at: format!(
                    "{}, event before position {}",
                    self.asked.address,
                    event.header().log_pos()
                ),
                reason,
            })
    }
}

#[async_trait]
impl EventStream for Events {
    async fn next(&mut self) -> Result<RawEvent, SourceError> {
        loop {
            if let Some(event) = self.try_next()? {
                return Ok(event);
            }
            let deadline = self.quiet.since() + SILENCE_MAX;
            match timeout_at(deadline, self.stream.next()).await {
                Ok(item) => {
                    if let Some(event) = self.take(item)? {
                        return Ok(event);
                    }
                }
                // We may have been the ones who slept: whatever has arrived meanwhile is still good.
                Err(_) => {
                    tokio::task::yield_now().await;
                    if let Some(event) = self.try_next()? {
                        return Ok(event);
                    }
                    return Err(SourceError::Silent {
                        address: self.asked.address.to_string(),
                        seconds: SILENCE_MAX.as_secs(),
                    });
                }
            }
        }
    }

    fn try_next(&mut self) -> Result<Option<RawEvent>, SourceError> {
        if let Some(first) = self.first.take() {
            return Ok(Some(first));
        }
        loop {
            match self.stream.next().now_or_never() {
                Some(item) => {
                    if let Some(event) = self.take(item)? {
                        return Ok(Some(event));
                    }
                }
                None => return Ok(None),
            }
        }
    }
}

/// Since when nothing has come although we looked.
#[derive(Default)]
struct Quiet(Option<Instant>);

impl Quiet {
    fn heard(&mut self) {
        self.0 = None;
    }

    fn since(&mut self) -> Instant {
        *self.0.get_or_insert_with(Instant::now)
    }
}

/// Whether events carry a checksum, as the latest format description event says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Checksums {
    /// None has come: the artificial rotate event before it carries one or not.
    Unknown,
    Absent,
    Crc32,
}

impl Checksums {
    fn verify(&mut self, event: &Event) -> Result<RawEvent, String> {
        let header = event.header();
        let kind = header.event_type_raw();
        let data = event.data();
        let mut body = data;
        let mut algorithm_byte = None;
        if kind == FORMAT_DESCRIPTION_EVENT {
            let algorithm = event
                .footer()
                .get_checksum_alg()
                .map_err(|err| format!("unknown checksum algorithm: {err}"))?
                .map_or(0, |algorithm| algorithm as u8);
            *self = match algorithm {
                CRC32 => Checksums::Crc32,
                _ => Checksums::Absent,
            };
            // The driver cuts it off with the checksum, but it belongs to the body.
            algorithm_byte = event.checksum().map(|_| algorithm);
            if let Some(sum) = event.checksum() {
                let flags = header.flags_raw() & !BINLOG_IN_USE;
                compare(event, flags, &[data, &[algorithm]], sum)?;
            }
        } else {
            match (*self, event.checksum()) {
                (Checksums::Crc32, Some(sum)) => compare(event, header.flags_raw(), &[data], sum)?,
                (Checksums::Unknown, _) if data.len() >= CHECKSUM_LEN => {
                    let (without, sum) = data.split_at(data.len() - CHECKSUM_LEN);
                    let sum = [sum[0], sum[1], sum[2], sum[3]];
                    if compare(event, header.flags_raw(), &[without], sum).is_ok() {
                        body = without;
                    }
                }
                _ => {}
            }
        }
        Ok(RawEvent {
            kind,
            flags: header.flags_raw(),
            timestamp: header.timestamp(),
            server_id: header.server_id(),
            next_position: header.log_pos(),
            body: match algorithm_byte {
                Some(algorithm) => [body, &[algorithm]].concat().into(),
                None => Bytes::copy_from_slice(body),
            },
        })
    }
}

fn compare(
    event: &Event,
    flags: u16,
    parts: &[&[u8]],
    sum: [u8; CHECKSUM_LEN],
) -> Result<(), String> {
    let header = event.header();
    let mut bytes = [0; HEADER_LEN];
    bytes[..4].copy_from_slice(&header.timestamp().to_le_bytes());
    bytes[4] = header.event_type_raw();
    bytes[5..9].copy_from_slice(&header.server_id().to_le_bytes());
    bytes[9..13].copy_from_slice(&header.event_size().to_le_bytes());
    bytes[13..17].copy_from_slice(&header.log_pos().to_le_bytes());
    bytes[17..19].copy_from_slice(&flags.to_le_bytes());
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&bytes);
    for part in parts {
        hasher.update(part);
    }
    let (computed, sent) = (hasher.finalize(), u32::from_le_bytes(sum));
    if computed == sent {
        return Ok(());
    }
    Err(format!(
        "checksum {sent:08x} of an event of kind {} with {} bytes, but its bytes give {computed:08x}",
        header.event_type_raw(),
        header.event_size()
    ))
}
