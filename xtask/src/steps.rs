//! `cargo xtask test`: steps in order, the cheapest first, and a table of how they went.

use std::fmt::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use clap::ValueEnum;
use onair_xtask::cargo::repository;
use onair_xtask::servers::{self, Engine, Flavor};

use crate::arrows;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Run this step; may be given again for more. All by default.
    #[arg(long, value_name = "STEP")]
    only: Vec<Step>,
    /// Leave this step out; may be given again for more.
    #[arg(long, value_name = "STEP")]
    skip: Vec<Step>,
    /// Do not fail because a server or tool cannot be had; it is said all the same.
    #[arg(long)]
    allow_missing: bool,
    /// Run the long forms of the tests that have one.
    #[arg(long)]
    long: bool,
}

/// In this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Step {
    /// Formatting.
    Fmt,
    /// Which crate may depend on which.
    Arrows,
    /// Whether docs/faults.md is what its tests give.
    Faults,
    /// Licences and sources of the dependencies, and double ones.
    Deny,
    /// Lints.
    Clippy,
    /// Documentation builds without a warning.
    Doc,
    /// The servers that the tests need.
    Fetch,
    /// All tests of the workspace.
    Test,
    /// Whether every bench works; nothing is judged.
    Bench,
}

/// How a step ended. An error is a step that failed.
type Outcome = Result<Vec<Missing>>;

/// Something a step needs that cannot be had.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Missing {
    name: &'static str,
    reason: String,
}

#[derive(Debug)]
struct Report {
    step: Step,
    took: Duration,
    outcome: Outcome,
}

/// What lints, documentation and tests are built with beside the default: the engines.
const FEATURES: &[&str] = &["onair-bench/engines", "onair/kafka", "onair/scylla"];

/// Says to tests that have a long form that it is wanted.
const LONG: &str = "ONAIR_TEST_LONG";

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let mut reports: Vec<Report> = Vec::new();
    for &step in Step::value_variants() {
        let is_wanted = arguments.only.is_empty() || arguments.only.contains(&step);
        if !is_wanted || arguments.skip.contains(&step) {
            continue;
        }
        println!("\n== {step}");
        let start = Instant::now();
        let outcome = match step {
            Step::Fmt => cargo(&["fmt", "--all", "--check"], &[]),
            Step::Arrows => check_arrows(),
            Step::Faults => crate::faults::check().map(|()| Vec::new()),
            Step::Deny => deny(),
            Step::Clippy => cargo(
                &[
                    "clippy",
                    "--workspace",
                    "--all-targets",
                    "--features",
                    &FEATURES.join(","),
                    "--",
                    "-D",
                    "warnings",
                ],
                &[],
            ),
            Step::Doc => cargo(
                &[
                    "doc",
                    "--workspace",
                    "--no-deps",
                    "--features",
                    &FEATURES.join(","),
                ],
                &[("RUSTDOCFLAGS", "-D warnings")],
            ),
            Step::Fetch => Ok(fetch()),
            Step::Test => test(&reports, arguments),
            Step::Bench => bench(&reports),
        };
        let report = Report {
            step,
            took: start.elapsed(),
            outcome,
        };
        println!("== {}", report.line(arguments.allow_missing));
        reports.push(report);
    }
    if reports.is_empty() {
        bail!("no step is left to run");
    }
    println!("\n{}", summary(&reports, arguments.allow_missing));
    let failed = reports
        .iter()
        .any(|report| report.has_failed(arguments.allow_missing));
    Ok(if failed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

impl Report {
    fn has_failed(&self, allow_missing: bool) -> bool {
        self.outcome
            .as_ref()
            .map_or(true, |missing| !missing.is_empty() && !allow_missing)
    }

    /// Name, result, duration.
    fn line(&self, allow_missing: bool) -> String {
        let result = if self.has_failed(allow_missing) {
            "FAILED"
        } else {
            "ok"
        };
        format!(
            "{:<8}{result:<8}{:>7.1} s",
            self.step,
            self.took.as_secs_f64()
        )
    }
}

/// A line a step, one for everything that was missing or went wrong, and the count at the end.
fn summary(reports: &[Report], allow_missing: bool) -> String {
    let mut text = String::new();
    let mut failed = 0;
    for report in reports {
        failed += usize::from(report.has_failed(allow_missing));
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{}", report.line(allow_missing));
        match &report.outcome {
            Ok(missing) => {
                for Missing { name, reason } in missing {
                    let _ = writeln!(text, "  NOT RUN {name}: {reason}");
                }
            }
            Err(error) => {
                let _ = writeln!(text, "  {error:#}");
            }
        }
    }
    let _ = write!(text, "{} passed, {failed} failed", reports.len() - failed);
    text
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Fmt => "fmt",
            Self::Arrows => "arrows",
            Self::Faults => "faults",
            Self::Deny => "deny",
            Self::Clippy => "clippy",
            Self::Doc => "doc",
            Self::Fetch => "fetch",
            Self::Test => "test",
            Self::Bench => "bench",
        })
    }
}

