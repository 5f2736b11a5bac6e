//! Several processes on one cell, and clocks that are wrong.

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use onair_store::cells::{Moved, move_cell, random_id};
use onair_store::scylla::{Scope, ScyllaStore};
use onair_store::{Cas, Cell, CellKey, ShardStore, StoreError, Token};

use super::{drop_keyspace, session, settings, shared, store};

/// Tells a child where to go: node, keyspace, its number. Without it the child is a test that has nothing to do.
const TO: &str = "ONAIR_TEST_RIVAL";
const RIVALS: usize = 2;
const MOVES: u64 = 500;

fn key() -> CellKey {
    CellKey::CutsHead("f".into())
}

/// How often each has moved the cell, by what stands there.
fn tally(cell: Option<&Cell>) -> [u64; RIVALS] {
    let mut tally = [0; RIVALS];
    if let Some(cell) = cell {
        for (at, bytes) in cell.value.chunks_exact(8).enumerate() {
            tally[at] = u64::from_be_bytes(bytes.try_into().unwrap());
        }
    }
    tally
}

/// Moves the cell on [`MOVES`] times, against the others.
#[tokio::test]
async fn rival() {
    let Some(to) = std::env::var_os(TO).and_then(|to| to.into_string().ok()) else {
        return;
    };
    let [node, keyspace, number] = to.split(' ').collect::<Vec<_>>().try_into().unwrap();
    let me: usize = number.parse().unwrap();
    let settings = onair_store::scylla::Settings::new(vec![node.into()], keyspace);
    let store = ScyllaStore::open(settings).await.unwrap();
    let (mut lost, mut unknown) = (0, 0);
    let mut found = store.cell(&key()).await.unwrap();
    for round in 1..=MOVES {
        loop {
            let mut counts = tally(found.as_ref());
            if counts[me] == round {
                // An attempt whose outcome was not known.
                break;
            }
            assert_eq!(
                counts[me],
                round - 1,
                "a move that was done is gone, or was done twice"
            );
            counts[me] = round;
            let value: Bytes = counts
                .iter()
                .flat_map(|count| count.to_be_bytes())
                .collect();
            let expect = found.as_ref().map(|cell| cell.token);
            match move_cell(&store, &key(), expect, value.clone()).await {
                Ok(Moved::Won(token)) => {
                    found = Some(Cell { token, value });
                    break;
                }
                Ok(Moved::Lost(stands)) => {
                    lost += 1;
                    found = stands;
                }
                Err(StoreError::Unknown { .. } | StoreError::Unavailable { .. }) => {
                    unknown += 1;
                    found = store.cell(&key()).await.unwrap();
                }
                Err(error) => panic!("{error}"),
            }
        }
    }
    println!("rival {me}: {MOVES} won, {lost} lost, {unknown} unknown");
}

#[tokio::test]
async fn two_processes_move_one_cell_and_no_move_is_lost_or_done_twice() {
    let Some(node) = shared() else { return };
    let settings = settings(node);
    let store = store(&settings).await;
    let began = Instant::now();
    let rivals: Vec<_> = (0..RIVALS)
        .map(|me| {
            Command::new(std::env::current_exe().unwrap())
                .args(["scylla::rivals::rival", "--exact", "--nocapture"])
                .env(TO, format!("{} {} {me}", node.address(), settings.keyspace))
                .stdout(Stdio::inherit())
                .spawn()
                .unwrap()
        })
        .collect();
    for mut rival in rivals {
        assert!(rival.wait().unwrap().success());
    }
    println!(
        "{} moves by {RIVALS} processes in {:?}",
        MOVES * RIVALS as u64,
        began.elapsed()
    );
    let stands = store.cell(&key()).await.unwrap();
    assert_eq!(tally(stands.as_ref()), [MOVES; RIVALS]);
    drop_keyspace(&settings).await;
}

