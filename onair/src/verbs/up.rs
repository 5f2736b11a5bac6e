//! `up`: everything in one process, and what a person sees of it.

use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use onair_cdc::reader::{Reader, ReaderError};
use onair_cdc::source::SourceError;
use onair_cdc::status::{Phase, Status};
use onair_server::Tls;
use onair_store::StoreError;
use tokio::net::TcpListener;
use tokio::time::Instant;

use crate::admin::Probes;
use crate::backends::BackendError;
use crate::cli::UpArgs;
use crate::config::{Config, DATA_DIR, Loaded};
use crate::exit::{Exit, Failure, chain};
use crate::json::{self, EndForm, ReadyForm, UpFeedForm};
use crate::output::{Output, Tone, ago, grouped};
use crate::signals::Signals;
use crate::system::{self, Parts, Service, System, SystemError};
use crate::{backends, logging, source};

/// The banner does not wait longer than this for the source.
const BANNER: Duration = Duration::from_millis(500);
/// How often the status line is drawn; its rates are those of the last second.
const REFRESH: Duration = Duration::from_secs(1);
/// A stop that takes longer than this is cut off: what was not folded is derived again at the next start.
const STOP_MAX: Duration = Duration::from_millis(1800);

pub(crate) async fn run(args: UpArgs, out: &mut Output) -> Result<(), Failure> {
    let began = Instant::now();
    let deadline = args.r#for.map(|limit| began + limit);
    let UpArgs {
        source: source_args,
        data_dir,
        reset,
        yes,
        listen,
        admin_listen,
        json,
        log_level,
        log_format,
        demo_rows,
        demo_rate,
        demo_seed,
        ..
    } = args;
    let flags = [
        ("data_dir", "--data-dir", data_dir),
        ("server.listen", "--listen", listen),
        ("admin.listen", "--admin-listen", admin_listen),
        ("logging.level", "--log-level", log_level),
        ("logging.format", "--log-format", log_format),
        ("demo.rows", "--demo-rows", demo_rows),
        ("demo.rate", "--demo-rate", demo_rate),
        ("demo.seed", "--demo-seed", demo_seed),
    ];
    let flags = flags
        .into_iter()
        .filter_map(|(setting, flag, value)| Some((setting, flag, value?)))
        .collect();
    let loaded = source::configure(source_args, flags)?;
    let files = loaded.check_files();
    files.map_err(|errors| source::misconfigured(&errors))?;
    let line = status_line(json, out);
    logging::start(
        &loaded.config.logging,
        &line,
        std::io::stderr().is_terminal() && out.colour,
    );
    let probes = Probes::new();
    let answering = match &loaded.config.admin {
        Some(address) => Some(probes.serve(address).await?),
        None => None,
    };
    let place = Place::of(&loaded.config)?;
    if reset {
        empty(&place.path, yes).await?;
    }
    let tls = super::role::tls(&loaded.config)?;
    let scheme = super::role::scheme(tls.as_ref());
    let listener = super::role::listen(&loaded.config.listen).await?;
    let address = listener
        .local_addr()
        .map_err(|error| {
            let text = format!(
                "{}: what was bound has no address: {error}; choose another with --listen",
                loaded.config.listen
            );
            Failure::new(Exit::Failed, text)
        })?
        .to_string();
    let mut signals = Signals::new()?;
    let face = Face {
        json,
        line,
        began,
        address,
        admin: answering
            .as_ref()
            .map(|answering| answering.address.clone()),
        scheme,
        deadline,
    };
    let name = source_name(&loaded.config);
    let starting = begin(&loaded.config, &place.path, (listener, tls));
    let started = {
        tokio::pin!(starting);
        // A source that refuses at once is told without a banner above it.
        let early = tokio::select! {
            biased;
            _ = signals.next() => return face.never_ready("signal", out),
            done = &mut starting => Some(done),
            () = tokio::time::sleep(BANNER) => None,
        };
        if !matches!(early, Some(Err(_))) && !json {
            banner(&loaded, &name, &place, &face, out)?;
        }
        match early {
            Some(done) => done,
            None => tokio::select! {
                biased;
                _ = signals.next() => return face.never_ready("signal", out),
                () = until(deadline) => {
                    face.never_ready("time", out)?;
                    return Err(too_short());
                }
                done = &mut starting => done,
            },
        }
    };
    let system = started?;
    probes.running(&system.local);
    let ended = face.watch(system, &place, &mut signals, out).await;
    face.line.finish_and_clear();
    place.leave();
    ended
}

