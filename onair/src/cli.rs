//! The command line.

use std::num::NonZeroU64;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::client;
use crate::config::units::parse_duration;

/// The live set of a MySQL table in the memory of every process that needs it, proven at each commit.
#[derive(Debug, Parser)]
#[command(name = "onair", version = crate::VERSION, max_term_width = 100, subcommand_required = true, arg_required_else_help = true)]
#[command(
    after_help = "Exit codes: 0 done, 1 failed, 2 usage, 3 absent or different, 4 unreachable, 5 refused for safety,\n130 or 143 ended by Ctrl-C or SIGTERM before there was an answer.\n\nBegin with:\n  onair up                 everything in one process, with a built-in demo table\n  onair watch room         its live set, as it changes"
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Run everything in one process: reader, log, merger, store and server
    Up(Box<UpArgs>),
    /// Run a reader: one process that reads the database's binlog, or stands by
    Cdc(RoleArgs),
    /// Run a merger: folds the log into base shards, beside any number of others
    Merger(MergerArgs),
    /// Run a server: streams snapshots and frames to clients
    Server(ServerArgs),
    /// Make the store's keyspace and tables
    Store(StoreArgs),
    /// Open the next epoch: read the whole table again, whatever the checkpoint says
    ReDerive(ReDeriveArgs),
    /// Follow a feed: what comes on air, changes, goes off
    Watch(WatchArgs),
    /// Rows by their keys
    Get(GetArgs),
    /// All rows of a feed in key order
    Dump(DumpArgs),
    /// What differs between two moments of the past
    Diff(DiffArgs),
    /// What became of a key: each on, change and off, and why
    History(HistoryArgs),
    /// Where a key is: in the table, the log, the store and each server
    Explain(Box<ExplainArgs>),
    /// How a server, its feeds and the roles behind it are
    Status(StatusArgs),
    /// Check a database for everything that OnAir needs of it
    Doctor(DoctorArgs),
    /// A feed's row as .proto text
    Schema(SchemaArgs),
    /// Scan the table and compare: is the feed what MySQL holds?
    Reconcile(ReconcileArgs),
    /// Reconciliation runs: list, show, pause, resume, cancel, approve
    Runs(RunsArgs),
    /// Run the old way, polling by SQL, beside the feed, and tell what each saw and when
    Compare(Box<CompareArgs>),
    /// Check or show the configuration
    Config(ConfigArgs),
    /// Measure OnAir beside its peers and what cannot be avoided
    #[cfg(feature = "bench")]
    Bench(onair_bench::command::BenchArgs),
}

/// Where settings come from.
#[derive(Debug, Args)]
pub struct SourceArgs {
    /// Configuration file; see `onair config schema` and docs/configuration.md
    #[arg(long, value_name = "FILE", conflicts_with_all = ["mysql", "table", "live_when", "columns", "buckets", "feed"])]
    pub config: Option<PathBuf>,
    /// The database, e.g. mysql://onair@db.example:3306; the password may come from ONAIR_SOURCE_PASSWORD
    #[arg(long, value_name = "URL")]
    pub mysql: Option<String>,
    /// The table, as database.table
    #[arg(long, value_name = "DB.TABLE", requires_all = ["live_when", "columns"])]
    pub table: Option<String>,
    /// When a row is live: a predicate over one row in SQL, e.g. 'live_status = 1'
    #[arg(long, value_name = "SQL", requires = "table")]
    pub live_when: Option<String>,
    /// Columns that clients get, e.g. uid,area_id,title
    #[arg(long, value_name = "A,B,C", value_delimiter = ',', requires = "table")]
    pub columns: Vec<String>,
    /// Buckets of the feed [default: 16]
    #[arg(long, value_name = "N", requires = "table")]
    pub buckets: Option<String>,
    /// The feed's name [default: the table's]
    #[arg(long, value_name = "NAME", requires = "table")]
    pub feed: Option<String>,
}

impl SourceArgs {
    /// Everything from this file.
    pub(crate) fn of_file(file: PathBuf) -> Self {
        SourceArgs {
            config: Some(file),
            mysql: None,
            table: None,
            live_when: None,
            columns: Vec::new(),
            buckets: None,
            feed: None,
        }
    }
}

