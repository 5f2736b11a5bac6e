//! Open loop: transactions at times that are fixed before a run, and whoever watches for what they do.
//!
//! Nothing waits for anything before it is sent. Each transaction has a number, which the row carries in `uid`; it
//! opens a row or closes one. From its intended time are recorded: the acknowledgement of its commit, and the moment
//! at which the watcher sees what it did. The rows that are closed are there before the run.

mod client;
mod remote;
mod schedule;

use std::sync::mpsc::{Receiver, RecvError, SyncSender, sync_channel};
use std::thread::{self, ScopedJoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};
use mysql_async::prelude::Queryable as _;
use mysql_async::{Conn, Opts};
use onair_sdk::Snapshot;
use onair_xtask::servers::Server;
use serde::{Deserialize, Serialize};
use tokio::runtime::Runtime;

pub use self::client::{Client, Numbered};
pub use self::remote::{Order, Remote, Seen, nanos};
pub use self::schedule::{DISCARDED, Schedule};
use crate::harness::Latencies;

/// Keys of the rows that are opened, from here on by number. Those below are there all the time.
pub const OPENED: u64 = 1 << 32;
/// Keys of the rows that are closed.
pub const CLOSED: u64 = 1 << 33;
/// A transaction that takes this long is lost.
const LOST_AFTER: Duration = Duration::from_secs(20);
/// Until somebody who does not get ready is given up.
const READY_LIMIT: Duration = Duration::from_secs(120);
/// From "everybody is ready" to the first intended time.
const BEFORE_START: Duration = Duration::from_millis(200);

/// What is done to the table.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Transactions a second.
    pub rate: u32,
    pub seconds: u32,
    /// Every second transaction closes a row; else all of them open one.
    pub closes: bool,
    /// Of the table `room` that it is done to.
    pub database: &'static str,
}

/// What is there before a run, and how much will come.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Expected {
    pub count: u64,
    /// Rows to be closed.
    pub to_close: u64,
}

impl Expected {
    /// Whether these keys are those that are there before a run, and none of the run before.
    pub fn are(&self, keys: impl Iterator<Item = u64>) -> bool {
        let (mut opened, mut to_close) = (0, 0);
        for key in keys.filter(|key| *key >= OPENED) {
            if key >= CLOSED {
                to_close += 1;
            } else {
                opened += 1;
            }
        }
        opened == 0 && to_close == self.to_close
    }

    /// Whether a replica has them.
    pub fn is_there(&self, snapshot: &Snapshot<Numbered>) -> bool {
        self.are(snapshot.iter().filter_map(|(key, _)| key.as_u64()))
    }
}

/// What came of it.
#[derive(Debug)]
pub struct Ran {
    pub count: u64,
    pub acknowledged: Latencies,
    pub seen: Latencies,
    /// How late the latest transaction was sent, because those before it were not acknowledged yet.
    pub latest_send: Duration,
}

/// Who watches for the changes.
pub trait Watcher: Send {
    /// Returns when it sees all that is there, and would see what comes.
    fn get_ready(&mut self, load: &Load) -> Result<()>;

    /// Sees every transaction, or says how many are lost.
    fn watch(&mut self, sightings: &mut Sightings) -> Result<()>;
}

/// What a watcher has seen so far.
#[derive(Debug)]
pub struct Sightings {
    schedule: Schedule,
    has_come: Vec<bool>,
    left: u64,
    latencies: Latencies,
}

impl Sightings {
    fn new(schedule: Schedule) -> Self {
        Sightings {
            has_come: vec![false; schedule.count as usize],
            left: schedule.count,
            latencies: Latencies::new(),
            schedule,
        }
    }

    /// The transaction with this number was seen.
    pub fn see(&mut self, number: u64, at: Instant) -> Result<()> {
        let came = self.has_come.get_mut(number as usize);
        let came = came.with_context(|| format!("the transaction {number} was never sent"))?;
        ensure!(!*came, "the transaction {number} came twice");
        *came = true;
        self.left -= 1;
        match self.schedule.latency(number, at) {
            Some(latency) => self.latencies.record(latency),
            None => Ok(()),
        }
    }

    /// Whether the transaction with this number was seen.
    pub fn has(&self, number: u64) -> bool {
        self.has_come.get(number as usize).is_some_and(|came| *came)
    }

    pub fn is_complete(&self) -> bool {
        self.left == 0
    }

