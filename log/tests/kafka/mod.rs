//! The log in a real Kafka.

mod contract;
mod damage;
mod measured;
mod outage;
mod shares;
mod strangers;
#[cfg(feature = "kafka-tls")]
mod tls;
mod topics;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use onair_log::kafka::{KafkaLog, Settings};
use onair_log::{Entry, EventLog, Follower, LogError, LogId, Offset, Partition, Payload};
use onair_xtask::servers::{Engine, Kafka};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use tokio::time::{Instant, sleep, timeout};

use crate::{BUCKETS, layout};

/// How long anything here may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// The Kafka of all tests that do not harm it; `None`, and said, when this run does without.
fn shared() -> Option<&'static Kafka> {
    static SERVER: OnceLock<Kafka> = OnceLock::new();
    if is_left_out() {
        return None;
    }
    Some(SERVER.get_or_init(|| Kafka::start().unwrap()))
}

/// One that a test may kill.
fn own() -> Option<Kafka> {
    (!is_left_out()).then(|| Kafka::start_own(None).unwrap())
}

fn is_left_out() -> bool {
    let is_left_out = Engine::Kafka.is_left_out();
    if is_left_out {
        eprintln!("NOT RUN kafka: left out");
    }
    is_left_out
}

/// For one node, with topics of its own.
fn settings(server: &Kafka) -> Settings {
    Settings {
        brokers: server.brokers().into(),
        prefix: format!("test-{:016x}", rand::random::<u64>()),
        replication_factor: 1,
        min_insync_replicas: 1,
        check_interval: Duration::from_millis(200),
        ..Settings::default()
    }
}

fn log(settings: &Settings) -> Arc<KafkaLog> {
    Arc::new(KafkaLog::new(settings.clone()).unwrap())
}

/// Opens a feed; a Kafka that has just started may refuse for a moment.
async fn open(log: &KafkaLog, feed: &str) -> LogId {
    let end = Instant::now() + PATIENCE;
    loop {
        match log.open(&layout(feed)).await {
            Ok(id) => return id,
            Err(LogError::Refused { reason }) if Instant::now() < end => {
                println!("{reason}");
                sleep(Duration::from_millis(100)).await;
            }
            Err(error) => panic!("{error}"),
        }
    }
}

async fn lows(log: &KafkaLog, feed: &str) -> Vec<(Partition, Offset)> {
    let ends = log.ends(feed).await.unwrap();
    ends.into_iter().map(|(p, ends)| (p, ends.low)).collect()
}

async fn next(follower: &mut dyn Follower) -> Result<Vec<Entry>, LogError> {
    timeout(PATIENCE, follower.next())
        .await
        .expect("nothing came")
}

/// The versions of the cuts in these entries.
fn cuts(entries: &[Entry]) -> Vec<u64> {
    let cut = |entry: &Entry| match &entry.payload {
        Payload::Cut(cut) => Some(cut.version.sequence()),
        _ => None,
    };
    entries.iter().filter_map(cut).collect()
}

/// Who does things to topics that the log would not do.
fn admin(settings: &Settings) -> AdminClient<DefaultClientContext> {
    raw(settings).create().unwrap()
}

fn raw(settings: &Settings) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", &settings.brokers);
    config
}

fn options() -> AdminOptions {
    AdminOptions::new().operation_timeout(Some(PATIENCE))
}

fn mismatch<T: std::fmt::Debug>(done: Result<T, LogError>) -> String {
    match done {
        Err(error @ LogError::Mismatch { .. }) => {
            println!("{error}");
            error.to_string()
        }
        other => panic!("{other:?}"),
    }
}

/// The partitions of a feed of these tests.
const PARTITIONS: usize = BUCKETS as usize + 1;
