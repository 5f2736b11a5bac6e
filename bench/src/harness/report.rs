//! What was measured, on the terminal and in `result.json`.

use std::fs::{self, File};
use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, Result};
use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{IntervalLogWriterBuilder, Tag};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::child::Placed;
use super::machine::{self, Machine};
use super::table::{in_a_line, table};
use super::{Case, Judged, Measuring, Outcome};

/// The name of the file in a bench's folder.
const FILE: &str = "result.json";

/// One bench, measured: what is in its `result.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BenchResult {
    pub bench: String,
    pub command: String,
    pub at: Timestamp,
    pub took_seconds: f64,
    pub versions: Value,
    pub settings: Value,
    /// The process under test had a processor of its own.
    pub pinned: bool,
    /// Small and short: its figures say nothing.
    pub smoke: bool,
    pub machine: Machine,
    /// Averages of the last 1, 5 and 15 minutes.
    pub load_before: Vec<f64>,
    pub load_after: Vec<f64>,
    pub cases: Vec<Outcome>,
    pub targets: Vec<Judged>,
}

impl BenchResult {
    /// All that are in a folder, in the order of their names.
    pub fn all_of(dir: &Path) -> Result<Vec<Self>> {
        let entries =
            fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))?;
        let mut found = Vec::new();
        for entry in entries {
            let path = entry?.path().join(FILE);
            if path.is_file() {
                found.push(Self::of(&path)?);
            }
        }
        found.sort_by(|a: &BenchResult, b| a.bench.cmp(&b.bench));
        Ok(found)
    }

    fn of(path: &Path) -> Result<Self> {
        let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        serde_json::from_slice(&bytes)
            .with_context(|| format!("{} is no result of a bench of this version", path.display()))
    }
}

/// The report of one bench.
#[derive(Debug)]
pub struct Report<'a> {
    measuring: &'a Measuring,
    dir: PathBuf,
    begun: Instant,
    /// Of those that are still to come.
    cases_left: u32,
    result: BenchResult,
}

impl<'a> Report<'a> {
    /// Begins now; `cases` comparisons will be made. The folder of results gets one with the bench's name.
    pub fn begin(
        bench: &str,
        measuring: &'a Measuring,
        cases: usize,
        versions: Value,
        settings: Value,
    ) -> Result<Self> {
        let dir = measuring.out.join(bench);
        fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        Ok(Report {
            measuring,
            dir,
            begun: Instant::now(),
            cases_left: u32::try_from(cases)?,
            result: BenchResult {
                bench: bench.to_owned(),
                command: std::env::args().skip(1).collect::<Vec<_>>().join(" "),
                at: Timestamp::now(),
                took_seconds: 0.0,
                versions,
                settings,
                pinned: measuring.pin,
                smoke: measuring.smoke,
                machine: Machine::this(),
                load_before: machine::load(),
                load_after: Vec::new(),
                cases: Vec::new(),
                targets: Vec::new(),
            },
        })
    }

    /// On which processors things run.
    pub fn placed(&self) -> Placed {
        self.measuring.placed()
    }

    /// Says on the terminal what is being done, if there is one.
    pub fn say(text: &str) {
        let mut err = std::io::stderr();
        if err.is_terminal() {
            // A line that cannot be shown is not worth an end.
            let _ = write!(err, "\r\x1b[K{text}");
            let _ = err.flush();
        }
    }

    /// Makes a comparison, prints it and keeps it.
    pub fn measure(&mut self, case: Case<'_>) -> Result<()> {
        let now = Instant::now();
        let left = self.measuring.budget.map(|budget| {
            let left = budget.saturating_sub(now - self.begun);
            now + left / self.cases_left.max(1)
        });
        self.cases_left = self.cases_left.saturating_sub(1);
        let rounds = self.measuring.rounds();
        let (outcome, mut judged) = case.measure(rounds, left, &mut Self::say)?;
        Self::say("");
        print!("{}", table(&outcome));
        if self.measuring.smoke {
            for target in &mut judged {
                target.met = None;
            }
        }
        for target in &judged {
            println!("  {}", in_a_line(target));
        }
        self.write_logs(&outcome)?;
        self.result.cases.push(outcome);
        self.result.targets.extend(judged);
        Ok(())
    }

    /// Each kind of latency of each program gets a log that the tools of HdrHistogram read.
    fn write_logs(&self, outcome: &Outcome) -> Result<()> {
        for program in &outcome.programs {
            let Some(first) = program.runs.first() else {
                continue;
            };
            for of in first.latencies.keys() {
                let name = format!("{} {} {of}", outcome.name, program.name);
                let path = self.dir.join(format!("{}.hlog", file_name(&name)));
                let mut file = File::create(&path)
                    .with_context(|| format!("cannot write {}", path.display()))?;
                let mut serializer = V2DeflateSerializer::new();
                let mut log = IntervalLogWriterBuilder::new()
                    .add_comment(&name)
                    .begin_log_with(&mut file, &mut serializer)?;
                for run in &program.runs {
                    let Some(latencies) = run.latencies.get(of) else {
                        continue;
                    };
                    let took = std::time::Duration::from_secs_f64(run.wall_seconds);
                    log.write_histogram(
                        latencies.histogram(),
                        std::time::Duration::ZERO,
                        took,
                        Tag::new("run"),
                    )
                    .map_err(|error| anyhow::anyhow!("{error:?}"))
                    .with_context(|| format!("cannot write {}", path.display()))?;
                }
            }
        }
        Ok(())
    }

    /// Writes everything down; where.
    pub fn end(mut self) -> Result<PathBuf> {
        let path = self.dir.join(FILE);
        self.result.load_after = machine::load();
        self.result.took_seconds = self.begun.elapsed().as_secs_f64();
        fs::write(&path, serde_json::to_vec_pretty(&self.result)?)
            .with_context(|| format!("cannot write {}", path.display()))?;
        let load = |load: &[f64]| load.first().copied().unwrap_or_default();
        println!(
            "\nload {:.2} before, {:.2} after; raw figures in {}",
            load(&self.result.load_before),
            load(&self.result.load_after),
            path.display()
        );
        Ok(path)
    }
}

/// Letters, digits and dashes.
fn file_name(text: &str) -> String {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric());
    let words: Vec<String> = words
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
        .collect();
    words.join("-")
}
