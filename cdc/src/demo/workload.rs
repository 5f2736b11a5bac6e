//! The rows at the start and what happens to them: seeded, paced as an open loop.
//!
//! Most changes are those of a real table of rooms: viewers counted, which no feed exports, titles and areas
//! changed, rooms going on and off air, now and then created, deleted or given another id; gifts go to another
//! table. Some transactions are long, some are rolled back and never show.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};
use tokio::time::{Instant, sleep_until};

use super::commits::Rooms;
use super::room::{Room, datetime};
use super::rows::{GIFT_KINDS, Gift};
use super::server::{DemoSettings, Shared};
use super::state::State;
use super::transaction::Transaction;
use crate::clock;

/// An open loop that fell further behind than this goes on from now.
const LAG_MAX: Duration = Duration::from_secs(1);

/// Transactions a second at most: more than one core makes.
const RATE_MAX: f64 = 1e6;

/// Runs the workload until the task is aborted.
pub(super) async fn run(shared: Arc<Shared>, rate: f64, seed: u64) {
    let rate = rate.min(RATE_MAX);
    let mut gaps = Xoshiro256PlusPlus::seed_from_u64(!seed);
    let mut running = shared.running();
    let mut due = Instant::now();
    loop {
        if !*running.borrow_and_update() {
            if running.changed().await.is_err() {
                return;
            }
            due = Instant::now();
            continue;
        }
        // Transactions come independently of each other, so their gaps are exponential.
        let gap = -(1.0 - gaps.random::<f64>()).ln() / rate;
        due += Duration::from_secs_f64(gap.min(60.0));
        tokio::select! {
            biased;
            changed = running.changed() => {
                if changed.is_err() {
                    return;
                }
                running.mark_changed();
                continue;
            }
            () = sleep_until(due) => {}
        }
        if due.elapsed() > LAG_MAX {
            due = Instant::now();
        }
        shared.work();
    }
}

/// Makes rows and transactions.
#[derive(Debug)]
pub(super) struct Generator {
    random: Xoshiro256PlusPlus,
    all: Picks,
    live: Picks,
    live_target: usize,
    next_room: u64,
    next_gift: u64,
}

/// A set of ids from which one can be drawn.
#[derive(Debug, Default)]
struct Picks {
    list: Vec<u64>,
    at: HashMap<u64, usize>,
}

impl Picks {
    fn insert(&mut self, id: u64) {
        if let Entry::Vacant(vacant) = self.at.entry(id) {
            vacant.insert(self.list.len());
            self.list.push(id);
        }
    }

    fn remove(&mut self, id: u64) {
        if let Some(at) = self.at.remove(&id) {
            self.list.swap_remove(at);
            if let Some(moved) = self.list.get(at) {
                self.at.insert(*moved, at);
            }
        }
    }

    fn pick(&self, random: &mut Xoshiro256PlusPlus) -> Option<u64> {
        if self.list.is_empty() {
            return None;
        }
        Some(self.list[random.random_range(0..self.list.len())])
    }
}

const LIVE: i8 = 1;
const OFF: i8 = 0;
/// A recording is shown: neither on air nor quite off.
const REPLAY: i8 = 2;

impl Generator {
    /// The generator and the rows that the table begins with.
    pub(super) fn new(settings: &DemoSettings) -> (Self, Rooms) {
        let live_share = settings.live_share.clamp(0.0, 1.0);
        let mut generator = Generator {
            random: Xoshiro256PlusPlus::seed_from_u64(settings.seed),
            all: Picks::default(),
            live: Picks::default(),
            live_target: (settings.rows as f64 * live_share) as usize,
            next_room: settings.rows + 1,
            next_gift: 1,
        };
        let now = clock::unix_micros();
        let rooms: Rooms = (1..=settings.rows)
            .map(|id| {
                let live = generator.random.random_bool(live_share);
                let room = generator.room(id, if live { LIVE } else { OFF }, now);
                generator.all.insert(id);
                if live {
                    generator.live.insert(id);
                }
                (id, Arc::new(room))
            })
            .collect();
        (generator, rooms)
    }

