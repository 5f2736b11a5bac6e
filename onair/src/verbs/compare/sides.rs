//! What two ways of following a live set saw of it: opens and closes by key, each with when it was seen. No I/O.
//!
//! Both ways begin with the same content, and what polling would have found at the end is credited to it, so that what
//! is left over on one side was really not seen by the other.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use onair_model::Key;

/// Came on air, or went off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Edge {
    Open,
    Close,
}

/// When each edge of each key was seen, since the beginning; ascending. `None`: it would be seen by the next look.
type Seen = BTreeMap<(Key, Edge), Vec<Option<Duration>>>;

/// One side's opens and closes.
#[derive(Debug, Default)]
pub(super) struct Side {
    seen: Seen,
    pub(super) opens: u64,
    pub(super) closes: u64,
}

impl Side {
    pub(super) fn saw(&mut self, key: &Key, edge: Edge, at: Duration) {
        match edge {
            Edge::Open => self.opens += 1,
            Edge::Close => self.closes += 1,
        }
        self.note(key, edge, Some(at));
    }

    fn note(&mut self, key: &Key, edge: Edge, at: Option<Duration>) {
        self.seen.entry((key.clone(), edge)).or_default().push(at);
    }

    /// Takes note of what a content has that the one before it has not, and the other way round.
    pub(super) fn looked(&mut self, before: &BTreeSet<Key>, now: &BTreeSet<Key>, at: Duration) {
        now.difference(before)
            .for_each(|key| self.saw(key, Edge::Open, at));
        before
            .difference(now)
            .for_each(|key| self.saw(key, Edge::Close, at));
    }

    /// What another look would find: it counts for neither side.
    pub(super) fn would_see(&mut self, before: &BTreeSet<Key>, now: &BTreeSet<Key>) {
        now.difference(before)
            .for_each(|key| self.note(key, Edge::Open, None));
        before
            .difference(now)
            .for_each(|key| self.note(key, Edge::Close, None));
    }
}

/// What the two sides come to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Verdict {
    /// By how much the new way was first, ascending.
    pub(super) sooner: Vec<Duration>,
    /// By how much the old way was first, ascending.
    pub(super) later: Vec<Duration>,
    /// Edges that only polling saw, and their keys.
    pub(super) only_old: (u64, BTreeSet<Key>),
    /// Edges that only the feed showed, and their keys.
    pub(super) only_new: (u64, BTreeSet<Key>),
}

/// Pairs each edge that polling saw with the last one before it that the feed showed of the key: polling sees what
/// stands, so of several it is that one. Where there is none before it, with the first after it.
pub(super) fn compare(old: &Side, new: &Side) -> Verdict {
    let mut verdict = Verdict::default();
    let mut rest = new.seen.clone();
    for ((key, edge), times) in &old.seen {
        let shown = rest.entry((key.clone(), *edge)).or_default();
        for time in times {
            let before = |shown: &Option<Duration>| time.is_none() || shown <= time;
            let at = match shown.iter().rposition(before) {
                Some(at) => at,
                None if shown.is_empty() => {
                    if time.is_some() {
                        verdict.only_old.0 += 1;
                        verdict.only_old.1.insert(key.clone());
                    }
                    continue;
                }
                None => 0,
            };
            let (Some(seen), Some(shown)) = (time, shown.remove(at)) else {
                continue;
            };
            match seen.checked_sub(shown) {
                Some(lead) => verdict.sooner.push(lead),
                None => verdict.later.push(shown - *seen),
            }
        }
    }
    for ((key, _), times) in rest.into_iter().filter(|(_, times)| !times.is_empty()) {
        verdict.only_new.0 += times.len() as u64;
        verdict.only_new.1.insert(key);
    }
    verdict.sooner.sort_unstable();
    verdict.later.sort_unstable();
    verdict
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u8) -> Key {
        Key::copy_from(&[number])
    }

    fn keys(numbers: &[u8]) -> BTreeSet<Key> {
        numbers.iter().map(|number| key(*number)).collect()
    }

    const fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn shown(edges: &[(u8, Edge, u64)]) -> Side {
        let mut side = Side::default();
        for (number, edge, seconds) in edges {
            side.saw(&key(*number), *edge, at(*seconds));
        }
        side
    }

    #[test]
    fn each_edge_is_paired_once_and_the_rest_is_told() {
        let mut old = Side::default();
        old.looked(&keys(&[1]), &keys(&[1, 2]), at(3));
        old.looked(&keys(&[1, 2]), &keys(&[2, 4]), at(6));
        // 3 was open between two polls; 5 is not seen by a poll yet.
        old.would_see(&keys(&[2, 4]), &keys(&[2, 4, 5]));
        let new = shown(&[
            (2, Edge::Open, 1),
            (3, Edge::Open, 1),
            (3, Edge::Close, 2),
            (1, Edge::Close, 4),
            (4, Edge::Open, 7),
            (5, Edge::Open, 7),
        ]);
        assert_eq!((old.opens, old.closes, new.opens, new.closes), (2, 1, 4, 2));
        let expected = Verdict {
            sooner: vec![at(2), at(2)],
            later: vec![at(1)],
            only_old: (0, BTreeSet::new()),
            only_new: (2, keys(&[3])),
        };
        assert_eq!(compare(&old, &new), expected);
    }

    #[test]
    fn a_poll_sees_the_last_of_several() {
        let mut old = Side::default();
        old.looked(&keys(&[]), &keys(&[1]), at(9));
        let new = shown(&[(1, Edge::Open, 1), (1, Edge::Close, 2), (1, Edge::Open, 8)]);
        let verdict = compare(&old, &new);
        assert_eq!(verdict.sooner, [at(1)]);
        assert_eq!(verdict.only_new, (2, keys(&[1])));
    }

    #[test]
    fn what_the_feed_never_shows_only_polling_saw() {
        let mut old = Side::default();
        // The table has a row that the feed lacks, from the beginning on.
        old.looked(&keys(&[1]), &keys(&[1, 2]), at(3));
        old.would_see(&keys(&[1, 2]), &keys(&[1]));
        let verdict = compare(&old, &Side::default());
        assert_eq!(verdict.only_old, (1, keys(&[2])));
        assert_eq!(verdict.only_new.0, 0);
    }
}
