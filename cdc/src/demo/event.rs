//! Binlog events as MySQL 8.4 and 9.x write them: the common header and the bodies of the kinds that a
//! row-based server with GTIDs and `binlog_row_metadata=FULL` produces.
//!
//! Formats: `libs/mysql/binlog/event/*.h` of the MySQL sources; compared byte by byte with what a MySQL 9.7 wrote
//! for the same statements on the same tables. Checksums are off, as after
//! `SET @source_binlog_checksum='NONE'`; the format description says so.

use onair_model::GtidSet;

/// Length of the common header.
pub(super) const HEADER: usize = 19;

/// What a binlog file begins with.
pub(super) const MAGIC: [u8; 4] = [0xfe, b'b', b'i', b'n'];

/// The server's version, as `@@version` gives it.
pub(super) const VERSION: &str = "9.7.4-demo";
const VERSION_NUMBER: u32 = 90_704;

/// `@@server_id` of the demo.
pub(super) const SERVER_ID: u32 = 1;

/// Event type codes.
pub(super) mod kind {
    pub(in crate::demo) const QUERY: u8 = 2;
    pub(in crate::demo) const ROTATE: u8 = 4;
    pub(in crate::demo) const FORMAT_DESCRIPTION: u8 = 15;
    pub(in crate::demo) const XID: u8 = 16;
    pub(in crate::demo) const TABLE_MAP: u8 = 19;
    pub(in crate::demo) const HEARTBEAT: u8 = 27;
    pub(in crate::demo) const WRITE_ROWS: u8 = 30;
    pub(in crate::demo) const UPDATE_ROWS: u8 = 31;
    pub(in crate::demo) const DELETE_ROWS: u8 = 32;
    pub(in crate::demo) const GTID: u8 = 33;
    pub(in crate::demo) const PREVIOUS_GTIDS: u8 = 35;
}

/// Header flags.
pub(super) mod flag {
    pub(in crate::demo) const NONE: u16 = 0;
    /// The statement does not depend on the current database.
    pub(in crate::demo) const SUPPRESS_USE: u16 = 0x8;
    /// Made by the dump thread, in no file.
    pub(in crate::demo) const ARTIFICIAL: u16 = 0x20;
    /// May be skipped by who does not know it.
    pub(in crate::demo) const IGNORABLE: u16 = 0x80;
}

/// Events one after the other, with headers; positions are set when the place in the file is known.
#[derive(Debug)]
pub(super) struct Events {
    bytes: Vec<u8>,
    timestamp: u32,
}

impl Events {
    pub(super) fn new(timestamp: u32) -> Self {
        Events {
            bytes: Vec::with_capacity(512),
            timestamp,
        }
    }

    /// Appends one event; `body` writes what follows the header.
    pub(super) fn push(&mut self, kind: u8, flags: u16, body: impl FnOnce(&mut Vec<u8>)) {
        let start = self.bytes.len();
        self.bytes.extend(self.timestamp.to_le_bytes());
        self.bytes.push(kind);
        self.bytes.extend(SERVER_ID.to_le_bytes());
        self.bytes.extend([0; 8]);
        self.bytes.extend(flags.to_le_bytes());
        body(&mut self.bytes);
        let size = (self.bytes.len() - start) as u32;
        self.bytes[start + 9..start + 13].copy_from_slice(&size.to_le_bytes());
    }

    /// The bytes as they stand in a file from `position` on.
    pub(super) fn at(mut self, position: u64) -> Vec<u8> {
        place(&mut self.bytes, position);
        self.bytes
    }

    /// A whole transaction as it stands in a file from `position` on: these events after their GTID.
    pub(super) fn transaction(self, gtid: &GtidHeader, position: u64) -> Vec<u8> {
        let rest = self.bytes;
        // The length counts itself: find the width of its own encoding that fits.
        let without = (HEADER + GtidHeader::FIXED + rest.len()) as u64;
        let length = [1, 3, 4, 9]
            .into_iter()
            .map(|width| (width, without + width))
            .find(|(width, length)| lenenc_width(*length) == *width)
            .map_or(without, |(_, length)| length);
        let mut all = Events {
            bytes: Vec::with_capacity(length as usize),
            timestamp: self.timestamp,
        };
        all.push(kind::GTID, flag::NONE, |out| gtid.body(length, out));
        all.bytes.extend(rest);
        all.at(position)
    }
}

/// Sets the position after each event, its low 32 bits.
fn place(bytes: &mut [u8], mut position: u64) {
    let mut at = 0;
    while at < bytes.len() {
        let size = u32_at(bytes, at + 9);
        position += u64::from(size);
        bytes[at + 13..at + 17].copy_from_slice(&(position as u32).to_le_bytes());
        at += size as usize;
    }
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut four = [0; 4];
    four.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(four)
}

/// What a GTID event says of its transaction.
#[derive(Debug)]
pub(super) struct GtidHeader {
    pub(super) uuid: u128,
    pub(super) number: u64,
    /// Number of the transaction in its file, from 1.
    pub(super) sequence: u64,
    /// Microseconds since 1970.
    pub(super) commit_time: u64,
    /// Whether a statement is in it (DDL).
    pub(super) statement: bool,
}

impl GtidHeader {
    /// Bytes of the body apart from the transaction's length.
    const FIXED: usize = 1 + 16 + 8 + 1 + 8 + 8 + 7 + 4;

    fn body(&self, transaction_length: u64, out: &mut Vec<u8>) {
        out.push(u8::from(self.statement));
        out.extend(self.uuid.to_be_bytes());
        out.extend(self.number.to_le_bytes());
        out.push(2); // logical timestamps follow
        out.extend((self.sequence - 1).to_le_bytes());
        out.extend(self.sequence.to_le_bytes());
        // Bit 55 clear: committed here first, so there is no second timestamp; likewise the version's bit 31.
        out.extend(&self.commit_time.to_le_bytes()[..7]);
        lenenc(transaction_length, out);
        out.extend(VERSION_NUMBER.to_le_bytes());
    }
}

