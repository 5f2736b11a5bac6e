//! Appends: a producer, the room it has, and what happens when a delivery fails.
//!
//! In: encoded flushes, in the order of the calls. Each is handed to librdkafka as a whole while there is room, else it
//! waits in that order. The first failed delivery ends the producer: everything under way is given up, its callers are
//! told that the outcome is unknown, and the next append makes a new one. Nothing behind a failed record is ever sent by
//! the producer that failed.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rdkafka::client::ClientContext;
use rdkafka::config::{FromClientConfigAndContext as _, RDKafkaLogLevel};
use rdkafka::error::KafkaError;
use rdkafka::message::{DeliveryResult, Header, Headers, OwnedHeaders};
use rdkafka::producer::{
    BaseProducer, BaseRecord, NoCustomPartitioner, Producer as _, ProducerContext, PurgeConfig,
};
use rdkafka::statistics::Statistics;
use tokio::sync::oneshot;
use xxhash_rust::xxh3::xxh3_64;

use super::settings::Settings;
use super::status::{Board, Ears};
use crate::LogError;

/// A number in a record's header, if it has one.
pub(super) fn header(message: &impl rdkafka::Message, key: &str) -> Option<u64> {
    fn of<H: Headers>(headers: &H, key: &str) -> Option<u64> {
        let found = headers.iter().find(|header| header.key == key)?;
        found.value?.try_into().ok().map(u64::from_be_bytes)
    }
    message.headers().and_then(|headers| of(headers, key))
}

/// A cut's header: the newest version, eight bytes big-endian, of any cut that its writer knows to be in the log. Who
/// searches the last cuts backwards sees by it whether there is a newer one before those of a reader that began again.
pub(super) const NEWEST: &str = "newest";

/// Each record's header: xxh3-64 of its value, eight bytes big-endian. It covers the value from here to whoever decodes it,
/// on disks and in brokers too.
pub(super) const SUM: &str = "sum";

/// How long the thread of a producer sleeps when nothing happens; an event wakes it at once.
const POLL: Duration = Duration::from_millis(100);

/// How long a producer that failed is asked for the outcomes of what it had under way.
const FAREWELL: Duration = Duration::from_secs(5);

/// One record on its way.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) partition: i32,
    pub(super) key: String,
    pub(super) value: Vec<u8>,
    /// For [`NEWEST`].
    pub(super) newest: Option<u64>,
}

pub(super) type Answer = oneshot::Receiver<Result<(), LogError>>;
type Done = oneshot::Sender<Result<(), LogError>>;

/// Makes producers, one at a time.
#[derive(Debug)]
pub(super) struct Appender {
    settings: Settings,
    board: Arc<Board>,
    line: Mutex<Line>,
}

#[derive(Debug, Default)]
struct Line {
    current: Option<Arc<Pipe>>,
    threads: Vec<JoinHandle<()>>,
}

impl Appender {
    pub(super) fn new(settings: Settings, board: Arc<Board>) -> Self {
        Appender {
            settings,
            board,
            line: Mutex::default(),
        }
    }

    /// Takes the flush's place in the order. The answer comes with the last delivery; not waiting for it changes nothing
    /// about what was handed over, and gives up what still waits for room.
    pub(super) fn begin(
        &self,
        topic: &Arc<str>,
        messages: Vec<Message>,
    ) -> Result<Answer, LogError> {
        let mut line = self.line.lock().unwrap_or_else(PoisonError::into_inner);
        let pipe = match &line.current {
            Some(pipe) if !pipe.has_failed() => Arc::clone(pipe),
            _ => self.make(&mut line)?,
        };
        // Still in the line: the order of the calls is that of the producer.
        Ok(pipe.begin(Arc::clone(topic), messages))
    }

    /// Makes the producer now and not with the first append.
    pub(super) fn warm_up(&self) -> Result<(), LogError> {
        let mut line = self.line.lock().unwrap_or_else(PoisonError::into_inner);
        match line.current {
            Some(_) => Ok(()),
            None => self.make(&mut line).map(drop),
        }
    }

