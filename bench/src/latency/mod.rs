//! `onair bench latency`: from the moment at which a transaction should be sent to the client's callback with its row,
//! beside the same until the server acknowledges its commit.
//!
//! Open loop: the times are fixed before a run, and nothing waits for anything before it is sent. `onair up` runs as
//! a process of its own on a server with durable commits; the client is in this process.

mod run;
mod schedule;

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use hdrhistogram::Histogram;
use onair_xtask::servers::{Flavor, Options, Server};
use serde_json::{Value, json};
use tempfile::TempDir;

use self::run::{Latencies, World};
use crate::harness::figures::{differs, spread};
use crate::harness::{Judged, Report};
use crate::process::OnAir;
use crate::table;

/// Our p99 over the commit acknowledgement's.
const TARGET: f64 = 1.5;
const QUANTILES: [(&str, f64); 4] = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999)];
/// A quantile is quoted when at least so many samples lie beyond it.
const BEYOND_MIN: f64 = 10.0;

/// How fast, how long, how often.
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
    /// Runs at each rate, in turns
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Rows that are live already
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    live: u64,
    /// Gets the results
    #[arg(long, value_name = "DIR", default_value = "bench-results")]
    out: PathBuf,
}

/// Measures.
pub fn run(args: &LatencyArgs) -> Result<()> {
    // As users have it: every commit is on the disk before it is acknowledged.
    let server = Server::start_own(Flavor::Mysql97, Options::default())?;
    let mut report = Report::begin(
        "latency",
        &args.out,
        json!({ "onair": env!("CARGO_PKG_VERSION"), "mysql": table::version(&server)? }),
        json!({
            "rates": args.rates, "seconds": args.seconds, "discarded_seconds": schedule::DISCARDED.as_secs(),
            "rounds": args.rounds, "live": args.live,
            "server": ["sync_binlog=1", "innodb_flush_log_at_trx_commit=1"],
        }),
    )?;
    create(&server, args.live)?;
    let dir = TempDir::new()?;
    let url = table::account(&server)?;
    let mut onair = OnAir::of(std::env::current_exe()?, &url, dir.path())?;
    onair.start()?;
    let world = World {
        server: &server,
        url: url.clone(),
        address: onair.address().to_owned(),
    };
    let mut runs: Vec<Vec<Latencies>> = args.rates.iter().map(|_| Vec::new()).collect();
    for round in 1..=args.rounds {
        for (&rate, runs) in args.rates.iter().zip(&mut runs) {
            let rounds = args.rounds;
            Report::say(&format!(
                "latency: round {round} of {rounds}, {rate} transactions a second"
            ));
            let latencies = world
                .run(rate, args.seconds)
                .with_context(|| onair.log_tail())?;
            runs.push(latencies);
        }
    }
    onair.stop()?;
    Report::say("");
    println!(
        "\nlatency from the intended time, the first {} s of each run discarded; nothing lost",
        schedule::DISCARDED.as_secs()
    );
    for (rate, runs) in args.rates.iter().zip(&runs) {
        let (case, target) = judge(*rate, runs)?;
        report.add_raw(case, vec![target]);
    }
    report.end()?;
    Ok(())
}

fn create(server: &Server, live: u64) -> Result<()> {
    server.sql(&format!(
        "CREATE DATABASE live;
         CREATE TABLE live.room (
           uid         BIGINT UNSIGNED NOT NULL,
           id          BIGINT UNSIGNED NOT NULL PRIMARY KEY,
           area_id     INT NOT NULL,
           title       VARCHAR(120) CHARACTER SET utf8mb4 NOT NULL,
           live_status TINYINT NOT NULL,
           live_time   DATETIME(6) NULL
         );
         SET SESSION cte_max_recursion_depth = {live};
         INSERT INTO live.room (uid, id, area_id, title, live_status, live_time)
         WITH RECURSIVE room (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM room WHERE n < {live})
         SELECT 1000000 + n * 7, n, n % 40, CONCAT('Late night jazz and tea, ', n), 1, NOW(6)
         FROM room;"
    ))?;
    Ok(())
}

