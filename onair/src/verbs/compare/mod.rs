//! `compare`: the old way, polling by SQL, beside the feed. What did each see, and when?

mod sides;

use std::collections::BTreeSet;
use std::io::{IsTerminal as _, Write as _};
use std::sync::Arc;
use std::time::Duration;

use onair_cdc::bind::{FieldNumbers, bind};
use onair_cdc::feed::Feed as Bound;
use onair_cdc::scan::{self, Control, Scan};
use onair_cdc::source::Source;
use onair_sdk::{Changes, Feed, Key, Raw, Schema, Snapshot, Step, raw};
use tokio::time::{Instant, MissedTickBehavior, timeout};

use self::sides::{Change, Edge, Only, Polled, Side, Verdict, compare};
use crate::cli::CompareArgs;
use crate::client::Server;
use crate::clock;
use crate::config::Config;
use crate::exit::{Exit, Failure, chain};
use crate::json::{self, CompareChange, CompareEdge, CompareForm, CompareSide, KeyColumns};
use crate::output::{Output, Tone, ago, bytes, grouped};
use crate::source;

/// How long the replica may take to be there, and at the end to contain what the last poll saw.
const PATIENCE: Duration = Duration::from_secs(30);

/// Edges that people are told of those that one side alone saw.
const ALONE_MAX: usize = 20;

/// Edges that people are told of those that the feed showed sooner.
const LEADS_MAX: usize = 10;

