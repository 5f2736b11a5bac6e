//! Folds one feed: follows its log, moves its heads, keeps the cuts head behind them.

use std::collections::VecDeque;
use std::sync::Arc;

use onair_log::{Entry, EventLog, Follower, LogError, LogId, Offset, Partition, Payload};
use onair_model::cut::{Admitted, Taken, admit};
use onair_model::plant::failpoint;
use onair_model::{Bucket, CutRecord, Lineage};
use onair_store::cells::{Moved, move_cell};
use onair_store::checkpoint::CellValue;
use onair_store::head::{self, CutsHead, Head, LoadError};
use onair_store::{CellKey, ShardStore, StoreError, Token};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::config::{FeedLayout, Settings};
use crate::history::{Cleaned, History};
use crate::shard::{Plan, Shard, trouble};
use crate::status::Status;

/// How long to wait between two attempts at a store or log that does not answer.
const RETRY: std::time::Duration = std::time::Duration::from_millis(500);

/// Full cuts that wait for the heads to pass them.
const CUTS_MAX: usize = 64;

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
    #[error("bucket {0}: its head was moved by another merger; it is loaded again")]
    Overtaken(Bucket),
}

struct Run {
    id: LogId,
    follower: Box<dyn Follower>,
    shards: Vec<Shard>,
    taken: Option<Taken>,
    /// Full cuts that not every head has passed, oldest first, with the offset after each.
    waiting: VecDeque<(CutRecord, u64)>,
    cuts: Option<(Token, CutsHead)>,
    cuts_next: u64,
    cuts_moved: Instant,
    behind: Option<Instant>,
    history_at: Option<Instant>,
    clean_at: Instant,
}

impl Run {
    /// Whether the cuts head is not in the newest epoch yet. Until it is, a restart scans.
    fn is_opening(&self) -> bool {
        let held = self.cuts.as_ref().map(|(_, held)| held.cut.epoch());
        let newest = self.waiting.back().map(|(cut, _)| cut.epoch());
        newest.is_some() && newest != held
    }
}

impl FeedMerger {
    /// Runs until `shutdown`, then folds what it has read and ends.
    pub(crate) async fn run(self, shutdown: CancellationToken) {
        loop {
            let ended = self.follow(&shutdown).await;
            let Err(error) = ended else { return };
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

    async fn follow(&self, shutdown: &CancellationToken) -> Result<(), Trouble> {
        let mut run = self.begin().await?;
        let stretch = self.feed.buckets.count() as f64 / 10.0;
        let interval = self
            .settings
            .fold_interval
            .max(std::time::Duration::from_secs_f64(stretch.min(60.0)));
        let mut tick = tokio::time::interval(interval);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => {
                    self.fold_all(&mut run).await?;
                    return Ok(());
                }
                _ = tick.tick() => {
                    self.fold_all(&mut run).await?;
                    self.ask(&mut run).await?;
                    self.clean(&mut run).await?;
                    self.status.trouble(&self.feed.name, None);
                }
                entries = run.follower.next() => {
                    for entry in entries? {
                        self.take(&mut run, entry);
                    }
                    for bucket in self.feed.buckets.all() {
                        let shard = &run.shards[bucket.index()];
                        if shard.restated || shard.fresh_bytes() > self.settings.fold_bytes {
                            self.fold(&mut run, bucket).await?;
                        }
                    }
                    if run.is_opening() {
                        self.move_cuts(&mut run).await?;
                    }
                }
            }
        }
    }

