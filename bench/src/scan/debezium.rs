//! Debezium's engine, which takes a snapshot of the live rows: `cargo xtask peers` builds it.

use std::collections::BTreeMap;
use std::process::Command;

use anyhow::{Context as _, Result};
use onair_xtask::peers::Peer;
use onair_xtask::servers::Server;
use serde_json::json;

use super::LIVE_ROWS;
use crate::harness::child::{self, Placed};
use crate::harness::{Measuring, Run};
use crate::table;

/// As fast as it gets: rows in the format that it has them in, TLS and what else costs and is not used off.
pub(super) const NAME: &str = "Debezium's snapshot, at its best";

/// Snapshots for its compiler before the one that counts, for so long. It takes one after another.
const WARM_SECONDS: u32 = 15;

/// Or why it cannot be run.
pub(super) fn command(server: &Server, measuring: &Measuring) -> Result<Command, String> {
    let mut command = Peer::Debezium.command()?;
    let job = json!({ "snapshot": {
        "host": server.host(), "port": server.port(), "user": "bench", "password": "bench",
        "database": "live", "table": "room", "live_when": table::LIVE_WHEN,
        "settings": "best", "warm_seconds": measuring.size(WARM_SECONDS, 0),
    }});
    command.arg(job.to_string());
    Ok(command)
}

/// From the start of the engine, which knows nothing of the table yet, to the last row.
pub(super) fn run(command: &Command, rows: u64, placed: Placed) -> Result<Run> {
    let run = child::run(command, placed)?;
    let live = run.counts.get("rows").context("it counted no rows")?;
    Ok(Run {
        counts: BTreeMap::from([(LIVE_ROWS.to_owned(), *live)]),
        // As everybody's here: of the table.
        units: rows,
        ..run
    })
}
