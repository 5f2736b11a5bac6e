//! The reader's life: lease, resume or open, follow; again after every break.
//!
//! One recovery path: first start, failover, purge, drift, new predicate are all "open an epoch, stream from now, scan,
//! `Replace`". It runs every time OnAir starts on an empty store.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use onair_log::{Durability, EventLog, Layout, LogError};
use onair_model::cut::{Taken, admit};
use onair_model::schema::Schema;
use onair_model::{Digest, Epoch, GtidSet, Lineage, Sum, Version};
use onair_store::cells::{Moved, move_cell, random_id};
use onair_store::checkpoint::{self, CellValue as _, Checkpoint, EpochState, Held};
use onair_store::epoch::{self, Burned};
use onair_store::head::Head;
use onair_store::lease::{HeldLease, Standby, Step};
use onair_store::schema::FeedSchema;
use onair_store::{CellKey, HistoryLine, ShardStore, StoreError, columns, index, schema};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::assemble::{AssembleError, Assembler};
use crate::bind::{BindError, FieldNumbers, bind};
use crate::clock;
use crate::config::ReaderConfig;
use crate::feed::Feed;
use crate::resume::{self, Cause, Past, ReplayError};
use crate::scan::ScanError;
use crate::sequence::{Begin, BucketMark, FeedMark, Sequence};
use crate::source::{Identity, Source, SourceError};
use crate::status::{Phase, Status};
use crate::steady::{Resources, Steady};
use crate::stream::{Stream, StreamError};

/// First and longest wait between two attempts.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));

/// How often a server is asked whether it has committed what its dump has shown.
const COMMIT_LOOKS: Duration = Duration::from_millis(20);

/// How often a standby looks at the lease.
const STANDBY_LOOKS: Duration = Duration::from_millis(250);

/// A reader of one source.
pub struct Reader {
    config: ReaderConfig,
    lineage: Lineage,
    source: Arc<dyn Source>,
    log: Arc<dyn EventLog>,
    store: Arc<dyn ShardStore>,
    reader_id: u64,
    status: watch::Sender<Status>,
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

/// Why a reader ended although nobody told it to.
#[derive(Debug, thiserror::Error)]
pub enum ReaderError {
    /// The source cannot be captured as it is.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// What came over the binlog cannot be read until somebody does something.
    #[error(transparent)]
    Assemble(#[from] AssembleError),
    /// A feed does not fit its table.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The log is not the one that it should be.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The store's content cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// All epochs of the lineage are used up.
    #[error("all epochs of this lineage are used up; empty the store to begin a new lineage")]
    EpochsFull,
}

/// Why a session ended.
#[derive(Debug)]
pub(crate) enum Ended {
    /// We were told to stop.
    Shutdown,
    /// The epoch is over.
    Epoch(Cause),
    /// Another reader holds the lease now.
    LeaseLost,
    /// Something outside does not work: try again.
    Retry(String),
    /// Nothing helps until somebody does something.
    Final(ReaderError),
}

impl From<StoreError> for Ended {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unavailable { .. }
            | StoreError::Unknown { .. }
            | StoreError::Full { .. } => Ended::Retry(error.to_string()),
            error => Ended::Final(error.into()),
        }
    }
}

impl From<LogError> for Ended {
    fn from(error: LogError) -> Self {
        match error {
            LogError::Mismatch { .. } => Ended::Final(error.into()),
            error => Ended::Retry(error.to_string()),
        }
    }
}

impl From<SourceError> for Ended {
    fn from(error: SourceError) -> Self {
        match error {
            SourceError::Purged { .. } => Ended::Epoch(Cause::PurgedAtSource(error.to_string())),
            error if error.is_final() => Ended::Final(error.into()),
            error => Ended::Retry(error.to_string()),
        }
    }
}

impl From<StreamError> for Ended {
    fn from(error: StreamError) -> Self {
        match error {
            StreamError::Source(error) => error.into(),
            StreamError::Assemble(error) if error.is_final() => Ended::Final(error.into()),
            StreamError::Assemble(error) => Ended::Retry(error.to_string()),
        }
    }
}

