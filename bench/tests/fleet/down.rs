//! One part alone is down: what servers do meanwhile, what `status` says, and that all comes back by itself. And what a
//! process does when it is asked to read its configuration again.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use onair_bench::observer::Observer;
use onair_bench::proxy::{Door, Proxy};
use onair_sdk::{Feed, Raw, Tls};
use onair_xtask::servers::Certificates;
use serde_json::Value;

use super::{Fleet, PATIENCE, Size, command, run};

const ONE: Size = Size {
    readers: 1,
    mergers: 1,
    servers: 1,
};

/// Roles say something each second: who said nothing for this long is silent.
const SILENT: Duration = Duration::from_secs(4);

#[test]
fn what_is_down_alone_is_told_and_comes_back_alone() {
    run(ONE, down_alone);
}

async fn down_alone(mut fleet: Fleet) -> Result<()> {
    fleet.start()?;
    fleet.checkpointed()?;
    let observer = Observer::connect_to(&fleet.addresses()).await?;
    change(&fleet, &observer).await?;
    said(&fleet, "nothing", |told| {
        let of_log = |of: &str, words: &str| roles(told, of).all(|role| role_says(role, words));
        of_log("reader", " under way, ") && of_log("server", " entries behind")
    })
    .await?;

    // The store: the server goes on from memory, and says that what it hears of others is old.
    shut(&fleet.ways.cassandra).await?;
    serves(&fleet, &observer)?;
    said(&fleet, "the store", |told| {
        detail(told, "server").contains("what others say is old: the store cannot be reached")
    })
    .await?;
    serves(&fleet, &observer)?;
    fleet.ways.cassandra.set_door(Door::Open).await?;
    change(&fleet, &observer).await?;
    fleet.ready()?;

    // Kafka: no newer version can come, so its age grows, and the server says why.
    shut(&fleet.ways.kafka).await?;
    let shown = observer.feed.snapshot().version();
    commit(&fleet)?;
    said(&fleet, "Kafka", |told| {
        age(told) > SILENT && roles(told, "server").all(|role| role_says(role, "the log: "))
    })
    .await?;
    serves(&fleet, &observer)?;
    ensure!(
        observer.feed.snapshot().version() == shown,
        "a version came from nowhere"
    );
    fleet.ways.kafka.set_door(Door::Open).await?;
    change(&fleet, &observer).await?;
    fleet.ready()?;

    // The merger: versions go on, since servers read the log themselves; its row is old.
    fleet.role("merger-1")?.kill9()?;
    change(&fleet, &observer).await?;
    said(&fleet, "the merger", |told| {
        roles(told, "merger").all(|role| silent(role) > SILENT)
            && roles(told, "server").all(|role| silent(role) < SILENT)
    })
    .await?;
    serves(&fleet, &observer)?;

    // A server that starts now works from heads and log.
    fleet.role("server-1")?.stop()?;
    commit(&fleet)?;
    fleet.role("server-1")?.start()?;
    change(&fleet, &observer).await?;
    fleet.role("merger-1")?.begin()?;
    fleet.ready()?;
    change(&fleet, &observer).await?;

    let report = super::chaos::judge(&fleet, &[observer.finish().await?])?;
    println!(
        "{} versions compared, epochs {:?}",
        report.versions, report.epochs
    );
    ensure!(
        report.epochs.len() == 1,
        "outages need no epoch: {}",
        fleet.logs()
    );
    for role in &mut fleet.roles {
        role.stop()?;
    }
    Ok(())
}

#[test]
fn sighup_takes_the_level_and_names_what_needs_a_restart() {
    run(ONE, sighup);
}

async fn sighup(mut fleet: Fleet) -> Result<()> {
    fleet.start()?;
    fleet.checkpointed()?;
    let text = fs::read_to_string(&fleet.config)?;
    // Levels stand on the command line in tests, which goes over the file: this process has none.
    let reader = fleet.role("cdc-1")?;
    reader.stop()?;
    let before = reader.log().len();
    reader.without_log_level();
    reader.start()?;
    let said = reader.log();
    ensure!(
        !said[before..].contains(" INFO "),
        "it says more than warnings: {said}"
    );
    let changed = format!("{text}[logging]\nlevel = \"info\"\n[reader]\nscan_period = \"77s\"\n");
    fs::write(&fleet.config, &changed)?;
    fleet.role("cdc-1")?.sighup()?;
    let named = [
        "taken=\"logging.level\"",
        "needs_restart=\"reader.scan_period\"",
    ];
    heard(&mut fleet, "cdc-1", &named).await?;
    // Now it says what it did not say before.
    command(&["re-derive"], &fleet.config)?;
    commit(&fleet)?;
    heard(&mut fleet, "cdc-1", &["an epoch is opened epoch=2"]).await?;

    // Nobody is told the password; that it is another one they are.
    let other = changed.replace("onair:secret@", "onair:other@");
    fs::write(&fleet.config, other)?;
    fleet.role("cdc-1")?.sighup()?;
    let named = "needs_restart=\"source.url, reader.scan_period\"";
    heard(&mut fleet, "cdc-1", &[named]).await?;

    // What is wrong changes nothing, and is said.
    fs::write(&fleet.config, format!("{changed}nonsense = 1\n"))?;
    fleet.role("cdc-1")?.sighup()?;
    heard(
        &mut fleet,
        "cdc-1",
        &["everything stays as it is", "nonsense"],
    )
    .await?;
    ensure!(fleet.role("cdc-1")?.is_running()?, "it ended");

    certified(&mut fleet, &text).await?;
    fs::write(&fleet.config, text)?;
    for role in &mut fleet.roles {
        role.stop()?;
    }
    Ok(())
}

