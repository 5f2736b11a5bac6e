//! What happens to a topic behind everybody's back: acknowledged entries that are gone, entries of strangers, another
//! topic. Merger and server either go on, or say what is missing and are right again once it is stated.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use onair_log::EventLog;
use onair_log::kafka::{KafkaLog, Operator};
use onair_log::testing::{Opening, Workload, Writer, append};
use onair_log::{Offset, Partition};
use onair_model::{Bucket, Lineage};
use onair_store::redb::RedbStore;
use onair_xtask::servers::{Engine, Kafka};
use tempfile::TempDir;
use tokio::time::sleep;

use super::feed::Feed;
use super::roles::{Merging, Serving};
use super::{file, is_left_out, kafka, log_in, prefix, until};

const BUCKETS: u16 = 2;

struct World {
    brokers: String,
    prefix: String,
    log: Arc<KafkaLog>,
    store: Arc<RedbStore>,
    feed: Feed,
    _dir: TempDir,
}

impl World {
    async fn new(server: &Kafka, seed: u64) -> Self {
        let (prefix, dir) = (prefix(), TempDir::new().expect("a folder"));
        let (log, store) = (log_in(server.brokers(), &prefix), file(&dir));
        let workload = Workload::new(seed, 40, 2000);
        let (of_log, of_store) = (Arc::clone(&log), Arc::clone(&store));
        let feed = Feed::open("rooms", BUCKETS, workload, of_log, of_store).await;
        World {
            brokers: server.brokers().to_owned(),
            prefix,
            log,
            store,
            feed,
            _dir: dir,
        }
    }

    fn operator(&self) -> Operator {
        Operator::new(&self.log, &self.feed.writer.layout)
    }

    fn merge(&self) -> Merging {
        let (log, store) = (Arc::clone(&self.log), Arc::clone(&self.store));
        let settings = onair_merger::Settings::default();
        Merging::start(std::slice::from_ref(&self.feed), log, store, settings)
    }

    async fn serve(&self) -> Serving {
        let (log, store) = (Arc::clone(&self.log), Arc::clone(&self.store));
        Serving::start(&self.feed, log, store).await
    }

    async fn write(&mut self, transactions: usize) {
        for _ in 0..transactions {
            self.feed.write(false).await;
        }
        self.feed.write(true).await;
    }

    /// Changes a row of each bucket, so that each has something to miss.
    async fn touch_all(&mut self) {
        let buckets = self.feed.buckets();
        let keys = buckets.all().map(|bucket| {
            let is_of = |key: &u64| buckets.of(&onair_model::Key::from_u64(*key)) == bucket;
            (0..).find(is_of).expect("a key of each bucket")
        });
        let keys: Vec<u64> = keys.collect();
        let rows = keys
            .into_iter()
            .map(|key| (key, Some(self.feed.workload.row(20))));
        let rows = rows.collect();
        self.feed.writer.commit(rows);
        self.feed.writer.write(&*self.log, true).await;
    }

    fn all(&self) -> Vec<Bucket> {
        self.feed.buckets().all().collect()
    }

    async fn settle(&mut self, merging: &Merging, serving: &Serving) {
        self.feed.write(true).await;
        self.feed.until_folded().await;
        serving.until_shown(&self.feed).await;
        let feed = &self.feed;
        let is_whole = async || merging.of(feed).stopped.is_empty();
        until("no bucket is stopped", is_whole).await;
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        match entry.file_type().expect("its type").is_dir() {
            true => copy(&from, &to),
            false => drop(fs::copy(&from, &to).expect("a copy")),
        }
    }
}

