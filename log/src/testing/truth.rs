//! What the feed holds at a version: plain maps.

use std::collections::BTreeMap;
use std::sync::Arc;

use onair_model::{Bucket, Buckets, Commit, Digest, Event, Gtid, GtidSet, Key, Row, Sum, Version};

/// Key to row.
pub type Content = BTreeMap<Key, Row>;

/// What one transaction leaves at its keys; `None`: off air.
pub type Writes = Vec<(u64, Option<Row>)>;

pub(super) const NOTHING: Sum = Sum {
    digest: Digest::EMPTY,
    count: 0,
};

/// The feed at one version.
#[derive(Clone, Debug)]
pub struct Moment {
    pub(super) buckets: Vec<Arc<Content>>,
    pub(super) sums: Vec<Sum>,
    pub(super) d: Vec<Version>,
    /// What its transaction did, by bucket.
    pub(super) commits: Vec<Option<Commit>>,
    pub(super) writes: Writes,
    /// Its transaction.
    pub(super) transaction: Option<Gtid>,
    /// The last transaction of the feed contained.
    pub gtid: Option<Gtid>,
    /// Executed when it was committed.
    pub executed: GtidSet,
    /// When, microseconds since 1970.
    pub commit_time: i64,
}

impl Moment {
    /// One bucket's rows.
    pub fn bucket(&self, bucket: Bucket) -> &Content {
        &self.buckets[bucket.index()]
    }

    /// A bucket's last data version.
    pub fn d(&self, bucket: Bucket) -> Version {
        self.d[bucket.index()]
    }

    /// A bucket's digest and count.
    pub fn sum(&self, bucket: Bucket) -> Sum {
        self.sums[bucket.index()]
    }

    /// All rows.
    pub fn content(&self) -> Content {
        let rows = self.buckets.iter().flat_map(|rows| rows.iter());
        rows.map(|(key, row)| (key.clone(), row.clone())).collect()
    }

    /// The whole feed's digest and count.
    pub fn total(&self) -> Sum {
        self.sums.iter().fold(NOTHING, |sum, part| Sum {
            digest: sum.digest.plus(part.digest),
            count: sum.count + part.count,
        })
    }
}

pub(super) fn sum(rows: &Content) -> Sum {
    rows.iter().fold(NOTHING, |sum, (key, row)| Sum {
        digest: sum.digest.plus(Digest::of(key, row)),
        count: sum.count + 1,
    })
}

pub(super) fn put(moment: &mut Moment, writes: &Writes, layout: Buckets) {
    for (key, row) in writes {
        let key = Key::from_u64(*key);
        let content = Arc::make_mut(&mut moment.buckets[layout.of(&key).index()]);
        match row {
            Some(row) => content.insert(key, row.clone()),
            None => content.remove(&key),
        };
    }
}

pub(super) fn events(before: &Arc<Content>, after: &Arc<Content>) -> Vec<Event> {
    if Arc::ptr_eq(before, after) {
        return Vec::new();
    }
    let mut events = Vec::new();
    for (key, row) in &**after {
        let (key, row) = (key.clone(), row.clone());
        match before.get(&key) {
            None => events.push(Event::On { key, row }),
            Some(held) if *held != row => events.push(Event::Change { key, row }),
            Some(_) => {}
        }
    }
    let gone = before.keys().filter(|key| !after.contains_key(*key));
    events.extend(gone.map(|key| Event::Off { key: key.clone() }));
    events.sort_by(|a, b| a.key().cmp(b.key()));
    events
}
