//! A full pass over a feed's live rows, tied exactly to a version: bootstrap and reconciliation are the same code.
//!
//! The source reads rows beside the stream; [`Window`] gathers what the stream delivers meanwhile. When the stream
//! has delivered everything that the scan may show, keys that it touched are taken from the stream, all others
//! from the scan: that is the table at the reader's present version, exactly (DESIGN section 5).

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hashbrown::HashMap;
use onair_model::plant::{Bug, planted};
use onair_model::value::Value;
use onair_model::{Bucket, GtidSet, Key, Row, Sum};

use crate::change::KeyChange;
use crate::encode::Encoder;
use crate::feed::Feed;
use crate::sequence::sums_of;
use crate::source::{Gate, RowSink, ScanRequest, Source, SourceError};

/// Rows with their keys, which all differ.
pub type Content = Vec<(Key, Row)>;

/// The rows of one finished scan.
#[derive(Debug)]
pub struct Scan {
    /// Every transaction that the rows may show is in this set.
    pub high: GtidSet,
    /// Live rows as the scan saw them.
    pub rows: Content,
    /// Text values with bytes that their character set does not have, shown as U+FFFD.
    pub replaced: u64,
    /// Bytes of the rows as the database sent them.
    pub bytes: u64,
    /// How long the database was at it, over all connections.
    pub busy: Duration,
}

/// Why a scan gave nothing.
#[derive(Debug, thiserror::Error)]
pub enum ScanError {
    /// The source did not do its part.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// A value was not of its column's type: the table changed beside the scan.
    #[error(
        "table {table}: column {column} gave a value that is not of its type: the table was altered beside the scan, which begins again"
    )]
    Misfit {
        /// The table.
        table: String,
        /// The column.
        column: Arc<str>,
    },
}

/// What one connection reads.
struct Gather {
    encoder: Encoder,
    rows: Vec<(Key, Row)>,
    row: Vec<u8>,
    misfit: Option<Arc<str>>,
}

/// What is seen of a scan from outside, and done to it.
#[derive(Clone, Debug)]
pub struct Control {
    /// Goes up by one a row.
    pub progress: Arc<AtomicU64>,
    /// Holds it.
    pub gate: Gate,
}

impl Default for Control {
    /// Of a scan that nobody looks at or holds.
    fn default() -> Self {
        Control {
            progress: Arc::default(),
            gate: Gate::always_open(),
        }
    }
}

/// Reads all live rows of a feed. `delivered` is what the stream had delivered when the scan was asked for.
pub async fn scan(
    source: &dyn Source,
    feed: Arc<Feed>,
    delivered: GtidSet,
    settings: Settings,
    control: Control,
) -> Result<Scan, ScanError> {
    let Control { progress, gate } = control;
    // One a connection, so that none waits for another.
    let gathers = (0..settings.parallel.max(1)).map(|_| {
        Mutex::new(Gather {
            encoder: Encoder::new(&feed),
            rows: Vec::new(),
            row: Vec::new(),
            misfit: None,
        })
    });
    let gathers: Arc<[Mutex<Gather>]> = gathers.collect();
    let table = feed.config.table.to_string();
    let keys = feed.key.len();
    let into = Arc::clone(&gathers);
    let sink: RowSink = Arc::new(move |connection, values: &[Value<'_>]| {
        progress.fetch_add(1, Ordering::Relaxed);
        let gather = &into[connection % into.len()];
        let mut gather = gather.lock().unwrap_or_else(PoisonError::into_inner);
        gather.take(&values[..keys], &values[keys..]);
    });
    let request = ScanRequest {
        feed,
        delivered,
        parallel: settings.parallel,
        max_rate: settings.max_rate,
        gate,
    };
    let scanned = source.scan(&request, sink).await?;
    let mut scan = Scan {
        high: scanned.high,
        rows: Content::with_capacity(usize::try_from(scanned.rows).unwrap_or(0)),
        replaced: 0,
        bytes: scanned.bytes,
        busy: scanned.busy,
    };
    for gather in &gathers[..] {
        let mut gather = gather.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(column) = gather.misfit.take() {
            return Err(ScanError::Misfit { table, column });
        }
        scan.rows.append(&mut gather.rows);
        scan.replaced += gather.encoder.replaced();
    }
    Ok(scan)
}

