//! The command line: everything in one process, and verbs that read. The binary is [`main`].

mod admin;
mod backends;
pub mod cli;
pub mod client;
mod clock;
pub mod config;
pub mod exit;
pub mod json;
mod logging;
pub mod moment;
mod output;
mod roles;
mod signals;
mod source;
mod system;
#[cfg(test)]
mod texts;
mod verbs;

use std::process::ExitCode;

use clap::Parser as _;

use crate::cli::{Cli, Verb};
use crate::exit::{Exit, Failure};
use crate::output::Output;

/// Version and commit.
pub const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (", env!("ONAIR_COMMIT"), ")");

/// Runs the command line; its exit code.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    // Two crates bring a provider each; the one of ours is chosen before anybody asks. It cannot be set twice.
    let _ = rustls::crypto::ring::default_provider().install_default();
    // Its programs bring the threads that they need, and nothing else may cost anything.
    #[cfg(feature = "bench")]
    if let Verb::Bench(args) = &cli.verb {
        return match onair_bench::command::run(args) {
            Ok(true) => ExitCode::from(Exit::Done as u8),
            Ok(false) => ExitCode::from(Exit::Different as u8),
            Err(error) => report(&Failure::new(Exit::Failed, format!("{error:#}"))),
        };
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            return report(&Failure::new(
                Exit::Failed,
                format!(
                    "threads cannot be started: {error}; see the limit on processes (ulimit -u)"
                ),
            ));
        }
    };
    let done = runtime.block_on(run(cli));
    // A task that hangs in a system call must not keep the process.
    runtime.shutdown_timeout(std::time::Duration::from_millis(100));
    logging::finish();
    match done {
        Ok(()) => ExitCode::from(Exit::Done as u8),
        Err(failure) => report(&failure),
    }
}

fn report(failure: &Failure) -> ExitCode {
    if !failure.text.is_empty() {
        eprintln!("onair: {failure}");
    }
    ExitCode::from(failure.exit as u8)
}

async fn run(cli: Cli) -> Result<(), Failure> {
    // https://no-color.org: present and not empty. A dumb terminal has none.
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    let no_color = set("NO_COLOR").is_some() || set("TERM").is_some_and(|term| term == "dumb");
    let mut out = Output::new(no_color);
    match cli.verb {
        Verb::Up(args) => verbs::up::run(*args, &mut out).await,
        Verb::Cdc(args) => verbs::role::cdc(args, &mut out).await,
        Verb::Merger(args) => verbs::role::merger(args, &mut out).await,
        Verb::Server(args) => verbs::role::server(args, &mut out).await,
        Verb::Store(args) => verbs::store::run(args, &mut out).await,
        Verb::ReDerive(args) => verbs::re_derive::run(args, &mut out).await,
        Verb::Watch(args) => verbs::watch::run(args, &mut out).await,
        Verb::Get(args) => verbs::get::run(args, &mut out).await,
        Verb::Dump(args) => verbs::dump::run(args, &mut out).await,
        Verb::Diff(args) => verbs::diff::run(args, &mut out).await,
        Verb::Explain(args) => verbs::explain::run(*args, &mut out).await,
        Verb::History(args) => verbs::history::run(args, &mut out).await,
        Verb::Status(args) => verbs::status::run(args, &mut out).await,
        Verb::Doctor(args) => verbs::doctor::run(args, &mut out).await,
        Verb::Schema(args) => verbs::schema::run(args, &mut out).await,
        Verb::Reconcile(args) => verbs::reconcile::run(args, &mut out).await,
        Verb::Runs(args) => verbs::runs::run(args, &mut out).await,
        Verb::Compare(args) => verbs::compare::run(*args, &mut out).await,
        Verb::Config(args) => verbs::config::run(args, &mut out),
        #[cfg(feature = "bench")]
        Verb::Bench(_) => Err(Failure::new(Exit::Usage, "bench runs by itself")),
    }
}
