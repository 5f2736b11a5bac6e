//! What the log knows about itself, for status and metrics; and the ears through which librdkafka tells it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::statistics::{Partition, Statistics};

/// Clients that are read from speak each second: one that says nothing for this long is gone.
const SILENT: Duration = Duration::from_secs(30);

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
    /// Entries in the log that followers have not taken yet, when each of them last looked; `None` without followers.
    pub behind: Option<u64>,
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

impl Status {
    /// What goes on, in words; nothing before anything did.
    pub(super) fn figures(&self) -> Option<String> {
        let mut words = Vec::new();
        if self.producers > 0 {
            words.push(format!(
                "{} appends wait, {} records ({} bytes) under way, {} requests sent again",
                self.waiting, self.under_way, self.under_way_bytes, self.retries
            ));
        }
        if let Some(RoundTrip { p50, p99 }) = self.round_trip {
            words.push(format!("brokers answer in {p50:?} (p99 {p99:?})"));
        }
        words.extend(self.behind.map(|behind| format!("{behind} entries behind")));
        (!words.is_empty()).then(|| words.join(", "))
    }
}

/// Where all clients of one log write what they see.
#[derive(Debug, Default)]
pub(super) struct Board {
    status: Mutex<Status>,
    /// How far each follower is behind, by its client's name, and when it said so.
    followers: Mutex<HashMap<String, (u64, Instant)>>,
}

impl Board {
    pub(super) fn read(&self) -> Status {
        let mut status = self.lock().clone();
        let mut followers = self
            .followers
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        followers.retain(|_, (_, at)| at.elapsed() < SILENT);
        status.behind = followers
            .values()
            .map(|(behind, _)| *behind)
            .reduce(|a, b| a + b);
        status
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
        if statistics.client_type == "consumer" {
            let topics = statistics.topics.values();
            let partitions = topics.flat_map(|topic| topic.partitions.values());
            let behind = partitions.filter_map(behind).sum();
            let mut followers = self
                .followers
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            followers.insert(statistics.name.clone(), (behind, Instant::now()));
            return;
        }
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
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Entries of a partition that were not given out; nothing for one that is not followed or whose end is not known.
fn behind(partition: &Partition) -> Option<u64> {
    let next = match partition.app_offset {
        // Nothing was given out yet.
        ..0 => partition.next_offset - partition.fetchq_cnt,
        next => next,
    };
    let is_known = partition.fetch_state == "active" && next >= 0 && partition.hi_offset >= 0;
    is_known.then(|| u64::try_from(partition.hi_offset - next).unwrap_or(0))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_follower_is_behind_by_what_it_was_not_given() {
        let partition =
            |fetch_state: &str, next_offset, fetchq_cnt, app_offset, hi_offset| Partition {
                fetch_state: fetch_state.to_owned(),
                next_offset,
                fetchq_cnt,
                app_offset,
                hi_offset,
                ..Partition::default()
            };
        assert_eq!(behind(&partition("active", 90, 0, 70, 100)), Some(30));
        assert_eq!(behind(&partition("active", 90, 15, -1001, 100)), Some(25));
        assert_eq!(behind(&partition("active", 100, 0, 100, 100)), Some(0));
        assert_eq!(behind(&partition("active", 7, 0, -1001, -1001)), None);
        assert_eq!(behind(&partition("none", 90, 0, 70, 100)), None);
    }
}
