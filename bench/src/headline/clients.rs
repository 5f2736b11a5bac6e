//! Many replicas in one process, each with a connection of its own, and when the last of them has seen each
//! transaction.

use std::io::BufRead as _;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result};
use onair_sdk::Feed;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::harness::child::say;
use crate::load::{CLOSED, Expected, Numbered, Order, Seen, nanos};

/// Between two looks whether all are ready.
const LOOK: Duration = Duration::from_millis(20);
/// Connections that are made at once.
const AT_ONCE: usize = 50;

/// Where they connect to, and how many.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Clients {
    pub address: String,
    pub count: u32,
}

/// What all of them write on.
struct Board {
    /// How many have seen each transaction.
    counts: Vec<AtomicU32>,
    all: u32,
    seen: Mutex<Vec<(u64, u64)>>,
}

impl Board {
    fn new(expected: &Expected, all: u32) -> Arc<Self> {
        Arc::new(Board {
            counts: (0..expected.count).map(|_| AtomicU32::new(0)).collect(),
            all,
            seen: Mutex::default(),
        })
    }

    fn see(&self, number: u64, at: u64) {
        // What is not of this run is of the one before, on its way out.
        let Some(count) = self.counts.get(number as usize) else {
            return;
        };
        if count.fetch_add(1, Ordering::Relaxed) + 1 == self.all {
            let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            seen.push((number, at));
        }
    }

    fn take(&self) -> Vec<(u64, u64)> {
        std::mem::take(&mut self.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Clients {
    /// Connects, and obeys until there is nothing more to obey.
    pub fn run(&self) -> Result<()> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()?;
        let feeds = runtime.block_on(self.connect())?;
        let (told, board) = watch::channel(Board::new(&Expected::default(), self.count));
        let mut watching = JoinSet::new();
        for feed in &feeds {
            watching.spawn_on(see_changes(feed.clone(), board.clone()), runtime.handle());
        }
        say(&json!({ "ready": {} }))?;
        for line in std::io::stdin().lock().lines() {
            match serde_json::from_str(&line?)? {
                Order::Load(expected) => {
                    runtime.block_on(async {
                        for feed in &feeds {
                            while !expected.is_there(&feed.snapshot()) {
                                tokio::time::sleep(LOOK).await;
                            }
                        }
                    });
                    told.send_replace(Board::new(&expected, self.count));
                    say(&json!({ "ready": {} }))?;
                }
                Order::End {} => say(&Seen {
                    seen: told.borrow().take(),
                })?,
            }
        }
        runtime.shutdown_background();
        Ok(())
    }

    async fn connect(&self) -> Result<Vec<Feed<Numbered>>> {
        let mut feeds = Vec::new();
        while feeds.len() < self.count as usize {
            let mut connecting = JoinSet::new();
            for _ in 0..AT_ONCE.min(self.count as usize - feeds.len()) {
                let endpoint = format!("http://{}", self.address);
                connecting.spawn(async move { Feed::connect([endpoint.as_str()], "room").await });
            }
            while let Some(feed) = connecting.join_next().await {
                feeds.push(feed?.context("connecting")?);
            }
        }
        Ok(feeds)
    }
}

async fn see_changes(feed: Feed<Numbered>, board: watch::Receiver<Arc<Board>>) {
    let mut changes = feed.changes();
    while let Some(step) = changes.next().await {
        // A clock that cannot be read makes every latency wrong: nothing is seen then, and the run fails.
        let Ok(now) = nanos() else {
            return;
        };
        if step.from.is_none() {
            continue;
        }
        let board = Arc::clone(&board.borrow());
        for (_, row) in &step.on {
            board.see(row.0, now);
        }
        for (key, _) in &step.off {
            if let Some(number) = key.as_u64().and_then(|key| key.checked_sub(CLOSED)) {
                board.see(number, now);
            }
        }
    }
}
