//! A client of OnAir that watches.

use std::time::Instant;

use anyhow::{Context as _, Result};
use onair_sdk::{Changes, Feed, FromRow, Key, RowError, RowRef, Step};
use tokio::runtime::Runtime;

use super::{CLOSED, Load, Sightings, Watcher};

/// The row as the client keeps it: the number of the transaction that opened it stands in `uid`.
#[derive(Clone, Copy, Debug)]
pub struct Numbered(pub u64);

impl FromRow for Numbered {
    fn from_row(row: RowRef<'_>) -> Result<Self, RowError> {
        row.get("uid").map(Numbered)
    }
}

/// One replica in this process.
#[derive(Debug)]
pub struct Client {
    runtime: Runtime,
    feed: Feed<Numbered>,
    changes: Option<Changes<Numbered>>,
}

impl Client {
    pub fn connect(address: &str) -> Result<Self> {
        let runtime = super::runtime()?;
        let endpoint = format!("http://{address}");
        let feed = runtime.block_on(Feed::connect([endpoint.as_str()], "room"))?;
        Ok(Client {
            runtime,
            feed,
            changes: None,
        })
    }
}

impl Watcher for Client {
    fn get_ready(&mut self, load: &Load) -> Result<()> {
        let Client { runtime, feed, .. } = self;
        self.changes = Some(runtime.block_on(async {
            let mut changes = feed.changes();
            while !load.expected().is_there(&feed.snapshot()) {
                changes.next().await.context("the feed was closed")?;
            }
            anyhow::Ok(feed.changes().after(feed.snapshot()))
        })?);
        Ok(())
    }

    fn watch(&mut self, sightings: &mut Sightings) -> Result<()> {
        let changes = self.changes.as_mut().context("it is not ready")?;
        self.runtime.block_on(async {
            while !sightings.is_complete() {
                let deadline = sightings.deadline().into();
                let step = tokio::time::timeout_at(deadline, changes.next()).await;
                let now = Instant::now();
                let step = step.map_err(|_| sightings.lost())?;
                see(&step.context("the feed was closed")?, now, sightings)?;
            }
            Ok(())
        })
    }
}

/// Notes what a step shows.
pub(super) fn see(step: &Step<Numbered>, now: Instant, sightings: &mut Sightings) -> Result<()> {
    for (_, row) in &step.on {
        sightings.see(row.0, now)?;
    }
    for (key, _) in &step.off {
        sightings.see(number_closed(key)?, now)?;
    }
    Ok(())
}

fn number_closed(key: &Key) -> Result<u64> {
    let key = key.as_u64().context("the key column is an integer")?;
    key.checked_sub(CLOSED)
        .with_context(|| format!("the row {key} was never closed"))
}
