//! Programs under test run as processes of their own: the binary starts itself again with a [`Job`], and what is
//! written in other languages is started the same way.
//!
//! A job that measures itself prints one [`Run`]. One that goes on until it is no longer wanted is [`Served`]: it says
//! when it is ready, then answers each line that it gets with one line.

use std::hint::black_box;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use onair_xtask::servers::process;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::meter::{Meter, Run, Watch};
use crate::{decode, fanout, fold, growth, scan, sdk};
#[cfg(feature = "engines")]
use crate::{engines, headline};

/// Until a program that says nothing is given up.
const LIMIT: Duration = Duration::from_secs(900);
/// What is kept of what a program says about itself.
const LOG_LINES: usize = 40;

/// What a process under test does.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Job {
    Drain(decode::Drain),
    Read(growth::Reading),
    Assemble(growth::Assembling),
    Fold(fold::Work),
    Scan(scan::Pass),
    Fanout(fanout::Part),
    #[cfg(feature = "engines")]
    ThroughKafka(engines::ThroughKafka),
    #[cfg(feature = "engines")]
    Clients(headline::Clients),
    #[cfg(feature = "engines")]
    Poller(headline::Poller),
    Sdk(sdk::Work),
    /// Touches so many bytes of memory, and gives them back.
    Touch(usize),
    #[cfg(all(feature = "engines", feature = "peers"))]
    NaiveService(headline::Service),
    #[cfg(all(feature = "engines", feature = "peers"))]
    NaiveWatchers(headline::Watchers),
}

/// On which processors things run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placed {
    Anywhere,
    /// The process under test on the first one, everything else on the others.
    Apart,
}

/// The processor of the process under test.
const UNDER_TEST: usize = 0;

impl Placed {
    /// Puts this process, and what it starts, where everything else runs.
    pub fn begin(self) -> Result<()> {
        if self == Placed::Apart {
            let mut others = CpuSet::new();
            let count = thread::available_parallelism()?.get();
            if count < 2 {
                bail!("there is one processor: nothing can be placed apart");
            }
            for processor in (0..count).filter(|at| *at != UNDER_TEST) {
                others.set(processor)?;
            }
            sched_setaffinity(Pid::from_raw(0), &others)?;
        }
        Ok(())
    }

    /// The same command, bound to this process and where it belongs.
    pub(crate) fn under_test(self, command: &Command) -> Command {
        let mut placed = match self {
            Placed::Anywhere => process::command_bound_to_us(command.get_program()),
            Placed::Apart => {
                let mut placed = process::command_bound_to_us("taskset");
                placed
                    .args(["-c", &UNDER_TEST.to_string()])
                    .arg(command.get_program());
                placed
            }
        };
        placed.args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => placed.env(name, value),
                None => placed.env_remove(name),
            };
        }
        placed
    }
}

fn touch(bytes: usize) -> Result<Run> {
    let meter = Meter::start()?;
    black_box(vec![1_u8; bytes]);
    meter.stop(bytes as u64, &[])
}

impl Job {
    /// Does it here, and says on standard output what it cost.
    pub fn run_here(&self) -> Result<()> {
        let run = match self {
            Job::Drain(drain) => drain.run(),
            Job::Read(reading) => reading.run(),
            Job::Assemble(assembling) => assembling.run(),
            Job::Fold(work) => work.run(),
            Job::Scan(pass) => pass.run(),
            // It goes on, and says other things.
            Job::Fanout(part) => return part.serve(),
            #[cfg(feature = "engines")]
            Job::ThroughKafka(through) => through.run(),
            #[cfg(feature = "engines")]
            Job::Clients(clients) => return clients.run(),
            #[cfg(feature = "engines")]
            Job::Poller(poller) => return poller.run(),
            Job::Sdk(work) => work.run(),
            Job::Touch(bytes) => touch(*bytes),
            #[cfg(all(feature = "engines", feature = "peers"))]
            Job::NaiveService(service) => return service.run(),
            #[cfg(all(feature = "engines", feature = "peers"))]
            Job::NaiveWatchers(watchers) => return watchers.run(),
        };
        say(&run?)
    }

