//! Folds one feed: follows its log, moves its heads, keeps the cuts head behind them.

mod begin;
mod cuts;
mod gaps;
mod heads;
mod rota;

use std::collections::BTreeMap;
use std::sync::Arc;

use onair_log::{Entry, EventLog, Fixed, Follower, LogError, LogId, Partition, Payload, Share};
use onair_model::{Bucket, Lineage, Version};
use onair_store::head::LoadError;
use onair_store::{ShardStore, StoreError};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use self::cuts::Cuts;
use self::rota::{Place, Rota, Turn};
use crate::config::{FeedLayout, Settings};
use crate::history::{Cleaned, History};
use crate::shard::{Shard, trouble};
use crate::status::Status;

/// How long to wait between two attempts at a store or log that does not answer.
const RETRY: std::time::Duration = std::time::Duration::from_millis(500);

/// Folds one feed until it is told to stop.
#[derive(Debug)]
pub(crate) struct FeedMerger {
    pub(crate) feed: FeedLayout,
    pub(crate) lineage: Lineage,
    pub(crate) log: Arc<dyn EventLog>,
    pub(crate) store: Arc<dyn ShardStore>,
    pub(crate) settings: Settings,
    pub(crate) status: Arc<Status>,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum Trouble {
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error("the head of {0} was moved by another merger; it is loaded again")]
    Overtaken(Partition),
}

/// Why following ended in peace.
enum Ended {
    Shutdown,
    /// Other partitions are ours now.
    Divided(Vec<Partition>),
}

/// The partitions to work on, and who says so.
struct Ours {
    share: Box<dyn Share>,
    partitions: Vec<Partition>,
}

struct Run {
    id: LogId,
    follower: Box<dyn Follower>,
    /// The buckets that are ours.
    shards: BTreeMap<Bucket, Shard>,
    cuts: Cuts,
    /// Buckets that lack data: where they were, and since when.
    behind: BTreeMap<Bucket, (Version, Instant)>,
    clean_at: Instant,
    rota: Rota,
}

