//! What all subscribers of a feed share: the newest snapshot and the items that led to it, each encoded once.
//!
//! A subscriber is a cursor, an index into the ring. One that falls behind by a few items gets them as one
//! conflated frame; one that the ring has left behind gets the snapshot. Nobody is waited for.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use onair_model::frame::compose;
use onair_model::plant::{Bug, planted};
use onair_model::schema::Schema;
use onair_model::{Frame, GtidSet, Seal, Snapshot, Version};
use tokio::sync::watch;

use crate::wire;

/// Items that a subscriber may lag before the rest is sent as one frame.
const CONFLATE_ABOVE: u64 = 16;

/// One published feed, shared by its worker and its subscribers.
#[derive(Debug)]
pub(crate) struct Ring {
    inner: RwLock<Inner>,
    /// The index after the newest item; what subscribers wait on.
    end: watch::Sender<u64>,
    /// A whole snapshot as it is sent, kept while the ring can lead on from it.
    encoded: tokio::sync::Mutex<Option<Arc<EncodedSnapshot>>>,
    bytes_max: usize,
    /// How many buckets the feed has.
    buckets: usize,
    clients: AtomicUsize,
    /// Frames encoded so far.
    encodings: AtomicU64,
    /// The server goes down.
    draining: AtomicBool,
}

#[derive(Debug)]
struct Inner {
    schema: Option<Arc<Schema>>,
    snapshot: Option<Arc<Snapshot>>,
    items: VecDeque<Item>,
    /// Index of the first item.
    first: u64,
    /// Cursors below it are of another schema.
    defined: u64,
    bytes: usize,
}

/// A frame with its seal, or progress.
#[derive(Debug, Clone)]
struct Item {
    /// Version at its end.
    version: Version,
    frame: Option<Arc<Frame>>,
    seal: Arc<Seal>,
    /// What it adds to the GTID set, or the set.
    executed: GtidSet,
    /// Whether it is the set.
    whole: bool,
    wire: Bytes,
}

/// A snapshot as chunks, and the index of the item after it.
#[derive(Debug)]
pub(crate) struct EncodedSnapshot {
    pub(crate) seal: Seal,
    pub(crate) messages: Vec<Bytes>,
    pub(crate) next: u64,
}

/// What a cursor gets.
#[derive(Debug)]
pub(crate) enum Next {
    /// Send these bytes; go on from this index.
    Items(Vec<Bytes>, u64),
    /// Nothing yet.
    Wait,
    /// The ring has left the cursor behind.
    Lagged,
    /// Rows are of another schema now: nothing leads on from before.
    Redefined,
}

/// Where a client that holds something goes on.
#[derive(Debug)]
pub(crate) enum Resume {
    /// From this index.
    At(u64),
    /// It is ahead of us, at this version.
    NotYet(Version),
    /// It needs the whole snapshot: why.
    Full(&'static str),
    /// There is nothing to serve yet.
    Empty,
}

impl Ring {
    pub(crate) fn new(bytes_max: usize, buckets: usize) -> Self {
        Ring {
            inner: RwLock::new(Inner {
                schema: None,
                snapshot: None,
                items: VecDeque::new(),
                first: 0,
                defined: 0,
                bytes: 0,
            }),
            end: watch::Sender::new(0),
            encoded: tokio::sync::Mutex::new(None),
            bytes_max,
            buckets,
            clients: AtomicUsize::new(0),
            encodings: AtomicU64::new(0),
            draining: AtomicBool::new(false),
        }
    }

    /// Has every subscriber go away. They wait for one thing only, which is cheaper for thousands than two.
    pub(crate) fn drain(&self) {
        self.draining.store(true, Ordering::Release);
        self.end.send_modify(|_| {});
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// Wakes when an item is added, and when the server goes down.
    pub(crate) fn watch(&self) -> watch::Receiver<u64> {
        self.end.subscribe()
    }

    pub(crate) fn clients(&self) -> usize {
        self.clients.load(Ordering::Relaxed)
    }

    /// Frames encoded so far: once for all subscribers, and once more for one that lags.
    pub(crate) fn encodings(&self) -> u64 {
        self.encodings.load(Ordering::Relaxed)
    }

    fn encode(&self, frame: &Frame, seal: &Seal, executed: &GtidSet) -> BytesMut {
        self.encodings.fetch_add(1, Ordering::Relaxed);
        wire::frame(frame, seal, executed)
    }

    /// Counts a subscriber; `None` when there are too many.
    pub(crate) fn join(self: &Arc<Self>, max: usize) -> Option<Client> {
        let joined = self
            .clients
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |now| {
                (now < max).then_some(now + 1)
            });
        joined.ok().map(|_| Client {
            ring: Arc::clone(self),
        })
    }

