//! Roles wired in one process: all three for `up`, one of them for `cdc`, `merger` and `server`.

use std::sync::{Arc, OnceLock};

use onair_cdc::reader::{Reader, ReaderError};
use onair_merger::Merger;
use onair_model::Buckets;
use onair_server::{Server, Tls};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::backends::Backends;
use crate::roles::{self, Local, Others};

/// What one process is made of.
pub(crate) struct Parts {
    /// Log and store.
    pub(crate) backends: Backends,
    /// The feeds.
    pub(crate) feeds: Vec<(Arc<str>, Buckets)>,
    /// The reader.
    pub(crate) reader: Option<Reader>,
    /// The merger.
    pub(crate) merger: Option<onair_merger::Settings>,
    /// The server.
    pub(crate) server: Option<Service>,
    /// What the process is called.
    pub(crate) process: Arc<str>,
    /// Name, version and commit.
    pub(crate) build: Arc<str>,
}

/// What a server needs of its own.
#[derive(Debug)]
pub(crate) struct Service {
    /// Bound.
    pub(crate) listener: TcpListener,
    /// `None`: it speaks in the clear.
    pub(crate) tls: Option<Tls>,
    /// Limits and times.
    pub(crate) settings: onair_server::Settings,
}

/// A running process.
pub(crate) struct System {
    /// What its roles say.
    pub(crate) local: Local,
    roles: JoinSet<Result<(), SystemError>>,
    /// Status rows, spoken and heard.
    rows: JoinSet<()>,
    stop_reader: CancellationToken,
    stop_merger: CancellationToken,
    stop_rows: CancellationToken,
}

/// Why the process cannot go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SystemError {
    /// The reader.
    #[error(transparent)]
    Reader(#[from] ReaderError),
    /// The server.
    #[error(transparent)]
    Server(#[from] onair_server::ServeError),
    /// A role ended by a panic.
    #[error("a role ended unexpectedly; start again, and please report what it said before")]
    Role(#[from] tokio::task::JoinError),
}

/// Starts the roles.
pub(crate) fn start(parts: Parts) -> System {
    let Parts {
        backends,
        feeds,
        reader,
        merger,
        server,
        process,
        build,
    } = parts;
    let (stop_reader, stop_merger, stop_rows) = (
        CancellationToken::new(),
        CancellationToken::new(),
        CancellationToken::new(),
    );
    let mut local = Local {
        process,
        reader: None,
        merger: None,
        server: Arc::new(OnceLock::new()),
        draining: CancellationToken::new(),
        log: Arc::clone(&backends.log),
    };
    let mut roles = JoinSet::new();
    let mut rows = JoinSet::new();
    if let Some(reader) = reader {
        local.reader = Some(reader.status());
        let stop = stop_reader.clone();
        roles.spawn(async move { Ok(reader.run(stop).await?) });
    }
    if let Some(settings) = merger {
        let status = Arc::new(onair_merger::Status::default());
        local.merger = Some(Arc::clone(&status));
        let layout = |(name, buckets): &(Arc<str>, Buckets)| onair_merger::FeedLayout {
            name: Arc::clone(name),
            buckets: *buckets,
        };
        let merger = Merger {
            lineage: backends.lineage,
            log: Arc::clone(&backends.log),
            store: Arc::clone(&backends.store),
            feeds: feeds.iter().map(layout).collect(),
            settings,
            status,
        };
        let stop = stop_merger.clone();
        roles.spawn(async move {
            merger.run(stop).await;
            Ok(())
        });
    }
    if let Some(Service {
        listener,
        tls,
        settings,
    }) = server
    {
        let others = Others::default();
        if backends.is_shared {
            let (store, process) = (Arc::clone(&backends.store), Arc::clone(&local.process));
            rows.spawn(others.clone().listen(store, process, stop_rows.clone()));
        }
        let layout = |(name, buckets): &(Arc<str>, Buckets)| onair_server::FeedLayout {
            name: Arc::clone(name),
            buckets: *buckets,
        };
        let served = onair_server::Backends {
            lineage: backends.lineage,
            log: Arc::clone(&backends.log),
            store: Arc::clone(&backends.store),
            roles: local.with(others),
            build,
        };
        let layouts = feeds.iter().map(layout).collect();
        let mut server = Server::new(listener, served, layouts, settings);
        if let Some(tls) = tls {
            server = server.with_tls(tls);
        }
        // Set once, here.
        let _ = local.server.set(server.handle());
        let stop = local.draining.clone();
        roles.spawn(async move { Ok(server.run(stop).await?) });
    }
    if backends.is_shared {
        rows.spawn(roles::speak(
            local.clone(),
            backends.store,
            stop_rows.clone(),
        ));
    }
    System {
        local,
        roles,
        rows,
        stop_reader,
        stop_merger,
        stop_rows,
    }
}

impl System {
    /// The reader's words, where there is one.
    pub(crate) fn reader(&self) -> Option<watch::Receiver<onair_cdc::status::Status>> {
        self.local.reader.clone()
    }

    /// The server, where there is one.
    pub(crate) fn server(&self) -> Option<onair_server::Handle> {
        self.local.server.get().cloned()
    }

    /// Waits until a role ends although nobody told it to: then nothing goes on as it should.
    pub(crate) async fn failed(&mut self) -> SystemError {
        match self.roles.join_next().await {
            Some(Ok(Err(error))) => error,
            Some(Err(error)) => error.into(),
            // A role that ends well before it is told to does not exist.
            Some(Ok(Ok(()))) | None => std::future::pending().await,
        }
    }

    /// Stops in the order of the path: what the reader flushed the merger folds; clients are told to go away meanwhile.
    pub(crate) async fn stop(mut self) {
        self.stop_reader.cancel();
        self.local.draining.cancel();
        if let Some(mut reader) = self.reader() {
            // The merger folds what the reader's last flush brings: the reader's task ends after that flush.
            let stopped =
                reader.wait_for(|status| status.phase == onair_cdc::status::Phase::Stopped);
            let _ = tokio::time::timeout(std::time::Duration::from_millis(500), stopped).await;
        }
        self.stop_merger.cancel();
        while self.roles.join_next().await.is_some() {}
        self.stop_rows.cancel();
        while self.rows.join_next().await.is_some() {}
    }
}
