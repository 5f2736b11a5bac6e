//! A log that fails on purpose, around any other: seeded, and counting what it did.
//!
//! With [`Faults::dropped`] at 0 nothing that it does breaks the contract of [`EventLog`]. An append that failed is
//! to be made again with everything after it; a follower that failed is to be replaced.

use std::fmt;
use std::ops::Add;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use onair_model::CutRecord;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use tokio::time::{Instant, sleep_until};

use crate::{
    Durability, Ends, Entry, EventLog, Flush, Follower, Layout, LogError, LogId, Offset, Partition,
    Share,
};

/// How often a call meets each kind, 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Faults {
    /// Not done, and said so.
    pub refused: f64,
    /// An append that is done, the answer lost.
    pub lost: f64,
    /// An append that is not done, the answer lost.
    pub undone: f64,
    /// An append of which only the cut and some records are done, the answer lost.
    pub partial: f64,
    /// An append after which some records, or all of it, stand twice.
    pub twice: f64,
    /// A record that is acknowledged and not there: the log lost it. Breaks the contract; for those who must notice.
    pub dropped: f64,
    /// A follower that breaks.
    pub broken: f64,
    /// A follower that is told that its place is gone.
    pub out_of_range: f64,
    /// Takes up to `delay_max` longer.
    pub delayed: f64,
    /// The longest delay.
    pub delay_max: Duration,
}

impl Faults {
    /// Every kind that the contract allows, often enough that a few hundred calls meet all of them.
    pub const OFTEN: Faults = Faults {
        refused: 0.05,
        lost: 0.05,
        undone: 0.05,
        partial: 0.05,
        twice: 0.08,
        dropped: 0.0,
        broken: 0.03,
        out_of_range: 0.03,
        delayed: 0.08,
        delay_max: Duration::from_millis(10),
    };

    /// None at all.
    pub const NONE: Faults = Faults {
        refused: 0.0,
        lost: 0.0,
        undone: 0.0,
        partial: 0.0,
        twice: 0.0,
        dropped: 0.0,
        broken: 0.0,
        out_of_range: 0.0,
        delayed: 0.0,
        delay_max: Duration::ZERO,
    };
}

/// How often each kind was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts([u64; KINDS.len()]);

const KINDS: [&str; 9] = [
    "refused",
    "answer lost",
    "not done, answer lost",
    "done in part, answer lost",
    "twice",
    "dropped",
    "broken",
    "out of range",
    "delayed",
];

/// In the order of [`KINDS`].
#[derive(Clone, Copy)]
enum Kind {
    Refused,
    Lost,
    Undone,
    Partial,
    Twice,
    Dropped,
    Broken,
    OutOfRange,
    Delayed,
}

/// How often a kind is asked for.
type Often = fn(&Faults) -> f64;

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

/// The decorator.
#[derive(Debug)]
pub struct Faulty<L: ?Sized> {
    dice: Arc<Dice>,
    /// A delayed append keeps those behind it waiting: the order of the calls stays.
    turn: tokio::sync::Mutex<()>,
    inner: Arc<L>,
}

#[derive(Debug)]
struct Dice {
    faults: Mutex<Faults>,
    rng: Mutex<StdRng>,
    counts: [AtomicU64; KINDS.len()],
}

impl<L: EventLog + ?Sized> Faulty<L> {
    /// Around `inner`; the same seed and calls give the same faults.
    pub fn new(inner: Arc<L>, seed: u64, faults: Faults) -> Self {
        Faulty {
            dice: Arc::new(Dice {
                faults: Mutex::new(faults),
                rng: Mutex::new(StdRng::seed_from_u64(seed)),
                counts: Default::default(),
            }),
            turn: tokio::sync::Mutex::default(),
            inner,
        }
    }

    /// From now on with these faults.
    pub fn set(&self, faults: Faults) {
        *lock(&self.dice.faults) = faults;
    }

    /// How often each kind was done so far.
    pub fn counts(&self) -> Counts {
        Counts(std::array::from_fn(|kind| {
            self.dice.counts[kind].load(Ordering::Relaxed)
        }))
    }

    async fn read(&self) -> Result<(), LogError> {
        self.dice.delay().await;
        match self.dice.draw(&[(Kind::Refused, |faults| faults.refused)]) {
            Some(_) => Err(refused("refused on purpose")),
            None => Ok(()),
        }
    }
}

impl Dice {
    /// Draws one of these kinds, or none, and counts it.
    fn draw(&self, kinds: &[(Kind, Often)]) -> Option<Kind> {
        let faults = *lock(&self.faults);
        let mut rng = lock(&self.rng);
        let drawn = kinds
            .iter()
            .find(|(_, often)| rng.random_bool(often(&faults)));
        let kind = drawn.map(|(kind, _)| *kind)?;
        self.counts[kind as usize].fetch_add(1, Ordering::Relaxed);
        Some(kind)
    }

    async fn delay(&self) {
        if let Some(until) = self.delayed() {
            sleep_until(until).await;
        }
    }

    /// Whether calls are delayed now and then.
    fn delays(&self) -> bool {
        lock(&self.faults).delayed > 0.0
    }

    /// Until when a call is delayed that is made now.
    fn delayed(&self) -> Option<Instant> {
        self.draw(&[(Kind::Delayed, |faults| faults.delayed)])?;
        let delay = lock(&self.faults).delay_max;
        Some(Instant::now() + delay.mul_f64(lock(&self.rng).random()))
    }

