//! What the demo server knows: the table as SELECT sees it, commits under way, the binlog, its GTIDs.
//!
//! All of it stands behind one lock; nothing here waits. Late stages of a commit are done when somebody
//! looks after they are due.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use onair_model::gtid::{SourceId, Tag};
use onair_model::{Gtid, GtidSet};
use rand::SeedableRng;
use rand::rngs::Xoshiro256PlusPlus;
use tokio::time::Instant;

use super::binlog::{Binlog, Limits, Logged};
use super::event::{self, Events, GtidHeader};
use super::hooks::{CommitOrder, Counts, Hooks, Network};
use super::room::Room;
use super::rows::{self, TableIds};
use super::transaction::Changes;
use crate::clock;

/// How many of the newest transactions can be lost by a crash.
const UNDO_MAX: usize = 10_000;

/// The rows of `live.room` by id.
pub(super) type Rooms = BTreeMap<u64, Arc<Room>>;

#[derive(Debug)]
pub(super) struct State {
    source: SourceId,
    /// Number of the next transaction.
    next: u64,
    /// What SELECT sees.
    rooms: Rooms,
    /// Written to the binlog and not yet executed, in binlog order.
    pending: VecDeque<Pending>,
    executed: GtidSet,
    pub(super) binlog: Binlog,
    limits: Limits,
    undo: VecDeque<Undo>,
    tables: TableIds,
    /// Goes up when the server ends all connections.
    pub(super) incarnation: u64,
    pub(super) network: Network,
    hooks: Hooks,
    random: Xoshiro256PlusPlus,
    pub(super) counts: Counts,
}

/// A transaction between the binlog and `gtid_executed`: its GTID is owned.
#[derive(Debug)]
struct Pending {
    number: u64,
    /// What its engine commit will change; `None` when SELECT sees it already.
    effect: Option<Effect>,
    visible_at: Instant,
    executed_at: Instant,
    sent_at: Instant,
}

/// What becomes visible by a commit.
#[derive(Clone, Debug)]
enum Effect {
    Rows(BTreeMap<u64, Option<Arc<Room>>>),
    Truncate,
    Nothing,
}

/// What was before a transaction.
#[derive(Debug)]
enum Undo {
    Rows(Vec<(u64, Option<Arc<Room>>)>),
    Table(Rooms),
}