    /// The command that does it.
    pub fn command(&self) -> Result<Command> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["bench", "program", &serde_json::to_string(self)?]);
        Ok(command)
    }

    /// Has a process of its own do it.
    pub fn run(&self, placed: Placed) -> Result<Run> {
        run(&self.command()?, placed).with_context(|| format!("in {self:?}"))
    }
}

/// A line on standard output, for whoever started this.
pub fn say(what: &impl Serialize) -> Result<()> {
    let mut out = std::io::stdout().lock();
    serde_json::to_writer(&mut out, what)?;
    out.write_all(b"\n")?;
    Ok(out.flush()?)
}

/// Runs a program that measures itself.
pub fn run(command: &Command, placed: Placed) -> Result<Run> {
    let mut served = Served::start(command, placed)?;
    let run = served.hear()?;
    served.end()?;
    Ok(run)
}

/// A program that goes on.
#[derive(Debug)]
pub struct Served {
    child: Child,
    /// Closed, it ends.
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
    log: Arc<Mutex<Vec<String>>>,
}

#[derive(Deserialize)]
struct Ready<T> {
    ready: T,
}

impl Served {
    pub fn start(command: &Command, placed: Placed) -> Result<Self> {
        let mut command = placed.under_test(command);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = process::spawn(command)?;
        let stdin = child.stdin.take();
        let out = child.stdout.take().context("it has no output")?;
        let err = child.stderr.take().context("it has no output")?;
        let (heard, lines) = sync_channel(16);
        thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                if heard.send(line).is_err() {
                    return;
                }
            }
        });
        let log = Arc::new(Mutex::new(Vec::new()));
        let written = Arc::clone(&log);
        thread::spawn(move || {
            for line in BufReader::new(err).lines().map_while(Result::ok) {
                let mut log = written.lock().unwrap_or_else(PoisonError::into_inner);
                if log.len() == LOG_LINES {
                    log.remove(0);
                }
                log.push(line);
            }
        });
        Ok(Served {
            child,
            stdin,
            lines,
            log,
        })
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Begins to measure it.
    pub fn watch(&self) -> Result<Watch> {
        Watch::start(self.pid())
    }

    /// The next line that it says, once it says it.
    pub fn hear<T: DeserializeOwned>(&mut self) -> Result<T> {
        match self.lines.recv_timeout(LIMIT) {
            Ok(line) => serde_json::from_str(&line).with_context(|| format!("it said {line:?}")),
            Err(RecvTimeoutError::Timeout) => bail!("it said nothing within {LIMIT:?}"),
            Err(RecvTimeoutError::Disconnected) => {
                let status = self.child.wait()?;
                bail!("it ended with {status}: {}", self.log_tail())
            }
        }
    }

    /// What it says when it is ready.
    pub fn ready<T: DeserializeOwned>(&mut self) -> Result<T> {
        Ok(self.hear::<Ready<T>>()?.ready)
    }

    /// Tells it something.
    pub fn tell(&mut self, what: &Value) -> Result<()> {
        let stdin = self.stdin.as_mut().context("it was told to end")?;
        writeln!(stdin, "{what}").with_context(|| "it no longer listens")?;
        Ok(stdin.flush()?)
    }

    /// Tells it something, and hears its answer.
    pub fn ask<T: DeserializeOwned>(&mut self, what: &Value) -> Result<T> {
        self.tell(what)?;
        self.hear()
    }

    /// Has it end, and expects that it does so well.
    pub fn end(mut self) -> Result<()> {
        self.stdin = None;
        match self.lines.recv_timeout(LIMIT) {
            Ok(line) => bail!("it said {line:?} at its end"),
            Err(RecvTimeoutError::Timeout) => bail!("it did not end within {LIMIT:?}"),
            Err(RecvTimeoutError::Disconnected) => {}
        }
        let status = self.child.wait()?;
        if status.success() {
            return Ok(());
        }
        Err(anyhow!("it ended with {status}: {}", self.log_tail()))
    }

    fn log_tail(&self) -> String {
        let log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        log.join("\n")
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // It is gone already, or it ends now.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