pub(super) async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

fn too_short() -> Failure {
    Failure::new(
        Exit::Failed,
        "the time of --for was over before anything was ready: give it more, and see in the log what it waited for",
    )
}

fn source_name(config: &Config) -> String {
    match &config.source.url {
        Some(url) => crate::config::redact(url),
        None => format!(
            "built-in demo: table live.room, {} rows, {} transactions a second",
            grouped(config.demo.rows),
            config.demo.rate
        ),
    }
}

/// Checks the source, then starts the roles.
async fn begin(
    config: &Config,
    data_dir: &Path,
    (listener, tls): (TcpListener, Option<Tls>),
) -> Result<System, Failure> {
    let for_demo = config.clone();
    // Filling the demo's table takes the processor for a moment.
    let opened = tokio::task::spawn_blocking(move || source::open(&for_demo))
        .await
        .map_err(|error| {
            let text = format!(
                "the source could not be opened: {error}; please report it as a fault of OnAir"
            );
            Failure::new(Exit::Failed, text)
        })??;
    let findings = opened
        .source
        .preflight(&config.feeds)
        .await
        .map_err(|error| source::failed(&opened.name, &error))?;
    if let Some(refusal) = source::refusal(&opened.name, &findings) {
        return Err(refusal);
    }
    source::warn_of(&findings);
    let backends = backends::open(config, data_dir, Duration::ZERO)
        .await
        .map_err(unusable)?;
    let mut reader = config.reader.clone();
    if !backends.is_shared {
        // One process has the store's file to itself: a lease in it is of a process that is no more.
        reader.lease_patience = Duration::ZERO;
    }
    let mut settings = config.server.clone();
    if config.is_demo() {
        // The demo is a new server each time: nothing of what it lost will come back.
        settings.lost_tail_wait = Duration::ZERO;
    }
    let reader = Reader::new(
        source::reader(config, reader),
        backends.lineage,
        opened.source,
        Arc::clone(&backends.log),
        Arc::clone(&backends.store),
    );
    // What does not fit is told before anything runs.
    reader.bind().await.map_err(|error| failed(error.into()))?;
    Ok(system::start(Parts {
        backends,
        feeds: source::feeds(config),
        reader: Some(reader),
        merger: Some(config.merger.clone()),
        server: Some(Service {
            listener,
            tls,
            settings,
        }),
        process: source::process(config),
        build: format!("onair {}", crate::VERSION).into(),
    }))
}

/// What it means that log or store cannot be had.
pub(crate) fn unusable(error: BackendError) -> Failure {
    let exit = match &error {
        BackendError::Store(StoreError::InUse { .. }) => Exit::Refused,
        BackendError::Store(StoreError::Unavailable { .. }) => Exit::Unreachable,
        _ => Exit::Failed,
    };
    Failure::new(exit, chain(&error))
}

/// What it means that a role ended.
pub(crate) fn failed(error: SystemError) -> Failure {
    Failure::new(exit(&error), chain(&error))
}

/// The exit code of a process that ends with this.
pub(crate) const fn exit(error: &SystemError) -> Exit {
    match error {
        SystemError::Reader(ReaderError::Source(
            SourceError::Unreachable { .. } | SourceError::Silent { .. },
        )) => Exit::Unreachable,
        _ => Exit::Failed,
    }
}