    /// What is shown; nothing is [`Version::ZERO`].
    pub(crate) fn version(&self) -> Version {
        let shown = |inner: &Inner| inner.snapshot.as_ref().map(|shown| shown.seal.version);
        self.read(shown).unwrap_or(Version::ZERO)
    }

    pub(crate) fn snapshot(&self) -> Option<Arc<Snapshot>> {
        self.read(|inner| inner.snapshot.clone())
    }

    /// The schema of what is shown, and the feed's number of buckets.
    pub(crate) fn schema(&self) -> Option<(Arc<Schema>, usize)> {
        Some((self.read(|inner| inner.schema.clone())?, self.buckets))
    }

    /// Shows a new snapshot, whose rows are of this schema. Without a frame, or where the schema is another, nobody can
    /// go on from what was before. With an age, progress is sent together with the frame.
    pub(crate) fn publish(
        &self,
        snapshot: Arc<Snapshot>,
        frame: Option<Frame>,
        schema: &Arc<Schema>,
        age: Option<Duration>,
    ) {
        self.write(|inner| {
            let before = inner.snapshot.replace(Arc::clone(&snapshot));
            let same = inner.schema.as_ref().is_none_or(|held| held == schema);
            inner.schema = Some(Arc::clone(schema));
            let Some(frame) = frame.filter(|_| same) else {
                // No cursor stands at this index or above.
                inner.first += inner.items.len() as u64 + 1;
                inner.items.clear();
                inner.bytes = 0;
                if !same {
                    inner.defined = inner.first;
                }
                return;
            };
            // A set that may have lost something is told whole: a difference cannot say so.
            let same = before
                .as_ref()
                .filter(|before| before.seal.version.epoch() == snapshot.seal.version.epoch());
            let executed = match same {
                Some(before) => snapshot.seal.executed.minus(&before.seal.executed),
                None => GtidSet::clone(&snapshot.seal.executed),
            };
            let mut wire = self.encode(&frame, &snapshot.seal, &executed);
            if let Some(age) = age {
                // The seal before it has told what came to the set.
                wire::progress(&mut wire, &snapshot.seal, &GtidSet::mysql(), "", age);
            }
            let wire = wire.freeze();
            inner.push(Item {
                version: snapshot.seal.version,
                frame: Some(Arc::new(frame)),
                seal: Arc::new(snapshot.seal.clone()),
                whole: same.is_none(),
                executed,
                wire,
            });
        });
        self.shrink();
        self.advance();
    }

    /// Tells everybody that the content is still complete; `snapshot` is the one shown, with a newer seal.
    pub(crate) fn progress(&self, snapshot: Arc<Snapshot>, held: &str, age: Duration) {
        self.write(|inner| {
            let executed = match &inner.snapshot {
                Some(before) => snapshot.seal.executed.minus(&before.seal.executed),
                None => return,
            };
            let mut wire = BytesMut::new();
            wire::progress(&mut wire, &snapshot.seal, &executed, held, age);
            let wire = wire.freeze();
            inner.push(Item {
                version: snapshot.seal.version,
                frame: None,
                seal: Arc::new(snapshot.seal.clone()),
                whole: false,
                executed,
                wire,
            });
            inner.snapshot = Some(snapshot);
        });
        self.shrink();
        self.advance();
    }

    /// Where a client that holds `version` with `digest` goes on.
    pub(crate) fn resume(&self, have: &onair_proto::v1::Have) -> Resume {
        self.read(|inner| {
            let Some(snapshot) = &inner.snapshot else {
                return Resume::Empty;
            };
            let seal = &snapshot.seal;
            if have.lineage[..] != seal.lineage.get().to_be_bytes() {
                return Resume::Full("other lineage");
            }
            let Some(version) = Version::from_u64(have.version) else {
                return Resume::Full("no such version");
            };
            let end = inner.first + inner.items.len() as u64;
            if version > seal.version {
                return Resume::NotYet(seal.version);
            }
            // A client that does not hold the content cannot state its digest.
            let same = |digest: onair_model::Digest| {
                have.digest.is_empty() || have.digest[..] == digest.get().to_be_bytes()
            };
            if version == seal.version {
                return if same(seal.digest) {
                    Resume::At(end)
                } else {
                    Resume::Full("other content")
                };
            }
            let Some(at) = inner.items.iter().position(|item| item.version > version) else {
                return Resume::Full("too old");
            };
            if at > 0
                && inner.items[at - 1].version == version
                && !same(inner.items[at - 1].seal.digest)
            {
                return Resume::Full("other content");
            }
            let applies = inner.items[at]
                .frame
                .as_ref()
                .is_some_and(|frame| frame.applies_to(version));
            if !applies {
                return Resume::Full(if at == 0 { "too old" } else { "exact" });
            }
            let late = u64::from(planted(Bug::ResumeOffByOne));
            Resume::At((inner.first + at as u64 + late).min(end))
        })
    }

