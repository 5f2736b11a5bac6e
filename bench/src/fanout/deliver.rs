//! `onair bench fanout`: what it costs a server to bring an update, or a snapshot, to one more subscriber.

use std::time::Duration;

use anyhow::Result;
use serde_json::{Value, json};

use super::stage::{Program, Scene, Stage};
use super::{SNAPSHOT_ROWS, UPDATE_ROWS};
use crate::harness::{self, Bound, Case, Figure, Measuring, Report, Run, Target};

/// Updates a second.
const HZ: f64 = 4.0;

/// To how many, and how long.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  cargo run --release --features peers -- bench fanout --subscribers 1000 --seconds 5"
)]
pub struct FanoutArgs {
    /// Subscribers; may be given again for more
    #[arg(long, value_delimiter = ',', default_values_t = [1, 100, 1_000, 5_000])]
    subscribers: Vec<usize>,
    /// Length of a run of updates; a second before it does not count
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    #[command(flatten)]
    pub(crate) measuring: Measuring,
}

#[derive(Clone, Copy)]
enum What {
    Updates { count: u64 },
    Snapshot,
}

pub(super) fn run(args: &FanoutArgs) -> Result<()> {
    let measuring = &args.measuring;
    let subscribers = measuring.size(&args.subscribers[..], &[1, 20]);
    let count = measuring.size(args.seconds * HZ as u64, 2);
    let mut report = Report::begin(
        "fanout",
        measuring,
        2 * subscribers.len(),
        super::versions(),
        json!({ "subscribers": subscribers, "updates_a_second": HZ, "updates": count }),
    )?;
    let (scene, facts) = Scene::new(measuring, SNAPSHOT_ROWS, UPDATE_ROWS)?;
    for what in [What::Updates { count }, What::Snapshot] {
        for &subscribers in subscribers {
            report.measure(case(what, scene.with(subscribers), &facts))?;
        }
    }
    report.end()?;
    Ok(())
}

fn case<'a>(what: What, scene: Scene, facts: &Value) -> Case<'a> {
    let programs = Program::ALL.map(|program| {
        let (name, role) = (program.name(), program.role());
        match program.missing(&scene) {
            Some(reason) => harness::Program::not_run(name, role, reason),
            None => harness::Program::new(name, role, move || deliver(what, program, &scene)),
        }
    });
    let ours = |other: Program, bound| {
        Target::beside(Program::OnAir.name(), [other.name()], Figure::Cpu, bound)
    };
    let (floor, tonic, name) = match what {
        What::Updates { .. } => (1.5, 0.8, format!("an update, {HZ} a second")),
        What::Snapshot => (1.6, 1.0 / 6.0, "a snapshot".to_owned()),
    };
    let count = scene.subscribers;
    let plural = if count == 1 { "" } else { "s" };
    Case {
        targets: vec![
            ours(Program::Write, Bound::TimesTheCost(floor)),
            ours(Program::Tonic, Bound::TimesTheCost(tonic)),
            ours(Program::GoSend, Bound::TimesTheCost(0.5)),
            ours(Program::GoPrepared, Bound::TimesTheCost(1.0)),
        ],
        facts: facts.clone(),
        ..Case::new(
            format!("{name}, {count} subscriber{plural}"),
            "delivery",
            Figure::Cpu,
            programs.into(),
        )
    }
}

fn deliver(what: What, program: Program, scene: &Scene) -> Result<Run> {
    let mut stage = Stage::start(program, scene)?;
    stage.connect()?;
    let (watch, came) = match what {
        What::Snapshot => {
            let watch = stage.watch()?;
            (watch, stage.subscribe(Duration::ZERO)?)
        }
        What::Updates { count } => {
            stage.subscribe(Duration::ZERO)?;
            // What is done for the first time does not count.
            stage.publish(HZ as u64, HZ)?;
            let watch = stage.watch()?;
            (watch, stage.publish(count, HZ)?)
        }
    };
    let run = watch.stop(came.deliveries, &[("bytes", came.bytes)])?;
    stage.end()?;
    Ok(run
        .with_latencies("to a subscriber", came.each)
        .with_latencies("to the last subscriber", came.last))
}
