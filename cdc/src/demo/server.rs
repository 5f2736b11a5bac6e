//! The demo server: a table, a binlog and a workload in this process, and what tests can do to them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use onair_model::{Gtid, GtidSet};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::binlog::Limits;
use super::commits::Rooms;
use super::hooks::{Counts, Hooks, Network};
use super::state::State;
use super::transaction::Transaction;
use super::workload::{self, Generator};
use crate::source::SourceError;

/// How errors name the demo.
pub(super) const ADDRESS: &str = "demo";

/// Rows that one of the purged loading transactions is taken to have inserted.
const LOADED_AT_ONCE: u64 = 1_000;

/// What a demo server is made of.
#[derive(Clone, Debug)]
pub struct DemoSettings {
    /// Rows in `live.room` at the start.
    pub rows: u64,
    /// Which share of them is on air, and stays so on average.
    pub live_share: f64,
    /// Transactions a second of the workload; 0 is none.
    pub rate: f64,
    /// Seed of rows and workload.
    pub seed: u64,
    /// `@@server_uuid`; by default a random one: each server is another, as its memory ends with it.
    pub uuid: Option<u128>,
    /// Bytes of binlog kept at most. A stream slower than that finds its place purged.
    pub history_bytes: u64,
    /// Transactions kept at most.
    pub history_transactions: u64,
    /// Time without events after which a stream gets a heartbeat.
    pub heartbeat: Duration,
    /// What is late.
    pub hooks: Hooks,
}

impl Default for DemoSettings {
    fn default() -> Self {
        DemoSettings {
            rows: 100_000,
            live_share: 0.02,
            rate: 300.0,
            seed: 1,
            uuid: None,
            history_bytes: 64 << 20,
            history_transactions: 200_000,
            heartbeat: Duration::from_secs(1),
            hooks: Hooks::default(),
        }
    }
}

/// The server. It outlives the sources that are connected to it and ends, with its workload, when the last
/// handle is dropped.
#[derive(Debug)]
pub struct DemoServer {
    shared: Arc<Shared>,
    /// The workload's task; aborted when the server is dropped.
    _workload: JoinSet<()>,
}

/// What the server's task, its streams and its scans share.
#[derive(Debug)]
pub(super) struct Shared {
    state: Mutex<State>,
    generator: Mutex<Generator>,
    /// Goes up after each change that a waiter may wait for.
    changed: watch::Sender<u64>,
    running: watch::Sender<bool>,
    pub(super) heartbeat: Duration,
}

