//! Settings, and the first connection.

use std::fmt;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rand::RngExt as _;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::endpoint::Endpoint;
use crate::feed::{Feed, Owner, Shared};
use crate::plan::{Backoff, Plan};
use crate::row::FromRow;
use crate::status::{self, Problem, Told};
use crate::task::Task;
use crate::tls::Tls;

/// The settings of a feed, from [`Feed::builder`].
#[must_use]
pub struct Builder<T> {
    endpoints: Vec<Endpoint>,
    settings: Settings,
    in_order: bool,
    row: PhantomData<fn() -> T>,
}

/// What the task needs to know.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) feed: Arc<str>,
    pub(crate) view: Arc<str>,
    pub(crate) client: Arc<str>,
    pub(crate) init_timeout: Duration,
    pub(crate) connect_timeout: Duration,
    pub(crate) silence: Duration,
    pub(crate) stale_after: Duration,
    pub(crate) backoff: Backoff,
    pub(crate) max_message: usize,
    pub(crate) max_rows: u64,
    pub(crate) tls: Tls,
}

impl<T: FromRow> Builder<T> {
    pub(crate) fn new(endpoints: Vec<Endpoint>, feed: &str) -> Self {
        let settings = Settings {
            feed: feed.into(),
            view: "".into(),
            client: concat!("onair-sdk ", env!("CARGO_PKG_VERSION")).into(),
            init_timeout: Duration::from_secs(10),
            connect_timeout: Duration::from_secs(5),
            silence: Duration::from_secs(5),
            stale_after: Duration::from_secs(10),
            backoff: Backoff::default(),
            max_message: 64 * 1024 * 1024,
            max_rows: 100_000_000,
            tls: Tls::new(),
        };
        Builder {
            endpoints,
            settings,
            in_order: false,
            row: PhantomData,
        }
    }

    /// A predeclared view of the feed instead of all of it.
    pub fn view(mut self, view: &str) -> Self {
        self.settings.view = view.into();
        self
    }

    /// The name that servers show for this client.
    pub fn client_name(mut self, name: &str) -> Self {
        self.settings.client = name.into();
        self
    }

    /// How long [`Builder::connect`] tries to get a first version; one that is arriving by then may arrive. 10 s by
    /// default.
    pub const fn init_timeout(mut self, limit: Duration) -> Self {
        self.settings.init_timeout = limit;
        self
    }

    /// How long one attempt to reach a server may take. 5 s by default.
    pub const fn connect_timeout(mut self, limit: Duration) -> Self {
        self.settings.connect_timeout = limit;
        self
    }

    /// After this long without a word a server is given up. Servers speak at least once a second. 5 s by default.
    pub const fn silence_timeout(mut self, limit: Duration) -> Self {
        self.settings.silence = limit;
        self
    }

    /// The age at which the content is called stale. 10 s by default.
    pub const fn stale_after(mut self, limit: Duration) -> Self {
        self.settings.stale_after = limit;
        self
    }

    /// Waits between attempts.
    pub const fn backoff(mut self, backoff: Backoff) -> Self {
        self.settings.backoff = backoff;
        self
    }

    /// Tries servers in the order given, from the first on, instead of from one drawn at random.
    pub const fn in_order(mut self) -> Self {
        self.in_order = true;
        self
    }

    /// How `https://` servers are known, and we by them. By default the public authorities are trusted. Needs the feature
    /// `tls`: without it such a server is refused by [`Builder::connect`].
    pub fn tls(mut self, tls: Tls) -> Self {
        self.settings.tls = tls;
        self
    }

    /// The longest message taken from a server, in bytes: the largest transaction that can arrive as a frame.
    /// 64 MiB by default.
    pub const fn max_message_size(mut self, bytes: usize) -> Self {
        self.settings.max_message = bytes;
        self
    }

    /// The most rows that are taken from a server. 100 million by default.
    pub const fn max_rows(mut self, rows: u64) -> Self {
        self.settings.max_rows = rows;
        self
    }

