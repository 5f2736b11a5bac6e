//! Two processes that read one server's binlog under one number.

use std::time::Duration;

use anyhow::{Result, ensure};
use onair_bench::observer::Observer;
use onair_bench::process::{Build, OnAir};
use onair_bench::workload;
use onair_xtask::servers::{Flavor, Options, Server};
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_second_of_two_readers_with_one_server_id_is_told_who_the_first_is() -> Result<()> {
    if Flavor::Mysql97.is_left_out() {
        eprintln!("NOT RUN mysql-9.7: left out");
        return Ok(());
    }
    let server = Server::start_own(Flavor::Mysql97, Options::default())?;
    workload::create(&server)?;
    let grants = ["REPLICATION SLAVE ON *.*", "SELECT ON live.*"];
    server.create_user("onair", "secret", &grants)?;
    let url = server.url("onair:secret", "");
    let dirs = [TempDir::new()?, TempDir::new()?];
    let mut first = OnAir::new(Build::Plain, &url, dirs[0].path())?;
    let mut second = OnAir::new(Build::Plain, &url, dirs[1].path())?;
    for onair in [&mut first, &mut second] {
        onair.set("ONAIR_SOURCE_SERVER_ID", "4242");
    }
    first.start()?;
    let observer = Observer::connect(first.address()).await?;

    second.begin()?;
    let status = second.wait_end()?;
    let log = second.log();
    ensure!(status.code() == Some(5), "it ended with {status}:\n{log}");
    // The first by the name and the id that it has at the server.
    for words in [
        "reader_server_id: 4242, which onair (uuid ",
        "two readers with one server_id end each other's streams",
        "set [source] server_id to a number of its own",
    ] {
        ensure!(log.contains(words), "{words:?} is not said:\n{log}");
    }

    // The first was not disturbed.
    let statement = "UPDATE live.room SET live_status = 1 - live_status WHERE id = 7";
    server.sql(statement)?;
    let set = server.sql("SELECT REPLACE(@@gtid_executed, '\n', '')")?;
    observer
        .wait_for_set(&set.trim().replace("\\n", ""), PATIENCE)
        .await?;
    ensure!(!first.log().contains("server_id"), "{}", first.log());
    ensure!(first.epochs().len() == 1, "{:?}", first.epochs());
    first.stop()
}
