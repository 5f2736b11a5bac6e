//! The scan of the demo, by the steps of DESIGN section 5: wait for what the stream delivered, read key ranges
//! each by statements of their own, then `gtid_owned`, then `gtid_executed`.

use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::future::try_join_all;
use onair_model::predicate::Truth;
use onair_model::value::Value;
use onair_model::{GtidSet, Key};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::room::{self, COLUMNS, Room};
use super::server::{Shared, disconnected, unreachable};
use crate::feed::Feed;
use crate::source::{Gate, RowSink, ScanRequest, Scanned, SourceError};

/// Rows that one statement reads: its view is of one moment, the next statement's of another.
const STATEMENT_ROWS: usize = 512;

/// How long to wait for a transaction that the stream delivered to be executed.
const WAIT_MAX: Duration = Duration::from_secs(30);

/// Runs one scan.
pub(super) async fn run(
    shared: &Shared,
    request: &ScanRequest,
    sink: &RowSink,
) -> Result<Scanned, SourceError> {
    let columns = bound(&request.feed)?;
    let scan = Scan {
        max_rate: request.max_rate,
        gate: request.gate.clone(),
        ..Scan::new(shared, &request.feed, &columns, sink)?
    };
    shared.lock().counts.scans += 1;
    scan.pause().await;
    scan.wait(&request.delivered).await?;
    scan.pause().await;
    try_join_all(
        scan.ranges(request.parallel)
            .into_iter()
            .map(|range| scan.range(range)),
    )
    .await?;
    scan.pause().await;
    // This order, or a transaction that moves from one to the other in between is in neither.
    let owned = shared.lock().owned();
    scan.pause().await;
    let mut high = scan.shared.lock().executed().clone();
    scan.pause().await;
    scan.connected()?;
    if !high.contains_set(&owned) {
        shared.lock().counts.highs_from_owned += 1;
    }
    high.union(&owned);
    Ok(Scanned {
        high,
        rows: scan.live.into_inner(),
        bytes: scan.bytes.into_inner(),
        busy: Duration::from_micros(scan.busy.into_inner()),
    })
}

/// Gives the row of one key, if it is live.
pub(super) fn one(
    shared: &Shared,
    feed: &Feed,
    key: &Key,
    sink: &RowSink,
) -> Result<(), SourceError> {
    let columns = bound(feed)?;
    let scan = Scan::new(shared, feed, &columns, sink)?;
    let room = key
        .as_u64()
        .and_then(|id| shared.lock().visible().get(&id).cloned());
    if let Some(room) = room {
        scan.row(&room);
    }
    Ok(())
}

/// Ordinals of the columns asked for: key columns, then exported ones.
fn bound(feed: &Feed) -> Result<Vec<usize>, SourceError> {
    let table = room::table();
    if feed.config.table != table.name {
        return Err(SourceError::NoTable {
            table: feed.config.table.to_string(),
        });
    }
    if feed.columns[..] != table.columns[..] {
        return Err(SourceError::Refused {
            what: format!("table {}", table.name),
            reason: "its columns are not those that the feed was bound to".into(),
            remedy: "bind the feed again".into(),
        });
    }
    Ok(feed.key.iter().chain(&feed.exported).copied().collect())
}

struct Scan<'a> {
    shared: &'a Shared,
    feed: &'a Feed,
    columns: &'a [usize],
    sink: &'a RowSink,
    incarnation: u64,
    begun: Instant,
    max_rate: Option<u64>,
    gate: Gate,
    /// Rows read and rows that the predicate let through, over all ranges.
    read: AtomicU64,
    live: AtomicU64,
    /// Bytes of those, as MySQL would send them.
    bytes: AtomicU64,
    /// Microseconds of statements.
    busy: AtomicU64,
}

/// Keys from the first bound to before the second.
type Range = (Bound<u64>, Bound<u64>);

impl<'a> Scan<'a> {
    fn new(
        shared: &'a Shared,
        feed: &'a Feed,
        columns: &'a [usize],
        sink: &'a RowSink,
    ) -> Result<Self, SourceError> {
        Ok(Scan {
            shared,
            feed,
            columns,
            sink,
            incarnation: shared.connect()?.incarnation,
            begun: Instant::now(),
            max_rate: None,
            gate: Gate::always_open(),
            read: AtomicU64::new(0),
            live: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            busy: AtomicU64::new(0),
        })
    }

    async fn pause(&self) {
        let pause = self.shared.lock().scan_pause();
        if pause > Duration::ZERO {
            sleep(pause).await;
        }
    }