pub(crate) async fn run(args: CompareArgs, out: &mut Output) -> Result<(), Failure> {
    let loaded = source::configure(args.source, Vec::new())?;
    if loaded.config.is_demo() {
        return Err(Failure::new(
            Exit::Usage,
            "there is no database to poll: the demo's table stands in the memory of `onair up`, where no other process reaches it; name a database with --config or --mysql",
        ));
    }
    let poller = Poller::new(&args.name, &loaded.config).await?;
    let server = Server::connect(&args.read.server, &args.read.tls).await?;
    let (schema, _) = server.schema(&args.name).await?;
    let replica = server
        .replica(&args.name, "onair compare", PATIENCE)
        .await?;
    // A newcomer's first version may be some seconds old, what came since follows at once.
    poller.reached_by(&replica).await?;
    let mut both = Both::new(poller, &replica);
    both.told = (!args.read.json && std::io::stderr().is_terminal()).then_some(args.r#for);
    both.follow(args.poll, args.r#for).await?;
    both.finish(&replica).await?;
    let verdict = compare(&both.old, &both.follower.side);
    let took = both.began.elapsed();
    let form = both.form(&args.name, (took, args.poll), &verdict);
    let edges = Edges {
        schema: &schema,
        began: both.began_at,
    };
    if args.read.json {
        for change in &verdict.0 {
            json::write_line(out, &edges.form(change))?;
        }
        json::line(out, &form)?;
    } else {
        show(&form, &verdict, &edges, out)?;
    }
    match form.old.only {
        0 => Ok(()),
        _ => Err(Failure::silent(Exit::Different)),
    }
}

/// The old way: reads all live rows.
struct Poller {
    source: Arc<dyn Source>,
    name: String,
    feed: Arc<Bound>,
    settings: scan::Settings,
    polls: u64,
    rows: u64,
    bytes: u64,
    busy: Duration,
}

impl Poller {
    async fn new(feed: &str, config: &Config) -> Result<Self, Failure> {
        let known = config.feeds.iter().map(|feed| &*feed.name);
        let known: Vec<&str> = known.collect();
        let Some(configured) = config.feeds.iter().find(|known| &*known.name == feed) else {
            let text = format!(
                "the configuration has no feed {feed:?}; it has {}",
                known.join(", ")
            );
            return Err(Failure::new(Exit::Usage, text));
        };
        let opened = source::open(config)?;
        let table = opened.source.table(&configured.table).await;
        let table = table.map_err(|error| source::failed(&opened.name, &error))?;
        // Keys alone are compared, and they have no numbers.
        let (bound, _) = bind(configured, &table, &FieldNumbers::default())
            .map_err(|error| Failure::new(Exit::Failed, chain(&error)))?;
        Ok(Poller {
            source: opened.source,
            name: opened.name,
            feed: Arc::new(bound),
            settings: config.reader.scan,
            polls: 0,
            rows: 0,
            bytes: 0,
            busy: Duration::ZERO,
        })
    }

    /// Waits until the feed contains all that the source has executed.
    async fn reached_by(&self, replica: &Feed<Raw>) -> Result<(), Failure> {
        let here = self.source.identity().await;
        let here = here.map_err(|error| source::failed(&self.name, &error))?;
        match timeout(PATIENCE, replica.wait_for(here.executed)).await {
            Ok(Ok(_)) => Ok(()),
            _ => {
                let text = format!(
                    "the feed did not come to where the source is within {} s; see `onair status`",
                    PATIENCE.as_secs()
                );
                Err(Failure::new(Exit::Failed, text))
            }
        }
    }

    /// The keys that are live now.
    async fn poll(&mut self) -> Result<BTreeSet<Key>, Failure> {
        let control = Control::default();
        let failed = |error: &onair_cdc::source::SourceError| source::failed(&self.name, error);
        let delivered = self
            .source
            .identity()
            .await
            .map_err(|error| failed(&error))?;
        let (feed, settings) = (Arc::clone(&self.feed), self.settings);
        let scanned = scan::scan(&*self.source, feed, delivered.executed, settings, control).await;
        let Scan {
            rows, bytes, busy, ..
        } = scanned.map_err(|error| match error {
            scan::ScanError::Source(error) => failed(&error),
            error @ scan::ScanError::Misfit { .. } => Failure::new(Exit::Failed, error.to_string()),
        })?;
        self.polls += 1;
        self.rows += rows.len() as u64;
        self.bytes += bytes;
        self.busy += busy;
        Ok(rows.into_iter().map(|(key, _)| key).collect())
    }
}

/// The new way: follows the feed.
struct Follower {
    changes: Changes<Raw>,
    shown: Snapshot<Raw>,
    side: Side,
}

impl Follower {
    /// Waits for the next step and notes it. Dropping the future loses nothing.
    async fn follow(&mut self, began: Instant) -> Result<(), Failure> {
        match self.changes.next().await {
            Some(step) => {
                self.note(step, began);
                Ok(())
            }
            None => Err(Failure::new(Exit::Failed, "the feed was closed; try again")),
        }
    }

    fn note(&mut self, step: Step<Raw>, began: Instant) {
        let at = began.elapsed();
        for (key, _) in &step.on {
            self.side.saw(key, Edge::Open, at);
        }
        for (key, _) in &step.off {
            self.side.saw(key, Edge::Close, at);
        }
        self.shown = step.snapshot;
    }

    fn keys(&self) -> BTreeSet<Key> {
        self.shown.iter().map(|(key, _)| key.clone()).collect()
    }
}

/// Both ways, from the same content on.
struct Both {
    began: Instant,
    /// The same by the clock, microseconds since 1970.
    began_at: i64,
    /// How long it takes in all, where somebody is told after each poll how it goes.
    told: Option<Duration>,
    poller: Poller,
    /// What the last poll saw; before the first one, what the feed showed.
    polled: BTreeSet<Key>,
    old: Side,
    follower: Follower,
}

impl Both {
    fn new(poller: Poller, replica: &Feed<Raw>) -> Self {
        let shown = replica.snapshot();
        let follower = Follower {
            changes: replica.changes().after(shown.clone()),
            shown,
            side: Side::default(),
        };
        Both {
            began: Instant::now(),
            began_at: clock::now().as_microsecond(),
            told: None,
            poller,
            polled: follower.keys(),
            old: Side::default(),
            follower,
        }
    }

    /// Polls and follows for so long.
    async fn follow(&mut self, every: Duration, limit: Duration) -> Result<(), Failure> {
        let deadline = self.began + limit;
        let mut tick = tokio::time::interval(every);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                followed = self.follower.follow(self.began) => followed?,
                () = tokio::time::sleep_until(deadline) => return Ok(()),
                _ = tick.tick() => self.poll().await?,
            }
        }
    }

    /// Polls once; what the feed shows meanwhile is noted when it does.
    async fn poll(&mut self) -> Result<(), Failure> {
        let now = {
            let polling = self.poller.poll();
            tokio::pin!(polling);
            loop {
                tokio::select! {
                    biased;
                    followed = self.follower.follow(self.began) => followed?,
                    now = &mut polling => break now?,
                }
            }
        };
        self.old.looked(&self.polled, &now, self.began.elapsed());
        self.polled = now;
        if let Some(limit) = self.told {
            eprintln!("{}", self.progress(limit));
        }
        Ok(())
    }

    /// How it goes.
    fn progress(&self, limit: Duration) -> String {
        let side = |side: &Side| {
            format!(
                "{} opens, {} closes",
                grouped(side.opens),
                grouped(side.closes)
            )
        };
        format!(
            "{} of {}, poll {}: {} rows; polling saw {}; the feed {}",
            ago(self.began.elapsed()),
            ago(limit),
            self.poller.polls,
            grouped(self.polled.len() as u64),
            side(&self.old),
            side(&self.follower.side)
        )
    }

    /// A last poll; then the feed gets to where the source is, and polling is credited with the rest.
    async fn finish(&mut self, replica: &Feed<Raw>) -> Result<(), Failure> {
        self.poll().await?;
        self.poller.reached_by(replica).await?;
        if let Some(step) = self.follower.changes.try_next() {
            self.follower.note(step, self.began);
        }
        self.old.would_see(&self.polled, &self.follower.keys());
        Ok(())
    }

    fn form<'a>(
        &self,
        feed: &'a str,
        (took, every): (Duration, Duration),
        verdict: &Verdict,
    ) -> CompareForm<'a> {
        let side = |side: &Side, which| CompareSide {
            opens: side.opens,
            closes: side.closes,
            only: verdict.only(which).count() as u64,
        };
        let (sooner, later) = (verdict.sooner(), verdict.later());
        CompareForm {
            kind: "summary",
            feed,
            ms: millis(took),
            poll_ms: millis(every),
            old: side(&self.old, Only::Polling),
            new: side(&self.follower.side, Only::Feed),
            polls: self.poller.polls,
            polled_rows: self.poller.rows,
            database_ms: millis(self.poller.busy),
            database_bytes: self.poller.bytes,
            sooner: sooner.len() as u64,
            sooner_ms_p50: median(&sooner),
            sooner_ms_max: sooner.last().copied().map(millis),
            later: later.len() as u64,
            later_ms_p50: median(&later),
            later_ms_max: later.last().copied().map(millis),
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Of ascending durations, in milliseconds.
fn median(sorted: &[Duration]) -> Option<u64> {
    sorted.get(sorted.len() / 2).copied().map(millis)
}

/// What is needed to tell an edge: names of the key's columns, and the time that its times count from.
struct Edges<'a> {
    schema: &'a Schema,
    began: i64,
}

