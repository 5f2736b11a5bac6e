//! OnAir as its users run it: a process of its own, started, told to stop, killed, and started again on the same data
//! and address.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use onair_sdk::Version;
use onair_xtask::servers::process::{self, Signal};

use crate::harness::{Placed, Run, Watch, meter};

/// Until a start that says nothing is given up.
const START_LIMIT: Duration = Duration::from_secs(60);
/// Until a process that should end is given up.
const END_LIMIT: Duration = Duration::from_secs(20);

/// Which build.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Build {
    /// As users have it.
    Plain,
    /// With failpoints.
    Plant,
    /// With the engines, and failpoints.
    Engines,
}

impl Build {
    const fn features(self) -> &'static str {
        match self {
            Build::Plain => "",
            Build::Plant => "plant",
            Build::Engines => "bench,engines,scylla-tls,plant",
        }
    }
}

/// The built binary, built now if it is not there or not new. It comes to lie beside the test's own.
pub fn binary(build: Build) -> Result<PathBuf> {
    static PLAIN: OnceLock<PathBuf> = OnceLock::new();
    static PLANT: OnceLock<PathBuf> = OnceLock::new();
    static ENGINES: OnceLock<PathBuf> = OnceLock::new();
    static BUILDING: Mutex<()> = Mutex::new(());
    // A bug planted for the tests is planted in what they test.
    let build = match std::env::var_os("ONAIR_PLANT") {
        Some(_) if build == Build::Plain => Build::Plant,
        _ => build,
    };
    let (cell, name) = match build {
        Build::Plain => (&PLAIN, "onair"),
        Build::Plant => (&PLANT, "onair-plant"),
        Build::Engines => (&ENGINES, "onair-engines"),
    };
    let _one_at_a_time = BUILDING.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(path) = cell.get() {
        return Ok(path.clone());
    }
    let here = std::env::current_exe()?;
    // <target>/<profile>/deps/<test>
    let profile = here
        .ancestors()
        .nth(2)
        .context("the test runs from an unusual place")?;
    let target = profile
        .parent()
        .context("the test runs from an unusual place")?;
    let mut command = onair_xtask::cargo::command();
    command
        .args(["build", "--quiet", "--package", "onair", "--bin", "onair"])
        .arg("--target-dir")
        .arg(target)
        .current_dir(env!("CARGO_MANIFEST_DIR"));
    command.args(["--features", build.features()]);
    if profile.ends_with("release") {
        command.arg("--release");
    }
    if !command.status().context("cannot start cargo")?.success() {
        bail!("building onair failed");
    }
    // Both builds are called onair: the next one replaces this one.
    let dir = profile.join("tested");
    fs::create_dir_all(&dir)?;
    let path = dir.join(name);
    let fresh = dir.join(format!("{name}.{}", std::process::id()));
    fs::copy(profile.join("onair"), &fresh)?;
    fs::rename(&fresh, &path)?;
    Ok(cell.get_or_init(|| path).clone())
}

/// One `onair up`, or a role of its own, through all its lives.
#[derive(Debug)]
pub struct OnAir {
    binary: PathBuf,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    /// Names its log in `dir`.
    name: String,
    dir: PathBuf,
    address: String,
    child: Option<Child>,
    placed: Placed,
    /// Starts so far.
    pub starts: usize,
}

impl OnAir {
    /// Not started yet. `dir` gets its data and its log.
    pub fn new(build: Build, url: &str, dir: &Path) -> Result<Self> {
        Self::of(binary(build)?, url, dir)
    }

    /// Of a binary that is there.
    pub fn of(binary: PathBuf, url: &str, dir: &Path) -> Result<Self> {
        let port = port()?;
        let address = format!("127.0.0.1:{port}");
        let data = dir.join("data").to_string_lossy().into_owned();
        let arguments = [
            "up",
            "--mysql",
            url,
            "--table",
            "live.room",
            "--live-when",
            "live_status = 1",
            "--columns",
            "uid,area_id,title,live_time",
            "--data-dir",
            &data,
            "--listen",
            &address,
            "--log-level",
            "info",
            "--json",
        ]
        .map(String::from)
        .to_vec();
        Ok(OnAir {
            binary,
            arguments,
            environment: Vec::new(),
            name: "onair".to_owned(),
            dir: dir.to_owned(),
            address,
            child: None,
            placed: Placed::Anywhere,
            starts: 0,
        })
    }

