//! Kafka alone: records at times that are fixed before, produced by one thread and received by another.

use std::time::Duration;
use std::time::Instant;

use anyhow::{Context as _, Result, anyhow, ensure};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rdkafka::{ClientConfig, Message as _, Offset, TopicPartitionList};
use serde::{Deserialize, Serialize};

use crate::harness::{Latencies, Meter, Run};
use crate::load::Schedule;

/// From the intended time to the consumer that has it.
pub(super) const RECEIVED: &str = "to the consumer";

/// The way of a record through Kafka and nothing else.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ThroughKafka {
    pub brokers: String,
    /// Records a second.
    pub rate: u32,
    pub seconds: u32,
}

/// About what one transaction of one row is in the log.
const RECORD: usize = 200;
/// A record that takes this long is lost.
const LOST_AFTER: Duration = Duration::from_secs(20);

/// With one partition.
pub(crate) fn create_topic(brokers: &str, topic: &str) -> Result<()> {
    let admin: AdminClient<_> = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .create()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let new = NewTopic::new(topic, 1, TopicReplication::Fixed(1));
    for made in runtime.block_on(admin.create_topics([&new], &AdminOptions::new()))? {
        made.map_err(|(topic, code)| anyhow!("{topic}: {code}"))?;
    }
    Ok(())
}

impl ThroughKafka {
    /// Produces and receives, here and now. Settings are those of our log: acks=all, idempotent, no linger.
    pub fn run(&self) -> Result<Run> {
        let topic = format!("floor-{:016x}", rand::random::<u64>());
        let client = |more: &[(&str, &str)]| {
            let mut config = ClientConfig::new();
            config.set("bootstrap.servers", &self.brokers);
            for (name, value) in more {
                config.set(*name, *value);
            }
            config
        };
        create_topic(&self.brokers, &topic)?;
        let producer: BaseProducer = client(&[
            ("acks", "all"),
            ("enable.idempotence", "true"),
            ("linger.ms", "0"),
        ])
        .create()?;
        let consumer: BaseConsumer = client(&[
            ("group.id", &topic),
            ("enable.auto.commit", "false"),
            ("fetch.min.bytes", "1"),
            ("auto.offset.reset", "error"),
        ])
        .create()?;
        let mut from = TopicPartitionList::new();
        from.add_partition_offset(&topic, 0, Offset::Beginning)?;
        consumer.assign(&from)?;

        let meter = Meter::start()?;
        let schedule = Schedule {
            start: Instant::now() + Duration::from_millis(500),
            rate: self.rate,
            count: u64::from(self.rate) * u64::from(self.seconds),
        };
        let received = std::thread::scope(|scope| {
            let sending = scope.spawn(|| {
                let mut record = [0_u8; RECORD];
                for number in 0..schedule.count {
                    schedule.wait_for(number);
                    record[..8].copy_from_slice(&number.to_le_bytes());
                    let record = BaseRecord::<(), [u8]>::to(&topic)
                        .partition(0)
                        .payload(&record[..]);
                    producer.send(record).map_err(|(error, _)| error)?;
                    producer.poll(Duration::ZERO);
                }
                anyhow::Ok(producer.flush(LOST_AFTER)?)
            });
            let mut received = Latencies::new();
            let deadline = schedule.start + schedule.offset(schedule.count) + LOST_AFTER;
            for expected in 0..schedule.count {
                let left = deadline.saturating_duration_since(Instant::now());
                let message = consumer.poll(left).context("records are lost")??;
                let now = Instant::now();
                let payload = message.payload().context("a record without content")?;
                let number = u64::from_le_bytes(payload[..8].try_into()?);
                ensure!(number == expected, "{number} came instead of {expected}");
                if let Some(latency) = schedule.latency(number, now) {
                    received.record(latency)?;
                }
            }
            sending
                .join()
                .map_err(|_| anyhow!("the producer panicked"))??;
            anyhow::Ok(received)
        })?;
        Ok(meter
            .stop(schedule.count, &[])?
            .with_latencies(RECEIVED, received))
    }
}
