//! How the log in Kafka is made: plain data, and what librdkafka is told.

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;

use crate::LogError;

/// Which Kafka, and what is asked of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Where to begin: `host:port`, several with commas between them.
    pub brokers: String,
    /// What the names of topics begin with.
    pub prefix: String,
    /// Copies of each entry.
    pub replication_factor: u16,
    /// Copies that must be there before an append is acknowledged.
    pub min_insync_replicas: u16,
    /// How long entries stay; at least three times the longest that a merger may be away. `None`: for ever.
    pub retention: Option<Duration>,
    /// Of what is sent.
    pub compression: Compression,
    /// The largest record, bytes before compression. The reader writes parts of half a MiB, larger only for a row
    /// that is larger itself.
    pub message_bytes: usize,
    /// Bytes under way before appends wait.
    pub buffer_bytes: usize,
    /// Bytes that a follower fetches ahead.
    pub fetch_bytes: usize,
    /// How late a follower may be given an entry, where many small fetches would cost more than they are worth. Zero: as
    /// soon as it is there.
    pub fetch_wait: Duration,
    /// The longest wait for an answer to a question. Appends have no limit: they wait.
    pub request_timeout: Duration,
    /// How often the topic's identity and settings are looked at again.
    pub check_interval: Duration,
    /// More for librdkafka, by its own names: TLS, SASL, sockets and `client.rack`.
    pub options: Vec<(String, String)>,
}

impl Default for Settings {
    fn default() -> Self {
        const DAY: Duration = Duration::from_secs(24 * 60 * 60);
        Settings {
            brokers: "127.0.0.1:9092".into(),
            prefix: "onair".into(),
            replication_factor: 3,
            min_insync_replicas: 2,
            retention: Some(7 * DAY),
            compression: Compression::Lz4,
            message_bytes: 8 * 1024 * 1024,
            buffer_bytes: 64 * 1024 * 1024,
            fetch_bytes: 16 * 1024 * 1024,
            fetch_wait: Duration::ZERO,
            request_timeout: Duration::from_secs(10),
            check_interval: Duration::from_secs(2),
            options: Vec::new(),
        }
    }
}

/// The longest fetch of an idle partition.
const IDLE: Duration = Duration::from_millis(500);

/// So many bytes are worth a fetch before [`Settings::fetch_wait`] is over.
const FETCH_LEAST: usize = 1024 * 1024;

/// How batches are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// Slow, and every tool reads it.
    Gzip,
    /// Fast.
    Snappy,
    /// Fast.
    Lz4,
    /// The smallest.
    Zstd,
}

impl Compression {
    const fn name(self) -> &'static str {
        match self {
            Compression::None => "none",
            Compression::Gzip => "gzip",
            Compression::Snappy => "snappy",
            Compression::Lz4 => "lz4",
            Compression::Zstd => "zstd",
        }
    }
}

/// What a batch of one record has beside the record's value: headers, key, framing.
const OVERHEAD: usize = 4096;

/// What may stand in [`Settings::options`]. What decides about order and loss may not.
const OPTIONS: [&str; 8] = [
    "security.protocol",
    "ssl.",
    "sasl.",
    "enable.ssl.",
    "socket.",
    "broker.address.",
    "client.rack",
    "debug",
];

impl Settings {
    /// The largest batch that the topic takes.
    pub(super) const fn batch_bytes(&self) -> usize {
        self.message_bytes + OVERHEAD
    }

    /// Whether they can be meant.
    pub(super) fn check(&self) -> Result<(), LogError> {
        let refused = |reason: String| Err(LogError::Refused { reason });
        let foreign = self.options.iter().find(|(name, _)| {
            let mut allowed = OPTIONS.iter();
            !allowed.any(|allowed| name.starts_with(allowed))
        });
        if let Some((name, _)) = foreign {
            return refused(format!(
                "the option {name} is not one that may be given; there are {}",
                OPTIONS.join(", ")
            ));
        }
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        if self.prefix.is_empty() || self.prefix.len() > 60 || !self.prefix.bytes().all(legal) {
            return refused(format!(
                "the prefix `{}` cannot begin a topic's name: it has 1 to 60 letters, digits, `.`, `_` and `-`",
                self.prefix
            ));
        }
        Ok(())
    }

    fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set_log_level(RDKafkaLogLevel::Warning);
        for (name, value) in &self.options {
            config.set(name, value);
        }
        config
            .set("bootstrap.servers", &self.brokers)
            .set("client.id", "onair")
            // A topic that is gone must not come back with one partition and other settings.
            .set("allow.auto.create.topics", "false")
            .set("socket.keepalive.enable", "true")
            // A broker that comes back is found within a second, not ten.
            .set("reconnect.backoff.ms", "50")
            .set("reconnect.backoff.max.ms", "1000");
        config
    }

    /// For questions about topics. It logs nothing: its wrapper never empties the queue that the lines would go to. The
    /// producer meets the same troubles and tells them.
    pub(super) fn admin(&self) -> ClientConfig {
        let mut config = self.client();
        config.set_log_level(RDKafkaLogLevel::Emerg);
        config
    }

    /// One that keeps order, repeats nothing and skips nothing: what cannot be delivered ends it.
    pub(super) fn producer(&self) -> ClientConfig {
        let mut config = self.client();
        let batch = self.batch_bytes();
        config
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("enable.gapless.guarantee", "true")
            // Without end: a time-out would skip what those behind it stand on.
            .set("message.timeout.ms", "0")
            // The reader batches; waiting here would only add to each commit's way.
            .set("linger.ms", "0")
            .set("retry.backoff.ms", "20")
            .set("retry.backoff.max.ms", "500")
            .set("message.max.bytes", batch.to_string())
            .set("batch.size", batch.min(1_000_000).to_string())
            // Room is counted here, by `buffer_bytes`: these must not be met first.
            .set("queue.buffering.max.messages", "10000000")
            .set("queue.buffering.max.kbytes", "2147483647")
            .set("compression.type", self.compression.name())
            .set("statistics.interval.ms", "1000");
        config
    }

    /// One that reads what it is told from where it is told.
    pub(super) fn consumer(&self) -> ClientConfig {
        let mut config = self.client();
        let fetch = self.fetch_bytes.max(self.batch_bytes());
        let (least, longest) = match self.fetch_wait {
            // A fetch is answered by the next entry; without one it is made again now and then.
            Duration::ZERO => (1, IDLE),
            wait => (FETCH_LEAST.min(fetch), wait),
        };
        config
            // Assigning asks for a name; nothing is ever committed under it.
            .set("group.id", group(&self.prefix))
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", "error")
            // Each record has a sum of ours. Librdkafka (2.12.1) reads on at a wrong place after a batch that fails this
            // check, and was seen to abort the process there.
            .set("check.crcs", "false")
            .set("isolation.level", "read_uncommitted")
            .set("fetch.min.bytes", least.to_string())
            .set("fetch.wait.max.ms", longest.as_millis().to_string())
            // By default a follower that is behind pauses for a second whenever its queue is full.
            .set("fetch.queue.backoff.ms", "1")
            .set("statistics.interval.ms", "1000")
            .set("fetch.error.backoff.ms", "20")
            .set("queued.min.messages", "1000000")
            .set("queued.max.messages.kbytes", (fetch / 1024).to_string())
            .set("message.max.bytes", self.batch_bytes().to_string())
            .set(
                "fetch.message.max.bytes",
                fetch.min(1024 * 1024).to_string(),
            )
            .set("fetch.max.bytes", fetch.to_string())
            .set(
                "receive.message.max.bytes",
                (fetch + 1024 * 1024).to_string(),
            );
        config
    }
}

/// The name of followers.
pub(super) fn group(prefix: &str) -> String {
    format!("{prefix}-followers")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_follower_that_may_be_late_fetches_more_at_once() {
        let told = |fetch_wait| {
            let consumer = Settings {
                fetch_wait,
                ..Settings::default()
            }
            .consumer();
            ["fetch.min.bytes", "fetch.wait.max.ms"]
                .map(|name| consumer.get(name).map(String::from))
        };
        let some = |least: &str, longest: &str| [least, longest].map(|text| Some(text.to_owned()));
        assert_eq!(told(Duration::ZERO), some("1", "500"));
        assert_eq!(told(Duration::from_millis(250)), some("1048576", "250"));
    }

    #[test]
    fn what_decides_about_loss_is_not_an_option() {
        let with = |options: &[(&str, &str)], prefix: &str| Settings {
            options: options
                .iter()
                .map(|(a, b)| ((*a).into(), (*b).into()))
                .collect(),
            prefix: prefix.into(),
            ..Settings::default()
        };
        assert!(
            with(&[("sasl.username", "a"), ("client.rack", "b")], "a.b")
                .check()
                .is_ok()
        );
        for wrong in [with(&[("acks", "1")], "a"), with(&[], "a b"), with(&[], "")] {
            println!("{}", wrong.check().unwrap_err());
        }
    }
}
