//! What the demo server knows: the table as SELECT sees it, commits under way, the binlog, its GTIDs.
//!
//! All of it stands behind one lock; nothing here waits. Late stages of a commit are done when somebody
//! looks after they are due.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use onair_model::gtid::{SourceId, Tag};
use onair_model::{Gtid, GtidSet};
use tokio::time::Instant;

use super::binlog::{Binlog, Limits, Logged};
use super::commits::{Commits, Effect, Rooms, set};
use super::event::{self, Events, GtidHeader};
use super::hooks::{Counts, Hooks, Network};
use super::room::Room;
use super::rows::{self, TableIds};
use super::transaction::Changes;
use crate::clock;

/// How many of the newest transactions can be lost by a crash.
const UNDO_MAX: usize = 10_000;

#[derive(Debug)]
pub(super) struct State {
    source: SourceId,
    /// Number of the next transaction.
    next: u64,
    /// What SELECT sees.
    rooms: Rooms,
    commits: Commits,
    executed: GtidSet,
    pub(super) binlog: Binlog,
    limits: Limits,
    undo: VecDeque<Undo>,
    tables: TableIds,
    /// Goes up when the server ends all connections.
    pub(super) incarnation: u64,
    pub(super) network: Network,
    pub(super) counts: Counts,
}

/// What was before a transaction.
#[derive(Debug)]
enum Undo {
    Rows(Vec<(u64, Option<Arc<Room>>)>),
    Table(Rooms),
}

impl State {
    /// A server that holds `rooms`, loaded by transactions `1..=loaded` that its binlog no longer has.
    pub(super) fn new(uuid: u128, seed: u64, rooms: Rooms, loaded: u64, limits: Limits) -> Self {
        let source = SourceId {
            uuid,
            tag: Tag::NONE,
        };
        let executed = first(source, loaded);
        State {
            source,
            next: loaded + 1,
            rooms,
            commits: Commits::new(seed),
            binlog: Binlog::new(limits, executed.clone(), seconds(clock::unix_micros())),
            executed,
            limits,
            undo: VecDeque::new(),
            tables: TableIds {
                room: 101,
                gift: 102,
            },
            incarnation: 1,
            network: Network::Up,
            counts: Counts::default(),
        }
    }

    pub(super) fn set_hooks(&mut self, hooks: Hooks) {
        self.commits.hooks = hooks;
    }

    pub(super) fn source(&self) -> SourceId {
        self.source
    }

    pub(super) fn executed(&self) -> &GtidSet {
        &self.executed
    }

    /// `@@gtid_owned` as a set.
    pub(super) fn owned(&self) -> GtidSet {
        let mut owned = GtidSet::mysql();
        for number in self.commits.owned() {
            owned.insert(&self.gtid(number));
        }
        owned
    }

    /// All that stands in the binlog or stood there.
    pub(super) fn written(&self) -> GtidSet {
        first(self.source, self.next - 1)
    }

    fn gtid(&self, number: u64) -> Gtid {
        Gtid::Mysql {
            source: self.source,
            number,
        }
    }

    /// The table as SELECT sees it.
    pub(super) fn visible(&self) -> &Rooms {
        &self.rooms
    }

    /// A row as the binlog has it.
    pub(super) fn latest(&self, id: u64) -> Option<Arc<Room>> {
        self.commits.latest(id, &self.rooms)
    }

    /// The table as the binlog has it.
    pub(super) fn latest_table(&self) -> Rooms {
        let mut rooms = self.rooms.clone();
        for effect in self.commits.effects() {
            effect.clone().apply(&mut rooms);
        }
        rooms
    }

    /// Takes a row's lock.
    pub(super) fn lock_row(&mut self, id: u64) {
        let held = self.commits.lock_row(id, &mut self.rooms);
        self.counts.lock_conflicts += u64::from(held);
    }

    /// Does every stage that is due.
    pub(super) fn advance(&mut self, now: Instant) {
        let (source, executed) = (self.source, &mut self.executed);
        self.commits.advance(now, &mut self.rooms, |number| {
            executed.insert(&Gtid::Mysql { source, number });
        });
    }

    /// Does every stage of every commit now.
    pub(super) fn settle(&mut self) {
        self.commits.settle(&mut self.rooms);
        self.executed = self.written();
    }

    /// When the next stage is due, if one is outstanding.
    pub(super) fn next_due(&self, now: Instant) -> Option<Instant> {
        self.commits.next_due(now)
    }

    /// When the dump threads may send more than they may now.
    pub(super) fn next_sent(&self, now: Instant) -> Option<Instant> {
        self.unsent(now).last().map(|logged| logged.sent_at)
    }

    /// Transactions that the dump threads may not send yet, the newest first.
    fn unsent(&self, now: Instant) -> impl Iterator<Item = &Logged> {
        self.binlog
            .files()
            .rev()
            .flat_map(|file| file.transactions.iter().rev())
            .take_while(move |logged| logged.sent_at > now)
    }

    /// Commits rows: writes them to the binlog and begins the stages. `None` when nothing was written.
    pub(super) fn commit(&mut self, changes: Changes, now: Instant) -> Option<Gtid> {
        if changes.statements.is_empty() {
            return None;
        }
        let commit_time = clock::unix_micros();
        let mut events = Events::new(seconds(commit_time));
        let thread = self.thread();
        event::begin(&mut events, thread);
        for statement in &changes.statements {
            rows::write(&mut events, statement, self.tables);
        }
        event::xid(&mut events, self.next);
        let before = changes
            .rows
            .keys()
            .map(|id| (*id, self.latest(*id)))
            .collect();
        self.undo_by(Undo::Rows(before));
        Some(self.log(
            events,
            Effect::Rows(changes.rows),
            (commit_time, RowsOnly::Yes),
            now,
        ))
    }

