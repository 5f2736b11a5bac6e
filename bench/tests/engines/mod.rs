//! Merger and server on a real Kafka and a real Cassandra that are broken under them: a writer that knows the truth in
//! the reader's place, and what heads and snapshots hold compared with it.

mod feed;
mod kafka;
mod roles;
mod segments;
mod tls;
mod unknown;
mod ways;

use std::num::NonZeroU16;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use onair_log::kafka::KafkaLog;
use onair_model::Lineage;
use onair_store::cells::random_id;
use onair_store::redb::RedbStore;
use onair_store::scylla::{Replication, ScyllaStore, Settings};
use onair_xtask::servers::{Cassandra, Engine, Kafka};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

const LINEAGE: Lineage = Lineage::new(7);

/// How long anything here may take, and between two looks at it.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(20);

/// Waits until something is so.
async fn until(what: &str, mut so: impl AsyncFnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !so().await {
        assert!(Instant::now() < end, "never: {what}");
        sleep(LOOK).await;
    }
}

/// Whether this run does without the engine, which then is said.
fn is_left_out(engine: Engine) -> bool {
    let is_left_out = engine.is_left_out();
    if is_left_out {
        eprintln!("NOT RUN {}: left out", engine.name());
    }
    is_left_out
}

/// The Cassandra of all tests here, unless this run does without.
fn cassandra() -> Option<&'static Cassandra> {
    static NODE: OnceLock<Cassandra> = OnceLock::new();
    let is_wanted = !is_left_out(Engine::Cassandra);
    is_wanted.then(|| NODE.get_or_init(|| Cassandra::start().expect("a Cassandra")))
}

/// The Kafka of all tests here that leave it as it is, unless this run does without.
fn kafka() -> Option<&'static Kafka> {
    static SERVER: OnceLock<Kafka> = OnceLock::new();
    let is_wanted = !is_left_out(Engine::Kafka);
    is_wanted.then(|| SERVER.get_or_init(|| Kafka::start().expect("a Kafka")))
}

/// A log in the Kafka at these brokers, with topics that begin with `prefix`.
fn log_in(brokers: &str, prefix: &str) -> Arc<KafkaLog> {
    let settings = onair_log::kafka::Settings {
        brokers: brokers.to_owned(),
        prefix: prefix.to_owned(),
        replication_factor: 1,
        min_insync_replicas: 1,
        check_interval: Duration::from_millis(200),
        request_timeout: Duration::from_secs(3),
        ..onair_log::kafka::Settings::default()
    };
    Arc::new(KafkaLog::new(settings).expect("settings that can be meant"))
}

/// A prefix of nobody else.
fn prefix() -> String {
    format!("test-{:016x}", rand::random::<u64>())
}

/// A store in a file of the folder.
fn file(dir: &TempDir) -> Arc<RedbStore> {
    Arc::new(RedbStore::open(dir.path().join("store.redb")).expect("a store"))
}

/// A keyspace of its own with empty tables.
async fn keyspace(node: &Cassandra) -> Settings {
    let name = format!("t{:032x}", random_id());
    let mut settings = Settings::new(vec![node.address().to_owned()], name);
    settings.replication = Replication::Everywhere(NonZeroU16::MIN);
    // The node is busy with others.
    settings.request_timeout = Duration::from_secs(10);
    ScyllaStore::init(&settings).await.expect("tables");
    settings
}

async fn open(settings: &Settings) -> Arc<ScyllaStore> {
    let store = ScyllaStore::open(settings.clone()).await;
    Arc::new(store.expect("a store"))
}
