//! The log in the memory of one process: for `onair up` and for tests.
//!
//! One ring a feed; a follower is a place in it, never a queue. An append is done, in the order of the calls, as
//! soon as there is room: in the call itself, or in the `release` that makes room. Entries die with the process;
//! the last cuts outlive it through a file (`MemoryConfig::tail`). What may go wrong: no room on that disk.

mod follow;
mod ring;
mod tail;

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use async_trait::async_trait;
use bytes::Bytes;
use onair_model::{Bucket, CutRecord};
use tokio::sync::{oneshot, watch};

use crate::cuts::Cuts;
use crate::wire;
use crate::{
    Durability, Ends, EventLog, Fixed, Flush, Follower, Layout, LogError, LogId, Offset, Partition,
    Share,
};
use follow::Reader;
use ring::Ring;
use tail::TailFile;

/// Bytes that a feed's entries may take, unless told otherwise: minutes of a busy feed, or one large scan.
pub const CAPACITY: usize = 64 * 1024 * 1024;

/// How a memory log is made.
#[derive(Clone, Debug)]
pub struct MemoryConfig {
    /// Bytes a feed. A flush of more than half of it may go above it.
    pub capacity: usize,
    /// Directory for the last cuts of each feed; `None`: they are lost with the process.
    pub tail: Option<PathBuf>,
}

impl Default for MemoryConfig {
    fn default() -> Self {
        MemoryConfig {
            capacity: CAPACITY,
            tail: None,
        }
    }
}

/// A log in memory.
#[derive(Debug)]
pub struct MemoryLog {
    config: MemoryConfig,
    id: LogId,
    feeds: RwLock<HashMap<Arc<str>, Arc<Feed>>>,
}

/// One feed's log.
struct Feed {
    layout: Layout,
    state: Mutex<State>,
    /// The ring's next place: wakes followers.
    grown: watch::Sender<u64>,
}

struct State {
    ring: Ring,
    cuts: Cuts,
    file: Option<TailFile>,
    waiting: VecDeque<Waiting>,
}

/// An append that found no room.
struct Waiting {
    entries: Vec<(usize, Bytes)>,
    cut: CutRecord,
    done: oneshot::Sender<Result<(), LogError>>,
}

impl MemoryLog {
    /// An empty log with an identity of its own.
    pub fn new(config: MemoryConfig) -> Self {
        MemoryLog {
            config,
            id: LogId(format!("memory-{:032x}", rand::random::<u128>()).into()),
            feeds: RwLock::default(),
        }
    }

    fn feed(&self, feed: &str) -> Result<Arc<Feed>, LogError> {
        let feeds = self.feeds.read().unwrap_or_else(PoisonError::into_inner);
        feeds
            .get(feed)
            .cloned()
            .ok_or_else(|| LogError::NotOpen { feed: feed.into() })
    }

    /// Appends now, or takes a place in the queue and gives back what to wait for.
    fn begin(&self, flush: Flush) -> Result<Option<Ticket>, LogError> {
        let feed = self.feed(&flush.feed)?;
        let entries = feed.encode(&flush)?;
        let mut state = feed.lock();
        if state.waiting.is_empty() && state.ring.make_room(&entries) {
            state.append(entries, &flush.cut)?;
            feed.grown.send_replace(state.ring.next());
            return Ok(None);
        }
        let (done, answer) = oneshot::channel();
        state.waiting.push_back(Waiting {
            entries,
            cut: flush.cut,
            done,
        });
        drop(state);
        Ok(Some(Ticket { feed, answer }))
    }
}

#[async_trait]
impl EventLog for MemoryLog {
    fn durability(&self) -> Durability {
        Durability::Volatile
    }

    async fn open(&self, layout: &Layout) -> Result<LogId, LogError> {
        let mut feeds = self.feeds.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(feed) = feeds.get(&layout.feed) {
            let (is, asked) = (feed.layout.buckets.count(), layout.buckets.count());
            if is != asked {
                return Err(LogError::Mismatch {
                    feed: Arc::clone(&layout.feed),
                    reason: format!("it has {is} buckets, {asked} were asked for"),
                    remedy: "restart the process to change the number of buckets".into(),
                });
            }
            return Ok(self.id.clone());
        }
        let (file, cuts) = match &self.config.tail {
            None => (None, Cuts::default()),
            Some(dir) => {
                let (file, cuts) = TailFile::open(dir, &layout.feed)?;
                (Some(file), cuts)
            }
        };
        let feed = Feed {
            layout: layout.clone(),
            state: Mutex::new(State {
                ring: Ring::new(layout.buckets.count() + 1, self.config.capacity),
                cuts,
                file,
                waiting: VecDeque::new(),
            }),
            grown: watch::Sender::new(0),
        };
        feeds.insert(Arc::clone(&layout.feed), Arc::new(feed));
        Ok(self.id.clone())
    }

