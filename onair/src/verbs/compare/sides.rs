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

/// What polling saw of an edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Polled {
    /// It saw it then.
    At(Duration),
    /// Another poll would have.
    Next,
    /// It was over before a poll came.
    Never,
}

/// One edge of one key, and when each side saw it, since the beginning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) key: Key,
    pub(super) edge: Edge,
    pub(super) polled: Polled,
    /// `None`: the feed never showed it.
    pub(super) shown: Option<Duration>,
}

/// Which side saw an edge first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum First {
    /// The feed, by so much; or both at once.
    Feed(Duration),
    /// Polling, by so much.
    Polling(Duration),
}

/// A side that saw an edge which the other one did not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Only {
    Feed,
    Polling,
}

impl Change {
    /// Who was first, if both saw it.
    pub(super) fn first(&self) -> Option<First> {
        let (Polled::At(polled), Some(shown)) = (self.polled, self.shown) else {
            return None;
        };
        Some(match polled.checked_sub(shown) {
            Some(lead) => First::Feed(lead),
            None => First::Polling(shown - polled),
        })
    }

    /// Who alone saw it, if one did.
    pub(super) fn only(&self) -> Option<Only> {
        match (self.polled, self.shown) {
            (Polled::Never, _) => Some(Only::Feed),
            (_, None) => Some(Only::Polling),
            _ => None,
        }
    }

    /// When it was seen first.
    fn at(&self) -> Option<Duration> {
        match self.polled {
            Polled::At(polled) => self
                .shown
                .map_or(Some(polled), |shown| Some(shown.min(polled))),
            Polled::Next | Polled::Never => self.shown,
        }
    }
}

/// What the two sides come to: every edge that one of them saw, in the order in which it was seen first.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Verdict(pub(super) Vec<Change>);

impl Verdict {
    /// By how much the feed was first, ascending.
    pub(super) fn sooner(&self) -> Vec<Duration> {
        self.leads(|first| match first {
            First::Feed(lead) => Some(lead),
            First::Polling(_) => None,
        })
    }

    /// By how much polling was first, ascending.
    pub(super) fn later(&self) -> Vec<Duration> {
        self.leads(|first| match first {
            First::Polling(lead) => Some(lead),
            First::Feed(_) => None,
        })
    }

    fn leads(&self, of: impl Fn(First) -> Option<Duration>) -> Vec<Duration> {
        let leads = self.0.iter().filter_map(Change::first).filter_map(of);
        let mut leads: Vec<Duration> = leads.collect();
        leads.sort_unstable();
        leads
    }

    /// Edges that this side alone saw.
    pub(super) fn only(&self, side: Only) -> impl Iterator<Item = &Change> {
        self.0
            .iter()
            .filter(move |change| change.only() == Some(side))
    }

    /// The edges that the feed showed sooner by most, the largest lead first.
    pub(super) fn largest(&self, count: usize) -> Vec<(&Change, Duration)> {
        let leads = self.0.iter().filter_map(|change| match change.first() {
            Some(First::Feed(lead)) => Some((change, lead)),
            _ => None,
        });
        let mut leads: Vec<(&Change, Duration)> = leads.collect();
        leads.sort_by_key(|(_, lead)| std::cmp::Reverse(*lead));
        leads.truncate(count);
        leads
    }
}

/// Pairs each edge that polling saw with the last one before it that the feed showed of the key: polling sees what
/// stands, so of several it is that one. Where there is none before it, with the first after it.
pub(super) fn compare(old: &Side, new: &Side) -> Verdict {
    let mut changes = Vec::new();
    let mut rest = new.seen.clone();
    for ((key, edge), times) in &old.seen {
        let shown = rest.entry((key.clone(), *edge)).or_default();
        for time in times {
            let before = |shown: &Option<Duration>| time.is_none() || shown <= time;
            let at = match shown.iter().rposition(before) {
                Some(at) => Some(at),
                None if shown.is_empty() => None,
                None => Some(0),
            };
            let change = Change {
                key: key.clone(),
                edge: *edge,
                polled: time.map_or(Polled::Next, Polled::At),
                shown: at.and_then(|at| shown.remove(at)),
            };
            // What neither saw would be seen by another poll: nothing is known of it.
            if change.at().is_some() {
                changes.push(change);
            }
        }
    }
    for ((key, edge), times) in rest {
        changes.extend(times.into_iter().map(|shown| Change {
            key: key.clone(),
            edge,
            polled: Polled::Never,
            shown,
        }));
    }
    changes.sort_by_key(Change::at);
    Verdict(changes)
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
        let change = |number, edge, polled, shown| Change {
            key: key(number),
            edge,
            polled,
            shown: Some(at(shown)),
        };
        let verdict = compare(&old, &new);
        let expected = [
            change(2, Edge::Open, Polled::At(at(3)), 1),
            change(3, Edge::Open, Polled::Never, 1),
            change(3, Edge::Close, Polled::Never, 2),
            change(1, Edge::Close, Polled::At(at(6)), 4),
            change(4, Edge::Open, Polled::At(at(6)), 7),
            change(5, Edge::Open, Polled::Next, 7),
        ];
        assert_eq!(verdict.0, expected);
        assert_eq!(verdict.sooner(), [at(2), at(2)]);
        assert_eq!(verdict.later(), [at(1)]);
        assert_eq!(verdict.only(Only::Polling).count(), 0);
        assert_eq!(verdict.only(Only::Feed).count(), 2);
        assert_eq!(expected[5].only(), None, "neither missed it");
    }

    #[test]
    fn the_largest_leads_come_first() {
        let mut old = Side::default();
        old.looked(&keys(&[]), &keys(&[1, 2, 3]), at(9));
        let new = shown(&[(1, Edge::Open, 8), (2, Edge::Open, 3), (3, Edge::Open, 6)]);
        let verdict = compare(&old, &new);
        let largest = verdict.largest(2);
        let numbers: Vec<(&Key, Duration)> = largest
            .iter()
            .map(|(change, lead)| (&change.key, *lead))
            .collect();
        assert_eq!(numbers, [(&key(2), at(6)), (&key(3), at(3))]);
    }

    #[test]
    fn a_poll_sees_the_last_of_several() {
        let mut old = Side::default();
        old.looked(&keys(&[]), &keys(&[1]), at(9));
        let new = shown(&[(1, Edge::Open, 1), (1, Edge::Close, 2), (1, Edge::Open, 8)]);
        let verdict = compare(&old, &new);
        assert_eq!(verdict.sooner(), [at(1)]);
        let missed: Vec<Edge> = verdict.only(Only::Feed).map(|change| change.edge).collect();
        assert_eq!(missed, [Edge::Open, Edge::Close]);
    }

    #[test]
    fn what_the_feed_never_shows_only_polling_saw() {
        let mut old = Side::default();
        // The table has a row that the feed lacks, from the beginning on.
        old.looked(&keys(&[1]), &keys(&[1, 2]), at(3));
        old.would_see(&keys(&[1, 2]), &keys(&[1]));
        let verdict = compare(&old, &Side::default());
        let drift = Change {
            key: key(2),
            edge: Edge::Open,
            polled: Polled::At(at(3)),
            shown: None,
        };
        assert_eq!(verdict.0, [drift]);
        assert_eq!(verdict.0[0].only(), Some(Only::Polling));
    }
}
