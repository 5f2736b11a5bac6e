//! The one task of a feed: connects, takes messages, shows what is verified, and starts over when a stream ends.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use rand::RngExt as _;
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tracing::{info, warn};

use crate::builder::{ConnectError, Settings};
use crate::endpoint::Endpoint;
use crate::feed::Shared;
use crate::message::{Message, Progress};
use crate::plan::{Ended, GOOD_AFTER, Plan};
use crate::row::FromRow;
use crate::session::{Arrival, Failure, Outcome, Session, Unshown, Verified};
use crate::status::{Cause, Problem, Told};
use crate::tls::TlsFault;
use crate::wire::{self, Request, Stream};

/// Before the first version somebody waits in `connect`: no wait is longer.
const FIRST_WAIT_MAX: Duration = Duration::from_secs(1);

/// Versions that are shown as one when they came in one go: what a server sends a subscriber that lags is no more.
const SHOWN_AS_ONE_MAX: u32 = 32;

/// Everything that the task owns. When it is dropped, the feed is closed.
pub(crate) struct Task<T> {
    pub(crate) shared: Arc<Shared<T>>,
    pub(crate) published: watch::Sender<u64>,
    pub(crate) told: watch::Sender<Told>,
    pub(crate) settings: Settings,
    pub(crate) endpoints: Vec<Endpoint>,
    pub(crate) plan: Plan,
    /// Told of the first version, or of why there will be none.
    pub(crate) first: Option<oneshot::Sender<Result<(), ConnectError>>>,
    /// Servers in a row that refused for good, before the first version.
    pub(crate) rejections: usize,
}

/// Why a stream is over, and what the server asked to wait.
struct Stop {
    problem: Problem,
    asked: Duration,
}

