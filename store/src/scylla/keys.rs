//! Keys as they stand in the tables: words that a person can type in cqlsh.

use std::borrow::Cow;
use std::sync::Arc;

use onair_model::Bucket;

use crate::{CellKey, StoreError};

/// A cell's place: its group, which is a partition of `names`, and its name in it. The three together are the
/// partition of `cells`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place<'a> {
    pub(super) kind: &'static str,
    pub(super) first: &'a str,
    pub(super) second: Cow<'a, str>,
}

impl<'a> Place<'a> {
    pub(super) fn of(key: &'a CellKey) -> Self {
        let none = Cow::Borrowed("");
        let bucket = |bucket: &Bucket| Cow::Owned(bucket.get().to_string());
        let (kind, first, second) = match key {
            CellKey::Lineage => ("lineage", "", none),
            CellKey::Head(feed, at) => ("head", &**feed, bucket(at)),
            CellKey::CutsHead(feed) => ("cuts", &**feed, none),
            CellKey::Columns(feed) => ("columns", &**feed, none),
            CellKey::Schema(feed) => ("schema", &**feed, none),
            CellKey::ReplaceRequest(feed, at) => ("request", &**feed, bucket(at)),
            CellKey::Lease(source) => ("lease", &**source, none),
            CellKey::Epoch(source) => ("epoch", &**source, none),
            CellKey::Checkpoint(source) => ("checkpoint", &**source, none),
            CellKey::Run(feed, id) => ("run", &**feed, Cow::Borrowed(&**id)),
            CellKey::Status(role, process) => ("status", &**role, Cow::Borrowed(&**process)),
        };
        Place {
            kind,
            first,
            second,
        }
    }
}

/// Whether a group has one cell at most, so that its names need not be written down.
pub(super) fn is_single(key: &CellKey) -> bool {
    match key {
        CellKey::Lineage
        | CellKey::CutsHead(_)
        | CellKey::Columns(_)
        | CellKey::Schema(_)
        | CellKey::Lease(_)
        | CellKey::Epoch(_)
        | CellKey::Checkpoint(_) => true,
        CellKey::Head(..)
        | CellKey::ReplaceRequest(..)
        | CellKey::Run(..)
        | CellKey::Status(..) => false,
    }
}

/// The key of the group of `like` with this name, `None` when the name is none.
pub(super) fn named(like: &CellKey, second: &str) -> Option<CellKey> {
    let bucket = || second.parse().ok().map(Bucket::new);
    Some(match like {
        CellKey::Head(feed, _) => CellKey::Head(Arc::clone(feed), bucket()?),
        CellKey::ReplaceRequest(feed, _) => CellKey::ReplaceRequest(Arc::clone(feed), bucket()?),
        CellKey::Run(feed, _) => CellKey::Run(Arc::clone(feed), second.into()),
        CellKey::Status(role, _) => CellKey::Status(Arc::clone(role), second.into()),
        single => single.clone(),
    })
}

/// Microseconds of a window of the history. Ten minutes: at ten lines a second of 200 bytes and a cut of 10 KB a second
/// a partition has some 7 MB, and seven days are a thousand windows.
const WINDOW: i64 = 600_000_000;

/// The window that a time is in.
pub(super) fn window(at: i64) -> i64 {
    at.div_euclid(WINDOW)
}

/// Whether a range of times covers all of a window.
pub(super) fn covers(from: i64, to: i64, window: i64) -> bool {
    let start = window.saturating_mul(WINDOW);
    from <= start && to >= start.saturating_add(WINDOW)
}

/// A number of 16 bytes, as it stands in a blob: ascending as the number.
pub(super) fn id(bytes: &[u8]) -> Option<u128> {
    Some(u128::from_be_bytes(bytes.try_into().ok()?))
}

/// A part's number as CQL has it.
pub(super) fn part(part: u32) -> Result<i32, StoreError> {
    i32::try_from(part).map_err(|_| StoreError::TooLarge {
        what: "a segment".to_owned(),
        bytes: usize::MAX,
        max: i32::MAX as usize,
        remedy: "use more buckets a feed",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_back_and_windows_hold_their_times() {
        let heads = CellKey::Head("a".into(), Bucket::new(0));
        for bucket in [0, 2, 300, u16::MAX] {
            let key = CellKey::Head("a".into(), Bucket::new(bucket));
            assert_eq!(named(&heads, &Place::of(&key).second), Some(key));
        }
        assert_eq!(named(&heads, "x"), None);
        let run = CellKey::Run("a".into(), "it's".into());
        assert_eq!(
            named(&CellKey::Run("a".into(), "".into()), "it's"),
            Some(run)
        );

        assert_eq!((window(-1), window(0), window(WINDOW - 1)), (-1, 0, 0));
        assert!(covers(0, WINDOW, 0) && !covers(1, WINDOW, 0) && !covers(0, WINDOW - 1, 0));
        assert!(covers(i64::MIN, i64::MAX, window(i64::MIN + 1)));
    }
}
