//! Scan under fire, whole: reader, log, merger, store, server and client in one process, on a demo server at which every
//! stage of a commit is late now and then, with one scan after the other beside its workload.
//!
//! A scan that puts back an older row or brings back a deleted one makes content that the next scan does not find in the
//! table: drift, and an epoch more than the test asked for.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use onair_bench::seed::seed;
use onair_cdc::config::Settings;
use onair_cdc::demo::{CommitOrder, Delay, DemoServer, DemoSettings, Hooks};

use crate::system::System;

/// Times that the workload is held and the client's set compared with the table, per order of commits.
const ROUNDS: usize = 8;
/// Scans between two of them.
const SCANS_A_ROUND: u64 = 5;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scans_beside_a_heavy_writer_never_take_a_row_back() {
    let seed = seed("fire");
    for order in [CommitOrder::Binlog, CommitOrder::Any] {
        under_fire(order, seed)
            .await
            .unwrap_or_else(|error| panic!("{order:?}: {error:?}"));
    }
}

async fn under_fire(order: CommitOrder, seed: u64) -> Result<()> {
    let late = |chance, millis| Delay::sometimes(chance, Duration::from_millis(millis));
    let demo = DemoServer::start(DemoSettings {
        rows: 4_000,
        live_share: 0.2,
        rate: 800.0,
        seed,
        hooks: Hooks {
            visible_delay: late(0.3, 40),
            executed_delay: late(0.5, 150),
            stream_delay: late(0.02, 100),
            scan_delay: late(0.8, 15),
            order,
        },
        ..DemoSettings::default()
    });
    let settings = Settings {
        scan_period: Some(Duration::from_millis(10)),
        full_cut_every: Duration::from_millis(100),
        ..Settings::default()
    };
    let mut system = System::start(&demo, settings).await?;
    let mut barriers = 0;
    for round in 0..ROUNDS {
        match round % 4 {
            1 => {
                demo.statement("UPDATE live.room SET online = 0 WHERE id = 0");
                barriers += 1;
            }
            3 => {
                system.checkpointed().await?;
                demo.disconnect();
            }
            _ => {}
        }
        let proofs = system.status().proofs + SCANS_A_ROUND;
        system
            .until("scans that agree", |status| status.proofs >= proofs)
            .await?;
        demo.pause();
        system
            .equal(&demo)
            .await
            .with_context(|| format!("round {round}"))?;
        demo.resume();
    }
    let status = system.status();
    let proven = system.observer.feed.snapshot().proven();
    let seen = system.end().await?;
    let counts = demo.counts();
    println!(
        "{order:?}: {} scans agreed, {} epochs, {} versions seen, {} transactions; {counts:?}",
        status.proofs, status.epochs, seen, counts.transactions
    );
    ensure!(
        status.epochs == 1 + barriers,
        "{} epochs, and {barriers} barriers: a scan and the stream differed",
        status.epochs
    );
    ensure!(proven.is_some(), "the client was never told of a proof");
    // Everything that can be late was.
    for times in [
        counts.visible_delayed,
        counts.executed_delayed,
        counts.stream_delayed,
        counts.lock_conflicts,
        counts.views_behind_stream,
        counts.views_ahead_of_executed,
        counts.views_ahead_of_stream,
        counts.scan_waits,
        counts.highs_from_owned,
        counts.scan_pauses,
        counts.rollbacks,
    ] {
        ensure!(times > 0, "{counts:?}");
    }
    Ok(())
}
