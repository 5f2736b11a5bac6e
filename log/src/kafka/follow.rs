//! A follower: one consumer with explicit offsets.
//!
//! Brokers that are away are waited for, and status says so. A place that is gone is an error with the ends; a topic that
//! is not the one any more is a mismatch; anything else is refused, and following again is the remedy.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{FutureExt as _, StreamExt as _};
use rdkafka::consumer::{Consumer as _, ConsumerContext, StreamConsumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Message as _};
use rdkafka::types::RDKafkaErrorCode as Code;
use rdkafka::{Offset as At, TopicPartitionList};
use tokio::runtime::Handle;
use tokio::sync::watch;
use xxhash_rust::xxh3::xxh3_64;

use super::append::{SUM, header};
use super::status::Ears;
use super::topic::Wrong;
use super::{Feed, Shared};
use crate::{Entry, Follower, LogError, Offset, Partition, Payload, wire};

/// Entries given out at once, and their bytes.
const BATCH_ENTRIES: usize = 1024;
const BATCH_BYTES: usize = 4 * 1024 * 1024;

/// A consumer whose end, which waits for its threads, is kept from the threads of tokio.
pub(super) struct Consumer<C: ConsumerContext + 'static = Ears>(Option<StreamConsumer<C>>);

impl Consumer {
    /// At these offsets. It must be called within tokio, on a thread that may block.
    pub(super) fn assign(
        shared: &Shared,
        topic: &str,
        from: &[(i32, u64)],
        says_ends: bool,
    ) -> Result<Self, LogError> {
        let failed = |err: KafkaError| shared.refused(topic, &err.to_string());
        let mut config = shared.settings.consumer();
        if says_ends {
            config.set("enable.partition.eof", "true");
        }
        let consumer: StreamConsumer<Ears> = config
            .create_with_context(Ears(Arc::clone(&shared.board)))
            .map_err(failed)?;
        let mut places = TopicPartitionList::with_capacity(from.len());
        for (partition, offset) in from {
            let offset = i64::try_from(*offset).unwrap_or(i64::MAX);
            places
                .add_partition_offset(topic, *partition, At::Offset(offset))
                .map_err(failed)?;
        }
        consumer.assign(&places).map_err(failed)?;
        Ok(consumer.into())
    }
}

impl<C: ConsumerContext + 'static> Consumer<C> {
    pub(super) fn get(&self) -> Option<&StreamConsumer<C>> {
        self.0.as_ref()
    }
}

impl<C: ConsumerContext + 'static> From<StreamConsumer<C>> for Consumer<C> {
    fn from(consumer: StreamConsumer<C>) -> Self {
        Consumer(Some(consumer))
    }
}

impl<C: ConsumerContext + 'static> Drop for Consumer<C> {
    fn drop(&mut self) {
        let consumer = self.0.take();
        if let Ok(runtime) = Handle::try_current() {
            // Nobody waits for it: it owns all that it needs, and ends by itself.
            drop(runtime.spawn_blocking(move || drop(consumer)));
        }
    }
}

pub(super) struct Reader {
    shared: Arc<Shared>,
    feed: Arc<Feed>,
    consumer: Consumer,
    /// The next offset of each partition followed.
    next: HashMap<i32, u64>,
    wrong: watch::Receiver<Option<Wrong>>,
    /// Seen and not told yet.
    error: Option<KafkaError>,
}

impl Reader {
    pub(super) fn new(
        shared: Arc<Shared>,
        feed: Arc<Feed>,
        from: &[(i32, u64)],
    ) -> Result<Self, LogError> {
        Ok(Reader {
            consumer: Consumer::assign(&shared, &feed.topic, from, false)?,
            next: from.iter().copied().collect(),
            wrong: feed.wrong.subscribe(),
            error: None,
            shared,
            feed,
        })
    }

