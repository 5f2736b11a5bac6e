//! From records and cuts to snapshots and frames: everything a server decides, without its I/O.
//!
//! In: bucket records and cut records of one feed's log, in the order of each partition; bucket contents
//! from the store at boot and on a reload. Out: [`Published`], one snapshot a published cut and the frame that
//! leads to it. Wrong: a bucket that is behind a claim or has forked holds all cuts back until it is healed.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use crate::bucket::{Bucket, Buckets};
use crate::cut::{Admitted, CutRecord, Taken, admit};
use crate::digest::Digest;
use crate::event::{Body, Commit, Event, Record};
use crate::fold::{BucketState, Fork, Outcome, Sum, fold, replay};
use crate::frame::Frame;
use crate::key::{Key, Row};
use crate::plant::{Bug, planted};
use crate::rows::Rows;
use crate::snapshot::{Seal, Snapshot};
use crate::version::{Lineage, Version};

/// All buckets of a feed, the cuts taken, and what was published last.
#[derive(Debug, Clone)]
pub struct Assembly {
    lineage: Lineage,
    layout: Buckets,
    buckets: Vec<Held>,
    taken: Option<Taken>,
    published: Option<Arc<Snapshot>>,
    /// Buckets whose published content may differ from what the cut taken says.
    dirty: BTreeSet<Bucket>,
    /// A cut contradicted the one that we took: nothing is published until a newer full one is taken.
    cut_fork: bool,
}

/// One bucket: its newest content, and how to get there from what is published.
#[derive(Debug, Clone)]
struct Held {
    state: BucketState,
    rows: Rows<Row>,
    /// Commits in `rows` that are not published yet.
    later: VecDeque<Later>,
    /// Where `later` begins.
    shown: Shown,
    /// `shown` came from a Replace, a boot or a reload: no frame leads to it, only a comparison.
    jumped: bool,
    forked: bool,
    /// What of it is published.
    public: Sum,
}

/// A verified content of one bucket at one of its data versions.
#[derive(Debug, Clone)]
struct Shown {
    d: Version,
    sum: Sum,
    rows: Rows<Row>,
}

#[derive(Debug, Clone)]
struct Later {
    version: Version,
    sum: Sum,
    events: Vec<Event>,
}

/// A bucket's content as the store holds it.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// State of the head.
    pub state: BucketState,
    /// The base's last data version (its epoch is the head's).
    pub base_d: Version,
    /// The base's rows.
    pub base: Rows<Row>,
    /// Commits of the deltas after the base, ascending.
    pub commits: Vec<Commit>,
}

/// The content from the store does not add up to the version and digest of its head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("bucket {bucket}: base and deltas do not give the head's version and digest")]
pub struct LoadError {
    /// Which.
    pub bucket: Bucket,
}

/// A new snapshot.
#[derive(Debug, Clone)]
pub struct Published {
    /// The content at the cut.
    pub snapshot: Arc<Snapshot>,
    /// What leads from the snapshot before to this one; `None` for the first.
    pub frame: Option<Frame>,
}

/// Whether a later epoch may be shown although nothing proves that it contains what is shown now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rewind {
    /// Not yet.
    Wait,
    /// The wait for it is over, or an operator said so.
    Allow,
}

/// Why the cut taken is not published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// No cut was taken yet.
    NoCut,
    /// It is published already.
    Done,
    /// This bucket has not been read up to it.
    Reading(Bucket),
    /// This bucket contradicts it or its own chain.
    Forked(Bucket),
    /// The cut contradicts another of its version.
    CutForked,
    /// Digest and count over the buckets are not the cut's.
    Sum,
    /// Its epoch does not contain what is shown.
    Uncontained,
}

impl Assembly {
    /// Nothing held yet.
    pub fn new(lineage: Lineage, layout: Buckets) -> Self {
        let nothing = Held {
            state: BucketState::NOTHING,
            rows: Rows::new(),
            later: VecDeque::new(),
            shown: Shown {
                d: Version::ZERO,
                sum: Sum {
                    digest: Digest::EMPTY,
                    count: 0,
                },
                rows: Rows::new(),
            },
            jumped: true,
            forked: false,
            public: Sum {
                digest: Digest::EMPTY,
                count: 0,
            },
        };
        Assembly {
            lineage,
            layout,
            buckets: vec![nothing; layout.count()],
            taken: None,
            published: None,
            dirty: layout.all().collect(),
            cut_fork: false,
        }
    }