impl DemoServer {
    /// Fills the table and starts the workload, if there is to be one. Needs a tokio runtime then.
    pub fn start(settings: DemoSettings) -> Arc<DemoServer> {
        let uuid = settings.uuid.unwrap_or_else(random_uuid);
        let (generator, rooms) = Generator::new(&settings);
        let limits = Limits {
            bytes: settings.history_bytes,
            transactions: settings.history_transactions,
        };
        let loaded = 1 + settings.rows.div_ceil(LOADED_AT_ONCE);
        let mut state = State::new(uuid, settings.seed, rooms, loaded, limits);
        state.set_hooks(settings.hooks);
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            generator: Mutex::new(generator),
            changed: watch::Sender::new(0),
            running: watch::Sender::new(true),
            heartbeat: settings.heartbeat,
        });
        let mut tasks = JoinSet::new();
        if settings.rate > 0.0 {
            tasks.spawn(workload::run(shared.clone(), settings.rate, settings.seed));
        }
        Arc::new(DemoServer {
            shared,
            _workload: tasks,
        })
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Runs one transaction and commits it, unless it rolled itself back. `None` when nothing was written.
    /// `work` runs while the server is locked: it must not call the server.
    pub fn transaction(&self, work: impl FnOnce(&mut Transaction<'_>)) -> Option<Gtid> {
        let mut state = self.shared.lock();
        let mut transaction = Transaction::new(&mut state);
        work(&mut transaction);
        let committed = match transaction.finish() {
            Some(changes) => state.commit(changes, Instant::now()),
            None => {
                state.counts.rollbacks += 1;
                None
            }
        };
        drop(state);
        self.shared.notify();
        committed
    }

    /// The same in a session with `sql_log_bin = 0`: SELECT sees it, the binlog does not tell.
    pub fn unlogged(&self, work: impl FnOnce(&mut Transaction<'_>)) {
        let mut state = self.shared.lock();
        let mut transaction = Transaction::new(&mut state);
        work(&mut transaction);
        if let Some(changes) = transaction.finish() {
            state.unlogged(changes);
        }
    }

    /// Runs `count` transactions of the workload at once.
    pub fn work(&self, count: usize) {
        for _ in 0..count {
            self.shared.work();
        }
    }

    /// TRUNCATE TABLE live.room.
    pub fn truncate(&self) -> Gtid {
        self.change(|state| state.truncate(Instant::now()))
    }

    /// Any other statement of which only the text shows, e.g. DDL; the rows stay as they are.
    pub fn statement(&self, sql: &str) -> Gtid {
        self.change(|state| state.statement(sql, Instant::now()))
    }

    /// Holds the workload.
    pub fn pause(&self) {
        self.shared.running.send_replace(false);
    }

    /// Lets it run again.
    pub fn resume(&self) {
        self.shared.running.send_replace(true);
    }

    /// Replaces all delays; commits under way keep theirs.
    pub fn set_hooks(&self, hooks: Hooks) {
        self.change(|state| state.set_hooks(hooks));
    }

    /// Ends every commit under way: what is in the binlog is visible and executed. The stream's delays stay.
    pub fn settle(&self) {
        self.change(State::settle);
    }

    /// A crash that loses the newest `count` transactions and gives their GTIDs again to others. All
    /// connections end. Returns how many were lost, at most what the binlog holds.
    pub fn lose_tail(&self, count: u64) -> u64 {
        self.change(|state| state.lose_tail(count))
    }

    /// RESET BINARY LOGS AND GTIDS. All connections end; the rows stay.
    pub fn reset_gtids(&self) {
        self.change(State::reset_gtids);
    }

    /// Ends all connections.
    pub fn disconnect(&self) {
        self.change(|state| state.incarnation += 1);
    }

    /// Lets the network fail, or work again. The server goes on meanwhile.
    pub fn network(&self, network: Network) {
        self.change(|state| {
            if network == Network::Down {
                state.incarnation += 1;
            }
            state.network = network;
        });
    }

    /// FLUSH BINARY LOGS: the next transaction begins another file.
    pub fn rotate(&self) {
        self.change(State::rotate);
    }

    /// PURGE BINARY LOGS TO the newest file.
    pub fn purge(&self) {
        self.change(State::purge);
    }

    /// The table as the binlog has it: after every transaction committed so far.
    pub fn table(&self) -> Rooms {
        self.shared.lock().latest_table()
    }

    /// The same with [`DemoServer::written`], both of one moment: the truth at a GTID set beside a running workload.
    pub fn content(&self) -> (GtidSet, Rooms) {
        let state = self.shared.lock();
        (state.written(), state.latest_table())
    }

    /// The table as SELECT sees it now.
    pub fn visible(&self) -> Rooms {
        self.shared.lock().visible().clone()
    }

    /// `@@gtid_executed`
    pub fn executed(&self) -> GtidSet {
        self.shared.lock().executed().clone()
    }

    /// All transactions committed so far, executed or owned.
    pub fn written(&self) -> GtidSet {
        self.shared.lock().written()
    }

    /// How often what happened.
    pub fn counts(&self) -> Counts {
        self.shared.lock().counts
    }

    /// The binlog files held, oldest first, as they would stand on disk: name and content.
    pub fn binlogs(&self) -> Vec<(String, Vec<u8>)> {
        let state = self.shared.lock();
        state
            .binlog
            .files()
            .map(|file| (file.name(), file.bytes()))
            .collect()
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let outcome = change(&mut self.shared.lock());
        self.shared.notify();
        outcome
    }
}

impl Drop for DemoServer {
    fn drop(&mut self) {
        // Streams that are still open must not wait for a server that is gone.
        self.disconnect();
    }
}

impl Shared {
    /// The state, every stage done that is due.
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        // A panic in a test's transaction leaves the state whole: a transaction changes it only by its commit.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.advance(Instant::now());
        state
    }

    /// The same over a new connection.
    pub(super) fn connect(&self) -> Result<MutexGuard<'_, State>, SourceError> {
        let state = self.lock();
        match state.network {
            Network::Up => Ok(state),
            Network::Down => Err(unreachable("connection refused")),
            Network::Hung => Err(unreachable("connection timed out")),
        }
    }

    fn notify(&self) {
        self.changed.send_modify(|count| *count += 1);
    }

    /// Sees changes from now on.
    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    pub(super) fn running(&self) -> watch::Receiver<bool> {
        self.running.subscribe()
    }

    /// One transaction of the workload.
    pub(super) fn work(&self) {
        let mut generator = self
            .generator
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        generator.step(&mut self.lock(), Instant::now());
        drop(generator);
        self.notify();
    }
}

/// What a client sees when the server ends its connection.
pub(super) fn disconnected() -> SourceError {
    unreachable("lost connection to the server")
}

pub(super) fn unreachable(reason: impl Into<String>) -> SourceError {
    SourceError::Unreachable {
        address: ADDRESS.into(),
        reason: reason.into(),
    }
}

/// A random UUID of version 4.
fn random_uuid() -> u128 {
    let mut bytes = [0; 16];
    // Without the system's randomness the clock still tells two servers apart.
    if getrandom::fill(&mut bytes).is_err() {
        bytes[..8].copy_from_slice(&crate::clock::unix_micros().to_le_bytes());
    }
    let random = u128::from_be_bytes(bytes);
    let version = 0xf << 76;
    let variant = 0x3 << 62;
    (random & !version & !variant) | 0x4 << 76 | 0x2 << 62
}
