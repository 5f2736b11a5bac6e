//! The search: every state that a receiver can reach when the records of a small world come to it in any order, any
//! number of times or not at all. Two readers, their flush boundaries, zombies, loss, repeats, boots and reloads are all
//! special cases of it.
//!
//! Pruned: records of one bucket, of the other and cuts commute (a record changes its own bucket, a cut the cut taken and
//! `claimed`, which no rule reads), so between two publications they come in this order. States with the same
//! visible part (epochs, data versions, claims, what is shown, cut taken, snapshot) are one.

use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};

use onair_model::assembly::{Assembly, Hold, Loaded, Rewind};
use onair_model::cut::Admitted;
use onair_model::fold::Outcome;
use onair_model::frame::compose;
use onair_model::{Bucket, BucketState, Buckets, CutRecord, Frame, Record, Sum, Version};

use crate::history::{Content, History, LINEAGE, NOTHING, content_of, rows_of, sum};

pub(crate) type Violation = String;

#[derive(Clone, Debug)]
pub(crate) enum Op {
    Record(usize, Record),
    Load(usize, Loaded),
    Cut(CutRecord),
    Publish(Rewind),
}

impl Op {
    fn phase(&self) -> u8 {
        match self {
            Op::Record(bucket, _) | Op::Load(bucket, _) => *bucket as u8,
            Op::Cut(_) => u8::MAX - 1,
            Op::Publish(_) => u8::MAX,
        }
    }
}

/// What can happen, and what is true.
#[derive(Clone, Debug)]
pub(crate) struct World {
    pub(crate) name: String,
    pub(crate) layout: Buckets,
    pub(crate) histories: Vec<History>,
    /// One history an epoch, and the last one is where everybody must come to. Otherwise two fight for one epoch, and
    /// nothing is asked but that no mixture of them is ever shown.
    pub(crate) honest: bool,
    /// Records and loads of bucket 0, then of the others, then cuts; named for the trace.
    pub(crate) ops: Vec<(String, Op)>,
}

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Stats {
    pub(crate) worlds: usize,
    pub(crate) states: usize,
    pub(crate) steps: usize,
    pub(crate) published: usize,
    pub(crate) frames: usize,
    pub(crate) applied: usize,
}

impl Stats {
    pub(crate) fn add(&mut self, other: Stats) {
        self.worlds += other.worlds;
        self.states += other.states;
        self.steps += other.steps;
        self.published += other.published;
        self.frames += other.frames;
        self.applied += other.applied;
    }
}

/// A receiver and what its private part must look like.
#[derive(Clone, Debug)]
pub(crate) struct Receiver {
    pub(crate) assembly: Assembly,
    shown: Vec<(Version, Sum, bool)>,
    /// Two cuts of one version differed, and no full one was taken since.
    cut_forked: bool,
}

/// Frames seen in a world, each judged once.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    pub(crate) seen: Vec<Frame>,
    pub(crate) applied: usize,
}

macro_rules! ensure {
    ($holds:expr, $($text:tt)*) => {
        if !$holds {
            return Err(format!($($text)*));
        }
    };
}

impl World {
    pub(crate) fn last(&self) -> &History {
        self.histories.last().unwrap()
    }

    /// The one history of an epoch.
    fn history(&self, version: Version) -> impl Iterator<Item = &History> {
        self.histories.iter().filter(move |history| {
            history.epoch == version.epoch() && version.sequence() <= history.end()
        })
    }

    pub(crate) fn receiver(&self) -> Receiver {
        Receiver {
            assembly: Assembly::new(LINEAGE, self.layout),
            shown: vec![(Version::ZERO, NOTHING, true); self.layout.count()],
            cut_forked: false,
        }
    }

    /// Takes one step and judges it. `Ok(false)`: it led nowhere.
    pub(crate) fn step(
        &self,
        to: &mut Receiver,
        op: &Op,
        frames: &mut Frames,
    ) -> Result<bool, Violation> {
        match op {
            Op::Record(bucket, record) => self.record(to, *bucket, record).map(|_| true),
            Op::Load(bucket, loaded) => self.load(to, *bucket, loaded),
            Op::Cut(cut) => self.cut(to, cut).map(|_| true),
            Op::Publish(rewind) => self.publish(to, *rewind, frames).map(|hold| hold.is_none()),
        }
    }

