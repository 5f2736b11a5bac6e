//! What a stretch of this process costs.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::Result;
use nix::sys::resource::{Usage, UsageWho, getrusage};
use nix::sys::time::TimeVal;
use serde::{Deserialize, Serialize};

/// One run of a program under test: what it did, and what that cost its process.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Run {
    /// Units of work done.
    pub units: u64,
    /// CPU in user mode.
    pub user_seconds: f64,
    /// CPU in the kernel on its behalf.
    pub system_seconds: f64,
    /// By the clock.
    pub wall_seconds: f64,
    /// The most memory that the process ever held.
    pub memory_peak_bytes: u64,
    /// What it counted, to be compared with what must be there.
    pub counts: BTreeMap<String, u64>,
}

impl Run {
    /// CPU in all.
    pub fn cpu_seconds(&self) -> f64 {
        self.user_seconds + self.system_seconds
    }
}

/// Runs from its making to [`Meter::stop`].
#[derive(Debug)]
pub struct Meter {
    begun: Instant,
    before: Usage,
}

impl Meter {
    pub fn start() -> Result<Self> {
        Ok(Meter {
            before: getrusage(UsageWho::RUSAGE_SELF)?,
            begun: Instant::now(),
        })
    }

    pub fn stop(self, units: u64, counts: &[(&str, u64)]) -> Result<Run> {
        let wall = self.begun.elapsed();
        let after = getrusage(UsageWho::RUSAGE_SELF)?;
        let named = |(name, count): &(&str, u64)| ((*name).to_owned(), *count);
        Ok(Run {
            units,
            user_seconds: (time(after.user_time()) - time(self.before.user_time())).as_secs_f64(),
            system_seconds: (time(after.system_time()) - time(self.before.system_time()))
                .as_secs_f64(),
            wall_seconds: wall.as_secs_f64(),
            // Linux says kibibytes.
            memory_peak_bytes: after.max_rss().unsigned_abs() << 10,
            counts: counts.iter().map(named).collect(),
        })
    }
}

fn time(value: TimeVal) -> Duration {
    let micros = value.tv_usec().unsigned_abs();
    Duration::from_secs(value.tv_sec().unsigned_abs()) + Duration::from_micros(micros)
}
