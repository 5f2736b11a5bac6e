//! The backlog: a table like `live.room`, and a binlog full of its updates.

use anyhow::{Context as _, Result, bail, ensure};
use clap::ValueEnum;
use onair_xtask::servers::{Flavor, Options, Server};

use crate::table::{self, Live};

/// Rows of the table. Updates go round and round through them.
pub(super) const KEYS: u64 = 100_000;
/// Rows of a transaction that has many.
const BATCH: u64 = 10_000;
/// Making a backlog should not wait for a disk. What is drained is the same bytes.
pub(super) const SETTINGS: [&str; 5] = [
    "--sync-binlog=0",
    "--innodb-flush-log-at-trx-commit=0",
    "--innodb-buffer-pool-size=256M",
    "--innodb-redo-log-capacity=512M",
    "--binlog-cache-size=8M",
];

/// How rows are put into events and transactions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Shape {
    /// An UPDATE of 10,000 rows a transaction: about 64 rows an event
    ManyRows,
    /// 10,000 UPDATEs of one row a transaction
    OneRowAnEvent,
    /// One UPDATE of one row a transaction
    OneRowATransaction,
}

impl Shape {
    pub const ALL: [Self; 3] = [
        Self::ManyRows,
        Self::OneRowAnEvent,
        Self::OneRowATransaction,
    ];

    pub(super) fn in_words(self) -> &'static str {
        match self {
            Shape::ManyRows => "many rows an event",
            Shape::OneRowAnEvent => "one row an event",
            Shape::OneRowATransaction => "one row a transaction",
        }
    }
}

/// Where a backlog begins in the binlog.
#[derive(Debug)]
pub(super) struct Begin {
    pub(super) file: String,
    pub(super) position: u64,
    /// Executed before it: one transaction in which nothing happened, since not everybody can begin with none.
    pub(super) executed: String,
}

/// A backlog that is there.
#[derive(Debug)]
pub(super) struct Backlog {
    pub(super) shape: Shape,
    /// Percent of the rows that are in the feed.
    pub(super) live: u64,
    /// Of the table.
    pub(super) columns: usize,
    pub(super) rows: u64,
    /// Of those in the feed.
    pub(super) touching: u64,
    pub(super) transactions: u64,
    pub(super) bytes: u64,
    pub(super) begin: Begin,
}

pub(super) fn server() -> Result<Server> {
    let options = Options {
        extra_args: SETTINGS.map(str::to_owned).to_vec(),
        ..Options::default()
    };
    Server::start_own(Flavor::Mysql97, options)
}

/// Makes the table, outside of the binlog. `live` percent of its rows are in the feed.
pub(super) fn create(server: &Server, live: u64, columns: usize) -> Result<()> {
    table::create(server, KEYS, Live::Percent(live), columns)?;
    server.sql(&format!(
        "SET sql_log_bin = 0;
         DELIMITER //
         CREATE PROCEDURE live.one_by_one(IN total INT, IN batch INT)
         BEGIN
           DECLARE done INT DEFAULT 0;
           WHILE done < total DO
             IF done % batch = 0 THEN START TRANSACTION; END IF;
             UPDATE live.room SET area_id = area_id + 1 WHERE id = 1 + done % {KEYS};
             SET done = done + 1;
             IF done % batch = 0 OR done = total THEN COMMIT; END IF;
           END WHILE;
         END//
         CREATE PROCEDURE live.together(IN total INT, IN batch INT)
         BEGIN
           DECLARE done INT DEFAULT 0;
           WHILE done < total DO
             UPDATE live.room SET area_id = area_id + 1
               WHERE id BETWEEN 1 + done % {KEYS} AND LEAST(batch, total - done) + done % {KEYS};
             SET done = done + batch;
           END WHILE;
         END//
         DELIMITER ;"
    ))?;
    Ok(())
}

impl Backlog {
    /// Empties the binlog and fills it again.
    pub(super) fn make(
        server: &Server,
        shape: Shape,
        (live, columns): (u64, usize),
        rows: u64,
    ) -> Result<Self> {
        let (call, transactions) = match shape {
            Shape::ManyRows => (
                format!("live.together({rows}, {BATCH})"),
                rows.div_ceil(BATCH),
            ),
            Shape::OneRowAnEvent => (
                format!("live.one_by_one({rows}, {BATCH})"),
                rows.div_ceil(BATCH),
            ),
            Shape::OneRowATransaction => (format!("live.one_by_one({rows}, 1)"), rows),
        };
        let begin = begin(server)?;
        server.sql(&format!("CALL {call};"))?;
        let executed = server.sql("SELECT @@gtid_executed")?;
        let last = executed.trim().rsplit([':', '-']).next();
        let last: u64 = last
            .and_then(|n| n.parse().ok())
            .with_context(|| executed.clone())?;
        ensure!(
            last == transactions,
            "{transactions} were meant, {executed} is there"
        );
        let listed = server.sql("SHOW BINARY LOGS")?;
        let sizes = listed
            .lines()
            .filter_map(|line| line.split('\t').nth(1)?.parse::<u64>().ok());
        Ok(Backlog {
            shape,
            live,
            columns,
            rows,
            touching: touching(rows, live),
            transactions,
            bytes: sizes.sum(),
            begin,
        })
    }
}

/// Empties the binlog.
fn begin(server: &Server) -> Result<Begin> {
    let status = server.sql(
        "RESET BINARY LOGS AND GTIDS;
         SET gtid_next = '00000000-0000-0000-0000-000000000001:1';
         BEGIN; COMMIT;
         SET gtid_next = 'AUTOMATIC';
         SHOW BINARY LOG STATUS;",
    )?;
    let fields: Vec<&str> = status.trim_end().split('\t').collect();
    let &[file, position, .., executed] = &fields[..] else {
        bail!("SHOW BINARY LOG STATUS says {status:?}");
    };
    Ok(Begin {
        file: file.to_owned(),
        position: position.parse().with_context(|| status.clone())?,
        executed: executed.to_owned(),
    })
}

/// How many of the updates hit a row of the feed: those whose key leaves less than `live` modulo 100.
fn touching(rows: u64, live: u64) -> u64 {
    // Among the keys from 1 to `keys`: of each whole hundred `live`, of the rest those from 1 to `live` - 1.
    let of = |keys: u64| keys / 100 * live + (keys % 100).min(live - 1);
    rows / KEYS * of(KEYS) + of(rows % KEYS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn updates_of_the_feed_are_counted() {
        for live in [1, 2, 50, 99, 100] {
            for rows in [0, 1, 99, 100, 101, 250, KEYS - 1, KEYS, 3 * KEYS + 150] {
                let is_live = |at: &u64| (1 + at % KEYS) % 100 < live;
                let counted = (0..rows).filter(is_live).count() as u64;
                assert_eq!(touching(rows, live), counted, "{rows} rows, {live} %");
            }
        }
    }
}
