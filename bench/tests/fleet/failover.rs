//! The source dies for good and its replica takes its place: a new epoch, and for clients one delta.

use std::fs::File;
use std::io::BufReader;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use onair_bench::observer::{Observer, content};
use onair_bench::oracle::{Shape, Truth, check, difference};
use onair_bench::seed::seed;
use onair_bench::workload::Workload;

use super::{Fleet, PATIENCE, Size, run};
use crate::replica::{caught_up, executed, replica_of};

const ONE: Size = Size {
    readers: 1,
    mergers: 1,
    servers: 1,
};

#[test]
fn a_replica_takes_the_place_of_its_source() {
    run(ONE, failover);
}

async fn failover(mut fleet: Fleet) -> Result<()> {
    let seed = seed("failover");
    let replica = replica_of(&fleet.engines.mysql)?;
    fleet.standbys(&[&replica])?;
    fleet.start()?;
    let observer = Observer::connect_to(&fleet.addresses()).await?;
    let workload = Workload::start(&fleet.engines.mysql, seed, 2, Duration::from_millis(20))?;
    observer
        .wait_for("some versions", PATIENCE, |now| now.versions >= 50)
        .await?;
    workload.stop()?;
    let set = fleet.executed()?;
    observer.wait_for_set(&set, PATIENCE).await?;
    caught_up(&replica, &set)?;
    fleet.engines.mysql.kill9()?;
    replica.sql("STOP REPLICA")?;

    let began = Instant::now();
    let workload = Workload::start(&replica, seed + 1, 2, Duration::from_millis(20))?;
    observer
        .wait_for("the next epoch", PATIENCE, |now| now.epoch == 2)
        .await
        .with_context(|| fleet.logs())?;
    println!(
        "the replica's epoch is shown {:?} after the end of the source",
        began.elapsed()
    );
    let wanted = observer.progress().versions + 50;
    observer
        .wait_for("versions of it", PATIENCE, |now| now.versions >= wanted)
        .await?;
    workload.stop()?;
    let set = executed(&replica)?;
    observer.wait_for_set(&set, PATIENCE).await?;
    let shape = Shape::room();
    let table = shape.content(&replica.sql(&shape.select())?)?;
    let held = content(&observer.feed.snapshot());
    ensure!(held == table, "{}", difference(&table, &held));

    let seen = observer.finish().await?;
    let path = fleet.dir.path().join("replica.txt");
    replica.write_binlog_text(&path)?;
    let truth = Truth::read(BufReader::new(File::open(&path)?), &shape)?;
    let report = check(&truth, &seen)?;
    ensure!(report.epochs.len() == 2, "epochs {:?}", report.epochs);
    // The first is a whole set; all others, that of the new epoch too, are what changed.
    let whole = seen.iter().skip(1).filter(|seen| !seen.is_delta).count();
    ensure!(whole == 0, "{whole} whole sets after the first");
    println!(
        "{} versions compared in epochs {:?}",
        report.versions, report.epochs
    );
    for role in &mut fleet.roles {
        role.stop()?;
    }
    Ok(())
}
