//! `live.room` as the benches have it, and the feed over it.

use std::num::NonZeroU16;

use anyhow::Result;
use onair_cdc::feed::{FeedConfig, TableName};
use onair_model::Buckets;
use onair_xtask::servers::Server;

/// Where `live_status` stands among the table's columns.
pub const LIVE_STATUS_AT: usize = 4;
/// When a row is live.
pub const LIVE_WHEN: &str = "live_status = 1";
/// Databases of others who are measured beside us, each with a table of its own like ours.
pub const BESIDE: [&str; 2] = ["beside_1", "beside_2"];
/// What clients get.
pub const COLUMNS: [&str; 4] = ["uid", "area_id", "title", "live_time"];

/// As `onair` has it where nothing is said.
const BUCKETS: NonZeroU16 = NonZeroU16::new(16).expect("not zero");

/// Which of its rows are live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Live {
    All,
    /// One in so many.
    OneIn(u64),
    /// So many of each hundred.
    Percent(u64),
}

/// Columns beside the six, for tables that are wide: of four kinds in turn.
const MORE: [(&str, &str); 4] = [
    ("BIGINT NOT NULL", "n"),
    (
        "VARCHAR(40) CHARACTER SET utf8mb4 NOT NULL",
        "'a few words'",
    ),
    ("DATETIME(3) NULL", "'2026-11-22 10:00:00.123'"),
    ("DECIMAL(12,2) NOT NULL", "n / 100"),
];

/// Makes the database `live` and its table anew, outside of the binlog, with keys from 1 to `rows` and `columns`
/// columns, six or more.
pub fn create(server: &Server, rows: u64, live: Live, columns: usize) -> Result<()> {
    create_in(server, "live", rows, live, columns)
}

/// The same in another database.
pub fn create_in(
    server: &Server,
    database: &str,
    rows: u64,
    live: Live,
    columns: usize,
) -> Result<()> {
    let live = match live {
        Live::All => "1".to_owned(),
        Live::OneIn(step) => format!("n % {step} = 0"),
        Live::Percent(share) => format!("n % 100 < {share}"),
    };
    let more = (6..columns).map(|at| (format!("more_{at}"), MORE[at % MORE.len()]));
    let more: Vec<(String, (&str, &str))> = more.collect();
    let defined: String = more
        .iter()
        .map(|(name, (kind, _))| format!(", {name} {kind}"))
        .collect();
    let named: String = more.iter().map(|(name, _)| format!(", {name}")).collect();
    let values: String = more
        .iter()
        .map(|(_, (_, value))| format!(", {value}"))
        .collect();
    server.sql(&format!(
        "SET sql_log_bin = 0;
         DROP DATABASE IF EXISTS {database};
         CREATE DATABASE {database};
         CREATE TABLE {database}.room (
           uid         BIGINT UNSIGNED NOT NULL,
           id          BIGINT UNSIGNED NOT NULL PRIMARY KEY,
           area_id     INT NOT NULL,
           title       VARCHAR(120) CHARACTER SET utf8mb4 NOT NULL,
           live_status TINYINT NOT NULL,
           live_time   DATETIME(6) NULL{defined}
         );
         SET SESSION cte_max_recursion_depth = {rows};
         INSERT INTO {database}.room (uid, id, area_id, title, live_status, live_time{named})
         WITH RECURSIVE room (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM room WHERE n < {rows})
         SELECT 1000000 + n * 7, n, n % 40, CONCAT('Late night jazz and tea, ', LPAD(n, 7, '0')),
                {live}, '2026-11-22 10:00:00.123456'{values}
         FROM room;
         ANALYZE TABLE {database}.room;"
    ))?;
    Ok(())
}

/// The feed that every bench has.
pub fn feed() -> FeedConfig {
    FeedConfig {
        name: "room".into(),
        table: TableName {
            database: "live".into(),
            table: "room".into(),
        },
        live_when: LIVE_WHEN.to_owned(),
        columns: COLUMNS.map(str::to_owned).to_vec(),
        buckets: Buckets::new(BUCKETS),
    }
}

/// What an account may do.
pub(crate) const GRANTS: [&str; 6] = [
    "REPLICATION SLAVE ON *.*",
    "REPLICATION CLIENT ON *.*",
    "SELECT, INSERT, UPDATE ON live.*",
    "SELECT, INSERT, UPDATE ON beside_1.*",
    "SELECT, INSERT, UPDATE ON beside_2.*",
    // Debezium's, for its lock while it reads the schema.
    "RELOAD ON *.*",
];

/// Makes the account that everybody logs in with, and gives its URL. It has a password: `mysql_cdc` sends one always.
pub fn account(server: &Server) -> Result<String> {
    server.create_user("bench", "bench", &GRANTS)?;
    Ok(server.url("bench:bench", "live"))
}

/// Of the server.
pub fn version(server: &Server) -> Result<String> {
    Ok(server.sql("SELECT VERSION()")?.trim().to_owned())
}
