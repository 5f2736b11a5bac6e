//! Engines and roles start in any order: the first time, where an engine that has not started yet is one that is frozen;
//! and after all of them were killed at once.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use onair_bench::observer::{Observer, content};
use onair_bench::oracle::{Shape, difference};
use onair_bench::process::OnAir;
use onair_bench::seed::seed;
use onair_bench::workload::Workload;
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use rand::{RngExt as _, SeedableRng as _};

use super::chaos::{judge, truth};
use super::heads::Heads;
use super::{BUCKETS, Fleet, PATIENCE, Size, run};

/// What there is to start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Mysql,
    Kafka,
    Store,
    Reader,
    Merger,
    Server,
}

const PARTS: [Part; 6] = [
    Part::Mysql,
    Part::Kafka,
    Part::Store,
    Part::Reader,
    Part::Merger,
    Part::Server,
];

/// Orders tried in CI; with `--long` it is all of them.
const ORDERS: usize = 6;

const ONE: Size = Size {
    readers: 1,
    mergers: 1,
    servers: 1,
};

const TWO: Size = Size {
    readers: 2,
    mergers: 2,
    servers: 2,
};

/// Who watch all of it.
const CLIENTS: usize = 4;

/// Seen before everything is killed, and after.
const VERSIONS: usize = 100;

/// Time to fail for the lack of what comes later.
const APART: Duration = Duration::from_millis(700);

#[test]
fn engines_and_roles_start_in_any_order() {
    run(ONE, orders);
}

async fn orders(mut fleet: Fleet) -> Result<()> {
    let seed = seed("orders");
    let mut rng = StdRng::seed_from_u64(seed);
    let mut orders = permutations(&PARTS);
    ensure!(orders.len() == 720, "{} orders", orders.len());
    if std::env::var_os("ONAIR_TEST_LONG").is_none() {
        orders.shuffle(&mut rng);
        orders.truncate(ORDERS);
    }
    for (number, order) in orders.iter().enumerate() {
        start(&mut fleet, number, order)
            .await
            .with_context(|| format!("{order:?}:\n{}", fleet.logs()))?;
        println!("{order:?}");
    }
    Ok(())
}

/// A new world each time: an empty keyspace, and topics of its own.
async fn start(fleet: &mut Fleet, number: usize, order: &[Part]) -> Result<()> {
    fleet.renew(&format!("order_{number}"))?;
    let engines = &fleet.engines;
    engines.mysql.sigstop()?;
    engines.kafka.sigstop()?;
    engines.cassandra.sigstop()?;
    for part in order {
        match part {
            Part::Mysql => fleet.engines.mysql.sigcont()?,
            Part::Kafka => fleet.engines.kafka.sigcont()?,
            Part::Store => fleet.engines.cassandra.sigcont()?,
            Part::Reader => fleet.role("cdc-1")?.begin()?,
            Part::Merger => fleet.role("merger-1")?.begin()?,
            Part::Server => fleet.role("server-1")?.begin()?,
        }
        tokio::time::sleep(APART).await;
    }
    fleet.ready()?;
    let observer = Observer::connect_to(&fleet.addresses()).await?;
    observer.wait_for_set(&fleet.executed()?, PATIENCE).await?;
    let shape = Shape::room();
    let table = shape.content(&fleet.engines.mysql.sql(&shape.select())?)?;
    let held = content(&observer.feed.snapshot());
    ensure!(held == table, "{}", difference(&table, &held));
    observer.finish().await?;
    for role in &mut fleet.roles {
        role.stop()?;
    }
    Ok(())
}

#[test]
fn everything_is_killed_at_once_and_starts_in_any_order() {
    run(TWO, at_once);
}

