//! A link to the source that is slow, cuts everything small, and breaks now and then.

use std::num::NonZeroUsize;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use onair_bench::observer::Observer;
use onair_bench::process::{Build, OnAir};
use onair_bench::proxy::{Carry, Proxy};
use onair_bench::seed::seed;
use onair_bench::workload::{self, Workload};
use onair_xtask::servers::{Flavor, Options, Server};
use tempfile::TempDir;

use crate::world::{PATIENCE, World};

/// Versions that must come in each state of the link.
const VERSIONS: usize = 40;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_link_that_breaks_is_followed_in_one_epoch() -> Result<()> {
    if Flavor::Mysql97.is_left_out() {
        eprintln!("NOT RUN mysql-9.7: left out");
        return Ok(());
    }
    let seed = seed("slow link");
    let server = Server::start_own(Flavor::Mysql97, Options::default())?;
    workload::create(&server)?;
    let grants = ["REPLICATION SLAVE ON *.*", "SELECT ON *.*"];
    server.create_user("onair", "secret", &grants)?;
    let link = Proxy::to(&format!("{}:{}", server.host(), server.port()), seed).await?;
    let dir = TempDir::new()?;
    let url = format!("mysql://onair:secret@{}/", link.address());
    let mut onair = OnAir::new(Build::Plain, &url, dir.path())?;
    onair.start()?;
    let observer = Observer::connect(onair.address()).await?;
    let world = World {
        server,
        onair,
        observer,
        dir,
    };
    let slow = Carry::Delay {
        least: Duration::from_millis(150),
        jitter: Duration::from_millis(150),
    };
    let small = Carry::Slice {
        most: NonZeroUsize::new(7).context("seven")?,
    };
    let workload = Workload::start(&world.server, seed, 2, Duration::from_millis(20))?;
    for carry in [slow, small, slow] {
        link.set_both(carry);
        let wanted = world.observer.progress().versions + VERSIONS;
        let came = world
            .observer
            .wait_for("versions by it", PATIENCE, |now| now.versions >= wanted);
        came.await.with_context(|| world.onair.log_tail())?;
        world.checkpointed().await?;
        link.reset();
    }
    workload.stop()?;
    world.settle().await?;
    let counts = link.counts();
    let openings = world.onair.epochs();
    let (report, ..) = world.check().await?;
    println!(
        "{} versions compared, epochs {:?}, {counts:?}",
        report.versions, report.epochs
    );
    ensure!(
        counts.down.delayed > 0 && counts.down.slices > 0 && counts.reset > 0,
        "{counts:?}"
    );
    ensure!(report.epochs.len() == 1, "{openings:?}");
    Ok(())
}
