//! Events in, steps out.

mod build;
mod damage;
mod mariadb;
mod payload;
mod xa;

pub(crate) use self::build::feed;
use self::build::*;
use super::*;

#[test]
fn groups_end_with_xid_commit_rollback_or_one_statement() {
    check(
        &[
            event(kind::ROTATE, [4, 0, 0, 0, 0, 0, 0, 0, b'b']),
            event(kind::FORMAT_DESCRIPTION, [4, 0]),
            event(kind::PREVIOUS_GTIDS, [0; 8]),
            gtid(1),
            query("BEGIN"),
            event(kind::ROWS_QUERY, *b"\x08INSERT.."),
            table_map("room"),
            insert(&[(1, 5), (2, 6)]),
            xid(),
            gtid(2),
            query("BEGIN"),
            table_map("rooms"),
            insert(&[(1, 5)]),
            query("COMMIT"),
            event(kind::HEARTBEAT, *b"binlog.000001"),
            gtid(3),
            event(kind::HEARTBEAT_V2, *b"binlog.000001"),
            query("BEGIN"),
            query("ROLLBACK"),
            gtid(4),
            query("CREATE TABLE other.t (id INT)"),
            gtid(5),
            query("CREATE TABLE `x` (\n  `id` int\n) START TRANSACTION"),
            table_map("x"),
            insert(&[(1, 5)]),
            xid(),
            event(kind::STOP, []),
        ],
        &[
            "tx 1 1:->5 2:->6",
            "tx 2",
            "heartbeat",
            "tx 3",
            "tx 4",
            "tx 5",
        ],
    );
}

#[test]
fn a_place_is_where_the_last_group_ended() {
    let mut events = vec![event(kind::ROTATE, [4, 0, 0, 0, 0, 0, 0, 0, b'b'])];
    events.extend(inserting(1, &[(1, 5)]));
    events.push(event(kind::HEARTBEAT, *b"binlog.000001"));
    events.push(gtid(2));
    let mut assembler = assembler(Dialect::Mysql);
    let mut places = Vec::new();
    for (at, mut event) in (0..).zip(events) {
        event.next_position = 100 * at;
        assembler.push(&event, &mut |_| {}).unwrap();
        places.extend(assembler.place().map(Place::to_string));
    }
    // At the end of the group, and no further until the next one ends.
    assert_eq!(places, ["b:500"; 3]);
}

#[test]
fn the_commit_time_is_that_of_the_immediate_server_or_else_the_header_s() {
    let tagged = |time: &[u8]| {
        let mut fields = vec![0, 0, 2];
        for byte in UUID.to_be_bytes() {
            varlen(&mut fields, u64::from(byte));
        }
        fields.push(4);
        varlen(&mut fields, 300 << 1);
        fields.push(6);
        varlen(&mut fields, 4);
        fields.extend(b"blue");
        fields.extend([8, 0, 10, 0]);
        if !time.is_empty() {
            fields.push(12);
            fields.extend(time);
        }
        let mut body = vec![2];
        // Its own length is in it.
        let size = 1 + fields.len() + 1 + if fields.len() > 120 { 2 } else { 1 };
        varlen(&mut body, size as u64);
        varlen(&mut body, 8);
        body.extend(fields);
        event(kind::GTID_TAGGED_LOG, body)
    };
    let mut time = Vec::new();
    varlen(&mut time, 1_600_000_000_123_456);
    let old = RawEvent {
        body: gtid(6).body.slice(..25),
        ..gtid(6)
    };
    let mut with_original = gtid_at(5, 1_600_000_000_123_456 | 1 << 55).body.to_vec();
    with_original.splice(49..49, [1; 7]);
    let from_header = i64::from(SECONDS) * 1_000_000;
    for (head, name, expected) in [
        (
            gtid_at(5, 1_600_000_000_123_456),
            "5",
            1_600_000_000_123_456,
        ),
        (
            event(kind::GTID_LOG, with_original),
            "5",
            1_600_000_000_123_456,
        ),
        (gtid_at(5, 0), "5", from_header),
        (old, "6", from_header),
        (tagged(&time), "blue:300", 1_600_000_000_123_456),
        (tagged(&[]), "blue:300", from_header),
    ] {
        let mut assembler = assembler(Dialect::Mysql);
        let mut seen = Vec::new();
        for event in [head, query("BEGIN"), xid()] {
            assembler.push(&event, &mut |step| seen.push(step)).unwrap();
        }
        let [Step::Transaction(tx)] = &seen[..] else {
            panic!("{seen:?}");
        };
        assert_eq!(tx.commit_time, expected);
        assert!(
            tx.gtid.to_string().ends_with(&format!(":{name}")),
            "{}",
            tx.gtid
        );
    }
}

