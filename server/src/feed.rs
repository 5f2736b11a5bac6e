//! A feed's worker: base shards and the log in, snapshots and frames out.
//!
//! It holds the last good snapshot through any outage; what it cannot verify it does not show.

use std::sync::Arc;
use std::time::Duration;

use onair_log::{Entry, EventLog, Follower, LogError, LogId, Offset, Partition, Payload};
use onair_model::assembly::{Assembly, Hold, Loaded, Published, Rewind};
use onair_model::fold::Outcome;
use onair_model::parts::Parts;
use onair_model::schema::Schema;
use onair_model::{Bucket, Epoch, Lineage};
use onair_store::head::{self, CutsHead, Head, LoadError};
use onair_store::{CellKey, ShardStore, StoreError, schema};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::config::{FeedLayout, Settings};
use crate::ring::Ring;
use crate::state::{FeedState, Stopped};

/// How long a bucket may lack data that is known to exist before its head is loaded again.
const CLAIM_PATIENCE: Duration = Duration::from_millis(500);

/// How long to wait between two attempts at a store or log that does not answer.
const RETRY: Duration = Duration::from_millis(500);

/// Follows one feed until it is told to stop.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) feed: FeedLayout,
    pub(crate) lineage: Lineage,
    pub(crate) log: Arc<dyn EventLog>,
    pub(crate) store: Arc<dyn ShardStore>,
    pub(crate) ring: Arc<Ring>,
    pub(crate) state: Arc<FeedState>,
    pub(crate) settings: Settings,
}

/// Why following had to begin anew.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Load(#[from] LoadError),
}

/// What outlives a run over the log.
struct Content {
    assembly: Assembly,
    /// Since when a later epoch waits because it does not contain what is shown.
    uncontained: Option<Instant>,
    /// What rows are of in the epoch of the newest cut.
    described: Option<(Epoch, Arc<Schema>)>,
    /// When everybody last heard that the content is still complete; `None`: it is due.
    said: Option<Instant>,
}

/// What one run over the log holds beside the content.
struct Run {
    id: LogId,
    follower: Box<dyn Follower>,
    /// Next offset to be read of each partition; cuts last.
    next: Vec<Offset>,
    parts: Vec<Parts>,
    /// Since when a bucket lacks data.
    behind: Option<Instant>,
    /// Ends of the log when the worker started: ready when they are read.
    goal: Vec<(Partition, Offset)>,
    held: Option<Hold>,
    /// The store does not say what the rows of the newest cut's epoch are of.
    is_undescribed: bool,
}

impl Run {
    fn why_held(&self) -> String {
        match self.is_undescribed {
            true => UNDESCRIBED.to_owned(),
            false => held(self.held),
        }
    }

    /// Whether everything that was in the log at the start has been read.
    fn is_read(&self) -> bool {
        let mut ends = self.goal.iter().zip(&self.next);
        ends.all(|((_, high), next)| next >= high)
    }
}

