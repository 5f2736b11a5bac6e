//! `onair bench fold`: what it costs to keep base shards up to date, beside a lightweight transaction an event.
//!
//! The merger as the product has it reads from a log in memory and folds into a file (redb) and into Cassandra. The
//! database does much of the work, so its CPU is added to the program's.

mod counted;
#[cfg(feature = "scylla")]
mod lwt;
pub(crate) mod stream;
mod work;

use std::num::NonZeroU16;
use std::path::Path;

use anyhow::Result;
use onair_model::Buckets;
#[cfg(feature = "scylla")]
use onair_xtask::servers::Cassandra;
use serde_json::json;
use tempfile::TempDir;

use self::work::HEADS;
pub use self::work::{Folder, Into, Work};
use crate::harness::child::Job;
use crate::harness::{
    Beside, Bound, Case, Figure, Measuring, Of, Program, Report, Role, Run, Target,
};

/// Of the feed.
pub(crate) const BUCKETS: Buckets = Buckets::new(NonZeroU16::new(64).expect("not zero"));

/// How much.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  cargo run --release --features bench,scylla -- bench fold\n\nCassandra is in builds with the feature `scylla`; it is fetched and started. Without it what needs it is\nprinted as NOT RUN."
)]
pub struct FoldArgs {
    /// Events that are drained
    #[arg(long, default_value_t = 1_000_000)]
    events: u64,
    /// Seconds of each paced run
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(5..=3_600))]
    seconds: u64,
    #[command(flatten)]
    pub(crate) measuring: Measuring,
}

const CASSANDRA: &str = "onair into Cassandra";
const REDB: &str = "onair into redb";
const EACH_EVENT: &str = "an LWT an event";
const EACH_BATCH: &str = "an LWT for 100 events";

/// Events a second, and what a head's compare-and-set may be an event at most.
const PACES: [(u64, f64); 2] = [(10_000, 0.001), (1_000, 0.01)];

/// Measures.
pub fn run(args: &FoldArgs) -> Result<()> {
    let measuring = &args.measuring;
    let events = measuring.size(args.events, 20_000);
    let seconds = measuring.size(args.seconds, 10);
    let mut report = Report::begin(
        "fold",
        measuring,
        1 + PACES.len(),
        json!({ "onair": env!("CARGO_PKG_VERSION"), "cassandra": node_version() }),
        json!({ "events": events, "seconds": seconds, "buckets": BUCKETS.count() }),
    )?;
    Report::say("starting Cassandra");
    let node = Node::start()?;
    let dir = TempDir::new()?;
    let at = At {
        measuring,
        node: &node,
        dir: dir.path(),
    };
    report.measure(at.drain(events))?;
    for (rate, bound) in PACES {
        report.measure(at.paced(rate, rate * seconds, bound))?;
    }
    report.end()?;
    Ok(())
}

struct At<'a> {
    measuring: &'a Measuring,
    node: &'a Node,
    dir: &'a Path,
}

impl<'a> At<'a> {
    fn redb(&self, events: u64, rate: Option<u64>) -> Program<'a> {
        let work = Work {
            folder: Folder::Ours,
            into: Into::Redb(self.dir.to_owned()),
            events,
            live: 0,
            rate,
        };
        let placed = self.measuring.placed();
        Program::new(REDB, Role::Ours, move || {
            Job::Fold(work.clone()).run(placed)
        })
    }

    fn cassandra(
        &self,
        name: &str,
        role: Role,
        folder: Folder,
        (events, rate): (u64, Option<u64>),
    ) -> Program<'a> {
        let address = match self.node.address() {
            Ok(address) => address,
            Err(reason) => return Program::not_run(name, role, reason),
        };
        let work = Work {
            folder,
            into: Into::Cassandra(address),
            events,
            live: 0,
            rate,
        };
        let (node, placed) = (self.node, self.measuring.placed());
        Program::new(name, role, move || {
            node.billed(|| Job::Fold(work.clone()).run(placed))
        })
    }

    fn drain(&self, events: u64) -> Case<'a> {
        // The others are too slow for as many; the cost of each event stays the same.
        let few = (events / 100).max(2_000);
        let each = (few, None);
        let programs = vec![
            self.cassandra(
                EACH_BATCH,
                Role::Peer,
                Folder::EachBatch,
                (events / 10, None),
            ),
            self.cassandra(EACH_EVENT, Role::Peer, Folder::EachEvent, each),
            self.cassandra(CASSANDRA, Role::Ours, Folder::Ours, (events, None)),
            self.redb(events, None),
        ];
        Case {
            targets: vec![Target::beside(
                CASSANDRA,
                [EACH_EVENT],
                Figure::Cpu,
                Bound::TimesCheaper(50.0),
            )],
            noise: Some(Of::new(CASSANDRA, Figure::Cpu)),
            ..Case::new(
                format!("fold, {events} events at once, 64 buckets"),
                "event",
                Figure::Cpu,
                programs,
            )
        }
    }

    fn paced(&self, rate: u64, events: u64, bound: f64) -> Case<'a> {
        let heads = Figure::Count(HEADS);
        let target = |name: &str| Target {
            ours: Of::new(name, heads),
            beside: Beside::Nothing,
            bound: Bound::TimesTheCost(bound),
        };
        let paced = (events, Some(rate));
        let programs = vec![
            self.cassandra(CASSANDRA, Role::Ours, Folder::Ours, paced),
            self.redb(events, Some(rate)),
        ];
        Case {
            targets: vec![target(CASSANDRA), target(REDB)],
            ..Case::new(
                format!("fold, {rate} events a second, 64 buckets"),
                "event",
                heads,
                programs,
            )
        }
    }
}

/// The Cassandra of all runs, in builds that have a driver for it.
#[derive(Debug)]
struct Node {
    #[cfg(feature = "scylla")]
    own: Cassandra,
}

#[cfg(feature = "scylla")]
impl Node {
    fn start() -> Result<Self> {
        let own = Cassandra::start_own(None)?;
        Ok(Node { own })
    }

    fn address(&self) -> Result<String, String> {
        Ok(self.own.address().to_owned())
    }

    /// The node's CPU is added to what the program says of itself.
    fn billed(&self, run: impl FnOnce() -> Result<Run>) -> Result<Run> {
        use crate::harness::Watch;
        use anyhow::Context as _;
        let pid = self.own.process_id().context("Cassandra is gone")?;
        let watch = Watch::start(pid)?;
        let mut run = run()?;
        let node = watch.stop(run.units, &[])?;
        run.user_seconds += node.user_seconds;
        run.system_seconds += node.system_seconds;
        Ok(run)
    }
}

#[cfg(not(feature = "scylla"))]
impl Node {
    fn start() -> Result<Self> {
        Ok(Node {})
    }

    fn address(&self) -> Result<String, String> {
        Err("this build has no driver for Cassandra (--features scylla)".to_owned())
    }

    fn billed(&self, run: impl FnOnce() -> Result<Run>) -> Result<Run> {
        run()
    }
}

fn node_version() -> Option<&'static str> {
    cfg!(feature = "scylla").then_some("5.0")
}
