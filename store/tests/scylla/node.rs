//! A node that dies, freezes and comes back under load.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use onair_model::Bucket;
use onair_store::cells::{Moved, move_cell, random_id};
use onair_store::scylla::{ScyllaStore, Settings};
use onair_store::{Cas, Cell, CellKey, HistoryLine, SegmentId, ShardStore, StoreError, Token};
use onair_xtask::servers::Cassandra;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::task::JoinSet;

use super::{cql, own, session, settings, shared, store};
use crate::noise;

const BUCKETS: u16 = 4;
const KILLS: usize = 3;

fn key(bucket: u16) -> CellKey {
    CellKey::Head("f".into(), Bucket::new(bucket))
}

/// What a writer knows to be done, and what it met.
#[derive(Debug, Default)]
struct Told {
    number: u64,
    lines: BTreeSet<u64>,
}

#[derive(Debug, Default)]
struct Met {
    unknown: AtomicU64,
    unavailable: AtomicU64,
}

impl Met {
    /// Counts an error that passes.
    fn count(&self, error: &StoreError) {
        match error {
            StoreError::Unknown { .. } => self.unknown.fetch_add(1, Relaxed),
            StoreError::Unavailable { .. } => self.unavailable.fetch_add(1, Relaxed),
            other => panic!("{other}"),
        };
    }
}

/// A head: how often it was moved, and the segment of two parts that it names.
fn head(number: u64, id: SegmentId) -> Bytes {
    [&number.to_be_bytes()[..], &id.0.to_be_bytes()]
        .concat()
        .into()
}

fn head_of(cell: &Cell) -> (u64, SegmentId) {
    (
        u64::from_be_bytes(cell.value[..8].try_into().unwrap()),
        SegmentId(u128::from_be_bytes(cell.value[8..].try_into().unwrap())),
    )
}

fn parts(bucket: u16, number: u64) -> Vec<Bytes> {
    let seed = u64::from(bucket) << 32 | number;
    vec![noise(seed, 20_000), noise(seed + 1, 100)]
}

/// One fold of a bucket: segment, head, history. `Err`: look at the head again.
async fn fold(store: &ScyllaStore, bucket: u16, told: &Mutex<Told>) -> Result<(), StoreError> {
    let cell = store.cell(&key(bucket)).await?;
    let stands = cell.as_ref().map_or(0, |cell| head_of(cell).0);
    {
        let told = &mut *told.lock().unwrap();
        assert!(
            (told.number..=told.number + 1).contains(&stands),
            "bucket {bucket}: {stands} after {}",
            told.number
        );
        told.number = stands;
    }
    let number = stands + 1;
    let id = SegmentId(random_id());
    store.write_segment("f", id, parts(bucket, number)).await?;
    let expect = cell.map(|cell| cell.token);
    match move_cell(store, &key(bucket), expect, head(number, id)).await? {
        Moved::Won(_) => told.lock().unwrap().number = number,
        Moved::Lost(found) => panic!("nobody else writes, and {found:?} stands there"),
    }
    let line = HistoryLine {
        at: number as i64,
        id: u128::from(bucket),
        value: Bytes::from(format!("{bucket} {number}")),
    };
    store.write_history("f", line).await?;
    told.lock().unwrap().lines.insert(number);
    Ok(())
}

