//! `cdc`, `merger`, `server`: one role a process. They meet in log and store only, and start in any order.

use std::collections::BTreeSet;
use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use indicatif::ProgressBar;
use onair_cdc::reader::Reader;
use onair_cdc::source::{Source, SourceError};
use onair_server::{Tls, TlsFiles};
use tokio::net::TcpListener;
use tokio::time::Instant;
use tracing::warn;

use super::up::{failed, until, unusable};
use crate::admin::Probes;
use crate::backends::{self, Backends};
use crate::cli::{MergerArgs, RoleArgs, ServerArgs, SourceArgs};
use crate::config::{Config, Loaded, SETTINGS, report};
use crate::exit::{Exit, Failure, chain};
use crate::json::{self, RoleEndForm, RoleReadyForm};
use crate::logging::{self, Levels};
use crate::output::{Output, Tone, ago};
use crate::signals::{Asked, Signals};
use crate::source;
use crate::system::{self, Parts, Service, System};

/// Between two attempts at a source that does not answer, and two looks at whether the roles are ready.
const RETRY: Duration = Duration::from_secs(1);
const LOOK: Duration = Duration::from_millis(50);

/// What is flushed or folded at the end may take this long; a server drains for `server.drain` besides.
const STOP_MAX: Duration = Duration::from_secs(5);

/// Settings that take effect without a restart.
const RELOADED: &[&str] = &["logging.level"];
/// Those of a server that speaks TLS already. Their files are read again whether or not the settings changed.
const RELOADED_TLS: &[&str] = &[
    "server.tls.certificate",
    "server.tls.key",
    "server.tls.client_ca",
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Cdc,
    Merger,
    Server,
}

impl Role {
    /// How late it may be given what the log has. A merger moves each head about once a second.
    const fn lag(self) -> Duration {
        match self {
            Role::Merger => Duration::from_millis(250),
            Role::Cdc | Role::Server => Duration::ZERO,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Role::Cdc => "cdc",
            Role::Merger => "merger",
            Role::Server => "server",
        }
    }
}

pub(crate) async fn cdc(args: RoleArgs, out: &mut Output) -> Result<(), Failure> {
    run(Role::Cdc, args, Vec::new(), out).await
}

pub(crate) async fn merger(args: MergerArgs, out: &mut Output) -> Result<(), Failure> {
    let buckets = args
        .buckets
        .map(|buckets| ("merger.buckets", "--buckets", buckets));
    run(Role::Merger, args.role, buckets.into_iter().collect(), out).await
}

pub(crate) async fn server(args: ServerArgs, out: &mut Output) -> Result<(), Failure> {
    let listen = args
        .listen
        .map(|listen| ("server.listen", "--listen", listen));
    run(Role::Server, args.role, listen.into_iter().collect(), out).await
}

type Flag = (&'static str, &'static str, String);

/// A process before its role runs.
struct Process<'a> {
    role: Role,
    config: &'a Config,
    probes: Probes,
    /// Where the service listens and how it is known, if the role has one.
    door: Option<(TcpListener, Option<Tls>)>,
}

/// What can be done again while the process runs.
struct Reload {
    file: PathBuf,
    flags: Vec<Flag>,
    loaded: Loaded,
    levels: Levels,
    /// Of a server that speaks it.
    tls: Option<Tls>,
}