/// The runs at one rate together: the line on the terminal, the raw figures, the target.
fn judge(rate: u32, runs: &[Latencies]) -> Result<(Value, Judged)> {
    let together = |of: fn(&Latencies) -> &Histogram<u64>| -> Result<Histogram<u64>> {
        let mut sum = run::histogram()?;
        for run in runs {
            sum.add(of(run))?;
        }
        Ok(sum)
    };
    let acknowledged = together(|run| &run.acknowledged)?;
    let seen = together(|run| &run.seen)?;
    println!("\n{rate} transactions a second, {} samples", seen.len());
    println!(
        "  {:<26}{}",
        "",
        QUANTILES.map(|(name, _)| format!("{name:>12}")).concat()
    );
    for (name, histogram) in [
        ("commit acknowledged", &acknowledged),
        ("seen by the client", &seen),
    ] {
        let cells = QUANTILES.map(|(_, at)| match quantile(histogram, at) {
            Some(nanos) => format!("{:>9.2} ms", nanos as f64 / 1e6),
            None => format!("{:>12}", "-"),
        });
        println!("  {name:<26}{}", cells.concat());
    }
    let ratio = |acknowledged: &Histogram<u64>, seen: &Histogram<u64>| {
        let (floor, ours) = (quantile(acknowledged, 0.99)?, quantile(seen, 0.99)?);
        Some(ours as f64 / floor as f64)
    };
    let each: Vec<f64> = runs
        .iter()
        .map(|run| run.acknowledged.value_at_quantile(0.99) as f64)
        .collect();
    let noise = spread(&each);
    let p99 = ratio(&acknowledged, &seen);
    if let (Some(noise), Some(p99)) = (noise, p99) {
        let verdict = if differs(p99, noise) {
            ""
        } else {
            ": no difference"
        };
        println!(
            "  noise bar: {:.0} % between the acknowledgement's p99 of the runs{verdict}",
            noise * 100.0
        );
    }
    let target = Judged {
        name: format!(
            "latency, {rate} transactions a second: our p99 at most {TARGET} times the acknowledgement's"
        ),
        ratio: p99,
        target: TARGET,
        met: p99.map(|ratio| ratio <= TARGET),
    };
    let case = json!({
        "name": format!("{rate} transactions a second"),
        "noise_bar": noise,
        "sent": runs.iter().map(|run| run.sent).collect::<Vec<_>>(),
        "received": runs.iter().map(|run| run.received).collect::<Vec<_>>(),
        "latest_send_ns": runs.iter().map(|run| run.latest_send).max(),
        "acknowledged": raw(&acknowledged),
        "seen": raw(&seen),
        "p99_of_each_run_ns": runs
            .iter()
            .map(|run| json!({
                "acknowledged": quantile(&run.acknowledged, 0.99),
                "seen": quantile(&run.seen, 0.99),
            }))
            .collect::<Vec<_>>(),
    });
    Ok((case, target))
}

/// Nanoseconds; `None` where too few samples lie beyond.
fn quantile(histogram: &Histogram<u64>, at: f64) -> Option<u64> {
    let may_be_quoted = at <= 1.0 - BEYOND_MIN / histogram.len() as f64;
    may_be_quoted.then(|| histogram.value_at_quantile(at))
}

fn raw(histogram: &Histogram<u64>) -> Value {
    let quoted = QUANTILES.map(|(name, at)| (name.to_owned(), json!(quantile(histogram, at))));
    let values = histogram.iter_recorded();
    json!({
        "samples": histogram.len(),
        "quantiles_ns": quoted.into_iter().collect::<serde_json::Map<_, _>>(),
        "histogram_ns": values
            .map(|value| json!([value.value_iterated_to(), value.count_at_value()]))
            .collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_quoted_that_few_samples_lie_beyond() {
        let mut histogram = run::histogram().expect("bounds that make sense");
        for nanos in 1..=999 {
            histogram.record(nanos * 1_000).expect("within the bounds");
        }
        assert_eq!(quantile(&histogram, 0.99), None, "9.99 samples lie beyond");
        histogram.record(1_000_000).expect("within the bounds");
        let p99 = quantile(&histogram, 0.99).expect("10 samples lie beyond");
        assert!(p99.abs_diff(990_000) < 2_000, "{p99}");
        assert_eq!(quantile(&histogram, 0.999), None);
    }
}