    /// Connects, and returns when the first version is verified. Must be called within a tokio runtime; the feed's
    /// one task runs there until the feed is dropped or closed.
    pub async fn connect(self) -> Result<Feed<T>, ConnectError> {
        self.check()?;
        let (published, published_rx) = watch::channel(0);
        let (told, mut told_rx) = watch::channel(Told::default());
        let (first, mut first_rx) = oneshot::channel();
        let shared = Arc::new(Shared::new(
            published_rx,
            told_rx.clone(),
            self.settings.stale_after,
        ));
        let at = if self.in_order {
            0
        } else {
            rand::rng().random_range(0..self.endpoints.len())
        };
        let init_timeout = self.settings.init_timeout;
        let plan = Plan::new(self.endpoints.len(), at, self.settings.backoff);
        let tell_when_stale = status::tell_when_stale(shared.clone(), told.clone());
        let task = Task {
            shared: shared.clone(),
            published,
            told,
            settings: self.settings,
            endpoints: self.endpoints,
            plan,
            first: Some(first),
            rejections: 0,
        };
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            tokio::select! {
                () = task.run() => {}
                () = tell_when_stale => {}
            }
        });
        let first = match timeout(init_timeout, &mut first_rx).await {
            // A large snapshot on a slow line is not given up while it comes.
            Err(_) if told_rx.borrow().is_arriving => {
                // The task's end ends this too.
                let _ = told_rx.wait_for(|told| !told.is_arriving).await;
                first_rx.try_recv().ok()
            }
            Err(_) => None,
            Ok(answer) => Some(answer.unwrap_or(Err(ConnectError::Stopped))),
        };
        match first {
            Some(Ok(())) => {
                let owner = Owner {
                    tasks: Mutex::new(tasks),
                    fixed: Mutex::new(None),
                };
                Ok(Feed {
                    shared,
                    owner: Arc::new(owner),
                })
            }
            Some(Err(error)) => Err(error),
            None => {
                let last = shared.status().last_problem;
                Err(ConnectError::Timeout {
                    after: init_timeout,
                    last,
                })
            }
        }
    }

    /// Everything that is wrong, at once.
    fn check(&self) -> Result<(), ConnectError> {
        let mut faults: Vec<String> = self
            .endpoints
            .iter()
            .filter_map(|endpoint| endpoint.check(&self.settings.tls).err())
            .collect();
        if self.endpoints.is_empty() {
            faults.push("no server is given".to_owned());
        }
        if self.settings.feed.is_empty() {
            faults.push("the feed has no name".to_owned());
        }
        let settings = &self.settings;
        let times = [
            ("init_timeout", settings.init_timeout),
            ("connect_timeout", settings.connect_timeout),
            ("silence_timeout", settings.silence),
            ("stale_after", settings.stale_after),
            ("backoff.first", settings.backoff.first),
        ];
        let zero = times.iter().filter(|(_, time)| time.is_zero());
        faults.extend(zero.map(|(name, _)| format!("{name} is zero")));
        if settings.backoff.first > settings.backoff.max {
            faults.push("backoff.first is above backoff.max".to_owned());
        }
        if faults.is_empty() {
            Ok(())
        } else {
            Err(ConnectError::Settings(faults))
        }
    }
}

impl<T> fmt::Debug for Builder<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("endpoints", &self.endpoints)
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

/// Why there is no feed.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// Settings that cannot work, all of them.
    #[error("settings: {}", .0.join("; "))]
    Settings(Vec<String>),
    /// Every server refuses for good, or a row does not fit the type.
    #[error(transparent)]
    Refused(Problem),
    /// No version was verified in time.
    #[error("no server gave a version within {after:?}")]
    #[non_exhaustive]
    Timeout {
        /// The limit.
        after: Duration,
        /// What went wrong last.
        #[source]
        last: Option<Problem>,
    },
    /// The feed's task ended without an answer.
    #[error("the feed's task stopped: please report it as a fault of onair-sdk")]
    Stopped,
}

impl ConnectError {
    /// Whether trying again may help without anybody changing anything.
    pub const fn is_retryable(&self) -> bool {
        matches!(self, ConnectError::Timeout { .. })
    }
}
