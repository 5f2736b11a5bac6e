//! What the fake server holds: rows, versions, the frames between them.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use onair_model::gtid::{SourceId, Tag};
use onair_model::schema::Schema;
use onair_model::{Digest, Epoch, Gtid, GtidSet, Key, Lineage, Proven, Row, Seal, Version};
use onair_proto::v1::subscribe_response::Message;
use tokio::time::Instant;

use super::messages;
use crate::clock::wall_clock;

/// Frames kept for those who come back.
const FRAMES: usize = 1000;
const BUCKETS: usize = 4;

/// What becomes of the transactions of the epoch before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tail {
    /// All are contained.
    Kept,
    /// The last one is lost, and the server says so.
    Lost,
    /// The last one is lost, and the server does not say so: it may not be shown.
    LostSilently,
}

pub(crate) struct World {
    schema: Schema,
    rows: BTreeMap<Key, Bytes>,
    staged: BTreeMap<Key, Option<Bytes>>,
    /// What is sent at the end of a group; `executed` is whole.
    seal: Seal,
    /// Transactions since the last seal.
    since: GtidSet,
    next_number: u64,
    frames: VecDeque<Frame>,
    chunk_rows: usize,
    age: Duration,
    held: String,
    /// Microseconds since 1970 at `began`.
    began_at: i64,
    began: Instant,
}

#[derive(Clone)]
struct Frame {
    from: Version,
    exact: bool,
    touched: Vec<(Key, Option<Row>)>,
    seal: Seal,
    added: GtidSet,
}

impl World {
    pub(crate) fn new(schema: Schema) -> Self {
        let (began_at, began) = (wall_clock(), Instant::now());
        World {
            schema,
            rows: BTreeMap::new(),
            staged: BTreeMap::new(),
            seal: Seal {
                lineage: Lineage::new(1),
                version: first_version(),
                digest: Digest::EMPTY,
                count: 0,
                commit_time: began_at,
                source_time: began_at,
                gtid: None,
                executed: Arc::new(GtidSet::mysql()),
                proven: None,
                rewound: false,
            },
            since: GtidSet::mysql(),
            next_number: 1,
            frames: VecDeque::new(),
            chunk_rows: 100,
            age: Duration::ZERO,
            held: String::new(),
            began_at,
            began,
        }
    }

    pub(crate) fn fork(&self) -> World {
        World {
            rows: self.rows.clone(),
            seal: self.seal.clone(),
            since: self.since.clone(),
            next_number: self.next_number,
            frames: self.frames.clone(),
            chunk_rows: self.chunk_rows,
            ..World::new(self.schema.clone())
        }
    }

    pub(crate) const fn schema(&self) -> &Schema {
        &self.schema
    }

    pub(crate) fn stage(&mut self, key: Key, row: Option<Bytes>) {
        self.staged.insert(key, row);
    }

    fn now(&self) -> i64 {
        let elapsed = self.began.elapsed().as_micros();
        self.began_at
            .saturating_add(i64::try_from(elapsed).unwrap_or(i64::MAX))
    }

    fn next_gtid(&mut self) -> Gtid {
        let number = self.next_number;
        self.next_number += 1;
        Gtid::Mysql {
            source: source(),
            number,
        }
    }

    pub(crate) fn commit(&mut self) -> Version {
        let gtid = self.next_gtid();
        self.since.insert(&gtid);
        self.seal.gtid = Some(gtid);
        Arc::make_mut(&mut self.seal.executed).insert(&gtid);
        let to = self
            .seal
            .version
            .next()
            .expect("an epoch is not used up in a test");
        self.advance(to, false);
        to
    }

    /// Applies what is staged as the content at `to`, and keeps the frame.
    fn advance(&mut self, to: Version, exact: bool) {
        let from = self.seal.version;
        let touched: Vec<(Key, Option<Row>)> = std::mem::take(&mut self.staged)
            .into_iter()
            .map(|(key, row)| (key, row.map(Row::new)))
            .collect();
        for (key, row) in &touched {
            let before = match row {
                Some(row) => {
                    self.seal.digest = self.seal.digest.plus(Digest::of(key, row));
                    self.rows.insert(key.clone(), row.bytes().clone())
                }
                None => self.rows.remove(key),
            };
            if let Some(before) = before {
                self.seal.digest = self.seal.digest.minus(Digest::of(key, &Row::new(before)));
            }
        }
        self.seal.version = to;
        self.seal.count = self.rows.len() as u64;
        self.seal.commit_time = self.now();
        self.seal.source_time = self.now();
        let added = std::mem::replace(&mut self.since, GtidSet::mysql());
        // An epoch that lost transactions says its whole set.
        let added = if exact {
            GtidSet::clone(&self.seal.executed)
        } else {
            added
        };
        self.frames.push_back(Frame {
            from,
            exact,
            touched,
            seal: self.seal.clone(),
            added,
        });
        if self.frames.len() > FRAMES {
            self.frames.pop_front();
        }
    }

