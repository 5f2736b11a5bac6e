//! `diff`: what differs between two moments of the past.

use std::collections::BTreeSet;
use std::io::Write as _;

use onair_sdk::{Key, Raw, raw};

use super::past::{self, PastSet};
use super::{damaged, pairs};
use crate::cli::DiffArgs;
use crate::client::Server;
use crate::clock;
use crate::exit::{Exit, Failure};
use crate::json::{self, DiffForm, DiffHeader, StepEvent};
use crate::moment::Moment;
use crate::output::{Output, Tone, grouped};

/// What differs at one key.
struct Difference<'a> {
    event: StepEvent,
    key: &'a Key,
    before: Option<&'a Raw>,
    after: Option<&'a Raw>,
}

pub(crate) async fn run(args: DiffArgs, out: &mut Output) -> Result<(), Failure> {
    let now = clock::now();
    let moment =
        |text: &str| Moment::parse(text, now).map_err(|why| Failure::new(Exit::Usage, why));
    let (from, to) = (moment(&args.from)?, moment(&args.to)?);
    let server = Server::connect(&args.read.server, &args.read.tls).await?;
    let from = past::read(&server, &args.feed, from).await?;
    let to = past::read(&server, &args.feed, to).await?;
    let found = differences(&from, &to);
    if args.read.json {
        let count = |event| found.iter().filter(|found| found.event == event).count();
        let header = DiffHeader {
            feed: &args.feed,
            from: from.seal.version,
            from_time: from.seal.commit_time,
            to: to.seal.version,
            to_time: to.seal.commit_time,
            on: count(StepEvent::On),
            change: count(StepEvent::Change),
            off: count(StepEvent::Off),
        };
        json::write_line(out, &header)?;
        for found in &found {
            let schema = if found.after.is_some() {
                &to.schema
            } else {
                &from.schema
            };
            let form = DiffForm::new(found.event, schema, found.key, (found.before, found.after));
            json::write_line(out, &form)?;
        }
    } else {
        print(&args.feed, &from, &to, &found, out)?;
    }
    out.flush()?;
    match found.is_empty() {
        true => Ok(()),
        // It stands in the output.
        false => Err(Failure::silent(Exit::Different)),
    }
}

/// By ascending key.
fn differences<'a>(from: &'a PastSet, to: &'a PastSet) -> Vec<Difference<'a>> {
    let keys: BTreeSet<&Key> = from.rows.keys().chain(to.rows.keys()).collect();
    let one_schema = from.schema == to.schema;
    let differ = |before: &Raw, after: &Raw| match one_schema {
        true => before.bytes() != after.bytes(),
        // Of another schema the same bytes may mean something else, and others the same.
        false => {
            serde_json::to_value(json::RowColumns(before)).ok()
                != serde_json::to_value(json::RowColumns(after)).ok()
        }
    };
    let difference = |key: &'a Key| {
        let (before, after) = (from.rows.get(key), to.rows.get(key));
        let event = match (before, after) {
            (None, Some(_)) => StepEvent::On,
            (Some(before), Some(after)) if differ(before, after) => StepEvent::Change,
            (Some(_), None) => StepEvent::Off,
            _ => return None,
        };
        Some(Difference {
            event,
            key,
            before,
            after,
        })
    };
    keys.into_iter().filter_map(difference).collect()
}

fn print(
    feed: &str,
    from: &PastSet,
    to: &PastSet,
    found: &[Difference<'_>],
    out: &mut Output,
) -> Result<(), Failure> {
    if out.terminal {
        let line = format!(
            "{feed} from {} to {}: {} keys differ",
            from.seal.version,
            to.seal.version,
            grouped(found.len() as u64)
        );
        let line = out.tone(Tone::Faint, &line);
        out.line(&line)?;
    }
    for found in found {
        let (tone, word) = found.event.shown();
        let word = out.tone(tone, word);
        let schema = if found.after.is_some() {
            &to.schema
        } else {
            &from.schema
        };
        let key = raw::key_text(schema, found.key);
        let row = |row: &Raw| pairs(row).map_err(|error| damaged(&error));
        let text = match (found.before, found.after) {
            (Some(before), Some(after)) => {
                format!("{}  ->  {}", row(before)?, row(after)?)
            }
            (Some(only), None) | (None, Some(only)) => row(only)?,
            (None, None) => String::new(),
        };
        out.line(&format!("{word}  {key}  {text}"))?;
    }
    Ok(())
}