    pub fn schedule(&self) -> &Schedule {
        &self.schedule
    }

    /// When what was not seen is lost.
    pub fn deadline(&self) -> Instant {
        let schedule = &self.schedule;
        schedule.start + schedule.offset(schedule.count) + LOST_AFTER
    }

    /// The error of those that are lost, with the first few of them.
    pub fn lost(&self) -> anyhow::Error {
        let lost = (0..).zip(&self.has_come).filter(|(_, came)| !**came);
        let first: Vec<String> = lost
            .take(5)
            .map(|(number, _)| u64::to_string(&number))
            .collect();
        anyhow!(
            "{} of {} transactions are lost: {}",
            self.left,
            self.schedule.count,
            first.join(", ")
        )
    }
}

impl Load {
    pub fn count(&self) -> u64 {
        u64::from(self.rate) * u64::from(self.seconds)
    }

    /// Whether the transaction with this number closes a row.
    pub fn closes(&self, number: u64) -> bool {
        self.closes && number % 2 == 1
    }

    /// The key of the row that it opens or closes.
    pub fn key(&self, number: u64) -> u64 {
        number + if self.closes(number) { CLOSED } else { OPENED }
    }

    /// How many rows are there to be closed.
    pub fn to_close(&self) -> u64 {
        if self.closes { self.count() / 2 } else { 0 }
    }

    pub fn expected(&self) -> Expected {
        Expected {
            count: self.count(),
            to_close: self.to_close(),
        }
    }

    /// So that a commit which takes longer than the distance between two holds none up.
    fn senders(&self) -> u64 {
        u64::from(self.rate / 125).clamp(4, 24)
    }

    /// Sends it, waits until all of it was seen, and takes it away again. `begun` is called just before its first
    /// intended time, for whoever measures from then on.
    pub fn run<M>(
        &self,
        server: &Server,
        url: &str,
        watcher: &mut dyn Watcher,
        begun: impl FnOnce() -> Result<M>,
    ) -> Result<(Ran, M)> {
        self.prepare(server)?;
        let ran = self.send_and_watch(url, watcher, begun)?;
        // The next run's feed is as large as this one's was.
        let database = self.database;
        server.sql(&format!("DELETE FROM {database}.room WHERE id >= {OPENED}"))?;
        Ok(ran)
    }

    fn prepare(&self, server: &Server) -> Result<()> {
        let (rows, database) = (self.to_close(), self.database);
        if rows == 0 {
            return Ok(());
        }
        server.sql(&format!(
            "SET SESSION cte_max_recursion_depth = {rows};
             INSERT INTO {database}.room (uid, id, area_id, title, live_status, live_time)
             WITH RECURSIVE room (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM room WHERE n < {rows})
             SELECT 2 * n - 1, {CLOSED} + 2 * n - 1, 7, 'Late night jazz and tea', 1, NOW(6) FROM room;"
        ))?;
        Ok(())
    }

    fn send_and_watch<M>(
        &self,
        url: &str,
        watcher: &mut dyn Watcher,
        begun: impl FnOnce() -> Result<M>,
    ) -> Result<(Ran, M)> {
        let senders = self.senders();
        thread::scope(|scope| {
            let (ready, readies) = sync_channel(senders as usize + 1);
            let mut go = Vec::new();
            let mut starter = || {
                let (start, started) = sync_channel(1);
                go.push(start);
                (ready.clone(), started)
            };
            let (told, started) = starter();
            let watching = scope.spawn(move || {
                watcher.get_ready(self)?;
                told.send(())?;
                // Nothing comes before it is sent, so the watcher may stand still until then.
                let mut sightings = Sightings::new(started.recv()?);
                watcher.watch(&mut sightings)?;
                anyhow::Ok(sightings)
            });
            let sending: Vec<_> = (0..senders)
                .map(|number| {
                    let (told, started) = starter();
                    scope.spawn(move || self.send(url, (number, senders), told, &started))
                })
                .collect();
            drop(ready);
            for _ in 0..=senders {
                if let Err(error) = readies.recv_timeout(READY_LIMIT) {
                    // Those that wait end now, and say no more than that.
                    drop(go);
                    let watching = joined(watching).map(drop);
                    let sending = sending.into_iter().map(|sender| joined(sender).map(drop));
                    let failed = sending.chain([watching]).filter_map(Result::err);
                    let cause = failed.into_iter().find(|error| !error.is::<RecvError>());
                    return Err(cause
                        .unwrap_or_else(|| error.into())
                        .context(format!("somebody was not ready within {READY_LIMIT:?}")));
                }
            }
            let measured = begun()?;
            let schedule = Schedule {
                start: Instant::now() + BEFORE_START,
                rate: self.rate,
                count: self.count(),
            };
            for start in &go {
                start.send(schedule)?;
            }
            let mut acknowledged = Latencies::new();
            let (mut sent, mut latest_send) = (0, Duration::ZERO);
            for sender in sending {
                let its = joined(sender)?;
                acknowledged.add(&its.acknowledged)?;
                sent += its.sent;
                latest_send = latest_send.max(its.latest_send);
            }
            let sightings = joined(watching)?;
            let count = schedule.count;
            let seen = count - sightings.left;
            ensure!(
                sent == count && seen == count,
                "{count} transactions were meant, {sent} sent and {seen} seen"
            );
            let ran = Ran {
                count,
                acknowledged,
                seen: sightings.latencies,
                latest_send,
            };
            Ok((ran, measured))
        })
    }

