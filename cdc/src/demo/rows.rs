//! TABLE_MAP and ROWS events of the demo's two tables: `live.room`, and `live.gift`, which only fills the
//! binlog with rows that no feed can want.

use std::sync::Arc;

use super::event::{Events, flag, kind, lenenc};
use super::room::Room;

/// Bytes that the body of a rows event has at most, unless one row is longer (`binlog_row_event_max_size`).
const EVENT_MAX: usize = 8_192;

/// One row of `live.gift`: `id BIGINT UNSIGNED PRIMARY KEY, room_id BIGINT UNSIGNED NOT NULL,
/// kind ENUM('rose','car','rocket') NOT NULL, price DECIMAL(10,2) NOT NULL`, engine BLACKHOLE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gift {
    /// The key.
    pub id: u64,
    /// For whom.
    pub room_id: u64,
    /// Index of the label, from 1.
    pub kind: u8,
    /// The price times 100, below 10^10.
    pub cents: u64,
}

/// The labels of `live.gift.kind`.
pub(super) const GIFT_KINDS: [&str; 3] = ["rose", "car", "rocket"];

/// What one statement wrote, in order.
#[derive(Clone, Debug)]
pub(super) enum Statement {
    Insert(Vec<Arc<Room>>),
    /// Before and after.
    Update(Vec<(Arc<Room>, Arc<Room>)>),
    Delete(Vec<Arc<Room>>),
    Gifts(Vec<Gift>),
}

/// Appends the statement's TABLE_MAP and its rows in as many events as their size asks for.
pub(super) fn write(events: &mut Events, statement: &Statement, ids: TableIds) {
    match statement {
        Statement::Insert(rooms) => {
            let images = rooms.iter().map(|room| image(&[room]));
            table(events, ids.room, &ROOM, kind::WRITE_ROWS, images);
        }
        Statement::Update(rooms) => {
            let images = rooms.iter().map(|(before, after)| image(&[before, after]));
            table(events, ids.room, &ROOM, kind::UPDATE_ROWS, images);
        }
        Statement::Delete(rooms) => {
            let images = rooms.iter().map(|room| image(&[room]));
            table(events, ids.room, &ROOM, kind::DELETE_ROWS, images);
        }
        Statement::Gifts(gifts) => {
            let images = gifts.iter().map(gift_image);
            table(events, ids.gift, &GIFT, kind::WRITE_ROWS, images);
        }
    }
}

/// The ids under which the tables are open now; DDL gives new ones.
#[derive(Clone, Copy, Debug)]
pub(super) struct TableIds {
    pub(super) room: u64,
    pub(super) gift: u64,
}

fn image(rooms: &[&Arc<Room>]) -> Vec<u8> {
    let mut out = Vec::with_capacity(64 * rooms.len());
    for room in rooms {
        room.image(&mut out);
    }
    out
}

fn gift_image(gift: &Gift) -> Vec<u8> {
    let mut out = vec![0];
    out.extend(gift.id.to_le_bytes());
    out.extend(gift.room_id.to_le_bytes());
    out.push(gift.kind);
    // DECIMAL(10,2): eight digits in four bytes and two in one, big-endian, the sign bit flipped.
    let whole = (gift.cents / 100 % 100_000_000) as u32;
    out.extend((whole ^ 1 << 31).to_be_bytes());
    out.push((gift.cents % 100) as u8);
    out
}

fn table(
    events: &mut Events,
    id: u64,
    definition: &Definition,
    kind: u8,
    images: impl Iterator<Item = Vec<u8>>,
) {
    events.push(kind::TABLE_MAP, flag::NONE, |out| definition.map(id, out));
    let mut head = Vec::with_capacity(16);
    head.extend(2u16.to_le_bytes()); // extra data: none but its own length
    lenenc(definition.columns.len() as u64, &mut head);
    let bitmaps = if kind == kind::UPDATE_ROWS { 2 } else { 1 };
    // The server sets the bitmaps' unused bits, too.
    let present = bitmaps * definition.columns.len().div_ceil(8);
    head.resize(head.len() + present, 0xff);

    let mut images = images.peekable();
    while let Some(mut rows) = images.next() {
        let fits = |rows: &Vec<u8>, next: &Vec<u8>| {
            POST_HEADER + head.len() + rows.len() + next.len() <= EVENT_MAX
        };
        while let Some(image) = images.next_if(|next| fits(&rows, next)) {
            rows.extend(image);
        }
        let end = if images.peek().is_none() { STMT_END } else { 0 };
        events.push(kind, flag::NONE, |out| {
            table_id(id, out);
            out.extend((FLAGS | end).to_le_bytes());
            out.extend(&head);
            out.extend(rows);
        });
    }
}

/// Table id and flags.
const POST_HEADER: usize = 8;

/// The last rows event of a statement.
const STMT_END: u16 = 1;

/// Set by 9.6 and later, which write what foreign keys cascade to as rows of its own.
const FLAGS: u16 = 0x10;

fn table_id(id: u64, out: &mut Vec<u8>) {
    out.extend(&id.to_le_bytes()[..6]);
}

/// A table as TABLE_MAP describes it.
struct Definition {
    database: &'static str,
    table: &'static str,
    columns: &'static [Declared],
    primary_key: &'static [u64],
}

struct Declared {
    name: &'static str,
    /// The type's code and its metadata.
    ty: u8,
    meta: &'static [u8],
    nullable: bool,
    class: Class,
}

