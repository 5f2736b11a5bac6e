//! The instrument: a bench declares its floor, its peers, ours, its unit of work and its targets; here they are run in
//! turns, compared, judged and written down.
//!
//! In: [`Case`]s, whose programs give a [`Run`] each time. Out: tables on the terminal and `result.json`. Wrong: a
//! program that fails, or that does not count what must be there, ends the bench.

pub mod allocations;
pub mod child;
pub mod figures;
pub mod latencies;
pub mod machine;
pub mod meter;
mod report;
mod table;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use jiff::SignedDuration;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use self::child::Placed;
pub use self::figures::{Beside, Better, Bound, Figure, Judged, Of, Target};
use self::figures::{median, spread};
pub use self::latencies::Latencies;
pub use self::meter::{Meter, Run, Watch};
pub use self::report::{BenchResult, Report};

/// How every bench measures.
#[derive(Clone, Debug, clap::Args)]
pub struct Measuring {
    /// Rounds of floor, peers, ours, peers, ours, floor
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    pub rounds: u32,
    /// Begin no further round when the bench has taken this long (30m, 90s); each of its cases gets its share
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub budget: Option<Duration>,
    /// Small and short: shows that the bench works and counts right, and judges nothing
    #[arg(long)]
    pub smoke: bool,
    /// The process under test on the first processor, everything else on the others
    #[arg(long)]
    pub pin: bool,
    /// Gets the results
    #[arg(long, value_name = "DIR", default_value = "bench-results")]
    pub out: PathBuf,
}

/// `30m`, `90s`, `1h 30m`.
pub fn duration(text: &str) -> Result<Duration, String> {
    let parsed: SignedDuration = text.parse().map_err(|error| format!("{error}"))?;
    Duration::try_from(parsed).map_err(|_| "a duration is not negative".to_owned())
}

impl Measuring {
    pub fn placed(&self) -> Placed {
        if self.pin {
            Placed::Apart
        } else {
            Placed::Anywhere
        }
    }

    /// `full`, or what is enough to show that it works.
    pub fn size<T>(&self, full: T, smoke: T) -> T {
        if self.smoke { smoke } else { full }
    }

    fn rounds(&self) -> u32 {
        self.size(self.rounds, 1)
    }
}

/// What a program is in a comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// What cannot be avoided; its spread is the noise bar.
    Floor,
    /// Somebody else's way.
    Peer,
    /// Ours.
    Ours,
}

/// Something that does the work.
pub struct Program<'a> {
    pub name: String,
    pub role: Role,
    /// Does the work once, or why it cannot.
    pub run: Result<Box<dyn FnMut() -> Result<Run> + 'a>, String>,
    /// A peer has two turns in a round, one that takes very long has one.
    pub is_once_a_round: bool,
}

impl fmt::Debug for Program<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Program")
            .field("name", &self.name)
            .field("role", &self.role)
            .finish_non_exhaustive()
    }
}

impl<'a> Program<'a> {
    pub fn new(name: impl Into<String>, role: Role, run: impl FnMut() -> Result<Run> + 'a) -> Self {
        Program {
            name: name.into(),
            role,
            run: Ok(Box::new(run)),
            is_once_a_round: false,
        }
    }

    /// For one that takes very long.
    pub fn once_a_round(mut self) -> Self {
        self.is_once_a_round = true;
        self
    }

    /// One that this build or machine does not have.
    pub fn not_run(name: impl Into<String>, role: Role, reason: impl Into<String>) -> Self {
        Program {
            name: name.into(),
            role,
            run: Err(reason.into()),
            is_once_a_round: false,
        }
    }
}

/// One comparison of a bench.
#[derive(Debug)]
pub struct Case<'a> {
    /// What is particular to it.
    pub name: String,
    /// What one piece of work is.
    pub unit: &'static str,
    /// What is compared in the table.
    pub figure: Figure,
    /// The floor first, ours last.
    pub programs: Vec<Program<'a>>,
    /// Whose spread over its runs is the noise bar.
    pub noise: Option<Of>,
    /// What each run must have counted, of what it counts.
    pub expected: BTreeMap<String, u64>,
    pub targets: Vec<Target>,
    /// What may be worth knowing later.
    pub facts: Value,
}

