//! Reads of the past: the live set as it was, what became of a key, and where a key is now. In: requests. Out: streams
//! and answers, from store and log.
//!
//! Nothing here may disturb the fan-out: a few reads at once, each on a thread of its own while it unpacks and adds up,
//! each with one bucket in memory at most, each going on only when the client has taken what it was sent.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;

use bytes::BytesMut;
use futures_util::Stream;
use onair_log::EventLog;
use onair_model::{Bucket, Digest, Event, Key, Lineage, Sum};
use onair_proto::v1::subscribe_response::Message;
use onair_proto::{convert, entries, v1};
use onair_store::ShardStore;
use onair_store::past::{Cause, Content, KeyHistory, KeyStep, Last, Moment, Past, PastError};
use onair_store::schema::FeedSchema;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use crate::explain::{self, Subject};
use crate::refusal::Refusal;
use crate::ring::Ring;
use crate::wire::CHUNK_BYTES;

/// Reads of the past at once. Each holds a bucket's content, perhaps for as long as its client is slow.
pub(crate) const READS_MAX: usize = 4;

/// A stream of answers.
pub(crate) type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Reads the past of all feeds of a server.
#[derive(Clone, Debug)]
pub(crate) struct Archive {
    lineage: Lineage,
    log: Arc<dyn EventLog>,
    store: Arc<dyn ShardStore>,
    reads: Arc<Semaphore>,
    drain: CancellationToken,
}

/// One read, as long as its stream lives.
#[derive(Clone, Debug)]
struct Read {
    store: Arc<dyn ShardStore>,
    drain: CancellationToken,
    _permit: Arc<OwnedSemaphorePermit>,
}

impl Archive {
    pub(crate) fn new(
        lineage: Lineage,
        (log, store): (Arc<dyn EventLog>, Arc<dyn ShardStore>),
        drain: CancellationToken,
    ) -> Self {
        Archive {
            lineage,
            log,
            store,
            reads: Arc::new(Semaphore::new(READS_MAX)),
            drain,
        }
    }

    fn read(&self) -> Result<Read, Status> {
        let permit = Arc::clone(&self.reads).try_acquire_owned();
        let permit = permit.map_err(|_| Refusal::TooManyReads { limit: READS_MAX })?;
        Ok(Read {
            store: Arc::clone(&self.store),
            drain: self.drain.clone(),
            _permit: Arc::new(permit),
        })
    }

    /// The live set at a moment.
    pub(crate) async fn past(
        &self,
        feed: Arc<str>,
        moment: v1::past_request::Moment,
    ) -> Result<Answers<v1::SubscribeResponse>, Status> {
        let moment = match moment {
            v1::past_request::Moment::Time(micros) => Moment::Time(micros),
            v1::past_request::Moment::Version(version) => {
                Moment::Version(convert::version(version).map_err(|_| Refusal::NoMoment)?)
            }
        };
        let read = self.read()?;
        let lineage = self.lineage;
        let (past, schema, seal) = {
            let read = read.clone();
            read.clone()
                .aside(async move { begin(&*read.store, feed, moment, lineage).await })
                .await?
        };
        let start = v1::Start {
            mode: v1::start::Mode::Full.into(),
            reason: "past".to_owned(),
            lineage: convert::bytes16(lineage.get()),
            schema: Some(convert::schema_to_wire(
                &schema.schema,
                schema.buckets.count(),
            )),
            count: seal.count,
            version: seal.version,
        };
        let chunks = Chunks {
            read,
            buckets: schema.buckets.all().collect(),
            past: Arc::new(past),
            index: 0,
            total: NOTHING,
            seal: Some(seal),
            queue: [Message::Start(start)].into(),
        };
        Ok(Box::pin(futures_util::stream::try_unfold(
            chunks,
            |mut chunks| async move {
                let message = chunks.next().await?;
                let response = message.map(|message| v1::SubscribeResponse {
                    message: Some(message),
                });
                Ok(response.map(|response| (response, chunks)))
            },
        )))
    }