    pub(crate) fn record(
        &self,
        to: &mut Receiver,
        bucket: usize,
        record: &Record,
    ) -> Result<Outcome, Violation> {
        let name = Bucket::new(bucket as u16);
        let old = *to.assembly.bucket(name);
        let outcome = to.assembly.record(name, record.clone());
        let new = *to.assembly.bucket(name);
        if record.lineage != LINEAGE {
            let refused = outcome == Outcome::Refused && new == old;
            ensure!(refused, "{name}: another world was heard: {outcome:?}");
        }
        if record.epoch < old.epoch {
            let ignored = matches!(outcome, Outcome::Refused | Outcome::Duplicate) && new == old;
            ensure!(ignored, "{name}: a zombie was heard: {outcome:?}");
        }
        self.progressed(bucket, &old, &new)?;
        ensure!(
            !matches!(outcome, Outcome::Folded { .. }) || self.continues(bucket, &old, &new),
            "{name}: folded to {} by a chain without {}",
            new.d,
            old.d
        );
        match &outcome {
            Outcome::Fork(fork) => {
                let lies = !self.honest || self.is_lie(bucket, record);
                ensure!(lies, "{name}: {fork:?} fork where nobody lied");
            }
            Outcome::Gap => ensure!(new.is_behind_claim(), "{name}: a gap left no claim"),
            Outcome::Duplicate | Outcome::Folded { .. } | Outcome::Replaced
                if record.claims() == new.d =>
            {
                let same = record.digest == new.digest && record.count == new.count;
                ensure!(same, "{name}: taken, but it says otherwise of {}", new.d);
            }
            Outcome::Folded { .. } => {
                return Err(format!(
                    "{name}: folded to {}, not {}",
                    new.d,
                    record.claims()
                ));
            }
            Outcome::Duplicate => ensure!(
                record.claims() < new.d || new.is_behind_claim(),
                "{name}: {} taken for known",
                record.claims()
            ),
            _ => {}
        }
        let sum = Sum {
            digest: new.digest,
            count: new.count,
        };
        let moved = old.d != new.d || old.epoch != new.epoch;
        if matches!(outcome, Outcome::Replaced | Outcome::Carried) && moved {
            to.shown[bucket] = (new.d, sum, true);
        }
        Ok(outcome)
    }

    /// Whether no history has it so: such records are told from honest ones by being made wrong.
    fn is_lie(&self, bucket: usize, record: &Record) -> bool {
        !self.histories.iter().any(|history| {
            let state = BucketState {
                epoch: record.epoch,
                d: record.claims(),
                through: record.through,
                digest: record.digest,
                count: record.count,
                claimed: record.claims(),
            };
            history.agrees(bucket, &state)
        })
    }

    fn progressed(
        &self,
        bucket: usize,
        old: &BucketState,
        new: &BucketState,
    ) -> Result<(), Violation> {
        let ahead = new.epoch >= old.epoch && new.d >= old.d && new.through >= old.through;
        ensure!(
            ahead && new.claimed >= old.claimed,
            "b{bucket} went back: {old:?} to {new:?}"
        );
        ensure!(
            new.through >= new.d,
            "b{bucket} has data beyond its through: {new:?}"
        );
        let late = new.d > old.d && new.d <= old.through;
        ensure!(
            !late,
            "b{bucket}: {} landed in what was complete through {}",
            new.d,
            old.through
        );
        let unheard = *new == *old || new.epoch.get() == 0;
        let true_somewhere = || self.histories.iter().any(|h| h.agrees(bucket, new));
        ensure!(
            unheard || true_somewhere(),
            "b{bucket} holds what never was: {new:?}"
        );
        Ok(())
    }

    /// Whether a history that has the new state has the old one's data version on the way to it.
    fn continues(&self, bucket: usize, old: &BucketState, new: &BucketState) -> bool {
        let d = old.d.sequence();
        self.histories.iter().any(|history| {
            let on_the_way = history.epoch == old.d.epoch() && old.d <= new.d;
            history.agrees(bucket, new) && on_the_way && history.d(bucket, d) == d
        })
    }

