//! What scans are for: a new epoch's content, the proof that all is well, buckets that the merger asked for, and drift.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures_util::future::{BoxFuture, FutureExt as _};
use onair_model::plant::{Bug, failpoint, planted};
use onair_model::{Body, Bucket, Sum};
use onair_store::CellKey;
use onair_store::checkpoint::{EpochState, read};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::{info, warn};

use super::Steady;
use super::findings::sums_before;
use crate::chores::{self, Request};
use crate::clock;
use crate::reader::{Ended, ReaderError, burn};
use crate::scan::{self, Control, Scan, ScanError, Sorted, Window, sort};
use crate::sequence::CutKind;
use crate::source::Gate;
use crate::status::Phase;

/// A scan under way, or done and waiting for the stream.
pub(super) struct Scanning {
    pub(super) purpose: Purpose,
    pub(super) feeds: Vec<usize>,
    pub(super) windows: Vec<Window>,
    pub(super) running: Option<BoxFuture<'static, Result<Vec<Scan>, ScanError>>>,
    pub(super) found: Vec<Scan>,
    /// Shut while its run is paused.
    pub(super) gate: watch::Sender<bool>,
}

#[derive(Debug)]
pub(super) enum Purpose {
    /// The epoch's first content.
    Opening,
    /// To see that all is well with the feed of the run.
    Reconcile,
    /// The merger asked for buckets of a feed.
    Restate(Vec<Request>),
}

