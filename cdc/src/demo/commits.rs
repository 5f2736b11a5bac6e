//! Commits under way: written to the binlog, their later stages outstanding. Their GTIDs are owned.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::Xoshiro256PlusPlus;
use tokio::time::Instant;

use super::hooks::{CommitOrder, Counts, Hooks};
use super::room::Room;

/// The rows of `live.room` by id.
pub(super) type Rooms = BTreeMap<u64, Arc<Room>>;

/// In binlog order. Those that SELECT does not see yet never touch the same row.
#[derive(Debug)]
pub(super) struct Commits {
    queue: VecDeque<Commit>,
    pub(super) hooks: Hooks,
    random: Xoshiro256PlusPlus,
}

#[derive(Debug)]
struct Commit {
    number: u64,
    /// What its engine commit will change; `None` when SELECT sees it already.
    effect: Option<Effect>,
    visible_at: Instant,
    executed_at: Instant,
    sent_at: Instant,
}

/// What becomes visible by a commit.
#[derive(Clone, Debug)]
pub(super) enum Effect {
    /// Rows written, or `None` where they were deleted.
    Rows(BTreeMap<u64, Option<Arc<Room>>>),
    /// All rows are gone.
    Truncate,
    /// A statement that leaves the rows as they are.
    Nothing,
}

impl Commits {
    pub(super) fn new(seed: u64) -> Self {
        Commits {
            queue: VecDeque::new(),
            hooks: Hooks::default(),
            random: Xoshiro256PlusPlus::seed_from_u64(seed ^ 0x6d61_6b65_6c61_7465),
        }
    }

    /// Queues a commit that was written now, after one that is sent at `sent_before`; draws how late each of its
    /// stages is. Returns when the stream gets it.
    pub(super) fn push(
        &mut self,
        (number, effect): (u64, Effect),
        sent_before: Option<Instant>,
        now: Instant,
        counts: &mut Counts,
    ) -> Instant {
        let hooks = self.hooks;
        let visible = hooks.visible_delay.draw(&mut self.random);
        let executed = hooks.executed_delay.draw(&mut self.random);
        let stream = hooks.stream_delay.draw(&mut self.random);
        counts.visible_delayed += u64::from(visible > Duration::ZERO);
        counts.executed_delayed += u64::from(executed > Duration::ZERO);
        counts.stream_delayed += u64::from(stream > Duration::ZERO);
        let mut visible_at = now + visible;
        let mut executed_at = visible_at + executed;
        if hooks.order == CommitOrder::Binlog
            && let Some(last) = self.queue.back()
        {
            visible_at = visible_at.max(last.visible_at);
            executed_at = executed_at.max(last.executed_at).max(visible_at);
        }
        // One dump thread sends in file order.
        let sent_at = sent_before.map_or(now + stream, |before| before.max(now + stream));
        self.queue.push_back(Commit {
            number,
            effect: Some(effect),
            visible_at,
            executed_at,
            sent_at,
        });
        sent_at
    }

    /// Does every stage that is due; calls `executed` with the numbers of those that are through.
    pub(super) fn advance(
        &mut self,
        now: Instant,
        rooms: &mut Rooms,
        mut executed: impl FnMut(u64),
    ) {
        for commit in &mut self.queue {
            if commit.visible_at <= now {
                commit.make_visible(rooms);
            }
        }
        self.queue.retain(|commit| {
            let through = commit.effect.is_none() && commit.executed_at <= now;
            if through {
                executed(commit.number);
            }
            !through
        });
    }

    /// Does every stage of every commit now.
    pub(super) fn settle(&mut self, rooms: &mut Rooms) {
        for mut commit in self.queue.drain(..) {
            commit.make_visible(rooms);
        }
    }

    /// Takes a row's lock: who holds it makes its engine commit first, and under [`CommitOrder::Binlog`] so do all
    /// before it. Whether somebody held it.
    pub(super) fn lock_row(&mut self, id: u64, rooms: &mut Rooms) -> bool {
        let holds = |commit: &Commit| match &commit.effect {
            Some(Effect::Rows(rows)) => rows.contains_key(&id),
            Some(Effect::Truncate) => true,
            Some(Effect::Nothing) | None => false,
        };
        let Some(holder) = self.queue.iter().position(holds) else {
            return false;
        };
        let first = match self.hooks.order {
            CommitOrder::Binlog => 0,
            CommitOrder::Any => holder,
        };
        for commit in self.queue.range_mut(first..=holder) {
            commit.make_visible(rooms);
        }
        true
    }

    /// A row after all commits, where `rooms` is what SELECT sees.
    pub(super) fn latest(&self, id: u64, rooms: &Rooms) -> Option<Arc<Room>> {
        let mut latest = rooms.get(&id);
        for effect in self.effects() {
            match effect {
                Effect::Rows(rows) => {
                    if let Some(row) = rows.get(&id) {
                        latest = row.as_ref();
                    }
                }
                Effect::Truncate => latest = None,
                Effect::Nothing => {}
            }
        }
        latest.cloned()
    }

    /// What is still to become visible, in order.
    pub(super) fn effects(&self) -> impl Iterator<Item = &Effect> {
        self.queue
            .iter()
            .filter_map(|commit| commit.effect.as_ref())
    }

    /// The transactions whose GTIDs are owned.
    pub(super) fn owned(&self) -> impl Iterator<Item = u64> {
        self.queue.iter().map(|commit| commit.number)
    }

    /// Whether a transaction is hidden from SELECT.
    pub(super) fn hides(&self, number: u64) -> bool {
        self.queue
            .iter()
            .any(|commit| commit.number == number && commit.effect.is_some())
    }

    /// Whether SELECT lacks a transaction that the stream has.
    pub(super) fn select_is_behind_stream(&self, now: Instant) -> bool {
        self.queue
            .iter()
            .any(|commit| commit.effect.is_some() && commit.sent_at <= now)
    }

    /// Whether SELECT sees a transaction that is not executed.
    pub(super) fn select_is_ahead_of_executed(&self) -> bool {
        self.queue.iter().any(|commit| commit.effect.is_none())
    }

    /// When the next stage is due, of those that are still to come.
    pub(super) fn next_due(&self, now: Instant) -> Option<Instant> {
        let stages = self.queue.iter().flat_map(|commit| {
            let visible = commit.effect.is_some().then_some(commit.visible_at);
            visible.into_iter().chain([commit.executed_at])
        });
        stages.filter(|at| *at > now).min()
    }

    /// A pause between two steps of a scan.
    pub(super) fn scan_pause(&mut self) -> Duration {
        self.hooks.scan_delay.draw(&mut self.random)
    }
}

impl Commit {
    fn make_visible(&mut self, rooms: &mut Rooms) {
        if let Some(effect) = self.effect.take() {
            effect.apply(rooms);
        }
    }
}

impl Effect {
    pub(super) fn apply(self, rooms: &mut Rooms) {
        match self {
            Effect::Rows(rows) => {
                for (id, row) in rows {
                    set(rooms, id, row);
                }
            }
            Effect::Truncate => rooms.clear(),
            Effect::Nothing => {}
        }
    }
}

/// Writes a row, or deletes it.
pub(super) fn set(rooms: &mut Rooms, id: u64, row: Option<Arc<Room>>) {
    match row {
        Some(row) => rooms.insert(id, row),
        None => rooms.remove(&id),
    };
}
