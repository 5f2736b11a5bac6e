//! Everything is shot at, at random moments; whatever anybody saw is compared with the server's own account.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::BufReader;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use onair_bench::observer::{Observer, Seen, content};
use onair_bench::oracle::{Report, Shape, State, Truth, check, difference};
use onair_bench::seed::seed;
use onair_bench::workload::Workload;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};

use super::{Fleet, PATIENCE, Size, run};

/// Two of each, so that one can always be missing.
const SIZE: Size = Size {
    readers: 2,
    mergers: 2,
    servers: 2,
};
const CLIENTS: usize = 8;

/// How long it goes on, in CI and with `--long`.
const SHORT: Duration = Duration::from_secs(90);
const LONG: Duration = Duration::from_secs(600);

/// What is done to somebody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    /// As a power cut.
    Kill,
    /// Frozen for a while.
    Freeze,
}

/// To whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Whom {
    Reader,
    Merger,
    Server,
    Mysql,
    Kafka,
    Cassandra,
}

/// Every kind; each comes about as often.
const FAULTS: [(Fault, Whom); 12] = [
    (Fault::Kill, Whom::Reader),
    (Fault::Freeze, Whom::Reader),
    (Fault::Kill, Whom::Merger),
    (Fault::Freeze, Whom::Merger),
    (Fault::Kill, Whom::Server),
    (Fault::Freeze, Whom::Server),
    (Fault::Kill, Whom::Mysql),
    (Fault::Freeze, Whom::Mysql),
    (Fault::Kill, Whom::Kafka),
    (Fault::Freeze, Whom::Kafka),
    (Fault::Kill, Whom::Cassandra),
    (Fault::Freeze, Whom::Cassandra),
];

#[test]
fn nothing_is_lost_and_nothing_is_invented_while_everything_is_shot_at() {
    run(SIZE, chaos);
}

async fn chaos(mut fleet: Fleet) -> Result<()> {
    let seed = seed("chaos");
    let mut rng = StdRng::seed_from_u64(seed);
    let is_long = std::env::var_os("ONAIR_TEST_LONG").is_some();
    let length = if is_long { LONG } else { SHORT };
    fleet.start()?;
    let addresses: Vec<String> = fleet.addresses().into_iter().map(String::from).collect();
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        clients.push(connect(&addresses, &mut rng).await?);
    }
    let mut lives: Vec<Vec<Seen>> = Vec::new();
    let mut injected: BTreeMap<(Fault, Whom), usize> = BTreeMap::new();
    let mut workload = start(&fleet, rng.random())?;
    let began = Instant::now();
    let mut reconnects = 0;
    let mut order: Vec<(Fault, Whom)> = Vec::new();
    while began.elapsed() < length || injected.len() < FAULTS.len() {
        if order.is_empty() {
            order = FAULTS.to_vec();
        }
        let next = rng.random_range(0..order.len());
        let (fault, whom) = order.swap_remove(next);
        println!(
            "{:>6.1} s  {fault:?} {whom:?}",
            began.elapsed().as_secs_f32()
        );
        inflict(&mut fleet, fault, whom, &mut rng).await?;
        *injected.entry((fault, whom)).or_default() += 1;
        if (fault, whom) == (Fault::Kill, Whom::Mysql) {
            // The sessions ended with their server; what they had sent is in its binlog or is not.
            workload = start(&fleet, rng.random())?;
        }
        // One client leaves and another comes.
        if rng.random_bool(0.5) {
            let leaver = clients.swap_remove(rng.random_range(0..clients.len()));
            lives.push(leaver.finish().await);
            clients.push(
                connect(&addresses, &mut rng)
                    .await
                    .with_context(|| fleet.logs())?,
            );
            reconnects += 1;
        }
        pause(&mut rng, 0..1_500).await;
    }
    let sent = workload.stop()?;
    fleet.ready()?;
    let set = fleet.executed()?;
    let shape = Shape::room();
    let table = shape.content(&fleet.engines.mysql.sql(&shape.select())?)?;
    for client in clients {
        client
            .wait_for_set(&set, PATIENCE)
            .await
            .with_context(|| fleet.logs())?;
        let held = content(&client.feed.snapshot());
        ensure!(held == table, "{}", difference(&table, &held));
        lives.push(client.finish().await);
    }
    let report = judge(&fleet, &lives)?;
    for ((fault, whom), count) in &injected {
        println!("  {fault:?} {whom:?}: {count}");
    }
    println!(
        "{} faults in {:?}, {reconnects} reconnects, {} versions compared ({} as deltas) at {} clients, epochs {:?}, {sent} transactions; \
         losses 0, ghosts 0, torn 0, backward 0",
        injected.values().sum::<usize>(),
        began.elapsed(),
        report.versions,
        report.deltas,
        lives.len(),
        report.epochs,
    );
    for role in &mut fleet.roles {
        role.stop()?;
    }
    Ok(())
}

