//! `cargo xtask up --engines`: MySQL, Kafka and Cassandra, and one OnAir process a role on them.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, ExitCode, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use onair_xtask::servers::process::{self, Signal, command_bound_to_us};
use onair_xtask::servers::{Cassandra, Flavor, Kafka, Options, Server};

use crate::foreground::{Interrupts, exit_code};
use crate::up::{Arguments, cargo, password};
use crate::workload::{self, Workload};
use onair_xtask::cargo::repository;

/// Two mergers and two servers: what one may do alone, two must do together.
const ROLES: [(&str, &str); 5] = [
    ("cdc", "cdc"),
    ("merger", "merger-1"),
    ("merger", "merger-2"),
    ("server", "server-1"),
    ("server", "server-2"),
];

/// Ports: of the first service, and of the first probe.
const GRPC: u16 = 7400;
const ADMIN: u16 = 7480;

/// From its start until a role is ready: Kafka takes three seconds to divide the work the first time.
const READY_MAX: Duration = Duration::from_secs(60);
/// From SIGTERM to the end of a role.
const STOP_MAX: Duration = Duration::from_secs(15);
const POLL: Duration = Duration::from_millis(50);

/// The servers that OnAir stands on; they end with this.
struct Engines {
    mysql: Server,
    kafka: Kafka,
    cassandra: Cassandra,
}

/// A process with a role.
struct Role {
    name: &'static str,
    child: Child,
    admin: u16,
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let mut interrupts = Interrupts::catch()?;
    let build = ["build", "--release", "--features", "kafka,scylla"];
    let built = interrupts.run(cargo(&build))?;
    if !built.success() || interrupts.came() {
        return Ok(exit_code(built));
    }
    println!("starting MySQL, Kafka and Cassandra");
    let engines = Engines::start()?;
    let Engines {
        mysql,
        kafka,
        cassandra,
    } = &engines;
    workload::create_table(mysql, arguments.rows)?;
    let password = password()?;
    mysql.create_user(
        "onair",
        &password,
        &["REPLICATION SLAVE ON *.*", "SELECT ON live.*"],
    )?;
    let onair = |words: &[&str]| {
        let mut command = command_bound_to_us(binary());
        command
            .args(words)
            .args(["--config", "docker/onair.toml"])
            .current_dir(repository())
            .env("ONAIR_SOURCE_URL", mysql.url("onair", ""))
            .env("ONAIR_SOURCE_PASSWORD", &password)
            .env("ONAIR_LOG_KAFKA_BROKERS", kafka.brokers())
            .env("ONAIR_STORE_SCYLLA_NODES", cassandra.address());
        command
    };
    let made = interrupts.run(onair(&["store", "init"]))?;
    if !made.success() || interrupts.came() {
        return Ok(exit_code(made));
    }
    let workload = Workload::start(mysql, arguments.rows, arguments.rate)?;
    let mut roles = Vec::new();
    let mut servers = GRPC..;
    for ((role, name), admin) in ROLES.into_iter().zip(ADMIN..) {
        let mut command = onair(&[role]);
        command
            .args(["--name", name])
            .arg("--admin-listen")
            .arg(format!("127.0.0.1:{admin}"))
            .args(&arguments.more)
            .stdout(Stdio::null());
        if role == "server" {
            let port = servers.next().context("no port is left")?;
            command.arg("--listen").arg(format!("127.0.0.1:{port}"));
        }
        let child = process::spawn(command)?;
        roles.push(Role { name, child, admin });
    }
    let ended = watch(&mut roles, &mut interrupts, || say(&engines, arguments));
    let stopped = stop(roles);
    let transactions = workload.stop()?;
    drop(engines);
    println!("{transactions} transactions were sent; servers and data are gone");
    ended.and(stopped)?;
    Ok(ExitCode::SUCCESS)
}

