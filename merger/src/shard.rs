//! One bucket in the merger's memory: its content, what is not folded into its head yet, and what the head
//! should become. Decisions only; no I/O.

use std::collections::VecDeque;

use onair_log::LogId;
use onair_model::assembly::{Loaded, apply};
use onair_model::fold::{Fork, Outcome, fold, replay, sum_of};
use onair_model::parts::Parts;
use onair_model::plant::{Bug, planted};
use onair_model::{
    Body, BucketState, Commit, Digest, Event, Key, Lineage, Record, Row, Rows, Sum, Version,
};
use onair_store::Token;
use onair_store::head::{Head, SEGMENTS_MAX, SegmentRef};

/// A bucket that this merger owns.
#[derive(Debug)]
pub(crate) struct Shard {
    /// Its newest content.
    pub(crate) state: BucketState,
    rows: Rows<Row>,
    /// What stands in the store, with the token to expect.
    pub(crate) head: Option<(Token, Head)>,
    /// Commits after the head, oldest first.
    fresh: Vec<Commit>,
    fresh_bytes: usize,
    /// Content at the last cut that the cuts head holds: no base may be newer.
    settled: Rows<Row>,
    settled_at: (Version, Sum),
    /// Commits after `settled`, the fresh ones too.
    unsettled: VecDeque<(Commit, Sum)>,
    /// The content did not come from the head by commits: the next head needs a base of its own.
    pub(crate) restated: bool,
    pub(crate) forked: bool,
    /// What the head names cannot be read.
    damaged: bool,
    pub(crate) parts: Parts,
    /// Next offset to be read.
    pub(crate) next_offset: u64,
    source_time: i64,
}

/// What a Replace changed, against what was held: the reconciliation report of one bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Classified {
    /// Keys that were live at the source and not here.
    pub missing: Vec<Key>,
    /// Keys that were here and not live at the source.
    pub extra: Vec<Key>,
    /// Keys with another row.
    pub stale: Vec<Key>,
}

/// What the next head needs to be written.
#[derive(Debug)]
pub(crate) enum Plan {
    /// Nothing is new.
    Nothing,
    /// A base of the content as it was stated anew, and what came after it as one delta.
    Restate,
    /// A base of the settled content, and what came after it as one delta.
    Rebase,
    /// One more delta, merged with the others first if there are too many.
    Delta {
        /// Merge all deltas into one.
        merge: bool,
    },
}

/// The base does not give the digest of its head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mismatch;

impl Shard {
    /// A bucket that the store knows nothing of.
    pub(crate) fn new() -> Self {
        let nothing = Sum {
            digest: Digest::EMPTY,
            count: 0,
        };
        Shard {
            state: BucketState::NOTHING,
            rows: Rows::new(),
            head: None,
            fresh: Vec::new(),
            fresh_bytes: 0,
            settled: Rows::new(),
            settled_at: (Version::ZERO, nothing),
            unsettled: VecDeque::new(),
            restated: false,
            forked: false,
            damaged: false,
            parts: Parts::default(),
            next_offset: 0,
            source_time: 0,
        }
    }

    /// Takes what the store holds; checks that it is what the head says.
    pub(crate) fn load(
        &mut self,
        token: Token,
        head: Head,
        loaded: Loaded,
    ) -> Result<(), Mismatch> {
        let Loaded {
            state,
            base_d,
            base,
            commits,
        } = loaded;
        let base_sum = sum_of(base.iter().map(|(key, row)| Digest::of(key, row)));
        let sums = replay(base_sum, &base, &commits).ok_or(Mismatch)?;
        if sums.last().copied().unwrap_or(base_sum)
            != (Sum {
                digest: state.digest,
                count: state.count,
            })
        {
            return Err(Mismatch);
        }
        let claimed = self.state.claimed;
        self.state = state;
        self.state.claim(claimed);
        self.settled = base.clone();
        self.settled_at = (base_d, base_sum);
        self.rows = base;
        for commit in &commits {
            apply(&mut self.rows, &commit.events);
        }
        self.unsettled = commits.into_iter().zip(sums).collect();
        self.fresh.clear();
        self.fresh_bytes = 0;
        self.source_time = head.source_time;
        self.head = Some((token, head));
        self.restated = false;
        self.forked = false;
        Ok(())
    }

