//! Scan under fire: scans beside a heavy writer with every delay at work, merged by the rule of DESIGN section 5,
//! and by the same rule with a part left out, which must show.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use onair_model::{GtidSet, Key, Row};
use tokio::time::Instant;

use super::super::{CommitOrder, Counts, Delay, DemoServer, DemoSettings, Hooks};
use super::quiet;
use super::reader::{Live, Reader, live};
use crate::encode::Encoder;
use crate::source::{Gate, RowSink, ScanRequest, Scanned, Source};

/// Scans by the whole rule, and as many by a part of it.
const SCANS: usize = 25;

/// How often a rule with a part left out gave another table than MySQL's.
#[derive(Debug, Default)]
struct Wrong {
    /// Rows of the scan taken although the stream touched their keys.
    touched_ignored: u32,
    /// Keys touched after `high` was delivered not counted as touched.
    closed_at_high: u32,
    /// No wait for the delivered transactions before reading.
    no_wait: u32,
    /// `high` without `gtid_owned`.
    executed_only: u32,
}

type Touched = HashMap<Key, Option<Row>>;

fn merge(mut rows: Live, touched: &Touched) -> Live {
    for (key, row) in touched {
        match row {
            Some(row) => rows.insert(key.clone(), row.clone()),
            None => rows.remove(key),
        };
    }
    rows
}

/// One scan while the stream goes on. Returns what the scan saw.
async fn scan(reader: &mut Reader, delivered: GtidSet, touched: &mut Touched) -> (Live, Scanned) {
    let request = ScanRequest {
        feed: reader.feed.clone(),
        delivered,
        parallel: 3,
        max_rate: None,
        gate: Gate::always_open(),
    };
    let keys = request.feed.key.len();
    let gathered = Arc::new(Mutex::new((Encoder::new(&request.feed), Live::new())));
    let into = gathered.clone();
    let sink: RowSink = Arc::new(move |_, values| {
        let (encoder, rows) = &mut *into.lock().unwrap();
        let mut row = Vec::new();
        encoder.row(&values[keys..], &mut row).unwrap();
        rows.insert(encoder.key(&values[..keys]).unwrap(), Row::new(row.into()));
    });
    let source = reader.source.clone();
    let scan = source.scan(&request, sink);
    tokio::pin!(scan);
    loop {
        tokio::select! {
            biased;
            scanned = &mut scan => {
                let rows = std::mem::take(&mut gathered.lock().unwrap().1);
                return (rows, scanned.unwrap());
            }
            step = reader.step() => touched.extend(step.unwrap()),
        }
    }
}

async fn under_fire(order: CommitOrder, seed: u64, wrong: &mut Wrong) -> Counts {
    let chance = |chance, millis| Delay::sometimes(chance, Duration::from_millis(millis));
    let server = DemoServer::start(DemoSettings {
        rows: 4_000,
        rate: 800.0,
        hooks: Hooks {
            visible_delay: chance(0.3, 40),
            executed_delay: chance(0.5, 150),
            stream_delay: chance(0.02, 100),
            scan_delay: chance(0.8, 15),
            order,
        },
        ..quiet(0, seed)
    });
    let mut reader = Reader::open(&server).await;
    for _ in 0..SCANS {
        let mut touched = Touched::new();
        let delivered = reader.delivered.clone();
        let (rows, scanned) = scan(&mut reader, delivered, &mut touched).await;
        let executed = server.executed();
        while !reader.delivered.contains_set(&executed) {
            touched.extend(reader.step().await.unwrap());
        }
        wrong.executed_only += u32::from(merge(rows.clone(), &touched) != reader.held);
        while !reader.delivered.contains_set(&scanned.high) {
            touched.extend(reader.step().await.unwrap());
        }
        assert_eq!(merge(rows.clone(), &touched), reader.held, "seed {seed}");
        wrong.touched_ignored += u32::from(rows != reader.held);

        let until_high = touched.clone();
        for _ in 0..20 {
            touched.extend(reader.step().await.unwrap());
        }
        assert_eq!(merge(rows.clone(), &touched), reader.held, "seed {seed}");
        wrong.closed_at_high += u32::from(merge(rows, &until_high) != reader.held);

        let mut touched = Touched::new();
        let (rows, scanned) = scan(&mut reader, GtidSet::mysql(), &mut touched).await;
        while !reader.delivered.contains_set(&scanned.high) {
            touched.extend(reader.step().await.unwrap());
        }
        wrong.no_wait += u32::from(merge(rows, &touched) != reader.held);
    }
    server.pause();
    reader.reach(&server.written()).await.unwrap();
    assert_eq!(reader.held, live(&reader.feed, &server.table()));
    assert!(reader.barriers.is_empty());
    server.counts()
}

#[tokio::test(start_paused = true)]
async fn scan_and_stream_are_the_table_under_all_delays() {
    let mut wrong = Wrong::default();
    for order in [CommitOrder::Binlog, CommitOrder::Any] {
        for seed in 1..=2 {
            let counts = under_fire(order, seed, &mut wrong).await;
            println!("{order:?} seed {seed}: {counts:?}");
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
                assert!(times > 0, "{counts:?}");
            }
        }
    }
    println!("{wrong:?}");
    // Each part of the rule was needed.
    for times in [
        wrong.touched_ignored,
        wrong.closed_at_high,
        wrong.no_wait,
        wrong.executed_only,
    ] {
        assert!(times > 0, "{wrong:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_workload_on_another_thread_makes_no_difference() {
    let server = DemoServer::start(DemoSettings {
        rows: 4_000,
        rate: 5_000.0,
        ..quiet(0, 1)
    });
    let mut reader = Reader::open(&server).await;
    for _ in 0..5 {
        let mut touched = Touched::new();
        let delivered = reader.delivered.clone();
        let (rows, scanned) = scan(&mut reader, delivered, &mut touched).await;
        while !reader.delivered.contains_set(&scanned.high) || touched.is_empty() {
            touched.extend(reader.step().await.unwrap());
        }
        assert_eq!(merge(rows, &touched), reader.held);
    }
}

#[tokio::test(start_paused = true)]
async fn a_scan_keeps_to_its_rate() {
    let server = DemoServer::start(quiet(5_000, 1));
    let mut reader = Reader::open(&server).await;
    let request = ScanRequest {
        feed: reader.feed.clone(),
        delivered: reader.delivered.clone(),
        parallel: 4,
        max_rate: Some(1_000),
        gate: Gate::always_open(),
    };
    let begun = Instant::now();
    let scanned = reader
        .source
        .scan(&request, Arc::new(|_, _| {}))
        .await
        .unwrap();
    let took = begun.elapsed().as_secs_f64();
    // The last statement of a range is not waited for.
    assert!((2.0..=5.1).contains(&took), "{took}");
    assert_eq!(scanned.rows as usize, reader.held.len());
    assert_eq!(scanned.high, server.written());
    server.work(1);
    reader.reach(&server.written()).await.unwrap();
}
