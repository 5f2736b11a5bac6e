//! `reconcile`: asks for a run, and with `--wait` shows it to its end.

use std::io::{IsTerminal as _, Write as _};
use std::num::NonZeroU64;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use onair_proto::v1;
use onair_store::runs::{Run, State};

use super::runs::{outcome, report, title};
use crate::cli::ReconcileArgs;
use crate::client::Server;
use crate::exit::{Exit, Failure};
use crate::json::{self, RunForm};
use crate::output::Output;
use crate::signals::interrupted;

/// How often the run is looked at.
const LOOKS: Duration = Duration::from_secs(1);

pub(crate) async fn run(args: ReconcileArgs, out: &mut Output) -> Result<(), Failure> {
    let server = Server::connect(&args.read.server, &args.read.tls).await?;
    let request = v1::ReconcileRequest {
        feed: args.feed,
        dry_run: args.dry_run,
        rate_max: args.max_rate.map_or(0, NonZeroU64::get),
    };
    let asked = server.reconcile(request).await?;
    let json = args.read.json || !out.terminal;
    if args.wait {
        return wait(&server, asked, json, out).await;
    }
    if json {
        return Ok(json::line(out, &RunForm::new(&asked, None))?);
    }
    out.line(&title(&asked))?;
    out.line(&format!("`onair runs show {}` tells how it is", asked.id))?;
    Ok(out.flush()?)
}

/// Shows a run until it is over or held.
async fn wait(server: &Server, asked: Run, json: bool, out: &mut Output) -> Result<(), Failure> {
    let bar = bar(json);
    let mut now = asked;
    let mut interrupted = std::pin::pin!(interrupted());
    while !now.state.is_over() && now.state != State::Held {
        if json {
            json::line(out, &RunForm::new(&now, None))?;
        }
        draw(&bar, &now);
        let next = async {
            loop {
                tokio::time::sleep(LOOKS).await;
                let found = server.runs(&now.feed, &now.id).await?.into_iter().next();
                let found = found.ok_or_else(|| server.nonsense("a run without a run"))?;
                if found != now {
                    return Ok::<Run, Failure>(found);
                }
            }
        };
        now = tokio::select! {
            next = next => next?,
            // Nobody knows yet whether there is a difference: none of the answers is true.
            exit = &mut interrupted => {
                bar.finish_and_clear();
                eprintln!("onair: the run goes on; `onair runs show {0}` tells how it is, `onair runs cancel {0}` ends it", now.id);
                return Err(Failure::silent(exit));
            }
        };
    }
    bar.finish_and_clear();
    report(server, &now, json, out).await?;
    if now.state == State::Held {
        eprintln!(
            "onair: run {0} is held by the guard: `onair runs approve {0}` takes what it found, unless a second scan does first",
            now.id
        );
    }
    out.flush()?;
    match outcome(&now) {
        Exit::Done => Ok(()),
        exit => Err(Failure::silent(exit)),
    }
}

/// Hidden unless a person looks at a terminal.
fn bar(json: bool) -> ProgressBar {
    let target = if !json && std::io::stderr().is_terminal() {
        ProgressDrawTarget::stderr_with_hz(4)
    } else {
        ProgressDrawTarget::hidden()
    };
    ProgressBar::with_draw_target(Some(0), target)
}

fn draw(bar: &ProgressBar, run: &Run) {
    // How many rows it will be is known once the reader has taken it.
    let template = match run.rows_expected {
        0 => "{prefix}  {wide_msg}",
        _ => "{prefix} [{bar:30}] {human_pos} of {human_len} rows  {wide_msg}",
    };
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style.progress_chars("=> "));
    }
    bar.set_prefix(format!("run {}", run.id));
    bar.set_length(run.rows_expected.max(run.rows_scanned));
    bar.set_position(run.rows_scanned);
    let message = match (run.state, run.detail.as_str()) {
        (State::Asked, _) => "waits for the reader".to_owned(),
        (state, "") => state.to_string(),
        (state, detail) => format!("{state}: {detail}"),
    };
    bar.set_message(message);
}
