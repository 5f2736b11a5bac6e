//! Whether the epoch goes on, and how: before anything is produced, what was produced before is derived again.
//!
//! In: checkpoint, the log's last cuts, who the source is now. Out: a sequence that stands where the log stands, and
//! the stream to go on from, or the reason to open the next epoch.

use std::collections::VecDeque;
use std::sync::Arc;

use onair_model::cut::Taken;
use onair_model::plant::{Bug, planted};
use onair_model::{Epoch, Gtid, GtidSet, Version};
use onair_store::checkpoint::{Checkpoint, EpochState, Fingerprint};

use crate::barrier::Barrier;
use crate::change::{Step, Transaction};
use crate::clock;
use crate::sequence::{EpochFull, Sequence};
use crate::source::Identity;
use crate::stream::{Stream, StreamError};

/// Why the next epoch is opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Cause {
    /// There is no epoch yet.
    #[error("first start")]
    FirstStart,
    /// The server's history ends before what a cut states.
    #[error("the source no longer has {missing}, which was shown at {version}")]
    LostShown {
        /// What it lacks.
        missing: GtidSet,
        /// Where it was shown.
        version: Version,
    },
    /// The server's history ends before the checkpoint.
    #[error("the source no longer has {missing}, which was read")]
    LostRead {
        /// What it lacks.
        missing: GtidSet,
    },
    /// The binlog ends before the log does.
    #[error("the source no longer has transactions that were shown")]
    LostTail,
    /// A transaction of the checkpoint is not where it was.
    #[error("{gtid} is not where it was in the binlog")]
    Moved {
        /// The transaction.
        gtid: Gtid,
    },
    /// A GTID names another transaction.
    #[error("{gtid} is another transaction than it was: its GTID was used again")]
    ReusedGtid {
        /// The GTID.
        gtid: Gtid,
    },
    /// What is derived from the binlog is not what was shown.
    #[error("what was shown at {version} is not what the binlog gives")]
    OtherContent {
        /// The version.
        version: Version,
    },
    /// The epoch ended before its first checkpoint.
    #[error("epoch {epoch} has no checkpoint")]
    NoCheckpoint {
        /// The epoch.
        epoch: Epoch,
    },
    /// The checkpoint was taken away beneath the reader.
    #[error("an operator asked to derive everything anew")]
    Forgotten,
    /// A checkpoint that lacks a feed.
    #[error("the checkpoint does not know every feed")]
    PartialCheckpoint,
    /// The log's last cut is of another epoch.
    #[error("the log is not in epoch {epoch}")]
    OtherLog {
        /// The epoch burned last.
        epoch: Epoch,
    },
    /// What decides what a transaction becomes is another.
    #[error("feeds, columns, predicate or the code that reads them changed")]
    OtherPlan,
    /// Another server answers.
    #[error("the source is another server: {now} in place of {before}")]
    OtherServer {
        /// The one that answers.
        now: String,
        /// The one of the checkpoint.
        before: String,
    },
    /// The binlog was purged past the checkpoint.
    #[error("the binlog no longer holds {gone}, which was not read")]
    Purged {
        /// What is gone.
        gone: GtidSet,
    },
    /// The server refused to send from the checkpoint on.
    #[error("{0}")]
    PurgedAtSource(String),
    /// A row event does not tell the content of a captured table.
    #[error("{barrier}")]
    Barrier {
        /// What happened.
        barrier: Barrier,
        /// Where the stream stood then: the next epoch begins at or after that.
        delivered: GtidSet,
    },
    /// A table was altered while it was scanned.
    #[error("{0}")]
    AlteredInScan(String),
    /// An XA transaction stays prepared.
    #[error(
        "an XA transaction stayed prepared for longer than reader.xa_patience; its rows are read again"
    )]
    XaStays,
    /// The second fork in an epoch.
    #[error("a bucket's chain forked a second time")]
    SecondFork,
    /// All versions of the epoch are used.
    #[error(transparent)]
    EpochFull(#[from] EpochFull),
    /// Another cause, and until the epoch was opened the source lost what was shown.
    #[error("{cause}; and the source no longer has transactions that were shown")]
    WithLoss {
        /// What came first.
        cause: Box<Cause>,
    },
}

impl Cause {
    /// A barrier that came after `executed` was delivered.
    pub fn barrier(barrier: Barrier, executed: &GtidSet, gtid: Option<Gtid>) -> Self {
        let mut delivered = executed.clone();
        if let Some(gtid) = gtid {
            delivered.insert(&gtid);
        }
        Cause::Barrier { barrier, delivered }
    }

    /// The same, and the source has lost what was shown.
    pub fn with_loss(self) -> Self {
        match self.lost_tail() {
            true => self,
            false => Cause::WithLoss {
                cause: Box::new(self),
            },
        }
    }

