//! Rows of the user's types: by column, by prost, raw; and rows that do not fit.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use onair_sdk::raw::{self, Value};
use onair_sdk::testing::{self, FakeServer};
use onair_sdk::{ConnectError, Feed, FieldKind, FromRow, Problem, Raw, RowError, RowRef, Schema};

use crate::support::{Room, room, server};

#[derive(Clone, PartialEq, prost::Message)]
struct Message {
    #[prost(uint64, optional, tag = "1")]
    uid: Option<u64>,
    #[prost(string, optional, tag = "2")]
    title: Option<String>,
}
onair_sdk::prost_row!(Message);

#[derive(Clone, PartialEq, prost::Message)]
struct Misfit {
    #[prost(string, optional, tag = "1")]
    uid: Option<String>,
}
onair_sdk::prost_row!(Misfit);

#[tokio::test(start_paused = true)]
async fn rows_are_read_into_prost_messages() {
    let server = server(3);
    let rooms = Feed::<Message>::connect([server.endpoint()], "rooms")
        .await
        .unwrap();
    let expected = Message {
        uid: Some(2),
        title: Some("room".into()),
    };
    assert_eq!(rooms.snapshot().get(&2), Some(&expected));
    let error = Feed::<Misfit>::connect([server.endpoint()], "rooms")
        .await
        .unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("id=") && text.contains("Misfit.uid"),
        "{text}"
    );
    assert!(!error.is_retryable());
}

/// Fits while [`FITS`] says so.
#[derive(Clone, Debug)]
struct Picky;

static FITS: AtomicBool = AtomicBool::new(true);

