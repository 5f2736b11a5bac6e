//! Scan under fire, whole: reader, log, merger, store, server and client in one process, on a demo server at which every
//! stage of a commit is late now and then, with one scan after the other beside its workload.
//!
//! A scan that puts back an older row or brings back a deleted one makes content that the next scan does not find in the
//! table: drift, and an epoch more than the test asked for.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use onair_bench::observer::Observer;
use onair_bench::oracle::{Content, Shape, difference};
use onair_bench::seed::seed;
use onair_cdc::config::ReaderConfig;
use onair_cdc::demo::{CommitOrder, Delay, DemoServer, DemoSettings, DemoSource, Hooks};
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

/// Times that the workload is held and the client's set compared with the table, per order of commits.
const ROUNDS: usize = 8;
/// Scans between two of them.
const SCANS_A_ROUND: u64 = 5;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scans_beside_a_heavy_writer_never_take_a_row_back() {
    // Why an epoch was opened is said there. Another test may have begun it.
    let _ = tracing_subscriber::fmt()
        .with_test_writer()
        .with_env_filter("warn,onair_cdc=info")
        .try_init();
    let seed = seed("fire");
    for order in [CommitOrder::Binlog, CommitOrder::Any] {
        under_fire(order, seed)
            .await
            .unwrap_or_else(|error| panic!("{order:?}: {error:?}"));
    }
}

async fn under_fire(order: CommitOrder, seed: u64) -> Result<()> {
    let late = |chance, millis| Delay::sometimes(chance, Duration::from_millis(millis));
    let demo = DemoServer::start(DemoSettings {
        rows: 4_000,
        live_share: 0.2,
        rate: 800.0,
        seed,
        hooks: Hooks {
            visible_delay: late(0.3, 40),
            executed_delay: late(0.5, 150),
            stream_delay: late(0.02, 100),
            scan_delay: late(0.8, 15),
            order,
        },
        ..DemoSettings::default()
    });
    let mut system = System::start(&demo).await?;
    let mut barriers = 0;
    for round in 0..ROUNDS {
        match round % 4 {
            1 => {
                demo.statement("UPDATE live.room SET online = 0 WHERE id = 0");
                barriers += 1;
            }
            3 => demo.disconnect(),
            _ => {}
        }
        let proofs = system.status().proofs + SCANS_A_ROUND;
        system
            .until("scans that agree", |status| status.proofs >= proofs)
            .await?;
        demo.pause();
        let (written, rooms) = demo.content();
        let table = live(&rooms)?;
        let held = system
            .observer
            .wait_for_set(&written.to_string(), PATIENCE)
            .await?;
        ensure!(
            held == table,
            "round {round}: {}",
            difference(&table, &held)
        );
        demo.resume();
    }
    let status = system.status();
    let proven = system.observer.feed.snapshot().proven();
    let seen = system.end().await?;
    let counts = demo.counts();
    println!(
        "{order:?}: {} scans agreed, {} epochs, {} versions seen, {} transactions; {counts:?}",
        status.proofs, status.epochs, seen, counts.transactions
    );
    ensure!(
        status.epochs == 1 + barriers,
        "{} epochs, and {barriers} barriers: a scan and the stream differed",
        status.epochs
    );
    ensure!(proven.is_some(), "the client was never told of a proof");
    // Everything that can be late was.
    for times in [
        counts.visible_delayed,
        counts.executed_delayed,
        counts.stream_delayed,
        counts.lock_conflicts,
        counts.views_behind_stream,
        counts.views_ahead_of_executed,
        counts.views_ahead_of_stream,
        counts.scan_waits,
        counts.highs_from_owned,
        counts.scan_pauses,
        counts.rollbacks,
    ] {
        ensure!(times > 0, "{counts:?}");
    }
    Ok(())
}

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
struct System {
    observer: Observer,
    reader: watch::Receiver<Status>,
    stop: CancellationToken,
    tasks: JoinSet<Result<()>>,
    _dir: TempDir,
}

impl System {
    async fn start(demo: &Arc<DemoServer>) -> Result<Self> {
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
            settings: onair_cdc::config::Settings {
                scan_period: Some(Duration::from_millis(10)),
                full_cut_every: Duration::from_millis(100),
                lease_patience: Duration::ZERO,
                ..Default::default()
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
        let feeds = reader.bind().await?;
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
            store,
            roles: Arc::new(Vec::new),
            build: "test".into(),
        };
        let layout = onair_server::FeedLayout {
            name,
            buckets,
            schema: Arc::clone(&feeds[0].schema),
        };
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
            reader: status,
            stop,
            tasks,
            _dir: dir,
        })
    }

    fn status(&self) -> Status {
        self.reader.borrow().clone()
    }

    async fn until(&mut self, what: &str, mut test: impl FnMut(&Status) -> bool) -> Result<()> {
        let done = tokio::time::timeout(PATIENCE, self.reader.wait_for(|status| test(status)));
        let is_done = done.await.is_ok_and(|done| done.is_ok());
        ensure!(
            is_done,
            "waited {PATIENCE:?} for {what}: {:?}",
            self.status()
        );
        Ok(())
    }

    /// Ends all of it; how many versions the client saw.
    async fn end(mut self) -> Result<usize> {
        let seen = self.observer.finish().await;
        self.stop.cancel();
        while let Some(ended) = self.tasks.join_next().await {
            ended??;
        }
        Ok(seen.len())
    }
}