/// `up`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  onair up\n  onair up --mysql mysql://onair@127.0.0.1:3306 --table live.room \\\n      --live-when 'live_status = 1' --columns uid,area_id,title,live_time\n  onair up --config onair.toml --json\n\nWithout a database the source is a built-in demo: table live.room, feed room."
)]
pub struct UpArgs {
    #[command(flatten)]
    pub(crate) source: SourceArgs,
    /// Where data is kept [default: ./onair-data; the demo's goes with it]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<String>,
    /// Empty the data directory first, after asking
    #[arg(long)]
    pub reset: bool,
    /// Do not ask
    #[arg(long)]
    pub yes: bool,
    /// Address of the gRPC service; port 0 is chosen and printed [default: 127.0.0.1:7400]
    #[arg(long, value_name = "ADDR")]
    pub listen: Option<String>,
    /// Where /live and /ready are answered over HTTP; port 0 is chosen and printed
    #[arg(long, value_name = "ADDR")]
    pub admin_listen: Option<String>,
    /// End after this long, e.g. 30s
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub r#for: Option<Duration>,
    /// One line of JSON when ready and one at the end, instead of text
    #[arg(long)]
    pub json: bool,
    /// error, warn, info, debug, trace or off [default: warn]
    #[arg(long, value_name = "LEVEL")]
    pub log_level: Option<String>,
    /// text or json [default: text]
    #[arg(long, value_name = "FORMAT")]
    pub log_format: Option<String>,
    /// Rows of the demo's table [default: 100000]
    #[arg(long, value_name = "N", conflicts_with = "mysql")]
    pub demo_rows: Option<String>,
    /// Transactions a second of the demo [default: 300]
    #[arg(long, value_name = "N", conflicts_with = "mysql")]
    pub demo_rate: Option<String>,
    /// Seed of the demo [default: 1]
    #[arg(long, value_name = "N", conflicts_with = "mysql")]
    pub demo_seed: Option<String>,
}

/// A process with one role.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  onair cdc --config onair.toml\n\nThe file needs [log.kafka] and [store.scylla]: roles meet in log and store only.\nSIGTERM ends it in peace; SIGHUP reads the file again and says what needs a restart."
)]
pub struct RoleArgs {
    /// Configuration file, the same for all roles
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// What the process is called in status [default: the host, with the port of --admin-listen]
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Where /live and /ready are answered over HTTP; port 0 is chosen and printed
    #[arg(long, value_name = "ADDR")]
    pub admin_listen: Option<String>,
    /// End after this long, e.g. 30s
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub r#for: Option<Duration>,
    /// One line of JSON when ready and one at the end, instead of text
    #[arg(long)]
    pub json: bool,
    /// error, warn, info, debug, trace or off [default: warn]
    #[arg(long, value_name = "LEVEL")]
    pub log_level: Option<String>,
    /// text or json [default: text]
    #[arg(long, value_name = "FORMAT")]
    pub log_format: Option<String>,
}

/// `merger`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  onair merger --config onair.toml\n  onair merger --config onair.toml --buckets 0-7\n\nWithout --buckets all mergers divide the buckets among themselves."
)]
pub struct MergerArgs {
    #[command(flatten)]
    pub(crate) role: RoleArgs,
    /// The buckets to fold, e.g. 0-7; the merger with bucket 0 keeps the cuts
    #[arg(long, value_name = "LIST")]
    pub buckets: Option<String>,
}

/// `server`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  onair server --config onair.toml --listen 0.0.0.0:7400 --admin-listen 0.0.0.0:7480"
)]
pub struct ServerArgs {
    #[command(flatten)]
    pub(crate) role: RoleArgs,
    /// Address of the gRPC service; port 0 is chosen and printed [default: 127.0.0.1:7400]
    #[arg(long, value_name = "ADDR")]
    pub listen: Option<String>,
}

/// `store`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  onair store init --config onair.toml")]
pub struct StoreArgs {
    /// What to do with it.
    #[command(subcommand)]
    pub verb: StoreVerb,
}