    /// Where the stream stood when it came over the stream.
    pub fn delivered(&self) -> Option<&GtidSet> {
        match self {
            Cause::Barrier { delivered, .. } => Some(delivered),
            _ => None,
        }
    }

    /// Whether the source no longer has transactions that were produced: what is shown will go back.
    pub fn lost_tail(&self) -> bool {
        matches!(
            self,
            Cause::LostShown { .. }
                | Cause::LostRead { .. }
                | Cause::LostTail
                | Cause::Moved { .. }
                | Cause::ReusedGtid { .. }
                | Cause::OtherContent { .. }
                | Cause::WithLoss { .. }
        )
    }
}

/// What is known of the past when a reader starts or reconnects.
#[derive(Clone, Copy, Debug)]
pub struct Past<'a> {
    /// The checkpoint.
    pub checkpoint: Option<&'a Checkpoint>,
    /// The epoch burned last.
    pub epoch: Option<&'a EpochState>,
    /// What the last cuts of each feed's log add up to, by feed index.
    pub taken: &'a [Option<Taken>],
    /// The plan in force.
    pub plan: u64,
}

/// Judges without reading the stream whether the epoch can go on.
pub fn judge<'a>(past: Past<'a>, now: &Identity) -> Result<&'a Checkpoint, Cause> {
    let Some(epoch) = past.epoch else {
        return Err(Cause::FirstStart);
    };
    // What another server lacks it may only not have yet: nothing is called lost, servers wait until it is contained.
    if epoch.server != now.server {
        return Err(Cause::OtherServer {
            now: now.server.clone(),
            before: epoch.server.clone(),
        });
    }
    let shown = past
        .taken
        .iter()
        .flatten()
        .find(|taken| !now.executed.contains_set(&taken.executed));
    if let Some(taken) = shown {
        let missing = taken.executed.minus(&now.executed);
        return Err(Cause::LostShown {
            missing,
            version: taken.version,
        });
    }
    let Some(checkpoint) = past.checkpoint else {
        return Err(Cause::NoCheckpoint { epoch: epoch.epoch });
    };
    if !now.executed.contains_set(&checkpoint.executed) {
        let missing = checkpoint.executed.minus(&now.executed);
        return Err(Cause::LostRead { missing });
    }
    if checkpoint.version.epoch() != epoch.epoch {
        return Err(Cause::NoCheckpoint { epoch: epoch.epoch });
    }
    if past
        .taken
        .iter()
        .flatten()
        .any(|taken| taken.version.epoch() != epoch.epoch)
    {
        return Err(Cause::OtherLog { epoch: epoch.epoch });
    }
    if checkpoint.plan != past.plan {
        return Err(Cause::OtherPlan);
    }
    if !checkpoint.executed.contains_set(&now.purged) {
        let gone = now.purged.minus(&checkpoint.executed);
        return Err(Cause::Purged { gone });
    }
    Ok(checkpoint)
}

/// Where to follow from so that the transactions of the fingerprints come again, and which of them will come.
pub fn rewind(checkpoint: &Checkpoint, purged: &GtidSet) -> (GtidSet, VecDeque<Fingerprint>) {
    let prints = &checkpoint.fingerprints;
    match &checkpoint.executed {
        GtidSet::Mysql(_) => {
            let mut again = GtidSet::mysql();
            let prints: VecDeque<Fingerprint> = prints
                .iter()
                .filter(|print| !purged.contains(&print.gtid))
                .copied()
                .collect();
            for print in &prints {
                again.insert(&print.gtid);
            }
            (checkpoint.executed.minus(&again), prints)
        }
        GtidSet::Mariadb(domains) => {
            // A position names the last transaction before it: the oldest of each domain only marks the place.
            let mut from = domains.clone();
            let mut marked = Vec::new();
            let mut expected = VecDeque::new();
            for print in prints {
                let Gtid::Mariadb {
                    domain,
                    server,
                    sequence,
                } = print.gtid
                else {
                    continue;
                };
                if marked.contains(&domain) {
                    expected.push_back(*print);
                } else {
                    marked.push(domain);
                    from.insert(domain, (server, sequence));
                }
            }
            (GtidSet::Mariadb(from), expected)
        }
    }
}

/// Heartbeats before a transaction that must come counts as gone.
const HEARTBEATS_MAX: u32 = 5;

/// Why replaying did not reach where the log stands.
#[derive(Debug)]
pub enum ReplayError {
    /// The epoch ends.
    Epoch(Cause),
    /// The connection broke: try again.
    Stream(StreamError),
}

impl From<StreamError> for ReplayError {
    fn from(error: StreamError) -> Self {
        ReplayError::Stream(error)
    }
}