/// Which optional metadata a column has.
enum Class {
    Number { unsigned: bool },
    Text,
    Enum(&'static [&'static str]),
    Other,
}

const BIGINT_UNSIGNED: Class = Class::Number { unsigned: true };
const SIGNED: Class = Class::Number { unsigned: false };

const fn declared(
    name: &'static str,
    ty: (u8, &'static [u8]),
    nullable: bool,
    class: Class,
) -> Declared {
    Declared {
        name,
        ty: ty.0,
        meta: ty.1,
        nullable,
        class,
    }
}

const TINY: (u8, &[u8]) = (1, &[]);
const LONG: (u8, &[u8]) = (3, &[]);
const LONGLONG: (u8, &[u8]) = (8, &[]);
const VARCHAR_120: (u8, &[u8]) = (15, &480u16.to_le_bytes());
const DATETIME2_6: (u8, &[u8]) = (18, &[6]);
const DECIMAL_10_2: (u8, &[u8]) = (246, &[10, 2]);
/// ENUM goes as STRING; its metadata says so, and that an index takes one byte.
const ENUM_1: (u8, &[u8]) = (254, &[247, 1]);

static ROOM: Definition = Definition {
    database: "live",
    table: "room",
    columns: &[
        declared("id", LONGLONG, false, BIGINT_UNSIGNED),
        declared("uid", LONGLONG, true, BIGINT_UNSIGNED),
        declared("area_id", LONG, true, SIGNED),
        declared("title", VARCHAR_120, true, Class::Text),
        declared("live_status", TINY, false, SIGNED),
        declared("live_time", DATETIME2_6, true, Class::Other),
        declared("online", LONG, true, SIGNED),
    ],
    primary_key: &[0],
};

static GIFT: Definition = Definition {
    database: "live",
    table: "gift",
    columns: &[
        declared("id", LONGLONG, false, BIGINT_UNSIGNED),
        declared("room_id", LONGLONG, false, BIGINT_UNSIGNED),
        declared("kind", ENUM_1, false, Class::Enum(&GIFT_KINDS)),
        declared("price", DECIMAL_10_2, false, SIGNED),
    ],
    primary_key: &[0],
};

/// utf8mb4_0900_ai_ci
const COLLATION: u64 = 255;

impl Definition {
    fn map(&self, id: u64, out: &mut Vec<u8>) {
        table_id(id, out);
        out.extend(1u16.to_le_bytes());
        for name in [self.database, self.table] {
            lenenc(name.len() as u64, out);
            out.extend(name.as_bytes());
            out.push(0);
        }
        let columns = self.columns;
        lenenc(columns.len() as u64, out);
        out.extend(columns.iter().map(|column| column.ty));
        let meta: Vec<u8> = columns.iter().flat_map(|c| c.meta).copied().collect();
        lenenc(meta.len() as u64, out);
        out.extend(meta);
        let nullable = |at: usize| columns[at].nullable;
        bitmap(columns.len(), Bits::LowFirst, nullable, out);
        self.optional(out);
    }

    /// The optional metadata of `binlog_row_metadata=FULL`, in the server's order.
    fn optional(&self, out: &mut Vec<u8>) {
        let columns = self.columns;
        let unsigned: Vec<bool> = columns
            .iter()
            .filter_map(|column| match column.class {
                Class::Number { unsigned } => Some(unsigned),
                _ => None,
            })
            .collect();
        field(1, out, |out| {
            bitmap(unsigned.len(), Bits::HighFirst, |at| unsigned[at], out);
        });
        let has = |class: fn(&Class) -> bool| columns.iter().any(|column| class(&column.class));
        if has(|class| matches!(class, Class::Text)) {
            field(2, out, |out| lenenc(COLLATION, out)); // DEFAULT_CHARSET
        }
        field(4, out, |out| {
            for column in columns {
                text(column.name, out);
            }
        });
        if has(|class| matches!(class, Class::Enum(_))) {
            field(10, out, |out| lenenc(COLLATION, out)); // ENUM_AND_SET_DEFAULT_CHARSET
            field(6, out, |out| {
                for column in columns {
                    if let Class::Enum(labels) = column.class {
                        lenenc(labels.len() as u64, out);
                        labels.iter().for_each(|label| text(label, out));
                    }
                }
            });
        }
        field(8, out, |out| {
            for column in self.primary_key {
                lenenc(*column, out);
            }
        });
        field(12, out, |out| {
            bitmap(columns.len(), Bits::HighFirst, |_| true, out); // all visible
        });
    }
}

fn field(kind: u8, out: &mut Vec<u8>, value: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = Vec::new();
    value(&mut bytes);
    out.push(kind);
    lenenc(bytes.len() as u64, out);
    out.extend(bytes);
}

fn text(text: &str, out: &mut Vec<u8>) {
    lenenc(text.len() as u64, out);
    out.extend(text.as_bytes());
}

/// Which bit of a byte is the first.
#[derive(Clone, Copy)]
enum Bits {
    LowFirst,
    HighFirst,
}

fn bitmap(len: usize, bits: Bits, set: impl Fn(usize) -> bool, out: &mut Vec<u8>) {
    let start = out.len();
    out.resize(start + len.div_ceil(8), 0);
    for at in (0..len).filter(|at| set(*at)) {
        out[start + at / 8] |= match bits {
            Bits::LowFirst => 1 << (at % 8),
            Bits::HighFirst => 0x80 >> (at % 8),
        };
    }
}
