//! One direction of one connection: reads, and does with the bytes what is to be done with them now.

use std::collections::VecDeque;
use std::io;
use std::num::NonZeroUsize;

use rand::RngExt as _;
use rand::rngs::StdRng;
use tokio::io::AsyncWriteExt as _;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::{Carry, Counts, Shared, Way, WayCounts};

/// Bytes of one read.
const READ_MAX: usize = 64 * 1024;

/// Bytes that are held to be late; then nothing more is read, as on a way that is full.
const HELD_MAX: usize = 256 * 1024;

/// What a held piece costs beside its bytes.
const PIECE_COST: usize = 64;

/// The connection ends with a reset on both sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Torn;

pub(super) struct Pump<'a> {
    pub(super) from: ReadHalf<'a>,
    pub(super) to: WriteHalf<'a>,
    pub(super) way: Way,
    pub(super) carry: watch::Receiver<Carry>,
    pub(super) rng: StdRng,
    pub(super) shared: &'a Shared,
}

/// Pieces that are not due yet, in order.
#[derive(Default)]
struct Line {
    pieces: VecDeque<(Instant, Vec<u8>)>,
    cost: usize,
}

impl Line {
    fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    fn has_room(&self) -> bool {
        self.cost < HELD_MAX
    }

    /// None is due before those in front of it.
    fn push(&mut self, due: Instant, bytes: &[u8]) {
        let last = self.pieces.back().map_or(due, |(last, _)| *last);
        self.cost += bytes.len() + PIECE_COST;
        self.pieces.push_back((due.max(last), bytes.to_vec()));
    }

    fn next_due(&self) -> Option<Instant> {
        self.pieces.front().map(|(due, _)| *due)
    }

    fn pop(&mut self) -> Option<Vec<u8>> {
        let (_, bytes) = self.pieces.pop_front()?;
        self.cost -= bytes.len() + PIECE_COST;
        Some(bytes)
    }
}

impl Pump<'_> {
    /// `Ok`: the sender has ended, and the other side knows it unless that has vanished too.
    pub(super) async fn run(mut self) -> Result<(), Torn> {
        let mut buffer = vec![0; READ_MAX];
        let mut line = Line::default();
        let mut is_over = false;
        let mut is_stalled = false;
        loop {
            let carry = *self.carry.borrow_and_update();
            is_stalled &= carry == Carry::Stall;
            if carry == Carry::Vanish && !line.is_empty() {
                let lost = line.pieces.iter().map(|(_, bytes)| bytes.len()).sum();
                return self.hole(&mut buffer, lost, is_over).await;
            }
            if is_over && line.is_empty() && carry != Carry::Stall {
                return self.to.shutdown().await.map_err(|_| Torn);
            }
            let due = line.next_due();
            let is_read = !is_over && !is_stalled && line.has_room();
            tokio::select! {
                biased;
                changed = self.carry.changed() => changed.map_err(|_| Torn)?,
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() && carry != Carry::Stall => {
                    if let Some(bytes) = line.pop() {
                        self.write(&bytes).await?;
                    }
                }
                ready = self.from.readable(), if is_read => {
                    ready.map_err(|_| Torn)?;
                    if carry == Carry::Stall {
                        is_stalled = true;
                        self.count(|way| way.stalled += 1);
                        continue;
                    }
                    let read = self.from.try_read(&mut buffer);
                    // Again, because what was sent after a change must not pass as before it.
                    let carry = *self.carry.borrow();
                    match read {
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                        Ok(0) | Err(_) if carry == Carry::Vanish => {
                            return self.hole(&mut buffer, 0, true).await;
                        }
                        Err(_) => return Err(Torn),
                        Ok(0) => is_over = true,
                        Ok(len) if carry == Carry::Vanish => {
                            return self.hole(&mut buffer, len, false).await;
                        }
                        Ok(len) => self.take(carry, &buffer[..len], &mut line).await?,
                    }
                }
            }
        }
    }

    async fn take(&mut self, carry: Carry, bytes: &[u8], line: &mut Line) -> Result<(), Torn> {
        let now = Instant::now();
        match carry {
            Carry::Pass if line.is_empty() => self.write(bytes).await,
            Carry::Slice { most } if line.is_empty() => self.slice(bytes, most).await,
            Carry::Delay { least, jitter } => {
                let more = self.rng.random_range(0.0..=1.0);
                line.push(now + least + jitter.mul_f64(more), bytes);
                self.count(|way| way.delayed += 1);
                Ok(())
            }
            // Behind what is not due yet; or read in the moment in which the stall began.
            Carry::Pass | Carry::Slice { .. } | Carry::Stall => {
                line.push(now, bytes);
                Ok(())
            }
            Carry::Reset => {
                self.count(|way| way.reset += 1);
                Err(Torn)
            }
            Carry::Vanish => unreachable!("it is a hole before it is taken"),
        }
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), Torn> {
        self.to.write_all(bytes).await.map_err(|_| Torn)?;
        self.count(|way| way.bytes += bytes.len() as u64);
        Ok(())
    }

    async fn slice(&mut self, mut bytes: &[u8], most: NonZeroUsize) -> Result<(), Torn> {
        while !bytes.is_empty() {
            let len = self.rng.random_range(1..=most.get().min(bytes.len()));
            let (slice, rest) = bytes.split_at(len);
            self.write(slice).await?;
            self.count(|way| way.slices += 1);
            bytes = rest;
            // So that whoever reads may see the slice by itself.
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    /// Everything from now on is lost, whatever is set later. The other side hears neither of the bytes nor of their end.
    async fn hole(self, buffer: &mut [u8], lost: usize, mut is_over: bool) -> Result<(), Torn> {
        self.count(|way| way.vanished += lost as u64);
        while !is_over {
            let read = self.from.readable().await;
            match read.and_then(|()| self.from.try_read(buffer)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Ok(0) | Err(_) => is_over = true,
                Ok(len) => self.count(|way| way.vanished += len as u64),
            }
        }
        self.count(|way| way.vanished_ends += 1);
        Ok(())
    }

    fn count(&self, note: impl FnOnce(&mut WayCounts)) {
        self.shared
            .count(|counts: &mut Counts| note(counts.way(self.way)));
    }
}
