//! `cargo xtask plant`: each planted bug in turn, to see that the tests notice. A table says which test did.

use std::fmt::Write as _;
use std::process::{ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use onair_xtask::cargo::repository;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Plant this bug only; may be given again for more. All by default.
    #[arg(long, value_name = "BUG")]
    only: Vec<String>,
}

/// A rule left out in the code, by its name in `onair_model::plant`, and the part of the suite that stands guard over it.
struct Planted {
    bug: &'static str,
    guard: Guard,
}

/// Tests: a package, its test target and what their names begin with.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Guard {
    package: &'static str,
    filter: &'static str,
}

const ORACLE: Guard = Guard {
    package: "onair-bench",
    filter: "oracle::every_version_seen_is_the_table_at_its_gtid_on_mysql_9_7",
};
const BARRIERS: Guard = Guard {
    package: "onair-bench",
    filter: "barriers::every_barrier_ends_in_equality_on_mysql_9_7",
};
const RIVALS: Guard = Guard {
    package: "onair-merger",
    filter: "rivals::",
};
const CONTRACTS: Guard = Guard {
    package: "onair-store",
    filter: "contracts::",
};
const DAMAGE: Guard = Guard {
    package: "onair-sdk",
    filter: "damage::",
};

const PLANTED: [Planted; 20] = [
    Planted {
        bug: "sibling-dropped",
        guard: ORACLE,
    },
    Planted {
        bug: "cut-records-forgotten",
        guard: ORACLE,
    },
    Planted {
        bug: "fingerprint-skipped",
        guard: Guard {
            package: "onair-bench",
            filter: "lost_tail::",
        },
    },
    Planted {
        bug: "window-closed-at-high",
        guard: Guard {
            package: "onair-bench",
            filter: "fire::",
        },
    },
    Planted {
        bug: "sign-lost",
        guard: ORACLE,
    },
    Planted {
        bug: "chunks-spliced",
        guard: DAMAGE,
    },
    Planted {
        bug: "resume-off-by-one",
        guard: Guard {
            package: "onair-server",
            filter: "subscribe::",
        },
    },
    Planted {
        bug: "off-lost",
        guard: ORACLE,
    },
    Planted {
        bug: "digest-ignored",
        guard: DAMAGE,
    },
    Planted {
        bug: "checkpoint-past-xa",
        guard: BARRIERS,
    },
    Planted {
        bug: "checkpoint-unacknowledged",
        guard: Guard {
            package: "onair-bench",
            filter: "fleet::handover",
        },
    },
    Planted {
        bug: "token-ignored",
        guard: RIVALS,
    },
    Planted {
        bug: "unknown-is-lost",
        guard: CONTRACTS,
    },
    Planted {
        bug: "unknown-is-won",
        guard: CONTRACTS,
    },
    Planted {
        bug: "base-beyond-cuts",
        guard: Guard {
            package: "onair-merger",
            filter: "cuts::",
        },
    },
    Planted {
        bug: "segments-expire",
        guard: Guard {
            package: "onair-bench",
            filter: "engines::segments::no_row_of_any_table_ends_by_itself",
        },
    },
    Planted {
        bug: "offset-before-fold",
        guard: Guard {
            package: "onair-merger",
            filter: "stops::",
        },
    },
    Planted {
        bug: "zombie-checkpoint",
        guard: CONTRACTS,
    },
    Planted {
        bug: "epoch-twice",
        guard: CONTRACTS,
    },
    Planted {
        bug: "containment-unchecked",
        guard: Guard {
            package: "onair-server",
            filter: "epochs::",
        },
    },
];

/// What a run of a guard showed.
struct Run {
    passed: bool,
    /// Tests that failed.
    failed: Vec<String>,
    took: Duration,
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    if let Some(unknown) = arguments
        .only
        .iter()
        .find(|name| PLANTED.iter().all(|planted| planted.bug != **name))
    {
        let names: Vec<&str> = PLANTED.iter().map(|planted| planted.bug).collect();
        bail!(
            "no planted bug is called {unknown}; there are: {}",
            names.join(", ")
        );
    }
    let wanted: Vec<&Planted> = PLANTED
        .iter()
        .filter(|planted| {
            arguments.only.is_empty() || arguments.only.iter().any(|name| name == planted.bug)
        })
        .collect();
    let mut clean: Vec<Guard> = Vec::new();
    let mut table = String::new();
    let mut unnoticed = 0;
    for planted in wanted {
        let Planted { bug, guard } = planted;
        if !clean.contains(guard) {
            println!("== no bug: {} {}", guard.package, guard.filter);
            let run = guard.run(None)?;
            if !run.passed {
                bail!(
                    "{} {} fails without a planted bug: {}",
                    guard.package,
                    guard.filter,
                    run.failed.join(", ")
                );
            }
            clean.push(*guard);
        }
        println!("== {bug}: {} {}", guard.package, guard.filter);
        let run = guard.run(Some(bug))?;
        let is_noticed = !run.passed && !run.failed.is_empty();
        unnoticed += usize::from(!is_noticed);
        let by = match is_noticed {
            true => run.failed.join(", "),
            false => "NOT NOTICED".to_owned(),
        };
        // Writing to a string cannot fail.
        let _ = writeln!(table, "{bug:<24}{:>7.1} s  {by}", run.took.as_secs_f64());
    }
    println!("\n{table}{unnoticed} not noticed");
    Ok(match unnoticed {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    })
}

impl Guard {
    /// Builds the tests with the places where bugs are planted, then runs them, with one or without.
    fn run(&self, bug: Option<&str>) -> Result<Run> {
        // With the engine, where a package's tests of it stand guard.
        let features = match self.package {
            "onair-bench" => "onair-model/plant,onair-bench/engines",
            _ => "onair-model/plant",
        };
        let cargo = || {
            let mut command = onair_xtask::cargo::command();
            command
                .current_dir(repository())
                .args(["test", "--quiet", "--package", self.package])
                .args(["--features", features, "--test", "main"]);
            command
        };
        let built = cargo()
            .arg("--no-run")
            .status()
            .context("cannot start cargo")?;
        if !built.success() {
            bail!("the tests of {} cannot be built", self.package);
        }
        let mut command = cargo();
        if let Some(bug) = bug {
            command.env("ONAIR_PLANT", bug);
        }
        let begun = Instant::now();
        let output = command
            .args([self.filter, "--", "--format", "pretty"])
            .stderr(Stdio::null())
            .output()
            .context("cannot start cargo")?;
        let text = String::from_utf8_lossy(&output.stdout);
        if !text.lines().any(|line| line.starts_with("test ")) {
            bail!("{} has no test {}", self.package, self.filter);
        }
        let failed = text
            .lines()
            .filter_map(|line| line.strip_prefix("test ")?.strip_suffix(" ... FAILED"));
        Ok(Run {
            passed: output.status.success(),
            failed: failed.map(str::to_owned).collect(),
            took: begun.elapsed(),
        })
    }
}
