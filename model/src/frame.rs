//! Frames: what changed between two cuts, as the final state of every key touched.
//!
//! Within an epoch a frame applies to a replica at any version of its range, because it names every key that
//! any commit in it touched; the digest at its end proves the result.

use hashbrown::HashMap;

use crate::digest::Digest;
use crate::fold::Sum;
use crate::key::{Key, Row};
use crate::plant::{Bug, planted};
use crate::rows::RowDigests;
use crate::version::Version;

/// The commits in `(from, to]`, net.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The version before it.
    pub from: Version,
    /// The version after it.
    pub to: Version,
    /// Whether it applies only to a replica at exactly `from`: it spans a Replace, a reload, a boot or an epoch.
    pub exact: bool,
    /// Every key touched, with its row at `to` (`None`: off), by ascending key.
    pub touched: Vec<(Key, Option<Row>)>,
    /// Digest of the content at `to`.
    pub digest: Digest,
    /// Rows of the content at `to`.
    pub count: u64,
}

/// Why a frame cannot be applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The replica's version is not in the frame's range.
    #[error("the replica's version is outside the frame's range")]
    OutOfRange,
    /// The result would have another digest or count than the frame states, or its keys do not ascend.
    #[error("the frame does not give the digest that it states")]
    Digest,
}

impl Frame {
    /// Whether a replica at `version` may apply it.
    pub fn applies_to(&self, version: Version) -> bool {
        if planted(Bug::FrameRangeIgnored) {
            return true;
        }
        if self.exact {
            return version == self.from;
        }
        version.epoch() == self.to.epoch() && version >= self.from && version < self.to
    }

    /// Checks the frame against a replica's content at `version`. `Ok`: put and delete what `touched` says, and the
    /// content is the one at `to`.
    pub fn check(
        &self,
        version: Version,
        before: Sum,
        rows: &impl RowDigests,
    ) -> Result<(), FrameError> {
        if !self.applies_to(version) {
            return Err(FrameError::OutOfRange);
        }
        // A key named twice would be counted twice and put once.
        let ascends = self.touched.windows(2).all(|pair| pair[0].0 < pair[1].0);
        let mut sum = before;
        for (key, row) in &self.touched {
            if let Some(held) = rows.row_digest(key) {
                sum.digest = sum.digest.minus(held);
                sum.count = sum.count.saturating_sub(1);
            }
            if let Some(row) = row {
                sum.digest = sum.digest.plus(Digest::of(key, row));
                sum.count += 1;
            }
        }
        let stated = Sum {
            digest: self.digest,
            count: self.count,
        };
        let sound = ascends && sum == stated;
        if !sound && !planted(Bug::FrameUnchecked) {
            return Err(FrameError::Digest);
        }
        Ok(())
    }
}

/// One frame for consecutive ones, oldest first: the last row of each key wins. `None` for an empty slice, or when
/// they do not follow each other.
pub fn compose(frames: &[&Frame]) -> Option<Frame> {
    let (first, last) = (frames.first()?, frames.last()?);
    if frames.windows(2).any(|pair| pair[0].to != pair[1].from) {
        return None;
    }
    let mut touched: HashMap<&Key, Option<&Row>, foldhash::fast::FixedState> = HashMap::default();
    for frame in frames {
        for (key, row) in &frame.touched {
            touched.insert(key, row.as_ref());
        }
    }
    let mut touched: Vec<_> = touched
        .into_iter()
        .map(|(key, row)| (key.clone(), row.cloned()))
        .collect();
    touched.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    Some(Frame {
        from: first.from,
        to: last.to,
        exact: frames.iter().any(|frame| frame.exact),
        touched,
        digest: last.digest,
        count: last.count,
    })
}
