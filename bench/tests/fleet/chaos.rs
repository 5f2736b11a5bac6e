//! Everything is shot at, at random moments; whatever anybody saw is compared with the server's own account.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::BufReader;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use onair_bench::observer::{Observer, Seen, content};
use onair_bench::oracle::{Report, Shape, State, Truth, compare, difference};
use onair_bench::proxy::{Carry, Counts, Proxy, Way, WayCounts};
use onair_bench::seed::seed;
use onair_bench::workload::Workload;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};

use super::heads::{self, Heads};
use super::{BUCKETS, Fleet, PATIENCE, Size, run};

/// Two of each, so that one can always be missing.
const SIZE: Size = Size {
    readers: 2,
    mergers: 2,
    servers: 2,
};
const CLIENTS: usize = 8;

/// How long it goes on, in CI and with `--long`.
const SHORT: Duration = Duration::from_secs(120);
const LONG: Duration = Duration::from_secs(600);

/// How long a way is disturbed, in ms.
const BRIEF: Range<u64> = 100..3_000;
/// The same of a way to a server: for longer than servers are silent (1 s), so that it meets a client; also for longer
/// than a client bears that (5 s).
const SILENCE: Range<u64> = 1_100..8_000;

/// What is done to somebody, or to a way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    /// As a power cut.
    Kill,
    /// Frozen for a while.
    Freeze,
    /// Nothing arrives any more; then the connections are reset.
    Cut,
    /// The same in one direction.
    OneWay,
    /// Half open: nothing is read for a while, then all of it arrives.
    Stall,
    /// Everything comes late.
    Delay,
    /// Everything comes in pieces of a few bytes.
    Slice,
    /// All connections are reset.
    Reset,
}

/// To whom: a role, an engine, the way to an engine, or the way of clients to a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Whom {
    Reader,
    Merger,
    Server,
    Mysql,
    Kafka,
    Cassandra,
    WayToMysql,
    WayToKafka,
    WayToCassandra,
    WayToServer,
}

const PROCESSES: [Whom; 6] = [
    Whom::Reader,
    Whom::Merger,
    Whom::Server,
    Whom::Mysql,
    Whom::Kafka,
    Whom::Cassandra,
];
const WAYS: [Whom; 4] = [
    Whom::WayToMysql,
    Whom::WayToKafka,
    Whom::WayToCassandra,
    Whom::WayToServer,
];

/// Every kind; each comes about as often.
fn faults() -> Vec<(Fault, Whom)> {
    let of_processes = [Fault::Kill, Fault::Freeze];
    let of_ways = [
        Fault::Cut,
        Fault::OneWay,
        Fault::Stall,
        Fault::Delay,
        Fault::Slice,
        Fault::Reset,
    ];
    let each = |faults: &[Fault], whom: &[Whom]| -> Vec<(Fault, Whom)> {
        let pairs = faults
            .iter()
            .flat_map(|fault| whom.iter().map(|whom| (*fault, *whom)));
        pairs.collect()
    };
    [each(&of_processes, &PROCESSES), each(&of_ways, &WAYS)].concat()
}

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
    let addresses: Vec<String> = fleet.ways.servers.iter().map(Proxy::address).collect();
    let heads = Heads::watch(fleet.engines.cassandra.address(), "onair").await?;
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        clients.push(connect(&addresses, &mut rng).await?);
    }
    let mut lives: Vec<Vec<Seen>> = Vec::new();
    let mut injected: BTreeMap<(Fault, Whom), usize> = BTreeMap::new();
    let mut workload = start(&fleet, rng.random())?;
    let began = Instant::now();
    // Clients that came anew, and connections that clients made again.
    let (mut comers, mut reconnects) = (0, 0);
    let mut order: Vec<(Fault, Whom)> = Vec::new();
    while began.elapsed() < length || injected.len() < faults().len() {
        if order.is_empty() {
            order = faults();
        }
        let next = rng.random_range(0..order.len());
        let (fault, whom) = order.swap_remove(next);
        println!(
            "{:>6.1} s  {fault:?} {whom:?}",
            began.elapsed().as_secs_f32()
        );
        inflict(&mut fleet, &clients, fault, whom, &mut rng).await?;
        *injected.entry((fault, whom)).or_default() += 1;
        if (fault, whom) == (Fault::Kill, Whom::Mysql) {
            // The sessions ended with their server; what they had sent is in its binlog or is not.
            workload = start(&fleet, rng.random())?;
        }
        // One client leaves and another comes.
        if rng.random_bool(0.5) {
            let leaver = clients.swap_remove(rng.random_range(0..clients.len()));
            reconnects += leaver.status().reconnects;
            lives.push(leaver.finish().await?);
            clients.push(
                connect(&addresses, &mut rng)
                    .await
                    .with_context(|| fleet.logs())?,
            );
            comers += 1;
        }
        pause(&mut rng, 0..1_000).await;
    }
    workload.stop()?;
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
        reconnects += client.status().reconnects;
        lives.push(client.finish().await?);
    }
    let report = judge(&fleet, &lives)?;
    let truth = truth(&fleet)?;
    let compared = heads.judge(&truth, BUCKETS)?;
    for ((fault, whom), count) in &injected {
        println!("  {fault:?} {whom:?}: {count}");
    }
    println!(
        "{} faults in {:?}, {comers} clients came anew, {reconnects} reconnects, {} versions compared ({} as deltas) at {} clients, {compared} heads (sampled each {:?}), epochs {:?}, {} transactions; \
         {}",
        injected.values().sum::<usize>(),
        began.elapsed(),
        report.versions,
        report.deltas,
        lives.len(),
        heads::LOOK,
        report.epochs,
        truth.len(),
        report.wrong,
    );
    let to_engines = [&fleet.ways.mysql, &fleet.ways.kafka, &fleet.ways.cassandra];
    let to_servers = fleet
        .ways
        .servers
        .iter()
        .map(|way| (&Whom::WayToServer, way));
    for (whom, way) in WAYS.iter().zip(to_engines).chain(to_servers) {
        println!("  {whom:?}: {:?}", way.counts());
    }
    met(&fleet.ways.servers)?;
    for role in &mut fleet.roles {
        role.stop()?;
    }
    Ok(())
}