impl FromRow for Picky {
    fn from_row(row: RowRef<'_>) -> Result<Self, RowError> {
        match row.get::<String>("title")?.as_str() {
            "panic" => panic!("a fault of the user's code"),
            "bad" if !FITS.load(Ordering::Relaxed) => Err(RowError::new("title", "too bad")),
            _ => Ok(Picky),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn c05_a_row_that_does_not_fit_is_named_and_the_version_before_it_stays() {
    let server = server(3);
    let rooms = Feed::<Picky>::connect([server.endpoint()], "rooms")
        .await
        .unwrap();
    let before = rooms.snapshot().version();
    FITS.store(false, Ordering::Relaxed);
    server.on(2, room(2, "bad"));
    let version = server.commit();
    let mut watch = rooms.status_watch();
    let status = watch
        .wait_for(|status| status.last_problem.is_some())
        .await
        .unwrap();
    let problem = status.last_problem.unwrap();
    assert!(matches!(problem, Problem::Row { .. }) && !problem.is_retryable());
    let text = problem.to_string();
    assert!(
        text.contains("id=2") && text.contains("column title: too bad"),
        "{text}"
    );
    assert_eq!(rooms.snapshot().version(), before);
    // Mended, it goes on by itself.
    FITS.store(true, Ordering::Relaxed);
    assert_eq!(rooms.wait_for(version).await.unwrap().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn c05_a_panic_in_the_users_code_is_an_error_like_any_other() {
    let server = server(3);
    server.on(2, room(2, "panic"));
    server.commit();
    let error = Feed::<Picky>::connect([server.endpoint()], "rooms")
        .await
        .unwrap_err();
    let ConnectError::Refused(Problem::Row { row, .. }) = &error else {
        panic!("{error}")
    };
    assert_eq!(row.key.as_deref(), Some("id=2"));
}

#[derive(Clone, Debug)]
struct Strict;

impl FromRow for Strict {
    fn from_row(_: RowRef<'_>) -> Result<Self, RowError> {
        Ok(Strict)
    }

    fn check(schema: &Schema) -> Result<(), RowError> {
        let has = schema.columns.iter().any(|field| &*field.column == "area");
        if has {
            Ok(())
        } else {
            Err(RowError::new("area", "the feed does not export it"))
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_type_that_does_not_fit_an_empty_feed_is_refused_too() {
    let server = server(0);
    let error = Feed::<Strict>::connect([server.endpoint()], "rooms")
        .await
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("column area: the feed does not export it"),
        "{error}"
    );
}

#[tokio::test(start_paused = true)]
async fn raw_rows_and_keys_are_read_by_the_schema() {
    let columns = [
        ("int", FieldKind::Int, Value::Int(-5)),
        ("uint", FieldKind::UInt, Value::UInt(u64::MAX)),
        ("float", FieldKind::Float, Value::Float(0.1)),
        ("double", FieldKind::Double, Value::Double(-0.25)),
        ("decimal", FieldKind::Decimal, Value::Text("-1.50".into())),
        ("bit", FieldKind::Bit, Value::UInt(5)),
        ("year", FieldKind::Year, Value::UInt(2026)),
        ("time", FieldKind::Time, Value::Text("-01:00:00".into())),
        ("text", FieldKind::Text, Value::Text("né".into())),
        (
            "binary",
            FieldKind::Binary,
            Value::Bytes(vec![0, 255].into()),
        ),
        ("json", FieldKind::Json, Value::Text("{\"a\": 1}".into())),
        ("null", FieldKind::Text, Value::Null),
    ];
    let named: Vec<(&str, FieldKind)> = columns
        .iter()
        .map(|(name, kind, _)| (*name, *kind))
        .collect();
    let schema = testing::schema(
        "all",
        &[("region", FieldKind::Text), ("id", FieldKind::Int)],
        &named,
    );
    let values: Vec<(&str, Value<'_>)> = columns
        .iter()
        .map(|(name, _, value)| (*name, value.clone()))
        .collect();
    let server = FakeServer::start(schema.clone());
    server.on(("eu", -7), testing::row(&schema, &values));
    server.commit();
    let all = Feed::<Raw>::connect([server.endpoint()], "all")
        .await
        .unwrap();
    let snapshot = all.snapshot();
    let row = snapshot.get(&("eu", -7i64)).unwrap();
    let read: Vec<(&str, Value<'_>)> = row
        .values()
        .unwrap()
        .into_iter()
        .map(|(field, value)| (&*field.column, value))
        .collect();
    assert_eq!(read, values);
    assert_eq!(row.get("text"), Ok(Value::Text("né".into())));
    assert!(
        row.get("nothing")
            .unwrap_err()
            .to_string()
            .contains("it has int, uint")
    );
    let (key, _) = snapshot.iter().next().unwrap();
    let key_values = raw::key_values(snapshot.schema(), key).unwrap();
    assert_eq!(key_values[0].1, Value::Text("eu".into()));
    assert_eq!(key_values[1].1, Value::Int(-7));
    assert_eq!(
        raw::key_text(snapshot.schema(), key),
        "region=\"eu\", id=-7"
    );
}

#[tokio::test(start_paused = true)]
async fn c04_versions_and_resyncs_share_the_rows_that_are_the_same() {
    let server = server(300);
    let rooms = Feed::<Arc<Room>>::connect([server.endpoint()], "rooms");
    let rooms = rooms.await.unwrap();
    let before = rooms.snapshot();
    server.on(7, room(77, "changed"));
    let after = rooms.wait_for(server.commit()).await.unwrap();
    let shared = |key: u64| {
        let pair = (before.get(&key), after.get(&key));
        matches!(pair, (Some(before), Some(after)) if Arc::ptr_eq(before, after))
    };
    assert_eq!(
        (1..=300).filter(|key| !shared(*key)).collect::<Vec<u64>>(),
        [7]
    );

    // A whole snapshot reads only what is new.
    let mut changes = rooms.changes().after(after.clone());
    server.stall();
    server.on(8, room(88, "changed"));
    server.commit();
    server.resend();
    let whole = rooms.wait_for(server.version()).await.unwrap();
    let mut status = rooms.status_watch();
    status.wait_for(|status| status.wholes == 2).await.unwrap();
    let shared = |key: u64| {
        let pair = (after.get(&key), whole.get(&key));
        matches!(pair, (Some(before), Some(after)) if Arc::ptr_eq(before, after))
    };
    assert_eq!(
        (1..=300).filter(|key| !shared(*key)).collect::<Vec<u64>>(),
        [8]
    );
    let step = changes.next().await.unwrap();
    assert_eq!(
        (step.change.len(), step.reason.as_deref()),
        (1, Some("lagged"))
    );
}
