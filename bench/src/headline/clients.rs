//! Many replicas in one process, each with a connection of its own, and when the last of them has seen each
//! transaction.

use std::io::BufRead as _;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use onair_sdk::Feed;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::task::JoinSet;

use super::board::Board;
use crate::harness::child::say;
use crate::load::{CLOSED, Numbered, Order, Seen, nanos};

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

impl Clients {
    /// Connects, and obeys until there is nothing more to obey.
    pub fn run(&self) -> Result<()> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()?;
        let feeds = runtime.block_on(self.connect())?;
        let board = Arc::new(Board::new(self.count));
        let mut watching = JoinSet::new();
        for feed in &feeds {
            watching.spawn_on(
                see_changes(feed.clone(), Arc::clone(&board)),
                runtime.handle(),
            );
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
                    board.begin(&expected);
                    say(&json!({ "ready": {} }))?;
                }
                Order::End {} => say(&Seen { seen: board.take() })?,
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

async fn see_changes(feed: Feed<Numbered>, board: Arc<Board>) {
    let mut changes = feed.changes();
    while let Some(step) = changes.next().await {
        // A clock that cannot be read makes every latency wrong: nothing is seen then, and the run fails.
        let Ok(now) = nanos() else {
            return;
        };
        if step.from.is_none() {
            continue;
        }
        for (key, row) in &step.on {
            // Rows to be closed come on before a run, and may be told after it has begun.
            if key.as_u64().is_some_and(|key| key < CLOSED) {
                board.see(row.0, now);
            }
        }
        for (key, _) in &step.off {
            if let Some(number) = key.as_u64().and_then(|key| key.checked_sub(CLOSED)) {
                board.see(number, now);
            }
        }
    }
}
