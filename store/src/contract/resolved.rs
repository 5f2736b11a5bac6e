//! Cases that hold through errors and unknown outcomes.

use super::*;

/// Makes an attempt until it is done: errors that may pass are met again, others fail the test.
macro_rules! sure {
    ($attempt:expr) => {{
        let mut tries = Tries(0);
        loop {
            match $attempt.await {
                Ok(done) => break done,
                Err(error) => tries.again(error).await,
            }
        }
    }};
}

struct Tries(u32);

impl Tries {
    async fn again(&mut self, error: impl Into<LoadError>) {
        let error = error.into();
        let passes = matches!(
            error,
            LoadError::Store(StoreError::Unavailable { .. } | StoreError::Unknown { .. })
        );
        self.0 += 1;
        assert!(passes && self.0 < 200, "try {}: {error}", self.0);
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

const WORKERS: u64 = 4;
const ROUNDS: u64 = 12;

/// Workers add to one cell. The cell says how often each has, so a worker can tell what an unknown outcome was.
pub(super) async fn no_increment_is_lost_or_done_twice(store: Store) {
    let key = CellKey::CutsHead(name("counter"));
    let tally = |cell: &Option<Cell>| -> BTreeMap<u64, u64> {
        let Some(cell) = cell else {
            return BTreeMap::new();
        };
        let pairs = cell.value.chunks_exact(16);
        pairs
            .map(|pair| {
                let number = |at: usize| u64::from_be_bytes(pair[at..at + 8].try_into().unwrap());
                (number(0), number(8))
            })
            .collect()
    };
    let mut workers = JoinSet::new();
    for worker in 0..WORKERS {
        let (store, key) = (Arc::clone(&store), key.clone());
        workers.spawn(async move {
            for round in 1..=ROUNDS {
                loop {
                    let cell = sure!(store.cell(&key));
                    let mut held = tally(&cell);
                    let mine = held.entry(worker).or_default();
                    if *mine == round {
                        break;
                    }
                    assert_eq!(*mine, round - 1, "an acknowledged move was lost");
                    *mine = round;
                    *held.entry(u64::MAX).or_default() += 1;
                    let value: Vec<u8> = held
                        .iter()
                        .flat_map(|(who, often)| [who.to_be_bytes(), often.to_be_bytes()])
                        .flatten()
                        .collect();
                    let expect = cell.as_ref().map(|cell| cell.token);
                    match move_cell(&*store, &key, expect, value.into()).await {
                        Ok(Moved::Won(_)) => break,
                        Ok(Moved::Lost(found)) => {
                            assert_ne!(found.map(|cell| cell.token), expect);
                        }
                        Err(StoreError::Unavailable { .. } | StoreError::Unknown { .. }) => {}
                        Err(error) => panic!("{error}"),
                    }
                }
            }
        });
    }
    while let Some(done) = workers.join_next().await {
        done.unwrap();
    }
    let held = tally(&sure!(store.cell(&key)));
    let mut expected: BTreeMap<u64, u64> = (0..WORKERS).map(|who| (who, ROUNDS)).collect();
    expected.insert(u64::MAX, WORKERS * ROUNDS);
    assert_eq!(held, expected);
}

fn row(key: u64, len: usize) -> (Key, Row) {
    let mut bytes = noise(len + 8).to_vec();
    bytes[..8].copy_from_slice(&key.to_be_bytes());
    (Key::from_u64(key), Row::new(bytes.into()))
}

fn sum_of(rows: &[(Key, Row)]) -> Sum {
    fold::sum_of(rows.iter().map(|(key, row)| Digest::of(key, row)))
}

fn version(sequence: u64) -> Version {
    Version::new(Epoch::new(1).unwrap(), sequence).unwrap()
}

/// The content at version `n`, as one base or as a base and a delta.
pub(super) async fn write_content(store: &dyn ShardStore, n: u64) -> Head {
    let feed = "f";
    let rows: Vec<_> = (0..3 + n % 3).map(|key| row(key + n, 140_000)).collect();
    let sum = sum_of(&rows);
    let base_d = version(n * 10);
    let base = sure!(async {
        let rows = rows.iter().map(|(key, row)| (key, row));
        head::write_base(store, feed, base_d, sum, rows).await
    });
    let mut held = Head {
        lineage: Lineage::new(1),
        state: BucketState {
            epoch: base_d.epoch(),
            d: base_d,
            through: base_d,
            digest: sum.digest,
            count: sum.count,
            claimed: base_d,
        },
        gtid: None,
        commit_time: 0,
        source_time: 0,
        base,
        deltas: Vec::new(),
        log: String::new(),
        next_offset: n,
        old: None,
    };
    if n % 2 == 1 {
        let (key, fresh) = row(1_000_000 + n, 100_000);
        let gtid: Gtid = "0-1-57".parse().unwrap();
        let commit = Commit {
            version: version(n * 10 + 1),
            commit_time: 5,
            gtid,
            events: vec![Event::On { key, row: fresh }],
        };
        let after = fold::replay(
            sum,
            &rows.into_iter().collect::<Rows<Row>>(),
            std::slice::from_ref(&commit),
        );
        let after = after.unwrap()[0];
        let delta = sure!(async {
            let commits = std::slice::from_ref(&commit);
            head::write_delta(store, feed, base_d, after, commits).await
        })
        .unwrap();
        held.deltas.push(delta);
        held.state = BucketState {
            d: delta.d,
            through: delta.d,
            digest: after.digest,
            count: after.count,
            claimed: delta.d,
            ..held.state
        };
    }
    held
}

pub(super) async fn what_a_head_names_is_whole(store: Store) {
    let feed = name("f");
    let key = CellKey::Head(Arc::clone(&feed), Bucket::new(0));
    let mut folders = JoinSet::new();
    for folder in 0..3u64 {
        let (store, feed, key) = (Arc::clone(&store), Arc::clone(&feed), key.clone());
        folders.spawn(async move {
            for round in 0..8 {
                let cell = sure!(store.cell(&key));
                if let Some(cell) = &cell {
                    let held = Head::from_bytes(&feed, &cell.value).unwrap();
                    let loaded = sure!(head::load_bucket(&*store, &feed, &held));
                    let base = fold::sum_of(loaded.base.iter().map(|(k, r)| Digest::of(k, r)));
                    assert_eq!(base, held.base.sum);
                    let sums = fold::replay(base, &loaded.base, &loaded.commits).unwrap();
                    let last = sums.last().copied().unwrap_or(base);
                    assert_eq!(
                        (last.digest, last.count),
                        (held.state.digest, held.state.count)
                    );
                }
                let next = write_content(&*store, folder * 8 + round).await;
                let expect = cell.as_ref().map(|cell| cell.token);
                match move_cell(&*store, &key, expect, next.to_bytes()).await {
                    Ok(Moved::Won(_) | Moved::Lost(Some(_)))
                    | Err(StoreError::Unavailable { .. } | StoreError::Unknown { .. }) => {}
                    other => panic!("{other:?}"),
                }
            }
        });
    }
    while let Some(done) = folders.join_next().await {
        done.unwrap();
    }
}

pub(super) async fn there_is_one_lineage(store: Store) {
    let mut makers = JoinSet::new();
    for _ in 0..4 {
        let store = Arc::clone(&store);
        makers.spawn(async move { sure!(cells::lineage(&*store)) });
    }
    let mut found = Vec::new();
    while let Some(lineage) = makers.join_next().await {
        found.push(lineage.unwrap());
    }
    assert!(found.iter().all(|lineage| *lineage == found[0]));
}

pub(super) async fn no_epoch_is_opened_twice(store: Store) {
    let source = name("s");
    let mut readers = JoinSet::new();
    for reader in 0..3u64 {
        let (store, source) = (Arc::clone(&store), Arc::clone(&source));
        readers.spawn(async move {
            let mut ours = Vec::new();
            while ours.len() < 5 {
                let key = CellKey::Epoch(Arc::clone(&source));
                let held = sure!(checkpoint::read::<EpochState>(&*store, &key));
                let burned = held.as_ref().map(|held| held.value.epoch);
                let state = EpochState {
                    epoch: epoch::next(burned, None).unwrap(),
                    server: format!("reader {reader}"),
                    executed: GtidSet::mysql(),
                    plan: reader,
                    reason: "a test".into(),
                };
                match epoch::burn(&*store, &source, held.as_ref(), &state).await {
                    Ok(Burned::Ours(_)) => ours.push(state.epoch),
                    Ok(Burned::Taken(_))
                    | Err(StoreError::Unavailable { .. } | StoreError::Unknown { .. }) => {}
                    Err(error) => panic!("{error}"),
                }
            }
            ours
        });
    }
    let mut opened = Vec::new();
    while let Some(ours) = readers.join_next().await {
        opened.extend(ours.unwrap());
    }
    let all = opened.len();
    opened.sort_unstable();
    opened.dedup();
    assert_eq!(opened.len(), all, "an epoch was opened by two readers");
}

pub(super) async fn checkpoints_only_go_on(store: &dyn ShardStore) {
    let source = name("s");
    let point = |epoch, sequence, executed: &str| Checkpoint {
        version: Version::new(Epoch::new(epoch).unwrap(), sequence).unwrap(),
        commit_time: 3,
        executed: executed.parse().unwrap(),
        server: "it".into(),
        plan: 7,
        lost_tail: false,
        feeds: Vec::new(),
        fingerprints: vec![Fingerprint {
            gtid: "0-1-57".parse().unwrap(),
            crc: 9,
        }],
    };
    let key = CellKey::Checkpoint(Arc::clone(&source));
    let save = async |new: &Checkpoint| sure!(checkpoint::save(store, &source, None, new));
    let steps = [
        (point(1, 5, "0-1-57"), true),
        (point(1, 4, "0-1-90"), false),
        (point(1, 5, "0-1-56"), false),
        // A repeat after an unknown outcome finds itself.
        (point(1, 5, "0-1-58"), true),
        (point(1, 9, "0-1-90"), true),
        (point(2, 0, "0-1-80"), true),
        (point(1, 10, "0-1-95"), false),
    ];
    let mut stands = None;
    for (new, taken) in steps {
        let saved = save(&new).await;
        match &saved {
            Saved::Yes(held) => assert!(taken && held.value == new),
            // Done before its answer was lost, `save` asked again finds it.
            Saved::Behind(held) => assert!(!taken || held.value == new, "{held:?}"),
            Saved::Forgotten => panic!("nobody took it away"),
        }
        if taken {
            stands = Some(new);
        }
        let held = sure!(checkpoint::read::<Checkpoint>(store, &key));
        assert_eq!(held.map(|held| held.value), stands);
    }
    // An operator takes it away: the reader that knew it does not bring it back.
    let held = sure!(checkpoint::read::<Checkpoint>(store, &key));
    sure!(checkpoint::forget(store, &source));
    let next = point(2, 1, "0-1-99");
    let saved = sure!(checkpoint::save(store, &source, held.clone(), &next));
    assert_eq!(saved, Saved::Forgotten);
    assert_eq!(sure!(checkpoint::read::<Checkpoint>(store, &key)), None);
}

pub(super) async fn a_column_keeps_its_number(store: Store) {
    let feed = name("f");
    let mut readers = JoinSet::new();
    for reader in 0..3 {
        let (store, feed) = (Arc::clone(&store), Arc::clone(&feed));
        readers.spawn(async move {
            let own = format!("own{reader}");
            let wanted = ["uid", "title", own.as_str()];
            let mut numbers = BTreeMap::new();
            let mut give = |known: &BTreeMap<String, u32>| {
                numbers.clone_from(known);
                for column in wanted {
                    let next = numbers.len() as u32 + 1;
                    numbers.entry(column.to_owned()).or_insert(next);
                }
                Ok::<_, StoreError>(numbers.clone())
            };
            sure!(columns::ensure(&*store, &feed, &mut give));
            numbers
        });
    }
    let mut given = Vec::new();
    while let Some(numbers) = readers.join_next().await {
        given.push(numbers.unwrap());
    }
    let key = CellKey::Columns(Arc::clone(&feed));
    let last = sure!(checkpoint::read::<BTreeMap<String, u32>>(&*store, &key))
        .expect("numbers were given")
        .value;
    assert_eq!(last.len(), 5);
    for numbers in given {
        assert!(
            numbers
                .iter()
                .all(|(column, number)| last[column] == *number)
        );
    }
}

pub(super) async fn requests_stand_until_answered(store: &dyn ShardStore) {
    let feed = name("f");
    for bucket in [3, 1, 3] {
        let bucket = Bucket::new(bucket);
        sure!(requests::ask(store, &feed, bucket, "gap"));
    }
    let found = sure!(requests::standing(store, &feed));
    let buckets: Vec<_> = found.iter().map(|(bucket, _)| bucket.get()).collect();
    assert_eq!(buckets, [1, 3]);
    assert_eq!(found[0].1.value, "gap");
    // An attempt to ask that was still on its way may ask again, and is answered again.
    let answered = found[0].0;
    let mut left = found;
    while left.iter().any(|(bucket, _)| *bucket == answered) {
        for (bucket, request) in left.iter().filter(|(bucket, _)| *bucket == answered) {
            sure!(requests::answered(store, &feed, *bucket, request));
        }
        left = sure!(requests::standing(store, &feed));
    }
    assert_eq!(left.len(), 1);

    let mut row = StatusRow::new("merger", "one");
    for at in 0..3 {
        let said = RoleStatus {
            state: "running".into(),
            detail: String::new(),
            at,
        };
        sure!(row.say(store, &said));
        let found = sure!(status::said(store, "merger"));
        assert_eq!(found, [(name("one"), said)]);
    }
    let key = CellKey::Status(name("merger"), name("one"));
    let cell = sure!(store.cell(&key)).unwrap();
    let left = sure!(remove_cell(store, &key, cell.token));
    assert_eq!(left, None);
}

pub(super) async fn history_survives_repeated_writes(store: &dyn ShardStore) {
    let lines: Vec<_> = (0..20i64)
        .map(|at| HistoryLine {
            at: at / 2,
            id: at as u128,
            value: noise(at as usize * 100),
        })
        .collect();
    for line in &lines {
        sure!(store.write_history("f", line.clone()));
    }
    let read = async || sure!(store.history("f", 0, 100, 100));
    assert_eq!(read().await, lines);
    let gone: Vec<_> = lines[..5].iter().map(|line| (line.at, line.id)).collect();
    sure!(store.delete_history("f", &gone));
    assert_eq!(read().await, lines[5..]);
    let id = SegmentId(random_id());
    let parts = vec![noise(5000), noise(10)];
    let written = sure!(async {
        let id = SegmentId(random_id());
        store.write_segment("f", id, parts.clone()).await?;
        Ok::<_, StoreError>(id)
    });
    assert_ne!(written, id);
    let found = sure!(store.read_segment("f", written, 2));
    assert_eq!(found, parts);
    sure!(store.delete_segment("f", written, 2));
}
