//! The rules that admit a record to a bucket: the one function that merger, server and SDK share.
//!
//! In: a bucket's state, the digests of its rows, a record. Out: the state after it and what to do with the
//! rows. Nothing is changed here, so a record that is refused leaves no trace but a claim.

use hashbrown::HashMap;

use crate::digest::Digest;
use crate::event::{Body, Commit, Event, Record};
use crate::key::Key;
use crate::plant::{Bug, planted};
use crate::rows::RowDigests;
use crate::version::{Epoch, Lineage, Version};

/// What a receiver holds of one bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BucketState {
    /// The epoch of its content.
    pub epoch: Epoch,
    /// Last data version folded.
    pub d: Version,
    /// Complete through this version; never below `d`.
    pub through: Version,
    /// Digest of the content.
    pub digest: Digest,
    /// Rows of the content.
    pub count: u64,
    /// The highest data version that was ever seen named for this bucket. Above `d`: something is missing.
    pub claimed: Version,
}

impl BucketState {
    /// A bucket that has received nothing yet.
    pub const NOTHING: BucketState = BucketState {
        epoch: Epoch::NONE,
        d: Version::ZERO,
        through: Version::ZERO,
        digest: Digest::EMPTY,
        count: 0,
        claimed: Version::ZERO,
    };

    /// Whether data is known to exist that this bucket does not have.
    pub fn is_behind_claim(&self) -> bool {
        self.d < self.claimed
    }

    /// Takes note that somebody named `version` as a data version of the bucket.
    pub fn claim(&mut self, version: Version) {
        if !planted(Bug::ClaimForgotten) {
            self.claimed = self.claimed.max(version);
        }
    }
}

/// A bucket's digest and count after one commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sum {
    /// Digest of all rows.
    pub digest: Digest,
    /// Number of rows.
    pub count: u64,
}

/// What a record was, and what the caller does with the rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Known already: nothing to do.
    Duplicate,
    /// Apply the record's commits from this index on; `sums` are the digest and count after each of them.
    Folded {
        /// Index of the first new commit; the record's length when only `through` rose.
        first: usize,
        /// One for each new commit.
        sums: Vec<Sum>,
    },
    /// The record follows something that we do not have.
    Gap,
    /// The record contradicts what we have.
    Fork(Fork),
    /// The record's rows are the bucket's content now.
    Replaced,
    /// The rows stay as they are, in the new epoch.
    Carried,
    /// Another world, or an older epoch: not for us.
    Refused,
}

/// How a record contradicts the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fork {
    /// Its digest or count differs from what its own content gives on ours.
    Digest,
    /// It brings a commit below what was claimed complete.
    Late,
    /// Its chain branches off ours.
    Chain,
}

/// The state after a record, and the outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// To be kept in any case: a refused record may still have raised `claimed`.
    pub state: BucketState,
    /// What to do.
    pub outcome: Outcome,
}

/// Applies DESIGN section 3 to one whole record.
pub fn fold(
    lineage: Lineage,
    state: &BucketState,
    rows: &impl RowDigests,
    record: &Record,
) -> Step {
    let refused = |outcome| Step {
        state: *state,
        outcome,
    };
    if record.lineage != lineage && !planted(Bug::ForeignRecordTaken) {
        return refused(Outcome::Refused);
    }
    if record.epoch < state.epoch && !planted(Bug::OlderEpochTaken) {
        return refused(Outcome::Refused);
    }
    let newer = record.epoch > state.epoch;
    let mut next = *state;
    next.claim(record.claims());
    let outcome = match &record.body {
        Body::Commits { .. } if newer && !planted(Bug::NewerEpochTaken) => Outcome::Gap,
        Body::Commits { prev, commits } => fold_commits(&mut next, rows, record, *prev, commits),
        Body::Replace { d, rows } => fold_replace(&mut next, record, *d, rows, newer),
        Body::Carry { old } => fold_carry(&mut next, record, *old, newer),
    };
    Step {
        state: next,
        outcome,
    }
}

