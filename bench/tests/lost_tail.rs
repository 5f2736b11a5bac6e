//! A server that comes back from a crash without its newest transactions, and gives their GTIDs to others: whoever compares
//! sets alone sees nothing.

use anyhow::{Result, ensure};
use onair_bench::seed::seed;
use onair_cdc::config::Settings;
use onair_cdc::demo::{DemoServer, DemoSettings};

use crate::system::System;

/// Crashes, and how many transactions each loses: so many that some of them touched the feed. Those that did not can be
/// lost and given again without a trace.
const CRASHES: u64 = 6;
const LOST_MIN: u64 = 8;
const LOST_MAX: u64 = 24;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gtids_given_again_after_a_lost_tail_are_noticed() {
    let seed = seed("lost tail");
    crashes(seed)
        .await
        .unwrap_or_else(|error| panic!("{error:?}"));
}

async fn crashes(seed: u64) -> Result<()> {
    let demo = DemoServer::start(DemoSettings {
        rows: 2_000,
        live_share: 0.3,
        rate: 400.0,
        seed,
        ..DemoSettings::default()
    });
    let mut system = System::start(&demo, Settings::default()).await?;
    for crash in 1..=CRASHES {
        // What is lost was shown, and a checkpoint stands behind it.
        let epoch = system.status().epochs;
        system.checkpointed().await?;
        demo.pause();
        system.equal(&demo).await?;
        let lost = demo.lose_tail(LOST_MIN + crash * (LOST_MAX - LOST_MIN) / CRASHES);
        // More than were lost: the set that the server has now contains the one that it had.
        demo.work(2 * lost as usize + 5);
        system
            .until("the epoch after a lost tail", |status| {
                status.epochs > epoch
            })
            .await?;
        demo.resume();
        demo.pause();
        system.equal(&demo).await?;
        demo.resume();
    }
    let status = system.status();
    let seen = system.end().await?;
    println!(
        "{CRASHES} crashes, {} epochs, {seen} versions seen",
        status.epochs
    );
    ensure!(
        status.epochs == 1 + CRASHES,
        "{} epochs after {CRASHES} crashes",
        status.epochs
    );
    Ok(())
}
