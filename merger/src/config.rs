//! What a merger is told.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use onair_model::{Bucket, Buckets};

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
    /// The buckets to fold, of every feed; `None`: a share of them, as the log divides them among all mergers.
    pub buckets: Option<BucketList>,
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
            buckets: None,
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

/// A fixed list of buckets: `0-7`, `0,2,4`, `8-11,15`. The merger that has bucket 0 keeps the cuts too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BucketList(Vec<RangeInclusive<u16>>);

impl BucketList {
    /// Whether the bucket is in it.
    pub fn contains(&self, bucket: Bucket) -> bool {
        self.0.iter().any(|range| range.contains(&bucket.get()))
    }
}

impl FromStr for BucketList {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not a list of buckets like \"0-7\" or \"0-3,8\"");
        let range = |part: &str| {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let number = |text: &str| text.trim().parse::<u16>().map_err(|_| wrong());
            let range = number(first)?..=number(last)?;
            if range.is_empty() {
                Err(wrong())
            } else {
                Ok(range)
            }
        };
        text.split(',')
            .map(range)
            .collect::<Result<_, _>>()
            .map(BucketList)
    }
}

impl fmt::Display for BucketList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, range) in self.0.iter().enumerate() {
            let comma = if n == 0 { "" } else { "," };
            match (range.start(), range.end()) {
                (first, last) if first == last => write!(f, "{comma}{first}")?,
                (first, last) => write!(f, "{comma}{first}-{last}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_buckets_is_read_and_shown() {
        let list: BucketList = "0-3, 8".parse().expect("a list");
        assert_eq!(list.to_string(), "0-3,8");
        let held: Vec<u16> = (0..10).filter(|n| list.contains(Bucket::new(*n))).collect();
        assert_eq!(held, [0, 1, 2, 3, 8]);
        for wrong in ["", "a", "3-1", "1-", "1,,2", "70000"] {
            assert!(wrong.parse::<BucketList>().is_err(), "{wrong}");
        }
    }
}