/// Compares every version that any client saw with the table at its GTID, and equal versions with each other.
pub(super) fn judge(fleet: &Fleet, lives: &[Vec<Seen>]) -> Result<Report> {
    let truth = truth(fleet)?;
    let mut whole = Report::default();
    let mut contents: HashMap<_, State> = HashMap::new();
    for seen in lives {
        whole.add(compare(&truth, seen)?);
        for now in seen {
            let held = *contents.entry(now.version).or_insert(now.state);
            if held != now.state {
                whole.wrong.two_contents(now.version);
            }
        }
    }
    whole.wrong.refuse().with_context(|| fleet.logs())?;
    ensure!(whole.versions > 0, "nobody saw anything");
    Ok(whole)
}

pub(super) fn truth(fleet: &Fleet) -> Result<Truth> {
    let binlog = File::open(fleet.binlog()?)?;
    Truth::read(BufReader::new(binlog), &Shape::room())
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
async fn inflict(
    fleet: &mut Fleet,
    clients: &[Observer],
    fault: Fault,
    whom: Whom,
    rng: &mut StdRng,
) -> Result<()> {
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
                _ => bail!("{fault:?} is for a way"),
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
                _ => bail!("{fault:?} is for a way"),
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
                _ => bail!("{fault:?} is for a way"),
            }
        }
        Whom::WayToMysql => disturb(&fleet.ways.mysql, fault, BRIEF, rng).await,
        Whom::WayToKafka => disturb(&fleet.ways.kafka, fault, BRIEF, rng).await,
        Whom::WayToCassandra => disturb(&fleet.ways.cassandra, fault, BRIEF, rng).await,
        Whom::WayToServer => {
            let way = taken(&fleet.ways.servers, clients, rng)?;
            disturb(way, fault, SILENCE, rng).await
        }
    }
}

/// The way that one of the clients takes.
fn taken<'a>(servers: &'a [Proxy], clients: &[Observer], rng: &mut StdRng) -> Result<&'a Proxy> {
    let status = clients.choose(rng).context("no client")?.status();
    let is_at = |way: &&Proxy| {
        let endpoint = status.endpoint.as_deref();
        endpoint.is_some_and(|endpoint| endpoint.ends_with(&way.address()))
    };
    // A client may be on its way from one to another.
    let taken = servers.iter().find(is_at).or_else(|| servers.choose(rng));
    taken.context("no server")
}

/// Whether clients have met everything that is done to a way.
fn met(servers: &[Proxy]) -> Result<()> {
    let counts: Vec<Counts> = servers.iter().map(Proxy::counts).collect();
    let carried = |count: fn(&WayCounts) -> u64| -> u64 {
        let both = counts.iter().flat_map(|counts| [&counts.up, &counts.down]);
        both.map(count).sum()
    };
    let met = [
        carried(|way| way.vanished),
        carried(|way| way.stalled),
        carried(|way| way.delayed),
        carried(|way| way.slices),
        counts.iter().map(|counts| counts.reset).sum(),
    ];
    ensure!(!met.contains(&0), "clients did not meet all: {counts:?}");
    Ok(())
}

/// Does it for a while.
async fn disturb(way: &Proxy, fault: Fault, long: Range<u64>, rng: &mut StdRng) -> Result<()> {
    const TORN: NonZeroUsize = NonZeroUsize::new(7).expect("7 is not zero");
    match fault {
        Fault::Cut => way.set_both(Carry::Vanish),
        Fault::OneWay => {
            let direction = if rng.random_bool(0.5) {
                Way::Up
            } else {
                Way::Down
            };
            way.set(direction, Carry::Vanish);
        }
        Fault::Stall => way.set_both(Carry::Stall),
        Fault::Delay => way.set_both(Carry::Delay {
            least: Duration::from_millis(20),
            jitter: Duration::from_millis(80),
        }),
        Fault::Slice => way.set_both(Carry::Slice { most: TORN }),
        Fault::Reset => {}
        Fault::Kill | Fault::Freeze => bail!("{fault:?} is for a process"),
    }
    if fault != Fault::Reset {
        pause(rng, long).await;
    }
    way.set_both(Carry::Pass);
    if matches!(fault, Fault::Cut | Fault::OneWay | Fault::Reset) {
        way.reset();
    }
    Ok(())
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
        _ => bail!("{fault:?} is for a way"),
    }
}

/// Not a wait for something: the moment of the next fault.
async fn pause(rng: &mut StdRng, millis: Range<u64>) {
    tokio::time::sleep(Duration::from_millis(rng.random_range(millis))).await;
}
