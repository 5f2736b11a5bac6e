//! The rows that every program holds: a snapshot as a server sends it, the same as one prost message after the other,
//! and the changes that follow.
//!
//! The same rows as in the programs in other languages: ids lie anywhere in 42 bits, as those of a service do.

use std::fs::{self, File};
use std::io::{BufWriter, Write as _};
use std::num::NonZeroU16;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use bytes::{Buf as _, Bytes};
use onair_model::schema::{FieldKind, Schema};
use onair_model::{
    Buckets, Digest, Epoch, GtidSet, Key, Lineage, Row, RowsBuilder, Seal, Snapshot, Sum, Version,
};
use onair_proto::v1::subscribe_response::Message as Wire;
use onair_proto::{convert, entries, v1};
use prost::Message;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde::{Deserialize, Serialize};

/// Bytes of a row's values: id 8, uid 8, area 4, time 8.
pub(super) const PAYLOAD_BYTES: u64 = 28;
/// Rows that a delta takes off, and as many that it puts on.
pub(super) const HALF: u64 = 500;

const ID_MASK: u64 = (1 << 42) - 1;
/// Odd, so that no two rows get the same id.
const ID_STEP: u64 = 0x9e37_79b9_7f4a_7c15;
/// 2026-11-22 10:00 in microseconds.
const FIRST_TIME: i64 = 1_795_341_600_000_000;
/// As `onair` has it where nothing is said.
const LAYOUT: Buckets = Buckets::new(NonZeroU16::new(16).expect("not zero"));
/// As the server's.
const CHUNK_BYTES: usize = 256 * 1024;
const LINEAGE: Lineage = Lineage::new(7);

/// What is exported of a room.
#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct Room {
    #[prost(uint64, tag = "1")]
    pub uid: u64,
    #[prost(sint32, tag = "2")]
    pub area_id: i32,
    #[prost(sint64, tag = "3")]
    pub live_time: i64,
}
onair_sdk::prost_row!(Room);

/// A room as a message of its own has it, with its id.
#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct WholeRoom {
    #[prost(uint64, tag = "1")]
    pub(super) id: u64,
    #[prost(uint64, tag = "2")]
    pub(super) uid: u64,
    #[prost(sint32, tag = "3")]
    pub(super) area_id: i32,
    #[prost(sint64, tag = "4")]
    pub(super) live_time: i64,
}

/// What somebody would send who has prost and no more.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Rooms {
    #[prost(message, repeated, tag = "1")]
    pub(super) rooms: Vec<WholeRoom>,
}

/// The id of the nth room.
pub(super) const fn id(number: u64) -> u64 {
    number.wrapping_mul(ID_STEP) & ID_MASK
}

/// The nth room.
pub(super) fn room(number: u64) -> Room {
    Room {
        uid: 1_000_000 + number * 7,
        area_id: 1 + (number % 40) as i32,
        live_time: FIRST_TIME + (number % 3_600_000) as i64,
    }
}

fn row(number: u64) -> (Key, Row) {
    let row = Row::new(room(number).encode_to_vec().into());
    (Key::from_u64(id(number)), row)
}

/// A data set of so many rows, in files.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Data {
    pub(super) rows: u64,
    /// The snapshot's messages, each behind its length.
    replay: PathBuf,
    /// The same rooms in the same order, in [`Rooms`] of about the same size.
    rooms: PathBuf,
    digest: String,
}

impl Data {
    /// Makes the files. The order is that in which a server sends: that of its own map.
    pub(crate) fn make(dir: &Path, rows: u64) -> Result<Self> {
        let each = rows as usize / LAYOUT.count();
        let buckets = (0..LAYOUT.count()).map(|_| RowsBuilder::with_capacity(each));
        let mut buckets: Vec<RowsBuilder<Row>> = buckets.collect();
        let mut sum = Sum {
            digest: Digest::EMPTY,
            count: 0,
        };
        for number in 0..rows {
            let (key, row) = row(number);
            sum.digest = sum.digest.plus(Digest::of(&key, &row));
            sum.count += 1;
            buckets[LAYOUT.of(&key).index()].insert(key, row);
        }
        let version = Epoch::NONE.next().context("the first epoch")?.start();
        let snapshot = Snapshot {
            seal: seal(version, sum),
            layout: LAYOUT,
            buckets: buckets.into_iter().map(RowsBuilder::build).collect(),
        };
        let data = Data {
            rows,
            replay: dir.join(format!("{rows}.replay")),
            rooms: dir.join(format!("{rows}.rooms")),
            digest: sum.digest.to_string(),
        };
        data.write_replay(&snapshot)?;
        data.write_rooms(&snapshot)?;
        Ok(data)
    }

