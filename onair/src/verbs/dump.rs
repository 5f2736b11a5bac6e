//! `dump`: all rows of one verified version, in key order: the newest one, or one of the past.

use std::io::Write as _;
use std::time::Duration;

use onair_sdk::{Key, Raw};

use super::{cells, damaged, header, heads, past};
use crate::cli::DumpArgs;
use crate::client::Server;
use crate::clock;
use crate::exit::{Exit, Failure};
use crate::json::{self, KeyRow};
use crate::moment::Moment;
use crate::output::{Output, Tone, ago, grouped};

/// How long a feed may take to its first version.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) async fn run(args: DumpArgs, out: &mut Output) -> Result<(), Failure> {
    let at = args.at.as_deref();
    let at = at.map(|text| Moment::parse(text, clock::now()));
    let at = at
        .transpose()
        .map_err(|why| Failure::new(Exit::Usage, format!("--at: {why}")))?;
    let server = Server::connect(&args.read.server, &args.read.tls).await?;
    if let Some(at) = at {
        return run_at(&server, &args, at, out).await;
    }
    let (schema, _) = server.schema(&args.feed).await?;
    let snapshot = server.newest(&args.feed, "onair dump", PATIENCE).await?;
    let mut rows: Vec<(&Key, &Raw)> = snapshot.iter().collect();
    rows.sort_unstable_by(|a, b| a.0.cmp(b.0));
    if args.read.json {
        json::write_line(out, &header(&args.feed, &snapshot))?;
        for (key, row) in rows {
            json::write_line(out, &KeyRow::new(&schema, key, Some(row)))?;
        }
        return Ok(out.flush()?);
    }
    if out.terminal {
        let line = format!(
            "{} at {}: {} rows, {} old, digest {}",
            args.feed,
            snapshot.version(),
            grouped(snapshot.len() as u64),
            ago(snapshot.age()),
            snapshot.digest()
        );
        let line = out.tone(Tone::Faint, &line);
        out.line(&line)?;
    }
    let table = rows
        .iter()
        .map(|(key, row)| cells(&schema, key, row))
        .collect::<Result<Vec<_>, _>>();
    out.table(&heads(&schema), &table.map_err(|error| damaged(&error))?)?;
    Ok(out.flush()?)
}

async fn run_at(
    server: &Server,
    args: &DumpArgs,
    at: Moment,
    out: &mut Output,
) -> Result<(), Failure> {
    let set = past::read(server, &args.feed, at).await?;
    if args.read.json {
        json::write_line(out, &set.header(&args.feed))?;
        for (key, row) in &set.rows {
            json::write_line(out, &KeyRow::new(&set.schema, key, Some(row)))?;
        }
        return Ok(out.flush()?);
    }
    if out.terminal {
        let line = format!(
            "{} at {}, committed {}: {} rows, digest {}",
            args.feed,
            set.seal.version,
            json::time(set.seal.commit_time).unwrap_or_else(|| "before the scan".to_owned()),
            grouped(set.seal.count),
            set.seal.digest
        );
        let line = out.tone(Tone::Faint, &line);
        out.line(&line)?;
    }
    let table = set
        .rows
        .iter()
        .map(|(key, row)| cells(&set.schema, key, row))
        .collect::<Result<Vec<_>, _>>();
    out.table(
        &heads(&set.schema),
        &table.map_err(|error| damaged(&error))?,
    )?;
    Ok(out.flush()?)
}