    /// A bucket of which the store has a head and not the content: behind the head's claim, until it is stated again.
    pub(crate) fn damaged(token: Token, head: Head) -> Self {
        let mut shard = Shard::new();
        shard.state.claim(head.state.d);
        shard.head = Some((token, head));
        shard.forked = true;
        shard.damaged = true;
        shard
    }

    /// Folds one whole record. A Replace that changed something comes with what it changed.
    pub(crate) fn record(
        &mut self,
        lineage: Lineage,
        record: Record,
    ) -> (Outcome, Option<Classified>) {
        let step = fold(lineage, &self.state, &self.rows, &record);
        let before = std::mem::replace(&mut self.state, step.state);
        self.source_time = self.source_time.max(record.source_time);
        let mut classified = None;
        match (&step.outcome, record.body) {
            (Outcome::Folded { first, sums }, Body::Commits { commits, .. }) => {
                for (commit, sum) in commits.into_iter().skip(*first).zip(sums) {
                    apply(&mut self.rows, &commit.events);
                    self.fresh_bytes += commit.events.iter().map(Event::size).sum::<usize>();
                    self.fresh.push(commit.clone());
                    self.unsettled.push_back((commit, *sum));
                }
            }
            (Outcome::Replaced, Body::Replace { rows, .. }) => {
                self.forked = false;
                if before.d != self.state.d || before.epoch != self.state.epoch {
                    let rows: Rows<Row> = rows.into_iter().collect();
                    classified = Some(classify(&self.rows, &rows));
                    self.rows = rows;
                    self.restate();
                }
            }
            (Outcome::Carried, _) => {
                self.forked = false;
                self.restate();
            }
            (Outcome::Fork(_), _) => self.forked = true,
            _ => {}
        }
        (step.outcome, classified)
    }

    fn restate(&mut self) {
        self.restated = true;
        self.fresh.clear();
        self.fresh_bytes = 0;
        self.unsettled.clear();
        self.settled = self.rows.clone();
        self.settled_at = (self.state.d, self.sum());
    }

    /// Of the head that it knows.
    pub(crate) fn token(&self) -> Option<Token> {
        self.head.as_ref().map(|(token, _)| *token)
    }

    /// Digest and count of the newest content.
    pub(crate) fn sum(&self) -> Sum {
        Sum {
            digest: self.state.digest,
            count: self.state.count,
        }
    }

    /// Bytes of commits that the head does not have.
    pub(crate) fn fresh_bytes(&self) -> usize {
        self.fresh_bytes
    }

    /// Whether the head lacks anything.
    pub(crate) fn is_dirty(&self) -> bool {
        self.restated || !self.fresh.is_empty()
    }

    /// Whether nothing before `next_offset` is needed to make the head what the content is.
    pub(crate) fn is_clean(&self) -> bool {
        !self.is_dirty() && self.parts.oldest_offset().is_none()
    }

    /// The offset that the head may name: below every part of a record that is not whole yet.
    pub(crate) fn safe_offset(&self) -> u64 {
        self.parts.oldest_offset().unwrap_or(self.next_offset)
    }

    /// What the next head should be.
    pub(crate) fn plan(&self, deltas_max: usize, delta_share_max: f64) -> Plan {
        if self.restated || (self.head.is_none() && self.state != BucketState::NOTHING) {
            return Plan::Restate;
        }
        let Some((_, head)) = &self.head else {
            return Plan::Nothing;
        };
        if self.fresh.is_empty() {
            return Plan::Nothing;
        }
        let deltas: u64 = head.deltas.iter().map(|delta| delta.bytes).sum();
        let share = (deltas + self.fresh_bytes as u64) as f64 / head.base.bytes.max(1) as f64;
        // A tiny base is rewritten only when the number of deltas says so.
        let worth = head.base.bytes + deltas > 64 * 1024;
        let full = head.deltas.len() >= deltas_max || head.segments().count() >= SEGMENTS_MAX;
        if ((share > delta_share_max && worth) || full) && self.settled_at.0 > head.base.d {
            return Plan::Rebase;
        }
        Plan::Delta { merge: full }
    }

