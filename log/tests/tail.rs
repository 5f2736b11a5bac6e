//! The last cuts outlive the process: what a follower may have seen is known after a kill -9.

use std::io::{BufRead, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

use onair_log::memory::{MemoryConfig, MemoryLog};
use onair_log::{EventLog, LogError, Offset, Partition, Payload};
use onair_model::CutRecord;
use onair_model::Lineage;
use onair_model::cut::{Taken, admit};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tempfile::TempDir;

use crate::{BUCKETS, cut, flush, layout};

const DIR: &str = "ONAIR_TEST_TAIL_DIR";
const KILLS: usize = 25;

fn log(dir: &Path) -> MemoryLog {
    MemoryLog::new(MemoryConfig {
        capacity: 1 << 20,
        tail: Some(dir.to_owned()),
    })
}

async fn last(dir: &Path) -> Vec<CutRecord> {
    let log = log(dir);
    log.open(&layout("f")).await.unwrap();
    log.last_cuts("f").await.unwrap()
}

fn taken(cuts: &[CutRecord]) -> Option<Taken> {
    let mut taken = None;
    for cut in cuts {
        admit(Lineage::new(1), BUCKETS.into(), &mut taken, cut);
    }
    taken
}

/// Everything up to this cut.
fn all(to: u64) -> Vec<CutRecord> {
    (1..=to)
        .map(|sequence| cut(sequence, sequence % 5 == 1))
        .collect()
}

/// Appends without end and says on standard output which cut a follower sees, until it is killed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child() {
    let Some(dir) = std::env::var_os(DIR) else {
        return;
    };
    let log = log(Path::new(&dir));
    log.open(&layout("f")).await.unwrap();
    let mut sequence = log
        .last_cuts("f")
        .await
        .unwrap()
        .last()
        .map_or(0, |cut| cut.version.sequence());
    // A reader that starts states a full cut first.
    let mut full = true;
    let from = [(Partition::Cuts, Offset(0))];
    let mut follower = log.follow("f", &from).await.unwrap();
    loop {
        sequence += 1;
        let mut flush = flush("f", (sequence % u64::from(BUCKETS)) as u16, sequence, 100);
        if std::mem::take(&mut full) {
            flush.cut = cut(sequence, true);
        }
        let append = log.append(flush);
        append.await.unwrap();
        for entry in follower.next().await.unwrap() {
            let Payload::Cut(cut) = entry.payload else {
                panic!("{entry:?}");
            };
            let mut out = std::io::stdout().lock();
            let line = format!("seen {}\n", cut.version.sequence());
            out.write_all(line.as_bytes()).unwrap();
            out.flush().unwrap();
            log.release("f", Partition::Cuts, entry.offset);
        }
        for (partition, ends) in log.ends("f").await.unwrap() {
            log.release("f", partition, ends.high);
        }
    }
}

