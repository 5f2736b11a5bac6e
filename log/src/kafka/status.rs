//! What the log knows about itself, for status and metrics; and the ears through which librdkafka tells it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::statistics::Statistics;

/// How the log in Kafka is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Appends that wait for room.
    pub waiting: usize,
    /// Records handed over and not acknowledged.
    pub under_way: usize,
    /// Their bytes.
    pub under_way_bytes: usize,
    /// Requests that were sent again, by the producer that there is now.
    pub retries: u64,
    /// From a request to its answer, at the slowest broker, over the last seconds.
    pub round_trip: Option<RoundTrip>,
    /// Producers made so far; each after the first stands for a failed delivery.
    pub producers: u64,
    /// The last thing that went wrong, until something goes right again.
    pub trouble: Option<String>,
}

/// Times of a broker's answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoundTrip {
    /// The median.
    pub p50: Duration,
    /// All but one in a hundred are below.
    pub p99: Duration,
}

/// Where all clients of one log write what they see.
#[derive(Debug, Default)]
pub(super) struct Board(Mutex<Status>);

impl Board {
    pub(super) fn read(&self) -> Status {
        self.lock().clone()
    }

    pub(super) fn write(&self, change: impl FnOnce(&mut Status)) {
        change(&mut self.lock());
    }

    pub(super) fn trouble(&self, reason: &str) {
        self.lock().trouble = Some(reason.to_owned());
    }

    pub(super) fn works(&self) {
        let mut status = self.lock();
        if status.trouble.is_some() {
            status.trouble = None;
        }
    }

    fn statistics(&self, statistics: &Statistics) {
        let brokers = statistics.brokers.values();
        let retries = brokers.clone().map(|broker| broker.txretries).sum();
        let micros = |value: i64| Duration::from_micros(value.try_into().unwrap_or(0));
        let windows = brokers.filter_map(|broker| broker.rtt.as_ref());
        let slowest = windows
            .filter(|window| window.cnt > 0)
            .max_by_key(|window| window.p99);
        let round_trip = slowest.map(|window| RoundTrip {
            p50: micros(window.p50),
            p99: micros(window.p99),
        });
        self.write(|status| {
            status.retries = retries;
            status.round_trip = round_trip.or(status.round_trip);
        });
    }

    fn lock(&self) -> MutexGuard<'_, Status> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a client calls. What it would log becomes the trouble that status shows.
#[derive(Clone, Debug)]
pub(super) struct Ears(pub(super) Arc<Board>);

impl ClientContext for Ears {
    fn log(&self, level: RDKafkaLogLevel, _: &str, message: &str) {
        if matches!(
            level,
            RDKafkaLogLevel::Emerg
                | RDKafkaLogLevel::Alert
                | RDKafkaLogLevel::Critical
                | RDKafkaLogLevel::Error
        ) {
            self.0.trouble(message);
        }
    }

    fn stats(&self, statistics: Statistics) {
        self.0.statistics(&statistics);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        // That all are down is said behind why each of them is.
        let is_sum = error.rdkafka_error_code() == Some(RDKafkaErrorCode::AllBrokersDown);
        if !is_sum || self.0.read().trouble.is_none() {
            self.0.trouble(reason);
        }
    }
}

impl ConsumerContext for Ears {}
