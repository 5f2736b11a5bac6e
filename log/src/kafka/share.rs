//! A worker's share of a topic's partitions: a member of a consumer group that reads nothing.
//!
//! The group's protocol divides the partitions and notices who is gone. Every partition is paused as soon as it is
//! assigned, and no offset is ever committed: where to go on stands in the heads.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use futures_util::StreamExt as _;
use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext, Rebalance, StreamConsumer};
use rdkafka::error::KafkaError;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::follow::Consumer;
use super::status::Ears;
use super::topic::Wrong;
use super::{Feed, Shared};
use crate::{LogError, Partition, Share};

/// A member that is silent for this long is gone: the least that brokers allow by default.
const SESSION_MS: &str = "6000";
const HEARTBEAT_MS: &str = "1500";

/// What the member's client calls.
struct Hands {
    ears: Ears,
    /// Partitions held, none before the first assignment.
    held: Mutex<BTreeSet<i32>>,
    told: watch::Sender<Option<BTreeSet<i32>>>,
}

impl ClientContext for Hands {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.ears.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.ears.error(error, reason);
    }
}

impl ConsumerContext for Hands {
    fn post_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        match rebalance {
            Rebalance::Assign(more) => {
                if let Err(error) = consumer.pause(more) {
                    // Then it fetches for nothing.
                    self.ears.error(error, "a partition could not be paused");
                }
                held.extend(more.elements().iter().map(|element| element.partition()));
            }
            Rebalance::Revoke(fewer) => {
                for element in fewer.elements() {
                    held.remove(&element.partition());
                }
            }
            Rebalance::Error(error) => {
                let reason = format!("the work could not be divided: {error}");
                self.ears.error(error.clone(), &reason);
                return;
            }
        }
        self.told.send_replace(Some(held.clone()));
    }
}

/// A member of the group of those who work on a feed.
pub(super) struct Member {
    feed: Arc<Feed>,
    told: watch::Receiver<Option<BTreeSet<i32>>>,
    wrong: watch::Receiver<Option<Wrong>>,
    /// Serves the group's protocol; ends with this.
    _served: JoinSet<()>,
}

impl Member {
    /// Joins. It must be called within tokio, on a thread that may block.
    pub(super) fn join(shared: &Shared, feed: Arc<Feed>) -> Result<Self, LogError> {
        let failed = |error: KafkaError| shared.refused(&feed.topic, &error.to_string());
        let mut config = shared.settings.consumer();
        config
            .set("group.id", format!("{}-mergers", feed.topic))
            .set("partition.assignment.strategy", "cooperative-sticky")
            .set("session.timeout.ms", SESSION_MS)
            .set("heartbeat.interval.ms", HEARTBEAT_MS)
            // Nothing is read, so that it does not matter where reading would begin.
            .set("auto.offset.reset", "latest");
        let (tell, told) = watch::channel(None);
        let hands = Hands {
            ears: Ears(Arc::clone(&shared.board)),
            held: Mutex::default(),
            told: tell,
        };
        let consumer: StreamConsumer<Hands> = config.create_with_context(hands).map_err(failed)?;
        consumer.subscribe(&[&feed.topic]).map_err(failed)?;
        let consumer = Consumer::from(consumer);
        let mut served = JoinSet::new();
        served.spawn_on(
            async move {
                let Some(consumer) = consumer.get() else {
                    return;
                };
                // What comes is the protocol's business and passing troubles; both are told through `Hands`.
                let mut stream = consumer.stream();
                while stream.next().await.is_some() {}
            },
            &tokio::runtime::Handle::current(),
        );
        Ok(Member {
            told,
            wrong: feed.wrong.subscribe(),
            feed,
            _served: served,
        })
    }
}

#[async_trait]
impl Share for Member {
    async fn next(&mut self) -> Result<Vec<Partition>, LogError> {
        loop {
            if let Some(wrong) = &*self.wrong.borrow_and_update() {
                return Err(self.feed.mismatch(wrong));
            }
            let mut wrong = self.wrong.clone();
            tokio::select! {
                biased;
                _ = wrong.changed() => continue,
                changed = self.told.changed() => if changed.is_err() {
                    return Err(LogError::Refused {
                        reason: format!("the group of topic {} has ended", self.feed.topic),
                    });
                },
            }
            if let Some(held) = &*self.told.borrow_and_update() {
                let each = held.iter().map(|index| self.feed.partition(*index));
                return Ok(each.collect());
            }
        }
    }
}