impl FeedMerger {
    /// Runs until `shutdown`, then folds what it has read and ends.
    pub(crate) async fn run(self, shutdown: CancellationToken) {
        let mut ours = None;
        loop {
            let error = match self.work(&mut ours, &shutdown).await {
                Ok(()) => return,
                Err(error) => error,
            };
            warn!(feed = %self.feed.name, error = %error, "folding begins again from the heads");
            self.status
                .trouble(&self.feed.name, Some(error.to_string()));
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(RETRY) => {}
            }
        }
    }

    /// Works on what is ours until told to stop. The share in the work outlives troubles: giving it back would unsettle
    /// the others.
    async fn work(
        &self,
        ours: &mut Option<Ours>,
        shutdown: &CancellationToken,
    ) -> Result<(), Trouble> {
        let layout = onair_log::Layout {
            feed: Arc::clone(&self.feed.name),
            buckets: self.feed.buckets,
        };
        let id = self.log.open(&layout).await?;
        let ours = match ours {
            Some(ours) => ours,
            None => {
                let mut share = self.share().await?;
                let partitions = tokio::select! {
                    biased;
                    () = shutdown.cancelled() => return Ok(()),
                    first = share.next() => first?,
                };
                ours.insert(Ours { share, partitions })
            }
        };
        loop {
            match self.follow(id.clone(), ours, shutdown).await? {
                Ended::Shutdown => return Ok(()),
                Ended::Divided(partitions) => ours.partitions = partitions,
            }
        }
    }

    /// The fixed list that we were told, or what the log divides.
    async fn share(&self) -> Result<Box<dyn Share>, Trouble> {
        let Some(buckets) = &self.settings.buckets else {
            return Ok(self.log.share(&self.feed.name).await?);
        };
        let each = self
            .feed
            .buckets
            .all()
            .filter(|bucket| buckets.contains(*bucket));
        let mut partitions: Vec<Partition> = each.map(Partition::Bucket).collect();
        // One of them keeps the cuts, too.
        if buckets.contains(Bucket::new(0)) {
            partitions.push(Partition::Cuts);
        }
        Ok(Box::new(Fixed::new(partitions)))
    }

    async fn follow(
        &self,
        id: LogId,
        ours: &mut Ours,
        shutdown: &CancellationToken,
    ) -> Result<Ended, Trouble> {
        let mut run = self.begin(id, &ours.partitions).await?;
        self.status
            .owned(&self.feed.name, run.shards.len(), run.cuts.keeps);
        loop {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => {
                    self.fold_all(&mut run).await?;
                    return Ok(Ended::Shutdown);
                }
                divided = ours.share.next() => {
                    let partitions = divided?;
                    self.fold_all(&mut run).await?;
                    return Ok(Ended::Divided(partitions));
                }
                turn = run.rota.next() => {
                    self.turn(&mut run, turn).await?;
                    run.rota.over();
                }
                entries = run.follower.next() => self.take_all(&mut run, entries?).await?,
            }
        }
    }

    /// Does what it is time for: one head, or the cuts head and what is done once a period.
    async fn turn(&self, run: &mut Run, turn: Turn) -> Result<(), Trouble> {
        if run.cuts.keeps {
            self.look_at_others(run, Some(turn)).await?;
        }
        match turn.place {
            Place::Head(bucket) => {
                self.fold_or_release(run, bucket).await?;
                if run.cuts.is_opening() {
                    self.move_cuts(run).await?;
                }
            }
            Place::Cuts => {
                self.follow_heads(run).await?;
                self.ask(run).await?;
                self.clean(run).await?;
                self.status.trouble(&self.feed.name, None);
            }
        }
        Ok(())
    }

    async fn take_all(&self, run: &mut Run, entries: Vec<Entry>) -> Result<(), Trouble> {
        for entry in entries {
            self.keep_before(run, &entry).await?;
            self.take(run, entry);
        }
        self.fold_urgent(run).await?;
        if run.cuts.is_opening() {
            self.move_cuts(run).await?;
        }
        Ok(())
    }

    fn take(&self, run: &mut Run, entry: Entry) {
        let Entry {
            partition,
            offset,
            payload,
        } = entry;
        match (partition, payload) {
            (Partition::Bucket(bucket), payload) => {
                let Some(shard) = run.shards.get_mut(&bucket) else {
                    return;
                };
                shard.next_offset = offset.0 + 1;
                let Payload::Record(record) = payload else {
                    warn!(feed = %self.feed.name, %bucket, offset = offset.0, ?payload, "an entry that does not belong here");
                    return;
                };
                let Some(record) = shard.parts.push(record, offset.0) else {
                    return;
                };
                let (outcome, classified) = shard.record(self.lineage, record);
                shard.parts.passed(&shard.state);
                if let Some(trouble) = trouble(&outcome) {
                    warn!(feed = %self.feed.name, %bucket, offset = offset.0, trouble, "a record does not touch the chain");
                }
                if let Some(found) = classified {
                    self.status.classified(&self.feed.name, bucket, &found);
                }
            }
            (Partition::Cuts, Payload::Cut(cut)) => {
                run.cuts.next_offset = offset.0 + 1;
                self.take_cut(run, cut);
            }
            (Partition::Cuts, payload) => {
                run.cuts.next_offset = offset.0 + 1;
                warn!(feed = %self.feed.name, offset = offset.0, ?payload, "an entry that does not belong here");
            }
        }
    }

    /// Works off the history index, a page a period; one merger does.
    async fn clean(&self, run: &mut Run) -> Result<(), Trouble> {
        if !run.cuts.keeps || run.clean_at > Instant::now() {
            return Ok(());
        }
        if self.history().clean().await? == Cleaned::All {
            run.clean_at = Instant::now() + self.history().clean_every();
        }
        Ok(())
    }

    fn history(&self) -> History {
        History {
            feed: Arc::clone(&self.feed.name),
            store: Arc::clone(&self.store),
            window: self.settings.history_window,
        }
    }
}
