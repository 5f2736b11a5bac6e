//! Another epoch, or another log, on purpose: `onair re-derive`.

use anyhow::{Context as _, Result, ensure};
use onair_bench::observer::{Observer, content};
use onair_bench::oracle::{Shape, difference};
use onair_bench::seed::seed;
use onair_bench::workload::Workload;
use onair_xtask::servers::Kafka;

use super::{Fleet, PATIENCE, Size, command, run};

const ONE: Size = Size {
    readers: 1,
    mergers: 1,
    servers: 1,
};

#[test]
fn re_derive_beside_a_running_reader_opens_an_epoch_and_loses_nothing() {
    run(ONE, beside_a_reader);
}

async fn beside_a_reader(mut fleet: Fleet) -> Result<()> {
    fleet.start()?;
    let observer = Observer::connect_to(&fleet.addresses()).await?;
    let pace = std::time::Duration::from_millis(20);
    let workload = Workload::start(&fleet.engines.mysql, seed("re-derive"), 2, pace)?;
    let before = observer.feed.snapshot().version().epoch().get();
    fleet.checkpointed()?;
    let said = command(&["re-derive", "--json"], &fleet.config)?;
    let said: serde_json::Value = serde_json::from_str(&said)?;
    ensure!(
        said["checkpoint"].is_string(),
        "no checkpoint was there: {said}"
    );
    let opened = observer.wait_for("the next epoch", PATIENCE, |now| now.epoch > before);
    opened.await.with_context(|| fleet.logs())?;
    let sent = workload.stop()?;
    equal(&fleet, &observer).await?;
    let reader = fleet.role("cdc-1")?;
    ensure!(reader.is_running()?, "the reader ended");
    ensure!(reader.starts == 1, "the reader was started again");
    finish(fleet, observer, sent).await
}

/// Topics are known by their cluster and their own id: the checkpoint is of the ones that it was written for.
#[test]
fn a_log_of_another_identity_stops_the_reader_until_re_derive() {
    run(ONE, another_log);
}

async fn another_log(mut fleet: Fleet) -> Result<()> {
    fleet.start()?;
    fleet.checkpointed()?;
    let observer = Observer::connect_to(&fleet.addresses()).await?;
    equal(&fleet, &observer).await?;
    for role in &mut fleet.roles {
        role.stop()?;
    }
    let shown = observer.feed.snapshot().version();
    let other = Kafka::start_behind(fleet.ways.kafka.port())?;
    fleet.ways.kafka.lead_to(&other.behind()?);
    fleet.ways.kafka.reset();

    let reader = fleet.role("cdc-1")?;
    reader.begin()?;
    let status = reader.wait_end()?;
    ensure!(status.code() == Some(1), "it ended with {status}");
    let log = reader.log();
    for words in ["another cluster", "onair re-derive", "room"] {
        ensure!(log.contains(words), "{words:?} is not said:\n{log}");
    }
    ensure!(
        observer.feed.snapshot().version() == shown,
        "clients were shown something else"
    );

    command(&["re-derive"], &fleet.config)?;
    fleet.start()?;
    let epoch = shown.epoch().get();
    let opened = observer.wait_for("the next epoch", PATIENCE, |now| now.epoch > epoch);
    opened.await.with_context(|| fleet.logs())?;
    fleet
        .engines
        .mysql
        .sql("UPDATE live.room SET live_status = 1 - live_status WHERE id BETWEEN 3 AND 30")?;
    equal(&fleet, &observer).await?;
    finish(fleet, observer, 1).await
}

/// The client holds the table.
async fn equal(fleet: &Fleet, observer: &Observer) -> Result<()> {
    let shape = Shape::room();
    let waited = observer.wait_for_set(&fleet.executed()?, PATIENCE).await;
    waited.with_context(|| fleet.logs())?;
    let table = shape.content(&fleet.engines.mysql.sql(&shape.select())?)?;
    let held = content(&observer.feed.snapshot());
    ensure!(held == table, "{}", difference(&table, &held));
    Ok(())
}

/// Every version that the client saw was the table at its GTID, in two epochs.
async fn finish(mut fleet: Fleet, observer: Observer, sent: u64) -> Result<()> {
    let report = super::chaos::judge(&fleet, &[observer.finish().await?])?;
    println!(
        "{} versions compared, epochs {:?}, {sent} transactions",
        report.versions, report.epochs
    );
    ensure!(report.epochs.len() == 2, "{:?}", report.epochs);
    for role in &mut fleet.roles {
        role.stop()?;
    }
    Ok(())
}
