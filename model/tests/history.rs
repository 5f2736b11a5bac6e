//! The truth: transactions applied one after the other to plain maps, and the records that an honest reader makes of
//! them. Nothing of `fold`, `cut`, `assembly` or `frame` is used to make it.

use std::collections::BTreeMap;
use std::num::NonZeroU16;

use bytes::Bytes;
use onair_model::assembly::Loaded;
use onair_model::gtid::{SourceId, Tag};
use onair_model::{
    Body, Bucket, BucketState, Buckets, Commit, CutRecord, Digest, Epoch, Event, Gtid, GtidSet,
    Key, Lineage, Record, Row, Rows, Sum, Version,
};

pub(crate) const LINEAGE: Lineage = Lineage::new(7);

/// Key to row.
pub(crate) type Content = BTreeMap<u64, u32>;

/// What one transaction leaves at its keys.
pub(crate) type Writes = Vec<(u64, Option<u32>)>;

pub(crate) fn layout(buckets: u16) -> Buckets {
    Buckets::new(NonZeroU16::new(buckets).unwrap())
}

/// The first `count` keys of a bucket.
pub(crate) fn keys(layout: Buckets, bucket: usize, count: usize) -> Vec<u64> {
    (1..)
        .filter(|key| layout.of(&Key::from_u64(*key)).index() == bucket)
        .take(count)
        .collect()
}

pub(crate) fn row(value: u32) -> Row {
    Row::new(Bytes::copy_from_slice(&value.to_le_bytes()))
}

pub(crate) fn gtid(number: u64) -> Gtid {
    Gtid::Mysql {
        source: SourceId {
            uuid: 1,
            tag: Tag::NONE,
        },
        number,
    }
}

pub(crate) fn gtids(numbers: impl IntoIterator<Item = u64>) -> GtidSet {
    let mut set = GtidSet::mysql();
    for number in numbers {
        set.insert(&gtid(number));
    }
    set
}

pub(crate) fn rows_of(content: &Content) -> Rows<Row> {
    content
        .iter()
        .map(|(key, value)| (Key::from_u64(*key), row(*value)))
        .collect()
}

pub(crate) fn content_of<'a>(rows: impl Iterator<Item = (&'a Key, &'a Row)>) -> Content {
    rows.map(|(key, row)| {
        let value = u32::from_le_bytes(row.bytes()[..].try_into().unwrap());
        (key.as_u64().unwrap(), value)
    })
    .collect()
}

pub(crate) fn sum(content: &Content) -> Sum {
    let digest = content.iter().fold(Digest::EMPTY, |digest, (key, value)| {
        digest.plus(Digest::of(&Key::from_u64(*key), &row(*value)))
    });
    Sum {
        digest,
        count: content.len() as u64,
    }
}

pub(crate) const NOTHING: Sum = Sum {
    digest: Digest::EMPTY,
    count: 0,
};

/// One epoch: every version's content, and what an honest reader may say of it.
#[derive(Clone, Debug)]
pub(crate) struct History {
    pub(crate) epoch: Epoch,
    pub(crate) buckets: usize,
    /// By sequence, then by bucket.
    pub(crate) contents: Vec<Vec<Content>>,
    pub(crate) rows: Vec<Vec<Rows<Row>>>,
    pub(crate) sums: Vec<Vec<Sum>>,
    commits: Vec<Vec<Option<Commit>>>,
    /// The bucket's last data version at a sequence.
    pub(crate) data: Vec<Vec<u64>>,
    /// The transactions' numbers; the first stands for the epoch's start.
    numbers: Vec<u64>,
    /// Executed at the epoch's start.
    before: GtidSet,
    pub(crate) lost_tail: bool,
}

