//! What every test here begins with: a server, its table, OnAir on it, and a client.

use std::cell::Cell;
use std::fs::File;
use std::io::BufReader;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use onair_bench::observer::{Observer, Seen, content};
use onair_bench::oracle::{Report, Shape, Truth, check, difference};
use onair_bench::process::{Build, OnAir};
use onair_bench::workload;
use onair_xtask::servers::{Flavor, Options, Server};
use tempfile::TempDir;

/// Until a test gives up on something that must come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Between two looks at something that only a command tells.
const LOOK: Duration = Duration::from_millis(50);

/// A server with `live.room`, OnAir on it and a client that notes what it sees.
pub(crate) struct World {
    pub(crate) server: Server,
    pub(crate) onair: OnAir,
    pub(crate) observer: Observer,
    pub(crate) dir: TempDir,
}

/// Runs a test unless this run does without the server.
pub(crate) fn run(flavor: Flavor, build: Build, test: impl AsyncFnOnce(World) -> Result<()>) {
    if flavor.is_left_out() {
        eprintln!("NOT RUN {flavor}: left out");
        return;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    runtime
        .block_on(async {
            let world = World::begin(flavor, build).await?;
            test(world).await
        })
        .unwrap_or_else(|error| panic!("{flavor}: {error:?}"));
}

impl World {
    async fn begin(flavor: Flavor, build: Build) -> Result<Self> {
        let server = Server::start_own(flavor, Options::default())?;
        workload::create(&server)?;
        server.create_user(
            "onair",
            "secret",
            &["REPLICATION SLAVE ON *.*", "SELECT ON *.*"],
        )?;
        let dir = TempDir::new()?;
        let mut onair = OnAir::new(build, &server.url("onair:secret", ""), dir.path())?;
        onair.start()?;
        let observer = Observer::connect(onair.address())
            .await
            .with_context(|| onair.log_tail())?;
        Ok(World {
            server,
            onair,
            observer,
            dir,
        })
    }

    /// The server's whole GTID set (MariaDB: its position).
    pub(crate) fn executed(&self) -> Result<String> {
        let query = match self.server.flavor().is_mariadb() {
            true => "SELECT @@gtid_binlog_pos",
            false => "SELECT REPLACE(@@gtid_executed, '\n', '')",
        };
        Ok(self.server.sql(query)?.trim().replace("\\n", ""))
    }

    /// Waits until the client has seen all that the server committed.
    pub(crate) async fn settle(&self) -> Result<()> {
        let set = self.executed()?;
        self.observer
            .wait_for_set(&set, PATIENCE)
            .await
            .with_context(|| self.onair.log_tail())?;
        self.equal().await
    }

    /// Waits until a checkpoint stands in the present epoch: a restart or reconnect before that opens the next one.
    pub(crate) async fn checkpointed(&self) -> Result<()> {
        let shown = self.observer.feed.snapshot().version();
        self.until_told("a checkpoint in the present epoch", || {
            let checkpoint = self.onair.checkpoint()?;
            Ok(checkpoint.is_some_and(|at| at.epoch() == shown.epoch()))
        })
        .await
    }

    /// Waits until the merger's heads have passed what the client sees.
    pub(crate) async fn merged(&self) -> Result<()> {
        let shown = self.observer.feed.snapshot().version();
        self.until_told("a cut of the merger at what is shown", || {
            Ok(self.onair.merged()? >= Some(shown))
        })
        .await
    }

    async fn until_told(&self, what: &str, mut test: impl FnMut() -> Result<bool>) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while !test()? {
            ensure!(Instant::now() < deadline, "never: {what}");
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }

    /// Waits until the client holds what SELECT gives; for a table that nobody writes to.
    pub(crate) async fn equal(&self) -> Result<()> {
        let shape = Shape::room();
        let table = shape.content(&self.server.sql(&shape.select())?)?;
        let last = Cell::new(String::new());
        let is_equal = self
            .observer
            .wait_for("the content of the table", PATIENCE, |_| {
                let held = content(&self.observer.feed.snapshot());
                last.set(difference(&table, &held));
                table == held
            });
        is_equal
            .await
            .with_context(|| format!("{}\n{}", last.take(), self.onair.log_tail()))
    }

    /// Compares all that the client saw with the server's binlog.
    pub(crate) async fn check(self) -> Result<(Report, Vec<Seen>, Truth)> {
        let seen = self.observer.finish().await?;
        let path = self.dir.path().join("binlog.txt");
        self.server.write_binlog_text(&path)?;
        let truth = Truth::read(BufReader::new(File::open(&path)?), &Shape::room())?;
        let report = check(&truth, &seen)?;
        Ok((report, seen, truth))
    }
}
