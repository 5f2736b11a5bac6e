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
/// What clients get.
pub const COLUMNS: [&str; 4] = ["uid", "area_id", "title", "live_time"];

/// As `onair` has it where nothing is said.
const BUCKETS: NonZeroU16 = NonZeroU16::new(16).expect("not zero");

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

/// Makes the account that everybody logs in with, and gives its URL. It has a password: `mysql_cdc` sends one always.
pub fn account(server: &Server) -> Result<String> {
    const GRANTS: [&str; 3] = [
        "REPLICATION SLAVE ON *.*",
        "REPLICATION CLIENT ON *.*",
        "SELECT, INSERT ON live.*",
    ];
    server.create_user("bench", "bench", &GRANTS)?;
    Ok(server.url("bench:bench", "live"))
}

/// Of the server.
pub fn version(server: &Server) -> Result<String> {
    Ok(server.sql("SELECT VERSION()")?.trim().to_owned())
}