    fn load(&self, to: &mut Receiver, bucket: usize, loaded: &Loaded) -> Result<bool, Violation> {
        let name = Bucket::new(bucket as u16);
        let old = *to.assembly.bucket(name);
        to.assembly
            .load(name, loaded.clone())
            .map_err(|error| format!("an honest head was refused: {error}"))?;
        let new = *to.assembly.bucket(name);
        self.progressed(bucket, &old, &new)?;
        if new.epoch == old.epoch && new.d == old.d {
            return Ok(false);
        }
        ensure!(
            !to.assembly.is_forked(name),
            "{name}: a head beyond a fork left it open"
        );
        let digests = onair_model::fold::sum_of(
            (loaded.base.iter()).map(|(key, row)| onair_model::Digest::of(key, row)),
        );
        to.shown[bucket] = (loaded.base_d, digests, true);
        Ok(true)
    }

    pub(crate) fn cut(&self, to: &mut Receiver, cut: &CutRecord) -> Result<Admitted, Violation> {
        let old = to.assembly.taken().map(|taken| taken.version);
        let claims = |to: &Receiver| -> Vec<Version> {
            let buckets = self.layout.all();
            buckets.map(|b| to.assembly.bucket(b).claimed).collect()
        };
        let claimed = claims(to);
        let admitted = to.assembly.cut(cut);
        if cut.lineage != LINEAGE {
            let dropped = admitted == Admitted::Dropped && claims(to) == claimed;
            ensure!(dropped, "a cut of another world was heard: {admitted:?}");
        }
        match admitted {
            Admitted::Fork => to.cut_forked = true,
            Admitted::Taken if cut.full => to.cut_forked = false,
            _ => {}
        }
        let taken = to.assembly.taken();
        ensure!(
            taken.map(|taken| taken.version) >= old,
            "the cut taken went back"
        );
        if admitted == Admitted::Fork {
            ensure!(!self.honest, "a cut forked where nobody lied");
        }
        if !matches!(admitted, Admitted::Taken | Admitted::Merged) {
            return Ok(admitted);
        }
        let taken = taken.ok_or("a cut was taken and is not there")?;
        let same =
            taken.version == cut.version && taken.digest == cut.digest && taken.count == cut.count;
        ensure!(same, "cut {} taken, but it says otherwise", cut.version);
        for (bucket, d) in &cut.touched {
            let claimed = to.assembly.bucket(*bucket).claimed;
            ensure!(
                claimed >= *d,
                "cut {} named {d} of {bucket}: not claimed",
                cut.version
            );
        }
        let at = taken.version.sequence();
        for history in self.history(taken.version).filter(|_| self.honest) {
            for (bucket, d) in taken.vector.iter().enumerate() {
                let true_d = history.version(history.d(bucket, at));
                ensure!(
                    *d == true_d,
                    "cut {}: b{bucket} at {d}, not {true_d}",
                    taken.version
                );
            }
            let least = history.executed_least(at);
            let bounded = taken.executed.contains_set(&least)
                && history.executed_most(at).contains_set(&taken.executed);
            ensure!(
                bounded,
                "cut {} says {} is executed",
                taken.version,
                taken.executed
            );
            ensure!(
                taken.gtid == history.gtid(at),
                "cut {}: gtid {:?}",
                taken.version,
                taken.gtid
            );
        }
        Ok(admitted)
    }

