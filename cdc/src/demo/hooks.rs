//! What the demo server can be told to do late, and how often it did.
//!
//! MySQL commits in stages: the GTID is assigned and the transaction written to the binlog, from where the
//! dump thread may send it; then the engine commits and SELECT sees it; then the GTID joins `gtid_executed`
//! and leaves `gtid_owned`. Each stage can be late on its own, and a reader must be right in all orders.

use std::time::Duration;

use rand::RngExt;
use rand::rngs::Xoshiro256PlusPlus;

/// How late a stage is: with `chance` between `least` and `most`, else not at all.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Delay {
    /// 0 is never, 1 is always.
    pub chance: f64,
    /// The shortest.
    pub least: Duration,
    /// The longest.
    pub most: Duration,
}

/// In which order engine commits become visible.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum CommitOrder {
    /// As in the binlog: `binlog_order_commits=ON`, the default of MySQL.
    #[default]
    Binlog,
    /// Any, as far as row locks allow: `binlog_order_commits=OFF`.
    Any,
}

/// What connections to the server are worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Network {
    /// They work.
    #[default]
    Up,
    /// Open ones are broken, new ones refused.
    Down,
    /// Nothing comes over them any more, and nobody says so.
    Hung,
}

/// All delays of a server. The default is none.
#[derive(Clone, Copy, Debug, PartialEq, Default)]
pub struct Hooks {
    /// From the binlog to SELECT: meanwhile the stream is ahead of every SELECT.
    pub visible_delay: Delay,
    /// From SELECT to `gtid_executed`: meanwhile SELECT is ahead of it, and only `gtid_owned` tells.
    pub executed_delay: Delay,
    /// From the binlog to the dump thread: meanwhile SELECT and `gtid_executed` are ahead of the stream.
    pub stream_delay: Delay,
    /// Before and after each step of a scan, and between the statements that read rows.
    pub scan_delay: Delay,
    /// How engine commits are ordered.
    pub order: CommitOrder,
}

/// How often each thing happened since the server started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Counts {
    /// Transactions committed.
    pub transactions: u64,
    /// Transactions rolled back, of which nothing shows anywhere.
    pub rollbacks: u64,
    /// Transactions that were in the binlog before SELECT could see them.
    pub visible_delayed: u64,
    /// Transactions that SELECT saw before `gtid_executed` had them.
    pub executed_delayed: u64,
    /// Transactions that the stream got late.
    pub stream_delayed: u64,
    /// Late engine commits that a later transaction on the same row had to wait for; they were made at once.
    pub lock_conflicts: u64,
    /// Scans that were asked for.
    pub scans: u64,
    /// Statements that read rows for a scan, each with a view of its own.
    pub views: u64,
    /// Views that did not see a transaction which the stream had sent already.
    pub views_behind_stream: u64,
    /// Views that saw a transaction which was not in `gtid_executed` yet.
    pub views_ahead_of_executed: u64,
    /// Views that saw a transaction which the stream had not sent yet.
    pub views_ahead_of_stream: u64,
    /// Scans that had to wait before reading, because a delivered transaction was not executed yet.
    pub scan_waits: u64,
    /// Scans whose `high` holds a transaction that only `gtid_owned` named.
    pub highs_from_owned: u64,
    /// Pauses made before, after and between the steps of scans.
    pub scan_pauses: u64,
    /// Binlog files dropped because the history was full.
    pub files_purged: u64,
}

impl Delay {
    /// Never late.
    pub const NONE: Delay = Delay {
        chance: 0.0,
        least: Duration::ZERO,
        most: Duration::ZERO,
    };

    /// Always late by `by`.
    pub const fn always(by: Duration) -> Self {
        Delay {
            chance: 1.0,
            least: by,
            most: by,
        }
    }

    /// With `chance` late, by up to `most`.
    pub const fn sometimes(chance: f64, most: Duration) -> Self {
        Delay {
            chance,
            least: Duration::ZERO,
            most,
        }
    }

    pub(super) fn draw(&self, random: &mut Xoshiro256PlusPlus) -> Duration {
        if self.chance <= 0.0 || !random.random_bool(self.chance.min(1.0)) {
            return Duration::ZERO;
        }
        let (least, most) = (self.least.as_micros() as u64, self.most.as_micros() as u64);
        Duration::from_micros(random.random_range(least..=most.max(least)))
    }
}

impl Default for Delay {
    fn default() -> Self {
        Delay::NONE
    }
}