/// What to do with the store.
#[derive(Debug, Subcommand)]
pub enum StoreVerb {
    /// Make the keyspace and tables; what is there already is checked and left as it is
    #[command(after_help = "Example:\n  onair store init --config onair.toml")]
    Init {
        /// Configuration file with [store.scylla]
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
}

/// `re-derive`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  onair re-derive --config onair.toml\n\nNothing is lost by it: clients keep what they hold, and get what really differs when the scan is done.\nA reader that runs notices at its next transaction, one that is started at once."
)]
pub struct ReDeriveArgs {
    /// Configuration file
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// Where data is kept, for a store in a file [default: ./onair-data]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<String>,
    /// JSON, as in docs/json.md
    #[arg(long)]
    pub json: bool,
}

/// Which server, and in which form.
#[derive(Debug, Args)]
pub struct ReadArgs {
    /// The server
    #[arg(long, value_name = "URL", env = "ONAIR_SERVER", default_value = client::DEFAULT)]
    pub server: String,
    #[command(flatten)]
    pub(crate) tls: TlsArgs,
    /// JSON, as in docs/json.md
    #[arg(long)]
    pub json: bool,
}

/// How an https:// server is known, and we by it.
#[derive(Clone, Debug, Default, Args)]
pub struct TlsArgs {
    /// Authorities whose https:// servers are trusted, PEM [default: the public ones]
    #[arg(long, value_name = "FILE", env = "ONAIR_CA")]
    pub ca: Option<PathBuf>,
    /// Our certificate for a server that asks for one, PEM
    #[arg(long, value_name = "FILE", env = "ONAIR_CERT", requires = "key_file")]
    pub cert: Option<PathBuf>,
    /// Its key, PEM
    #[arg(
        id = "key_file",
        long = "key",
        value_name = "FILE",
        env = "ONAIR_KEY",
        requires = "cert"
    )]
    pub key: Option<PathBuf>,
}

/// `watch`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  onair watch room\n  onair watch room --json --for 10s | jq -c .on\n  onair watch room --json --from 1-1842\n  onair watch room --until-gtid 3E11FA47-71CA-11E1-9E33-C80AA9429562:57\n\n--from goes on after a version that you hold: the first step then is the change since it, if the\nserver still has it, else the whole set with the reason."
)]
pub struct WatchArgs {
    /// The feed
    pub feed: String,
    #[command(flatten)]
    pub(crate) read: ReadArgs,
    /// Go on after this version, e.g. 1-1842
    #[arg(long, value_name = "VERSION")]
    pub from: Option<String>,
    /// End after this long, e.g. 30s
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub r#for: Option<Duration>,
    /// End as soon as this transaction (or set) is contained
    #[arg(long, value_name = "GTID")]
    pub until_gtid: Option<String>,
}

/// `get`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  onair get room 42\n  onair get room 42 43 44 --json\n  onair get seats eu,7        a key of two columns\n\nExit code 3: one of the keys is not live."
)]
pub struct GetArgs {
    /// The feed
    pub feed: String,
    /// Keys; the columns of one key are separated by commas (or a JSON array), binary ones in base64
    #[arg(required = true, allow_negative_numbers = true)]
    pub keys: Vec<String>,
    #[command(flatten)]
    pub(crate) read: ReadArgs,
}

/// `dump`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  onair dump room | head\n  onair dump room --json > room.jsonl\n  onair dump room --at 3-1842\n  onair dump room --at 15m\n  onair dump room --at 2026-11-22T10:00:00+01:00 --json\n\n--at takes a version, a time (of the last full cut at or before it) or a span back from now. How far\nback: docs/history.md."
)]
pub struct DumpArgs {
    /// The feed
    pub feed: String,
    #[command(flatten)]
    pub(crate) read: ReadArgs,
    /// As it was then: 3-1842, 2026-11-22T10:00:00Z or 15m [default: now]
    #[arg(long, value_name = "MOMENT")]
    pub at: Option<String>,
}