/// What a view saw while it was made.
pub(super) struct View<'a> {
    /// The rows.
    pub(super) rooms: &'a Rooms,
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
            pending: VecDeque::new(),
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
            hooks: Hooks::default(),
            random: Xoshiro256PlusPlus::seed_from_u64(seed ^ 0x6d61_6b65_6c61_7465),
            counts: Counts::default(),
        }
    }

    pub(super) fn set_hooks(&mut self, hooks: Hooks) {
        self.hooks = hooks;
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
        for pending in &self.pending {
            owned.insert(&self.gtid(pending.number));
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
        let mut latest = self.rooms.get(&id);
        for pending in &self.pending {
            match &pending.effect {
                Some(Effect::Rows(rows)) => {
                    if let Some(row) = rows.get(&id) {
                        latest = row.as_ref();
                    }
                }
                Some(Effect::Truncate) => latest = None,
                Some(Effect::Nothing) | None => {}
            }
        }
        latest.cloned()
    }

    /// The table as the binlog has it.
    pub(super) fn latest_table(&self) -> Rooms {
        let mut rooms = self.rooms.clone();
        for pending in &self.pending {
            if let Some(effect) = pending.effect.clone() {
                apply(&mut rooms, effect);
            }
        }
        rooms
    }

    /// Takes a row's lock: whoever holds it makes its engine commit first. Under [`CommitOrder::Binlog`] so do
    /// all before it.
    pub(super) fn lock_row(&mut self, id: u64) {
        let holds = |pending: &Pending| match &pending.effect {
            Some(Effect::Rows(rows)) => rows.contains_key(&id),
            Some(Effect::Truncate) => true,
            Some(Effect::Nothing) | None => false,
        };
        let Some(holder) = self.pending.iter().position(holds) else {
            return;
        };
        self.counts.lock_conflicts += 1;
        let from = match self.hooks.order {
            CommitOrder::Binlog => 0,
            CommitOrder::Any => holder,
        };
        for at in from..=holder {
            self.make_visible(at);
        }
    }

    fn make_visible(&mut self, at: usize) {
        if let Some(effect) = self.pending.get_mut(at).and_then(|p| p.effect.take()) {
            apply(&mut self.rooms, effect);
        }
    }

    /// Does every stage that is due.
    pub(super) fn advance(&mut self, now: Instant) {
        for at in 0..self.pending.len() {
            if self.pending[at].visible_at <= now {
                self.make_visible(at);
            }
        }
        let source = self.source;
        let executed = &mut self.executed;
        self.pending.retain(|pending| {
            let done = pending.effect.is_none() && pending.executed_at <= now;
            if done {
                executed.insert(&Gtid::Mysql {
                    source,
                    number: pending.number,
                });
            }
            !done
        });
    }

    /// Does every stage of every commit now.
    pub(super) fn settle(&mut self) {
        for at in 0..self.pending.len() {
            self.make_visible(at);
        }
        self.pending.clear();
        self.executed = self.written();
    }

    /// When the next stage is due, if one is outstanding.
    pub(super) fn next_due(&self, now: Instant) -> Option<Instant> {
        let stages = self.pending.iter().flat_map(|pending| {
            let visible = pending.effect.is_some().then_some(pending.visible_at);
            [visible, Some(pending.executed_at)].into_iter().flatten()
        });
        stages
            .chain(self.next_sent(now))
            .filter(|at| *at > now)
            .min()
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
        let sent_at = self.stages(number, effect, now);
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

    /// Draws how late each stage is, and queues them. Returns when the stream gets the transaction.
    fn stages(&mut self, number: u64, effect: Effect, now: Instant) -> Instant {
        let hooks = self.hooks;
        let visible = hooks.visible_delay.draw(&mut self.random);
        let executed = hooks.executed_delay.draw(&mut self.random);
        let stream = hooks.stream_delay.draw(&mut self.random);
        self.counts.visible_delayed += u64::from(visible > Duration::ZERO);
        self.counts.executed_delayed += u64::from(executed > Duration::ZERO);
        self.counts.stream_delayed += u64::from(stream > Duration::ZERO);
        let mut visible_at = now + visible;
        let mut executed_at = visible_at + executed;
        if hooks.order == CommitOrder::Binlog
            && let Some(last) = self.pending.back()
        {
            visible_at = visible_at.max(last.visible_at);
            executed_at = executed_at.max(last.executed_at).max(visible_at);
        }
        // One dump thread sends in file order.
        let last_sent = self
            .binlog
            .files()
            .rev()
            .find_map(|f| f.transactions.last());
        let sent_at = last_sent.map_or(now + stream, |last| last.sent_at.max(now + stream));
        self.pending.push_back(Pending {
            number,
            effect: Some(effect),
            visible_at,
            executed_at,
            sent_at,
        });
        sent_at
    }

    fn undo_by(&mut self, undo: Undo) {
        if self.undo.len() == UNDO_MAX {
            self.undo.pop_front();
        }
        self.undo.push_back(undo);
    }

    /// A view for a statement of a scan; counts what it is ahead of and behind.
    pub(super) fn view(&mut self, now: Instant) -> View<'_> {
        let hidden = |pending: &Pending| pending.effect.is_some();
        let behind = self.pending.iter().any(|p| hidden(p) && p.sent_at <= now);
        let ahead_of_executed = self.pending.iter().any(|pending| !hidden(pending));
        let ahead_of_stream = self.unsent(now).any(|logged| {
            !self
                .pending
                .iter()
                .any(|pending| pending.number == logged.number && hidden(pending))
        });
        self.counts.views += 1;
        self.counts.views_behind_stream += u64::from(behind);
        self.counts.views_ahead_of_executed += u64::from(ahead_of_executed);
        self.counts.views_ahead_of_stream += u64::from(ahead_of_stream);
        View { rooms: &self.rooms }
    }

    /// One pause of a scan.
    pub(super) fn scan_pause(&mut self) -> Duration {
        let pause = self.hooks.scan_delay.draw(&mut self.random);
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

fn apply(rooms: &mut Rooms, effect: Effect) {
    match effect {
        Effect::Rows(rows) => {
            for (id, row) in rows {
                set(rooms, id, row);
            }
        }
        Effect::Truncate => rooms.clear(),
        Effect::Nothing => {}
    }
}

fn set(rooms: &mut Rooms, id: u64, row: Option<Arc<Room>>) {
    match row {
        Some(row) => rooms.insert(id, row),
        None => rooms.remove(&id),
    };
}
