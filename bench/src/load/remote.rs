//! A watcher in a process of its own. It notes what it sees, and when by the clock that all processes share.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Expected, Load, Sightings, Watcher};
use crate::harness::child::Served;

/// Between two looks whether it has seen all.
const LOOK: Duration = Duration::from_millis(200);

/// What it has seen since it was asked last: numbers of transactions, and nanoseconds of `CLOCK_MONOTONIC`.
#[derive(Debug, Serialize, Deserialize)]
pub struct Seen {
    pub seen: Vec<(u64, u64)>,
}

/// What a process of ours that watches is told.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// Say when you see what is there.
    Load(Expected),
    /// Say what you have seen.
    End {},
}

/// Nanoseconds of the clock that all processes share.
pub fn nanos() -> Result<u64> {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC)?;
    Ok(u64::try_from(Duration::from(now).as_nanos())?)
}

/// The process. Told `{"end":{}}` it says what it has seen.
#[derive(Debug)]
pub struct Remote {
    served: Served,
    /// Whether it must be told what is there before a run, and says when it sees it.
    is_told: bool,
}

impl Remote {
    /// One of ours.
    pub fn new(served: Served) -> Self {
        Remote {
            served,
            is_told: true,
        }
    }

    /// One that sees changes only, not what is there.
    pub fn of_changes(served: Served) -> Self {
        Remote {
            served,
            is_told: false,
        }
    }

    pub fn served(&self) -> &Served {
        &self.served
    }

    fn seen(&mut self) -> Result<Vec<(u64, u64)>> {
        Ok(self.served.ask::<Seen>(&json!({ "end": {} }))?.seen)
    }
}

impl Watcher for Remote {
    fn get_ready(&mut self, load: &Load) -> Result<()> {
        if self.is_told {
            self.served.tell(&json!({ "load": load.expected() }))?;
            self.served.ready::<serde_json::Value>()?;
        }
        // What it saw before is of no run.
        self.seen().map(drop)
    }

    fn watch(&mut self, sightings: &mut Sightings) -> Result<()> {
        let (now, clock) = (Instant::now(), nanos()?);
        let schedule = sightings.schedule();
        let last = schedule.start + schedule.offset(schedule.count);
        thread::sleep(last.saturating_duration_since(now));
        loop {
            for (number, at) in self.seen()? {
                let at = if at >= clock {
                    now + Duration::from_nanos(at - clock)
                } else {
                    now - Duration::from_nanos(clock - at)
                };
                sightings.see(number, at)?;
            }
            if sightings.is_complete() {
                return Ok(());
            }
            ensure!(Instant::now() < sightings.deadline(), sightings.lost());
            thread::sleep(LOOK);
        }
    }
}