    fn write_replay(&self, snapshot: &Snapshot) -> Result<()> {
        let mut out = BufWriter::new(File::create(&self.replay)?);
        let seal = &snapshot.seal;
        let start = v1::Start {
            mode: v1::start::Mode::Full.into(),
            reason: "first".to_owned(),
            lineage: convert::bytes16(LINEAGE.get()),
            schema: Some(convert::schema_to_wire(&schema(), LAYOUT.count())),
            count: seal.count,
            version: seal.version.get(),
        };
        append(&mut out, &encoded(Wire::Start(start)))?;
        let all: Vec<(&Key, &Row)> = snapshot.iter().collect();
        let mut rest = &all[..];
        let mut index = 0;
        while !rest.is_empty() {
            let mut bytes = 0;
            let fits = rest.iter().take_while(|(key, row)| {
                bytes += entries::size(key, Some(row));
                bytes <= CHUNK_BYTES
            });
            let (piece, later) = rest.split_at(fits.count());
            let chunk = v1::Chunk {
                version: seal.version.get(),
                index,
                entries: entries::encode(piece.iter().map(|(key, row)| (*key, Some(*row)))),
            };
            append(&mut out, &encoded(Wire::Chunk(chunk)))?;
            rest = later;
            index += 1;
        }
        let seal = convert::seal_to_wire(seal, &seal.executed);
        append(&mut out, &encoded(Wire::Seal(seal)))?;
        Ok(out.flush()?)
    }

    fn write_rooms(&self, snapshot: &Snapshot) -> Result<()> {
        let mut out = BufWriter::new(File::create(&self.rooms)?);
        let mut rooms = Vec::new();
        // A room takes about 28 bytes.
        let each = CHUNK_BYTES / 28;
        for (key, row) in snapshot.iter() {
            let Room {
                uid,
                area_id,
                live_time,
            } = Room::decode(row.bytes().clone())?;
            rooms.push(WholeRoom {
                id: key.as_u64().context("an integer key")?,
                uid,
                area_id,
                live_time,
            });
            if rooms.len() == each {
                let rooms = std::mem::take(&mut rooms);
                append(&mut out, &Rooms { rooms }.encode_to_vec())?;
            }
        }
        append(&mut out, &Rooms { rooms }.encode_to_vec())?;
        Ok(out.flush()?)
    }

    /// The messages of the snapshot: slices of one buffer.
    pub(super) fn replay(&self) -> Result<Vec<Bytes>> {
        messages(&self.replay)
    }

    /// The rooms' messages: slices of one buffer.
    pub(super) fn rooms(&self) -> Result<Vec<Bytes>> {
        messages(&self.rooms)
    }

    /// The rooms, decoded.
    pub(super) fn decoded(&self) -> Result<Vec<(u64, Room)>> {
        let mut all = Vec::with_capacity(usize::try_from(self.rows)?);
        for message in self.rooms()? {
            all.extend(Rooms::decode(message)?.rooms.iter().map(WholeRoom::parts));
        }
        ensure!(all.len() as u64 == self.rows, "{} rooms", all.len());
        Ok(all)
    }

    /// What follows the snapshot.
    pub(super) fn deltas(&self) -> Result<Deltas> {
        Ok(Deltas {
            rows: self.rows,
            at: 0,
            version: Epoch::NONE.next().context("the first epoch")?.start(),
            sum: Sum {
                digest: self.digest.parse()?,
                count: self.rows,
            },
        })
    }
}