async fn run(
    role: Role,
    args: RoleArgs,
    mut flags: Vec<Flag>,
    out: &mut Output,
) -> Result<(), Failure> {
    let began = Instant::now();
    let deadline = args.r#for.map(|limit| began + limit);
    let given = [
        ("name", "--name", args.name),
        ("admin.listen", "--admin-listen", args.admin_listen),
        ("logging.level", "--log-level", args.log_level),
        ("logging.format", "--log-format", args.log_format),
    ];
    let given = given.into_iter();
    flags.extend(given.filter_map(|(setting, flag, value)| Some((setting, flag, value?))));
    let loaded = source::configure(SourceArgs::of_file(args.config.clone()), flags.clone())?;
    check(role, &loaded.config)?;
    let colour = std::io::stderr().is_terminal() && out.colour;
    let levels = logging::start(&loaded.config.logging, &ProgressBar::hidden(), colour);
    let probes = Probes::new();
    let mut places = Vec::new();
    let answering = match &loaded.config.admin {
        Some(address) => Some(probes.serve(address).await?),
        None => None,
    };
    if let Some(answering) = &answering {
        places.push(("admin", format!("http://{}", answering.address)));
    }
    let door = match role {
        Role::Server => {
            let tls = tls(&loaded.config)?;
            Some((listen(&loaded.config.listen).await?, tls))
        }
        Role::Cdc | Role::Merger => None,
    };
    if let Some((listener, tls)) = &door
        && let Ok(address) = listener.local_addr()
    {
        places.push(("grpc", format!("{}://{address}", scheme(tls.as_ref()))));
    }
    let spoken = door.as_ref().and_then(|(_, tls)| tls.clone());
    let mut signals = Signals::new()?;
    let process = source::process(&loaded.config);
    if !args.json {
        banner(role, &process, &loaded.config, &places, out)?;
    }
    let starting = Process {
        role,
        config: &loaded.config,
        probes: probes.clone(),
        door,
    };
    let system = tokio::select! {
        biased;
        () = signals.end() => return Ok(()),
        () = until(deadline) => return Ok(()),
        system = starting.begin() => system?,
    };
    probes.running(&system.local);
    let mut life = Life {
        reload: Reload {
            file: args.config,
            flags,
            loaded: loaded.clone(),
            levels,
            tls: spoken,
        },
        deadline,
        stop_max: STOP_MAX + loaded.config.server.drain,
        signals,
    };
    let ready = |system: &System| {
        let after = began.elapsed();
        if args.json {
            let addresses = places.iter().map(|(of, at)| (*of, at.clone())).collect();
            let form = RoleReadyForm::new(role.name(), &process, addresses, after);
            return json::line(out, &form);
        }
        let word = out.tone(Tone::Good, "ready");
        out.line(&format!("{word} after {}: {}", ago(after), words(system)))?;
        out.flush()
    };
    let (reason, ended) = life.run(system, ready).await;
    if args.json {
        json::line(out, &RoleEndForm::new(reason, began.elapsed()))?;
    } else {
        out.line(&format!("ended after {}: {reason}", ago(began.elapsed())))?;
        out.flush()?;
    }
    ended
}

/// Roles of their own need what other processes can reach.
fn check(role: Role, config: &Config) -> Result<(), Failure> {
    let mut missing = Vec::new();
    if config.kafka.brokers.is_none() {
        missing.push("[log.kafka] with brokers");
    }
    if config.scylla.nodes.is_empty() {
        missing.push("[store.scylla] with nodes");
    }
    if role == Role::Cdc && config.is_demo() {
        missing.push("[source] with a url");
    }
    if missing.is_empty() {
        return Ok(());
    }
    Err(Failure::new(
        Exit::Usage,
        format!(
            "onair {} needs {}: roles meet in log and store only; for everything in one process there is onair up",
            role.name(),
            missing.join(", ")
        ),
    ))
}

pub(crate) async fn listen(address: &str) -> Result<TcpListener, Failure> {
    TcpListener::bind(address).await.map_err(|error| {
        let text = format!("{address}: cannot listen there: {error}; choose another address with --listen, port 0 for any");
        Failure::new(Exit::Failed, text)
    })
}

/// Who the service is, if it speaks TLS.
pub(crate) fn tls(config: &Config) -> Result<Option<Tls>, Failure> {
    let files = tls_files(config);
    files
        .map(|files| Tls::read(&files))
        .transpose()
        .map_err(|error| {
            let text = format!("[server.tls]: {}", chain(&error));
            Failure::new(Exit::Failed, text)
        })
}

