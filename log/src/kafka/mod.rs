//! The log in Apache Kafka: what outlives any process, for readers, mergers and servers of their own.
//!
//! One topic a feed and layout, one partition a bucket and the last one for cuts; the partition is always said, never
//! hashed. The topic is made by us with its settings, or checked against them, at the start and every
//! [`Settings::check_interval`]; one that is not as it should be, or not the one that it was, stops reading and writing
//! with the remedy. Where to read from is always said too: nothing depends on offsets that Kafka keeps.
//! Each record has a sum of ours in its header: one whose bytes have rotted on a disk is garbage, which the chain sees.
//!
//! What may go wrong: brokers that are away are waited for, by appends without a limit and by questions up to
//! [`Settings::request_timeout`]; [`KafkaLog::status`] says what is going on.

mod append;
mod ask;
mod cuts;
mod follow;
#[cfg(feature = "testing")]
mod operator;
mod settings;
mod share;
mod status;
mod topic;

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use async_trait::async_trait;
use onair_model::{CutRecord, Lineage, Version};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::config::FromClientConfigAndContext as _;
use rdkafka::types::RDKafkaErrorCode as Code;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::{
    Durability, Ends, EventLog, Flush, Follower, Layout, LogError, LogId, Offset, Partition, Share,
    wire,
};
use append::{Appender, Message};
use ask::Described;
use follow::Reader;
use share::Member;
use status::{Board, Ears};
use topic::Wrong;

#[cfg(feature = "testing")]
pub use operator::Operator;
pub use settings::{Compression, Settings};
pub use status::{RoundTrip, Status};

/// Between two looks at whether a topic that was just made is there.
const MADE_POLL: Duration = Duration::from_millis(50);

/// The log in Kafka.
#[derive(Debug)]
pub struct KafkaLog {
    shared: Arc<Shared>,
    /// The look at the topics every now and then; ends with the log.
    watch: Mutex<JoinSet<()>>,
}

/// What followers need too.
pub(crate) struct Shared {
    settings: Settings,
    board: Arc<Board>,
    admin: AdminClient<Ears>,
    cluster: OnceLock<String>,
    appender: Appender,
    feeds: RwLock<HashMap<Arc<str>, Arc<Feed>>>,
}

/// One feed's topic.
pub(crate) struct Feed {
    layout: Layout,
    topic: Arc<str>,
    /// The topic's own, which one that is made again has not.
    topic_id: String,
    id: LogId,
    /// Set once it is not as it should be.
    wrong: watch::Sender<Option<Wrong>>,
    /// The newest cut known to be in the log.
    newest: Mutex<Option<(Lineage, Version)>>,
}

impl KafkaLog {
    /// A log in the Kafka that the settings name. Nothing is asked yet.
    pub fn new(settings: Settings) -> Result<Self, LogError> {
        settings.check()?;
        let board = Arc::new(Board::default());
        let ears = Ears(Arc::clone(&board));
        let admin =
            AdminClient::from_config_and_context(&settings.admin(), ears).map_err(|err| {
                LogError::Refused {
                    reason: format!("Kafka at {}: {err}", settings.brokers),
                }
            })?;
        Ok(KafkaLog {
            shared: Arc::new(Shared {
                appender: Appender::new(settings.clone(), Arc::clone(&board)),
                settings,
                board,
                admin,
                cluster: OnceLock::new(),
                feeds: RwLock::default(),
            }),
            watch: Mutex::default(),
        })
    }

    /// How it is now.
    pub fn status(&self) -> Status {
        self.shared.board.read()
    }

    /// The topic of a feed and layout.
    pub fn topic(&self, layout: &Layout) -> String {
        topic::name(&self.shared.settings.prefix, layout)
    }

    fn begin(&self, flush: &Flush) -> Result<(Arc<Feed>, append::Answer), LogError> {
        let feed = self.shared.feed(&flush.feed)?;
        feed.as_it_should_be()?;
        let messages = feed.encode(flush, self.shared.settings.message_bytes)?;
        let answer = self.shared.appender.begin(&feed.topic, messages)?;
        Ok((feed, answer))
    }

