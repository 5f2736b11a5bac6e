//! What a scan found different from the chain, from when it is found until it is taken.
//!
//! A finding waits for one or two things: that its rows are looked up in the store, for the report; and, where it would
//! take too many rows away, that a second scan finds the same or an operator approves. The scan's content is kept for
//! so long, and a window gathers what the stream changes: so what is taken in the end is what was found, and nothing else.

use std::sync::Arc;

use onair_model::{Digest, Sum, Version};
use onair_store::runs::{Drift, Origin, State};
use tokio::task::{JoinError, JoinSet};
use tracing::{error, info, warn};

use super::{Purpose, Steady};
use crate::explain::{Apart, HASTE, PATIENCE, explain};
use crate::reader::{Before, Ended};
use crate::scan::{Blast, Content, Sorted, Window, sort};
use crate::status::Phase;

/// A finding, until it is taken.
pub(super) struct Finding {
    /// One feed, or all of them while an epoch opens.
    pub(super) feeds: Vec<usize>,
    /// What the scan gave, in the same order; empty when it was forgotten.
    contents: Vec<Content>,
    /// What the stream changed since.
    pub(super) windows: Vec<Window>,
    /// What a second scan must find to agree; empty while an epoch opens, where sums tell.
    apart: Vec<(Digest, i64)>,
    /// It would take too much away.
    pub(super) held: bool,
}

/// Digest and rows that the scan has and the chain lacks, by bucket. Transactions that touch none of the rows that
/// differ leave it as it is: so two scans can be said to have found the same.
fn apart(chain: &[Sum], scan: &[Sum]) -> Vec<(Digest, i64)> {
    let one = |(scan, chain): (&Sum, &Sum)| {
        let rows = scan.count as i64 - chain.count as i64;
        (scan.digest.minus(chain.digest), rows)
    };
    scan.iter().zip(chain).map(one).collect()
}

/// Buckets that differ.
fn differing(chain: &[Sum], scan: &[Sum]) -> u32 {
    let differ = chain.iter().zip(scan).filter(|(chain, scan)| chain != scan);
    differ.count() as u32
}

impl Finding {
    fn new(feeds: Vec<usize>, contents: Vec<Content>, apart: Vec<(Digest, i64)>) -> Self {
        Finding {
            windows: feeds.iter().map(|_| Window::open()).collect(),
            feeds,
            contents,
            apart,
            held: false,
        }
    }

    /// Frees its memory. From now on only a second scan can have it taken.
    pub(super) fn forget_content(&mut self) {
        self.contents.clear();
        self.windows = self.feeds.iter().map(|_| Window::open()).collect();
    }
}

