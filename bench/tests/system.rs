//! All roles and a client in this process, on a demo server: for tests that need to decide what the source does.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use onair_bench::observer::Observer;
use onair_bench::oracle::{Content, Shape, difference};
use onair_cdc::config::{ReaderConfig, Settings};
use onair_cdc::demo::{DemoServer, DemoSource};
use onair_cdc::feed::{FeedConfig, TableName};
use onair_cdc::reader::Reader;
use onair_cdc::status::Status;
use onair_log::EventLog;
use onair_log::memory::{MemoryConfig, MemoryLog};
use onair_merger::Merger;
use onair_model::Buckets;
use onair_server::{Backends, Server};
use onair_store::redb::RedbStore;
use onair_store::{ShardStore, cells};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::world::PATIENCE;

/// The rooms on air, as SELECT would print them.
fn live<'a>(
    rooms: impl IntoIterator<Item = (&'a u64, &'a Arc<onair_cdc::demo::Room>)>,
) -> Result<Content> {
    let or_null = |value: Option<String>| value.unwrap_or_else(|| "NULL".to_owned());
    let mut lines = String::new();
    for (id, room) in rooms {
        let time = room.live_time.map(|at| {
            format!(
                "{:04}-{:02}-{:02} {:02}:{:02}:{:02}.{:06}",
                at.year, at.month, at.day, at.hour, at.minute, at.second, at.micros
            )
        });
        writeln!(
            lines,
            "{id}\t{}\t{}\t{}\t{}\t{}",
            room.live_status,
            or_null(room.uid.map(|uid| uid.to_string())),
            or_null(room.area_id.map(|area| area.to_string())),
            or_null(room.title.as_deref().map(str::to_owned)),
            or_null(time)
        )?;
    }
    Shape::room().content(&lines)
}

/// All roles in this process, and a client.
pub(crate) struct System {
    pub(crate) observer: Observer,
    pub(crate) store: Arc<dyn ShardStore>,
    reader: watch::Receiver<Status>,
    stop: CancellationToken,
    tasks: JoinSet<Result<()>>,
    _dir: TempDir,
}

impl System {
    /// Starts all of it. A reader that is the only one takes its lease at once.
    pub(crate) async fn start(demo: &Arc<DemoServer>, settings: Settings) -> Result<Self> {
        // Why an epoch was opened is said there. Another test may have begun it.
        let _ = tracing_subscriber::fmt()
            .with_test_writer()
            .with_env_filter("warn,onair_cdc=info")
            .try_init();
        let dir = TempDir::new()?;
        let store: Arc<dyn ShardStore> = Arc::new(RedbStore::open(dir.path().join("onair.redb"))?);
        let lineage = cells::lineage(&*store).await?;
        let log: Arc<dyn EventLog> = Arc::new(MemoryLog::new(MemoryConfig {
            capacity: 64 << 20,
            tail: None,
        }));
        let buckets = Buckets::new(std::num::NonZeroU16::new(4).context("four buckets")?);
        let feed = FeedConfig {
            name: "room".into(),
            table: TableName {
                database: "live".into(),
                table: "room".into(),
            },
            live_when: "live_status = 1".into(),
            columns: ["uid", "area_id", "title", "live_time"]
                .map(String::from)
                .into(),
            buckets,
        };
        let config = ReaderConfig {
            source: "demo".into(),
            feeds: vec![feed],
            settings: Settings {
                lease_patience: Duration::ZERO,
                ..settings
            },
        };
        let source = Arc::new(DemoSource::new(Arc::clone(demo)));
        let reader = Reader::new(
            config,
            lineage,
            source,
            Arc::clone(&log),
            Arc::clone(&store),
        );
        let status = reader.status();
        reader.bind().await?;
        let name: Arc<str> = "room".into();
        let merger = Merger {
            lineage,
            log: Arc::clone(&log),
            store: Arc::clone(&store),
            feeds: vec![onair_merger::FeedLayout {
                name: Arc::clone(&name),
                buckets,
            }],
            settings: onair_merger::Settings::default(),
            status: Arc::default(),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?.to_string();
        let backends = Backends {
            lineage,
            log,
            store: Arc::clone(&store),
            roles: Arc::new(Vec::new),
            build: "test".into(),
        };
        let layout = onair_server::FeedLayout { name, buckets };
        let server = Server::new(
            listener,
            backends,
            vec![layout],
            onair_server::Settings::default(),
        );
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        let (a, b, c) = (stop.clone(), stop.clone(), stop.clone());
        tasks.spawn(async move { Ok(server.run(a).await?) });
        tasks.spawn(async move {
            merger.run(b).await;
            Ok(())
        });
        tasks.spawn(async move { Ok(reader.run(c).await?) });
        let observer = Observer::connect(&address).await?;
        Ok(System {
            observer,
            store,
            reader: status,
            stop,
            tasks,
            _dir: dir,
        })
    }

    pub(crate) fn status(&self) -> Status {
        self.reader.borrow().clone()
    }

    pub(crate) async fn until(
        &mut self,
        what: &str,
        mut test: impl FnMut(&Status) -> bool,
    ) -> Result<()> {
        let done = tokio::time::timeout(PATIENCE, self.reader.wait_for(|status| test(status)));
        let is_done = done.await.is_ok_and(|done| done.is_ok());
        ensure!(
            is_done,
            "waited {PATIENCE:?} for {what}: {:?}",
            self.status()
        );
        Ok(())
    }

    /// Waits until a checkpoint stands in the present epoch: a reconnect before that opens the next one.
    pub(crate) async fn checkpointed(&mut self) -> Result<()> {
        let shown = self.status().version;
        self.until("a checkpoint in the epoch", |status| {
            status
                .checkpoint
                .is_some_and(|at| shown.is_some_and(|shown| at.epoch() == shown.epoch()))
        })
        .await
    }

    /// Waits until the client has seen all that the demo has written, and compares its set with the demo's table.
    pub(crate) async fn equal(&self, demo: &DemoServer) -> Result<()> {
        let (written, rooms) = demo.content();
        let table = live(&rooms)?;
        let held = self
            .observer
            .wait_for_set(&written.to_string(), PATIENCE)
            .await?;
        ensure!(held == table, "{}", difference(&table, &held));
        Ok(())
    }

    /// Ends all of it; how many versions the client saw.
    pub(crate) async fn end(mut self) -> Result<usize> {
        let seen = self.observer.finish().await?;
        self.stop.cancel();
        while let Some(ended) = self.tasks.join_next().await {
            ended??;
        }
        Ok(seen.len())
    }
}
