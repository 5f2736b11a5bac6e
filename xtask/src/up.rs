//! `cargo xtask up`: a real MySQL with a busy table, and `onair up` on it.

use std::fmt::Write as _;
use std::fs::File;
use std::io::Read as _;
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result};
use onair_xtask::servers::process::command_bound_to_us;
use onair_xtask::servers::{Flavor, Options, Server};

use crate::engines;
use crate::foreground::{Interrupts, exit_code};
use crate::workload::{self, Workload};
use onair_xtask::cargo::repository;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Kafka and Cassandra too, and one process a role: a reader, two mergers, two servers.
    #[arg(long)]
    engines: bool,
    /// Rows in the table; one in 29 is on air.
    #[arg(long, default_value_t = 100_000)]
    pub(crate) rows: u64,
    /// Transactions a second.
    #[arg(long, default_value_t = 400)]
    pub(crate) rate: u32,
    /// More for `onair up`, or for each role, after `--`.
    #[arg(last = true)]
    pub(crate) more: Vec<String>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    if arguments.engines {
        return engines::run(arguments);
    }
    let mut interrupts = Interrupts::catch()?;
    // First what takes longest and wants the processor for itself.
    let built = interrupts.run(cargo(&["build", "--release"]))?;
    if !built.success() || interrupts.came() {
        return Ok(exit_code(built));
    }
    let server = Server::start_own(Flavor::Mysql97, Options::default())?;
    workload::create_table(&server, arguments.rows)?;
    let password = password()?;
    server.create_user(
        "onair",
        &password,
        &["REPLICATION SLAVE ON *.*", "SELECT ON live.*"],
    )?;
    let workload = Workload::start(&server, arguments.rows, arguments.rate)?;
    println!(
        "MySQL {} at {} (root, no password): live.room with {} rows, {} transactions a second",
        server.sql("SELECT VERSION()")?.trim(),
        server.url("root", "live"),
        arguments.rows,
        arguments.rate
    );
    if interrupts.came() {
        return Ok(ExitCode::SUCCESS);
    }

    let mut onair = cargo(&["run", "--quiet", "--release", "--", "up"]);
    onair
        .arg("--mysql")
        .arg(server.url(&format!("onair:{password}"), ""));
    onair.args(["--table", "live.room", "--live-when", "live_status = 1"]);
    onair.args(["--columns", "uid,area_id,title,live_time"]);
    // A new server each time, so a new world each time.
    onair
        .arg("--data-dir")
        .arg(server.scratch_dir()?.join("onair"))
        .args(&arguments.more);
    let status = interrupts.run(onair)?;
    let transactions = workload.stop()?;
    drop(server);
    println!("{transactions} transactions were sent; the server and its data are gone");
    Ok(exit_code(status))
}

pub(crate) fn cargo(arguments: &[&str]) -> Command {
    let mut command = command_bound_to_us("cargo");
    onair_xtask::cargo::clean(&mut command);
    command.args(arguments).current_dir(repository());
    command
}

/// For one run, on loopback.
pub(crate) fn password() -> Result<String> {
    let mut bytes = [0; 12];
    File::open("/dev/urandom")
        .and_then(|mut random| random.read_exact(&mut bytes))
        .context("cannot read /dev/urandom")?;
    Ok(bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    }))
}
