//! The reader's loop: steps in, flushes out, scans and chores beside them.
//!
//! Nothing in the loop waits for the store or the source but the futures that it selects on: a slow disk makes no
//! late flush.

mod findings;
mod runs;
mod scans;

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::future::{BoxFuture, FutureExt as _, OptionFuture};
use onair_log::{Durability, EventLog, Flush, LogError};
use onair_model::parts::split;
use onair_model::plant::{Bug, failpoint, planted};
use onair_store::ShardStore;
use onair_store::checkpoint::{Checkpoint, FeedCheckpoint, Fingerprint, Held};
use onair_store::lease::HeldLease;
use onair_store::runs::Drift;
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use self::findings::Finding;
use self::runs::Current;
use self::scans::{Purpose, Scanning};
use crate::change::{KeyChange, Step};
use crate::chores::{self, Chores, Done};
use crate::clock;
use crate::config::ReaderConfig;
use crate::reader::{Before, Begun, Common, Ended};
use crate::resume::{Cause, remember};
use crate::runs::{INTERRUPTED, Report};
use crate::scan::{Scan, ScanError, Window};
use crate::sequence::{CutKind, Sequence};
use crate::source::Source;
use crate::status::{Phase, Status};
use crate::stream::{Stream, StreamError};

/// Steps taken from the stream before flushes and chores are looked at again.
const DRAIN_MAX: usize = 256;

/// Bytes of keys and rows in one log entry; larger records go in parts.
const PART_BYTES: usize = 512 << 10;

/// Checkpoints that wait for the heads to pass them.
const CANDIDATES_MAX: usize = 64;

/// What the loop works with.
#[derive(Clone, Copy)]
pub(crate) struct Resources<'a> {
    pub(crate) config: &'a ReaderConfig,
    pub(crate) source: &'a Arc<dyn Source>,
    pub(crate) log: &'a Arc<dyn EventLog>,
    pub(crate) store: &'a Arc<dyn ShardStore>,
    pub(crate) status: &'a watch::Sender<Status>,
}

pub(crate) struct Steady<'a> {
    with: Resources<'a>,
    common: Common,
    stream: Stream,
    sequence: Sequence,
    prints: VecDeque<Fingerprint>,
    /// Set while the epoch has not been stated yet: nothing is flushed.
    opening: Option<Vec<Vec<Option<Before>>>>,
    scan: Option<Scanning>,
    /// When every feed is to be scanned again.
    scan_due: Option<Instant>,
    /// What a scan found different, until it is taken.
    finding: Option<Finding>,
    /// Feeds whose finding an operator approved while the epoch opens.
    approved: BTreeSet<usize>,
    /// Looks up by rows what a finding is; empty when that is done.
    explaining: JoinSet<Result<Drift, String>>,
    /// The run of the scan under way, or of the finding.
    run: Option<Current>,
    /// Runs that this reader is through with, until they are saved.
    parting: Vec<Report>,
    flush: Option<BoxFuture<'static, Result<(), LogError>>>,
    flush_begun: Instant,
    full_wanted: bool,
    /// The state that the flush under way makes durable.
    flushing: Option<Checkpoint>,
    candidates: VecDeque<Checkpoint>,
    lease: Option<HeldLease>,
    checkpoint: Option<Held<Checkpoint>>,
    chores: Option<BoxFuture<'static, Result<Done, Ended>>>,
    forks: u32,
    xa_since: Option<Instant>,
    scanned: Arc<AtomicU64>,
    counts: Counts,
}

/// Keys that came on air, changed and went off air since the last tick.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    on: u64,
    changed: u64,
    off: u64,
}

impl Counts {
    fn take(&mut self, change: &KeyChange) {
        match (&change.before, &change.after) {
            (None, _) => self.on += 1,
            (Some(_), Some(_)) => self.changed += 1,
            (Some(_), None) => self.off += 1,
        }
    }
}

enum Event {
    Flushed(Result<(), LogError>),
    Tick,
    Chores(Box<Result<Done, Ended>>),
    Scanned(Result<Vec<Scan>, ScanError>),
    Explained(Result<Result<Drift, String>, JoinError>),
    Due,
    Step(Result<Step, StreamError>),
}

