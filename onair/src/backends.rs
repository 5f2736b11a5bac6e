//! The log and the store, as the configuration names them.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use onair_log::memory::{MemoryConfig, MemoryLog};
use onair_log::{EventLog, LogError};
use onair_model::Lineage;
use onair_store::redb::RedbStore;
use onair_store::{ShardStore, StoreError, cells};
use tracing::warn;

use crate::config::Config;

/// Between two attempts at a store that does not answer.
const RETRY: Duration = Duration::from_secs(1);

/// The log and the store of a process.
#[derive(Clone, Debug)]
pub(crate) struct Backends {
    pub(crate) lineage: Lineage,
    pub(crate) log: Arc<dyn EventLog>,
    pub(crate) store: Arc<dyn ShardStore>,
    /// Whether other processes have the store too.
    pub(crate) is_shared: bool,
}

/// Why log and store cannot be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BackendError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The log.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The data directory.
    #[error("{path}: cannot be used as data directory; use another --data-dir")]
    DataDir {
        /// Where.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file with a password.
    #[cfg_attr(
        not(any(test, feature = "kafka", feature = "scylla")),
        expect(dead_code, reason = "only the engines have passwords of their own")
    )]
    #[error("{setting}: {path}: cannot be read; see that it is there and may be read")]
    Password {
        /// The setting that names it.
        setting: &'static str,
        /// Where.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A part of the program ended by a panic.
    #[error("the store could not be opened; start again, and please report what was said before")]
    Task(#[from] tokio::task::JoinError),
}

impl BackendError {
    /// Whether it may pass without anybody's doing.
    const fn is_passing(&self) -> bool {
        matches!(
            self,
            BackendError::Store(StoreError::Unavailable { .. } | StoreError::Unknown { .. })
        )
    }
}

/// Opens both. The log is not asked anything yet. Who follows it may be given entries as late as `lag`.
pub(crate) async fn open(
    config: &Config,
    data_dir: &Path,
    lag: Duration,
) -> Result<Backends, BackendError> {
    let store = store(config, data_dir).await?;
    let lineage = cells::lineage(&*store).await?;
    Ok(Backends {
        lineage,
        log: log(config, data_dir, lag)?,
        store,
        is_shared: !config.scylla.nodes.is_empty(),
    })
}

/// The same, once the store answers; `said` hears why not yet.
pub(crate) async fn wait(
    config: &Config,
    data_dir: &Path,
    lag: Duration,
    said: impl Fn(&str),
) -> Result<Backends, BackendError> {
    loop {
        match open(config, data_dir, lag).await {
            Err(error) if error.is_passing() => {
                let error = error.to_string();
                warn!(error, "waiting for the store");
                said(&error);
                tokio::time::sleep(RETRY).await;
            }
            done => return done,
        }
    }
}

/// The store alone.
pub(crate) async fn store(
    config: &Config,
    data_dir: &Path,
) -> Result<Arc<dyn ShardStore>, BackendError> {
    if !config.scylla.nodes.is_empty() {
        return engines::store(config).await;
    }
    let unusable = |source| BackendError::DataDir {
        path: data_dir.to_owned(),
        source,
    };
    std::fs::create_dir_all(data_dir).map_err(unusable)?;
    let path = data_dir.join("onair.redb");
    let store = tokio::task::spawn_blocking(move || RedbStore::open(path)).await??;
    Ok(Arc::new(store))
}

fn log(config: &Config, data_dir: &Path, lag: Duration) -> Result<Arc<dyn EventLog>, BackendError> {
    if config.kafka.brokers.is_some() {
        return engines::log(config, lag);
    }
    Ok(Arc::new(MemoryLog::new(MemoryConfig {
        capacity: config.log_bytes,
        tail: Some(data_dir.join("log")),
    })))
}

#[cfg(any(feature = "kafka", feature = "scylla"))]
fn password(
    login: &crate::config::Login,
    setting: &'static str,
) -> Result<Option<String>, BackendError> {
    if login.password.is_some() {
        return Ok(login.password.clone());
    }
    let Some(path) = &login.password_file else {
        return Ok(None);
    };
    let text = std::fs::read_to_string(path).map_err(|source| BackendError::Password {
        setting,
        path: path.clone(),
        source,
    })?;
    Ok(Some(crate::source::without_newline(&text).to_owned()))
}

/// Whether this build has an engine was checked with the configuration.
mod engines {
    use super::*;

    #[cfg(feature = "kafka")]
    pub(super) fn log(config: &Config, lag: Duration) -> Result<Arc<dyn EventLog>, BackendError> {
        use onair_log::kafka::{Compression, KafkaLog, Settings};

        let kafka = &config.kafka;
        let mut options = vec![("security.protocol".to_owned(), kafka.security.clone())];
        let mut option = |name: &str, value: Option<String>| {
            options.extend(value.map(|value| (name.to_owned(), value)));
        };
        let path = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string());
        if kafka.security.starts_with("sasl") {
            option("sasl.mechanism", Some(kafka.sasl_mechanism.clone()));
            option("sasl.username", kafka.login.user.clone());
            let password = password(&kafka.login, "log.kafka.password_file")?;
            option("sasl.password", password);
        }
        option("ssl.ca.location", path(&kafka.tls.ca));
        option("ssl.certificate.location", path(&kafka.tls.certificate));
        option("ssl.key.location", path(&kafka.tls.key));
        let compression = match kafka.compression.as_str() {
            "none" => Compression::None,
            "gzip" => Compression::Gzip,
            "snappy" => Compression::Snappy,
            "zstd" => Compression::Zstd,
            _ => Compression::Lz4,
        };
        let settings = Settings {
            brokers: kafka.brokers.clone().unwrap_or_default(),
            prefix: kafka.prefix.clone(),
            replication_factor: kafka.replication_factor,
            min_insync_replicas: kafka.min_insync_replicas,
            retention: kafka.retention,
            compression,
            message_bytes: kafka.message_bytes,
            buffer_bytes: kafka.buffer_bytes,
            fetch_bytes: kafka.fetch_bytes,
            fetch_wait: lag,
            request_timeout: kafka.request_timeout,
            options,
            ..Settings::default()
        };
        Ok(Arc::new(KafkaLog::new(settings)?))
    }

    #[cfg(not(feature = "kafka"))]
    pub(super) fn log(_: &Config, _: Duration) -> Result<Arc<dyn EventLog>, BackendError> {
        unreachable!("the configuration was checked")
    }

    #[cfg(feature = "scylla")]
    pub(super) async fn store(config: &Config) -> Result<Arc<dyn ShardStore>, BackendError> {
        let store = onair_store::scylla::ScyllaStore::open(scylla(config)?).await?;
        Ok(Arc::new(store))
    }

    #[cfg(not(feature = "scylla"))]
    #[expect(clippy::unused_async, reason = "the other build awaits")]
    pub(super) async fn store(_: &Config) -> Result<Arc<dyn ShardStore>, BackendError> {
        unreachable!("the configuration was checked")
    }

    /// What the store's driver is told.
    #[cfg(feature = "scylla")]
    pub(in crate::backends) fn scylla(
        config: &Config,
    ) -> Result<onair_store::scylla::Settings, BackendError> {
        use std::num::NonZeroU16;

        use onair_store::scylla::{Credentials, Replication, Scope, Settings};

        let scylla = &config.scylla;
        let mut settings = Settings::new(scylla.nodes.clone(), scylla.keyspace.clone());
        // Their form was checked with the configuration.
        let copies = |text: &str| text.parse().unwrap_or(NonZeroU16::MIN);
        settings.replication = match &scylla.replication[..] {
            [one] if !one.contains(':') => Replication::Everywhere(copies(one)),
            each => Replication::Datacenters(
                each.iter()
                    .filter_map(|one| one.rsplit_once(':'))
                    .map(|(datacenter, count)| (datacenter.to_owned(), copies(count)))
                    .collect(),
            ),
        };
        settings.scope = match scylla.scope.as_str() {
            "keyspace" => Scope::Keyspace,
            _ => Scope::Datacenter,
        };
        settings.datacenter = scylla.datacenter.clone();
        settings.tablets = match scylla.tablets.as_str() {
            "on" => Some(true),
            "off" => Some(false),
            _ => None,
        };
        settings.request_timeout = scylla.request_timeout;
        settings.connect_timeout = scylla.connect_timeout;
        #[cfg(feature = "scylla-tls")]
        if let Some(ca) = &scylla.tls.ca {
            settings.tls = Some(onair_store::scylla::Tls {
                ca: ca.clone(),
                identity: scylla.tls.certificate.clone().zip(scylla.tls.key.clone()),
            });
        }
        if let Some(user) = &scylla.login.user {
            let password = password(&scylla.login, "store.scylla.password_file")?;
            settings.credentials = Some(Credentials {
                user: user.clone(),
                password: password.unwrap_or_default(),
            });
        }
        Ok(settings)
    }
}

/// Makes the keyspace and tables of the configuration, or checks those that are there.
#[cfg(feature = "scylla")]
pub(crate) async fn init(config: &Config) -> Result<(), BackendError> {
    Ok(onair_store::scylla::ScyllaStore::init(&engines::scylla(config)?).await?)
}

/// A build without the engine refuses its section before it comes here.
#[cfg(not(feature = "scylla"))]
#[expect(clippy::unused_async, reason = "the other build awaits")]
pub(crate) async fn init(_: &Config) -> Result<(), BackendError> {
    unreachable!("the configuration was checked")
}
