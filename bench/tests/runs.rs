//! Reconciliation runs with every role: what was changed behind the reader's back is told row by row, and mended.

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use onair_bench::process::{Build, binary};
use onair_bench::seed::seed;
use onair_cdc::config::Settings;
use onair_cdc::demo::{DemoServer, DemoSettings, Room};
use onair_sdk::{Raw, raw};
use onair_store::runs::{self, Asked, Drift, Origin, Run, Sides, State};
use onair_xtask::servers::Flavor;
use serde_json::Value;

use crate::system::System;
use crate::world::{self, PATIENCE, World};

/// 2026-11-22, microseconds since 1970; ids of runs are made of it.
const NOW: i64 = 1_795_384_800_000_000;

async fn reconcile(system: &System, dry_run: bool) -> Result<Run> {
    let asked = Asked {
        feed: "room".into(),
        origin: Origin::Operator,
        dry_run,
        rate_max: None,
    };
    let store = &*system.store;
    let run = runs::ask(store, asked, NOW).await?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        let found = runs::find(store, &run.feed, &run.id).await?;
        let run = found.context("the run is kept")?.value;
        if run.state.is_over() {
            return Ok(run);
        }
        ensure!(Instant::now() < deadline, "never over: {run:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn room(id: u64, title: &str) -> Room {
    Room {
        title: Some(title.into()),
        live_status: 1,
        ..Room::new(id)
    }
}

/// A demo without drift, and a system on it; the workload's rate.
async fn world(seed: u64, rate: f64) -> Result<(Arc<DemoServer>, System)> {
    let demo = DemoServer::start(DemoSettings {
        rows: 3_000,
        live_share: 0.2,
        rate,
        seed,
        ..DemoSettings::default()
    });
    let settings = Settings {
        scan_period: None,
        ..Settings::default()
    };
    let mut system = System::start(&demo, settings).await?;
    system
        .until("the first proof", |status| status.proofs > 0)
        .await?;
    Ok((demo, system))
}

/// Keys of examples of each kind, with the titles of table and feed.
fn told(system: &System, drift: &Drift) -> Result<Vec<(String, String, String)>> {
    let snapshot = system.observer.feed.snapshot();
    let schema = snapshot.schema();
    let title = |row: &onair_model::Row| -> Result<String> {
        let row = Raw::new(row.bytes().clone(), Arc::new(schema.clone()));
        Ok(match row.get("title")? {
            raw::Value::Text(text) => text.into_owned(),
            other => format!("{other:?}"),
        })
    };
    let none = || Ok("-".to_owned());
    let example = |example: &runs::Difference| {
        let (source, held) = match &example.sides {
            Sides::Missing { source } => (title(source), none()),
            Sides::Extra { held } => (none(), title(held)),
            Sides::Stale { source, held } => (title(source), title(held)),
        };
        Ok((raw::key_text(schema, &example.key), source?, held?))
    };
    drift.examples.iter().map(example).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn missing_extra_and_stale_rows_are_told_exactly_and_mended() -> Result<()> {
    let (demo, system) = world(seed("runs"), 0.0).await?;
    demo.transaction(|t| {
        for id in 9_000_000..9_000_010 {
            t.insert(room(id, "known"))
                .unwrap_or_else(|error| panic!("{error}"));
        }
    });
    system.equal(&demo).await?;
    let before = system.observer.feed.snapshot();
    demo.unlogged(|t| {
        t.insert(room(9_100_000, "unlogged"))
            .unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(t.delete_all([9_000_000, 9_000_001]), 2);
        for id in 9_000_002..9_000_005 {
            let changed = t.update(id, |room| room.title = Some("changed".into()));
            assert_eq!(changed, Ok(true));
        }
    });
    let expected: Vec<_> = [
        ("id=9100000", "unlogged", "-"),
        ("id=9000000", "-", "known"),
        ("id=9000001", "-", "known"),
        ("id=9000002", "changed", "known"),
        ("id=9000003", "changed", "known"),
        ("id=9000004", "changed", "known"),
    ]
    .map(|(key, source, held)| (key.to_owned(), source.to_owned(), held.to_owned()))
    .into();

    let dry = reconcile(&system, true).await?;
    let drift = dry.drift.as_ref().with_context(|| format!("{dry:?}"))?;
    ensure!(
        (drift.missing, drift.extra, drift.stale) == (1, 2, 3),
        "{drift:?}"
    );
    assert_eq!(told(&system, drift)?, expected);
    ensure!(
        dry.drift_after == dry.drift_before && dry.drift_before > 0,
        "{dry:?}"
    );
    ensure!(dry.proven.is_none(), "{dry:?}");
    let shown = system.observer.feed.snapshot();
    ensure!(
        shown.digest() == before.digest(),
        "a dry run changes nothing"
    );
    ensure!(
        shown.proven() == before.proven(),
        "a dry run proves nothing that differs"
    );

    let run = reconcile(&system, false).await?;
    let drift = run.drift.as_ref().with_context(|| format!("{run:?}"))?;
    assert_eq!(told(&system, drift)?, expected);
    ensure!(run.state == State::Done && run.drift_after == 0, "{run:?}");
    system.equal(&demo).await?;
    let again = reconcile(&system, false).await?;
    ensure!(again.drift == Some(Drift::default()), "{again:?}");
    let epochs = system.status().epochs;
    ensure!(
        epochs == 2,
        "{epochs} epochs: one of the start, one of the drift"
    );
    system.end().await?;
    Ok(())
}

/// The reader's versions go on while the store comes to the one compared.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn drift_is_told_exactly_beside_a_heavy_writer() -> Result<()> {
    let (demo, system) = world(seed("runs, busy"), 400.0).await?;
    demo.unlogged(|t| {
        for id in 9_100_000..9_100_030 {
            t.insert(room(id, "unlogged"))
                .unwrap_or_else(|error| panic!("{error}"));
        }
    });
    let run = reconcile(&system, false).await?;
    let drift = run.drift.as_ref().with_context(|| format!("{run:?}"))?;
    ensure!(
        (drift.missing, drift.extra, drift.stale) == (30, 0, 0),
        "{run:?}"
    );
    ensure!(run.drift_before == 4 && run.drift_after == 0, "{run:?}");
    demo.pause();
    system.equal(&demo).await?;
    system.end().await?;
    Ok(())
}

#[test]
fn rows_changed_behind_the_readers_back_are_told_and_mended_on_mysql_9_7() {
    world::run(Flavor::Mysql97, Build::Plain, behind_its_back);
}

async fn behind_its_back(world: World) -> Result<()> {
    let before = world.observer.feed.snapshot();
    let mut live = before.iter().filter_map(|(key, _)| key.as_u64());
    let (extra, stale) = live.next().zip(live.next()).context("two rows on air")?;
    let missing = 2_000_000;
    world.server.sql(&format!(
        "SET sql_log_bin = 0; DELETE FROM live.room WHERE id = {extra}; \
         UPDATE live.room SET title = 'behind its back' WHERE id = {stale}; \
         INSERT INTO live.room (uid, id, area_id, live_status) VALUES (7, {missing}, 1, 1)"
    ))?;
    let dry = reconciled(&world, &["--dry-run"])?;
    let counts = |run: &Value| {
        let of = |kind: &str| run["drift"][kind].as_u64();
        (of("missing"), of("extra"), of("stale"))
    };
    ensure!(counts(&dry) == (Some(1), Some(1), Some(1)), "{dry}");
    ensure!(
        dry["proven"].is_null() && dry["buckets_after"] == dry["buckets_before"],
        "{dry}"
    );
    let examples = dry["drift"]["examples"].as_array().context("examples")?;
    let named: Vec<_> = examples
        .iter()
        .map(|example| (example["kind"].as_str(), example["key"]["id"].as_u64()))
        .collect();
    let expected = [("missing", missing), ("extra", extra), ("stale", stale)];
    ensure!(
        named == expected.map(|(kind, id)| (Some(kind), Some(id))),
        "{dry}"
    );
    ensure!(examples[2]["source"]["title"] == "behind its back", "{dry}");
    let run = reconciled(&world, &[])?;
    ensure!(
        counts(&run) == counts(&dry) && run["buckets_after"] == 0,
        "{run}"
    );
    ensure!(run["database_bytes"].as_u64() > Some(0), "{run}");
    world.equal().await
}

/// Exit code 5 is what a script sees of the guard.
#[test]
fn a_run_that_takes_too_much_away_is_held_with_exit_code_5_on_mysql_9_7() {
    world::run(Flavor::Mysql97, Build::Plain, held);
}

async fn held(world: World) -> Result<()> {
    let before = world.observer.feed.snapshot();
    world.server.sql(
        "SET sql_log_bin = 0; DELETE FROM live.room WHERE live_status = 1 ORDER BY id LIMIT 150",
    )?;
    // Slow, so that it is still held when it is looked at: a second scan that agrees would let it through.
    let url = format!("http://{}", world.onair.address());
    let mut command = Command::new(binary(Build::Plain)?);
    command.args(["reconcile", "room", "--wait", "--max-rate", "50"]);
    let ended = command.args(["--json", "--server", &url]).output()?;
    ensure!(ended.status.code() == Some(5), "{ended:?}");
    let said = String::from_utf8(ended.stderr)?;
    ensure!(said.contains("is held by the guard"), "{said}");
    let last = String::from_utf8(ended.stdout)?;
    let last: Value = serde_json::from_str(last.lines().last().context("no line")?)?;
    ensure!(last["state"] == "held", "{last}");
    let shown = world.observer.feed.snapshot();
    ensure!(
        shown.len() == before.len(),
        "{} of {} rows are shown: some were taken away",
        shown.len(),
        before.len()
    );
    let id = last["run"].as_str().context("a run without an id")?;
    let approved = world.onair.read(&["runs", "approve", id])?;
    ensure!(approved.status.success(), "{approved:?}");
    let less = |shown: usize| shown + 150 == before.len();
    let feed = world.observer.feed.clone();
    let mut status = feed.changes();
    let gone = async {
        while !less(feed.snapshot().len()) {
            ensure!(status.next().await.is_some(), "the feed ended");
        }
        Ok(())
    };
    tokio::time::timeout(PATIENCE, gone).await??;
    world.equal().await
}

#[test]
fn polling_is_compared_with_the_feed_on_mysql_9_7() {
    world::run(Flavor::Mysql97, Build::Plain, compared);
}

async fn compared(world: World) -> Result<()> {
    let set =
        |id: u64, live: u8| format!("UPDATE live.room SET live_status = {live} WHERE id = {id}; ");
    // 1 and 2 are off air, 3 is on. A step of a feed has the net of the transactions in it, so 2 stays for a while.
    let came_and_went = || {
        let script = [
            &set(1, 1),
            &set(2, 1),
            "DO SLEEP(0.3); ",
            &set(2, 0),
            &set(3, 0),
        ];
        world.server.sql(&script.concat())
    };
    let (changes, run) = compare(&world, came_and_went, 0)?;
    let side = |side: &Value| {
        let of = |what: &str| side[what].as_u64();
        (of("opens"), of("closes"), of("only"))
    };
    ensure!(side(&run["old"]) == (Some(1), Some(1), Some(0)), "{run}");
    ensure!(side(&run["new"]) == (Some(2), Some(2), Some(2)), "{run}");
    let expected = serde_json::json!([
        [{"id": 1}, "open", null],
        [{"id": 2}, "close", "feed"],
        [{"id": 2}, "open", "feed"],
        [{"id": 3}, "close", null],
    ]);
    ensure!(edges(&changes) == expected, "{changes:?}");
    for change in &changes {
        let both = change["only"].is_null();
        ensure!(change["feed"].is_string(), "{change}");
        ensure!(change["polling"].is_string() == both, "{change}");
        ensure!(
            change["lead_ms"].as_i64().is_some_and(|lead| lead >= 0) == both,
            "{change}"
        );
    }
    ensure!(run["sooner"] == 2 && run["later"] == 0, "{run}");
    ensure!(
        run["polls"] == 2 && run["polled_rows"].as_u64() > Some(0),
        "{run}"
    );

    // What the binlog does not tell polling alone sees.
    let unlogged = || {
        let script = format!("SET sql_log_bin = 0; {}", set(1, 0));
        world.server.sql(&script)
    };
    let (changes, run) = compare(&world, unlogged, 3)?;
    let expected = serde_json::json!([[{"id": 1}, "close", "polling"]]);
    ensure!(edges(&changes) == expected, "{changes:?}");
    ensure!(side(&run["old"]) == (Some(0), Some(1), Some(1)), "{run}");
    ensure!(side(&run["new"]) == (Some(0), Some(0), Some(0)), "{run}");
    Ok(())
}

/// Key, edge and who alone saw it, by key.
fn edges(changes: &[Value]) -> Value {
    let told = |change: &Value| serde_json::json!([change["key"], change["edge"], change["only"]]);
    let mut told: Vec<Value> = changes.iter().map(told).collect();
    told.sort_by_key(Value::to_string);
    told.into()
}

/// Compares while something is done between the first poll and the last; the exit code must be this. Its changes, and
/// the summary.
fn compare(
    world: &World,
    meanwhile: impl FnOnce() -> Result<String>,
    expected: i32,
) -> Result<(Vec<Value>, Value)> {
    let url = format!("http://{}", world.onair.address());
    let mut command = Command::new(binary(Build::Plain)?);
    command.args(["compare", "room", "--json", "--server", &url]);
    command.args(["--mysql", &world.server.url("onair:secret", "")]);
    command.args(["--table", "live.room", "--live-when", "live_status = 1"]);
    command.args(["--columns", "uid,title", "--poll", "1h", "--for", "6s"]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let comparing = command.spawn()?;
    until_clients(&url, 2)?;
    // From there to the first poll is a statement.
    std::thread::sleep(Duration::from_secs(1));
    let done = meanwhile();
    let ended = comparing.wait_with_output()?;
    done?;
    ensure!(
        ended.status.code() == Some(expected),
        "{ended:?}\n{}",
        world.onair.log_tail()
    );
    let lines = serde_json::Deserializer::from_slice(&ended.stdout).into_iter();
    let mut lines: Vec<Value> = lines.collect::<Result<_, _>>()?;
    let summary = lines.pop().context("a summary")?;
    Ok((lines, summary))
}

/// Waits until the server has so many subscribers.
fn until_clients(url: &str, clients: u64) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mut status = Command::new(binary(Build::Plain)?);
        let said = status
            .args(["status", "--json", "--server", url])
            .output()?;
        let said: Value = serde_json::from_slice(&said.stdout)?;
        if said["feeds"][0]["clients"] == clients {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "never {clients} clients: {said}");
    }
}

/// The last line of `onair reconcile --wait`, which must say by its exit code that something differed.
fn reconciled(world: &World, flags: &[&str]) -> Result<Value> {
    let url = format!("http://{}", world.onair.address());
    let mut command = Command::new(binary(Build::Plain)?);
    command.args(["reconcile", "room", "--wait", "--json", "--server", &url]);
    let ended = command.args(flags).output()?;
    ensure!(ended.status.code() == Some(3), "{ended:?}");
    let text = String::from_utf8(ended.stdout)?;
    let last = text.lines().last().context("a report")?;
    Ok(serde_json::from_str(last)?)
}