impl Edges<'_> {
    fn at(&self, since: Duration) -> i64 {
        let micros = i64::try_from(since.as_micros()).unwrap_or(i64::MAX);
        self.began.saturating_add(micros)
    }

    fn form<'a>(&'a self, change: &'a Change) -> CompareChange<'a> {
        let polling = match change.polled {
            Polled::At(at) => Some(at),
            Polled::Next | Polled::Never => None,
        };
        let edge = CompareEdge {
            opened: change.edge == Edge::Open,
            polling: polling.map(|at| self.at(at)),
            feed: change.shown.map(|at| self.at(at)),
            only: change.only().map(|only| match only {
                Only::Feed => "feed",
                Only::Polling => "polling",
            }),
        };
        CompareChange::new(KeyColumns(self.schema, &change.key), edge)
    }

    /// Key, edge, and when either side saw it.
    fn cells(&self, change: &Change) -> Vec<String> {
        let at = |at: Duration| json::time(self.at(at)).unwrap_or_default();
        let edge = match change.edge {
            Edge::Open => "open",
            Edge::Close => "close",
        };
        let polled = match change.polled {
            Polled::At(seen) => at(seen),
            Polled::Next => "at the next poll".to_owned(),
            Polled::Never => "never".to_owned(),
        };
        vec![
            raw::key_text(self.schema, &change.key),
            edge.to_owned(),
            change.shown.map_or_else(|| "never".to_owned(), at),
            polled,
        ]
    }
}

fn show(
    form: &CompareForm<'_>,
    verdict: &Verdict,
    edges: &Edges<'_>,
    out: &mut Output,
) -> Result<(), Failure> {
    let for_people = |ms: u64| ago(Duration::from_millis(ms));
    let title = format!(
        "feed {} for {}, polled every {}",
        form.feed,
        for_people(form.ms),
        for_people(form.poll_ms)
    );
    let title = out.tone(Tone::Strong, &title);
    out.line(&title)?;
    let row = |name: &str, side: &CompareSide| {
        let numbers = [side.opens, side.closes, side.only].map(grouped);
        [name.to_owned()].into_iter().chain(numbers).collect()
    };
    let rows: Vec<Vec<String>> = vec![row("polling", &form.old), row("feed", &form.new)];
    out.table(&["", "opens", "closes", "seen by it alone"], &rows)?;
    out.line(&format!(
        "polling cost {} polls, {} rows, {} of the database, {}",
        grouped(form.polls),
        grouped(form.polled_rows),
        for_people(form.database_ms),
        bytes(form.database_bytes)
    ))?;
    let first = [
        (
            "the feed",
            form.sooner,
            form.sooner_ms_p50,
            form.sooner_ms_max,
        ),
        ("polling", form.later, form.later_ms_p50, form.later_ms_max),
    ];
    for (who, count, p50, max) in first {
        if let (Some(p50), Some(max)) = (p50, max) {
            out.line(&format!(
                "{who} was first {} times, by {} (median), {} at most",
                grouped(count),
                for_people(p50),
                for_people(max)
            ))?;
        }
    }
    let largest = verdict.largest(LEADS_MAX);
    if !largest.is_empty() {
        let rows: Vec<Vec<String>> = largest
            .into_iter()
            .map(|(change, lead)| [edges.cells(change), vec![ago(lead)]].concat())
            .collect();
        out.line("")?;
        out.line("the feed's largest leads:")?;
        out.table(&["key", "edge", "feed", "polling", "sooner by"], &rows)?;
    }
    let only = [("polling", Only::Polling), ("the feed", Only::Feed)];
    for (who, side) in only {
        let mut alone = verdict.only(side);
        let rows: Vec<Vec<String>> = alone
            .by_ref()
            .take(ALONE_MAX)
            .map(|change| edges.cells(change))
            .collect();
        if rows.is_empty() {
            continue;
        }
        out.line("")?;
        out.line(&format!("seen by {who} alone:"))?;
        out.table(&["key", "edge", "feed", "polling"], &rows)?;
        let more = alone.count();
        if more > 0 {
            out.line(&format!(
                "and {} more; --json tells all",
                grouped(more as u64)
            ))?;
        }
    }
    Ok(out.flush()?)
}
