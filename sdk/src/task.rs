//! The one task of a feed: connects, takes messages, shows what is verified, and starts over when a stream ends.

use std::sync::Arc;
use std::time::Duration;

use rand::RngExt as _;
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};
use tracing::{info, warn};

use crate::builder::Settings;
use crate::endpoint::Endpoint;
use crate::feed::Shared;
use crate::plan::{Ended, GOOD_AFTER, Plan};
use crate::row::FromRow;
use crate::session::{Arrival, Failure, Outcome, Session, Verified};
use crate::status::{Problem, Told};
use crate::wire::{self, Request, Stream};

/// Before the first version somebody waits in `connect`: no wait is longer.
const FIRST_WAIT_MAX: Duration = Duration::from_secs(1);

/// Everything that the task owns. When it is dropped, the feed is closed.
pub(crate) struct Task<T> {
    pub(crate) shared: Arc<Shared<T>>,
    pub(crate) published: watch::Sender<u64>,
    pub(crate) told: watch::Sender<Told>,
    pub(crate) settings: Settings,
    pub(crate) endpoints: Vec<Endpoint>,
    pub(crate) plan: Plan,
    /// Told of the first version, or of why there will be none.
    pub(crate) first: Option<oneshot::Sender<Result<(), Problem>>>,
    /// Servers in a row that refused for good, before the first version.
    pub(crate) rejections: usize,
}

/// A server that asked its clients to leave.
struct Leaving {
    reason: Arc<str>,
    at: Instant,
    return_at: Instant,
}

impl<T: FromRow> Task<T> {
    /// Runs until it is dropped, or until there can be no first version.
    pub(crate) async fn run(mut self) {
        loop {
            let endpoint = self.endpoints[self.plan.at()].clone();
            let ended = self.stream(&endpoint).await;
            let wait = self.plan.ended(&ended, rand::rng().random());
            if let Some(problem) = self.is_final(&ended.problem) {
                if let Some(first) = self.first.take() {
                    // A caller who has gone needs no answer.
                    let _ = first.send(Err(problem));
                }
                return;
            }
            let wait = match self.first {
                Some(_) => wait.min(FIRST_WAIT_MAX),
                None => wait,
            };
            self.tell_ended(ended.problem, wait);
            sleep(wait).await;
        }
    }

    /// Before the first version, what cannot get better by itself is final; later the version held goes on being
    /// served, and somebody may mend the cause.
    fn is_final(&mut self, problem: &Problem) -> Option<Problem> {
        self.rejections = if problem.is_retryable() {
            0
        } else {
            self.rejections + 1
        };
        let all = self.rejections >= self.endpoints.len();
        let is_final = self.first.is_some() && (all || matches!(problem, Problem::Row { .. }));
        is_final.then(|| problem.clone())
    }