    fn connected(&self) -> Result<(), SourceError> {
        if self.shared.connect()?.incarnation == self.incarnation {
            Ok(())
        } else {
            Err(disconnected())
        }
    }

    /// WAIT_FOR_EXECUTED_GTID_SET
    async fn wait(&self, delivered: &GtidSet) -> Result<(), SourceError> {
        let wait = async {
            let mut changes = self.shared.changes();
            let mut waited = false;
            loop {
                self.connected()?;
                let due = {
                    let mut state = self.shared.lock();
                    if state.executed().contains_set(delivered) {
                        return Ok(());
                    }
                    if !waited {
                        waited = true;
                        state.counts.scan_waits += 1;
                    }
                    let now = Instant::now();
                    state.next_due(now).unwrap_or(now + WAIT_MAX)
                };
                tokio::select! {
                    biased;
                    changed = changes.changed() => changed.map_err(|_| disconnected())?,
                    () = sleep_until(due) => {}
                }
            }
        };
        timeout(WAIT_MAX, wait).await.unwrap_or_else(|_| {
            let seconds = WAIT_MAX.as_secs();
            Err(unreachable(format!(
                "the server did not execute {delivered} within {seconds} s"
            )))
        })
    }

    /// The key space in `parallel` ranges of about as many keys, open at both ends.
    fn ranges(&self, parallel: usize) -> Vec<Range> {
        let parallel = parallel.clamp(1, 64);
        let state = self.shared.lock();
        let rooms = state.visible();
        let step = rooms.len().div_ceil(parallel).max(1);
        let mut bounds: Vec<u64> = rooms.keys().step_by(step).skip(1).copied().collect();
        drop(state);
        bounds.dedup();
        let mut from = Bound::Unbounded;
        let mut ranges = Vec::with_capacity(parallel);
        for bound in bounds {
            ranges.push((from, Bound::Excluded(bound)));
            from = Bound::Included(bound);
        }
        ranges.push((from, Bound::Unbounded));
        ranges
    }

    /// One connection: statement after statement until its range is read.
    async fn range(&self, range: Range) -> Result<(), SourceError> {
        let (mut from, to) = range;
        loop {
            self.gate.pass().await;
            self.connected()?;
            let statement = Instant::now();
            let rooms: Vec<Arc<Room>> = {
                let mut state = self.shared.lock();
                let rooms = state.view(Instant::now());
                rooms
                    .range((from, to))
                    .take(STATEMENT_ROWS)
                    .map(|(_, room)| room.clone())
                    .collect()
            };
            for room in &rooms {
                self.row(room);
            }
            let busy = statement.elapsed().as_micros() as u64;
            self.busy.fetch_add(busy, Ordering::Relaxed);
            let Some(last) = rooms.last().filter(|_| rooms.len() == STATEMENT_ROWS) else {
                return Ok(());
            };
            from = Bound::Excluded(last.id);
            self.throttle(rooms.len() as u64).await;
            self.pause().await;
        }
    }

    fn row(&self, room: &Room) {
        let values = room.values();
        let predicate = &self.feed.live_when;
        let mut asked = [Value::Null; COLUMNS];
        for (to, from) in asked.iter_mut().zip(predicate.columns()) {
            *to = values[*from];
        }
        if predicate.eval(&asked[..predicate.columns().len()]) != Truth::True {
            return;
        }
        let row: Vec<Value<'_>> = self.columns.iter().map(|at| values[*at]).collect();
        // All in one task: its ranges take turns.
        (self.sink)(0, &row);
        self.live.fetch_add(1, Ordering::Relaxed);
        let bytes: u64 = row.iter().map(sent_bytes).sum();
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Lets others run, and waits until so many rows may have been read.
    async fn throttle(&self, read: u64) {
        let read = self.read.fetch_add(read, Ordering::Relaxed) + read;
        match self.max_rate {
            Some(rate) => {
                let due = Duration::from_secs_f64(read as f64 / rate.max(1) as f64);
                sleep_until(self.begun + due).await;
            }
            None => tokio::task::yield_now().await,
        }
    }
}

/// Bytes of a value in MySQL's binary protocol.
fn sent_bytes(value: &Value<'_>) -> u64 {
    match value {
        Value::Null => 0,
        Value::Bytes(bytes) => bytes.len() as u64 + 1,
        Value::Float(_) => 4,
        Value::DateTime(_) => 12,
        _ => 8,
    }
}
