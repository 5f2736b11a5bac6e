//! How a feed is: connected or not, to whom, how old, and what went wrong last.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use onair_model::Version;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::feed::Shared;
use crate::refusal::Refusal;
use crate::row::BadRow;
use crate::tls::TlsFault;

/// What a feed is doing. It serves its last verified version in every state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum State {
    /// Connected, and the content is younger than the staleness limit.
    Live,
    /// No stream at this moment; the content is still younger than the limit.
    Reconnecting,
    /// The content is older than the limit, connected or not.
    Stale,
    /// A feed with fixed content: nothing will change.
    Fixed,
    /// Closed: nothing will change.
    Closed,
}

/// A feed's state at one moment.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Status {
    /// What it is doing.
    pub state: State,
    /// The server that it is connected to.
    pub endpoint: Option<Arc<str>>,
    /// The version held.
    pub version: Version,
    /// Time since the content was last known to be complete.
    pub age: Duration,
    /// The last thing that went wrong, also when all is well again.
    pub last_problem: Option<Problem>,
    /// Whether a whole snapshot is on its way.
    pub is_arriving: bool,
    /// Why the server holds newer versions back, if it does.
    pub held: Option<Arc<str>>,
    /// Streams that ended so far, for whatever reason.
    pub reconnects: u64,
    /// Times that what a server sent was refused and asked for anew.
    pub refusals: u64,
    /// Versions that came whole, the first one among them.
    pub wholes: u64,
}

/// The part of the status that the task tells; version and age are read when asked.
#[derive(Clone, Debug, Default)]
pub(crate) struct Told {
    pub(crate) endpoint: Option<Arc<str>>,
    pub(crate) is_fixed: bool,
    /// A whole snapshot is on its way.
    pub(crate) is_arriving: bool,
    pub(crate) last_problem: Option<Problem>,
    pub(crate) held: Option<Arc<str>>,
    pub(crate) reconnects: u64,
    pub(crate) refusals: u64,
}

/// Watches a feed's status, from [`Feed::status_watch`](crate::Feed::status_watch).
pub struct StatusWatch<T> {
    pub(crate) shared: Arc<Shared<T>>,
    pub(crate) told: watch::Receiver<Told>,
}

impl<T> StatusWatch<T> {
    /// The status now.
    pub fn now(&self) -> Status {
        self.shared.status()
    }

    /// Waits until state, endpoint, problem or counters change (a new version alone is no such change), then gives
    /// the status; `None` once the feed is closed.
    pub async fn changed(&mut self) -> Option<Status> {
        self.told.changed().await.ok()?;
        Some(self.shared.status())
    }

    /// Waits until the status passes a test; gives the one that does, or `None` once the feed is closed.
    pub async fn wait_for(&mut self, mut test: impl FnMut(&Status) -> bool) -> Option<Status> {
        loop {
            self.told.mark_unchanged();
            let status = self.shared.status();
            if test(&status) {
                return Some(status);
            }
            self.changed().await?;
        }
    }
}

impl<T> Clone for StatusWatch<T> {
    fn clone(&self) -> Self {
        StatusWatch {
            shared: self.shared.clone(),
            told: self.told.clone(),
        }
    }
}

impl<T> fmt::Debug for StatusWatch<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StatusWatch")
            .field("now", &self.now())
            .finish_non_exhaustive()
    }
}

/// Tells watchers at the moment at which the content becomes stale, and when it is fresh again.
pub(crate) async fn tell_when_stale<T>(shared: Arc<Shared<T>>, told: watch::Sender<Told>) {
    let mut published = shared.published();
    loop {
        let fresh_until = shared
            .snapshot()
            .held
            .age
            .reaches(shared.stale_after(), Instant::now());
        let changed = match fresh_until {
            Some(at) => tokio::select! {
                biased;
                changed = published.changed() => changed,
                () = tokio::time::sleep_until(at) => {
                    told.send_modify(|_| {});
                    continue;
                }
            },
            None => {
                let changed = published.changed().await;
                told.send_modify(|_| {});
                changed
            }
        };
        if changed.is_err() {
            return;
        }
    }
}

/// Whatever lies below a problem, to print.
pub type Cause = Arc<dyn std::error::Error + Send + Sync>;

/// Why a stream could not be had, or ended.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// No connection.
    #[error("cannot connect to {endpoint}")]
    #[non_exhaustive]
    Unreachable {
        /// The server.
        endpoint: Arc<str>,
        /// What the network said.
        #[source]
        cause: Cause,
    },
    /// No TLS with what answers there, or none where the server wants it.
    #[error("cannot connect to {endpoint}: {fault}")]
    #[non_exhaustive]
    Tls {
        /// The server.
        endpoint: Arc<str>,
        /// What it failed of.
        fault: TlsFault,
    },
    /// The server refuses the subscription for good: no such feed, not allowed, not understood.
    #[error("{endpoint} refuses the subscription: {message}")]
    #[non_exhaustive]
    Rejected {
        /// The server.
        endpoint: Arc<str>,
        /// What it says.
        message: Arc<str>,
    },
    /// The stream ended.
    #[error("the stream from {endpoint} ended: {message}")]
    #[non_exhaustive]
    Ended {
        /// The server.
        endpoint: Arc<str>,
        /// What it said last.
        message: Arc<str>,
    },
    /// The server said nothing for too long.
    #[error("{endpoint} said nothing for {after:?}")]
    #[non_exhaustive]
    Silent {
        /// The server.
        endpoint: Arc<str>,
        /// For how long.
        after: Duration,
    },
    /// What the server sent was refused; the version held stays.
    #[error("what {endpoint} sent was refused: {refusal}")]
    #[non_exhaustive]
    Refused {
        /// The server.
        endpoint: Arc<str>,
        /// Why.
        refusal: Refusal,
    },
    /// A row does not fit the user's type; the version held stays.
    #[error("feed from {endpoint}: {row}")]
    #[non_exhaustive]
    Row {
        /// The server.
        endpoint: Arc<str>,
        /// Which row, and why.
        row: BadRow,
    },
    /// The server has not reached the version held.
    #[error("{endpoint} has not reached version {version} yet")]
    #[non_exhaustive]
    Behind {
        /// The server.
        endpoint: Arc<str>,
        /// The version held.
        version: Version,
    },
    /// The server asked its clients to leave.
    #[error("{endpoint} asked its clients to leave: {reason}")]
    #[non_exhaustive]
    Drained {
        /// The server.
        endpoint: Arc<str>,
        /// Why.
        reason: Arc<str>,
    },
}

impl Problem {
    /// Whether trying again may help without anybody changing anything.
    pub const fn is_retryable(&self) -> bool {
        !matches!(
            self,
            Problem::Tls { .. } | Problem::Rejected { .. } | Problem::Row { .. }
        )
    }
}