    fn tell_ended(&self, problem: Problem, wait: Duration) {
        let feed = &*self.settings.feed;
        if matches!(problem, Problem::Drained { .. } | Problem::Behind { .. }) {
            info!(feed, ?wait, reason = %problem, "stream ended");
        } else {
            let error: &(dyn std::error::Error + 'static) = &problem;
            warn!(feed, ?wait, error, "stream ended");
        }
        self.told.send_modify(|told| {
            told.endpoint = None;
            told.held = None;
            told.reconnects += 1;
            told.refusals += u64::from(matches!(problem, Problem::Refused { .. }));
            told.last_problem = Some(problem);
        });
    }

    /// One stream from its connection to its end.
    async fn stream(&mut self, endpoint: &Endpoint) -> Ended {
        let name = endpoint.name();
        let began = Instant::now();
        let mut leaving = None;
        let problem = match self.open(endpoint, &name).await {
            Ok(mut stream) => self.follow(&name, &mut stream, &mut leaving).await,
            Err(problem) => problem,
        };
        let now = Instant::now();
        let was_good = now.duration_since(began) >= GOOD_AFTER;
        match (leaving, problem) {
            (Some(leaving), _) => Ended {
                problem: Problem::Drained {
                    endpoint: name,
                    reason: leaving.reason,
                },
                was_good: true,
                asked: leaving.return_at.saturating_duration_since(now),
            },
            (None, (problem, asked)) => Ended {
                problem,
                was_good,
                asked,
            },
        }
    }

    async fn open(
        &self,
        endpoint: &Endpoint,
        name: &Arc<str>,
    ) -> Result<Stream, (Problem, Duration)> {
        let limit = self.settings.connect_timeout;
        let unreachable = |cause| Problem::Unreachable {
            endpoint: name.clone(),
            cause,
        };
        let opening = async {
            let channel = endpoint.connect(limit).await.map_err(unreachable)?;
            let held = self.shared.snapshot().held;
            let have = (held.ordinal > 0 && !self.plan.asks_anew()).then_some(&held.verified.seal);
            let settings = &self.settings;
            let request = Request {
                feed: &settings.feed,
                view: &settings.view,
                client: &settings.client,
                have,
                max_message: settings.max_message,
            };
            wire::subscribe(name.clone(), channel, request).await
        };
        match timeout(limit, opening).await {
            Ok(opened) => opened.map_err(|problem| (problem, Duration::ZERO)),
            Err(elapsed) => Err((unreachable(Arc::new(elapsed)), Duration::ZERO)),
        }
    }

    /// Takes messages until the stream ends. Leaving, when it is due, goes before the next message.
    async fn follow(
        &mut self,
        name: &Arc<str>,
        stream: &mut Stream,
        leaving: &mut Option<Leaving>,
    ) -> (Problem, Duration) {
        let held = self.shared.snapshot().held;
        let held = (held.ordinal > 0).then(|| held.verified.clone());
        let anew = self.plan.asks_anew();
        let mut session = Session::new(held, !anew, self.settings.max_rows);
        let silence = self.settings.silence;
        loop {
            let leave_at = leaving.as_ref().map(|leaving| leaving.at);
            let message = tokio::select! {
                biased;
                () = until(leave_at) => {
                    // The caller makes of it that the server asked for it.
                    let problem = Problem::Drained { endpoint: name.clone(), reason: "".into() };
                    return (problem, Duration::ZERO);
                }
                message = timeout_at(Instant::now() + silence, stream.next()) => message,
            };
            let message = match message {
                Ok(Ok(message)) => message,
                Ok(Err(problem)) => return (problem, Duration::ZERO),
                Err(_) => {
                    let problem = Problem::Silent {
                        endpoint: name.clone(),
                        after: silence,
                    };
                    return (problem, Duration::ZERO);
                }
            };
            let outcome = match session.take(message) {
                Ok(outcome) => outcome,
                Err(Failure::Refused(refusal)) => {
                    return (
                        Problem::Refused {
                            endpoint: name.clone(),
                            refusal,
                        },
                        Duration::ZERO,
                    );
                }
                Err(Failure::Row(row)) => {
                    return (
                        Problem::Row {
                            endpoint: name.clone(),
                            row,
                        },
                        Duration::ZERO,
                    );
                }
            };
            match outcome {
                Outcome::Nothing => {}
                Outcome::Version(verified, arrival) => self.show(name, verified, Some(&arrival)),
                Outcome::Same(verified) => self.show(name, verified, None),
                Outcome::Progress(verified, progress) => {
                    let age = Duration::from_millis(progress.age_ms);
                    self.shared.progress(verified, age);
                    self.announce();
                    self.tell_following(name, Some(&progress.held));
                }
                Outcome::GoAway {
                    retry_after_ms,
                    reason,
                } => {
                    let wait = Duration::from_millis(u64::from(retry_after_ms));
                    let now = Instant::now();
                    // Spread over the time given, and following until then.
                    let at = now + wait.mul_f64(rand::rng().random());
                    let return_at = if self.plan.has_others() {
                        now
                    } else {
                        now + wait
                    };
                    *leaving = Some(Leaving {
                        reason: reason.into(),
                        at,
                        return_at,
                    });
                }
                Outcome::NotYet {
                    version,
                    retry_after_ms,
                } => {
                    let problem = Problem::Behind {
                        endpoint: name.clone(),
                        version,
                    };
                    return (problem, Duration::from_millis(u64::from(retry_after_ms)));
                }
            }
        }
    }

    fn show(&mut self, name: &Arc<str>, verified: Verified<T>, arrival: Option<&Arrival>) {
        if let Some(Arrival { rewound: true, .. }) = arrival {
            warn!(feed = &*self.settings.feed, version = %verified.seal.version, "the source lost transactions: the content went back");
        }
        self.plan.verified();
        self.shared.show(verified, arrival);
        self.announce();
        self.tell_following(name, None);
        if let Some(first) = self.first.take() {
            // A caller who has gone needs no answer.
            let _ = first.send(Ok(()));
        }
    }

    fn announce(&self) {
        self.published.send_modify(|times| *times += 1);
    }

    /// Tells watchers to whom the feed listens, and what is held back, when that is another than before.
    fn tell_following(&self, name: &Arc<str>, held: Option<&str>) {
        self.told.send_if_modified(|told| {
            let before = told.held.as_deref().unwrap_or_default();
            let held = held.unwrap_or(before);
            if told.endpoint.as_ref() == Some(name) && before == held {
                return false;
            }
            told.held = Some(held.into()).filter(|held: &Arc<str>| !held.is_empty());
            told.endpoint = Some(name.clone());
            true
        });
    }
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}
