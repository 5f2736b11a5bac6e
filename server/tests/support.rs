//! A feed with its log, its store and the truth; servers, and a keeper of heads in the merger's place.

use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use onair_log::memory::{MemoryConfig, MemoryLog};
use onair_log::testing::{Workload, Writer, Writes};
use onair_log::{EventLog, Partition};
use onair_model::schema::{Field, FieldKind, Schema};
use onair_model::{Bucket, BucketState, Buckets, Epoch, Key, Lineage, Version};
use onair_proto::v1;
use onair_proto::v1::on_air_client::OnAirClient;
use onair_server::{Backends, FeedLayout, FeedReport, Handle, ServeError, Server, Settings};
use onair_store::cells::{Moved, move_cell};
use onair_store::checkpoint::CellValue as _;
use onair_store::head::{self, CutsHead, Head};
use onair_store::redb::RedbStore;
use onair_store::schema::FeedSchema;
use onair_store::{CellKey, ShardStore, StoreError};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::client::{Client, channel};

pub(crate) const LINEAGE: Lineage = Lineage::new(7);
pub(crate) const FEED: &str = "rooms";

/// How often a condition that is waited for is looked at, and how long at most. Time is paused.
const LOOK: Duration = Duration::from_millis(50);
const PATIENCE: Duration = Duration::from_secs(300);