    /// The settled content with its data version and sum.
    pub(crate) fn settled(&self) -> (Version, Sum, &Rows<Row>) {
        if planted(Bug::BaseBeyondCuts) {
            return (self.state.d, self.sum(), &self.rows);
        }
        (self.settled_at.0, self.settled_at.1, &self.settled)
    }

    /// Commits after the head.
    pub(crate) fn fresh(&self) -> &[Commit] {
        &self.fresh
    }

    /// Commits after the settled content.
    pub(crate) fn unsettled(&self) -> Vec<Commit> {
        if planted(Bug::BaseBeyondCuts) {
            return Vec::new();
        }
        self.unsettled
            .iter()
            .map(|(commit, _)| commit.clone())
            .collect()
    }

    /// The cuts head holds a cut at which this bucket's data version is `d`: bases may go up to it.
    pub(crate) fn settle(&mut self, d: Version) {
        while let Some((commit, sum)) = self
            .unsettled
            .pop_front_if(|(commit, _)| commit.version <= d)
        {
            apply(&mut self.settled, &commit.events);
            self.settled_at = (commit.version, sum);
        }
    }

    /// The head that these segments make; `needed` is the bucket's data version at the cuts head's cut.
    pub(crate) fn next_head(
        &self,
        (lineage, log): (Lineage, &LogId),
        needed: Option<Version>,
        base: SegmentRef,
        deltas: Vec<SegmentRef>,
    ) -> Head {
        let last = self.fresh.last();
        let held = self.head.as_ref().map(|(_, head)| head);
        let same_epoch = held.is_some_and(|head| head.state.epoch == self.state.epoch);
        let old = match (held, needed) {
            // Stated anew, the content does not lead on from the one that the cuts head needs.
            (Some(head), Some(needed)) if head.base.d <= needed => {
                let keep = self.restated && !self.damaged;
                keep.then(|| (head.base, head.deltas.clone()))
            }
            (Some(head), Some(_)) => head.old.clone(),
            _ => None,
        };
        Head {
            lineage,
            state: self.state,
            gtid: last
                .map(|commit| commit.gtid)
                .or_else(|| held.filter(|_| same_epoch).and_then(|head| head.gtid)),
            commit_time: last.map_or_else(
                || held.map_or(0, |head| head.commit_time),
                |commit| commit.commit_time,
            ),
            source_time: self.source_time,
            base,
            deltas,
            log: log.0.to_string(),
            next_offset: match planted(Bug::OffsetBeforeFold) {
                true => self.next_offset + 1,
                false => self.safe_offset(),
            },
            old,
        }
    }

    /// The head was moved: what it names is not fresh any more.
    pub(crate) fn moved(&mut self, token: Token, head: Head) {
        self.fresh.clear();
        self.fresh_bytes = 0;
        self.restated = false;
        self.damaged = false;
        self.head = Some((token, head));
    }
}

fn classify(before: &Rows<Row>, after: &Rows<Row>) -> Classified {
    let mut found = Classified {
        missing: Vec::new(),
        extra: Vec::new(),
        stale: Vec::new(),
    };
    for (key, row) in after.iter() {
        match before.get(key) {
            None => found.missing.push(key.clone()),
            Some(held) if held != row => found.stale.push(key.clone()),
            Some(_) => {}
        }
    }
    for (key, _) in before.iter() {
        if after.get(key).is_none() {
            found.extra.push(key.clone());
        }
    }
    found
}

/// Whether an outcome stops the bucket.
pub(crate) fn trouble(outcome: &Outcome) -> Option<&'static str> {
    match outcome {
        Outcome::Gap => Some("gap"),
        Outcome::Fork(Fork::Digest) => Some("fork: digest"),
        Outcome::Fork(Fork::Late) => Some("fork: late commit"),
        Outcome::Fork(Fork::Chain) => Some("fork: chain"),
        _ => None,
    }
}
