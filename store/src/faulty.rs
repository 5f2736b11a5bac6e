//! A store that fails on purpose, around any other: seeded, and counting what it did.
//!
//! Nothing that it does breaks the contract of [`ShardStore`]; a caller that survives it acts on outcomes and not on
//! hopes. Calls that only read can be refused and delayed; writes can also be done with the answer lost, not be done
//! with the answer lost, be done later, be done twice, or (a segment) be done in part.

use std::fmt;
use std::ops::Add;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::{Cas, Cell, CellKey, HistoryLine, SegmentId, ShardStore, StoreError, Token};

/// How often a call meets each kind, 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Faults {
    /// Not done, and said so.
    pub refused: f64,
    /// Done, the answer lost.
    pub lost: f64,
    /// Not done, the answer lost.
    pub undone: f64,
    /// A compare-and-set that is on its way when its caller has given up: done before some later call.
    pub late: f64,
    /// A compare-and-set that is done twice: the second attempt finds the first.
    pub twice: f64,
    /// A segment of which only some parts are written.
    pub torn: f64,
    /// Takes up to `delay_max` longer.
    pub delayed: f64,
    /// The longest delay.
    pub delay_max: Duration,
}

impl Faults {
    /// Every kind often enough that a hundred calls meet all of them.
    pub const OFTEN: Faults = Faults {
        refused: 0.08,
        lost: 0.08,
        undone: 0.06,
        late: 0.06,
        twice: 0.08,
        torn: 0.08,
        delayed: 0.1,
        delay_max: Duration::from_millis(30),
    };

    /// None at all.
    pub const NONE: Faults = Faults {
        refused: 0.0,
        lost: 0.0,
        undone: 0.0,
        late: 0.0,
        twice: 0.0,
        torn: 0.0,
        delayed: 0.0,
        delay_max: Duration::ZERO,
    };
}

/// How often each kind was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts([u64; KINDS.len()]);

const KINDS: [&str; 7] = [
    "refused",
    "answer lost",
    "not done, answer lost",
    "late",
    "twice",
    "torn",
    "delayed",
];

impl Counts {
    /// Each kind's name and count.
    pub fn list(&self) -> impl Iterator<Item = (&'static str, u64)> {
        KINDS.into_iter().zip(self.0)
    }

    /// Kinds that never fired: a test that meant to meet them has proven nothing about them.
    pub fn never(&self) -> Vec<&'static str> {
        let never = self.list().filter(|(_, count)| *count == 0);
        never.map(|(name, _)| name).collect()
    }
}

impl Add for Counts {
    type Output = Counts;

    fn add(self, other: Counts) -> Counts {
        Counts(std::array::from_fn(|kind| self.0[kind] + other.0[kind]))
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (name, count)) in self.list().enumerate() {
            let separator = if at == 0 { "" } else { ", " };
            write!(f, "{separator}{name} {count}")?;
        }
        Ok(())
    }
}

/// In the order of [`KINDS`].
#[derive(Clone, Copy)]
enum Kind {
    Refused,
    Lost,
    Undone,
    Late,
    Twice,
    Torn,
    Delayed,
}

/// What kind of call may meet what.
#[derive(Clone, Copy)]
enum Call {
    Read,
    Write,
    Cas,
    Segment,
}

type Attempt = (CellKey, Option<Token>, Option<Cell>);

/// The decorator.
#[derive(Debug)]
pub struct Faulty<S: ?Sized> {
    faults: Mutex<Faults>,
    rng: Mutex<StdRng>,
    counts: [AtomicU64; KINDS.len()],
    late: Mutex<Vec<Attempt>>,
    inner: Arc<S>,
}

impl<S: ShardStore + ?Sized> Faulty<S> {
    /// Around `inner`; the same seed and calls give the same faults.
    pub fn new(inner: Arc<S>, seed: u64, faults: Faults) -> Self {
        Faulty {
            faults: Mutex::new(faults),
            rng: Mutex::new(StdRng::seed_from_u64(seed)),
            counts: Default::default(),
            late: Mutex::default(),
            inner,
        }
    }

    /// From now on with these faults.
    pub fn set(&self, faults: Faults) {
        *lock(&self.faults) = faults;
    }

    /// How often each kind was done so far.
    pub fn counts(&self) -> Counts {
        Counts(std::array::from_fn(|kind| {
            self.counts[kind].load(Ordering::Relaxed)
        }))
    }