    /// Tries to publish and judges what came of it.
    pub(crate) fn publish(
        &self,
        to: &mut Receiver,
        rewind: Rewind,
        frames: &mut Frames,
    ) -> Result<Option<Hold>, Violation> {
        let before = to.assembly.published().cloned();
        let result = to.assembly.publish(rewind);
        let taken = to.assembly.taken().cloned();
        let published = match (result, &taken) {
            (Ok(published), _) => published,
            (Err(Hold::Reading(bucket)), Some(taken)) => {
                let state = to.assembly.bucket(bucket);
                let short = state.d < taken.vector[bucket.index()];
                let past = to.shown[bucket.index()].0 > taken.version;
                ensure!(
                    short || past,
                    "{bucket} held {} back for nothing",
                    taken.version
                );
                return Ok(Some(Hold::Reading(bucket)));
            }
            (Err(hold), _) => {
                let alarm = match hold {
                    // Only a lie opens one: an honest record that does is judged where it comes.
                    Hold::Forked(bucket) => !to.assembly.is_forked(bucket),
                    Hold::CutForked | Hold::Sum => true,
                    _ => false,
                };
                ensure!(!alarm || !self.honest, "{hold:?} where nobody lied");
                return Ok(Some(hold));
            }
        };
        let taken = taken.ok_or("published without a cut")?;
        let forked = self.layout.all().find(|b| to.assembly.is_forked(*b));
        ensure!(
            forked.is_none() && !to.cut_forked,
            "{} was published over a fork of {}",
            taken.version,
            forked.map_or("the cuts".to_owned(), |bucket| format!("b{bucket}"))
        );
        let shown = &published.snapshot;
        let seal = &shown.seal;
        let content = content_of(shown.iter());
        let counted = sum(&content);
        ensure!(
            seal.version == taken.version
                && counted.digest == seal.digest
                && counted.count == seal.count,
            "{} was published with a digest that is not its content's",
            seal.version
        );
        let mut histories = self.history(seal.version);
        let truth = histories.find(|history| history.content(seal.version.sequence()) == content);
        ensure!(
            truth.is_some(),
            "{} published as {content:?}, which it never was",
            seal.version
        );
        if let Some(before) = &before {
            let back = seal.version <= before.seal.version;
            ensure!(
                !back,
                "published {} after {}",
                seal.version,
                before.seal.version
            );
            let crossed = seal.version.epoch() != before.seal.version.epoch();
            let rewound = crossed && !seal.executed.contains_set(&before.seal.executed);
            let allowed = taken.lost_tail || rewind == Rewind::Allow;
            ensure!(
                !rewound || allowed,
                "{} shown over more than it contains",
                seal.version
            );
            ensure!(
                rewound == seal.rewound,
                "{} does not say that it rewound",
                seal.version
            );
        }
        let framed = published.frame.as_ref().map(|frame| (frame.from, frame.to));
        let wanted = before.map(|before| (before.seal.version, seal.version));
        ensure!(
            framed == wanted,
            "frame {framed:?} published for {wanted:?}"
        );
        if let Some(frame) = published.frame
            && !frames.seen.contains(&frame)
        {
            if self.honest {
                frames.applied += self.frame(&frame)?;
            }
            frames.seen.push(frame);
        }
        for bucket in self.layout.all() {
            let d = taken.vector[bucket.index()];
            let rows = &shown.buckets[bucket.index()];
            to.shown[bucket.index()] = (d, sum(&content_of(rows.iter())), false);
        }
        Ok(None)
    }

    /// A frame must lead every replica of its range, and no other, to its end.
    fn frame(&self, frame: &Frame) -> Result<usize, Violation> {
        let Some(goal) = self.history(frame.to).next() else {
            return Err(format!("a frame to {}", frame.to));
        };
        let goal = goal.content(frame.to.sequence());
        let mut applied = 0;
        let versions = || {
            self.histories
                .iter()
                .flat_map(|h| (0..=h.end()).map(move |at| (h.version(at), h.content(at))))
        };
        for (version, content) in versions() {
            let inside = if frame.exact {
                version == frame.from
            } else {
                version >= frame.from && version < frame.to
            };
            let rows = rows_of(&content);
            let name = || {
                format!(
                    "frame {} to {} (exact: {})",
                    frame.from, frame.to, frame.exact
                )
            };
            match frame.check(version, sum(&content), &rows) {
                Ok(()) => {
                    ensure!(inside, "{} applies to {version}", name());
                    let after = put(&content, frame);
                    ensure!(after == goal, "{} makes {after:?} of {version}", name());
                    applied += 1;
                }
                Err(error) => ensure!(!inside, "{} does not apply to {version}: {error}", name()),
            }
            // A replica that is not what its version says; in long histories only one beside it.
            let near = |other: Version| other.get().abs_diff(version.get()) < 2;
            let long = versions().count() > 8;
            let others = versions().filter(|(other, _)| *other != version);
            for (other, _) in others.filter(|(other, _)| !long || near(*other)) {
                if frame.check(other, sum(&content), &rows).is_ok() {
                    let after = put(&content, frame);
                    ensure!(after == goal, "{} takes {content:?} for {other}", name());
                }
            }
        }
        Ok(applied)
    }