    /// A role of a configuration file, or `up`. `name` is its own in status, and names its log; `more` are more arguments.
    pub fn role(role: &str, name: &str, config: &Path, dir: &Path, more: &[&str]) -> Result<Self> {
        Self::role_of(binary(Build::Engines)?, role, name, config, dir, more)
    }

    /// The same of a binary that is there.
    pub fn role_of(
        binary: PathBuf,
        role: &str,
        name: &str,
        config: &Path,
        dir: &Path,
        more: &[&str],
    ) -> Result<Self> {
        let address = format!("127.0.0.1:{}", port()?);
        let config = config.to_string_lossy();
        let mut arguments = vec![role, "--config", &config, "--log-level", "info", "--json"];
        if role != "up" {
            arguments.extend(["--name", name]);
        }
        if ["server", "up"].contains(&role) {
            arguments.extend(["--listen", &address]);
        }
        arguments.extend(more);
        Ok(OnAir {
            binary,
            arguments: arguments.into_iter().map(String::from).collect(),
            environment: Vec::new(),
            name: name.to_owned(),
            dir: dir.to_owned(),
            address,
            child: None,
            placed: Placed::Anywhere,
            starts: 0,
        })
    }

    /// From the next start on the configuration says what is logged.
    pub fn without_log_level(&mut self) {
        if let Some(at) = self.arguments.iter().position(|word| word == "--log-level") {
            self.arguments.drain(at..at + 2);
        }
    }

    /// From the next start on it has this variable.
    pub fn set(&mut self, variable: &str, value: &str) {
        self.environment
            .push((variable.to_owned(), value.to_owned()));
    }

    /// From the next start on it runs where the process under test does.
    pub fn place(&mut self, placed: Placed) {
        self.placed = placed;
    }

    /// What it is called.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it listens.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Of its process, if it runs.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// What its process has cost since it began, for so many units of work.
    pub fn lived(&self, units: u64) -> Result<Run> {
        meter::lived(self.pid().context("onair does not run")?, units)
    }

    /// Begins to measure what it costs.
    pub fn watch(&self) -> Result<Watch> {
        let child = self.child.as_ref().context("onair does not run")?;
        Watch::start(child.id())
    }

    /// Starts it and returns when it says that it is ready.
    pub fn start(&mut self) -> Result<()> {
        self.launch(None)?;
        Ok(())
    }

    /// Starts it and does not wait.
    pub fn begin(&mut self) -> Result<()> {
        self.spawn(None).map(drop)
    }

    /// Starts it with a failpoint; returns when it is ready, or `false` when it ended before that.
    pub fn start_failing(&mut self, point: &str, hits: u32) -> Result<bool> {
        self.launch(Some(format!("{point}:{hits}")))
    }

    fn launch(&mut self, failpoint: Option<String>) -> Result<bool> {
        let told = self.spawn(failpoint.as_deref())?;
        match told.recv_timeout(START_LIMIT) {
            Ok(()) => Ok(true),
            Err(RecvTimeoutError::Disconnected) if failpoint.is_some() => {
                self.wait_abort()?;
                Ok(false)
            }
            Err(RecvTimeoutError::Disconnected) => {
                let status = self.wait_end()?;
                bail!(
                    "{} ended at its start ({status}):\n{}",
                    self.name,
                    self.log_tail()
                )
            }
            Err(RecvTimeoutError::Timeout) => bail!(
                "{} was not ready within {START_LIMIT:?}:\n{}",
                self.name,
                self.log_tail()
            ),
        }
    }

