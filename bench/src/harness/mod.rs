//! The instrument: a bench declares its floor, its peers, ours, its unit of work and its targets; here they are run in
//! turns, compared, judged and written down.
//!
//! In: [`Case`]s, whose programs give a [`Run`] each time. Out: a table on the terminal and `result.json`. Wrong: a
//! program that fails, or that does not count what must be there, ends the bench.

pub mod child;
pub mod figures;
pub mod machine;
pub mod meter;
mod report;

use std::collections::BTreeMap;
use std::fmt;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

pub use self::figures::{Bound, Judged, Target};
use self::figures::{median, spread};
pub use self::meter::{Meter, Run};
pub use self::report::Report;

/// What a program's cost is measured in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Figure {
    /// CPU seconds of the process under test, user and system.
    Cpu,
    /// Seconds by the clock: where another process does the work.
    Wall,
}

/// What a program is in a comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
        }
    }

    /// One that this build or machine does not have.
    pub fn not_run(name: impl Into<String>, role: Role, reason: impl Into<String>) -> Self {
        Program {
            name: name.into(),
            role,
            run: Err(reason.into()),
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
    pub figure: Figure,
    /// The floor first, ours last.
    pub programs: Vec<Program<'a>>,
    /// What each run must have counted, of what it counts.
    pub expected: BTreeMap<String, u64>,
    pub targets: Vec<Target>,
    /// What may be worth knowing later.
    pub facts: Value,
}

/// A comparison that was made.
#[derive(Debug)]
pub struct Outcome {
    pub name: String,
    pub unit: &'static str,
    pub figure: Figure,
    pub programs: Vec<Measured>,
    pub noise: Option<f64>,
    pub targets: Vec<Judged>,
    pub facts: Value,
}

/// A program's runs.
#[derive(Debug)]
pub struct Measured {
    pub name: String,
    pub role: Role,
    pub runs: Result<Vec<Run>, String>,
}

impl Measured {
    /// The median over its runs of something per unit of work.
    pub fn per_unit(&self, of: impl Fn(&Run) -> f64) -> Option<f64> {
        let runs = self.runs.as_ref().ok()?;
        median(runs.iter().map(|run| of(run) / run.units as f64))
    }

    /// Its median cost.
    pub fn cost(&self, figure: Figure) -> Option<f64> {
        self.per_unit(|run| figure.of(run))
    }
}

impl Figure {
    fn of(self, run: &Run) -> f64 {
        match self {
            Figure::Cpu => run.cpu_seconds(),
            Figure::Wall => run.wall_seconds,
        }
    }
}

impl Case<'_> {
    /// Runs everything in turns: floor, peers, ours, peers, ours, floor; that many times. Before that the floor once
    /// for nothing, which warms the server's caches.
    pub fn measure(mut self, rounds: u32, said: &mut impl FnMut(&str)) -> Result<Outcome> {
        let mut runs: Vec<Vec<Run>> = self.programs.iter().map(|_| Vec::new()).collect();
        let turns = turns(&self.programs.iter().map(|p| p.role).collect::<Vec<_>>());
        if let Some(Program { run: Ok(run), .. }) = self.programs.first_mut() {
            run().context("warming up")?;
        }
        for round in 1..=rounds {
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
        let programs: Vec<Measured> = self
            .programs
            .into_iter()
            .zip(runs)
            .map(|(program, runs)| Measured {
                name: program.name,
                role: program.role,
                runs: program.run.map(|_| runs),
            })
            .collect();
        let floor: Vec<f64> = programs
            .iter()
            .filter(|program| program.role == Role::Floor)
            .flat_map(|program| program.runs.iter().flatten())
            .map(|run| self.figure.of(run))
            .collect();
        let cost = |name: &str| {
            let program = programs.iter().find(|program| program.name == name)?;
            program.cost(self.figure)
        };
        let ours = programs.iter().find(|program| program.role == Role::Ours);
        let ours = ours.map_or("", |program| &program.name);
        let targets = self
            .targets
            .iter()
            .map(|target| target.judge(target.in_words(&self.name, self.figure), ours, cost))
            .collect();
        Ok(Outcome {
            targets,
            noise: spread(&floor),
            name: self.name,
            unit: self.unit,
            figure: self.figure,
            programs,
            facts: self.facts,
        })
    }
}

impl Target {
    fn in_words(&self, case: &str, figure: Figure) -> String {
        let cost = match figure {
            Figure::Cpu => "CPU",
            Figure::Wall => "time",
        };
        let beside = match &self.beside[..] {
            [one] => one.clone(),
            several => format!("the best of {}", several.join(", ")),
        };
        match self.bound {
            Bound::TimesCheaper(times) => {
                format!("{case}: {cost} of {beside} at least {times} times ours")
            }
            Bound::TimesTheCost(times) => {
                format!("{case}: our {cost} at most {times} times that of {beside}")
            }
        }
    }
}

/// One round, as indexes.
fn turns(roles: &[Role]) -> Vec<usize> {
    let of = |wanted: Role| (0..roles.len()).filter(move |at| roles[*at] == wanted);
    let (floor, peer, ours) = (Role::Floor, Role::Peer, Role::Ours);
    let order = [floor, peer, ours, peer, ours, floor];
    order.into_iter().flat_map(of).collect()
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
            system_seconds: 0.0,
            wall_seconds: 2.0 * cpu,
            memory_peak_bytes: 0,
            counts: BTreeMap::from([("rows".to_owned(), rows)]),
        }
    }

    fn case<'a>(programs: Vec<Program<'a>>) -> Case<'a> {
        Case {
            name: "a case".to_owned(),
            unit: "row",
            figure: Figure::Cpu,
            programs,
            expected: BTreeMap::from([("rows".to_owned(), 10)]),
            targets: vec![
                Target {
                    beside: vec!["peer".to_owned()],
                    bound: Bound::TimesCheaper(4.0),
                },
                Target {
                    beside: vec!["absent".to_owned()],
                    bound: Bound::TimesCheaper(2.0),
                },
            ],
            facts: Value::Null,
        }
    }

    #[test]
    fn a_round_begins_and_ends_with_the_floor() {
        let order = turns(&[Role::Floor, Role::Peer, Role::Peer, Role::Ours]);
        assert_eq!(order, [0, 1, 2, 3, 1, 2, 3, 0]);
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
        let outcome = case(programs).measure(2, &mut |_| {}).expect("it runs");
        let noise = outcome.noise.expect("a floor");
        assert!((noise - 0.2).abs() < 1e-9, "{noise}");
        assert_eq!(outcome.programs[0].cost(Figure::Cpu), Some(0.1));
        assert_eq!(outcome.programs[0].cost(Figure::Wall), Some(0.2));
        assert_eq!(outcome.targets[0].ratio, Some(2.0));
        assert_eq!(outcome.targets[0].met, Some(false));
        assert_eq!(outcome.targets[1].met, None);
        assert_eq!(outcome.programs[2].cost(Figure::Cpu), None);
    }

    #[test]
    fn a_wrong_count_ends_the_bench() {
        let programs = vec![Program::new("ours", Role::Ours, || Ok(run(10, 1.0, 9)))];
        let error = case(programs)
            .measure(1, &mut |_| {})
            .expect_err("nine are not ten");
        assert!(format!("{error:#}").contains("counted 9 rows where there are 10"));
    }
}
