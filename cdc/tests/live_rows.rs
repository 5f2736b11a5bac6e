//! Random transactions on a table with a composite key: what the decoder says of each is the difference of what
//! the server selects before and after it.

use std::collections::BTreeMap;

use anyhow::Result;
use mysql_async::prelude::Queryable as _;
use mysql_async::{Conn, Opts};
use onair_model::Row;
use onair_model::key::KeyReader;
use onair_xtask::servers::{Flavor, Options, Server};
use rand::rngs::SmallRng;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};

use crate::follow::Follower;
use crate::on_each_server;
use crate::proto::{self, Wire};
use crate::servers::{database, feed, source, table_name};

on_each_server!(random_transactions);

/// The same where table maps tell no names.
mod without_names {
    use super::*;
    use crate::servers::block_on;

    fn run(flavor: Flavor, argument: &str) {
        if flavor.is_left_out() {
            eprintln!("NOT RUN {flavor}: left out");
            return;
        }
        let options = Options {
            extra_args: vec![argument.to_owned()],
            ..Options::default()
        };
        let server = Server::start(flavor, options).unwrap();
        let grants = ["REPLICATION SLAVE ON *.*", "SELECT ON *.*"];
        server.create_user("onair", "secret", &grants).unwrap();
        block_on(random_transactions(&server)).unwrap();
        block_on(crate::all_types::images_and_scan_give_what_select_prints(
            &server,
        ))
        .unwrap();
    }

    #[test]
    fn mysql_9_7() {
        run(Flavor::Mysql97, "--binlog-row-metadata=MINIMAL");
    }

    #[test]
    fn mariadb_10_11() {
        run(Flavor::Mariadb1011, "--binlog-row-metadata=NO_LOG");
    }

    #[test]
    fn mariadb_10_11_minimal() {
        run(Flavor::Mariadb1011, "--binlog-row-metadata=MINIMAL");
    }
}

const DATABASE: &str = "live_rows";

const TABLE: &str = "CREATE TABLE room (ignored TEXT, name VARCHAR(20) CHARACTER SET latin1 COLLATE latin1_bin, \
    live_status TINYINT, tenant INT, hash BINARY(4) NOT NULL DEFAULT 'a', title VARCHAR(300), \
    score DECIMAL(20,3), ignored_too INT, PRIMARY KEY (tenant, name)); \
    CREATE TABLE mark (id INT PRIMARY KEY AUTO_INCREMENT)";

/// BINARY(4) is compared with its zero bytes, which images do not have.
const LIVE_WHEN: &str = "live_status = 1 AND hash >= 0x61000000 AND hash < 0x70000000";

/// Live rows by key: title and score.
type Live = BTreeMap<(i64, String), (Option<String>, Option<String>)>;

async fn random_transactions(server: &Server) -> Result<()> {
    let seed = rand::random();
    eprintln!("random transactions: seed {seed}");
    let mut random = SmallRng::seed_from_u64(seed);
    database(server, DATABASE)?;
    server.sql(&format!("USE {DATABASE}; {TABLE}"))?;
    let source = source(server);
    let feed = feed(
        &source,
        &table_name(DATABASE, "room"),
        LIVE_WHEN,
        &["title", "score"],
    )
    .await?;
    let mut follower = Follower::new(server, &source, &[feed]).await?;
    let mut session = Conn::new(Opts::from_url(&server.url("root", DATABASE))?).await?;
    session
        .query_drop("SET NAMES utf8mb4, sql_mode = ''")
        .await?;
    let (mut before, mut moved) = (Live::new(), 0);
    for _ in 0..300 {
        session.query_drop("BEGIN").await?;
        session.query_drop("INSERT INTO mark VALUES ()").await?;
        for _ in 0..random.random_range(1..8) {
            for statement in statements(&mut random) {
                session.query_drop(statement).await?;
            }
        }
        session.query_drop("COMMIT").await?;
        let after = select(&mut session).await?;
        let mut expected = BTreeMap::new();
        for key in before.keys().chain(after.keys()) {
            let change = (before.get(key), after.get(key));
            if change.0 != change.1 {
                expected.insert(key, change);
            }
        }
        let changes = follower.changes().await?;
        assert!(changes.is_sorted_by(|a, b| a.key < b.key));
        let changes: Vec<_> = changes
            .iter()
            .map(|change| {
                let key = change.key.to_bytes();
                let mut key = KeyReader::new(&key, 2);
                let tenant = key.signed().unwrap();
                let key = (tenant, String::from_utf8(key.bytes().unwrap()).unwrap());
                (
                    key,
                    change.before.as_ref().map(shown),
                    change.after.as_ref().map(shown),
                )
            })
            .collect();
        moved += changes.len();
        let changes: BTreeMap<_, _> = changes
            .iter()
            .map(|(key, before, after)| (key, (before.as_ref(), after.as_ref())))
            .collect();
        assert_eq!(changes, expected);
        before = after;
    }
    eprintln!("{moved} changes, {} live at the end", before.len());
    assert!(moved > 200);
    Ok(())
}

