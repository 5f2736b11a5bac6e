//! The binlog files and the stream, read by `mysql_common`.

use std::sync::Arc;

use mysql_common::binlog::consts::{BinlogVersion, EventFlags, EventType};
use mysql_common::binlog::events::{
    EventData, OptionalMetadataField, RowsEventData, TableMapEvent,
};
use mysql_common::binlog::row::BinlogRow;
use mysql_common::binlog::value::BinlogValue;
use mysql_common::binlog::{BinlogFile, EventStreamReader};
use mysql_common::value::Value as Sql;
use onair_model::GtidSet;
use onair_model::value::DateTime;

use super::super::commits::Rooms;
use super::super::{DemoSource, Room};
use super::{quiet, server};
use crate::demo::DemoServer;
use crate::source::{RawEvent, Source};

/// A transaction as the other parser reads it.
#[derive(Debug, Default)]
struct Parsed {
    number: u64,
    sequence: u64,
    commit_time: u64,
    length: u64,
    read: u64,
    /// Before and after.
    rooms: Vec<(Option<Room>, Option<Room>)>,
    gifts: usize,
    statement: Option<String>,
    ended: bool,
}

/// Reads a whole file; checks headers and positions on the way.
fn parse(file: &[u8]) -> Vec<Parsed> {
    let mut parsed = Vec::<Parsed>::new();
    let mut events = BinlogFile::new(BinlogVersion::Version4, file).unwrap();
    let mut position = 4;
    while let Some(event) = events.next() {
        let event = event.unwrap();
        let header = event.header();
        position += header.event_size();
        assert_eq!(header.log_pos(), position, "{header:?}");
        if let Some(current) = parsed.last_mut().filter(|current| !current.ended) {
            current.read += u64::from(header.event_size());
        }
        let data = event.read_data().unwrap().unwrap();
        match data {
            EventData::FormatDescriptionEvent(format) => {
                let version = format.server_version();
                assert_eq!(version.trim_end_matches('\0'), "9.7.4-demo");
                assert_eq!(format.event_type_header_lengths().len(), 42);
                for (kind, length) in [
                    (EventType::QUERY_EVENT, 13),
                    (EventType::TABLE_MAP_EVENT, 8),
                    (EventType::UPDATE_ROWS_EVENT, 10),
                    (EventType::GTID_EVENT, 42),
                ] {
                    assert_eq!(format.get_event_type_header_length(kind), length);
                }
            }
            EventData::PreviousGtidsEvent(_) | EventData::RotateEvent(_) => {
                assert!(parsed.last().is_none_or(|last| last.ended));
            }
            EventData::GtidEvent(gtid) => {
                assert!(parsed.last().is_none_or(|last| last.ended));
                assert_eq!(
                    gtid.immediate_commit_timestamp(),
                    gtid.original_commit_timestamp()
                );
                assert_eq!(gtid.immediate_server_version(), 90_704);
                assert_eq!(gtid.last_committed() + 1, gtid.sequence_number());
                parsed.push(Parsed {
                    number: gtid.gno(),
                    sequence: gtid.sequence_number(),
                    commit_time: gtid.immediate_commit_timestamp(),
                    length: gtid.tx_length(),
                    read: u64::from(header.event_size()),
                    ..Parsed::default()
                });
            }
            EventData::QueryEvent(query) => {
                let current = parsed.last_mut().unwrap();
                assert_eq!(query.schema(), "live");
                assert!(
                    query
                        .status_vars()
                        .iter()
                        .all(|var| var.get_value().is_ok())
                );
                if query.query() == "BEGIN" {
                    assert!(
                        header
                            .flags()
                            .contains(EventFlags::LOG_EVENT_SUPPRESS_USE_F)
                    );
                } else {
                    current.statement = Some(query.query().into_owned());
                    current.ended = true;
                }
            }
            EventData::TableMapEvent(map) => check_map(&map),
            EventData::RowsEvent(rows) => {
                let map = events.reader().get_tme(rows.table_id()).unwrap();
                read_rows(&rows, map, parsed.last_mut().unwrap());
            }
            EventData::XidEvent(_) => parsed.last_mut().unwrap().ended = true,
            other => panic!("{other:?}"),
        }
    }
    for transaction in &parsed {
        assert!(transaction.ended, "{transaction:?}");
        assert_eq!(transaction.length, transaction.read, "{transaction:?}");
    }
    parsed
}