    fn make(&self, line: &mut Line) -> Result<Arc<Pipe>, LogError> {
        let refused = |reason: String| LogError::Refused { reason };
        let ears = DeliveryEars {
            ears: Ears(Arc::clone(&self.board)),
            pipe: OnceLock::new(),
        };
        let producer = BaseProducer::from_config_and_context(&self.settings.producer(), ears)
            .map_err(|err| refused(format!("Kafka at {}: {err}", self.settings.brokers)))?;
        let pipe = Arc::new(Pipe {
            brokers: self.settings.brokers.clone(),
            bytes_max: self.settings.buffer_bytes,
            board: Arc::clone(&self.board),
            state: Mutex::default(),
            stopped: AtomicBool::new(false),
            producer,
        });
        // Nothing was sent yet, so no delivery misses it.
        let _ = pipe.producer.context().pipe.set(Arc::downgrade(&pipe));
        let thread = thread::Builder::new().name("onair-log-kafka".into());
        let polled = Arc::clone(&pipe);
        let thread = thread
            .spawn(move || polled.run())
            .map_err(|err| refused(format!("cannot start a thread: {err}")))?;
        line.threads.retain(|thread| !thread.is_finished());
        line.threads.push(thread);
        line.current = Some(Arc::clone(&pipe));
        self.board.write(|status| status.producers += 1);
        Ok(pipe)
    }
}

impl Drop for Appender {
    fn drop(&mut self) {
        let line = self.line.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(pipe) = line.current.take() {
            pipe.stopped.store(true, Ordering::Relaxed);
        }
        for thread in line.threads.drain(..) {
            // One that panicked has said so.
            let _ = thread.join();
        }
    }
}

/// One producer and what it has under way.
struct Pipe {
    brokers: String,
    bytes_max: usize,
    board: Arc<Board>,
    state: Mutex<State>,
    stopped: AtomicBool,
    producer: BaseProducer<DeliveryEars>,
}

#[derive(Default)]
struct State {
    messages: usize,
    bytes: usize,
    waiting: VecDeque<Waiting>,
    /// Why it will send nothing more.
    failed: Option<String>,
}

/// A flush that found no room.
struct Waiting {
    topic: Arc<str>,
    messages: Vec<Message>,
    done: Done,
}

/// A flush of which some records are not acknowledged.
struct UnderWay(Mutex<Outstanding>);

struct Outstanding {
    records: usize,
    done: Option<Done>,
}

impl UnderWay {
    /// One record fewer to wait for.
    fn delivered(&self, outcome: Result<(), LogError>) {
        let mut outstanding = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        outstanding.records -= 1;
        if (outstanding.records == 0 || outcome.is_err())
            && let Some(done) = outstanding.done.take()
        {
            // Whoever went away must expect that it is done.
            let _ = done.send(outcome);
        }
    }
}

/// What librdkafka gives back with a record.
struct Sent {
    flush: Arc<UnderWay>,
    bytes: usize,
}

impl Pipe {
    fn run(&self) {
        while !self.stopped.load(Ordering::Relaxed) && !self.has_failed() {
            self.producer.poll(POLL);
        }
        let end = Instant::now() + FAREWELL;
        while self.lock().messages > 0 && self.has_failed() && Instant::now() < end {
            self.producer.poll(Duration::from_millis(1));
        }
    }

    fn has_failed(&self) -> bool {
        self.lock().failed.is_some()
    }

    fn begin(&self, topic: Arc<str>, messages: Vec<Message>) -> Answer {
        let (done, answer) = oneshot::channel();
        let mut state = self.lock();
        state.waiting.push_back(Waiting {
            topic,
            messages,
            done,
        });
        self.serve(&mut state);
        answer
    }

    /// Hands over what there is room for, in order. A flush larger than all the room goes alone.
    fn serve(&self, state: &mut State) {
        while let Some(first) = state.waiting.front() {
            let bytes: usize = first.messages.iter().map(cost).sum();
            let fits = state.bytes == 0 || state.bytes + bytes <= self.bytes_max;
            if !first.done.is_closed() && !fits && state.failed.is_none() {
                break;
            }
            let Some(first) = state.waiting.pop_front() else {
                break;
            };
            if let Some(reason) = &state.failed {
                let _ = first.done.send(Err(LogError::Refused {
                    reason: format!("what was sent before it failed: {reason}"),
                }));
            } else if !first.done.is_closed() {
                self.hand_over(state, first);
            }
        }
        let (waiting, messages, bytes) = (state.waiting.len(), state.messages, state.bytes);
        self.board.write(|status| {
            status.waiting = waiting;
            status.under_way = messages;
            status.under_way_bytes = bytes;
        });
    }

