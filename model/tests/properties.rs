//! Random worlds, larger than can be searched through: each is made by its seed alone, which is named when it fails.
//!
//! One or two readers of an epoch flush where they like, a zombie writes on while the next epoch opens, records are
//! split, lost and repeated; servers read the partitions unevenly and boot from a merger's heads. Each step is judged as
//! in [`crate::search`].

use std::collections::BTreeMap;

use onair_model::assembly::{Assembly, Rewind};
use onair_model::fold::Outcome;
use onair_model::frame::compose;
use onair_model::parts::{Parts, split};
use onair_model::{Bucket, BucketState, Buckets, CutRecord, Frame, Record};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};

use crate::history::{Content, History, LINEAGE, Writes, gtids, layout, rows_of, sum};
use crate::search::{Frames, Receiver, World};

const SEEDS: std::ops::Range<u64> = 0..60;

/// In one world: servers that start from the beginning of the log again and again would never come to its end.
const BOOTS_MAX: usize = 8;

/// What goes wrong in a random world.
#[derive(Clone, Copy, Debug)]
struct Faults {
    /// Of a hundred log entries, how many are lost.
    lost: u32,
    /// How many are written again at once.
    repeated: u32,
    /// Only data are lost: progress and cuts arrive.
    data_only: bool,
    /// Buckets are read as far as they go before any cut is.
    buckets_first: bool,
    /// A second epoch opens while readers of the first one write on.
    epochs: u32,
}

const NO_FAULTS: Faults = Faults {
    lost: 0,
    repeated: 0,
    data_only: false,
    buckets_first: false,
    epochs: 1,
};

fn random_writes(rng: &mut StdRng, content: &Content, keys: u64) -> Writes {
    let rows = match rng.random_range(0..10) {
        0 => 0,
        1 => keys,
        2..5 => 2,
        _ => 1,
    };
    let mut writes = BTreeMap::new();
    for _ in 0..rows {
        let key = rng.random_range(1..=keys);
        let on = !content.contains_key(&key) || rng.random_bool(0.5);
        writes.insert(key, on.then(|| rng.random_range(0..4)));
    }
    writes.into_iter().collect()
}

fn random_history(rng: &mut StdRng, epoch: u32, layout: Buckets, old: Option<&History>) -> History {
    let keys = 24;
    let (start, before) = match old {
        None => {
            let live = (1..=keys).filter(|key| key % 2 == 0);
            (live.map(|key| (key, 1)).collect(), gtids([50]))
        }
        Some(old) => (old.content(old.end()), old.executed_most(old.end())),
    };
    let mut content: Content = start;
    let first = content.clone();
    let transactions: Vec<(u64, Writes)> = (0..rng.random_range(4..14))
        .map(|at| {
            let writes = random_writes(rng, &content, keys);
            for (key, value) in &writes {
                match value {
                    Some(value) => content.insert(*key, *value),
                    None => content.remove(key),
                };
            }
            (u64::from(epoch) * 1000 + at, writes)
        })
        .collect();
    History::new(epoch, layout, &first, before, &transactions)
}

/// The log: a partition a bucket, and the cuts.
struct Log {
    buckets: Vec<Vec<Record>>,
    cuts: Vec<CutRecord>,
    lost: usize,
}

/// What a reader has still to send, in order, to each partition.
struct Reader {
    id: u64,
    at: u64,
    cut: Option<u64>,
    buckets: Vec<Vec<Record>>,
    cuts: Vec<CutRecord>,
}

impl Reader {
    fn new(id: u64, at: u64, buckets: usize) -> Self {
        Reader {
            id,
            at,
            cut: None,
            buckets: vec![Vec::new(); buckets],
            cuts: Vec::new(),
        }
    }

    fn say(&mut self, rng: &mut StdRng, bucket: usize, record: Record) {
        let size = if rng.random_bool(0.5) { 50 } else { 1000 };
        let record = Record {
            reader_id: self.id,
            ..record
        };
        self.buckets[bucket].extend(split(record, size));
    }

