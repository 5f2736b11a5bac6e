//! `runs`: list reconciliation runs, show one, and say what is wanted of it.

use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use onair_sdk::{Raw, Schema, raw};
use onair_store::runs::{Drift, Run, Sides, State, Wish};

use super::{damaged, pairs};
use crate::cli::{ReadArgs, RunsArgs, RunsVerb};
use crate::client::Server;
use crate::exit::{Exit, Failure};
use crate::json::{self, RunForm};
use crate::output::{Output, Tone, ago, bytes, grouped};

pub(crate) async fn run(args: RunsArgs, out: &mut Output) -> Result<(), Failure> {
    let Some(verb) = args.verb else {
        return list(&args.read, args.feed.as_deref().unwrap_or_default(), out).await;
    };
    let (args, wish) = match verb {
        RunsVerb::Show(args) => (args, None),
        RunsVerb::Pause(args) => (args, Some(Wish::Pause)),
        RunsVerb::Resume(args) => (args, Some(Wish::Resume)),
        RunsVerb::Cancel(args) => (args, Some(Wish::Cancel)),
        RunsVerb::Approve(args) => (args, Some(Wish::Approve)),
    };
    let (feed, id) = args.id.split_once('/').unwrap_or(("", &args.id));
    let server = Server::connect(&args.read.server, &args.read.tls).await?;
    match wish {
        Some(wish) => {
            let run = server.move_run(feed, id, wish).await?;
            if args.read.json {
                return Ok(json::line(out, &RunForm::new(&run, None))?);
            }
            let pending = run.wish.map(|wish| {
                format!(
                    "; the reader is told to {} it, within a second or two",
                    wish.name()
                )
            });
            let line = format!("{}{}", title(&run), pending.unwrap_or_default());
            out.line(&line)?;
        }
        None => {
            for run in server.runs(feed, id).await? {
                report(&server, &run, args.read.json, out).await?;
            }
        }
    }
    Ok(out.flush()?)
}

async fn list(read: &ReadArgs, feed: &str, out: &mut Output) -> Result<(), Failure> {
    let server = Server::connect(&read.server, &read.tls).await?;
    let runs = server.runs(feed, "").await?;
    if read.json {
        for run in &runs {
            json::write_line(out, &RunForm::new(run, None))?;
        }
        return Ok(out.flush()?);
    }
    let rows: Vec<Vec<String>> = runs
        .iter()
        .map(|run| {
            vec![
                run.id.to_string(),
                run.feed.to_string(),
                state(run),
                run.origin.name().to_owned(),
                json::time(run.asked).unwrap_or_default(),
                grouped(run.rows_scanned),
                drift(run),
                run.proven
                    .map_or_else(|| "-".to_owned(), |proven| proven.version.to_string()),
                run.detail.clone(),
            ]
        })
        .collect();
    let head = [
        "run", "feed", "state", "origin", "asked", "rows", "drift", "proven", "detail",
    ];
    out.table(&head, &rows)?;
    Ok(out.flush()?)
}

/// State, and that it is a dry run.
fn state(run: &Run) -> String {
    let dry = if run.dry_run { ", dry" } else { "" };
    format!("{}{dry}", run.state)
}

fn drift(run: &Run) -> String {
    match (&run.drift, run.compared) {
        (Some(drift), _) => rows(drift),
        (None, Some(_)) => format!("{} buckets", run.drift_before),
        (None, None) => "-".to_owned(),
    }
}

fn rows(drift: &Drift) -> String {
    if drift.rows() == 0 {
        return "none".to_owned();
    }
    format!(
        "{} missing, {} extra, {} stale",
        grouped(drift.missing),
        grouped(drift.extra),
        grouped(drift.stale)
    )
}

pub(super) fn title(run: &Run) -> String {
    format!("run {} of feed {}: {}", run.id, run.feed, state(run))
}

/// All that there is to say of a run.
pub(super) async fn report(
    server: &Server,
    run: &Run,
    json: bool,
    out: &mut Output,
) -> Result<(), Failure> {
    let examples = run.drift.as_ref().map_or(&[][..], |drift| &drift.examples);
    let schema = match examples {
        [] => None,
        _ => Some(server.schema(&run.feed).await?.0),
    };
    if json {
        return Ok(json::line(out, &RunForm::new(run, schema.as_ref()))?);
    }
    let heading = out.tone(tone(run), &title(run));
    out.line(&heading)?;
    let mut row = |name: &str, text: String| {
        let name = out.tone(Tone::Faint, &format!("{name:<9}"));
        out.line(&format!("  {name} {text}"))
    };
    let asked = json::time(run.asked).unwrap_or_default();
    row("asked", format!("{asked} by {}", run.origin.name()))?;
    if let Some(started) = run.started {
        let took = match run.ended {
            Some(ended) => format!(", took {}", ago(micros(ended - started))),
            None => String::new(),
        };
        row("reader", format!("{}{took}", run.reader))?;
    }
    row(
        "scanned",
        format!(
            "{} rows, {} expected; the database worked {} and sent {}",
            grouped(run.rows_scanned),
            grouped(run.rows_expected),
            ago(run.database),
            bytes(run.database_bytes)
        ),
    )?;
    if let Some(version) = run.compared {
        row(
            "drift",
            format!(
                "{}; {} buckets differed at {version}, {} after the run",
                run.drift
                    .as_ref()
                    .map_or_else(|| "not known by rows".to_owned(), rows),
                run.drift_before,
                run.drift_after
            ),
        )?;
    }
    if let Some(proven) = run.proven {
        row("proven", proven.version.to_string())?;
    }
    if !run.detail.is_empty() {
        row("detail", run.detail.clone())?;
    }
    if let Some(schema) = &schema {
        for example in examples {
            out.line(&example_text(schema, example)?)?;
        }
    }
    Ok(out.flush()?)
}

fn example_text(
    schema: &Arc<Schema>,
    example: &onair_store::runs::Difference,
) -> Result<String, Failure> {
    let row = |row: &onair_model::Row| {
        let row = Raw::new(row.bytes().clone(), Arc::clone(schema));
        pairs(&row).map_err(|error| damaged(&error))
    };
    let key = raw::key_text(schema, &example.key);
    Ok(match &example.sides {
        Sides::Missing { source } => format!("  missing  {key}  source {}", row(source)?),
        Sides::Extra { held } => format!("  extra    {key}  held {}", row(held)?),
        Sides::Stale { source, held } => format!(
            "  stale    {key}  source {}  held {}",
            row(source)?,
            row(held)?
        ),
    })
}

fn micros(micros: i64) -> Duration {
    Duration::from_micros(u64::try_from(micros).unwrap_or(0))
}

fn tone(run: &Run) -> Tone {
    match outcome(run) {
        Exit::Done => Tone::Good,
        Exit::Different => Tone::Notice,
        _ => Tone::Bad,
    }
}

/// The exit code that tells what a run came to.
pub(super) fn outcome(run: &Run) -> Exit {
    match run.state {
        State::Held => Exit::Refused,
        State::Failed | State::Cancelled => Exit::Failed,
        _ if run.drift_before > 0 => Exit::Different,
        _ => Exit::Done,
    }
}
