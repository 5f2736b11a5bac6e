//! A broker that is killed, or frozen.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::task::JoinSet;

use super::*;
use crate::flush;

/// Blocking work of a test, beside its other tasks.
async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_when_the_broker_is_killed() {
    const KILLS: usize = 3;
    /// Appends under way at once.
    const WINDOW: usize = 8;
    let Some(server) = own() else { return };
    let server = Arc::new(server);
    let settings = settings(&server);
    let log = log(&settings);
    let id = open(&log, "f").await;
    if let Some(shared) = shared() {
        let other = super::log(&super::settings(shared));
        assert_ne!(
            open(&other, "f").await,
            id,
            "another cluster is another log"
        );
    }
    let from = lows(&log, "f").await;
    let mut follower = log.follow("f", &from).await.unwrap();
    let done = Arc::new(AtomicBool::new(false));
    let mut killer = JoinSet::new();
    let (killed, stop) = (Arc::clone(&server), Arc::clone(&done));
    killer.spawn(async move {
        for _ in 0..KILLS {
            sleep(Duration::from_millis(1500)).await;
            let killed = Arc::clone(&killed);
            aside(move || {
                killed.kill9().unwrap();
                killed.restart().unwrap();
            })
            .await;
        }
        sleep(Duration::from_millis(1500)).await;
        stop.store(true, Ordering::Relaxed);
    });
    // A follower through all of it.
    let (mut acknowledged, mut failed) = (0, 0);
    let mut under_way = std::collections::VecDeque::new();
    let mut sequence = 0;
    let mut seen = Vec::new();
    let mut take = |entries: Result<Vec<Entry>, LogError>| seen.extend(cuts(&entries.unwrap()));
    loop {
        while under_way.len() < WINDOW && !done.load(Ordering::Relaxed) {
            sequence += 1;
            under_way.push_back((
                sequence,
                log.append(flush("f", (sequence % 3) as u16, sequence, 500)),
            ));
        }
        let Some((first, append)) = under_way.front_mut() else {
            break;
        };
        tokio::select! {
            entries = follower.next() => take(entries),
            outcome = timeout(PATIENCE, append) => {
                match outcome.expect("the broker came back and the append did not") {
                    Ok(()) => acknowledged = *first,
                    Err(error) => {
                        println!("{error}");
                        failed += 1;
                    }
                }
                under_way.pop_front();
            }
        }
    }
    killer.join_all().await;
    while seen.last().is_none_or(|last| *last < acknowledged) {
        seen.extend(cuts(&next(&mut *follower).await.unwrap()));
    }
    println!(
        "{KILLS} kills, {acknowledged} appends acknowledged, {failed} failed, {:?}",
        log.status()
    );
    assert_eq!(failed, 0, "the producer waits for the broker");
    let all: Vec<u64> = (1..=acknowledged).collect();
    assert_eq!(
        seen, all,
        "each once and in order, for a follower that stayed"
    );
    // And for one that comes later.
    let mut later = log.follow("f", &from).await.unwrap();
    let mut read = Vec::new();
    while read.len() < all.len() {
        read.extend(cuts(&next(&mut *later).await.unwrap()));
    }
    assert_eq!(read, all);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_broker_is_waited_for_and_fills_the_room() {
    let Some(server) = own() else { return };
    let settings = Settings {
        buffer_bytes: 100_000,
        request_timeout: Duration::from_secs(1),
        ..settings(&server)
    };
    let log = log(&settings);
    open(&log, "f").await;
    let from = lows(&log, "f").await;
    let mut follower = log.follow("f", &from).await.unwrap();
    log.append(flush("f", 0, 1, 10)).await.unwrap();
    let mut seen = cuts(&next(&mut *follower).await.unwrap());
    // Clients tell their figures each second.
    let begun = Instant::now();
    while log.status().behind != Some(0) || log.status().round_trip.is_none() {
        assert!(begun.elapsed() < PATIENCE, "{:?}", log.status());
        if let Ok(entries) = timeout(Duration::from_millis(50), follower.next()).await {
            seen.extend(cuts(&entries.unwrap()));
        }
    }
    let figures = log.figures().unwrap();
    println!("{figures}");
    assert!(figures.contains(" under way, ") && figures.ends_with(", 0 entries behind"));
    server.sigstop().unwrap();
    let append = |sequence| log.append(flush("f", 0, sequence, 40_000));
    let (two, three, given_up, five) = (append(2), append(3), append(4), append(5));
    let status = log.status();
    println!("{status:?}");
    assert_eq!(
        (status.waiting, status.under_way),
        (2, 4),
        "two flushes fit, two wait"
    );
    assert!(status.under_way_bytes <= 100_000);
    drop(given_up);
    let mut two = two;
    // Longer than the limit of questions, which has nothing to say here.
    assert!(timeout(Duration::from_secs(3), &mut two).await.is_err());
    let question = log.ends("f").await.unwrap_err();
    println!("{question}");
    assert!(matches!(question, LogError::Refused { .. }));
    server.sigcont().unwrap();
    for append in [five, three, two] {
        timeout(PATIENCE, append).await.unwrap().unwrap();
    }
    while seen.last() != Some(&5) {
        seen.extend(cuts(&next(&mut *follower).await.unwrap()));
    }
    assert_eq!(
        seen,
        [1, 2, 3, 5],
        "what was given up while it waited was never sent"
    );
    assert_eq!(log.status().under_way, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_at_the_address_is_said() {
    let log = KafkaLog::new(Settings {
        brokers: "127.0.0.1:1".into(),
        request_timeout: Duration::from_millis(500),
        ..Settings::default()
    });
    let error = log.unwrap().open(&layout("f")).await.unwrap_err();
    println!("{error}");
    assert!(matches!(error, LogError::Refused { .. }));
    let said = error.to_string();
    assert!(
        said.contains("127.0.0.1:1") && said.contains("refused"),
        "{said}"
    );
}
