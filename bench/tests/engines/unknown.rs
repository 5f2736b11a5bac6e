//! Compare-and-sets of heads whose outcome nobody tells: thousands, with two mergers on each bucket.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use onair_bench::seed::seed;
use onair_log::EventLog;
use onair_log::memory::{MemoryConfig, MemoryLog};
use onair_log::testing::Workload;
use onair_store::ShardStore;
use onair_store::scylla::proxy::{CqlProxy, Fault, Plan};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::feed::Feed;
use super::roles::Merging;
use super::{LOOK, PATIENCE, cassandra, keyspace, open, until};

/// How often each must have happened, and its chance until then. Of a connection that breaks there are fewer: what else
/// is on it meets that too.
const WANTED: [(Fault, u64, f64); 6] = [
    (Fault::AnswerLost, 1000, 0.14),
    (Fault::RequestLost, 1000, 0.14),
    (Fault::Late, 1000, 0.14),
    (Fault::Unavailable, 1000, 0.14),
    (Fault::Timeout, 1000, 0.14),
    (Fault::Broken, 50, 0.01),
];

/// Until they must have.
const LIMIT: Duration = Duration::from_secs(180);

/// Of one bucket each, so that more than one outcome is waited for at a time.
const FEEDS: u64 = 12;

/// Between two transactions of a feed.
const SPACING: Duration = Duration::from_millis(20);

/// Bytes of a feed's log: seconds, so that what a merger wrongly takes for folded is soon gone.
const CAPACITY: usize = 32 * 1024;

/// After it a merger gives up on a request.
const REQUEST_TIMEOUT: Duration = Duration::from_millis(150);

/// Has each fault done until there was enough of it.
async fn until_each(proxy: &CqlProxy) {
    let begun = Instant::now();
    loop {
        let counts = proxy.counts();
        let mut is_enough = true;
        for (fault, wanted, chance) in WANTED {
            let is_open = counts.of(fault) < wanted;
            proxy.set(fault, if is_open { chance } else { 0.0 });
            is_enough &= !is_open;
        }
        if is_enough {
            println!("{counts}, in {:?}", begun.elapsed());
            return;
        }
        assert!(begun.elapsed() < LIMIT, "not enough: {counts}");
        sleep(LOOK).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_mergers_on_each_bucket_stand_a_thousand_unknown_outcomes_of_each_kind() {
    let Some(node) = cassandra() else { return };
    let seed = seed("unknown outcomes");
    let plan = Plan {
        seed,
        meets: |request| request.moves("head") || request.moves("cuts"),
        // Around the second attempt of a sender who has given up on the first: before it and after it.
        late: REQUEST_TIMEOUT..REQUEST_TIMEOUT + Duration::from_millis(60),
    };
    let proxy = CqlProxy::start(node.address(), plan).await.expect("a port");
    let direct = keyspace(node).await;
    let truth: Arc<dyn ShardStore> = open(&direct).await;
    let log: Arc<dyn EventLog> = Arc::new(MemoryLog::new(MemoryConfig {
        capacity: CAPACITY,
        tail: None,
    }));
    let mut feeds = Vec::new();
    for number in 0..FEEDS {
        let workload = Workload::new(seed.wrapping_add(number), 24, 400);
        let (log, truth) = (Arc::clone(&log), Arc::clone(&truth));
        feeds.push(Feed::open(&format!("rooms{number}"), 1, workload, log, truth).await);
    }

    let settings = onair_merger::Settings {
        fold_interval: Duration::from_millis(200),
        // At once.
        fold_bytes: 0,
        deltas_max: 8,
        ..onair_merger::Settings::default()
    };
    let mut broken = direct.clone();
    broken.nodes = vec![proxy.address()];
    broken.request_timeout = REQUEST_TIMEOUT;
    let mut mergers = Vec::new();
    for _ in 0..2 {
        let (log, store) = (Arc::clone(&log), open(&broken).await);
        mergers.push(Merging::start(&feeds, log, store, settings.clone()));
    }

    let is_over = Arc::new(AtomicBool::new(false));
    let mut writers = JoinSet::new();
    for mut feed in feeds {
        let is_over = Arc::clone(&is_over);
        writers.spawn(async move {
            for round in 1.. {
                let written = timeout(PATIENCE, feed.write(round % 10 == 0)).await;
                written.expect("heads move on and make room in the log");
                sleep(SPACING).await;
                if round % 20 == 0 {
                    feed.check().await;
                    assert_eq!(feed.asked().await, [], "nothing is missing");
                }
                if is_over.load(Relaxed) {
                    break;
                }
            }
            feed
        });
    }
    let found = "a writer that finds its head is not the truth, or stuck, ends";
    tokio::select! {
        () = until_each(&proxy) => {}
        Some(feed) = writers.join_next() => panic!("{found}: {:?}", feed.map(drop)),
    }
    is_over.store(true, Relaxed);
    let mut feeds = Vec::new();
    while let Some(feed) = writers.join_next().await {
        feeds.push(feed.expect(found));
    }

    let counts = proxy.counts();
    assert!(counts.late_applied > 0, "{counts}");
    let folds: Vec<u64> = mergers.iter().map(Merging::folds).collect();
    println!("folds of the two: {folds:?}");
    for feed in &mut feeds {
        feed.write(true).await;
    }
    for feed in &mut feeds {
        feed.until_folded().await;
        assert_eq!(feed.asked().await, [], "{}: nothing was lost", feed.name());
    }
    // Neither is stuck.
    let first = &mut feeds[0];
    for (merger, folds) in mergers.iter().zip(folds) {
        until("a merger goes on", async || {
            first.write(true).await;
            merger.folds() > folds
        })
        .await;
    }
    for merger in mergers {
        for feed in &feeds {
            assert_eq!(merger.of(feed).stopped, []);
        }
        merger.stop().await;
    }
}
