//! Kill -9 of OnAir under load, at its failpoints and at random moments. The client stays; it never sees a version go
//! back or a set that the table did not have, and in the end it holds what SELECT gives.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use onair_bench::process::Build;
use onair_bench::seed::seed;
use onair_bench::workload::{Workload, fill};
use onair_xtask::servers::Flavor;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use crate::world::{self, PATIENCE, World};

/// What the table needs for a failpoint to be reached soon.
#[derive(Clone, Copy)]
enum Push {
    /// The workload is enough.
    Nothing,
    /// A new epoch.
    Truncate,
    /// More than a quarter of each base, again and again until it strikes.
    Wide,
}

/// Live rows that the workload does not touch: they make the bases large enough (64 KB) to be rewritten for their size.
const WIDE: RangeInclusive<u64> = 100_001..=124_000;

/// A failpoint, the most hits until it strikes, and what brings it about.
const POINTS: [(&str, u32, Push); 8] = [
    ("flush", 60, Push::Nothing),
    ("checkpoint", 2, Push::Nothing),
    ("fold", 20, Push::Nothing),
    ("cuts head", 2, Push::Nothing),
    ("base rewrite", 4, Push::Wide),
    ("scan", 1, Push::Truncate),
    ("epoch opening", 1, Push::Truncate),
    ("epoch stated", 1, Push::Truncate),
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
    for (point, hits, push) in POINTS {
        if matches!(push, Push::Wide) {
            world.server.sql(&wide())?;
        }
        for _ in 0..KILLS_A_POINT {
            let hits = rng.random_range(1..=hits);
            let was_ready = world.onair.start_failing(point, hits)?;
            if was_ready {
                match push {
                    Push::Nothing => {}
                    Push::Truncate => {
                        world.server.sql("TRUNCATE TABLE live.room")?;
                        world.server.sql(&fill(1..=1_000))?;
                    }
                    Push::Wide => widen(&mut world)?,
                }
                world
                    .onair
                    .wait_abort()
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
    for _ in 0..KILLS_A_POINT {
        world.onair.kill9()?;
        *done.entry("idle").or_default() += 1;
        world.onair.start()?;
        world.settle().await?;
    }
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

/// One INSERT of the wide rows.
fn wide() -> String {
    let rows: Vec<String> = WIDE
        .map(|id| format!("(1, {id}, 0, REPEAT('w', 60), 1)"))
        .collect();
    format!(
        "INSERT IGNORE INTO live.room (uid, id, area_id, title, live_status) VALUES {}",
        rows.join(",")
    )
}

/// Changes half of the wide rows, each time anew, until OnAir has ended.
fn widen(world: &mut World) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while world.onair.is_running()? {
        ensure!(Instant::now() < deadline, "no base was rewritten");
        world.server.sql(&format!(
            "UPDATE live.room SET area_id = area_id + 1 WHERE id BETWEEN {} AND {}",
            WIDE.start(),
            WIDE.start() + 12_000
        ))?;
    }
    Ok(())
}
