//! Transactions in one event.

use std::io::Write as _;

use super::*;

/// An event with header, as it is inside a payload.
pub(super) fn inner(event: &RawEvent) -> Vec<u8> {
    let mut bytes = event.timestamp.to_le_bytes().to_vec();
    bytes.push(event.kind);
    bytes.extend(event.server_id.to_le_bytes());
    bytes.extend((19 + event.body.len() as u32).to_le_bytes());
    bytes.extend([0; 4]);
    bytes.extend(event.flags.to_le_bytes());
    bytes.extend(&event.body);
    bytes
}

/// TRANSACTION_PAYLOAD with these fields before the data.
pub(super) fn wrap(fields: &[(u8, u32)], data: &[u8]) -> RawEvent {
    let mut body = Vec::new();
    for (field, value) in fields {
        body.extend([*field, 9, 254]);
        body.extend(u64::from(*value).to_le_bytes());
    }
    body.push(0);
    body.extend(data);
    event(kind::TRANSACTION_PAYLOAD, body)
}

pub(super) fn zstd(data: &[u8], level: i32) -> Vec<u8> {
    let mut encoder = zstd::Encoder::new(Vec::new(), level).unwrap();
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn a_compressed_transaction_is_its_events() {
    let rows: Vec<(u32, u32)> = (0..100).map(|id| (id, 5)).collect();
    let wide = event(kind::ROWS_QUERY, vec![b'x'; 60_000]);
    let events = [
        query("BEGIN"),
        wide.clone(),
        table_map("room"),
        insert(&rows[..2]),
        wide,
        xid(),
    ];
    let plain: Vec<u8> = events.iter().flat_map(inner).collect();
    let size = plain.len() as u32;
    let (front, back) = plain.split_at(777);
    for (compression, data) in [
        (255, plain.clone()),
        (0, zstd(&plain, 3)),
        (0, zstd(&plain, 22)),
        // In two frames.
        (0, [zstd(front, 1), zstd(back, 1)].concat()),
    ] {
        let wrapper = wrap(
            &[(2, compression), (3, size), (1, data.len() as u32)],
            &data,
        );
        let again = wrap(&[(9, 0), (2, compression)], &data);
        check(
            &[gtid(1), wrapper, gtid(2), again],
            &["tx 1 0:->5 1:->5", "tx 2 0:->5 1:->5"],
        );
        for wrong in [
            wrap(&[(2, compression), (3, size - 1)], &data),
            wrap(&[(2, compression), (3, size + 1)], &data),
            wrap(&[(2, compression), (1, size + 1)], &data),
            wrap(&[(3, size)], &data),
            wrap(&[(2, compression)], &data[..data.len() - 1]),
            wrap(&[(2, 0)], &plain),
            wrap(&[(2, compression)], &[]),
        ] {
            let lines = run(&mut assembler(Dialect::Mysql), &[gtid(1), wrong]);
            let last = lines.last().unwrap();
            assert!(last.starts_with("error: damaged stream "), "{lines:?}");
        }
    }
    check(
        &[
            gtid(1),
            wrap(&[(2, 7)], &plain),
            gtid(2),
            wrap(&[(2, 255)], &plain),
        ],
        &[
            "barrier 1: its payload is given up: it is compressed in a way that is unknown, number 7",
            "tx 2 0:->5 1:->5",
        ],
    );
    let nested = inner(&wrap(&[(2, 255)], &inner(&xid())));
    check(
        &[
            gtid(1),
            wrap(&[(2, 255)], &nested),
            gtid(2),
            query("CREATE TABLE x (id INT)"),
        ],
        &[
            "barrier 1: an event of an unknown kind, TRANSACTION_PAYLOAD (40)",
            "tx 2",
        ],
    );
}

#[test]
fn a_bomb_costs_no_memory() {
    let mut huge = inner(&event(kind::ROWS_QUERY, vec![0; 10]));
    huge[9..13].copy_from_slice(&u32::MAX.to_le_bytes());
    check(
        &[
            gtid(1),
            wrap(&[(2, 255)], &huge),
            gtid(2),
            query("CREATE TABLE x (id INT)"),
        ],
        &[
            "barrier 1: its payload is given up: an event in it has 4294967295 bytes, more than 65536",
            "tx 2",
        ],
    );
    // Much more than the limit in all, but in events of which each is small.
    let small = inner(&event(kind::ROWS_QUERY, vec![0; 1000])).repeat(10_000);
    let all = [inner(&query("BEGIN")), small, inner(&xid())].concat();
    check(
        &[
            gtid(1),
            wrap(&[(2, 0), (3, all.len() as u32)], &zstd(&all, 1)),
        ],
        &["tx 1"],
    );
}
