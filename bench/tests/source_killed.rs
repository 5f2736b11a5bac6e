//! Kill -9 of the source under load: it comes back with all of its binlog, and OnAir goes on in the same epoch.

use std::time::Duration;

use anyhow::{Context as _, Result};
use onair_bench::process::Build;
use onair_bench::seed::seed;
use onair_bench::workload::Workload;
use onair_xtask::servers::Flavor;

use crate::world::{self, PATIENCE, World};

const KILLS: u64 = 3;
/// Versions between two kills.
const VERSIONS: usize = 100;

#[test]
fn a_killed_source_is_followed_on_mysql_9_7() {
    world::run(Flavor::Mysql97, Build::Plain, killed);
}

#[test]
fn a_killed_source_is_followed_on_mariadb_10_11() {
    world::run(Flavor::Mariadb1011, Build::Plain, killed);
}

async fn killed(world: World) -> Result<()> {
    let flavor = world.server.flavor();
    let seed = seed(&format!("killed source on {flavor}"));
    for kill in 0..=KILLS {
        let workload = Workload::start(&world.server, seed + kill, 4, Duration::from_millis(5))?;
        let wanted = world.observer.progress().versions + VERSIONS;
        world
            .observer
            .wait_for("versions before the kill", PATIENCE, |now| {
                now.versions >= wanted
            })
            .await
            .with_context(|| world.onair.log_tail())?;
        world.checkpointed().await?;
        if kill == KILLS {
            workload.stop()?;
        } else {
            world.server.kill9()?;
            // Its sessions ended with it.
            drop(workload);
            world.server.restart()?;
        }
        world.settle().await?;
    }
    let openings = world.onair.epochs();
    let (report, ..) = world.check().await?;
    println!(
        "{flavor}: {KILLS} kills, {} versions compared ({} as deltas), epochs {:?}",
        report.versions, report.deltas, report.epochs
    );
    assert_eq!(report.epochs.len(), 1, "{openings:?}");
    Ok(())
}
