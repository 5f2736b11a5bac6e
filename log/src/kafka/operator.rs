//! For tests: what an operator or a stranger does to a feed's topic, and the log never would.

#![expect(
    clippy::unwrap_used,
    reason = "for tests: a failure is a panic with its place"
)]

use std::fmt;
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::{Offset as At, TopicPartitionList};

use super::KafkaLog;
use crate::{Layout, Offset, Partition};

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Somebody with all rights and no care.
pub struct Operator {
    config: ClientConfig,
    prefix: String,
    topic: String,
    buckets: usize,
}

impl Operator {
    /// For the topic of this feed in this log.
    pub fn new(log: &KafkaLog, layout: &Layout) -> Self {
        let settings = &log.shared.settings;
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &settings.brokers);
        Operator {
            config,
            prefix: settings.prefix.clone(),
            topic: log.topic(layout),
            buckets: layout.buckets.count(),
        }
    }

    fn index(&self, partition: Partition) -> i32 {
        let index = match partition {
            Partition::Bucket(bucket) => bucket.index(),
            Partition::Cuts => self.buckets,
        };
        i32::try_from(index).unwrap()
    }

    fn places(&self, places: &[(Partition, Offset)]) -> TopicPartitionList {
        let mut list = TopicPartitionList::new();
        for (partition, offset) in places {
            let at = At::Offset(i64::try_from(offset.0).unwrap());
            list.add_partition_offset(&self.topic, self.index(*partition), at)
                .unwrap();
        }
        list
    }

    fn admin(&self) -> (AdminClient<DefaultClientContext>, AdminOptions) {
        let options = AdminOptions::new().operation_timeout(Some(PATIENCE));
        (self.config.create().unwrap(), options)
    }

    /// Writes entries of these bytes, or of none, each with a time of its own: milliseconds since 1970.
    pub async fn put(&self, entries: &[(Partition, Option<&[u8]>, i64)]) {
        let producer: FutureProducer = self.config.create().unwrap();
        for (partition, bytes, time) in entries {
            let record = FutureRecord::<str, [u8]>::to(&self.topic)
                .partition(self.index(*partition))
                .timestamp(*time);
            let record = match bytes {
                Some(bytes) => record.payload(bytes),
                None => record,
            };
            producer.send(record, PATIENCE).await.unwrap();
        }
    }

    /// Deletes what is below these offsets, as retention does.
    pub async fn delete_below(&self, places: &[(Partition, Offset)]) {
        let (admin, options) = self.admin();
        let deleted = admin.delete_records(&self.places(places), &options);
        deleted.await.unwrap();
    }

    /// Deletes the topic.
    pub async fn delete_topic(&self) {
        let (admin, options) = self.admin();
        let deleted = admin.delete_topics(&[&self.topic], &options).await;
        deleted.unwrap().remove(0).unwrap();
    }

    /// Moves the offsets that Kafka keeps under the name that followers give. Blocks.
    pub fn move_group(&self, places: &[(Partition, Offset)]) {
        let mut config = self.config.clone();
        config.set("group.id", super::settings::group(&self.prefix));
        let consumer: BaseConsumer = config.create().unwrap();
        let places = self.places(places);
        consumer.commit(&places, CommitMode::Sync).unwrap();
        let kept = consumer.committed_offsets(places.clone(), PATIENCE);
        assert_eq!(kept.unwrap(), places);
    }
}

impl fmt::Debug for Operator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let topic = &self.topic;
        f.debug_struct("Operator")
            .field("topic", topic)
            .finish_non_exhaustive()
    }
}
