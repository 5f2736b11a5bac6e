//! `onair bench memory`: what a server holds for each subscriber that waits, and once each got a snapshot.

use std::thread;
use std::time::Duration;

use anyhow::Result;
use serde_json::json;

use super::stage::{Program, Scene, Stage};
use super::{SNAPSHOT_ROWS, UPDATE_ROWS};
use crate::harness::{self, Beside, Bound, Case, Figure, Measuring, Of, Report, Run, Target};

/// Until everything that was made for a while is given back.
const SETTLED: Duration = Duration::from_secs(2);
/// Subscribers of a server that has begun: what it needs but once is there.
const PROGRAMS: [Program; 5] = [
    Program::Tonic,
    Program::TonicWide,
    Program::GoSend,
    Program::GoPrepared,
    Program::OnAir,
];

/// Of how many.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  cargo run --release --features peers -- bench memory --subscribers 1000"
)]
pub struct MemoryArgs {
    /// Subscribers
    #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(1..=50_000))]
    subscribers: u32,
    #[command(flatten)]
    pub(crate) measuring: Measuring,
}

pub(super) fn run(args: &MemoryArgs) -> Result<()> {
    let measuring = &args.measuring;
    let subscribers = measuring.size(args.subscribers as usize, 20);
    let mut report = Report::begin(
        "memory",
        measuring,
        2,
        super::versions(),
        json!({ "subscribers": subscribers }),
    )?;
    for (name, rows, most) in [
        ("idle", 1, 30_000.0),
        ("after a snapshot each", SNAPSHOT_ROWS, 40_000.0),
    ] {
        let (scene, facts) = Scene::new(measuring, rows, UPDATE_ROWS.min(rows))?;
        let scene = scene.with(subscribers);
        let programs = PROGRAMS.map(|program| {
            let (name, role) = (program.name(), program.role());
            match program.missing(&scene) {
                Some(reason) => harness::Program::not_run(name, role, reason),
                None => harness::Program::new(name, role, move || hold(program, &scene)),
            }
        });
        report.measure(Case {
            targets: vec![Target {
                ours: Of::new(Program::OnAir.name(), Figure::Memory),
                beside: Beside::Nothing,
                bound: Bound::TimesTheCost(most),
            }],
            noise: Some(Of::new(Program::OnAir.name(), Figure::Memory)),
            facts,
            ..Case::new(
                format!("memory, {subscribers} subscribers, {name}"),
                "subscriber",
                Figure::Memory,
                programs.into(),
            )
        })?;
    }
    report.end()?;
    Ok(())
}

fn hold(program: Program, scene: &Scene) -> Result<Run> {
    let mut stage = Stage::start(program, scene)?;
    let watch = stage.watch()?;
    stage.connect()?;
    let came = stage.subscribe(Duration::ZERO)?;
    thread::sleep(SETTLED);
    let run = watch.stop(came.deliveries, &[("bytes", came.bytes)])?;
    stage.end()?;
    Ok(run)
}