impl<'a> Steady<'a> {
    pub(crate) fn new(with: Resources<'a>, begun: Begun, lease: HeldLease) -> Self {
        let Begun {
            common,
            stream,
            sequence,
            prints,
            opening,
        } = begun;
        Steady {
            with,
            checkpoint: common.checkpoint.clone(),
            common,
            stream,
            sequence,
            prints,
            opening,
            scan: None,
            scan_due: runs::next_due(with.config.settings.scan_period),
            finding: None,
            approved: BTreeSet::new(),
            explaining: JoinSet::new(),
            run: None,
            parting: Vec::new(),
            flush: None,
            flush_begun: Instant::now() - with.config.settings.flush_interval,
            full_wanted: true,
            flushing: None,
            candidates: VecDeque::new(),
            lease: Some(lease),
            chores: None,
            forks: 0,
            xa_since: None,
            scanned: Arc::default(),
            counts: Counts::default(),
        }
    }

    /// Runs until something ends it. In this order: stop, what was flushed, the second's tick, chores, a scan's end,
    /// what a finding is, a flush that is due, the stream.
    pub(crate) async fn run(mut self, shutdown: &CancellationToken) -> Ended {
        if self.opening.is_some() {
            self.begin_scan(Purpose::Opening, (0..self.common.feeds.len()).collect());
        } else {
            self.say(Phase::Following, "");
        }
        let mut tick = tokio::time::interval(self.with.config.settings.full_cut_every);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let due = self.flush_due();
            let may_read = self.sequence.pending_bytes() < self.with.config.settings.pending_max;
            let scanning = self.scan.as_mut().and_then(|scan| scan.running.as_mut());
            let event = tokio::select! {
                biased;
                () = shutdown.cancelled() => return self.finish().await,
                Some(done) = OptionFuture::from(self.flush.as_mut()) => Event::Flushed(done),
                _ = tick.tick() => Event::Tick,
                Some(done) = OptionFuture::from(self.chores.as_mut()) => Event::Chores(Box::new(done)),
                Some(done) = OptionFuture::from(scanning) => Event::Scanned(done),
                Some(done) = self.explaining.join_next() => Event::Explained(done),
                () = tokio::time::sleep_until(due.unwrap_or(self.flush_begun)), if due.is_some() => Event::Due,
                step = self.stream.next(), if may_read => Event::Step(step),
            };
            if let Err(ended) = self.handle(event).await {
                self.part(&ended).await;
                return ended;
            }
        }
    }

    async fn handle(&mut self, event: Event) -> Result<(), Ended> {
        match event {
            Event::Flushed(done) => {
                self.flush = None;
                done?;
                let known = |candidate: &Checkpoint| {
                    self.checkpoint
                        .as_ref()
                        .is_some_and(|held| !candidate.replaces(&held.value))
                };
                if let Some(candidate) = self.flushing.take().filter(|candidate| !known(candidate))
                {
                    if self.candidates.len() == CANDIDATES_MAX {
                        self.candidates.pop_front();
                    }
                    self.candidates.push_back(candidate);
                }
            }
            Event::Tick => self.tick()?,
            Event::Chores(done) => {
                self.chores = None;
                self.chores_done((*done)?).await?;
            }
            Event::Scanned(found) => {
                let found = found?;
                self.scanned(found);
            }
            Event::Explained(done) => self.explained(done).await?,
            Event::Due => {}
            Event::Step(step) => {
                self.take(step?)?;
                for _ in 0..DRAIN_MAX {
                    match self.stream.try_next()? {
                        Some(step) => self.take(step)?,
                        None => break,
                    }
                }
            }
        }
        self.use_scan().await?;
        self.flush_if_due();
        Ok(())
    }

    fn take(&mut self, step: Step) -> Result<(), Ended> {
        match step {
            Step::Transaction(transaction) => {
                remember(&mut self.prints, &transaction);
                let changes = transaction.changes.iter().flat_map(|(_, changes)| changes);
                changes.for_each(|change| self.counts.take(change));
                if let Some(scan) = &mut self.scan {
                    Window::touch_all(&scan.feeds, &mut scan.windows, &transaction.changes);
                }
                if let Some(finding) = &mut self.finding {
                    Window::touch_all(&finding.feeds, &mut finding.windows, &transaction.changes);
                }
                self.sequence
                    .attest(clock::not_ahead(transaction.commit_time));
                self.sequence.stands_at(self.stream.place());
                self.sequence
                    .transaction(transaction)
                    .map_err(|full| Ended::Epoch(full.into()))
            }
            Step::Barrier { gtid, reason } => {
                let executed = self.sequence.executed();
                Err(Ended::Epoch(Cause::barrier(reason, executed, gtid)))
            }
            Step::Heartbeat => {
                self.sequence.attest(clock::unix_micros());
                Ok(())
            }
        }
    }

    // --- flushes

    fn flush_due(&self) -> Option<Instant> {
        let waits = self.opening.is_none() && self.flush.is_none() && self.sequence.has_pending();
        waits.then(|| self.flush_begun + self.with.config.settings.flush_interval)
    }

    fn flush_if_due(&mut self) {
        if self.opening.is_some() || self.flush.is_some() {
            return;
        }
        if self.full_wanted {
            self.full_wanted = false;
            self.begin_flush(CutKind::Full);
        } else if self.flush_due().is_some_and(|due| due <= Instant::now()) {
            self.begin_flush(CutKind::Partial);
        }
    }

    fn begin_flush(&mut self, kind: CutKind) {
        let flushes = self.sequence.flush(kind);
        if kind == CutKind::Full {
            self.flushing = self.candidate();
        }
        self.append(flushes);
    }

    /// Appends after whatever is under way.
    fn append(&mut self, flushes: Vec<Flush>) {
        failpoint("flush");
        self.flush_begun = Instant::now();
        let before = self.flush.take();
        let log = Arc::clone(self.with.log);
        let run = async move {
            if let Some(before) = before {
                before.await?;
            }
            for flush in flushes {
                log.append(in_parts(flush)).await?;
            }
            Ok(())
        }
        .boxed();
        self.flush = Some(run);
    }

    /// The state as it is now, for a checkpoint; none while a prepared XA transaction is open, whose rows are known
    /// only from before.
    fn candidate(&mut self) -> Option<Checkpoint> {
        if self.stream.has_open_xa() && !planted(Bug::CheckpointPastXa) {
            return None;
        }
        Some(Checkpoint {
            version: self.sequence.version(),
            commit_time: self.sequence.commit_time(),
            executed: self.sequence.executed().clone(),
            server: self.common.now.server.clone(),
            plan: self.common.plan,
            lost_tail: self.sequence.lost_tail(),
            feeds: self
                .common
                .feeds
                .iter()
                .enumerate()
                .map(|(index, feed)| {
                    let mark = self.sequence.mark(index);
                    FeedCheckpoint {
                        feed: Arc::clone(&feed.config.name),
                        buckets: mark
                            .buckets
                            .iter()
                            .map(|bucket| (bucket.d, bucket.sum))
                            .collect(),
                        gtid: mark.gtid,
                        proven: mark.proven,
                        log: Arc::clone(&self.common.logs[index]),
                    }
                })
                .collect(),
            fingerprints: self.prints.iter().copied().collect(),
        })
    }

    // --- chores

    fn tick(&mut self) -> Result<(), Ended> {
        self.full_wanted = self.opening.is_none();
        let counts = std::mem::take(&mut self.counts);
        self.with.status.send_modify(|status| {
            status.version = Some(self.sequence.version());
            status.scanned = self.scanned.load(Ordering::Relaxed);
            status.on += counts.on;
            status.changed += counts.changed;
            status.off += counts.off;
        });
        if self.stream.has_open_xa() {
            let since = *self.xa_since.get_or_insert_with(Instant::now);
            if since.elapsed() > self.with.config.settings.xa_patience {
                return Err(Ended::Epoch(Cause::XaStays));
            }
        } else {
            self.xa_since = None;
        }
        self.bound_windows();
        if self.chores.is_none()
            && let Some(lease) = self.lease.take()
        {
            let durable = self.with.log.durability() == Durability::Durable;
            if planted(Bug::CheckpointUnacknowledged) {
                let present = self.candidate();
                self.candidates.extend(present);
            }
            let candidates = if durable {
                self.candidates.drain(..).next_back().into_iter().collect()
            } else {
                self.candidates.iter().cloned().collect()
            };
            let chores = Chores {
                source: Arc::clone(&self.with.config.source),
                feeds: self
                    .common
                    .feeds
                    .iter()
                    .map(|feed| Arc::clone(&feed.config.name))
                    .collect(),
                beat: !self.with.config.settings.lease_patience.is_zero(),
                lease,
                durable,
                candidates,
                checkpoint: self.checkpoint.clone(),
                asks: self.may_restate(),
                errand: self.errand(),
            };
            self.chores = Some(chores::run(Arc::clone(self.with.store), chores).boxed());
        }
        Ok(())
    }

    /// Whether a scan for the merger may begin: a paused one gives way to it.
    fn may_restate(&self) -> bool {
        let gives_way = self.scan.as_ref().is_none_or(|_| self.is_paused());
        self.opening.is_none() && self.finding.is_none() && gives_way
    }

    async fn chores_done(&mut self, done: Done) -> Result<(), Ended> {
        self.lease = Some(done.lease);
        if done.saved.is_some() {
            self.checkpoint.clone_from(&done.saved);
        }
        if let Some(Held { value: saved, .. }) = &self.checkpoint {
            self.candidates
                .retain(|candidate| !saved.executed.contains_set(&candidate.executed));
            let version = saved.version;
            self.with
                .status
                .send_modify(|status| status.checkpoint = Some(version));
        }
        self.brought(done.brought).await?;
        if done.requests.is_empty() || !self.may_restate() {
            return Ok(());
        }
        if done
            .requests
            .iter()
            .any(|request| request.held.value == "fork")
        {
            self.forks += 1;
            if self.forks > 1 {
                return Err(Ended::Epoch(Cause::SecondFork));
            }
        }
        let mut feeds: Vec<usize> = done.requests.iter().map(|request| request.feed).collect();
        feeds.dedup();
        info!(
            requests = done.requests.len(),
            "the merger asks for buckets again"
        );
        if self.scan.is_some() {
            self.give_up_scan("the merger needed a scan meanwhile");
        }
        self.begin_scan(Purpose::Restate(done.requests), feeds);
        Ok(())
    }

    /// Everything delivered goes to the log before we end.
    async fn finish(mut self) -> Ended {
        if self.opening.is_none() {
            let flushes = self.sequence.flush(CutKind::Full);
            self.append(flushes);
            if let Some(flush) = self.flush.take()
                && let Err(error) = flush.await
            {
                warn!(error = %error, "the last flush is not in the log; the next start derives it again");
            }
        }
        self.part(&Ended::Shutdown).await;
        self.release().await;
        Ended::Shutdown
    }

    /// Gives the lease up, so that a standby need not wait until it lapses.
    async fn release(&mut self) {
        if let Some(chores) = self.chores.take() {
            self.lease = chores.await.ok().map(|done| done.lease);
        }
        if let Some(lease) = self.lease.take()
            && let Err(error) = lease.release(&**self.with.store).await
        {
            warn!(error = %error, "the lease could not be given up; a standby waits until it lapses");
        }
    }

    fn say(&self, phase: Phase, detail: &str) {
        self.with.status.send_modify(|status| {
            status.phase = phase;
            detail.clone_into(&mut status.detail);
        });
    }
}

/// A flush whose large records are cut into parts.
fn in_parts(flush: Flush) -> Flush {
    let Flush { feed, records, cut } = flush;
    let records = records
        .into_iter()
        .flat_map(|(bucket, record)| {
            split(record, PART_BYTES)
                .into_iter()
                .map(move |part| (bucket, part))
        })
        .collect();
    Flush { feed, records, cut }
}
