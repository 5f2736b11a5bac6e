//! What a program does with the rows, in a process of its own.
//!
//! Files are read and ids drawn before what is measured begins. What was made is dropped after it ends.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::RwLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use hashbrown::HashMap;
use onair_sdk::Snapshot;
use onair_sdk::testing::Replay;
use prost::Message as _;
use serde::{Deserialize, Serialize};

use super::data::{self, Data, Delta, Room, Rooms, WholeRoom};
use crate::harness::meter::anonymous_bytes;
use crate::harness::{Latencies, Meter, Run};

/// Versions that come at least while lookups are timed.
const SWAPS_MIN: u64 = 11;

/// What is waited for in the last of the cases.
pub(super) const LOOKUP: &str = "lookup";

/// hashbrown with the hasher that it has by default, which is foldhash.
type Bare = HashMap<u64, Room, foldhash::fast::RandomState>;

/// Who holds the rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Holder {
    /// A hash map and nothing else.
    Bare,
    /// The values alone, one column after the other.
    Columns,
    /// A repeated prost message, put into a hash map.
    Prost,
    /// The hash map behind a lock.
    Locked,
    Dashmap,
    Ours,
}

/// What it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Task {
    /// From the bytes of a snapshot to rows that can be read, so often.
    Load { times: u64 },
    /// Reads uid and time of so many ids.
    Lookup { lookups: u64 },
    /// Holds the rows.
    Hold,
    /// Takes so many deltas that take off and put on so many rows each.
    Follow { deltas: u64, half: u64 },
    /// Each lookup is timed; versions follow each other meanwhile, or do not.
    Read { lookups: u64, swaps: bool },
}

/// A task for a holder.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Work {
    pub holder: Holder,
    pub task: Task,
    pub data: Data,
}

impl Holder {
    pub(super) fn name(self) -> &'static str {
        match self {
            Holder::Bare => "hashbrown",
            Holder::Columns => "the values in columns",
            Holder::Prost => "prost and hashbrown",
            Holder::Locked => "RwLock of hashbrown",
            Holder::Dashmap => "dashmap",
            Holder::Ours => "onair",
        }
    }
}

impl Work {
    /// Does it, here and now.
    pub fn run(&self) -> Result<Run> {
        match self.task {
            Task::Load { times } => self.load(times),
            Task::Lookup { lookups } => self.lookup(lookups),
            Task::Hold => self.hold(),
            Task::Follow { deltas, half } => self.follow(deltas, half),
            Task::Read { lookups, swaps } => self.read(lookups, swaps),
        }
    }

    fn load(&self, times: u64) -> Result<Run> {
        let rows = self.data.rows;
        let done = |meter: Meter, held: u64| {
            ensure!(held == rows * times, "{held} rows are held");
            meter.stop(held, &[("rows", held / times)])
        };
        match self.holder {
            Holder::Ours => {
                let messages = self.data.replay()?;
                let meter = Meter::start()?;
                let held = (0..times).map(|_| replayed(&messages));
                let held = held.collect::<Result<Vec<_>>>()?;
                done(meter, held.iter().map(len).sum())
            }
            Holder::Prost => {
                let messages = self.data.rooms()?;
                let meter = Meter::start()?;
                let held = (0..times).map(|_| from_prost(&messages, rows));
                let held = held.collect::<Result<Vec<_>>>()?;
                done(meter, held.iter().map(|held| held.len() as u64).sum())
            }
            _ => {
                let rooms = self.data.decoded()?;
                let meter = Meter::start()?;
                let held: Vec<Bare> = (0..times).map(|_| bare(&rooms)).collect();
                done(meter, held.iter().map(|held| held.len() as u64).sum())
            }
        }
    }

    fn lookup(&self, lookups: u64) -> Result<Run> {
        // A part of them over and over: an array of them all would push the rows out of the caches.
        let ids = data::ids(self.data.rows, 1 << 18);
        match self.holder {
            Holder::Ours => {
                let replay = replayed(&self.data.replay()?)?;
                let snapshot = replay.feed().snapshot();
                looked_up(&ids, lookups, |id| snapshot.get(&id).copied())
            }
            Holder::Locked => {
                let map = RwLock::new(bare(&self.data.decoded()?));
                looked_up(&ids, lookups, |id| {
                    let map = map
                        .read()
                        .unwrap_or_else(std::sync::PoisonError::into_inner);
                    map.get(&id).copied()
                })
            }
            #[cfg(feature = "peers")]
            Holder::Dashmap => {
                let map: dashmap::DashMap<u64, Room> = self.data.decoded()?.into_iter().collect();
                looked_up(&ids, lookups, |id| map.get(&id).map(|room| *room))
            }
            _ => {
                let map = bare(&self.data.decoded()?);
                looked_up(&ids, lookups, |id| map.get(&id).copied())
            }
        }
    }

    /// Bytes resident beyond those before.
    fn hold(&self) -> Result<Run> {
        let rows = self.data.rows;
        match self.holder {
            Holder::Ours => {
                let messages = self.data.replay()?;
                grown(rows, || replayed(&messages))
            }
            Holder::Columns => {
                let rooms = self.data.decoded()?;
                grown(rows, || {
                    let room = |(_, room): &(u64, Room)| *room;
                    let ids: Vec<u64> = rooms.iter().map(|(id, _)| *id).collect();
                    let uids: Vec<u64> = rooms.iter().map(|r| room(r).uid).collect();
                    let areas: Vec<i32> = rooms.iter().map(|r| room(r).area_id).collect();
                    let times: Vec<i64> = rooms.iter().map(|r| room(r).live_time).collect();
                    Ok((ids, uids, areas, times))
                })
            }
            _ => {
                let rooms = self.data.decoded()?;
                grown(rows, || Ok(bare(&rooms)))
            }
        }
    }

