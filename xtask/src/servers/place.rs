//! Where things are: the environment variables that are read (here and nowhere else), the cache
//! folder, locks between processes, and the folder and port of each running server.

use std::fs::{self, File, TryLockError};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Once;
use std::sync::atomic::{AtomicU16, Ordering};

use anyhow::{Context as _, Result, bail};

use super::Flavor;

#[expect(
    clippy::disallowed_methods,
    reason = "these tasks have no configuration file: this is the one place that reads the environment"
)]
pub(super) fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// The address of a server that the user wants the tests to use, from `ONAIR_TEST_MYSQL` and its
/// like (see [`Flavor::variable`]).
pub(super) fn given_address(flavor: Flavor) -> Option<String> {
    environment(flavor.variable())
}

/// Whether this run does without it, by `ONAIR_TEST_WITHOUT` (names, comma separated).
pub(super) fn is_left_out(name: &str) -> bool {
    environment(WITHOUT).is_some_and(|names| names.split(',').any(|one| one.trim() == name))
}

/// The variable that names the servers that a test run does without; `cargo xtask test
/// --allow-missing` sets it.
pub const WITHOUT: &str = "ONAIR_TEST_WITHOUT";

/// `$XDG_CACHE_HOME/onair`, else `$HOME/.cache/onair`. Made if it is not there.
pub fn cache_dir() -> Result<PathBuf> {
    let base = match (environment("XDG_CACHE_HOME"), environment("HOME")) {
        (Some(cache), _) => PathBuf::from(cache),
        (None, Some(home)) => Path::new(&home).join(".cache"),
        (None, None) => bail!(
            "no folder for fetched servers: neither XDG_CACHE_HOME nor HOME is set; \
             set XDG_CACHE_HOME to a folder with about 2 GB of room"
        ),
    };
    let dir = std::path::absolute(base)?.join("onair");
    fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    Ok(dir)
}

/// Waits for the lock file `path` and holds it until the result is dropped or the process ends,
/// however it ends.
pub(super) fn lock(path: &Path) -> Result<File> {
    let file = lock_file(path)?;
    if let Err(TryLockError::WouldBlock) = file.try_lock() {
        eprintln!(
            "xtask: waiting for another process that holds {}",
            path.display()
        );
    }
    file.lock()
        .with_context(|| format!("cannot lock {}", path.display()))?;
    Ok(file)
}

fn lock_file(path: &Path) -> Result<File> {
    File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .with_context(|| format!("cannot open the lock file {}", path.display()))
}

/// The folder and the loopback port of one server, ours alone while this lives, also while the
/// server is down between a kill and a restart.
#[derive(Debug)]
pub(super) struct Berth {
    pub(super) dir: PathBuf,
    pub(super) port: u16,
    _lock: File,
}

/// Below the range from which systems give ports to outgoing connections, so that none of those
/// takes the port of a server that is down for a moment.
const PORTS: std::ops::Range<u16> = 13_300..15_300;

impl Berth {
    /// A free one. Within one process no port is given twice (until they run out), so that a
    /// client of an earlier server that still tries to reconnect does not reach a later one.
    pub(super) fn take() -> Result<Self> {
        static NEXT: AtomicU16 = AtomicU16::new(0);
        static SWEEP: Once = Once::new();
        let runs = cache_dir()?.join("run");
        SWEEP.call_once(|| sweep(&runs));
        for _ in PORTS {
            let offset = NEXT.fetch_add(1, Ordering::Relaxed) % (PORTS.end - PORTS.start);
            if let Some(berth) = Self::try_port(&runs, PORTS.start + offset)? {
                return Ok(berth);
            }
        }
        bail!(
            "no free port on 127.0.0.1 between {} and {}",
            PORTS.start,
            PORTS.end
        )
    }

    /// The one with this port.
    pub(super) fn take_port(port: u16) -> Result<Self> {
        Self::try_port(&cache_dir()?.join("run"), port)?.with_context(|| {
            format!("port {port} on 127.0.0.1 is in use; give another one, or none")
        })
    }

    fn try_port(runs: &Path, port: u16) -> Result<Option<Self>> {
        let dir = runs.join(port.to_string());
        fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        let lock = lock_file(&dir.join(LOCK))?;
        if lock.try_lock().is_err() || TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_err() {
            return Ok(None);
        }
        let berth = Self {
            dir,
            port,
            _lock: lock,
        };
        berth.clear();
        Ok(Some(berth))
    }

    /// Removes all that a server left. What cannot be removed is in nobody's way.
    pub(super) fn clear(&self) {
        clear(&self.dir);
    }
}

const LOCK: &str = "lock";

/// Removes what servers of killed processes left behind: a data directory is 150 MB.
fn sweep(runs: &Path) {
    let Ok(entries) = fs::read_dir(runs) else {
        return;
    };
    for dir in entries.flatten().map(|entry| entry.path()) {
        if let Ok(lock) = lock_file(&dir.join(LOCK))
            && lock.try_lock().is_ok()
        {
            clear(&dir);
        }
    }
}

fn clear(dir: &Path) {
    let Ok(entries) = fs::read_dir(dir) else {
        return;
    };
    for entry in entries.flatten().filter(|entry| entry.file_name() != LOCK) {
        let path = entry.path();
        let _ = if path.is_dir() {
            fs::remove_dir_all(&path)
        } else {
            fs::remove_file(&path)
        };
    }
}

/// Copies a folder with all in it; `keep` says which names at its top are copied.
pub(super) fn copy_dir(from: &Path, to: &Path, keep: &dyn Fn(&str) -> bool) -> Result<()> {
    fs::create_dir_all(to).with_context(|| format!("cannot make {}", to.display()))?;
    for entry in fs::read_dir(from).with_context(|| format!("cannot read {}", from.display()))? {
        let entry = entry?;
        let name = entry.file_name();
        if !keep(&name.to_string_lossy()) {
            continue;
        }
        let (source, target) = (entry.path(), to.join(&name));
        let kind = entry.file_type()?;
        if kind.is_dir() {
            copy_dir(&source, &target, &|_| true)?;
        } else if kind.is_file() {
            fs::copy(&source, &target).with_context(|| {
                format!("cannot copy {} to {}", source.display(), target.display())
            })?;
        }
    }
    Ok(())
}

pub(crate) fn remove_dir(dir: &Path) -> Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", dir.display()))
        }
        _ => Ok(()),
    }
}