impl From<Problem> for Stop {
    fn from(problem: Problem) -> Self {
        let asked = Duration::ZERO;
        Stop { problem, asked }
    }
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
                    let _ = first.send(Err(ConnectError::Refused(problem)));
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
            told.is_arriving = false;
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
        let Err(stop) = self.follow(endpoint, &name, &mut leaving).await;
        let now = Instant::now();
        match leaving {
            Some(leaving) => Ended {
                problem: Problem::Drained {
                    endpoint: name,
                    reason: leaving.reason,
                },
                was_good: true,
                asked: leaving.return_at.saturating_duration_since(now),
            },
            None => Ended {
                problem: stop.problem,
                was_good: now.duration_since(began) >= GOOD_AFTER,
                asked: stop.asked,
            },
        }
    }

    async fn open(&self, endpoint: &Endpoint, name: &Arc<str>) -> Result<Stream, Problem> {
        let limit = self.settings.connect_timeout;
        let unreachable = |cause: Cause| match TlsFault::of(&*cause) {
            Some(fault) => Problem::Tls {
                endpoint: name.clone(),
                fault,
            },
            None => Problem::Unreachable {
                endpoint: name.clone(),
                cause,
            },
        };
        let opening = async {
            let settings = &self.settings;
            let line = endpoint.connect(limit, &settings.tls).await;
            let line = line.map_err(unreachable)?;
            let held = self.shared.snapshot().held;
            let have = (held.ordinal > 0 && !self.plan.asks_anew()).then_some(&held.verified.seal);
            let request = Request {
                feed: &settings.feed,
                view: &settings.view,
                client: &settings.client,
                have,
                max_message: settings.max_message,
            };
            let subscribed = wire::subscribe(name.clone(), line.channel.clone(), request).await;
            subscribed.map_err(|problem| match line.fault() {
                Some(fault) => Problem::Tls {
                    endpoint: name.clone(),
                    fault,
                },
                None => problem,
            })
        };
        let opened = timeout(limit, opening).await;
        opened.unwrap_or_else(|elapsed| Err(unreachable(Arc::new(elapsed))))
    }

    /// Takes messages until the stream ends.
    async fn follow(
        &mut self,
        endpoint: &Endpoint,
        name: &Arc<str>,
        leaving: &mut Option<Leaving>,
    ) -> Result<Infallible, Stop> {
        let mut stream = self.open(endpoint, name).await?;
        let held = self.shared.snapshot().held;
        let held = (held.ordinal > 0).then(|| held.verified.clone());
        let resumes = !self.plan.asks_anew();
        let mut session = Session::new(held, resumes, self.settings.max_rows);
        let mut unshown = Unshown::default();
        // Messages of a group that was looked at before it is taken.
        let mut ahead = VecDeque::new();
        loop {
            // Versions that came in one go are shown as one: each is verified, and a replica that is behind catches up
            // without paying for what nobody could look at.
            if ahead.is_empty() && unshown.arrival.is_some() {
                let more = unshown.versions < SHOWN_AS_ONE_MAX;
                let ready = match more {
                    true => stream.ready(&mut ahead),
                    false => Ok(false),
                };
                if !matches!(ready, Ok(true)) {
                    self.show_all(name, &session, &mut unshown);
                }
                ready?;
            }
            let message = match ahead.pop_front() {
                Some(message) => message,
                None => self.next(name, &mut stream, leaving.as_ref()).await?,
            };
            let outcome = session.take(message).map_err(|failure| {
                let endpoint = name.clone();
                match failure {
                    Failure::Refused(refusal) => Problem::Refused { endpoint, refusal },
                    Failure::Row(row) => Problem::Row { endpoint, row },
                }
            })?;
            self.tell_arriving(session.is_arriving());
            match outcome {
                Outcome::Nothing => {}
                Outcome::Version(arrival) => unshown.version(arrival),
                Outcome::Progress(_, progress) if unshown.arrival.is_some() => {
                    unshown.progress = Some(progress);
                }
                Outcome::Progress(verified, progress) => {
                    self.show_progress(name, verified, &progress);
                }
                // What is to be shown has the newer proof, too.
                Outcome::Same(_) if unshown.arrival.is_some() => {}
                Outcome::Same(verified) => self.show(name, verified, None),
                Outcome::GoAway {
                    retry_after_ms,
                    reason,
                } => *leaving = Some(self.leaving(reason, retry_after_ms)),
                Outcome::NotYet {
                    version,
                    retry_after_ms,
                } => {
                    self.show_all(name, &session, &mut unshown);
                    let endpoint = name.clone();
                    return Err(Stop {
                        problem: Problem::Behind { endpoint, version },
                        asked: Duration::from_millis(u64::from(retry_after_ms)),
                    });
                }
            }
        }
    }

    /// Shows what came.
    fn show_all(&mut self, name: &Arc<str>, session: &Session<T>, unshown: &mut Unshown) {
        let Some(held) = session.held() else {
            return;
        };
        let unshown = std::mem::take(unshown);
        let Some(arrival) = unshown.arrival else {
            return;
        };
        self.show(name, held.clone(), Some(&arrival));
        if let Some(progress) = unshown.progress {
            self.show_progress(name, held, &progress);
        }
    }

    fn show_progress(&self, name: &Arc<str>, verified: Verified<T>, progress: &Progress) {
        let age = Duration::from_millis(progress.age_ms);
        self.shared.progress(verified, age);
        self.announce();
        self.tell_following(name, Some(&progress.held));
    }

    /// The next message. Leaving, when it is due, goes before it.
    async fn next(
        &self,
        name: &Arc<str>,
        stream: &mut Stream,
        leaving: Option<&Leaving>,
    ) -> Result<Message, Problem> {
        let silence = self.settings.silence;
        tokio::select! {
            biased;
            () = until(leaving.map(|leaving| leaving.at)) => Err(Problem::Drained {
                endpoint: name.clone(),
                reason: "left".into(),
            }),
            message = timeout(silence, stream.next()) => message.unwrap_or_else(|_| {
                Err(Problem::Silent { endpoint: name.clone(), after: silence })
            }),
        }
    }

    fn leaving(&self, reason: String, retry_after_ms: u32) -> Leaving {
        let wait = Duration::from_millis(u64::from(retry_after_ms));
        let now = Instant::now();
        let others = self.plan.has_others();
        Leaving {
            reason: reason.into(),
            // Spread over the time given, and following until then.
            at: now + wait.mul_f64(rand::rng().random()),
            return_at: if others { now } else { now + wait },
        }
    }

    fn show(&mut self, name: &Arc<str>, verified: Verified<T>, arrival: Option<&Arrival>) {
        let feed = &*self.settings.feed;
        let version = verified.seal.version;
        if let Some(Arrival { rewound: true, .. }) = arrival {
            warn!(feed, %version, "the source lost transactions: the content went back");
        }
        self.plan.verified();
        self.shared.show(verified, arrival);
        if let Some(first) = self.first.take() {
            // A caller who has gone needs no answer.
            let _ = first.send(Ok(()));
        }
        self.announce();
        self.tell_following(name, None);
    }

    fn tell_arriving(&self, is_arriving: bool) {
        self.told.send_if_modified(|told| {
            let before = std::mem::replace(&mut told.is_arriving, is_arriving);
            before != is_arriving
        });
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