fn check_arrows() -> Outcome {
    let faults = arrows::check()?;
    if !faults.is_empty() {
        bail!("{}", faults.join("\n  "));
    }
    Ok(Vec::new())
}

/// `cargo deny`, installed into the cache folder where the machine does not have it. Advisories are checked where their
/// database can be had; where it cannot, that is said and fails nothing.
fn deny() -> Outcome {
    let program = match cargo_deny() {
        Ok(program) => program,
        Err(error) => {
            return Ok(vec![Missing {
                name: "deny",
                reason: format!("{error:#}"),
            }]);
        }
    };
    let check = ["check", "--hide-inclusion-graph"];
    shown(
        Command::new(&program)
            .args(check)
            .args(["bans", "licenses", "sources"]),
        "cargo-deny check bans licenses sources",
    )?;
    let fetched = Command::new(&program).args(["fetch", "db"]).output()?;
    if !fetched.status.success() {
        let said = String::from_utf8_lossy(&fetched.stderr);
        let last = said.lines().rfind(|line| !line.trim().is_empty());
        println!(
            "NOT RUN advisories: their database cannot be had: {}",
            last.unwrap_or("no reason given")
        );
        return Ok(Vec::new());
    }
    shown(
        Command::new(&program).args(check).arg("advisories"),
        "cargo-deny check advisories",
    )
}

fn cargo_deny() -> Result<PathBuf> {
    let works = |program: &Path| {
        Command::new(program)
            .arg("--version")
            .output()
            .is_ok_and(|output| output.status.success())
    };
    let tools = servers::cache_dir()?.join("tools");
    let ours = tools.join("bin/cargo-deny");
    for program in [PathBuf::from("cargo-deny"), ours.clone()] {
        if works(&program) {
            return Ok(program);
        }
    }
    println!(
        "installing cargo-deny into {} (minutes, once)",
        tools.display()
    );
    let mut command = onair_xtask::cargo::command();
    command
        .args(["install", "cargo-deny", "--locked", "--quiet", "--root"])
        .arg(&tools);
    shown(&mut command, "cargo install cargo-deny --locked")?;
    Ok(ours)
}

/// Gets every server now, so that no test waits for a download.
fn fetch() -> Vec<Missing> {
    // The programs of a database are needed beside a given address too; an engine's are not.
    let databases = Flavor::ALL.into_iter().map(|flavor| {
        let home = servers::fetch(flavor).map(|dist| Some(dist.home));
        let given = flavor.given_address().map(|_| flavor.variable());
        (flavor.name(), given, home)
    });
    let engines = Engine::ALL.into_iter().map(|engine| {
        let given = engine.given_address().map(|_| engine.variable());
        let home = match given {
            Some(_) => Ok(None),
            None => servers::fetch_engine(engine).map(|jars| Some(jars.home)),
        };
        (engine.name(), given, home)
    });
    let mut missing = Vec::new();
    for (name, given, home) in databases.chain(engines) {
        match (home, given) {
            (Ok(_), Some(variable)) => println!("{name}: given in {variable}"),
            (Ok(home), None) => println!("{name}: in {}", home.unwrap_or_default().display()),
            (Err(error), _) => {
                let reason = format!("{error:#}");
                println!("NOT RUN {name}: {reason}");
                missing.push(Missing { name, reason });
            }
        }
    }
    missing
}