impl From<ScanError> for Ended {
    fn from(error: ScanError) -> Self {
        match error {
            ScanError::Source(error) => error.into(),
            error @ ScanError::Misfit { .. } => {
                Ended::Epoch(Cause::AlteredInScan(error.to_string()))
            }
        }
    }
}

impl Reader {
    /// Puts a reader together; it does nothing yet.
    pub fn new(
        config: ReaderConfig,
        lineage: Lineage,
        source: Arc<dyn Source>,
        log: Arc<dyn EventLog>,
        store: Arc<dyn ShardStore>,
    ) -> Self {
        Reader {
            config,
            lineage,
            source,
            log,
            store,
            reader_id: random_id() as u64,
            status: watch::Sender::default(),
        }
    }

    /// What it says of itself.
    pub fn status(&self) -> watch::Receiver<Status> {
        self.status.subscribe()
    }

    /// Binds the feeds to their tables as they are now, with the field numbers that the store keeps.
    pub async fn bind(&self) -> Result<Vec<Arc<Feed>>, ReaderError> {
        let mut feeds = Vec::with_capacity(self.config.feeds.len());
        for config in &self.config.feeds {
            let table = self.source.table(&config.table).await?;
            let mut bound = None;
            let give = |known: &BTreeMap<String, u32>| {
                let (feed, numbers) = bind(config, &table, &FieldNumbers(known.clone()))?;
                bound = Some(Arc::new(feed));
                Ok::<_, ReaderError>(numbers.0)
            };
            columns::ensure(&*self.store, &config.name, give).await?;
            feeds.extend(bound);
        }
        Ok(feeds)
    }