impl Steady<'_> {
    /// The table is not what the chain says.
    pub(super) async fn differs(&mut self, feed: usize, sorted: Sorted) -> Result<(), Ended> {
        let chain = self.sums(feed);
        let (apart, buckets) = (apart(&chain, &sorted.sums), differing(&chain, &sorted.sums));
        let name = Arc::clone(&self.common.feeds[feed].config.name);
        let version = self.sequence.version();
        error!(feed = %name, buckets, %version, "drift: the table is not what the chain says");
        let before = self.finding.take();
        let is_agreed =
            before.is_some_and(|before| before.feeds == [feed] && before.apart == apart);
        let run = self.run_for(feed, Origin::Merger);
        let is_dry = run.dry_run;
        run.compared = Some(version);
        (run.drift_before, run.drift_after) = (buckets, buckets);
        if !is_agreed {
            let marks = self.sequence.mark(feed).buckets;
            let versions = marks.iter().map(|mark| Some(mark.d)).collect();
            self.look_up(feed, (versions, &chain), &sorted);
        }
        let blast = self.with.config.settings.guard.check(&chain, &sorted.sums);
        let mut finding = Finding::new(vec![feed], vec![sorted.into_content()], apart);
        match blast {
            Err(blast) if is_dry => {
                let text = format!("a run that is not dry would be held: {}", loss(&blast));
                self.run_for(feed, Origin::Merger).detail = text;
            }
            Err(blast) if !is_agreed => {
                finding.held = true;
                self.finding = Some(finding);
                self.hold(feed, &blast);
                self.begin_scan(Purpose::Reconcile, vec![feed]);
                return Ok(());
            }
            Err(_) => {
                self.run_for(feed, Origin::Merger).detail =
                    "taken: a second scan found the same".to_owned();
            }
            Ok(()) => {}
        }
        self.finding = Some(finding);
        self.take_finding().await
    }

    /// Holds the opening of an epoch: nothing is stated yet.
    pub(super) fn hold_opening(
        &mut self,
        (feed, blast): (usize, &Blast),
        before: Vec<Vec<Option<Before>>>,
        contents: Vec<(usize, Sorted)>,
    ) {
        let version = self.sequence.version();
        for (of, sorted) in &contents {
            self.sequence.settle(*of, &sorted.sums);
            if *of == feed {
                let held: Vec<Sum> = sums_before(&before[feed], &sorted.sums);
                let buckets = differing(&held, &sorted.sums);
                let run = self.run_for(feed, Origin::Epoch);
                run.compared = Some(version);
                (run.drift_before, run.drift_after) = (buckets, buckets);
                run.rows_expected = held.iter().map(|sum| sum.count).sum();
                let versions = before[feed].iter().map(|held| held.map(|held| held.d));
                self.look_up(feed, (versions.collect(), &held), sorted);
            }
        }
        let (feeds, contents) = contents
            .into_iter()
            .map(|(feed, sorted)| (feed, sorted.into_content()))
            .unzip();
        self.opening = Some(before);
        self.finding = Some(Finding {
            held: true,
            ..Finding::new(feeds, contents, Vec::new())
        });
        self.hold(feed, blast);
        self.begin_scan(Purpose::Opening, (0..self.common.feeds.len()).collect());
    }

    fn hold(&mut self, feed: usize, blast: &Blast) {
        let name = Arc::clone(&self.common.feeds[feed].config.name);
        error!(feed = %name, before = blast.before, after = blast.after, "the scan would take too many rows away: held until another scan agrees");
        let text = format!(
            "{}; another one must agree, or somebody approve",
            loss(blast)
        );
        let run = self.run_for(feed, Origin::Merger);
        run.state = State::Held;
        run.detail.clone_from(&text);
        self.say(Phase::Held, &format!("feed {name}: {text}"));
    }

    /// Begins to look up by rows what differs: `versions` and `sums` are the feed's, `None` where it has nothing.
    fn look_up(
        &mut self,
        feed: usize,
        (versions, sums): (Vec<Option<Version>>, &[Sum]),
        sorted: &Sorted,
    ) {
        let buckets = self.common.feeds[feed].config.buckets.all();
        let apart = buckets.zip(versions).filter_map(|(bucket, d)| {
            let at = bucket.index();
            (sums[at] != sorted.sums[at]).then_some(Apart {
                bucket,
                d: d?,
                rows: sorted.buckets[at].clone(),
            })
        });
        let apart = apart.collect();
        let name = Arc::clone(&self.common.feeds[feed].config.name);
        let mut patience = PATIENCE;
        if let Some(current) = &mut self.run {
            current.report.run.drift = None;
            if current.report.run.origin == Origin::Merger {
                patience = HASTE;
            }
        }
        // What was looked up for another finding is not wanted any more.
        self.explaining = JoinSet::new();
        let store = Arc::clone(self.with.store);
        self.explaining.spawn(explain(store, name, apart, patience));
    }

    /// What differs is known by rows now, or why it cannot be.
    pub(super) async fn explained(
        &mut self,
        done: Result<Result<Drift, String>, JoinError>,
    ) -> Result<(), Ended> {
        let done = done.unwrap_or_else(|error| Err(format!("the look-up ended: {error}")));
        if let Some(current) = &mut self.run {
            let run = &mut current.report.run;
            match done {
                Ok(drift) => run.drift = Some(drift),
                Err(why) => {
                    warn!(feed = %run.feed, run = %run.id, why, "drift cannot be told by rows");
                    let separator = if run.detail.is_empty() { "" } else { "; " };
                    run.detail = format!("{}{separator}{why}", run.detail);
                }
            }
        }
        self.take_finding().await
    }

    /// Takes the finding, unless it waits for something.
    async fn take_finding(&mut self) -> Result<(), Ended> {
        let ready = |finding: &mut Finding| !finding.held && self.explaining.is_empty();
        let Some(finding) = self.finding.take_if(ready) else {
            return Ok(());
        };
        let is_dry = self.run.as_ref().is_some_and(|run| run.report.run.dry_run);
        if is_dry {
            self.end_run(State::Done, "");
            self.say(Phase::Following, "");
            return Ok(());
        }
        let merged = finding.contents.into_iter().zip(finding.windows);
        let Some((feed, (content, window))) = finding.feeds.into_iter().zip(merged).next() else {
            return Ok(());
        };
        let sorted = sort(&self.common.feeds[feed], window.merge(content));
        let sums = sorted.sums.clone();
        self.open_from(feed, sorted).await?;
        let after = differing(&self.sums(feed), &sums);
        let proven = self.sequence.mark(feed).proven;
        if let Some(current) = &mut self.run {
            current.report.run.drift_after = after;
            current.report.run.proven = proven;
        }
        self.end_run(State::Done, "");
        Ok(())
    }

    /// An operator lets through what was found, and nothing else.
    pub(super) async fn approve(&mut self) -> Result<(), Ended> {
        let Some(finding) = &mut self.finding else {
            return Ok(());
        };
        let Some(current) = &mut self.run else {
            return Ok(());
        };
        let run = &mut current.report.run;
        if finding.contents.is_empty() {
            run.detail = "approved, but too much has changed since to keep what was found: the scan under way \
                          must find the same"
                .to_owned();
            return Ok(());
        }
        info!(feed = %run.feed, run = %run.id, "what the guard held is approved");
        run.state = State::Running;
        run.detail = "taken: it was approved".to_owned();
        let feed = current.feed;
        self.scan = None;
        if self.opening.is_none() {
            finding.held = false;
            return self.take_finding().await;
        }
        let Some(finding) = self.finding.take() else {
            return Ok(());
        };
        self.approved.insert(feed);
        let merged = finding.contents.into_iter().zip(finding.windows);
        let contents = finding.feeds.into_iter().zip(merged);
        let contents: Vec<(usize, Sorted)> = contents
            .map(|(feed, (content, window))| {
                let sorted = sort(&self.common.feeds[feed], window.merge(content));
                (feed, sorted)
            })
            .collect();
        self.opened(contents)
    }

    /// A scan agreed with the chain: the run, if it is one's, is over.
    pub(super) fn agreed(&mut self, feed: usize) {
        let proven = self.sequence.mark(feed).proven;
        let Some(current) = self.run.as_mut().filter(|current| current.feed == feed) else {
            return;
        };
        let run = &mut current.report.run;
        let was_held = run.state == State::Held;
        run.compared = proven.map(|proven| proven.version);
        run.proven = proven;
        (run.drift_before, run.drift_after) = (0, 0);
        run.drift = Some(Drift::default());
        let detail = match was_held {
            true => "what was held is gone: a second scan found no difference",
            false => "",
        };
        self.end_run(State::Done, detail);
    }

    /// The epoch is open: its run, if the guard held it, is over.
    pub(super) fn epoch_opened(&mut self) {
        self.approved.clear();
        let Some(current) = &mut self.run else {
            return;
        };
        let proven = self.sequence.mark(current.feed).proven;
        let run = &mut current.report.run;
        run.drift_after = 0;
        run.proven = proven;
        if run.state == State::Held {
            run.detail = "taken: a second scan found the same".to_owned();
        }
        self.end_run(State::Done, "");
    }
}

/// What the feed had before an epoch; what the scan has where nothing is known.
pub(super) fn sums_before(before: &[Option<Before>], now: &[Sum]) -> Vec<Sum> {
    let one = |(held, now): (&Option<Before>, &Sum)| held.map_or(*now, |held| held.sum);
    before.iter().zip(now).map(one).collect()
}

fn loss(blast: &Blast) -> String {
    format!("a scan leaves {} of {} rows", blast.after, blast.before)
}
