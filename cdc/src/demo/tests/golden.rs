//! The same statements, written by a MySQL 9.7.4 with `binlog_checksum=NONE` and `binlog_row_metadata=FULL`.

use std::sync::Arc;

use onair_model::value::DateTime;

use super::super::event::{self, Events, GtidHeader};
use super::super::rows::{self, Statement, TableIds};
use super::super::{Gift, Room};

/// What `binlog.000002` held from its first transaction on: two inserts, an update, a delete and a gift in one
/// transaction, then `truncate table room`.
const FILE: &str = include_str!("mysql-9.7.4.hex");
const BEGINS_AT: u64 = 194;

#[test]
fn our_bytes_are_those_of_a_mysql() {
    let theirs = unhex(FILE);
    let header = |number, sequence, commit_time, statement| GtidHeader {
        uuid: 0xa528_a853_e68b_11f1_8936_02fc_0000_0001,
        number,
        sequence,
        commit_time,
        statement,
    };

    let mut events = Events::new(1_795_362_294);
    event::begin(&mut events, 8);
    let ids = TableIds {
        room: 0x6a,
        gift: 0x6c,
    };
    for statement in statements() {
        rows::write(&mut events, &statement, ids);
    }
    event::xid(&mut events, 10);
    let rows = header(4, 1, 1_795_362_294_267_793, false);
    let mut ours = events.transaction(&rows, BEGINS_AT);

    let mut events = Events::new(1_795_362_294);
    event::ddl(&mut events, 8, 16, "truncate table room");
    let ddl = header(5, 2, 1_795_362_294_296_814, true);
    ours.extend(events.transaction(&ddl, BEGINS_AT + ours.len() as u64));

    let differs = theirs.iter().zip(&ours).position(|(a, b)| a != b);
    assert_eq!(differs, None, "{theirs:02x?}\n{ours:02x?}");
    assert_eq!(theirs.len(), ours.len());
}

fn statements() -> [Statement; 5] {
    let first = Arc::new(Room::new(5_000_000));
    let second = Arc::new(Room {
        id: 5_000_001,
        uid: Some(u64::MAX),
        area_id: Some(-7),
        title: Some("日本'x".into()),
        live_status: 1,
        live_time: Some(DateTime {
            year: 2026,
            month: 1,
            day: 2,
            hour: 3,
            minute: 4,
            second: 5,
            micros: 678_901,
        }),
        online: Some(9),
    });
    let untitled = Arc::new(Room {
        title: None,
        ..Room::clone(&second)
    });
    [
        Statement::Insert(vec![first.clone()]),
        Statement::Insert(vec![second.clone()]),
        Statement::Update(vec![(second, untitled)]),
        Statement::Delete(vec![first]),
        Statement::Gifts(vec![Gift {
            id: 1,
            room_id: 5,
            kind: 2,
            cents: 123_456,
        }]),
    ]
}

fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text
        .chars()
        .filter_map(|digit| digit.to_digit(16))
        .map(|digit| digit as u8)
        .collect();
    digits
        .chunks(2)
        .map(|pair| pair[0] << 4 | pair[1])
        .collect()
}
