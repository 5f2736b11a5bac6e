//! The binlog as sent: each event's checksum verified, silence noticed.
//!
//! In: a connection on which a dump was begun. Out: [`RawEvent`]s in server order, as the server sent them. Wrong:
//! a difference in length or checksum is [`SourceError::Damaged`], a stream that says nothing, not even a
//! heartbeat, [`SourceError::Silent`].

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use mysql_async::Error;
use tokio::time::{Instant, timeout_at};

use super::errors::explain_dump;
use super::wire::Wire;
use crate::source::{EventStream, RawEvent, SILENCE_MAX, SourceError};

/// Until the server has found the place to begin at, in a binlog file of a gigabyte that may have to come from a
/// slow disk. It says nothing meanwhile, or only that it begins.
const START_MAX: Duration = Duration::from_secs(60);
const ROTATE_EVENT: u8 = 4;
const FORMAT_DESCRIPTION_EVENT: u8 = 15;
const PREVIOUS_GTIDS_EVENT: u8 = 35;
const MARIADB_BINLOG_CHECKPOINT_EVENT: u8 = 161;
const MARIADB_GTID_LIST_EVENT: u8 = 163;
/// Flag of the format description event, set while the file is open and left out of its checksum.
const BINLOG_IN_USE: u8 = 1;
const HEADER_LEN: usize = 19;
/// Where the flags stand in the header.
const FLAGS_AT: usize = 17;
const CHECKSUM_LEN: usize = 4;
/// The byte before a format description event's checksum: whether events carry one.
const ALGORITHM_NONE: u8 = 0;
const ALGORITHM_CRC32: u8 = 1;

/// An open dump.
pub(super) struct Events {
    wire: Wire,
    /// What `open` read to see whether the server agrees.
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
    /// What the server or the transport said, as what to do next.
    pub(super) fn explain(&self, err: &Error) -> SourceError {
        explain_dump(&self.address, &self.from, self.server_id, err)
    }

    pub(super) fn silent(&self, limit: Duration) -> SourceError {
        SourceError::Silent {
            address: self.address.to_string(),
            seconds: limit.as_secs(),
        }
    }
}

impl Events {
    /// Waits for the first event: a server that refuses does so instead of it.
    pub(super) async fn open(wire: Wire, asked: Asked) -> Result<Self, SourceError> {
        let mut events = Events {
            wire,
            first: None,
            checksums: Checksums::Unknown,
            quiet: Quiet::default(),
            asked,
        };
        events.first = Some(events.next().await?);
        Ok(events)
    }

    fn take(&mut self, event: Result<Bytes, Error>) -> Result<RawEvent, SourceError> {
        let event = event.map_err(|err| self.asked.explain(&err))?;
        let event = self
            .checksums
            .opened(&event)
            .map_err(|reason| SourceError::Damaged {
                at: format!("{}, binlog stream", self.asked.address),
                reason,
            })?;
        self.quiet.heard(event.kind);
        Ok(event)
    }
}

#[async_trait]
impl EventStream for Events {
    async fn next(&mut self) -> Result<RawEvent, SourceError> {
        if let Some(event) = self.try_next()? {
            return Ok(event);
        }
        let deadline = self.quiet.deadline();
        if let Ok(event) = timeout_at(deadline, self.wire.event()).await {
            return self.take(event);
        }
        // We may have been the ones who slept: whatever has arrived meanwhile is still good.
        tokio::task::yield_now().await;
        match self.try_next()? {
            Some(event) => Ok(event),
            None => Err(self.asked.silent(self.quiet.limit())),
        }
    }

    fn try_next(&mut self) -> Result<Option<RawEvent>, SourceError> {
        if let Some(first) = self.first.take() {
            return Ok(Some(first));
        }
        match self.wire.try_event() {
            Ok(Some(event)) => self.take(Ok(event)).map(Some),
            Ok(None) => Ok(None),
            Err(err) => self.take(Err(err)).map(Some),
        }
    }
}

/// How long nothing has come although we looked, and how long that is normal.
#[derive(Default)]
struct Quiet {
    since: Option<Instant>,
    /// The server has found its place: from here on there are transactions or heartbeats.
    begun: bool,
}

impl Quiet {
    fn heard(&mut self, kind: u8) {
        self.since = None;
        self.begun |= !matches!(
            kind,
            ROTATE_EVENT
                | FORMAT_DESCRIPTION_EVENT
                | PREVIOUS_GTIDS_EVENT
                | MARIADB_BINLOG_CHECKPOINT_EVENT
                | MARIADB_GTID_LIST_EVENT
        );
    }

    fn limit(&self) -> Duration {
        if self.begun { SILENCE_MAX } else { START_MAX }
    }