    /// One flush, or the progress of a second when it has come to the end.
    fn flush(&mut self, rng: &mut StdRng, history: &History) {
        let to = rng.random_range(self.at..=history.end());
        let full = to == self.at || self.cut.is_none() || rng.random_bool(0.2);
        for bucket in 0..history.buckets {
            if full || history.d(bucket, to) > self.at {
                self.say(rng, bucket, history.record(bucket, self.at, to));
            }
        }
        let prev = self.cut.unwrap_or(to);
        self.cuts
            .push(history.cut(prev, to, full, full && rng.random_bool(0.5)));
        (self.at, self.cut) = (to, Some(to));
    }

    /// Everything that it has not said, at once.
    fn end(&mut self, rng: &mut StdRng, history: &History) {
        let end = history.end();
        for bucket in 0..history.buckets {
            self.say(rng, bucket, history.record(bucket, self.at, end));
        }
        self.cuts.push(history.cut(end, end, true, true));
        self.at = end;
    }

    /// Sends some of it.
    fn send(&mut self, rng: &mut StdRng, faults: Faults, log: &mut Log, all: bool) {
        for (bucket, queue) in self.buckets.iter_mut().enumerate() {
            let count = if all {
                queue.len()
            } else {
                rng.random_range(0..=queue.len())
            };
            for record in queue.drain(..count) {
                let data = !matches!(&record.body, onair_model::Body::Commits { commits, .. } if commits.is_empty());
                let may = data || !faults.data_only;
                if may && rng.random_ratio(faults.lost, 100) {
                    log.lost += 1;
                    continue;
                }
                let again = rng.random_ratio(faults.repeated, 100);
                log.buckets[bucket].extend(again.then(|| record.clone()));
                log.buckets[bucket].push(record);
            }
        }
        let count = if all {
            self.cuts.len()
        } else {
            rng.random_range(0..=self.cuts.len())
        };
        for cut in self.cuts.drain(..count) {
            if !faults.data_only && rng.random_ratio(faults.lost, 100) {
                log.lost += 1;
                continue;
            }
            let again = rng.random_ratio(faults.repeated, 100);
            log.cuts.extend(again.then(|| cut.clone()));
            log.cuts.push(cut);
        }
    }
}

/// Writes the log of an epoch: two readers, the second from where the first had sent everything.
fn write(
    rng: &mut StdRng,
    faults: Faults,
    history: &History,
    old: Option<&History>,
    zombie: &mut Option<Reader>,
    log: &mut Log,
) {
    let id = u64::from(history.epoch.get()) * 10;
    let mut first = Reader::new(id, 0, history.buckets);
    for bucket in 0..history.buckets {
        let open = match old {
            Some(old) if rng.random_bool(0.5) => history.carry(bucket, old, old.end(), 0),
            _ => history.replace(bucket, 0),
        };
        first.say(rng, bucket, open);
    }
    first.cuts.push(history.cut(0, 0, true, false));
    first.cut = Some(0);
    for _ in 0..rng.random_range(0..3) {
        first.flush(rng, history);
    }
    first.send(rng, faults, log, true);
    let checkpoint = rng.random_range(0..=first.at);
    let mut second = Reader::new(id + 1, checkpoint, history.buckets);
    let mut steps = 0;
    while steps < 30 && (first.at < history.end() || second.at < history.end()) {
        steps += 1;
        match rng.random_range(0..5) {
            0 | 1 => first.flush(rng, history),
            2 | 3 => second.flush(rng, history),
            _ => {}
        }
        first.send(rng, faults, log, false);
        second.send(rng, faults, log, false);
        if let Some(zombie) = zombie {
            zombie.send(rng, faults, log, false);
        }
    }
    first.send(rng, faults, log, true);
    second.end(rng, history);
    second.send(rng, faults, log, true);
    // It was stopped here, and wakes up in the epoch after.
    if let Some(old) = zombie.replace(first) {
        drop(old);
    }
    if let Some(zombie) = zombie {
        for _ in 0..3 {
            (zombie.at, zombie.cut) = (rng.random_range(0..=history.end()), None);
            zombie.flush(rng, history);
        }
    }
}

