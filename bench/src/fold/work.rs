//! What a program does with the events, in a process of its own.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use onair_log::EventLog;
use onair_log::memory::{MemoryConfig, MemoryLog};
use onair_merger::{FeedLayout, Merger, Settings, Status};
use onair_store::ShardStore;
use onair_store::redb::RedbStore;
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::BUCKETS;
use super::counted::{Counted, Heads};
use super::stream::{LINEAGE, Stream};
use crate::harness::{Meter, Run};

/// What is counted.
pub(super) const HEADS: &str = "head CAS";

/// Room for everything that is drained.
const LOG_BYTES: usize = 4 << 30;
/// Events between two flushes of what is drained, and flushes a second of what is paced.
const FLUSH_EVENTS: u64 = 1_000;
const FLUSHES_A_SECOND: u64 = 100;
/// Until the last head is where it should be.
const PATIENCE: Duration = Duration::from_secs(300);

/// Where to.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Into {
    /// A file.
    Redb(PathBuf),
    Cassandra(String),
}

/// Who folds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Folder {
    /// The merger.
    Ours,
    /// A lightweight transaction for each event.
    EachEvent,
    /// One for what a bucket has in a flush.
    EachBatch,
}

/// So many events, as they come or all at once.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Work {
    pub folder: Folder,
    pub into: Into,
    pub events: u64,
    /// Rows that are there before them.
    pub live: u64,
    /// Events a second; all are there from the beginning when it is not said.
    pub rate: Option<u64>,
}

impl Work {
    /// Does it, here and now.
    pub fn run(&self) -> Result<Run> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()?;
        runtime.block_on(async {
            match (self.folder, &self.into) {
                (Folder::Ours, _) => self.ours().await,
                #[cfg(feature = "scylla")]
                (folder, Into::Cassandra(address)) => {
                    super::lwt::run(address, self.events, folder == Folder::EachEvent).await
                }
                _ => anyhow::bail!("nobody does that here"),
            }
        })
    }

    #[cfg_attr(
        not(feature = "scylla"),
        expect(clippy::unused_async, reason = "Cassandra is waited for")
    )]
    async fn store(&self) -> Result<Arc<dyn ShardStore>> {
        match &self.into {
            Into::Redb(dir) => {
                let file = tempfile::Builder::new().tempdir_in(dir)?.keep();
                Ok(Arc::new(RedbStore::open(file.join("store.redb"))?))
            }
            #[cfg(feature = "scylla")]
            Into::Cassandra(address) => {
                use onair_store::scylla::{Replication, ScyllaStore, Settings};
                let keyspace = format!("f{:016x}", rand::random::<u64>());
                let mut settings = Settings::new(vec![address.clone()], keyspace);
                settings.replication = Replication::Everywhere(std::num::NonZeroU16::MIN);
                ScyllaStore::init(&settings).await?;
                Ok(Arc::new(ScyllaStore::open(settings).await?))
            }
            #[cfg(not(feature = "scylla"))]
            Into::Cassandra(_) => anyhow::bail!("this build has no driver for it"),
        }
    }

    async fn ours(&self) -> Result<Run> {
        let log = Arc::new(MemoryLog::new(MemoryConfig {
            capacity: LOG_BYTES,
            tail: None,
        }));
        let store = Arc::new(Heads::of(self.store().await?, BUCKETS.count()));
        let mut stream = Stream::new(BUCKETS, self.live)?;
        log.open(&stream.layout).await?;
        log.append(stream.opening()).await?;
        if self.rate.is_none() {
            for at in 1..=self.events {
                stream.step()?;
                if at % FLUSH_EVENTS == 0 || at == self.events {
                    let full = at == self.events || at % (20 * FLUSH_EVENTS) == 0;
                    log.append(stream.flush(full)).await?;
                }
            }
        }
        let (stop, mut merging) = merger(&log, &store, &stream);
        if self.rate.is_some() {
            // The heads of the empty content are no part of it.
            let start = stream.ds();
            until(|| store.watch.ds() == start).await?;
        }
        let before = store.watch.tried();
        let meter = Meter::start()?;
        if let Some(rate) = self.rate {
            self.pace(rate, &log, &mut stream).await?;
        }
        let while_they_came = store.watch.tried() - before;
        let end = stream.ds();
        until(|| store.watch.ds() == end).await?;
        // The heads that a run's end leaves are no part of a pace.
        let heads = match self.rate {
            Some(_) => while_they_came,
            None => store.watch.tried() - before,
        };
        let run = meter.stop(self.events, &[(HEADS, heads)])?;
        stop.cancel();
        while let Some(ended) = merging.join_next().await {
            ended?;
        }
        Ok(run)
    }

    async fn pace(&self, rate: u64, log: &MemoryLog, stream: &mut Stream) -> Result<()> {
        let each = (rate / FLUSHES_A_SECOND).max(1);
        let begun = Instant::now();
        for flush in 0..self.events / each {
            for _ in 0..each {
                stream.step()?;
            }
            let full = flush % FLUSHES_A_SECOND == 0 || flush + 1 == self.events / each;
            log.append(stream.flush(full)).await?;
            let due = Duration::from_secs_f64((flush + 1) as f64 * each as f64 / rate as f64);
            sleep_until(begun + due).await;
        }
        let took = begun.elapsed().as_secs_f64();
        let meant = self.events as f64 / rate as f64;
        ensure!(
            took < 1.1 * meant,
            "the events took {took:.1} s instead of {meant:.1}"
        );
        Ok(())
    }
}

fn merger(
    log: &Arc<MemoryLog>,
    store: &Arc<Counted>,
    stream: &Stream,
) -> (CancellationToken, JoinSet<()>) {
    let stop = CancellationToken::new();
    let merger = Merger {
        lineage: LINEAGE,
        log: Arc::clone(log) as Arc<dyn EventLog>,
        store: Arc::clone(store) as Arc<dyn ShardStore>,
        feeds: vec![FeedLayout {
            name: Arc::clone(&stream.layout.feed),
            buckets: BUCKETS,
        }],
        settings: Settings::default(),
        status: Arc::new(Status::default()),
    };
    let mut merging = JoinSet::new();
    merging.spawn(merger.run(stop.clone()));
    (stop, merging)
}

async fn until(so: impl Fn() -> bool) -> Result<()> {
    let end = Instant::now() + PATIENCE;
    while !so() {
        ensure!(
            Instant::now() < end,
            "the heads did not come to their place"
        );
        sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}
