//! The event log: what the reader appends, and merger and server follow.
//!
//! A feed's log has one partition a bucket and one for cuts. Order holds inside a partition and nowhere else.
//! Nothing here decides anything: gaps, repeats and lies are seen by the chain (DESIGN section 3).

#[cfg(feature = "contract")]
pub mod contract;
mod cuts;
pub mod faulty;
#[cfg(feature = "kafka")]
pub mod kafka;
pub mod memory;
#[cfg(feature = "testing")]
pub mod testing;
mod wire;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use onair_model::{Bucket, Buckets, CutRecord, Record};

/// A partition of a feed's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Partition {
    /// The records of one bucket.
    Bucket(Bucket),
    /// The cuts of the feed.
    Cuts,
}

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Partition::Bucket(bucket) => write!(f, "bucket {bucket}"),
            Partition::Cuts => f.write_str("cuts"),
        }
    }
}

/// A place in a partition. Offsets ascend, not always by one, and mean something only in the log of one [`LogId`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Offset(pub u64);

/// Which log this is: a cluster's and topic's identity, or a process's. Heads keep it beside their offset:
/// in another log the offset means nothing and following begins at the start.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LogId(pub Arc<str>);

/// Whether what was appended outlives the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// It does: the checkpoint follows acknowledged appends.
    Durable,
    /// It does not: the checkpoint follows the heads in the store.
    Volatile,
}

/// A feed's log as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// The feed.
    pub feed: Arc<str>,
    /// How many bucket partitions.
    pub buckets: Buckets,
}

/// What one flush of the reader writes to one feed's log: at most one record a bucket (a large one in
/// parts, in order), and one cut.
#[derive(Clone, Debug)]
pub struct Flush {
    /// The feed.
    pub feed: Arc<str>,
    /// Records by bucket.
    pub records: Vec<(Bucket, Record)>,
    /// The cut.
    pub cut: CutRecord,
}

/// One entry of a partition.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Where.
    pub partition: Partition,
    /// Where in it.
    pub offset: Offset,
    /// What.
    pub payload: Payload,
}

/// What stands in an entry.
#[derive(Clone, Debug)]
pub enum Payload {
    /// A bucket record or a part of one.
    Record(Record),
    /// A cut.
    Cut(CutRecord),
    /// Bytes that are neither, or belong to another partition: the reason.
    Garbage(String),
}

/// The offsets of one partition: the first that can be read, and the one that the next entry will get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    /// First offset that can be read.
    pub low: Offset,
    /// Offset after the last entry.
    pub high: Offset,
}

/// Where to follow each partition from, for one who would go on at these offsets: there if it can be read, else at
/// its first entry. What was cut off at the end of a log may have been written again anywhere before `named`.
pub fn places(ends: &[(Partition, Ends)], named: &[Option<Offset>]) -> Vec<(Partition, Offset)> {
    let place = |ends: &Ends, named: &Option<Offset>| {
        let inside = named.filter(|named| (ends.low..=ends.high).contains(named));
        inside.unwrap_or(ends.low)
    };
    let each = ends.iter().zip(named);
    each.map(|((partition, ends), named)| (*partition, place(ends, named)))
        .collect()
}

/// Why the log did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// Following should begin at an offset that is gone, or was never there: reload the head, then follow.
    #[error("feed {feed}, {partition}: offset {} is not in the log any more (first {}, next {}); what is missing comes from the store or is asked for again", .asked.0, .ends.low.0, .ends.high.0)]
    OutOfRange {
        /// The feed.
        feed: Arc<str>,
        /// The partition.
        partition: Partition,
        /// What was asked for.
        asked: Offset,
        /// What there is.
        ends: Ends,
    },
    /// Certainly not done.
    #[error("the log refused: {reason}; nothing was written, it is tried again")]
    Refused {
        /// What it said.
        reason: String,
    },
    /// Perhaps done, perhaps not, perhaps in part: produce everything since the checkpoint again.
    #[error(
        "the log did not answer, what was sent may or may not be in it: {reason}; it is sent again, a repeat is dropped"
    )]
    Unknown {
        /// What it said.
        reason: String,
    },
    /// The log is not the one that it should be; nothing is read or written until an operator has looked.
    #[error("feed {feed}: the log is not as it should be: {reason}; {remedy}")]
    Mismatch {
        /// The feed.
        feed: Arc<str>,
        /// What differs.
        reason: String,
        /// What to do.
        remedy: String,
    },
    /// The feed has no log here.
    #[error("feed {feed} has no log: it was not opened; please report it as a fault of OnAir")]
    NotOpen {
        /// The feed.
        feed: Arc<str>,
    },
}