/// A merger: what it has folded, and from where it would go on.
struct Merger {
    receiver: Receiver,
    parts: Vec<Parts>,
    read: Vec<usize>,
    cuts: usize,
    cut: Option<CutRecord>,
}

/// A server: the same, and what it published.
struct Server {
    receiver: Receiver,
    parts: Vec<Parts>,
    read: Vec<usize>,
    cuts: usize,
}

impl Server {
    fn new(world: &World) -> Self {
        let buckets = world.layout.count();
        Server {
            receiver: world.receiver(),
            parts: vec![Parts::default(); buckets],
            read: vec![0; buckets],
            cuts: 0,
        }
    }

    /// Reads one entry of a bucket; whether there was one.
    fn bucket(&mut self, world: &World, log: &Log, bucket: usize) -> Result<bool, String> {
        let Some(record) = log.buckets[bucket].get(self.read[bucket]) else {
            return Ok(false);
        };
        let parts = &mut self.parts[bucket];
        if let Some(whole) = parts.push(record.clone(), self.read[bucket] as u64) {
            let outcome = world.record(&mut self.receiver, bucket, &whole)?;
            if log.lost == 0 && outcome == Outcome::Gap {
                return Err(format!("a gap, and nothing was lost: {whole:?}"));
            }
            parts.passed(self.receiver.assembly.bucket(Bucket::new(bucket as u16)));
        }
        self.read[bucket] += 1;
        Ok(true)
    }

    fn next_cut(&mut self, world: &World, log: &Log) -> Result<bool, String> {
        let Some(cut) = log.cuts.get(self.cuts) else {
            return Ok(false);
        };
        world.cut(&mut self.receiver, cut)?;
        self.cuts += 1;
        Ok(true)
    }
}

impl Merger {
    fn new(world: &World) -> Self {
        let server = Server::new(world);
        Merger {
            receiver: server.receiver,
            parts: server.parts,
            read: server.read,
            cuts: 0,
            cut: None,
        }
    }

    fn step(&mut self, rng: &mut StdRng, world: &World, log: &Log) -> Result<(), String> {
        let mut reading = Server {
            receiver: self.receiver.clone(),
            parts: std::mem::take(&mut self.parts),
            read: std::mem::take(&mut self.read),
            cuts: self.cuts,
        };
        for _ in 0..rng.random_range(0..6) {
            let bucket = rng.random_range(0..world.layout.count());
            reading.bucket(world, log, bucket)?;
        }
        (self.receiver, self.parts, self.read) = (reading.receiver, reading.parts, reading.read);
        // The cuts' head: a newer full cut that every bucket head has passed.
        while let Some(cut) = log.cuts.get(self.cuts) {
            let states = || (world.layout.all()).map(|b| self.receiver.assembly.bucket(b));
            let mixed = states().any(|state| state.epoch > cut.epoch());
            let passed = states().all(|state| state.through >= cut.version);
            let newer = (self.cut.as_ref()).is_none_or(|held| held.version < cut.version);
            if cut.full && newer && !mixed {
                if !passed {
                    break;
                }
                self.cut = Some(cut.clone());
            }
            self.cuts += 1;
        }
        Ok(())
    }