    /// From the first feed on.
    fn keep_watch(&self) {
        let mut watch = self.watch.lock().unwrap_or_else(PoisonError::into_inner);
        if watch.is_empty() {
            let shared = Arc::clone(&self.shared);
            watch.spawn(async move {
                loop {
                    sleep(shared.settings.check_interval).await;
                    for feed in shared.feeds() {
                        // A mismatch stays with the feed; what could not be asked is asked again.
                        if let Err(LogError::Refused { reason }) = shared.look(&feed).await {
                            shared.board.trouble(&reason);
                        }
                    }
                }
            });
        }
    }
}

#[async_trait]
impl EventLog for KafkaLog {
    fn durability(&self) -> Durability {
        Durability::Durable
    }

    fn trouble(&self) -> Option<String> {
        self.status().trouble
    }

    fn figures(&self) -> Option<String> {
        self.status().figures()
    }

    async fn open(&self, layout: &Layout) -> Result<LogId, LogError> {
        let shared = &self.shared;
        if let Ok(feed) = shared.feed(&layout.feed) {
            let (is, asked) = (feed.layout.buckets.count(), layout.buckets.count());
            if is != asked {
                return Err(LogError::Mismatch {
                    feed: Arc::clone(&layout.feed),
                    reason: format!("it has {is} buckets, {asked} were asked for"),
                    remedy: "restart the process to change the number of buckets".into(),
                });
            }
            shared.look(&feed).await?;
            return Ok(feed.id.clone());
        }
        // First, because it also hears why a broker cannot be reached.
        let warm = Arc::clone(shared);
        blocking(move || warm.appender.warm_up()).await?;
        let feed = Arc::new(shared.find_or_make(layout).await?);
        let mut feeds = shared.feeds.write().unwrap_or_else(PoisonError::into_inner);
        let feed = feeds.entry(Arc::clone(&layout.feed)).or_insert(feed);
        let id = feed.id.clone();
        drop(feeds);
        self.keep_watch();
        Ok(id)
    }

    // Not an async body: the place in the order is taken by the call, not by the first poll.
    fn append<'life, 'fut>(
        &'life self,
        flush: Flush,
    ) -> Pin<Box<dyn Future<Output = Result<(), LogError>> + Send + 'fut>>
    where
        'life: 'fut,
        Self: 'fut,
    {
        let begun = self.begin(&flush);
        let (lineage, version) = (flush.cut.lineage, flush.cut.version);
        Box::pin(async move {
            let (feed, answer) = begun?;
            let closed = LogError::Unknown {
                reason: "the log was closed".into(),
            };
            answer.await.unwrap_or(Err(closed))?;
            feed.note(lineage, version);
            Ok(())
        })
    }

    async fn ends(&self, feed: &str) -> Result<Vec<(Partition, Ends)>, LogError> {
        let feed = self.shared.feed(feed)?;
        feed.as_it_should_be()?;
        let count = feed.layout.buckets.count();
        let partitions: Vec<i32> = (0..=count as i32).collect();
        let ends = self.shared.ends(&feed, partitions).await?;
        let buckets = feed.layout.buckets.all().map(Partition::Bucket);
        Ok(buckets.chain([Partition::Cuts]).zip(ends).collect())
    }

    async fn follow(
        &self,
        feed: &str,
        from: &[(Partition, Offset)],
    ) -> Result<Box<dyn Follower>, LogError> {
        let feed = self.shared.feed(feed)?;
        let places: Vec<(i32, u64)> = from
            .iter()
            .map(|(partition, offset)| Ok((feed.index(*partition)?, offset.0)))
            .collect::<Result<_, LogError>>()?;
        self.shared.look(&feed).await?;
        self.shared.within(&feed, &places).await?;
        let shared = Arc::clone(&self.shared);
        let reader = blocking(move || Reader::new(shared, feed, &places)).await?;
        Ok(Box::new(reader))
    }

