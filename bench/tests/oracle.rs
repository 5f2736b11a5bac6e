//! Every version that a client saw equals the table at its GTID: content, count and digest, on each server, through
//! barriers, restarts and kills.

use std::time::Instant;

use anyhow::{Context as _, Result};
use onair_bench::process::Build;
use onair_bench::seed::seed;
use onair_bench::workload::{Workload, fill};
use onair_xtask::servers::Flavor;
use std::time::Duration;

use crate::world::{self, PATIENCE, World};

/// Versions seen as deltas, at least.
const DELTAS: usize = 2_000;

#[test]
fn every_version_seen_is_the_table_at_its_gtid_on_mysql_9_7() {
    world::run(Flavor::Mysql97, Build::Plain, every_version);
}

#[test]
fn every_version_seen_is_the_table_at_its_gtid_on_mysql_8_0() {
    world::run(Flavor::Mysql80, Build::Plain, every_version);
}

#[test]
fn every_version_seen_is_the_table_at_its_gtid_on_mariadb_10_11() {
    world::run(Flavor::Mariadb1011, Build::Plain, every_version);
}

async fn every_version(mut world: World) -> Result<()> {
    let flavor = world.server.flavor();
    let seed = seed(&format!("oracle on {flavor}"));
    let began = Instant::now();
    let sessions = 4;
    let workload = Workload::start(&world.server, seed, sessions, Duration::from_millis(40))?;
    let deltas = |share: usize| {
        move |now: &onair_bench::observer::Progress| now.deltas >= DELTAS * share / 10
    };

    world.until("the first epoch", deltas(2)).await?;
    world
        .server
        .sql("ALTER TABLE live.room ADD COLUMN extra INT NULL FIRST")?;
    world.until("after ADD COLUMN", deltas(3)).await?;

    truncate(&world, 2).await?;
    world.until("the second epoch", deltas(4)).await?;
    world.onair.stop()?;
    world.onair.start()?;
    world.until("after a restart", deltas(6)).await?;
    world
        .server
        .sql("ALTER TABLE live.room DROP COLUMN extra")?;

    truncate(&world, 3).await?;
    world.until("the third epoch", deltas(7)).await?;
    world.onair.kill9()?;
    world.onair.start()?;
    world.until("after kill -9", deltas(10)).await?;

    let sent = workload.stop()?;
    world.settle().await?;
    let ran = began.elapsed();
    let starts = world.onair.starts;
    let openings = world.onair.epochs();
    let (report, seen, truth) = world.check().await?;
    let merged: u64 = seen.iter().map(|seen| seen.merged).sum();
    println!(
        "{flavor}: {} versions compared ({} as deltas, {merged} merged by the consumer), {} contents row by row, \
         epochs {:?}, {} transactions ({} of the feed, {sent} sent by {sessions} sessions), {starts} starts, \
         {:.0} s + {:.0} s to compare",
        report.versions,
        report.deltas,
        report.contents,
        report.epochs,
        truth.len(),
        truth.touching(),
        ran.as_secs_f64(),
        (began.elapsed() - ran).as_secs_f64(),
    );
    for opening in openings {
        println!("  epoch opened: {opening}");
    }
    assert!(report.deltas >= DELTAS, "too few versions seen as deltas");
    assert!(report.epochs.len() >= 3, "too few epochs");
    Ok(())
}

/// Empties the table, fills it again, and waits for the epoch that this opens.
async fn truncate(world: &World, epoch: u32) -> Result<()> {
    world.server.sql("TRUNCATE TABLE live.room")?;
    world.server.sql(&fill(1..=1_000))?;
    world
        .until("the epoch after TRUNCATE", |now| now.epoch >= epoch)
        .await
        .context("TRUNCATE is a barrier")
}

impl World {
    async fn until(
        &self,
        what: &str,
        test: impl FnMut(&onair_bench::observer::Progress) -> bool,
    ) -> Result<()> {
        self.observer
            .wait_for(what, PATIENCE, test)
            .await
            .with_context(|| self.onair.log_tail())
    }
}