/// `diff`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  onair diff room 3-1842 3-1900\n  onair diff room 2h 0\n  onair diff room 2026-11-22T10:00:00Z 15m --json\n\nExit code 3: something differs. How far back: docs/history.md."
)]
pub struct DiffArgs {
    /// The feed
    pub feed: String,
    /// The first moment: a version, a time, or a span back from now
    #[arg(value_name = "A")]
    pub from: String,
    /// The second moment
    #[arg(value_name = "B")]
    pub to: String,
    #[command(flatten)]
    pub(crate) read: ReadArgs,
}

/// `history`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  onair history room 42\n  onair history room 42 --from 2h --json\n  onair history seats eu,7 --from 2026-11-22T10:00:00Z --to 15m\n\nExit code 3: nothing that is kept touches the key. How far back: docs/history.md."
)]
pub struct HistoryArgs {
    /// The feed
    pub feed: String,
    /// The key; its columns are separated by commas (or a JSON array), binary ones in base64
    #[arg(allow_negative_numbers = true)]
    pub key: String,
    /// Committed at this time or later, e.g. 2026-11-22T10:00:00Z or 2h [default: all that is kept]
    #[arg(long, value_name = "TIME")]
    pub from: Option<String>,
    /// Committed at this time or earlier
    #[arg(long, value_name = "TIME")]
    pub to: Option<String>,
    #[command(flatten)]
    pub(crate) read: ReadArgs,
}

/// `explain`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  onair explain room 42\n  onair explain room 42 --server http://a:7400 --server http://b:7400 --json\n  onair explain room 42 --config onair.toml        with the row as the table has it\n\nEach place: the row, the versions at which it is so, where it stands there, how old the place\nis, and whether it agrees with the one before: a place that has not read the change yet is\nbehind, and only one that should have it disagrees.\n\nExit code 3: a place disagrees."
)]
pub struct ExplainArgs {
    /// The feed
    #[arg(value_name = "FEED")]
    pub of: String,
    /// The key; its columns are separated by commas (or a JSON array), binary ones in base64
    #[arg(allow_negative_numbers = true)]
    pub key: String,
    #[command(flatten)]
    pub(crate) source: SourceArgs,
    /// A server; may be given several times
    #[arg(long, value_name = "URL", env = "ONAIR_SERVER", default_value = client::DEFAULT)]
    pub server: Vec<String>,
    #[command(flatten)]
    pub(crate) tls: TlsArgs,
    /// JSON, as in docs/json.md
    #[arg(long)]
    pub json: bool,
}

/// `status`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  onair status\n  onair status --server http://10.0.0.7:7400 --json | jq '.feeds[0].age_ms'"
)]
pub struct StatusArgs {
    #[command(flatten)]
    pub(crate) read: ReadArgs,
}

/// `doctor`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  onair doctor --config onair.toml\n  onair doctor --mysql mysql://onair@127.0.0.1:3306 --table live.room \\\n      --live-when 'live_status = 1' --columns uid,title --json\n\nExit code 1: a check failed."
)]
pub struct DoctorArgs {
    #[command(flatten)]
    pub(crate) source: SourceArgs,
    /// JSON, as in docs/json.md
    #[arg(long)]
    pub json: bool,
}

/// `schema`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  onair schema room > room.proto")]
pub struct SchemaArgs {
    /// The feed
    pub feed: String,
    #[command(flatten)]
    pub(crate) read: ReadArgs,
}

/// `reconcile`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  onair reconcile room --wait\n  onair reconcile room --dry-run --wait --max-rate 50000\n  onair reconcile room --wait | jq -c '{state,drift}'\n\nAsks the reader for a run; `onair runs` shows it. With --wait a line of JSON comes at each change when the output\nis no terminal. Exit codes with --wait: 3 there was a difference, 5 held by the guard, 1 failed or cancelled,\n130 or 143 ended by Ctrl-C or SIGTERM while the run goes on."
)]
pub struct ReconcileArgs {
    /// The feed
    pub feed: String,
    /// Compare and report; change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Rows a second that the scan reads at most; never more than reader.scan_rate_max
    #[arg(long, value_name = "ROWS/S")]
    pub max_rate: Option<NonZeroU64>,
    /// Wait for its end, and report
    #[arg(long)]
    pub wait: bool,
    #[command(flatten)]
    pub(crate) read: ReadArgs,
}