    /// Runs until `shutdown`, or until nothing helps but somebody's doing.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), ReaderError> {
        let mut backoff = BACKOFF.0;
        let mut cause = None;
        loop {
            let ended = tokio::select! {
                biased;
                () = shutdown.cancelled() => Ended::Shutdown,
                lease = self.acquire() => match lease {
                    Ok(lease) => self.session(lease, &mut cause, &shutdown, &mut backoff).await,
                    Err(ended) => ended,
                },
            };
            match ended {
                Ended::Shutdown => {
                    self.say(Phase::Stopped, "told to stop");
                    return Ok(());
                }
                Ended::Final(error) => {
                    self.say(Phase::Stopped, &error.to_string());
                    return Err(error);
                }
                Ended::Epoch(next) => {
                    warn!(reason = %next, lost_tail = next.lost_tail(), "the epoch is over");
                    cause = Some(next);
                }
                Ended::LeaseLost => warn!("another reader holds the lease now"),
                Ended::Retry(reason) => {
                    warn!(reason, "reading begins again");
                    self.say(Phase::Connecting, &reason);
                    tokio::select! {
                        biased;
                        () = shutdown.cancelled() => {}
                        () = tokio::time::sleep(backoff) => {}
                    }
                    backoff = (backoff * 2).min(BACKOFF.1);
                }
            }
        }
    }

    fn say(&self, phase: Phase, detail: &str) {
        self.status.send_modify(|status| {
            status.phase = phase;
            detail.clone_into(&mut status.detail);
        });
    }

    /// Takes the lease, at once when it is free or ours, else when its holder has stood still for long enough.
    async fn acquire(&self) -> Result<HeldLease, Ended> {
        let settings = &self.config.settings;
        let mut standby = Standby::new(
            &self.config.source,
            self.reader_id,
            settings.holder.clone(),
            settings.lease_patience,
        );
        loop {
            match standby.step(&*self.store).await? {
                Step::Taken(lease) => return Ok(lease),
                Step::Waiting(other) => {
                    let holder =
                        other.map_or_else(String::new, |lease| format!("{} reads", lease.holder));
                    self.say(Phase::Standby, &holder);
                    tokio::time::sleep(STANDBY_LOOKS).await;
                }
            }
        }
    }

    /// One connection to the source: resume or open, then follow until it ends. A cause stays until its epoch is open.
    async fn session(
        &self,
        lease: HeldLease,
        cause: &mut Option<Cause>,
        shutdown: &CancellationToken,
        backoff: &mut Duration,
    ) -> Ended {
        let begun = tokio::select! {
            biased;
            () = shutdown.cancelled() => return Ended::Shutdown,
            begun = self.begin(cause.clone()) => begun,
        };
        match begun {
            Ok(begun) => {
                *backoff = BACKOFF.0;
                *cause = None;
                let resources = Resources {
                    config: &self.config,
                    source: &self.source,
                    log: &self.log,
                    store: &self.store,
                    status: &self.status,
                };
                Box::pin(Steady::new(resources, begun, lease).run(shutdown)).await
            }
            Err(ended) => ended,
        }
    }

    async fn begin(&self, cause: Option<Cause>) -> Result<Begun, Ended> {
        self.say(Phase::Connecting, "");
        let feeds = match self.bind().await {
            Ok(feeds) => feeds,
            // It was there when the process started: between DROP and CREATE, or a RENAME in two statements. What is
            // held stays, and ages, until it is back.
            Err(ReaderError::Source(error @ SourceError::NoTable { .. })) => {
                return Err(Ended::Retry(error.to_string()));
            }
            Err(ReaderError::Source(error)) => return Err(error.into()),
            Err(ReaderError::Store(error)) => return Err(error.into()),
            Err(error) => return Err(Ended::Final(error)),
        };
        let mut taken = Vec::with_capacity(feeds.len());
        let mut logs: Vec<Arc<str>> = Vec::with_capacity(feeds.len());
        for feed in &feeds {
            let layout = Layout {
                feed: Arc::clone(&feed.config.name),
                buckets: feed.config.buckets,
            };
            let id = self.log.open(&layout).await?;
            logs.push(match self.log.durability() {
                Durability::Durable => id.0,
                Durability::Volatile => "".into(),
            });
            let mut held = None;
            for cut in self.log.last_cuts(&feed.config.name).await? {
                admit(self.lineage, feed.config.buckets.count(), &mut held, &cut);
            }
            taken.push(held);
        }
        let plan = resume::plan(&feeds);
        let key = CellKey::Checkpoint(Arc::clone(&self.config.source));
        let checkpoint = checkpoint::read::<Checkpoint>(&*self.store, &key).await?;
        if let Some(held) = &checkpoint {
            same_logs(&held.value, plan, &logs)?;
        }
        let key = CellKey::Epoch(Arc::clone(&self.config.source));
        let epoch = checkpoint::read::<EpochState>(&*self.store, &key).await?;
        let barrier = cause.as_ref().and_then(Cause::delivered);
        let shown = taken.iter().flatten().map(|taken| &*taken.executed);
        let delivered: Vec<&GtidSet> = shown.chain(barrier).collect();
        let now = self.identity(&delivered).await?;
        let lost_tail = !delivered.iter().all(|set| now.executed.contains_set(set));
        let common = Common {
            feeds,
            plan,
            now,
            checkpoint: checkpoint.clone(),
            logs,
            taken,
        };
        let past = Past {
            checkpoint: checkpoint.as_ref().map(|held| &held.value),
            epoch: epoch.as_ref().map(|held| &held.value),
            taken: &common.taken,
            plan,
        };
        let judged = match cause {
            Some(cause) if lost_tail => Err(cause.with_loss()),
            Some(cause) => Err(cause),
            None => resume::judge(past, &common.now).cloned(),
        };
        let cause = match judged {
            Ok(checkpoint) => match self.resume(&common, &checkpoint).await {
                Ok((stream, sequence, prints)) => {
                    for feed in &common.feeds {
                        // The plan is the same, so it can only be missing: in a store of an older release.
                        let held = schema::held(&*self.store, &feed.config.name).await?;
                        self.describe(feed, sequence.version().epoch(), held)
                            .await?;
                    }
                    return Ok(Begun {
                        common,
                        stream,
                        sequence,
                        prints,
                        opening: None,
                    });
                }
                // It is to begin after what was just read.
                Err(ReplayError::Epoch(cause)) if cause.delivered().is_some() => {
                    return Err(Ended::Epoch(cause));
                }
                Err(ReplayError::Epoch(cause)) => cause,
                Err(ReplayError::Stream(StreamError::Source(
                    error @ SourceError::Purged { .. },
                ))) => Cause::PurgedAtSource(error.to_string()),
                Err(ReplayError::Stream(error)) => return Err(error.into()),
            },
            Err(cause) => cause,
        };
        self.open(common, epoch, cause).await
    }

    /// Who the source is now, once it counts as executed what it still has of `delivered`: a dump shows a transaction
    /// before that, and one that is neither executed nor being committed is lost.
    async fn identity(&self, delivered: &[&GtidSet]) -> Result<Identity, SourceError> {
        loop {
            let now = self.source.identity().await?;
            let mut awaited = delivered.iter().map(|set| set.minus(&now.executed));
            let Some(missing) =
                awaited.find(|missing| !missing.is_empty() && now.in_flight.contains_set(missing))
            else {
                return Ok(now);
            };
            self.say(
                Phase::Connecting,
                &format!("the server is still committing {missing}"),
            );
            tokio::time::sleep(COMMIT_LOOKS).await;
        }
    }

    async fn resume(
        &self,
        common: &Common,
        checkpoint: &Checkpoint,
    ) -> Result<
        (
            Stream,
            Sequence,
            VecDeque<onair_store::checkpoint::Fingerprint>,
        ),
        ReplayError,
    > {
        self.say(Phase::Resuming, &format!("from {}", checkpoint.version));
        let marks = common.feeds.iter().map(|feed| {
            let name = Arc::clone(&feed.config.name);
            let held = checkpoint.feeds.iter().find(|held| held.feed == name)?;
            let buckets = held
                .buckets
                .iter()
                .map(|(d, sum)| BucketMark { d: *d, sum: *sum })
                .collect();
            Some((
                name,
                feed.config.buckets,
                FeedMark {
                    buckets,
                    gtid: held.gtid,
                    proven: held.proven,
                },
            ))
        });
        let Some(feeds) = marks.collect::<Option<Vec<_>>>() else {
            // The plan's hash has the feeds in it: only a damaged checkpoint comes here.
            return Err(ReplayError::Epoch(Cause::PartialCheckpoint));
        };
        let mut sequence = Sequence::new(Begin {
            lineage: self.lineage,
            reader_id: self.reader_id,
            version: checkpoint.version,
            commit_time: checkpoint.commit_time,
            executed: checkpoint.executed.clone(),
            lost_tail: checkpoint.lost_tail,
            feeds,
        });
        sequence.attest(clock::not_ahead(checkpoint.commit_time));
        let (from, expected) = resume::rewind(checkpoint, &common.now.purged);
        let mut stream = self
            .stream(common, &from)
            .await
            .map_err(|error| ReplayError::Stream(error.into()))?;
        let mut prints: VecDeque<_> = checkpoint.fingerprints.iter().copied().collect();
        resume::replay(
            &mut stream,
            &mut sequence,
            expected,
            &mut prints,
            &common.taken,
            &common.now.executed,
        )
        .await?;
        info!(checkpoint = %checkpoint.version, version = %sequence.version(), "the epoch goes on");
        Ok((stream, sequence, prints))
    }

    async fn stream(&self, common: &Common, from: &GtidSet) -> Result<Stream, SourceError> {
        let events = self.source.follow(from).await?;
        let feeds: Arc<[Arc<Feed>]> = common.feeds.clone().into();
        let now = &common.now;
        let assembler = Assembler::new(feeds, now.dialect, self.config.settings.limits)
            .with_metadata(now.metadata)
            .with_beginning(from.clone(), now.executed.clone());
        Ok(Stream::new(events, assembler))
    }

    /// Burns the next epoch and follows the stream from now; the scan runs beside it.
    async fn open(
        &self,
        common: Common,
        burned: Option<Held<EpochState>>,
        cause: Cause,
    ) -> Result<Begun, Ended> {
        self.say(Phase::Opening, &cause.to_string());
        let mut highest = burned.as_ref().map_or(Epoch::NONE, |held| held.value.epoch);
        for taken in common.taken.iter().flatten() {
            highest = highest.max(taken.version.epoch());
        }
        let mut before = Vec::with_capacity(common.feeds.len());
        for (feed, taken) in common.feeds.iter().zip(&common.taken) {
            let held = self.before(feed, taken.as_ref()).await?;
            highest = held
                .iter()
                .flatten()
                .map(|mark| mark.epoch)
                .fold(highest, Epoch::max);
            before.push(held);
        }
        let epoch = highest
            .next()
            .ok_or(Ended::Final(ReaderError::EpochsFull))?;
        let from = beginning(&common.now, &cause);
        let mut described = Vec::with_capacity(common.feeds.len());
        for feed in &common.feeds {
            described.push(schema::held(&*self.store, &feed.config.name).await?);
        }
        let state = EpochState {
            epoch,
            server: common.now.server.clone(),
            executed: from.clone(),
            plan: common.plan,
            reason: cause.to_string(),
        };
        burn(&*self.store, &self.config.source, burned.as_ref(), &state).await?;
        onair_model::plant::failpoint("epoch opening");
        for (feed, held) in common.feeds.iter().zip(described) {
            self.describe(feed, epoch, held).await?;
        }
        info!(%epoch, reason = %cause, lost_tail = cause.lost_tail(), "an epoch is opened");
        self.status.send_modify(|status| status.epochs += 1);
        let nothing = BucketMark {
            d: epoch.start(),
            sum: Sum {
                digest: Digest::EMPTY,
                count: 0,
            },
        };
        let sequence = Sequence::new(Begin {
            lineage: self.lineage,
            reader_id: self.reader_id,
            version: epoch.start(),
            commit_time: 0,
            executed: from.clone(),
            lost_tail: cause.lost_tail(),
            feeds: common
                .feeds
                .iter()
                .map(|feed| {
                    let buckets = vec![nothing; feed.config.buckets.count()];
                    (
                        Arc::clone(&feed.config.name),
                        feed.config.buckets,
                        FeedMark {
                            buckets,
                            gtid: None,
                            proven: None,
                        },
                    )
                })
                .collect(),
        });
        let stream = self.stream(&common, &from).await?;
        Ok(Begun {
            common,
            stream,
            sequence,
            prints: VecDeque::new(),
            opening: Some(before),
        })
    }

    /// Writes a feed's schema unless it stands. What stood was read before the epoch was burned, so that only the reader
    /// that burned the newest one can.
    async fn describe(
        &self,
        feed: &Feed,
        epoch: Epoch,
        held: Option<Held<FeedSchema>>,
    ) -> Result<(), Ended> {
        let new = FeedSchema {
            since: epoch,
            schema: Schema::clone(&feed.schema),
            buckets: feed.config.buckets,
        };
        let same = |held: &Held<FeedSchema>| {
            held.value.schema == new.schema && held.value.buckets == new.buckets
        };
        if held.as_ref().is_some_and(same) {
            return Ok(());
        }
        if let Some(held) = &held {
            // Rows of its epochs can be read for a while. A line too many says nothing wrong.
            let line = HistoryLine {
                at: clock::unix_micros(),
                id: random_id(),
                value: index::Entry::Schema(held.value.clone()).to_bytes(),
            };
            self.store.write_history(&feed.config.name, line).await?;
        }
        let key = CellKey::Schema(Arc::clone(&feed.config.name));
        let expect = held.map(|held| held.token);
        match move_cell(&*self.store, &key, expect, new.to_bytes()).await? {
            Moved::Won(_) => Ok(()),
            Moved::Lost(_) => Err(Ended::LeaseLost),
        }
    }

    /// What each bucket was before, by its head in the store, as far as the log's last cut agrees that it is the newest.
    async fn before(
        &self,
        feed: &Feed,
        taken: Option<&Taken>,
    ) -> Result<Vec<Option<Before>>, Ended> {
        let mut before = Vec::with_capacity(feed.config.buckets.count());
        for bucket in feed.config.buckets.all() {
            let key = CellKey::Head(Arc::clone(&feed.config.name), bucket);
            let head = match self.store.cell(&key).await? {
                Some(cell) => Head::from_bytes(&feed.config.name, &cell.value).ok(),
                None => None,
            };
            before.push(head.map(|head| Before {
                epoch: head.state.epoch,
                d: head.state.d,
                sum: Sum {
                    digest: head.state.digest,
                    count: head.state.count,
                },
                newest:
                    taken.is_some_and(|taken| {
                        taken.vector.get(bucket.index()) == Some(&head.state.d)
                    }),
            }));
        }
        Ok(before)
    }
}