fn statements(random: &mut SmallRng) -> Vec<String> {
    let tenant = random.random_range(-2..2);
    let name = |random: &mut SmallRng| {
        let names = ["'a'", "'b'", "'é'", "'0123456789'", "''", "'c'"];
        *names.choose(random).unwrap()
    };
    let title = ["NULL", "''", "'日本'", "'title'", "REPEAT('x', 280)"]
        .choose(random)
        .unwrap();
    let hash = ["0x61", "0x60ffffff", "0x62000001", "0x7fffffff"]
        .choose(random)
        .unwrap();
    let live = random.random_range(0..3);
    let (one, other) = (name(random), name(random));
    let at = format!("tenant = {tenant} AND name = {one}");
    match random.random_range(0..10) {
        0 | 1 => vec![format!(
            "REPLACE INTO room (tenant, name, live_status, hash, title, score) VALUES ({tenant}, {one}, {live}, {hash}, {title}, {live}.5)"
        )],
        2 => vec![format!(
            "INSERT IGNORE INTO room (tenant, name, live_status, hash, title) VALUES ({tenant}, {one}, 1, {hash}, {title})"
        )],
        3 => vec![format!("UPDATE room SET title = {title} WHERE {at}")],
        4 => vec![format!(
            "UPDATE room SET live_status = 1 - live_status WHERE tenant = {tenant}"
        )],
        5 => vec![format!(
            "UPDATE room SET ignored = 'x', ignored_too = IFNULL(ignored_too, 0) + 1"
        )],
        6 => vec![format!(
            "UPDATE IGNORE room SET name = {other}, tenant = {} WHERE {at}",
            random.random_range(-2..2)
        )],
        7 => vec![
            format!("UPDATE room SET name = 'tmp' WHERE {at}"),
            format!(
                "UPDATE IGNORE room SET name = {one} WHERE tenant = {tenant} AND name = {other}"
            ),
            format!(
                "UPDATE IGNORE room SET name = {other} WHERE tenant = {tenant} AND name = 'tmp'"
            ),
            "DELETE FROM room WHERE name = 'tmp'".to_owned(),
        ],
        8 => vec![format!("DELETE FROM room WHERE {at}")],
        _ => vec![
            "SAVEPOINT here".to_owned(),
            format!("UPDATE room SET hash = {hash}, score = {live} WHERE tenant = {tenant}"),
            if random.random() {
                "ROLLBACK TO SAVEPOINT here".to_owned()
            } else {
                "RELEASE SAVEPOINT here".to_owned()
            },
        ],
    }
}

async fn select(session: &mut Conn) -> Result<Live> {
    let rows: Vec<(i64, String, Option<String>, Option<String>)> = session
        .query(format!(
            "SELECT tenant, name, title, score FROM room WHERE {LIVE_WHEN}"
        ))
        .await?;
    let rows = rows.into_iter();
    Ok(rows
        .map(|(tenant, name, title, score)| ((tenant, name), (title, score)))
        .collect())
}

fn shown(row: &Row) -> (Option<String>, Option<String>) {
    let fields = proto::fields(row.bytes()).unwrap();
    let text = |number: u32| {
        fields.get(&number).map(|field| match field {
            Wire::Bytes(text) => String::from_utf8(text.clone()).unwrap(),
            other => panic!("{other:?}"),
        })
    };
    (text(1), text(2))
}
