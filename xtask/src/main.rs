//! The tasks of this repository: `cargo xtask --help`.

mod arrows;
mod faults;
mod foreground;
mod plant;
mod steps;
mod up;
mod workload;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use onair_xtask::servers::{self, Flavor, Options, Server};

/// The tasks of this repository.
#[derive(Debug, Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    version,
    max_term_width = 100
)]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Test everything, cheapest first: what CI runs.
    #[command(after_help = "Example: cargo xtask test --only fmt --only clippy")]
    Test(steps::Arguments),
    /// Plant one bug after the other and see that the tests notice: a test of the tests, some ten minutes.
    #[command(after_help = "Example: cargo xtask plant --only off-lost")]
    Plant(plant::Arguments),
    /// Fetch database servers into the cache folder, all of them by default.
    #[command(after_help = "Example: cargo xtask fetch mysql-9.7")]
    Fetch {
        /// mysql-9.7, mysql-8.0, mariadb-10.11 or mariadb-11.8
        flavors: Vec<Flavor>,
    },
    /// Run one database server in the foreground until Ctrl-C. Its data goes with it.
    #[command(after_help = "Example: cargo xtask server mariadb-10.11 --port 3307")]
    Server {
        /// mysql-9.7, mysql-8.0, mariadb-10.11 or mariadb-11.8
        flavor: Flavor,
        /// A free one by default.
        #[arg(long)]
        port: Option<u16>,
    },
    /// Write docs/faults.md: the faults of docs/faults.toml and the tests that show that they are stood.
    #[command(after_help = "Example: cargo xtask faults --check")]
    Faults(faults::Arguments),
    /// Start MySQL 9.7 with a busy table of 100,000 rows and run `onair up` on it until Ctrl-C.
    #[command(after_help = "Example: cargo xtask up --rate 1000 -- --listen 127.0.0.1:7400")]
    Up(up::Arguments),
}

fn main() -> ExitCode {
    match run(Arguments::parse().task) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> Result<ExitCode> {
    match task {
        Task::Test(arguments) => steps::run(&arguments),
        Task::Plant(arguments) => plant::run(&arguments),
        Task::Fetch { flavors } => fetch(&flavors).map(|()| ExitCode::SUCCESS),
        Task::Server { flavor, port } => serve(flavor, port).map(|()| ExitCode::SUCCESS),
        Task::Faults(arguments) => faults::run(&arguments).map(|()| ExitCode::SUCCESS),
        Task::Up(arguments) => up::run(&arguments),
    }
}

fn fetch(flavors: &[Flavor]) -> Result<()> {
    let flavors = if flavors.is_empty() {
        &Flavor::ALL
    } else {
        flavors
    };
    for &flavor in flavors {
        let dist = servers::fetch(flavor)?;
        println!("{flavor:<14} {}", dist.home.display());
    }
    Ok(())
}

fn serve(flavor: Flavor, port: Option<u16>) -> Result<()> {
    let mut interrupts = foreground::Interrupts::catch()?;
    let server = Server::start_own(
        flavor,
        Options {
            port,
            ..Options::default()
        },
    )?;
    println!("{flavor} runs at {} (no password)", server.url("root", ""));
    println!(
        "its data is in {}; Ctrl-C stops it and removes the data",
        server.data_dir()?.display()
    );
    interrupts.wait();
    server.stop()
}