    /// Whether composing the frames seen is associative and leads where applying them one by one does.
    fn composed(&self, frames: &Frames) -> Result<usize, Violation> {
        let mut judged = 0;
        for a in &frames.seen {
            for b in frames.seen.iter().filter(|b| b.from == a.to) {
                let pair = compose(&[a, b]).ok_or("two that follow do not compose")?;
                judged += self.frame(&pair)?;
                for c in frames.seen.iter().filter(|c| c.from == b.to) {
                    let rest = compose(&[b, c]);
                    let all = compose(&[a, b, c]);
                    let left = compose(&[&pair, c]);
                    let right = rest.as_ref().and_then(|rest| compose(&[a, rest]));
                    ensure!(
                        left == right && left == all,
                        "{} {} {}: not associative",
                        a.to,
                        b.to,
                        c.to
                    );
                }
            }
        }
        Ok(judged)
    }

    /// After the last full cut: what is missing shows, nothing is held that could be shown, and what heals
    /// a bucket heals it.
    fn ends_well(
        &self,
        from: &Receiver,
        finals: &Finals,
        frames: &mut Frames,
    ) -> Result<(), Violation> {
        let history = self.last();
        let end = history.version(history.end());
        let told = from.clone();
        let mut whole = true;
        for bucket in self.layout.all() {
            let state = told.assembly.bucket(bucket);
            let d = history.version(history.d(bucket.index(), history.end()));
            whole &= state.d == d && !told.assembly.is_forked(bucket);
            ensure!(
                state.d == d || state.is_behind_claim(),
                "{bucket} lacks {d} and nobody sees it"
            );
        }
        if whole {
            self.shows(&mut told.clone(), end, frames)?;
            return Ok(());
        }
        for heads in [false, true] {
            let mut healed = told.clone();
            for bucket in 0..self.layout.count() {
                let name = Bucket::new(bucket as u16);
                if heads {
                    self.load(&mut healed, bucket, &finals.loads[bucket])?;
                }
                // A head that is not beyond it does not end a fork.
                if !heads || healed.assembly.is_forked(name) {
                    self.record(&mut healed, bucket, &finals.replaces[bucket])?;
                }
                let state = healed.assembly.bucket(name);
                ensure!(
                    !state.is_behind_claim(),
                    "b{bucket} does not heal: {state:?}"
                );
            }
            self.shows(&mut healed, end, frames)?;
        }
        Ok(())
    }

    fn shows(&self, to: &mut Receiver, end: Version, frames: &mut Frames) -> Result<(), Violation> {
        let hold = self.publish(to, Rewind::Allow, frames)?;
        let shown = to.assembly.published().map(|shown| shown.seal.version);
        ensure!(
            shown == Some(end),
            "everything is there, but {hold:?} holds {end} back"
        );
        Ok(())
    }

    fn finals(&self) -> Finals {
        let history = self.last();
        let (end, buckets) = (history.end(), 0..self.layout.count());
        Finals {
            cut: history.cut(end, end, true, true),
            replaces: buckets.clone().map(|b| history.replace(b, end)).collect(),
            loads: buckets.map(|b| history.loaded(b, end, end)).collect(),
        }
    }

