//! What scans are for: a new epoch's content, the proof that all is well, buckets that the merger asked for, and drift.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures_util::future::{BoxFuture, FutureExt as _};
use onair_model::plant::{Bug, failpoint, planted};
use onair_model::{Body, Bucket, Digest, Sum};
use onair_store::CellKey;
use onair_store::checkpoint::{EpochState, read};
use tokio::time::Instant;
use tracing::{error, info, warn};

use super::Steady;
use crate::chores::{self, Request};
use crate::clock;
use crate::reader::{Ended, ReaderError, burn};
use crate::scan::{self, Scan, ScanError, Sorted, Window, sort};
use crate::sequence::CutKind;
use crate::status::Phase;

/// Digest and rows that scans have and the chain lacks, by feed and bucket.
pub(super) type Drift = Vec<(usize, Vec<(Digest, i64)>)>;

/// A scan under way, or done and waiting for the stream.
pub(super) struct Scanning {
    pub(super) purpose: Purpose,
    pub(super) feeds: Vec<usize>,
    pub(super) windows: Vec<Window>,
    pub(super) running: Option<BoxFuture<'static, Result<Vec<Scan>, ScanError>>>,
    pub(super) found: Vec<Scan>,
}

#[derive(Debug)]
pub(super) enum Purpose {
    /// The epoch's first content.
    Opening,
    /// To see that all is well.
    Reconcile,
    /// The merger asked for buckets of a feed.
    Restate(Vec<Request>),
}