    async fn begin(&self) -> Result<Run, Trouble> {
        let layout = onair_log::Layout {
            feed: Arc::clone(&self.feed.name),
            buckets: self.feed.buckets,
        };
        let id = self.log.open(&layout).await?;
        let mut shards = Vec::with_capacity(self.feed.buckets.count());
        let mut named = Vec::with_capacity(self.feed.buckets.count() + 1);
        for bucket in self.feed.buckets.all() {
            let shard = self.load(bucket).await?;
            let head = shard.head.as_ref().map(|(_, head)| head);
            named.push(
                head.filter(|head| *head.log == *id.0)
                    .map(|head| Offset(head.next_offset)),
            );
            shards.push(shard);
        }
        let key = CellKey::CutsHead(Arc::clone(&self.feed.name));
        let cuts = match self.store.cell(&key).await? {
            Some(cell) => Some((
                cell.token,
                CutsHead::from_bytes(&self.feed.name, &cell.value)?,
            )),
            None => None,
        };
        let mut taken = None;
        if let Some((_, cuts)) = &cuts {
            admit(
                self.lineage,
                self.feed.buckets.count(),
                &mut taken,
                &cuts.cut,
            );
            for (bucket, d) in &cuts.cut.touched {
                if let Some(shard) = shards.get_mut(bucket.index()) {
                    shard.settle(*d);
                }
            }
        }
        let of_log = cuts.as_ref().filter(|(_, cuts)| *cuts.log == *id.0);
        named.push(of_log.map(|(_, cuts)| Offset(cuts.next_offset)));
        // Asked after the heads were read: they are not beyond it unless the log has lost its end.
        let ends = self.log.ends(&self.feed.name).await?;
        for (bucket, (named, (_, ends))) in self.feed.buckets.all().zip(named.iter().zip(&ends)) {
            // Freed while we loaded, by one who has moved the head on: what can be read does not touch what we hold.
            let is_gone = ends.low > named.unwrap_or(Offset(0));
            if is_gone && self.token(bucket).await? != shards[bucket.index()].token() {
                return Err(Trouble::Overtaken(bucket));
            }
        }
        let from = onair_log::places(&ends, &named);
        for (shard, (_, next)) in shards.iter_mut().zip(&from) {
            shard.next_offset = next.0;
        }
        let cuts_next = from.last().map_or(0, |(_, next)| next.0);
        let follower = self.log.follow(&self.feed.name, &from).await?;
        Ok(Run {
            id,
            follower,
            shards,
            taken,
            waiting: VecDeque::new(),
            cuts,
            cuts_next,
            cuts_moved: Instant::now(),
            behind: None,
            history_at: None,
            clean_at: Instant::now(),
        })
    }

    /// The token of a bucket's head as it stands.
    async fn token(&self, bucket: Bucket) -> Result<Option<Token>, StoreError> {
        let key = CellKey::Head(Arc::clone(&self.feed.name), bucket);
        Ok(self.store.cell(&key).await?.map(|cell| cell.token))
    }

    /// Loads a bucket from the store. One that cannot be loaded begins with nothing, behind the claim of its head: the
    /// reader is asked for it.
    async fn load(&self, bucket: Bucket) -> Result<Shard, Trouble> {
        let mut shard = Shard::new();
        let key = CellKey::Head(Arc::clone(&self.feed.name), bucket);
        let Some(cell) = self.store.cell(&key).await? else {
            return Ok(shard);
        };
        let head = Head::from_bytes(&self.feed.name, &cell.value)?;
        let fault = match head::load_bucket(&*self.store, &self.feed.name, &head).await {
            Ok(loaded) => match shard.load(cell.token, head.clone(), loaded) {
                Ok(()) => None,
                Err(_) => Some("base and deltas do not give the head's digest".to_owned()),
            },
            Err(LoadError::Store(
                error @ (StoreError::Unavailable { .. } | StoreError::Unknown { .. }),
            )) => {
                return Err(error.into());
            }
            Err(error) => Some(error.to_string()),
        };
        if let Some(fault) = fault {
            warn!(feed = %self.feed.name, %bucket, fault, "a base shard is damaged; the reader is asked to state it again");
            shard = Shard::damaged(cell.token, head);
        }
        Ok(shard)
    }

