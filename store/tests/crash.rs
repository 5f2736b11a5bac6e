//! kill -9 of a process that writes: what it was told is done is there, and heads name whole segments.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

use bytes::Bytes;
use onair_model::Bucket;
use onair_store::cells::{Moved, move_cell, random_id};
use onair_store::redb::RedbStore;
use onair_store::{CellKey, HistoryLine, SegmentId, ShardStore, StoreError};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tempfile::TempDir;
use tokio::task::JoinSet;

use crate::noise;

/// Tells the child what to write to; without it the child is a test that has nothing to do.
const FILE: &str = "ONAIR_TEST_CRASH_FILE";
const BUCKETS: u16 = 4;
const KILLS: u64 = 30;

fn key(bucket: u16) -> CellKey {
    CellKey::Head("f".into(), Bucket::new(bucket))
}

/// A head: how often it was moved, the segment that it names, its parts.
fn head(number: u64, id: SegmentId, parts: u32) -> Bytes {
    let bytes = [
        &number.to_be_bytes()[..],
        &id.0.to_be_bytes(),
        &parts.to_be_bytes(),
    ];
    bytes.concat().into()
}

fn head_of(value: &[u8]) -> (u64, SegmentId, u32) {
    (
        u64::from_be_bytes(value[..8].try_into().unwrap()),
        SegmentId(u128::from_be_bytes(value[8..24].try_into().unwrap())),
        u32::from_be_bytes(value[24..].try_into().unwrap()),
    )
}

fn parts(bucket: u16, number: u64) -> Vec<Bytes> {
    let seed = u64::from(bucket) << 32 | number;
    let len = |part: u64| (seed.wrapping_mul(7919) % 40_000 + part * 13_000) as usize;
    (0..1 + seed % 3)
        .map(|part| noise(seed + part, len(part)))
        .collect()
}

/// Moves the heads of all buckets on and says so on standard output, until it is killed.
#[tokio::test]
async fn child() {
    let Some(file) = std::env::var_os(FILE) else {
        return;
    };
    let store = Arc::new(RedbStore::open(file).unwrap());
    let mut buckets = JoinSet::new();
    for bucket in 0..BUCKETS {
        let store = Arc::clone(&store);
        buckets.spawn(async move {
            let cell = store.cell(&key(bucket)).await.unwrap();
            let (mut number, mut token) = (0, None);
            if let Some(cell) = cell {
                (number, token) = (head_of(&cell.value).0, Some(cell.token));
            }
            loop {
                number += 1;
                let parts = parts(bucket, number);
                let (id, count) = (SegmentId(random_id()), parts.len() as u32);
                store.write_segment("f", id, parts).await.unwrap();
                let value = head(number, id, count);
                let moved = move_cell(&*store, &key(bucket), token, value).await;
                let Ok(Moved::Won(won)) = moved else {
                    panic!("{moved:?}");
                };
                token = Some(won);
                say(&format!("head {bucket} {number}"));
                let line = HistoryLine {
                    at: number as i64,
                    id: u128::from(bucket),
                    value: Bytes::from(format!("{bucket} {number}")),
                };
                store.write_history("f", line).await.unwrap();
                say(&format!("line {bucket} {number}"));
            }
        });
    }
    buckets.join_next().await.unwrap().unwrap();
}

/// One write, so that a kill leaves all of the line or nothing.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    out.write_all(format!("ack {line}\n").as_bytes()).unwrap();
    out.flush().unwrap();
}

fn spawn(file: &Path) -> (Child, Receiver<String>) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["crash::child", "--exact", "--nocapture"])
        .env(FILE, file)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let out = BufReader::new(child.stdout.take().unwrap());
    let (sender, receiver) = sync_channel(1 << 16);
    std::thread::spawn(move || {
        for line in out.lines().map_while(Result::ok) {
            if let Some(acknowledged) = line.strip_prefix("ack ")
                && sender.send(acknowledged.to_owned()).is_err()
            {
                return;
            }
        }
    });
    (child, receiver)
}

#[tokio::test]
async fn what_was_acknowledged_survives_kill_9() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("store.redb");
    let seed = rand::random();
    println!("seed {seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let mut heads = [0u64; BUCKETS as usize];
    let mut lines = [const { BTreeSet::new() }; BUCKETS as usize];
    let mut early = 0;
    for _ in 0..KILLS {
        let (mut child, acknowledged) = spawn(&file);
        let wanted = rng.random_range(0..60);
        let until = Instant::now() + Duration::from_millis(rng.random_range(0..400));
        let mut seen = Vec::new();
        while seen.len() < wanted
            && let Ok(line) =
                acknowledged.recv_timeout(until.saturating_duration_since(Instant::now()))
        {
            if seen.is_empty() {
                let other = RedbStore::open(&file).map(drop);
                assert!(matches!(other, Err(StoreError::InUse { .. })), "{other:?}");
            }
            seen.push(line);
        }
        child.kill().unwrap();
        child.wait().unwrap();
        seen.extend(acknowledged.iter());
        early += u32::from(seen.is_empty());
        for line in seen {
            let mut words = line.split(' ');
            let kind = words.next().unwrap();
            let bucket: usize = words.next().unwrap().parse().unwrap();
            let number: u64 = words.next().unwrap().parse().unwrap();
            match kind {
                "head" => heads[bucket] = number.max(heads[bucket]),
                _ => {
                    lines[bucket].insert(number);
                }
            }
        }
        check(&file, &mut heads, &lines).await;
    }
    println!("{KILLS} kills, {early} before the first write was done, heads moved {heads:?} times");
    assert!(heads.iter().all(|moved| *moved > 20));
}

/// Everything acknowledged is there, and of each head at most one step more.
async fn check(file: &Path, heads: &mut [u64], lines: &[BTreeSet<u64>]) {
    let store = RedbStore::open(file).unwrap();
    let history = store.history("f", 0, i64::MAX, usize::MAX).await.unwrap();
    for bucket in 0..BUCKETS {
        let told = heads[bucket as usize];
        let cell = store.cell(&key(bucket)).await.unwrap();
        let (number, id, count) = cell.map_or((0, SegmentId(0), 0), |cell| head_of(&cell.value));
        assert!(
            (told..=told + 1).contains(&number),
            "bucket {bucket}: {number} after {told}"
        );
        if number > 0 {
            let found = store.read_segment("f", id, count).await.unwrap();
            assert!(found == parts(bucket, number), "bucket {bucket}: {id:?}");
        }
        let kept: BTreeSet<_> = history
            .iter()
            .filter(|line| line.id == u128::from(bucket))
            .map(|line| line.at as u64)
            .collect();
        assert!(lines[bucket as usize].is_subset(&kept), "bucket {bucket}");
        heads[bucket as usize] = number;
    }
}
