//! `onair bench NAME`.

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, Subcommand};

use crate::harness::child::{Job, Placed};
use crate::{all, compare, decode, fanout, fold, growth, latency, page, scan, sdk};
#[cfg(feature = "engines")]
use crate::{engines, headline};

/// `bench`.
#[derive(Debug, Args)]
#[command(
    after_help = "Each bench starts a MySQL server of its own, runs its programs in turns (floor, peers, ours, peers,\nours, floor), prints medians beside the noise bar and writes DIR/NAME/result.json. What the figures\nmean, and what they do not: docs/performance.md. The peers need a build with --features peers."
)]
pub struct BenchArgs {
    #[command(subcommand)]
    name: Name,
}

#[derive(Debug, Subcommand)]
enum Name {
    /// Every bench in turn, and the page of all results
    All(all::AllArgs),
    /// Draining a backlog of the binlog, beside mysql_cdc and mysql_async
    Decode(decode::DecodeArgs),
    /// Folding events into base shards, beside a lightweight transaction an event
    Fold(fold::FoldArgs),
    /// What a commit costs where many rows are live
    Growth(growth::GrowthArgs),
    /// From a commit to the client's callback, beside the commit's own acknowledgement
    Latency(latency::LatencyArgs),
    /// A pass over the live rows of a large table, beside bare SELECTs
    Scan(scan::ScanArgs),
    /// Updates and snapshots to thousands of subscribers, beside write(), tonic + prost and grpc-go
    Fanout(fanout::FanoutArgs),
    /// What a server holds for each subscriber, beside tonic + prost and grpc-go
    Memory(fanout::MemoryArgs),
    /// One subscriber that stops reading, and all others
    Slow(fanout::SlowArgs),
    /// Thousands of clients ask for a large snapshot within a second, beside write() and tonic + prost
    Storm(fanout::StormArgs),
    /// OnAir on a real Kafka and a real Cassandra: latency, takeovers
    #[cfg(feature = "engines")]
    Engines(engines::EnginesArgs),
    /// From a commit to the last of a thousand replicas, beside polling by SQL
    #[cfg(feature = "engines")]
    Headline(headline::HeadlineArgs),
    /// What a replica costs the process that holds it, beside bare maps
    Sdk(sdk::SdkArgs),
    /// What became better or worse between two folders of results; exit code 3 on a regression
    Compare(compare::CompareArgs),
    /// The page of all results in a folder
    Report {
        /// Folder of results
        #[arg(default_value = "bench-results")]
        dir: PathBuf,
    },
    /// One run of one program, as this binary starts itself
    #[command(hide = true)]
    Program { job: String },
}

impl Name {
    /// Where this process and the servers run. Programs under test are placed by those who start them.
    fn placed(&self) -> Placed {
        match self {
            Name::Decode(args) => args.measuring.placed(),
            Name::Latency(args) => args.measuring.placed(),
            Name::Fold(args) => args.measuring.placed(),
            Name::Growth(args) => args.measuring.placed(),
            Name::Scan(args) => args.measuring.placed(),
            Name::Fanout(args) => args.measuring.placed(),
            Name::Memory(args) => args.measuring.placed(),
            Name::Slow(args) => args.measuring.placed(),
            Name::Storm(args) => args.measuring.placed(),
            Name::Sdk(args) => args.measuring.placed(),
            #[cfg(feature = "engines")]
            Name::Engines(args) => args.measuring.placed(),
            #[cfg(feature = "engines")]
            Name::Headline(args) => args.measuring.placed(),
            Name::All(_) | Name::Compare(_) | Name::Report { .. } | Name::Program { .. } => {
                Placed::Anywhere
            }
        }
    }
}

/// Measures, prints and writes down. Whether all is well: `false` when a comparison found something worse.
pub fn run(args: &BenchArgs) -> Result<bool> {
    args.name.placed().begin()?;
    match &args.name {
        Name::All(args) => all::run(args)?,
        Name::Decode(args) => decode::run(args)?,
        Name::Fold(args) => fold::run(args)?,
        Name::Growth(args) => growth::run(args)?,
        Name::Latency(args) => latency::run(args)?,
        Name::Scan(args) => scan::run(args)?,
        Name::Fanout(args) => fanout::run(args)?,
        Name::Memory(args) => fanout::run_memory(args)?,
        Name::Slow(args) => fanout::run_slow(args)?,
        Name::Storm(args) => fanout::run_storm(args)?,
        #[cfg(feature = "engines")]
        Name::Engines(args) => engines::run(args)?,
        #[cfg(feature = "engines")]
        Name::Headline(args) => headline::run(args)?,
        Name::Sdk(args) => sdk::run(args)?,
        Name::Compare(args) => return compare::run(args),
        Name::Report { dir } => println!("{}", page::write(dir)?.display()),
        Name::Program { job } => serde_json::from_str::<Job>(job)?.run_here()?,
    }
    Ok(true)
}
