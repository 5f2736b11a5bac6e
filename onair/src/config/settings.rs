//! Every setting: its name, what it looks like, where it goes, what it is for. The file, the environment, the
//! command line, `config show`, the JSON Schema and the table in docs/configuration.md are all made of this list.

use super::Config;
use super::units::{self, Kind};

/// One setting.
pub struct Setting {
    /// `section.key`, or a key outside of any section.
    pub name: &'static str,
    /// What its value looks like.
    pub kind: Kind,
    /// What it is for, in a line.
    pub doc: &'static str,
    /// Whether its value must not be shown.
    pub secret: Secret,
    pub(super) set: fn(&mut Config, &str) -> Result<(), String>,
    pub(super) get: fn(&Config) -> String,
}

/// What of a value must not be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Secret {
    /// Nothing.
    No,
    /// The password of a URL.
    InUrl,
    /// All of it; it may not stand in the file either.
    Whole,
}

impl std::fmt::Debug for Setting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Setting")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl Setting {
    /// The environment variable that sets it.
    pub fn variable(&self) -> String {
        format!("ONAIR_{}", self.name.replace('.', "_").to_ascii_uppercase())
    }

    /// Section (empty: none) and key.
    pub fn split(&self) -> (&'static str, &'static str) {
        self.name.rsplit_once('.').unwrap_or(("", self.name))
    }

    /// Whether two configurations have another value, also of what is not shown.
    pub fn differs(&self, one: &Config, other: &Config) -> bool {
        (self.get)(one) != (self.get)(other)
    }

    /// Its value as it may be shown.
    pub fn shown(&self, config: &Config) -> String {
        let value = (self.get)(config);
        match self.secret {
            Secret::No => value,
            Secret::InUrl => redact(&value),
            Secret::Whole if value.is_empty() => value,
            Secret::Whole => "***".to_owned(),
        }
    }
}

/// A URL without its password. Whatever may be one goes: a password with an `@` or a `/` in it that should have been
/// written in another form too.
pub fn redact(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return url.to_owned();
    };
    let Some((login, place)) = rest.rsplit_once('@') else {
        return url.to_owned();
    };
    match login.split_once(':') {
        Some((user, _)) => format!("{scheme}://{user}:***@{place}"),
        None => url.to_owned(),
    }
}

/// Log levels by their names.
pub const LEVELS: &[&str] = &["error", "warn", "info", "debug", "trace", "off"];
const FORMATS: &[&str] = &["text", "json"];
const CODECS: &[&str] = &["none", "gzip", "snappy", "lz4", "zstd"];
const SECURITY: &[&str] = &["plaintext", "ssl", "sasl_plaintext", "sasl_ssl"];
const MECHANISMS: &[&str] = &["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"];
const SCOPES: &[&str] = &["datacenter", "keyspace"];
const TABLETS: &[&str] = &["default", "on", "off"];

macro_rules! setting {
    ($kind:ident $name:literal, $c:ident => $place:expr, $doc:literal) => {
        setting!(Secret::No, $kind $name, $c => $place, $doc)
    };
    ($secret:expr, $kind:ident $name:literal, $c:ident => $place:expr, $doc:literal) => {
        Setting {
            name: $name,
            kind: units::$kind::KIND,
            doc: $doc,
            secret: $secret,
            set: |$c, text| {
                $place = units::$kind::parse(text)?;
                Ok(())
            },
            get: |$c| units::$kind::show(&$place),
        }
    };
}

const fn choice(mut setting: Setting, words: &'static [&'static str]) -> Setting {
    setting.kind = Kind::Choice(words);
    setting
}