impl History {
    /// An epoch that starts with `start` and then sees these transactions, each with its number.
    pub(crate) fn new(
        epoch: u32,
        layout: Buckets,
        start: &Content,
        before: GtidSet,
        transactions: &[(u64, Writes)],
    ) -> Self {
        let epoch = Epoch::new(epoch).unwrap();
        let buckets = layout.count();
        let mut contents = vec![vec![Content::new(); buckets]];
        for (key, value) in start {
            contents[0][layout.of(&Key::from_u64(*key)).index()].insert(*key, *value);
        }
        let mut commits = vec![vec![None; buckets]];
        let mut data = vec![vec![0; buckets]];
        let mut numbers = vec![0];
        for (at, (number, writes)) in (1..).zip(transactions) {
            let before = contents.last().unwrap().clone();
            let mut after = before.clone();
            for (key, value) in writes {
                let content = &mut after[layout.of(&Key::from_u64(*key)).index()];
                match value {
                    Some(value) => content.insert(*key, *value),
                    None => content.remove(key),
                };
            }
            let mut seen = data.last().unwrap().clone();
            let made: Vec<Option<Commit>> = (0..buckets)
                .map(|bucket| {
                    let events = events(&before[bucket], &after[bucket]);
                    if events.is_empty() {
                        return None;
                    }
                    seen[bucket] = at;
                    Some(Commit {
                        version: Version::new(epoch, at).unwrap(),
                        commit_time: at as i64,
                        gtid: gtid(*number),
                        events,
                    })
                })
                .collect();
            contents.push(after);
            commits.push(made);
            data.push(seen);
            numbers.push(*number);
        }
        let sums = contents
            .iter()
            .map(|buckets| buckets.iter().map(sum).collect())
            .collect();
        let rows = contents
            .iter()
            .map(|buckets| buckets.iter().map(rows_of).collect())
            .collect();
        History {
            epoch,
            buckets,
            contents,
            rows,
            sums,
            commits,
            data,
            numbers,
            before,
            lost_tail: false,
        }
    }

    /// The last sequence.
    pub(crate) fn end(&self) -> u64 {
        self.contents.len() as u64 - 1
    }

    pub(crate) fn version(&self, at: u64) -> Version {
        Version::new(self.epoch, at).unwrap()
    }

    /// The whole feed.
    pub(crate) fn content(&self, at: u64) -> Content {
        self.contents[at as usize]
            .iter()
            .flatten()
            .map(|(key, value)| (*key, *value))
            .collect()
    }

    pub(crate) fn sum(&self, at: u64) -> Sum {
        let parts = self.sums[at as usize].iter();
        parts.fold(NOTHING, |sum, part| Sum {
            digest: sum.digest.plus(part.digest),
            count: sum.count + part.count,
        })
    }

    pub(crate) fn d(&self, bucket: usize, at: u64) -> u64 {
        self.data[at as usize][bucket]
    }

    /// The transaction that touched nothing after sequence `at`.
    fn idle(&self, at: u64) -> u64 {
        u64::from(self.epoch.get()) * 100_000 + at
    }

    /// What must be executed at `at`: all that took a version.
    pub(crate) fn executed_least(&self, at: u64) -> GtidSet {
        let mut set = self.before.clone();
        set.union(&gtids(self.numbers[1..=at as usize].iter().copied()));
        set
    }

    /// What may be executed at `at`.
    pub(crate) fn executed_most(&self, at: u64) -> GtidSet {
        let mut set = self.executed_least(at);
        set.union(&gtids((0..=at).map(|at| self.idle(at))));
        set
    }

    /// The last transaction of the feed.
    pub(crate) fn gtid(&self, at: u64) -> Option<Gtid> {
        let last = self.data[at as usize].iter().copied().max().unwrap();
        (last > 0).then(|| gtid(self.numbers[last as usize]))
    }

    fn envelope(&self, bucket: usize, at: u64, body: Body) -> Record {
        let sum = self.sums[at as usize][bucket];
        Record {
            lineage: LINEAGE,
            epoch: self.epoch,
            body,
            through: self.version(at),
            digest: sum.digest,
            count: sum.count,
            source_time: at as i64,
            reader_id: 1,
            part: 0,
            parts: 1,
        }
    }

    /// A flush of `(from, to]`; progress when they are equal or nothing was touched.
    pub(crate) fn record(&self, bucket: usize, from: u64, to: u64) -> Record {
        let commits = self.commits(bucket, from, to);
        let prev = self.version(self.d(bucket, from));
        self.envelope(bucket, to, Body::Commits { prev, commits })
    }

    pub(crate) fn commits(&self, bucket: usize, from: u64, to: u64) -> Vec<Commit> {
        self.commits[from as usize + 1..=to as usize]
            .iter()
            .filter_map(|buckets| buckets[bucket].clone())
            .collect()
    }