    /// A server that starts from its heads, or from nothing while the store holds no whole cut.
    fn boot(&self, rng: &mut StdRng, world: &World) -> Result<Server, String> {
        let mut server = Server::new(world);
        let Some(cut) = &self.cut else {
            return Ok(server);
        };
        for bucket in world.layout.all() {
            let state = self.receiver.assembly.bucket(bucket);
            if state.epoch != cut.epoch() {
                // Heads in two epochs: the log is read from its beginning.
                return Ok(Server::new(world));
            }
            let index = bucket.index();
            let history = world
                .histories
                .iter()
                .find(|h| h.epoch == state.epoch)
                .unwrap();
            let base = rng.random_range(0..=cut.version.sequence());
            let mut loaded = history.loaded(index, base, state.through.sequence());
            loaded.state.claimed = state.claimed;
            let assembly: &mut Assembly = &mut server.receiver.assembly;
            assembly
                .load(bucket, loaded)
                .map_err(|error| error.to_string())?;
            server.receiver.booted(index);
            let read = self.parts[index].oldest_offset();
            server.read[index] = read.map_or(self.read[index], |offset| offset as usize);
        }
        world.cut(&mut server.receiver, cut)?;
        server.cuts = self.cuts;
        Ok(server)
    }
}

/// What came of a random world.
#[derive(Debug, Default)]
struct Seen {
    published: usize,
    boots: usize,
    lost: usize,
    behind: usize,
    ring: Vec<Frame>,
}

fn run(seed: u64, faults: Faults) -> Result<(World, Seen), String> {
    let rng = &mut StdRng::seed_from_u64(seed);
    let layout = layout(rng.random_range(1..5));
    let mut histories: Vec<History> = Vec::new();
    let mut log = Log {
        buckets: vec![Vec::new(); layout.count()],
        cuts: Vec::new(),
        lost: 0,
    };
    let mut zombie = None;
    for epoch in 1..=faults.epochs {
        let history = random_history(rng, epoch, layout, histories.last());
        write(
            rng,
            faults,
            &history,
            histories.last(),
            &mut zombie,
            &mut log,
        );
        histories.push(history);
    }
    if faults.epochs > 1 {
        // The reader of the last epoch has the last word; zombies of the others do not.
        let last = histories.last().unwrap();
        let mut reader = Reader::new(999, 0, layout.count());
        reader.end(rng, last);
        let sound = Faults { lost: 0, ..faults };
        reader.send(rng, sound, &mut log, true);
    }
    let world = World {
        name: format!("seed {seed}"),
        layout,
        histories,
        honest: true,
        ops: Vec::new(),
    };
    follow(rng, faults, world, log)
}

fn follow(
    rng: &mut StdRng,
    faults: Faults,
    world: World,
    mut log: Log,
) -> Result<(World, Seen), String> {
    let mut seen = Seen::default();
    let mut frames = Frames::default();
    let mut merger = Merger::new(&world);
    let mut servers: Vec<Server> = (0..2).map(|_| Server::new(&world)).collect();
    let last = world.last().clone();
    // Nobody is let go before a full cut that is not lost.
    log.cuts.push(last.cut(last.end(), last.end(), true, true));
    let log = log;
    let mut busy = true;
    while busy {
        busy = false;
        merger.step(rng, &world, &log)?;
        for server in &mut servers {
            if seen.boots < BOOTS_MAX && rng.random_ratio(1, 15) {
                *server = merger.boot(rng, &world)?;
                seen.boots += 1;
            }
            let mut read = false;
            for _ in 0..rng.random_range(1..5) {
                let bucket = rng.random_range(0..world.layout.count());
                read |= server.bucket(&world, &log, bucket)?;
            }
            if rng.random_bool(0.4) && !(faults.buckets_first && read) {
                read |= server.next_cut(&world, &log)?;
            }
            let done = (0..world.layout.count()).all(|b| server.read[b] == log.buckets[b].len());
            busy |= read || !done || server.cuts < log.cuts.len();
            if rng.random_bool(0.6) {
                let hold = world.publish(&mut server.receiver, Rewind::Wait, &mut frames)?;
                seen.published += usize::from(hold.is_none());
            }
        }
    }
    let end = last.version(last.end());
    for server in &mut servers {
        for bucket in 0..world.layout.count() {
            let state = *server.receiver.assembly.bucket(Bucket::new(bucket as u16));
            let d = last.version(last.d(bucket, last.end()));
            if state.d == d {
                continue;
            }
            if log.lost == 0 || !state.is_behind_claim() {
                return Err(format!(
                    "b{bucket} at {} of {d}, {} lost",
                    state.d, log.lost
                ));
            }
            seen.behind += 1;
            let heal = last.replace(bucket, last.end());
            world.record(&mut server.receiver, bucket, &heal)?;
        }
        let hold = world.publish(&mut server.receiver, Rewind::Wait, &mut frames)?;
        seen.published += usize::from(hold.is_none());
        let shown = server.receiver.assembly.published();
        if shown.map(|shown| shown.seal.version) != Some(end) {
            return Err(format!("{end} is held back: {hold:?}"));
        }
    }
    seen.lost = log.lost;
    seen.ring = frames.seen;
    Ok((world, seen))
}