    /// Runs one transaction.
    pub(super) fn step(&mut self, state: &mut State, now: Instant) {
        let changes = match self.random.random_range(0..100) {
            0 => 0,
            1..=60 => 1,
            _ => self.random.random_range(2..=5),
        };
        let mut transaction = Transaction::new(state);
        if changes == 0 {
            self.many(&mut transaction);
        }
        for _ in 0..changes {
            self.change(&mut transaction);
        }
        if self.random.random_range(0..50) == 0 {
            transaction.rollback();
        }
        let Some(changes) = transaction.finish() else {
            state.counts.rollbacks += 1;
            return;
        };
        for (id, row) in &changes.rows {
            match row {
                Some(_) => self.all.insert(*id),
                None => self.all.remove(*id),
            }
            match row {
                Some(row) if row.live_status == LIVE => self.live.insert(*id),
                _ => self.live.remove(*id),
            }
        }
        state.commit(changes, now);
    }

    /// One statement, now and then two that belong together.
    fn change(&mut self, t: &mut Transaction<'_>) {
        match self.random.random_range(0..100) {
            0..34 => self.viewers(t),
            34..48 => {
                let title = self.title();
                self.update_live(t, |room| room.title = title);
            }
            48..54 => {
                let area = self.area();
                self.update_live(t, |room| room.area_id = area);
            }
            54..57 => {
                let title = self.title();
                self.update_any(t, |room| room.title = title);
            }
            57..74 => self.toggle(t),
            74..77 => {
                self.go_off(t);
                self.go_on(t);
            }
            77..83 => self.insert(t),
            83..88 => {
                let picks = if self.random.random_bool(0.2) {
                    &self.live
                } else {
                    &self.all
                };
                if let Some(id) = picks.pick(&mut self.random) {
                    t.delete(id);
                }
            }
            88..89 => self.move_key(t),
            89..90 => {
                let uid = self.random.random_range(1..1 << 40);
                self.update_live(t, |room| room.uid = Some(uid));
            }
            _ => self.gift(t),
        }
    }

    /// A statement over many rows.
    fn many(&mut self, t: &mut Transaction<'_>) {
        let count = self.random.random_range(20..200);
        let picks = if self.random.random_bool(0.5) {
            &self.live
        } else {
            &self.all
        };
        let ids: Vec<u64> = (0..count)
            .filter_map(|_| picks.pick(&mut self.random))
            .collect();
        let area = self.area();
        let updated = t.update_all(ids, |room| {
            room.online = Some(0);
            room.area_id = area;
        });
        debug_assert!(updated.is_ok());
    }

    fn viewers(&mut self, t: &mut Transaction<'_>) {
        let online = self.random.random_range(0..50_000);
        if self.random.random_bool(0.8) {
            self.update_live(t, |room| room.online = Some(online));
        } else {
            self.update_any(t, |room| room.online = Some(online));
        }
    }

    fn update_live(&mut self, t: &mut Transaction<'_>, change: impl FnOnce(&mut Room)) {
        if let Some(id) = self.live.pick(&mut self.random) {
            update(t, id, change);
        }
    }

    fn update_any(&mut self, t: &mut Transaction<'_>, change: impl FnOnce(&mut Room)) {
        if let Some(id) = self.all.pick(&mut self.random) {
            update(t, id, change);
        }
    }

    /// One room goes on or off air, whichever brings their number nearer to its target.
    fn toggle(&mut self, t: &mut Transaction<'_>) {
        let short = self.live.list.len() < self.live_target;
        if self.random.random_bool(if short { 0.7 } else { 0.3 }) {
            self.go_on(t);
        } else {
            self.go_off(t);
        }
    }