/// Reads the fingerprinted transactions again, then derives, without producing, everything up to the log's last cuts.
/// `sequence` stands at the checkpoint and is moved on; `prints` are then the newest transactions delivered.
pub async fn replay(
    stream: &mut Stream,
    sequence: &mut Sequence,
    expected: VecDeque<Fingerprint>,
    prints: &mut VecDeque<Fingerprint>,
    taken: &[Option<Taken>],
    executed: &GtidSet,
) -> Result<(), ReplayError> {
    let epoch = |cause| Err(ReplayError::Epoch(cause));
    for print in expected {
        let mut quiet = 0;
        let found = loop {
            match next(stream).await? {
                Step::Transaction(found) => break Some(found),
                // What ended an epoch before is behind us; its GTID tells that it is the same.
                Step::Barrier { gtid, .. } if gtid == Some(print.gtid) => break None,
                // One comes while the server skips what we have; many mean that it has nothing else.
                Step::Heartbeat if quiet < HEARTBEATS_MAX => quiet += 1,
                Step::Barrier { .. } | Step::Heartbeat => {
                    return epoch(Cause::Moved { gtid: print.gtid });
                }
            }
        };
        let Some(found) = found else { continue };
        let same = found.gtid == print.gtid && found.fingerprint == print.crc;
        if !same && !planted(Bug::FingerprintSkipped) {
            return epoch(Cause::ReusedGtid { gtid: print.gtid });
        }
    }
    loop {
        for (feed, taken) in taken.iter().enumerate() {
            let Some(taken) = taken
                .as_ref()
                .filter(|taken| taken.version == sequence.version())
            else {
                continue;
            };
            let sum = sequence.sum(feed);
            let same = sum.digest == taken.digest
                && sum.count == taken.count
                && sequence.gtid(feed) == taken.gtid;
            if !same && !planted(Bug::FingerprintSkipped) {
                return epoch(Cause::OtherContent {
                    version: taken.version,
                });
            }
        }
        let behind = taken
            .iter()
            .flatten()
            .any(|taken| taken.version > sequence.version());
        if !behind {
            return Ok(());
        }
        if sequence.executed().contains_set(executed) {
            return epoch(Cause::LostTail);
        }
        match next(stream).await? {
            Step::Transaction(transaction) => {
                remember(prints, &transaction);
                sequence.attest(clock::not_ahead(transaction.commit_time));
                sequence.stands_at(stream.place());
                if let Err(full) = sequence.transaction(transaction) {
                    return epoch(full.into());
                }
            }
            Step::Barrier { gtid, reason } => {
                return epoch(Cause::barrier(reason, sequence.executed(), gtid));
            }
            Step::Heartbeat => {}
        }
    }
}

async fn next(stream: &mut Stream) -> Result<Step, StreamError> {
    stream.next().await
}

/// Transactions whose fingerprints a checkpoint keeps.
const PRINTS_MAX: usize = 64;

/// Keeps the newest fingerprints.
pub fn remember(prints: &mut VecDeque<Fingerprint>, transaction: &Transaction) {
    if prints.len() == PRINTS_MAX {
        prints.pop_front();
    }
    prints.push_back(Fingerprint {
        gtid: transaction.gtid,
        crc: transaction.fingerprint,
    });
}

/// The hash of everything that decides what a transaction becomes.
pub fn plan(feeds: &[Arc<crate::feed::Feed>]) -> u64 {
    let mut text = format!("code {CODE_VERSION};");
    for feed in feeds {
        let config = &feed.config;
        text.push_str(&format!(
            "feed {} table {} when {:?} buckets {}; key {:?}; columns {:?};",
            config.name,
            config.table,
            config.live_when,
            config.buckets.count(),
            feed.schema.key,
            feed.schema.columns,
        ));
    }
    xxhash_rust::xxh3::xxh3_64(text.as_bytes())
}

/// Raised whenever decoding, evaluating or encoding gives other bytes than before.
const CODE_VERSION: u32 = 1;

#[cfg(test)]
mod tests {
    use onair_model::cut::Taken;
    use onair_model::{Digest, GtidSet};

    use super::*;
    use crate::source::{Dialect, RowMetadata};

    const PLAN: u64 = 7;

    fn set(numbers: &str) -> GtidSet {
        match numbers {
            "" => GtidSet::mysql(),
            numbers => format!("3e11fa47-71ca-11e1-9e33-c80aa9429562:{numbers}")
                .parse()
                .expect("a GTID set"),
        }
    }

    fn version(text: &str) -> Version {
        text.parse().expect("a version")
    }

    /// A server that has executed 1-60.
    fn now() -> Identity {
        Identity {
            dialect: Dialect::Mysql,
            server: "a".to_owned(),
            version: "9.7.0".to_owned(),
            metadata: RowMetadata::Full,
            executed: set("1-60"),
            purged: set(""),
            in_flight: set(""),
        }
    }

