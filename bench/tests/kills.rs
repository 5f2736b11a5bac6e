//! Kill -9 of OnAir under load, at its failpoints and at random moments. The client stays; it never sees a version go
//! back or a set that the table did not have, and in the end it holds what SELECT gives.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result};
use onair_bench::process::Build;
use onair_bench::seed::seed;
use onair_bench::workload::{Workload, fill};
use onair_xtask::servers::Flavor;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use crate::world::{self, PATIENCE, World};

/// A failpoint, the most hits until it strikes, and whether it needs an epoch to be opened.
const POINTS: [(&str, u32, bool); 8] = [
    ("flush", 60, false),
    ("checkpoint", 2, false),
    ("fold", 20, false),
    ("base rewrite", 3, false),
    ("cuts head", 2, false),
    ("scan", 1, true),
    ("epoch opening", 1, true),
    ("epoch stated", 1, true),
];
const KILLS_A_POINT: usize = 5;
const RANDOM_KILLS: usize = 10;

#[test]
fn fifty_kills_lose_and_invent_nothing() {
    world::run(Flavor::Mysql97, Build::Plant, kills);
}

async fn kills(mut world: World) -> Result<()> {
    let seed = seed("kills");
    let mut rng = StdRng::seed_from_u64(seed);
    let workload = Workload::start(&world.server, seed, 3, Duration::from_millis(40))?;
    let mut done: BTreeMap<&str, usize> = BTreeMap::new();
    world.onair.stop()?;
    for (point, hits, opens) in POINTS {
        for _ in 0..KILLS_A_POINT {
            let hits = rng.random_range(1..=hits);
            let was_ready = world.onair.start_failing(point, hits)?;
            if was_ready {
                if opens {
                    world.server.sql("TRUNCATE TABLE live.room")?;
                    world.server.sql(&fill(1..=1_000))?;
                }
                world
                    .onair
                    .wait_end()
                    .with_context(|| format!("failpoint {point}, hit {hits}"))?;
            }
            *done.entry(point).or_default() += 1;
        }
        // It comes back from each kind, and its client with it.
        let before = world.observer.progress().versions;
        world.onair.start()?;
        world
            .observer
            .wait_for(&format!("a version after {point}"), PATIENCE, |now| {
                now.versions > before
            })
            .await
            .with_context(|| world.onair.log_tail())?;
        world.onair.kill9()?;
        *done.entry("after coming back").or_default() += 1;
    }
    for _ in 0..RANDOM_KILLS {
        world.onair.start()?;
        // Not a wait for something: the moment of the kill.
        tokio::time::sleep(Duration::from_millis(rng.random_range(0..1_500))).await;
        world.onair.kill9()?;
        *done.entry("random").or_default() += 1;
    }
    world.onair.start()?;
    let sent = workload.stop()?;
    world.settle().await?;
    let openings = world.onair.epochs();
    let (report, _, truth) = world.check().await?;
    println!(
        "{} kills {done:?}; {} versions compared ({} as deltas) in epochs {:?}, {} transactions ({sent} sent)",
        done.values().sum::<usize>(),
        report.versions,
        report.deltas,
        report.epochs,
        truth.len(),
    );
    for opening in openings {
        println!("  epoch opened: {opening}");
    }
    Ok(())
}
