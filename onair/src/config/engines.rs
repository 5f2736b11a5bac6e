//! Kafka and ScyllaDB as they are configured: plain data, the same in every build.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// A login to another system. The password comes from the environment or a file.
#[derive(Clone, Default)]
pub struct Login {
    /// Who asks; `None`: nobody in particular.
    pub user: Option<String>,
    /// From the environment.
    pub password: Option<String>,
    /// The file that has it.
    pub password_file: Option<PathBuf>,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login")
            .field("user", &self.user)
            .field("password_file", &self.password_file)
            .finish_non_exhaustive()
    }
}

/// The files of one side of TLS.
#[derive(Clone, Debug, Default)]
pub struct TlsFiles {
    /// Certificates of those that are trusted to sign the other side's, PEM.
    pub ca: Option<PathBuf>,
    /// Our own, PEM.
    pub certificate: Option<PathBuf>,
    /// Its key, PEM.
    pub key: Option<PathBuf>,
}

/// `[log.kafka]`.
#[derive(Clone, Debug)]
pub struct KafkaConfig {
    /// `host:port`, several with commas between them. `None`: the log is in memory.
    pub brokers: Option<String>,
    /// What names of topics begin with.
    pub prefix: String,
    /// Copies of each entry.
    pub replication_factor: u16,
    /// Copies that must be there before an append is acknowledged.
    pub min_insync_replicas: u16,
    /// How long entries stay.
    pub retention: Option<Duration>,
    /// A codec's name.
    pub compression: String,
    /// The largest record.
    pub message_bytes: usize,
    /// Bytes under way before appends wait.
    pub buffer_bytes: usize,
    /// Bytes that a follower fetches ahead.
    pub fetch_bytes: usize,
    /// The longest wait for an answer to a question.
    pub request_timeout: Duration,
    /// `plaintext`, `ssl`, `sasl_plaintext` or `sasl_ssl`.
    pub security: String,
    /// `PLAIN`, `SCRAM-SHA-256` or `SCRAM-SHA-512`.
    pub sasl_mechanism: String,
    /// Of SASL.
    pub login: Login,
    /// Of TLS.
    pub tls: TlsFiles,
}

impl Default for KafkaConfig {
    fn default() -> Self {
        KafkaConfig {
            brokers: None,
            prefix: "onair".to_owned(),
            replication_factor: 3,
            min_insync_replicas: 2,
            retention: Some(Duration::from_secs(7 * 24 * 3600)),
            compression: "lz4".to_owned(),
            message_bytes: 8 << 20,
            buffer_bytes: 64 << 20,
            fetch_bytes: 16 << 20,
            request_timeout: Duration::from_secs(10),
            security: "plaintext".to_owned(),
            sasl_mechanism: "SCRAM-SHA-512".to_owned(),
            login: Login::default(),
            tls: TlsFiles::default(),
        }
    }
}

/// `[store.scylla]`.
#[derive(Clone, Debug)]
pub struct ScyllaConfig {
    /// `host:port` of some nodes. Empty: the store is a file.
    pub nodes: Vec<String>,
    /// The keyspace.
    pub keyspace: String,
    /// `3`, or `dc1:3,dc2:3`.
    pub replication: Vec<String>,
    /// Whose quorum decides: `datacenter` or `keyspace`.
    pub scope: String,
    /// The one whose nodes are asked.
    pub datacenter: Option<String>,
    /// `default`, `on` or `off`.
    pub tablets: String,
    /// After it an outcome is unknown.
    pub request_timeout: Duration,
    /// For a connection.
    pub connect_timeout: Duration,
    /// The role.
    pub login: Login,
    /// Of TLS; with a CA it is on.
    pub tls: TlsFiles,
}

impl Default for ScyllaConfig {
    fn default() -> Self {
        ScyllaConfig {
            nodes: Vec::new(),
            keyspace: "onair".to_owned(),
            replication: vec!["3".to_owned()],
            scope: "datacenter".to_owned(),
            datacenter: None,
            tablets: "default".to_owned(),
            request_timeout: Duration::from_secs(3),
            connect_timeout: Duration::from_secs(2),
            login: Login::default(),
            tls: TlsFiles::default(),
        }
    }
}