    async fn share(&self, feed: &str) -> Result<Box<dyn Share>, LogError> {
        let feed = self.shared.feed(feed)?;
        self.shared.look(&feed).await?;
        let shared = Arc::clone(&self.shared);
        let member = blocking(move || Member::join(&shared, feed)).await?;
        Ok(Box::new(member))
    }

    async fn last_cuts(&self, feed: &str) -> Result<Vec<CutRecord>, LogError> {
        let feed = self.shared.feed(feed)?;
        feed.as_it_should_be()?;
        cuts::last(&self.shared, &feed).await
    }

    /// Kafka's own retention decides.
    fn release(&self, _: &str, _: Partition, _: Offset) {}
}

impl Feed {
    fn index(&self, partition: Partition) -> Result<i32, LogError> {
        let count = self.layout.buckets.count();
        match partition {
            Partition::Cuts => Ok(count as i32),
            Partition::Bucket(bucket) if bucket.index() < count => Ok(bucket.index() as i32),
            Partition::Bucket(_) => Err(LogError::Refused {
                reason: format!("feed {} has no {partition}", self.layout.feed),
            }),
        }
    }

    /// Everything is checked before anything is sent.
    fn encode(&self, flush: &Flush, largest: usize) -> Result<Vec<Message>, LogError> {
        let mut messages = Vec::with_capacity(flush.records.len() + 1);
        let mut put = |partition: Partition, value: Vec<u8>, newest| {
            if value.len() > largest {
                return Err(LogError::Mismatch {
                    feed: Arc::clone(&self.layout.feed),
                    reason: format!(
                        "an entry of {partition} has {} bytes and {largest} are allowed",
                        value.len()
                    ),
                    remedy: format!(
                        "raise log.kafka.message_bytes, and max.message.bytes of topic {} 4 KiB above it; nothing of \
                         it was written",
                        self.topic
                    ),
                });
            }
            let key = match partition {
                Partition::Bucket(bucket) => bucket.to_string(),
                Partition::Cuts => "cuts".into(),
            };
            messages.push(Message {
                partition: self.index(partition)?,
                key,
                value,
                newest,
            });
            Ok(())
        };
        for (bucket, record) in &flush.records {
            put(
                Partition::Bucket(*bucket),
                wire::record(*bucket, record),
                None,
            )?;
        }
        let newest = self.newest(flush.cut.lineage).map(Version::get);
        put(Partition::Cuts, wire::cut(&flush.cut), newest)?;
        Ok(messages)
    }

    /// The newest version known to be in the log.
    fn newest(&self, lineage: Lineage) -> Option<Version> {
        let newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        let known = newest.filter(|(of, _)| *of == lineage);
        known.map(|(_, version)| version)
    }

    /// This one is in the log.
    fn note(&self, lineage: Lineage, version: Version) {
        let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        let known = newest.filter(|(of, _)| *of == lineage);
        *newest = known.max(Some((lineage, version)));
    }

    fn as_it_should_be(&self) -> Result<(), LogError> {
        match &*self.wrong.borrow() {
            Some(wrong) => Err(self.mismatch(wrong)),
            None => Ok(()),
        }
    }

    fn mismatch(&self, wrong: &Wrong) -> LogError {
        mismatch(&self.layout.feed, wrong)
    }
}

fn mismatch(feed: &Arc<str>, Wrong { reason, remedy }: &Wrong) -> LogError {
    LogError::Mismatch {
        feed: Arc::clone(feed),
        reason: reason.clone(),
        remedy: remedy.clone(),
    }
}

impl Shared {
    fn feed(&self, feed: &str) -> Result<Arc<Feed>, LogError> {
        let feeds = self.feeds.read().unwrap_or_else(PoisonError::into_inner);
        feeds
            .get(feed)
            .cloned()
            .ok_or_else(|| LogError::NotOpen { feed: feed.into() })
    }

    fn feeds(&self) -> Vec<Arc<Feed>> {
        let feeds = self.feeds.read().unwrap_or_else(PoisonError::into_inner);
        feeds.values().cloned().collect()
    }