    pub(crate) fn commit_elsewhere(&mut self) -> Gtid {
        let gtid = self.next_gtid();
        self.since.insert(&gtid);
        Arc::make_mut(&mut self.seal.executed).insert(&gtid);
        gtid
    }

    pub(crate) fn prove(&mut self) {
        self.seal.proven = Some(Proven {
            version: self.seal.version,
            at: self.now(),
        });
    }

    pub(crate) const fn set_age(&mut self, age: Duration) {
        self.age = age;
    }

    pub(crate) fn hold(&mut self, why: &str) {
        self.held = why.to_owned();
    }

    pub(crate) fn forget_frames(&mut self) {
        self.frames.clear();
    }

    pub(crate) const fn set_chunk_rows(&mut self, rows: usize) {
        self.chunk_rows = rows;
    }

    pub(crate) fn new_lineage(&mut self) -> Lineage {
        self.seal.lineage = Lineage::new(self.seal.lineage.get() + 1);
        self.seal.version = first_version();
        self.frames.clear();
        self.seal.lineage
    }

    pub(crate) fn open_epoch(&mut self, tail: Tail) -> Version {
        let epoch = self
            .seal
            .version
            .epoch()
            .next()
            .expect("epochs are not used up in a test");
        self.seal.rewound = tail == Tail::Lost;
        if tail != Tail::Kept {
            let last = self.next_number - 1;
            self.next_number = last;
            let mut executed = GtidSet::mysql();
            for number in 1..last {
                executed.insert(&Gtid::Mysql {
                    source: source(),
                    number,
                });
            }
            self.seal.executed = Arc::new(executed);
        }
        self.seal.gtid = None;
        self.advance(epoch.start(), true);
        if tail == Tail::LostSilently {
            // Nobody is told by a frame.
            self.frames.clear();
        }
        epoch.start()
    }

    /// The group of a whole snapshot.
    pub(crate) fn whole(&self, reason: &str) -> Vec<Message> {
        let rows = self.rows();
        let start = messages::start_whole(&self.schema, &self.seal, BUCKETS, reason);
        let chunks = (0..).zip(rows.chunks(self.chunk_rows));
        let chunks = chunks.map(|(index, rows)| messages::chunk(self.seal.version, index, rows));
        let seal = messages::seal(&self.seal, &self.seal.executed);
        [start].into_iter().chain(chunks).chain([seal]).collect()
    }

    /// The start of a stream that goes on from a version.
    pub(crate) fn resume(&self, version: Version) -> Message {
        messages::start_resume(&self.schema, self.seal.lineage, version, BUCKETS)
    }

    /// The groups after a version, as far as frames are kept.
    pub(crate) fn frames_after(&self, version: Version) -> impl Iterator<Item = Vec<Message>> {
        let frames = self
            .frames
            .iter()
            .filter(move |frame| frame.seal.version > version);
        frames.map(|frame| {
            let to = frame.seal.version;
            // A large one in pieces; one without any change is a frame, too.
            let pieces = frame.touched.chunks(self.chunk_rows);
            let pieces = pieces.map(|piece| messages::frame(frame.from, to, frame.exact, piece));
            let mut group: Vec<Message> = pieces.collect();
            if group.is_empty() {
                group.push(messages::frame(frame.from, to, frame.exact, &[]));
            }
            group.push(messages::seal(&frame.seal, &frame.added));
            group
        })
    }

    /// Whether the frames kept go on from a version.
    pub(crate) fn reaches(&self, version: Version) -> bool {
        let next = self
            .frames
            .iter()
            .find(|frame| frame.seal.version > version);
        next.is_some_and(|frame| frame.from == version || (!frame.exact && frame.from <= version))
    }

    pub(crate) fn progress(&mut self) -> Message {
        self.seal.source_time = self.now() - i64::try_from(self.age.as_micros()).unwrap_or(0);
        messages::progress(&self.seal, &self.since, &self.held, self.age)
    }

    pub(crate) const fn lineage(&self) -> Lineage {
        self.seal.lineage
    }

    pub(crate) const fn version(&self) -> Version {
        self.seal.version
    }

    pub(crate) const fn gtid(&self) -> Option<Gtid> {
        self.seal.gtid
    }

    pub(crate) fn rows(&self) -> Vec<(Key, Bytes)> {
        self.rows
            .iter()
            .map(|(key, row)| (key.clone(), row.clone()))
            .collect()
    }
}

fn first_version() -> Version {
    Epoch::NONE.next().map_or(Version::ZERO, Epoch::start)
}

fn source() -> SourceId {
    SourceId {
        uuid: 0x3e11_fa47_71ca_11e1_9e33_c80a_a942_9562,
        tag: Tag::NONE,
    }
}
