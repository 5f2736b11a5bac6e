//! The decoder on events made by hand.

use std::num::NonZeroU16;
use std::sync::Arc;

use onair_model::column::{Collation, Column, ColumnType, IntWidth};
use onair_model::{Buckets, Key, Row};

use super::*;
use crate::bind::{FieldNumbers, bind};
use crate::change::KeyChange;
use crate::feed::{FeedConfig, Table};

fn column(name: &str, ty: ColumnType) -> Column {
    Column {
        name: name.into(),
        ty,
        nullable: true,
    }
}

fn int(width: IntWidth, unsigned: bool) -> ColumnType {
    ColumnType::Int { width, unsigned }
}

/// `live.room`: id, live_status, area, title, live_time, note.
fn table() -> Table {
    let text = |name: &str| {
        let collation = Collation::new("utf8mb4_0900_ai_ci");
        column(name, ColumnType::Text { collation })
    };
    Table {
        name: TableName {
            database: "live".into(),
            table: "room".into(),
        },
        columns: vec![
            column("id", int(IntWidth::Big, true)),
            column("live_status", int(IntWidth::Tiny, false)),
            column("area", int(IntWidth::Int, false)),
            text("title"),
            column("live_time", ColumnType::DateTime { fsp: 0 }),
            text("note"),
        ],
        primary_key: vec![0],
    }
}

fn feed(live_when: &str, columns: &[&str]) -> Arc<Feed> {
    let table = table();
    let config = FeedConfig {
        name: "rooms".into(),
        table: table.name.clone(),
        live_when: live_when.to_owned(),
        columns: columns.iter().map(|&c| c.to_owned()).collect(),
        buckets: Buckets::new(NonZeroU16::MIN),
    };
    let (feed, _) = bind(&config, &table, &FieldNumbers::default()).expect("binds");
    Arc::new(feed)
}

fn rooms() -> Decoder {
    Decoder::new([feed("live_status = 1", &["area", "title", "live_time"])].into())
}

fn map_of(id: u8, table: &str) -> Vec<u8> {
    let mut body = vec![id, 0, 0, 0, 0, 0, 1, 0];
    for name in ["live", table] {
        body.push(name.len() as u8);
        body.extend_from_slice(name.as_bytes());
        body.push(0);
    }
    // BIGINT, TINYINT, INT, VARCHAR(64 * 4), DATETIME(0), TEXT
    body.extend_from_slice(&[6, 8, 1, 3, 15, 18, 252]);
    body.extend_from_slice(&[4, 0, 1, 0, 2]);
    body.push(0x3e);
    body
}

/// A room's image.
#[derive(Clone, Copy)]
struct Image<'a> {
    id: u64,
    live: Option<i8>,
    area: i32,
    title: Option<&'a str>,
    note: &'a str,
}

const ROOM: Image<'static> = Image {
    id: 7,
    live: Some(1),
    area: -5,
    title: Some("a title"),
    note: "",
};

impl Image<'_> {
    fn write(&self, body: &mut Vec<u8>) {
        let nulls = u8::from(self.live.is_none()) << 1 | u8::from(self.title.is_none()) << 3;
        body.push(nulls);
        body.extend_from_slice(&self.id.to_le_bytes());
        body.extend(self.live.map(|live| live as u8));
        body.extend_from_slice(&self.area.to_le_bytes());
        if let Some(title) = self.title {
            body.extend_from_slice(&(title.len() as u16).to_le_bytes());
            body.extend_from_slice(title.as_bytes());
        }
        let live_time: u64 = 1 << 39 | ((2026 * 13 + 11) << 5 | 22) << 17 | 10 << 12;
        body.extend_from_slice(&live_time.to_be_bytes()[3..]);
        body.extend_from_slice(&(self.note.len() as u16).to_le_bytes());
        body.extend_from_slice(self.note.as_bytes());
    }
}

fn head(kind: u8, id: u8, flags: u8) -> Vec<u8> {
    let mut body = vec![id, 0, 0, 0, 0, 0, flags, 0];
    if kind >= 30 {
        body.extend_from_slice(&[2, 0]);
    }
    body.push(6);
    body.push(0x3f);
    if matches!(kind, 24 | 31 | 39) {
        body.push(0x3f);
    }
    body
}

