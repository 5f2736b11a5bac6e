//! OnAir as it runs in production: real MySQL, Kafka and Cassandra, and one process a role.

mod chaos;
mod down;
mod failover;
mod handover;
mod heads;
mod order;
mod re_derive;

use std::fs;
use std::num::NonZeroU16;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use onair_bench::process::{Build, OnAir, binary};
use onair_bench::proxy::Proxy;
use onair_bench::seed::seed;
use onair_bench::workload;
use onair_xtask::servers::{Cassandra, Engine, Flavor, Kafka, Options, Server};
use tempfile::TempDir;

/// Of the feed.
pub(crate) const BUCKETS: NonZeroU16 = NonZeroU16::new(8).expect("8 is not zero");

/// Until a test gives up on something that must come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);

const LOOK: Duration = Duration::from_millis(50);

/// The servers that OnAir stands on.
pub(crate) struct Engines {
    pub(crate) mysql: Server,
    pub(crate) kafka: Kafka,
    pub(crate) cassandra: Cassandra,
}

/// The ways that all roles take to them, and those that clients may take to the servers.
pub(crate) struct Ways {
    pub(crate) mysql: Proxy,
    pub(crate) kafka: Proxy,
    pub(crate) cassandra: Proxy,
    /// As [`Fleet::addresses`].
    pub(crate) servers: Vec<Proxy>,
}

/// Engines, and roles that are not started yet.
pub(crate) struct Fleet {
    pub(crate) engines: Engines,
    pub(crate) ways: Ways,
    /// Readers, mergers, servers.
    pub(crate) roles: Vec<OnAir>,
    config: PathBuf,
    pub(crate) dir: TempDir,
}

/// How many of each role.
#[derive(Clone, Copy)]
pub(crate) struct Size {
    pub(crate) readers: usize,
    pub(crate) mergers: usize,
    pub(crate) servers: usize,
}