#[tokio::test]
async fn the_last_cut_that_anybody_saw_survives_kill_9() {
    let dir = TempDir::new().unwrap();
    let seed = rand::random();
    println!("seed {seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let (mut seen, mut early) = (0, 0);
    for _ in 0..KILLS {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["tail::child", "--exact", "--nocapture"])
            .env(DIR, dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let (sender, receiver) = sync_channel(1 << 20);
        let reader = std::thread::spawn(move || {
            for line in out.lines().map_while(Result::ok) {
                if let Some(number) = line.strip_prefix("seen ") {
                    let _ = sender.send(number.parse::<u64>().unwrap());
                }
            }
        });
        let wanted = rng.random_range(0..4000);
        let until = Instant::now() + Duration::from_millis(rng.random_range(0..150));
        let before = seen;
        for _ in 0..wanted {
            let left = until.saturating_duration_since(Instant::now());
            match receiver.recv_timeout(left) {
                Ok(number) => seen = number,
                Err(_) => break,
            }
        }
        child.kill().unwrap();
        child.wait().unwrap();
        reader.join().unwrap();
        seen = receiver.try_iter().last().unwrap_or(seen);
        early += usize::from(seen == before);
        let cuts = last(dir.path()).await;
        let known = cuts.last().map_or(0, |cut| cut.version.sequence());
        // The one after may have been written and not shown.
        assert!(
            (seen..=seen + 1).contains(&known),
            "{known} known, {seen} seen"
        );
        if known > 0 {
            let (found, expected) = (taken(&cuts).unwrap(), taken(&all(known)).unwrap());
            assert_eq!(
                (found.version, found.digest, found.count, found.vector),
                (
                    expected.version,
                    expected.digest,
                    expected.count,
                    expected.vector
                )
            );
            assert_eq!(found.executed, expected.executed);
        }
        seen = known;
    }
    println!("{KILLS} kills, {early} before anything was seen, {seen} cuts in all");
    assert!(seen > 1000);
}

#[tokio::test]
async fn a_tail_file_is_one_feeds_and_one_processs() {
    let dir = TempDir::new().unwrap();
    let first = log(dir.path());
    first.open(&layout("f")).await.unwrap();
    first.open(&layout("../f/ü")).await.unwrap();
    first.append(flush("f", 0, 1, 10)).await.unwrap();
    let error = log(dir.path()).open(&layout("f")).await.unwrap_err();
    println!("{error}");
    assert!(matches!(error, LogError::Mismatch { .. }));
    drop(first);
    assert_eq!(last(dir.path()).await, [cut(1, true)]);
    let names: Vec<_> = std::fs::read_dir(dir.path())
        .unwrap()
        .map(|file| file.unwrap().file_name())
        .collect();
    assert_eq!(names.len(), 2, "{names:?}");
}

#[tokio::test]
async fn a_cut_that_cannot_be_written_is_refused_whole() {
    let dir = TempDir::new().unwrap();
    let log = log(dir.path());
    log.open(&layout("f")).await.unwrap();
    let before = log.append(flush("f", 0, 1, 10));
    before.await.unwrap();
    let mut follower = log
        .follow("f", &[(Partition::Cuts, Offset(1))])
        .await
        .unwrap();
    for full in [false, true] {
        let mut large = flush("f", 1, 2, 10);
        large.cut = cut(2, full);
        large.cut.position = "x".repeat(5_000_000);
        let error = log.append(large).await.unwrap_err();
        println!("{error}");
        assert!(matches!(error, LogError::Refused { .. }));
        for (_, ends) in log.ends("f").await.unwrap() {
            assert!(ends.high.0 <= 1, "something of the refused flush is there");
        }
        assert_eq!(log.last_cuts("f").await.unwrap(), [cut(1, true)]);
    }
    log.append(flush("f", 2, 2, 10)).await.unwrap();
    assert_eq!(follower.next().await.unwrap().len(), 1);
    // A follower holds the feed, and with it the file.
    drop((log, follower));
    assert_eq!(
        last(dir.path()).await.last().unwrap().version,
        cut(2, false).version
    );
}

#[tokio::test]
async fn a_damaged_or_newer_file_is_refused_and_a_torn_write_is_not_damage() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("f.tail");
    let log_ = log(dir.path());
    log_.open(&layout("f")).await.unwrap();
    for sequence in 1..=9 {
        log_.append(flush("f", 0, sequence, 10)).await.unwrap();
    }
    drop(log_);
    let whole = std::fs::read(&file).unwrap();
    let place = |index: usize| 4096 + index * 4 * 1024 * 1024;
    let open = async |bytes: &[u8]| {
        std::fs::write(&file, bytes).unwrap();
        let log = log(dir.path());
        log.open(&layout("f")).await?;
        log.last_cuts("f").await
    };
    let version = |cuts: Vec<CutRecord>| cuts.last().map(|cut| cut.version.sequence());
    assert_eq!(version(open(&whole).await.unwrap()), Some(9));
    // Full cuts 1 and 6 stand in the places 1 and 0, what came after 6 in the others, 9 in the last.
    let mut found = Vec::new();
    for index in 0..4 {
        let mut torn = whole.clone();
        torn[place(index) + 40] ^= 1;
        found.push(open(&torn).await.map(version).ok().flatten());
    }
    assert_eq!(found, [None, Some(9), Some(9), Some(8)]);
    let mut damaged = whole.clone();
    damaged[place(2) + 40] ^= 1;
    damaged[place(3) + 40] ^= 1;
    let mut newer = whole.clone();
    newer[15] += 1;
    let mut header = whole.clone();
    header[3] ^= 1;
    for bytes in [
        &damaged[..],
        &newer,
        &header,
        b"something else entirely, longer than a header",
    ] {
        let error = open(bytes).await.unwrap_err();
        println!("{error}");
        assert!(matches!(error, LogError::Mismatch { .. }));
    }
    // The very first write torn, or only begun: nobody has seen anything.
    for bytes in [&[][..], &whole[..7]] {
        assert_eq!(open(bytes).await.unwrap(), []);
    }
}
