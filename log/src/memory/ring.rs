//! A feed's entries in append order, in bounded memory. Pure: no waiting, no files.
//!
//! In: encoded entries, and how far each partition is released. Out: what a cursor asks for. When there is no
//! room the oldest released entries go; entries that are not released never do, whatever stands behind them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;

/// What an entry costs beside its bytes: its place in the maps.
const ENTRY_COST: usize = 128;

/// Entries given out at once, and their bytes: a reader far behind must not hold the lock for long.
const BATCH_ENTRIES: usize = 1024;
const BATCH_BYTES: usize = 4 * 1024 * 1024;

/// One encoded entry and the index of its partition.
#[derive(Debug, Clone)]
pub(super) struct Stored {
    pub(super) partition: usize,
    pub(super) offset: u64,
    pub(super) bytes: Bytes,
}

#[derive(Debug)]
pub(super) struct Ring {
    capacity: usize,
    bytes: usize,
    /// By place in the append order of the feed.
    entries: BTreeMap<u64, Stored>,
    next: u64,
    partitions: Vec<Held>,
    /// The oldest entry of every partition whose oldest entry is released.
    evictable: BTreeSet<(u64, usize)>,
    /// Every place below it may be missing.
    evicted: u64,
}

/// One partition: its offsets ascend by one, so the place of each is its index here.
#[derive(Debug, Default, Clone)]
struct Held {
    low: u64,
    released: u64,
    places: VecDeque<u64>,
}

impl Held {
    fn high(&self) -> u64 {
        self.low + self.places.len() as u64
    }
}

/// A follower's place: the next place to look at, and the next offset of each partition that it follows.
#[derive(Debug, Clone)]
pub(super) struct Cursor {
    place: u64,
    wanted: Vec<Option<u64>>,
}

/// The entry that a cursor needs next is not there.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Gone {
    pub(super) partition: usize,
    pub(super) asked: u64,
}

impl Ring {
    pub(super) fn new(partitions: usize, capacity: usize) -> Self {
        Ring {
            capacity,
            bytes: 0,
            entries: BTreeMap::new(),
            next: 0,
            partitions: vec![Held::default(); partitions],
            evictable: BTreeSet::new(),
            evicted: 0,
        }
    }

    /// First offset and the one after the last.
    pub(super) fn ends(&self, partition: usize) -> (u64, u64) {
        let held = &self.partitions[partition];
        (held.low, held.high())
    }

    /// The place that the next entry will get.
    pub(super) const fn next(&self) -> u64 {
        self.next
    }

    /// Makes room for these entries, or says that it cannot. A flush of more than half the capacity needs only half
    /// of it: else one larger than the whole would wait for ever.
    pub(super) fn make_room(&mut self, entries: &[(usize, Bytes)]) -> bool {
        let cost: usize = entries.iter().map(|(_, bytes)| cost(bytes)).sum();
        let need = cost.min(self.capacity / 2);
        while self.bytes + need > self.capacity {
            let Some((place, partition)) = self.evictable.pop_first() else {
                return false;
            };
            if let Some(entry) = self.entries.remove(&place) {
                self.bytes -= cost_of(&entry);
            }
            let held = &mut self.partitions[partition];
            held.places.pop_front();
            held.low += 1;
            self.evicted = self.evicted.max(place + 1);
            self.note_oldest(partition);
        }
        true
    }

    /// Appends entries, each at the end of its partition.
    pub(super) fn push(&mut self, entries: Vec<(usize, Bytes)>) {
        for (partition, bytes) in entries {
            let held = &mut self.partitions[partition];
            let entry = Stored {
                partition,
                offset: held.high(),
                bytes,
            };
            held.places.push_back(self.next);
            self.bytes += cost_of(&entry);
            self.entries.insert(self.next, entry);
            self.next += 1;
            self.note_oldest(partition);
        }
    }

    /// Entries of the partition below `offset` may go.
    pub(super) fn release(&mut self, partition: usize, offset: u64) {
        let held = &mut self.partitions[partition];
        held.released = held.released.max(offset);
        self.note_oldest(partition);
    }

    fn note_oldest(&mut self, partition: usize) {
        let held = &self.partitions[partition];
        if let Some(&place) = held.places.front()
            && held.low < held.released
        {
            self.evictable.insert((place, partition));
        }
    }

    /// A cursor at these offsets.
    pub(super) fn cursor(&self, from: &[(usize, u64)]) -> Result<Cursor, Gone> {
        let mut wanted = vec![None; self.partitions.len()];
        let mut place = self.next;
        for &(partition, asked) in from {
            let held = &self.partitions[partition];
            if asked < held.low || asked > held.high() {
                return Err(Gone { partition, asked });
            }
            wanted[partition] = Some(asked);
            if let Some(&first) = held.places.get((asked - held.low) as usize) {
                place = place.min(first);
            }
        }
        Ok(Cursor { place, wanted })
    }