    fn follow(&self, deltas: u64, half: u64) -> Result<Run> {
        let mut following = self.data.deltas()?;
        let each: Vec<Delta> = (0..deltas)
            .map(|_| following.next(half))
            .collect::<Result<_>>()?;
        let rows = self.data.rows;
        if self.holder == Holder::Ours {
            let mut replay = replayed(&self.data.replay()?)?;
            let meter = Meter::start()?;
            for delta in &each {
                for message in &delta.messages {
                    replay.take(message.clone())?;
                }
            }
            let held = len(&replay);
            ensure!(held == rows, "{held} rows are held");
            return meter.stop(deltas, &[("rows", held)]);
        }
        // A copy is changed and takes the place of the one before.
        let mut shown = Arc::new(bare(&self.data.decoded()?));
        let meter = Meter::start()?;
        for delta in &each {
            let mut next = Bare::clone(&shown);
            for id in &delta.off {
                next.remove(id);
            }
            next.extend(delta.on.iter().copied());
            shown = Arc::new(next);
        }
        meter.stop(deltas, &[("rows", shown.len() as u64)])
    }

    /// As a caller does who asks for the newest version each time.
    fn read(&self, lookups: u64, swaps: bool) -> Result<Run> {
        let ids = data::ids(self.data.rows, 1 << 18);
        let mut replay = replayed(&self.data.replay()?)?;
        let feed = replay.feed().clone();
        let mut following = self.data.deltas()?;
        let (done, versions) = (AtomicBool::new(!swaps), AtomicU64::new(0));
        // Where lookups are few, they go on until there was something beside them.
        let is_enough =
            || done.load(Ordering::Relaxed) || versions.load(Ordering::Relaxed) >= SWAPS_MIN;
        let meter = Meter::start()?;
        let latencies = thread::scope(|scope| {
            let writer = scope.spawn(|| -> Result<()> {
                let all = (|| {
                    while !done.load(Ordering::Relaxed) {
                        for message in following.next(data::HALF)?.messages {
                            replay.take(message)?;
                        }
                        versions.fetch_add(1, Ordering::Relaxed);
                    }
                    Ok(())
                })();
                // Nobody waits for versions of a writer that failed.
                done.store(true, Ordering::Relaxed);
                all
            });
            let latencies = timed(&ids, lookups, is_enough, || feed.snapshot());
            done.store(true, Ordering::Relaxed);
            writer.join().ok().context("the writer panicked")??;
            latencies
        })?;
        let run = meter.stop(latencies.count(), &[("versions", versions.into_inner())])?;
        Ok(run.with_latencies(LOOKUP, latencies))
    }
}

fn replayed(messages: &[Bytes]) -> Result<Replay<Room>> {
    let mut replay = Replay::new();
    for message in messages {
        replay.take(message.clone())?;
    }
    Ok(replay)
}

fn len(replay: &Replay<Room>) -> u64 {
    replay.feed().snapshot().len() as u64
}

fn from_prost(messages: &[Bytes], rows: u64) -> Result<Bare> {
    let mut map = Bare::with_capacity_and_hasher(usize::try_from(rows)?, Default::default());
    for message in messages {
        let rooms = Rooms::decode(message.clone())?.rooms;
        map.extend(rooms.iter().map(WholeRoom::parts));
    }
    Ok(map)
}

fn bare(rooms: &[(u64, Room)]) -> Bare {
    let mut map = Bare::with_capacity_and_hasher(rooms.len(), Default::default());
    map.extend(rooms.iter().copied());
    map
}

fn looked_up(ids: &[u64], lookups: u64, get: impl Fn(u64) -> Option<Room>) -> Result<Run> {
    let mut found = 0;
    let mut sum = 0_u64;
    let mut pass = |count: u64| {
        for id in ids.iter().cycle().take(count as usize) {
            if let Some(room) = get(*id) {
                found += 1;
                sum = sum.wrapping_add(room.uid ^ room.live_time as u64);
            }
        }
        std::mem::take(&mut found)
    };
    pass(ids.len() as u64);
    let meter = Meter::start()?;
    let found = pass(lookups);
    let run = meter.stop(lookups, &[("found", found)])?;
    black_box(sum);
    Ok(run)
}

/// So many lookups, and more until it is enough. The first tenth is not recorded.
fn timed(
    ids: &[u64],
    lookups: u64,
    is_enough: impl Fn() -> bool,
    snapshot: impl Fn() -> Snapshot<Room>,
) -> Result<Latencies> {
    let mut latencies = Latencies::new();
    let mut sum = 0_u64;
    for (at, id) in (0..).zip(ids.iter().cycle()) {
        if at >= lookups + lookups / 10 && is_enough() {
            break;
        }
        let begun = Instant::now();
        if let Some(room) = snapshot().get(id) {
            sum = sum.wrapping_add(room.uid ^ room.live_time as u64);
        }
        let took: Duration = begun.elapsed();
        if at >= lookups / 10 {
            latencies.record(took)?;
        }
    }
    black_box(sum);
    Ok(latencies)
}

/// What is made here takes so much more than was held before.
fn grown<T>(rows: u64, make: impl FnOnce() -> Result<T>) -> Result<Run> {
    let this = std::process::id();
    let before = anonymous_bytes(this)?;
    let meter = Meter::start()?;
    let held = make()?;
    let mut run = meter.stop(rows, &[])?;
    run.memory_bytes = Some(anonymous_bytes(this)?.saturating_sub(before));
    black_box(&held);
    Ok(run)
}
