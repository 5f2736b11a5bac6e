//! OnAir as it runs in production: one process a role, on Kafka and ScyllaDB or Cassandra.

use std::fs;
use std::num::NonZeroU16;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use jiff::Timestamp;
use serde_json::Value;

use crate::process::OnAir;

/// Until a start is given up, and between two looks.
const PATIENCE: Duration = Duration::from_secs(90);
const LOOK: Duration = Duration::from_millis(20);

/// Where the engines are.
#[derive(Clone, Debug)]
pub struct Places {
    /// With the account.
    pub mysql: String,
    pub kafka: String,
    pub cassandra: String,
}

/// How many of each role, and of buckets.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    pub readers: usize,
    pub mergers: usize,
    pub servers: usize,
    pub buckets: NonZeroU16,
}

/// Roles that share a configuration file.
#[derive(Debug)]
pub struct Fleet {
    /// Readers, mergers, servers.
    pub roles: Vec<OnAir>,
    binary: PathBuf,
    config: PathBuf,
    places: Places,
    size: Size,
}

impl Fleet {
    /// Not started yet. `dir` gets their file and their logs; keyspace and topics are called `name`.
    pub fn new(
        binary: PathBuf,
        places: Places,
        size: Size,
        (dir, name): (&Path, &str),
    ) -> Result<Self> {
        let config = dir.join(format!("{name}.toml"));
        let mut roles = Vec::new();
        for (role, count) in [
            ("cdc", size.readers),
            ("merger", size.mergers),
            ("server", size.servers),
        ] {
            for number in 1..=count {
                let name = format!("{role}-{number}");
                let binary = binary.clone();
                roles.push(OnAir::role_of(binary, role, &name, &config, dir, &[])?);
            }
        }
        let fleet = Fleet {
            roles,
            binary,
            config,
            places,
            size,
        };
        fleet.configure(name, &[])?;
        fleet.command(&["store", "init"])?;
        Ok(fleet)
    }

    /// Writes the file that the next start reads.
    pub fn configure(&self, name: &str, standbys: &[String]) -> Result<()> {
        let Places {
            mysql,
            kafka,
            cassandra,
        } = &self.places;
        let standbys = match standbys {
            [] => String::new(),
            urls => format!("standbys = {urls:?}"),
        };
        let text = format!(
            r#"
[source]
url = "{mysql}"
{standbys}
[[feed]]
name = "room"
table = "live.room"
live_when = "live_status = 1"
columns = ["uid", "area_id", "title", "live_time"]
buckets = {}
[log.kafka]
brokers = "{kafka}"
prefix = "{name}"
replication_factor = 1
min_insync_replicas = 1
[store.scylla]
nodes = ["{cassandra}"]
keyspace = "{name}"
replication = ["1"]
"#,
            self.size.buckets
        );
        Ok(fs::write(&self.config, text)?)
    }

    /// Runs a verb with the configuration file to its end; its output.
    pub fn command(&self, words: &[&str]) -> Result<String> {
        let output = Command::new(&self.binary)
            .args(words)
            .arg("--config")
            .arg(&self.config)
            .output()?;
        ensure!(
            output.status.success(),
            "onair {}: {}",
            words.join(" "),
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(String::from_utf8(output.stdout)?)
    }

    /// Starts every role and waits until each does its work.
    pub fn start(&mut self) -> Result<()> {
        for role in &mut self.roles {
            role.begin()?;
        }
        self.ready()
    }

    /// Waits until a server has heard from now on that all roles of all processes are well, one of the readers following.
    pub fn ready(&self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        let now = Timestamp::now();
        loop {
            let told = self.told();
            match &told {
                Ok(told) if self.is_well(told, now) => return Ok(()),
                _ if Instant::now() < deadline => thread::sleep(LOOK),
                _ => bail!("not well after {PATIENCE:?}: {told:?}\n{}", self.logs()),
            }
        }
    }

    /// What the first server says of everybody.
    pub fn told(&self) -> Result<Value> {
        let output = Command::new(&self.binary)
            .args(["status", "--json", "--server"])
            .arg(format!("http://{}", self.addresses()[0]))
            .output()?;
        ensure!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    fn is_well(&self, told: &Value, since: Timestamp) -> bool {
        let states = ["following", "standby", "running", "serving"];
        let roles = told["roles"].as_array().map_or(&[][..], Vec::as_slice);
        let is_new = |role: &&Value| {
            let at = role["at"].as_str().and_then(|at| at.parse().ok());
            at.is_some_and(|at: Timestamp| at >= since)
        };
        let state = |of: &OnAir| {
            let role = roles
                .iter()
                .filter(is_new)
                .find(|role| role["process"] == of.name());
            role.and_then(|role| role["state"].as_str())
        };
        let told: Vec<Option<&str>> = self.roles.iter().map(state).collect();
        let following = told.iter().filter(|state| **state == Some("following"));
        following.count() == 1
            && told
                .iter()
                .all(|state| state.is_some_and(|state| states.contains(&state)))
    }

    /// Where the store is.
    pub fn cassandra(&self) -> &str {
        &self.places.cassandra
    }

    /// Where each server listens.
    pub fn addresses(&self) -> Vec<&str> {
        let servers = self
            .roles
            .iter()
            .filter(|role| role.name().starts_with("server"));
        servers.map(OnAir::address).collect()
    }

    /// The process that reads.
    pub fn reader(&self) -> Result<String> {
        let told = self.told()?;
        let roles = told["roles"].as_array().context("no roles")?;
        let following = roles
            .iter()
            .find(|role| role["role"] == "reader" && role["state"] == "following");
        let process = following.and_then(|role| role["process"].as_str());
        Ok(process.context("nobody reads")?.to_owned())
    }

    pub fn role(&mut self, name: &str) -> Result<&mut OnAir> {
        let mut roles = self.roles.iter_mut();
        roles
            .find(|role| role.name() == name)
            .with_context(|| format!("there is no {name}"))
    }

    /// The ends of all logs.
    pub fn logs(&self) -> String {
        let logs = self
            .roles
            .iter()
            .map(|role| format!("--- {}\n{}", role.name(), role.log_tail()));
        logs.collect::<Vec<_>>().join("\n")
    }
}
