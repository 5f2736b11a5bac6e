//! The embedded source: a small table server in this process, for `onair up` without a MySQL and for tests.
//!
//! In: a seeded workload on `live.room`, or a test's own transactions. Out: the same bytes that a MySQL 9
//! server would send, and scans of the same table. Nothing after the seam knows the difference. All of it
//! is in memory: another [`DemoServer`] is another server, with a UUID of its own, so OnAir opens an epoch.

mod binlog;
mod commits;
mod event;
mod hooks;
mod room;
mod rows;
mod scan;
mod server;
mod state;
mod stream;
mod transaction;
mod workload;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use async_trait::async_trait;
use onair_model::{GtidSet, Key};

pub use self::hooks::{CommitOrder, Counts, Delay, Hooks, Network};
pub use self::room::{Room, TITLE_MAX};
pub use self::rows::Gift;
pub use self::server::{DemoServer, DemoSettings};
pub use self::transaction::{RowError, Transaction};

use crate::bind::{FieldNumbers, bind};
use crate::feed::{Feed, FeedConfig, Table, TableName};
use crate::source::{
    Dialect, EventStream, Finding, Identity, Level, RowMetadata, RowSink, ScanRequest, Scanned,
    Source, SourceError,
};

/// A connection to a [`DemoServer`]; several may be open.
#[derive(Clone, Debug)]
pub struct DemoSource {
    server: Arc<DemoServer>,
}

impl DemoSource {
    /// Connects.
    pub fn new(server: Arc<DemoServer>) -> Self {
        DemoSource { server }
    }

    /// The server.
    pub fn server(&self) -> &Arc<DemoServer> {
        &self.server
    }
}

#[async_trait]
impl Source for DemoSource {
    async fn identity(&self) -> Result<Identity, SourceError> {
        let state = self.server.shared().connect()?;
        Ok(Identity {
            dialect: Dialect::Mysql,
            server: state.source().to_string(),
            version: event::VERSION.into(),
            metadata: RowMetadata::Full,
            executed: state.executed().clone(),
            in_flight: state.owned(),
            purged: state.binlog.purged().clone(),
        })
    }

    async fn table(&self, name: &TableName) -> Result<Table, SourceError> {
        drop(self.server.shared().connect()?);
        let table = room::table();
        if *name == table.name {
            Ok(table)
        } else {
            Err(SourceError::NoTable {
                table: name.to_string(),
            })
        }
    }

    async fn follow(&self, from: &GtidSet) -> Result<Box<dyn EventStream>, SourceError> {
        let stream = stream::DemoStream::open(self.server.shared().clone(), from)?;
        Ok(Box::new(stream))
    }

    async fn scan(&self, request: &ScanRequest, sink: RowSink) -> Result<Scanned, SourceError> {
        scan::run(self.server.shared(), request, &sink).await
    }

    async fn row(&self, feed: &Feed, key: &Key, sink: RowSink) -> Result<(), SourceError> {
        scan::one(self.server.shared(), feed, key, &sink)
    }

    async fn preflight(&self, feeds: &[FeedConfig]) -> Result<Vec<Finding>, SourceError> {
        drop(self.server.shared().connect()?);
        let ok = |check, seen: &str, why| Finding {
            check,
            level: Level::Ok,
            seen: seen.into(),
            why,
            fix: String::new(),
        };
        let mut findings = vec![
            ok(
                "server",
                event::VERSION,
                "the built-in demo: its table lives in this process and ends with it",
            ),
            ok("log_bin", "ON", "OnAir reads the binlog"),
            ok("binlog_format", "ROW", "rows, not statements, are read"),
            ok(
                "binlog_row_image",
                "FULL",
                "both images of a row must be whole",
            ),
            ok(
                "binlog_row_metadata",
                "FULL",
                "column names, signs and character sets come with the rows",
            ),
            ok("gtid_mode", "ON", "positions are GTID sets"),
        ];
        findings.extend(feeds.iter().flat_map(check_feed));
        Ok(findings)
    }
}

/// What keeps a feed from being captured here, or one line that nothing does.
fn check_feed(feed: &FeedConfig) -> Vec<Finding> {
    let table = room::table();
    let finding = |level, seen: String, fix: &str| Finding {
        check: "feed",
        level,
        seen,
        why: "a feed needs its table, a key and columns that can be read",
        fix: fix.into(),
    };
    if feed.table != table.name {
        let seen = format!("feed {}: the demo has no table {}", feed.name, feed.table);
        let fix = format!("capture {}, or a server of your own", table.name);
        return vec![finding(Level::Fail, seen, &fix)];
    }
    match bind(feed, &table, &FieldNumbers::default()) {
        Ok(_) => {
            let seen = format!("feed {}: {}", feed.name, table.name);
            vec![finding(Level::Ok, seen, "")]
        }
        Err(error) => error
            .to_string()
            .lines()
            .map(|line| finding(Level::Fail, line.to_owned(), "correct the feed as it says"))
            .collect(),
    }
}