    /// What one bucket holds.
    pub fn bucket(&self, bucket: Bucket) -> &BucketState {
        &self.buckets[bucket.index()].state
    }

    /// Whether the bucket's chain has forked and waits for a Replace or a head beyond it.
    pub fn is_forked(&self, bucket: Bucket) -> bool {
        self.buckets[bucket.index()].forked
    }

    /// Buckets that are known to lack data.
    pub fn behind_claim(&self) -> impl Iterator<Item = Bucket> {
        self.layout
            .all()
            .filter(|bucket| self.bucket(*bucket).is_behind_claim())
    }

    /// The last cut taken.
    pub fn taken(&self) -> Option<&Taken> {
        self.taken.as_ref()
    }

    /// The last snapshot published.
    pub fn published(&self) -> Option<&Arc<Snapshot>> {
        self.published.as_ref()
    }

    /// Bytes of commits held back for later cuts, by keys and rows.
    pub fn held_back(&self, bucket: Bucket) -> usize {
        self.buckets[bucket.index()]
            .later
            .iter()
            .map(|later| later.events.iter().map(Event::size).sum::<usize>())
            .sum()
    }

    /// Takes a bucket's content from the store, at boot or to heal it. A head at or below what is held changes nothing
    /// but a fork, which a head beyond it ends.
    pub fn load(&mut self, bucket: Bucket, loaded: Loaded) -> Result<(), LoadError> {
        let held = &mut self.buckets[bucket.index()];
        let Loaded {
            mut state,
            base_d,
            base,
            commits,
        } = loaded;
        let past = state.epoch > held.state.epoch
            || (state.epoch == held.state.epoch && state.d > held.state.d);
        if !past {
            return Ok(());
        }
        let ascends = commits.is_sorted_by(|a, b| a.version < b.version)
            && commits.first().is_none_or(|first| base_d < first.version);
        let ends = commits.last().map_or(base_d, |last| last.version);
        if !ascends || ends != state.d {
            return Err(LoadError { bucket });
        }
        let digests = base.iter().map(|(key, row)| Digest::of(key, row));
        let base_sum = crate::fold::sum_of(digests);
        let sums = replay(base_sum, &base, &commits).ok_or(LoadError { bucket })?;
        let last = sums.last().copied().unwrap_or(base_sum);
        if last
            != (Sum {
                digest: state.digest,
                count: state.count,
            })
            && !planted(Bug::DigestIgnored)
        {
            return Err(LoadError { bucket });
        }
        state.claimed = state.claimed.max(held.state.claimed);
        held.shown = Shown {
            d: base_d,
            sum: base_sum,
            rows: base.clone(),
        };
        held.rows = base;
        held.later.clear();
        for (commit, sum) in commits.into_iter().zip(sums) {
            apply(&mut held.rows, &commit.events);
            held.later.push_back(Later {
                version: commit.version,
                sum,
                events: commit.events,
            });
        }
        held.state = state;
        held.jumped = true;
        held.forked = false;
        self.dirty.insert(bucket);
        Ok(())
    }

    /// Takes one whole record of a bucket's partition.
    pub fn record(&mut self, bucket: Bucket, record: Record) -> Outcome {
        let held = &mut self.buckets[bucket.index()];
        let step = fold(self.lineage, &held.state, &held.rows, &record);
        let before = std::mem::replace(&mut held.state, step.state);
        match (&step.outcome, record.body) {
            (Outcome::Folded { first, sums }, Body::Commits { commits, .. }) => {
                for (commit, sum) in commits.into_iter().skip(*first).zip(sums) {
                    apply(&mut held.rows, &commit.events);
                    held.later.push_back(Later {
                        version: commit.version,
                        sum: *sum,
                        events: commit.events,
                    });
                    self.dirty.insert(bucket);
                }
            }
            (Outcome::Replaced, Body::Replace { d, rows }) => {
                held.forked = false;
                if before.d != d || before.epoch != step.state.epoch {
                    held.rows = rows.into_iter().collect();
                    held.jump();
                    self.dirty.insert(bucket);
                }
            }
            (Outcome::Carried, _) => {
                held.forked = false;
                held.jump();
                self.dirty.insert(bucket);
            }
            (Outcome::Fork(_), _) => held.forked = true,
            _ => {}
        }
        step.outcome
    }

