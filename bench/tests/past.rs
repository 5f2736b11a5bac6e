//! The past on a real server: what `dump --at` gives for versions that a client saw, each of them compared with the
//! binlog before; and where a key is, with the row as the table has it.

use std::fs::File;
use std::io::BufReader;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use onair_bench::oracle::{Shape, Truth, check};
use onair_bench::process::{Build, OnAir};
use onair_bench::seed::seed;
use onair_bench::workload::{Workload, fill};
use onair_xtask::servers::Flavor;
use serde_json::Value;

use crate::world::{self, PATIENCE, World};

/// Versions read again.
const READS: usize = 60;

#[test]
fn what_was_seen_can_be_read_later_on_mysql_9_7() {
    world::run(Flavor::Mysql97, Build::Plain, what_was_seen);
}

#[test]
fn a_change_that_the_binlog_does_not_have_is_explained_on_mysql_9_7() {
    world::run(Flavor::Mysql97, Build::Plain, explained);
}

#[test]
fn a_change_that_the_binlog_does_not_have_is_explained_on_mariadb_10_11() {
    world::run(Flavor::Mariadb1011, Build::Plain, explained);
}

#[test]
fn rows_of_an_earlier_schema_are_read_by_it_on_mysql_9_7() {
    world::run(Flavor::Mysql97, Build::Plain, earlier_schema);
}

async fn what_was_seen(mut world: World) -> Result<()> {
    let seed = seed("past");
    let workload = Workload::start(&world.server, seed, 2, Duration::from_millis(20))?;
    let deltas = |count| move |now: &onair_bench::observer::Progress| now.deltas >= count;
    let until = async |world: &World, what, count| {
        let waited = world.observer.wait_for(what, PATIENCE, deltas(count));
        waited.await.with_context(|| world.onair.log_tail())
    };
    until(&world, "the first epoch", 150).await?;
    world.server.sql("TRUNCATE TABLE live.room")?;
    world.server.sql(&fill(1..=500))?;
    until(&world, "the second epoch", 300).await?;
    world.onair.stop()?;
    world.onair.start()?;
    until(&world, "after a restart", 400).await?;
    world.onair.kill9()?;
    world.onair.start()?;
    until(&world, "after kill -9", 500).await?;
    workload.stop()?;
    world.settle().await?;
    world.merged().await?;

    let World {
        server,
        onair,
        observer,
        dir,
    } = world;
    let seen = observer.finish().await?;
    let path = dir.path().join("binlog.txt");
    server.write_binlog_text(&path)?;
    let truth = Truth::read(BufReader::new(File::open(&path)?), &Shape::room())?;
    check(&truth, &seen)?;
    let mut epochs = std::collections::BTreeSet::new();
    for seen in seen.iter().step_by((seen.len() / READS).max(1)) {
        let version = seen.version.to_string();
        let lines = read(&onair, &["dump", "room", "--at", &version], 0)?;
        let header = &lines[0];
        let digest = header["digest"].as_str().context("no digest")?;
        ensure!(header["version"] == *version, "{header}");
        ensure!(
            u128::from_str_radix(digest, 16)? == seen.state.digest
                && header["count"] == seen.state.count
                && lines.len() as u64 == seen.state.count + 1,
            "{version}: seen as {:?}, read as {header}",
            seen.state
        );
        epochs.insert(seen.version.epoch());
    }
    println!(
        "{} versions seen, {READS} of {} epochs read again",
        seen.len(),
        epochs.len()
    );
    ensure!(epochs.len() == 2, "{epochs:?}");
    Ok(())
}

/// The binlog file that is written to, and how long it is.
fn binlog_end(world: &World) -> Result<(String, u64)> {
    let listed = world.server.sql("SHOW BINARY LOGS")?;
    let mut last = listed.lines().last().context("a binlog")?.split('\t');
    let file = last.next().context("a name")?.to_owned();
    Ok((file, last.next().context("a size")?.parse()?))
}