/// Refuses logs that are not those that the checkpoint's records stand in, made for the same plan: what is shown may be
/// in the others, and only a person knows what became of them.
fn same_logs(checkpoint: &Checkpoint, plan: u64, logs: &[Arc<str>]) -> Result<(), LogError> {
    if checkpoint.plan != plan {
        return Ok(());
    }
    let other = checkpoint
        .feeds
        .iter()
        .zip(logs)
        .find(|(feed, log)| !feed.log.is_empty() && !log.is_empty() && feed.log != **log);
    match other {
        None => Ok(()),
        Some((feed, log)) => Err(LogError::Mismatch {
            feed: Arc::clone(&feed.feed),
            reason: format!(
                "it is {log}, and the checkpoint at {} is of {}: the topic was deleted and made again, or this is another \
                 cluster",
                checkpoint.version, feed.log
            ),
            remedy: "name the right brokers; if the log is meant to be another one now, run `onair re-derive`: the next epoch \
                     opens with a full scan, and clients get what really changed"
                .into(),
        }),
    }
}

/// Where a new epoch's stream begins: a beginning of the binlog, with all that was delivered before.
fn beginning(now: &Identity, cause: &Cause) -> GtidSet {
    let mut from = now.executed.before(&now.in_flight);
    from.union(&now.purged);
    if let Some(delivered) = cause.delivered() {
        from.union(delivered);
    }
    from
}

