//! `onair bench slow`: what all others notice of one subscriber that has stopped reading.

use std::time::Duration;

use anyhow::Result;
use serde_json::json;

use super::UPDATE_ROWS;
use super::stage::{Program, Scene, Stage};
use crate::harness::{self, Bound, Case, Figure, Measuring, Of, Report, Role, Run, Target};

/// So many that what may wait for the one who has stopped is full within two seconds.
const HZ: f64 = 10.0;
const EACH: &str = "to a subscriber that reads";
const P99: Figure = Figure::Latency(EACH, 0.99);
/// Memory that differs by less is the same.
const FLAT: f64 = 1.05;

/// Among how many, and how long.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  cargo run --release --features peers -- bench slow --seconds 10"
)]
pub struct SlowArgs {
    /// Subscribers, of whom one stops reading
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(2..=50_000))]
    subscribers: u32,
    /// Length of a run; two seconds before it do not count
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    #[command(flatten)]
    pub(crate) measuring: Measuring,
}

pub(super) fn run(args: &SlowArgs) -> Result<()> {
    let measuring = &args.measuring;
    let subscribers = measuring.size(args.subscribers as usize, 20);
    let seconds = measuring.size(args.seconds, 1);
    let mut report = Report::begin(
        "slow",
        measuring,
        2,
        super::versions(),
        json!({ "subscribers": subscribers, "updates_a_second": HZ, "seconds": seconds }),
    )?;
    let (scene, facts) = Scene::new(measuring, UPDATE_ROWS, UPDATE_ROWS)?;
    let scene = scene.with(subscribers);
    for program in [Program::Tonic, Program::OnAir] {
        let named = |stopped| match stopped {
            0 => format!("{}, all read", program.name()),
            _ => format!("{}, one has stopped", program.name()),
        };
        // The same program with all subscribers reading is what it is compared with.
        let programs = [(0, Role::Peer), (1, Role::Ours)].map(|(stopped, role)| {
            let scene = Scene { stopped, ..scene };
            match program.missing(&scene) {
                Some(reason) => harness::Program::not_run(named(stopped), role, reason),
                None => harness::Program::new(named(stopped), role, move || {
                    watch(program, &scene, seconds)
                }),
            }
        });
        let target = |figure, bound| Target::beside(named(1), [named(0)], figure, bound);
        let targets = match program {
            Program::OnAir => vec![
                target(P99, Bound::NoWorse),
                target(Figure::Peak, Bound::TimesTheCost(FLAT)),
            ],
            _ => Vec::new(),
        };
        report.measure(Case {
            targets,
            noise: Some(Of::new(named(0), P99)),
            facts: facts.clone(),
            ..Case::new(
                format!(
                    "one of {subscribers} subscribers of {} stops reading",
                    program.name()
                ),
                "run",
                P99,
                programs.into(),
            )
        })?;
    }
    report.end()?;
    Ok(())
}

fn watch(program: Program, scene: &Scene, seconds: u64) -> Result<Run> {
    let mut stage = Stage::start(program, scene)?;
    stage.connect()?;
    stage.subscribe(Duration::ZERO)?;
    stage.publish(2 * HZ as u64, HZ)?;
    let watch = stage.watch()?;
    let came = stage.publish(seconds * HZ as u64, HZ)?;
    let run = watch.stop(1, &[("deliveries", came.deliveries)])?;
    stage.end()?;
    Ok(run
        .with_latencies(EACH, came.each)
        .with_latencies("to the last that reads", came.last))
}