    /// Leaves each with this chance.
    fn some_of<T>(&self, from: Vec<T>, often: f64) -> Vec<T> {
        let mut rng = lock(&self.rng);
        from.into_iter()
            .filter(|_| rng.random_bool(often))
            .collect()
    }
}

fn refused(reason: &str) -> LogError {
    LogError::Refused {
        reason: reason.into(),
    }
}

fn unknown() -> LogError {
    LogError::Unknown {
        reason: "the answer was lost on purpose".into(),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[async_trait]
impl<L: EventLog + ?Sized + 'static> EventLog for Faulty<L> {
    fn durability(&self) -> Durability {
        self.inner.durability()
    }

    fn trouble(&self) -> Option<String> {
        self.inner.trouble()
    }

    fn figures(&self) -> Option<String> {
        self.inner.figures()
    }

    async fn open(&self, layout: &Layout) -> Result<LogId, LogError> {
        self.read().await?;
        self.inner.open(layout).await
    }

    async fn append(&self, mut flush: Flush) -> Result<(), LogError> {
        let _turn = self.turn.lock().await;
        self.dice.delay().await;
        let fault = self.dice.draw(&[
            (Kind::Refused, |faults| faults.refused),
            (Kind::Lost, |faults| faults.lost),
            (Kind::Undone, |faults| faults.undone),
            (Kind::Partial, |faults| faults.partial),
            (Kind::Twice, |faults| faults.twice),
            (Kind::Dropped, |faults| faults.dropped),
        ]);
        match fault {
            None => self.inner.append(flush).await,
            Some(Kind::Lost) => {
                self.inner.append(flush).await?;
                Err(unknown())
            }
            Some(Kind::Partial) => {
                flush.records = self.dice.some_of(flush.records, 0.5);
                self.inner.append(flush).await?;
                Err(unknown())
            }
            Some(Kind::Twice) => {
                self.inner.append(flush.clone()).await?;
                if lock(&self.dice.rng).random() {
                    flush.records = self.dice.some_of(flush.records, 0.5);
                }
                // The first is there, whatever became of the second.
                let _ = self.inner.append(flush).await;
                Ok(())
            }
            Some(Kind::Dropped) => {
                flush.records = self.dice.some_of(flush.records, 0.5);
                self.inner.append(flush).await
            }
            Some(Kind::Undone) => Err(unknown()),
            Some(_) => Err(refused("refused on purpose")),
        }
    }

    async fn ends(&self, feed: &str) -> Result<Vec<(Partition, Ends)>, LogError> {
        self.read().await?;
        self.inner.ends(feed).await
    }

    async fn follow(
        &self,
        feed: &str,
        from: &[(Partition, Offset)],
    ) -> Result<Box<dyn Follower>, LogError> {
        self.read().await?;
        let mut follower = Restless {
            inner: self.inner.follow(feed, from).await?,
            log: Arc::clone(&self.inner),
            dice: Arc::clone(&self.dice),
            feed: feed.into(),
            from: from.to_vec(),
            until: None,
        };
        follower.may_be_gone().await?;
        Ok(Box::new(follower))
    }

    async fn share(&self, feed: &str) -> Result<Box<dyn Share>, LogError> {
        self.read().await?;
        self.inner.share(feed).await
    }

    async fn last_cuts(&self, feed: &str) -> Result<Vec<CutRecord>, LogError> {
        self.read().await?;
        self.inner.last_cuts(feed).await
    }

    fn release(&self, feed: &str, partition: Partition, offset: Offset) {
        self.inner.release(feed, partition, offset);
    }
}

/// A follower that breaks and loses its place.
struct Restless<L: ?Sized> {
    inner: Box<dyn Follower>,
    log: Arc<L>,
    dice: Arc<Dice>,
    feed: Arc<str>,
    from: Vec<(Partition, Offset)>,
    /// Until when the next entries are delayed, also when who waits for them gives up and asks again.
    until: Option<Instant>,
}

impl<L: EventLog + ?Sized> Restless<L> {
    async fn may_be_gone(&mut self) -> Result<(), LogError> {
        let gone: [(Kind, Often); 1] = [(Kind::OutOfRange, |faults| faults.out_of_range)];
        let place = self.from.choose(&mut *lock(&self.dice.rng)).copied();
        let Some((partition, asked)) = place else {
            return Ok(());
        };
        if self.dice.draw(&gone).is_none() {
            return Ok(());
        }
        let ends = self.log.ends(&self.feed).await?;
        let ends = ends.into_iter().find(|(found, _)| *found == partition);
        Err(LogError::OutOfRange {
            feed: Arc::clone(&self.feed),
            partition,
            asked,
            ends: ends.map_or(
                Ends {
                    low: asked,
                    high: asked,
                },
                |(_, ends)| ends,
            ),
        })
    }
}

#[async_trait]
impl<L: EventLog + ?Sized> Follower for Restless<L> {
    // Everything before the inner `next` may be cancelled without harm.
    async fn next(&mut self) -> Result<Vec<Entry>, LogError> {
        if self.until.is_none() || !self.dice.delays() {
            self.until = self.dice.delayed();
        }
        if let Some(until) = self.until {
            sleep_until(until).await;
        }
        if self
            .dice
            .draw(&[(Kind::Broken, |faults| faults.broken)])
            .is_some()
        {
            return Err(refused("the follower was broken on purpose"));
        }
        self.may_be_gone().await?;
        let entries = self.inner.next().await;
        self.until = None;
        entries
    }
}