    /// Every so manieth transaction of the schedule, one at a time.
    fn send(
        &self,
        url: &str,
        (number, step): (u64, u64),
        ready: SyncSender<()>,
        start: &Receiver<Schedule>,
    ) -> Result<OfSender> {
        let runtime = runtime()?;
        let mut conn = runtime.block_on(Conn::new(Opts::from_url(url)?))?;
        let database = self.database;
        let open = runtime.block_on(conn.prep(format!(
            "INSERT INTO {database}.room (uid, id, area_id, title, live_status, live_time) \
             VALUES (?, ?, 7, 'Late night jazz and tea', 1, NOW(6))"
        )))?;
        let close = runtime.block_on(conn.prep(format!(
            "UPDATE {database}.room SET live_status = 0 WHERE id = ?"
        )))?;
        ready.send(())?;
        drop(ready);
        let schedule = start.recv()?;
        let mut of = OfSender {
            acknowledged: Latencies::new(),
            sent: 0,
            latest_send: Duration::ZERO,
        };
        for number in (number..schedule.count).step_by(step as usize) {
            of.latest_send = of.latest_send.max(schedule.wait_for(number));
            let key = self.key(number);
            if self.closes(number) {
                runtime.block_on(conn.exec_drop(&close, (key,)))?;
            } else {
                runtime.block_on(conn.exec_drop(&open, (number, key)))?;
            }
            of.sent += 1;
            if let Some(latency) = schedule.latency(number, Instant::now()) {
                of.acknowledged.record(latency)?;
            }
        }
        runtime.block_on(conn.disconnect())?;
        Ok(of)
    }
}

fn joined<T>(thread: ScopedJoinHandle<'_, Result<T>>) -> Result<T> {
    thread.join().map_err(|_| anyhow!("a thread panicked"))?
}

fn runtime() -> Result<Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?)
}

struct OfSender {
    acknowledged: Latencies,
    sent: u64,
    latest_send: Duration,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sightings(count: u64) -> Sightings {
        Sightings::new(Schedule {
            start: Instant::now(),
            rate: 1,
            count,
        })
    }

    #[test]
    fn every_transaction_is_seen_once() {
        let mut sightings = sightings(2);
        let now = Instant::now();
        sightings.see(1, now).expect("it was sent");
        assert!(!sightings.is_complete());
        let twice = sightings.see(1, now).expect_err("once");
        assert!(twice.to_string().contains("came twice"));
        let never = sightings.see(2, now).expect_err("there are two");
        assert!(never.to_string().contains("never sent"));
        assert_eq!(
            sightings.lost().to_string(),
            "1 of 2 transactions are lost: 0"
        );
        sightings.see(0, now).expect("it was sent");
        assert!(sightings.is_complete());
    }

    #[test]
    fn rows_that_are_closed_are_not_those_that_are_opened() {
        let load = Load {
            rate: 2,
            seconds: 3,
            closes: true,
            database: "live",
        };
        assert_eq!(load.key(2), OPENED + 2);
        assert_eq!(load.key(3), CLOSED + 3);
        assert_eq!(load.to_close(), 3);
        let opens = Load {
            closes: false,
            ..load
        };
        assert_eq!(opens.key(3), OPENED + 3);
        assert_eq!(opens.to_close(), 0);
    }
}