    fn go_on(&mut self, t: &mut Transaction<'_>) {
        let now = datetime(clock::unix_micros());
        let title = self.title();
        let retitled = self.random.random_bool(0.3);
        self.update_any(t, |room| {
            room.live_status = LIVE;
            room.live_time = Some(now);
            if retitled {
                room.title = title;
            }
        });
    }

    fn go_off(&mut self, t: &mut Transaction<'_>) {
        let status = if self.random.random_bool(0.05) {
            REPLAY
        } else {
            OFF
        };
        self.update_live(t, |room| {
            room.live_status = status;
            room.online = Some(0);
        });
    }

    fn insert(&mut self, t: &mut Transaction<'_>) {
        let count = if self.random.random_bool(0.1) { 5 } else { 1 };
        let now = clock::unix_micros();
        let rooms: Vec<Room> = (0..count)
            .map(|_| {
                let id = self.next_room;
                self.next_room += 1;
                let live = self.random.random_bool(0.1);
                self.room(id, if live { LIVE } else { OFF }, now)
            })
            .collect();
        // A test may have taken the id: then this statement fails, as it would.
        let _ = t.insert_all(rooms);
    }

    fn move_key(&mut self, t: &mut Transaction<'_>) {
        let to = self.next_room;
        self.next_room += 1;
        let picks = if self.random.random_bool(0.5) {
            &self.live
        } else {
            &self.all
        };
        if let Some(id) = picks.pick(&mut self.random) {
            let _ = t.update(id, |room| room.id = to);
        }
    }

    fn gift(&mut self, t: &mut Transaction<'_>) {
        let gifts = (0..self.random.random_range(1..=3))
            .filter_map(|_| {
                let room_id = self.live.pick(&mut self.random)?;
                let id = self.next_gift;
                self.next_gift += 1;
                Some(Gift {
                    id,
                    room_id,
                    kind: self.random.random_range(1..=GIFT_KINDS.len() as u8),
                    cents: self.random.random_range(1..500_000),
                })
            })
            .collect();
        t.gifts(gifts);
    }

    fn room(&mut self, id: u64, live_status: i8, now: i64) -> Room {
        let was_live = live_status == LIVE || self.random.random_bool(0.5);
        let since = self.random.random_range(0..4 * 3_600_000_000i64);
        Room {
            id,
            uid: Some(1_000_000 + id * 7),
            area_id: self.area(),
            title: self.title(),
            live_status,
            live_time: was_live.then(|| datetime(now - since)),
            online: (live_status == LIVE).then(|| self.random.random_range(0..50_000)),
        }
    }

    fn area(&mut self) -> Option<i32> {
        (!self.random.random_bool(0.02)).then(|| self.random.random_range(-3..400))
    }

    fn title(&mut self) -> Option<Arc<str>> {
        if self.random.random_bool(0.02) {
            return None;
        }
        let word = |random: &mut Xoshiro256PlusPlus| WORDS[random.random_range(0..WORDS.len())];
        let mut title = String::with_capacity(48);
        title.push_str(word(&mut self.random));
        for _ in 0..self.random.random_range(0..4) {
            title.push(' ');
            title.push_str(word(&mut self.random));
        }
        Some(title.into())
    }
}

fn update(t: &mut Transaction<'_>, id: u64, change: impl FnOnce(&mut Room)) {
    // The row may be gone, by this transaction or by a test's.
    let _ = t.update(id, change);
}

/// What titles are made of; some of it takes more than one byte a character.
const WORDS: [&str; 32] = [
    "late",
    "night",
    "ranked",
    "chess",
    "piano",
    "cooking",
    "with",
    "friends",
    "speedrun",
    "any%",
    "first",
    "try",
    "no",
    "commentary",
    "rain",
    "city",
    "walk",
    "learning",
    "Rust",
    "watercolour",
    "直播",
    "唱歌",
    "深夜",
    "电台",
    "游戏",
    "ラジオ",
    "歌枠",
    "éclair",
    "naïve",
    "🎮",
    "🎤",
    "it's",
];
