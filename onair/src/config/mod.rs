//! Configuration: read once, checked once, inert afterwards. Nothing else reads the environment.
//!
//! In: the file's text, the environment, the command line; each goes over the one before it. Out: [`Config`] and
//! where each value came from. Wrong: [`ConfigErrors`], all of them at once, with their lines.

mod engines;
mod file;
pub mod report;
mod settings;
pub mod units;

use std::collections::BTreeMap;
use std::fmt;
use std::num::{NonZeroU16, NonZeroU32};
use std::path::PathBuf;
use std::sync::Arc;

use onair_cdc::demo::DemoSettings;
use onair_cdc::feed::{FeedConfig, TableName};
use onair_model::Buckets;
use onair_model::predicate::Predicate;

pub use self::engines::{KafkaConfig, Login, ScyllaConfig, TlsFiles};
use self::file::FeedTable;
pub use self::settings::{FEED_KEYS, LEVELS, SETTINGS, Secret, Setting, redact};
use self::units::Kind;

/// Buckets of a feed when nothing is said.
pub const BUCKETS: NonZeroU16 = NonZeroU16::new(16).expect("16 is not zero");
/// More buckets than this cost more than they bring in one log.
const BUCKETS_MAX: u16 = 1024;
/// Where data stands when nothing is said.
pub const DATA_DIR: &str = "onair-data";
/// The port and address of the gRPC service when nothing is said.
pub const LISTEN: &str = "127.0.0.1:7400";

/// How an address of probes is written.
const ADMIN: &str = "127.0.0.1:7480";

/// Everything that a process is told.
#[derive(Clone, Debug)]
pub struct Config {
    /// What the process is called, if it was said.
    pub name: Option<String>,
    /// The database; no URL means the demo.
    pub source: SourceConfig,
    /// The built-in source.
    pub demo: DemoSettings,
    /// The feeds.
    pub feeds: Vec<FeedConfig>,
    /// Where data stands, if it was said.
    pub data_dir: Option<PathBuf>,
    /// Where the service listens.
    pub listen: String,
    /// Its certificate and key, and in `ca` the authorities of its clients.
    pub server_tls: TlsFiles,
    /// Memory of the log, a feed.
    pub log_bytes: usize,
    /// The reader's limits and times.
    pub reader: onair_cdc::config::Settings,
    /// The merger's.
    pub merger: onair_merger::Settings,
    /// The server's.
    pub server: onair_server::Settings,
    /// The log in Kafka.
    pub kafka: KafkaConfig,
    /// The store in ScyllaDB or Cassandra.
    pub scylla: ScyllaConfig,
    /// Where probes are answered.
    pub admin: Option<String>,
    /// What is logged, and how.
    pub logging: LoggingConfig,
}

/// How to reach the database.
#[derive(Clone, Default)]
pub struct SourceConfig {
    /// Its URL; it may hold a password.
    pub url: Option<String>,
    /// Those of further servers with the same tables.
    pub standbys: Vec<String>,
    /// The password from the environment.
    pub password: Option<String>,
    /// The file that has it.
    pub password_file: Option<PathBuf>,
    /// The id of a replica of our own.
    pub server_id: Option<NonZeroU32>,
}

impl fmt::Debug for SourceConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SourceConfig")
            .field("url", &self.url.as_deref().map(redact))
            .field(
                "standbys",
                &self
                    .standbys
                    .iter()
                    .map(|url| redact(url))
                    .collect::<Vec<_>>(),
            )
            .field("password_file", &self.password_file)
            .field("server_id", &self.server_id)
            .finish_non_exhaustive()
    }
}

/// What is logged, and how.
#[derive(Clone, Debug)]
pub struct LoggingConfig {
    /// A level.
    pub level: String,
    /// `text` or `json`.
    pub format: String,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            name: None,
            source: SourceConfig::default(),
            demo: DemoSettings::default(),
            feeds: Vec::new(),
            data_dir: None,
            listen: LISTEN.to_owned(),
            server_tls: TlsFiles::default(),
            log_bytes: onair_log::memory::CAPACITY,
            reader: onair_cdc::config::Settings::default(),
            merger: onair_merger::Settings::default(),
            server: onair_server::Settings::default(),
            kafka: KafkaConfig::default(),
            scylla: ScyllaConfig::default(),
            admin: None,
            logging: LoggingConfig {
                level: "warn".to_owned(),
                format: "text".to_owned(),
            },
        }
    }
}

