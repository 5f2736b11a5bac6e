//! Keyspaces that are not as they should be are refused with the remedy; what is left behind is in nobody's way.

use std::time::Duration;

use bytes::Bytes;
use onair_model::Bucket;
use onair_store::cells::random_id;
use onair_store::scylla::{Credentials, Scope, ScyllaStore, Settings};
use onair_store::{Cas, Cell, CellKey, HistoryLine, SegmentId, ShardStore, StoreError, Token};

use super::{cql, drop_keyspace, session, settings, shared, store};

/// Opening is refused; the reason and the remedy.
async fn refusal(settings: &Settings) -> (String, String) {
    let opened = ScyllaStore::open(settings.clone()).await.map(drop);
    let Err(StoreError::Unreadable {
        place,
        reason,
        remedy,
    }) = opened
    else {
        panic!("{opened:?}");
    };
    assert!(place.contains(&settings.keyspace), "{place}");
    println!("{reason}; {remedy}");
    (reason, remedy)
}

#[tokio::test]
async fn a_keyspace_that_is_not_as_it_should_be_is_refused_with_the_remedy() {
    let Some(node) = shared() else { return };
    let settings = settings(node);
    let check = async |reason: &str, remedy: &str| {
        let found = refusal(&settings).await;
        assert!(found.0.contains(reason), "{}", found.0);
        assert!(found.1.contains(remedy), "{}", found.1);
    };
    check("no such keyspace", "onair store init").await;
    let session = session(&settings).await;
    let cql = async |text: &str| cql(&session, &settings, text).await;
    let replication = "{'class': 'NetworkTopologyStrategy', 'replication_factor': 1}";
    cql(&format!(
        "CREATE KEYSPACE {{}} WITH replication = {replication}"
    ))
    .await;
    check("no tables", "onair store init").await;
    // Twice is once.
    for _ in 0..2 {
        ScyllaStore::init(&settings).await.unwrap();
        ScyllaStore::open(settings.clone()).await.unwrap();
    }

    for table in ["cells", "segments"] {
        cql(&format!(
            "ALTER TABLE {{}}.{table} WITH default_time_to_live = 604800"
        ))
        .await;
        check(
            &format!("table {table} end by themselves after 604800 s"),
            "default_time_to_live = 0",
        )
        .await;
        let init = ScyllaStore::init(&settings).await;
        assert!(
            matches!(init, Err(StoreError::Unreadable { .. })),
            "{init:?}"
        );
        cql(&format!(
            "ALTER TABLE {{}}.{table} WITH default_time_to_live = 0"
        ))
        .await;
    }

    cql("UPDATE {}.meta SET version = 2 WHERE id = 'onair'").await;
    check(
        "version 2, this release knows 1",
        "use the release that made them",
    )
    .await;
    let init = ScyllaStore::init(&settings).await;
    assert!(
        matches!(init, Err(StoreError::Unreadable { .. })),
        "{init:?}"
    );
    cql("DELETE FROM {}.meta WHERE id = 'onair'").await;
    check("no version", "onair store init").await;
    ScyllaStore::init(&settings).await.unwrap();

    // A column more is in nobody's way; one less is.
    cql("ALTER TABLE {}.history ADD note text").await;
    drop(ScyllaStore::open(settings.clone()).await.unwrap());
    cql("ALTER TABLE {}.history DROP value").await;
    check(
        "history.value should be regular, blob, and is not there",
        "store.scylla.keyspace",
    )
    .await;
    cql("DROP TABLE {}.history").await;
    check("no table history", "onair store init").await;
    ScyllaStore::init(&settings).await.unwrap();
    drop(ScyllaStore::open(settings.clone()).await.unwrap());
    cql("DROP TABLE {}.cells").await;
    cql("CREATE TABLE {}.cells (kind text PRIMARY KEY, attempt blob, value blob)").await;
    check("column cells.first should be", "store.scylla.keyspace").await;

    let other = Settings {
        datacenter: Some("elsewhere".into()),
        ..settings.clone()
    };
    let (reason, remedy) = refusal(&other).await;
    assert!(reason.contains("no datacenter elsewhere"), "{reason}");
    assert!(reason.contains("datacenter1"), "{reason}; {remedy}");
    drop_keyspace(&settings).await;
}

#[tokio::test]
async fn a_table_that_is_gone_is_said_and_not_met_again_and_again() {
    let Some(node) = shared() else { return };
    let settings = settings(node);
    let store = store(&settings).await;
    let session = session(&settings).await;
    let key = CellKey::Lease("s".into());
    assert_eq!(store.cell(&key).await, Ok(None));
    cql(&session, &settings, "DROP TABLE {}.cells").await;
    let cell = Cell {
        token: Token(1),
        value: Bytes::new(),
    };
    let gone = store.cas(&key, None, Some(cell)).await;
    println!("{gone:?}");
    assert!(
        matches!(gone, Err(StoreError::Unreadable { .. })),
        "{gone:?}"
    );
    drop_keyspace(&settings).await;
}

#[tokio::test]
async fn nodes_that_are_not_there_are_named() {
    let Some(node) = shared() else { return };
    let mut settings = settings(node);
    settings.nodes = vec!["127.0.0.1:9".into()];
    let error = ScyllaStore::open(settings).await.map(drop).unwrap_err();
    let StoreError::Unavailable { reason } = &error else {
        panic!("{error:?}");
    };
    println!("{reason}");
    assert!(reason.contains("127.0.0.1:9"), "{reason}");
}

