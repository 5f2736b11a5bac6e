//! Engines and roles start in any order. What has not started yet is an engine that is frozen, or a role that is not there.

use anyhow::{Context as _, Result, ensure};
use onair_bench::observer::{Observer, content};
use onair_bench::oracle::{Shape, difference};
use onair_bench::seed::seed;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;

use super::{Fleet, PATIENCE, Size, run};

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
        // Time to fail for the lack of what comes later.
        tokio::time::sleep(std::time::Duration::from_millis(700)).await;
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
