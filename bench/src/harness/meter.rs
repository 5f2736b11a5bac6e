//! What a stretch of a process costs: of this one, or of another.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use nix::sys::resource::{Usage, UsageWho, getrusage};
use nix::sys::time::TimeVal;
use nix::time::{clock_getcpuclockid, clock_gettime};
use nix::unistd::Pid;
use procfs::WithCurrentSystemInfo as _;
use procfs::process::{ClearRefs, Process};
use serde::{Deserialize, Serialize};

use super::allocations::allocated_bytes;
use super::latencies::Latencies;

/// One run of a program under test: what it did, and what that cost its process.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
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
    /// Held at the end beyond what was held at the beginning, where that was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// Allocated meanwhile, where that was counted, also what was given back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allocated_bytes: Option<u64>,
    /// What it counted, to be compared with what must be there.
    pub counts: BTreeMap<String, u64>,
    /// What was waited for, and how long.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub latencies: BTreeMap<String, Latencies>,
}

impl Run {
    /// CPU in all.
    pub fn cpu_seconds(&self) -> f64 {
        self.user_seconds + self.system_seconds
    }

    /// What several processes did as one piece of work: costs are added up.
    pub fn together(runs: impl IntoIterator<Item = Run>) -> Run {
        let runs = runs.into_iter();
        runs.fold(Run::default(), |mut sum, run| {
            sum.units = run.units;
            sum.user_seconds += run.user_seconds;
            sum.system_seconds += run.system_seconds;
            sum.wall_seconds = sum.wall_seconds.max(run.wall_seconds);
            sum.memory_peak_bytes += run.memory_peak_bytes;
            sum
        })
    }

    /// With more counted.
    pub fn with_counts(mut self, counts: &[(&str, u64)]) -> Self {
        let named = |(name, count): &(&str, u64)| ((*name).to_owned(), *count);
        self.counts.extend(counts.iter().map(named));
        self
    }

    /// With latencies of some kind.
    pub fn with_latencies(mut self, of: &str, latencies: Latencies) -> Self {
        self.latencies.insert(of.to_owned(), latencies);
        self
    }
}

/// Of this process. Runs from its making to [`Meter::stop`].
#[derive(Debug)]
pub struct Meter {
    begun: Instant,
    before: Usage,
    allocated_before: Option<u64>,
}

impl Meter {
    pub fn start() -> Result<Self> {
        Ok(Meter {
            allocated_before: allocated_bytes(),
            before: getrusage(UsageWho::RUSAGE_SELF)?,
            begun: Instant::now(),
        })
    }

    pub fn stop(self, units: u64, counts: &[(&str, u64)]) -> Result<Run> {
        let wall = self.begun.elapsed();
        let after = getrusage(UsageWho::RUSAGE_SELF)?;
        let allocated = allocated_bytes().zip(self.allocated_before);
        Ok(Run {
            allocated_bytes: allocated.map(|(after, before)| after - before),
            units,
            user_seconds: (time(after.user_time()) - time(self.before.user_time())).as_secs_f64(),
            system_seconds: (time(after.system_time()) - time(self.before.system_time()))
                .as_secs_f64(),
            wall_seconds: wall.as_secs_f64(),
            // Linux says kibibytes.
            memory_peak_bytes: after.max_rss().unsigned_abs() << 10,
            ..Run::default()
        }
        .with_counts(counts))
    }
}

fn time(value: TimeVal) -> Duration {
    let micros = value.tv_usec().unsigned_abs();
    Duration::from_secs(value.tv_sec().unsigned_abs()) + Duration::from_micros(micros)
}

/// Of another process, as the kernel has it: its CPU in all to the microsecond, what of it is the kernel's in steps of
/// 10 ms.
#[derive(Debug)]
pub struct Watch {
    pid: u32,
    begun: Instant,
    before: Moment,
}

#[derive(Clone, Copy, Debug)]
struct Moment {
    cpu: Duration,
    user_ticks: u64,
    system_ticks: u64,
    resident_bytes: u64,
    peak_bytes: u64,
}

impl Watch {
    /// The peak begins anew, too.
    pub fn start(pid: u32) -> Result<Self> {
        let process = process(pid)?;
        process
            .clear_refs(ClearRefs::PeakRSS)
            .with_context(|| format!("of the process {pid}"))?;
        Ok(Watch {
            pid,
            before: Moment::of(&process)?,
            begun: Instant::now(),
        })
    }

