//! A feed of rooms, and what tests ask of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use onair_sdk::raw::Value;
use onair_sdk::testing::{self, FakeServer};
use onair_sdk::{
    Builder, Changes, Endpoint, Feed, FieldKind, FromRow, Key, RowError, RowRef, Schema, Snapshot,
    Status, Step,
};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Room {
    pub(crate) uid: u64,
    pub(crate) title: Option<String>,
}

impl FromRow for Room {
    fn from_row(row: RowRef<'_>) -> Result<Self, RowError> {
        Ok(Room {
            uid: row.get("uid")?,
            title: row.get("title")?,
        })
    }
}

pub(crate) fn schema() -> Schema {
    testing::schema(
        "rooms",
        &[("id", FieldKind::UInt)],
        &[("uid", FieldKind::UInt), ("title", FieldKind::Text)],
    )
}

/// The row of a room.
pub(crate) fn room(uid: u64, title: &str) -> Bytes {
    testing::row(
        &schema(),
        &[
            ("uid", Value::UInt(uid)),
            ("title", Value::Text(title.into())),
        ],
    )
}

/// A server with rooms 1 to `count`.
pub(crate) fn server(count: u64) -> FakeServer {
    let server = FakeServer::start(schema());
    for id in 1..=count {
        server.on(id, room(id, "room"));
    }
    server.commit();
    server
}

pub(crate) async fn connect(server: &FakeServer) -> Feed<Room> {
    builder(&[server])
        .connect()
        .await
        .expect("the server is well")
}

/// Of these servers, the first one first.
pub(crate) fn builder(servers: &[&FakeServer]) -> Builder<Room> {
    let endpoints: Vec<Endpoint> = servers.iter().map(|server| server.endpoint()).collect();
    Feed::builder(endpoints, "rooms").in_order()
}

/// Waits until the status passes.
pub(crate) async fn until(feed: &Feed<Room>, test: impl FnMut(&Status) -> bool) -> Status {
    let mut watch = feed.status_watch();
    watch.wait_for(test).await.expect("the feed is open")
}

/// An error and everything below it, as a program prints it.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let below = error.source().map(chain);
    below.map_or_else(|| error.to_string(), |below| format!("{error}: {below}"))
}

/// What a step says, by id: on, change, off.
pub(crate) fn ids(step: &Step<Room>) -> (Vec<u64>, Vec<u64>, Vec<u64>) {
    let id = |key: &Key| key.as_u64().expect("rooms have integer keys");
    (
        step.on.iter().map(|(key, _)| id(key)).collect(),
        step.change.iter().map(|change| id(&change.key)).collect(),
        step.off.iter().map(|(key, _)| id(key)).collect(),
    )
}

/// The rows of a snapshot by key.
pub(crate) fn content(snapshot: &Snapshot<Room>) -> BTreeMap<Key, Room> {
    snapshot
        .iter()
        .map(|(key, room)| (key.clone(), room.clone()))
        .collect()
}

/// The rows of a server by key.
pub(crate) fn truth(server: &FakeServer) -> BTreeMap<Key, Room> {
    let read = |row: Bytes| {
        let schema = Arc::new(schema());
        let key = Key::from_u64(0);
        Room::from_row(RowRef::new(&key, &row, &schema)).expect("a room")
    };
    server
        .rows()
        .into_iter()
        .map(|(key, row)| (key, read(row)))
        .collect()
}

/// The feed holds what the server holds.
#[track_caller]
pub(crate) fn agrees(feed: &Feed<Room>, server: &FakeServer) {
    let snapshot = feed.snapshot();
    assert_eq!(snapshot.version(), server.version());
    assert!(content(&snapshot) == truth(server), "the rows differ");
    assert_eq!(snapshot.len(), snapshot.iter().count());
}

/// A map kept by nothing but steps: a change that is lost, given twice or not net shows.
pub(crate) struct Mirror {
    changes: Changes<Room>,
    rows: BTreeMap<Key, Room>,
    pub(crate) last: Option<Step<Room>>,
}

impl Mirror {
    pub(crate) fn new(feed: &Feed<Room>) -> Self {
        Mirror {
            changes: feed.changes(),
            rows: BTreeMap::new(),
            last: None,
        }
    }

    /// The next step, checked and applied; `None` at the end.
    pub(crate) async fn next(&mut self) -> Option<&Step<Room>> {
        let step = self.changes.next().await;
        self.apply(step)
    }

    /// The next step, if there is one; checked and applied.
    pub(crate) fn try_next(&mut self) -> Option<&Step<Room>> {
        let step = self.changes.try_next();
        self.apply(step)
    }

    /// Every step there is; gives the last one.
    pub(crate) fn catch_up(&mut self) -> Option<&Step<Room>> {
        while self.try_next().is_some() {}
        self.last.as_ref()
    }

    fn apply(&mut self, step: Option<Step<Room>>) -> Option<&Step<Room>> {
        let step = step?;
        assert_eq!(step.from, self.last.as_ref().map(|last| last.to));
        if !step.other_lineage {
            assert!(step.from < Some(step.to), "{step:?}");
        }
        for (key, row) in &step.off {
            assert_eq!(self.rows.remove(key).as_ref(), Some(row));
        }
        for change in &step.change {
            let before = self.rows.insert(change.key.clone(), change.after.clone());
            assert_eq!(before.as_ref(), Some(&change.before));
            assert_ne!(change.before, change.after);
        }
        for (key, row) in &step.on {
            assert_eq!(self.rows.insert(key.clone(), row.clone()), None);
        }
        assert_eq!(step.snapshot.version(), step.to);
        assert!(
            content(&step.snapshot) == self.rows,
            "steps and content differ"
        );
        self.last = Some(step);
        self.last.as_ref()
    }
}
