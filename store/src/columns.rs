//! Field numbers of a feed's exported columns: given once, never taken back, never given again.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::cells::{Moved, move_cell};
use crate::checkpoint::{self, CellValue, Held};
use crate::{CellKey, ShardStore, StoreError};

/// Attempts beside another process that gives numbers too.
const ATTEMPTS_MAX: u32 = 5;

/// Numbers that protobuf keeps for itself, ends included.
const RESERVED: (u32, u32) = (19_000, 19_999);

/// The numbers known, with one more for each wanted column that has none, in the order of `wanted`.
pub fn assign<'a>(
    known: &BTreeMap<String, u32>,
    wanted: impl IntoIterator<Item = &'a str>,
) -> BTreeMap<String, u32> {
    let mut numbers = known.clone();
    let mut last = known.values().copied().max().unwrap_or(0);
    for column in wanted {
        if !numbers.contains_key(column) {
            last += 1;
            if (RESERVED.0..=RESERVED.1).contains(&last) {
                last = RESERVED.1 + 1;
            }
            numbers.insert(column.to_owned(), last);
        }
    }
    numbers
}

/// The feed's numbers, after giving one to each wanted column that has none.
pub async fn ensure(
    store: &dyn ShardStore,
    feed: &Arc<str>,
    wanted: &[&str],
) -> Result<BTreeMap<String, u32>, StoreError> {
    let key = CellKey::Columns(Arc::clone(feed));
    let mut held = checkpoint::read::<BTreeMap<String, u32>>(store, &key).await?;
    for _ in 0..ATTEMPTS_MAX {
        let empty = BTreeMap::new();
        let known = held.as_ref().map_or(&empty, |held| &held.value);
        let numbers = assign(known, wanted.iter().copied());
        if numbers == *known {
            return Ok(numbers);
        }
        let expect = held.as_ref().map(|held| held.token);
        held = match move_cell(store, &key, expect, numbers.to_bytes()).await? {
            Moved::Won(_) => return Ok(numbers),
            Moved::Lost(Some(cell)) => Some(Held::of(&key, &cell)?),
            Moved::Lost(None) => None,
        };
    }
    Err(StoreError::Unavailable {
        reason: format!("{key} is moved by another process all the time"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_given_once_and_keep_out_of_the_reserved_range() {
        let first = assign(&BTreeMap::new(), ["uid", "title"]);
        assert_eq!((first["uid"], first["title"]), (1, 2));
        let second = assign(&first, ["title", "area", "title"]);
        assert_eq!((second["uid"], second["title"], second["area"]), (1, 2, 3));
        let full = BTreeMap::from([("x".to_owned(), 18_999)]);
        assert_eq!(assign(&full, ["y"])["y"], 20_000);
    }
}
