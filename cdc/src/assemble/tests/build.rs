//! Events built by hand from the formats' descriptions, not by our own code; steps as text.

use std::num::NonZeroU16;
use std::sync::Arc;

use bytes::Bytes;
use onair_model::column::{Column, ColumnType, IntWidth};
use onair_model::predicate::Predicate;
use onair_model::schema::{Field, FieldKind, Schema};
use onair_model::{Buckets, Gtid, Row};

use crate::assemble::{Assembler, Limits, kind};
use crate::change::Step;
use crate::feed::{Feed, FeedConfig, TableName};
use crate::source::{Dialect, RawEvent};

pub(crate) const UUID: u128 = 0x3e11fa47_71ca_11e1_9e33_c80aa9429562;
pub(super) const SECONDS: u32 = 1_700_000_000;

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

/// Room for a few rows, and for two prepared transactions.
pub(super) const LIMITS: Limits = Limits {
    transaction_bytes: 1 << 16,
    xa_open_max: 2,
};

pub(super) fn assembler(dialect: Dialect) -> Assembler {
    Assembler::new([feed()].into(), dialect, LIMITS)
}

/// What the events give: steps as text, and the error that ended it.
pub(super) fn run(assembler: &mut Assembler, events: &[RawEvent]) -> Vec<String> {
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

/// `tx 5`, with each key's live row before and after: `tx 5 1:->7`.
pub(super) fn show(step: &Step) -> String {
    let number = |gtid: &Gtid| match gtid {
        Gtid::Mysql { source, number } if source.tag.as_str().is_empty() => number.to_string(),
        Gtid::Mysql { source, number } => format!("{}:{number}", source.tag.as_str()),
        other => other.to_string(),
    };
    match step {
        Step::Transaction(tx) => {
            let mut line = format!("tx {}", number(&tx.gtid));
            for change in tx.changes.iter().flat_map(|(_, changes)| changes) {
                let key = change.key.as_u64().unwrap_or_default() as u32;
                line.push_str(&format!(
                    " {key}:{}>{}",
                    title(&change.before),
                    title(&change.after)
                ));
            }
            line
        }
        Step::Barrier { gtid, reason } => match gtid {
            Some(gtid) => format!("barrier {}: {reason}", number(gtid)),
            None => format!("barrier: {reason}"),
        },
        Step::Heartbeat => "heartbeat".to_owned(),
    }
}

/// The only field of a row, a small sint64.
pub(super) fn title(row: &Option<Row>) -> String {
    row.as_ref()
        .map_or("-".to_owned(), |row| (row.bytes()[1] / 2).to_string())
}

/// Steps as [`show`] has them; an expected line that ends in `..` is only the beginning.
#[track_caller]
pub(super) fn check_on(dialect: Dialect, events: &[RawEvent], expected: &[&str]) {
    compare(&run(&mut assembler(dialect), events), expected);
}

#[track_caller]
pub(super) fn check(events: &[RawEvent], expected: &[&str]) {
    check_on(Dialect::Mysql, events, expected);
}

#[track_caller]
pub(super) fn compare(lines: &[String], expected: &[&str]) {
    let same = |(line, expected): (&String, &&str)| match expected.strip_suffix("..") {
        Some(head) => line.starts_with(head),
        None => line == expected,
    };
    assert!(
        lines.len() == expected.len() && lines.iter().zip(expected).all(same),
        "{lines:#?}\nwanted {expected:#?}"
    );
}

pub(super) fn event(kind: u8, body: impl Into<Vec<u8>>) -> RawEvent {
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
pub(super) fn gtid_at(number: u64, time: u64) -> RawEvent {
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

pub(super) fn gtid(number: u64) -> RawEvent {
    gtid_at(number, 1_600_000_000_000_001)
}

pub(super) fn query_body(database: &str, text: &[u8], kind: u8) -> Vec<u8> {
    let mut body = vec![0; 8];
    body.push(database.len() as u8);
    body.extend([0, 0]);
    // flags2, then sql_mode.
    let variables = [0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0];
    body.extend((variables.len() as u16).to_le_bytes());
    if kind == kind::EXECUTE_LOAD_QUERY {
        body.extend([9; 13]);
    }
    body.extend(variables);
    body.extend(database.as_bytes());
    body.push(0);
    body.extend(text);
    body
}

pub(super) fn query(text: &str) -> RawEvent {
    event(
        kind::QUERY,
        query_body("live", text.as_bytes(), kind::QUERY),
    )
}

pub(super) fn xid() -> RawEvent {
    event(kind::XID, 9_u64.to_le_bytes())
}

pub(super) fn prepare(one_phase: bool, global: &str) -> RawEvent {
    let mut body = vec![u8::from(one_phase)];
    for number in [1, global.len() as u32, 0] {
        body.extend(number.to_le_bytes());
    }
    body.extend(global.as_bytes());
    event(kind::XA_PREPARE, body)
}

/// Four INT columns that may be NULL.
pub(super) fn table_map(table: &str) -> RawEvent {
    let mut body = vec![7, 0, 0, 0, 0, 0, 1, 0, 4];
    body.extend(b"live\0");
    body.push(table.len() as u8);
    body.extend(table.as_bytes());
    body.extend([0, 4, 3, 3, 3, 3, 0, 0x0f]);
    event(kind::TABLE_MAP, body)
}

/// Live rows written: id and title.
pub(super) fn rows_body(rows: &[(u32, u32)], version: u8) -> Vec<u8> {
    let mut body = vec![7, 0, 0, 0, 0, 0, 1, 0];
    if version == 2 {
        body.extend([2, 0]);
    }
    body.extend([4, 0x0f]);
    for (id, title) in rows {
        body.push(0);
        for value in [*id, 1, *title, 0] {
            body.extend(value.to_le_bytes());
        }
    }
    body
}

pub(super) fn insert(rows: &[(u32, u32)]) -> RawEvent {
    event(kind::WRITE_ROWS, rows_body(rows, 2))
}

pub(super) fn flat<const N: usize>(groups: [&[RawEvent]; N]) -> Vec<RawEvent> {
    groups.concat()
}

/// MariaDB's GTID; `flags` 1 for a statement that stands alone.
pub(super) fn mariadb_gtid(sequence: u64, flags: u8) -> RawEvent {
    let mut body = sequence.to_le_bytes().to_vec();
    body.extend(3_u32.to_le_bytes());
    body.push(flags);
    body.extend([0; 6]);
    event(kind::MARIADB_GTID, body)
}

/// A transaction that puts rows into `live.room`.
pub(super) fn inserting(number: u64, rows: &[(u32, u32)]) -> Vec<RawEvent> {
    vec![
        gtid(number),
        query("BEGIN"),
        table_map("room"),
        insert(rows),
        xid(),
    ]
}