fn fold_commits(
    state: &mut BucketState,
    rows: &impl RowDigests,
    record: &Record,
    prev: Version,
    commits: &[Commit],
) -> Outcome {
    let sum = Sum {
        digest: record.digest,
        count: record.count,
    };
    let ours = Sum {
        digest: state.digest,
        count: state.count,
    };
    let last = commits.last().map_or(prev, |commit| commit.version);
    let first = commits.partition_point(|commit| commit.version <= state.d);
    if first == commits.len() && record.through <= state.through {
        let agrees = last != state.d || sum == ours || planted(Bug::DuplicateUnchecked);
        return if agrees {
            Outcome::Duplicate
        } else {
            Outcome::Fork(Fork::Digest)
        };
    }
    let touches = prev == state.d || (first > 0 && commits[first - 1].version == state.d);
    if !touches {
        if prev > state.d {
            if !planted(Bug::GapIgnored) {
                return Outcome::Gap;
            }
        } else if !planted(Bug::BranchFolded) {
            return Outcome::Fork(Fork::Chain);
        }
    }
    let first = if planted(Bug::CommitsRepeated) {
        0
    } else {
        first
    };
    let fresh = &commits[first..];
    if fresh
        .first()
        .is_some_and(|commit| commit.version <= state.through)
        && !planted(Bug::LateCommitTaken)
    {
        return Outcome::Fork(Fork::Late);
    }
    let Some(sums) = replay(ours, rows, fresh) else {
        return Outcome::Fork(Fork::Digest);
    };
    let after = sums.last().copied().unwrap_or(ours);
    if after != sum && !planted(Bug::DigestUnchecked) {
        return Outcome::Fork(Fork::Digest);
    }
    state.epoch = record.epoch;
    state.d = last.max(state.d);
    state.through = state.through.max(record.through).max(state.d);
    state.digest = after.digest;
    state.count = after.count;
    Outcome::Folded { first, sums }
}

fn fold_replace(
    state: &mut BucketState,
    record: &Record,
    d: Version,
    rows: &[(Key, crate::Row)],
    newer: bool,
) -> Outcome {
    let sum = Sum {
        digest: record.digest,
        count: record.count,
    };
    let held = sum_of(rows.iter().map(|(key, row)| Digest::of(key, row)));
    if held != sum && !planted(Bug::DigestUnchecked) {
        return Outcome::Fork(Fork::Digest);
    }
    if !newer {
        if d < state.d && !planted(Bug::ReplaceBackwards) {
            return Outcome::Duplicate;
        }
        if d == state.d {
            if sum
                != (Sum {
                    digest: state.digest,
                    count: state.count,
                })
                && !planted(Bug::ReplaceUnchecked)
            {
                return Outcome::Fork(Fork::Digest);
            }
            state.through = state.through.max(record.through);
            return Outcome::Replaced;
        }
        if d <= state.through && !planted(Bug::ReplaceLate) && !planted(Bug::ReplaceBackwards) {
            return Outcome::Fork(Fork::Late);
        }
    }
    *state = BucketState {
        epoch: record.epoch,
        d,
        through: record.through.max(d),
        digest: held.digest,
        count: held.count,
        claimed: state.claimed.max(d),
    };
    Outcome::Replaced
}

fn fold_carry(state: &mut BucketState, record: &Record, old: Version, newer: bool) -> Outcome {
    let start = record.epoch.start();
    let agrees = state.digest == record.digest && state.count == record.count;
    if !newer {
        return match state.d == start && !agrees {
            true => Outcome::Fork(Fork::Digest),
            false => Outcome::Duplicate,
        };
    }
    let ours = agrees && state.d == old;
    if !ours && !planted(Bug::CarryUnchecked) {
        return Outcome::Gap;
    }
    *state = BucketState {
        epoch: record.epoch,
        d: start,
        through: record.through.max(start),
        digest: state.digest,
        count: state.count,
        claimed: state.claimed.max(start),
    };
    Outcome::Carried
}

/// Digest and count of rows by their digests.
pub fn sum_of(rows: impl Iterator<Item = Digest>) -> Sum {
    rows.fold(
        Sum {
            digest: Digest::EMPTY,
            count: 0,
        },
        |sum, row| Sum {
            digest: sum.digest.plus(row),
            count: sum.count + 1,
        },
    )
}

/// Digest and count after each of these commits on top of `before`; `None` when one takes a row that is not there
/// or brings one that is.
pub fn replay(before: Sum, rows: &impl RowDigests, commits: &[Commit]) -> Option<Vec<Sum>> {
    let mut sum = before;
    // Rows that an earlier one of these commits changed.
    let mut changed: HashMap<&Key, Option<Digest>, foldhash::fast::FixedState> = HashMap::default();
    let repeats = commits.len() > 1;
    let mut sums = Vec::with_capacity(commits.len());
    for commit in commits {
        for event in &commit.events {
            let key = event.key();
            let held = match changed.get(key) {
                Some(held) => *held,
                None => rows.row_digest(key),
            };
            let fresh = event.row().map(|row| Digest::of(key, row));
            let sound = match event {
                Event::On { .. } => held.is_none(),
                Event::Change { .. } | Event::Off { .. } => held.is_some(),
            };
            if !sound && !planted(Bug::DigestUnchecked) && !planted(Bug::CommitsRepeated) {
                return None;
            }
            sum = Sum {
                digest: sum
                    .digest
                    .minus(held.unwrap_or(Digest::EMPTY))
                    .plus(fresh.unwrap_or(Digest::EMPTY)),
                count: (sum.count + u64::from(fresh.is_some()))
                    .saturating_sub(u64::from(held.is_some())),
            };
            if repeats {
                changed.insert(key, fresh);
            }
        }
        sums.push(sum);
    }
    Some(sums)
}
