//! `onair bench latency`: from the moment at which a transaction should be sent to the client's callback with its row,
//! beside the same until the server acknowledges its commit.
//!
//! `onair up` runs as a process of its own on a server with durable commits; the client is in this process.

use anyhow::{Context as _, Result};
use onair_xtask::servers::{Flavor, Options, Server};
use serde_json::json;
use tempfile::TempDir;

use crate::harness::{
    Beside, Bound, Case, Figure, Measuring, Of, Program, Report, Role, Run, Target,
};
use crate::load::{Client, DISCARDED, Load, Ran};
use crate::process::OnAir;
use crate::table;

/// Until the server says that a transaction is committed; until the client's callback.
pub(crate) const ACKNOWLEDGED: &str = "to the commit's acknowledgement";
pub(crate) const SEEN: &str = "to the client's callback";

/// How fast, and how long.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  cargo run --release --features bench -- bench latency --seconds 30"
)]
pub struct LatencyArgs {
    /// Transactions a second; may be given again for more
    #[arg(long, value_delimiter = ',', default_values_t = [100, 1_000, 3_000], value_parser = clap::value_parser!(u32).range(1..))]
    rates: Vec<u32>,
    /// Length of a run; its first second does not count
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(2..=600))]
    seconds: u32,
    /// Rows that are live already
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    live: u64,
    #[command(flatten)]
    pub measuring: Measuring,
}

/// Measures.
pub fn run(args: &LatencyArgs) -> Result<()> {
    let measuring = &args.measuring;
    let rates = measuring.size(&args.rates[..], &[100]);
    let seconds = measuring.size(args.seconds, 3);
    // As users have it: every commit is on the disk before it is acknowledged.
    let server = Server::start_own(Flavor::Mysql97, Options::default())?;
    let mut report = Report::begin(
        "latency",
        measuring,
        rates.len(),
        json!({ "onair": env!("CARGO_PKG_VERSION"), "mysql": table::version(&server)? }),
        json!({
            "rates": rates, "seconds": seconds, "discarded_seconds": DISCARDED.as_secs(), "live": args.live,
            "server": ["sync_binlog=1", "innodb_flush_log_at_trx_commit=1"],
        }),
    )?;
    table::create(&server, args.live, table::Live::All, 6)?;
    let dir = TempDir::new()?;
    let url = table::account(&server)?;
    let mut onair = OnAir::of(std::env::current_exe()?, &url, dir.path())?;
    onair.place(measuring.placed());
    onair.start()?;
    for &rate in rates {
        let load = Load {
            rate,
            seconds,
            closes: false,
            database: "live",
        };
        let once = || {
            let mut client = Client::connect(onair.address())?;
            let watch = || onair.watch();
            let (ran, watch) = load
                .run(&server, &url, &mut client, watch)
                .with_context(|| onair.log_tail())?;
            Ok(with(watch.stop(ran.count, &[])?, ran))
        };
        report.measure(case(rate, once))?;
    }
    onair.stop()?;
    report.end()?;
    Ok(())
}

/// The latencies of a run beside what it cost.
pub(crate) fn with(run: Run, ran: Ran) -> Run {
    run.with_counts(&[("latest send in us", ran.latest_send.as_micros() as u64)])
        .with_latencies(ACKNOWLEDGED, ran.acknowledged)
        .with_latencies(SEEN, ran.seen)
}

/// Floor and ours are of the same runs.
fn case<'a>(rate: u32, once: impl FnMut() -> Result<Run> + 'a) -> Case<'a> {
    const ONAIR: &str = "onair up";
    let acknowledged = Of::new(ONAIR, Figure::Latency(ACKNOWLEDGED, 0.99));
    let seen = Figure::Latency(SEEN, 0.99);
    let programs = vec![Program::new(ONAIR, Role::Ours, once)];
    Case {
        targets: vec![Target {
            ours: Of::new(ONAIR, seen),
            beside: Beside::Best(vec![acknowledged.clone()]),
            bound: Bound::TimesTheCost(1.5),
        }],
        noise: Some(acknowledged),
        ..Case::new(
            format!("latency, {rate} transactions a second"),
            "transaction",
            seen,
            programs,
        )
    }
}