/// All settings but those of feeds, in the order in which they are shown.
pub static SETTINGS: &[Setting] = &[
    setting!(optional_path "data_dir", c => c.data_dir, "Where the store's file and the log's tail stand. By default `onair-data` for a database; the demo has a directory of its own that goes with it."),
    setting!(optional_text "name", c => c.name, "What this process is called in status and in the lease; by default the host's name, with the port of admin.listen where there is one."),
    setting!(Secret::InUrl, optional_text "source.url", c => c.source.url, "The server to read: `mysql://user@host:port/db?ssl-mode=..`. Absent: the built-in demo."),
    setting!(Secret::InUrl, list "source.standbys", c => c.source.standbys, "Further servers with the same tables, such as replicas: URLs. The next is asked when the one in use cannot be reached; the reader opens an epoch on it."),
    setting!(Secret::Whole, optional_text "source.password", c => c.source.password, "The account's password. Only from the environment; in the file use password_file."),
    setting!(optional_file "source.password_file", c => c.source.password_file, "A file with the password; a newline at its end does not count."),
    setting!(optional_number "source.server_id", c => c.source.server_id, "The id shown to the server when reading its binlog; by default a random one from 3,000,000,000 on."),
    setting!(count "demo.rows", c => c.demo.rows, "Rows of the demo's table at its start."),
    setting!(rate "demo.rate", c => c.demo.rate, "Transactions a second of the demo's workload; 0 is none."),
    setting!(share "demo.live_share", c => c.demo.live_share, "Share of the demo's rows that is live."),
    setting!(number "demo.seed", c => c.demo.seed, "Seed of the demo's rows and workload."),
    setting!(text "server.listen", c => c.listen, "Address of the gRPC service; port 0 is chosen by the system and printed."),
    setting!(optional_file "server.tls.certificate", c => c.server_tls.certificate, "The service's certificate, then those between it and its authority, PEM. With it and its key the service speaks TLS only. Read at the start and on SIGHUP."),
    setting!(optional_file "server.tls.key", c => c.server_tls.key, "The certificate's key, PEM."),
    setting!(optional_file "server.tls.client_ca", c => c.server_tls.ca, "Authorities of clients, PEM: who shows no certificate of theirs is refused (mTLS)."),
    setting!(count "server.clients_max", c => c.server.clients_max, "Subscribers of one feed at once."),
    setting!(bytes "server.ring_bytes", c => c.server.ring_bytes, "Frames that a feed keeps for subscribers that lag or come back."),
    setting!(bytes "server.request_bytes_max", c => c.server.request_bytes_max, "Largest request."),
    setting!(count "server.streams_per_connection", c => c.server.streams_per_connection, "Streams on one connection."),
    setting!(period "server.connection_age_max", c => c.server.connection_age_max, "Connections are told to go away after this long, so that load can move."),
    setting!(interval "server.keepalive", c => c.server.keepalive, "HTTP/2 keep-alive: a connection that does not answer within seven times this is closed."),
    setting!(interval "server.progress", c => c.server.progress, "How often everybody hears that the content is still complete. At most a second."),
    setting!(duration "server.lost_tail_wait", c => c.server.lost_tail_wait, "How long a later epoch that does not contain what is shown is waited for."),
    setting!(duration "server.retry_after", c => c.server.retry_after, "Clients that are told to go away come back after about this long."),
    setting!(duration "server.drain", c => c.server.drain, "How long streams get to end when the server stops."),
    setting!(share "server.fanout_share", c => c.server.fanout_share, "Largest share of the processors that fan-out may take; frames are spaced accordingly."),
    setting!(duration "reader.flush_interval", c => c.reader.flush_interval, "Least time between the beginnings of two flushes."),
    setting!(interval "reader.full_cut_every", c => c.reader.full_cut_every, "How often age is attested and a full cut written."),
    setting!(period "reader.scan_period", c => c.reader.scan_period, "Time between two scheduled reconciliation runs of a feed, give or take a tenth."),
    setting!(interval "reader.lease_patience", c => c.reader.lease_patience, "How long another reader's lease must stand still before it is taken over. A process that has its store to itself does not wait."),
    setting!(count "reader.scan_parallel", c => c.reader.scan.parallel, "Connections of a scan at once."),
    setting!(limit "reader.scan_rate_max", c => c.reader.scan.max_rate, "Rows a second of a scan at most."),
    setting!(share "reader.guard_bucket_share_max", c => c.reader.guard.bucket_share_max, "Largest share of a bucket that a scan may take away before it is held."),
    setting!(share "reader.guard_feed_share_max", c => c.reader.guard.feed_share_max, "Largest share of a feed that a scan may take away before it is held."),
    setting!(number "reader.guard_rows_min", c => c.reader.guard.rows_min, "Rows that a scan may take away whatever the shares."),
    setting!(bytes "reader.transaction_bytes_max", c => c.reader.limits.transaction_bytes, "Memory for the captured rows of open transactions; a larger one ends the epoch."),
    setting!(count "reader.xa_open_max", c => c.reader.limits.xa_open_max, "XA transactions that may be prepared at once; more end the epoch."),
    setting!(duration "reader.xa_patience", c => c.reader.xa_patience, "How long an XA transaction may stay prepared before the epoch ends."),
    setting!(bytes "reader.pending_max", c => c.reader.pending_max, "Commits that wait for a flush before the binlog is not read on."),
    setting!(optional "merger.buckets", c => c.merger.buckets, "The buckets to fold, like `0-7`; the merger with bucket 0 keeps the cuts. By default mergers divide them among themselves."),
    setting!(duration "merger.fold_interval", c => c.merger.fold_interval, "Least time between two folds of a bucket."),
    setting!(bytes "merger.fold_bytes", c => c.merger.fold_bytes, "A bucket with this much unfolded is folded at once."),
    setting!(count "merger.deltas_max", c => c.merger.deltas_max, "A head with this many deltas gets them merged into one."),
    setting!(share "merger.delta_share_max", c => c.merger.delta_share_max, "A base is written anew when its deltas have more than this share of its bytes."),
    setting!(duration "merger.claim_patience", c => c.merger.claim_patience, "How long a bucket may lack data known to exist before the reader is asked to state it again."),
    setting!(duration "merger.history_window", c => c.merger.history_window, "How long superseded segments are kept for reads of the past, and reconciliation runs that are over."),
    setting!(interval "merger.history_every", c => c.merger.history_every, "How often a full cut is entered in the history index."),
    setting!(bytes "log.memory.capacity", c => c.log_bytes, "Memory of the log, a feed."),
    setting!(optional_text "log.kafka.brokers", c => c.kafka.brokers, "Where Kafka is: `host:port`, several with commas between them. Absent: the log is in memory, for one process."),
    setting!(text "log.kafka.prefix", c => c.kafka.prefix, "What the names of topics begin with."),
    setting!(count "log.kafka.replication_factor", c => c.kafka.replication_factor, "Copies of each entry. Topics are made with it, or checked against it."),
    setting!(count "log.kafka.min_insync_replicas", c => c.kafka.min_insync_replicas, "Copies that must be there before an append is acknowledged."),
    setting!(period "log.kafka.retention", c => c.kafka.retention, "How long entries stay; at least three times the longest that a merger may be away."),
    choice(
        setting!(text "log.kafka.compression", c => c.kafka.compression, "Of what is sent."),
        CODECS,
    ),
    setting!(bytes "log.kafka.message_bytes", c => c.kafka.message_bytes, "The largest record, before compression."),
    setting!(bytes "log.kafka.buffer_bytes", c => c.kafka.buffer_bytes, "Bytes under way before appends wait."),
    setting!(bytes "log.kafka.fetch_bytes", c => c.kafka.fetch_bytes, "Bytes that a follower fetches ahead."),
    setting!(interval "log.kafka.request_timeout", c => c.kafka.request_timeout, "The longest wait for an answer to a question; appends wait without a limit."),
    choice(
        setting!(text "log.kafka.security", c => c.kafka.security, "How brokers are spoken to. All but plaintext need a build with the feature kafka-tls."),
        SECURITY,
    ),
    choice(
        setting!(text "log.kafka.sasl_mechanism", c => c.kafka.sasl_mechanism, "How a user logs in, with sasl_ssl and sasl_plaintext."),
        MECHANISMS,
    ),
    setting!(optional_text "log.kafka.user", c => c.kafka.login.user, "The user of SASL."),
    setting!(Secret::Whole, optional_text "log.kafka.password", c => c.kafka.login.password, "Its password. Only from the environment; in the file use password_file."),
    setting!(optional_file "log.kafka.password_file", c => c.kafka.login.password_file, "A file with the password; a newline at its end does not count."),
    setting!(optional_file "log.kafka.ca_file", c => c.kafka.tls.ca, "Certificates that are trusted, PEM; by default the system's."),
    setting!(optional_file "log.kafka.certificate_file", c => c.kafka.tls.certificate, "Our own certificate, PEM, where brokers ask for one."),
    setting!(optional_file "log.kafka.key_file", c => c.kafka.tls.key, "Its key, PEM."),
    setting!(list "store.scylla.nodes", c => c.scylla.nodes, "`host:port` of some nodes; the others are found by them. Absent: the store is a file in data_dir, for one process."),
    setting!(text "store.scylla.keyspace", c => c.scylla.keyspace, "The keyspace: lower case letters, digits and _. `onair store init` makes it."),
    setting!(list "store.scylla.replication", c => c.scylla.replication, "Copies of each row: `[\"3\"]` in each datacenter, or by name, `[\"dc1:3\", \"dc2:3\"]`."),
    choice(
        setting!(text "store.scylla.scope", c => c.scylla.scope, "Whose quorum decides: datacenter (LOCAL_SERIAL; only for a keyspace in one) or keyspace (SERIAL)."),
        SCOPES,
    ),
    setting!(optional_text "store.scylla.datacenter", c => c.scylla.datacenter, "The one whose nodes are asked, where the cluster has several."),
    choice(
        setting!(text "store.scylla.tablets", c => c.scylla.tablets, "ScyllaDB only: whether the keyspace is made with tablets. off for versions without lightweight transactions on them."),
        TABLETS,
    ),
    setting!(interval "store.scylla.request_timeout", c => c.scylla.request_timeout, "After it a request has failed and its outcome is unknown. Longer than the servers' own."),
    setting!(interval "store.scylla.connect_timeout", c => c.scylla.connect_timeout, "For a connection, and for a new session."),
    setting!(optional_text "store.scylla.user", c => c.scylla.login.user, "The role to log in with."),
    setting!(Secret::Whole, optional_text "store.scylla.password", c => c.scylla.login.password, "Its password. Only from the environment; in the file use password_file."),
    setting!(optional_file "store.scylla.password_file", c => c.scylla.login.password_file, "A file with the password; a newline at its end does not count."),
    setting!(optional_file "store.scylla.ca_file", c => c.scylla.tls.ca, "Certificates that are trusted, PEM. With it the connections are TLS."),
    setting!(optional_file "store.scylla.certificate_file", c => c.scylla.tls.certificate, "Our own certificate, PEM, where nodes ask for one."),
    setting!(optional_file "store.scylla.key_file", c => c.scylla.tls.key, "Its key, PEM."),
    setting!(optional_text "admin.listen", c => c.admin, "Where `/live` and `/ready` are answered over HTTP; port 0 is chosen and printed. Absent: nowhere."),
    choice(
        setting!(text "logging.level", c => c.logging.level, "What is logged, to standard error."),
        LEVELS,
    ),
    choice(
        setting!(text "logging.format", c => c.logging.format, "How it is logged."),
        FORMATS,
    ),
];

/// The keys of a `[[feed]]` with what they are for.
pub const FEED_KEYS: &[(&str, &str, &str)] = &[
    (
        "name",
        "text",
        "The feed's name: letters, digits, `_`, `-` and `.`. Default: the table's.",
    ),
    (
        "table",
        "text",
        "`database.table`; a table alone is one of the URL's database.",
    ),
    (
        "live_when",
        "text",
        "The predicate over one row, as SQL text.",
    ),
    ("columns", "list of text", "Exported columns."),
    ("buckets", "number", "Buckets, 1 to 1024. Default: 16."),
];
