//! What a merger is told.

use std::sync::Arc;
use std::time::Duration;

use onair_model::Buckets;

/// A feed to fold.
#[derive(Clone, Debug)]
pub struct FeedLayout {
    /// Its name.
    pub name: Arc<str>,
    /// Its buckets.
    pub buckets: Buckets,
}

/// Named limits and times. Every one has a default and stands in docs/configuration.md.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Least time between two folds of a bucket. More buckets stretch it: at most about ten heads move a second.
    pub fold_interval: Duration,
    /// A bucket with this many bytes of unfolded commits is folded at once.
    pub fold_bytes: usize,
    /// A head with this many deltas gets them merged into one.
    pub deltas_max: usize,
    /// A base is written anew when its deltas have more than this share of its bytes.
    pub delta_share_max: f64,
    /// How long a bucket may lack data that is known to exist before the reader is asked to state it again.
    pub claim_patience: Duration,
    /// How long superseded segments and full cuts are kept for reads of the past.
    pub history_window: Duration,
    /// How often a full cut is entered in the history index.
    pub history_every: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            fold_interval: Duration::from_secs(1),
            fold_bytes: 1 << 20,
            deltas_max: 32,
            delta_share_max: 0.25,
            claim_patience: Duration::from_secs(2),
            history_window: Duration::from_secs(7 * 24 * 3600),
            history_every: Duration::from_secs(10),
        }
    }
}
