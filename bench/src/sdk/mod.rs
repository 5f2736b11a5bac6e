//! `onair bench sdk`: what a replica costs the process that holds it, beside bare maps.
//!
//! No connection: ours gets the bytes of a server's messages from memory, the others theirs. Each row has an id, a uid,
//! an area and a time: 28 bytes of values.

mod data;
mod hollow;
mod work;

use std::collections::BTreeMap;

use anyhow::Result;
use serde_json::json;
use tempfile::TempDir;

pub(crate) use self::data::Data;
use self::data::PAYLOAD_BYTES;
use self::hollow::Hollow;
pub use self::work::{Holder, Task, Work};
use crate::harness::child::Job;
use crate::harness::{Beside, Bound, Case, Figure, Measuring, Of, Program, Report, Role, Target};

/// How many rows, and how often.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  cargo run --release --features peers -- bench sdk --rows 100000"
)]
pub struct SdkArgs {
    /// Live rows; may be given again for more
    #[arg(long, value_delimiter = ',', default_values_t = [SMALL, LARGE], value_parser = clap::value_parser!(u64).range(10_000..=10_000_000))]
    rows: Vec<u64>,
    /// Only this part; may be given again for more
    #[arg(long, value_enum)]
    part: Vec<Part>,
    #[command(flatten)]
    pub(crate) measuring: Measuring,
}

/// The sizes that targets are for.
const SMALL: u64 = 100_000;
const LARGE: u64 = 2_000_000;

/// More than any of the programs takes.
const TOUCHED: usize = 768 << 20;

/// A comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    Load,
    Lookup,
    Memory,
    Delta,
    Swap,
}

impl Part {
    const ALL: [Part; 5] = [
        Part::Load,
        Part::Lookup,
        Part::Memory,
        Part::Delta,
        Part::Swap,
    ];
}

/// Measures.
pub fn run(args: &SdkArgs) -> Result<()> {
    let measuring = &args.measuring;
    let sizes = measuring.size(&args.rows[..], &[10_000]);
    let parts = match &args.part[..] {
        [] => &Part::ALL,
        asked => asked,
    };
    let mut report = Report::begin(
        "sdk",
        measuring,
        sizes.len() * parts.len(),
        json!({
            "onair": env!("CARGO_PKG_VERSION"), "hashbrown": "0.17", "foldhash": "0.2", "prost": "0.14",
            "dashmap": cfg!(feature = "peers").then_some("6.2"),
        }),
        json!({ "rows": sizes, "payload_bytes_a_row": PAYLOAD_BYTES, "changes_a_delta": 2 * data::HALF }),
    )?;
    let dir = TempDir::new()?;
    for &rows in sizes {
        Report::say(&format!("making {rows} rows"));
        let at = At {
            measuring,
            data: Data::make(dir.path(), rows)?,
            hollow: Hollow::new(measuring, rows),
        };
        for part in parts {
            report.measure(match part {
                Part::Load => at.load(),
                Part::Lookup => at.lookup(),
                Part::Memory => at.memory(),
                Part::Delta => at.delta(),
                Part::Swap => at.swap(),
            })?;
        }
    }
    report.end()?;
    Ok(())
}

/// Everything at one number of rows.
struct At<'a> {
    measuring: &'a Measuring,
    data: Data,
    hollow: Hollow<'a>,
}