    /// The steps of a key in a bucket, with commit times in this range.
    pub(crate) async fn key_history(
        &self,
        feed: Arc<str>,
        (bucket, key): (Bucket, Key),
        times: (i64, i64),
    ) -> Result<Answers<v1::KeyStep>, Status> {
        let read = self.read()?;
        let history = {
            let read = read.clone();
            read.clone()
                .aside(async move {
                    KeyHistory::open(&*read.store, &feed, (bucket, key), times).await
                })
                .await?
        };
        let steps = Steps {
            read,
            history: Some(history),
            schema: None,
            queue: VecDeque::new(),
        };
        Ok(Box::pin(futures_util::stream::try_unfold(
            steps,
            |mut steps| async move {
                let step = steps.next().await?;
                Ok(step.map(|step| (step, steps)))
            },
        )))
    }
}

impl Archive {
    /// What log and store hold of a key, then what `ring` shows.
    pub(crate) async fn explain(
        &self,
        feed: Arc<str>,
        (bucket, key): (Bucket, Key),
        ring: Arc<Ring>,
    ) -> Result<v1::ExplainResponse, Status> {
        let read = self.read()?;
        let subject = Subject {
            lineage: self.lineage,
            feed,
            bucket,
            key,
        };
        let (log, store) = (Arc::clone(&self.log), Arc::clone(&self.store));
        let work = async move {
            let stages = vec![
                explain::in_log(&*log, &subject).await,
                explain::in_store(&*store, &subject).await,
                explain::shown(ring.snapshot().as_deref(), &subject),
            ];
            Ok(stages)
        };
        Ok(v1::ExplainResponse {
            bucket: u32::from(bucket.get()),
            stages: read.aside(work).await?,
        })
    }
}

impl Read {
    /// Does this on a thread of its own: what is unpacked there keeps no subscriber waiting.
    async fn aside<T: Send + 'static>(
        self,
        work: impl Future<Output = Result<T, PastError>> + Send + 'static,
    ) -> Result<T, Status> {
        let runtime = tokio::runtime::Handle::current();
        let drain = self.drain.clone();
        let done = tokio::task::spawn_blocking(move || {
            runtime.block_on(async {
                tokio::select! {
                    biased;
                    () = drain.cancelled() => None,
                    done = work => Some(done),
                }
            })
        });
        // It fails only when the runtime ends.
        match done.await.ok().flatten() {
            Some(done) => done.map_err(|error| Refusal::Past(Arc::new(error)).into()),
            None => Err(Refusal::GoingDown.into()),
        }
    }
}

const NOTHING: Sum = Sum {
    digest: Digest::EMPTY,
    count: 0,
};

fn plus(sum: Sum, other: Sum) -> Sum {
    Sum {
        digest: sum.digest.plus(other.digest),
        count: sum.count + other.count,
    }
}

/// Finds everything that is needed, and what the Seal will say. Where no cut states the version, its digest and count
/// are not known before all buckets were read: they are read twice.
async fn begin(
    store: &dyn ShardStore,
    feed: Arc<str>,
    moment: Moment,
    lineage: Lineage,
) -> Result<(Past, FeedSchema, v1::Seal), PastError> {
    let mut past = Past::open(store, &feed, moment).await?;
    let schema = past.schema(store).await?;
    past.find(store, schema.buckets.all()).await?;
    let mut seal = v1::Seal {
        version: past.version().get(),
        lineage: convert::bytes16(lineage.get()),
        ..v1::Seal::default()
    };
    let cut = past.cut();
    if let Some(cut) = cut.filter(|cut| cut.epoch() == past.version().epoch()) {
        seal.commit_time = cut.commit_time;
        seal.gtid = convert::gtid_text(cut.gtid.as_ref());
    }
    if let Some(cut) = past.stated() {
        seal.digest = convert::bytes16(cut.digest.get());
        seal.count = cut.count;
        seal.executed = cut.executed.to_string();
        seal.source_time = cut.source_time;
        seal.proven = cut.proven.map(convert::proven_to_wire);
        return Ok((past, schema, seal));
    }
    let mut total = NOTHING;
    let mut last: Option<Last> = None;
    for bucket in schema.buckets.all() {
        let held = past.bucket(store, bucket).await?;
        total = plus(total, held.sum);
        last = [last, held.last]
            .into_iter()
            .flatten()
            .max_by_key(|last| last.version);
    }
    seal.digest = convert::bytes16(total.digest.get());
    seal.count = total.count;
    let is_later = |last: &Last| cut.is_none_or(|cut| cut.version < last.version);
    if let Some(last) = last.filter(is_later) {
        seal.commit_time = last.commit_time;
        seal.gtid = convert::gtid_text(Some(&last.gtid));
    }
    Ok((past, schema, seal))
}