fn tls_files(config: &Config) -> Option<TlsFiles> {
    let files = &config.server_tls;
    let (certificate, key) = files.certificate.clone().zip(files.key.clone())?;
    Some(TlsFiles {
        certificate,
        key,
        client_ca: files.ca.clone(),
    })
}

/// How clients write the service's address.
pub(crate) const fn scheme(tls: Option<&Tls>) -> &'static str {
    match tls {
        Some(_) => "https",
        None => "http",
    }
}

fn banner(
    role: Role,
    process: &str,
    config: &Config,
    places: &[(&str, String)],
    out: &mut Output,
) -> Result<(), Failure> {
    let title = out.tone(Tone::Strong, &format!("onair {}", crate::VERSION));
    out.line(&format!("{title}  {} on {process}", role.name()))?;
    let mut row = |name: &str, value: &str| {
        let name = out.tone(Tone::Faint, &format!("{name:<8}"));
        out.line(&format!("  {name}  {value}"))
    };
    if let (Role::Cdc, Some(url)) = (role, &config.source.url) {
        row("source", &crate::config::redact(url))?;
    }
    let feeds: Vec<&str> = config.feeds.iter().map(|feed| &*feed.name).collect();
    row("feeds", &feeds.join(", "))?;
    row("kafka", config.kafka.brokers.as_deref().unwrap_or_default())?;
    let scylla = &config.scylla;
    let store = format!("{}, keyspace {}", scylla.nodes.join(", "), scylla.keyspace);
    row("store", &store)?;
    for (name, place) in places {
        row(name, place)?;
    }
    Ok(out.flush()?)
}

impl Process<'_> {
    /// Waits for what the role needs, then starts it.
    async fn begin(self) -> Result<System, Failure> {
        let config = self.config;
        let said = |what: &str| self.probes.waiting(what);
        let data_dir = config.data_dir.clone().unwrap_or_default();
        let backends = backends::wait(config, &data_dir, self.role.lag(), said)
            .await
            .map_err(unusable)?;
        let reader = match self.role {
            Role::Cdc => Some(self.reader(&backends).await?),
            Role::Merger | Role::Server => None,
        };
        Ok(system::start(Parts {
            backends,
            feeds: source::feeds(config),
            reader,
            merger: (self.role == Role::Merger).then(|| config.merger.clone()),
            server: self.door.map(|(listener, tls)| Service {
                listener,
                tls,
                settings: config.server.clone(),
            }),
            process: source::process(config),
            build: format!("onair {}", crate::VERSION).into(),
        }))
    }

    async fn reader(&self, backends: &Backends) -> Result<Reader, Failure> {
        let opened = source::open(self.config)?;
        self.preflight(&*opened.source, &opened.name).await?;
        Ok(Reader::new(
            source::reader(self.config, self.config.reader.clone()),
            backends.lineage,
            opened.source,
            Arc::clone(&backends.log),
            Arc::clone(&backends.store),
        ))
    }

    /// Checks the database as soon as it answers.
    async fn preflight(&self, source: &dyn Source, name: &str) -> Result<(), Failure> {
        loop {
            match source.preflight(&self.config.feeds).await {
                Ok(findings) => {
                    source::warn_of(&findings);
                    return source::refusal(name, &findings).map_or(Ok(()), Err);
                }
                Err(error @ (SourceError::Unreachable { .. } | SourceError::Silent { .. })) => {
                    warn!(error = %error, "waiting for the source");
                    self.probes.waiting(&error.to_string());
                    tokio::time::sleep(RETRY).await;
                }
                Err(error) => return Err(source::failed(name, &error)),
            }
        }
    }
}

fn words(system: &System) -> String {
    let said = system.local.say();
    let each = said
        .iter()
        .map(|said| format!("{}, {}", said.report.state, said.report.detail));
    each.collect::<Vec<_>>().join("; ")
}

