//! The net effect of one transaction on each key: what the row was before its first change of the key, and
//! what it is after the last.
//!
//! Changes are appended as they come, bytes into one buffer a feed; sorting by key at the end finds those of
//! one key. A transaction that keeps changing the same keys is folded on the way, so that what it holds is
//! bounded by the keys that it touches.

use std::cmp::Ordering;
use std::mem::size_of;

use bytes::Bytes;
use onair_model::{Key, Row};

use crate::change::KeyChange;

/// Changes of a feed before the first folding on the way.
const FOLD_FIRST: usize = 1 << 16;

/// Room that a buffer begins with, at most.
const HINT_MAX: usize = 64 << 10;

/// The net effect of the transaction under way on each key of each feed.
#[derive(Debug, Default)]
pub struct Net {
    feeds: Vec<FeedNet>,
}

/// The changes of one feed.
#[derive(Debug, Default)]
pub(crate) struct FeedNet {
    changes: Vec<Change>,
    /// Keys and rows.
    bytes: Vec<u8>,
    /// How many changes there may be before the next folding.
    fold_at: usize,
}

#[derive(Clone, Copy, Debug)]
struct Change {
    key: KeyAt,
    before: Option<Span>,
    after: Option<Span>,
}

/// A key of eight bytes stands here, others in the buffer.
#[derive(Clone, Copy, Debug)]
enum KeyAt {
    Eight(u64),
    At(Span),
}

/// A piece of the buffer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    start: usize,
    end: usize,
}

impl Net {
    /// Memory held, in bytes, for the transaction's bound.
    pub fn bytes(&self) -> usize {
        self.feeds.iter().map(FeedNet::held).sum()
    }

    /// Whether nothing is known to have changed. A change that was undone by a later one may still count.
    pub fn is_empty(&self) -> bool {
        self.feeds.iter().all(|feed| feed.changes.is_empty())
    }

    /// Ends the transaction: net changes by feed index, ascending, unchanged keys and feeds left out; empty again after.
    pub fn take(&mut self) -> Vec<(usize, Vec<KeyChange>)> {
        let mut all = Vec::new();
        for (index, feed) in self.feeds.iter_mut().enumerate() {
            if !feed.changes.is_empty() {
                let changes = feed.take();
                if !changes.is_empty() {
                    all.push((index, changes));
                }
            }
        }
        all
    }

    /// Forgets the transaction under way (rolled back, or a savepoint's tail is never sent).
    pub fn clear(&mut self) {
        self.feeds.clear();
    }

    pub(crate) fn feed(&mut self, index: usize) -> &mut FeedNet {
        if self.feeds.len() <= index {
            self.feeds.resize_with(index + 1, FeedNet::default);
        }
        &mut self.feeds[index]
    }
}

