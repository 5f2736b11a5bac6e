//! The whole reader on the demo server: what it makes of its past when it starts again, and of scans that find
//! something else. The log is one that outlives it, so the checkpoint follows what was appended.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use onair_log::memory::{MemoryConfig, MemoryLog};
use onair_log::{
    Durability, Ends, EventLog, Flush, Follower, Layout, LogError, LogId, Offset, Partition, Share,
};
use onair_model::cut::{Taken, admit};
use onair_model::value::Value;
use onair_model::{Bucket, BucketState, CutRecord, GtidSet, Key, Lineage, Sum, Version};
use onair_store::cells::{self, move_cell, remove_cell};
use onair_store::checkpoint::{self, EpochState};
use onair_store::head::{Head, SegmentRef};
use onair_store::redb::RedbStore;
use onair_store::{CellKey, SegmentId, ShardStore, StoreError};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::super::{DemoServer, DemoSource};
use super::quiet;
use super::reader::{feed, live};
use crate::config::{ReaderConfig, Settings};
use crate::feed::{Feed, FeedConfig, Table, TableName};
use crate::reader::{Reader, ReaderError};
use crate::sequence::sums_of;
use crate::source::{
    EventStream, Finding, Identity, RowSink, ScanRequest, Scanned, Source, SourceError,
};
use crate::status::{Phase, Status};

/// Nothing takes longer. The clock is paused: it passes when nothing else is to be done.
const PATIENCE: Duration = Duration::from_secs(60);

/// A log that says it outlives the process; here it outlives the reader.
#[derive(Debug)]
struct Kept(MemoryLog);

#[async_trait]
impl EventLog for Kept {
    fn durability(&self) -> Durability {
        Durability::Durable
    }
    async fn open(&self, layout: &Layout) -> Result<LogId, LogError> {
        self.0.open(layout).await
    }
    async fn append(&self, flush: Flush) -> Result<(), LogError> {
        self.0.append(flush).await
    }
    async fn ends(&self, feed: &str) -> Result<Vec<(Partition, Ends)>, LogError> {
        self.0.ends(feed).await
    }
    async fn follow(
        &self,
        feed: &str,
        from: &[(Partition, Offset)],
    ) -> Result<Box<dyn Follower>, LogError> {
        self.0.follow(feed, from).await
    }
    async fn share(&self, feed: &str) -> Result<Box<dyn Share>, LogError> {
        self.0.share(feed).await
    }
    async fn last_cuts(&self, feed: &str) -> Result<Vec<CutRecord>, LogError> {
        self.0.last_cuts(feed).await
    }
    fn release(&self, feed: &str, partition: Partition, offset: Offset) {
        self.0.release(feed, partition, offset);
    }
}

/// The demo, but scans do not see rows with an id below this: as if they had been deleted without a word in the binlog.
pub(super) struct Hiding {
    demo: DemoSource,
    pub(super) below: AtomicU64,
    /// Milliseconds that each scan takes longer.
    pub(super) slow: AtomicU64,
    /// The same for scans after the next one.
    pub(super) then: Mutex<Vec<u64>>,
}

#[async_trait]
impl Source for Hiding {
    async fn identity(&self) -> Result<Identity, SourceError> {
        self.demo.identity().await
    }
    async fn table(&self, name: &TableName) -> Result<Table, SourceError> {
        self.demo.table(name).await
    }
    async fn follow(&self, from: &GtidSet) -> Result<Box<dyn EventStream>, SourceError> {
        self.demo.follow(from).await
    }
    async fn scan(&self, request: &ScanRequest, sink: RowSink) -> Result<Scanned, SourceError> {
        // So that whoever watches the status sees what stands there while a scan is under way.
        let slow = 20 + self.slow.load(Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(slow)).await;
        let below = self.below.load(Ordering::Relaxed);
        if let Some(next) = self.then.lock().unwrap().pop() {
            self.below.store(next, Ordering::Relaxed);
        }
        let seen: RowSink = Arc::new(move |connection, values: &[Value<'_>]| {
            let hidden = match values[0] {
                Value::UInt(id) => id < below,
                _ => panic!("the demo's key is unsigned"),
            };
            if !hidden {
                sink(connection, values);
            }
        });
        self.demo.scan(request, seen).await
    }
    async fn row(&self, feed: &Feed, key: &Key, sink: RowSink) -> Result<(), SourceError> {
        self.demo.row(feed, key, sink).await
    }
    async fn preflight(&self, feeds: &[FeedConfig]) -> Result<Vec<Finding>, SourceError> {
        self.demo.preflight(feeds).await
    }
}

