//! One pass over the table, in a process of its own.
//!
//! What is measured begins before the first connection for the rows is opened and ends when the last row is there.

use std::sync::Arc;

use anyhow::Result;
use mysql_async::prelude::Queryable as _;
use mysql_async::{Conn, Opts};
use onair_cdc::bind::{FieldNumbers, bind};
use onair_cdc::mysql::{MysqlConfig, MysqlSource};
use onair_cdc::scan::{Control, Settings, scan};
use onair_cdc::source::Source as _;
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

use super::LIVE_ROWS;
use crate::harness::{Meter, Run};
use crate::table;

/// Who reads, and how.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reading {
    /// The SELECT itself, in this many ranges of the primary key at once; rows are thrown away.
    Bare { parallel: u32 },
    /// Our scan: ranges planned, rows encoded and kept.
    Ours { parallel: u32 },
}

/// The live rows of the table, read once.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Pass {
    pub reading: Reading,
    pub url: String,
    /// Rows of the table.
    pub rows: u64,
}

impl Reading {
    pub(super) fn name(&self) -> String {
        match self {
            Reading::Bare { parallel: 1 } => "one SELECT".to_owned(),
            Reading::Bare { parallel } => format!("SELECT in {parallel} ranges"),
            Reading::Ours { parallel } => format!("onair, {parallel} connections"),
        }
    }
}

impl Pass {
    /// Reads, here and now.
    pub fn run(&self) -> Result<Run> {
        // As `onair` runs.
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()?;
        match self.reading {
            Reading::Bare { parallel } => runtime.block_on(self.bare(u64::from(parallel))),
            Reading::Ours { parallel } => runtime.block_on(self.ours(parallel as usize)),
        }
    }

    async fn bare(&self, parallel: u64) -> Result<Run> {
        let opts = Opts::from_url(&self.url)?;
        let meter = Meter::start()?;
        let mut readers = JoinSet::new();
        for part in 0..parallel {
            // The keys are 1 to `rows`.
            let from = 1 + self.rows * part / parallel;
            let to = 1 + self.rows * (part + 1) / parallel;
            let sql = format!(
                "SELECT id, {} FROM live.room WHERE {} AND id >= {from} AND id < {to}",
                table::COLUMNS.join(", "),
                table::LIVE_WHEN,
            );
            readers.spawn(read(opts.clone(), sql));
        }
        let mut live = 0;
        while let Some(read) = readers.join_next().await {
            live += read??;
        }
        meter.stop(self.rows, &[(LIVE_ROWS, live)])
    }

    async fn ours(&self, parallel: usize) -> Result<Run> {
        let url = format!("{}?ssl-mode=disable", self.url);
        let source = MysqlSource::new(MysqlConfig::from_url(&url)?)?;
        let config = table::feed();
        let found = source.table(&config.table).await?;
        let (feed, _) = bind(&config, &found, &FieldNumbers::default())?;
        let delivered = source.identity().await?.executed;
        let settings = Settings {
            parallel,
            max_rate: None,
        };
        let meter = Meter::start()?;
        let scanned = scan(
            &source,
            Arc::new(feed),
            delivered,
            settings,
            Control::default(),
        )
        .await?;
        meter.stop(self.rows, &[(LIVE_ROWS, scanned.rows.len() as u64)])
    }
}

/// By the binary protocol, which is the cheaper one for both sides.
async fn read(opts: Opts, sql: String) -> Result<u64> {
    let mut conn = Conn::new(opts).await?;
    let mut rows = conn.exec_iter(sql, ()).await?;
    let mut count = 0;
    while let Some(row) = rows.next().await? {
        count += u64::from(!row.is_empty());
    }
    drop(rows);
    conn.disconnect().await?;
    Ok(count)
}
