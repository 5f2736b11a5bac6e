//! The dump thread: from a GTID set to raw events, as a server sends them after COM_BINLOG_DUMP_GTID.

use std::collections::VecDeque;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use onair_model::{Gtid, GtidSet};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::event::{self, CHECKSUM, Events, HEADER, SERVER_ID, flag, kind, u32_at};
use super::hooks::Network;
use super::server::{ADDRESS, Shared, disconnected};
use super::state::State;
use crate::source::{EventStream, RawEvent, SILENCE_MAX, SourceError};

/// Transactions taken at once.
const BATCH: usize = 64;

/// A connection that dumps the binlog.
#[derive(Debug)]
pub(super) struct DemoStream {
    shared: Arc<Shared>,
    changes: watch::Receiver<u64>,
    incarnation: u64,
    /// What the client has.
    from: GtidSet,
    cursor: Cursor,
    /// Events with headers, one or more in each piece.
    ready: VecDeque<Bytes>,
    /// When the last event came.
    last_at: Instant,
}

/// What the dump thread could do.
enum Filled {
    /// It sent all that it may send before this time.
    Until(Option<Instant>),
    /// The network swallows everything.
    Hung,
}

/// Where the dump thread stands.
#[derive(Debug)]
struct Cursor {
    file: u64,
    /// Whether the file's head was sent.
    opened: bool,
    /// Index of the next transaction.
    next: usize,
    /// Position after the last event looked at.
    position: u32,
}

impl DemoStream {
    /// Opens the binlog just after `from`.
    pub(super) fn open(shared: Arc<Shared>, from: &GtidSet) -> Result<Self, SourceError> {
        let purged = |reason: &str| SourceError::Purged {
            address: ADDRESS.into(),
            from: from.to_string(),
            reason: reason.into(),
        };
        let state = shared.connect()?;
        if has_more(from, &state) {
            return Err(purged(
                "the client has more GTIDs than the source has, using the source's SERVER_UUID",
            ));
        }
        let file = if from.contains_set(state.binlog.purged()) {
            state.binlog.start(from)
        } else {
            None
        };
        let Some(file) = file else {
            return Err(purged(
                "the source has purged binary logs containing GTIDs that the client requires",
            ));
        };
        let incarnation = state.incarnation;
        drop(state);
        Ok(DemoStream {
            changes: shared.changes(),
            incarnation,
            from: from.clone(),
            cursor: Cursor {
                file,
                opened: false,
                next: 0,
                position: 0,
            },
            ready: VecDeque::new(),
            last_at: Instant::now(),
            shared,
        })
    }

    /// The next event if there is one; otherwise when to look again if the server does not change before.
    fn poll(&mut self) -> Result<Result<RawEvent, Instant>, SourceError> {
        let now = Instant::now();
        let mut next_sent = None;
        if self.ready.is_empty() {
            next_sent = match self.fill(now)? {
                Filled::Hung => return self.silence(now).map(Err),
                Filled::Until(next_sent) => next_sent,
            };
        }
        let heartbeat_at = self.last_at + self.shared.heartbeat;
        let event = match (self.take(), next_sent) {
            (Some(event), _) => event,
            // A dump thread that has something to send is late with its heartbeats, too.
            (None, Some(next_sent)) => return Ok(Err(next_sent)),
            (None, None) if now >= heartbeat_at => self.heartbeat(),
            (None, None) => return Ok(Err(heartbeat_at)),
        };
        self.last_at = now;
        Ok(Ok(event))
    }

    /// Until when silence is borne.
    fn silence(&self, now: Instant) -> Result<Instant, SourceError> {
        let end = self.last_at + SILENCE_MAX;
        if now < end {
            return Ok(end);
        }
        Err(SourceError::Silent {
            address: ADDRESS.into(),
            seconds: SILENCE_MAX.as_secs(),
        })
    }

