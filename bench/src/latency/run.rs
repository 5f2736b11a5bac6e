//! One run: senders and a client on threads of their own, and what each of them saw when.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, ScopedJoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};
use hdrhistogram::Histogram;
use mysql_async::prelude::Queryable as _;
use mysql_async::{Conn, Opts};
use onair_sdk::{Changes, Feed, FromRow, RowError, RowRef};
use onair_xtask::servers::Server;
use tokio::runtime::Runtime;

use super::schedule::Schedule;

/// Keys of the rows that are sent; those below are there already.
const FIRST_KEY: u64 = 1 << 32;
/// A transaction that takes this long is lost.
const LOST_AFTER: Duration = Duration::from_secs(20);
/// Until a thread that does not get ready is given up.
const READY_LIMIT: Duration = Duration::from_secs(60);
/// From "everybody is ready" to the first intended time.
const BEFORE_START: Duration = Duration::from_millis(200);

/// What everybody works on.
pub(super) struct World<'a> {
    pub(super) server: &'a Server,
    pub(super) url: String,
    /// Of OnAir.
    pub(super) address: String,
}

/// What one run gave. Latencies are nanoseconds from the intended time.
pub(super) struct Latencies {
    pub(super) acknowledged: Histogram<u64>,
    pub(super) seen: Histogram<u64>,
    pub(super) sent: u64,
    pub(super) received: u64,
    /// How late the latest transaction was sent, because those before it were not acknowledged yet.
    pub(super) latest_send: u64,
}

/// From a nanosecond to a minute with three digits. What lies beyond is an error, never cut off.
pub(super) fn histogram() -> Result<Histogram<u64>> {
    Ok(Histogram::new_with_bounds(1, 60_000_000_000, 3)?)
}

/// The row as the client keeps it: its number in the run stands in `uid`.
struct Sent(u64);

impl FromRow for Sent {
    fn from_row(row: RowRef<'_>) -> Result<Self, RowError> {
        row.get("uid").map(Sent)
    }
}

/// So that a commit which takes longer than the distance between two holds none up.
fn senders(rate: u32) -> u64 {
    u64::from(rate / 125).clamp(4, 24)
}

impl World<'_> {
    /// Sends at this rate for so long, waits for all of it, and takes it away again.
    pub(super) fn run(&self, rate: u32, seconds: u32) -> Result<Latencies> {
        let count = u64::from(rate) * u64::from(seconds);
        let senders = senders(rate);
        let latencies = thread::scope(|scope| {
            let (ready, readies) = sync_channel(senders as usize + 1);
            let mut go = Vec::new();
            let mut starter = || {
                let (start, started) = sync_channel(1);
                go.push(start);
                (ready.clone(), started)
            };
            let (told, started) = starter();
            let client = scope.spawn(move || observe(&self.address, told, &started));
            let sending: Vec<_> = (0..senders)
                .map(|number| {
                    let (told, started) = starter();
                    let url = &self.url;
                    scope.spawn(move || send(url, (number, senders), told, &started))
                })
                .collect();
            for _ in 0..=senders {
                // Those that wait end when `go` is dropped.
                readies
                    .recv_timeout(READY_LIMIT)
                    .context("a sender or the client did not get ready")?;
            }
            let schedule = Schedule {
                start: Instant::now() + BEFORE_START,
                rate,
                count,
            };
            for start in &go {
                start.send(schedule)?;
            }
            let mut acknowledged = histogram()?;
            let (mut sent, mut latest_send) = (0, Duration::ZERO);
            for sender in sending {
                let its = joined(sender)?;
                acknowledged.add(&its.acknowledged)?;
                sent += its.sent;
                latest_send = latest_send.max(its.latest_send);
            }
            let (seen, received) = joined(client)?;
            ensure!(
                sent == count && received == count,
                "{count} transactions were meant, {sent} sent and {received} seen"
            );
            anyhow::Ok(Latencies {
                acknowledged,
                seen,
                sent,
                received,
                latest_send: latest_send.as_nanos() as u64,
            })
        })?;
        // The next run's feed is as large as this one's was.
        self.server
            .sql(&format!("DELETE FROM live.room WHERE id >= {FIRST_KEY}"))?;
        Ok(latencies)
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
    acknowledged: Histogram<u64>,
    sent: u64,
    latest_send: Duration,
}

/// Every so manieth transaction of the schedule, one at a time.
fn send(
    url: &str,
    (number, step): (u64, u64),
    ready: SyncSender<()>,
    start: &Receiver<Schedule>,
) -> Result<OfSender> {
    let runtime = runtime()?;
    let mut conn = runtime.block_on(Conn::new(Opts::from_url(url)?))?;
    let insert = runtime.block_on(conn.prep(
        "INSERT INTO room (uid, id, area_id, title, live_status, live_time) \
         VALUES (?, ?, 7, 'Late night jazz and tea', 1, NOW(6))",
    ))?;
    ready.send(())?;
    let schedule = start.recv()?;
    let mut of = OfSender {
        acknowledged: histogram()?,
        sent: 0,
        latest_send: Duration::ZERO,
    };
    for number in (number..schedule.count).step_by(step as usize) {
        of.latest_send = of.latest_send.max(schedule.wait_for(number));
        runtime.block_on(conn.exec_drop(&insert, (number, FIRST_KEY + number)))?;
        of.sent += 1;
        if let Some(latency) = schedule.latency(number, Instant::now()) {
            of.acknowledged.record(latency.as_nanos() as u64)?;
        }
    }
    runtime.block_on(conn.disconnect())?;
    Ok(of)
}

/// The client, until it has seen all or something is lost.
fn observe(
    address: &str,
    ready: SyncSender<()>,
    start: &Receiver<Schedule>,
) -> Result<(Histogram<u64>, u64)> {
    let runtime = runtime()?;
    runtime.block_on(async {
        let endpoint = format!("http://{address}");
        let feed = Feed::<Sent>::connect([endpoint.as_str()], "room").await?;
        let mut changes = feed.changes();
        // The rows of the run before may still be on their way out.
        while feed
            .snapshot()
            .iter()
            .any(|(key, _)| key.as_u64() >= Some(FIRST_KEY))
        {
            changes.next().await.context("the feed was closed")?;
        }
        let mut changes = feed.changes().after(feed.snapshot());
        ready.send(())?;
        // Nothing comes before it is sent, so the feed's task may stand still.
        let schedule = start.recv()?;
        receive(&schedule, &mut changes).await
    })
}

async fn receive(
    schedule: &Schedule,
    changes: &mut Changes<Sent>,
) -> Result<(Histogram<u64>, u64)> {
    let mut seen = histogram()?;
    let mut has_come = vec![false; schedule.count as usize];
    let mut received = 0;
    let deadline = schedule.start + schedule.offset(schedule.count) + LOST_AFTER;
    while received < schedule.count {
        let step = tokio::time::timeout_at(deadline.into(), changes.next()).await;
        let now = Instant::now();
        let Ok(step) = step else {
            let of = schedule.count;
            anyhow::bail!("{} of {of} transactions are lost", of - received);
        };
        for (_, row) in step.context("the feed was closed")?.on {
            let came = has_come.get_mut(row.0 as usize);
            let came = came.with_context(|| format!("{} was never sent", row.0))?;
            ensure!(!*came, "{} came twice", row.0);
            *came = true;
            received += 1;
            if let Some(latency) = schedule.latency(row.0, now) {
                seen.record(latency.as_nanos() as u64)?;
            }
        }
    }
    Ok((seen, received))
}