#[tokio::test]
async fn the_other_scope_and_credentials_are_taken() {
    let Some(node) = shared() else { return };
    let mut settings = settings(node);
    settings.scope = Scope::Keyspace;
    settings.datacenter = Some("datacenter1".into());
    // A node without authentication does not ask for them.
    settings.credentials = Some(Credentials {
        user: "onair".into(),
        password: "secret".into(),
    });
    let store = store(&settings).await;
    let key = CellKey::Lease("s".into());
    let cell = Cell {
        token: Token(1),
        value: Bytes::from_static(b"v"),
    };
    let cas = async |expect| store.cas(&key, expect, Some(cell.clone())).await.unwrap();
    assert_eq!(cas(None).await, Cas::Won);
    assert_eq!(cas(Some(Token(9))).await, Cas::Lost(Some(cell.clone())));
    drop_keyspace(&settings).await;
}

#[tokio::test]
async fn names_and_windows_of_what_is_gone_are_forgotten() {
    let Some(node) = shared() else { return };
    let mut settings = settings(node);
    settings.forget_after = Duration::ZERO;
    let store = store(&settings).await;
    let session = session(&settings).await;
    let count = async |table: &str| {
        let query = format!("SELECT COUNT(*) FROM {}.{table}", settings.keyspace);
        let counted = session.query_unpaged(query, ()).await.unwrap();
        let counted = counted.into_rows_result().unwrap();
        counted.single_row::<(i64,)>().unwrap().0
    };
    let request = |bucket| CellKey::ReplaceRequest("f".into(), Bucket::new(bucket));
    let cell = Cell {
        token: Token(random_id()),
        value: Bytes::new(),
    };
    for bucket in 0..3 {
        let made = store.cas(&request(bucket), None, Some(cell.clone())).await;
        assert_eq!(made, Ok(Cas::Won));
    }
    for bucket in 0..2 {
        let gone = store.cas(&request(bucket), Some(cell.token), None).await;
        assert_eq!(gone, Ok(Cas::Won));
    }
    assert_eq!(count("names").await, 3);
    for _ in 0..2 {
        let left = store.cells(&request(0)).await.unwrap();
        assert_eq!(left, [(request(2), cell.clone())]);
    }
    assert_eq!(count("names").await, 1);
    // Made again, it is listed again.
    let made = store.cas(&request(1), None, Some(cell.clone())).await;
    assert_eq!(made, Ok(Cas::Won));
    assert_eq!(store.cells(&request(0)).await.unwrap().len(), 2);

    let line = |at| HistoryLine {
        at,
        id: 7,
        value: Bytes::from_static(b"v"),
    };
    let hour = 3_600_000_000;
    for at in 0..4 {
        store.write_history("f", line(at * hour)).await.unwrap();
    }
    store.delete_history("f", &[(hour, 7)]).await.unwrap();
    assert_eq!(count("windows").await, 4);
    let read = async || store.history("f", i64::MIN, i64::MAX, 9).await.unwrap();
    for _ in 0..2 {
        assert_eq!(read().await, [line(0), line(2 * hour), line(3 * hour)]);
    }
    assert_eq!(count("windows").await, 3);
    // A part of a window that is empty says nothing of the rest.
    assert_eq!(store.history("f", 1, 2, 9).await, Ok(Vec::new()));
    assert_eq!(count("windows").await, 3);
    store.write_history("f", line(hour)).await.unwrap();
    assert_eq!(read().await.len(), 4);
    drop_keyspace(&settings).await;
}

#[tokio::test]
async fn rows_that_are_not_ours_are_said_or_passed_over() {
    let Some(node) = shared() else { return };
    let settings = settings(node);
    let store = store(&settings).await;
    let session = session(&settings).await;
    let id = SegmentId(random_id());
    let parts = vec![Bytes::from_static(b"a"), Bytes::from_static(b"b")];
    store.write_segment("f", id, parts.clone()).await.unwrap();
    // Strays: parts of nobody's, and more parts than the head says.
    cql(
        &session,
        &settings,
        "INSERT INTO {}.segments (feed, id, part, bytes) VALUES ('f', 0x01, 0, 0x00)",
    )
    .await;
    let more = format!(
        "INSERT INTO {{}}.segments (feed, id, part, bytes) VALUES ('f', 0x{:032x}, 2, 0x00)",
        id.0
    );
    cql(&session, &settings, &more).await;
    assert_eq!(store.read_segment("f", id, 2).await, Ok(parts));
    // Emptied by hand.
    cql(&session, &settings, "TRUNCATE {}.segments").await;
    let gone = store.read_segment("f", id, 2).await;
    assert!(
        matches!(gone, Err(StoreError::Missing { part: 0, .. })),
        "{gone:?}"
    );
    // Half a row.
    cql(
        &session,
        &settings,
        "INSERT INTO {}.cells (kind, first, second, value) VALUES ('lease', 's', '', 0x00)",
    )
    .await;
    let half = store.cell(&CellKey::Lease("s".into())).await;
    assert!(
        matches!(half, Err(StoreError::Unreadable { .. })),
        "{half:?}"
    );
    drop_keyspace(&settings).await;
}