    fn take(&self, run: &mut Run, entry: Entry) {
        let Entry {
            partition,
            offset,
            payload,
        } = entry;
        match (partition, payload) {
            (Partition::Bucket(bucket), payload) => {
                let shard = &mut run.shards[bucket.index()];
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
                run.cuts_next = offset.0 + 1;
                let admitted = admit(
                    self.lineage,
                    self.feed.buckets.count(),
                    &mut run.taken,
                    &cut,
                );
                if matches!(admitted, Admitted::Taken | Admitted::Merged) {
                    for (bucket, d) in &cut.touched {
                        if let Some(shard) = run.shards.get_mut(bucket.index()) {
                            shard.state.claim(*d);
                        }
                    }
                    if cut.full {
                        if run.waiting.len() == CUTS_MAX {
                            run.waiting.pop_front();
                        }
                        run.waiting.push_back((cut, run.cuts_next));
                    }
                }
            }
            (Partition::Cuts, payload) => {
                run.cuts_next = offset.0 + 1;
                warn!(feed = %self.feed.name, offset = offset.0, ?payload, "an entry that does not belong here");
            }
        }
    }

    /// Moves every head that lacks something, then the cuts head; lets the log free what is folded.
    async fn fold_all(&self, run: &mut Run) -> Result<(), Trouble> {
        for bucket in self.feed.buckets.all() {
            if run.shards[bucket.index()].is_dirty() {
                self.fold(run, bucket).await?;
            } else if run.shards[bucket.index()].is_clean() {
                let offset = Offset(run.shards[bucket.index()].next_offset);
                self.log
                    .release(&self.feed.name, Partition::Bucket(bucket), offset);
            }
        }
        self.move_cuts(run).await
    }

    /// Writes what one bucket's head lacks, then moves the head.
    async fn fold(&self, run: &mut Run, bucket: Bucket) -> Result<(), Trouble> {
        let shard = &mut run.shards[bucket.index()];
        let plan = shard.plan(self.settings.deltas_max, self.settings.delta_share_max);
        let feed = &self.feed.name;
        let (base, deltas) = match plan {
            Plan::Nothing => return Ok(()),
            Plan::Restate | Plan::Rebase => {
                if matches!(plan, Plan::Rebase) {
                    failpoint("base rewrite");
                }
                let (d, sum, rows) = shard.settled();
                let base = head::write_base(&*self.store, feed, d, sum, rows.iter()).await?;
                let later = shard.unsettled();
                let delta = head::write_delta(&*self.store, feed, d, shard.sum(), &later).await?;
                (base, delta.into_iter().collect())
            }
            Plan::Delta { merge } => {
                let Some((_, held)) = &shard.head else {
                    return Ok(());
                };
                let (base, mut deltas) = (held.base, held.deltas.clone());
                if merge {
                    let mut commits = Vec::new();
                    for delta in &deltas {
                        commits.append(&mut head::read_delta(&*self.store, feed, delta).await?);
                    }
                    commits.extend_from_slice(shard.fresh());
                    deltas = head::write_delta(&*self.store, feed, base.d, shard.sum(), &commits)
                        .await?
                        .into_iter()
                        .collect();
                } else {
                    let prev = held.state.d;
                    deltas.extend(
                        head::write_delta(&*self.store, feed, prev, shard.sum(), shard.fresh())
                            .await?,
                    );
                }
                (base, deltas)
            }
        };
        failpoint("fold");
        let needed = run.cuts.as_ref().and_then(|(_, cuts)| {
            let mut named = cuts.cut.touched.iter();
            named.find(|(of, _)| *of == bucket).map(|(_, d)| *d)
        });
        let next = shard.next_head((self.lineage, &run.id), needed, base, deltas);
        let key = CellKey::Head(Arc::clone(feed), bucket);
        let expect = shard.head.as_ref().map(|(token, _)| *token);
        if let Some((_, before)) = &shard.head {
            self.history().supersede(bucket, before, &next).await?;
        }
        match move_cell(&*self.store, &key, expect, next.to_bytes()).await? {
            Moved::Won(token) => {
                let offset = next.next_offset;
                debug!(feed = %feed, %bucket, d = %next.state.d, deltas = next.deltas.len(), ?plan, "head moved");
                shard.moved(token, next);
                self.log
                    .release(feed, Partition::Bucket(bucket), Offset(offset));
                self.status.folded(feed);
                Ok(())
            }
            Moved::Lost(_) => Err(Trouble::Overtaken(bucket)),
        }
    }

