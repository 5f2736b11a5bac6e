//! What only MariaDB sends.

use std::io::Write as _;

use super::*;

/// The part of an event that MariaDB compresses.
fn zlib(data: &[u8]) -> Vec<u8> {
    let mut out = vec![0x82];
    out.extend((data.len() as u16).to_be_bytes());
    let mut encoder = flate2::write::ZlibEncoder::new(out, flate2::Compression::default());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn mariadb_groups() {
    let packed = |kind: u8, body: &[u8], head: usize| {
        event(kind, [&body[..head], &zlib(&body[head..])].concat())
    };
    let head = query_body("live", b"", kind::QUERY).len();
    let truncate = query_body("live", b"TRUNCATE TABLE room", kind::QUERY);
    let (v1, v2) = (rows_body(&[(1, 5), (2, 6)], 1), rows_body(&[(3, 7)], 2));
    let mut decrypted = event(kind::START_ENCRYPTION, [1; 17]);
    decrypted.flags = kind::IGNORABLE_FLAG;
    check_on(
        Dialect::Mariadb,
        &[
            decrypted,
            event(kind::MARIADB_GTID_LIST, []),
            event(kind::BINLOG_CHECKPOINT, []),
            mariadb_gtid(1, 0),
            event(kind::ANNOTATE_ROWS, *b"INSERT"),
            table_map("room"),
            event(kind::WRITE_ROWS_V1, v1.clone()),
            event(kind::BINLOG_CHECKPOINT, []),
            xid(),
            mariadb_gtid(2, 1),
            query("CREATE TABLE x (id INT)"),
            mariadb_gtid(3, 0),
            table_map("room"),
            packed(kind::WRITE_ROWS_COMPRESSED_V1, &v1, 10),
            packed(kind::WRITE_ROWS_COMPRESSED, &v2, 12),
            query("COMMIT"),
            mariadb_gtid(4, 1),
            packed(kind::QUERY_COMPRESSED, &truncate, head),
            event(kind::HEARTBEAT, []),
        ],
        &[
            "tx 3-1-1 1:->5 2:->6",
            "tx 3-1-2",
            "tx 3-1-3 1:->5 2:->6 3:->7",
            "barrier 3-1-4: TRUNCATE of live.room: TRUNCATE TABLE room",
            "heartbeat",
        ],
    );
    // Kinds of the other server are unknown.
    check(
        &[
            gtid(1),
            query("BEGIN"),
            packed(kind::WRITE_ROWS_COMPRESSED, &v2, 12),
            xid(),
        ],
        &["barrier 1: an event of an unknown kind, WRITE_ROWS_COMPRESSED (169)"],
    );
    check_on(
        Dialect::Mariadb,
        &[gtid(1)],
        &["barrier: an event of an unknown kind, GTID_LOG (33)"],
    );
    check_on(
        Dialect::Mariadb,
        &[event(kind::START_ENCRYPTION, [])],
        &["error: the source sends its binlog encrypted; set encrypt_binlog = OFF on the source"],
    );
}

#[test]
fn damage_in_mariadb_s_compressed_events_is_seen() {
    let body = rows_body(&[(1, 5), (2, 6)], 1);
    let sound = [&body[..10], &zlib(&body[10..])].concat();
    let altered = |at: usize, to: u8| {
        let mut body = sound.clone();
        body[at] = to;
        body
    };
    for wrong in [
        altered(10, 0x92),
        altered(10, 0x02),
        altered(10, 0x87),
        altered(12, sound[12] + 1),
        altered(12, sound[12] - 1),
        altered(20, !sound[20]),
        sound[..sound.len() - 1].to_vec(),
        [&sound[..], &[0]].concat(),
        sound[..11].to_vec(),
        sound[..8].to_vec(),
    ] {
        let lines = run(
            &mut assembler(Dialect::Mariadb),
            &[
                mariadb_gtid(1, 0),
                table_map("room"),
                event(kind::WRITE_ROWS_COMPRESSED_V1, wrong),
            ],
        );
        assert_eq!(lines.len(), 1);
        assert!(
            lines[0].starts_with("error: damaged stream in transaction 3-1-1: "),
            "{lines:?}"
        );
    }
    // Three length bytes, more than the limit.
    let long = [&body[..10], &[0x83, 0xff, 0xff, 0xff], &[0; 20_000]].concat();
    check_on(
        Dialect::Mariadb,
        &[
            mariadb_gtid(1, 0),
            table_map("room"),
            event(kind::WRITE_ROWS_COMPRESSED_V1, long),
            xid(),
        ],
        &[
            "barrier 3-1-1: a compressed event in it has 16777215 bytes, more than 65536 (reader.transaction_bytes_max)",
        ],
    );
}
