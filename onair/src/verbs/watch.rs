//! `watch`: a feed's steps as they come, each verified before it is shown.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::time::Duration;

use onair_sdk::{Changes, Feed, GtidSet, Key, Raw, Snapshot, State, Step, Version, raw};
use tokio::time::{Instant, MissedTickBehavior};

use super::{damaged, pairs, resume};
use crate::cli::WatchArgs;
use crate::client::Server;
use crate::exit::{Exit, Failure};
use crate::json::{self, ProgressForm, StepForm, StepParts};
use crate::output::{Output, Tone, ago, grouped};
use crate::signals::interrupted;

/// How long a feed may take to its first version: a large scan may be under way.
const PATIENCE: Duration = Duration::from_secs(24 * 3600);
/// The first version is announced as awaited after this long.
const QUIET: Duration = Duration::from_secs(2);
const PROGRESS: Duration = Duration::from_secs(1);

pub(crate) async fn run(args: WatchArgs, out: &mut Output) -> Result<(), Failure> {
    let usage = |what: &str, why: String| Failure::new(Exit::Usage, format!("{what}: {why}"));
    let from = args
        .from
        .as_deref()
        .map(str::parse::<Version>)
        .transpose()
        .map_err(|error| usage("--from", error.to_string()))?;
    let until = args
        .until_gtid
        .as_deref()
        .map(str::parse::<GtidSet>)
        .transpose()
        .map_err(|error| usage("--until-gtid", error.to_string()))?;
    let deadline = args.r#for.map(|limit| Instant::now() + limit);
    let server = Server::connect(&args.read.server, &args.read.tls).await?;
    server.schema(&args.feed).await?;
    let watching = watch(&server, &args, from, until.as_ref(), out);
    let ended = tokio::select! {
        biased;
        _ = interrupted() => Ok(()),
        done = watching => done,
        () = tokio::time::sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => match &until {
            None => Ok(()),
            Some(set) => Err(Failure::new(Exit::Different, format!("{set} was not contained before --for was over"))),
        },
    };
    out.flush()?;
    ended
}

async fn watch(
    server: &Server,
    args: &WatchArgs,
    from: Option<Version>,
    until: Option<&GtidSet>,
    out: &mut Output,
) -> Result<(), Failure> {
    let feed = {
        let connecting = server.replica(&args.feed, "onair watch", PATIENCE);
        tokio::pin!(connecting);
        tokio::select! {
            feed = &mut connecting => feed?,
            () = tokio::time::sleep(QUIET) => {
                eprintln!("onair: feed {} has no verified version yet; waiting for its first", args.feed);
                connecting.await?
            }
        }
    };
    let mut changes = feed.changes();
    let mut shown = None;
    if let Some(from) = from {
        let resumed = resume::resume(server, &feed, &args.feed, from).await?;
        show_resumed(&resumed, args.read.json, out)?;
        changes = feed.changes().after(resumed.after.clone());
        shown = Some(resumed.after);
    }
    follow(&feed, &mut changes, shown, until, args.read.json, out).await
}

/// Shows steps until the GTIDs are contained. In this order: a step, the GTIDs, the second's progress, the state.
async fn follow(
    feed: &Feed<Raw>,
    changes: &mut Changes<Raw>,
    mut shown: Option<Snapshot<Raw>>,
    until: Option<&GtidSet>,
    json: bool,
    out: &mut Output,
) -> Result<(), Failure> {
    let reached = async {
        match until {
            Some(set) => feed.wait_for(set.clone()).await.is_ok(),
            None => std::future::pending().await,
        }
    };
    tokio::pin!(reached);
    let mut tick = tokio::time::interval_at(Instant::now() + PROGRESS, PROGRESS);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut states = feed.status_watch();
    let mut state = State::Live;
    loop {
        tokio::select! {
            biased;
            step = changes.next() => {
                let Some(step) = step else {
                    return Err(Failure::new(Exit::Failed, "the feed was closed; try again"));
                };
                show(&step, json, out)?;
                shown = Some(step.snapshot);
            }
            _ = &mut reached => {
                if let Some(step) = changes.try_next() {
                    show(&step, json, out)?;
                }
                return Ok(());
            }
            _ = tick.tick() => {
                // A newer version than the one shown last is a step of its own first.
                let now = feed.snapshot();
                if shown.as_ref().is_some_and(|shown| shown.version() == now.version()) {
                    if json {
                        json::line(out, &ProgressForm::new(&now))?;
                    } else {
                        out.flush()?;
                    }
                }
            }
            status = states.changed() => {
                if let Some(status) = status && status.state != state {
                    state = status.state;
                    let why = status.last_problem.filter(|_| state != State::Live);
                    let why = why.map(|problem| format!(": {}", crate::exit::chain(&problem))).unwrap_or_default();
                    eprintln!("onair: {} at {}{why}", word(state), status.version);
                }
            }
        }
    }
}

