//! A feed with its log, its store and the truth; a merger that is started and stopped at will.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;

use onair_log::EventLog;
use onair_log::memory::{MemoryConfig, MemoryLog};
use onair_log::testing::{Content, Workload, Writer, Writes};
use onair_merger::status::FeedStatus;
use onair_merger::{FeedLayout, Merger, Settings, Status};
use onair_model::assembly::{Assembly, Rewind};
use onair_model::{Bucket, Buckets, Key, Lineage, Row, Version};
use onair_store::head::{self, CutsHead, Head, LoadError};
use onair_store::redb::RedbStore;
use onair_store::{CellKey, ShardStore, StoreError, requests};
use tempfile::TempDir;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub(crate) const LINEAGE: Lineage = Lineage::new(7);
pub(crate) const FEED: &str = "rooms";

/// How often a condition that is waited for is looked at, and how long at most. Time is paused.
const LOOK: Duration = Duration::from_millis(200);
const PATIENCE: Duration = Duration::from_secs(300);

/// One feed and everything around it.
pub(crate) struct World {
    pub(crate) writer: Writer,
    pub(crate) log: Arc<MemoryLog>,
    pub(crate) store: Arc<RedbStore>,
    pub(crate) settings: Settings,
    /// The highest data version of each head that was looked at: none goes back.
    highest: RefCell<Vec<Version>>,
    _dir: TempDir,
}

/// A merger at work. Dropped, it ends wherever it is.
pub(crate) struct Running {
    pub(crate) status: Arc<Status>,
    stop: CancellationToken,
    task: JoinSet<()>,
}

impl Running {
    /// Ends it in peace: what it read is folded.
    pub(crate) async fn stop(mut self) {
        self.stop.cancel();
        while let Some(ended) = self.task.join_next().await {
            ended.unwrap();
        }
    }

    /// Ends it wherever it is.
    pub(crate) async fn kill(mut self) {
        self.task.abort_all();
        while let Some(ended) = self.task.join_next().await {
            assert!(ended.is_ok() || ended.is_err_and(|error| error.is_cancelled()));
        }
    }

    pub(crate) fn feed(&self) -> FeedStatus {
        self.status.feeds().remove(FEED).unwrap_or_default()
    }
}

impl World {
    /// An empty store, and a log with an opened epoch of these rows.
    pub(crate) async fn new(buckets: u16, rows: Writes) -> Self {
        World::with_room(buckets, rows, MemoryConfig::default().capacity).await
    }

    /// With so many bytes of log.
    pub(crate) async fn with_room(buckets: u16, rows: Writes, capacity: usize) -> Self {
        let dir = TempDir::new().unwrap();
        let store = Arc::new(RedbStore::open(dir.path().join("store.redb")).unwrap());
        let tail = None;
        let log = Arc::new(MemoryLog::new(MemoryConfig { capacity, tail }));
        let layout = Buckets::new(NonZeroU16::new(buckets).unwrap());
        let mut writer = Writer::new(FEED, layout, LINEAGE);
        writer.open(&*log, rows).await;
        World {
            writer,
            log,
            store,
            settings: Settings::default(),
            highest: RefCell::new(vec![Version::ZERO; layout.count()]),
            _dir: dir,
        }
    }

    pub(crate) fn buckets(&self) -> Buckets {
        self.writer.layout.buckets
    }

    /// Starts a merger.
    pub(crate) fn start(&self) -> Running {
        self.start_on(
            Arc::clone(&self.log) as Arc<dyn EventLog>,
            Arc::clone(&self.store) as Arc<dyn ShardStore>,
        )
    }

    /// Starts one with something between it and its log and store.
    pub(crate) fn start_on(&self, log: Arc<dyn EventLog>, store: Arc<dyn ShardStore>) -> Running {
        let status = Arc::new(Status::default());
        let stop = CancellationToken::new();
        let merger = Merger {
            lineage: LINEAGE,
            log,
            store,
            feeds: vec![FeedLayout {
                name: FEED.into(),
                buckets: self.buckets(),
            }],
            settings: self.settings.clone(),
            status: Arc::clone(&status),
        };
        let mut task = JoinSet::new();
        task.spawn(merger.run(stop.clone()));
        Running { status, stop, task }
    }

    /// Lets a merger fold everything that is in the log, and end.
    pub(crate) async fn folded(&self) {
        let merger = self.start();
        self.until_folded().await;
        merger.stop().await;
    }

    pub(crate) async fn head(&self, bucket: Bucket) -> Option<Head> {
        let key = CellKey::Head(FEED.into(), bucket);
        let cell = self.store.cell(&key).await.unwrap()?;
        Some(Head::from_bytes(&FEED.into(), &cell.value).unwrap())
    }

    pub(crate) async fn cuts_head(&self) -> Option<CutsHead> {
        let key = CellKey::CutsHead(FEED.into());
        let cell = self.store.cell(&key).await.unwrap()?;
        Some(CutsHead::from_bytes(&FEED.into(), &cell.value).unwrap())
    }

    /// Waits until something is so.
    pub(crate) async fn until(&self, what: &str, mut so: impl AsyncFnMut(&Self) -> bool) {
        let looks = PATIENCE.as_millis() / LOOK.as_millis();
        for _ in 0..looks {
            if so(self).await {
                return;
            }
            tokio::time::sleep(LOOK).await;
        }
        panic!("never: {what}");
    }

    /// Waits until every head is at the writer's version, and checks that each names the truth.
    pub(crate) async fn until_folded(&self) {
        let d = |bucket| self.writer.now().d(bucket);
        self.until("every head is where the writer is", async |world: &Self| {
            for bucket in world.buckets().all() {
                let head = world.head(bucket).await;
                if head.is_none_or(|head| head.state.d != d(bucket)) {
                    return false;
                }
            }
            true
        })
        .await;
        for bucket in self.buckets().all() {
            self.check_bucket(bucket).await;
        }
    }