    /// Changes rows without a word in the binlog.
    pub(super) fn unlogged(&mut self, changes: Changes) {
        Effect::Rows(changes.rows).apply(&mut self.rooms);
    }

    /// TRUNCATE TABLE live.room, as one that waits for every commit under way.
    pub(super) fn truncate(&mut self, now: Instant) -> Gtid {
        self.settle();
        let before = self.rooms.clone();
        self.undo_by(Undo::Table(before));
        self.ddl("TRUNCATE TABLE room", Effect::Truncate, now)
    }

    /// A statement that leaves the rows as they are.
    pub(super) fn statement(&mut self, sql: &str, now: Instant) -> Gtid {
        self.settle();
        self.undo_by(Undo::Rows(Vec::new()));
        self.ddl(sql, Effect::Nothing, now)
    }

    fn ddl(&mut self, sql: &str, effect: Effect, now: Instant) -> Gtid {
        let commit_time = clock::unix_micros();
        let mut events = Events::new(seconds(commit_time));
        let thread = self.thread();
        event::ddl(&mut events, thread, self.next, sql);
        self.tables.room += 2;
        self.tables.gift += 2;
        self.log(events, effect, (commit_time, RowsOnly::No), now)
    }

    fn thread(&self) -> u32 {
        // Some connection or other; nothing depends on it.
        8 + (self.next % 7) as u32
    }

    fn log(
        &mut self,
        events: Events,
        effect: Effect,
        (commit_time, rows_only): (i64, RowsOnly),
        now: Instant,
    ) -> Gtid {
        let number = self.next;
        self.next += 1;
        let (sequence, position) = self.binlog.end();
        let header = GtidHeader {
            uuid: self.source.uuid,
            number,
            sequence,
            commit_time: commit_time.unsigned_abs(),
            statement: matches!(rows_only, RowsOnly::No),
        };
        let events = events.transaction(&header, position);
        let sent_before = self.binlog.newest().map(|logged| logged.sent_at);
        let counts = &mut self.counts;
        let sent_at = self
            .commits
            .push((number, effect), sent_before, now, counts);
        let logged = Logged {
            number,
            events: events.into(),
            sent_at,
        };
        let written = self.written();
        self.counts.files_purged += self.binlog.append(logged, &written, seconds(commit_time));
        self.counts.transactions += 1;
        self.advance(now);
        self.gtid(number)
    }

    fn undo_by(&mut self, undo: Undo) {
        if self.undo.len() == UNDO_MAX {
            self.undo.pop_front();
        }
        self.undo.push_back(undo);
    }

    /// The rows for one statement of a scan; counts what they are ahead of and behind.
    pub(super) fn view(&mut self, now: Instant) -> &Rooms {
        let commits = &self.commits;
        let behind = commits.select_is_behind_stream(now);
        let ahead_of_executed = commits.select_is_ahead_of_executed();
        let ahead_of_stream = self.unsent(now).any(|logged| !commits.hides(logged.number));
        self.counts.views += 1;
        self.counts.views_behind_stream += u64::from(behind);
        self.counts.views_ahead_of_executed += u64::from(ahead_of_executed);
        self.counts.views_ahead_of_stream += u64::from(ahead_of_stream);
        &self.rooms
    }

    /// How long to pause between two steps of a scan.
    pub(super) fn scan_pause(&mut self) -> Duration {
        let pause = self.commits.scan_pause();
        self.counts.scan_pauses += u64::from(pause > Duration::ZERO);
        pause
    }

    /// A crash that loses the newest transactions; their numbers will be given again. Returns how many it lost.
    pub(super) fn lose_tail(&mut self, count: u64) -> u64 {
        self.settle();
        let lost = self.binlog.lose(count.min(self.undo.len() as u64));
        for _ in 0..lost {
            match self.undo.pop_back() {
                Some(Undo::Rows(rows)) => {
                    for (id, before) in rows {
                        set(&mut self.rooms, id, before);
                    }
                }
                Some(Undo::Table(rooms)) => self.rooms = rooms,
                None => {}
            }
        }
        self.next -= lost;
        self.executed = self.written();
        self.incarnation += 1;
        let written = self.written();
        self.binlog
            .open_after_crash(written, seconds(clock::unix_micros()));
        lost
    }

    /// RESET BINARY LOGS AND GTIDS: the rows stay, the history begins anew.
    pub(super) fn reset_gtids(&mut self) {
        self.settle();
        self.next = 1;
        self.executed = GtidSet::mysql();
        self.undo.clear();
        self.incarnation += 1;
        let timestamp = seconds(clock::unix_micros());
        self.binlog = Binlog::new(self.limits, GtidSet::mysql(), timestamp);
    }

    /// FLUSH BINARY LOGS.
    pub(super) fn rotate(&mut self) {
        let written = self.written();
        self.binlog.rotate(&written, seconds(clock::unix_micros()));
    }

    /// PURGE BINARY LOGS TO the newest file.
    pub(super) fn purge(&mut self) {
        self.counts.files_purged += self.binlog.purge_to(1);
    }
}

#[derive(Clone, Copy)]
enum RowsOnly {
    Yes,
    No,
}

fn first(source: SourceId, last: u64) -> GtidSet {
    match last {
        0 => GtidSet::mysql(),
        _ => GtidSet::Mysql(BTreeMap::from([(source, vec![(1, last)])])),
    }
}

fn seconds(micros: i64) -> u32 {
    u32::try_from(micros / 1_000_000).unwrap_or(u32::MAX)
}
