//! A feed of rooms, and what tests ask of it.

use bytes::Bytes;
use onair_sdk::raw::Value;
use onair_sdk::testing::{self, FakeServer};
use onair_sdk::{Feed, FieldKind, FromRow, RowError, RowRef, Schema, Step};

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
    Feed::connect([server.endpoint()], "rooms")
        .await
        .expect("the server is well")
}

/// What a step says, by id: on, change, off.
pub(crate) fn ids(step: &Step<Room>) -> (Vec<u64>, Vec<u64>, Vec<u64>) {
    let id = |key: &onair_sdk::Key| key.as_u64().expect("rooms have integer keys");
    (
        step.on.iter().map(|(key, _)| id(key)).collect(),
        step.change.iter().map(|change| id(&change.key)).collect(),
        step.off.iter().map(|(key, _)| id(key)).collect(),
    )
}
