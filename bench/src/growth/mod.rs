//! `onair bench growth`: what a commit costs where many rows are live, or many subscribe, beside the same where few do.

mod assembly;
mod reading;

use anyhow::Result;
use serde_json::json;
use tempfile::TempDir;

pub use self::assembly::Assembling;
pub use self::reading::Reading;
use crate::fanout;
use crate::fold::{self, Folder, Into};
use crate::harness::child::Job;
use crate::harness::{Bound, Case, Figure, Measuring, Of, Program, Report, Role, Target};
use crate::sdk::{self, Data, Holder, Task};

/// How many rows, and how often.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  cargo run --release --features bench -- bench growth --rounds 3"
)]
pub struct GrowthArgs {
    /// Live rows, ascending: the first are the measure for the others
    #[arg(long, value_delimiter = ',', default_values_t = [10_000, 100_000, 2_000_000], value_parser = clap::value_parser!(u64).range(1_000..=10_000_000))]
    rows: Vec<u64>,
    /// Subscribers, ascending
    #[arg(long, value_delimiter = ',', default_values_t = [1, 1_000, 10_000], value_parser = clap::value_parser!(u32).range(1..=50_000))]
    subscribers: Vec<u32>,
    #[command(flatten)]
    pub(crate) measuring: Measuring,
}

/// Who takes the commits.
#[derive(Clone, Copy)]
enum Stage {
    Reader,
    Merger,
    Server,
    Sdk,
}

/// A commit costs at most so many times what it costs where few rows are live.
const FLAT: f64 = 2.0;

/// Measures.
pub fn run(args: &GrowthArgs) -> Result<()> {
    let measuring = &args.measuring;
    let sizes = measuring.size(&args.rows[..], &[1_000, 10_000]);
    let subscribers: Vec<usize> = args.subscribers.iter().map(|n| *n as usize).collect();
    let subscribers = measuring.size(&subscribers[..], &[1, 20]);
    let stages = [Stage::Reader, Stage::Merger, Stage::Server, Stage::Sdk];
    let mut report = Report::begin(
        "growth",
        measuring,
        stages.len() + 1,
        json!({ "onair": env!("CARGO_PKG_VERSION") }),
        json!({ "rows": sizes, "subscribers": subscribers }),
    )?;
    let dir = TempDir::new()?;
    Report::say("making the rows");
    let data = sizes.iter().map(|rows| Data::make(dir.path(), *rows));
    let data: Vec<Data> = data.collect::<Result<_>>()?;
    for stage in stages {
        let job = |at: usize| stage.job(measuring, sizes[at], &data[at], dir.path());
        report.measure(case(stage, measuring, sizes, job))?;
    }
    report.measure(fanout::many(measuring, subscribers)?)?;
    report.end()?;
    Ok(())
}

fn case<'a>(
    stage: Stage,
    measuring: &'a Measuring,
    sizes: &[u64],
    job: impl Fn(usize) -> Job,
) -> Case<'a> {
    let name = |rows: &u64| format!("{rows} live rows");
    let last = sizes.len() - 1;
    let program = |(at, rows): (usize, &u64)| {
        let role = match at {
            0 => Role::Floor,
            at if at == last => Role::Ours,
            _ => Role::Peer,
        };
        let job = job(at);
        Program::new(name(rows), role, move || job.run(measuring.placed()))
    };
    let programs = sizes.iter().enumerate().map(program).collect();
    let first = Of::new(name(&sizes[0]), Figure::Cpu);
    let flat = |rows: &u64| {
        Target::beside(
            name(rows),
            [&first.program],
            Figure::Cpu,
            Bound::TimesTheCost(FLAT),
        )
    };
    Case {
        targets: sizes[1..].iter().map(flat).collect(),
        ..Case::new(
            format!("growth, {}", stage.in_words()),
            "commit",
            Figure::Cpu,
            programs,
        )
    }
}

impl Stage {
    fn in_words(self) -> &'static str {
        match self {
            Stage::Reader => "the reader: a transaction's events, a record and a cut",
            Stage::Merger => "the merger: 1,000 commits of one row a second into redb",
            Stage::Server => "the server's assembly: a record, a cut, a frame",
            Stage::Sdk => "the SDK: a frame that takes one row off and puts one on",
        }
    }

    fn job(self, measuring: &Measuring, rows: u64, data: &Data, dir: &std::path::Path) -> Job {
        match self {
            Stage::Reader => Job::Read(Reading {
                rows,
                commits: measuring.size(50_000, 1_000),
            }),
            Stage::Merger => Job::Fold(fold::Work {
                folder: Folder::Ours,
                into: Into::Redb(dir.to_owned()),
                events: measuring.size(15_000, 1_000),
                live: rows,
                rate: Some(1_000),
            }),
            Stage::Server => Job::Assemble(Assembling {
                rows,
                commits: measuring.size(50_000, 1_000),
            }),
            Stage::Sdk => Job::Sdk(sdk::Work {
                holder: Holder::Ours,
                task: Task::Follow {
                    deltas: measuring.size(50_000, 500),
                    half: 1,
                },
                data: data.clone(),
            }),
        }
    }
}
