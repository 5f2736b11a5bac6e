//! The tasks of this repository: `cargo xtask --help`.

mod arrows;
mod engines;
mod faults;
mod foreground;
mod plant;
mod steps;
mod up;
mod workload;

use std::path::Path;
use std::process::ExitCode;
use std::str::FromStr;

use anyhow::Result;
use clap::{Parser, Subcommand};
use onair_xtask::peers::{Outcome, Peer};
use onair_xtask::servers::{self, Cassandra, Engine, Flavor, Kafka, Options, Server};

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
    /// Fetch servers into the cache folder, all of them by default.
    #[command(after_help = "Example: cargo xtask fetch mysql-9.7")]
    Fetch {
        /// mysql-9.7, mysql-8.0, mariadb-10.11, mariadb-11.8, kafka or cassandra
        servers: Vec<Which>,
    },
    /// Run one server in the foreground until Ctrl-C. Its data goes with it.
    #[command(after_help = "Example: cargo xtask server mariadb-10.11 --port 3307")]
    Server {
        /// mysql-9.7, mysql-8.0, mariadb-10.11, mariadb-11.8, kafka or cassandra
        server: Which,
        /// A free one by default.
        #[arg(long)]
        port: Option<u16>,
    },
    /// Write docs/faults.md: the faults of docs/faults.toml and the tests that show that they are stood.
    #[command(after_help = "Example: cargo xtask faults --check")]
    Faults(faults::Arguments),
    /// Build the foreign programs that the benches measure us beside: bench/peers.
    #[command(after_help = "Example: cargo xtask peers")]
    Peers,
    /// Start MySQL 9.7 with a busy table of 100,000 rows and run `onair up` on it until Ctrl-C.
    #[command(
        after_help = "Examples:\n  cargo xtask up --rate 1000 -- --listen 127.0.0.1:7400\n  cargo xtask up --engines"
    )]
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
        Task::Fetch { servers } => fetch(&servers).map(|()| ExitCode::SUCCESS),
        Task::Server { server, port } => serve(server, port).map(|()| ExitCode::SUCCESS),
        Task::Faults(arguments) => faults::run(&arguments).map(|()| ExitCode::SUCCESS),
        Task::Peers => peers(),
        Task::Up(arguments) => up::run(&arguments),
    }
}

/// A server on the command line.
#[derive(Debug, Clone, Copy)]
enum Which {
    Database(Flavor),
    Engine(Engine),
}

impl Which {
    fn all() -> Vec<Self> {
        let databases = Flavor::ALL.into_iter().map(Self::Database);
        databases
            .chain(Engine::ALL.into_iter().map(Self::Engine))
            .collect()
    }
}

impl FromStr for Which {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        if let Ok(flavor) = text.parse() {
            return Ok(Self::Database(flavor));
        }
        text.parse().map(Self::Engine).map_err(|_| {
            let databases = Flavor::ALL.map(Flavor::name).join(", ");
            let engines = Engine::ALL.map(Engine::name).join(", ");
            anyhow::anyhow!(
                "`{text}` is no server that can be fetched; there are {databases}, {engines}"
            )
        })
    }
}

fn fetch(servers: &[Which]) -> Result<()> {
    let all = Which::all();
    for &which in if servers.is_empty() { &all } else { servers } {
        let (name, home) = match which {
            Which::Database(flavor) => (flavor.name(), servers::fetch(flavor)?.home),
            Which::Engine(engine) => (engine.name(), servers::fetch_engine(engine)?.home),
        };
        println!("{name:<14} {}", home.display());
    }
    Ok(())
}

/// A line each. What cannot be built here is said and is no failure.
fn peers() -> Result<ExitCode> {
    for peer in Peer::ALL {
        eprintln!("xtask: building {peer} (the first time it is downloaded)");
        match peer.build()? {
            Outcome::Built(home) => println!("{peer:<14} built in {}", home.display()),
            Outcome::Missing(reason) => {
                let reason: Vec<&str> = reason.lines().map(str::trim).collect();
                println!("{peer:<14} NOT RUN: {}", reason.join(" "));
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn serve(which: Which, port: Option<u16>) -> Result<()> {
    let mut interrupts = foreground::Interrupts::catch()?;
    match which {
        Which::Database(flavor) => {
            let options = Options {
                port,
                ..Options::default()
            };
            let server = Server::start_own(flavor, options)?;
            println!("{flavor} runs at {} (no password)", server.url("root", ""));
            wait(&mut interrupts, server.data_dir()?);
            server.stop()
        }
        Which::Engine(Engine::Kafka) => {
            let server = Kafka::start_own(port)?;
            println!("kafka runs at {}", server.brokers());
            wait(&mut interrupts, &server.data_dir()?);
            server.stop()
        }
        Which::Engine(Engine::Cassandra) => {
            let server = Cassandra::start_own(port)?;
            println!("cassandra runs at {} (no password)", server.address());
            wait(&mut interrupts, &server.data_dir()?);
            server.stop()
        }
    }
}

fn wait(interrupts: &mut foreground::Interrupts, data: &Path) {
    let data = data.display();
    println!("its data is in {data}; Ctrl-C stops it and removes the data");
    interrupts.wait();
}