impl Engines {
    /// All at once: each waits most of its time.
    fn start() -> Result<Self> {
        let started = thread::scope(|scope| {
            let mysql = scope.spawn(|| Server::start_own(Flavor::Mysql97, Options::default()));
            let kafka = scope.spawn(|| Kafka::start_own(None));
            let cassandra = scope.spawn(|| Cassandra::start_own(None));
            (mysql.join(), kafka.join(), cassandra.join())
        });
        let (Ok(mysql), Ok(kafka), Ok(cassandra)) = started else {
            bail!("a thread that started a server panicked");
        };
        Ok(Engines {
            mysql: mysql?,
            kafka: kafka?,
            cassandra: cassandra?,
        })
    }
}

/// Waits until all are ready, says so, then until Ctrl-C. One that ends before is an error.
fn watch(roles: &mut [Role], interrupts: &mut Interrupts, ready: impl Fn()) -> Result<()> {
    let began = Instant::now();
    let mut is_said = false;
    loop {
        for role in &mut *roles {
            if let Some(status) = role.child.try_wait()? {
                bail!("{} ended ({status}); what it said stands above", role.name);
            }
        }
        if !is_said && roles.iter().all(Role::is_ready) {
            is_said = true;
            println!(
                "all roles are ready after {:.1} s",
                began.elapsed().as_secs_f32()
            );
            ready();
        }
        if !is_said && began.elapsed() > READY_MAX {
            let late = roles.iter().filter(|role| !role.is_ready());
            let late: Vec<&str> = late.map(|role| role.name).collect();
            bail!("not ready after {READY_MAX:?}: {}", late.join(", "));
        }
        if interrupts.came() {
            return Ok(());
        }
        thread::sleep(POLL);
    }
}

impl Role {
    fn is_ready(&self) -> bool {
        let ask = || -> std::io::Result<String> {
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.admin));
            let mut stream = TcpStream::connect_timeout(&address, POLL)?;
            stream.set_read_timeout(Some(Duration::from_secs(1)))?;
            stream.write_all(b"GET /ready HTTP/1.0\r\n\r\n")?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok(answer)
        };
        // One that does not answer is not ready.
        ask().is_ok_and(|answer| answer.split(' ').nth(1) == Some("200"))
    }
}

fn say(engines: &Engines, arguments: &Arguments) {
    let onair = "target/release/onair";
    println!(
        "
  mysql      {}  (root, no password; live.room with {} rows, {} transactions a second)
  kafka      {}
  cassandra  {}
  servers    http://127.0.0.1:{GRPC}, http://127.0.0.1:{}
  probes     http://127.0.0.1:{ADMIN}/ready and the four ports after it

try:
  {onair} status
  {onair} watch room
  {onair} watch room --server http://127.0.0.1:{}
Ctrl-C ends all of it
",
        engines.mysql.url("root", "live"),
        arguments.rows,
        arguments.rate,
        engines.kafka.brokers(),
        engines.cassandra.address(),
        GRPC + 1,
        GRPC + 1,
    );
}

/// SIGTERM to all, then waits for them; who does not end is killed and named.
fn stop(mut roles: Vec<Role>) -> Result<()> {
    for role in &mut roles {
        if role.child.try_wait()?.is_none() {
            process::signal(&role.child, Signal::Terminate)?;
        }
    }
    let deadline = Instant::now() + STOP_MAX;
    let mut killed = Vec::new();
    for role in &mut roles {
        while role.child.try_wait()?.is_none() {
            if Instant::now() > deadline {
                role.child.kill()?;
                role.child.wait()?;
                killed.push(role.name);
                break;
            }
            thread::sleep(POLL);
        }
    }
    if killed.is_empty() {
        return Ok(());
    }
    bail!(
        "did not end in {STOP_MAX:?} and were killed: {}",
        killed.join(", ")
    )
}

/// What the build made.
fn binary() -> PathBuf {
    onair_xtask::cargo::target_dir().join("release/onair")
}