/// A snapshot's messages, bucket by bucket.
struct Chunks {
    read: Read,
    past: Arc<Past>,
    /// What is left to be read.
    buckets: VecDeque<Bucket>,
    index: u32,
    total: Sum,
    seal: Option<v1::Seal>,
    queue: VecDeque<Message>,
}

impl Chunks {
    async fn next(&mut self) -> Result<Option<Message>, Status> {
        loop {
            if let Some(message) = self.queue.pop_front() {
                return Ok(Some(message));
            }
            let Some(bucket) = self.buckets.pop_front() else {
                let Some(seal) = self.seal.take() else {
                    return Ok(None);
                };
                // Nobody is told that something false is true: the stream ends without its Seal.
                let sound = self.past.check(self.total);
                sound.map_err(|error| Refusal::Past(Arc::new(error)))?;
                return Ok(Some(Message::Seal(seal)));
            };
            let (past, first) = (Arc::clone(&self.past), self.index);
            let read = self.read.clone();
            let work = async move {
                let held = past.bucket(&*read.store, bucket).await?;
                Ok((chunks(&held, past.version().get(), first), held.sum))
            };
            let (chunks, sum) = self.read.clone().aside(work).await?;
            self.total = plus(self.total, sum);
            self.index += chunks.len() as u32;
            self.queue.extend(chunks.into_iter().map(Message::Chunk));
        }
    }
}

/// A bucket's rows as chunks, numbered from `first`.
fn chunks(held: &Content, version: u64, first: u32) -> Vec<v1::Chunk> {
    let mut pieces = Vec::new();
    let mut piece = BytesMut::new();
    for (key, row) in held.rows.iter() {
        if piece.len() + entries::size(key, Some(row)) > CHUNK_BYTES && !piece.is_empty() {
            pieces.push(piece.split().freeze());
        }
        entries::write(&mut piece, key, Some(row));
    }
    if !piece.is_empty() {
        pieces.push(piece.freeze());
    }
    let chunk = |(index, entries)| v1::Chunk {
        version,
        index,
        entries,
    };
    (first..).zip(pieces).map(chunk).collect()
}

/// The steps of one key.
struct Steps {
    read: Read,
    /// `None`: all were read.
    history: Option<KeyHistory>,
    /// What was said last of the rows' schema.
    schema: Option<FeedSchema>,
    queue: VecDeque<v1::KeyStep>,
}

impl Steps {
    async fn next(&mut self) -> Result<Option<v1::KeyStep>, Status> {
        loop {
            if let Some(step) = self.queue.pop_front() {
                return Ok(Some(step));
            }
            let Some(mut history) = self.history.take() else {
                return Ok(None);
            };
            let read = self.read.clone();
            let work = async move {
                let steps = history.next(&*read.store).await?;
                Ok((steps, history))
            };
            let (steps, history) = self.read.clone().aside(work).await?;
            let Some(steps) = steps else { return Ok(None) };
            for step in steps {
                let mut since = history.schemas().iter().rev();
                let schema = since.find(|schema| schema.since <= step.version.epoch());
                let schema = schema.filter(|schema| self.schema.as_ref() != Some(schema));
                self.queue.push_back(step_to_wire(step, schema));
                if let Some(schema) = schema {
                    self.schema = Some(schema.clone());
                }
            }
            self.history = Some(history);
        }
    }
}

fn step_to_wire(step: KeyStep, schema: Option<&FeedSchema>) -> v1::KeyStep {
    let kind = match &step.event {
        Event::On { .. } => v1::event::Kind::On,
        Event::Change { .. } => v1::event::Kind::Change,
        Event::Off { .. } => v1::event::Kind::Off,
    };
    let cause = match step.cause {
        Cause::Binlog => v1::key_step::Cause::Binlog,
        Cause::Replace => v1::key_step::Cause::Replace,
        Cause::Epoch => v1::key_step::Cause::Epoch,
        Cause::Kept => v1::key_step::Cause::Kept,
    };
    v1::KeyStep {
        kind: kind.into(),
        version: step.version.get(),
        commit_time: step.commit_time,
        gtid: convert::gtid_text(step.gtid.as_ref()),
        row: step
            .event
            .row()
            .map(|row| row.bytes().clone())
            .unwrap_or_default(),
        cause: cause.into(),
        schema: schema
            .map(|schema| convert::schema_to_wire(&schema.schema, schema.buckets.count())),
    }
}