/// Settings of somebody in a hurry.
fn hurried(node: &Cassandra) -> Settings {
    let mut settings = settings(node);
    settings.request_timeout = Duration::from_millis(1500);
    settings
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_survives_kill_9_of_the_node() {
    let Some((_turn, node)) = own().await else {
        return;
    };
    let store = Arc::new(store(&hurried(&node)).await);
    let seed = rand::random();
    println!("seed {seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let told: Arc<[Mutex<Told>; BUCKETS as usize]> = Arc::default();
    let (met, ends) = (Arc::new(Met::default()), Arc::new(AtomicBool::new(false)));
    let mut writers = JoinSet::new();
    for bucket in 0..BUCKETS {
        let (store, told) = (Arc::clone(&store), Arc::clone(&told));
        let (met, ends) = (Arc::clone(&met), Arc::clone(&ends));
        writers.spawn(async move {
            while !ends.load(Relaxed) {
                if let Err(error) = fold(&store, bucket, &told[usize::from(bucket)]).await {
                    met.count(&error);
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        });
    }
    let total = || {
        told.iter()
            .map(|told| told.lock().unwrap().number)
            .sum::<u64>()
    };
    let moves_on = async |by: u64| {
        let (from, began) = (total(), Instant::now());
        while total() < from + by {
            assert!(
                began.elapsed() < Duration::from_secs(60),
                "writing does not go on"
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        began.elapsed()
    };
    for _ in 0..KILLS {
        moves_on(rng.random_range(20..150)).await;
        node.kill9().unwrap();
        tokio::time::sleep(Duration::from_millis(rng.random_range(0..1500))).await;
        node.restart().unwrap();
        println!(
            "the first move {:?} after the node answers",
            moves_on(1).await
        );
    }
    moves_on(50).await;
    ends.store(true, Relaxed);
    while let Some(done) = writers.join_next().await {
        done.unwrap();
    }
    let moves = total();
    let history = store.history("f", 0, i64::MAX, usize::MAX).await.unwrap();
    for bucket in 0..BUCKETS {
        let told = std::mem::take(&mut *told[usize::from(bucket)].lock().unwrap());
        let cell = store.cell(&key(bucket)).await.unwrap().unwrap();
        let (number, id) = head_of(&cell);
        assert!((told.number..=told.number + 1).contains(&number));
        let found = store.read_segment("f", id, 2).await.unwrap();
        assert!(found == parts(bucket, number), "bucket {bucket}");
        let ours = history.iter().filter(|line| line.id == u128::from(bucket));
        let kept: BTreeSet<_> = ours.map(|line| line.at as u64).collect();
        assert!(told.lines.is_subset(&kept), "bucket {bucket}");
    }
    println!("{KILLS} kills, {moves} moves, {met:?}");
    assert!(met.unknown.load(Relaxed) + met.unavailable.load(Relaxed) > 0);
}

/// The node is frozen for longer than anybody waits, with a compare-and-set in it, and then goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_frozen_node_did_is_found_out_and_not_guessed() {
    let Some((_turn, node)) = own().await else {
        return;
    };
    let mut settings = settings(&node);
    settings.request_timeout = Duration::from_millis(300);
    let store = Arc::new(store(&settings).await);
    let key = key(0);
    let steady = async || {
        let began = Instant::now();
        loop {
            match store.cell(&key).await {
                Ok(cell) => break cell,
                Err(error) => assert!(began.elapsed() < Duration::from_secs(60), "{error}"),
            }
        }
    };
    let cell = |number: u64| Cell {
        token: Token(random_id()),
        value: Bytes::copy_from_slice(&number.to_be_bytes()),
    };
    let first = cell(0);
    assert_eq!(
        store.cas(&key, None, Some(first.clone())).await,
        Ok(Cas::Won)
    );
    let mut stands = first;
    let (mut applied, mut won, mut unknown, mut not_done) = (0, 0, 0, 0);
    for round in 1..=12u64 {
        node.sigstop().unwrap();
        if round % 2 == 0 {
            // One attempt, given up while it is in the node.
            let ours = cell(round);
            let asked = store
                .cas(&key, Some(stands.token), Some(ours.clone()))
                .await;
            let Err(StoreError::Unknown { reason }) = asked else {
                panic!("{asked:?}");
            };
            if round == 2 {
                println!("{reason}");
            }
            node.sigcont().unwrap();
            // It arrives late or never; what moves the cell on meanwhile has to name what stands there.
            let began = Instant::now();
            let mut found = steady().await.unwrap();
            while found == stands && began.elapsed() < Duration::from_secs(2) {
                found = steady().await.unwrap();
            }
            assert!([&stands, &ours].contains(&&found), "{found:?}");
            applied += u32::from(found == ours);
            stands = found;
        } else {
            // One that is settled, while the node goes on at some time.
            let value = Bytes::copy_from_slice(&round.to_be_bytes());
            let settles = {
                let (store, key, value) = (Arc::clone(&store), key.clone(), value.clone());
                let expect = Some(stands.token);
                async move { move_cell(&*store, &key, expect, value).await }
            };
            let wakes = async {
                tokio::time::sleep(Duration::from_millis(300 * round)).await;
                node.sigcont().unwrap();
            };
            let (settled, ()) = tokio::join!(settles, wakes);
            let found = steady().await.unwrap();
            match settled {
                Ok(Moved::Won(token)) => {
                    won += 1;
                    assert_eq!(found, Cell { token, value });
                }
                Ok(Moved::Lost(other)) => {
                    panic!("nobody else moves it, and {other:?} stands there")
                }
                Err(StoreError::Unknown { .. }) => {
                    unknown += 1;
                    assert!(found == stands || found.value == value, "{found:?}");
                }
                Err(StoreError::Unavailable { .. }) => {
                    not_done += 1;
                    assert_eq!(found, stands);
                }
                Err(error) => panic!("{error}"),
            }
            stands = found;
        }
    }
    println!(
        "given up: {applied} of 6 done all the same; settled: {won} won, {unknown} unknown, {not_done} not done"
    );
    assert!(won > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_node_is_used_again_at_once() {
    let Some((_turn, node)) = own().await else {
        return;
    };
    let store = store(&settings(&node)).await;
    let key = CellKey::Lease("s".into());
    let mut expect = None;
    for round in 0..3u64 {
        match move_cell(&store, &key, expect, noise(round, 10)).await {
            Ok(Moved::Won(token)) => expect = Some(token),
            other => panic!("{other:?}"),
        }
        if round == 1 {
            node.kill9().unwrap();
        }
        node.stop().unwrap();
        let down = Instant::now();
        let gone = store.cell(&key).await;
        assert!(
            matches!(gone, Err(StoreError::Unavailable { .. })),
            "{gone:?}"
        );
        println!("without a node an answer comes after {:?}", down.elapsed());
        node.restart().unwrap();
        let back = Instant::now();
        while let Err(error) = store.cell(&key).await {
            assert!(matches!(error, StoreError::Unavailable { .. }), "{error}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let took = back.elapsed();
        println!("the store is back {took:?} after the node answers");
        // The driver's own back-off takes 4 to 10 s.
        assert!(took < Duration::from_secs(4), "{took:?}");
    }
}

/// A column more makes the node forget every statement of the table.
#[tokio::test]
async fn prepared_statements_that_the_node_forgot_are_prepared_again() {
    let Some(node) = shared() else { return };
    let settings = settings(node);
    let store = store(&settings).await;
    let session = session(&settings).await;
    let key = CellKey::Lease("s".into());
    let prepared = async || {
        let all = session
            .query_unpaged("SELECT query_string FROM system.prepared_statements", ())
            .await
            .unwrap()
            .into_rows_result()
            .unwrap();
        let all = all.rows::<(String,)>().unwrap();
        let of = format!("{}.cells", settings.keyspace);
        all.filter(|row| row.as_ref().unwrap().0.contains(&of))
            .count()
    };
    let mut expect = None;
    for round in 0..4u64 {
        match move_cell(&store, &key, expect, noise(round, 10)).await {
            Ok(Moved::Won(token)) => expect = Some(token),
            other => panic!("{other:?}"),
        }
        let before = prepared().await;
        cql(
            &session,
            &settings,
            &format!("ALTER TABLE {{}}.cells ADD note{round} int"),
        )
        .await;
        let after = prepared().await;
        assert!(after < before, "{before} statements, then {after}");
    }
    assert_eq!(
        store.cell(&key).await.unwrap().map(|cell| cell.token),
        expect
    );
    super::drop_keyspace(&settings).await;
}