    fn deadline(&mut self) -> Instant {
        *self.since.get_or_insert_with(Instant::now) + self.limit()
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
    /// Checks an event's length and checksum, and takes it apart.
    fn opened(&mut self, event: &Bytes) -> Result<RawEvent, String> {
        let Some((header, _)) = event.split_first_chunk::<HEADER_LEN>() else {
            return Err(format!("an event of {} bytes has no header", event.len()));
        };
        let number = |at: usize| {
            u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
        };
        if number(9) as usize != event.len() {
            return Err(format!(
                "an event of {} bytes says that it has {}",
                event.len(),
                number(9)
            ));
        }
        let kind = header[4];
        let body_end = if kind == FORMAT_DESCRIPTION_EVENT {
            self.described(event)?
        } else {
            match self {
                Checksums::Crc32 => verified(event, header)?,
                Checksums::Absent => event.len(),
                Checksums::Unknown => verified(event, header).unwrap_or(event.len()),
            }
        };
        Ok(RawEvent {
            kind,
            flags: u16::from_le_bytes([header[FLAGS_AT], header[FLAGS_AT + 1]]),
            timestamp: number(0),
            server_id: number(5),
            next_position: number(13),
            body: event.slice(HEADER_LEN..body_end),
        })
    }

    /// A format description event: always with a checksum, and before it the byte that tells of the others.
    fn described(&mut self, event: &Bytes) -> Result<usize, String> {
        let mut header = [0; HEADER_LEN];
        header.copy_from_slice(&event[..HEADER_LEN]);
        header[FLAGS_AT] &= !BINLOG_IN_USE;
        let end = verified(event, &header)?;
        *self = match event[end - 1] {
            ALGORITHM_NONE => Checksums::Absent,
            ALGORITHM_CRC32 => Checksums::Crc32,
            other => {
                return Err(format!(
                    "events carry checksums of an unknown kind, {other}"
                ));
            }
        };
        Ok(end)
    }
}

/// Where the body ends and the checksum, which agrees, begins.
fn verified(event: &[u8], header: &[u8; HEADER_LEN]) -> Result<usize, String> {
    let end = event.len().saturating_sub(CHECKSUM_LEN);
    let (Some(body), Some(sum)) = (event.get(HEADER_LEN..end), event.last_chunk()) else {
        return Err(format!("an event of {} bytes has no checksum", event.len()));
    };
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(header);
    hasher.update(body);
    let (computed, sent) = (hasher.finalize(), u32::from_le_bytes(*sum));
    if computed == sent {
        return Ok(end);
    }
    Err(format!(
        "an event of kind {} with {} bytes has checksum {sent:08x}, but its bytes give {computed:08x}",
        header[4],
        event.len()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An event with a checksum that agrees.
    fn event(kind: u8, flags: u16, body: &[u8]) -> Vec<u8> {
        let len = (HEADER_LEN + body.len() + CHECKSUM_LEN) as u32;
        let mut event = vec![1, 0, 0, 0, kind, 7, 0, 0, 0];
        event.extend_from_slice(&len.to_le_bytes());
        event.extend_from_slice(&[9, 0, 0, 0]);
        event.extend_from_slice(&flags.to_le_bytes());
        event.extend_from_slice(body);
        let sum = crc32fast::hash(&event);
        event.extend_from_slice(&sum.to_le_bytes());
        event
    }

    fn opened(checksums: &mut Checksums, event: &[u8]) -> Result<RawEvent, String> {
        checksums.opened(&Bytes::copy_from_slice(event))
    }

    #[test]
    fn the_format_description_says_whether_there_are_checksums() {
        let mut checksums = Checksums::Unknown;
        let rotate = opened(&mut checksums, &event(4, 0x20, b"binlog.1")).unwrap();
        assert_eq!(&rotate.body[..], b"binlog.1");
        let described = opened(&mut checksums, &event(15, 0, b"5.6\x01")).unwrap();
        assert_eq!(&described.body[..], b"5.6\x01");
        assert_eq!(checksums, Checksums::Crc32);
        let xid = opened(&mut checksums, &event(16, 0, b"12345678")).unwrap();
        assert_eq!((xid.kind, xid.timestamp, xid.server_id), (16, 1, 7));
        assert_eq!((xid.next_position, &xid.body[..]), (9, &b"12345678"[..]));

        opened(&mut checksums, &event(15, 0, b"5.6\x00")).unwrap();
        let plain = opened(&mut checksums, &event(16, 0, b"12345678")).unwrap();
        assert_eq!(
            plain.body.len(),
            8 + CHECKSUM_LEN,
            "they belong to the body"
        );
        assert!(opened(&mut checksums, &event(15, 0, b"5.6\x07")).is_err());
    }

    #[test]
    fn a_file_in_use_does_not_change_its_checksum() {
        let mut in_use = event(15, 0, b"5.6\x01");
        in_use[FLAGS_AT] |= BINLOG_IN_USE;
        assert!(opened(&mut Checksums::Unknown, &in_use).is_ok());
    }

    #[test]
    fn any_changed_bit_is_damage() {
        let good = event(30, 0, b"rows of some table");
        for at in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[at / 8] ^= 1 << (at % 8);
            let mut checksums = Checksums::Crc32;
            // The kind decides how the rest is read, but never lets it through unread.
            assert!(opened(&mut checksums, &bad).is_err(), "bit {at}");
        }
        for len in 0..good.len() {
            assert!(
                opened(&mut Checksums::Crc32, &good[..len]).is_err(),
                "{len} bytes"
            );
        }
        assert!(opened(&mut Checksums::Crc32, &good).is_ok());
    }
}
