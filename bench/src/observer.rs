//! A client that writes down every version that it sees.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use onair_sdk::{Backoff, Feed, GtidSet, Raw, Status, Step, Version};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::oracle::{Content, State};

/// One version as it was seen.
#[derive(Clone, Debug)]
pub struct Seen {
    pub version: Version,
    pub gtid: Option<String>,
    pub executed: GtidSet,
    pub state: State,
    /// From the version seen before it: rows put, and keys taken off.
    pub changes: Vec<(u64, Option<Bytes>)>,
    /// Came as frames, not as a whole set.
    pub is_delta: bool,
    /// Versions skipped since the one before.
    pub merged: u64,
}

/// How far it is, for those who wait.
#[derive(Clone, Copy, Debug, Default)]
pub struct Progress {
    pub versions: usize,
    pub deltas: usize,
    pub epoch: u32,
}

/// A connected client and its notes.
#[derive(Debug)]
pub struct Observer {
    pub feed: Feed<Raw>,
    notes: Arc<Mutex<Vec<Seen>>>,
    progress: watch::Receiver<Progress>,
    task: JoinSet<()>,
}

impl Observer {
    /// Connects, and notes from then on.
    pub async fn connect(address: &str) -> Result<Self> {
        Self::connect_to(&[address]).await
    }

    /// The same to any of several servers.
    pub async fn connect_to(addresses: &[&str]) -> Result<Self> {
        let backoff = Backoff {
            first: Duration::from_millis(50),
            max: Duration::from_millis(500),
        };
        let urls: Vec<String> = addresses
            .iter()
            .map(|address| format!("http://{address}"))
            .collect();
        let feed = Feed::<Raw>::builder(urls.iter().map(String::as_str), "room")
            .backoff(backoff)
            .init_timeout(Duration::from_secs(60))
            .connect()
            .await
            .with_context(|| format!("connecting to {}", addresses.join(", ")))?;
        let notes = Arc::new(Mutex::new(Vec::new()));
        let (told, progress) = watch::channel(Progress::default());
        let mut changes = feed.changes();
        let written = Arc::clone(&notes);
        let mut task = JoinSet::new();
        task.spawn(async move {
            while let Some(step) = changes.next().await {
                let seen = seen(&step);
                told.send_modify(|progress| {
                    progress.versions += 1;
                    progress.deltas += usize::from(seen.is_delta);
                    progress.epoch = seen.version.epoch().get();
                });
                written
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push(seen);
            }
        });
        Ok(Observer {
            feed,
            notes,
            progress,
            task,
        })
    }

    /// How far it is now.
    pub fn progress(&self) -> Progress {
        *self.progress.borrow()
    }

    /// Waits until it is that far; says what it was waiting for when that takes longer than `limit`.
    pub async fn wait_for(
        &self,
        what: &str,
        limit: Duration,
        mut test: impl FnMut(&Progress) -> bool,
    ) -> Result<()> {
        let mut progress = self.progress.clone();
        match tokio::time::timeout(limit, progress.wait_for(|now| test(now))).await {
            Ok(done) => done.map(drop).context("the observer ended"),
            Err(_) => bail!(
                "waited {limit:?} for {what}: {:?}, {:?}",
                self.progress(),
                self.status()
            ),
        }
    }

    /// Waits until a snapshot contains these transactions, and gives its content.
    pub async fn wait_for_set(&self, set: &str, limit: Duration) -> Result<Content> {
        let set: GtidSet = set.parse()?;
        match tokio::time::timeout(limit, self.feed.wait_for(set.clone())).await {
            Ok(snapshot) => Ok(content(&snapshot?)),
            Err(_) => bail!("waited {limit:?} for {set}: {:?}", self.status()),
        }
    }

    pub fn status(&self) -> Status {
        self.feed.status()
    }

    /// Ends, and gives the notes. What it was sent must all have been right: a replica mends what it refuses, and only
    /// its count tells.
    pub async fn finish(mut self) -> Result<Vec<Seen>> {
        let status = self.status();
        self.feed.close().await;
        // It ends when the feed is closed and its last version is noted.
        while self.task.join_next().await.is_some() {}
        if status.refusals > 0 {
            bail!(
                "the client refused what it was sent {} times: {status:?}",
                status.refusals
            );
        }
        let mut notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(std::mem::take(&mut notes))
    }
}

/// All rows of a snapshot.
pub fn content(snapshot: &onair_sdk::Snapshot<Raw>) -> Content {
    snapshot
        .iter()
        .map(|(key, row)| (number(key), row.bytes().clone()))
        .collect()
}

fn number(key: &onair_sdk::Key) -> u64 {
    key.as_u64().expect("the key column is an integer")
}

fn seen(step: &Step<Raw>) -> Seen {
    let put = |key: &onair_sdk::Key, row: &Raw| (number(key), Some(row.bytes().clone()));
    let off = step.off.iter().map(|(key, _)| (number(key), None));
    let on = step.on.iter().map(|(key, row)| put(key, row));
    let change = step
        .change
        .iter()
        .map(|change| put(&change.key, &change.after));
    let snapshot = &step.snapshot;
    Seen {
        version: step.to,
        gtid: snapshot.gtid().map(ToString::to_string),
        executed: snapshot.executed().clone(),
        state: State {
            digest: snapshot.digest().get(),
            count: snapshot.len() as u64,
        },
        changes: off.chain(on).chain(change).collect(),
        is_delta: step.from.is_some() && step.reason.is_none(),
        merged: step.merged,
    }
}
