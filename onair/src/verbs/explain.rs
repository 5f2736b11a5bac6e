//! `explain`: where one key is, place by place, in the order in which a change passes them.
//!
//! Each place is read at its own moment and says over which versions its row holds, from `since` through `version`. Two
//! places contradict each other only where those overlap; else one of them is behind. MySQL says no versions: what it
//! has is compared with a server that has executed all that MySQL had before its row was read, and only if the row is
//! still the same afterwards.

mod judge;
mod unasked;

use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use onair_cdc::bind::{FieldNumbers, bind};
use onair_cdc::scan;
use onair_proto::{convert, v1};
use onair_sdk::{GtidSet, Key, Raw, Schema, raw};

use self::judge::{Place, Verdict, judge};
use super::{damaged, get, pairs};
use crate::cli::ExplainArgs;
use crate::client::Server;
use crate::clock;
use crate::exit::{Exit, Failure};
use crate::json::{self, ExplainForm, RowColumns, StageForm};
use crate::output::{Output, Tone, ago};
use crate::source::{self, Opened};

/// Why there is nothing from the table.
const NO_TABLE: &str = "not asked: only the configuration says where the table is; add --config FILE, or --mysql with the feed's --table, --live-when and --columns";

pub(crate) async fn run(args: ExplainArgs, out: &mut Output) -> Result<(), Failure> {
    let mut servers = Vec::with_capacity(args.server.len());
    for url in &args.server {
        servers.push(Server::connect(url, &args.tls).await?);
    }
    // There is one by default.
    let (schema, _) = servers[0].schema(&args.of).await?;
    let key = get::parse_key(&schema, &args.key).map_err(|why| Failure::new(Exit::Usage, why))?;
    let table = match args.source.config.is_some() || args.source.mysql.is_some() {
        true => Some(Table::open(args.source, &args.of, &schema).await?),
        false => None,
    };
    let before = match &table {
        Some(table) => Some(table.row(&key).await?),
        None => None,
    };
    let mut places = Vec::new();
    let mut bucket = 0;
    for (at, server) in servers.iter().enumerate() {
        let explained = ask(server, &args.of, &key).await?;
        bucket = explained.bucket;
        for stage in explained.stages {
            // Log and store are the same ones for all.
            if at == 0 || stage.name == "server" {
                places.push(place(server, stage)?);
            }
        }
    }
    let of_table = match (&table, before) {
        (Some(table), Some((executed, row))) => {
            let (_, after) = table.row(&key).await?;
            table.place(executed, row, after)
        }
        _ => Place::silent("mysql", NO_TABLE.to_owned()),
    };
    places.insert(0, of_table);
    let mut statuses = Vec::with_capacity(servers.len());
    for server in &servers {
        statuses.push(server.status().await?.roles);
    }
    places.extend(unasked::servers(&statuses, clock::now()));
    let verdicts = judge(&places);
    let shown = Shown {
        feed: &args.of,
        schema: &schema,
        key: &key,
        bucket,
        stages: places.iter().zip(&verdicts).collect(),
    };
    if args.json {
        shown.json(out)?;
    } else {
        shown.text(out)?;
    }
    out.flush()?;
    match verdicts.contains(&Verdict::Disagrees) {
        // It stands in the output.
        true => Err(Failure::silent(Exit::Different)),
        false => Ok(()),
    }
}

async fn ask(server: &Server, feed: &str, key: &Key) -> Result<v1::ExplainResponse, Failure> {
    let request = v1::ExplainRequest {
        feed: feed.to_owned(),
        key: key.to_bytes(),
    };
    let explained = server.grpc().explain(request).await;
    Ok(explained
        .map_err(|status| server.failure(&status))?
        .into_inner())
}

fn place(server: &Server, stage: v1::Stage) -> Result<Place, Failure> {
    let wrong = |error: convert::ConvertError| server.nonsense(&error.to_string());
    let executed = match stage.executed.is_empty() {
        true => None,
        false => Some(convert::gtid_set(&stage.executed).map_err(wrong)?),
    };
    Ok(Place {
        name: stage.name,
        server: Some(server.url().to_owned()),
        known: stage.known,
        row: stage.row,
        versions: Some((
            convert::version(stage.since).map_err(wrong)?,
            convert::version(stage.version).map_err(wrong)?,
        )),
        gtid: convert::gtid(&stage.gtid).map_err(wrong)?,
        commit_time: stage.commit_time,
        complete: stage.source_time,
        executed,
        place: stage.place,
        position: stage.position,
    })
}

/// The feed's table at its source.
struct Table {
    opened: Opened,
    feed: onair_cdc::feed::Feed,
}

impl Table {
    /// Binds the feed as the server's schema has it, so that rows have the same bytes.
    async fn open(
        args: crate::cli::SourceArgs,
        name: &str,
        schema: &Schema,
    ) -> Result<Self, Failure> {
        let loaded = source::configure(args, Vec::new())?;
        let mut feeds = loaded.config.feeds.iter();
        let config = feeds.find(|feed| *feed.name == *name).ok_or_else(|| {
            Failure::new(
                Exit::Usage,
                format!("the configuration has no feed {name:?}; name one of its feeds"),
            )
        })?;
        if loaded.config.source.url.is_none() {
            return Err(Failure::new(
                Exit::Usage,
                "the configuration names no database, and the demo's lives only in its own process; explain without --config",
            ));
        }
        let opened = source::open(&loaded.config)?;
        let table = opened.source.table(&config.table).await;
        let table = table.map_err(|error| source::failed(&opened.name, &error))?;
        let numbers = schema.columns.iter();
        let numbers = FieldNumbers(
            numbers
                .map(|field| (field.column.to_string(), field.number))
                .collect(),
        );
        let (feed, _) = bind(config, &table, &numbers)
            .map_err(|error| Failure::new(Exit::Usage, crate::exit::chain(&error)))?;
        if *feed.schema != *schema {
            return Err(Failure::new(
                Exit::Usage,
                format!(
                    "feed {name} is configured otherwise than the server has it; use the configuration that its reader uses"
                ),
            ));
        }
        Ok(Table { opened, feed })
    }

