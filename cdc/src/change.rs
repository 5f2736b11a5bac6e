//! What the decoder makes of the binlog: transactions, and what they did to the keys of each feed.

use onair_model::{Gtid, Key, Row};

use crate::barrier::Barrier;

/// What one transaction did to one key of one feed, net: the live row before and after it.
/// `None` is "not live". Never both `None`, never equal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyChange {
    /// The key.
    pub key: Key,
    /// Its row before the transaction, if it was live.
    pub before: Option<Row>,
    /// Its row after the transaction, if it is live.
    pub after: Option<Row>,
}

/// One committed transaction, in binlog order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transaction {
    /// Its id.
    pub gtid: Gtid,
    /// When the source committed it, microseconds since 1970 (MariaDB: whole seconds).
    pub commit_time: i64,
    /// CRC-32 over the bodies of all its events (with their kinds and sizes): tells a GTID used twice.
    pub fingerprint: u32,
    /// Net changes by feed index, ascending; feeds that it did not change are absent. Changes by ascending key.
    pub changes: Vec<(usize, Vec<KeyChange>)>,
}

/// What the stream says next, for the reader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A transaction was committed, whether or not it changed a feed.
    Transaction(Transaction),
    /// The content of a captured table may have changed without row events, or what happened cannot be known:
    /// the epoch ends here. The transaction that caused it, if it has a GTID, counts as delivered.
    Barrier {
        /// The transaction that caused it.
        gtid: Option<Gtid>,
        /// What happened, to which table.
        reason: Barrier,
    },
    /// The source says that nothing else is to be had now, and its time (microseconds since 1970, if it gave one).
    Heartbeat,
}