pub(super) struct World {
    pub(super) server: Arc<DemoServer>,
    pub(super) source: Arc<Hiding>,
    pub(super) feed: Arc<Feed>,
    log: Arc<Kept>,
    pub(super) store: Arc<RedbStore>,
    lineage: Lineage,
    pub(super) settings: Settings,
    _dir: tempfile::TempDir,
}

/// A reader that runs.
pub(super) struct Life {
    tasks: JoinSet<Result<(), ReaderError>>,
    stop: CancellationToken,
    pub(super) status: watch::Receiver<Status>,
}

impl World {
    pub(super) async fn new(seed: u64) -> World {
        let dir = tempfile::tempdir().unwrap();
        let server = DemoServer::start(quiet(2_000, seed));
        let store = Arc::new(RedbStore::open(dir.path().join("store")).unwrap());
        let source = Hiding {
            demo: DemoSource::new(server.clone()),
            below: AtomicU64::new(0),
            slow: AtomicU64::new(0),
            then: Mutex::default(),
        };
        World {
            server,
            source: Arc::new(source),
            feed: feed(),
            log: Arc::new(Kept(MemoryLog::new(MemoryConfig::default()))),
            lineage: cells::lineage(&*store).await.unwrap(),
            store,
            settings: Settings {
                scan_period: None,
                lease_patience: Duration::ZERO,
                ..Settings::default()
            },
            _dir: dir,
        }
    }

    pub(super) fn start(&self) -> Life {
        let config = ReaderConfig {
            source: "source".into(),
            feeds: vec![self.feed.config.clone()],
            settings: self.settings.clone(),
        };
        let reader = Reader::new(
            config,
            self.lineage,
            self.source.clone(),
            self.log.clone(),
            self.store.clone(),
        );
        let (status, stop) = (reader.status(), CancellationToken::new());
        let mut tasks = JoinSet::new();
        tasks.spawn(reader.run(stop.clone()));
        Life {
            tasks,
            stop,
            status,
        }
    }