    /// Moves the cuts head to the newest full cut that every head has passed.
    async fn move_cuts(&self, run: &mut Run) -> Result<(), Trouble> {
        let passed = run.waiting.iter().rposition(|(cut, _)| {
            cut.touched.iter().all(|(bucket, d)| {
                run.shards
                    .get(bucket.index())
                    .and_then(|shard| shard.head.as_ref())
                    .is_some_and(|(_, head)| {
                        head.state.epoch == cut.epoch() && head.state.d >= *d && head.base.d <= *d
                    })
            })
        });
        let Some(at) = passed else { return Ok(()) };
        let (cut, next_offset) = run.waiting[at].clone();
        run.waiting.drain(..=at);
        if run
            .cuts
            .as_ref()
            .is_some_and(|(_, held)| held.cut.version > cut.version)
        {
            return Ok(());
        }
        let same = run
            .cuts
            .as_ref()
            .is_some_and(|(_, held)| held.cut.version == cut.version);
        if same && run.cuts_moved.elapsed() < self.settings.history_every {
            return Ok(());
        }
        run.cuts_moved = Instant::now();
        failpoint("cuts head");
        let next = CutsHead {
            cut,
            log: run.id.0.to_string(),
            next_offset,
        };
        let key = CellKey::CutsHead(Arc::clone(&self.feed.name));
        let expect = run.cuts.as_ref().map(|(token, _)| *token);
        let Moved::Won(token) = move_cell(&*self.store, &key, expect, next.to_bytes()).await?
        else {
            return Err(Trouble::Overtaken(Bucket::new(0)));
        };
        for (bucket, d) in &next.cut.touched {
            if let Some(shard) = run.shards.get_mut(bucket.index()) {
                shard.settle(*d);
            }
        }
        self.log
            .release(&self.feed.name, Partition::Cuts, Offset(next_offset));
        self.status.cut(&self.feed.name, next.cut.version);
        let due = run
            .history_at
            .is_none_or(|at| at.elapsed() >= self.settings.history_every);
        let new_epoch = run
            .cuts
            .as_ref()
            .is_none_or(|(_, held)| held.cut.epoch() != next.cut.epoch());
        if due || new_epoch {
            run.history_at = Some(Instant::now());
            self.history().cut(&next.cut).await?;
        }
        run.cuts = Some((token, next));
        Ok(())
    }

    /// Asks the reader to state buckets again that lack data or have forked.
    async fn ask(&self, run: &mut Run) -> Result<(), Trouble> {
        let stopped: Vec<(Bucket, &str)> = self
            .feed
            .buckets
            .all()
            .filter_map(|bucket| {
                let shard = &run.shards[bucket.index()];
                if shard.forked {
                    Some((bucket, "fork"))
                } else {
                    shard.state.is_behind_claim().then_some((bucket, "gap"))
                }
            })
            .collect();
        self.status.stopped(&self.feed.name, &stopped);
        if stopped.is_empty() {
            run.behind = None;
            return Ok(());
        }
        if run.behind.get_or_insert_with(Instant::now).elapsed() < self.settings.claim_patience {
            return Ok(());
        }
        for (bucket, reason) in stopped {
            let key = CellKey::ReplaceRequest(Arc::clone(&self.feed.name), bucket);
            let asked = move_cell(&*self.store, &key, None, reason.to_owned().to_bytes()).await?;
            if matches!(asked, Moved::Won(_)) {
                info!(feed = %self.feed.name, %bucket, reason, "the reader is asked to state the bucket again");
            }
        }
        Ok(())
    }

    /// Works off the history index, a page a tick.
    async fn clean(&self, run: &mut Run) -> Result<(), Trouble> {
        if run.clean_at > Instant::now() {
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