impl<'a> Case<'a> {
    /// Without targets and expectations. The noise bar is the first floor's.
    pub fn new(
        name: impl Into<String>,
        unit: &'static str,
        figure: Figure,
        programs: Vec<Program<'a>>,
    ) -> Self {
        let floor = programs.iter().find(|program| program.role == Role::Floor);
        Case {
            name: name.into(),
            unit,
            figure,
            noise: floor.map(|floor| Of::new(&floor.name, figure)),
            programs,
            expected: BTreeMap::new(),
            targets: Vec::new(),
            facts: Value::Null,
        }
    }
}

/// A comparison that was made.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Outcome {
    pub name: String,
    pub unit: String,
    /// What is compared, in words.
    pub compared: String,
    /// In what.
    pub measure: Measure,
    pub noise: Option<f64>,
    pub programs: Vec<Measured>,
    pub facts: Value,
}

/// What a figure is a number of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Measure {
    Seconds,
    Bytes,
    Times,
}

impl From<Figure> for Measure {
    fn from(figure: Figure) -> Measure {
        match figure {
            Figure::Cpu | Figure::Wall | Figure::Latency(..) => Measure::Seconds,
            Figure::Memory | Figure::Peak => Measure::Bytes,
            Figure::Count(_) => Measure::Times,
        }
    }
}

/// A program's runs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Measured {
    pub name: String,
    pub role: Role,
    /// Why there are none.
    pub not_run: Option<String>,
    /// What is compared.
    pub figure: Option<f64>,
    /// That over ours.
    pub over_ours: Option<f64>,
    pub runs: Vec<Run>,
}

impl Measured {
    /// The median over its runs of something for each unit of work.
    pub fn per_unit(&self, of: impl Fn(&Run) -> Option<f64>) -> Option<f64> {
        let each = |run: &Run| of(run).map(|figure| figure / run.units as f64);
        median(
            self.runs
                .iter()
                .map(each)
                .collect::<Option<Vec<f64>>>()
                .into_iter()
                .flatten(),
        )
    }

    /// Its median figure; a quantile is that of all runs together, where enough samples lie beyond it.
    pub fn figure(&self, figure: Figure) -> Option<f64> {
        match figure {
            Figure::Latency(of, at) => self.latencies(of)?.quoted(at),
            _ => median(
                self.runs
                    .iter()
                    .map(|run| figure.of(run))
                    .collect::<Option<Vec<f64>>>()?,
            ),
        }
    }

    /// Of all runs together.
    pub fn latencies(&self, of: &str) -> Option<Latencies> {
        let each = self.runs.iter().map(|run| run.latencies.get(of));
        let each = each.collect::<Option<Vec<_>>>()?;
        let mut sum = Latencies::new();
        for latencies in each {
            // They have the same bounds.
            sum.add(latencies).ok()?;
        }
        (sum.count() > 0).then_some(sum)
    }
}

impl Figure {
    fn of(self, run: &Run) -> Option<f64> {
        let units = run.units as f64;
        Some(match self {
            Figure::Cpu => run.cpu_seconds() / units,
            Figure::Wall => run.wall_seconds / units,
            Figure::Memory => run.memory_bytes? as f64 / units,
            Figure::Peak => run.memory_peak_bytes as f64 / units,
            Figure::Latency(of, at) => run.latencies.get(of)?.at(at),
            Figure::Count(what) => *run.counts.get(what)? as f64 / units,
        })
    }
}

