//! What the roles of this process say of themselves, and what those of other processes said in the store.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use onair_cdc::status::Phase;
use onair_log::EventLog;
use onair_server::{RoleReport, Roles};
use onair_store::ShardStore;
use onair_store::status::{RoleStatus, StatusRow, said};
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tracing::warn;

/// How often roles speak, and listen.
const SPEAK: Duration = Duration::from_secs(1);

/// A row that was not renewed for this long is of a process that is no more; it is not shown.
const FORGET: Duration = Duration::from_secs(3600);

const READER: &str = "reader";
const MERGER: &str = "merger";
const SERVER: &str = "server";

/// The roles of this process.
#[derive(Clone, Debug)]
pub(crate) struct Local {
    /// What the process is called.
    pub(crate) process: Arc<str>,
    pub(crate) reader: Option<watch::Receiver<onair_cdc::status::Status>>,
    pub(crate) merger: Option<Arc<onair_merger::Status>>,
    /// Roles are asked from within the server, whose handle there is only once it was made.
    pub(crate) server: Arc<OnceLock<onair_server::Handle>>,
    pub(crate) draining: CancellationToken,
    pub(crate) log: Arc<dyn EventLog>,
}

/// A role's words, and whether it does what it is there for.
#[derive(Clone, Debug)]
pub(crate) struct Said {
    pub(crate) report: RoleReport,
    pub(crate) is_ready: bool,
}

impl Local {
    /// Every role as it is now.
    pub(crate) fn say(&self) -> Vec<Said> {
        let of_reader = self.reader.as_ref().map(|status| reader(&status.borrow()));
        let of_merger = self.merger.as_ref().map(|status| merger(status));
        let handle = self.server.get();
        let of_server = handle.map(|handle| server(handle, self.draining.is_cancelled()));
        [
            (READER, of_reader),
            (MERGER, of_merger),
            (SERVER, of_server),
        ]
        .into_iter()
        .filter_map(|(role, words)| {
            let (state, mut detail, is_ready) = words?;
            if let Some(trouble) = self.log.trouble() {
                detail.push_str("; the log: ");
                detail.push_str(&trouble);
            }
            if let Some(figures) = self.log.figures() {
                detail.push_str("; its log: ");
                detail.push_str(&figures);
            }
            Some(Said {
                report: RoleReport {
                    role: role.to_owned(),
                    state,
                    detail,
                    at: now(),
                    process: self.process.to_string(),
                },
                is_ready,
            })
        })
        .collect()
    }

    /// For the status of the service: this process, then what `others` said.
    pub(crate) fn with(&self, others: Others) -> Roles {
        let local = self.clone();
        Arc::new(move || {
            let heard = others.heard();
            let mut own: Vec<RoleReport> =
                local.say().into_iter().map(|said| said.report).collect();
            let server = own.iter_mut().find(|report| report.role == SERVER);
            if let (Some(server), Some(trouble)) = (server, heard.trouble) {
                let detail = &server.detail;
                server.detail = format!("{detail}; what others say is old: {trouble}");
            }
            own.into_iter().chain(heard.rows).collect()
        })
    }
}

type Words = (String, String, bool);

fn reader(status: &onair_cdc::status::Status) -> Words {
    let detail = match status.detail.as_str() {
        "" => format!(
            "version {}, checkpoint {}, {} scans agreed, {} epochs opened",
            at(status.version),
            at(status.checkpoint),
            status.proofs,
            status.epochs
        ),
        detail => detail.to_owned(),
    };
    let is_ready = matches!(
        status.phase,
        Phase::Standby | Phase::Following | Phase::Held
    );
    (status.phase.name().to_owned(), detail, is_ready)
}

fn merger(status: &onair_merger::Status) -> Words {
    let feeds = status.feeds();
    let in_trouble = feeds.values().any(|feed| feed.trouble.is_some());
    let waits = feeds.values().any(|feed| !feed.stopped.is_empty());
    let state = match (feeds.is_empty(), in_trouble, waits) {
        (true, ..) => "starting",
        (_, true, _) => "in trouble",
        (_, _, true) => "waiting for a Replace",
        (_, _, false) => "running",
    };
    let details = feeds.iter().map(|(feed, status)| match &status.trouble {
        Some(trouble) => format!("feed {feed}: {trouble}"),
        None => format!(
            "feed {feed}: {} buckets{}, {} heads moved, cut {}",
            status.buckets,
            if status.keeps_cuts {
                " and the cuts"
            } else {
                ""
            },
            status.folds,
            at(status.cut)
        ),
    });
    let detail = details.collect::<Vec<_>>().join("; ");
    (state.to_owned(), detail, !feeds.is_empty() && !in_trouble)
}

