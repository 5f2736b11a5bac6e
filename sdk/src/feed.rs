//! A feed in the memory of this process.

use std::collections::BTreeMap;
use std::fmt;
use std::hash::Hash;
use std::num::NonZeroU16;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use onair_model::schema::{Field, Schema};
use onair_model::{Buckets, Digest, Epoch, GtidSet, Key, Lineage, Seal, Version};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::builder::{Builder, ConnectError};
use crate::changes::Changes;
use crate::clock::Reading;
use crate::content::{Content, Draft};
use crate::endpoint::Endpoint;
use crate::index::Index;
use crate::key::{self, AsKey};
use crate::row::FromRow;
use crate::session::{Arrival, Form, Verified};
use crate::snapshot::{Held, Snapshot};
use crate::status::{State, Status, StatusWatch, Told};
use crate::wait::{Target, WaitError};

/// A verified, always current replica of a feed. Clones share it; it is closed when the last one is dropped.
pub struct Feed<T> {
    pub(crate) shared: Arc<Shared<T>>,
    pub(crate) owner: Arc<Owner>,
}

/// What ends with the feed.
pub(crate) struct Owner {
    pub(crate) tasks: Mutex<JoinSet<()>>,
    /// A feed with fixed content has no task to keep these.
    pub(crate) fixed: Mutex<Option<(watch::Sender<u64>, watch::Sender<Told>)>>,
}

/// What readers share with the task.
pub(crate) struct Shared<T> {
    cell: ArcSwap<Held<T>>,
    published: watch::Receiver<u64>,
    told: watch::Receiver<Told>,
    stale_after: Duration,
}

impl<T: FromRow> Feed<T> {
    /// Connects with default settings; returns when the first version is verified.
    pub async fn connect<E: Into<Endpoint>>(
        endpoints: impl IntoIterator<Item = E>,
        feed: &str,
    ) -> Result<Self, ConnectError> {
        Feed::builder(endpoints, feed).connect().await
    }

    /// Settings for a feed from these servers. They serve the same feed; any of them will do.
    pub fn builder<E: Into<Endpoint>>(
        endpoints: impl IntoIterator<Item = E>,
        feed: &str,
    ) -> Builder<T> {
        Builder::new(endpoints.into_iter().map(Into::into).collect(), feed)
    }
}

impl<T> Feed<T> {
    /// The newest verified version: never waits, never fails, and stays as it is for as long as it is kept.
    pub fn snapshot(&self) -> Snapshot<T> {
        self.shared.snapshot()
    }

    /// Steps of changes, the whole content first.
    pub fn changes(&self) -> Changes<T>
    where
        T: Clone,
    {
        Changes::new(self.shared.clone())
    }

    /// Rows by something that `of` reads from them.
    pub fn index<I: Hash + Eq>(&self, of: impl Fn(&T) -> I + Send + Sync + 'static) -> Index<T, I>
    where
        T: Clone,
    {
        Index::new(self.changes(), of)
    }

    /// Time since the content was last known to be complete.
    pub fn age(&self) -> Duration {
        self.snapshot().age()
    }

    /// How the feed is.
    pub fn status(&self) -> Status {
        self.shared.status()
    }

    /// Watches how the feed is.
    pub fn status_watch(&self) -> StatusWatch<T> {
        let mut told = self.shared.told.clone();
        told.mark_unchanged();
        StatusWatch {
            shared: self.shared.clone(),
            told,
        }
    }

    /// Waits until the feed has reached a [`Version`] or contains a transaction ([`Gtid`](crate::Gtid),
    /// [`GtidSet`], or the text of any of them), and gives the snapshot that does: to read your own writes,
    /// also when they did not touch the feed. Waits for as long as it takes; limit it with a timeout of yours.
    pub async fn wait_for(&self, target: impl Into<Target>) -> Result<Snapshot<T>, WaitError> {
        let target = target.into().check()?;
        let mut published = self.shared.published();
        loop {
            let snapshot = self.snapshot();
            if target.is_reached(&snapshot.held.verified.seal) {
                return Ok(snapshot);
            }
            if published.changed().await.is_err() {
                return Err(WaitError::Closed);
            }
        }
    }

    /// Ends the feed's task and waits for its end. Snapshots stay; nothing new comes.
    pub async fn close(&self) {
        let tasks = || {
            self.owner
                .tasks
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
        };
        let mut tasks = std::mem::take(&mut *tasks());
        self.owner
            .fixed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        tasks.shutdown().await;
    }
}

impl<T: Send + Sync + 'static> Feed<T> {
    /// A feed without any server whose content is this and stays so: for tests and tools. Integer keys become an
    /// integer key column, text a text column; tuples several. Nothing proves it: its rows have no bytes.
    pub fn fixed<K: AsKey>(rows: impl IntoIterator<Item = (K, T)>) -> Self {
        let column = |(at, kind)| {
            let name: Arc<str> = format!("key{}", at + 1).into();
            Field {
                column: name.clone(),
                name,
                number: 0,
                kind,
            }
        };
        let schema = Schema {
            feed: "fixed".into(),
            table: "fixed".into(),
            key: K::kinds().into_iter().enumerate().map(column).collect(),
            columns: Vec::new(),
        };
        let rows = rows.into_iter().map(|(key, row)| {
            let key = key::to_key(&key, &schema.key);
            (
                key.expect("a value fits the columns that it stands for"),
                row,
            )
        });
        // Of two rows of one key the later one stays.
        let rows: BTreeMap<Key, T> = rows.collect();
        let mut draft = Draft::new(Arc::new(schema), Buckets::new(NonZeroU16::MIN), 0);
        for (key, row) in rows {
            draft.add_value(key, row);
        }
        let content = draft.finish();
        let (published, published_rx) = watch::channel(0);
        let (told, told_rx) = watch::channel(Told {
            is_fixed: true,
            ..Told::default()
        });
        let shared = Shared::new(published_rx, told_rx, Duration::MAX);
        let sum = content.sum();
        let version = Epoch::NONE.next().map_or(Version::ZERO, Epoch::start);
        let seal = Seal {
            version,
            digest: sum.digest,
            count: sum.count,
            ..nothing()
        };
        let arrival = Arrival {
            form: Form::Whole("fixed".into()),
            rewound: false,
        };
        shared.show(
            Verified {
                content: Arc::new(content),
                seal,
            },
            Some(&arrival),
        );
        Feed {
            shared: Arc::new(shared),
            owner: Arc::new(Owner {
                tasks: Mutex::default(),
                fixed: Mutex::new(Some((published, told))),
            }),
        }
    }
}

