//! Proof that the demo is what it says it is: by a parser that is not ours, by the bytes of a real server, and by
//! the real decoder behind it.

mod bytes;
mod fire;
mod golden;
mod history;
mod lives;
mod reader;
mod runs;
mod stages;
mod transactions;

use std::sync::Arc;

use super::{DemoServer, DemoSettings, room};

/// Settings without a workload of their own.
fn quiet(rows: u64, seed: u64) -> DemoSettings {
    DemoSettings {
        rows,
        live_share: 0.2,
        rate: 0.0,
        seed,
        ..DemoSettings::default()
    }
}

fn server(rows: u64, seed: u64) -> Arc<DemoServer> {
    DemoServer::start(quiet(rows, seed))
}