/// Reads the live row of one key as it is now.
pub async fn row(source: &dyn Source, feed: &Feed, key: &Key) -> Result<Option<Row>, ScanError> {
    let gather = Arc::new(Mutex::new(Gather {
        encoder: Encoder::new(feed),
        rows: Vec::new(),
        row: Vec::new(),
        misfit: None,
    }));
    let into = Arc::clone(&gather);
    let keys = feed.key.len();
    let sink: RowSink = Arc::new(move |_, values: &[Value<'_>]| {
        let mut gather = into.lock().unwrap_or_else(PoisonError::into_inner);
        gather.take(&values[..keys], &values[keys..]);
    });
    source.row(feed, key, sink).await?;
    let mut gather = gather.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(column) = gather.misfit.take() {
        let table = feed.config.table.to_string();
        return Err(ScanError::Misfit { table, column });
    }
    let found = gather.rows.pop();
    // The source may compare keys more coarsely than we do.
    Ok(found.filter(|(of, _)| of == key).map(|(_, row)| row))
}

/// How a scan reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Connections at once.
    pub parallel: usize,
    /// Rows a second; `None` is as fast as it goes.
    pub max_rate: Option<u64>,
}

impl Gather {
    fn take(&mut self, key: &[Value<'_>], row: &[Value<'_>]) {
        self.row.clear();
        let Gather {
            encoder,
            rows,
            row: out,
            misfit,
        } = self;
        let key = match encoder.key(key) {
            Ok(key) => key,
            Err(fault) => return *misfit = Some(fault.column),
        };
        match encoder.row(row, out) {
            Ok(()) => {
                rows.push((key, Row::new(bytes::Bytes::copy_from_slice(out))));
            }
            Err(fault) => *misfit = Some(fault.column),
        }
    }
}

/// What the stream delivers while a scan runs.
#[derive(Debug)]
pub struct Window {
    /// Last row after the stream's changes of each key touched since before the scan began; `None`: not live.
    touched: HashMap<Key, Option<Row>>,
    /// Set when the scan's `high` was delivered: nothing is gathered any more. Only a planted bug does that.
    closed: bool,
}

impl Window {
    /// Open from now on. It must be opened before the scan is asked for.
    pub fn open() -> Self {
        Window {
            touched: HashMap::new(),
            closed: false,
        }
    }

    /// Takes note of a delivered change.
    pub fn touch(&mut self, change: &KeyChange) {
        if !self.closed {
            self.touched
                .insert(change.key.clone(), change.after.clone());
        }
    }

    /// Takes note of a transaction's changes to some feeds; `windows` are those of `feeds`, in the same order.
    pub fn touch_all(feeds: &[usize], windows: &mut [Window], changes: &[(usize, Vec<KeyChange>)]) {
        for (feed, changes) in changes {
            if let Some(at) = feeds.iter().position(|scanned| scanned == feed) {
                changes.iter().for_each(|change| windows[at].touch(change));
            }
        }
    }

    /// Keys touched so far.
    pub fn len(&self) -> usize {
        self.touched.len()
    }

    /// Whether nothing was touched yet.
    pub fn is_empty(&self) -> bool {
        self.touched.is_empty()
    }

    /// Takes note that everything that the scan may show is delivered, though the scan is not used yet.
    pub fn reached_high(&mut self) {
        self.closed |= planted(Bug::WindowClosedAtHigh);
    }

    /// The table's live rows at the version that the stream has reached now.
    pub fn merge(self, mut rows: Content) -> Content {
        if !self.touched.is_empty() {
            rows.retain(|(key, _)| !self.touched.contains_key(key));
        }
        let touched = self.touched.into_iter();
        rows.extend(touched.filter_map(|(key, row)| Some((key, row?))));
        rows
    }
}

/// How far a scan may take rows away before somebody must look.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Guard {
    /// Largest share of one bucket that may go, 0 to 1.
    pub bucket_share_max: f64,
    /// Largest share of the feed that may go, 0 to 1.
    pub feed_share_max: f64,
    /// Rows that may go whatever the shares: a nearly empty set is no catastrophe.
    pub rows_min: u64,
}