fn rows_of(kind: u8, id: u8, images: &[Image<'_>]) -> Vec<u8> {
    let mut body = head(kind, id, 1);
    images.iter().for_each(|image| image.write(&mut body));
    body
}

/// The row with these fields: area, title, live_time.
fn row(area: i32, title: Option<&str>) -> Option<Row> {
    let mut bytes = vec![0x08];
    let mut zigzag = (area << 1 ^ area >> 31) as u32;
    while zigzag >= 0x80 {
        bytes.push(zigzag as u8 | 0x80);
        zigzag >>= 7;
    }
    bytes.push(zigzag as u8);
    if let Some(title) = title {
        bytes.extend_from_slice(&[0x12, title.len() as u8]);
        bytes.extend_from_slice(title.as_bytes());
    }
    bytes.extend_from_slice(b"\x1a\x132026-11-22 10:00:00");
    Some(Row::new(bytes.into()))
}

fn decode(decoder: &mut Decoder, kind: u8, images: &[Image<'_>]) -> Vec<KeyChange> {
    let mut net = Net::default();
    decoder.table_map(&map_of(1, "room")).expect("a table map");
    let rows = rows_of(kind, 1, images);
    decoder.rows(kind, &rows, &mut net).expect("rows");
    net.take()
        .pop()
        .map(|(_, changes)| changes)
        .unwrap_or_default()
}

fn change(id: u64, before: Option<Row>, after: Option<Row>) -> KeyChange {
    KeyChange {
        key: Key::from_u64(id),
        before,
        after,
    }
}

#[test]
fn inserts_and_deletes_of_both_versions() {
    let off = Image {
        id: 8,
        live: Some(0),
        ..ROOM
    };
    let unknown = Image {
        id: 9,
        live: None,
        ..ROOM
    };
    let untitled = Image {
        id: 3,
        title: None,
        ..ROOM
    };
    let images = [ROOM, off, unknown, untitled];
    for kind in [23, 30] {
        let expected = [
            change(3, None, row(-5, None)),
            change(7, None, row(-5, Some("a title"))),
        ];
        assert_eq!(decode(&mut rooms(), kind, &images), expected);
    }
    for kind in [25, 32] {
        let expected = [
            change(3, row(-5, None), None),
            change(7, row(-5, Some("a title")), None),
        ];
        assert_eq!(decode(&mut rooms(), kind, &images), expected);
    }
}

#[test]
fn updates() {
    let off = Image {
        live: Some(0),
        ..ROOM
    };
    let noted = Image {
        note: "not exported",
        ..ROOM
    };
    let other = Image { area: 300, ..ROOM };
    let moved = Image { id: 2, ..ROOM };
    let title = Some("a title");
    for (before, after, expected) in [
        (off, ROOM, vec![change(7, None, row(-5, title))]),
        (ROOM, off, vec![change(7, row(-5, title), None)]),
        (ROOM, noted, vec![]),
        (off, off, vec![]),
        (
            ROOM,
            other,
            vec![change(7, row(-5, title), row(300, title))],
        ),
        (
            ROOM,
            moved,
            vec![
                change(2, None, row(-5, title)),
                change(7, row(-5, title), None),
            ],
        ),
    ] {
        for kind in [24, 31] {
            assert_eq!(decode(&mut rooms(), kind, &[before, after]), expected);
        }
    }
}

#[test]
fn feeds_of_one_table_and_rows_of_others() {
    let feeds = [
        feed("live_status = 1", &["area"]),
        feed("area > 0", &["title"]),
    ];
    let mut decoder = Decoder::new(feeds.into());
    let mut net = Net::default();
    decoder.table_map(&map_of(1, "room")).expect("a table map");
    decoder.table_map(&map_of(2, "roof")).expect("a table map");
    let mut rows = rows_of(30, 1, &[Image { area: 1, ..ROOM }]);
    rows[6] = 0;
    decoder.rows(30, &rows, &mut net).expect("rows");
    // Nothing behind the header of another table's rows is looked at.
    decoder
        .rows(30, &head(30, 2, 1)[..8], &mut net)
        .expect("passed over");
    let changes = net.take();
    assert_eq!(
        changes.iter().map(|(feed, _)| *feed).collect::<Vec<_>>(),
        [0, 1]
    );
    let bytes = |feed: usize| {
        changes[feed].1[0]
            .after
            .clone()
            .map(|row| row.bytes().to_vec())
    };
    assert_eq!(bytes(0), Some(vec![0x08, 2]));
    assert_eq!(bytes(1), Some(b"\x0a\x07a title".to_vec()));
}

#[test]
fn table_ids_hold_for_a_statement() {
    let mut decoder = rooms();
    let mut net = Net::default();
    let rows = rows_of(30, 1, &[ROOM]);
    let unknown = decoder.rows(30, &rows, &mut net);
    let text = "damaged event: rows of table id 1 without a table map";
    assert_eq!(unknown.expect_err("unknown").to_string(), text);
    decoder.table_map(&map_of(1, "room")).expect("a table map");
    decoder.rows(30, &rows, &mut net).expect("rows");
    decoder.table_map(&map_of(2, "room")).expect("a table map");
    assert!(decoder.rows(30, &rows, &mut net).is_err());
    let only_an_end = [0xff, 0xff, 0xff, 0, 0, 0, 1, 0, 2, 0, 6, 0x3f];
    decoder
        .rows(30, &only_an_end, &mut net)
        .expect("nothing in it");
}

#[test]
fn extra_data_is_passed_over() {
    let mut decoder = rooms();
    let mut net = Net::default();
    decoder.table_map(&map_of(1, "room")).expect("a table map");
    let mut rows = rows_of(30, 1, &[ROOM]);
    rows.splice(8..10, [6, 0, 1, 2, 3, 4]);
    decoder.rows(30, &rows, &mut net).expect("rows");
    assert_eq!(net.take()[0].1.len(), 1);
    rows[8] = 1;
    assert!(matches!(
        decoder.rows(30, &rows, &mut net),
        Err(DecodeError::Damaged(_))
    ));
}

#[test]
fn absent_columns_are_a_barrier() {
    let mut decoder = rooms();
    let mut net = Net::default();
    decoder.table_map(&map_of(1, "room")).expect("a table map");
    let mut rows = rows_of(31, 1, &[ROOM, ROOM]);
    rows[12] = 0x37;
    let error = decoder.rows(31, &rows, &mut net).expect_err("a barrier");
    let expected = "live.room: a session wrote a row image without column title: its binlog_row_image is MINIMAL or NOBLOB, FULL is needed";
    assert!(matches!(error, DecodeError::Barrier(reason) if reason.to_string() == expected));
}

#[test]
fn another_table_map_without_names_is_a_barrier() {
    let map = map_of(1, "room");
    let change = |at: usize, with: &[u8]| {
        let mut map = map.clone();
        map.splice(at..at + 1, with.iter().copied());
        map
    };
    let five = [&map[..20], &[5], &map[21..26], &[3, 0, 1, 0, 0x1e]].concat();
    for (map, expected) in [
        (
            change(22, &[2]),
            "live.room: column live_status is SMALLINT now",
        ),
        (change(24, &[16]), "live.room: column title is BIT(8) now"),
        (five, "live.room: it has 5 columns now, not 6"),
        (
            change(22, &[99]),
            "live.room: column 2 has a type of code 99 that this version does not know",
        ),
    ] {
        let error = rooms().table_map(&map).expect_err("a barrier");
        assert!(matches!(error, DecodeError::Barrier(reason) if reason.to_string() == expected));
    }
}

#[test]
fn every_cut_and_every_flipped_bit() {
    let map = map_of(1, "room");
    let rows = rows_of(31, 1, &[ROOM, Image { area: 9, ..ROOM }, ROOM, ROOM]);
    let mut decoder = rooms();
    let mut net = Net::default();
    for end in 0..map.len() {
        assert!(decoder.table_map(&map[..end]).is_err(), "{end}");
    }
    for at in 0..map.len() * 8 {
        let mut map = map.clone();
        map[at / 8] ^= 1 << (at % 8);
        if decoder.table_map(&map).is_ok() {
            let _ = decoder.rows(31, &rows, &mut net);
        }
    }
    decoder.table_map(&map).expect("a table map");
    for end in 0..rows.len() {
        let _ = decoder.rows(31, &rows[..end], &mut net);
        decoder.table_map(&map).expect("a table map");
    }
    for at in 0..rows.len() * 8 {
        let mut rows = rows.clone();
        rows[at / 8] ^= 1 << (at % 8);
        let _ = decoder.rows(31, &rows, &mut net);
        decoder.table_map(&map).expect("a table map");
    }
}

/// Nanoseconds of this thread on a CPU, from Linux.
fn busy_nanos() -> f64 {
    let all = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux");
    let first = all.split(' ').next().expect("three numbers");
    first.parse().expect("a number")
}

/// Nanoseconds of CPU a row, by hand:
/// `cargo test --release -p onair-cdc --lib speed -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement, not a test"]
fn speed() {
    let title = Some("a title of a usual length");
    let room = |id: u64, area: i32, note: &'static str| Image {
        id,
        title,
        area,
        note,
        ..ROOM
    };
    let pairs = |n: u64, area: i32, note: &'static str| -> Vec<Image<'_>> {
        (0..n)
            .flat_map(|id| [room(id, 1, ""), room(id, area, note)])
            .collect()
    };
    let singles: Vec<_> = (0..100).map(|id| room(id, 1, "")).collect();
    let not_live: Vec<_> = (0..100)
        .map(|id| Image {
            live: Some(0),
            ..room(id, 1, "")
        })
        .collect();
    for (name, kind, images) in [
        ("insert of a live row", 30, &singles),
        ("insert of another row", 30, &not_live),
        ("update of an exported column", 31, &pairs(100, 2, "")),
        ("update of another column", 31, &pairs(100, 1, "x")),
        (
            "one update of an exported column a transaction",
            31,
            &pairs(1, 2, ""),
        ),
        (
            "one update of another column a transaction",
            31,
            &pairs(1, 1, "x"),
        ),
    ] {
        let mut decoder = rooms();
        let mut net = Net::default();
        let map = map_of(1, "room");
        let body = rows_of(kind, 1, images);
        let rows = if kind == 31 {
            images.len() / 2
        } else {
            images.len()
        };
        let rounds = 2_000_000 / rows;
        let begun = busy_nanos();
        let mut changes = 0;
        for _ in 0..rounds {
            decoder.table_map(&map).expect("a table map");
            decoder.rows(kind, &body, &mut net).expect("rows");
            changes += net.take().len();
        }
        let nanos = (busy_nanos() - begun) / (rounds * rows) as f64;
        eprintln!("{nanos:7.1} ns a row: {name} ({changes} transactions with changes)");
    }
}
