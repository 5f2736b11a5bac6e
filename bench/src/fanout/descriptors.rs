//! Open files: a subscriber is one in its own process and one in the server's.

use anyhow::{Result, ensure};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Of a process beside its subscribers.
const OTHERS: u64 = 200;

/// Lets this process, and what it starts, have so many subscribers.
pub(super) fn allow(subscribers: usize) -> Result<()> {
    let needed = subscribers as u64 + OTHERS;
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    ensure!(
        needed <= hard,
        "{subscribers} subscribers need {needed} open files and the limit is {hard}: raise it (ulimit -Hn {needed}), or ask for fewer with --subscribers"
    );
    if soft < needed {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    }
    Ok(())
}