/// `runs`.
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Examples:\n  onair runs\n  onair runs room --json\n  onair runs show 1qk3f97c\n  onair runs pause 1qk3f97c\n  onair runs approve 1qk3f97c      let through what the guard holds"
)]
pub struct RunsArgs {
    /// What to do with a run.
    #[command(subcommand)]
    pub verb: Option<RunsVerb>,
    /// Only runs of this feed
    pub feed: Option<String>,
    #[command(flatten)]
    pub(crate) read: ReadArgs,
}

/// What to do with a run.
#[derive(Debug, Subcommand)]
pub enum RunsVerb {
    /// All of one run, with examples of what differs
    #[command(after_help = "Example:\n  onair runs show 1qk3f97c")]
    Show(RunArgs),
    /// Stop reading between two ranges; the stream goes on
    #[command(after_help = "Example:\n  onair runs pause 1qk3f97c")]
    Pause(RunArgs),
    /// Go on with a paused run
    #[command(after_help = "Example:\n  onair runs resume 1qk3f97c")]
    Resume(RunArgs),
    /// End a run at once
    #[command(after_help = "Example:\n  onair runs cancel 1qk3f97c")]
    Cancel(RunArgs),
    /// Take what the guard holds, without waiting for a second scan
    #[command(
        after_help = "Example:\n  onair runs show 1qk3f97c         look at what would go first\n  onair runs approve 1qk3f97c"
    )]
    Approve(RunArgs),
}

/// One run.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// The run's id, or FEED/ID
    pub id: String,
    #[command(flatten)]
    pub(crate) read: ReadArgs,
}

/// `compare`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  onair compare room --config onair.toml --poll 3s --for 60s\n  onair compare room --mysql mysql://onair@127.0.0.1:3306 --table live.room \\\n      --live-when 'live_status = 1' --columns uid,title --json\n\nPolls the live rows by SQL as a poller would, follows the same feed at --server, and tells opens and closes on both\nsides, what only one of them saw, and how much sooner; --json has a line for each of them. The\ndemo of `onair up` cannot be polled: its table is in that process's memory. Exit code 3: polling saw something that the feed did not."
)]
pub struct CompareArgs {
    /// The feed, as the server and the configuration name it
    #[arg(value_name = "FEED")]
    pub name: String,
    #[command(flatten)]
    pub(crate) source: SourceArgs,
    /// Time between two polls
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, default_value = "3s")]
    pub poll: Duration,
    /// How long to compare
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, default_value = "60s")]
    pub r#for: Duration,
    #[command(flatten)]
    pub(crate) read: ReadArgs,
}

/// `config`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  onair config check onair.toml\n  onair config show onair.toml\n  onair config schema > onair.schema.json"
)]
pub struct ConfigArgs {
    /// What to do with it.
    #[command(subcommand)]
    pub verb: ConfigVerb,
}

/// What to do with a configuration.
#[derive(Debug, Subcommand)]
pub enum ConfigVerb {
    /// Say everything that is wrong with it; nothing is connected to
    #[command(after_help = "Example:\n  onair config check onair.toml")]
    Check {
        /// The file; without one, the environment alone
        file: Option<PathBuf>,
        /// JSON
        #[arg(long)]
        json: bool,
    },
    /// The effective values and where each came from, secrets as ***
    #[command(
        after_help = "Example:\n  ONAIR_SERVER_LISTEN=0.0.0.0:7400 onair config show onair.toml"
    )]
    Show {
        /// The file; without one, the environment alone
        file: Option<PathBuf>,
        /// JSON
        #[arg(long)]
        json: bool,
    },
    /// A JSON Schema of the file, for editors
    #[command(after_help = "Example:\n  onair config schema > onair.schema.json")]
    Schema,
    /// The table of settings in docs/configuration.md
    #[command(hide = true)]
    Table,
}
