//! Several servers with the same table, one after the other: a source and its replicas.
//!
//! A reader asks who the source is before everything else. When the one that is in use cannot be reached then, the next in
//! the list is asked from there on; it is another server, so the reader opens the next epoch on it. Everything else is
//! asked of the one in use, so that stream and scan are of one server.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use onair_model::GtidSet;
use tracing::warn;

use crate::feed::{Feed, FeedConfig, Table, TableName};
use crate::source::{
    EventStream, Finding, Identity, RowSink, ScanRequest, Scanned, Source, SourceError,
};

/// A list of servers, of which one is in use.
pub struct Failover {
    servers: Vec<Arc<dyn Source>>,
    /// Index of the one in use.
    at: AtomicUsize,
}

impl Failover {
    /// The first and those that follow it.
    pub fn new(first: Arc<dyn Source>, others: impl IntoIterator<Item = Arc<dyn Source>>) -> Self {
        Failover {
            servers: std::iter::once(first).chain(others).collect(),
            at: AtomicUsize::new(0),
        }
    }

    fn now(&self) -> (usize, &dyn Source) {
        let at = self.at.load(Ordering::Relaxed);
        (at, &*self.servers[at])
    }

    /// Goes on to the next server when this one could not be reached.
    fn judged<T>(&self, at: usize, answer: Result<T, SourceError>) -> Result<T, SourceError> {
        if let Err(error @ (SourceError::Unreachable { .. } | SourceError::Silent { .. })) = &answer
        {
            let next = (at + 1) % self.servers.len();
            warn!(error = %error, next, "the source cannot be reached: the next in the list is asked");
            // Another call may have gone on already.
            let _ = self
                .at
                .compare_exchange(at, next, Ordering::Relaxed, Ordering::Relaxed);
        }
        answer
    }
}

impl std::fmt::Debug for Failover {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Failover")
            .field("servers", &self.servers.len())
            .field("at", &self.at)
            .finish()
    }
}

#[async_trait]
impl Source for Failover {
    async fn identity(&self) -> Result<Identity, SourceError> {
        let (at, server) = self.now();
        self.judged(at, server.identity().await)
    }

    async fn table(&self, name: &TableName) -> Result<Table, SourceError> {
        let (at, server) = self.now();
        self.judged(at, server.table(name).await)
    }

    async fn preflight(&self, feeds: &[FeedConfig]) -> Result<Vec<Finding>, SourceError> {
        let (at, server) = self.now();
        self.judged(at, server.preflight(feeds).await)
    }

    async fn follow(&self, from: &GtidSet) -> Result<Box<dyn EventStream>, SourceError> {
        self.now().1.follow(from).await
    }

    async fn scan(&self, request: &ScanRequest, sink: RowSink) -> Result<Scanned, SourceError> {
        self.now().1.scan(request, sink).await
    }

    async fn row(
        &self,
        feed: &Feed,
        key: &onair_model::Key,
        sink: RowSink,
    ) -> Result<(), SourceError> {
        self.now().1.row(feed, key, sink).await
    }
}