    // Not an async body: the place in the order is taken by the call, not by the first poll.
    fn append<'life, 'fut>(
        &'life self,
        flush: Flush,
    ) -> Pin<Box<dyn Future<Output = Result<(), LogError>> + Send + 'fut>>
    where
        'life: 'fut,
        Self: 'fut,
    {
        let begun = self.begin(flush);
        Box::pin(async move {
            match begun? {
                None => Ok(()),
                Some(ticket) => ticket.wait().await,
            }
        })
    }

    async fn ends(&self, feed: &str) -> Result<Vec<(Partition, Ends)>, LogError> {
        let feed = self.feed(feed)?;
        let state = feed.lock();
        Ok((0..=feed.layout.buckets.count())
            .map(|index| (feed.partition(index), ends(&state.ring, index)))
            .collect())
    }

    async fn follow(
        &self,
        feed: &str,
        from: &[(Partition, Offset)],
    ) -> Result<Box<dyn Follower>, LogError> {
        Ok(Box::new(Reader::new(self.feed(feed)?, from)?))
    }

    /// All of it: there is one process.
    async fn share(&self, feed: &str) -> Result<Box<dyn Share>, LogError> {
        Ok(Box::new(Fixed::whole(self.feed(feed)?.layout.buckets)))
    }

    async fn last_cuts(&self, feed: &str) -> Result<Vec<CutRecord>, LogError> {
        Ok(self.feed(feed)?.lock().cuts.list())
    }

    fn release(&self, feed: &str, partition: Partition, offset: Offset) {
        let Ok(feed) = self.feed(feed) else { return };
        let Some(index) = feed.index(partition) else {
            return;
        };
        let mut state = feed.lock();
        state.ring.release(index, offset.0);
        feed.serve(&mut state);
    }
}

impl Feed {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn index(&self, partition: Partition) -> Option<usize> {
        match partition {
            Partition::Cuts => Some(self.layout.buckets.count()),
            Partition::Bucket(bucket) => {
                Some(bucket.index()).filter(|index| *index < self.layout.buckets.count())
            }
        }
    }

    fn partition(&self, index: usize) -> Partition {
        if index == self.layout.buckets.count() {
            Partition::Cuts
        } else {
            Partition::Bucket(Bucket::new(index as u16))
        }
    }

    fn out_of_range(&self, ring: &Ring, index: usize, asked: u64) -> LogError {
        LogError::OutOfRange {
            feed: Arc::clone(&self.layout.feed),
            partition: self.partition(index),
            asked: Offset(asked),
            ends: ends(ring, index),
        }
    }

    fn encode(&self, flush: &Flush) -> Result<Vec<(usize, Bytes)>, LogError> {
        let mut entries = Vec::with_capacity(flush.records.len() + 1);
        for (bucket, record) in &flush.records {
            let partition = Partition::Bucket(*bucket);
            let index = self.index(partition).ok_or_else(|| LogError::Refused {
                reason: format!("feed {} has no {partition}", self.layout.feed),
            })?;
            entries.push((index, wire::record(*bucket, record).into()));
        }
        let cut = wire::cut(&flush.cut).into();
        entries.push((self.layout.buckets.count(), cut));
        Ok(entries)
    }

    /// Does the appends that have been waiting and find room now, in their order.
    fn serve(&self, state: &mut State) {
        while let Some(first) = state.waiting.front() {
            // One that nobody waits for any more was given up before it was begun.
            if !first.done.is_closed() && !state.ring.make_room(&first.entries) {
                break;
            }
            let Some(first) = state.waiting.pop_front() else {
                break;
            };
            if !first.done.is_closed() {
                let done = state.append(first.entries, &first.cut);
                // Nobody there any more: it is in the log, which a caller that went away must expect.
                let _ = first.done.send(done);
            }
        }
        self.grown.send_if_modified(|grown| {
            let next = state.ring.next();
            std::mem::replace(grown, next) != next
        });
    }
}

impl State {
    /// Room has been made. The last cuts are written before a follower can see what they state.
    fn append(&mut self, entries: Vec<(usize, Bytes)>, cut: &CutRecord) -> Result<(), LogError> {
        if let Some(cuts) = self.cuts.with(cut) {
            if let Some(file) = &mut self.file {
                file.write(&self.cuts, &cuts)?;
            }
            self.cuts = cuts;
        }
        self.ring.push(entries);
        Ok(())
    }
}

fn ends(ring: &Ring, index: usize) -> Ends {
    let (low, high) = ring.ends(index);
    Ends {
        low: Offset(low),
        high: Offset(high),
    }
}

/// A place among the appends that wait. Dropping it gives the place up.
struct Ticket {
    feed: Arc<Feed>,
    answer: oneshot::Receiver<Result<(), LogError>>,
}

impl Ticket {
    async fn wait(mut self) -> Result<(), LogError> {
        (&mut self.answer).await.unwrap_or_else(|_| {
            Err(LogError::Refused {
                reason: "the log was closed".into(),
            })
        })
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        // Those behind it may fit where it did not.
        self.answer.close();
        let mut state = self.feed.lock();
        self.feed.serve(&mut state);
    }
}

impl fmt::Debug for Feed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let feed = &self.layout.feed;
        f.debug_struct("Feed")
            .field("feed", feed)
            .finish_non_exhaustive()
    }
}