    fn hand_over(&self, state: &mut State, flush: Waiting) {
        let under_way = Arc::new(UnderWay(Mutex::new(Outstanding {
            records: flush.messages.len(),
            done: Some(flush.done),
        })));
        for message in &flush.messages {
            let bytes = cost(message);
            let sent = Box::new(Sent {
                flush: Arc::clone(&under_way),
                bytes,
            });
            let number = |key: &'static str, number: u64| (key, number.to_be_bytes());
            let sum = number(SUM, xxh3_64(&message.value));
            let newest = message.newest.map(|newest| number(NEWEST, newest));
            let headers = [Some(sum), newest].into_iter().flatten();
            let headers = headers.fold(OwnedHeaders::new(), |headers, (key, value)| {
                let value = Some(&value);
                headers.insert(Header { key, value })
            });
            let record = BaseRecord::with_opaque_to(&flush.topic, sent)
                .partition(message.partition)
                .key(&message.key)
                .payload(&message.value)
                .headers(headers);
            match self.producer.send(record) {
                Ok(()) => {
                    state.messages += 1;
                    state.bytes += bytes;
                }
                Err((error, record)) => {
                    let reason = self.reason(&flush.topic, message.partition, &error);
                    let outcome = Err(LogError::Unknown {
                        reason: reason.clone(),
                    });
                    record.delivery_opaque.flush.delivered(outcome);
                    self.fail(state, reason);
                    return;
                }
            }
        }
    }

    fn reason(&self, topic: &str, partition: i32, error: &KafkaError) -> String {
        let fatal = self.producer.client().fatal_error();
        let fatal = fatal
            .map(|(_, said)| format!(" ({said})"))
            .unwrap_or_default();
        let brokers = &self.brokers;
        format!("Kafka at {brokers}, topic {topic}, partition {partition}: {error}{fatal}")
    }

    /// Nothing more goes out, and everything under way is given up.
    fn fail(&self, state: &mut State, reason: String) {
        if state.failed.is_none() {
            self.board.trouble(&reason);
            state.failed = Some(reason);
            self.producer
                .purge(PurgeConfig::default().queue().inflight());
        }
    }

    fn delivered(&self, result: &DeliveryResult<'_>, sent: &Sent) {
        use rdkafka::Message as _;
        let outcome = match result {
            Ok(_) => Ok(()),
            Err((error, message)) => Err(self.reason(message.topic(), message.partition(), error)),
        };
        let mut state = self.lock();
        state.messages -= 1;
        state.bytes -= sent.bytes;
        if let Err(reason) = &outcome {
            self.fail(&mut state, reason.clone());
        }
        self.serve(&mut state);
        // The first failure is the cause of the others.
        let cause = state.failed.clone();
        drop(state);
        if outcome.is_ok() {
            self.board.works();
        }
        let unknown = |reason| LogError::Unknown {
            reason: cause.unwrap_or(reason),
        };
        sent.flush.delivered(outcome.map_err(unknown));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Pipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let brokers = &self.brokers;
        f.debug_struct("Pipe")
            .field("brokers", brokers)
            .finish_non_exhaustive()
    }
}

/// What a record costs while it is under way: its bytes, and librdkafka's own of it.
fn cost(message: &Message) -> usize {
    message.value.len() + 256
}

/// The producer's ears: deliveries too.
struct DeliveryEars {
    ears: Ears,
    pipe: OnceLock<Weak<Pipe>>,
}

impl ClientContext for DeliveryEars {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.ears.log(level, facility, message);
    }

    fn stats(&self, statistics: Statistics) {
        self.ears.stats(statistics);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.ears.error(error, reason);
    }
}

impl ProducerContext<NoCustomPartitioner> for DeliveryEars {
    type DeliveryOpaque = Box<Sent>;

    fn delivery(&self, result: &DeliveryResult<'_>, sent: Box<Sent>) {
        match self.pipe.get().and_then(Weak::upgrade) {
            Some(pipe) => pipe.delivered(result, &sent),
            // The log is gone, and with it whoever might have waited.
            None => sent.flush.delivered(Err(LogError::Unknown {
                reason: "the log was closed".into(),
            })),
        }
    }
}