impl Steady<'_> {
    pub(super) fn begin_scan(&mut self, purpose: Purpose, feeds: Vec<usize>) {
        failpoint("scan");
        let source = Arc::clone(self.with.source);
        let mut settings = self.with.config.settings.scan;
        let wanted = self.run.as_ref().and_then(|run| run.report.run.rate_max);
        if let (Purpose::Reconcile, Some(wanted)) = (&purpose, wanted) {
            let most = settings.max_rate.unwrap_or(u64::MAX);
            settings.max_rate = Some(most.min(wanted.get()));
        }
        let delivered = self.sequence.executed().clone();
        self.scanned.store(0, Ordering::Relaxed);
        let gate = watch::Sender::new(true);
        let control = Control {
            progress: Arc::clone(&self.scanned),
            gate: Gate::of(&gate),
        };
        let wanted: Vec<_> = feeds
            .iter()
            .map(|feed| Arc::clone(&self.common.feeds[*feed]))
            .collect();
        let running = async move {
            let mut found = Vec::with_capacity(wanted.len());
            for feed in wanted {
                found.push(
                    scan::scan(&*source, feed, delivered.clone(), settings, control.clone())
                        .await?,
                );
            }
            Ok(found)
        };
        if self.finding.is_none() {
            let phase = if matches!(purpose, Purpose::Opening) {
                Phase::Opening
            } else {
                Phase::Following
            };
            self.say(phase, "scanning");
        }
        self.scan = Some(Scanning {
            purpose,
            windows: feeds.iter().map(|_| Window::open()).collect(),
            feeds,
            running: Some(running.boxed()),
            found: Vec::new(),
            gate,
        });
    }

    /// The source has given all rows.
    pub(super) fn scanned(&mut self, found: Vec<Scan>) {
        let Some(scan) = &mut self.scan else {
            return;
        };
        if let Some(current) = &mut self.run {
            let run = &mut current.report.run;
            run.rows_scanned = found.iter().map(|scan| scan.rows.len() as u64).sum();
            run.database += found
                .iter()
                .map(|scan| scan.busy)
                .sum::<std::time::Duration>();
            run.database_bytes += found.iter().map(|scan| scan.bytes).sum::<u64>();
        }
        scan.running = None;
        scan.found = found;
    }

    /// Uses a finished scan once the stream has delivered everything that it may show.
    pub(super) async fn use_scan(&mut self) -> Result<(), Ended> {
        let Some(scan) = &mut self.scan else {
            return Ok(());
        };
        if scan.running.is_some() {
            return Ok(());
        }
        let reached = scan
            .found
            .iter()
            .all(|found| self.sequence.executed().contains_set(&found.high));
        if planted(Bug::WindowClosedAtHigh) {
            scan.windows.iter_mut().for_each(Window::reached_high);
        }
        if !reached {
            return Ok(());
        }
        let Some(scan) = self.scan.take() else {
            return Ok(());
        };
        let mut contents = Vec::with_capacity(scan.feeds.len());
        for ((feed, window), found) in scan.feeds.iter().zip(scan.windows).zip(scan.found) {
            if found.replaced > 0 {
                warn!(feed = %self.common.feeds[*feed].config.name, values = found.replaced, "text with bytes that its character set does not have is shown as U+FFFD");
            }
            contents.push((
                *feed,
                sort(&self.common.feeds[*feed], window.merge(found.rows)),
            ));
        }
        match scan.purpose {
            Purpose::Opening => self.opened(contents),
            Purpose::Reconcile => self.compared(contents, &[]).await,
            Purpose::Restate(requests) => self.compared(contents, &requests).await,
        }
    }

    /// States the new epoch's content.
    pub(super) fn opened(&mut self, contents: Vec<(usize, Sorted)>) -> Result<(), Ended> {
        let Some(before) = self.opening.take() else {
            return Ok(());
        };
        let mut flushes = Vec::new();
        let agreed = self.finding.take().is_some()
            && contents
                .iter()
                .all(|(feed, sorted)| self.sums(*feed) == sorted.sums);
        let guard = self.with.config.settings.guard;
        let blast = contents.iter().find_map(|(feed, sorted)| {
            let sums = sums_before(&before[*feed], &sorted.sums);
            let blast = guard.check(&sums, &sorted.sums).err()?;
            (!agreed && !self.approved.contains(feed)).then_some((*feed, blast))
        });
        if let Some((feed, blast)) = blast {
            self.hold_opening((feed, &blast), before, contents);
            return Ok(());
        }
        let at = clock::unix_micros();
        for (feed, sorted) in contents {
            self.sequence.settle(feed, &sorted.sums);
            self.sequence.prove(feed, at);
            let marks = self.sequence.mark(feed);
            let start = self.sequence.version().epoch().start();
            let bodies = self.common.feeds[feed]
                .config
                .buckets
                .all()
                .zip(sorted.buckets)
                .map(|(bucket, rows)| {
                    let mark = marks.buckets[bucket.index()];
                    let carried = before[feed][bucket.index()]
                        .filter(|held| held.newest && held.sum == mark.sum && mark.d == start);
                    let body = match carried {
                        Some(held) => Body::Carry { old: held.d },
                        None => Body::Replace { d: mark.d, rows },
                    };
                    (bucket, body)
                });
            let bodies = bodies.collect();
            flushes.push(self.sequence.restate(feed, bodies));
        }
        failpoint("epoch stated");
        self.flushing = self.candidate();
        self.append(flushes);
        self.epoch_opened();
        self.say(Phase::Following, "");
        let proofs = self.common.feeds.len() as u64;
        self.with
            .status
            .send_modify(|status| status.proofs += proofs);
        Ok(())
    }

    pub(super) fn sums(&self, feed: usize) -> Vec<Sum> {
        self.sequence
            .mark(feed)
            .buckets
            .iter()
            .map(|bucket| bucket.sum)
            .collect()
    }

    /// Compares what scans found with the chain; states requested buckets again.
    async fn compared(
        &mut self,
        mut contents: Vec<(usize, Sorted)>,
        requests: &[Request],
    ) -> Result<(), Ended> {
        let drifted = contents
            .iter()
            .position(|(feed, sorted)| self.sums(*feed) != sorted.sums);
        if let Some(at) = drifted {
            // The other feeds' requests stand until the next scan.
            let (feed, sorted) = contents.swap_remove(at);
            return self.differs(feed, sorted).await;
        }
        self.finding = None;
        self.explaining = JoinSet::new();
        self.say(Phase::Following, "");
        let at = clock::unix_micros();
        let mut flushes = self.sequence.flush(CutKind::Partial);
        for (feed, sorted) in contents {
            self.sequence.prove(feed, at);
            self.agreed(feed);
            self.with.status.send_modify(|status| status.proofs += 1);
            let marks = self.sequence.mark(feed);
            let mut rows = sorted.buckets;
            let bodies: Vec<(Bucket, Body)> = requests
                .iter()
                .filter(|request| request.feed == feed)
                .map(|request| {
                    let rows = std::mem::take(&mut rows[request.bucket.index()]);
                    (
                        request.bucket,
                        Body::Replace {
                            d: marks.buckets[request.bucket.index()].d,
                            rows,
                        },
                    )
                })
                .collect();
            if !bodies.is_empty() {
                flushes.push(self.sequence.restate(feed, bodies));
            }
        }
        self.append(flushes);
        if !requests.is_empty() {
            chores::answered(&**self.with.store, &self.common.feeds, requests).await?;
        }
        self.full_wanted = true;
        Ok(())
    }

    /// The table is not what the chain says of a feed: the epoch was false. The next one opens from this same scan.
    pub(super) async fn open_from(&mut self, feed: usize, sorted: Sorted) -> Result<(), Ended> {
        let mut flushes = self.sequence.flush(CutKind::Partial);
        let marks: Vec<_> = (0..self.common.feeds.len())
            .map(|feed| self.sequence.mark(feed))
            .collect();
        let key = CellKey::Epoch(Arc::clone(&self.with.config.source));
        let burned = read::<EpochState>(&**self.with.store, &key).await?;
        let highest = burned
            .as_ref()
            .map_or(self.sequence.version().epoch(), |held| held.value.epoch);
        let epoch = highest
            .max(self.sequence.version().epoch())
            .next()
            .ok_or(Ended::Final(ReaderError::EpochsFull))?;
        let reason = "a scan found drift".to_owned();
        let state = EpochState {
            epoch,
            server: self.common.now.server.clone(),
            executed: self.sequence.executed().clone(),
            plan: self.common.plan,
            reason: reason.clone(),
        };
        burn(
            &**self.with.store,
            &self.with.config.source,
            burned.as_ref(),
            &state,
        )
        .await?;
        info!(%epoch, reason, "an epoch is opened");
        self.with.status.send_modify(|status| status.epochs += 1);
        self.sequence.begin_epoch(epoch, false);
        self.sequence.settle(feed, &sorted.sums);
        self.sequence.prove(feed, clock::unix_micros());
        let Sorted { mut buckets, sums } = sorted;
        for (of, marks) in marks.iter().enumerate() {
            let bodies = self.common.feeds[of].config.buckets.all().map(|bucket| {
                let at = bucket.index();
                let mark = marks.buckets[at];
                let body = if of == feed && sums[at] != mark.sum {
                    Body::Replace {
                        d: epoch.start(),
                        rows: std::mem::take(&mut buckets[at]),
                    }
                } else {
                    Body::Carry { old: mark.d }
                };
                (bucket, body)
            });
            let bodies = bodies.collect();
            flushes.push(self.sequence.restate(of, bodies));
        }
        self.candidates.clear();
        self.flushing = self.candidate();
        self.append(flushes);
        self.say(Phase::Following, "");
        Ok(())
    }
}