impl<T> Clone for Feed<T> {
    fn clone(&self) -> Self {
        Feed {
            shared: self.shared.clone(),
            owner: self.owner.clone(),
        }
    }
}

impl<T> fmt::Debug for Feed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Feed")
            .field("snapshot", &self.snapshot())
            .finish_non_exhaustive()
    }
}

impl<T> Shared<T> {
    /// Holds nothing yet. Nobody sees that: a feed is given out once it holds something.
    pub(crate) fn new(
        published: watch::Receiver<u64>,
        told: watch::Receiver<Told>,
        stale_after: Duration,
    ) -> Self {
        let schema = Schema {
            feed: "".into(),
            table: "".into(),
            key: Vec::new(),
            columns: Vec::new(),
        };
        let content = Content::empty(Arc::new(schema), Buckets::new(NonZeroU16::MIN));
        let held = Held {
            verified: Verified {
                content: Arc::new(content),
                seal: nothing(),
            },
            age: Reading::first(i64::MAX, Instant::now()),
            ordinal: 0,
            wholes: 0,
            rewinds: 0,
            touched: None,
            reason: "".into(),
        };
        Shared {
            cell: ArcSwap::from_pointee(held),
            published,
            told,
            stale_after,
        }
    }

    pub(crate) fn snapshot(&self) -> Snapshot<T> {
        Snapshot {
            held: self.cell.load_full(),
        }
    }

    pub(crate) fn published(&self) -> watch::Receiver<u64> {
        self.published.clone()
    }

    pub(crate) const fn stale_after(&self) -> Duration {
        self.stale_after
    }

    /// Shows a version; with no arrival it is the one held, its proof newer.
    pub(crate) fn show(&self, verified: Verified<T>, arrival: Option<&Arrival>) {
        let before = self.cell.load_full();
        let now = Instant::now();
        let source_time = verified.seal.source_time;
        let goes_on = before.ordinal > 0 && before.verified.seal.lineage == verified.seal.lineage;
        let age = if goes_on {
            before.age.sealed(source_time, now)
        } else {
            Reading::first(source_time, now)
        };
        let (wholes, touched, reason) = match arrival.map(|arrival| &arrival.form) {
            Some(Form::Whole(reason)) => (before.wholes + 1, None, reason),
            Some(Form::Frames(touched)) => (before.wholes, Some(touched.clone()), &before.reason),
            None => (before.wholes, before.touched.clone(), &before.reason),
        };
        self.cell.store(Arc::new(Held {
            verified,
            age,
            ordinal: before.ordinal + u64::from(arrival.is_some()),
            wholes,
            rewinds: before.rewinds + u64::from(arrival.is_some_and(|arrival| arrival.rewound)),
            touched,
            reason: reason.clone(),
        }));
    }

    /// Shows the version held with what progress added to its proof.
    pub(crate) fn progress(&self, verified: Verified<T>, age: Duration) {
        let before = self.cell.load_full();
        let source_time = verified.seal.source_time;
        self.cell.store(Arc::new(Held {
            verified,
            age: before.age.told(age, source_time, Instant::now()),
            ordinal: before.ordinal,
            wholes: before.wholes,
            rewinds: before.rewinds,
            touched: before.touched.clone(),
            reason: before.reason.clone(),
        }));
    }

    pub(crate) fn status(&self) -> Status {
        let held = self.cell.load_full();
        let told = self.told.borrow().clone();
        let age = held.age.age_at(Instant::now());
        let state = if self.told.has_changed().is_err() {
            State::Closed
        } else if told.is_fixed {
            State::Fixed
        } else if age >= self.stale_after {
            State::Stale
        } else if told.endpoint.is_some() {
            State::Live
        } else {
            State::Reconnecting
        };
        Status {
            state,
            endpoint: told.endpoint,
            version: held.verified.seal.version,
            age,
            last_problem: told.last_problem,
            is_arriving: told.is_arriving,
            held: told.held,
            reconnects: told.reconnects,
            refusals: told.refusals,
            wholes: held.wholes,
        }
    }
}

fn nothing() -> Seal {
    Seal {
        lineage: Lineage::new(0),
        version: Version::ZERO,
        digest: Digest::EMPTY,
        count: 0,
        commit_time: 0,
        source_time: 0,
        gtid: None,
        executed: Arc::new(GtidSet::mysql()),
        proven: None,
        rewound: false,
    }
}