/// Makes an attempt until it is done.
macro_rules! sure {
    ($attempt:expr) => {
        loop {
            match $attempt.await {
                Ok(done) => break done,
                Err(StoreError::Unavailable { .. } | StoreError::Unknown { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        }
    };
}

/// One feed and everything around it.
pub(crate) struct World {
    pub(crate) writer: Writer,
    pub(crate) log: Arc<MemoryLog>,
    pub(crate) store: Arc<RedbStore>,
    pub(crate) settings: Settings,
    /// What the keeper of heads writes through.
    pub(crate) keeper: Arc<dyn ShardStore>,
    _dir: TempDir,
}

/// A server at work.
pub(crate) struct Running {
    pub(crate) handle: Handle,
    /// Where it listens.
    pub(crate) url: String,
    stop: CancellationToken,
    task: JoinSet<Result<(), ServeError>>,
}

impl Running {
    pub(crate) fn report(&self) -> FeedReport {
        self.handle.feeds().remove(0)
    }

    pub(crate) fn version(&self) -> Option<Version> {
        self.report().seal.map(|seal| seal.version)
    }

    pub(crate) async fn client(&self) -> OnAirClient<tonic::transport::Channel> {
        OnAirClient::new(channel(&self.url).await)
    }

    pub(crate) async fn status(&self) -> v1::FeedStatus {
        let answer = self.client().await.status(v1::StatusRequest {}).await;
        answer.unwrap().into_inner().feeds.remove(0)
    }

    pub(crate) fn begin_stop(&self) {
        self.stop.cancel();
    }

    /// Waits until it has ended; it was told to.
    pub(crate) async fn ended(mut self) {
        self.stop.cancel();
        while let Some(ended) = self.task.join_next().await {
            ended.unwrap().unwrap();
        }
    }

    /// Waits until something is so.
    pub(crate) async fn until(&self, what: &str, mut so: impl AsyncFnMut(&Self) -> bool) {
        for _ in 0..PATIENCE.as_millis() / LOOK.as_millis() {
            if so(self).await {
                return;
            }
            tokio::time::sleep(LOOK).await;
        }
        panic!("never: {what}; {:?}", self.report());
    }

    pub(crate) async fn until_at(&self, version: Version) {
        let at = async |server: &Self| server.version() == Some(version);
        self.until(&format!("{version} is shown"), at).await;
    }
}

impl World {
    /// An empty store, and a log with an opened epoch of these rows.
    pub(crate) async fn new(buckets: u16, rows: Writes) -> Self {
        let dir = TempDir::new().unwrap();
        let store = Arc::new(RedbStore::open(dir.path().join("store.redb")).unwrap());
        let log = Arc::new(MemoryLog::new(MemoryConfig::default()));
        let layout = Buckets::new(NonZeroU16::new(buckets).unwrap());
        let mut writer = Writer::new(FEED, layout, LINEAGE);
        writer.time = wall_clock();
        writer.open(&*log, rows).await;
        let world = World {
            writer,
            log,
            keeper: Arc::clone(&store) as _,
            store,
            settings: Settings::default(),
            _dir: dir,
        };
        world.describe(1, FieldKind::UInt).await;
        world
    }

    /// Writes the schema of an epoch and those after it; the kind of its one column says which it is.
    pub(crate) async fn describe(&self, since: u32, kind: FieldKind) {
        let new = FeedSchema {
            since: Epoch::new(since).unwrap(),
            schema: schema(kind),
            buckets: self.buckets(),
        };
        let store: &dyn ShardStore = &*self.keeper;
        let held = onair_store::schema::held(store, &FEED.into())
            .await
            .unwrap();
        let expect = held.map(|held| held.token);
        let moved = move_cell(store, &CellKey::Schema(FEED.into()), expect, new.to_bytes()).await;
        assert!(matches!(moved.unwrap(), Moved::Won(_)));
    }

    pub(crate) fn buckets(&self) -> Buckets {
        self.writer.layout.buckets
    }

    pub(crate) async fn start(&self) -> Running {
        let (log, store) = (Arc::clone(&self.log), Arc::clone(&self.store));
        self.start_on(log, store).await
    }

    /// Starts a server with something between it and its log and store.
    pub(crate) async fn start_on(
        &self,
        log: Arc<dyn EventLog>,
        store: Arc<dyn ShardStore>,
    ) -> Running {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let backends = Backends {
            lineage: LINEAGE,
            log,
            store,
            roles: Arc::new(Vec::new),
            build: "onair test".into(),
        };
        let feed = FeedLayout {
            name: FEED.into(),
            buckets: self.buckets(),
        };
        let server = Server::new(listener, backends, vec![feed], self.settings.clone());
        let handle = server.handle();
        let stop = CancellationToken::new();
        let mut task = JoinSet::new();
        task.spawn(server.run(stop.clone()));
        Running {
            handle,
            url,
            stop,
            task,
        }
    }

    /// Starts one and waits until it shows where the writer is.
    pub(crate) async fn serving(&self) -> Running {
        let server = self.start().await;
        server.until_at(self.writer.version()).await;
        server
    }

    /// Writes a few transactions, each with its cut, and waits until the server shows each.
    pub(crate) async fn publish(&mut self, workload: &mut Workload, server: &Running, cuts: usize) {
        for _ in 0..cuts {
            let writes = workload.writes();
            let version = self.writer.commit(writes);
            self.writer.write(&*self.log, false).await;
            server.until_at(version).await;
        }
    }

    /// What the client holds is what the writer wrote.
    pub(crate) fn check(&self, client: &Client) {
        let version = client.version.unwrap();
        let truth = self.writer.at(version);
        assert_eq!(client.rows, truth.content(), "{version}");
        let seal = client.seal.as_ref().unwrap();
        assert_eq!(seal.commit_time, truth.commit_time);
        let gtid = truth.gtid.map(|gtid| gtid.to_string());
        assert_eq!(seal.gtid, gtid.unwrap_or_default());
        let holds = client.executed.contains_set(&truth.executed);
        assert!(holds, "{} {}", client.executed, truth.executed);
    }

    /// As [`World::check`], where the client has gone on from another server and not heard its whole GTID set yet.
    pub(crate) fn check_rows(&self, client: &Client) {
        let version = client.version.unwrap();
        let truth = self.writer.at(version);
        assert_eq!(client.rows, truth.content(), "{version}");
    }

    /// In the merger's place: every head and the cuts head at the writer's version, all of which must be flushed; bases
    /// at `base`, and what came since as deltas.
    pub(crate) async fn keep(&self, base: Version) {
        assert_eq!(self.writer.flushed(), self.writer.version(), "flush first");
        let at = self.writer.version();
        for bucket in self.buckets().all() {
            self.keep_bucket(bucket, base).await;
        }
        let cuts = CutsHead {
            cut: self.writer.cut(true),
            log: self.log_id().await,
            next_offset: self.end(Partition::Cuts).await,
        };
        assert_eq!(cuts.cut.version, at);
        self.put(CellKey::CutsHead(FEED.into()), cuts.to_bytes())
            .await;
    }

    /// One bucket's head.
    pub(crate) async fn keep_bucket(&self, bucket: Bucket, base: Version) -> Head {
        let head = self.head_of(bucket, base).await;
        self.put(CellKey::Head(FEED.into(), bucket), head.to_bytes())
            .await;
        head
    }

    /// One bucket's head as it would be written now, with its segments.
    pub(crate) async fn head_of(&self, bucket: Bucket, base: Version) -> Head {
        let (store, writer) = (&*self.keeper, &self.writer);
        let (from, now) = (writer.at(base), writer.now());
        let (d, sum) = (now.d(bucket), now.sum(bucket));
        let (prev, base_sum) = (from.d(bucket), from.sum(bucket));
        let rows = || from.bucket(bucket).iter();
        let base_ref = sure!(head::write_base(store, FEED, prev, base_sum, rows()));
        let commits = writer.commits(bucket, base, writer.version());
        let delta = sure!(head::write_delta(store, FEED, prev, sum, &commits));
        Head {
            lineage: LINEAGE,
            state: BucketState {
                epoch: writer.version().epoch(),
                d,
                through: writer.version(),
                digest: sum.digest,
                count: sum.count,
                claimed: d,
            },
            gtid: now.gtid,
            commit_time: now.commit_time,
            source_time: writer.time,
            base: base_ref,
            deltas: delta.into_iter().collect(),
            log: self.log_id().await,
            next_offset: self.end(Partition::Bucket(bucket)).await,
            old: None,
        }
    }

    pub(crate) async fn put(&self, key: CellKey, value: bytes::Bytes) {
        let store = &*self.keeper;
        loop {
            let cell = sure!(store.cell(&key));
            let expect = cell.map(|cell| cell.token);
            let moved = move_cell(store, &key, expect, value.clone()).await;
            match moved {
                Ok(Moved::Won(_)) => return,
                // One of its own that was late.
                Ok(Moved::Lost(_)) | Err(_) => {}
            }
        }
    }

    async fn log_id(&self) -> String {
        let id = self.log.open(&self.writer.layout).await.unwrap();
        id.0.to_string()
    }

    async fn end(&self, partition: Partition) -> u64 {
        let ends = self.log.ends(FEED).await.unwrap().into_iter();
        let mut of = ends.filter(|(found, _)| *found == partition);
        of.next().unwrap().1.high.0
    }

    /// A bucket's `nth` key.
    pub(crate) fn key(&self, bucket: Bucket, nth: usize) -> u64 {
        let of = |key: &u64| self.buckets().of(&Key::from_u64(*key)) == bucket;
        (0..).filter(of).nth(nth).unwrap()
    }

    /// Commits one row in a bucket.
    pub(crate) fn touch(&mut self, workload: &mut Workload, bucket: Bucket) -> Version {
        let key = self.key(bucket, 0);
        let row = workload.row(20);
        self.writer.commit(vec![(key, Some(row))])
    }
}

fn schema(kind: FieldKind) -> Schema {
    let field = |name: &str, number, kind| Field {
        column: name.into(),
        name: name.into(),
        number,
        kind,
    };
    Schema {
        feed: FEED.into(),
        table: "live.room".into(),
        key: vec![field("id", 0, FieldKind::UInt)],
        columns: vec![field("n", 1, kind)],
    }
}

/// Microseconds since 1970: what the server measures the source's age by at first.
#[expect(clippy::disallowed_methods, reason = "the tests' one wall clock")]
pub(crate) fn wall_clock() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    now.as_micros() as i64
}
