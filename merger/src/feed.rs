//! Folds one feed: follows its log, moves its heads, keeps the cuts head behind them.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use onair_log::{
    Entry, EventLog, Fixed, Follower, LogError, LogId, Offset, Partition, Payload, Share,
};
use onair_model::cut::{Admitted, Taken, admit};
use onair_model::plant::failpoint;
use onair_model::{Body, Bucket, CutRecord, Epoch, GtidSet, Lineage, Version};
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
    /// Whether the cuts head is ours to move.
    keeps_cuts: bool,
    /// How far the heads of the other buckets were seen; they are another merger's.
    others: BTreeMap<Bucket, Passed>,
    taken: Option<Taken>,
    /// Full cuts that not every head has passed, oldest first, with the offset after each.
    waiting: VecDeque<(CutRecord, u64)>,
    cuts: Option<(Token, CutsHead)>,
    cuts_next: u64,
    cuts_moved: Instant,
    behind: BTreeMap<Bucket, (Version, Instant)>,
    history_at: Option<Instant>,
    /// The last epoch of which the end was entered in the history.
    ended: Epoch,
    clean_at: Instant,
}

/// What a head has passed.
#[derive(Clone, Copy, Debug)]
struct Passed {
    epoch: Epoch,
    d: Version,
    base_d: Version,
}

impl Passed {
    fn of(head: &Head) -> Self {
        Passed {
            epoch: head.state.epoch,
            d: head.state.d,
            base_d: head.base.d,
        }
    }
}

impl Run {
    /// Whether every head is at or beyond this cut and can still give its content.
    fn has_passed(&self, cut: &CutRecord) -> bool {
        cut.touched.iter().all(|(bucket, d)| {
            let ours = self
                .shards
                .get(bucket)
                .and_then(|shard| shard.head.as_ref());
            let passed = match ours {
                Some((_, head)) => Some(Passed::of(head)),
                None => self.others.get(bucket).copied(),
            };
            passed.is_some_and(|passed| {
                passed.epoch == cut.epoch() && passed.d >= *d && passed.base_d <= *d
            })
        })
    }

    /// The cuts head is here: bases may go up to it.
    fn settle(&mut self, cut: &CutRecord) {
        for (bucket, d) in &cut.touched {
            if let Some(shard) = self.shards.get_mut(bucket) {
                shard.settle(*d);
            }
        }
    }

    /// Whether the cuts head is not in the newest epoch yet. Until it is, a restart scans.
    fn is_opening(&self) -> bool {
        let held = self.cuts.as_ref().map(|(_, held)| held.cut.epoch());
        let newest = self.waiting.back().map(|(cut, _)| cut.epoch());
        newest.is_some() && newest != held
    }
}