/// As many low one bits as bytes follow.
fn varlen(out: &mut Vec<u8>, value: u64) {
    let bytes = (1..=8).find(|bytes| value < 1 << (7 * bytes)).unwrap();
    let coded = value << bytes | ((1 << (bytes - 1)) - 1);
    out.extend(&coded.to_le_bytes()[..bytes]);
}

#[test]
fn heartbeats_count_once_the_stream_has_delivered_what_there_was() {
    let set = |numbers: &str| -> GtidSet {
        format!("3e11fa47-71ca-11e1-9e33-c80aa9429562:{numbers}")
            .parse()
            .unwrap()
    };
    let beat = [event(kind::HEARTBEAT, [])];
    let drop_x = |number| [gtid(number), query("DROP TABLE x")];
    let events = flat([
        &beat,
        &drop_x(4),
        &beat,
        &drop_x(2),
        &beat,
        &drop_x(5),
        &beat,
    ]);
    let mut assembler = assembler(Dialect::Mysql).with_beginning(set("1:3"), set("1-4"));
    let lines = run(&mut assembler, &events);
    compare(&lines, &["tx 4", "tx 2", "heartbeat", "tx 5", "heartbeat"]);
}

#[test]
fn a_barrier_comes_at_the_end_of_its_group() {
    let stopped = [
        &inserting(1, &[(1, 5)])[..],
        &[gtid(2), query("TRUNCATE room")],
        &[
            gtid(3),
            query("BEGIN"),
            query("UPDATE room SET title = 1"),
            table_map("room"),
        ],
        &[
            insert(&[(2, 5)]),
            event(kind::HEARTBEAT, []),
            query("COMMIT"),
        ],
        &[
            gtid(4),
            query("BEGIN"),
            event(77, []),
            table_map("room"),
            insert(&[(2, 5)]),
            xid(),
        ],
        &[gtid(5), event(kind::INCIDENT, *b"\x01\x00\x05crash")],
        // An end that is not known: the next group shows that there was one.
        &[gtid(6), event(78, [])],
        &[
            gtid(7),
            query("BEGIN"),
            table_map("room"),
            event(kind::WRITE_ROWS, rows_body(&[], 2)),
        ],
        &[xid(), event(79, [])],
        &inserting(8, &[(3, 6)])[..],
    ];
    let mut ignorable = event(80, []);
    ignorable.flags = kind::IGNORABLE_FLAG;
    check(
        &flat([
            &stopped.concat(),
            &[ignorable.clone()],
            &[gtid(9), query("BEGIN"), ignorable, xid()],
        ]),
        &[
            "tx 1 1:->5",
            "barrier 2: TRUNCATE of live.room: TRUNCATE room",
            "barrier 3: a statement-format UPDATE of live.room: UPDATE room SET title = 1",
            "barrier 4: an event of an unknown kind, unknown (77)",
            "barrier 5: the server says that its binlog lost events (incident 1: crash)",
            "barrier 6: an event of an unknown kind, unknown (78)",
            "tx 7",
            "barrier: an event of an unknown kind, unknown (79)",
            "tx 8 3:->6",
            "tx 9",
        ],
    );
}

#[test]
fn a_long_statement_is_cut_for_its_reason() {
    let text = format!("TRUNCATE room /* {} */", "\u{e9}".repeat(5000));
    let lines = run(&mut assembler(Dialect::Mysql), &[gtid(1), query(&text)]);
    let statement = lines[0].rsplit(": ").next().unwrap();
    assert_eq!(statement.chars().count(), 202);
    assert!(
        statement.starts_with("TRUNCATE room /*") && statement.ends_with("\u{e9}.."),
        "{statement}"
    );
}

#[test]
fn what_a_transaction_may_hold_is_bounded_with_the_prepared_ones() {
    let many: Vec<(u32, u32)> = (0..900).map(|id| (id, 5)).collect();
    let (few, some) = (&many[..200], &many[..500]);
    let held = [
        gtid(4),
        query("XA START X'61',X'',1"),
        table_map("room"),
        insert(some),
        prepare(false, "a"),
    ];
    let lines = run(
        &mut assembler(Dialect::Mysql),
        &flat([
            &inserting(1, few),
            &inserting(2, &many),
            &inserting(3, &[(1, 5)]),
            &held,
            &inserting(5, few),
            &inserting(6, &[(1, 5)]),
        ]),
    );
    let starts: Vec<&str> = lines
        .iter()
        .map(|line| &line[..line.len().min(42)])
        .collect();
    assert!(starts[0].starts_with("tx 1 0:->5"), "{starts:?}");
    assert_eq!(starts[1], "barrier 2: what it changed in captured tab");
    assert_eq!(starts[2..4], ["tx 3 1:->5", "tx 4"]);
    assert_eq!(starts[4], "barrier 5: what it changed in captured tab");
    assert_eq!(starts[5], "tx 6 1:->5");
}

