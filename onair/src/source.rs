//! From the command line to a configuration, and from a configuration to a database.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use onair_cdc::config::{ReaderConfig, Settings};
use onair_cdc::demo::{DemoServer, DemoSource};
use onair_cdc::source::{Finding, Level, Source, SourceError};

use onair_model::Buckets;

use crate::cli::SourceArgs;
use crate::config::{self, Config, ConfigErrors, FeedFlags, Input, Loaded};
use crate::exit::{Exit, Failure, chain};

/// Names the source's cells in the store: one store, one source.
pub(crate) const SOURCE: &str = "source";

/// The file's part of the input.
pub(crate) fn file(path: Option<&PathBuf>) -> Result<Option<(String, String)>, Failure> {
    let Some(path) = path else { return Ok(None) };
    let text = std::fs::read_to_string(path).map_err(|error| {
        Failure::new(
            Exit::Usage,
            format!(
                "{}: the configuration cannot be read: {error}",
                path.display()
            ),
        )
    })?;
    Ok(Some((path.display().to_string(), text)))
}

/// Puts the configuration together.
pub(crate) fn configure(
    args: SourceArgs,
    mut flags: Vec<(&'static str, &'static str, String)>,
) -> Result<Loaded, Failure> {
    if args.mysql.is_some() && args.table.is_none() {
        return Err(Failure::new(
            Exit::Usage,
            "--mysql needs the feed too: --table DB.TABLE --live-when SQL --columns A,B,C",
        ));
    }
    if let Some(url) = args.mysql {
        flags.push(("source.url", "--mysql", url));
    }
    let feed = args
        .table
        .zip(args.live_when)
        .map(|(table, live_when)| FeedFlags {
            name: args.feed,
            table,
            live_when,
            columns: args.columns,
            buckets: args.buckets,
        });
    let input = Input {
        file: file(args.config.as_ref())?,
        environment: config::environment(),
        flags,
        feed,
    };
    config::load(&input).map_err(|errors| misconfigured(&errors))
}

/// Everything that is wrong with a configuration, as a failure.
pub(crate) fn misconfigured(errors: &ConfigErrors) -> Failure {
    let count = match errors.0.len() {
        1 => "one thing is".to_owned(),
        many => format!("{many} things are"),
    };
    Failure::new(
        Exit::Usage,
        format!("{count} wrong with the configuration:\n{errors}"),
    )
}

/// What the reader is told, with these settings.
pub(crate) fn reader(config: &Config, mut settings: Settings) -> ReaderConfig {
    settings.holder = format!("{}, process {}", process(config), std::process::id());
    ReaderConfig {
        source: SOURCE.into(),
        feeds: config.feeds.clone(),
        settings,
    }
}

/// The feeds' names and buckets: all that mergers and servers need to be told of them.
pub(crate) fn feeds(config: &Config) -> Vec<(Arc<str>, Buckets)> {
    let each = config.feeds.iter();
    each.map(|feed| (Arc::clone(&feed.name), feed.buckets))
        .collect()
}

/// What this process is called: the same after a restart, and another's is another.
pub(crate) fn process(config: &Config) -> Arc<str> {
    if let Some(name) = &config.name {
        return name.as_str().into();
    }
    let host = nix::unistd::gethostname().ok();
    let host = host.and_then(|host| host.into_string().ok());
    let host = host.unwrap_or_else(|| "host".to_owned());
    match config
        .admin
        .as_deref()
        .and_then(|admin| admin.rsplit_once(':'))
    {
        Some((_, port)) => format!("{host}:{port}").into(),
        None => host.into(),
    }
}

/// A source and what to call it.
pub(crate) struct Opened {
    pub(crate) source: Arc<dyn Source>,
    /// For people: without any password.
    pub(crate) name: String,
}

/// The configured source. Nothing is connected yet.
pub(crate) fn open(config: &Config) -> Result<Opened, Failure> {
    match &config.source.url {
        None => Ok(Opened {
            source: Arc::new(DemoSource::new(DemoServer::start(config.demo.clone()))),
            name: format!(
                "demo: table live.room, {} rows, {} transactions a second",
                config.demo.rows, config.demo.rate
            ),
        }),
        Some(url) => mysql(config, url),
    }
}