/// Where the reader appends, and merger and server follow.
#[async_trait]
pub trait EventLog: Send + Sync + fmt::Debug {
    /// Whether appended entries outlive this process.
    fn durability(&self) -> Durability;

    /// What goes wrong at this moment, in a sentence: such as servers that cannot be reached, while calls wait for them.
    fn trouble(&self) -> Option<String> {
        None
    }

    /// How it does at this moment, in words for people: what is under way, how fast it answers, how far followers are
    /// behind. Nothing where there is nothing to wait for.
    fn figures(&self) -> Option<String> {
        None
    }

    /// Makes the feed's log or checks that it is as it should be, and tells which one it is.
    async fn open(&self, layout: &Layout) -> Result<LogId, LogError>;

    /// Appends one flush. `Ok`: all of it is in the log. Between partitions there is no order: a cut may be seen
    /// before records of its own flush. Waits while the log has no room. Flushes stay in order in each partition if
    /// each call begins after the one before has begun; one that failed leaves a hole among them.
    /// Dropping the future: perhaps done, perhaps not, never in part later.
    async fn append(&self, flush: Flush) -> Result<(), LogError>;

    /// The ends of every partition now, cuts last.
    async fn ends(&self, feed: &str) -> Result<Vec<(Partition, Ends)>, LogError>;

    /// Follows these partitions from these offsets on.
    async fn follow(
        &self,
        feed: &str,
        from: &[(Partition, Offset)],
    ) -> Result<Box<dyn Follower>, LogError>;

    /// Takes a share in the work on a feed's partitions, which are divided among all who do.
    async fn share(&self, feed: &str) -> Result<Box<dyn Share>, LogError>;

    /// The newest full cut that the log was ever given, then what newer cuts add to it, in order, as they were or
    /// added up in one; empty when there is none. They outlive the process also where entries do not: what was
    /// shown must be derived again.
    async fn last_cuts(&self, feed: &str) -> Result<Vec<CutRecord>, LogError>;

    /// Entries of this partition below `offset` are folded and may go, where room is short.
    fn release(&self, feed: &str, partition: Partition, offset: Offset);
}

/// A reader's place in some partitions of a feed's log.
#[async_trait]
pub trait Follower: Send {
    /// The next entries, at least one; waits for them. Cancel safe. Entries of one partition are in order.
    /// After an error follow again.
    async fn next(&mut self) -> Result<Vec<Entry>, LogError>;
}

/// One worker's share of a feed's partitions; it goes to the others when this value ends.
///
/// A share is good manners and no right: who works on a partition that is another's by now does no harm, because all
/// that he does is a compare-and-set.
#[async_trait]
pub trait Share: Send {
    /// The partitions that are ours: as soon as that is settled, then whenever it changes. Cancel safe.
    async fn next(&mut self) -> Result<Vec<Partition>, LogError>;
}

/// A share that never changes.
#[derive(Debug)]
pub struct Fixed(Option<Vec<Partition>>);

impl Fixed {
    /// These partitions.
    pub const fn new(partitions: Vec<Partition>) -> Self {
        Fixed(Some(partitions))
    }

    /// All partitions of a layout.
    pub fn whole(buckets: Buckets) -> Self {
        let each = buckets.all().map(Partition::Bucket);
        Fixed::new(each.chain([Partition::Cuts]).collect())
    }
}

#[async_trait]
impl Share for Fixed {
    async fn next(&mut self) -> Result<Vec<Partition>, LogError> {
        match self.0.take() {
            Some(partitions) => Ok(partitions),
            None => std::future::pending().await,
        }
    }
}
