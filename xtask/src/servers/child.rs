//! One server process: started and waited for until it answers, signalled, stopped, killed.

use std::process::Child;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use super::process::{self, Signal};

/// From the start of the process to its first answer. Recovery after a kill is in it.
const START_LIMIT: Duration = Duration::from_secs(120);
/// From the signal to the end; MySQL was seen to take 12 s after a binlog client had left.
const STOP_LIMIT: Duration = Duration::from_secs(40);
/// Between two looks at something that only time can change.
const POLL: Duration = Duration::from_millis(10);

/// A process, or none at the moment. Killed when dropped.
#[derive(Debug)]
pub(super) struct Held {
    /// The server's name, for errors.
    name: &'static str,
    child: Mutex<Option<Child>>,
}

impl Held {
    pub(super) fn none(name: &'static str) -> Self {
        let child = Mutex::new(None);
        Self { name, child }
    }

    /// Starts the process and waits until it answers; `log` is read when it does not.
    pub(super) fn start(
        &self,
        spawn: impl FnOnce() -> Result<Child>,
        answers: impl Fn() -> bool,
        log: impl FnOnce() -> Result<String>,
    ) -> Result<()> {
        let mut child = self.child();
        let mut running = spawn()?;
        let deadline = Instant::now() + START_LIMIT;
        while !answers() {
            let why = match running.try_wait()? {
                Some(status) => format!("it ended ({status})"),
                None if Instant::now() > deadline => format!("not ready after {START_LIMIT:?}"),
                None => {
                    thread::sleep(POLL);
                    continue;
                }
            };
            kill(&mut Some(running))?;
            let log = log().unwrap_or_default();
            let log = process::tail(&log, 20);
            bail!("{} did not start: {why}. Its log:\n{log}", self.name);
        }
        *child = Some(running);
        Ok(())
    }

    pub(super) fn kill(&self) -> Result<()> {
        kill(&mut self.child())
    }

    pub(super) fn stop(&self) -> Result<()> {
        let mut child = self.child();
        let Some(running) = child.as_mut() else {
            return Ok(());
        };
        process::signal(running, Signal::Terminate)?;
        // A frozen one would never see it.
        process::signal(running, Signal::Continue)?;
        let deadline = Instant::now() + STOP_LIMIT;
        while running.try_wait()?.is_none() {
            if Instant::now() > deadline {
                kill(&mut child)?;
                bail!(
                    "{} did not stop within {STOP_LIMIT:?} and was killed",
                    self.name
                );
            }
            thread::sleep(POLL);
        }
        *child = None;
        Ok(())
    }

    pub(super) fn signal(&self, signal: Signal) -> Result<()> {
        match self.child().as_ref() {
            Some(child) => process::signal(child, signal),
            None => bail!("{} does not run", self.name),
        }
    }

    pub(super) fn process_id(&self) -> Option<u32> {
        Some(self.child().as_ref()?.id())
    }

    fn child(&self) -> MutexGuard<'_, Option<Child>> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // A test that failed has more to say than what goes wrong here.
        let _ = self.kill();
    }
}

fn kill(child: &mut Option<Child>) -> Result<()> {
    if let Some(running) = child {
        running.kill().context("cannot kill the server")?;
        running
            .wait()
            .context("cannot wait for the server that was killed")?;
        *child = None;
    }
    Ok(())
}