#[cfg(feature = "mysql")]
fn mysql(config: &Config, url: &str) -> Result<Opened, Failure> {
    use onair_cdc::failover::Failover;

    let (name, first) = server(config, url)?;
    if config.source.standbys.is_empty() {
        return Ok(Opened {
            source: first,
            name,
        });
    }
    let mut names = vec![name];
    let mut others = Vec::new();
    for url in &config.source.standbys {
        let (name, source) = server(config, url)?;
        names.push(name);
        others.push(source);
    }
    Ok(Opened {
        source: Arc::new(Failover::new(first, others)),
        name: names.join(", else "),
    })
}

/// One server, with the password that all of them have.
#[cfg(feature = "mysql")]
fn server(config: &Config, url: &str) -> Result<(String, Arc<dyn Source>), Failure> {
    use onair_cdc::mysql::{MysqlConfig, MysqlSource};

    let usage =
        |error: onair_cdc::mysql::ConfigErrors| Failure::new(Exit::Usage, error.to_string());
    let mut mysql = MysqlConfig::from_url(url).map_err(usage)?;
    let from_file = config
        .source
        .password_file
        .as_deref()
        .map(password)
        .transpose()?;
    if let Some(password) = config.source.password.clone().or(from_file) {
        mysql = mysql.with_password(password);
    }
    if let Some(id) = config.source.server_id {
        mysql = mysql.with_server_id(id);
    }
    let name = mysql.to_string();
    let source = MysqlSource::new(mysql).map_err(usage)?;
    Ok((name, Arc::new(source)))
}

#[cfg(not(feature = "mysql"))]
fn mysql(_: &Config, _: &str) -> Result<Opened, Failure> {
    Err(Failure::new(
        Exit::Usage,
        "this build has no MySQL source; build it with the feature mysql",
    ))
}

#[cfg(feature = "mysql")]
fn password(path: &Path) -> Result<String, Failure> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        Failure::new(
            Exit::Usage,
            format!(
                "source.password_file: {}: cannot be read: {error}",
                path.display()
            ),
        )
    })?;
    Ok(without_newline(&text).to_owned())
}

/// A file's text without the newline at its end: one, as an editor adds it.
#[cfg(any(feature = "mysql", feature = "kafka", feature = "scylla"))]
pub(crate) fn without_newline(text: &str) -> &str {
    text.strip_suffix('\n')
        .map_or(text, |line| line.strip_suffix('\r').unwrap_or(line))
}

/// What it means that a source did not answer.
pub(crate) fn failed(name: &str, error: &SourceError) -> Failure {
    let (exit, remedy) = match error {
        SourceError::Unreachable { .. } | SourceError::Silent { .. } => (
            Exit::Unreachable,
            "\nis the server up, and can it be reached from here? check host and port of the URL",
        ),
        _ => (Exit::Failed, ""),
    };
    Failure::new(exit, format!("{name}: {}{remedy}", chain(error)))
}

/// A level in a word.
pub(crate) const fn level(level: Level) -> &'static str {
    match level {
        Level::Ok => "ok",
        Level::Warn => "warn",
        Level::Fail => "fail",
    }
}

/// Logs the findings that are no obstacle.
pub(crate) fn warn_of(findings: &[Finding]) {
    let limits = findings
        .iter()
        .filter(|finding| finding.level == Level::Warn);
    for finding in limits {
        tracing::warn!(
            check = finding.check,
            seen = finding.seen,
            why = finding.why,
            fix = finding.fix,
            "the source works, with a limit"
        );
    }
}

/// What `up` says when it will not start on these findings.
pub(crate) fn refusal(name: &str, findings: &[Finding]) -> Option<Failure> {
    let failed: Vec<&Finding> = findings
        .iter()
        .filter(|finding| finding.level == Level::Fail)
        .collect();
    if failed.is_empty() {
        return None;
    }
    let mut text = format!("{name} cannot be captured as it is; nothing was started:");
    for finding in failed {
        text.push_str(&format!(
            "\n  fail  {}: {}\n        why: {}",
            finding.check, finding.seen, finding.why
        ));
        if !finding.fix.is_empty() {
            text.push_str(&format!("\n        fix: {}", finding.fix));
        }
    }
    text.push_str("\n`onair doctor` with the same options shows every check");
    Some(Failure::new(Exit::Refused, text))
}