impl At<'_> {
    fn program(&self, holder: Holder, role: Role, task: Task) -> Program<'_> {
        if holder == Holder::Dashmap && !cfg!(feature = "peers") {
            let reason = "this build lacks it (--features peers)";
            return Program::not_run(holder.name(), role, reason);
        }
        let work = Work {
            holder,
            task,
            data: self.data.clone(),
        };
        let placed = self.measuring.placed();
        Program::new(holder.name(), role, move || {
            // Of a virtual machine free memory goes back to the host, the more the larger the process was that ended last: who
            // touches it next pays for that, several times what a page costs otherwise. None of these shall.
            Job::Touch(TOUCHED).run(placed)?;
            Job::Sdk(work.clone()).run(placed)
        })
    }

    fn case<'a>(
        &self,
        what: &str,
        unit: &'static str,
        figure: Figure,
        programs: Vec<Program<'a>>,
        targets: Vec<Target>,
    ) -> Case<'a> {
        Case {
            targets,
            facts: json!({ "rows": self.data.rows, "payload_bytes": PAYLOAD_BYTES }),
            ..Case::new(
                format!("sdk, {what}, {} rows", self.data.rows),
                unit,
                figure,
                programs,
            )
        }
    }

    fn is(&self, rows: u64) -> bool {
        self.data.rows == rows
    }

    fn load(&self) -> Case<'_> {
        // Long enough to be measured.
        let times = (1_000_000 / self.data.rows).clamp(1, 10);
        let task = Task::Load { times };
        let programs = vec![
            self.program(Holder::Bare, Role::Floor, task),
            self.program(Holder::Prost, Role::Peer, task),
            self.hollow.program(&["load", "index"]),
            self.program(Holder::Ours, Role::Ours, task),
        ];
        let mut targets = Vec::new();
        if !self.is(LARGE) {
            targets.push(beside(
                Holder::Prost.name(),
                Figure::Cpu,
                Bound::TimesCheaper(3.0),
            ));
        }
        if self.is(LARGE) {
            targets.push(beside(
                Holder::Bare.name(),
                Figure::Cpu,
                Bound::TimesTheCost(1.3),
            ));
        }
        let expected = BTreeMap::from([("rows".to_owned(), self.data.rows)]);
        Case {
            expected,
            ..self.case("load", "row", Figure::Cpu, programs, targets)
        }
    }

    fn lookup(&self) -> Case<'_> {
        let task = Task::Lookup {
            lookups: self.measuring.size(10_000_000, 300_000),
        };
        let programs = vec![
            self.program(Holder::Bare, Role::Floor, task),
            self.program(Holder::Locked, Role::Peer, task),
            self.program(Holder::Dashmap, Role::Peer, task),
            self.hollow.program(&["lookup"]),
            self.program(Holder::Ours, Role::Ours, task),
        ];
        let bare = |times| beside(Holder::Bare.name(), Figure::Cpu, Bound::TimesTheCost(times));
        let targets = if self.is(LARGE) {
            vec![bare(3.0)]
        } else {
            vec![
                bare(1.2),
                beside(hollow::NAME, Figure::Cpu, Bound::TimesCheaper(3.0)),
            ]
        };
        self.case(
            "random lookups, 3 of 4 present",
            "lookup",
            Figure::Cpu,
            programs,
            targets,
        )
    }

    fn memory(&self) -> Case<'_> {
        let programs = vec![
            self.program(Holder::Columns, Role::Floor, Task::Hold),
            self.program(Holder::Bare, Role::Peer, Task::Hold),
            self.hollow.program(&["memory"]),
            self.program(Holder::Ours, Role::Ours, Task::Hold),
        ];
        let payload = Target {
            ours: Of::new(Holder::Ours.name(), Figure::Memory),
            beside: Beside::Nothing,
            bound: Bound::TimesTheCost(1.6 * PAYLOAD_BYTES as f64),
        };
        let targets = if self.is(LARGE) {
            Vec::new()
        } else {
            vec![payload]
        };
        self.case("memory held", "row", Figure::Memory, programs, targets)
    }

    fn delta(&self) -> Case<'_> {
        // Ours so many that what is done once in a while is in it.
        let deltas = |ours: u64, bare: u64| {
            let few = if self.is(LARGE) { bare } else { ours };
            (self.measuring.size(ours, 10), self.measuring.size(few, 10))
        };
        let (ours, bare) = deltas(300, 20);
        let half = data::HALF;
        let task = |deltas| Task::Follow { deltas, half };
        let programs = vec![
            self.program(Holder::Bare, Role::Floor, task(bare)),
            self.hollow.program(&["delta"]),
            self.program(Holder::Ours, Role::Ours, task(ours)),
        ];
        let targets = if self.is(LARGE) {
            vec![Target {
                ours: Of::new(Holder::Ours.name(), Figure::Cpu),
                beside: Beside::Nothing,
                bound: Bound::TimesTheCost(0.002),
            }]
        } else {
            vec![beside(hollow::NAME, Figure::Cpu, Bound::TimesCheaper(10.0))]
        };
        let expected = BTreeMap::from([("rows".to_owned(), self.data.rows)]);
        Case {
            expected,
            ..self.case(
                "a delta of 1,000 changes",
                "delta",
                Figure::Cpu,
                programs,
                targets,
            )
        }
    }

    fn swap(&self) -> Case<'_> {
        const IDLE: &str = "onair, nothing changes";
        const SWAPS: &str = "onair, one delta after the other";
        let figure = Figure::Latency(work::LOOKUP, 0.999);
        let task = |swaps| Task::Read {
            lookups: self.measuring.size(2_000_000, 100_000),
            swaps,
        };
        let programs = vec![
            Program {
                name: IDLE.to_owned(),
                ..self.program(Holder::Ours, Role::Floor, task(false))
            },
            Program {
                name: SWAPS.to_owned(),
                ..self.program(Holder::Ours, Role::Ours, task(true))
            },
        ];
        let targets = vec![Target::beside(SWAPS, [IDLE], figure, Bound::NoWorse)];
        self.case("readers during swaps", "lookup", figure, programs, targets)
    }
}

fn beside(other: &str, figure: Figure, bound: Bound) -> Target {
    Target::beside(Holder::Ours.name(), [other], figure, bound)
}
