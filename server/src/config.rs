//! What a server is told: feeds and limits.

use std::sync::Arc;
use std::time::Duration;

use onair_log::Layout;
use onair_model::Buckets;

/// A feed to serve.
#[derive(Clone, Debug)]
pub struct FeedLayout {
    /// Its name.
    pub name: Arc<str>,
    /// Its buckets.
    pub buckets: Buckets,
}

impl FeedLayout {
    pub(crate) fn log_layout(&self) -> Layout {
        Layout {
            feed: Arc::clone(&self.name),
            buckets: self.buckets,
        }
    }
}

/// Named limits and times. Every one has a default and stands in docs/configuration.md.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Subscribers of one feed at once.
    pub clients_max: usize,
    /// Bytes of frames that a feed keeps for subscribers that lag or come back.
    pub ring_bytes: usize,
    /// Largest request, in bytes.
    pub request_bytes_max: usize,
    /// Streams on one connection.
    pub streams_per_connection: u32,
    /// Connections are told to go away after this long, so that load can move; `None`: never.
    pub connection_age_max: Option<Duration>,
    /// HTTP/2 keep-alive: a connection that does not answer within seven times this is closed.
    pub keepalive: Duration,
    /// How often everybody hears that the content is still complete. At most a second.
    pub progress: Duration,
    /// How long a later epoch that does not contain what is shown is waited for.
    pub lost_tail_wait: Duration,
    /// Clients that are told to go away come back after about this long.
    pub retry_after: Duration,
    /// How long streams get to end when the server stops.
    pub drain: Duration,
    /// Largest share of the processors that fan-out may take; frames are spaced accordingly.
    pub fanout_share: f64,
    /// Processor time that one delivery costs, as measured.
    pub delivery_cost: Duration,
    /// Processors.
    pub cores: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            clients_max: 20_000,
            ring_bytes: 64 << 20,
            request_bytes_max: 64 << 10,
            streams_per_connection: 64,
            connection_age_max: None,
            keepalive: Duration::from_secs(10),
            progress: Duration::from_secs(1),
            lost_tail_wait: Duration::from_secs(30),
            retry_after: Duration::from_millis(500),
            drain: Duration::from_secs(1),
            fanout_share: 0.05,
            delivery_cost: Duration::from_micros(10),
            cores: std::thread::available_parallelism().map_or(1, |cores| cores.get() as u32),
        }
    }
}