/// Compares every version that any client saw with the table at its GTID, and equal versions with each other.
pub(super) fn judge(fleet: &Fleet, lives: &[Vec<Seen>]) -> Result<Report> {
    let binlog = File::open(fleet.binlog()?)?;
    let truth = Truth::read(BufReader::new(binlog), &Shape::room())?;
    let mut whole = Report::default();
    let mut contents: HashMap<_, State> = HashMap::new();
    for seen in lives {
        let report = check(&truth, seen).with_context(|| fleet.logs())?;
        whole.versions += report.versions;
        whole.deltas += report.deltas;
        whole.contents += report.contents;
        whole.epochs.extend(report.epochs);
        for now in seen {
            let held = *contents.entry(now.version).or_insert(now.state);
            ensure!(
                held == now.state,
                "version {} has two contents",
                now.version
            );
        }
    }
    ensure!(whole.versions > 0, "nobody saw anything");
    Ok(whole)
}

fn start(fleet: &Fleet, seed: u64) -> Result<Workload> {
    Workload::start(&fleet.engines.mysql, seed, 3, Duration::from_millis(15))
}

async fn connect(addresses: &[String], rng: &mut StdRng) -> Result<Observer> {
    let mut addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
    let first = rng.random_range(0..addresses.len());
    addresses.swap(0, first);
    Observer::connect_to(&addresses).await
}

/// Does it, and mends it.
async fn inflict(fleet: &mut Fleet, fault: Fault, whom: Whom, rng: &mut StdRng) -> Result<()> {
    let role = |name: &str, rng: &mut StdRng| format!("{name}-{}", rng.random_range(1..=2));
    match whom {
        Whom::Reader => harm(fleet, &role("cdc", rng), fault, rng).await,
        Whom::Merger => harm(fleet, &role("merger", rng), fault, rng).await,
        Whom::Server => harm(fleet, &role("server", rng), fault, rng).await,
        Whom::Mysql => {
            let mysql = &fleet.engines.mysql;
            match fault {
                Fault::Kill => {
                    mysql.kill9()?;
                    pause(rng, 0..1_000).await;
                    mysql.restart()
                }
                Fault::Freeze => {
                    mysql.sigstop()?;
                    pause(rng, 100..3_000).await;
                    mysql.sigcont()
                }
            }
        }
        Whom::Kafka => {
            let kafka = &fleet.engines.kafka;
            match fault {
                Fault::Kill => {
                    kafka.kill9()?;
                    pause(rng, 0..1_000).await;
                    kafka.restart()
                }
                Fault::Freeze => {
                    kafka.sigstop()?;
                    pause(rng, 100..6_000).await;
                    kafka.sigcont()
                }
            }
        }
        Whom::Cassandra => {
            let cassandra = &fleet.engines.cassandra;
            match fault {
                Fault::Kill => {
                    cassandra.kill9()?;
                    pause(rng, 0..1_000).await;
                    cassandra.restart()
                }
                Fault::Freeze => {
                    cassandra.sigstop()?;
                    pause(rng, 100..6_000).await;
                    cassandra.sigcont()
                }
            }
        }
    }
}

async fn harm(fleet: &mut Fleet, name: &str, fault: Fault, rng: &mut StdRng) -> Result<()> {
    let logs = fleet.logs();
    let role = fleet.role(name)?;
    ensure!(role.is_running()?, "{name} had ended by itself:\n{logs}");
    match fault {
        Fault::Kill => {
            role.kill9()?;
            pause(rng, 0..2_000).await;
            role.begin()
        }
        Fault::Freeze => {
            role.sigstop()?;
            // Also for longer than a lease is borne, or a member of a group.
            let longest = *[500, 2_000, 9_000].choose(rng).unwrap_or(&500);
            pause(rng, 100..longest).await;
            fleet.role(name)?.sigcont()
        }
    }
}

/// Not a wait for something: the moment of the next fault.
async fn pause(rng: &mut StdRng, millis: std::ops::Range<u64>) {
    tokio::time::sleep(Duration::from_millis(rng.random_range(millis))).await;
}