/// What could not be fetched.
fn missing(before: &[Report]) -> Vec<&'static str> {
    before
        .iter()
        .filter(|report| report.step == Step::Fetch)
        .flat_map(|report| report.outcome.iter().flatten())
        .map(|missing| missing.name)
        .collect()
}

fn test(before: &[Report], arguments: &Arguments) -> Outcome {
    // What could not be fetched has been reported; its tests would only say it again.
    let without = missing(before).join(",");
    let mut variables = Vec::new();
    if !without.is_empty() {
        variables.push((servers::WITHOUT, without.as_str()));
    }
    if arguments.long {
        variables.push((LONG, "1"));
    }
    let features = FEATURES.join(",");
    cargo(
        &[
            "test",
            "--workspace",
            "--no-fail-fast",
            "--features",
            &features,
        ],
        &variables,
    )
}

/// The benches in their small form. What they need and could not be fetched has been reported.
fn bench(before: &[Report]) -> Outcome {
    // As the tests build it, so that it is built once.
    const FEATURES: &str = "bench,engines,plant";
    let out = onair_xtask::cargo::target_dir().join("bench-smoke");
    let out = out.to_string_lossy();
    let run = ["run", "--package", "onair", "--features", FEATURES, "--"];
    let mut arguments = run.to_vec();
    arguments.extend(["bench", "all", "--smoke", "--out", &out]);
    let missing = missing(before);
    if missing.contains(&Flavor::Mysql97.name()) {
        println!("NOT RUN: every bench needs {}", Flavor::Mysql97.name());
        return Ok(Vec::new());
    }
    if Engine::ALL
        .iter()
        .any(|engine| missing.contains(&engine.name()))
    {
        arguments.extend(["--skip", "engines", "--skip", "headline"]);
    }
    cargo(&arguments, &[])
}

fn cargo(arguments: &[&str], variables: &[(&str, &str)]) -> Outcome {
    let mut command = onair_xtask::cargo::command();
    command.args(arguments).envs(variables.iter().copied());
    let prefix: String = variables
        .iter()
        .map(|(name, value)| format!("{name}='{value}' "))
        .collect();
    shown(
        &mut command,
        &format!("{prefix}cargo {}", arguments.join(" ")),
    )
}

/// Runs a command whose output goes to the terminal.
fn shown(command: &mut Command, what: &str) -> Outcome {
    println!("{what}");
    let status = command
        .current_dir(repository())
        .status()
        .with_context(|| format!("cannot start `{what}`"))?;
    if !status.success() {
        bail!("`{what}` failed ({status})");
    }
    Ok(Vec::new())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(step: Step, outcome: Outcome) -> Report {
        Report {
            step,
            took: Duration::from_millis(1234),
            outcome,
        }
    }

    #[test]
    fn what_is_missing_is_said_and_fails_unless_it_may() {
        let missing = Missing {
            name: "mysql-8.0",
            reason: "no mvn".into(),
        };
        let reports = [
            report(Step::Fmt, Ok(vec![])),
            report(Step::Clippy, Err(anyhow::anyhow!("`cargo clippy` failed"))),
            report(Step::Fetch, Ok(vec![missing])),
        ];
        let strict = summary(&reports, false);
        assert_eq!(
            strict,
            "fmt     ok          1.2 s\n\
             clippy  FAILED      1.2 s\n  `cargo clippy` failed\n\
             fetch   FAILED      1.2 s\n  NOT RUN mysql-8.0: no mvn\n\
             1 passed, 2 failed"
        );
        assert!(summary(&reports, true).ends_with("NOT RUN mysql-8.0: no mvn\n2 passed, 1 failed"));
    }
}
