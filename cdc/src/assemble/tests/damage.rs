//! Events that are damaged or out of place.

use proptest::prelude::*;

use super::payload::{inner, wrap, zstd};
use super::*;

#[test]
fn what_stands_where_it_cannot_is_damage() {
    let place = "error: damaged stream in transaction 3e11fa47-71ca-11e1-9e33-c80aa9429562:1";
    for (events, expected) in [
        (
            vec![xid()],
            "error: damaged stream at its beginning: XID (16): it belongs to no transaction"
                .to_owned(),
        ),
        (
            flat([&inserting(1, &[]), &[insert(&[])]])[3..].to_vec(),
            "error: damaged stream at its beginning: WRITE_ROWS (30): it belongs to no transaction"
                .to_owned(),
        ),
        (
            vec![gtid(1), query("BEGIN"), gtid(2)],
            format!(
                "{place}: GTID_LOG (33): the transaction before it has no end, and GTID_LOG (33) cannot be part of it"
            ),
        ),
        (
            vec![gtid(1), query("BEGIN"), event(kind::FORMAT_DESCRIPTION, [])],
            format!("{place}: FORMAT_DESCRIPTION (15): the transaction before it has no end.."),
        ),
        (
            vec![gtid(1), query("BEGIN"), insert(&[])],
            format!("{place}: WRITE_ROWS (30): .."),
        ),
        (
            vec![gtid(1), query("XA COMMIT X'6',X'',1")],
            format!("{place}: QUERY (2): its XID cannot be read"),
        ),
        (
            vec![gtid(1), event(kind::QUERY, [0; 12])],
            format!("{place}: QUERY (2): it ends too early"),
        ),
        (
            vec![gtid(0)],
            "error: damaged stream at its beginning: GTID_LOG (33): its number is out of range"
                .to_owned(),
        ),
        (
            vec![event(kind::ANONYMOUS_GTID, gtid(1).body)],
            "error: the source writes transactions without a GTID; set gtid_mode = ON..".to_owned(),
        ),
    ] {
        check(&events, &[&expected]);
    }
}

fn garbage() -> impl Strategy<Value = Vec<(u8, Vec<u8>)>> {
    let kind = prop_oneof![0..=45_u8, 160..=175_u8];
    proptest::collection::vec((kind, proptest::collection::vec(any::<u8>(), 0..80)), 0..8)
}

proptest! {
    #[test]
    fn garbage_never_panics(garbage in garbage(), mariadb in any::<bool>(), opened in any::<bool>()) {
        let (dialect, head) = match mariadb {
            true => (Dialect::Mariadb, mariadb_gtid(1, 0)),
            false => (Dialect::Mysql, gtid(1)),
        };
        let mut events = if opened { vec![head, table_map("room")] } else { vec![] };
        events.extend(garbage.into_iter().map(|(kind, body)| event(kind, body)));
        run(&mut assembler(dialect), &events);
    }

    #[test]
    fn altered_bytes_never_panic(at in any::<prop::sample::Index>(), to in any::<u8>(), cut in any::<bool>()) {
        let rows: Vec<(u32, u32)> = (0..100).map(|id| (id, 5)).collect();
        let inside = [query("BEGIN"), table_map("room"), insert(&rows), xid()];
        let plain: Vec<u8> = inside.iter().flat_map(inner).collect();
        let mut events = flat([
            &inserting(1, &rows),
            &[gtid(2), query("XA START X'61',X'',1"), prepare(false, "a")],
            &[gtid(3), query("XA COMMIT X'61',X'',1")],
            &[gtid(4), wrap(&[(2, 0), (3, plain.len() as u32)], &zstd(&plain, 3))],
            &[gtid(5), wrap(&[(2, 255), (3, plain.len() as u32)], &plain)],
            &[gtid(6), query("ALTER TABLE room ADD COLUMN a INT")],
        ]);
        let total: usize = events.iter().map(|event| event.body.len()).sum();
        let mut at = at.index(total);
        for event in &mut events {
            if at < event.body.len() {
                let mut body = event.body.to_vec();
                if cut {
                    body.truncate(at);
                } else {
                    body[at] = to;
                }
                event.body = body.into();
                break;
            }
            at -= event.body.len();
        }
        run(&mut assembler(Dialect::Mysql), &events);
    }
}