/// Runs all seeds; `least` is what must have happened for them to prove anything.
fn check(faults: Faults, least: impl Fn(&Seen) -> bool) -> Vec<(World, Seen)> {
    let all: Vec<(World, Seen)> = SEEDS
        .map(|seed| {
            run(seed, faults).unwrap_or_else(|why| panic!("seed {seed}, {faults:?}: {why}"))
        })
        .collect();
    let mut total = Seen::default();
    for (_, seen) in &all {
        total.published += seen.published;
        total.boots += seen.boots;
        total.lost += seen.lost;
        total.behind += seen.behind;
    }
    println!(
        "{faults:?}: {} published, {} boots, {} entries lost, {} buckets behind",
        total.published, total.boots, total.lost, total.behind
    );
    assert!(
        total.published > 100 && least(&total),
        "it proves nothing: {faults:?}"
    );
    all
}

#[test]
fn h1_siblings_of_one_transaction_move_a_bucket_once() {
    for (seed, rows) in [1, 2, 10, 1000, 10_000].into_iter().enumerate() {
        let rng = &mut StdRng::seed_from_u64(seed as u64);
        let layout = layout(rng.random_range(1..9));
        let writes = (1..=rows).map(|key| (key, Some(key as u32))).collect();
        let history = History::new(1, layout, &Content::new(), gtids([]), &[(1, writes)]);
        for bucket in 0..layout.count() {
            let record = history.record(bucket, 0, 1);
            let mut parts = split(record, rng.random_range(40..4000));
            let (mut held, mut state) = (Parts::default(), BucketState::NOTHING);
            let nothing = rows_of(&Content::new());
            let opening = history.replace(bucket, 0);
            state = onair_model::fold::fold(LINEAGE, &state, &nothing, &opening).state;
            let last = parts.pop().unwrap();
            for (offset, part) in parts.into_iter().enumerate() {
                assert_eq!(held.push(part, offset as u64), None, "seed {seed}");
            }
            assert_eq!(state.d, history.version(0), "seed {seed}");
            let whole = held.push(last, 99).unwrap();
            let step = onair_model::fold::fold(LINEAGE, &state, &nothing, &whole);
            assert!(
                history.agrees(bucket, &step.state),
                "seed {seed}: {:?}",
                step.outcome
            );
        }
    }
}

#[test]
fn h11_what_a_log_loses_shows_and_heals() {
    let faults = Faults {
        lost: 12,
        repeated: 10,
        ..NO_FAULTS
    };
    check(faults, |seen| seen.lost > 50 && seen.behind > 0);
    check(
        Faults {
            epochs: 3,
            ..faults
        },
        |seen| seen.lost > 50 && seen.behind > 0,
    );
}

#[test]
fn h12_progress_and_cuts_that_overtake_lost_data_show_it() {
    let faults = Faults {
        lost: 25,
        data_only: true,
        ..NO_FAULTS
    };
    check(faults, |seen| seen.lost > 50 && seen.behind > 0);
}

#[test]
fn h26_buckets_ahead_of_a_cut_are_shown_at_it() {
    let faults = Faults {
        buckets_first: true,
        ..NO_FAULTS
    };
    check(faults, |seen| seen.boots > 20);
    check(
        Faults {
            epochs: 2,
            ..NO_FAULTS
        },
        |seen| seen.boots > 20,
    );
}

