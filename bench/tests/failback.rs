//! Back to the old primary, which has transactions of its own and lacks those of its replica.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use onair_bench::observer::{Observer, content};
use onair_bench::oracle::{Shape, difference};
use onair_bench::process::{Build, OnAir};
use onair_bench::workload;
use onair_xtask::servers::{Flavor, Options, Server};
use tempfile::TempDir;

use crate::replica::{caught_up, executed, replica_of};
use crate::world::PATIENCE;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn back_at_the_old_primary_its_own_content_is_shown_and_the_loss_told() -> Result<()> {
    if Flavor::Mysql97.is_left_out() {
        eprintln!("NOT RUN mysql-9.7: left out");
        return Ok(());
    }
    let old = Server::start_own(Flavor::Mysql97, Options::default())?;
    workload::create(&old)?;
    let grants = ["REPLICATION SLAVE ON *.*", "SELECT ON live.*"];
    old.create_user("onair", "secret", &grants)?;
    let new = replica_of(&old)?;
    let dir = TempDir::new()?;
    let mut onair = OnAir::new(Build::Plain, &old.url("onair:secret", ""), dir.path())?;
    onair.set("ONAIR_SOURCE_STANDBYS", &new.url("onair:secret", ""));
    onair.set("ONAIR_SERVER_LOST_TAIL_WAIT", "2s");
    onair.start()?;
    let observer = Observer::connect(onair.address()).await?;
    let mut changes = observer.feed.changes();
    // The whole content; what comes after it is told as a change.
    changes.next().await.context("the feed ended")?;
    caught_up(&new, &executed(&old)?)?;

    old.kill9()?;
    new.sql("STOP REPLICA; UPDATE live.room SET title = 'at the new one' WHERE id = 3")?;
    let epoch =
        |epoch: u32| observer.wait_for("the next epoch", PATIENCE, move |now| now.epoch >= epoch);
    epoch(2).await.with_context(|| onair.log_tail())?;
    observer.wait_for_set(&executed(&new)?, PATIENCE).await?;

    old.restart()?;
    old.sql("UPDATE live.room SET title = 'at the old one' WHERE id = 6")?;
    new.kill9()?;
    epoch(3).await.with_context(|| onair.log_tail())?;
    observer.wait_for_set(&executed(&old)?, PATIENCE).await?;
    let shape = Shape::room();
    let table = shape.content(&old.sql(&shape.select())?)?;
    let held = content(&observer.feed.snapshot());
    ensure!(held == table, "{}", difference(&table, &held));
    // Whoever follows is told that what it had seen is gone.
    let shown = observer.feed.snapshot().version();
    let mut is_told = false;
    let telling = async {
        while let Some(step) = changes.next().await {
            is_told |= step.rewound;
            if step.to >= shown {
                break;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), telling).await?;
    ensure!(is_told, "nobody was told");
    onair.stop()
}