    /// What the cursor has not seen yet, up to a batch; moves it on.
    pub(super) fn read(&self, cursor: &mut Cursor) -> Result<Vec<Stored>, Gone> {
        if self.evicted > cursor.place {
            for (partition, wanted) in cursor.wanted.iter().enumerate() {
                if let Some(asked) = *wanted
                    && asked < self.partitions[partition].low
                {
                    return Err(Gone { partition, asked });
                }
            }
        }
        let mut batch = Vec::new();
        let mut bytes = 0;
        for (place, entry) in self.entries.range(cursor.place..) {
            if batch.len() == BATCH_ENTRIES || bytes > BATCH_BYTES {
                return Ok(batch);
            }
            cursor.place = place + 1;
            if let Some(wanted) = &mut cursor.wanted[entry.partition]
                && *wanted <= entry.offset
            {
                *wanted = entry.offset + 1;
                bytes += entry.bytes.len();
                batch.push(entry.clone());
            }
        }
        Ok(batch)
    }
}

fn cost(bytes: &Bytes) -> usize {
    bytes.len() + ENTRY_COST
}

fn cost_of(entry: &Stored) -> usize {
    cost(&entry.bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(partition: usize) -> (usize, Bytes) {
        (partition, Bytes::from(vec![0; 1000 - ENTRY_COST]))
    }

    fn append(ring: &mut Ring, entries: &[usize]) -> bool {
        let entries: Vec<_> = entries.iter().map(|p| entry(*p)).collect();
        let room = ring.make_room(&entries);
        if room {
            ring.push(entries);
        }
        room
    }

    fn seen(ring: &Ring, cursor: &mut Cursor) -> Vec<(usize, u64)> {
        let read = ring.read(cursor).unwrap();
        read.iter().map(|e| (e.partition, e.offset)).collect()
    }

    #[test]
    fn only_released_entries_go_and_the_oldest_of_them_first() {
        let mut ring = Ring::new(3, 4000);
        assert!(append(&mut ring, &[0, 1]) && append(&mut ring, &[1, 2]));
        assert!(!append(&mut ring, &[0]));
        // An idle partition's entry at the front does not keep those behind it.
        ring.release(1, 1);
        assert!(append(&mut ring, &[0]));
        assert_eq!(
            (ring.ends(0), ring.ends(1), ring.ends(2)),
            ((0, 2), (1, 2), (0, 1))
        );
        assert!(!append(&mut ring, &[0]));
        ring.release(0, 9);
        ring.release(1, 2);
        assert!(append(&mut ring, &[2]));
        assert_eq!((ring.ends(0), ring.ends(1)), ((1, 2), (1, 2)));
    }

    #[test]
    fn a_flush_larger_than_everything_waits_for_half_of_it_only() {
        let mut ring = Ring::new(1, 4000);
        assert!(append(&mut ring, &[0; 9]));
        assert!(!append(&mut ring, &[0]));
        ring.release(0, 6);
        assert!(append(&mut ring, &[0]));
        assert_eq!(ring.ends(0), (6, 10));
    }

    #[test]
    fn cursors_see_their_partitions_in_append_order_and_notice_what_is_gone() {
        let mut ring = Ring::new(3, 4000);
        append(&mut ring, &[0, 1, 2]);
        let mut all = ring.cursor(&[(0, 0), (1, 0), (2, 0)]).unwrap();
        let mut one = ring.cursor(&[(1, 1)]).unwrap();
        let mut slow = ring.cursor(&[(2, 0)]).unwrap();
        assert_eq!(seen(&ring, &mut all), [(0, 0), (1, 0), (2, 0)]);
        assert_eq!(seen(&ring, &mut one), []);
        append(&mut ring, &[1]);
        assert_eq!(seen(&ring, &mut all), [(1, 1)]);
        assert_eq!(seen(&ring, &mut one), [(1, 1)]);
        assert_eq!(seen(&ring, &mut one), []);
        for partition in 0..3 {
            ring.release(partition, 1);
        }
        assert!((0..3).all(|_| append(&mut ring, &[0])));
        assert_eq!(
            ring.read(&mut slow).map(|_| ()),
            Err(Gone {
                partition: 2,
                asked: 0
            })
        );
        assert_eq!(seen(&ring, &mut all), [(0, 1), (0, 2), (0, 3)]);
        let gone = |partition, asked| Err(Gone { partition, asked });
        assert_eq!(ring.cursor(&[(0, 0)]).map(|_| ()), gone(0, 0));
        assert_eq!(ring.cursor(&[(0, 5)]).map(|_| ()), gone(0, 5));
        assert!(ring.cursor(&[(0, 4)]).is_ok());
    }
}