    /// Takes one cut record.
    pub fn cut(&mut self, cut: &CutRecord) -> Admitted {
        let admitted = admit(self.lineage, self.layout.count(), &mut self.taken, cut);
        let ours = cut.lineage == self.lineage || planted(Bug::ForeignCutClaims);
        if ours && admitted != Admitted::Fork {
            // Also one that follows a hole knows which data exist.
            for (bucket, d) in &cut.touched {
                if let Some(held) = self.buckets.get_mut(bucket.index()) {
                    held.state.claim(*d);
                }
            }
        }
        match admitted {
            Admitted::Taken => {
                for (bucket, d) in &cut.touched {
                    if let Some(held) = self.buckets.get(bucket.index())
                        && held.shown.d != *d
                    {
                        self.dirty.insert(*bucket);
                    }
                }
                if cut.full {
                    self.cut_fork = false;
                }
            }
            Admitted::Merged => {
                // The same content, known to be complete for longer or proven anew.
                if let (Some(taken), Some(shown)) = (&self.taken, &mut self.published)
                    && shown.seal.version == taken.version
                {
                    let seal = &mut Arc::make_mut(shown).seal;
                    seal.executed = Arc::clone(&taken.executed);
                    seal.source_time = taken.source_time;
                    seal.proven = taken.proven;
                }
            }
            Admitted::Fork => self.cut_fork = true,
            Admitted::Dropped | Admitted::Hole => {}
        }
        admitted
    }

    /// Publishes the cut taken last, if everything that it states can be shown to hold.
    pub fn publish(&mut self, rewind: Rewind) -> Result<Published, Hold> {
        let taken = self.taken.as_ref().ok_or(Hold::NoCut)?;
        let before = self.published.as_ref();
        if before.is_some_and(|shown| shown.seal.version >= taken.version) {
            return Err(Hold::Done);
        }
        if self.cut_fork && !planted(Bug::CutForkPublished) {
            return Err(Hold::CutForked);
        }
        let crosses =
            before.is_some_and(|shown| shown.seal.version.epoch() != taken.version.epoch());
        let rewound =
            before.is_some_and(|shown| !taken.executed.contains_set(&shown.seal.executed));
        if crosses
            && rewound
            && !taken.lost_tail
            && rewind == Rewind::Wait
            && !planted(Bug::ContainmentUnchecked)
        {
            return Err(Hold::Uncontained);
        }
        let forked = self.layout.all().find(|b| self.buckets[b.index()].forked);
        if let Some(forked) = forked.filter(|_| !planted(Bug::ForkPublished)) {
            return Err(Hold::Forked(forked));
        }
        let mut total = before.map_or(
            Sum {
                digest: Digest::EMPTY,
                count: 0,
            },
            |shown| Sum {
                digest: shown.seal.digest,
                count: shown.seal.count,
            },
        );
        if before.is_none() {
            self.dirty = self.layout.all().collect();
        }
        let mut plan = Vec::with_capacity(self.dirty.len());
        for &bucket in &self.dirty {
            let held = &self.buckets[bucket.index()];
            let (take, sum) = held.reach(taken.version, taken.vector[bucket.index()], bucket)?;
            let old = held.public;
            total.digest = total.digest.minus(old.digest).plus(sum.digest);
            total.count = total.count - old.count + sum.count;
            plan.push((bucket, take));
        }
        if total
            != (Sum {
                digest: taken.digest,
                count: taken.count,
            })
            && !planted(Bug::SumUnchecked)
        {
            return Err(Hold::Sum);
        }
        let seal = Seal {
            lineage: self.lineage,
            version: taken.version,
            digest: total.digest,
            count: total.count,
            commit_time: taken.commit_time,
            source_time: taken.source_time,
            gtid: taken.gtid,
            executed: Arc::clone(&taken.executed),
            proven: taken.proven,
            rewound: crosses && rewound,
        };
        Ok(self.show(seal, &plan))
    }