async fn explained(world: World) -> Result<()> {
    world.server.sql(&fill(1..=50))?;
    let begun = binlog_end(&world)?;
    world
        .server
        .sql("UPDATE live.room SET live_status = 1, title = 'known' WHERE id = 7")?;
    world.settle().await?;
    world.merged().await?;
    let url = world.server.url("onair:secret", "");
    let table = [
        "explain",
        "room",
        "7",
        "--mysql",
        &url,
        "--table",
        "live.room",
        "--live-when",
        "live_status = 1",
        "--columns",
        "uid,area_id,title,live_time",
    ];
    let stages = |lines: &[Value]| -> Vec<(String, String, Value)> {
        let all = lines[0]["stages"].as_array().cloned().unwrap_or_default();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        all.iter()
            .map(|stage| {
                let title = stage["row"]["title"].clone();
                (text(&stage["name"]), text(&stage["verdict"]), title)
            })
            .collect()
    };
    // The log is in memory and what is folded has gone from it.
    let lines = read(&world.onair, &table, 0)?;
    let ended = binlog_end(&world)?;
    let all = lines[0]["stages"].as_array().context("stages")?;
    for stage in all.iter().filter(|stage| stage["gtid"].is_string()) {
        let said = stage["position"].as_str().context("no position")?;
        let (file, at) = said.split_once(':').context("a file and a position")?;
        let at = at.parse::<u64>()?;
        ensure!(
            file == begun.0 && file == ended.0,
            "{stage}: {begun:?} to {ended:?}"
        );
        ensure!(
            begun.1 < at && at <= ended.1,
            "{stage}: {begun:?} to {ended:?}"
        );
    }
    let told = stages(&lines);
    for (name, verdict, title) in &told {
        let expected = match verdict.as_str() {
            "unknown" => Value::Null,
            _ => "known".into(),
        };
        ensure!(
            *title == expected && (verdict == "agrees" || name == "log"),
            "{told:?}"
        );
    }
    ensure!(told.len() == 4 && told[0].0 == "mysql", "{told:?}");

    world
        .server
        .sql("SET sql_log_bin = 0; UPDATE live.room SET title = 'unsaid' WHERE id = 7")?;
    let told = stages(&read(&world.onair, &table, 3)?);
    ensure!(told[0].2 == "unsaid", "{told:?}");
    let marked: Vec<_> = told
        .iter()
        .filter(|(_, verdict, _)| verdict == "disagrees")
        .collect();
    ensure!(
        marked.len() == 1 && marked[0].2 == "known" && marked[0].0 != "server",
        "{told:?}"
    );
    Ok(())
}

async fn earlier_schema(world: World) -> Result<()> {
    world.server.sql(&fill(1..=50))?;
    world
        .server
        .sql("UPDATE live.room SET live_status = 1, uid = 7007 WHERE id = 7")?;
    world.settle().await?;
    world.merged().await?;
    let version = world.observer.feed.snapshot().version().to_string();
    let dump = ["dump", "room", "--at", &version];
    let before = read(&world.onair, &dump, 0)?;
    world
        .server
        .sql("ALTER TABLE live.room MODIFY uid VARCHAR(30) NOT NULL")?;
    world
        .observer
        .wait_for("another epoch", PATIENCE, |now| now.epoch >= 2)
        .await
        .with_context(|| world.onair.log_tail())?;
    world.merged().await?;
    ensure!(
        read(&world.onair, &dump, 0)? == before,
        "it is read as it was"
    );
    let steps = read(&world.onair, &["history", "room", "7"], 0)?;
    let told: Vec<_> = steps
        .iter()
        .map(|step| (&step["cause"], &step["row"]["uid"]))
        .collect();
    let [.., (binlog, number), (epoch, text)] = &told[..] else {
        anyhow::bail!("{steps:?}");
    };
    ensure!(
        **binlog == "binlog" && **number == 7007 && **epoch == "epoch" && **text == "7007",
        "{steps:?}"
    );
    Ok(())
}

/// The lines of a verb that ends with this code.
fn read(onair: &OnAir, arguments: &[&str], code: i32) -> Result<Vec<Value>> {
    let ended = onair.read(arguments)?;
    ensure!(
        ended.status.code() == Some(code),
        "{arguments:?}: {ended:?}"
    );
    let text = String::from_utf8(ended.stdout)?;
    let lines = text.lines().map(serde_json::from_str);
    Ok(lines.collect::<Result<_, _>>()?)
}