/// Where data stands, and for how long.
struct Place {
    path: PathBuf,
    /// Goes with the process.
    volatile: Option<tempfile::TempDir>,
}

impl Place {
    fn of(config: &Config) -> Result<Self, Failure> {
        match &config.data_dir {
            Some(path) => Ok(Place {
                path: path.clone(),
                volatile: None,
            }),
            None if config.is_demo() => {
                let dir = tempfile::Builder::new().prefix("onair-demo-").tempdir().map_err(|error| {
                    Failure::new(Exit::Failed, format!("no directory for the demo's data can be made: {error}; name one with --data-dir"))
                })?;
                Ok(Place {
                    path: dir.path().to_owned(),
                    volatile: Some(dir),
                })
            }
            None => Ok(Place {
                path: PathBuf::from(DATA_DIR),
                volatile: None,
            }),
        }
    }

    fn shown(&self) -> String {
        std::path::absolute(&self.path)
            .unwrap_or_else(|_| self.path.clone())
            .display()
            .to_string()
    }

    fn leave(self) {
        if let Some(dir) = self.volatile
            && let Err(error) = dir.close()
        {
            tracing::warn!(error = %error, "the demo's data could not be removed");
        }
    }
}

/// Empties a data directory: only what OnAir put there, and only if no process has it.
async fn empty(path: &Path, yes: bool) -> Result<(), Failure> {
    let file = path.join("onair.redb");
    let log = path.join("log");
    if !file.exists() && !log.exists() {
        return Ok(());
    }
    let shown = path.display();
    if !yes {
        if !std::io::stdin().is_terminal() {
            return Err(Failure::new(
                Exit::Refused,
                format!(
                    "{shown}: --reset deletes what OnAir holds there, and nobody can be asked; add --yes"
                ),
            ));
        }
        eprint!(
            "{shown}: delete what OnAir holds there? A new lineage begins, every client gets a full snapshot. [y/N] "
        );
        let mut answer = String::new();
        // An answer that cannot be read is a no.
        let _ = std::io::stdin().read_line(&mut answer);
        if !matches!(answer.trim(), "y" | "Y" | "yes") {
            return Err(Failure::new(
                Exit::Refused,
                format!("{shown}: nothing was deleted"),
            ));
        }
    }
    let store = file.clone();
    let opened =
        tokio::task::spawn_blocking(move || onair_store::redb::RedbStore::open(store).map(drop))
            .await;
    if let Ok(Err(error @ onair_store::StoreError::InUse { .. })) = opened {
        return Err(Failure::new(Exit::Refused, error.to_string()));
    }
    let gone = |result: std::io::Result<()>| match result {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Failure::new(
            Exit::Failed,
            format!(
                "{shown}: cannot be emptied: {error}; see to its permissions, or use another --data-dir"
            ),
        )),
        _ => Ok(()),
    };
    gone(std::fs::remove_file(&file))?;
    gone(std::fs::remove_dir_all(&log))
}

fn banner(
    loaded: &Loaded,
    source: &str,
    place: &Place,
    face: &Face,
    out: &mut Output,
) -> Result<(), Failure> {
    let config = &loaded.config;
    let title = out.tone(Tone::Strong, &format!("onair {}", crate::VERSION));
    out.line(&format!(
        "{title}  reader, log, merger, store and server in one process"
    ))?;
    out.line("")?;
    let mut row = |name: &str, value: &str| {
        let name = out.tone(Tone::Faint, &format!("{name:<8}"));
        out.line(&format!("  {name}  {value}"))
    };
    row("source", source)?;
    for feed in &config.feeds {
        row(
            "feed",
            &format!("{}: {} where {}", feed.name, feed.table, feed.live_when),
        )?;
    }
    row("grpc", &format!("{}://{}", face.scheme, face.address))?;
    if let Some(admin) = &face.admin {
        row("admin", &format!("http://{admin}"))?;
    }
    row("data", &place.shown())?;
    let keeps = if place.volatile.is_some() {
        "nothing is kept: the demo's table, the log and the data end with this process"
    } else if config.is_demo() {
        "the store is kept; the demo's table and the log (in memory) end with this process"
    } else {
        "the store is kept and a restart goes on from it; the log is in memory and ends with this process"
    };
    row("keeps", keeps)?;
    out.line("")?;
    out.line("  try:")?;
    let server = match face.address.as_str() {
        crate::config::LISTEN if face.scheme == "http" => String::new(),
        address => format!(" --server {}://{address}", face.scheme),
    };
    let feed = config.feeds.first().map_or("FEED", |feed| &feed.name);
    for verb in [
        format!("watch {feed}"),
        format!("dump {feed}"),
        "status".to_owned(),
    ] {
        let command = out.tone(Tone::Good, &format!("onair {verb}{server}"));
        out.line(&format!("    {command}"))?;
    }
    out.line("")?;
    Ok(out.flush()?)
}