    /// Searches the world through.
    pub(crate) fn search(&self) -> Result<Stats, Violation> {
        let finals = self.finals();
        let mut frames = Frames::default();
        let mut stats = Stats {
            worlds: 1,
            ..Stats::default()
        };
        let mut known = HashSet::new();
        let mut parents: Vec<(usize, usize)> = vec![(0, 0)];
        let start = self.receiver();
        known.insert(start.key(0));
        let mut open = VecDeque::from([(start, 0u8, 0usize)]);
        // What changes nothing is seen from the bucket's state alone, and judged once for each.
        let mut idle: HashMap<u64, Vec<Option<bool>>> = HashMap::new();
        while let Some((state, phase, index)) = open.pop_front() {
            let trace = |at: usize, last: &str, violation: Violation| {
                let mut at = at;
                let mut steps = vec![last.to_owned()];
                while at != 0 {
                    let (parent, op) = parents[at];
                    steps.push(self.ops[op].0.clone());
                    at = parent;
                }
                steps.reverse();
                format!("{violation} [{}: {}]", self.name, steps.join(", "))
            };
            let mut found = Vec::new();
            let states: Vec<u64> = self.layout.all().map(|b| state.bucket_key(b)).collect();
            for (at, (name, op)) in self.ops.iter().enumerate() {
                if op.phase() < phase {
                    continue;
                }
                stats.steps += 1;
                if let Op::Record(bucket, record) = op {
                    let known = idle
                        .entry(states[*bucket])
                        .or_insert_with(|| vec![None; self.ops.len()]);
                    let idle = match known[at] {
                        Some(idle) => idle,
                        None => {
                            let mut next = state.clone();
                            self.record(&mut next, *bucket, record)
                                .map_err(|violation| trace(index, name, violation))?;
                            let idle =
                                next.bucket_key(Bucket::new(*bucket as u16)) == states[*bucket];
                            known[at] = Some(idle);
                            idle
                        }
                    };
                    if idle {
                        continue;
                    }
                }
                let mut next = state.clone();
                let moved = self
                    .step(&mut next, op, &mut frames)
                    .map_err(|violation| trace(index, name, violation))?;
                if !moved {
                    continue;
                }
                let is_publish = matches!(op, Op::Publish(_));
                stats.published += usize::from(is_publish);
                let phase = if is_publish { 0 } else { op.phase() };
                if known.insert(next.key(phase)) {
                    // Every state leads here by the last full cut.
                    if self.honest && matches!(op, Op::Cut(cut) if *cut == finals.cut) {
                        self.ends_well(&next, &finals, &mut frames)
                            .map_err(|violation| trace(index, name, violation))?;
                    }
                    found.push((next, phase, at));
                }
            }
            for (next, phase, at) in found {
                parents.push((index, at));
                open.push_back((next, phase, parents.len() - 1));
            }
        }
        stats.states = parents.len();
        stats.frames = frames.seen.len();
        if self.honest {
            frames.applied += self
                .composed(&frames)
                .map_err(|violation| format!("{violation} [{}]", self.name))?;
        }
        stats.applied = frames.applied;
        Ok(stats)
    }
}

/// What heals everybody.
struct Finals {
    cut: CutRecord,
    replaces: Vec<Record>,
    loads: Vec<Loaded>,
}

fn put(content: &Content, frame: &Frame) -> Content {
    let mut after = content.clone();
    for (key, row) in &frame.touched {
        let key = key.as_u64().unwrap();
        match row {
            Some(row) => after.insert(key, u32::from_le_bytes(row.bytes()[..].try_into().unwrap())),
            None => after.remove(&key),
        };
    }
    after
}

impl Receiver {
    /// It holds a head now, whose base was at or before the first cut.
    pub(crate) fn booted(&mut self, bucket: usize) {
        self.shown[bucket] = (Version::ZERO, NOTHING, true);
    }

    fn bucket_key(&self, bucket: Bucket) -> u64 {
        let mut hasher = DefaultHasher::new();
        let state = self.assembly.bucket(bucket);
        (
            bucket,
            state.epoch,
            state.d,
            state.through,
            state.claimed,
            state.digest,
        )
            .hash(&mut hasher);
        (state.count, self.assembly.is_forked(bucket)).hash(&mut hasher);
        hasher.finish()
    }

    fn key(&self, phase: u8) -> u64 {
        let mut hasher = DefaultHasher::new();
        (phase, self.cut_forked).hash(&mut hasher);
        for (bucket, (d, sum, jumped)) in self.shown.iter().enumerate() {
            self.bucket_key(Bucket::new(bucket as u16))
                .hash(&mut hasher);
            (d, sum.digest, jumped).hash(&mut hasher);
        }
        if let Some(taken) = self.assembly.taken() {
            (taken.version, &taken.vector, taken.digest, &*taken.executed).hash(&mut hasher);
        }
        if let Some(shown) = self.assembly.published() {
            (shown.seal.version, shown.seal.digest, &*shown.seal.executed).hash(&mut hasher);
        }
        hasher.finish()
    }
}
