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
mod events;
mod group;
mod gtid;
mod kind;
mod mariadb;
mod payload;
mod place;
mod query;
#[cfg(test)]
pub(crate) mod tests;
mod xa;

use std::sync::Arc;

use onair_model::{Gtid, GtidSet};

use self::body::Malformed;
use self::group::Group;
use self::kind::Named;
use self::mariadb::Inflater;
use self::payload::Unpacker;
pub use self::place::Place;
pub use self::xa::Xid;
use self::xa::{Changes, Prepared};
use crate::change::{Step, Transaction};
use crate::ddl::Classifier;
use crate::decode::{Decoder, Net};
use crate::feed::Feed;
use crate::source::{Dialect, RawEvent, RowMetadata};

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

/// Memory that is kept for the next transaction's rows.
const NET_KEPT: usize = 16 << 20;

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

/// See [`Assembler::with_beginning`].
#[derive(Debug)]
struct CatchingUp {
    delivered: GtidSet,
    executed: GtidSet,
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
    unpacker: Unpacker,
    inflater: Inflater,
    /// Until the stream has delivered what there was when it began.
    catching_up: Option<CatchingUp>,
    /// The last group that ended, for errors.
    last: Option<Gtid>,
    /// Where the last event ended, once the server has named the file.
    here: Option<Place>,
    /// Where the last group did.
    ended: Option<Place>,
}

impl Assembler {
    /// An assembler for one connection; the feeds' order gives their index in [`Transaction::changes`].
    pub fn new(feeds: Arc<[Arc<Feed>]>, dialect: Dialect, limits: Limits) -> Self {
        Assembler {
            classifier: Classifier::new(&feeds, RowMetadata::default()),
            decoder: Decoder::new(feeds).speaking(dialect),
            dialect,
            limits,
            group: None,
            net: Net::default(),
            prepared: Prepared::default(),
            unpacker: Unpacker::default(),
            inflater: Inflater::default(),
            catching_up: None,
            last: None,
            here: None,
            ended: None,
        }
    }

    /// Says what table maps tell of columns; [`RowMetadata::Minimal`] until then, which is never wrong, but has every
    /// change of a captured table's definition end the epoch.
    pub fn with_metadata(mut self, metadata: RowMetadata) -> Self {
        self.classifier = Classifier::new(self.decoder.feeds(), metadata);
        self.decoder = self.decoder.requiring_names(metadata == RowMetadata::Full);
        self
    }

    /// Holds heartbeats back until all of `executed`, what the server had when the stream began after `from`, has
    /// come. MySQL sends one after having skipped what we have, just before what we have not: it says that nothing
    /// else is to be had, and is wrong.
    pub fn with_beginning(mut self, from: GtidSet, executed: GtidSet) -> Self {
        self.catching_up = Some(CatchingUp {
            delivered: from,
            executed,
        });
        self
    }

    /// XA transactions that are prepared and neither committed nor rolled back, oldest first, with the GTID of
    /// their PREPARE. A checkpoint must not contain the first of them: its rows are known only from here.
    pub fn open_xa(&self) -> impl Iterator<Item = (&Xid, Gtid)> {
        self.prepared.iter()
    }

    /// Where the last group that was handed over ended in the binlog, if the server said so.
    pub fn place(&self) -> Option<&Place> {
        self.ended.as_ref()
    }

    /// Takes the next event and hands over the steps that it completes: none, one, or two when a group that
    /// nothing ended is followed by another event.
    pub fn push(
        &mut self,
        event: &RawEvent,
        steps: &mut impl FnMut(Step),
    ) -> Result<(), AssembleError> {
        match (event.kind, &mut self.here) {
            (kind::ROTATE, here) => *here = Place::of_rotate(&event.body),
            // It tells where the server reads, not where what it sent ends.
            (kind::HEARTBEAT | kind::HEARTBEAT_V2, _) | (_, None) => {}
            (_, Some(here)) => here.pass(event.next_position),
        }
        self.route(event, steps)
            .map_err(|fault| self.explain(event.kind, fault))
    }

    /// Tells what begins, what stands between groups and what wraps other events from the rest.
    fn route(&mut self, event: &RawEvent, steps: &mut impl FnMut(Step)) -> Result<(), Fault> {
        use Dialect::{Mariadb, Mysql};

        match (event.kind, self.dialect) {
            (kind::HEARTBEAT, _) | (kind::HEARTBEAT_V2, Mysql) => {
                self.heartbeat(steps);
                return Ok(());
            }
            // About the file, not about a transaction. The statement's text for people: sent only on request, so
            // that a fingerprint must not know of it.
            (kind::BINLOG_CHECKPOINT | kind::ANNOTATE_ROWS, Mariadb) => return Ok(()),
            (kind::FORMAT_DESCRIPTION | kind::ROTATE | kind::STOP, _)
            | (kind::PREVIOUS_GTIDS, Mysql)
            | (kind::MARIADB_GTID_LIST, Mariadb) => return self.between(event.kind, steps),
            (kind::GTID_LOG, Mysql) => return self.begin(event, gtid::mysql(&event.body)?, steps),
            (kind::GTID_TAGGED_LOG, Mysql) => {
                return self.begin(event, gtid::mysql_tagged(&event.body)?, steps);
            }
            (kind::MARIADB_GTID, Mariadb) => {
                let head = mariadb::gtid(&event.body, event.server_id)?;
                return self.begin(event, head, steps);
            }
            (kind::ANONYMOUS_GTID, Mysql) => {
                return Err(Fault::Refused {
                    what: "the source writes transactions without a GTID".to_owned(),
                    remedy: "set gtid_mode = ON on the source, step by step as MySQL's manual says",
                });
            }
            // A server that decrypts what it sends marks it as ignorable.
            (kind::START_ENCRYPTION, Mariadb) if event.flags & kind::IGNORABLE_FLAG != 0 => {
                return self.between(event.kind, steps);
            }
            (kind::START_ENCRYPTION, Mariadb) => {
                return Err(Fault::Refused {
                    what: "the source sends its binlog encrypted".to_owned(),
                    remedy: "set encrypt_binlog = OFF on the source",
                });
            }
            _ => {}
        }

        if let Some(group) = &mut self.group {
            group.add_to_fingerprint(event.kind, &event.body);
        }
        let plain = mariadb::plain_kind(event.kind);
        match (event.kind, plain, self.dialect) {
            (kind::TRANSACTION_PAYLOAD, _, Mysql) => self.payload(&event.body, steps),
            (_, Some(plain), Mariadb) => self.compressed(plain, event.flags, &event.body, steps),
            _ => self.inside(event.kind, event.flags, &event.body, steps),
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

    fn heartbeat(&mut self, steps: &mut impl FnMut(Step)) {
        self.catching_up
            .take_if(|beginning| beginning.delivered.contains_set(&beginning.executed));
        if self.group.is_none() && self.catching_up.is_none() {
            steps(Step::Heartbeat);
        }
    }

    /// Ends the group, if there is one.
    fn end(&mut self, steps: &mut impl FnMut(Step)) {
        let changes = self.net.take();
        self.end_with(changes, steps);
    }

    fn end_with(&mut self, changes: Changes, steps: &mut impl FnMut(Step)) {
        if self.net.bytes() > NET_KEPT {
            self.net.clear();
        }
        let Some(group) = self.group.take() else {
            return;
        };
        self.last = Some(group.gtid);
        self.ended.clone_from(&self.here);
        if let Some(beginning) = &mut self.catching_up {
            beginning.delivered.insert(&group.gtid);
        }
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