    /// What a cursor at `index` gets next.
    pub(crate) fn next(&self, index: u64) -> Next {
        self.read(|inner| {
            let end = inner.first + inner.items.len() as u64;
            if index < inner.defined {
                return Next::Redefined;
            }
            if index < inner.first {
                return Next::Lagged;
            }
            if index >= end {
                return Next::Wait;
            }
            let behind = inner.items.range((index - inner.first) as usize..);
            if end - index <= CONFLATE_ABOVE {
                return Next::Items(behind.map(|item| item.wire.clone()).collect(), end);
            }
            let items: Vec<&Item> = behind.collect();
            let frames: Vec<&Frame> = items
                .iter()
                .filter_map(|item| item.frame.as_deref())
                .collect();
            let mut executed = GtidSet::mysql();
            for item in &items {
                if item.whole {
                    executed.clone_from(&item.executed);
                } else {
                    executed.union(&item.executed);
                }
            }
            let sealed = items.iter().rev().find(|item| item.frame.is_some());
            match (compose(&frames), sealed) {
                (Some(frame), Some(sealed)) => {
                    let mut seal = Seal::clone(&sealed.seal);
                    if let Some(newest) = items.last() {
                        seal.source_time = newest.seal.source_time;
                        seal.proven = newest.seal.proven;
                    }
                    let wire = self.encode(&frame, &seal, &executed).freeze();
                    Next::Items(vec![wire], end)
                }
                _ => Next::Items(
                    items
                        .last()
                        .map(|item| item.wire.clone())
                        .into_iter()
                        .collect(),
                    end,
                ),
            }
        })
    }

    /// A whole snapshot as it is sent, of `least` or later: made once, shared while the ring leads on from it.
    pub(crate) async fn encoded(&self, least: Version) -> Option<Arc<EncodedSnapshot>> {
        let mut held = self.encoded.lock().await;
        let (snapshot, end, first) = self.read(|inner| {
            let end = inner.first + inner.items.len() as u64;
            Some((inner.snapshot.clone()?, end, inner.first))
        })?;
        if let Some(encoded) = &*held
            && encoded.next >= first
            && encoded.seal.version >= least
            && end - encoded.next <= CONFLATE_ABOVE
            && encoded.seal.version.epoch() == snapshot.seal.version.epoch()
        {
            return Some(Arc::clone(encoded));
        }
        let seal = snapshot.seal.clone();
        // It fails only when the runtime ends.
        let Ok(messages) = tokio::task::spawn_blocking(move || wire::snapshot(&snapshot)).await
        else {
            return None;
        };
        let encoded = Arc::new(EncodedSnapshot {
            seal,
            messages,
            next: end,
        });
        *held = Some(Arc::clone(&encoded));
        Some(encoded)
    }

    /// Lets the oldest items go until the ring is within its bound; the newest stays.
    fn shrink(&self) {
        self.write(|inner| {
            while inner.bytes > self.bytes_max && inner.items.len() > 1 {
                if let Some(item) = inner.items.pop_front() {
                    inner.bytes -= item.size();
                    inner.first += 1;
                }
            }
        });
    }

    fn advance(&self) {
        let end = self.read(|inner| inner.first + inner.items.len() as u64);
        self.end.send_replace(end);
    }

    fn read<T>(&self, f: impl FnOnce(&Inner) -> T) -> T {
        f(&self.inner.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn write<T>(&self, f: impl FnOnce(&mut Inner) -> T) -> T {
        f(&mut self.inner.write().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Inner {
    fn push(&mut self, item: Item) {
        self.bytes += item.size();
        self.items.push_back(item);
    }
}

impl Item {
    /// The wire bytes and, since rows share buffers with it or with the log, about as much for the frame.
    fn size(&self) -> usize {
        256 + 2 * self.wire.len()
    }
}

/// A counted subscriber; dropping it counts it out.
#[derive(Debug)]
pub(crate) struct Client {
    ring: Arc<Ring>,
}

impl Drop for Client {
    fn drop(&mut self) {
        self.ring.clients.fetch_sub(1, Ordering::Relaxed);
    }
}