#[test]
fn rolling_back_what_is_in_the_binlog_is_a_barrier_only_when_it_touched_us() {
    let group = |number, table: &str, end: &[RawEvent]| {
        let mut events = vec![
            gtid(number),
            query("BEGIN"),
            table_map(table),
            insert(&[(1, 5)]),
        ];
        events.extend_from_slice(end);
        events
    };
    let back = [query("ROLLBACK TO `s`"), query("COMMIT")];
    check(
        &flat([
            &group(1, "x", &[query("ROLLBACK")]),
            &group(2, "room", &[query("ROLLBACK")]),
            &group(3, "x", &back),
            &group(4, "room", &back),
            &group(
                5,
                "room",
                &[
                    query("SAVEPOINT `s`"),
                    query("RELEASE SAVEPOINT `s`"),
                    xid(),
                ],
            ),
        ]),
        &[
            "tx 1",
            "barrier 2: it changed captured tables and ends with ROLLBACK..",
            "tx 3",
            "barrier 4: it changed captured tables and rolls back to a savepoint",
            "tx 5 1:->5",
        ],
    );
}

#[test]
fn load_data_as_a_statement_is_a_statement() {
    let load = |table: &str| {
        let text = format!("LOAD DATA LOCAL INFILE '/tmp/x' INTO TABLE `{table}` (id)");
        event(
            kind::EXECUTE_LOAD_QUERY,
            query_body("live", text.as_bytes(), kind::EXECUTE_LOAD_QUERY),
        )
    };
    let data = event(kind::BEGIN_LOAD_QUERY, *b"\x01\0\0\0data");
    check(
        &[
            gtid(1),
            query("BEGIN"),
            data.clone(),
            load("x"),
            xid(),
            gtid(2),
            query("BEGIN"),
            data,
            load("room"),
            xid(),
        ],
        &[
            "tx 1",
            "barrier 2: LOAD DATA of live.room: LOAD DATA LOCAL..",
        ],
    );
}

#[test]
fn fingerprints_are_of_the_binlog_s_bytes_and_not_of_the_connection() {
    let fingerprint = |dialect, events: &[RawEvent]| {
        let mut assembler = assembler(dialect);
        let mut found = Vec::new();
        for event in events {
            assembler
                .push(event, &mut |step| {
                    if let Step::Transaction(tx) = step {
                        found.push(tx.fingerprint);
                    }
                })
                .unwrap();
        }
        assert_eq!(found.len(), 1, "{events:?}");
        found[0]
    };
    let plain = inserting(1, &[(1, 5)]);
    let expected = fingerprint(Dialect::Mysql, &plain);

    let mut elsewhere = plain.clone();
    for event in &mut elsewhere {
        event.next_position += 1000;
        event.flags ^= 1;
    }
    elsewhere.insert(2, event(kind::HEARTBEAT, *b"binlog.000001"));
    elsewhere.insert(0, event(kind::ROTATE, [4, 0, 0, 0, 0, 0, 0, 0, b'b']));
    assert_eq!(fingerprint(Dialect::Mysql, &elsewhere), expected);

    for other in [
        inserting(1, &[(1, 6)]),
        inserting(2, &[(1, 5)]),
        [&plain[..4], &[query("COMMIT")]].concat(),
        [&plain[..2], &[event(kind::ROWS_QUERY, *b"x")], &plain[2..]].concat(),
        [&[gtid_at(1, 1)], &plain[1..]].concat(),
    ] {
        assert_ne!(fingerprint(Dialect::Mysql, &other), expected);
    }

    let mariadb = [
        mariadb_gtid(1, 0),
        table_map("room"),
        insert(&[(1, 5)]),
        xid(),
    ];
    let annotated = [
        &mariadb[..1],
        &[event(kind::ANNOTATE_ROWS, *b"INSERT")],
        &mariadb[1..],
    ]
    .concat();
    assert_eq!(
        fingerprint(Dialect::Mariadb, &mariadb),
        fingerprint(Dialect::Mariadb, &annotated)
    );
}
