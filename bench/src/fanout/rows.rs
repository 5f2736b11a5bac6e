//! The rows that every program sends: rooms, the same in each.

use bytes::BytesMut;
use onair_model::{Key, Row};
use prost::encoding::{string, uint32, uint64};

/// One of `live.room`.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Room {
    pub(super) id: u64,
    pub(super) uid: u64,
    pub(super) area_id: u32,
    pub(super) title: String,
    /// Microseconds since 1970.
    pub(super) live_time: u64,
}

/// The room with this id, as an update with this number leaves it.
pub(super) fn room(id: u64, update: u64) -> Room {
    Room {
        id,
        uid: 1_000_000 + id * 7,
        area_id: (id % 40) as u32,
        title: format!("Late night jazz and tea, {id:07}"),
        live_time: 1_795_341_600_000_000 + id + update,
    }
}

impl Room {
    pub(super) fn key(&self) -> Key {
        Key::from_u64(self.id)
    }

    /// The exported columns, as the reader encodes them.
    pub(super) fn row(&self) -> Row {
        let mut out = BytesMut::new();
        uint64::encode(1, &self.uid, &mut out);
        uint32::encode(2, &self.area_id, &mut out);
        string::encode(3, &self.title, &mut out);
        uint64::encode(4, &self.live_time, &mut out);
        Row::new(out.freeze())
    }
}