#[test]
fn h26_uneven_reading_with_zombies_and_repeats() {
    let faults = Faults {
        repeated: 20,
        epochs: 3,
        ..NO_FAULTS
    };
    check(faults, |seen| seen.boots > 20);
}

#[test]
fn h29_resuming_anywhere_in_a_ring_leads_to_its_end() {
    let (mut resumed, mut refused) = (0, 0);
    for (world, seen) in check(NO_FAULTS, |_| true) {
        let history = world.last();
        let mut ring: Vec<&Frame> = seen.ring.iter().filter(|frame| !frame.exact).collect();
        ring.sort_by_key(|frame| (frame.from, frame.to));
        // Chains of frames that follow each other, from every frame on.
        for first in &ring {
            let mut chain = vec![*first];
            while let Some(next) = ring.iter().find(|f| f.from == chain[chain.len() - 1].to) {
                chain.push(next);
            }
            let whole = compose(&chain).unwrap();
            let goal = history.content(whole.to.sequence());
            for at in 0..=history.end() {
                let (version, content) = (history.version(at), history.content(at));
                let rows = rows_of(&content);
                let inside = version >= whole.from && version < whole.to;
                let taken = whole.check(version, sum(&content), &rows).is_ok();
                assert_eq!(
                    taken, inside,
                    "{}: {version} in {} to {}",
                    world.name, whole.from, whole.to
                );
                if inside {
                    let mut after = content;
                    for (key, row) in &whole.touched {
                        let key = key.as_u64().unwrap();
                        match row {
                            Some(row) => after.insert(
                                key,
                                u32::from_le_bytes(row.bytes()[..].try_into().unwrap()),
                            ),
                            None => after.remove(&key),
                        };
                    }
                    assert_eq!(after, goal, "{}", world.name);
                    resumed += 1;
                } else {
                    refused += 1;
                }
            }
        }
    }
    println!("resumed at {resumed} versions, refused at {refused}");
    assert!(resumed > 100 && refused > 100);
}

#[test]
fn h30_content_of_two_versions_is_never_put_together() {
    let mut refused = 0;
    for seed in SEEDS {
        let rng = &mut StdRng::seed_from_u64(seed);
        let history = random_history(rng, 1, layout(1), None);
        let versions: Vec<u64> = (0..=history.end()).collect();
        for _ in 0..20 {
            let (a, b) = (
                *versions.choose(rng).unwrap(),
                *versions.choose(rng).unwrap(),
            );
            if history.sum(a) == history.sum(b) {
                continue;
            }
            // Parts of two Replaces, one reader: the second begins where the first broke off.
            let (one, other) = (history.replace(0, a), history.replace(0, b));
            let (one, other) = (split(one, 80), split(other, 80));
            let at = rng.random_range(1..one.len().min(other.len()).max(2));
            let spliced = one[..at.min(one.len())].iter().chain(other.iter().skip(at));
            let mut parts = Parts::default();
            let wholes = spliced.filter_map(|part| parts.push(part.clone(), 0));
            for whole in wholes {
                let nothing = rows_of(&Content::new());
                let step =
                    onair_model::fold::fold(LINEAGE, &BucketState::NOTHING, &nothing, &whole);
                let sound =
                    !matches!(step.outcome, Outcome::Replaced) || history.agrees(0, &step.state);
                assert!(sound, "seed {seed}: {whole:?}");
            }
            // A base of one version under a head of another.
            let mut loaded = history.loaded(0, b, b);
            loaded.base = history.rows[a as usize][0].clone();
            let mut assembly = Assembly::new(LINEAGE, layout(1));
            assert!(
                assembly.load(Bucket::new(0), loaded).is_err(),
                "seed {seed}"
            );
            refused += 1;
        }
    }
    assert!(refused > 100);
}