const fn word(state: State) -> &'static str {
    match state {
        State::Live => "live",
        State::Reconnecting => "reconnecting",
        State::Stale => "stale",
        State::Closed => "closed",
        _ => "fixed",
    }
}

fn show(step: &Step<Raw>, json: bool, out: &mut Output) -> Result<(), Failure> {
    let parts = StepParts {
        from: step.from,
        reason: step.reason.as_deref(),
        after: &step.snapshot,
        rewound: step.rewound,
        other_lineage: step.other_lineage,
        on: step.on.iter().map(|(key, row)| (key, row)).collect(),
        change: step
            .change
            .iter()
            .map(|change| (&change.key, &change.after))
            .collect(),
        off: step.off.iter().map(|(key, _)| key).collect(),
    };
    show_parts(parts, json, out)
}

fn show_resumed(resumed: &resume::Resumed, json: bool, out: &mut Output) -> Result<(), Failure> {
    let parts = StepParts {
        from: resumed.from,
        reason: resumed.reason.as_deref(),
        after: &resumed.after,
        rewound: false,
        other_lineage: false,
        on: Vec::new(),
        change: Vec::new(),
        off: Vec::new(),
    };
    let rows = |keys: &BTreeMap<Key, bool>, live: bool| -> Vec<Key> {
        keys.iter()
            .filter(|(_, is)| **is == live)
            .map(|(key, _)| key.clone())
            .collect()
    };
    match &resumed.touched {
        Some(touched) => {
            let (live, off) = (rows(touched, true), rows(touched, false));
            let change = live
                .iter()
                .filter_map(|key| resumed.after.get(key).map(|row| (key, row)))
                .collect();
            show_parts(
                StepParts {
                    change,
                    off: off.iter().collect(),
                    ..parts
                },
                json,
                out,
            )
        }
        None => {
            let mut on: Vec<(&Key, &Raw)> = resumed.after.iter().collect();
            on.sort_unstable_by(|a, b| a.0.cmp(b.0));
            show_parts(StepParts { on, ..parts }, json, out)
        }
    }
}

fn show_parts(parts: StepParts<'_>, json: bool, out: &mut Output) -> Result<(), Failure> {
    if json {
        return Ok(json::line(out, &StepForm::new(parts))?);
    }
    let (after, schema) = (parts.after, parts.after.schema());
    let version = after.version();
    if parts.from.is_none() {
        let line = format!(
            "{version}  {} rows on air, {} old, digest {}{}",
            grouped(after.len() as u64),
            ago(after.age()),
            after.digest(),
            parts
                .reason
                .filter(|reason| *reason != "first")
                .map(|reason| format!(" (whole: {reason})"))
                .unwrap_or_default()
        );
        let line = out.tone(Tone::Strong, &line);
        out.line(&line)?;
        return Ok(out.flush()?);
    }
    if parts.rewound {
        let line = out.tone(
            Tone::Bad,
            "the source lost transactions: what is shown went back",
        );
        out.line(&format!("{version}  {line}"))?;
    }
    let groups = [
        (Tone::Good, "on    ", parts.on),
        (Tone::Notice, "change", parts.change),
    ];
    for (tone, word, rows) in groups {
        for (key, row) in rows {
            let word = out.tone(tone, word);
            let row = pairs(row).map_err(|error| damaged(&error))?;
            out.line(&format!(
                "{version}  {word}  {}  {row}",
                raw::key_text(schema, key)
            ))?;
        }
    }
    for key in parts.off {
        let word = out.tone(Tone::Bad, "off   ");
        out.line(&format!(
            "{version}  {word}  {}",
            raw::key_text(schema, key)
        ))?;
    }
    Ok(out.flush()?)
}