impl Case<'_> {
    /// Runs everything in turns: floor, peers, ours, peers, ours, floor; so many times, but no round begins after
    /// `until`. Before that the floor once for nothing, which warms caches, unless it is done only once anyway.
    fn measure(
        mut self,
        rounds: u32,
        until: Option<Instant>,
        said: &mut impl FnMut(&str),
    ) -> Result<(Outcome, Vec<Judged>)> {
        let mut runs: Vec<Vec<Run>> = self.programs.iter().map(|_| Vec::new()).collect();
        let turns = turns(&self.programs);
        if let Some(Program { run: Ok(run), .. }) = self.programs.first_mut()
            && rounds > 1
        {
            run().context("warming up")?;
        }
        for round in 1..=rounds {
            if round > 1 && until.is_some_and(|until| Instant::now() > until) {
                break;
            }
            for &at in &turns {
                let program = &mut self.programs[at];
                let Ok(run) = &mut program.run else {
                    continue;
                };
                said(&format!(
                    "{}: round {round} of {rounds}, {}",
                    self.name, program.name
                ));
                let run = run().with_context(|| program.name.clone())?;
                counted(&run, &self.expected).with_context(|| program.name.clone())?;
                runs[at].push(run);
            }
        }
        let mut programs: Vec<Measured> = self
            .programs
            .into_iter()
            .zip(runs)
            .map(|(program, runs)| Measured {
                name: program.name,
                role: program.role,
                not_run: program.run.err(),
                figure: None,
                over_ours: None,
                runs,
            })
            .collect();
        for program in &mut programs {
            program.figure = program.figure(self.figure);
        }
        let ours = programs.iter().find(|program| program.role == Role::Ours);
        let ours = ours.and_then(|program| program.figure);
        for program in &mut programs {
            let over = program.figure.zip(ours).map(|(figure, ours)| figure / ours);
            program.over_ours = over.filter(|ratio| ratio.is_finite());
        }
        let named = |name: &str| programs.iter().find(|program| program.name == name);
        let noise = self.noise.as_ref().and_then(|noise| {
            let runs = &named(&noise.program)?.runs;
            let each = runs.iter().map(|run| noise.figure.of(run));
            spread(&each.collect::<Option<Vec<f64>>>()?)
        });
        let figure = |of: &Of| named(&of.program)?.figure(of.figure);
        let judged = self
            .targets
            .iter()
            .map(|target| target.judge(&self.name, noise, figure))
            .collect();
        let outcome = Outcome {
            noise,
            name: self.name,
            unit: self.unit.to_owned(),
            compared: self.figure.to_string(),
            measure: self.figure.into(),
            programs,
            facts: self.facts,
        };
        Ok((outcome, judged))
    }
}