    /// What the log's cuts state, once it is the table with everything committed so far, without hidden rows.
    pub(super) async fn equal(&self) -> Taken {
        let mut live = live(&self.feed, &self.server.table());
        let below = self.source.below.load(Ordering::Relaxed);
        live.retain(|key, _| key.as_u64().is_some_and(|id| id >= below));
        let sum = sums_of(self.feed.config.buckets, live.iter())[0];
        let name = &self.feed.config.name;
        let found = async {
            loop {
                let mut taken = None;
                for cut in self.log.last_cuts(name).await.unwrap_or_default() {
                    admit(self.lineage, 1, &mut taken, &cut);
                }
                if let Some(taken) = taken.filter(|taken| {
                    *taken.executed == self.server.written()
                        && (taken.digest, taken.count) == (sum.digest, sum.count)
                }) {
                    return taken;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(PATIENCE, found)
            .await
            .expect("the log states the table")
    }

    /// Runs for a while: 30 transactions, all of them in a checkpoint.
    pub(super) async fn lived(&self) -> Taken {
        let mut life = self.start();
        life.wait("following", |now| {
            now.phase == Phase::Following && now.proofs > 0
        })
        .await;
        self.server.work(30);
        let taken = self.equal().await;
        life.wait("a checkpoint", |now| now.checkpoint == Some(taken.version))
            .await;
        life.stop().await.unwrap();
        taken
    }

    /// The bucket's head, as a merger leaves it.
    pub(super) async fn folded(&self, taken: &Taken) {
        let base = SegmentRef {
            id: SegmentId(1),
            parts: 1,
            bytes: 1,
            d: taken.version,
            sum: Sum {
                digest: taken.digest,
                count: taken.count,
            },
            prev: taken.version,
        };
        let head = Head {
            lineage: self.lineage,
            state: BucketState {
                epoch: taken.version.epoch(),
                d: taken.vector[0],
                through: taken.version,
                digest: taken.digest,
                count: taken.count,
                claimed: taken.version,
            },
            gtid: None,
            commit_time: 0,
            source_time: 0,
            base,
            deltas: Vec::new(),
            log: String::new(),
            next_offset: 0,
            old: None,
        };
        let key = CellKey::Head(Arc::clone(&self.feed.config.name), Bucket::new(0));
        let moved = move_cell(&*self.store, &key, None, head.to_bytes()).await;
        moved.unwrap();
    }

    /// Why the last epoch was opened.
    async fn reason(&self) -> String {
        let key = CellKey::Epoch("source".into());
        let held = checkpoint::read::<EpochState>(&*self.store, &key).await;
        held.unwrap().unwrap().value.reason
    }

    /// Starts again; gives what is shown then, and why an epoch was opened if one was.
    async fn again(&self, before: Version) -> (Taken, Option<String>) {
        let mut life = self.start();
        life.wait("following", |now| now.phase == Phase::Following)
            .await;
        let taken = self.equal().await;
        life.stop().await.unwrap();
        let reason = match taken.version.epoch() > before.epoch() {
            true => Some(self.reason().await),
            false => None,
        };
        (taken, reason)
    }
}

impl Life {
    pub(super) async fn wait(&mut self, what: &str, test: impl FnMut(&Status) -> bool) {
        let waited = tokio::time::timeout(PATIENCE, self.status.wait_for(test)).await;
        let found = waited.unwrap_or_else(|_| panic!("never: {what}")).is_ok();
        assert!(found, "the reader ended before {what}");
    }

    /// Ends it as a kill would.
    pub(super) async fn kill(mut self) {
        self.tasks.shutdown().await;
    }

    pub(super) async fn stop(mut self) -> Result<(), ReaderError> {
        self.stop.cancel();
        self.tasks.join_next().await.unwrap().unwrap()
    }
}

#[tokio::test(start_paused = true)]
async fn a_restart_goes_on_without_a_scan() {
    let world = World::new(11).await;
    let before = world.lived().await;
    world.server.work(30);
    let (after, reason) = world.again(before.version).await;
    assert_eq!(reason, None);
    assert!(after.version > before.version);
}

#[tokio::test(start_paused = true)]
async fn gtids_given_again_after_a_lost_tail_open_an_epoch() {
    let world = World::new(12).await;
    let before = world.lived().await;
    // More than was lost: by numbers alone nothing is missing.
    assert_eq!(world.server.lose_tail(5), 5);
    world.server.work(30);
    let (after, reason) = world.again(before.version).await;
    let reason = reason.expect("an epoch");
    assert!(reason.ends_with("its GTID was used again"), "{reason}");
    assert!(after.lost_tail);
}

#[tokio::test(start_paused = true)]
async fn numbers_that_have_grown_again_after_a_reset_open_an_epoch() {
    let world = World::new(13).await;
    let before = world.lived().await;
    let had = before.executed.to_string();
    world.server.reset_gtids();
    world.server.work(300);
    assert!(
        world.server.written().contains_set(&before.executed),
        "{had} was not reached again"
    );
    let (after, reason) = world.again(before.version).await;
    let reason = reason.expect("an epoch");
    assert!(reason.ends_with("its GTID was used again"), "{reason}");
    assert!(after.lost_tail);
}

#[tokio::test(start_paused = true)]
async fn a_binlog_purged_meanwhile_opens_an_epoch() {
    let world = World::new(14).await;
    let before = world.lived().await;
    world.server.work(10);
    world.server.rotate();
    world.server.work(10);
    world.server.purge();
    let (after, reason) = world.again(before.version).await;
    let reason = reason.expect("an epoch");
    assert!(reason.contains("no longer holds"), "{reason}");
    assert!(!after.lost_tail);
}

#[tokio::test(start_paused = true)]
async fn a_checkpoint_that_is_gone_opens_an_epoch_and_a_damaged_one_is_refused() {
    let world = World::new(15).await;
    let before = world.lived().await;
    let key = CellKey::Checkpoint("source".into());
    let cell = world.store.cell(&key).await.unwrap().unwrap();
    remove_cell(&*world.store, &key, cell.token).await.unwrap();
    let (_, reason) = world.again(before.version).await;
    assert_eq!(reason.as_deref(), Some("epoch 1 has no checkpoint"));

    let held = world.store.cell(&key).await.unwrap();
    let token = held.map(|cell| cell.token);
    let damaged = bytes::Bytes::from_static(b"\xff\xff");
    move_cell(&*world.store, &key, token, damaged)
        .await
        .unwrap();
    let mut life = world.start();
    let ended = life.tasks.join_next().await.unwrap().unwrap();
    let refused = matches!(
        ended,
        Err(ReaderError::Store(StoreError::Unreadable { .. }))
    );
    assert!(refused, "{ended:?}");
}

#[tokio::test(start_paused = true)]
async fn a_source_that_is_away_is_waited_for() {
    let world = World::new(16).await;
    let mut life = world.start();
    life.wait("a checkpoint", |now| now.checkpoint.is_some())
        .await;
    world.server.network(super::super::Network::Down);
    life.wait("connecting", |now| now.phase == Phase::Connecting)
        .await;
    world.server.work(30);
    world.server.network(super::super::Network::Up);
    let taken = world.equal().await;
    assert_eq!(taken.version.epoch().get(), 1);
    life.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_the_binlog_does_not_tell_the_next_scan_finds() {
    let mut world = World::new(17).await;
    world.settings.scan_period = Some(Duration::from_secs(5));
    let life = world.start();
    let whole = world.equal().await;
    let first = live(&world.feed, &world.server.table());
    let (first, _) = first.first_key_value().unwrap();
    world
        .source
        .below
        .store(first.as_u64().unwrap() + 1, Ordering::Relaxed);
    let without = world.equal().await;
    assert_eq!(without.count, whole.count - 1);
    assert!(without.version.epoch() > whole.version.epoch());
    assert_eq!(world.reason().await, "a scan found drift");
    world.source.below.store(0, Ordering::Relaxed);
    let again = world.equal().await;
    assert!(again.version.epoch() > without.version.epoch());
    life.stop().await.unwrap();
}

/// At the opening of an epoch: nothing is left of the table, as a second scan says, too.
#[tokio::test(start_paused = true)]
async fn an_epoch_that_would_begin_with_far_less_is_held_for_a_second_scan() {
    let world = World::new(18).await;
    let before = world.lived().await;
    world.folded(&before).await;
    world.server.truncate();
    let mut life = world.start();
    life.wait("held", |now| now.phase == Phase::Held).await;
    let empty = world.equal().await;
    assert_eq!(empty.count, 0);
    life.stop().await.unwrap();
}

/// While following: scans that find far too little do not count until two of them find the same.
#[tokio::test(start_paused = true)]
async fn drift_beyond_the_guard_needs_two_scans_that_agree() {
    let mut world = World::new(19).await;
    world.settings.scan_period = Some(Duration::from_secs(5));
    let mut life = world.start();
    let whole = world.equal().await;
    // The next scan finds nothing, the one after it a part, those after it everything.
    *world.source.then.lock().unwrap() = vec![0, 1_000];
    world.source.below.store(u64::MAX, Ordering::Relaxed);
    life.wait("held", |now| now.phase == Phase::Held).await;
    let proofs = life.status.borrow().proofs;
    life.wait("a proof", |now| now.proofs > proofs).await;
    let after = world.equal().await;
    assert_eq!(after.version.epoch(), whole.version.epoch());

    // And two that agree do.
    world.source.below.store(1_000, Ordering::Relaxed);
    life.wait("held", |now| now.phase == Phase::Held).await;
    let part = world.equal().await;
    assert!(part.count < whole.count && part.count > 0);
    assert!(part.version.epoch() > whole.version.epoch());
    life.stop().await.unwrap();
}