    fn epoch(number: u32) -> EpochState {
        EpochState {
            epoch: Epoch::new(number).expect("an epoch"),
            server: "a".to_owned(),
            executed: set("1-10"),
            plan: PLAN,
            reason: "first start".to_owned(),
        }
    }

    /// At 2-40, with 1-50 read.
    fn checkpoint() -> Checkpoint {
        Checkpoint {
            version: version("2-40"),
            commit_time: 0,
            executed: set("1-50"),
            server: "a".to_owned(),
            plan: PLAN,
            lost_tail: false,
            feeds: Vec::new(),
            fingerprints: Vec::new(),
        }
    }

    /// A cut at 2-45 that shows 1-55.
    fn taken() -> Taken {
        Taken {
            version: version("2-45"),
            vector: Vec::new(),
            executed: Arc::new(set("1-55")),
            commit_time: 0,
            source_time: 0,
            gtid: None,
            digest: Digest::EMPTY,
            count: 0,
            proven: None,
            lost_tail: false,
            position: String::new(),
        }
    }

    /// `None`: the epoch goes on.
    fn judged(
        checkpoint: Option<&Checkpoint>,
        epoch: Option<&EpochState>,
        taken: Taken,
        now: &Identity,
    ) -> Option<Cause> {
        let taken = [Some(taken)];
        let past = Past {
            checkpoint,
            epoch,
            taken: &taken,
            plan: PLAN,
        };
        judge(past, now).err()
    }

    fn check(checkpoint: &Checkpoint, now: &Identity) -> Option<Cause> {
        judged(Some(checkpoint), Some(&epoch(2)), taken(), now)
    }

    #[test]
    fn an_epoch_goes_on_when_the_source_has_all_that_was_read_and_shown() {
        assert_eq!(check(&checkpoint(), &now()), None);
        // Purged is what was read.
        let purged = Identity {
            purged: set("1-50"),
            ..now()
        };
        assert_eq!(check(&checkpoint(), &purged), None);
    }

    #[test]
    fn what_was_shown_and_is_gone_is_a_lost_tail() {
        let with = |executed| Identity {
            executed: set(executed),
            ..now()
        };
        // Shown after the checkpoint: gone with a tail of its own, and with everything.
        for (executed, missing) in [("1-54", "55"), ("1-50", "51-55"), ("", "1-55")] {
            let cause = check(&checkpoint(), &with(executed)).expect(executed);
            assert!(cause.lost_tail(), "{cause}");
            let expected = Cause::LostShown {
                missing: set(missing),
                version: version("2-45"),
            };
            assert_eq!(cause, expected);
        }
        // Read, though no cut of it is known.
        let past = Past {
            checkpoint: Some(&checkpoint()),
            epoch: Some(&epoch(2)),
            taken: &[],
            plan: PLAN,
        };
        let lost = judge(past, &with("1-49")).expect_err("50 is gone");
        assert_eq!(lost, Cause::LostRead { missing: set("50") });
        assert!(lost.lost_tail());
    }

    #[test]
    fn another_server_or_a_purged_one_opens_an_epoch() {
        let other = Identity {
            server: "b".to_owned(),
            ..now()
        };
        let (now_there, before) = ("b".to_owned(), "a".to_owned());
        let expected = Cause::OtherServer {
            now: now_there,
            before,
        };
        assert_eq!(check(&checkpoint(), &other), Some(expected));
        let purged = Identity {
            purged: set("1-51"),
            ..now()
        };
        let gone = set("51");
        assert_eq!(check(&checkpoint(), &purged), Some(Cause::Purged { gone }));
        let plan = Checkpoint {
            plan: PLAN + 1,
            ..checkpoint()
        };
        assert_eq!(check(&plan, &now()), Some(Cause::OtherPlan));
    }

    #[test]
    fn an_epoch_without_its_checkpoint_is_not_gone_on_with() {
        let (second, third) = (epoch(2), epoch(3));
        let none = judged(None, None, taken(), &now());
        assert_eq!(none, Some(Cause::FirstStart));
        let lacking = judged(None, Some(&second), taken(), &now());
        let epoch = second.epoch;
        assert_eq!(lacking, Some(Cause::NoCheckpoint { epoch }));
        // Ended while it opened the third: the checkpoint is still the second's.
        let opening = judged(Some(&checkpoint()), Some(&third), taken(), &now());
        let epoch = third.epoch;
        assert_eq!(opening, Some(Cause::NoCheckpoint { epoch }));
        // The checkpoint is the third's, the log's cut the second's.
        let ahead = Checkpoint {
            version: version("3-1"),
            ..checkpoint()
        };
        let behind = judged(Some(&ahead), Some(&third), taken(), &now());
        assert_eq!(behind, Some(Cause::OtherLog { epoch }));
    }
}