/// Runs a test unless this run does without one of the servers.
pub(crate) fn run(size: Size, test: impl AsyncFnOnce(Fleet) -> Result<()>) {
    let left_out = [
        ("mysql-9.7", Flavor::Mysql97.is_left_out()),
        ("kafka", Engine::Kafka.is_left_out()),
        ("cassandra", Engine::Cassandra.is_left_out()),
    ];
    if let Some((name, _)) = left_out.iter().find(|(_, is_left_out)| *is_left_out) {
        eprintln!("NOT RUN {name}: left out");
        return;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    runtime
        .block_on(async { test(Fleet::new(size).await?).await })
        .unwrap_or_else(|error| panic!("{error:?}"));
}

impl Engines {
    /// All at once: each waits most of its time. All of our own, since tests kill them.
    fn start(proxy_of_kafka: u16) -> Result<Self> {
        let (mysql, kafka, cassandra) = thread::scope(|scope| {
            let mysql = scope.spawn(|| Server::start_own(Flavor::Mysql97, Options::default()));
            let kafka = scope.spawn(|| Kafka::start_behind(proxy_of_kafka));
            let cassandra = scope.spawn(|| Cassandra::start_own(None));
            (mysql.join(), kafka.join(), cassandra.join())
        });
        let panicked = "starting a server panicked";
        Ok(Engines {
            mysql: mysql.ok().context(panicked)??,
            kafka: kafka.ok().context(panicked)??,
            cassandra: cassandra.ok().context(panicked)??,
        })
    }
}

impl Fleet {
    async fn new(size: Size) -> Result<Self> {
        let seed = seed("ways");
        let mut ways = Ways {
            mysql: Proxy::start(seed).await?,
            kafka: Proxy::start(seed + 1).await?,
            cassandra: Proxy::start(seed + 2).await?,
            servers: Vec::new(),
        };
        let engines = Engines::start(ways.kafka.port())?;
        let mysql = &engines.mysql;
        ways.mysql
            .lead_to(&format!("{}:{}", mysql.host(), mysql.port()));
        ways.kafka.lead_to(&engines.kafka.behind()?);
        ways.cassandra.lead_to(engines.cassandra.address());
        workload::create(&engines.mysql)?;
        engines.mysql.create_user(
            "onair",
            "secret",
            &["REPLICATION SLAVE ON *.*", "SELECT ON live.*"],
        )?;
        let dir = TempDir::new()?;
        let config = dir.path().join("onair.toml");
        let mut roles = Vec::new();
        for (role, count) in [
            ("cdc", size.readers),
            ("merger", size.mergers),
            ("server", size.servers),
        ] {
            for number in 1..=count {
                let name = format!("{role}-{number}");
                roles.push(OnAir::role(role, &name, &config, dir.path(), &[])?);
            }
        }
        let servers = roles.iter().filter(is_server);
        for (number, server) in (3..).zip(servers) {
            let way = Proxy::to(server.address(), seed + number).await?;
            ways.servers.push(way);
        }
        let fleet = Fleet {
            engines,
            ways,
            roles,
            config,
            dir,
        };
        fleet.renew("onair")?;
        Ok(fleet)
    }

    /// A new world for the next start: a keyspace and topics of this name, which was not used before.
    pub(crate) fn renew(&self, name: &str) -> Result<()> {
        fs::write(&self.config, configuration(&self.ways, name, &[]))?;
        command(&["store", "init"], &self.config).map(drop)
    }

    /// From the next start on there are these servers to go on to.
    pub(crate) fn standbys(&self, servers: &[&Server]) -> Result<()> {
        let urls: Vec<String> = servers
            .iter()
            .map(|server| server.url("onair:secret", ""))
            .collect();
        fs::write(&self.config, configuration(&self.ways, "onair", &urls))?;
        Ok(())
    }

    /// Starts every role and waits until each does its work.
    pub(crate) fn start(&mut self) -> Result<()> {
        for role in &mut self.roles {
            role.begin()?;
        }
        self.ready()
    }

    /// Waits until a server has heard from now on that all roles of all processes are well, one of the readers following.
    pub(crate) fn ready(&self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        let now = jiff::Timestamp::now();
        loop {
            let told = self.told();
            match &told {
                Ok(told) if self.is_well(told, now) => return Ok(()),
                _ if Instant::now() < deadline => thread::sleep(LOOK),
                _ => bail!("not well after {PATIENCE:?}: {told:?}\n{}", self.logs()),
            }
        }
    }

    /// Waits until the reader that follows has a checkpoint: without one a takeover needs the next epoch.
    pub(crate) fn checkpointed(&self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let told = self.told()?;
            let roles = told["roles"].as_array().map_or(&[][..], Vec::as_slice);
            let mut readers = roles.iter().filter(|role| role["role"] == "reader");
            let detail = readers.find_map(|role| {
                let detail = role["detail"]
                    .as_str()
                    .filter(|_| role["state"] == "following");
                detail?.split_once("checkpoint ")
            });
            if detail.is_some_and(|(_, at)| at.starts_with(|c: char| c.is_ascii_digit())) {
                return Ok(());
            }
            ensure!(
                Instant::now() < deadline,
                "no checkpoint after {PATIENCE:?}: {told}"
            );
            thread::sleep(LOOK);
        }
    }

    /// What the first server says of everybody.
    pub(crate) fn told(&self) -> Result<serde_json::Value> {
        let output = Command::new(binary(Build::Engines)?)
            .args(["status", "--json", "--server"])
            .arg(format!("http://{}", self.address(0)))
            .output()?;
        ensure!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    fn is_well(&self, told: &serde_json::Value, since: jiff::Timestamp) -> bool {
        let states = ["following", "standby", "running", "serving"];
        let roles = told["roles"].as_array().map_or(&[][..], Vec::as_slice);
        let is_new = |role: &&serde_json::Value| {
            let at = role["at"].as_str().and_then(|at| at.parse().ok());
            at.is_some_and(|at: jiff::Timestamp| at >= since)
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

    /// Where each server listens.
    pub(crate) fn addresses(&self) -> Vec<&str> {
        let servers = self.roles.iter().filter(is_server);
        servers.map(OnAir::address).collect()
    }

    fn address(&self, number: usize) -> &str {
        self.addresses()[number]
    }

    pub(crate) fn role(&mut self, name: &str) -> Result<&mut OnAir> {
        let mut roles = self.roles.iter_mut();
        roles
            .find(|role| role.name() == name)
            .with_context(|| format!("there is no {name}"))
    }

    /// The server's whole GTID set.
    pub(crate) fn executed(&self) -> Result<String> {
        let set = self
            .engines
            .mysql
            .sql("SELECT REPLACE(@@gtid_executed, '\n', '')")?;
        Ok(set.trim().replace("\\n", ""))
    }

    /// The ends of all logs.
    pub(crate) fn logs(&self) -> String {
        let logs = self
            .roles
            .iter()
            .map(|role| format!("--- {}\n{}", role.name(), role.log_tail()));
        logs.collect::<Vec<_>>().join("\n")
    }

    /// The oracle's account of everything.
    pub(crate) fn binlog(&self) -> Result<PathBuf> {
        let path = self.dir.path().join("binlog.txt");
        self.engines.mysql.write_binlog_text(&path)?;
        Ok(path)
    }
}

fn is_server(role: &&OnAir) -> bool {
    role.name().starts_with("server")
}

/// Runs a verb to its end; its output.
pub(crate) fn command(words: &[&str], config: &Path) -> Result<String> {
    let output = Command::new(binary(Build::Engines)?)
        .args(words)
        .arg("--config")
        .arg(config)
        .output()?;
    ensure!(
        output.status.success(),
        "onair {}: {}",
        words.join(" "),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8(output.stdout)?)
}

fn configuration(ways: &Ways, name: &str, standbys: &[String]) -> String {
    let standbys = match standbys {
        [] => String::new(),
        urls => format!("standbys = {urls:?}"),
    };
    format!(
        r#"
[source]
url = "mysql://onair:secret@{}"
{standbys}
[[feed]]
name = "room"
table = "live.room"
live_when = "live_status = 1"
columns = ["uid", "area_id", "title", "live_time"]
buckets = {BUCKETS}
[log.kafka]
brokers = "{}"
prefix = "{name}"
replication_factor = 1
min_insync_replicas = 1
[store.scylla]
nodes = ["{}"]
keyspace = "{name}"
replication = ["1"]
"#,
        ways.mysql.address(),
        ways.kafka.address(),
        ways.cassandra.address(),
    )
}
