//! The events inside a group, each with what it does to the group.

use super::body::Body;
use super::kind::{self, Named};
use super::mariadb::Inflated;
use super::payload::{Payload, Stop, Unpacker};
use super::query::{Control, Query};
use super::{Assembler, Fault, current, xa};
use crate::barrier::Barrier;
use crate::change::Step;
use crate::ddl::{Statement, Verdict};
use crate::decode::DecodeError;

impl Assembler {
    /// An event of a group, also one that was inside another.
    pub(super) fn inside(
        &mut self,
        kind: u8,
        flags: u16,
        body: &[u8],
        steps: &mut impl FnMut(Step),
    ) -> Result<(), Fault> {
        match kind {
            kind::TABLE_MAP => self.table_map(body),
            kind::WRITE_ROWS_V1
            | kind::UPDATE_ROWS_V1
            | kind::DELETE_ROWS_V1
            | kind::WRITE_ROWS
            | kind::UPDATE_ROWS
            | kind::DELETE_ROWS
            | kind::PARTIAL_UPDATE_ROWS => self.rows(kind, body),
            kind::XID => {
                current(&mut self.group)?;
                self.end(steps);
                Ok(())
            }
            kind::QUERY => self.query(Query::parse(body)?, steps),
            kind::EXECUTE_LOAD_QUERY => self.statement(Query::parse_load(body)?, steps),
            kind::XA_PREPARE => self.prepare(body, steps),
            kind::INCIDENT => self.incident(body, steps),
            // Context for statements and for people, and the data of LOAD DATA statements.
            kind::INTVAR
            | kind::RAND
            | kind::USER_VAR
            | kind::ROWS_QUERY
            | kind::IGNORABLE
            | kind::TRANSACTION_CONTEXT
            | kind::VIEW_CHANGE
            | kind::BEGIN_LOAD_QUERY
            | kind::APPEND_BLOCK
            | kind::DELETE_FILE => Ok(()),
            _ if flags & kind::IGNORABLE_FLAG != 0 => Ok(()),
            unknown => {
                self.barrier(Barrier::UnknownEvent(Named(unknown).to_string()), steps);
                Ok(())
            }
        }
    }

    fn table_map(&mut self, body: &[u8]) -> Result<(), Fault> {
        let group = current(&mut self.group)?;
        group.opened = true;
        if group.broken.is_some() {
            return Ok(());
        }
        let outcome = self.decoder.table_map(body);
        self.judge(outcome)
    }

    fn rows(&mut self, kind: u8, body: &[u8]) -> Result<(), Fault> {
        let group = current(&mut self.group)?;
        group.opened = true;
        if group.broken.is_some() {
            return Ok(());
        }
        let outcome = self.decoder.rows(kind, body, &mut self.net);
        self.judge(outcome)?;

        if self.net.is_empty() {
            return Ok(());
        }
        let held = self.net.bytes().saturating_add(self.prepared.bytes());
        let limit = self.limits.transaction_bytes;
        let group = current(&mut self.group)?;
        group.touched = true;
        if held > limit {
            group.break_off(Barrier::TooLarge { limit });
            self.net.clear();
        }
        Ok(())
    }

    /// What the decoder says of an event.
    fn judge(&mut self, outcome: Result<(), DecodeError>) -> Result<(), Fault> {
        match outcome {
            Ok(()) => Ok(()),
            Err(DecodeError::Damaged(reason)) => Err(Fault::Damaged(reason)),
            Err(DecodeError::Barrier(reason)) => {
                self.net.clear();
                current(&mut self.group)?.break_off(reason);
                Ok(())
            }
        }
    }

    fn query(&mut self, query: Query<'_>, steps: &mut impl FnMut(Step)) -> Result<(), Fault> {
        let control = Control::of(query.text)?;
        let group = current(&mut self.group)?;
        match control {
            Control::Begin => group.opened = true,
            Control::Nothing => {}
            Control::Commit => self.end(steps),
            Control::Rollback => {
                if group.touched {
                    group.break_off(Barrier::Rollback);
                }
                self.end(steps);
            }
            // The server cuts what was rolled back out of the binlog itself, unless tables without transactions
            // changed meanwhile; so this is rare.
            Control::RollbackTo => {
                if group.touched {
                    group.break_off(Barrier::Savepoint);
                }
            }
            Control::XaCommit(xid) => {
                let changes = self.prepared.remove(&xid);
                if changes.is_none() {
                    let xid = xid.to_string();
                    group.break_off(Barrier::XaUnseen { xid });
                }
                self.end_with(changes.unwrap_or_default(), steps);
            }
            Control::XaRollback(xid) => {
                self.prepared.remove(&xid);
                self.end(steps);
            }
            Control::Statement => self.statement(query, steps)?,
        }
        Ok(())
    }