    fn count(&self, kind: Kind) {
        self.counts[kind as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Waits if the call is to be delayed, lets late attempts arrive, and draws what happens to this one.
    async fn draw(&self, call: Call) -> Option<Kind> {
        let (delay, arrive, kind) = {
            let faults = *lock(&self.faults);
            let mut rng = lock(&self.rng);
            let delay = rng
                .random_bool(faults.delayed)
                .then(|| faults.delay_max.mul_f64(rng.random()));
            let arrive = rng.random_bool(0.5);
            let kinds: &[(Kind, f64)] = match call {
                Call::Read => &[(Kind::Refused, faults.refused)],
                Call::Write => &[
                    (Kind::Refused, faults.refused),
                    (Kind::Lost, faults.lost),
                    (Kind::Undone, faults.undone),
                ],
                Call::Cas => &[
                    (Kind::Refused, faults.refused),
                    (Kind::Lost, faults.lost),
                    (Kind::Undone, faults.undone),
                    (Kind::Late, faults.late),
                    (Kind::Twice, faults.twice),
                ],
                Call::Segment => &[
                    (Kind::Refused, faults.refused),
                    (Kind::Lost, faults.lost),
                    (Kind::Undone, faults.undone),
                    (Kind::Torn, faults.torn),
                ],
            };
            let kind = kinds.iter().find(|(_, often)| rng.random_bool(*often));
            (delay, arrive, kind.map(|(kind, _)| *kind))
        };
        if let Some(delay) = delay {
            self.count(Kind::Delayed);
            tokio::time::sleep(delay).await;
        }
        if arrive {
            let late = std::mem::take(&mut *lock(&self.late));
            for (key, expect, new) in late {
                // Nobody waits for it: whatever it came to, its caller finds out by reading.
                let _ = self.inner.cas(&key, expect, new).await;
            }
        }
        // Counted when it is done, or here where nothing can come between.
        if let Some(kind) = kind
            && !matches!(kind, Kind::Twice | Kind::Torn)
        {
            self.count(kind);
        }
        kind
    }

    async fn read(&self) -> Result<(), StoreError> {
        match self.draw(Call::Read).await {
            Some(_) => Err(refused()),
            None => Ok(()),
        }
    }

    /// A write that may be refused, done or not done with the answer lost.
    async fn write(
        &self,
        done: impl Future<Output = Result<(), StoreError>> + Send,
    ) -> Result<(), StoreError> {
        match self.draw(Call::Write).await {
            None => done.await,
            Some(Kind::Lost) => {
                done.await?;
                Err(unknown())
            }
            Some(Kind::Refused) => Err(refused()),
            Some(_) => Err(unknown()),
        }
    }
}

fn refused() -> StoreError {
    StoreError::Unavailable {
        reason: "refused on purpose".into(),
    }
}

fn unknown() -> StoreError {
    StoreError::Unknown {
        reason: "the answer was lost on purpose".into(),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[async_trait]
impl<S: ShardStore + ?Sized> ShardStore for Faulty<S> {
    async fn cell(&self, key: &CellKey) -> Result<Option<Cell>, StoreError> {
        self.read().await?;
        self.inner.cell(key).await
    }

    async fn cas(
        &self,
        key: &CellKey,
        expect: Option<Token>,
        new: Option<Cell>,
    ) -> Result<Cas, StoreError> {
        match self.draw(Call::Cas).await {
            None | Some(Kind::Torn | Kind::Delayed) => self.inner.cas(key, expect, new).await,
            Some(Kind::Refused) => Err(refused()),
            Some(Kind::Undone) => Err(unknown()),
            Some(Kind::Lost) => {
                self.inner.cas(key, expect, new).await?;
                Err(unknown())
            }
            Some(Kind::Late) => {
                lock(&self.late).push((key.clone(), expect, new));
                Err(unknown())
            }
            Some(Kind::Twice) => {
                let first = self.inner.cas(key, expect, new.clone()).await?;
                if first != Cas::Won {
                    return Ok(first);
                }
                self.count(Kind::Twice);
                self.inner.cas(key, expect, new).await
            }
        }
    }

    async fn cells(&self, like: &CellKey) -> Result<Vec<(CellKey, Cell)>, StoreError> {
        self.read().await?;
        self.inner.cells(like).await
    }

    async fn write_segment(
        &self,
        feed: &str,
        id: SegmentId,
        mut parts: Vec<Bytes>,
    ) -> Result<(), StoreError> {
        match self.draw(Call::Segment).await {
            Some(Kind::Refused) => Err(refused()),
            Some(Kind::Undone) => Err(unknown()),
            Some(Kind::Lost) => {
                self.inner.write_segment(feed, id, parts).await?;
                Err(unknown())
            }
            Some(Kind::Torn) if parts.len() > 1 => {
                self.count(Kind::Torn);
                let some = lock(&self.rng).random_range(1..parts.len());
                parts.truncate(some);
                self.inner.write_segment(feed, id, parts).await?;
                Err(unknown())
            }
            _ => self.inner.write_segment(feed, id, parts).await,
        }
    }

    async fn read_segment(
        &self,
        feed: &str,
        id: SegmentId,
        parts: u32,
    ) -> Result<Vec<Bytes>, StoreError> {
        self.read().await?;
        self.inner.read_segment(feed, id, parts).await
    }

    async fn delete_segment(
        &self,
        feed: &str,
        id: SegmentId,
        parts: u32,
    ) -> Result<(), StoreError> {
        self.write(self.inner.delete_segment(feed, id, parts)).await
    }

    async fn write_history(&self, feed: &str, line: HistoryLine) -> Result<(), StoreError> {
        self.write(self.inner.write_history(feed, line)).await
    }

    async fn history(
        &self,
        feed: &str,
        from: i64,
        to: i64,
        limit: usize,
    ) -> Result<Vec<HistoryLine>, StoreError> {
        self.read().await?;
        self.inner.history(feed, from, to, limit).await
    }

    async fn delete_history(&self, feed: &str, lines: &[(i64, u128)]) -> Result<(), StoreError> {
        self.write(self.inner.delete_history(feed, lines)).await
    }
}
