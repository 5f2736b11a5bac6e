//! `onair bench storm`: everybody asks for a large snapshot within a second.

use std::time::Duration;

use anyhow::Result;
use serde_json::json;

use super::stage::{Program, Scene, Stage};
use crate::harness::{self, Beside, Bound, Case, Figure, Measuring, Of, Report, Run, Target};

const WITHIN: Duration = Duration::from_secs(1);
/// The most that a server held, beyond what it held for clients that were connected and idle.
const ABOVE_IDLE: &str = "bytes above idle clients";
/// What a client may need beside the snapshot that all share.
const OF_A_CLIENT: f64 = 10_000.0;
/// Memory that a peer may take; with tonic and prost, two snapshots as rows and one as bytes are under way for each.
const PEER_BYTES_MAX: u64 = 8 << 30;
const PEER_COPIES: u64 = 5;

/// Of how many, and of what.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  cargo run --release --features peers -- bench storm --rounds 2"
)]
pub struct StormArgs {
    /// Clients
    #[arg(long, default_value_t = 5_000, value_parser = clap::value_parser!(u32).range(1..=50_000))]
    clients: u32,
    /// Rows of the snapshot
    #[arg(long, default_value_t = 100_000)]
    rows: u32,
    #[command(flatten)]
    pub(crate) measuring: Measuring,
}

pub(super) fn run(args: &StormArgs) -> Result<()> {
    let measuring = &args.measuring;
    let clients = measuring.size(args.clients as usize, 20);
    let rows = measuring.size(args.rows, 2_000);
    let (scene, mut facts) = Scene::new(measuring, rows, 1)?;
    let fewer = PEER_BYTES_MAX / (PEER_COPIES * scene.snapshot_bytes as u64).max(1);
    let of_peer = clients.min(usize::try_from(fewer)?);
    facts["clients of tonic + prost, which would need too much memory with more"] = of_peer.into();
    let mut report = Report::begin(
        "storm",
        measuring,
        2,
        super::versions(),
        json!({ "clients": clients, "rows": rows, "within_seconds": WITHIN.as_secs() }),
    )?;
    let program = |program: Program, clients| {
        let scene = scene.with(clients);
        let name = match clients {
            few if few == scene.subscribers && few < args.clients as usize && !measuring.smoke => {
                format!("{}, {few} clients", program.name())
            }
            _ => program.name().to_owned(),
        };
        match program.missing(&scene) {
            Some(reason) => harness::Program::not_run(name, program.role(), reason),
            None => harness::Program::new(name, program.role(), move || storm(program, &scene)),
        }
    };
    let ours = Program::OnAir.name();
    let most = 2.0 * scene.snapshot_bytes as f64 + OF_A_CLIENT * clients as f64;
    let named = format!("{clients} clients ask for {rows} rows");
    report.measure(Case {
        targets: vec![
            Target::beside(
                ours,
                [Program::Write.name()],
                Figure::Wall,
                Bound::TimesTheCost(1.5),
            ),
            Target {
                ours: Of::new(ours, Figure::Count(ABOVE_IDLE)),
                beside: Beside::Nothing,
                bound: Bound::TimesTheCost(most),
            },
        ],
        facts,
        ..Case::new(
            named,
            "storm",
            Figure::Wall,
            vec![
                program(Program::Write, clients),
                program(Program::Tonic, of_peer),
                program(Program::OnAir, clients),
            ],
        )
    })?;
    report.end()?;
    Ok(())
}

fn storm(program: Program, scene: &Scene) -> Result<Run> {
    let mut stage = Stage::start(program, scene)?;
    stage.connect()?;
    let watch = stage.watch()?;
    let held_before = watch.resident_bytes();
    let came = stage.subscribe(WITHIN)?;
    let mut run = watch.stop(1, &[("ready clients", came.deliveries)])?;
    // By the clients' clock: from the first request to the last snapshot.
    run.wall_seconds = came.took_seconds;
    let above = run.memory_peak_bytes.saturating_sub(held_before);
    stage.end()?;
    Ok(run
        .with_counts(&[(ABOVE_IDLE, above), ("bytes", came.bytes)])
        .with_latencies("from a request to its snapshot", came.each))
}
