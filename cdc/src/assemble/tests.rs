//! Events in, steps out. Bodies are built by hand from the formats' descriptions, not by our own code.

use std::sync::Arc;

use bytes::Bytes;
use std::num::NonZeroU16;

use onair_model::Buckets;
use onair_model::column::{Column, ColumnType, IntWidth};
use onair_model::predicate::Predicate;
use onair_model::schema::{Field, FieldKind, Schema};

use super::*;
use crate::feed::{FeedConfig, TableName};

pub(crate) const UUID: u128 = 0x3e11fa47_71ca_11e1_9e33_c80aa9429562;
const SECONDS: u32 = 1_700_000_000;

/// `live.room(id, live_status, title, note)`: key id, live when live_status = 1, title exported.
pub(crate) fn feed() -> Arc<Feed> {
    let int = ColumnType::Int {
        width: IntWidth::Int,
        unsigned: false,
    };
    let column = |name: &str| Column {
        name: name.into(),
        ty: int.clone(),
        nullable: true,
    };
    let field = |name: &str, number| Field {
        column: name.into(),
        name: name.into(),
        number,
        kind: FieldKind::Int,
    };
    let columns: Arc<[Column]> = ["id", "live_status", "title", "note"].map(column).into();
    Arc::new(Feed {
        config: FeedConfig {
            name: "rooms".into(),
            table: TableName {
                database: "live".into(),
                table: "room".into(),
            },
            live_when: "live_status = 1".to_owned(),
            columns: vec!["title".to_owned()],
            buckets: Buckets::new(NonZeroU16::new(16).unwrap()),
        },
        schema: Arc::new(Schema {
            feed: "rooms".into(),
            table: "live.room".into(),
            key: vec![field("id", 0)],
            columns: vec![field("title", 1)],
        }),
        live_when: Predicate::parse("live_status = 1", &columns).unwrap(),
        columns,
        key: vec![0],
        exported: vec![2],
    })
}

fn assembler() -> Assembler {
    Assembler::new(
        [feed()].into(),
        Dialect::Mysql,
        Limits {
            transaction_bytes: 1 << 20,
            xa_open_max: 2,
        },
    )
}

/// What the events give: steps as text, and the error that ended it.
fn run(assembler: &mut Assembler, events: &[RawEvent]) -> Vec<String> {
    let mut lines = Vec::new();
    for event in events {
        let outcome = assembler.push(event, &mut |step| lines.push(show(&step)));
        if let Err(error) = outcome {
            lines.push(format!("error: {error}"));
            break;
        }
    }
    lines
}

fn show(step: &Step) -> String {
    let number = |gtid: &Gtid| match gtid {
        Gtid::Mysql { source, number } if source.tag.as_str().is_empty() => number.to_string(),
        other => other.to_string(),
    };
    match step {
        Step::Transaction(tx) => format!("tx {} at {}", number(&tx.gtid), tx.commit_time),
        Step::Barrier { gtid, reason } => match gtid {
            Some(gtid) => format!("barrier {}: {reason}", number(gtid)),
            None => format!("barrier: {reason}"),
        },
        Step::Heartbeat => "heartbeat".to_owned(),
    }
}

#[track_caller]
fn check(events: &[RawEvent], expected: &[&str]) {
    assert_eq!(run(&mut assembler(), events), expected);
}

fn event(kind: u8, body: impl Into<Vec<u8>>) -> RawEvent {
    RawEvent {
        kind,
        flags: 0,
        timestamp: SECONDS,
        server_id: 1,
        next_position: 0,
        body: Bytes::from(body.into()),
    }
}

/// GTID_LOG as 8.0 writes it; `time` in microseconds.
fn gtid(number: u64, time: u64) -> RawEvent {
    let mut body = vec![0];
    body.extend(UUID.to_be_bytes());
    body.extend(number.to_le_bytes());
    body.push(2);
    body.extend([7; 16]);
    body.extend(&time.to_le_bytes()[..7]);
    body.extend([0xfc, 0x2c, 0x01]);
    body.extend(80031_u32.to_le_bytes());
    event(kind::GTID_LOG, body)
}

fn query_in(database: &str, text: impl AsRef<[u8]>) -> RawEvent {
    let mut body = vec![0; 8];
    body.push(database.len() as u8);
    body.extend([0, 0]);
    // flags2, then sql_mode.
    let variables = [0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0];
    body.extend((variables.len() as u16).to_le_bytes());
    body.extend(variables);
    body.extend(database.as_bytes());
    body.push(0);
    body.extend(text.as_ref());
    event(kind::QUERY, body)
}

fn query(text: &str) -> RawEvent {
    query_in("live", text)
}

fn xid() -> RawEvent {
    event(kind::XID, 9_u64.to_le_bytes())
}

fn prepare(one_phase: bool, global: &str) -> RawEvent {
    let mut body = vec![u8::from(one_phase)];
    for number in [1, global.len() as u32, 0] {
        body.extend(number.to_le_bytes());
    }
    body.extend(global.as_bytes());
    event(kind::XA_PREPARE, body)
}

#[test]
fn groups_end_with_xid_commit_rollback_or_one_statement() {
    let rows = event(kind::WRITE_ROWS, [0; 12]);
    let map = event(kind::TABLE_MAP, [0; 12]);
    check(
        &[
            event(kind::ROTATE, [4, 0, 0, 0, 0, 0, 0, 0, b'b']),
            event(kind::FORMAT_DESCRIPTION, [4, 0]),
            event(kind::PREVIOUS_GTIDS, [0; 8]),
            gtid(1, 1_600_000_000_123_456),
            query("BEGIN"),
            event(kind::ROWS_QUERY, *b"\x08INSERT.."),
            map,
            rows,
            xid(),
            gtid(2, 0),
            query("BEGIN"),
            query("SAVEPOINT `a`"),
            query("ROLLBACK TO `a`"),
            query("COMMIT"),
            event(kind::HEARTBEAT, *b"binlog.000001"),
            gtid(3, 0),
            event(kind::HEARTBEAT_V2, *b"binlog.000001"),
            query("BEGIN"),
            query("ROLLBACK"),
            gtid(4, 0),
            query("CREATE TABLE other.t (id INT)"),
            event(kind::STOP, []),
        ],
        &[
            "tx 1 at 1600000000123456",
            "tx 2 at 1700000000000000",
            "heartbeat",
            "tx 3 at 1700000000000000",
            "tx 4 at 1700000000000000",
        ],
    );
}