    /// Moves what may be sent to `ready`.
    fn fill(&mut self, now: Instant) -> Result<Filled, SourceError> {
        let state = self.shared.lock();
        if state.incarnation != self.incarnation {
            return Err(disconnected());
        }
        if state.network == Network::Hung {
            return Ok(Filled::Hung);
        }
        let source = state.source();
        while self.ready.len() < BATCH {
            let Some(file) = state.binlog.file(self.cursor.file) else {
                return Err(SourceError::Purged {
                    address: ADDRESS.into(),
                    from: self.from.to_string(),
                    reason: "the file being read was purged: the stream was too slow".into(),
                });
            };
            if !self.cursor.opened {
                self.cursor.opened = true;
                self.ready.push_back(artificial_rotate(&file.name()));
                self.ready.push_back(file.head.clone());
            } else if let Some(logged) = file.transactions.get(self.cursor.next) {
                if logged.sent_at > now {
                    break;
                }
                self.cursor.next += 1;
                let gtid = Gtid::Mysql {
                    source,
                    number: logged.number,
                };
                if !self.from.contains(&gtid) {
                    self.ready.push_back(logged.events.clone());
                }
            } else if state.binlog.file(self.cursor.file + 1).is_some() {
                self.ready.extend(file.rotate.clone());
                self.cursor = Cursor {
                    file: self.cursor.file + 1,
                    opened: false,
                    next: 0,
                    position: 0,
                };
            } else {
                break;
            }
        }
        Ok(Filled::Until(state.next_sent(now)))
    }

    /// The first event of what is ready.
    fn take(&mut self) -> Option<RawEvent> {
        let piece = self.ready.front_mut()?;
        let size = u32_at(piece, 9) as usize;
        let event = piece.split_to(size);
        if piece.is_empty() {
            self.ready.pop_front();
        }
        let raw = raw(&event);
        if raw.next_position != 0 {
            self.cursor.position = raw.next_position;
        }
        Some(raw)
    }

    fn heartbeat(&self) -> RawEvent {
        RawEvent {
            kind: kind::HEARTBEAT,
            flags: flag::NONE,
            timestamp: 0,
            server_id: SERVER_ID,
            next_position: self.cursor.position,
            body: format!("binlog.{:06}", self.cursor.file).into(),
        }
    }
}

/// Whether the client has transactions of this server's UUID that the server does not know.
fn has_more(from: &GtidSet, state: &State) -> bool {
    let GtidSet::Mysql(theirs) = from else {
        return !from.is_empty();
    };
    let source = state.source();
    theirs.get(&source).is_some_and(|intervals| {
        let ours = GtidSet::Mysql([(source, intervals.clone())].into());
        !state.written().contains_set(&ours)
    })
}

/// The ROTATE in no file that names the file whose events follow.
fn artificial_rotate(name: &str) -> Bytes {
    let mut events = Events::new(0);
    event::rotate(&mut events, flag::ARTIFICIAL, name);
    let mut bytes = events.at(0);
    bytes[13..17].fill(0);
    bytes.into()
}

/// An event as sent, without header and checksum.
fn raw(event: &Bytes) -> RawEvent {
    let kind = event[4];
    let end = match kind {
        kind::FORMAT_DESCRIPTION => event.len() - CHECKSUM,
        _ => event.len(),
    };
    RawEvent {
        kind,
        flags: u16::from_le_bytes([event[17], event[18]]),
        timestamp: u32_at(event, 0),
        server_id: u32_at(event, 5),
        next_position: u32_at(event, 13),
        body: event.slice(HEADER..end),
    }
}

#[async_trait]
impl EventStream for DemoStream {
    async fn next(&mut self) -> Result<RawEvent, SourceError> {
        loop {
            self.changes.mark_unchanged();
            let wake = match self.poll()? {
                Ok(event) => return Ok(event),
                Err(wake) => wake,
            };
            tokio::select! {
                biased;
                changed = self.changes.changed() => {
                    if changed.is_err() {
                        return Err(disconnected());
                    }
                }
                () = sleep_until(wake) => {}
            }
        }
    }

    fn try_next(&mut self) -> Result<Option<RawEvent>, SourceError> {
        Ok(self.poll()?.ok())
    }
}
