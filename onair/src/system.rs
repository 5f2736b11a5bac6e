//! Reader, merger and server wired in one process: what `up` runs.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use onair_cdc::config::ReaderConfig;
use onair_cdc::reader::{Reader, ReaderError};
use onair_cdc::source::Source;
use onair_log::EventLog;
use onair_log::memory::{MemoryConfig, MemoryLog};
use onair_merger::Merger;
use onair_server::{Backends, RoleReport, Roles, Server};
use onair_store::redb::RedbStore;
use onair_store::{ShardStore, cells};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// What one process is made of.
pub(crate) struct Parts {
    /// Where the store's file stands.
    pub(crate) data_dir: PathBuf,
    /// The database.
    pub(crate) source: Arc<dyn Source>,
    /// The reader's settings, with the feeds.
    pub(crate) reader: ReaderConfig,
    /// The merger's settings.
    pub(crate) merger: onair_merger::Settings,
    /// The server's settings.
    pub(crate) server: onair_server::Settings,
    /// Bytes of the log in memory, a feed.
    pub(crate) log_bytes: usize,
    /// A bound listener.
    pub(crate) listener: TcpListener,
    /// Name, version and commit.
    pub(crate) build: Arc<str>,
}

/// A running process.
pub(crate) struct System {
    /// What the server shows.
    pub(crate) server: onair_server::Handle,
    /// What the reader says.
    pub(crate) reader: watch::Receiver<onair_cdc::status::Status>,
    tasks: JoinSet<Result<(), SystemError>>,
    stop_reader: CancellationToken,
    stop_merger: CancellationToken,
    stop_server: CancellationToken,
}