/// A rival's driver whose clock is hours off: what it moves can be moved on all the same.
#[tokio::test]
async fn no_clock_decides_who_moves_a_cell() {
    let Some(node) = shared() else { return };
    let settings = settings(node);
    let store = store(&settings).await;
    let session = session(&settings).await;
    let text = format!(
        "UPDATE {}.cells SET attempt = ?, value = ? WHERE kind = 'cuts' AND first = 'f' AND second = '' IF attempt = ?",
        settings.keyspace
    );
    let mut skewed = session.prepare(text).await.unwrap();
    let now = now();
    let first = Token(1);
    let cell = |token: Token| Cell {
        token,
        value: Bytes::from(format!("{token:?}")),
    };
    assert_eq!(
        store.cas(&key(), None, Some(cell(first))).await,
        Ok(Cas::Won)
    );
    let mut stands = first;
    for (round, hours) in (2..).step_by(2).zip([5, -5, 48, -48]) {
        skewed.set_timestamp(Some(now + hours * 3_600_000_000));
        let theirs = cell(Token(round));
        let bytes = |token: Token| token.0.to_be_bytes();
        let values = (bytes(theirs.token), &theirs.value, bytes(stands));
        session.execute_unpaged(&skewed, values).await.unwrap();
        assert_eq!(
            store.cell(&key()).await,
            Ok(Some(theirs.clone())),
            "{hours} h"
        );
        let ours = cell(Token(round + 1));
        let moved = store
            .cas(&key(), Some(theirs.token), Some(ours.clone()))
            .await;
        assert_eq!(moved, Ok(Cas::Won), "{hours} h");
        assert_eq!(
            store.cell(&key()).await,
            Ok(Some(ours.clone())),
            "{hours} h"
        );
        stands = ours.token;
    }
    assert_eq!(store.cas(&key(), Some(stands), None).await, Ok(Cas::Won));
    assert_eq!(store.cell(&key()).await, Ok(None));
    drop_keyspace(&settings).await;
}

#[expect(clippy::disallowed_methods, reason = "a clock to be wrong about")]
fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    i64::try_from(since.as_micros()).unwrap()
}

/// How long moves take, for whoever wants to know: `cargo test -p onair-store --features scylla -- --ignored measured`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn measured() {
    let Some(node) = shared() else { return };
    for scope in [Scope::Datacenter, Scope::Keyspace] {
        let mut settings = settings(node);
        settings.scope = scope;
        let store = Arc::new(store(&settings).await);
        // The server's own compiler warms up.
        let _ = times(&store, "warm", 300).await;
        let alone = times(&store, "alone", 1000).await;
        println!("{scope:?}: one cell after another {alone}");
        let began = Instant::now();
        let mut buckets = tokio::task::JoinSet::new();
        for bucket in 0..16 {
            let store = Arc::clone(&store);
            buckets.spawn(async move { times(&store, &bucket.to_string(), 200).await });
        }
        while let Some(done) = buckets.join_next().await {
            done.unwrap();
        }
        let rate = 16.0 * 200.0 / began.elapsed().as_secs_f64();
        println!("{scope:?}: 16 cells at once {rate:.0} moves a second");
        let id = onair_store::SegmentId(random_id());
        let parts: Vec<_> = (0..64).map(|part| crate::noise(part, 256 * 1024)).collect();
        let began = Instant::now();
        store.write_segment("f", id, parts).await.unwrap();
        let wrote = began.elapsed();
        let began = Instant::now();
        store.read_segment("f", id, 64).await.unwrap();
        println!(
            "{scope:?}: 16 MB of segment written in {wrote:?}, read in {:?}",
            began.elapsed()
        );
        let began = Instant::now();
        for _ in 0..500 {
            store.cell(&key()).await.unwrap();
        }
        println!("{scope:?}: a cell is read in {:?}", began.elapsed() / 500);
        drop_keyspace(&settings).await;
    }
}

async fn times(store: &ScyllaStore, name: &str, moves: u64) -> String {
    let key = CellKey::CutsHead(name.into());
    let mut expect = None;
    let mut took = Vec::new();
    for round in 0..moves {
        let began = Instant::now();
        let moved = move_cell(store, &key, expect, crate::noise(round, 2000)).await;
        let Ok(Moved::Won(token)) = moved else {
            panic!("{moved:?}");
        };
        took.push(began.elapsed());
        expect = Some(token);
    }
    took.sort();
    let at = |part: usize| took[took.len() * part / 1000];
    format!("p50 {:?} p99 {:?} p99.9 {:?}", at(500), at(990), at(999))
}