impl Worker {
    /// Runs until `shutdown`. Errors of log and store are waited out: what is shown stays.
    pub(crate) async fn run(self, shutdown: CancellationToken) {
        let mut content = Content {
            assembly: Assembly::new(self.lineage, self.feed.buckets),
            uncontained: None,
            described: None,
            said: None,
        };
        loop {
            let ended = tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                ended = self.follow(&mut content) => ended,
            };
            let Err(error) = ended;
            warn!(feed = %self.feed.name, error = %error, "the log or the store does not answer; what is shown stays");
            self.state.trouble(Some(error.to_string()));
            self.progress(&content.assembly, "log or store does not answer");
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(RETRY) => {}
            }
        }
    }

    /// Loads what the store has beyond what is held, then follows the log.
    async fn follow(&self, content: &mut Content) -> Result<std::convert::Infallible, Trouble> {
        let mut run = self.begin(content).await?;
        self.state.trouble(None);
        // The heads may have been at the log's end.
        self.state.read(run.is_read());
        self.publish(content, &mut run).await?;
        let mut tick = tokio::time::interval(self.settings.progress);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut due: Option<Instant> = None;
        let mut last = Instant::now();
        content.said = None;
        loop {
            let progress_due = content.said.map(|said| said + self.settings.progress);
            tokio::select! {
                biased;
                _ = tick.tick() => {
                    self.heal(&mut content.assembly, &mut run).await?;
                    self.publish(content, &mut run).await?;
                    self.show_state(&content.assembly, &run.why_held());
                }
                () = tokio::time::sleep_until(progress_due.unwrap_or(last)) => {
                    content.said = Some(Instant::now());
                    self.progress(&content.assembly, &run.why_held());
                }
                () = tokio::time::sleep_until(due.unwrap_or(last)), if due.is_some() => {
                    due = None;
                    last = Instant::now();
                    self.publish(content, &mut run).await?;
                }
                entries = run.follower.next() => {
                    self.state.trouble(None);
                    for entry in entries? {
                        self.take(&mut content.assembly, &mut run, entry);
                    }
                    let spacing = self.spacing();
                    if spacing.is_zero() || last.elapsed() >= spacing {
                        last = Instant::now();
                        due = None;
                        self.publish(content, &mut run).await?;
                    } else {
                        due.get_or_insert(last + spacing);
                    }
                }
            }
        }
    }

    async fn begin(&self, content: &mut Content) -> Result<Run, Trouble> {
        let id = self.log.open(&self.feed.log_layout()).await?;
        let mut named = vec![None; self.feed.buckets.count() + 1];
        let mut heads = Vec::with_capacity(self.feed.buckets.count());
        for bucket in self.feed.buckets.all() {
            let key = CellKey::Head(Arc::clone(&self.feed.name), bucket);
            let Some(cell) = self.store.cell(&key).await? else {
                continue;
            };
            heads.push((bucket, Head::from_bytes(&self.feed.name, &cell.value)?));
        }
        let key = CellKey::CutsHead(Arc::clone(&self.feed.name));
        if let Some(cell) = self.store.cell(&key).await? {
            let cuts = CutsHead::from_bytes(&self.feed.name, &cell.value)?;
            if *cuts.log == *id.0 {
                named[self.feed.buckets.count()] = Some(Offset(cuts.next_offset));
            }
            content.assembly.cut(&cuts.cut);
            if content.assembly.published().is_none() {
                self.show_old(content, &heads, &cuts).await?;
            }
        }
        let assembly = &mut content.assembly;
        for (bucket, head) in &heads {
            named[bucket.index()] = self.load_head(assembly, *bucket, head, &id).await?;
        }
        // Asked after the heads were read: they are not beyond it unless the log has lost its end.
        let ends = self.log.ends(&self.feed.name).await?;
        let from = onair_log::places(&ends, &named);
        let follower = self.log.follow(&self.feed.name, &from).await?;
        let goal = ends
            .iter()
            .map(|(partition, ends)| (*partition, ends.high))
            .collect();
        Ok(Run {
            id,
            follower,
            next: from.iter().map(|(_, offset)| *offset).collect(),
            parts: vec![Parts::default(); self.feed.buckets.count()],
            behind: None,
            goal,
            held: None,
            is_undescribed: false,
        })
    }

    /// Shows the cuts head's cut where some heads have left it behind: a server that starts while an epoch opens, or after
    /// a bucket was stated anew, serves what was last proven.
    async fn show_old(
        &self,
        content: &mut Content,
        heads: &[(Bucket, Head)],
        cuts: &CutsHead,
    ) -> Result<(), Trouble> {
        let Some(schema) = self.schema(content).await? else {
            return Ok(());
        };
        let assembly = &mut content.assembly;
        let at = |bucket: Bucket| {
            let mut named = cuts.cut.touched.iter();
            named.find(|(of, _)| *of == bucket).map(|(_, d)| *d)
        };
        let behind = |bucket, head: &Head| at(bucket).is_some_and(|d| head.base.d > d);
        if !heads.iter().any(|(bucket, head)| behind(*bucket, head)) {
            return Ok(());
        }
        for (bucket, head) in heads {
            let (store, feed) = (&*self.store, &self.feed.name);
            let loaded = if behind(*bucket, head) {
                head::load_old(store, feed, head).await
            } else {
                head::load_bucket(store, feed, head).await.map(Some)
            };
            if let Some(loaded) = self.sound(*bucket, loaded)? {
                self.take_loaded(assembly, *bucket, loaded);
            }
        }
        if let Ok(Published { snapshot, frame }) = assembly.publish(Rewind::Wait) {
            self.state.published(&snapshot.seal);
            self.ring.publish(snapshot, frame, &schema, None);
        }
        Ok(())
    }

    /// What rows are of in the epoch of the newest cut; `None` when there is no cut, or when the store does not say: then
    /// a later epoch is about to be, whose rows are of another schema.
    async fn schema(&self, content: &mut Content) -> Result<Option<Arc<Schema>>, Trouble> {
        let Some(epoch) = content.assembly.taken().map(|cut| cut.version.epoch()) else {
            return Ok(None);
        };
        if let Some((of, schema)) = &content.described
            && *of == epoch
        {
            return Ok(Some(Arc::clone(schema)));
        }
        let held = schema::held(&*self.store, &self.feed.name).await?;
        let Some(held) = held.filter(|held| held.value.since <= epoch) else {
            return Ok(None);
        };
        // One that is the same is kept: whoever compares them need not look inside.
        let schema = match content.described.take() {
            Some((_, before)) if *before == held.value.schema => before,
            _ => Arc::new(held.value.schema),
        };
        content.described = Some((epoch, Arc::clone(&schema)));
        Ok(Some(schema))
    }

    /// Loads one bucket's content from the store; tells where the log goes on from it.
    async fn load(
        &self,
        assembly: &mut Assembly,
        bucket: Bucket,
        id: &LogId,
    ) -> Result<Option<Offset>, Trouble> {
        let key = CellKey::Head(Arc::clone(&self.feed.name), bucket);
        let Some(cell) = self.store.cell(&key).await? else {
            return Ok(None);
        };
        let head = Head::from_bytes(&self.feed.name, &cell.value)?;
        self.load_head(assembly, bucket, &head, id).await
    }

    async fn load_head(
        &self,
        assembly: &mut Assembly,
        bucket: Bucket,
        head: &Head,
        id: &LogId,
    ) -> Result<Option<Offset>, Trouble> {
        if head.lineage != self.lineage {
            return Ok(None);
        }
        let next = (*head.log == *id.0).then_some(Offset(head.next_offset));
        let held = assembly.bucket(bucket);
        if (head.state.epoch, head.state.d) <= (held.epoch, held.d) {
            return Ok(next);
        }
        let loaded = head::load_bucket(&*self.store, &self.feed.name, head).await;
        let loaded = self.sound(bucket, loaded.map(Some))?;
        let taken = loaded.is_some_and(|loaded| self.take_loaded(assembly, bucket, loaded));
        Ok(next.filter(|_| taken))
    }

    /// What was loaded; nothing when it is damaged: then the bucket is as one without a head, until the log or another
    /// head brings its content.
    fn sound(
        &self,
        bucket: Bucket,
        loaded: Result<Option<Loaded>, LoadError>,
    ) -> Result<Option<Loaded>, Trouble> {
        match loaded {
            Ok(loaded) => Ok(loaded),
            Err(LoadError::Store(
                error @ (StoreError::Unavailable { .. } | StoreError::Unknown { .. }),
            )) => Err(error.into()),
            Err(error) => {
                warn!(feed = %self.feed.name, %bucket, error = %error, "a base shard is damaged");
                Ok(None)
            }
        }
    }

    /// Whether it is what its head says, and taken.
    fn take_loaded(&self, assembly: &mut Assembly, bucket: Bucket, loaded: Loaded) -> bool {
        let taken = assembly.load(bucket, loaded);
        if let Err(error) = &taken {
            warn!(feed = %self.feed.name, error = %error, "a base shard is not what its head says");
        }
        taken.is_ok()
    }

    fn take(&self, assembly: &mut Assembly, run: &mut Run, entry: Entry) {
        let Entry {
            partition,
            offset,
            payload,
        } = entry;
        let slot = match partition {
            Partition::Bucket(bucket) => bucket.index(),
            Partition::Cuts => run.next.len() - 1,
        };
        run.next[slot] = Offset(offset.0 + 1);
        match (partition, payload) {
            (Partition::Bucket(bucket), Payload::Record(record)) => {
                let Some(record) = run.parts[bucket.index()].push(record, offset.0) else {
                    return;
                };
                let outcome = assembly.record(bucket, record);
                run.parts[bucket.index()].passed(assembly.bucket(bucket));
                match outcome {
                    Outcome::Gap | Outcome::Fork(_) => {
                        warn!(feed = %self.feed.name, %bucket, ?outcome, offset = offset.0, "a record does not touch the chain");
                    }
                    _ => {
                        debug!(feed = %self.feed.name, %bucket, ?outcome, offset = offset.0, "record");
                    }
                }
            }
            (Partition::Cuts, Payload::Cut(cut)) => {
                let admitted = assembly.cut(&cut);
                debug!(feed = %self.feed.name, version = %cut.version, ?admitted, "cut");
            }
            (partition, payload) => {
                warn!(feed = %self.feed.name, %partition, offset = offset.0, ?payload, "an entry that does not belong here");
            }
        }
        self.state.read(run.is_read());
    }

    /// Publishes what can be; keeps the reason when it cannot.
    async fn publish(&self, content: &mut Content, run: &mut Run) -> Result<(), Trouble> {
        let schema = self.schema(content).await?;
        run.is_undescribed = schema.is_none() && content.assembly.taken().is_some();
        let Some(schema) = schema else {
            run.held = Some(Hold::NoCut);
            return Ok(());
        };
        let waited = content
            .uncontained
            .is_some_and(|since| since.elapsed() >= self.settings.lost_tail_wait);
        let rewind = if waited { Rewind::Allow } else { Rewind::Wait };
        match content.assembly.publish(rewind) {
            Ok(Published { snapshot, frame }) => {
                if snapshot.seal.rewound {
                    warn!(feed = %self.feed.name, version = %snapshot.seal.version, "the source lost transactions: what is shown went back");
                }
                run.held = None;
                content.uncontained = None;
                self.state.published(&snapshot.seal);
                // Progress that is due soon goes out with the frame: to thousands of subscribers, sending is what costs.
                let half = self.settings.progress / 2;
                let rides = frame.is_some() && content.said.is_some_and(|at| at.elapsed() >= half);
                if rides {
                    content.said = Some(Instant::now());
                }
                let age = rides.then(|| self.state.age());
                self.ring.publish(snapshot, frame, &schema, age);
            }
            Err(Hold::Done) => run.held = None,
            Err(hold) => {
                if hold == Hold::Uncontained {
                    content.uncontained.get_or_insert_with(Instant::now);
                }
                run.held = Some(hold);
            }
        }
        Ok(())
    }

    /// Loads buckets again that lack data or have forked, and follows the log from their heads.
    async fn heal(&self, assembly: &mut Assembly, run: &mut Run) -> Result<(), Trouble> {
        let stopped: Vec<(Bucket, Stopped)> = self
            .feed
            .buckets
            .all()
            .filter_map(|bucket| {
                if assembly.is_forked(bucket) {
                    Some((bucket, Stopped::Fork))
                } else {
                    assembly
                        .bucket(bucket)
                        .is_behind_claim()
                        .then_some((bucket, Stopped::Gap))
                }
            })
            .collect();
        if stopped.is_empty() {
            run.behind = None;
            self.state.stopped(Vec::new());
            return Ok(());
        }
        let since = *run.behind.get_or_insert_with(Instant::now);
        if since.elapsed() < CLAIM_PATIENCE {
            return Ok(());
        }
        run.behind = Some(Instant::now());
        let mut moved = false;
        let mut named: Vec<Option<Offset>> = run.next.iter().copied().map(Some).collect();
        for (bucket, _) in &stopped {
            let before = assembly.bucket(*bucket).d;
            let next = self.load(assembly, *bucket, &run.id).await?;
            if assembly.bucket(*bucket).d > before {
                info!(feed = %self.feed.name, %bucket, "healed from its head");
                named[bucket.index()] = next;
                run.parts[bucket.index()] = Parts::default();
                moved = true;
            }
        }
        self.state.stopped(stopped);
        if moved {
            let ends = self.log.ends(&self.feed.name).await?;
            let from = onair_log::places(&ends, &named);
            run.next = from.iter().map(|(_, offset)| *offset).collect();
            run.follower = self.log.follow(&self.feed.name, &from).await?;
        }
        Ok(())
    }

    fn show_state(&self, assembly: &Assembly, held: &str) {
        self.state.buckets(
            self.feed
                .buckets
                .all()
                .map(|bucket| (*assembly.bucket(bucket), assembly.is_forked(bucket))),
        );
        self.state.held(held);
        if let Some(snapshot) = assembly.published() {
            self.state.published(&snapshot.seal);
        }
    }

    fn progress(&self, assembly: &Assembly, held: &str) {
        self.show_state(assembly, held);
        if let Some(snapshot) = assembly.published() {
            self.ring
                .progress(Arc::clone(snapshot), held, self.state.age());
        }
    }

    /// Least time between two frames: what fanning one out costs, over the share of the machine that it may take.
    fn spacing(&self) -> Duration {
        let clients = u32::try_from(self.ring.clients()).unwrap_or(u32::MAX);
        let cost = self.settings.delivery_cost * clients;
        let spacing = cost.div_f64(self.settings.fanout_share * f64::from(self.settings.cores));
        // Below a millisecond the timer costs more than it saves.
        let spacing = if spacing < Duration::from_millis(1) {
            Duration::ZERO
        } else {
            spacing
        };
        self.state.spacing(spacing);
        spacing
    }
}

/// Why nothing of an epoch is shown whose schema is not known.
pub(crate) const UNDESCRIBED: &str =
    "the store does not say what the rows of this epoch are made of; a later epoch is waited for";

pub(crate) fn held(hold: Option<Hold>) -> String {
    match hold {
        None | Some(Hold::Done) => String::new(),
        Some(Hold::NoCut) => "no full cut was read yet".to_owned(),
        Some(Hold::Reading(bucket)) => format!("bucket {bucket} has not been read up to the cut"),
        Some(Hold::Forked(bucket)) => {
            format!("bucket {bucket} contradicts its chain; it waits for a Replace")
        }
        Some(Hold::CutForked) => {
            "two cuts of one version differ; a newer full cut ends it".to_owned()
        }
        Some(Hold::Sum) => "the buckets do not add up to the cut's digest".to_owned(),
        Some(Hold::Uncontained) => {
            "a new epoch does not contain what is shown; it is waited for".to_owned()
        }
    }
}
