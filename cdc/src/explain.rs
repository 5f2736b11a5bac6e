//! What differs between a scan and the feed, by rows. The reader knows digests alone: the feed's rows are read from the
//! store, as they were at the versions at which digests differed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hashbrown::HashMap;
use onair_model::{Bucket, Key, Row, Rows, Version};
use onair_store::ShardStore;
use onair_store::past::{self, PastError};
use onair_store::runs::{Difference, Drift, Sides};
use tokio::time::{sleep, timeout};

/// How long the merger gets to bring the store to the version compared, and the store to give the rows.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// The same where the merger itself asked for the bucket: it may not come to that version at all, and clients wait.
pub(crate) const HASTE: Duration = Duration::from_secs(1);

/// How often the store is asked how far the merger is.
const LOOKS: Duration = Duration::from_millis(200);

/// Examples of each kind: those with the smallest keys.
const EXAMPLES_MAX: usize = 10;

/// Bytes of all examples of a report, keys and rows: a run must fit its cell.
const EXAMPLE_BYTES_MAX: usize = 64 << 10;

/// A bucket whose digest is not the scan's.
#[derive(Debug)]
pub(crate) struct Apart {
    pub(crate) bucket: Bucket,
    /// The feed's data version of the bucket.
    pub(crate) d: Version,
    /// The table's rows at it.
    pub(crate) rows: Vec<(Key, Row)>,
}

/// Compares by rows; says why when that could not be done.
pub(crate) async fn explain(
    store: Arc<dyn ShardStore>,
    feed: Arc<str>,
    apart: Vec<Apart>,
    patience: Duration,
) -> Result<Drift, String> {
    let last = Mutex::new(None);
    let compare = async {
        let mut found = Found::default();
        for Apart { bucket, d, rows } in apart {
            let held = held(&*store, &feed, (bucket, d), &last).await?;
            found.bucket(&held, rows);
        }
        Ok::<_, PastError>(found.report())
    };
    let why = match timeout(patience, compare).await {
        Ok(Ok(drift)) => return Ok(drift),
        Ok(Err(error)) => error.to_string(),
        Err(_) => {
            let last = last.into_inner().unwrap_or_else(PoisonError::into_inner);
            let last = last.map_or_else(String::new, |error: PastError| format!("{error}; "));
            let seconds = patience.as_secs();
            format!("{last}{seconds} s were not enough for it; is a merger running?")
        }
    };
    Err(format!("which rows differ could not be found out: {why}"))
}

/// The feed's rows of a bucket at its data version, once the merger has brought the store to it. Why they are not there
/// yet is left in `last`.
async fn held(
    store: &dyn ShardStore,
    feed: &Arc<str>,
    (bucket, d): (Bucket, Version),
    last: &Mutex<Option<PastError>>,
) -> Result<Rows<Row>, PastError> {
    loop {
        match past::bucket_at(store, feed, bucket, d).await {
            Ok(content) => return Ok(content.rows),
            Err(
                error @ (PastError::Ahead { .. }
                | PastError::Nothing { .. }
                | PastError::Unstated { .. }),
            ) => {
                *last.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                sleep(LOOKS).await;
            }
            Err(error) => return Err(error),
        }
    }
}

/// What differs, as far as it is compared.
#[derive(Default)]
struct Found {
    missing: Kind,
    extra: Kind,
    stale: Kind,
}

#[derive(Default)]
struct Kind {
    rows: u64,
    /// The smallest keys.
    examples: BTreeMap<Key, Sides>,
}

impl Kind {
    fn add(&mut self, key: &Key, sides: impl FnOnce() -> Sides) {
        self.rows += 1;
        let last = self.examples.last_key_value();
        if self.examples.len() < EXAMPLES_MAX || last.is_some_and(|(last, _)| key < last) {
            self.examples.insert(key.clone(), sides());
        }
        if self.examples.len() > EXAMPLES_MAX {
            self.examples.pop_last();
        }
    }
}

impl Found {
    fn bucket(&mut self, held: &Rows<Row>, source: Vec<(Key, Row)>) {
        let source: HashMap<Key, Row> = source.into_iter().collect();
        for (key, row) in &source {
            let source = || row.clone();
            match held.get(key) {
                None => self
                    .missing
                    .add(key, || Sides::Missing { source: source() }),
                Some(held) if held != row => self.stale.add(key, || Sides::Stale {
                    source: source(),
                    held: held.clone(),
                }),
                Some(_) => {}
            }
        }
        for (key, row) in held.iter() {
            if !source.contains_key(key) {
                self.extra.add(key, || Sides::Extra { held: row.clone() });
            }
        }
    }

    fn report(self) -> Drift {
        let mut drift = Drift {
            missing: self.missing.rows,
            extra: self.extra.rows,
            stale: self.stale.rows,
            examples: Vec::new(),
        };
        let mut room = EXAMPLE_BYTES_MAX;
        let kinds = [self.missing, self.extra, self.stale];
        for (key, sides) in kinds.into_iter().flat_map(|kind| kind.examples) {
            let bytes = key.with_bytes(<[u8]>::len) + sides.bytes();
            if let Some(left) = room.checked_sub(bytes) {
                room = left;
                drift.examples.push(Difference { key, sides });
            }
        }
        drift
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(text: &str) -> Row {
        Row::new(text.as_bytes().to_vec().into())
    }

    fn key(number: u64) -> Key {
        Key::copy_from(&number.to_be_bytes())
    }

    fn rows(rows: &[(u64, &str)]) -> Vec<(Key, Row)> {
        rows.iter()
            .map(|(id, text)| (key(*id), row(text)))
            .collect()
    }

    #[test]
    fn each_row_is_missing_extra_stale_or_equal() {
        let mut found = Found::default();
        let held = rows(&[(1, "a"), (2, "b"), (3, "c")]).into_iter().collect();
        found.bucket(&held, rows(&[(2, "b"), (3, "C"), (4, "d")]));
        let drift = found.report();
        assert_eq!((drift.missing, drift.extra, drift.stale), (1, 1, 1));
        let (source, held) = (row("C"), row("c"));
        let example = |id, sides| Difference {
            key: key(id),
            sides,
        };
        let expected = [
            example(4, Sides::Missing { source: row("d") }),
            example(1, Sides::Extra { held: row("a") }),
            example(3, Sides::Stale { source, held }),
        ];
        assert_eq!(drift.examples, expected);
    }

    #[test]
    fn examples_are_the_smallest_keys_and_fit() {
        let mut found = Found::default();
        let large = "x".repeat(EXAMPLE_BYTES_MAX / 4);
        let many: Vec<(u64, &str)> = (0..100).map(|id| (id, "y")).collect();
        found.bucket(&Rows::new(), rows(&many));
        found.bucket(
            &rows(&[(500, &large), (501, &large)]).into_iter().collect(),
            rows(&[(500, "a"), (501, "b")]),
        );
        found.bucket(
            &rows(&[(502, &large), (503, &large), (504, "z")])
                .into_iter()
                .collect(),
            Vec::new(),
        );
        let drift = found.report();
        assert_eq!((drift.missing, drift.extra, drift.stale), (100, 3, 2));
        let keys: Vec<Key> = drift
            .examples
            .iter()
            .map(|example| example.key.clone())
            .collect();
        let expected: Vec<Key> = (0..10).chain([502, 503, 504, 500]).map(key).collect();
        assert_eq!(keys, expected, "the fourth large row does not fit");
    }
}
