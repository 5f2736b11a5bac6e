//! Raw events to transactions: one [`Step`] for each GTID, in binlog order.
//!
//! In: [`RawEvent`]s of one connection, in server order, from the beginning of a group. Out: [`Step::Transaction`]
//! for each group, also when it touched nothing of ours, or [`Step::Barrier`] where what happened to a captured
//! table cannot be known from its rows; [`Step::Heartbeat`] between groups. Wrong: [`AssembleError`], after which
//! the assembler is done for: open the stream again and make another.
//!
//! A group is a GTID event, then either one statement (DDL), or BEGIN or XA START (MariaDB: nothing), table maps
//! and rows, and XID, COMMIT, ROLLBACK or XA_PREPARE. A reason for a barrier that comes up inside a group is kept
//! until its end, so that the barrier has its GTID and nothing of the group is delivered after it.

mod body;
mod group;
mod gtid;
mod kind;
mod query;
#[cfg(test)]
pub(crate) mod tests;
mod xa;

use std::sync::Arc;

use onair_model::Gtid;

use self::body::Malformed;
use self::group::Group;
use self::kind::Named;
use self::query::{Control, Query};
use self::xa::Prepared;
pub use self::xa::Xid;
use crate::change::{Step, Transaction};
use crate::ddl::{Classifier, Ddl, Statement};
use crate::decode::{DecodeError, Decoder, Net};
use crate::feed::Feed;
use crate::source::{Dialect, RawEvent};

/// How much a transaction may cost before it is given up as a barrier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of memory for rows of captured tables, of the transaction under way and all prepared ones together.
    pub transaction_bytes: usize,
    /// How many XA transactions may be prepared and neither committed nor rolled back.
    pub xa_open_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            transaction_bytes: 256 << 20,
            xa_open_max: 1024,
        }
    }
}

/// Why a stream cannot be read on.
#[derive(Debug, thiserror::Error)]
pub enum AssembleError {
    /// An event that does not follow the format, or stands where it cannot.
    #[error("damaged stream {place}: {event}: {reason}")]
    Damaged {
        /// Behind which transaction, or in which.
        place: String,
        /// The kind of event.
        event: String,
        /// What is wrong.
        reason: String,
    },
    /// The server is set up so that it cannot be followed.
    #[error("{what}; {remedy}")]
    Refused {
        /// What the stream has.
        what: String,
        /// What to do.
        remedy: &'static str,
    },
}

impl AssembleError {
    /// Whether reading again cannot help until somebody does something.
    pub fn is_final(&self) -> bool {
        matches!(self, AssembleError::Refused { .. })
    }
}

/// Makes transactions of events. See the module.
#[derive(Debug)]
pub struct Assembler {
    decoder: Decoder,
    classifier: Classifier,
    dialect: Dialect,
    limits: Limits,
    group: Option<Group>,
    /// Rows of the group under way.
    net: Net,
    prepared: Prepared,
    /// The last group that ended, for errors.
    last: Option<Gtid>,
}

impl Assembler {
    /// An assembler for one connection; the feeds' order gives their index in [`Transaction::changes`].
    pub fn new(feeds: Arc<[Arc<Feed>]>, dialect: Dialect, limits: Limits) -> Self {
        Assembler {
            decoder: Decoder::new(feeds.clone()),
            classifier: Classifier::new(feeds),
            dialect,
            limits,
            group: None,
            net: Net::default(),
            prepared: Prepared::default(),
            last: None,
        }
    }

    /// XA transactions that are prepared and neither committed nor rolled back, oldest first, with the GTID of
    /// their PREPARE. A checkpoint must not contain the first of them: its rows are known only from here.
    pub fn open_xa(&self) -> impl Iterator<Item = (&Xid, Gtid)> {
        self.prepared.iter()
    }

    /// Takes the next event and hands over the steps that it completes: none, one, or two when a group that
    /// nothing ended is followed by another event.
    pub fn push(
        &mut self,
        event: &RawEvent,
        steps: &mut impl FnMut(Step),
    ) -> Result<(), AssembleError> {
        self.route(event, steps)
            .map_err(|fault| self.explain(event.kind, fault))
    }