/// The full cut that the cuts taken add up to.
fn whole(lineage: Lineage, taken: &Taken) -> CutRecord {
    CutRecord {
        lineage,
        prev_cut: taken.version,
        version: taken.version,
        commit_time: taken.commit_time,
        source_time: taken.source_time,
        gtid: taken.gtid,
        executed: GtidSet::clone(&taken.executed),
        position: taken.position.clone(),
        digest: taken.digest,
        count: taken.count,
        touched: (0..)
            .map(Bucket::new)
            .zip(taken.vector.iter().copied())
            .collect(),
        full: true,
        proven: taken.proven,
        lost_tail: taken.lost_tail,
    }
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
            .owned(&self.feed.name, run.shards.len(), run.keeps_cuts);
        let stretch = run.shards.len() as f64 / 10.0;
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
                    return Ok(Ended::Shutdown);
                }
                divided = ours.share.next() => {
                    let partitions = divided?;
                    self.fold_all(&mut run).await?;
                    return Ok(Ended::Divided(partitions));
                }
                _ = tick.tick() => {
                    self.fold_all(&mut run).await?;
                    self.ask(&mut run).await?;
                    self.clean(&mut run).await?;
                    self.status.trouble(&self.feed.name, None);
                }
                entries = run.follower.next() => {
                    for entry in entries? {
                        self.keep_before(&mut run, &entry).await?;
                        self.take(&mut run, entry);
                    }
                    let is_due = |(bucket, shard): (&Bucket, &Shard)| {
                        let large = shard.fresh_bytes() > self.settings.fold_bytes;
                        (shard.restated || large).then_some(*bucket)
                    };
                    let due: Vec<Bucket> = run.shards.iter().filter_map(is_due).collect();
                    for bucket in due {
                        self.fold(&mut run, bucket).await?;
                    }
                    if run.is_opening() {
                        self.move_cuts(&mut run).await?;
                    }
                }
            }
        }
    }

    async fn begin(&self, id: LogId, ours: &[Partition]) -> Result<Run, Trouble> {
        let mut shards = BTreeMap::new();
        let mut named = BTreeMap::new();
        for partition in ours {
            let Partition::Bucket(bucket) = partition else {
                continue;
            };
            let shard = self.load(*bucket).await?;
            let head = shard.head.as_ref().map(|(_, head)| head);
            let of_log = head.filter(|head| *head.log == *id.0);
            named.insert(*partition, of_log.map(|head| Offset(head.next_offset)));
            shards.insert(*bucket, shard);
        }
        let cuts = self.cuts_head().await?;
        let of_log = cuts.as_ref().filter(|(_, cuts)| *cuts.log == *id.0);
        // Whoever keeps them: cuts say what a bucket has to have.
        named.insert(
            Partition::Cuts,
            of_log.map(|(_, cuts)| Offset(cuts.next_offset)),
        );
        // Asked after the heads were read: they are not beyond it unless the log has lost its end.
        let mut ends = self.log.ends(&self.feed.name).await?;
        ends.retain(|(partition, _)| named.contains_key(partition));
        for (partition, ends) in &ends {
            // Freed while we loaded, by one who has moved the head on: what can be read does not touch what we hold.
            let of = named.get(partition).copied().flatten();
            let is_gone = ends.low > of.unwrap_or(Offset(0));
            if let (Partition::Bucket(bucket), true) = (partition, is_gone) {
                let held = shards.get(bucket).and_then(Shard::token);
                if self.token(*bucket).await? != held {
                    return Err(Trouble::Overtaken(*partition));
                }
            }
        }
        let named: Vec<Option<Offset>> = ends
            .iter()
            .filter_map(|(partition, _)| named.get(partition).copied())
            .collect();
        let from = onair_log::places(&ends, &named);
        let mut cuts_next = 0;
        for (partition, next) in &from {
            match partition {
                Partition::Cuts => cuts_next = next.0,
                Partition::Bucket(bucket) => {
                    if let Some(shard) = shards.get_mut(bucket) {
                        shard.next_offset = next.0;
                    }
                }
            }
        }
        let follower = self.log.follow(&self.feed.name, &from).await?;
        let mut run = Run {
            id,
            follower,
            shards,
            keeps_cuts: ours.contains(&Partition::Cuts),
            others: BTreeMap::new(),
            taken: None,
            waiting: VecDeque::new(),
            cuts: None,
            cuts_next,
            cuts_moved: Instant::now(),
            behind: BTreeMap::new(),
            history_at: None,
            ended: Epoch::NONE,
            clean_at: Instant::now(),
        };
        if let Some((token, cuts)) = cuts {
            let buckets = self.feed.buckets.count();
            admit(self.lineage, buckets, &mut run.taken, &cuts.cut);
            run.settle(&cuts.cut);
            run.cuts = Some((token, cuts));
        }
        Ok(run)
    }

    async fn cuts_head(&self) -> Result<Option<(Token, CutsHead)>, Trouble> {
        let key = CellKey::CutsHead(Arc::clone(&self.feed.name));
        let Some(cell) = self.store.cell(&key).await? else {
            return Ok(None);
        };
        let head = CutsHead::from_bytes(&self.feed.name, &cell.value)?;
        Ok(Some((cell.token, head)))
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
                run.cuts_next = offset.0 + 1;
                let admitted = admit(
                    self.lineage,
                    self.feed.buckets.count(),
                    &mut run.taken,
                    &cut,
                );
                if matches!(admitted, Admitted::Taken | Admitted::Merged) {
                    for (bucket, d) in &cut.touched {
                        if let Some(shard) = run.shards.get_mut(bucket) {
                            shard.state.claim(*d);
                        }
                    }
                    if cut.full && run.keeps_cuts {
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

    /// What an entry states anew takes the place of what was held: that stays in the history, with the last version of
    /// an epoch that ends.
    async fn keep_before(&self, run: &mut Run, entry: &Entry) -> Result<(), Trouble> {
        let (Partition::Bucket(bucket), Payload::Record(record)) =
            (entry.partition, &entry.payload)
        else {
            return Ok(());
        };
        if matches!(record.body, Body::Commits { .. }) {
            return Ok(());
        }
        let Some(shard) = run.shards.get(&bucket) else {
            return Ok(());
        };
        let held = shard.state.epoch;
        let ends = run.keeps_cuts && held != Epoch::NONE && record.epoch > held && run.ended < held;
        if shard.is_dirty() || ends {
            self.fold_all(run).await?;
        }
        if ends {
            run.ended = held;
            let last = run.taken.as_ref().map(|taken| whole(self.lineage, taken));
            let last = last.filter(|last| run.has_passed(last));
            let last = last.or_else(|| run.cuts.as_ref().map(|(_, held)| held.cut.clone()));
            if let Some(cut) = last.filter(|cut| cut.epoch() == held) {
                self.history().cut(&cut).await?;
            }
        }
        Ok(())
    }

    /// Moves every head that lacks something, then the cuts head; lets the log free what is folded.
    async fn fold_all(&self, run: &mut Run) -> Result<(), Trouble> {
        let buckets: Vec<Bucket> = run.shards.keys().copied().collect();
        for bucket in buckets {
            let Some(shard) = run.shards.get(&bucket) else {
                continue;
            };
            if shard.is_dirty() {
                self.fold(run, bucket).await?;
            } else if shard.is_clean() {
                let offset = Offset(shard.next_offset);
                self.log
                    .release(&self.feed.name, Partition::Bucket(bucket), offset);
            }
        }
        if run.keeps_cuts {
            self.look_at_others(run).await?;
            self.move_cuts(run).await
        } else {
            self.look_at_cuts(run).await
        }
    }

    /// Another merger moves the cuts head: what it holds lets our bases go on.
    async fn look_at_cuts(&self, run: &mut Run) -> Result<(), Trouble> {
        let Some((token, cuts)) = self.cuts_head().await? else {
            return Ok(());
        };
        self.status.cut(&self.feed.name, cuts.cut.version);
        run.settle(&cuts.cut);
        run.cuts = Some((token, cuts));
        Ok(())
    }

    /// How far the heads are that other mergers move.
    async fn look_at_others(&self, run: &mut Run) -> Result<(), Trouble> {
        if run.shards.len() == self.feed.buckets.count() || run.waiting.is_empty() {
            return Ok(());
        }
        let like = CellKey::Head(Arc::clone(&self.feed.name), Bucket::new(0));
        for (key, cell) in self.store.cells(&like).await? {
            if let CellKey::Head(_, bucket) = key
                && !run.shards.contains_key(&bucket)
            {
                let head = Head::from_bytes(&self.feed.name, &cell.value)?;
                run.others.insert(bucket, Passed::of(&head));
            }
        }
        Ok(())
    }

    /// Writes what one bucket's head lacks, then moves the head.
    async fn fold(&self, run: &mut Run, bucket: Bucket) -> Result<(), Trouble> {
        let Some(shard) = run.shards.get_mut(&bucket) else {
            return Ok(());
        };
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
            Moved::Lost(_) => Err(Trouble::Overtaken(Partition::Bucket(bucket))),
        }
    }

    /// Moves the cuts head to the newest full cut that every head has passed.
    async fn move_cuts(&self, run: &mut Run) -> Result<(), Trouble> {
        let passed = run.waiting.iter().rposition(|(cut, _)| run.has_passed(cut));
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
            return Err(Trouble::Overtaken(Partition::Cuts));
        };
        run.settle(&next.cut);
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

    /// Asks the reader to state buckets again that lack data or have forked. A cut often arrives before the records that
    /// it names: a bucket stands still only when it has not moved for as long as patience says.
    async fn ask(&self, run: &mut Run) -> Result<(), Trouble> {
        let now = Instant::now();
        let mut stopped: Vec<(Bucket, &str)> = Vec::new();
        for (bucket, shard) in &run.shards {
            let reason = match (shard.forked, shard.state.is_behind_claim()) {
                (true, _) => "fork",
                (false, true) => "gap",
                (false, false) => {
                    run.behind.remove(bucket);
                    continue;
                }
            };
            let at = (shard.state.d, now);
            let (d, since) = run.behind.entry(*bucket).or_insert(at);
            if *d != shard.state.d && !shard.forked {
                (*d, *since) = at;
            }
            if since.elapsed() >= self.settings.claim_patience {
                stopped.push((*bucket, reason));
            }
        }
        self.status.stopped(&self.feed.name, &stopped);
        for (bucket, reason) in stopped {
            let key = CellKey::ReplaceRequest(Arc::clone(&self.feed.name), bucket);
            let asked = move_cell(&*self.store, &key, None, reason.to_owned().to_bytes()).await?;
            if matches!(asked, Moved::Won(_)) {
                info!(feed = %self.feed.name, %bucket, reason, "the reader is asked to state the bucket again");
            }
        }
        Ok(())
    }

    /// Works off the history index, a page a tick; one merger does.
    async fn clean(&self, run: &mut Run) -> Result<(), Trouble> {
        if !run.keeps_cuts || run.clean_at > Instant::now() {
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
