//! Figures, printed: `cargo test --release -p onair-log --features kafka -- --ignored --nocapture measured`.

use onair_log::kafka::Compression;

use super::*;
use crate::flush;

fn at(sorted: &[Duration], share: f64) -> Duration {
    sorted[((sorted.len() - 1) as f64 * share) as usize]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "prints figures and asserts nothing"]
async fn measured() {
    let Some(server) = shared() else { return };
    for compression in [Compression::None, Compression::Lz4] {
        let settings = Settings {
            compression,
            ..settings(server)
        };
        let log = log(&settings);
        open(&log, "f").await;
        let ends = lows(&log, "f").await;
        let mut follower = log.follow("f", &ends).await.unwrap();
        let (mut acknowledged, mut consumed) = (Vec::new(), Vec::new());
        for sequence in 1..=1000 {
            sleep(Duration::from_millis(5)).await;
            let begun = Instant::now();
            let append = log.append(flush("f", 0, sequence, 200));
            let consume = async {
                let mut seen = 0;
                while seen < 2 {
                    seen += next(&mut *follower).await.unwrap().len();
                }
                begun.elapsed()
            };
            let acknowledge = async {
                append.await.unwrap();
                begun.elapsed()
            };
            let (one, two) = tokio::join!(acknowledge, consume);
            acknowledged.push(one);
            consumed.push(two);
        }
        acknowledged.sort_unstable();
        consumed.sort_unstable();
        for (what, sorted) in [("acknowledged", &acknowledged), ("consumed", &consumed)] {
            println!(
                "{compression:?}, idle topic, one flush of 2 records each 5 ms: {what} p50 {:?} p99 {:?} max {:?}",
                at(sorted, 0.5),
                at(sorted, 0.99),
                at(sorted, 1.0)
            );
        }
    }
    for (count, len) in [(200_000_u64, 200), (4_000, 100_000)] {
        let log = log(&settings(server));
        open(&log, "f").await;
        let from = lows(&log, "f").await;
        let begun = Instant::now();
        let mut under_way = std::collections::VecDeque::new();
        for sequence in 1..=count {
            under_way.push_back(log.append(flush("f", (sequence % 3) as u16, sequence, len)));
            if under_way.len() > 500 {
                under_way.pop_front().unwrap().await.unwrap();
            }
        }
        for append in under_way {
            append.await.unwrap();
        }
        let written = begun.elapsed();
        let begun = Instant::now();
        let mut follower = log.follow("f", &from).await.unwrap();
        let mut seen = 0;
        while seen < 2 * count {
            seen += next(&mut *follower).await.unwrap().len() as u64;
        }
        let read = begun.elapsed();
        let rate = |took: Duration| (2 * count) as f64 / took.as_secs_f64();
        println!(
            "rows of {len} bytes: {} records appended at {:.0}/s, replayed at {:.0}/s",
            2 * count,
            rate(written),
            rate(read)
        );
        let begun = Instant::now();
        drop(follower);
        println!("a follower ends in {:?}", begun.elapsed());
        println!("{:?}", log.status());
    }
}