    /// What stands between groups goes here, the rest into the group.
    fn route(&mut self, event: &RawEvent, steps: &mut impl FnMut(Step)) -> Result<(), Fault> {
        match event.kind {
            kind::HEARTBEAT | kind::HEARTBEAT_V2 => {
                if self.group.is_none() {
                    steps(Step::Heartbeat);
                }
                Ok(())
            }
            kind::GTID_LOG => self.begin(event, gtid::mysql(&event.body)?, steps),
            kind::GTID_TAGGED_LOG => self.begin(event, gtid::mysql_tagged(&event.body)?, steps),
            kind::ANONYMOUS_GTID => Err(Fault::Refused {
                what: "the server writes transactions without a GTID".to_owned(),
                remedy: "SET PERSIST gtid_mode = ON on the source, step by step as its manual says",
            }),
            kind::FORMAT_DESCRIPTION | kind::ROTATE | kind::STOP | kind::PREVIOUS_GTIDS => {
                self.between(event.kind, steps)
            }
            _ => {
                if let Some(group) = &mut self.group {
                    group.add_to_fingerprint(event.kind, &event.body);
                }
                self.inside(event.kind, event.flags, &event.body, steps)
            }
        }
    }

    fn begin(
        &mut self,
        event: &RawEvent,
        head: gtid::Head,
        steps: &mut impl FnMut(Step),
    ) -> Result<(), Fault> {
        self.between(event.kind, steps)?;
        let seconds = i64::from(event.timestamp) * 1_000_000;
        let mut group = Group::new(head.gtid, head.commit_time.unwrap_or(seconds), head.opened);
        group.add_to_fingerprint(event.kind, &event.body);
        self.group = Some(group);
        Ok(())
    }

    /// An event that no group contains. One that is open nevertheless was cut off, unless it is broken anyway:
    /// then it may have ended with something that we did not understand.
    fn between(&mut self, kind: u8, steps: &mut impl FnMut(Step)) -> Result<(), Fault> {
        match &self.group {
            None => Ok(()),
            Some(group) if group.broken.is_some() => {
                self.end(steps);
                Ok(())
            }
            Some(_) => Err(Fault::Damaged(format!(
                "the transaction before it has no end, and {} cannot be part of it",
                Named(kind)
            ))),
        }
    }

    /// An event of a group. `kind` may be of an event that was inside another.
    fn inside(
        &mut self,
        kind: u8,
        flags: u16,
        body: &[u8],
        steps: &mut impl FnMut(Step),
    ) -> Result<(), Fault> {
        match kind {
            kind::TABLE_MAP => {
                let group = self.rows_group()?;
                if group.broken.is_none() {
                    let outcome = self.decoder.table_map(body);
                    self.judge(outcome)?;
                }
                Ok(())
            }
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
            kind::XA_PREPARE => self.prepare(body, steps),
            // Context for statements and for people; said again by what follows, or about it.
            kind::INTVAR
            | kind::RAND
            | kind::USER_VAR
            | kind::ROWS_QUERY
            | kind::IGNORABLE
            | kind::TRANSACTION_CONTEXT
            | kind::VIEW_CHANGE => Ok(()),
            _ if flags & kind::IGNORABLE_FLAG != 0 => Ok(()),
            unknown => {
                let reason = format!("an event of an unknown kind, {}", Named(unknown));
                self.barrier(reason, steps);
                Ok(())
            }
        }
    }