impl FeedNet {
    /// Writes a row (or a key) into the buffer, which begins with room for `hint` bytes. What a failed write left
    /// is dropped.
    pub(crate) fn write<E>(
        &mut self,
        hint: usize,
        write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<Span, E> {
        if self.bytes.capacity() == 0 {
            self.bytes.reserve(hint.min(HINT_MAX));
        }
        let start = self.bytes.len();
        match write(&mut self.bytes) {
            Ok(()) => Ok(Span {
                start,
                end: self.bytes.len(),
            }),
            Err(error) => {
                self.bytes.truncate(start);
                Err(error)
            }
        }
    }

    /// Appends what one row image pair did to a key of eight bytes.
    pub(crate) fn change_eight(&mut self, key: u64, before: Option<Span>, after: Option<Span>) {
        self.push(Change {
            key: KeyAt::Eight(key),
            before,
            after,
        });
    }

    /// Appends what one row image pair did to a key.
    pub(crate) fn change(&mut self, key: &[u8], before: Option<Span>, after: Option<Span>) {
        let key = match <[u8; 8]>::try_from(key) {
            Ok(eight) => KeyAt::Eight(u64::from_be_bytes(eight)),
            Err(_) => {
                let start = self.bytes.len();
                self.bytes.extend_from_slice(key);
                KeyAt::At(Span {
                    start,
                    end: self.bytes.len(),
                })
            }
        };
        self.push(Change { key, before, after });
    }

    fn push(&mut self, change: Change) {
        self.changes.push(change);
        if self.changes.len() >= self.fold_at.max(FOLD_FIRST) {
            self.fold();
            self.compact();
            self.fold_at = 2 * self.changes.len();
        }
    }

    fn held(&self) -> usize {
        self.bytes.capacity() + self.changes.capacity() * size_of::<Change>()
    }

    fn take(&mut self) -> Vec<KeyChange> {
        self.fold();
        self.compact();
        self.fold_at = 0;
        let bytes = Bytes::from(std::mem::take(&mut self.bytes));
        let slice = |span: Span| bytes.slice(span.start..span.end);
        let changes = self.changes.drain(..).map(|change| KeyChange {
            key: match change.key {
                KeyAt::Eight(key) => Key::from_u64(key),
                KeyAt::At(span) => Key::from_bytes(slice(span)),
            },
            before: change.before.map(|span| Row::new(slice(span))),
            after: change.after.map(|span| Row::new(slice(span))),
        });
        changes.collect()
    }

    /// One change a key, ascending; without those that leave the row as it was.
    fn fold(&mut self) {
        let bytes = &self.bytes;
        let order = |a: &Change, b: &Change| compare(bytes, a.key, b.key);
        if !self.changes.is_sorted_by(|a, b| order(a, b).is_lt()) {
            // Stable: changes of one key stay in their order.
            self.changes.sort_by(order);
            self.changes.dedup_by(|later, first| {
                let same = order(later, first).is_eq();
                if same {
                    first.after = later.after;
                }
                same
            });
        }
        let text = |span: Option<Span>| span.map(|s| &bytes[s.start..s.end]);
        self.changes
            .retain(|change| text(change.before) != text(change.after));
    }

    /// Moves what the changes still name into a buffer of its own when most of it is no longer named.
    fn compact(&mut self) {
        let key = |key: KeyAt| match key {
            KeyAt::Eight(_) => None,
            KeyAt::At(span) => Some(span),
        };
        let named: usize = self
            .changes
            .iter()
            .flat_map(|c| [key(c.key), c.before, c.after])
            .flatten()
            .map(|span| span.end - span.start)
            .sum();
        if named > self.bytes.len() / 2 {
            return;
        }
        let old = std::mem::replace(&mut self.bytes, Vec::with_capacity(named));
        let mut moved = |span: &mut Span| {
            let start = self.bytes.len();
            self.bytes.extend_from_slice(&old[span.start..span.end]);
            *span = Span {
                start,
                end: self.bytes.len(),
            };
        };
        for change in &mut self.changes {
            if let KeyAt::At(span) = &mut change.key {
                moved(span);
            }
            change.before.iter_mut().for_each(&mut moved);
            change.after.iter_mut().for_each(&mut moved);
        }
    }
}

fn compare(bytes: &[u8], a: KeyAt, b: KeyAt) -> Ordering {
    match (a, b) {
        (KeyAt::Eight(a), KeyAt::Eight(b)) => a.cmp(&b),
        (KeyAt::At(a), KeyAt::At(b)) => bytes[a.start..a.end].cmp(&bytes[b.start..b.end]),
        (KeyAt::Eight(a), KeyAt::At(b)) => a.to_be_bytes()[..].cmp(&bytes[b.start..b.end]),
        (KeyAt::At(a), KeyAt::Eight(b)) => bytes[a.start..a.end].cmp(&b.to_be_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use std::convert::Infallible;

    use proptest::prelude::*;

    fn row(text: &str) -> Row {
        Row::new(Bytes::copy_from_slice(text.as_bytes()))
    }

    fn add(feed: &mut FeedNet, key: &[u8], before: Option<&str>, after: Option<&str>) {
        let mut write = |text: Option<&str>| {
            text.map(|text| {
                let span = feed.write(0, |out| {
                    out.extend_from_slice(text.as_bytes());
                    Ok::<_, Infallible>(())
                });
                span.expect("infallible")
            })
        };
        let (before, after) = (write(before), write(after));
        feed.change(key, before, after);
    }

    #[test]
    fn two_keys_swapped_through_a_third() {
        let mut net = Net::default();
        let feed = net.feed(1);
        for (from, to, text) in [("a", "tmp", "A"), ("b", "a", "B"), ("tmp", "b", "A")] {
            add(feed, from.as_bytes(), Some(text), None);
            add(feed, to.as_bytes(), None, Some(text));
        }
        let change = |key: &str, before: &str, after: &str| KeyChange {
            key: Key::copy_from(key.as_bytes()),
            before: Some(row(before)),
            after: Some(row(after)),
        };
        let expected = vec![change("a", "A", "B"), change("b", "B", "A")];
        assert_eq!(net.take(), vec![(1, expected)]);
        assert_eq!(net.take(), vec![]);
    }

    #[test]
    fn what_comes_and_goes_or_ends_as_it_began_is_nothing() {
        let mut net = Net::default();
        add(net.feed(0), b"a", None, Some("x"));
        add(net.feed(0), b"a", Some("x"), None);
        add(net.feed(2), b"b", Some("x"), Some("y"));
        add(net.feed(2), b"b", Some("y"), Some("x"));
        assert!(net.bytes() > 0);
        assert_eq!(net.take(), vec![]);
        add(net.feed(0), b"a", None, Some("x"));
        net.clear();
        assert_eq!((net.bytes(), net.take()), (0, vec![]));
    }

    #[test]
    fn what_is_held_is_bounded_by_the_keys() {
        let mut net = Net::default();
        for n in 0..5 * FOLD_FIRST {
            let (before, after) = (format!("{n:08}"), format!("{:08}", n + 1));
            add(net.feed(0), b"key", Some(&before), Some(&after));
        }
        assert!(net.bytes() < 2 * FOLD_FIRST * (size_of::<Change>() + 40));
        let changes = net.take();
        assert_eq!(changes[0].1.len(), 1);
        assert_eq!(changes[0].1[0].before, Some(row("00000000")));
    }

    proptest! {
        #[test]
        fn folding_equals_a_map(steps in proptest::collection::vec((0u8..6, 0u8..4), 0..60)) {
            let keys: [&[u8]; 6] = [b"", b"a", b"12345678", b"123456789", b"\0\0\0\0\0\0\0\x05", b"zz"];
            let texts = [None, Some("x"), Some("y"), Some("")];
            let mut net = Net::default();
            let mut now = BTreeMap::new();
            let mut first = BTreeMap::new();
            for (key, text) in steps {
                let (key, after) = (keys[usize::from(key)], texts[usize::from(text)]);
                let before = now.insert(key, after).flatten();
                first.entry(key).or_insert(before);
                if before.is_some() || after.is_some() {
                    add(net.feed(0), key, before, after);
                }
            }
            let mut expected = Vec::new();
            for (key, before) in first {
                let after = now[key];
                if before != after {
                    let (before, after) = (before.map(row), after.map(row));
                    expected.push(KeyChange { key: Key::copy_from(key), before, after });
                }
            }
            let taken = net.take().pop().map(|(_, changes)| changes).unwrap_or_default();
            prop_assert_eq!(taken, expected);
        }
    }
}