    /// Waits for the first entry and takes what is there behind it. Cancel safe: nothing is awaited once something is
    /// taken.
    async fn read(&mut self) -> Result<Vec<Entry>, KafkaError> {
        let Some(consumer) = self.consumer.get() else {
            return Err(KafkaError::Canceled);
        };
        let mut stream = consumer.stream();
        let mut entries = Vec::new();
        let mut bytes = 0;
        let mut more = stream.next().await;
        while let Some(message) = more {
            match message {
                Ok(message) => {
                    bytes += message.payload_len();
                    let offset = message.offset().unsigned_abs();
                    self.next.insert(message.partition(), offset + 1);
                    entries.push(self.feed.entry(&message));
                }
                Err(error) if is_passing(&error) => {}
                Err(error) if entries.is_empty() => return Err(error),
                Err(error) => {
                    self.error = Some(error);
                    break;
                }
            }
            if entries.len() >= BATCH_ENTRIES || bytes > BATCH_BYTES {
                break;
            }
            more = match entries.is_empty() {
                true => stream.next().await,
                false => stream.next().now_or_never().flatten(),
            };
        }
        Ok(entries)
    }

    /// What an error of the consumer means for whoever follows.
    async fn explain(&self, error: &KafkaError) -> LogError {
        if let Err(wrong) = self.shared.look(&self.feed).await {
            return wrong;
        }
        let mut places: Vec<(i32, u64)> = self.next.iter().map(|(p, next)| (*p, *next)).collect();
        places.sort_unstable();
        match self.shared.within(&self.feed, &places).await {
            Err(gone) => gone,
            Ok(()) => self.shared.refused(&self.feed.topic, &error.to_string()),
        }
    }
}

/// Librdkafka goes on by itself.
pub(super) fn is_passing(error: &KafkaError) -> bool {
    let code = match error {
        KafkaError::MessageConsumption(code) | KafkaError::Global(code) => *code,
        _ => return false,
    };
    matches!(
        code,
        Code::BrokerTransportFailure
            | Code::AllBrokersDown
            | Code::Resolve
            | Code::OperationTimedOut
            | Code::WaitingForCoordinator
            | Code::NodeUpdate
            | Code::Retry
            | Code::CoordinatorNotAvailable
            | Code::CoordinatorLoadInProgress
            | Code::NotCoordinator
            | Code::GroupAuthorizationFailed
    )
}

#[async_trait]
impl Follower for Reader {
    async fn next(&mut self) -> Result<Vec<Entry>, LogError> {
        loop {
            if let Some(error) = &self.error {
                let explained = self.explain(error).await;
                self.error = None;
                return Err(explained);
            }
            if let Some(wrong) = &*self.wrong.borrow_and_update() {
                return Err(self.feed.mismatch(wrong));
            }
            let mut wrong = self.wrong.clone();
            let read = tokio::select! {
                biased;
                _ = wrong.changed() => continue,
                read = self.read() => read,
            };
            match read {
                Ok(entries) if entries.is_empty() => {}
                Ok(entries) => {
                    self.shared.board.works();
                    return Ok(entries);
                }
                Err(error) => self.error = Some(error),
            }
        }
    }
}

impl Feed {
    pub(super) fn entry(&self, message: &BorrowedMessage<'_>) -> Entry {
        let partition = self.partition(message.partition());
        let payload = match message.payload() {
            Some(bytes) if header(message, SUM).is_some_and(|sum| sum != xxh3_64(bytes)) => {
                Payload::Garbage("its bytes are not those that were written".into())
            }
            Some(bytes) => wire::decode(partition, Bytes::copy_from_slice(bytes)),
            None => Payload::Garbage("no bytes".into()),
        };
        Entry {
            partition,
            offset: Offset(message.offset().unsigned_abs()),
            payload,
        }
    }

    pub(super) fn partition(&self, index: i32) -> Partition {
        match u16::try_from(index) {
            Ok(index) if usize::from(index) < self.layout.buckets.count() => {
                Partition::Bucket(onair_model::Bucket::new(index))
            }
            _ => Partition::Cuts,
        }
    }
}
