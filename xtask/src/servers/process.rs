//! Child processes: started so that they die with this process, signalled, and run to their end.
//!
//! A test run that is killed must not leave servers behind, so servers start through
//! `setpriv --pdeathsig KILL` (util-linux, which every machine with apt-get has): the kernel kills
//! them when their parent dies, whatever killed it. "Parent" is the *thread* that started the
//! child, and a test's thread ends long before a shared server may, so one thread that never ends
//! starts them all.

use std::ffi::OsStr;
use std::io::{self, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;

use anyhow::{Context as _, Result, anyhow, bail};

/// A [`Command`] that runs `program` and has the kernel kill it when [`spawn`]'s thread, that is
/// this process, dies. It is in a process group of its own, so Ctrl-C on the terminal goes to us
/// alone and we decide in which order things end.
pub fn command_bound_to_us(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("setpriv");
    command
        .args(["--pdeathsig", "KILL", "--"])
        .arg(program)
        .process_group(0);
    command
}

type Job = (Command, SyncSender<io::Result<Child>>);

/// Starts `command` on the thread that outlives all others. Use it for every
/// [`command_bound_to_us`].
pub fn spawn(command: Command) -> Result<Child> {
    static STARTER: OnceLock<SyncSender<Job>> = OnceLock::new();
    let program = command.get_program().to_string_lossy().into_owned();
    let starter = STARTER.get_or_init(|| {
        // One place: a caller waits for its answer anyway.
        let (jobs, queue) = sync_channel::<Job>(1);
        thread::spawn(move || {
            for (mut command, answer) in queue {
                // The caller waits for the answer, so it is there to take it.
                let _ = answer.send(command.spawn());
            }
        });
        jobs
    });
    let (answer, child) = sync_channel(1);
    let gone = || anyhow!("the thread that starts child processes is gone");
    starter.send((command, answer)).map_err(|_| gone())?;
    child
        .recv()
        .map_err(|_| gone())?
        .with_context(|| not_started(&program))
}

/// Runs `command` to its end and gives its standard output; a failure is an error with what it
/// wrote to standard error. `what` names the step for the reader of that error.
pub(crate) fn run(command: &mut Command, what: &str) -> Result<Vec<u8>> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| not_started(&program))?;
    succeeded(output, what)
}

/// [`run`] with `input` on standard input.
pub(super) fn run_with_input(command: &mut Command, input: &[u8], what: &str) -> Result<Vec<u8>> {
    let program = command.get_program().to_string_lossy().into_owned();
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().with_context(|| not_started(&program))?;
    let stdin = child.stdin.take();
    // Written beside the reading: a child that answers while it reads would block both of us.
    let output = thread::scope(|scope| {
        scope.spawn(move || {
            if let Some(mut stdin) = stdin {
                // A child that ended early says why in its own output.
                let _ = stdin.write_all(input);
            }
        });
        child.wait_with_output()
    });
    succeeded(
        output.with_context(|| format!("cannot read the output of {program}"))?,
        what,
    )
}

pub(super) fn succeeded(output: Output, what: &str) -> Result<Vec<u8>> {
    if !output.status.success() {
        // Maven says its errors on standard output, and resets the terminal's colour on both.
        let text = |stream: &[u8]| String::from_utf8_lossy(stream).replace("\u{1b}[0m", "");
        let said = Some(text(&output.stderr))
            .filter(|said| !said.trim().is_empty())
            .unwrap_or_else(|| text(&output.stdout));
        bail!(
            "{what} failed ({}): {}",
            output.status,
            tail(said.trim(), 20)
        );
    }
    Ok(output.stdout)
}

fn not_started(program: &str) -> String {
    let hint = match program {
        "setpriv" => " (it is part of util-linux)",
        _ => "",
    };
    format!("cannot start `{program}`{hint}")
}

/// The last `lines` lines of `text`.
pub(super) fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

/// The signals that a test sends to a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    Interrupt,
    Terminate,
    Stop,
    Continue,
    Hangup,
}

/// Whether a process ended itself by `abort`.
pub fn was_aborted(status: ExitStatus) -> bool {
    use std::os::unix::process::ExitStatusExt as _;
    status.signal() == Some(rustix::process::Signal::ABORT.as_raw())
}

/// Sends `signal` to a child that has not been waited for, so that its id is still its own.
pub fn signal(child: &Child, signal: Signal) -> Result<()> {
    use rustix::process::{Pid, Signal as Raw, kill_process};
    let raw = match signal {
        Signal::Interrupt => Raw::INT,
        Signal::Terminate => Raw::TERM,
        Signal::Stop => Raw::STOP,
        Signal::Continue => Raw::CONT,
        Signal::Hangup => Raw::HUP,
    };
    kill_process(Pid::from_child(child), raw)
        .with_context(|| format!("cannot send {signal:?} to process {}", child.id()))
}
