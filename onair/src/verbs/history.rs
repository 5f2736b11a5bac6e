//! `history`: what became of one key, from what is kept.

use std::io::Write as _;
use std::sync::Arc;

use jiff::Timestamp;
use onair_proto::{convert, v1};
use onair_sdk::{Raw, Schema};

use super::{damaged, get, pairs};
use crate::cli::HistoryArgs;
use crate::client::Server;
use crate::clock;
use crate::exit::{Exit, Failure};
use crate::json::{self, KeyStepForm, StepCause, StepEvent};
use crate::moment::parse_time;
use crate::output::{Output, Tone};

pub(crate) async fn run(args: HistoryArgs, out: &mut Output) -> Result<(), Failure> {
    let now = clock::now();
    let time = |option: &str, text: &Option<String>| {
        let time = text.as_deref().map(|text| parse_time(text, now));
        time.transpose()
            .map(|time| time.map(Timestamp::as_microsecond))
            .map_err(|why| Failure::new(Exit::Usage, format!("{option}: {why}")))
    };
    let (from, to) = (time("--from", &args.from)?, time("--to", &args.to)?);
    let server = Server::connect(&args.read.server, &args.read.tls).await?;
    let (schema, _) = server.schema(&args.feed).await?;
    let key = get::parse_key(&schema, &args.key).map_err(|why| Failure::new(Exit::Usage, why))?;
    let request = v1::KeyHistoryRequest {
        feed: args.feed.clone(),
        key: key.to_bytes(),
        from,
        to,
    };
    let mut client = server.stream().await?;
    let stream = client.key_history(request).await;
    let mut stream = stream
        .map_err(|status| server.failure(&status))?
        .into_inner();
    let mut schema = schema;
    let mut steps = 0_u64;
    loop {
        let step = stream.message().await;
        let Some(mut step) = step.map_err(|status| server.failure(&status))? else {
            break;
        };
        if let Some(of_rows) = step.schema.take() {
            let of_rows = convert::schema_from_wire(of_rows);
            let (of_rows, _) = of_rows.map_err(|error| server.nonsense(&error.to_string()))?;
            schema = Arc::new(of_rows);
        }
        show(&server, step, &schema, args.read.json, out)?;
        steps += 1;
    }
    out.flush()?;
    match steps {
        // Nothing that is kept touches it.
        0 => Err(Failure::silent(Exit::Different)),
        _ => Ok(()),
    }
}

fn show(
    server: &Server,
    step: v1::KeyStep,
    schema: &Arc<Schema>,
    json: bool,
    out: &mut Output,
) -> Result<(), Failure> {
    let wrong = |error: convert::ConvertError| server.nonsense(&error.to_string());
    let event = match step.kind() {
        v1::event::Kind::On => StepEvent::On,
        v1::event::Kind::Change => StepEvent::Change,
        v1::event::Kind::Off => StepEvent::Off,
        v1::event::Kind::Unspecified => return Err(server.nonsense("a step of no kind")),
    };
    let cause = match step.cause() {
        v1::key_step::Cause::Binlog => StepCause::Binlog,
        v1::key_step::Cause::Replace => StepCause::Replace,
        v1::key_step::Cause::Epoch => StepCause::Epoch,
        v1::key_step::Cause::Kept => StepCause::Kept,
        v1::key_step::Cause::Unspecified => return Err(server.nonsense("a step without a cause")),
    };
    let row = (event != StepEvent::Off).then(|| Raw::new(step.row, Arc::clone(schema)));
    let form = KeyStepForm {
        event,
        version: convert::version(step.version).map_err(wrong)?,
        cause,
        gtid: convert::gtid(&step.gtid).map_err(wrong)?,
        commit_time: step.commit_time,
        row: row.as_ref().map(json::RowColumns),
    };
    if json {
        return Ok(json::write_line(out, &form)?);
    }
    let (tone, word) = event.shown();
    let word = out.tone(tone, word);
    let time = json::time(step.commit_time).unwrap_or_else(|| format!("{:27}", "-"));
    let because = match (&form.gtid, cause) {
        (Some(gtid), StepCause::Binlog) => gtid.to_string(),
        (_, cause) => out.tone(Tone::Notice, cause.shown()),
    };
    let row = match &row {
        Some(row) => pairs(row).map_err(|error| damaged(&error))?,
        None => String::new(),
    };
    let line = format!("{}  {time}  {word}  {because}  {row}", form.version);
    Ok(out.line(line.trim_end())?)
}
