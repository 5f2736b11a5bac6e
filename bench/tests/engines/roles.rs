//! Mergers and servers at work.

use std::sync::Arc;

use onair_log::EventLog;
use onair_merger::status::FeedStatus;
use onair_merger::{FeedLayout, Merger, Settings, Status};
use onair_model::{Seal, Sum};
use onair_server::{Backends, Handle, ServeError, Server};
use onair_store::ShardStore;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::feed::Feed;
use super::{LINEAGE, until};

/// A merger of some feeds. Dropped, it ends wherever it is.
pub(crate) struct Merging {
    status: Arc<Status>,
    stop: CancellationToken,
    task: JoinSet<()>,
}

impl Merging {
    /// Starts one on a log and a store that may be broken.
    pub(crate) fn start(
        feeds: &[Feed],
        log: Arc<dyn EventLog>,
        store: Arc<dyn ShardStore>,
        settings: Settings,
    ) -> Self {
        let layout = |feed: &Feed| FeedLayout {
            name: feed.name(),
            buckets: feed.buckets(),
        };
        let status = Arc::new(Status::default());
        let stop = CancellationToken::new();
        let merger = Merger {
            lineage: LINEAGE,
            log,
            store,
            feeds: feeds.iter().map(layout).collect(),
            settings,
            status: Arc::clone(&status),
        };
        let mut task = JoinSet::new();
        task.spawn(merger.run(stop.clone()));
        Merging { status, stop, task }
    }

    pub(crate) fn of(&self, feed: &Feed) -> FeedStatus {
        let mut feeds = self.status.feeds();
        feeds.remove(&feed.name()).unwrap_or_default()
    }

    /// Heads moved, of all feeds.
    pub(crate) fn folds(&self) -> u64 {
        self.status.feeds().values().map(|feed| feed.folds).sum()
    }

    /// Ends it in peace: what it read is folded.
    pub(crate) async fn stop(mut self) {
        self.stop.cancel();
        while let Some(ended) = self.task.join_next().await {
            ended.expect("the merger ends");
        }
    }
}

/// A server of one feed. Dropped, it ends wherever it is.
pub(crate) struct Serving {
    handle: Handle,
    stop: CancellationToken,
    task: JoinSet<Result<(), ServeError>>,
}

impl Serving {
    /// Starts one on a log and a store that may be broken.
    pub(crate) async fn start(
        feed: &Feed,
        log: Arc<dyn EventLog>,
        store: Arc<dyn ShardStore>,
    ) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let backends = Backends {
            lineage: LINEAGE,
            log,
            store,
            roles: Arc::new(Vec::new),
            build: "onair test".into(),
        };
        let layout = onair_server::FeedLayout {
            name: feed.name(),
            buckets: feed.buckets(),
        };
        let settings = onair_server::Settings::default();
        let server = Server::new(listener, backends, vec![layout], settings);
        let handle = server.handle();
        let stop = CancellationToken::new();
        let mut task = JoinSet::new();
        task.spawn(server.run(stop.clone()));
        Serving { handle, stop, task }
    }

    /// What is shown, which is the truth at its version.
    pub(crate) fn shown(&self, feed: &Feed) -> Option<Seal> {
        let seal = self.handle.feeds().remove(0).seal?;
        let (digest, count) = (seal.digest, seal.count);
        let truth = feed.writer.at(seal.version).total();
        assert_eq!(truth, Sum { digest, count }, "{}", seal.version);
        Some(seal)
    }

    /// Waits until what the writer wrote last is shown.
    pub(crate) async fn until_shown(&self, feed: &Feed) {
        let now = feed.writer.version();
        let is_shown = async || self.shown(feed).is_some_and(|seal| seal.version == now);
        until(&format!("{now} is shown"), is_shown).await;
    }

    /// Ends it in peace.
    pub(crate) async fn stop(mut self) {
        self.stop.cancel();
        while let Some(ended) = self.task.join_next().await {
            let ended = ended.expect("the server ends");
            ended.expect("the server ends well");
        }
    }
}