    fn refused(&self, topic: &str, reason: &str) -> LogError {
        let brokers = &self.settings.brokers;
        let trouble = self.board.read().trouble;
        let trouble = trouble.filter(|trouble| trouble != reason);
        let trouble = trouble
            .map(|trouble| format!(" ({trouble})"))
            .unwrap_or_default();
        LogError::Refused {
            reason: format!("Kafka at {brokers}, topic {topic}: {reason}{trouble}"),
        }
    }

    /// What the topic is, if it is there.
    async fn describe(self: &Arc<Self>, topic: &Arc<str>) -> Result<Option<Described>, LogError> {
        let (shared, topic) = (Arc::clone(self), Arc::clone(topic));
        blocking(move || {
            let timeout = shared.settings.request_timeout;
            ask::describe(shared.admin.inner(), &topic, timeout)
                .map_err(|reason| shared.refused(&topic, &reason))
        })
        .await
    }

    async fn cluster(self: &Arc<Self>, topic: &Arc<str>) -> Result<String, LogError> {
        if let Some(cluster) = self.cluster.get() {
            return Ok(cluster.clone());
        }
        let (shared, topic) = (Arc::clone(self), Arc::clone(topic));
        let cluster = blocking(move || {
            let timeout = shared.settings.request_timeout;
            let id = shared.admin.inner().fetch_cluster_id(timeout);
            id.ok_or_else(|| shared.refused(&topic, "the cluster does not tell its id"))
        })
        .await?;
        Ok(self.cluster.get_or_init(|| cluster).clone())
    }

    async fn topic_settings(&self, topic: &str) -> Result<HashMap<String, String>, LogError> {
        let failed = |reason: String| self.refused(topic, &format!("its settings: {reason}"));
        let asked = [ResourceSpecifier::Topic(topic)];
        let answer = self.admin.describe_configs(&asked, &self.options()).await;
        let answer = answer.map_err(|err| failed(err.to_string()))?;
        let [settings] = <[_; 1]>::try_from(answer)
            .map_err(|answer| failed(format!("{} answers", answer.len())))?;
        let settings = settings.map_err(|code| failed(code.to_string()))?;
        let entries = settings.entries.into_iter();
        Ok(entries
            .filter_map(|entry| Some((entry.name, entry.value?)))
            .collect())
    }

    fn options(&self) -> AdminOptions {
        let timeout = self.settings.request_timeout;
        AdminOptions::new()
            .request_timeout(Some(timeout))
            .operation_timeout(Some(timeout))
    }

    async fn find_or_make(self: &Arc<Self>, layout: &Layout) -> Result<Feed, LogError> {
        let name: Arc<str> = topic::name(&self.settings.prefix, layout).into();
        let is = match self.describe(&name).await? {
            Some(is) => is,
            None => self.make(&name, layout).await?,
        };
        self.check(&name, layout, &is).await?;
        let cluster = self.cluster(&name).await?;
        Ok(Feed {
            layout: layout.clone(),
            id: LogId(format!("kafka:{cluster}/{}", is.id).into()),
            topic: name,
            topic_id: is.id,
            wrong: watch::Sender::new(None),
            newest: Mutex::default(),
        })
    }

    async fn make(
        self: &Arc<Self>,
        name: &Arc<str>,
        layout: &Layout,
    ) -> Result<Described, LogError> {
        let settings = topic::made_with(&self.settings);
        let copies = i32::from(self.settings.replication_factor);
        let mut topic = NewTopic::new(
            name,
            layout.buckets.count() as i32 + 1,
            TopicReplication::Fixed(copies),
        );
        for (key, value) in &settings {
            topic = topic.set(key, value);
        }
        let failed = |reason: String| self.refused(name, &format!("cannot be made: {reason}"));
        let made = self.admin.create_topics([&topic], &self.options()).await;
        for result in made.map_err(|err| failed(err.to_string()))? {
            match result {
                // Another process may be starting too.
                Ok(_) | Err((_, Code::TopicAlreadyExists)) => {}
                Err((_, Code::InvalidReplicationFactor)) => {
                    return Err(failed(format!(
                        "there are fewer than {copies} brokers; start more, or set log.kafka.replication_factor and \
                         log.kafka.min_insync_replicas"
                    )));
                }
                Err((_, code)) => return Err(failed(code.to_string())),
            }
        }
        let end = Instant::now() + self.settings.request_timeout;
        loop {
            if let Some(is) = self.describe(name).await? {
                return Ok(is);
            }
            if Instant::now() > end {
                return Err(failed("it was made and is not there".into()));
            }
            sleep(MADE_POLL).await;
        }
    }

