//! Cases that hold through errors and unknown outcomes.

use super::*;

/// Errors that may pass.
fn passes(error: &LogError) -> bool {
    matches!(
        error,
        LogError::Refused { .. } | LogError::Unknown { .. } | LogError::OutOfRange { .. }
    )
}

const TRIES_MAX: usize = 200;

/// Makes an attempt until it is done.
macro_rules! sure {
    ($attempt:expr) => {{
        let mut tries = 0;
        loop {
            match $attempt.await {
                Ok(done) => break done,
                Err(error) => {
                    tries += 1;
                    assert!(passes(&error) && tries < TRIES_MAX, "{error}");
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            }
        }
    }};
}

/// How long what was acknowledged may take to come.
const PATIENCE: Duration = Duration::from_secs(60);

/// Follows all partitions until every version written has been seen in each, following again after errors.
pub(super) async fn follow_through(
    log: &dyn EventLog,
    layout: &Layout,
    written: &BTreeMap<Partition, Vec<u64>>,
) -> Sorted {
    let lows = sure!(log.ends(&layout.feed));
    let mut next: BTreeMap<_, _> = lows.into_iter().map(|(p, ends)| (p, ends.low)).collect();
    let mut seen = Sorted::default();
    let misses = |seen: &Sorted| {
        let of = |partition: &Partition| BTreeSet::from_iter(seen.of(*partition).iter().copied());
        written.iter().find_map(|(partition, written)| {
            let seen = of(partition);
            let missing = written.iter().find(|version| !seen.contains(version));
            missing.map(|version| (*partition, *version))
        })
    };
    while misses(&seen).is_some() {
        let from: Vec<_> = next.iter().map(|(p, offset)| (*p, *offset)).collect();
        let mut follower = sure!(log.follow(&layout.feed, &from));
        while let Some((partition, version)) = misses(&seen) {
            let more = tokio::time::timeout(PATIENCE, follower.next()).await;
            match more.unwrap_or_else(|_| panic!("{partition}: {version} never came")) {
                Ok(entries) => {
                    seen.take(&entries);
                    for entry in entries {
                        next.insert(entry.partition, Offset(entry.offset.0 + 1));
                    }
                }
                Err(error) => {
                    assert!(passes(&error), "{error}");
                    break;
                }
            }
        }
    }
    seen
}

pub(super) async fn everything_acknowledged_is_there_in_order(log: Log, seed: u64) {
    let layout = layout();
    sure!(log.open(&layout));
    let mut rng = StdRng::seed_from_u64(seed);
    let mut written: BTreeMap<Partition, Vec<u64>> = BTreeMap::new();
    let mut flushes = Vec::new();
    for sequence in 1..=120 {
        let mut records = Vec::new();
        for bucket in 0..BUCKETS {
            if rng.random_ratio(1, 3) || sequence == 120 {
                let len = if rng.random_ratio(1, 20) { 50_000 } else { 20 };
                records.push((bucket, record(1, sequence, len)));
                let partition = Partition::Bucket(Bucket::new(bucket));
                written.entry(partition).or_default().push(sequence);
            }
        }
        written.entry(Partition::Cuts).or_default().push(sequence);
        flushes.push(flush(&layout, records, cut(sequence - 1, sequence)));
    }
    let written = Arc::new(written);
    let mut followers = JoinSet::new();
    for _ in 0..2 {
        let (log, layout, written) = (Arc::clone(&log), layout.clone(), Arc::clone(&written));
        followers.spawn(async move { follow_through(&*log, &layout, &written).await });
    }
    for flush in flushes {
        sure!(log.append(flush.clone()));
    }
    followers.spawn({
        let (log, layout, written) = (Arc::clone(&log), layout.clone(), Arc::clone(&written));
        async move { follow_through(&*log, &layout, &written).await }
    });
    while let Some(seen) = followers.join_next().await {
        let seen = seen.unwrap_or_else(|panicked| std::panic::resume_unwind(panicked.into_panic()));
        for (partition, written) in &*written {
            let mut first = Vec::new();
            for version in seen.of(*partition) {
                if first.last().is_none_or(|last| version > last) {
                    first.push(*version);
                } else {
                    assert!(
                        first.contains(version),
                        "{partition}: {version} is out of order"
                    );
                }
            }
            assert_eq!(first, *written, "{partition}");
        }
    }
}

/// What a receiver of these cuts has in the end.
fn taken(cuts: &[CutRecord]) -> Option<Taken> {
    let mut taken = None;
    for cut in cuts {
        admit(LINEAGE, BUCKETS.into(), &mut taken, cut);
    }
    taken
}

pub(super) async fn the_last_cuts_add_up_to_all_of_them(log: &dyn EventLog, seed: u64) {
    let layout = layout();
    sure!(log.open(&layout));
    let mut rng = StdRng::seed_from_u64(seed);
    let mut appended: Vec<CutRecord> = Vec::new();
    let mut known: Vec<(GtidSet, Vec<Version>)> = Vec::new();
    let (mut epoch, mut sequence, mut prev) = (1, 0, 0);
    let mut vector = vec![version(1, 0); BUCKETS.into()];
    let mut executed = GtidSet::mariadb();
    for number in 0..200 {
        let again = number % 10 == 9;
        let next = if again {
            // A reader that was started again states what it stated before, or states whole what it knew then.
            let newest = taken(&appended).unwrap().version;
            let before = appended.iter().zip(&known);
            let mut before = before.filter(|(cut, _)| cut.version.epoch() == newest.epoch());
            if rng.random() {
                let count = before.clone().count();
                before.nth(rng.random_range(0..count)).unwrap().0.clone()
            } else {
                let (cut, (executed, vector)) =
                    before.find(|(cut, _)| cut.version == newest).unwrap();
                CutRecord {
                    executed: executed.clone(),
                    touched: (0..).map(Bucket::new).zip(vector.iter().copied()).collect(),
                    full: true,
                    ..cut.clone()
                }
            }
        } else {
            let opens = rng.random_ratio(1, 30);
            if opens {
                (epoch, sequence, prev) = (epoch + 1, 0, 0);
                vector.fill(version(epoch, 0));
            }
            let full = number == 0 || opens || rng.random_ratio(1, 6);
            let moves = rng.random_range(0..3);
            sequence += moves;
            let mut touched = Vec::new();
            for bucket in 0..BUCKETS {
                let moved = moves > 0 && rng.random();
                if moved {
                    vector[usize::from(bucket)] = version(epoch, sequence);
                }
                if moved || full {
                    touched.push((Bucket::new(bucket), vector[usize::from(bucket)]));
                }
            }
            let gtid = format!("0-1-{}", number + 1).parse().unwrap();
            executed.insert(&gtid);
            let mut added = GtidSet::mariadb();
            added.insert(&gtid);
            let proven = Proven {
                version: version(epoch, sequence),
                at: number,
            };
            let state = u128::from(epoch) << 100 | u128::from(sequence);
            let cut = CutRecord {
                prev_cut: version(epoch, prev),
                version: version(epoch, sequence),
                commit_time: sequence as i64,
                source_time: number,
                gtid: Some(gtid).filter(|_| moves > 0),
                executed: if full { executed.clone() } else { added },
                digest: Digest::new(state),
                touched,
                full,
                proven: Some(proven).filter(|_| rng.random_ratio(1, 5)),
                lost_tail: epoch % 2 == 0,
                ..cut(0, sequence)
            };
            prev = sequence;
            cut
        };
        // One that never reached the log: those on top of it are a hole until the next full one.
        if number > 0 && rng.random_ratio(1, 12) {
            continue;
        }
        sure!(log.append(flush(&layout, Vec::new(), next.clone())));
        appended.push(next);
        known.push((executed.clone(), vector.clone()));
        if number % 7 == 0 || again {
            let last = sure!(log.last_cuts(&layout.feed));
            assert!(last.first().is_none_or(|first| first.full));
            assert!(last.is_sorted_by_key(|cut| cut.version));
            let (mut found, mut expected) = (taken(&last).unwrap(), taken(&appended).unwrap());
            // Which cut of one version said it is not told.
            (found.gtid, expected.gtid) = (None, None);
            (found.position, expected.position) = (String::new(), String::new());
            assert_eq!(found, expected, "seed {seed}, cut {number}");
        }
    }
}
