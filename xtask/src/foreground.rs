//! Ctrl-C and SIGTERM: caught by us and handed on, so that what runs in the foreground drains
//! first and its servers end after it.

use std::process::{Command, ExitCode, ExitStatus};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};
use onair_xtask::servers::process::{self, Signal};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// From its making on, Ctrl-C and SIGTERM no longer end this process but are counted here.
#[derive(Debug)]
pub(crate) struct Interrupts(Signals);

/// How soon the end of a child, or a signal for it, is noticed.
const POLL: Duration = Duration::from_millis(20);

impl Interrupts {
    pub(crate) fn catch() -> Result<Self> {
        Signals::new([SIGINT, SIGTERM])
            .map(Self)
            .context("cannot catch Ctrl-C")
    }

    /// Until the next one.
    pub(crate) fn wait(&mut self) {
        let _ = self.0.forever().next();
    }

    /// Whether one has come since the last look.
    pub(crate) fn came(&mut self) -> bool {
        self.0.pending().count() > 0
    }

    /// Runs `command` to its end, with each Ctrl-C and SIGTERM handed on to it. It should be one of
    /// [`process::command_bound_to_us`]: in a group of its own, so that a Ctrl-C on the terminal
    /// reaches it once and not twice.
    pub(crate) fn run(&mut self, command: Command) -> Result<ExitStatus> {
        let mut child = process::spawn(command)?;
        loop {
            if let Some(status) = child.try_wait()? {
                return Ok(status);
            }
            for caught in self.0.pending() {
                let signal = if caught == SIGTERM {
                    Signal::Terminate
                } else {
                    Signal::Interrupt
                };
                process::signal(&child, signal)?;
            }
            thread::sleep(POLL);
        }
    }
}

/// A child's exit code as ours. One that a signal ended failed.
pub(crate) fn exit_code(status: ExitStatus) -> ExitCode {
    match status.code().map(u8::try_from) {
        Some(Ok(code)) => ExitCode::from(code),
        _ => ExitCode::FAILURE,
    }
}