    /// What was executed before, and the row then, if it was live.
    async fn row(&self, key: &Key) -> Result<(GtidSet, Option<Bytes>), Failure> {
        let failed = |error| source::failed(&self.opened.name, &error);
        let identity = self.opened.source.identity().await.map_err(failed)?;
        let row = scan::row(&*self.opened.source, &self.feed, key).await;
        let row = row.map_err(|error| {
            Failure::new(
                Exit::Failed,
                format!("{}: {}", self.opened.name, crate::exit::chain(&error)),
            )
        })?;
        Ok((identity.executed, row.map(|row| row.bytes().clone())))
    }

    fn place(&self, executed: GtidSet, row: Option<Bytes>, after: Option<Bytes>) -> Place {
        let is_stable = row == after;
        Place {
            name: "mysql".to_owned(),
            server: None,
            known: is_stable,
            row: after,
            versions: None,
            gtid: None,
            commit_time: 0,
            complete: clock::now().as_microsecond(),
            executed: Some(executed),
            position: String::new(),
            place: match is_stable {
                true => self.opened.name.clone(),
                false => format!(
                    "{}: the row changed while the other places were asked; ask again",
                    self.opened.name
                ),
            },
        }
    }
}

struct Shown<'a> {
    feed: &'a str,
    schema: &'a Arc<Schema>,
    key: &'a Key,
    bucket: u32,
    stages: Vec<(&'a Place, &'a Verdict)>,
}

impl Shown<'_> {
    fn row(&self, place: &Place) -> Option<Raw> {
        let row = place.row.clone().filter(|_| place.known);
        row.map(|row| Raw::new(row, Arc::clone(self.schema)))
    }

    fn json(&self, out: &mut Output) -> Result<(), Failure> {
        let rows: Vec<Option<Raw>> = self
            .stages
            .iter()
            .map(|(place, _)| self.row(place))
            .collect();
        let mut stages = Vec::with_capacity(rows.len());
        for ((place, verdict), row) in self.stages.iter().zip(&rows) {
            let versions = place.versions.filter(|_| place.known);
            stages.push(StageForm {
                name: &place.name,
                server: place.server.as_deref(),
                verdict: verdict.word(),
                live: place.known.then_some(row.is_some()),
                row: row.as_ref().map(RowColumns),
                since: versions.map(|(since, _)| since),
                version: versions.map(|(_, version)| version),
                gtid: place.gtid,
                commit_time: place.commit_time,
                position: Some(&*place.position).filter(|position| !position.is_empty()),
                age_ms: age(place).map(|age| age.as_millis() as u64),
                place: &place.place,
            });
        }
        let form = ExplainForm {
            feed: self.feed,
            key: json::KeyColumns(self.schema, self.key),
            bucket: self.bucket,
            stages,
        };
        Ok(json::write_line(out, &form)?)
    }

    fn text(&self, out: &mut Output) -> Result<(), Failure> {
        let key = raw::key_text(self.schema, self.key);
        let line = format!("{} {key}, bucket {}", self.feed, self.bucket);
        let line = out.tone(Tone::Strong, &line);
        out.line(&line)?;
        for (place, verdict) in &self.stages {
            let (tone, word) = verdict.shown();
            let verdict = out.tone(tone, word);
            let row = self.row(place);
            let state = match (place.known, &row) {
                (false, _) => "not known".to_owned(),
                (true, None) => "not live".to_owned(),
                (true, Some(row)) => pairs(row).map_err(|error| damaged(&error))?,
            };
            out.line(&format!("{:6}  {verdict}  {state}", place.name))?;
            let mut more = Vec::new();
            if let (true, Some((since, version))) = (place.known, place.versions) {
                more.push(match since == version {
                    true => format!("at {version}"),
                    false => format!("since {since}, through {version}"),
                });
            }
            if let Some(gtid) = &place.gtid {
                more.push(format!("by {gtid}"));
            }
            more.extend(json::time(place.commit_time).map(|time| format!("committed {time}")));
            if !place.position.is_empty() {
                more.push(format!("in the binlog up to {}", place.position));
            }
            more.extend(age(place).map(|age| format!("{} old", ago(age))));
            more.extend(place.server.clone());
            more.push(place.place.clone());
            let line = out.tone(Tone::Faint, &more.join("; "));
            out.line(&format!("        {line}"))?;
        }
        Ok(())
    }
}

/// How long ago the place was known to be complete, by this machine's clock and the source's.
fn age(place: &Place) -> Option<Duration> {
    let behind = clock::now().as_microsecond().saturating_sub(place.complete);
    let known = place.known && place.complete != 0;
    known.then(|| Duration::from_micros(u64::try_from(behind).unwrap_or(0)))
}