/// All copies of what was acknowledged last are gone: a power cut, or a leader that was elected unclean.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledged_entries_that_are_gone_are_missed_and_stated_again() {
    if is_left_out(Engine::Kafka) {
        return;
    }
    let server = Kafka::start_own(None).expect("a Kafka");
    let mut world = World::new(&server, 1).await;
    let merging = world.merge();
    let serving = world.serve().await;
    world.write(10).await;
    world.settle(&merging, &serving).await;
    server.stop().expect("it stops");
    let data = server.data_dir().expect("its folder").join("log");
    let backup = TempDir::new().expect("a folder");
    copy(&data, backup.path());
    server.restart().expect("it starts");
    // The server takes what comes now; the merger is away.
    merging.stop().await;
    world.touch_all().await;
    world.write(10).await;
    serving.until_shown(&world.feed).await;
    let shown = serving.shown(&world.feed).expect("it was shown");
    server.kill9().expect("it is killed");
    fs::remove_dir_all(&data).expect("it is gone");
    copy(backup.path(), &data);
    server.restart().expect("it starts");

    let merging = world.merge();
    world.touch_all().await;
    let all = world.all();
    let feed = &world.feed;
    let is_noticed = async || merging.of(feed).stopped.len() == all.len();
    until("the merger misses what is gone", is_noticed).await;
    let still = serving.shown(&world.feed).expect("it stays");
    assert!(still.version >= shown.version);
    world.feed.until_asked(&all).await;
    world.settle(&merging, &serving).await;
    let later = world.serve().await;
    later.until_shown(&world.feed).await;
    later.stop().await;
    merging.stop().await;
    serving.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_merger_that_retention_has_passed_asks_for_what_it_missed() {
    let Some(server) = kafka() else { return };
    let mut world = World::new(server, 2).await;
    let merging = world.merge();
    world.write(10).await;
    world.feed.until_folded().await;
    merging.stop().await;
    world.touch_all().await;
    world.write(10).await;
    let ends = world.log.ends("rooms").await.expect("ends");
    let ends: Vec<_> = ends.into_iter().map(|(of, ends)| (of, ends.high)).collect();
    world.operator().delete_below(&ends).await;
    let merging = world.merge();
    let serving = world.serve().await;
    world.touch_all().await;
    let all = world.all();
    world.feed.until_asked(&all).await;
    world.settle(&merging, &serving).await;
    merging.stop().await;
    serving.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_strangers_write_is_shown_to_nobody() {
    let Some(server) = kafka() else { return };
    let mut world = World::new(server, 3).await;
    let merging = world.merge();
    let serving = world.serve().await;
    world.write(5).await;
    let log = Arc::clone(&world.log);
    // Bytes that are nothing, of times that would be deleted at once or never.
    let bytes: [(Option<&[u8]>, i64); 3] =
        [(None, 0), (Some(b""), i64::MAX / 2), (Some(b"\xffno"), 1)];
    let partitions = world.all().into_iter().map(Partition::Bucket);
    let entries: Vec<_> = partitions
        .chain([Partition::Cuts])
        .flat_map(|of| bytes.map(|(bytes, time)| (of, bytes, time)))
        .collect();
    world.operator().put(&entries).await;
    world.settle(&merging, &serving).await;
    // Another world's records under our feed's name.
    let layout = world.feed.buckets();
    let mut other = Writer::new("rooms", layout, Lineage::new(8));
    append(&*log, other.open_flush()).await;
    other.commit(world.feed.workload.writes());
    append(&*log, other.flush(true)).await;
    world.settle(&merging, &serving).await;
    // What stands there already, again and in any order.
    let said = world.feed.writer.clone();
    world.write(5).await;
    let mut again = world.feed.writer.clone();
    again.restart(said.version());
    append(&*log, again.flush(true)).await;
    append(&*log, said.flush(true)).await;
    append(&*log, again.flush(false)).await;
    world.settle(&merging, &serving).await;
    assert_eq!(world.feed.asked().await, [], "nothing is missing");

    // The second of two flushes, and then the first: noticed, and right once it is stated.
    let mut first = world.feed.writer.clone();
    first.commit(world.feed.workload.rows());
    let early = first.flush(false);
    first.acknowledge();
    first.commit(world.feed.workload.rows());
    append(&*log, first.flush(true)).await;
    append(&*log, early).await;
    first.acknowledge();
    world.feed.writer = first;
    let all = world.all();
    world.feed.until_asked(&all).await;
    world.settle(&merging, &serving).await;
    merging.stop().await;
    serving.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_epoch_that_nobody_opened_stops_the_feed_until_a_later_one() {
    let Some(server) = kafka() else { return };
    let mut world = World::new(server, 4).await;
    let merging = world.merge();
    let serving = world.serve().await;
    world.write(5).await;
    world.settle(&merging, &serving).await;
    let shown = serving.shown(&world.feed).expect("it is shown").version;
    let mut stranger = world.feed.writer.clone();
    stranger.open_epoch(Opening::default());
    stranger.acknowledge();
    stranger.commit(world.feed.workload.rows());
    append(&*world.log, stranger.flush(false)).await;
    let feed = &world.feed;
    let is_noticed = async || merging.of(feed).stopped.len() == usize::from(BUCKETS);
    until("the merger misses that epoch", is_noticed).await;
    // Its cut cannot be made whole, and what is shown stays.
    sleep(Duration::from_secs(1)).await;
    let still = serving.shown(&world.feed).expect("it stays");
    assert_eq!(still.version, shown);
    // The reader takes the next above all that it finds in the log.
    world.feed.writer.open_epoch(Opening::default());
    let opening = Opening {
        restated: true,
        ..Opening::default()
    };
    let flush = world.feed.writer.open_epoch(opening);
    append(&*world.log, flush).await;
    world.feed.writer.acknowledge();
    world.settle(&merging, &serving).await;
    merging.stop().await;
    serving.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_topic_that_was_made_again_processes_that_start_anew_go_on() {
    let Some(server) = kafka() else { return };
    let mut world = World::new(server, 5).await;
    let merging = world.merge();
    let serving = world.serve().await;
    world.write(10).await;
    world.settle(&merging, &serving).await;
    let shown = serving.shown(&world.feed).expect("it is shown").version;
    world.operator().delete_topic().await;
    let feed = &world.feed;
    let is_told = async || {
        let trouble = merging.of(feed).trouble.unwrap_or_default();
        trouble.contains("was deleted")
    };
    until("the merger says it", is_told).await;
    let still = serving.shown(&world.feed).expect("it stays");
    assert_eq!(still.version, shown);
    merging.stop().await;
    serving.stop().await;
    // As processes that start: the topic is made, and offsets of the other mean nothing.
    world.log = log_in(&world.brokers, &world.prefix);
    world.feed.log = Arc::clone(&world.log) as _;
    let layout = world.feed.writer.layout.clone();
    let log = Arc::clone(&world.log);
    until("the topic is made again", async || {
        log.open(&layout).await.is_ok()
    })
    .await;
    let merging = world.merge();
    let serving = world.serve().await;
    let ends = world.log.ends("rooms").await.expect("ends");
    assert!(ends.iter().all(|(_, ends)| ends.high == Offset(0)));
    world.write(10).await;
    world.settle(&merging, &serving).await;
    assert_eq!(world.feed.asked().await, [], "heads and log touch");
    merging.stop().await;
    serving.stop().await;
}