/// The line that keeps itself up to date; hidden unless a person looks at a terminal.
fn status_line(json: bool, out: &Output) -> ProgressBar {
    let target = if !json && out.terminal && std::io::stderr().is_terminal() {
        ProgressDrawTarget::stderr_with_hz(4)
    } else {
        ProgressDrawTarget::hidden()
    };
    let line = ProgressBar::with_draw_target(None, target);
    if let Ok(style) = ProgressStyle::with_template("{wide_msg}") {
        line.set_style(style);
    }
    line
}

/// What is shown of a running system.
struct Face {
    json: bool,
    line: ProgressBar,
    began: Instant,
    address: String,
    /// Where probes are answered.
    admin: Option<String>,
    /// `http` or `https`.
    scheme: &'static str,
    deadline: Option<Instant>,
}

impl Face {
    /// Says that it ended while it was starting.
    fn never_ready(&self, reason: &'static str, out: &mut Output) -> Result<(), Failure> {
        let uptime = self.began.elapsed();
        if self.json {
            json::line(
                out,
                &EndForm::new(reason, uptime.as_millis() as u64, Vec::new()),
            )?;
        } else {
            out.line(&format!("ended after {}: it was never ready", ago(uptime)))?;
            out.flush()?;
        }
        Ok(())
    }

    /// Runs until something ends it, then stops. In this order: a role's end, a signal, the time, readiness, the line.
    async fn watch(
        &self,
        mut system: System,
        place: &Place,
        signals: &mut Signals,
        out: &mut Output,
    ) -> Result<(), Failure> {
        let server = system.server();
        let ready = async move {
            match server {
                Some(server) => server.ready().await,
                None => std::future::pending().await,
            }
        };
        tokio::pin!(ready);
        let mut is_ready = false;
        let mut rates = Rates::new(&read(&system));
        let mut tick = tokio::time::interval(REFRESH);
        let (reason, failure) = loop {
            tokio::select! {
                biased;
                error = system.failed() => break ("failed", Some(failed(error))),
                _ = signals.next() => break ("signal", None),
                () = until(self.deadline) => break ("time", None),
                () = &mut ready, if !is_ready => {
                    is_ready = true;
                    if let Err(failure) = self.ready(&system, place, out) {
                        break ("failed", Some(failure));
                    }
                }
                _ = tick.tick() => {
                    let status = read(&system);
                    rates.take(&status);
                    self.line.set_message(status_text(&system, &status, &rates, is_ready));
                }
            }
        };
        let feeds = feeds(&system);
        let status = read(&system);
        self.line.finish_and_clear();
        let stopped = tokio::select! {
            biased;
            stopped = tokio::time::timeout(STOP_MAX, system.stop()) => stopped.is_ok(),
            // Twice is at once.
            _ = signals.next() => false,
        };
        if !stopped {
            tracing::warn!("not everything was folded in time; the next start derives it again");
        }
        let uptime = self.began.elapsed();
        if self.json {
            json::line(out, &EndForm::new(reason, uptime.as_millis() as u64, feeds))?;
        } else {
            let held: Vec<String> = feeds.iter().map(UpFeedForm::text).collect();
            let line = format!(
                "ended after {}: {}; {} on, {} off since the start",
                ago(uptime),
                held.join("; "),
                grouped(status.on),
                grouped(status.off)
            );
            out.line(&line)?;
            out.flush()?;
        }
        failure.map_or(Ok(()), Err)
    }

