//! The old way: the live rows are read by SQL every so often, and two results compared.

use std::collections::HashMap;
use std::io::BufRead as _;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use mysql_async::prelude::Queryable as _;
use mysql_async::{Conn, Opts};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::harness::child::say;
use crate::load::{CLOSED, OPENED, Order, Seen, nanos};
use crate::table;

/// Whom it asks, and how often.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Poller {
    pub url: String,
    pub database: String,
    pub every_ms: u64,
}

/// Key and number of each live row.
type Live = HashMap<u64, u64>;

impl Poller {
    /// Polls, and obeys until there is nothing more to obey.
    pub fn run(&self) -> Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let mut conn = runtime.block_on(Conn::new(Opts::from_url(&self.url)?))?;
        let orders = orders();
        let columns = table::COLUMNS.join(", ");
        let sql = format!(
            "SELECT id, {columns} FROM {}.room WHERE {}",
            self.database,
            table::LIVE_WHEN
        );
        let mut poll = || -> Result<Live> {
            type Row = (u64, u64, i64, String, Option<mysql_async::Value>);
            let rows: Vec<Row> = runtime.block_on(conn.exec(&sql, ()))?;
            Ok(rows.into_iter().map(|row| (row.0, row.1)).collect())
        };
        let mut held = poll()?;
        say(&json!({ "ready": {} }))?;
        let every = Duration::from_millis(self.every_ms);
        let mut due = Instant::now() + every;
        let mut seen = Vec::new();
        loop {
            match orders.recv_timeout(due.saturating_duration_since(Instant::now())) {
                Ok(Order::Load(expected)) => {
                    while !expected.are(held.keys().copied()) {
                        held = poll()?;
                    }
                    say(&json!({ "ready": {} }))?;
                }
                Ok(Order::End {}) => say(&Seen {
                    seen: std::mem::take(&mut seen),
                })?,
                Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => return Ok(()),
                Err(std::sync::mpsc::RecvTimeoutError::Timeout) => {
                    due += every;
                    let now_live = poll()?;
                    let now = nanos()?;
                    let opened = now_live
                        .iter()
                        .filter(|(key, _)| **key >= OPENED && !held.contains_key(key));
                    seen.extend(opened.map(|(_, number)| (*number, now)));
                    let closed = held
                        .keys()
                        .filter(|key| **key >= CLOSED && !now_live.contains_key(key));
                    seen.extend(closed.map(|key| (key - CLOSED, now)));
                    held = now_live;
                }
            }
        }
    }
}

/// What it is told, as it is told.
fn orders() -> Receiver<Order> {
    let (told, orders) = sync_channel(4);
    thread::spawn(move || -> Result<()> {
        for line in std::io::stdin().lock().lines() {
            let order = serde_json::from_str(&line?).context("an order that makes no sense")?;
            told.send(order)?;
        }
        Ok(())
    });
    orders
}