    /// Starts it; the receiver hears when it is ready.
    fn spawn(&mut self, failpoint: Option<&str>) -> Result<Receiver<()>> {
        self.starts += 1;
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.log_path())?;
        let mut command = self.placed.under_test(&Command::new(&self.binary));
        command
            .args(&self.arguments)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log);
        if let Some(failpoint) = failpoint {
            command.env("ONAIR_FAILPOINT", failpoint);
        }
        let mut child = process::spawn(command)?;
        let output = child.stdout.take().context("the process has no output")?;
        self.child = Some(child);
        let (ready, told) = sync_channel(1);
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if line.contains("\"event\":\"ready\"") {
                    // Whoever waited may have given up.
                    let _ = ready.send(());
                }
            }
        });
        Ok(told)
    }

    /// As a power cut would.
    pub fn kill9(&mut self) -> Result<()> {
        let mut child = self.child.take().context("onair does not run")?;
        if let Some(status) = child.try_wait()? {
            bail!("onair had ended ({status}):\n{}", self.log_tail());
        }
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    /// Tells it to stop, and expects that it does so well.
    pub fn stop(&mut self) -> Result<()> {
        self.signal(Signal::Terminate)?;
        let status = self.wait_end()?;
        if !status.success() {
            bail!("onair stopped with {status}:\n{}", self.log_tail());
        }
        Ok(())
    }

    /// Freezes it.
    pub fn sigstop(&self) -> Result<()> {
        self.signal(Signal::Stop)
    }

    /// Asks it to read its configuration again.
    pub fn sighup(&self) -> Result<()> {
        self.signal(Signal::Hangup)
    }

    /// Wakes it from [`OnAir::sigstop`].
    pub fn sigcont(&self) -> Result<()> {
        self.signal(Signal::Continue)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let child = self.child.as_ref().context("onair does not run")?;
        process::signal(child, signal)
    }

    /// Whether it runs.
    pub fn is_running(&mut self) -> Result<bool> {
        Ok(match &mut self.child {
            Some(child) => child.try_wait()?.is_none(),
            None => false,
        })
    }

    /// Waits until it ends by itself.
    pub fn wait_end(&mut self) -> Result<ExitStatus> {
        let mut child = self.child.take().context("onair does not run")?;
        let deadline = std::time::Instant::now() + END_LIMIT;
        loop {
            if let Some(status) = child.try_wait()? {
                return Ok(status);
            }
            if std::time::Instant::now() > deadline {
                child.kill()?;
                child.wait()?;
                bail!(
                    "onair did not end within {END_LIMIT:?}:\n{}",
                    self.log_tail()
                );
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits until a failpoint ends it, and expects that nothing else does.
    pub fn wait_abort(&mut self) -> Result<()> {
        let status = self.wait_end()?;
        if !process::was_aborted(status) {
            bail!("no failpoint ended it ({status}):\n{}", self.log_tail());
        }
        Ok(())
    }

    /// The reader's checkpoint, if there is one: a restart in its epoch needs no scan.
    pub fn checkpoint(&self) -> Result<Option<Version>> {
        self.told("checkpoint ")
    }

    /// The cut that the merger's heads have passed, if there is one.
    pub fn merged(&self) -> Result<Option<Version>> {
        self.told("heads moved, cut ")
    }

    /// A verb that reads, to its end: its JSON.
    pub fn read(&self, arguments: &[&str]) -> Result<Output> {
        let mut command = Command::new(&self.binary);
        command.args(arguments).args(["--json", "--server"]);
        Ok(command.arg(format!("http://{}", self.address)).output()?)
    }

    /// The version that `status` names behind these words.
    fn told(&self, words: &str) -> Result<Option<Version>> {
        let output = self.read(&["status"])?;
        if !output.status.success() {
            bail!("{}", String::from_utf8_lossy(&output.stderr));
        }
        let text = String::from_utf8_lossy(&output.stdout);
        // A role in trouble says that instead.
        let Some((_, after)) = text.split_once(words) else {
            return Ok(None);
        };
        let end = after.find(|c: char| !c.is_ascii_digit() && c != '-');
        Ok(after[..end.unwrap_or(after.len())].parse().ok())
    }

    /// Why it opened each epoch so far, in its own words.
    pub fn epochs(&self) -> Vec<String> {
        self.log()
            .lines()
            .filter(|line| line.contains("an epoch is opened"))
            .filter_map(|line| line.split_once("an epoch is opened "))
            .map(|(_, fields)| fields.to_owned())
            .collect()
    }

    fn log_path(&self) -> PathBuf {
        self.dir.join(format!("{}.log", self.name))
    }

    /// Everything that it wrote about itself.
    pub fn log(&self) -> String {
        let text = fs::read(self.log_path()).unwrap_or_default();
        String::from_utf8_lossy(&text).into_owned()
    }

    /// The end of what it wrote about itself.
    pub fn log_tail(&self) -> String {
        let text = self.log();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }
}

impl Drop for OnAir {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A port that outgoing connections are not given, so that a restart finds it free.
fn port() -> Result<u16> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    const FIRST: u16 = 16_000;
    const COUNT: u16 = 4_000;
    let offset = (std::process::id() % u32::from(COUNT)) as u16;
    for _ in 0..COUNT {
        let port = FIRST + (offset + NEXT.fetch_add(1, Ordering::Relaxed)) % COUNT;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no free port on 127.0.0.1 from {FIRST} on")
}
