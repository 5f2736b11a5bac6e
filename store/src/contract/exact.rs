//! Cases for a store that answers.

use super::*;

pub(super) async fn cells_move_by_their_tokens(store: &dyn ShardStore) {
    let key = CellKey::Head(name("f"), Bucket::new(1));
    let (one, two) = (some_cell(1, b"one"), some_cell(2, b""));
    assert_eq!(store.cell(&key).await.unwrap(), None);
    let cas = async |expect: Option<u128>, new: Option<&Cell>| {
        let new = new.cloned();
        store.cas(&key, expect.map(Token), new).await.unwrap()
    };
    assert_eq!(cas(Some(1), Some(&two)).await, Cas::Lost(None));
    assert_eq!(cas(None, None).await, Cas::Won);
    assert_eq!(cas(None, Some(&one)).await, Cas::Won);
    assert_eq!(store.cell(&key).await.unwrap(), Some(one.clone()));
    assert_eq!(cas(None, Some(&two)).await, Cas::Lost(Some(one.clone())));
    assert_eq!(cas(Some(7), Some(&two)).await, Cas::Lost(Some(one.clone())));
    assert_eq!(cas(Some(7), None).await, Cas::Lost(Some(one.clone())));
    assert_eq!(cas(Some(1), Some(&two)).await, Cas::Won);
    assert_eq!(cas(Some(1), Some(&one)).await, Cas::Lost(Some(two.clone())));
    assert_eq!(store.cell(&key).await.unwrap(), Some(two.clone()));
    assert_eq!(cas(Some(2), None).await, Cas::Won);
    assert_eq!(cas(Some(2), None).await, Cas::Lost(None));
    assert_eq!(store.cell(&key).await.unwrap(), None);
    assert_eq!(cas(None, Some(&one)).await, Cas::Won);
}