    fn statement(&mut self, query: Query<'_>, steps: &mut impl FnMut(Step)) -> Result<(), Fault> {
        let group = current(&mut self.group)?;
        let verdict = self.classifier.classify(Statement {
            text: query.text,
            database: query.database,
            sql_mode: query.sql_mode,
        });
        match verdict {
            Verdict::Ignorable | Verdict::SchemaOnly => {}
            Verdict::ContentChanging { what } | Verdict::Unknown { what } => {
                let text = excerpt(query.text).to_string();
                group.break_off(Barrier::Statement { what, text });
            }
        }
        if starts_transaction(query.text) {
            group.opened = true;
        }
        if !group.opened {
            self.end(steps);
        }
        Ok(())
    }

    fn prepare(&mut self, body: &[u8], steps: &mut impl FnMut(Step)) -> Result<(), Fault> {
        let (xid, one_phase) = xa::prepare(body)?;
        let group = current(&mut self.group)?;
        if !one_phase {
            let limit = self.limits.xa_open_max;
            if self.prepared.contains(&xid) {
                return Err(Fault::Damaged(format!("{xid} is prepared already")));
            }
            if self.prepared.len() >= limit {
                group.break_off(Barrier::XaTooMany { limit });
            }
            if group.broken.is_none() {
                let gtid = group.gtid;
                self.prepared.hold(xid, gtid, self.net.take());
            }
        }
        self.end(steps);
        Ok(())
    }

    /// The server lost events, and says so.
    fn incident(&mut self, body: &[u8], steps: &mut impl FnMut(Step)) -> Result<(), Fault> {
        let mut body = Body(body);
        let number = body.u16()?;
        let length = body.length(1)?;
        let message = String::from_utf8_lossy(body.take(length)?).into_owned();
        self.barrier(Barrier::Incident { number, message }, steps);
        // It stands alone behind its GTID.
        if self.group.as_ref().is_some_and(|group| !group.opened) {
            self.end(steps);
        }
        Ok(())
    }

    /// A whole transaction in one event.
    pub(super) fn payload(
        &mut self,
        body: &[u8],
        steps: &mut impl FnMut(Step),
    ) -> Result<(), Fault> {
        // Out of its place while its events are used.
        let mut unpacker = std::mem::take(&mut self.unpacker);
        let outcome = self.unpack(&mut unpacker, body, steps);
        self.unpacker = unpacker;
        outcome
    }

    fn unpack(
        &mut self,
        unpacker: &mut Unpacker,
        body: &[u8],
        steps: &mut impl FnMut(Step),
    ) -> Result<(), Fault> {
        current(&mut self.group)?;
        let mut payload = Payload::parse(body)?;
        let limit = self.limits.transaction_bytes;
        let stopped = match unpacker.start(&payload) {
            Err(stop) => stop,
            Ok(()) => loop {
                match unpacker.next(&mut payload, limit) {
                    Ok(Some(event)) => self.inside(event.kind, event.flags, event.body, steps)?,
                    Ok(None) => return Ok(()),
                    Err(stop) => break stop,
                }
            },
        };
        match stopped {
            Stop::Malformed(malformed) => Err(malformed.into()),
            Stop::TooMuch(reason) => {
                // Its end is inside, too, and will not be seen.
                self.barrier(Barrier::Payload(reason), steps);
                self.end(steps);
                Ok(())
            }
        }
    }

    /// An event of MariaDB whose body is compressed.
    pub(super) fn compressed(
        &mut self,
        plain: u8,
        flags: u16,
        body: &[u8],
        steps: &mut impl FnMut(Step),
    ) -> Result<(), Fault> {
        current(&mut self.group)?;
        let mut inflater = std::mem::take(&mut self.inflater);
        let limit = self.limits.transaction_bytes;
        let outcome = match inflater.inflate(plain, body, limit) {
            Ok(Inflated::Body(body)) => self.inside(plain, flags, body, steps),
            Ok(Inflated::TooLong(length)) => {
                self.barrier(Barrier::EventTooLarge { length, limit }, steps);
                Ok(())
            }
            Err(malformed) => Err(malformed.into()),
        };
        self.inflater = inflater;
        outcome
    }

    /// Breaks the group off, or says so at once when there is none.
    fn barrier(&mut self, reason: Barrier, steps: &mut impl FnMut(Step)) {
        match &mut self.group {
            Some(group) => {
                group.break_off(reason);
                self.net.clear();
            }
            None => steps(Step::Barrier { gtid: None, reason }),
        }
    }
}

/// Whether it is the CREATE TABLE of a CREATE TABLE .. SELECT: since 8.0.21 its rows follow in the same transaction.
fn starts_transaction(text: &[u8]) -> bool {
    const MARK: &[u8] = b"START TRANSACTION";
    let text = text.trim_ascii_end();
    text.len()
        .checked_sub(MARK.len())
        .and_then(|at| text.get(at..))
        .is_some_and(|tail| tail.eq_ignore_ascii_case(MARK))
}

/// The beginning of a statement, for logs.
fn excerpt(text: &[u8]) -> String {
    const CHARS_MAX: usize = 200;
    let head = &text[..text.len().min(4 * CHARS_MAX)];
    let head = String::from_utf8_lossy(head);
    let mut cut: String = head.chars().take(CHARS_MAX).collect();
    if cut.len() < text.len() {
        cut.push_str("..");
    }
    cut
}