fn server(handle: &onair_server::Handle, is_draining: bool) -> Words {
    let feeds = handle.feeds();
    let serving = feeds.iter().filter(|feed| feed.ready).count();
    let clients: usize = feeds.iter().map(|feed| feed.clients).sum();
    let is_ready = serving == feeds.len() && !is_draining;
    let state = match (is_draining, is_ready) {
        (true, _) => "draining",
        (false, true) => "serving",
        (false, false) => "starting",
    };
    let held = feeds.iter().filter(|feed| !feed.held.is_empty());
    let held: String = held
        .map(|feed| format!("; feed {}: {}", feed.feed, feed.held))
        .collect();
    let detail = format!(
        "{serving} of {} feeds served, {clients} clients{held}",
        feeds.len()
    );
    (state.to_owned(), detail, is_ready)
}

fn at(version: Option<onair_model::Version>) -> String {
    version.map_or_else(|| "none".to_owned(), |version| version.to_string())
}

fn now() -> i64 {
    jiff::Timestamp::now().as_microsecond()
}

/// What roles of other processes said last.
#[derive(Clone, Debug, Default)]
pub(crate) struct Others(Arc<Mutex<Heard>>);

#[derive(Clone, Debug, Default)]
struct Heard {
    rows: Vec<RoleReport>,
    /// Why nothing newer could be read.
    trouble: Option<String>,
}

impl Others {
    fn heard(&self) -> Heard {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Heard> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps listening until `stop`. What cannot be read stays as it was; its time tells how old it is.
    pub(crate) async fn listen(
        self,
        store: Arc<dyn ShardStore>,
        process: Arc<str>,
        stop: CancellationToken,
    ) {
        let mut tick = every(SPEAK);
        while let Some(()) = next(&mut tick, &stop).await {
            let mut heard = Vec::new();
            let mut trouble = None;
            for role in [READER, MERGER, SERVER] {
                match said(&*store, role).await {
                    Ok(rows) => heard.extend(
                        rows.into_iter()
                            .filter(|(of, status)| *of != process && is_recent(status.at))
                            .map(|(of, status)| report(role, &of, status)),
                    ),
                    Err(error) => trouble = Some(error.to_string()),
                }
            }
            let mut now = self.lock();
            if trouble.is_none() {
                now.rows = heard;
            }
            now.trouble = trouble;
        }
    }
}

fn is_recent(at: i64) -> bool {
    let micros = i64::try_from(FORGET.as_micros()).unwrap_or(i64::MAX);
    now().saturating_sub(at) < micros
}

fn report(role: &str, process: &str, status: RoleStatus) -> RoleReport {
    RoleReport {
        role: role.to_owned(),
        state: status.state,
        detail: status.detail,
        at: status.at,
        process: process.to_owned(),
    }
}

/// Writes what this process's roles say to the store, until `stop`; then takes it away.
pub(crate) async fn speak(local: Local, store: Arc<dyn ShardStore>, stop: CancellationToken) {
    let mut rows: Vec<(String, StatusRow)> = Vec::new();
    let mut tick = every(SPEAK);
    while let Some(()) = next(&mut tick, &stop).await {
        for said in local.say() {
            let role = said.report.role;
            let at = match rows.iter().position(|(of, _)| *of == role) {
                Some(at) => at,
                None => {
                    rows.push((role.clone(), StatusRow::new(&role, &local.process)));
                    rows.len() - 1
                }
            };
            let status = RoleStatus {
                state: said.report.state,
                detail: said.report.detail,
                at: said.report.at,
            };
            if let Err(error) = rows[at].1.say(&*store, &status).await {
                warn!(role, error = %error, "the status could not be written");
            }
        }
    }
    for (role, row) in rows {
        if let Err(error) = row.leave(&*store).await {
            warn!(role, error = %error, "the status row stays behind");
        }
    }
}

fn every(period: Duration) -> tokio::time::Interval {
    let mut tick = tokio::time::interval(period);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    tick
}

async fn next(tick: &mut tokio::time::Interval, stop: &CancellationToken) -> Option<()> {
    tokio::select! {
        biased;
        () = stop.cancelled() => None,
        _ = tick.tick() => Some(()),
    }
}