    /// Held when it began.
    pub fn resident_bytes(&self) -> u64 {
        self.before.resident_bytes
    }

    pub fn stop(self, units: u64, counts: &[(&str, u64)]) -> Result<Run> {
        let wall = self.begun.elapsed();
        let after = Moment::of(&process(self.pid)?)?;
        let held = after
            .resident_bytes
            .saturating_sub(self.before.resident_bytes);
        let (user_seconds, system_seconds) = after.since(&self.before).cpu_seconds();
        Ok(Run {
            units,
            user_seconds,
            system_seconds,
            wall_seconds: wall.as_secs_f64(),
            memory_peak_bytes: after.peak_bytes,
            memory_bytes: Some(held),
            ..Run::default()
        }
        .with_counts(counts))
    }
}

/// What another process has cost since it began, but for the time by the clock.
pub fn lived(pid: u32, units: u64) -> Result<Run> {
    let moment = Moment::of(&process(pid)?)?;
    let (user_seconds, system_seconds) = moment.cpu_seconds();
    Ok(Run {
        units,
        user_seconds,
        system_seconds,
        memory_peak_bytes: moment.peak_bytes,
        memory_bytes: Some(moment.resident_bytes),
        ..Run::default()
    })
}

/// How long a thread of another process has run so far.
pub fn thread_nanos(pid: u32, thread: i32) -> Result<u64> {
    let task = process(pid)?.task_from_tid(thread)?;
    Ok(task.schedstat()?.sum_exec_runtime)
}

/// What a process holds in memory now.
pub fn resident_bytes(pid: u32) -> Result<u64> {
    Ok(Moment::of(&process(pid)?)?.resident_bytes)
}

/// What of it is its own: not the pages of its program that it has read.
pub fn anonymous_bytes(pid: u32) -> Result<u64> {
    let status = process(pid)?.status()?;
    let kibibytes = status.rssanon.context("the kernel does not say RssAnon")?;
    Ok(kibibytes << 10)
}

fn process(pid: u32) -> Result<Process> {
    Process::new(i32::try_from(pid)?).with_context(|| format!("the process {pid}"))
}

impl Moment {
    /// As if the process had begun then, as far as CPU is concerned.
    fn since(self, before: &Moment) -> Moment {
        Moment {
            cpu: self.cpu.saturating_sub(before.cpu),
            user_ticks: self.user_ticks - before.user_ticks,
            system_ticks: self.system_ticks - before.system_ticks,
            ..self
        }
    }

    /// User's and system's.
    fn cpu_seconds(&self) -> (f64, f64) {
        let ticks = (self.user_ticks + self.system_ticks).max(1) as f64;
        let (cpu, user) = (self.cpu.as_secs_f64(), self.user_ticks as f64 / ticks);
        (cpu * user, cpu * (1.0 - user))
    }

    fn of(process: &Process) -> Result<Self> {
        let stat = process.stat()?;
        let status = process.status()?;
        let clock = clock_getcpuclockid(Pid::from_raw(process.pid))?;
        Ok(Moment {
            cpu: clock_gettime(clock)?.into(),
            user_ticks: stat.utime,
            system_ticks: stat.stime,
            resident_bytes: stat.rss_bytes().get(),
            // The kernel's kibibytes.
            peak_bytes: status.vmhwm.unwrap_or_default() << 10,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_process_is_watched_as_this_one_is_metered() {
        let watch = Watch::start(std::process::id()).expect("this process is there");
        let meter = Meter::start().expect("this process is there");
        let held: Vec<u64> = (0..4_000_000).collect();
        let mut sum = 0_u64;
        while meter.begun.elapsed() < Duration::from_millis(300) {
            sum = held.iter().fold(sum, |sum, n| sum.wrapping_add(*n));
        }
        let metered = meter.stop(1, &[("n", 1)]).expect("it can be measured");
        let watched = watch.stop(1, &[("n", 1)]).expect("it can be measured");
        let apart = (metered.cpu_seconds() - watched.cpu_seconds()).abs();
        assert!(apart <= 0.031, "{metered:?} {watched:?}, sum {sum}");
        let bytes = watched.memory_bytes.expect("it is measured");
        assert!(bytes > 30_000_000, "{bytes} of {} are held", held.len() * 8);
        assert_eq!(watched.counts, metered.counts);
    }
}