    /// Moves the buckets of `plan` on and makes snapshot and frame of them.
    fn show(&mut self, seal: Seal, plan: &[(Bucket, usize)]) -> Published {
        let before = self.published.take();
        let mut exact = before
            .as_ref()
            .is_some_and(|shown| shown.seal.version.epoch() != seal.version.epoch());
        let mut touched: Vec<(Key, Option<Row>)> = Vec::new();
        let mut buckets = match &before {
            Some(shown) => shown.buckets.clone(),
            None => vec![Rows::new(); self.layout.count()],
        };
        for &(bucket, take) in plan {
            let held = &mut self.buckets[bucket.index()];
            let mut keys = Vec::new();
            held.advance(take, &mut keys);
            held.public = held.shown.sum;
            let rows = held.shown.rows.clone();
            if std::mem::take(&mut held.jumped) {
                exact |= !planted(Bug::ExactForgotten);
                differences(&buckets[bucket.index()], &rows, &mut touched);
            } else {
                keys.sort_unstable();
                keys.dedup();
                for key in keys {
                    let row = rows.get(&key).cloned();
                    if planted(Bug::NetNothingDropped)
                        && buckets[bucket.index()].get(&key) == row.as_ref()
                    {
                        continue;
                    }
                    touched.push((key, row));
                }
            }
            if held.later.is_empty() {
                self.dirty.remove(&bucket);
            }
            buckets[bucket.index()] = rows;
        }
        touched.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        let frame = before.map(|shown| Frame {
            from: shown.seal.version,
            to: seal.version,
            exact,
            touched,
            digest: seal.digest,
            count: seal.count,
        });
        let snapshot = Arc::new(Snapshot {
            seal,
            layout: self.layout,
            buckets,
        });
        self.published = Some(Arc::clone(&snapshot));
        Published { snapshot, frame }
    }
}

impl Held {
    /// Takes the newest content as the one to show from.
    fn jump(&mut self) {
        self.later.clear();
        self.jumped = true;
        self.shown = Shown {
            d: self.state.d,
            sum: Sum {
                digest: self.state.digest,
                count: self.state.count,
            },
            rows: self.rows.clone(),
        };
    }

    /// How many of `later` lead to the content at `version`, and its sum there; `d` is what the cut says.
    fn reach(&self, version: Version, d: Version, bucket: Bucket) -> Result<(usize, Sum), Hold> {
        let take = if planted(Bug::LaterNotHeld) {
            self.later.len()
        } else {
            self.later.partition_point(|later| later.version <= version)
        };
        let (at, sum) = match take.checked_sub(1).map(|last| &self.later[last]) {
            Some(last) => (last.version, last.sum),
            None => (self.shown.d, self.shown.sum),
        };
        if at == d || planted(Bug::VectorUnchecked) || planted(Bug::LaterNotHeld) {
            return Ok((take, sum));
        }
        // A jump beyond the cut (a reload, a Replace) waits for a cut beyond it. A commit that the cut does not know
        // contradicts it, and so does a chain that is complete through the cut without the commit that it names.
        let jumped_past = self.jumped && take == 0 && at > version;
        let contradicts = at > d || self.state.through >= version;
        if contradicts && !jumped_past {
            Err(Hold::Forked(bucket))
        } else {
            Err(Hold::Reading(bucket))
        }
    }

    /// Moves `shown` over the first `take` commits and gathers the keys that they touch.
    fn advance(&mut self, take: usize, keys: &mut Vec<Key>) {
        if take == 0 {
            return;
        }
        let all = take == self.later.len();
        for later in self.later.drain(..take) {
            if !all {
                apply(&mut self.shown.rows, &later.events);
            }
            keys.extend(later.events.iter().map(|event| event.key().clone()));
            self.shown.d = later.version;
            self.shown.sum = later.sum;
        }
        if all {
            // What is newest is what is shown: share it instead of applying twice.
            self.shown.rows = self.rows.clone();
        }
    }
}

/// Puts and deletes what the events say.
pub fn apply(rows: &mut Rows<Row>, events: &[Event]) {
    for event in events {
        match event {
            Event::On { key, row } | Event::Change { key, row } => {
                rows.insert(key.clone(), row.clone());
            }
            Event::Off { key } => {
                rows.remove(key);
            }
        }
    }
}

/// Every key that differs between two contents, with its row in `after`.
fn differences(before: &Rows<Row>, after: &Rows<Row>, out: &mut Vec<(Key, Option<Row>)>) {
    for (key, row) in after.iter() {
        if before.get(key) != Some(row) {
            out.push((key.clone(), Some(row.clone())));
        }
    }
    for (key, _) in before.iter() {
        if after.get(key).is_none() {
            out.push((key.clone(), None));
        }
    }
}

/// Whether an outcome says that the chain is broken.
pub const fn is_fork(outcome: &Outcome) -> Option<Fork> {
    match outcome {
        Outcome::Fork(fork) => Some(*fork),
        _ => None,
    }
}