/// Why the process cannot go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SystemError {
    /// The store.
    #[error(transparent)]
    Store(#[from] onair_store::StoreError),
    /// The reader.
    #[error(transparent)]
    Reader(#[from] ReaderError),
    /// The server.
    #[error(transparent)]
    Server(#[from] onair_server::ServeError),
    /// The data directory.
    #[error("{path}: cannot be used as data directory; use another --data-dir")]
    DataDir {
        /// Where.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A role ended by a panic.
    #[error("a role ended unexpectedly; start again, and please report what it said before")]
    Role(#[from] tokio::task::JoinError),
}

/// Opens the store, binds the feeds, starts the roles.
pub(crate) async fn start(parts: Parts) -> Result<System, SystemError> {
    let Parts {
        data_dir,
        source,
        reader,
        merger,
        server,
        log_bytes,
        listener,
        build,
    } = parts;
    let unusable = |source| SystemError::DataDir {
        path: data_dir.clone(),
        source,
    };
    std::fs::create_dir_all(&data_dir).map_err(unusable)?;
    let path = data_dir.join("onair.redb");
    let store: Arc<dyn ShardStore> =
        match tokio::task::spawn_blocking(move || RedbStore::open(path)).await {
            Ok(store) => Arc::new(store?),
            Err(error) => return Err(error.into()),
        };
    let lineage = cells::lineage(&*store).await?;
    let log: Arc<dyn EventLog> = Arc::new(MemoryLog::new(MemoryConfig {
        capacity: log_bytes,
        tail: Some(data_dir.join("log")),
    }));
    let reader = Reader::new(
        reader,
        lineage,
        source,
        Arc::clone(&log),
        Arc::clone(&store),
    );
    let reader_status = reader.status();
    let feeds = reader.bind().await?;
    let merger_status = Arc::new(onair_merger::Status::default());
    let merger = Merger {
        lineage,
        log: Arc::clone(&log),
        store: Arc::clone(&store),
        feeds: feeds
            .iter()
            .map(|feed| onair_merger::FeedLayout {
                name: Arc::clone(&feed.config.name),
                buckets: feed.config.buckets,
            })
            .collect(),
        settings: merger,
        status: Arc::clone(&merger_status),
    };
    let draining = CancellationToken::new();
    let served: ServerHandle = Arc::new(OnceLock::new());
    let said = roles(
        reader_status.clone(),
        merger_status,
        Arc::clone(&served),
        draining.clone(),
    );
    let backends = Backends {
        lineage,
        log,
        store,
        roles: said,
        build,
    };
    let layouts = feeds
        .iter()
        .map(|feed| onair_server::FeedLayout {
            name: Arc::clone(&feed.config.name),
            buckets: feed.config.buckets,
        })
        .collect();
    let server = Server::new(listener, backends, layouts, server);
    let handle = server.handle();
    // Set once, here.
    let _ = served.set(handle.clone());
    let (stop_reader, stop_merger, stop_server) =
        (CancellationToken::new(), CancellationToken::new(), draining);
    let mut tasks = JoinSet::new();
    let stop = stop_server.clone();
    tasks.spawn(async move { Ok(server.run(stop).await?) });
    let stop = stop_merger.clone();
    tasks.spawn(async move {
        merger.run(stop).await;
        Ok(())
    });
    let stop = stop_reader.clone();
    tasks.spawn(async move { Ok(reader.run(stop).await?) });
    Ok(System {
        server: handle,
        reader: reader_status,
        tasks,
        stop_reader,
        stop_merger,
        stop_server,
    })
}

impl System {
    /// Waits until a role ends although nobody told it to: then nothing goes on as it should.
    pub(crate) async fn failed(&mut self) -> SystemError {
        match self.tasks.join_next().await {
            Some(Ok(Err(error))) => error,
            Some(Err(error)) => error.into(),
            // A role that ends well before it is told to does not exist.
            Some(Ok(Ok(()))) | None => std::future::pending().await,
        }
    }

    /// Stops in the order of the path: what the reader flushed the merger folds; clients are told to go away meanwhile.
    pub(crate) async fn stop(mut self) {
        self.stop_reader.cancel();
        self.stop_server.cancel();
        // The merger folds what the reader's last flush brings: the reader's task ends after that flush.
        let mut reader = self.reader.clone();
        let stopped = reader.wait_for(|status| status.phase == onair_cdc::status::Phase::Stopped);
        let _ = tokio::time::timeout(std::time::Duration::from_millis(500), stopped).await;
        self.stop_merger.cancel();
        while self.tasks.join_next().await.is_some() {}
    }
}

/// Roles are asked from within the server, whose handle there is only once it was made.
type ServerHandle = Arc<OnceLock<onair_server::Handle>>;

fn roles(
    reader: watch::Receiver<onair_cdc::status::Status>,
    merger: Arc<onair_merger::Status>,
    server: ServerHandle,
    draining: CancellationToken,
) -> Roles {
    Arc::new(move || {
        let status = reader.borrow().clone();
        let at = |version: Option<onair_model::Version>| {
            version
                .map(|v| v.to_string())
                .unwrap_or_else(|| "none".to_owned())
        };
        let mut reports = vec![RoleReport {
            role: "reader".to_owned(),
            state: status.phase.name().to_owned(),
            detail: match status.detail.as_str() {
                "" => format!(
                    "version {}, checkpoint {}, {} scans agreed, {} epochs opened",
                    at(status.version),
                    at(status.checkpoint),
                    status.proofs,
                    status.epochs
                ),
                detail => detail.to_owned(),
            },
            at: 0,
        }];
        for (feed, status) in merger.feeds() {
            let state = match (&status.trouble, status.stopped.is_empty()) {
                (Some(_), _) => "in trouble",
                (None, false) => "waiting for a Replace",
                (None, true) => "running",
            };
            let detail = status.trouble.clone().unwrap_or_else(|| {
                format!(
                    "feed {feed}: {} heads moved, cut {}",
                    status.folds,
                    at(status.cut)
                )
            });
            reports.push(RoleReport {
                role: "merger".to_owned(),
                state: state.to_owned(),
                detail,
                at: 0,
            });
        }
        let feeds = server
            .get()
            .map(onair_server::Handle::feeds)
            .unwrap_or_default();
        let serving = feeds.iter().filter(|feed| feed.seal.is_some()).count();
        let clients: usize = feeds.iter().map(|feed| feed.clients).sum();
        let state = match (draining.is_cancelled(), serving == feeds.len()) {
            (true, _) => "draining",
            (false, true) => "serving",
            (false, false) => "starting",
        };
        let detail = format!(
            "{serving} of {} feeds served, {clients} clients",
            feeds.len()
        );
        reports.push(RoleReport {
            role: "server".to_owned(),
            state: state.to_owned(),
            detail,
            at: 0,
        });
        reports
    })
}