/// What begins a transaction that writes rows.
pub(super) fn begin(events: &mut Events, thread: u32) {
    events.push(kind::QUERY, flag::SUPPRESS_USE, |out| {
        query(thread, None, "BEGIN", out);
    });
}

/// A DDL statement, committed as one with the data dictionary.
pub(super) fn ddl(events: &mut Events, thread: u32, xid: u64, sql: &str) {
    events.push(kind::QUERY, flag::NONE, |out| {
        query(thread, Some(xid), sql, out);
    });
}

/// The commit of a transaction of a transactional engine.
pub(super) fn xid(events: &mut Events, xid: u64) {
    events.push(kind::XID, flag::NONE, |out| out.extend(xid.to_le_bytes()));
}

fn query(thread: u32, ddl_xid: Option<u64>, sql: &str, out: &mut Vec<u8>) {
    const DATABASE: &[u8] = b"live";
    let mut vars = Vec::with_capacity(40);
    vars.push(0); // FLAGS2: autocommit and checks as they are by default
    vars.extend(0u32.to_le_bytes());
    vars.push(1); // SQL_MODE: MySQL 9's default
    vars.extend(0x45a0_0020u64.to_le_bytes());
    vars.extend([6, 3]); // CATALOG_NZ
    vars.extend(b"std");
    vars.push(4); // CHARSET: client, connection, server: utf8mb4_0900_ai_ci
    vars.extend([255, 0, 255, 0, 255, 0]);
    if let Some(xid) = ddl_xid {
        vars.push(17); // DDL_LOGGED_WITH_XID
        vars.extend(xid.to_le_bytes());
    }
    vars.push(18); // DEFAULT_COLLATION_FOR_UTF8MB4
    vars.extend(255u16.to_le_bytes());

    out.extend(thread.to_le_bytes());
    out.extend(0u32.to_le_bytes()); // seconds that it took
    out.push(DATABASE.len() as u8);
    out.extend(0u16.to_le_bytes()); // error code
    out.extend((vars.len() as u16).to_le_bytes());
    out.extend(vars);
    out.extend(DATABASE);
    out.push(0);
    out.extend(sql.as_bytes());
}

/// ROTATE: where to read on.
pub(super) fn rotate(events: &mut Events, flags: u16, name: &str) {
    events.push(kind::ROTATE, flags, |out| {
        out.extend((MAGIC.len() as u64).to_le_bytes());
        out.extend(name.as_bytes());
    });
}

/// What a file begins with after its magic: FORMAT_DESCRIPTION and PREVIOUS_GTIDS. `created` is when the server
/// started, if it started with this file, else 0.
pub(super) fn file_head(timestamp: u32, created: u32, previous: &GtidSet) -> Vec<u8> {
    let mut events = Events::new(timestamp);
    events.push(kind::FORMAT_DESCRIPTION, flag::NONE, |out| {
        out.extend(4u16.to_le_bytes());
        let mut version = [0; 50];
        version[..VERSION.len()].copy_from_slice(VERSION.as_bytes());
        out.extend(version);
        out.extend(created.to_le_bytes());
        out.push(HEADER as u8);
        out.extend(POST_HEADERS);
        out.push(0); // checksum algorithm: none
        out.extend([0; CHECKSUM]);
    });
    events.push(kind::PREVIOUS_GTIDS, flag::IGNORABLE, |out| {
        previous_gtids(previous, out);
    });
    let mut bytes = events.at(MAGIC.len() as u64);
    // A format description always has a checksum, whatever algorithm it announces for the rest.
    let end = u32_at(&bytes, 9) as usize;
    let sum = crc32fast::hash(&bytes[..end - CHECKSUM]);
    bytes[end - CHECKSUM..end].copy_from_slice(&sum.to_le_bytes());
    bytes
}

/// Length of an event's checksum; here only the format description has one.
pub(super) const CHECKSUM: usize = 4;

/// Lengths of the fixed parts of event types 1 to 42.
const POST_HEADERS: [u8; 42] = [
    0, 13, 0, 8, 0, 0, 0, 0, 4, 0, 4, 0, 0, 0, 99, 0, 4, 26, 8, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 10,
    10, 10, 42, 42, 0, 18, 52, 0, 10, 40, 0, 0,
];

fn previous_gtids(set: &GtidSet, out: &mut Vec<u8>) {
    let GtidSet::Mysql(sources) = set else {
        return;
    };
    out.extend((sources.len() as u64).to_le_bytes());
    for (source, intervals) in sources {
        out.extend(source.uuid.to_be_bytes());
        out.extend((intervals.len() as u64).to_le_bytes());
        for (first, last) in intervals {
            out.extend(first.to_le_bytes());
            out.extend((last + 1).to_le_bytes());
        }
    }
}

/// A length-encoded integer.
pub(super) fn lenenc(value: u64, out: &mut Vec<u8>) {
    match lenenc_width(value) {
        1 => out.push(value as u8),
        3 => {
            out.push(0xfc);
            out.extend((value as u16).to_le_bytes());
        }
        4 => {
            out.push(0xfd);
            out.extend(&value.to_le_bytes()[..3]);
        }
        _ => {
            out.push(0xfe);
            out.extend(value.to_le_bytes());
        }
    }
}

fn lenenc_width(value: u64) -> u64 {
    match value {
        0..=250 => 1,
        251..=0xffff => 3,
        0x1_0000..=0xff_ffff => 4,
        _ => 9,
    }
}