impl Default for Guard {
    fn default() -> Self {
        Guard {
            bucket_share_max: 0.05,
            feed_share_max: 0.01,
            rows_min: 100,
        }
    }
}

/// What a scan would take away that the guard does not let go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blast {
    /// The bucket that would lose most, if one loses too much.
    pub bucket: Option<Bucket>,
    /// Rows before.
    pub before: u64,
    /// Rows after.
    pub after: u64,
}

impl Guard {
    /// Compares the counts before with the content that a scan would put in their place.
    pub fn check(&self, before: &[Sum], after: &[Sum]) -> Result<(), Blast> {
        let (mut total_before, mut total_after) = (0, 0);
        let mut worst: Option<(u64, u16, u64, u64)> = None;
        for (number, (before, after)) in before.iter().zip(after).enumerate() {
            total_before += before.count;
            total_after += after.count;
            let gone = before.count.saturating_sub(after.count);
            let share = gone as f64 / before.count.max(1) as f64;
            if gone > self.rows_min
                && share > self.bucket_share_max
                && worst.is_none_or(|held| held.0 < gone)
            {
                worst = Some((gone, number as u16, before.count, after.count));
            }
        }
        if let Some((_, number, before, after)) = worst {
            return Err(Blast {
                bucket: Some(Bucket::new(number)),
                before,
                after,
            });
        }
        let gone = total_before.saturating_sub(total_after);
        if gone > self.rows_min && gone as f64 / total_before.max(1) as f64 > self.feed_share_max {
            return Err(Blast {
                bucket: None,
                before: total_before,
                after: total_after,
            });
        }
        Ok(())
    }
}

/// A scan's content by bucket, and its sums.
#[derive(Debug)]
pub struct Sorted {
    /// Rows of each bucket.
    pub buckets: Vec<Vec<(Key, Row)>>,
    /// Digest and count of each bucket.
    pub sums: Vec<Sum>,
}

impl Sorted {
    /// All rows, as a scan gathers them.
    pub fn into_content(self) -> Content {
        self.buckets.into_iter().flatten().collect()
    }
}

/// Sorts a content into buckets.
pub fn sort(feed: &Feed, content: Content) -> Sorted {
    let layout = feed.config.buckets;
    let sums = sums_of(layout, content.iter().map(|(key, row)| (key, row)));
    let mut buckets: Vec<Vec<(Key, Row)>> = sums
        .iter()
        .map(|sum| Vec::with_capacity(sum.count as usize))
        .collect();
    for (key, row) in content {
        buckets[layout.of(&key).index()].push((key, row));
    }
    Sorted { buckets, sums }
}

#[cfg(test)]
mod tests {
    use onair_model::Digest;

    use super::*;

    fn sums(counts: &[u64]) -> Vec<Sum> {
        let sum = |count: &u64| Sum {
            digest: Digest::EMPTY,
            count: *count,
        };
        counts.iter().map(sum).collect()
    }

    #[test]
    fn the_guard_lets_small_losses_go_and_holds_large_ones() {
        let check = |before: &[u64], after: &[u64]| {
            Guard::default()
                .check(&sums(before), &sums(after))
                .map_err(|blast| (blast.bucket.map(Bucket::index), blast.before, blast.after))
        };
        // Whatever comes on air, and what is below the least number of rows.
        assert_eq!(check(&[10, 10], &[10_000, 10]), Ok(()));
        assert_eq!(check(&[100, 0], &[0, 0]), Ok(()));
        // 5 % of a bucket.
        assert_eq!(check(&[10_000, 100_000], &[9_500, 100_000]), Ok(()));
        let one = Err((Some(0), 10_000, 9_499));
        assert_eq!(check(&[10_000, 100_000], &[9_499, 100_000]), one);
        // The bucket that loses most is told.
        let worst = Err((Some(1), 2_000, 0));
        assert_eq!(check(&[1_000, 2_000], &[0, 0]), worst);
        // 1 % of the feed, though no bucket loses much.
        let even = |count: u64| vec![count; 100];
        assert_eq!(check(&even(1_000), &even(990)), Ok(()));
        let all = Err((None, 100_000, 98_900));
        assert_eq!(check(&even(1_000), &even(989)), all);
        // A scan that finds nothing.
        assert_eq!(check(&[101], &[0]), Err((Some(0), 101, 0)));
    }
}