pub(super) async fn cells_are_listed_by_kind_and_name(store: &dyn ShardStore) {
    let head = |feed: &str, bucket| CellKey::Head(name(feed), Bucket::new(bucket));
    let run = |feed: &str, id: &str| CellKey::Run(name(feed), name(id));
    let keys = [
        CellKey::Lineage,
        head("a", 0),
        head("a", 2),
        head("a", 300),
        head("aa", 1),
        head("", 1),
        CellKey::CutsHead(name("a")),
        CellKey::Columns(name("a")),
        CellKey::ReplaceRequest(name("a"), Bucket::new(2)),
        CellKey::Lease(name("a")),
        CellKey::Epoch(name("a")),
        CellKey::Checkpoint(name("a")),
        run("a", "x"),
        run("a", "y"),
        run("ax", ""),
        CellKey::Status(name("a"), name("x")),
        CellKey::Status(name("Ünïcode/%\0"), name("it's \"one\"")),
        CellKey::Schema(name("a")),
    ];
    for (at, key) in (0..).zip(&keys) {
        let new = some_cell(at, &[at as u8]);
        assert_eq!(store.cas(key, None, Some(new)).await.unwrap(), Cas::Won);
    }
    for (at, key) in (0..).zip(&keys) {
        let found = store.cell(key).await.unwrap();
        assert_eq!(found, Some(some_cell(at, &[at as u8])), "{key}");
    }
    let listed = async |like: &CellKey| {
        let cells = store.cells(like).await.unwrap();
        cells
            .into_iter()
            .map(|(key, cell)| {
                assert_eq!(key, keys[cell.token.0 as usize]);
                cell.token.0 as usize
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(listed(&head("a", 9)).await, [1, 2, 3]);
    assert_eq!(listed(&head("aa", 0)).await, [4]);
    assert_eq!(listed(&run("a", "")).await, [12, 13]);
    assert_eq!(listed(&run("none", "")).await, [0usize; 0]);
    assert_eq!(
        listed(&CellKey::Status(name("Ünïcode/%\0"), name(""))).await,
        [16]
    );
    assert_eq!(listed(&CellKey::Lineage).await, [0]);
}

pub(super) async fn values_have_limits(store: &dyn ShardStore) {
    let too_large = |done: Result<(), StoreError>| {
        assert!(matches!(done, Err(StoreError::TooLarge { .. })), "{done:?}");
    };
    for (key, max) in [
        (CellKey::Head(name("f"), Bucket::new(0)), CELL_MAX),
        (CellKey::Checkpoint(name("s")), LARGE_CELL_MAX),
        (CellKey::CutsHead(name("f")), LARGE_CELL_MAX),
    ] {
        let full = some_cell(1, &noise(max));
        let over = some_cell(2, &noise(max + 1));
        let won = store.cas(&key, None, Some(full.clone())).await.unwrap();
        assert_eq!(won, Cas::Won);
        too_large(
            store
                .cas(&key, Some(full.token), Some(over))
                .await
                .map(drop),
        );
        assert_eq!(store.cell(&key).await.unwrap(), Some(full));
    }
    let id = SegmentId(random_id());
    let parts = vec![Bytes::from_static(b"a"), noise(PART_MAX + 1)];
    too_large(store.write_segment("f", id, parts).await);
    let line = HistoryLine {
        at: 0,
        id: 0,
        value: noise(LARGE_CELL_MAX + 1),
    };
    too_large(store.write_history("f", line).await);
}

pub(super) async fn segments_are_whole_or_missing(store: &dyn ShardStore) {
    let id = SegmentId(random_id());
    let parts = vec![noise(PART_MAX), Bytes::new(), noise(10), noise(PART_MAX)];
    store.write_segment("f", id, parts.clone()).await.unwrap();
    store
        .write_segment("g", id, parts[2..3].to_vec())
        .await
        .unwrap();
    assert_eq!(store.read_segment("f", id, 4).await.unwrap(), parts);
    assert_eq!(store.read_segment("f", id, 1).await.unwrap(), parts[..1]);
    assert_eq!(store.read_segment("g", id, 1).await.unwrap(), parts[2..3]);
    let missing = async |feed: &str, parts: u32, first: u32| {
        let read = store.read_segment(feed, id, parts).await;
        let Err(StoreError::Missing {
            feed: of,
            segment,
            part,
        }) = &read
        else {
            panic!("{read:?}");
        };
        assert_eq!((&**of, *segment, *part), (feed, id, first));
    };
    missing("f", 5, 4).await;
    missing("g", 2, 1).await;
    missing("h", 1, 0).await;
    store
        .write_segment("f", SegmentId(1), Vec::new())
        .await
        .unwrap();
    assert!(
        store
            .read_segment("f", SegmentId(1), 0)
            .await
            .unwrap()
            .is_empty()
    );
    for _ in 0..2 {
        store.delete_segment("f", id, 4).await.unwrap();
        missing("f", 4, 0).await;
    }
    assert_eq!(store.read_segment("g", id, 1).await.unwrap(), parts[2..3]);
}

pub(super) async fn history_is_a_half_open_range_in_order(store: &dyn ShardStore) {
    let line = |at, id| HistoryLine {
        at,
        id,
        value: Bytes::from(format!("{at} {id}")),
    };
    let lines = [
        line(-5, 1),
        line(0, 1),
        line(0, u128::MAX),
        line(7, 0),
        line(900, 3),
    ];
    for line in lines.iter().rev() {
        store.write_history("f", line.clone()).await.unwrap();
    }
    store.write_history("f", lines[1].clone()).await.unwrap();
    store.write_history("g", line(0, 9)).await.unwrap();
    let read = async |from, to, limit| store.history("f", from, to, limit).await.unwrap();
    assert_eq!(read(i64::MIN, i64::MAX, 100).await, lines);
    assert_eq!(read(0, 7, 100).await, lines[1..3]);
    assert_eq!(read(7, 7, 100).await, []);
    assert_eq!(read(8, -8, 100).await, []);
    assert_eq!(read(-9, 1000, 1).await, lines[..1]);
    // A page never ends between two lines of one time.
    assert_eq!(read(-9, 1000, 2).await, lines[..3]);
    assert_eq!(read(1, 1000, 2).await, lines[3..]);
    for _ in 0..2 {
        store
            .delete_history("f", &[(0, 1), (900, 3), (55, 0)])
            .await
            .unwrap();
        let left = [lines[0].clone(), lines[2].clone(), lines[3].clone()];
        assert_eq!(read(-9, 1000, 9).await, left);
    }
    assert_eq!(store.history("g", 0, 1, 9).await.unwrap(), [line(0, 9)]);
}