    fn ready(&self, system: &System, place: &Place, out: &mut Output) -> Result<(), Failure> {
        let feeds = feeds(system);
        if self.json {
            return Ok(json::line(
                out,
                &ReadyForm::new(
                    (self.address.clone(), self.admin.clone()),
                    feeds,
                    place.shown(),
                ),
            )?);
        }
        let text: Vec<String> = feeds.iter().map(UpFeedForm::text).collect();
        let word = out.tone(Tone::Good, "ready");
        let line = format!(
            "{word} after {}: {}",
            ago(self.began.elapsed()),
            text.join("; ")
        );
        self.line.suspend(|| {
            out.line(&line)?;
            out.flush()
        })?;
        Ok(())
    }
}

impl UpFeedForm {
    fn text(&self) -> String {
        match self.version {
            Some(version) => format!(
                "feed {} at {version}, {} rows",
                self.name,
                grouped(self.count)
            ),
            None => format!("feed {}, no version yet", self.name),
        }
    }
}

fn read(system: &System) -> Status {
    let reader = system.reader();
    // `up` has a reader.
    reader.map_or_else(Status::default, |reader| reader.borrow().clone())
}

fn feeds(system: &System) -> Vec<UpFeedForm> {
    let reports = system.server().map(|server| server.feeds());
    reports
        .into_iter()
        .flatten()
        .map(|report| UpFeedForm {
            name: report.feed,
            version: report.seal.as_ref().map(|seal| seal.version),
            count: report.seal.as_ref().map_or(0, |seal| seal.count),
        })
        .collect()
}

/// Keys that came on and went off, a second.
struct Rates {
    at: Instant,
    totals: (u64, u64),
    on: u64,
    off: u64,
}

impl Rates {
    fn new(status: &Status) -> Self {
        Rates {
            at: Instant::now(),
            totals: (status.on, status.off),
            on: 0,
            off: 0,
        }
    }

    fn take(&mut self, status: &Status) {
        let seconds = self.at.elapsed().as_secs_f64();
        if seconds < 0.5 {
            return;
        }
        let rate =
            |now: u64, before: u64| (now.saturating_sub(before) as f64 / seconds).round() as u64;
        self.on = rate(status.on, self.totals.0);
        self.off = rate(status.off, self.totals.1);
        self.at = Instant::now();
        self.totals = (status.on, status.off);
    }
}

fn status_text(system: &System, status: &Status, rates: &Rates, is_ready: bool) -> String {
    let scanned = match status.phase {
        Phase::Opening if status.scanned > 0 => {
            format!("  {} rows scanned", grouped(status.scanned))
        }
        _ => String::new(),
    };
    if !is_ready {
        return format!("{}{scanned}  {}", status.phase.name(), status.detail);
    }
    let reports = system
        .server()
        .map(|server| server.feeds())
        .unwrap_or_default();
    let mut text = String::new();
    for report in &reports {
        let Some(seal) = &report.seal else { continue };
        if !text.is_empty() {
            text.push_str("  |  ");
        }
        text.push_str(&format!(
            "{}  {} live  {}  age {}  {} clients",
            report.feed,
            grouped(seal.count),
            seal.version,
            ago(report.age),
            report.clients
        ));
        if !report.held.is_empty() {
            text.push_str(&format!("  held: {}", report.held));
        }
    }
    text.push_str(&format!("  +{}/s -{}/s", rates.on, rates.off));
    if status.phase != Phase::Following {
        text.push_str(&format!("  [{}{scanned}]", status.phase.name()));
    }
    text
}