impl Config {
    /// Whether the source is the built-in one.
    pub const fn is_demo(&self) -> bool {
        self.source.url.is_none()
    }
}

/// Where settings come from.
#[derive(Clone, Debug, Default)]
pub struct Input {
    /// The file's name and text.
    pub file: Option<(String, String)>,
    /// Environment variables; those that are not ours are passed over.
    pub environment: Vec<(String, String)>,
    /// Settings given on the command line: the setting, the flag's name, the value.
    pub flags: Vec<(&'static str, &'static str, String)>,
    /// A feed given on the command line.
    pub feed: Option<FeedFlags>,
}

/// One feed from the command line.
#[derive(Clone, Debug)]
pub struct FeedFlags {
    /// `--feed`.
    pub name: Option<String>,
    /// `--table`.
    pub table: String,
    /// `--live-when`.
    pub live_when: String,
    /// `--columns`.
    pub columns: Vec<String>,
    /// `--buckets`.
    pub buckets: Option<String>,
}

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nobody set it.
    Default,
    /// The file, and the line in it.
    File(String, usize),
    /// An environment variable.
    Environment(String),
    /// A flag of the command line.
    Flag(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => f.write_str("default"),
            Origin::File(file, line) => write!(f, "{file}:{line}"),
            Origin::Environment(name) => f.write_str(name),
            Origin::Flag(flag) => f.write_str(flag),
        }
    }
}

/// A checked configuration, and where its values came from.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// Origins by setting, those of defaults left out.
    pub origins: BTreeMap<&'static str, Origin>,
    /// The origin of each feed.
    pub feed_origins: Vec<Origin>,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// Where.
    pub origin: Origin,
    /// What, why, and what to do.
    pub text: String,
}

