//! What a reader is told.

use std::sync::Arc;
use std::time::Duration;

use crate::assemble::Limits;
use crate::feed::FeedConfig;
use crate::scan::{self, Guard};

/// A reader of one source.
#[derive(Clone, Debug)]
pub struct ReaderConfig {
    /// Names the source's cells in the store.
    pub source: Arc<str>,
    /// Its feeds.
    pub feeds: Vec<FeedConfig>,
    /// Limits and times.
    pub settings: Settings,
}

/// Named limits and times. Every one has a default and stands in docs/configuration.md.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Least time between the beginnings of two flushes.
    pub flush_interval: Duration,
    /// How often age is attested and a full cut written.
    pub full_cut_every: Duration,
    /// Time between two scheduled runs of a feed, give or take a tenth; `None`: only when one is asked for.
    pub scan_period: Option<Duration>,
    /// How long runs that are over are kept.
    pub history_window: Duration,
    /// How a scan reads.
    pub scan: scan::Settings,
    /// What a scan may take away.
    pub guard: Guard,
    /// Limits of a transaction.
    pub limits: Limits,
    /// Commits waiting for a flush, in bytes, above which the stream is not read on.
    pub pending_max: usize,
    /// How long another reader's lease must stand still before it is taken over. Zero where the store admits one process.
    pub lease_patience: Duration,
    /// How long a transaction may stay prepared before waiting for it holds the checkpoint back no longer.
    pub xa_patience: Duration,
    /// Who we are, for people.
    pub holder: String,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            flush_interval: Duration::from_millis(1),
            full_cut_every: Duration::from_secs(1),
            scan_period: Some(Duration::from_secs(15 * 60)),
            history_window: Duration::from_secs(7 * 24 * 3600),
            scan: scan::Settings {
                parallel: 4,
                max_rate: None,
            },
            guard: Guard::default(),
            limits: Limits::default(),
            pending_max: 64 << 20,
            lease_patience: Duration::from_secs(6),
            xa_patience: Duration::from_secs(3600),
            holder: format!("process {}", std::process::id()),
        }
    }
}