    /// Waits until all segments that a bucket's head names are there, and checks them.
    pub(crate) async fn until_sound(&self, bucket: Bucket) {
        self.until("the head's segments are sound", async |world: &Self| {
            let Some(head) = world.head(bucket).await else {
                return false;
            };
            let loaded = head::load_bucket(&*world.store, &FEED.into(), &head).await;
            loaded.is_ok_and(|loaded| {
                let mut assembly = Assembly::new(LINEAGE, world.buckets());
                assembly.load(bucket, loaded).is_ok()
            })
        })
        .await;
        self.check_bucket(bucket).await;
    }

    /// Waits until the cuts head is at this version.
    pub(crate) async fn until_cut(&self, version: Version) {
        let at = async |world: &Self| {
            let cuts = world.cuts_head().await;
            cuts.is_some_and(|cuts| cuts.cut.version == version)
        };
        self.until(&format!("the cuts head is at {version}"), at)
            .await;
    }

    /// A bucket's head names exactly what the bucket held at its data version.
    pub(crate) async fn check_bucket(&self, bucket: Bucket) -> Option<Head> {
        loop {
            let head = self.head(bucket).await?;
            let state = head.state;
            let highest = self.highest.borrow()[bucket.index()];
            assert!(highest <= state.d, "the head of {bucket} went back");
            self.highest.borrow_mut()[bucket.index()] = state.d;
            let truth = self.writer.at(state.d);
            assert_eq!(truth.d(bucket), state.d, "a data version of {bucket}");
            assert_eq!(truth.sum(bucket), (state.digest, state.count).sum());
            let loaded = match head::load_bucket(&*self.store, &FEED.into(), &head).await {
                Ok(loaded) => loaded,
                // It may have moved on, and the window may be none.
                Err(LoadError::Store(StoreError::Missing { .. }))
                    if self.head(bucket).await.as_ref() != Some(&head) =>
                {
                    continue;
                }
                Err(error) => panic!("{error}: {head:?}"),
            };
            let mut rows = loaded.base;
            let mut last = loaded.base_d;
            for commit in loaded.commits {
                assert!(commit.version > last, "folded twice: {}", commit.version);
                last = commit.version;
                onair_model::assembly::apply(&mut rows, &commit.events);
            }
            assert_eq!(content(rows.iter()), *truth.bucket(bucket), "{bucket}");
            return Some(head);
        }
    }

    /// What a server that has nothing but the store can show: a whole cut, proven by its digest.
    pub(crate) async fn whole_cut(&self) -> Option<Version> {
        let cut = self.cuts_head().await?.cut;
        let mut assembly = Assembly::new(LINEAGE, self.buckets());
        assembly.cut(&cut);
        for (bucket, d) in &cut.touched {
            let head = self.head(*bucket).await.expect("the cuts head follows all");
            let (store, feed) = (&*self.store, &FEED.into());
            let loaded = if head.base.d > *d {
                let old = head::load_old(store, feed, &head).await.unwrap();
                old.unwrap_or_else(|| panic!("{bucket}: what the cut at {d} needs is kept"))
            } else {
                head::load_bucket(store, feed, &head).await.unwrap()
            };
            assembly.load(*bucket, loaded).unwrap();
        }
        let published = assembly.publish(Rewind::Wait);
        let snapshot = published
            .unwrap_or_else(|hold| panic!("{hold:?} at {}", cut.version))
            .snapshot;
        let version = snapshot.seal.version;
        let truth = self.writer.at(version).content();
        assert_eq!(content(snapshot.iter()), truth, "{version}");
        Some(version)
    }

    /// Does the reader's part for buckets that the merger asks for. The number of them.
    pub(crate) async fn answer(&mut self, log: &dyn EventLog) -> usize {
        let feed: Arc<str> = FEED.into();
        let standing = requests::standing(&*self.store, &feed).await.unwrap();
        if standing.is_empty() {
            return 0;
        }
        self.writer.write(log, false).await;
        let buckets: Vec<Bucket> = standing.iter().map(|(bucket, _)| *bucket).collect();
        onair_log::testing::append(log, self.writer.restate(&buckets)).await;
        for (bucket, request) in &standing {
            requests::answered(&*self.store, &feed, *bucket, request)
                .await
                .unwrap();
        }
        standing.len()
    }

    /// Commits one row in a bucket.
    pub(crate) fn touch(&mut self, workload: &mut Workload, bucket: Bucket) -> Version {
        let key = self.key(bucket, 0);
        let row = workload.row(20);
        self.writer.commit(vec![(key, Some(row))])
    }

    /// A bucket's `nth` key.
    pub(crate) fn key(&self, bucket: Bucket, nth: usize) -> u64 {
        let of = |key: &u64| self.buckets().of(&Key::from_u64(*key)) == bucket;
        (0..).filter(of).nth(nth).unwrap()
    }
}

/// Digest and count, however they are held.
pub(crate) trait AsSum {
    fn sum(self) -> onair_model::Sum;
}

impl AsSum for (onair_model::Digest, u64) {
    fn sum(self) -> onair_model::Sum {
        onair_model::Sum {
            digest: self.0,
            count: self.1,
        }
    }
}

pub(crate) fn content<'a>(rows: impl Iterator<Item = (&'a Key, &'a Row)>) -> Content {
    rows.map(|(key, row)| (key.clone(), row.clone()))
        .collect::<BTreeMap<_, _>>()
}
