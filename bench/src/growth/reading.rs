//! A reader, from a binlog's events to what the log would get. The demo's server writes the binlog, before anything counts.

use anyhow::{Result, ensure};
use async_trait::async_trait;
use onair_cdc::assemble::{Assembler, Limits};
use onair_cdc::demo::{DemoServer, DemoSettings, DemoSource};
use onair_cdc::sequence::CutKind;
use onair_cdc::source::{EventStream, RawEvent, Source as _, SourceError};
use onair_cdc::stream::Stream;
use serde::{Deserialize, Serialize};

use crate::decode::{Counts, feed, sequence};
use crate::harness::{Meter, Run};

/// Of the table's rows.
const LIVE: f64 = 0.9;

/// So many transactions of a table, flushed one by one.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Reading {
    /// Live before them.
    pub rows: u64,
    pub commits: u64,
}

impl Reading {
    /// Does it, here and now.
    pub fn run(&self) -> Result<Run> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(self.read())
    }

    async fn read(&self) -> Result<Run> {
        let server = DemoServer::start(DemoSettings {
            rows: (self.rows as f64 / LIVE).round() as u64,
            live_share: LIVE,
            rate: 0.0,
            history_bytes: u64::MAX,
            history_transactions: u64::MAX,
            ..DemoSettings::default()
        });
        let source = DemoSource::new(server);
        let feed = feed(&source).await?;
        let identity = source.identity().await?;
        let from = identity.executed.clone();
        source.server().work(usize::try_from(self.commits)?);
        let mut following = source.follow(&from).await?;
        let mut events = Vec::new();
        while let Some(event) = following.try_next()? {
            events.push(event);
        }
        let assembler = Assembler::new([feed.clone()].into(), identity.dialect, Limits::default())
            .with_metadata(identity.metadata)
            .with_beginning(from.clone(), from);
        let mut stream = Stream::new(Box::new(Written(events.into_iter())), assembler);
        let mut sequence = sequence(&feed, self.rows)?;
        let mut counts = Counts::default();
        let meter = Meter::start()?;
        while let Some(step) = stream.try_next()? {
            counts.take(step, &mut sequence)?;
            if sequence.has_pending() {
                drop(sequence.flush(CutKind::Partial));
            }
        }
        let transactions = counts.transactions;
        ensure!(transactions > 0 && counts.changes > 0, "nothing was read");
        meter.stop(transactions, &[])
    }
}

/// Events that are there.
struct Written(std::vec::IntoIter<RawEvent>);

#[async_trait]
impl EventStream for Written {
    async fn next(&mut self) -> Result<RawEvent, SourceError> {
        match self.0.next() {
            Some(event) => Ok(event),
            None => std::future::pending().await,
        }
    }

    fn try_next(&mut self) -> Result<Option<RawEvent>, SourceError> {
        Ok(self.0.next())
    }
}
