//! Roles of their own: what one hands to another, and what it does without it.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use onair_bench::observer::{Observer, content};
use onair_bench::oracle::{Shape, difference};
use onair_bench::proxy::{Carry, Way};
use onair_bench::seed::seed;
use onair_bench::workload::Workload;

use super::chaos::{judge, truth};
use super::heads::Heads;
use super::{BUCKETS, Fleet, LOOK, PATIENCE, Size, run};

/// Two of each.
const TWO: Size = Size {
    readers: 2,
    mergers: 2,
    servers: 2,
};

/// At most this long between two checkpoints.
const CHECKPOINTS: Duration = Duration::from_secs(1);

/// How soon a standby must have taken over (the default patience is 6 s).
const TAKEOVER_MAX: Duration = Duration::from_secs(10);

/// For how long a merger sleeps: its group gives it up after 6 s.
const SLEEP: Duration = Duration::from_secs(10);

#[test]
fn roles_hand_over_without_a_gap() {
    run(TWO, hand_over);
}

async fn hand_over(mut fleet: Fleet) -> Result<()> {
    let seed = seed("roles");
    fleet.start()?;
    let addresses: Vec<String> = fleet.addresses().into_iter().map(String::from).collect();
    let [first, second] = &addresses[..] else {
        anyhow::bail!("two servers were asked for");
    };
    let (left, right) = (
        Observer::connect(first).await?,
        Observer::connect(second).await?,
    );
    let both = Observer::connect_to(&[first, second]).await?;
    let heads = Heads::watch(fleet.engines.cassandra.address(), "onair").await?;
    let workload = Workload::start(&fleet.engines.mysql, seed, 3, Duration::from_millis(20))?;

    fleet.checkpointed()?;

    // A reader that is killed: the standby takes over in the same epoch.
    let holder = reader(&fleet)?;
    fleet.role(&holder)?.kill9()?;
    let took = resumed(&fleet, &both).await?;
    println!("reader killed: the next version came after {took:?}");
    ensure!(took < TAKEOVER_MAX, "the takeover took {took:?}");
    fleet.role(&holder)?.begin()?;
    fleet.ready()?;

    // One that stops in peace gives the lease up.
    let holder = reader(&fleet)?;
    fleet.role(&holder)?.stop()?;
    let took = resumed(&fleet, &both).await?;
    println!("reader stopped: the next version came after {took:?}");
    ensure!(took < TAKEOVER_MAX / 2, "the takeover took {took:?}");
    fleet.role(&holder)?.begin()?;
    fleet.ready()?;

    // One that sleeps through its lease and wakes up beside its successor.
    let holder = reader(&fleet)?;
    fleet.role(&holder)?.sigstop()?;
    let took = resumed(&fleet, &both).await?;
    println!("reader frozen: the next version came after {took:?}");
    fleet.role(&holder)?.sigcont()?;
    fleet.ready()?;

    // One that is killed while nothing that it flushes arrives: its checkpoint must not be ahead of the log.
    let holder = reader(&fleet)?;
    let shown = both.feed.snapshot().version();
    fleet.ways.kafka.set(Way::Up, Carry::Vanish);
    fleet
        .engines
        .mysql
        .sql("UPDATE live.room SET live_status = 1 - live_status WHERE id BETWEEN 8 AND 40")?;
    // Not a wait for something: checkpoints are due meanwhile.
    tokio::time::sleep(3 * CHECKPOINTS).await;
    fleet.role(&holder)?.kill9()?;
    fleet.ways.kafka.set(Way::Up, Carry::Pass);
    fleet.ways.kafka.reset();
    let took = resumed(&fleet, &both).await?;
    println!(
        "reader killed with a log that heard nothing since {shown}: the next version came after {took:?}"
    );
    fleet.role(&holder)?.begin()?;
    fleet.ready()?;

    // Mergers come and go.
    for name in ["merger-1", "merger-2"] {
        fleet.role(name)?.kill9()?;
        resumed(&fleet, &both).await?;
        fleet.role(name)?.begin()?;
        fleet.ready()?;
    }

    // One that sleeps through its session and wakes up beside its successor.
    outlast(&mut fleet, &both, &heads).await?;

    // So do servers: the one that the client of both is at stops in peace, then the one that it went on to is killed.
    let before = both.status();
    let left_by = serving(&fleet, &both)?;
    fleet.role(&left_by)?.stop()?;
    resumed(&fleet, &both).await?;
    fleet.role(&left_by)?.start()?;
    let killed = serving(&fleet, &both)?;
    ensure!(killed != left_by, "the client stayed at {left_by}");
    fleet.role(&killed)?.kill9()?;
    resumed(&fleet, &both).await?;
    fleet.role(&killed)?.start()?;

    // Where the other server leads on from what a client holds, no snapshot is sent.
    let status = both.status();
    ensure!(
        status.reconnects >= before.reconnects + 2 && status.wholes == 1,
        "{status:?}"
    );

    let sent = workload.stop()?;
    let set = fleet.executed()?;
    let shape = Shape::room();
    let table = shape.content(&fleet.engines.mysql.sql(&shape.select())?)?;
    let mut lives = Vec::new();
    for observer in [left, right, both] {
        observer
            .wait_for_set(&set, PATIENCE)
            .await
            .with_context(|| fleet.logs())?;
        let held = content(&observer.feed.snapshot());
        ensure!(held == table, "{}", difference(&table, &held));
        lives.push(observer.finish().await?);
    }
    let report = judge(&fleet, &lives)?;
    let compared = heads.judge(&truth(&fleet)?, BUCKETS)?;
    println!(
        "{} versions compared at three clients, {compared} heads (sampled), epochs {:?}, {sent} transactions; {}",
        report.versions, report.epochs, report.wrong
    );
    ensure!(
        report.epochs.len() == 1,
        "takeovers need no epoch: {}",
        fleet.logs()
    );
    for role in &mut fleet.roles {
        role.stop()?;
    }
    Ok(())
}

