//! The run that the reader is at: what it reports, and what operators wish of it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use onair_store::cells::random_id;
use onair_store::checkpoint::Held;
use onair_store::runs::{self, Asked, Origin, Run, Saved, State, Wish};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::{info, warn};

use super::{INTERRUPTED, Purpose, Steady};
use crate::clock;
use crate::reader::Ended;
use crate::runs::{Brought, Errand, Name, Report};
use crate::scan::Window;
use crate::status::Phase;

/// Keys that the stream may touch beside a paused scan, or beside what the guard holds, before that is given up.
const WINDOW_KEYS_MAX: usize = 1 << 20;

/// The run under way.
pub(super) struct Current {
    pub(super) report: Report,
    /// Its feed.
    pub(super) feed: usize,
    /// What stands in the store, as far as we know.
    stands: Option<Run>,
}

/// A period from now, give or take a tenth: not all readers of a house scan at once.
pub(super) fn next_due(period: Option<Duration>) -> Option<Instant> {
    let share = f64::from(random_id() as u32) / f64::from(u32::MAX);
    period.map(|period| Instant::now() + period.mul_f64(0.9 + 0.2 * share))
}

impl Steady<'_> {
    fn holder(&self) -> &str {
        &self.with.config.settings.holder
    }

    /// What the next chores do with the rows of runs.
    pub(super) fn errand(&mut self) -> Errand {
        let mut reports = std::mem::take(&mut self.parting);
        let scanned = self.scanned.load(Ordering::Relaxed);
        let is_reading = self
            .scan
            .as_ref()
            .is_some_and(|scan| scan.running.is_some());
        if let Some(current) = &mut self.run {
            if is_reading {
                current.report.run.rows_scanned = scanned;
            }
            if current.stands.as_ref() != Some(&current.report.run) {
                reports.push(current.report.clone());
            }
        }
        let is_due =
            self.opening.is_none() && self.scan_due.is_some_and(|due| due <= Instant::now());
        if is_due {
            self.scan_due = next_due(self.with.config.settings.scan_period);
        }
        let names = self.common.feeds.iter().map(|feed| &feed.config.name);
        Errand {
            reader: self.holder().to_owned(),
            feeds: names.map(Arc::clone).collect(),
            reports,
            current: self.run.as_ref().map(Current::name),
            is_due,
            is_idle: self.is_idle(),
            window: self.with.config.settings.history_window,
        }
    }

    fn is_idle(&self) -> bool {
        self.run.is_none()
            && self.scan.is_none()
            && self.opening.is_none()
            && self.finding.is_none()
    }

    /// Whether the scan under way is held by an operator.
    pub(super) fn is_paused(&self) -> bool {
        let of_run = self.run.as_ref().map(|current| current.report.run.state);
        of_run == Some(State::Paused)
    }

    /// Takes what the chores found out about runs.
    pub(super) async fn brought(&mut self, brought: Brought) -> Result<(), Ended> {
        match brought {
            Brought::Nothing => Ok(()),
            Brought::Taken(held) => {
                let name = &held.value.feed;
                let of_name = |feed: &Arc<crate::feed::Feed>| feed.config.name == *name;
                if let Some(feed) = self.common.feeds.iter().position(of_name) {
                    self.begin_run(feed, held);
                }
                Ok(())
            }
            Brought::TakenAway(name) => {
                if let Some(current) = self.run.take_if(|current| current.name() == name) {
                    warn!(feed = %current.report.run.feed, run = %current.report.run.id, "the run was taken away");
                    self.drop_work();
                }
                Ok(())
            }
            Brought::Ours(held) => {
                let name = (Arc::clone(&held.value.feed), Arc::clone(&held.value.id));
                let Some(current) = self.run.as_mut().filter(|current| current.name() == name)
                else {
                    return Ok(());
                };
                current.report.token = Some(held.token);
                let wish = held.value.wish;
                current.stands = Some(held.value);
                match wish {
                    Some(wish) => self.obey(wish).await,
                    None => Ok(()),
                }
            }
        }
    }

    fn begin_run(&mut self, feed: usize, held: Held<Run>) {
        let Held { token, value } = held;
        let mut run = value.clone();
        run.rows_expected = self.sequence.sum(feed).count;
        info!(feed = %run.feed, run = %run.id, origin = run.origin.name(), dry_run = run.dry_run, detail = run.detail, "a run begins");
        self.run = Some(Current {
            report: Report {
                token: Some(token),
                run,
            },
            feed,
            stands: Some(value),
        });
        self.begin_scan(Purpose::Reconcile, vec![feed]);
    }

    /// The run of what was found in a feed; one is made where there is none.
    pub(super) fn run_for(&mut self, feed: usize, origin: Origin) -> &mut Run {
        if let Some(current) = self.run.as_ref().filter(|current| current.feed != feed) {
            // While an epoch opens: it waits for all of its feeds.
            let detail = match self.approved.contains(&current.feed) {
                true => "approved; the epoch waits for another feed",
                false => "not held any more; the epoch waits for another feed",
            };
            self.end_run(State::Done, detail);
        }
        let (holder, now) = (self.holder().to_owned(), clock::unix_micros());
        let name = &self.common.feeds[feed].config.name;
        let scanned = self.scanned.load(Ordering::Relaxed);
        let current = self.run.get_or_insert_with(|| {
            let asked = Asked {
                feed: Arc::clone(name),
                origin,
                dry_run: false,
                rate_max: None,
            };
            let mut run = Run::new(asked, now);
            run.begin(&holder, now);
            run.rows_scanned = scanned;
            Current {
                report: Report { token: None, run },
                feed,
                stands: None,
            }
        });
        &mut current.report.run
    }

    /// The run, if there is one, is over.
    pub(super) fn end_run(&mut self, state: State, detail: &str) {
        let Some(Current { mut report, .. }) = self.run.take() else {
            return;
        };
        let run = &mut report.run;
        run.end(state, clock::unix_micros());
        if !detail.is_empty() {
            detail.clone_into(&mut run.detail);
        }
        info!(feed = %run.feed, run = %run.id, state = run.state.name(), buckets = run.drift_before, detail = run.detail, "a run is over");
        self.parting.push(report);
    }

    /// Does what an operator wishes.
    async fn obey(&mut self, wish: Wish) -> Result<(), Ended> {
        let Some(current) = &mut self.run else {
            return Ok(());
        };
        let run = &mut current.report.run;
        run.wish = None;
        info!(feed = %run.feed, run = %run.id, wish = wish.name(), "an operator wishes");
        match wish {
            Wish::Pause => {
                let reading = self.scan.as_ref().filter(|scan| scan.running.is_some());
                if let (Some(scan), State::Running) = (reading, run.state) {
                    scan.gate.send_replace(false);
                    run.state = State::Paused;
                }
            }
            Wish::Resume => {
                if let (Some(scan), State::Paused) = (&self.scan, run.state) {
                    scan.gate.send_replace(true);
                    run.state = State::Running;
                }
            }
            Wish::Cancel if self.opening.is_none() => {
                self.end_run(State::Cancelled, "");
                self.drop_work();
            }
            Wish::Approve if run.state == State::Held => return self.approve().await,
            Wish::Cancel | Wish::Approve => {}
        }
        Ok(())
    }

    /// Forgets the scan and what it found; an epoch that opens goes on.
    fn drop_work(&mut self) {
        if self.opening.is_none() {
            self.scan = None;
            self.finding = None;
            self.explaining = JoinSet::new();
            self.say(Phase::Following, "");
        }
    }

    /// A paused scan is ended, its run waits to be resumed and begins again then.
    pub(super) fn give_up_scan(&mut self, why: &str) {
        self.scan = None;
        if let Some(Current { mut report, .. }) = self.run.take() {
            report.run.detail = format!("{INTERRUPTED}{why}");
            self.parting.push(report);
        }
    }

    /// Gives up what would need more memory for the changes beside it than it is worth.
    pub(super) fn bound_windows(&mut self) {
        let too_many =
            |windows: &[Window]| windows.iter().map(Window::len).sum::<usize>() > WINDOW_KEYS_MAX;
        if self.is_paused()
            && self
                .scan
                .as_ref()
                .is_some_and(|scan| too_many(&scan.windows))
        {
            let why = format!("while it was paused, more than {WINDOW_KEYS_MAX} rows changed");
            self.give_up_scan(&why);
        }
        if let Some(finding) = self.finding.as_mut().filter(|finding| finding.held)
            && too_many(&finding.windows)
        {
            finding.forget_content();
        }
    }

    /// Before the session ends: what its run should say meanwhile.
    pub(super) async fn part(&mut self, ended: &Ended) {
        let why = match ended {
            // Whoever has it now says what becomes of the run.
            Ended::LeaseLost => return,
            Ended::Shutdown => "the reader was told to stop".to_owned(),
            Ended::Epoch(cause) => cause.to_string(),
            Ended::Retry(reason) => reason.clone(),
            Ended::Final(error) => error.to_string(),
        };
        if let Some(Current { mut report, .. }) = self.run.take() {
            report.run.detail = format!("{INTERRUPTED}{why}");
            self.parting.push(report);
        }
        for Report { token, run } in std::mem::take(&mut self.parting) {
            let (feed, id) = (Arc::clone(&run.feed), Arc::clone(&run.id));
            match runs::save(&**self.with.store, token, run).await {
                Ok(Saved::Yes(_) | Saved::TakenAway) => {}
                Err(error) => {
                    warn!(%feed, run = %id, error = %error, "how a run is could not be saved; whoever takes it begins it again");
                }
            }
        }
    }
}

impl Current {
    /// Feed and id.
    fn name(&self) -> Name {
        let run = &self.report.run;
        (Arc::clone(&run.feed), Arc::clone(&run.id))
    }
}