    pub(crate) fn replace(&self, bucket: usize, at: u64) -> Record {
        let d = self.version(self.d(bucket, at));
        let rows = self.rows[at as usize][bucket]
            .iter()
            .map(|(key, row)| (key.clone(), row.clone()))
            .collect();
        self.envelope(bucket, at, Body::Replace { d, rows })
    }

    /// What goes on from `old` at `at`, claimed through `through` here.
    pub(crate) fn carry(&self, bucket: usize, old: &History, at: u64, through: u64) -> Record {
        let old = old.version(old.d(bucket, at));
        let mut record = self.envelope(bucket, 0, Body::Carry { old });
        record.through = self.version(through);
        record
    }

    /// Whether a Carry from `old` at `at` would be true.
    pub(crate) fn may_carry(&self, bucket: usize, old: &History, at: u64) -> bool {
        self.contents[0][bucket] == old.contents[at as usize][bucket]
    }

    /// A cut; `idle`: the reader has seen the next transaction that touches nothing.
    pub(crate) fn cut(&self, prev: u64, at: u64, full: bool, idle: bool) -> CutRecord {
        let (from, to) = (prev as usize, at as usize);
        let mut executed = if full {
            let mut set = self.executed_least(at);
            set.union(&gtids((0..at).map(|at| self.idle(at))));
            set
        } else {
            let mut set = gtids(self.numbers[from + 1..=to].iter().copied());
            set.union(&gtids((prev + 1..at).map(|at| self.idle(at))));
            set
        };
        if idle {
            executed.insert(&gtid(self.idle(at)));
        }
        let touched = (0..self.buckets)
            .filter(|bucket| full || self.data[to][*bucket] > prev)
            .map(|bucket| {
                let d = self.version(self.d(bucket, at));
                (Bucket::new(bucket as u16), d)
            })
            .collect();
        let sum = self.sum(at);
        CutRecord {
            lineage: LINEAGE,
            prev_cut: self.version(prev),
            version: self.version(at),
            commit_time: at as i64,
            source_time: at as i64 + i64::from(idle),
            gtid: self.gtid(at),
            executed,
            position: String::new(),
            digest: sum.digest,
            count: sum.count,
            touched,
            full,
            proven: None,
            lost_tail: self.lost_tail,
        }
    }

    /// What a merger that has folded the bucket up to `at` keeps: a base at `base` and the commits after it.
    pub(crate) fn loaded(&self, bucket: usize, base: u64, at: u64) -> Loaded {
        let d = self.version(self.d(bucket, at));
        let sum = self.sums[at as usize][bucket];
        Loaded {
            state: BucketState {
                epoch: self.epoch,
                d,
                through: self.version(at),
                digest: sum.digest,
                count: sum.count,
                claimed: d,
            },
            base_d: self.version(self.d(bucket, base)),
            base: self.rows[base as usize][bucket].clone(),
            commits: self.commits(bucket, base, at),
        }
    }

    /// Whether the state is what this history has for the bucket.
    pub(crate) fn agrees(&self, bucket: usize, state: &BucketState) -> bool {
        let (d, through) = (state.d.sequence(), state.through.sequence());
        state.epoch == self.epoch
            && state.d.epoch() == self.epoch
            && state.through.epoch() == self.epoch
            && through <= self.end()
            && self.d(bucket, through) == d
            && self.sums[d as usize][bucket]
                == (Sum {
                    digest: state.digest,
                    count: state.count,
                })
    }
}

fn events(before: &Content, after: &Content) -> Vec<Event> {
    let mut keys: Vec<u64> = before.keys().chain(after.keys()).copied().collect();
    keys.sort_unstable();
    keys.dedup();
    keys.into_iter()
        .filter_map(|number| {
            let key = Key::from_u64(number);
            match (before.get(&number), after.get(&number)) {
                (None, Some(value)) => Some(Event::On {
                    key,
                    row: row(*value),
                }),
                (Some(old), Some(new)) if old != new => Some(Event::Change {
                    key,
                    row: row(*new),
                }),
                (Some(_), None) => Some(Event::Off { key }),
                _ => None,
            }
        })
        .collect()
}