    fn rows(&mut self, kind: u8, body: &[u8]) -> Result<(), Fault> {
        let group = self.rows_group()?;
        if group.broken.is_some() {
            return Ok(());
        }
        let outcome = self.decoder.rows(kind, body, &mut self.net);
        self.judge(outcome)?;
        let held = self.net.bytes();
        let limit = self.limits.transaction_bytes;
        let over = held.saturating_add(self.prepared.bytes()) > limit;
        let group = current(&mut self.group)?;
        group.touched |= held > 0;
        if held > 0 && over {
            group.break_off(format!(
                "the rows that it changed in captured tables take more than {limit} bytes of memory \
                 together with those of prepared XA transactions"
            ));
            self.net.clear();
        }
        Ok(())
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
                    group.break_off(
                        "it changed captured tables and ends with ROLLBACK: what remains depends on their engine"
                            .to_owned(),
                    );
                }
                self.end(steps);
            }
            Control::RollbackTo => {
                if group.touched {
                    group.break_off(
                        "it changed captured tables and has a ROLLBACK TO a savepoint".to_owned(),
                    );
                }
            }
            Control::XaCommit(xid) => {
                if let Some(net) = self.prepared.remove(&xid) {
                    self.net = net;
                } else {
                    group.break_off(format!(
                        "XA COMMIT {xid} of a transaction whose rows were prepared before the stream began or given up"
                    ));
                }
                self.end(steps);
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
        let verdict = self.classifier.classify(Statement {
            text: query.text,
            database: query.database,
            sql_mode: query.sql_mode,
        });
        let group = current(&mut self.group)?;
        match verdict {
            Ddl::Ignorable | Ddl::SchemaOnly => {}
            Ddl::ContentChanging { what } | Ddl::Unknown { what } => {
                group.break_off(format!("{what}: {}", excerpt(query.text)));
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
        let (open, limit) = (self.prepared.len(), self.limits.xa_open_max);
        let again = self.prepared.contains(&xid);
        let group = current(&mut self.group)?;
        if !one_phase {
            if again {
                return Err(Fault::Damaged(format!("{xid} is prepared already")));
            }
            if open >= limit {
                group.break_off(format!(
                    "more than {limit} XA transactions are prepared and open"
                ));
            }
            if group.broken.is_none() {
                let gtid = group.gtid;
                self.prepared.hold(xid, gtid, std::mem::take(&mut self.net));
            }
        }
        self.end(steps);
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

    /// Breaks the group off, or says so at once when there is none.
    fn barrier(&mut self, reason: String, steps: &mut impl FnMut(Step)) {
        match &mut self.group {
            Some(group) => group.break_off(reason),
            None => steps(Step::Barrier { gtid: None, reason }),
        }
    }

    /// The group, which has rows and so goes on up to a commit.
    fn rows_group(&mut self) -> Result<&mut Group, Fault> {
        let group = current(&mut self.group)?;
        group.opened = true;
        Ok(group)
    }

    /// Ends the group, if there is one.
    fn end(&mut self, steps: &mut impl FnMut(Step)) {
        let Some(group) = self.group.take() else {
            return;
        };
        self.last = Some(group.gtid);
        let changes = self.net.take();
        steps(match group.broken {
            Some(reason) => Step::Barrier {
                gtid: Some(group.gtid),
                reason,
            },
            None => Step::Transaction(Transaction {
                gtid: group.gtid,
                commit_time: group.commit_time,
                fingerprint: group.fingerprint.finalize(),
                changes,
            }),
        });
    }

    fn explain(&self, kind: u8, fault: Fault) -> AssembleError {
        match fault {
            Fault::Refused { what, remedy } => AssembleError::Refused { what, remedy },
            Fault::Damaged(reason) => AssembleError::Damaged {
                place: match (&self.group, self.last) {
                    (Some(group), _) => format!("in transaction {}", group.gtid),
                    (None, Some(last)) => format!("after transaction {last}"),
                    (None, None) => "at its beginning".to_owned(),
                },
                event: Named(kind).to_string(),
                reason,
            },
        }
    }
}

fn current(group: &mut Option<Group>) -> Result<&mut Group, Fault> {
    group
        .as_mut()
        .ok_or_else(|| Fault::Damaged("it belongs to no transaction".to_owned()))
}

/// An [`AssembleError`] that does not know yet where it happened.
#[derive(Debug)]
enum Fault {
    Damaged(String),
    Refused { what: String, remedy: &'static str },
}

impl From<Malformed> for Fault {
    fn from(Malformed(reason): Malformed) -> Self {
        Fault::Damaged(reason.to_owned())
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