    async fn check(&self, name: &str, layout: &Layout, is: &Described) -> Result<(), LogError> {
        let has = self.topic_settings(name).await?;
        topic::check(name, &self.settings, layout.buckets.count(), is, &has)
            .map_err(|wrong| mismatch(&layout.feed, &wrong))
    }

    /// Looks whether the topic is the one that it was, and as it should be. What is wrong stays wrong until the process
    /// starts again: an operator has to look.
    async fn look(self: &Arc<Self>, feed: &Arc<Feed>) -> Result<(), LogError> {
        feed.as_it_should_be()?;
        let topic = &feed.topic;
        let checked: Result<(), Wrong> = match self.describe(topic).await? {
            None => Err(Wrong {
                reason: format!("topic {topic} was deleted"),
                remedy: "see who did, then restart OnAir, which makes it again".into(),
            }),
            Some(is) if is.id != feed.topic_id => Err(Wrong {
                reason: format!(
                    "topic {topic} was deleted and made again: its id was {}, it is {}",
                    feed.topic_id, is.id
                ),
                remedy: "see who did, then restart OnAir, which goes on in the topic that there is"
                    .into(),
            }),
            Some(is) => match self.check(topic, &feed.layout, &is).await {
                Err(LogError::Mismatch { reason, remedy, .. }) => Err(Wrong { reason, remedy }),
                other => return other,
            },
        };
        if let Err(wrong) = checked {
            self.board.trouble(&wrong.reason);
            feed.wrong.send_replace(Some(wrong));
        }
        feed.as_it_should_be()
    }

    async fn ends(
        self: &Arc<Self>,
        feed: &Arc<Feed>,
        partitions: Vec<i32>,
    ) -> Result<Vec<Ends>, LogError> {
        let (shared, feed) = (Arc::clone(self), Arc::clone(feed));
        blocking(move || {
            let timeout = shared.settings.request_timeout;
            let client = shared.admin.inner();
            let ends = ask::ends(client, &feed.topic, &partitions, timeout)
                .map_err(|reason| shared.refused(&feed.topic, &reason))?;
            let end = |(low, high)| Ends {
                low: Offset(low),
                high: Offset(high),
            };
            Ok(ends.into_iter().map(end).collect())
        })
        .await
    }

    /// Whether each of these places can be read, or is the next.
    async fn within(
        self: &Arc<Self>,
        feed: &Arc<Feed>,
        places: &[(i32, u64)],
    ) -> Result<(), LogError> {
        let partitions = places.iter().map(|(partition, _)| *partition).collect();
        let ends = self.ends(feed, partitions).await?;
        for ((partition, asked), ends) in places.iter().zip(ends) {
            if *asked < ends.low.0 || *asked > ends.high.0 {
                return Err(LogError::OutOfRange {
                    feed: Arc::clone(&feed.layout.feed),
                    partition: feed.partition(*partition),
                    asked: Offset(*asked),
                    ends,
                });
            }
        }
        Ok(())
    }
}

/// Runs what blocks where it may.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, LogError> + Send + 'static,
) -> Result<T, LogError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|failed| {
        Err(LogError::Refused {
            reason: format!("the question to Kafka was not asked to its end: {failed}"),
        })
    })
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let settings = &self.settings;
        f.debug_struct("Shared")
            .field("settings", settings)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Feed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (feed, id) = (&self.layout.feed, &self.id);
        f.debug_struct("Feed")
            .field("feed", feed)
            .field("id", id)
            .finish_non_exhaustive()
    }
}