async fn at_once(mut fleet: Fleet) -> Result<()> {
    let mut rng = StdRng::seed_from_u64(seed("all at once"));
    fleet.start()?;
    let heads = Heads::watch(fleet.engines.cassandra.address(), "onair").await?;
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        clients.push(Observer::connect_to(&fleet.addresses()).await?);
    }
    let lineage = clients[0].feed.snapshot().lineage();
    let workload = work(&fleet, &mut rng)?;
    // Without a checkpoint the start would need the next epoch.
    fleet.checkpointed()?;
    versions(&fleet, &clients).await?;
    // Not a wait for something: the moment is any.
    tokio::time::sleep(Duration::from_millis(rng.random_range(0..2_000))).await;
    let executed = fleet.executed()?;
    kill(&mut fleet)?;
    let killed = Instant::now();
    // Its sessions ended with their server; what they had sent is in its binlog or is not.
    drop(workload);
    let mut order = PARTS;
    order.shuffle(&mut rng);
    println!("killed at once; started: {order:?}");
    for part in order {
        begin(&mut fleet, part)?;
        tokio::time::sleep(APART).await;
    }
    fleet.ready()?;
    println!("all are well {:?} after the kill", killed.elapsed());

    let workload = work(&fleet, &mut rng)?;
    // One that saw nothing of it.
    clients.push(Observer::connect_to(&fleet.addresses()).await?);
    versions(&fleet, &clients).await?;
    let sent = workload.stop()?;
    let set = fleet.executed()?;
    let shape = Shape::room();
    let table = shape.content(&fleet.engines.mysql.sql(&shape.select())?)?;
    let mut lives = Vec::new();
    for client in clients {
        // What was committed before the kill, and all that there is now.
        for set in [&executed, &set] {
            let seen = client.wait_for_set(set, PATIENCE).await;
            seen.with_context(|| fleet.logs())?;
        }
        let snapshot = client.feed.snapshot();
        ensure!(snapshot.lineage() == lineage, "another lineage");
        let held = content(&snapshot);
        ensure!(held == table, "{}", difference(&table, &held));
        lives.push(client.finish().await?);
    }
    let report = judge(&fleet, &lives)?;
    let compared = heads.judge(&truth(&fleet)?, BUCKETS)?;
    println!(
        "{} versions compared at {} clients, {compared} heads (sampled), epochs {:?}, {sent} transactions after it; {}",
        report.versions,
        lives.len(),
        report.epochs,
        report.wrong,
    );
    ensure!(
        report.epochs.len() == 1,
        "what is durable needs no epoch: {}",
        fleet.logs()
    );
    for role in &mut fleet.roles {
        role.stop()?;
    }
    Ok(())
}

fn work(fleet: &Fleet, rng: &mut StdRng) -> Result<Workload> {
    Workload::start(
        &fleet.engines.mysql,
        rng.random(),
        3,
        Duration::from_millis(15),
    )
}

/// Waits until each client has seen so many more.
async fn versions(fleet: &Fleet, clients: &[Observer]) -> Result<()> {
    for client in clients {
        let wanted = client.progress().versions + VERSIONS;
        client
            .wait_for("versions", PATIENCE, |now| now.versions >= wanted)
            .await
            .with_context(|| fleet.logs())?;
    }
    Ok(())
}

/// As a power cut of all machines: nobody has the time to see another go.
fn kill(fleet: &mut Fleet) -> Result<()> {
    let Fleet { engines, roles, .. } = fleet;
    let (mysql, kafka, cassandra) = (&engines.mysql, &engines.kafka, &engines.cassandra);
    thread::scope(|scope| {
        let mut kills = vec![
            scope.spawn(|| mysql.kill9()),
            scope.spawn(|| kafka.kill9()),
            scope.spawn(|| cassandra.kill9()),
        ];
        let roles = roles.iter_mut();
        kills.extend(roles.map(|role| scope.spawn(|| role.kill9())));
        for kill in kills {
            kill.join().ok().context("a kill panicked")??;
        }
        Ok(())
    })
}

/// An engine answers when this returns; roles are only begun.
fn begin(fleet: &mut Fleet, part: Part) -> Result<()> {
    let role = match part {
        Part::Mysql => return fleet.engines.mysql.restart(),
        Part::Kafka => return fleet.engines.kafka.restart(),
        Part::Store => return fleet.engines.cassandra.restart(),
        Part::Reader => "cdc",
        Part::Merger => "merger",
        Part::Server => "server",
    };
    let roles = fleet.roles.iter_mut();
    roles
        .filter(|of| of.name().starts_with(role))
        .try_for_each(OnAir::begin)
}

fn permutations(parts: &[Part]) -> Vec<Vec<Part>> {
    let Some((first, rest)) = parts.split_first() else {
        return vec![Vec::new()];
    };
    let mut all = Vec::new();
    for shorter in permutations(rest) {
        for at in 0..=shorter.len() {
            let mut longer = shorter.clone();
            longer.insert(at, *first);
            all.push(longer);
        }
    }
    all
}