/// One round, as indexes.
fn turns(programs: &[Program<'_>]) -> Vec<usize> {
    let (floor, peer, ours) = (Role::Floor, Role::Peer, Role::Ours);
    let mut turns = Vec::new();
    for role in [floor, peer, ours, peer, ours, floor] {
        for (at, program) in programs.iter().enumerate() {
            let has_had = program.is_once_a_round && turns.contains(&at);
            if program.role == role && !has_had {
                turns.push(at);
            }
        }
    }
    turns
}

fn counted(run: &Run, expected: &BTreeMap<String, u64>) -> Result<()> {
    for (name, count) in &run.counts {
        if let Some(expected) = expected.get(name) {
            ensure!(
                count == expected,
                "it counted {count} {name} where there are {expected}: what it costs means nothing"
            );
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(units: u64, cpu: f64, rows: u64) -> Run {
        Run {
            units,
            user_seconds: cpu,
            wall_seconds: 2.0 * cpu,
            ..Run::default()
        }
        .with_counts(&[("rows", rows)])
    }

    fn case<'a>(programs: Vec<Program<'a>>) -> Case<'a> {
        let beside =
            |other, times| Target::beside("ours", [other], Figure::Cpu, Bound::TimesCheaper(times));
        Case {
            expected: BTreeMap::from([("rows".to_owned(), 10)]),
            targets: vec![beside("peer", 4.0), beside("absent", 2.0)],
            ..Case::new("a case", "row", Figure::Cpu, programs)
        }
    }

    #[test]
    fn a_round_begins_and_ends_with_the_floor() {
        let of = |role| Program::not_run("", role, "");
        let slow = of(Role::Peer).once_a_round();
        let order = turns(&[of(Role::Floor), of(Role::Peer), slow, of(Role::Ours)]);
        assert_eq!(order, [0, 1, 2, 3, 1, 3, 0]);
    }

    #[test]
    fn medians_noise_and_targets_of_a_case() {
        let mut floors = [7.0, 1.0, 1.1, 1.0, 0.9].into_iter();
        let programs = vec![
            Program::new("floor", Role::Floor, || {
                Ok(run(10, floors.next().expect("five"), 10))
            }),
            Program::new("peer", Role::Peer, || Ok(run(10, 4.0, 10))),
            Program::not_run("absent", Role::Peer, "not built"),
            Program::new("ours", Role::Ours, || Ok(run(10, 2.0, 10))),
        ];
        let (outcome, judged) = case(programs)
            .measure(2, None, &mut |_| {})
            .expect("it runs");
        let noise = outcome.noise.expect("a floor");
        assert!((noise - 0.2).abs() < 1e-9, "{noise}");
        let figures = outcome.programs.iter().map(|program| program.figure);
        let figures: Vec<Option<f64>> = figures.collect();
        assert_eq!(figures, [Some(0.1), Some(0.4), None, Some(0.2)]);
        assert_eq!(outcome.programs[0].figure(Figure::Wall), Some(0.2));
        assert_eq!(outcome.programs[1].over_ours, Some(2.0));
        assert_eq!(judged[0].ratio, Some(2.0));
        assert_eq!(judged[0].met, Some(false));
        assert_eq!(judged[1].met, None);
        assert_eq!(outcome.programs[2].not_run.as_deref(), Some("not built"));
    }

    #[test]
    fn latencies_of_all_runs_are_taken_together() {
        let mut millis = 0;
        let programs = vec![Program::new("ours", Role::Ours, || {
            let mut seen = Latencies::new();
            for _ in 0..600 {
                millis += 1;
                seen.record(Duration::from_millis(millis))?;
            }
            Ok(run(600, 1.0, 10).with_latencies("seen", seen))
        })];
        let figure = Figure::Latency("seen", 0.99);
        let case = Case {
            noise: Some(Of::new("ours", figure)),
            ..Case::new("a case", "row", figure, programs)
        };
        let (outcome, _) = case.measure(1, None, &mut |_| {}).expect("it runs");
        // Two runs: neither has ten samples beyond, together they have.
        let p99 = outcome.programs[0].figure.expect("enough samples");
        assert!((p99 - 1.188).abs() < 0.002, "{p99}");
        let noise = outcome.noise.expect("two runs");
        assert!((0.6..0.7).contains(&noise), "{noise}");
    }

    #[test]
    fn no_round_begins_after_the_time_is_over() {
        let mut runs = 0;
        let programs = vec![Program::new("ours", Role::Ours, || {
            runs += 1;
            Ok(run(10, 1.0, 10))
        })];
        let case = Case::new("a case", "row", Figure::Cpu, programs);
        case.measure(5, Some(Instant::now()), &mut |_| {})
            .expect("it runs");
        // Warmed up once, then one round, in which ours has two turns.
        assert_eq!(runs, 3);
    }

    #[test]
    fn a_wrong_count_ends_the_bench() {
        let programs = vec![Program::new("ours", Role::Ours, || Ok(run(10, 1.0, 9)))];
        let error = case(programs)
            .measure(1, None, &mut |_| {})
            .expect_err("nine are not ten");
        assert!(format!("{error:#}").contains("counted 9 rows where there are 10"));
    }

    #[test]
    fn durations_as_people_write_them() {
        assert_eq!(duration("30m"), Ok(Duration::from_secs(1800)));
        assert_eq!(duration("1h 30m"), Ok(Duration::from_secs(5400)));
        assert!(duration("-5s").is_err());
        assert!(duration("soon").is_err());
    }
}
