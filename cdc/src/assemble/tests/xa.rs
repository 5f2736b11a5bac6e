//! Prepared transactions.

use super::*;

#[test]
fn xa_rows_are_held_until_their_fate_is_known() {
    let prepared = |number, name: &str, rows: &[(u32, u32)]| {
        let start = query(&format!("XA START X'{:02x}',X'',1", name.as_bytes()[0]));
        vec![
            gtid(number),
            start,
            table_map("room"),
            insert(rows),
            query("XA END .."),
            prepare(false, name),
        ]
    };
    let mut assembler = assembler(Dialect::Mysql);
    let lines = run(
        &mut assembler,
        &flat([
            &prepared(1, "a", &[(1, 5)]),
            &inserting(2, &[(2, 6)]),
            &prepared(3, "b", &[(3, 7)]),
        ]),
    );
    compare(&lines, &["tx 1", "tx 2 2:->6", "tx 3"]);
    let open = |assembler: &Assembler| -> Vec<String> {
        assembler
            .open_xa()
            .map(|(xid, gtid)| format!("{xid} {gtid}"))
            .collect()
    };
    let uuid = "3e11fa47-71ca-11e1-9e33-c80aa9429562";
    assert_eq!(
        open(&assembler),
        [
            format!("X'61',X'',1 {uuid}:1"),
            format!("X'62',X'',1 {uuid}:3")
        ]
    );

    // Two are allowed; the third is given up, and so its COMMIT cannot be known.
    let lines = run(
        &mut assembler,
        &flat([
            &prepared(4, "c", &[(4, 8)]),
            &[gtid(5), query("XA COMMIT X'61',X'',1")],
            &[gtid(6), query("XA ROLLBACK X'62',X'',1")],
            &[gtid(7), query("XA COMMIT X'63',X'',1")],
            &[gtid(8), query("XA ROLLBACK X'64',X'',1")],
        ]),
    );
    let expected = [
        "barrier 4: more than 2 XA transactions are prepared..",
        "tx 5 1:->5",
        "tx 6",
        "barrier 7: XA COMMIT X'63',X'',1, whose rows were prepared before..",
        "tx 8",
    ];
    compare(&lines, &expected);
    assert_eq!(open(&assembler), Vec::<String>::new());

    let one_phase = [
        &[
            gtid(1),
            query("XA START X'61',X'',1"),
            table_map("room"),
            insert(&[(1, 5)]),
        ][..],
        &[query("XA END X'61',X'',1"), prepare(true, "a")],
        &[
            gtid(2),
            query("XA START X'61',X'',1"),
            table_map("room"),
            insert(&[(1, 5)]),
        ],
        &[query("XA COMMIT X'61',X'',1 ONE PHASE")],
    ];
    check(&one_phase.concat(), &["tx 1 1:->5", "tx 2 1:->5"]);
    check(
        &flat([&prepared(1, "a", &[(1, 5)]), &prepared(2, "a", &[(1, 5)])]),
        &[
            "tx 1",
            "error: damaged stream in transaction 3e11fa47-71ca-11e1-9e33-c80aa9429562:2: XA_PREPARE (38): X'61',X'',1 is prepared already",
        ],
    );
}