/// A bucket's head in the store when an epoch opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Before {
    pub(crate) epoch: Epoch,
    pub(crate) d: Version,
    pub(crate) sum: Sum,
    /// Nothing newer of it is in the log.
    pub(crate) newest: bool,
}

/// What a session knows of source and feeds.
#[derive(Debug)]
pub(crate) struct Common {
    pub(crate) feeds: Vec<Arc<Feed>>,
    pub(crate) plan: u64,
    pub(crate) now: Identity,
    pub(crate) checkpoint: Option<Held<Checkpoint>>,
    /// Which log each feed has, empty where that ends with the process.
    pub(crate) logs: Vec<Arc<str>>,
    pub(crate) taken: Vec<Option<Taken>>,
}

/// A session that is ready to follow.
#[derive(Debug)]
pub(crate) struct Begun {
    pub(crate) common: Common,
    pub(crate) stream: Stream,
    pub(crate) sequence: Sequence,
    pub(crate) prints: VecDeque<onair_store::checkpoint::Fingerprint>,
    /// The epoch is new: what the buckets were before.
    pub(crate) opening: Option<Vec<Vec<Option<Before>>>>,
}

/// Burns an epoch: from here on its number is used, whatever happens.
pub(crate) async fn burn(
    store: &dyn ShardStore,
    source: &Arc<str>,
    held: Option<&Held<EpochState>>,
    state: &EpochState,
) -> Result<(), Ended> {
    match epoch::burn(store, source, held, state).await? {
        Burned::Ours(_) => Ok(()),
        Burned::Taken(_) => Err(Ended::LeaseLost),
    }
}