/// What may happen to a running process from outside.
struct Life {
    reload: Reload,
    deadline: Option<Instant>,
    stop_max: Duration,
    signals: Signals,
}

impl Life {
    /// Runs until something ends it, then stops; `ready` is called once, when every role does its work.
    async fn run(
        &mut self,
        mut system: System,
        ready: impl FnOnce(&System) -> std::io::Result<()>,
    ) -> (&'static str, Result<(), Failure>) {
        let mut ready = Some(ready);
        let mut look = tokio::time::interval(LOOK);
        let (reason, ended) = loop {
            tokio::select! {
                biased;
                error = system.failed() => break ("failed", Err(failed(error))),
                asked = self.signals.next() => match asked {
                    Asked::End => break ("signal", Ok(())),
                    Asked::Reload => self.reload.again(),
                },
                () = until(self.deadline) => break ("time", Ok(())),
                _ = look.tick(), if ready.is_some() => {
                    let is_ready = system.local.say().iter().all(|said| said.is_ready);
                    let say = if is_ready { ready.take() } else { None };
                    if let Some(Err(error)) = say.map(|say| say(&system)) {
                        break ("failed", Err(error.into()));
                    }
                }
            }
        };
        let stopped = tokio::select! {
            biased;
            stopped = tokio::time::timeout(self.stop_max, system.stop()) => stopped.is_ok(),
            // Twice is at once.
            () = self.signals.end() => false,
        };
        if !stopped {
            warn!("not everything was finished in time; it is done again by whoever takes over");
        }
        (reason, ended)
    }
}

impl Reload {
    /// Reads the file again; takes what can be taken and says what cannot.
    fn again(&mut self) {
        let read = source::configure(SourceArgs::of_file(self.file.clone()), self.flags.clone());
        let loaded = match read {
            Ok(loaded) => loaded,
            Err(failure) => {
                warn!(error = %failure, "the configuration was not read again: everything stays as it is");
                return;
            }
        };
        let mut changed = changed(&self.loaded, &loaded);
        let mut taken: Vec<String> = changed
            .extract_if(.., |name| RELOADED.contains(&&**name))
            .collect();
        self.levels.set(&loaded.config.logging.level);
        if let Some((tls, files)) = self.tls.as_ref().zip(tls_files(&loaded.config)) {
            match tls.read_again(&files) {
                Ok(()) => {
                    changed.retain(|name| !RELOADED_TLS.contains(&&**name));
                    taken.push("the files of [server.tls]".to_owned());
                    self.loaded.config.server_tls = loaded.config.server_tls.clone();
                }
                Err(error) => warn!(
                    error = chain(&error),
                    "[server.tls] was not taken: it stays as it was"
                ),
            }
        }
        warn!(
            taken = taken.join(", "),
            needs_restart = changed.join(", "),
            "the configuration was read again"
        );
        self.loaded.config.logging.level = loaded.config.logging.level;
    }
}

/// The settings whose values differ, also those that are not shown, and what is told of feeds that do.
fn changed(before: &Loaded, now: &Loaded) -> Vec<String> {
    let settings = SETTINGS
        .iter()
        .filter(|setting| setting.differs(&before.config, &now.config));
    let mut changed: Vec<String> = settings.map(|setting| setting.name.to_owned()).collect();
    let of_feeds = |loaded: &Loaded| -> BTreeSet<(String, String)> {
        let lines = report::lines(loaded).into_iter();
        let lines = lines.filter(|line| !SETTINGS.iter().any(|setting| setting.name == line.name));
        lines.map(|line| (line.name, line.value)).collect()
    };
    let differing: BTreeSet<String> = (of_feeds(before).symmetric_difference(&of_feeds(now)))
        .map(|(name, _)| name.clone())
        .collect();
    changed.extend(differing);
    changed
}