/// Freezes a merger until the other has moved all heads, also the frozen one's, and for longer than its session; then
/// both move on. What they made of the heads is judged at the end.
async fn outlast(fleet: &mut Fleet, observer: &Observer, heads: &Heads) -> Result<()> {
    const SLEEPER: &str = "merger-1";
    let buckets = divided(fleet, SLEEPER)?;
    fleet.role(SLEEPER)?.sigstop()?;
    let slept = Instant::now();
    // Committed after it fell asleep: what is past this, the other has moved.
    resumed(fleet, observer).await?;
    heads
        .past(observer.feed.snapshot().version(), BUCKETS)
        .await
        .with_context(|| fleet.logs())?;
    let moved = slept.elapsed();
    // Not a wait for something: it sleeps on.
    tokio::time::sleep(SLEEP.saturating_sub(moved)).await;
    fleet.role(SLEEPER)?.sigcont()?;
    println!(
        "merger frozen for {:?}: the heads of its {buckets} buckets moved on after {moved:?}",
        slept.elapsed()
    );
    fleet.ready()?;
    resumed(fleet, observer).await?;
    heads
        .past(observer.feed.snapshot().version(), BUCKETS)
        .await
        .with_context(|| fleet.logs())?;
    // None where it hears of the new division before it tries.
    let log = fleet.role(SLEEPER)?.log();
    let lost = log.matches("was moved by another merger").count();
    println!("  of its moves {lost} were lost");
    Ok(())
}

/// Waits until the mergers say that all buckets are divided among them; how many this one has.
fn divided(fleet: &Fleet, merger: &str) -> Result<usize> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let told = fleet.told()?;
        let roles = told["roles"].as_array().context("no roles")?;
        let shares = roles.iter().filter(|role| role["role"] == "merger");
        let shares: BTreeMap<&str, usize> = shares.filter_map(share).collect();
        let has_each = shares.len() == TWO.mergers && shares.values().all(|share| *share > 0);
        if has_each && shares.values().sum::<usize>() == usize::from(BUCKETS.get()) {
            return Ok(shares[merger]);
        }
        ensure!(
            Instant::now() < deadline,
            "the buckets are not divided after {PATIENCE:?}: {told}\n{}",
            fleet.logs()
        );
        thread::sleep(LOOK);
    }
}

/// A merger, and how many buckets it says are its own.
fn share(role: &serde_json::Value) -> Option<(&str, usize)> {
    let of_feed = role["detail"].as_str()?.strip_prefix("feed room: ")?;
    let (count, _) = of_feed.split_once(" buckets")?;
    Some((role["process"].as_str()?, count.parse().ok()?))
}

/// The process that reads.
fn reader(fleet: &Fleet) -> Result<String> {
    let told = fleet.told()?;
    let roles = told["roles"].as_array().context("no roles")?;
    let following = roles
        .iter()
        .find(|role| role["role"] == "reader" && role["state"] == "following");
    let process = following.and_then(|role| role["process"].as_str());
    Ok(process.context("nobody reads")?.to_owned())
}

/// The server that this client is at.
fn serving(fleet: &Fleet, observer: &Observer) -> Result<String> {
    let status = observer.status();
    let endpoint = status.endpoint.as_deref();
    let at = fleet.roles.iter().find(|role| {
        role.name().starts_with("server")
            && endpoint.is_some_and(|endpoint| endpoint.ends_with(role.address()))
    });
    let at = at.with_context(|| format!("at no server: {status:?}"))?;
    Ok(at.name().to_owned())
}

/// Waits until a transaction that is committed now is seen; how long that took.
async fn resumed(fleet: &Fleet, observer: &Observer) -> Result<Duration> {
    let began = Instant::now();
    fleet
        .engines
        .mysql
        .sql("UPDATE live.room SET live_status = 1 - live_status WHERE id = 7")?;
    observer
        .wait_for_set(&fleet.executed()?, PATIENCE)
        .await
        .with_context(|| fleet.logs())?;
    Ok(began.elapsed())
}
