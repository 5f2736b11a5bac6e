//! Programs under test run as processes of their own: the binary starts itself again with a [`Job`].

use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use onair_xtask::servers::process;
use serde::{Deserialize, Serialize};

use super::meter::Run;
use crate::{decode, scan};

/// Until a program that does not end is given up.
const LIMIT: Duration = Duration::from_secs(900);
/// Between two looks whether it has ended.
const POLL: Duration = Duration::from_millis(5);

/// What a process under test does.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Job {
    Drain(decode::Drain),
    Scan(scan::Pass),
}

impl Job {
    /// Does it here, and says on standard output what it cost.
    pub fn run_here(&self) -> Result<()> {
        let run = match self {
            Job::Drain(drain) => drain.run(),
            Job::Scan(pass) => pass.run(),
        };
        println!("{}", serde_json::to_string(&run?)?);
        Ok(())
    }

    /// Has a process of its own do it.
    pub fn run(&self) -> Result<Run> {
        let mut command = process::command_bound_to_us(std::env::current_exe()?);
        command
            .args(["bench", "program", &serde_json::to_string(self)?])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let output = output(command).with_context(|| format!("in {self:?}"))?;
        serde_json::from_str(&output).with_context(|| format!("{self:?} said {output:?}"))
    }
}

fn output(command: Command) -> Result<String> {
    let mut child = process::spawn(command)?;
    wait(&mut child)?;
    let output = child.wait_with_output()?;
    if !output.status.success() {
        bail!(
            "it ended with {}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// What it says is less than a pipe holds, so it does not wait for us.
fn wait(child: &mut Child) -> Result<()> {
    let deadline = Instant::now() + LIMIT;
    while child.try_wait()?.is_none() {
        if Instant::now() > deadline {
            child.kill()?;
            child.wait()?;
            bail!("it did not end within {LIMIT:?}");
        }
        thread::sleep(POLL);
    }
    Ok(())
}
