//! `onair bench all`: every bench, one after another, in the time that there is, and the page of what they gave.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::harness::{BenchResult, Measuring};
use crate::page;

/// The benches, and how much of the time each gets.
const BENCHES: [(&str, u32); 12] = [
    ("decode", 8),
    ("latency", 3),
    ("engines", 5),
    ("headline", 4),
    ("scan", 6),
    ("fanout", 8),
    ("memory", 1),
    ("slow", 2),
    ("storm", 4),
    ("sdk", 4),
    ("growth", 3),
    ("fold", 4),
];

/// Those that are not in every build.
const OF_ENGINES: [&str; 2] = ["engines", "headline"];

/// How.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  onair bench all --budget 30m\n  onair bench all --smoke      # two minutes: whether they work"
)]
pub struct AllArgs {
    /// Not this one; may be given again for more
    #[arg(long, value_name = "NAME", value_parser = BENCHES.map(|(name, _)| name))]
    skip: Vec<String>,
    #[command(flatten)]
    measuring: Measuring,
}

/// Each as a process of its own, so that none finds what another left behind. One that fails does not keep the others.
pub fn run(args: &AllArgs) -> Result<()> {
    let begun = Instant::now();
    let wanted: Vec<(&str, u32)> = BENCHES
        .into_iter()
        .filter(|(name, _)| !args.skip.iter().any(|skipped| skipped == name))
        .collect();
    let mut failed = Vec::new();
    let is_here = |name| cfg!(feature = "engines") || !OF_ENGINES.contains(&name);
    for (at, (name, weight)) in wanted.iter().enumerate() {
        let weights_left: u32 = wanted[at..].iter().map(|(_, weight)| weight).sum();
        let share =
            |budget: Duration| budget.saturating_sub(begun.elapsed()) * *weight / weights_left;
        let budget = args.measuring.budget.map(share);
        println!("\n== {name} ({} of {})", at + 1, wanted.len());
        if !is_here(*name) {
            println!("NOT RUN: not in this build: --features engines");
            continue;
        }
        let status = Command::new(std::env::current_exe()?)
            .args(arguments(name, &args.measuring, budget))
            .status()?;
        if !status.success() {
            failed.push(*name);
        }
    }
    let out = &args.measuring.out;
    let page = page::write(out)?;
    let targets: Vec<Option<bool>> = BenchResult::all_of(out)?
        .iter()
        .flat_map(|result| &result.targets)
        .map(|target| target.met)
        .collect();
    let count = |met| targets.iter().filter(|target| **target == met).count();
    println!(
        "\n{} targets met, {} missed, {} unknown, in {:.0} s: {}",
        count(Some(true)),
        count(Some(false)),
        count(None),
        begun.elapsed().as_secs_f64(),
        page.display()
    );
    if !failed.is_empty() {
        bail!("{} failed; what it said stands above", failed.join(", "));
    }
    Ok(())
}

fn arguments(name: &str, measuring: &Measuring, budget: Option<Duration>) -> Vec<String> {
    let mut arguments = vec!["bench".to_owned(), name.to_owned()];
    let mut put = |name: &str, value: String| arguments.extend([name.to_owned(), value]);
    put("--rounds", measuring.rounds.to_string());
    put("--out", measuring.out.to_string_lossy().into_owned());
    if let Some(budget) = budget {
        put("--budget", format!("{}s", budget.as_secs().max(1)));
    }
    if measuring.smoke {
        arguments.push("--smoke".to_owned());
    }
    if measuring.pin {
        arguments.push("--pin".to_owned());
    }
    arguments
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_bench_is_told_how_to_measure() {
        let measuring = Measuring {
            rounds: 3,
            budget: None,
            smoke: true,
            pin: false,
            out: "here".into(),
        };
        assert_eq!(
            arguments("scan", &measuring, Some(Duration::from_millis(1_500))),
            [
                "bench", "scan", "--rounds", "3", "--out", "here", "--budget", "1s", "--smoke"
            ]
        );
    }
}