/// A server reads its certificate again; clients that are there stay, and those that come meet the new one.
async fn certified(fleet: &mut Fleet, text: &str) -> Result<()> {
    let dir = fleet.dir.path().to_owned();
    let (before, after) = (dir.join("before"), dir.join("after"));
    let before = Certificates::make(&before)?;
    let after = Certificates::make(&after)?;
    let (certificate, key) = (dir.join("server.pem"), dir.join("key.pem"));
    let put = |of: &Certificates| {
        fs::copy(&of.server, &certificate)?;
        fs::copy(&of.server_key, &key)
    };
    put(&before)?;
    let lines = format!("[server.tls]\ncertificate = {certificate:?}\nkey = {key:?}\n");
    fs::write(&fleet.config, format!("{text}{lines}"))?;
    let server = fleet.role("server-1")?;
    server.stop()?;
    server.start()?;
    let url = format!("https://{}", server.address());
    let connect = async |of: &Certificates| {
        let tls = Tls::new().ca_file(&of.authority);
        let builder = Feed::<Raw>::builder([url.as_str()], "room").tls(tls);
        builder.connect().await
    };
    let there = connect(&before).await?;

    put(&after)?;
    fleet.role("server-1")?.sighup()?;
    let words = "taken=\"the files of [server.tls]\"";
    heard(fleet, "server-1", &[words]).await?;
    let new = connect(&after).await?;
    ensure!(
        connect(&before).await.is_err(),
        "the old certificate is shown"
    );
    commit(fleet)?;
    let set = fleet.executed()?;
    for feed in [&there, &new] {
        tokio::time::timeout(PATIENCE, feed.wait_for(set.as_str())).await??;
    }
    ensure!(there.status().reconnects == 0, "{:?}", there.status());

    // A key of another certificate is not taken.
    fs::copy(&before.server_key, &key)?;
    fleet.role("server-1")?.sighup()?;
    let words = ["[server.tls] was not taken", "cannot be used together"];
    heard(fleet, "server-1", &words).await?;
    connect(&after).await?;
    Ok(())
}

/// Waits until a role's log has all of these words.
async fn heard(fleet: &mut Fleet, role: &str, words: &[&str]) -> Result<()> {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let log = fleet.role(role)?.log();
        let missing = words.iter().find(|words| !log.contains(**words));
        let Some(missing) = missing else {
            return Ok(());
        };
        ensure!(
            tokio::time::Instant::now() < deadline,
            "{missing:?} never came:\n{log}"
        );
        tokio::time::sleep(super::LOOK).await;
    }
}

/// Ends the connections of a way, and lets no new ones through.
async fn shut(way: &Proxy) -> Result<()> {
    way.set_door(Door::Refuse).await?;
    way.reset();
    Ok(())
}

fn commit(fleet: &Fleet) -> Result<()> {
    let statement = "UPDATE live.room SET live_status = 1 - live_status WHERE id = 7";
    fleet.engines.mysql.sql(statement).map(drop)
}

/// A commit, which comes.
async fn change(fleet: &Fleet, observer: &Observer) -> Result<()> {
    commit(fleet)?;
    let set = fleet.executed()?;
    let seen = observer.wait_for_set(&set, PATIENCE).await;
    seen.map(drop).with_context(|| fleet.logs())
}

/// What is shown is read as ever, by the client that is there and by one that comes now.
fn serves(fleet: &Fleet, observer: &Observer) -> Result<()> {
    let shown = observer.feed.snapshot();
    let told = fleet.told()?;
    ensure!(told["feeds"][0]["ready"] == true, "{told}");
    ensure!(told["feeds"][0]["count"] == shown.len(), "{told}");
    let server = fleet.roles.iter().find(|role| role.name() == "server-1");
    let dump = server.context("a server")?.read(&["dump", "room"])?;
    ensure!(dump.status.success(), "{dump:?}");
    // A line for the head, then the rows. Who comes now may be given a whole set of a moment ago, and what came since.
    let text = String::from_utf8(dump.stdout)?;
    let mut lines = text.lines();
    let head: Value = serde_json::from_str(lines.next().context("no head")?)?;
    let rows = lines.count();
    ensure!(head["count"] == rows && rows > 0, "{rows} rows: {head}");
    Ok(())
}

/// Waits until the server says so.
async fn said(fleet: &Fleet, of: &str, so: impl Fn(&Value) -> bool) -> Result<()> {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let told = fleet.told()?;
        if so(&told) {
            println!("down: {of}: {}", told["roles"]);
            return Ok(());
        }
        ensure!(
            tokio::time::Instant::now() < deadline,
            "never said of {of}: {told}\n{}",
            fleet.logs()
        );
        tokio::time::sleep(super::LOOK).await;
    }
}

fn roles<'a>(told: &'a Value, of: &'a str) -> impl Iterator<Item = &'a Value> {
    let roles = told["roles"].as_array().map_or(&[][..], Vec::as_slice);
    roles.iter().filter(move |role| role["role"] == of)
}

fn detail(told: &Value, of: &str) -> String {
    roles(told, of)
        .filter_map(|role| role["detail"].as_str())
        .collect()
}

fn role_says(role: &Value, words: &str) -> bool {
    role["detail"]
        .as_str()
        .is_some_and(|detail| detail.contains(words))
}

fn age(told: &Value) -> Duration {
    Duration::from_millis(told["feeds"][0]["age_ms"].as_u64().unwrap_or_default())
}

/// How long ago a role said something.
fn silent(role: &Value) -> Duration {
    let at = role["at"]
        .as_str()
        .and_then(|at| at.parse::<jiff::Timestamp>().ok());
    let silent = at.map(|at| jiff::Timestamp::now().duration_since(at));
    silent
        .and_then(|silent| silent.try_into().ok())
        .unwrap_or_default()
}