impl WholeRoom {
    pub(super) const fn parts(&self) -> (u64, Room) {
        let room = Room {
            uid: self.uid,
            area_id: self.area_id,
            live_time: self.live_time,
        };
        (self.id, room)
    }
}

fn schema() -> Schema {
    let key = [("id", FieldKind::UInt)];
    let columns = [
        ("uid", FieldKind::UInt),
        ("area_id", FieldKind::Int),
        ("live_time", FieldKind::Int),
    ];
    onair_sdk::testing::schema("room", &key, &columns)
}

fn seal(version: Version, sum: Sum) -> Seal {
    Seal {
        lineage: LINEAGE,
        version,
        digest: sum.digest,
        count: sum.count,
        commit_time: FIRST_TIME,
        source_time: FIRST_TIME,
        gtid: None,
        executed: Arc::new(GtidSet::mysql()),
        proven: None,
        rewound: false,
    }
}

fn encoded(message: Wire) -> Vec<u8> {
    let response = v1::SubscribeResponse {
        message: Some(message),
    };
    response.encode_to_vec()
}

fn append(out: &mut impl std::io::Write, message: &[u8]) -> Result<()> {
    out.write_all(&u32::try_from(message.len())?.to_le_bytes())?;
    Ok(out.write_all(message)?)
}

fn messages(path: &Path) -> Result<Vec<Bytes>> {
    let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut rest = Bytes::from(bytes);
    let mut messages = Vec::new();
    while !rest.is_empty() {
        let len = rest.get_u32_le() as usize;
        messages.push(rest.split_to(len));
    }
    Ok(messages)
}

/// One delta after the other, for ever: of twice as many rooms as are live, the window of the live ones moves on.
#[derive(Debug)]
pub(super) struct Deltas {
    rows: u64,
    at: u64,
    version: Version,
    sum: Sum,
}

/// What changes from one version to the next.
#[derive(Debug)]
pub(super) struct Delta {
    pub(super) off: Vec<u64>,
    pub(super) on: Vec<(u64, Room)>,
    /// As a server sends it: a frame and its seal.
    pub(super) messages: [Bytes; 2],
}

impl Deltas {
    /// The next one takes so many off and puts so many on.
    pub(super) fn next(&mut self, half: u64) -> Result<Delta> {
        let numbers = |from: u64| {
            let universe = 2 * self.rows;
            (from..from + half).map(move |number| number % universe)
        };
        let (off, on) = (numbers(self.at), numbers(self.at + self.rows));
        let mut touched = Vec::new();
        for number in off.clone() {
            let (key, row) = row(number);
            self.sum.digest = self.sum.digest.minus(Digest::of(&key, &row));
            touched.push((key, None));
        }
        for number in on.clone() {
            let (key, row) = row(number);
            self.sum.digest = self.sum.digest.plus(Digest::of(&key, &row));
            touched.push((key, Some(row)));
        }
        touched.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        let from = self.version;
        let to = from.next().context("the epoch is full")?;
        let frame = v1::Frame {
            from: from.get(),
            to: to.get(),
            exact: false,
            entries: convert::touched_to_wire(&touched),
        };
        let seal = seal(to, self.sum);
        let seal = convert::seal_to_wire(&seal, &seal.executed);
        let delta = Delta {
            off: off.map(id).collect(),
            on: on.map(|number| (id(number), room(number))).collect(),
            messages: [encoded(Wire::Frame(frame)), encoded(Wire::Seal(seal))].map(Bytes::from),
        };
        self.at += half;
        self.version = to;
        Ok(delta)
    }
}

/// Ids to look up, drawn anew for each place: three of four are live before the first delta.
pub(super) fn ids(rows: u64, count: usize) -> Vec<u64> {
    let mut random = StdRng::seed_from_u64(1);
    let mut one = || {
        let number = random.random_range(0..rows);
        let live = random.random_range(0..4) < 3;
        id(if live { number } else { rows + number })
    };
    (0..count).map(|_| one()).collect()
}