/// Everything that is wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigErrors(pub Vec<ConfigError>);

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, error) in self.0.iter().enumerate() {
            let newline = if at > 0 { "\n" } else { "" };
            match &error.origin {
                Origin::Default => write!(f, "{newline}{}", error.text)?,
                origin => write!(f, "{newline}{origin}: {}", error.text)?,
            }
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

/// The variables of this process that may be ours.
pub fn environment() -> Vec<(String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .filter(|(name, _)| name.starts_with("ONAIR_"))
        .collect()
}

impl Loaded {
    /// Whether the files that it names can be read here.
    pub fn check_files(&self) -> Result<(), ConfigErrors> {
        let mut errors = Vec::new();
        for setting in SETTINGS.iter().filter(|setting| setting.kind == Kind::File) {
            let path = (setting.get)(&self.config);
            if path.is_empty() {
                continue;
            }
            if let Err(error) = std::fs::File::open(&path) {
                let origin = self.origins.get(setting.name).cloned();
                errors.push(ConfigError {
                    origin: origin.unwrap_or(Origin::Default),
                    text: format!("{}: {path}: cannot be read: {error}", setting.name),
                });
            }
        }
        if errors.is_empty() {
            Ok(())
        } else {
            Err(ConfigErrors(errors))
        }
    }
}

/// Puts a configuration together and checks it.
pub fn load(input: &Input) -> Result<Loaded, ConfigErrors> {
    let mut loading = Loading::default();
    if let Some((name, text)) = &input.file {
        let found = file::read(name, text);
        loading.errors.extend(found.errors);
        for (setting, text, line) in found.values {
            loading.set(setting, &text, Origin::File(name.clone(), line));
        }
        for table in found.feeds {
            loading.feed(table);
        }
    }
    for (name, value) in &input.environment {
        loading.variable(name, value);
    }
    for (setting, flag, value) in &input.flags {
        match SETTINGS.iter().find(|known| known.name == *setting) {
            Some(setting) => loading.set(setting, value, Origin::Flag(flag)),
            None => unreachable!("{flag} sets {setting}, which is no setting"),
        }
    }
    if let Some(flags) = &input.feed {
        loading.feed(FeedTable::from_flags(flags));
    }
    loading.finish()
}

#[derive(Default)]
struct Loading {
    config: Config,
    origins: BTreeMap<&'static str, Origin>,
    feeds: Vec<FeedTable>,
    feed_origins: Vec<Origin>,
    errors: Vec<ConfigError>,
}

impl Loading {
    fn wrong(&mut self, origin: Origin, text: impl Into<String>) {
        self.errors.push(ConfigError {
            origin,
            text: text.into(),
        });
    }

    fn set(&mut self, setting: &'static Setting, text: &str, origin: Origin) {
        if let Kind::Choice(words) = setting.kind
            && !words.contains(&text)
        {
            let text = format!("{}: {text:?} is none of {}", setting.name, words.join(", "));
            return self.wrong(origin, text);
        }
        match (setting.set)(&mut self.config, text) {
            Ok(()) => {
                self.origins.insert(setting.name, origin);
            }
            Err(why) => self.wrong(origin, format!("{}: {why}", setting.name)),
        }
    }

    /// A variable of one of our sections must be a setting; others with our prefix are for other programs.
    fn variable(&mut self, name: &str, value: &str) {
        if let Some(setting) = SETTINGS.iter().find(|setting| setting.variable() == name) {
            return self.set(setting, value, Origin::Environment(name.to_owned()));
        }
        let of_section = SETTINGS.iter().any(|setting| {
            let (section, _) = setting.split();
            let prefix = format!("ONAIR_{}_", section.replace('.', "_").to_ascii_uppercase());
            !section.is_empty() && name.starts_with(&prefix)
        });
        if of_section {
            let names: Vec<String> = SETTINGS.iter().map(Setting::variable).collect();
            let hint = did_you_mean(name, names.iter().map(String::as_str));
            self.wrong(
                Origin::Environment(name.to_owned()),
                format!("there is no such setting{hint}"),
            );
        }
    }

    fn feed(&mut self, table: FeedTable) {
        self.feed_origins.push(table.origin.clone());
        self.feeds.push(table);
    }

    fn finish(mut self) -> Result<Loaded, ConfigErrors> {
        let database = self.check_source();
        for table in std::mem::take(&mut self.feeds) {
            self.check_feed(table, database.as_deref());
        }
        if self.config.feeds.is_empty() && self.errors.is_empty() {
            if self.config.is_demo() {
                self.config.feeds.push(demo_feed());
                self.feed_origins.push(Origin::Default);
            } else {
                self.wrong(
                    Origin::Default,
                    "there is no feed: add a [[feed]] with table, live_when and columns to the file, or give --table, --live-when and --columns",
                );
            }
        }
        let second = std::time::Duration::from_secs(1);
        if self.config.server.progress > second {
            let origin = self.origin("server.progress");
            self.wrong(
                origin,
                "server.progress: at most 1s: clients take a longer silence for a dead server",
            );
        }
        self.check_address("server.listen", Some(self.config.listen.clone()), LISTEN);
        self.check_address("admin.listen", self.config.admin.clone(), ADMIN);
        self.check_server_tls();
        self.check_engines();
        // One window for all that is kept of the past.
        self.config.reader.history_window = self.config.merger.history_window;
        if self.errors.is_empty() {
            Ok(Loaded {
                config: self.config,
                origins: self.origins,
                feed_origins: self.feed_origins,
            })
        } else {
            self.errors.sort_by_key(|error| match &error.origin {
                Origin::File(_, line) => (0, *line),
                Origin::Environment(_) => (1, 0),
                Origin::Flag(_) => (2, 0),
                Origin::Default => (3, 0),
            });
            Err(ConfigErrors(self.errors))
        }
    }

    fn check_address(&mut self, name: &str, address: Option<String>, example: &str) {
        if let Some(address) = address
            && !address.contains(':')
        {
            let text = format!("{name}: {address:?} has no port: write it like {example}");
            self.wrong(self.origin(name), text);
        }
    }

    fn check_server_tls(&mut self) {
        let tls = &self.config.server_tls;
        let (certificate, key) = ("server.tls.certificate", "server.tls.key");
        let (name, text) = match (&tls.certificate, &tls.key, &tls.ca) {
            (Some(_), None, _) => (certificate, format!("{certificate}: needs {key}, its key")),
            (None, Some(_), _) => (
                key,
                format!("{key}: needs {certificate}, what it is the key of"),
            ),
            (None, None, Some(_)) => (
                "server.tls.client_ca",
                format!("server.tls.client_ca: needs {certificate} and {key}, which turn TLS on"),
            ),
            (Some(_), Some(_), _) | (None, None, None) => return,
        };
        self.wrong(self.origin(name), text);
    }

    /// Settings of an engine without the one that says where it is, and engines that this build does not have.
    fn check_engines(&mut self) {
        let engines = [
            (
                "log.kafka.",
                "log.kafka.brokers",
                self.config.kafka.brokers.is_some(),
                cfg!(feature = "kafka"),
                "kafka",
            ),
            (
                "store.scylla.",
                "store.scylla.nodes",
                !self.config.scylla.nodes.is_empty(),
                cfg!(feature = "scylla"),
                "scylla",
            ),
        ];
        for (section, place, is_placed, is_built, feature) in engines {
            let mut set = self.origins.keys().filter(|name| name.starts_with(section));
            let Some(first) = set.next().copied() else {
                continue;
            };
            let origin = self.origin(first);
            if !is_placed {
                self.wrong(origin, format!("{place}: is missing: say where it is"));
            } else if !is_built {
                let text = format!(
                    "{place}: this build does not have it; build with --features {feature}, or take the section out"
                );
                self.wrong(origin, text);
            }
        }
        if self.config.kafka.security != "plaintext" && !cfg!(feature = "kafka-tls") {
            let text = "log.kafka.security: this build speaks plaintext only; build with --features kafka-tls";
            self.wrong(self.origin("log.kafka.security"), text);
        }
        let tls = &self.config.scylla.tls;
        if tls.ca.is_some() && !cfg!(feature = "scylla-tls") {
            let text = "store.scylla.ca_file: this build has no TLS to the store; build with --features scylla-tls";
            self.wrong(self.origin("store.scylla.ca_file"), text);
        } else if tls.certificate.is_some() != tls.key.is_some() {
            let text = "store.scylla.certificate_file and store.scylla.key_file belong together: give both or none";
            self.wrong(self.origin("store.scylla.certificate_file"), text);
        } else if tls.certificate.is_some() && tls.ca.is_none() {
            let text =
                "store.scylla.certificate_file: needs store.scylla.ca_file, which turns TLS on";
            self.wrong(self.origin("store.scylla.certificate_file"), text);
        }
        if self
            .config
            .scylla
            .replication
            .iter()
            .any(|one| !is_replication(one))
        {
            let text = "store.scylla.replication: write [\"3\"], or [\"dc1:3\", \"dc2:3\"]";
            self.wrong(self.origin("store.scylla.replication"), text);
        }
    }

    fn origin(&self, name: &str) -> Origin {
        self.origins.get(name).cloned().unwrap_or(Origin::Default)
    }

    /// The URL is checked here without any I/O; tells its database.
    fn check_source(&mut self) -> Option<String> {
        let standbys = self.config.source.standbys.clone();
        let Some(url) = self.config.source.url.clone() else {
            if !standbys.is_empty() {
                let text = "source.standbys: needs source.url, the first server";
                self.wrong(self.origin("source.standbys"), text);
            }
            return None;
        };
        let origin = self.origin("source.url");
        #[cfg(feature = "mysql")]
        {
            for standby in &standbys {
                let checked = onair_cdc::mysql::MysqlConfig::from_url(standby);
                for why in checked.err().into_iter().flat_map(|errors| errors.0) {
                    let origin = self.origin("source.standbys");
                    self.wrong(origin, format!("source.standbys: {why}"));
                }
            }
            match onair_cdc::mysql::MysqlConfig::from_url(&url) {
                Ok(checked) => return checked.database().map(str::to_owned),
                Err(errors) => {
                    for why in errors.0 {
                        self.wrong(origin.clone(), format!("source.url: {why}"));
                    }
                }
            }
        }
        #[cfg(not(feature = "mysql"))]
        {
            let _ = url;
            self.wrong(
                origin,
                "source.url: this build has no MySQL source; build it with the feature mysql",
            );
        }
        None
    }

    fn check_feed(&mut self, table: FeedTable, database: Option<&str>) {
        let FeedTable {
            origin,
            name,
            table,
            live_when,
            columns,
            buckets,
        } = table;
        let given = name.clone().map(|(name, _)| name);
        let place = |part: &Option<(String, Origin)>| {
            part.as_ref()
                .map_or_else(|| origin.clone(), |(_, origin)| origin.clone())
        };
        let of = |key: &str| match &given {
            Some(name) => format!("feed {name}: {key}"),
            None => format!("feed: {key}"),
        };
        let (table_at, name_at, live_at) = (place(&table), place(&name), place(&live_when));
        let table = match table
            .as_ref()
            .map(|(table, _)| table.split('.').collect::<Vec<_>>())
        {
            None => {
                self.wrong(
                    table_at,
                    format!(
                        "{} is missing: write table = \"database.table\"",
                        of("table")
                    ),
                );
                None
            }
            Some(parts) if parts.iter().any(|part| part.is_empty()) || parts.len() > 2 => {
                self.wrong(
                    table_at,
                    format!(
                        "{}: {:?} is not database.table",
                        of("table"),
                        parts.join(".")
                    ),
                );
                None
            }
            Some(parts) => match (&parts[..], database) {
                ([database, table], _) => Some(TableName {
                    database: (*database).into(),
                    table: (*table).into(),
                }),
                ([table], Some(database)) => Some(TableName {
                    database: database.into(),
                    table: (*table).into(),
                }),
                _ => {
                    let text = format!(
                        "{}: {:?} names no database: write database.table, or put the database into the URL",
                        of("table"),
                        parts.join(".")
                    );
                    self.wrong(table_at, text);
                    None
                }
            },
        };
        if let Some((text, at)) = live_when
            .as_ref()
            .filter(|(text, _)| !text.trim().is_empty())
        {
            if let Err(error) = Predicate::check(text) {
                self.wrong(at.clone(), format!("{}: {error}", of("live_when")));
            }
        } else {
            self.wrong(live_at, format!("{} is missing: write when a row is live, like live_when = \"live_status = 1\"; every row: live_when = \"TRUE\"", of("live_when")));
        }
        match &columns {
            None => self.wrong(
                origin.clone(),
                format!(
                    "{} is missing: name the columns that clients get, like columns = [\"title\"]",
                    of("columns")
                ),
            ),
            Some((columns, at)) if columns.is_empty() => {
                self.wrong(at.clone(), format!("{} is empty: name the columns that clients get, like columns = [\"title\"]", of("columns")));
            }
            Some(_) => {}
        }
        let buckets = match buckets {
            None => Some(BUCKETS),
            Some((text, at)) => match text
                .parse::<u16>()
                .ok()
                .filter(|n| *n <= BUCKETS_MAX)
                .and_then(NonZeroU16::new)
            {
                Some(buckets) => Some(buckets),
                None => {
                    self.wrong(
                        at,
                        format!(
                            "{}: {text:?} is not a number from 1 to {BUCKETS_MAX}",
                            of("buckets")
                        ),
                    );
                    None
                }
            },
        };
        let name = given
            .clone()
            .or_else(|| table.as_ref().map(|table| table.table.to_string()));
        let Some(name) = name else { return };
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
        if name.is_empty() || name.len() > 64 || !name.chars().all(allowed) {
            self.wrong(
                name_at,
                format!("feed name {name:?}: write up to 64 letters, digits, _, - and ."),
            );
            return;
        }
        if self.config.feeds.iter().any(|feed| *feed.name == *name) {
            self.wrong(
                name_at,
                format!("feed {name} stands twice: give one of them another name"),
            );
            return;
        }
        if let (Some(table), Some((live_when, _)), Some((columns, _)), Some(buckets)) =
            (table, live_when, columns, buckets)
        {
            self.config.feeds.push(FeedConfig {
                name: Arc::from(name),
                table,
                live_when,
                columns,
                buckets: Buckets::new(buckets),
            });
        }
    }
}

/// `3` or `dc1:3`.
fn is_replication(text: &str) -> bool {
    let count = text.rsplit_once(':').map_or(text, |(_, count)| count);
    count.parse::<NonZeroU16>().is_ok()
}

/// The demo's feed when no other is asked for.
fn demo_feed() -> FeedConfig {
    FeedConfig {
        name: "room".into(),
        table: TableName {
            database: "live".into(),
            table: "room".into(),
        },
        live_when: "live_status = 1".into(),
        columns: ["uid", "area_id", "title", "live_time"]
            .map(String::from)
            .to_vec(),
        buckets: Buckets::new(BUCKETS),
    }
}

/// `; did you mean ..?`, when something is near.
fn did_you_mean<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> String {
    let near = known.map(|known| (distance(word, known), known)).min();
    match near {
        Some((distance, known)) if distance <= 1 + word.len() / 4 => {
            format!("; did you mean {known}?")
        }
        _ => String::new(),
    }
}

/// Letters to add, drop or change (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut corner = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let change = corner + usize::from(x != *y);
            corner = row[j + 1];
            row[j + 1] = change.min(row[j] + 1).min(corner + 1);
        }
    }
    row[b.len()]
}