fn check_map(map: &TableMapEvent<'_>) {
    assert_eq!(map.database_name(), "live");
    let mut names = Vec::new();
    let mut unsigned = Vec::new();
    let mut key = Vec::new();
    let mut labels = Vec::new();
    let mut charsets = Vec::new();
    for field in map.iter_optional_meta() {
        match field.unwrap() {
            OptionalMetadataField::Signedness(bits) => unsigned = bits.iter().map(|b| *b).collect(),
            OptionalMetadataField::DefaultCharset(set) => charsets.push(set.default_charset()),
            OptionalMetadataField::EnumAndSetDefaultCharset(set) => {
                charsets.push(set.default_charset());
            }
            OptionalMetadataField::ColumnName(list) => {
                names = list
                    .iter_names()
                    .map(|name| name.unwrap().name().into_owned())
                    .collect();
            }
            OptionalMetadataField::SimplePrimaryKey(list) => {
                key = list.iter_indexes().map(|at| at.unwrap()).collect();
            }
            OptionalMetadataField::EnumStrValue(list) => {
                for values in list.iter_values() {
                    let values = values.unwrap();
                    labels.extend(values.values().iter().map(|v| v.value().into_owned()));
                }
            }
            OptionalMetadataField::ColumnVisibility(bits) => {
                assert!(
                    bits.iter()
                        .take(map.columns_count() as usize)
                        .all(|bit| *bit)
                );
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(key, [0]);
    assert_eq!(charsets, [255]);
    if map.table_name() == "room" {
        let table = super::room::table();
        let expected: Vec<&str> = table.columns.iter().map(|column| &*column.name).collect();
        assert_eq!(names, expected);
        assert_eq!(unsigned[..5], [true, true, false, false, false]);
        let nullable: Vec<bool> = table.columns.iter().map(|column| column.nullable).collect();
        let bits: Vec<bool> = map.null_bitmask().iter().map(|bit| *bit).collect();
        assert_eq!(bits[..nullable.len()], nullable);
    } else {
        assert_eq!(map.table_name(), "gift");
        assert_eq!(names, ["id", "room_id", "kind", "price"]);
        assert_eq!(unsigned[..3], [true, true, false]);
        assert_eq!(labels, super::super::rows::GIFT_KINDS);
    }
}

fn read_rows(rows: &RowsEventData<'_>, map: &TableMapEvent<'_>, into: &mut Parsed) {
    for row in rows.rows(map) {
        let (before, after) = row.unwrap();
        if map.table_name() == "gift" {
            let gift = after.unwrap();
            assert!(matches!(
                gift.as_ref(3),
                Some(BinlogValue::Value(Sql::Bytes(price))) if price.contains(&b'.')
            ));
            into.gifts += 1;
            continue;
        }
        let room = |row: BinlogRow| {
            let values = row.unwrap();
            room_of(&values)
        };
        into.rooms.push((before.map(room), after.map(room)));
    }
}

fn room_of(values: &[BinlogValue<'_>]) -> Room {
    let value = |at: usize| match &values[at] {
        BinlogValue::Value(value) => value.clone(),
        other => panic!("{other:?}"),
    };
    let number = |at: usize| match value(at) {
        Sql::NULL => None,
        Sql::Int(n) => Some(i128::from(n)),
        Sql::UInt(n) => Some(i128::from(n)),
        other => panic!("{other:?}"),
    };
    Room {
        id: number(0).unwrap() as u64,
        uid: number(1).map(|n| n as u64),
        area_id: number(2).map(|n| n as i32),
        title: match value(3) {
            Sql::NULL => None,
            Sql::Bytes(bytes) => Some(String::from_utf8(bytes).unwrap().into()),
            other => panic!("{other:?}"),
        },
        live_status: number(4).unwrap() as i8,
        live_time: match value(5) {
            Sql::NULL => None,
            Sql::Date(year, month, day, hour, minute, second, micros) => Some(DateTime {
                year,
                month,
                day,
                hour,
                minute,
                second,
                micros,
            }),
            other => panic!("{other:?}"),
        },
        online: number(6).map(|n| n as i32),
    }
}

/// Applies transactions to a table; every before image must be the row that is there.
fn apply(rooms: &mut Rooms, transactions: &[Parsed]) {
    for transaction in transactions {
        if transaction.statement.as_deref() == Some("TRUNCATE TABLE room") {
            rooms.clear();
        }
        for (before, after) in &transaction.rooms {
            if let Some(before) = before {
                let was = rooms.remove(&before.id);
                assert_eq!(was.as_deref(), Some(before), "{transaction:?}");
            }
            if let Some(after) = after {
                let was = rooms.insert(after.id, Arc::new(after.clone()));
                assert_eq!(was, None, "{transaction:?}");
            }
        }
    }
}

/// Everything in the server's files, read anew from its first transaction.
fn parse_all(server: &DemoServer) -> Vec<Parsed> {
    server
        .binlogs()
        .iter()
        .flat_map(|(_, bytes)| parse(bytes))
        .collect()
}

#[test]
fn another_parser_rebuilds_the_table_from_the_files() {
    let server = server(1_000, 7);
    let mut rooms = server.table();
    server.work(3_000);
    server.rotate();
    server.work(3_000);
    server.statement("ALTER TABLE room COMMENT 'rooms'");
    server.work(100);
    let parsed = parse_all(&server);
    apply(&mut rooms, &parsed);
    assert_eq!(rooms, server.table());
    assert_eq!(rooms, server.visible());

    // The workload did a bit of everything.
    let changes = || parsed.iter().flat_map(|transaction| &transaction.rooms);
    assert!(changes().any(|change| matches!(change, (None, Some(_)))));
    assert!(changes().any(|change| matches!(change, (Some(_), None))));
    let updates = || {
        changes().filter_map(|change| match change {
            (Some(before), Some(after)) => Some((before, after)),
            _ => None,
        })
    };
    assert!(updates().any(|(before, after)| before.id != after.id));
    assert!(updates().any(|(before, after)| before.title != after.title));
    assert!(updates().any(|(before, after)| before.live_status < after.live_status));
    assert!(updates().any(|(before, after)| before.live_status > after.live_status));
    assert!(updates().any(|(before, after)| {
        let mut same = before.clone();
        same.online = after.online;
        same == *after
    }));
    assert!(parsed.iter().any(|transaction| transaction.gifts > 0));
    assert!(
        parsed
            .iter()
            .any(|transaction| transaction.rooms.len() > 20)
    );
    let counts = server.counts();
    assert!(counts.rollbacks > 50, "{counts:?}");
    assert_eq!(counts.transactions, parsed.len() as u64);
    let live = rooms.values().filter(|room| room.live_status == 1).count();
    assert!((100..300).contains(&live), "{live}");
}

#[test]
fn numbers_and_times_go_up() {
    let server = server(10, 3);
    let first = match server.written() {
        GtidSet::Mysql(sources) => sources.values().next().unwrap()[0].1 + 1,
        GtidSet::Mariadb(_) => panic!(),
    };
    server.work(500);
    let parsed = parse_all(&server);
    for (at, transaction) in parsed.iter().enumerate() {
        assert_eq!(transaction.number, first + at as u64);
        assert_eq!(transaction.sequence, 1 + at as u64);
    }
    assert!(parsed.is_sorted_by_key(|transaction| transaction.commit_time));
    assert!(parsed[0].commit_time > 1_700_000_000_000_000);
}

#[test]
fn the_same_seed_does_the_same() {
    let shape = |server: &DemoServer| -> Vec<usize> {
        parse_all(server).iter().map(|t| t.rooms.len()).collect()
    };
    let servers = [server(100, 5), server(100, 5), server(100, 6)];
    for server in &servers {
        server.work(200);
    }
    let [one, same, other] = servers.each_ref().map(|server| shape(server));
    assert_eq!(one, same);
    assert_ne!(one, other);
}

/// Puts header and body together again, as they came.
fn wire(event: &RawEvent) -> Vec<u8> {
    let mut bytes = event.timestamp.to_le_bytes().to_vec();
    bytes.push(event.kind);
    bytes.extend(event.server_id.to_le_bytes());
    let checksum = if event.kind == 15 { 4 } else { 0 };
    bytes.extend((19 + event.body.len() as u32 + checksum).to_le_bytes());
    bytes.extend(event.next_position.to_le_bytes());
    bytes.extend(event.flags.to_le_bytes());
    bytes.extend(&event.body);
    bytes.extend(&[0; 4][..checksum as usize]);
    bytes
}

#[tokio::test(start_paused = true)]
async fn a_stream_begins_and_idles_as_a_server_does() {
    let server = server(10, 1);
    let from = server.executed();
    server.work(3);
    let source = DemoSource::new(server.clone());
    let mut stream = source.follow(&from).await.unwrap();
    let mut reader = EventStreamReader::new(BinlogVersion::Version4);
    let mut kinds = Vec::new();
    let mut position = 0;
    while let Some(event) = stream.try_next().unwrap() {
        reader.read(&wire(&event)[..]).unwrap().unwrap();
        kinds.push(event.kind);
        if event.next_position != 0 {
            position = event.next_position;
        }
    }
    assert_eq!(kinds[..6], [4, 15, 35, 33, 2, 19]);
    assert_eq!(kinds.last(), Some(&16));

    let idle = tokio::time::Instant::now();
    for beat in 1..=3 {
        let event = stream.next().await.unwrap();
        assert_eq!((event.kind, event.timestamp), (27, 0));
        assert_eq!(event.next_position, position);
        assert_eq!(&event.body[..], b"binlog.000001");
        assert_eq!(idle.elapsed().as_secs(), beat);
    }
    server.work(1);
    while stream.next().await.unwrap().kind != 33 {}
}

#[tokio::test(start_paused = true)]
async fn a_workload_of_its_own_is_paced_and_can_be_held() {
    let server = DemoServer::start(crate::demo::DemoSettings {
        rate: 2_000.0,
        ..quiet(100, 1)
    });
    let source = DemoSource::new(server.clone());
    let mut stream = source.follow(&server.executed()).await.unwrap();
    let begun = tokio::time::Instant::now();
    let mut seen = 0;
    while seen < 2_000 {
        seen += usize::from(stream.next().await.unwrap().kind == 33);
    }
    // About 2 % are rolled back; the gaps are random.
    let took = begun.elapsed().as_millis();
    assert!((900..1_200).contains(&took), "{took} ms");

    server.pause();
    let held = server.counts().transactions;
    while stream.next().await.unwrap().kind != 27 {}
    assert_eq!(server.counts().transactions, held);
    server.resume();
    while stream.next().await.unwrap().kind != 33 {}
    assert!(server.counts().transactions > held);
}