impl Steady<'_> {
    pub(super) fn begin_scan(&mut self, purpose: Purpose, feeds: Vec<usize>) {
        failpoint("scan");
        let source = Arc::clone(self.with.source);
        let settings = self.with.config.settings.scan;
        let delivered = self.sequence.executed().clone();
        self.scanned.store(0, Ordering::Relaxed);
        let progress = Arc::clone(&self.scanned);
        let wanted: Vec<_> = feeds
            .iter()
            .map(|feed| Arc::clone(&self.common.feeds[*feed]))
            .collect();
        let running = async move {
            let mut found = Vec::with_capacity(wanted.len());
            for feed in wanted {
                found.push(
                    scan::scan(
                        &*source,
                        feed,
                        delivered.clone(),
                        settings,
                        Arc::clone(&progress),
                    )
                    .await?,
                );
            }
            Ok(found)
        };
        if !self.held {
            let phase = if matches!(purpose, Purpose::Opening) {
                Phase::Opening
            } else {
                Phase::Following
            };
            self.say(phase, "scanning");
        }
        self.scan_due = self
            .with
            .config
            .settings
            .scan_period
            .map(|period| Instant::now() + period);
        self.scan = Some(Scanning {
            purpose,
            windows: feeds.iter().map(|_| Window::open()).collect(),
            feeds,
            running: Some(running.boxed()),
            found: Vec::new(),
        });
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
    fn opened(&mut self, contents: Vec<(usize, Sorted)>) -> Result<(), Ended> {
        let Some(before) = self.opening.take() else {
            return Ok(());
        };
        let mut flushes = Vec::new();
        let agreed = self.held
            && contents
                .iter()
                .all(|(feed, sorted)| self.sums(*feed) == sorted.sums);
        for (feed, sorted) in &contents {
            let held = &before[*feed];
            let sums: Vec<Sum> = held
                .iter()
                .zip(&sorted.sums)
                .map(|(held, now)| held.map_or(*now, |held| held.sum))
                .collect();
            let checked = self.with.config.settings.guard.check(&sums, &sorted.sums);
            if let (Err(blast), false) = (checked, agreed) {
                let name = &self.common.feeds[*feed].config.name;
                error!(feed = %name, before = blast.before, after = blast.after, "the scan would take too many rows away: held until another scan agrees");
                self.say(
                    Phase::Held,
                    &format!(
                        "feed {name}: a scan leaves {} of {} rows; another one must agree",
                        blast.after, blast.before
                    ),
                );
                for (feed, sorted) in &contents {
                    self.sequence.settle(*feed, &sorted.sums);
                }
                self.held = true;
                self.opening = Some(before);
                self.begin_scan(Purpose::Opening, (0..self.common.feeds.len()).collect());
                return Ok(());
            }
        }
        self.held = false;
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
        self.say(Phase::Following, "");
        let proofs = self.common.feeds.len() as u64;
        self.with
            .status
            .send_modify(|status| status.proofs += proofs);
        Ok(())
    }

    fn sums(&self, feed: usize) -> Vec<Sum> {
        self.sequence
            .mark(feed)
            .buckets
            .iter()
            .map(|bucket| bucket.sum)
            .collect()
    }

    /// What scans have that the chain lacks, by feed and bucket. It stays the same while transactions come: they change
    /// both sides by the same rows, before and after.
    fn drift(&self, contents: &[(usize, Sorted)]) -> Drift {
        let apart = |(scan, chain): (&Sum, Sum)| {
            let rows = scan.count as i64 - chain.count as i64;
            (scan.digest.minus(chain.digest), rows)
        };
        contents
            .iter()
            .map(|(feed, sorted)| {
                let chain = self.sums(*feed);
                (*feed, sorted.sums.iter().zip(chain).map(apart).collect())
            })
            .collect()
    }

    /// Compares what scans found with the chain; states requested buckets again.
    async fn compared(
        &mut self,
        contents: Vec<(usize, Sorted)>,
        requests: &[Request],
    ) -> Result<(), Ended> {
        let drifted = contents
            .iter()
            .position(|(feed, sorted)| self.sums(*feed) != sorted.sums);
        if drifted.is_some() {
            return self.drifted(contents).await;
        }
        self.held = false;
        self.drift = None;
        self.say(Phase::Following, "");
        let at = clock::unix_micros();
        let mut flushes = self.sequence.flush(CutKind::Partial);
        for (feed, sorted) in contents {
            self.sequence.prove(feed, at);
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

    /// The table is not what the chain says: the epoch was false. The next one opens from this same scan.
    async fn drifted(&mut self, contents: Vec<(usize, Sorted)>) -> Result<(), Ended> {
        let drift = self.drift(&contents);
        for (feed, sorted) in &contents {
            let name = &self.common.feeds[*feed].config.name;
            let now = self.sums(*feed);
            let buckets = now
                .iter()
                .zip(&sorted.sums)
                .filter(|(chain, scan)| chain != scan)
                .count();
            if buckets > 0 {
                error!(feed = %name, buckets, version = %self.sequence.version(), "drift: the table is not what the chain says");
            }
            if let Err(blast) = self.with.config.settings.guard.check(&now, &sorted.sums)
                && self.drift.as_ref() != Some(&drift)
            {
                error!(feed = %name, before = blast.before, after = blast.after, "the scan would take too many rows away: held until another scan agrees");
                self.held = true;
                self.drift = Some(drift);
                self.say(
                    Phase::Held,
                    &format!(
                        "feed {name}: a scan leaves {} of {} rows; another one must agree",
                        blast.after, blast.before
                    ),
                );
                self.begin_scan(Purpose::Reconcile, (0..self.common.feeds.len()).collect());
                return Ok(());
            }
        }
        self.held = false;
        self.drift = None;
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
        let at = clock::unix_micros();
        let mut contents: Vec<Option<Sorted>> = {
            let mut by_feed: Vec<Option<Sorted>> = self.common.feeds.iter().map(|_| None).collect();
            for (feed, sorted) in contents {
                by_feed[feed] = Some(sorted);
            }
            by_feed
        };
        for (feed, marks) in marks.iter().enumerate() {
            let mut found = contents[feed].take();
            if let Some(sorted) = &found {
                self.sequence.settle(feed, &sorted.sums);
                self.sequence.prove(feed, at);
            }
            let bodies = self.common.feeds[feed].config.buckets.all().map(|bucket| {
                let mark = marks.buckets[bucket.index()];
                let body = match &mut found {
                    Some(sorted) if sorted.sums[bucket.index()] != mark.sum => Body::Replace {
                        d: epoch.start(),
                        rows: std::mem::take(&mut sorted.buckets[bucket.index()]),
                    },
                    _ => Body::Carry { old: mark.d },
                };
                (bucket, body)
            });
            let bodies = bodies.collect();
            flushes.push(self.sequence.restate(feed, bodies));
        }
        self.candidates.clear();
        self.flushing = self.candidate();
        self.append(flushes);
        self.say(Phase::Following, "");
        Ok(())
    }
}
