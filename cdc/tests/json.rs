//! JSON of MySQL: random documents, numbers and changes of parts, against what SELECT prints.

use std::fmt::Write as _;

use anyhow::{Context as _, Result};
use mysql_async::prelude::Queryable as _;
use mysql_async::{Conn, Opts};
use onair_xtask::servers::Server;
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};

use crate::follow::{Follower, dialect};
use crate::on_each_server;
use crate::proto::{self, Wire};
use crate::servers::{database, feed, source, table_name};

on_each_server!(numbers, parts_of_documents);

async fn session(server: &Server, database: &str) -> Result<Conn> {
    let mut session = Conn::new(Opts::from_url(&server.url("root", database))?).await?;
    session.query_drop("SET NAMES utf8mb4").await?;
    Ok(session)
}

/// The JSON column in a row's bytes: the field with the highest number.
fn document(row: &onair_model::Row) -> Option<String> {
    match proto::fields(row.bytes())?.pop_last()? {
        (_, Wire::Bytes(text)) => String::from_utf8(text).ok(),
        _ => None,
    }
}

/// Doubles of any bits.
async fn numbers(server: &Server) -> Result<()> {
    if server.flavor().is_mariadb() {
        return Ok(());
    }
    let seed = rand::random();
    eprintln!("numbers: seed {seed}");
    let mut random = SmallRng::seed_from_u64(seed);
    const DATABASE: &str = "json_numbers";
    database(server, DATABASE)?;
    server.sql(&format!(
        "CREATE TABLE {DATABASE}.number (id INT PRIMARY KEY, j JSON)"
    ))?;
    let source = source(server);
    let feed = feed(&source, &table_name(DATABASE, "number"), "id >= 0", &["j"]).await?;
    let mut follower = Follower::new(server, &source, &[feed]).await?;
    let mut session = session(server, DATABASE).await?;
    let rows: Vec<String> = (0..200)
        .map(|id| {
            let numbers: Vec<String> = (0..50)
                .map(|_| {
                    loop {
                        let number = match random.random_range(0..4) {
                            0 => f64::from_bits(random.random()),
                            1 => f64::from(random.random::<f32>()) * 1e9,
                            2 => random.random_range(-2e15..2e15f64).round(),
                            _ => {
                                let digits = f64::from(random.random_range(-99_999..99_999));
                                digits * 10f64.powi(random.random_range(-25..25))
                            }
                        };
                        if number.is_finite() {
                            break format!("{number:e}");
                        }
                    }
                })
                .collect();
            format!("({id}, '[{}]')", numbers.join(","))
        })
        .collect();
    session
        .query_drop(format!("INSERT INTO number VALUES {}", rows.join(",")))
        .await?;
    let printed: Vec<String> = session.query("SELECT j FROM number ORDER BY id").await?;
    let changes = follower.changes().await?;
    assert_eq!(changes.len(), printed.len());
    for (change, printed) in changes.iter().zip(printed) {
        let row = change.after.as_ref().context("inserted")?;
        assert_eq!(document(row), Some(printed));
    }
    Ok(())
}

/// `JSON_SET`, `JSON_REPLACE` and `JSON_REMOVE` at random paths, written as differences where the server does so.
async fn parts_of_documents(server: &Server) -> Result<()> {
    if server.flavor().is_mariadb() {
        return Ok(());
    }
    let seed = rand::random();
    eprintln!("parts of documents: seed {seed}");
    let mut random = SmallRng::seed_from_u64(seed);
    const DATABASE: &str = "json_parts";
    database(server, DATABASE)?;
    server.sql(&format!("CREATE TABLE {DATABASE}.part (id INT PRIMARY KEY, skipped JSON, v INT, other JSON, n INT, j JSON)"))?;
    let source = source(server);
    let name = table_name(DATABASE, "part");
    let feed = feed(&source, &name, "v < 1000", &["v", "other", "j"]).await?;
    let mut follower = Follower::new(server, &source, std::slice::from_ref(&feed)).await?;
    let mut session = session(server, DATABASE).await?;
    session
        .query_drop("SET SESSION binlog_row_value_options = 'PARTIAL_JSON'")
        .await?;
    let select = "SELECT CONCAT_WS('|', v, other, j) FROM part";
    let mut printed = None;
    for round in 0..400 {
        if round % 10 == 0 {
            session.query_drop("DELETE FROM part").await?;
            let documents = [(); 3].map(|()| literal(&container(&mut random, 3)));
            let insert = format!(
                "INSERT INTO part VALUES (1, {}, 1, {}, -1, {})",
                documents[0], documents[1], documents[2]
            );
            session.query_drop(insert).await?;
            if round > 0 {
                follower.changes().await?;
            }
            follower.changes().await?;
            printed = session.query_first::<String, _>(select).await?;
        }
        let column = |random: &mut SmallRng, name: &str| {
            let function = ["JSON_SET", "JSON_REPLACE", "JSON_REMOVE"][random.random_range(0..3)];
            let mut expression = format!("{function}({name}");
            for _ in 0..random.random_range(1..4) {
                let path = path(random, function != "JSON_REMOVE");
                let _ = write!(
                    expression,
                    ", '{}'",
                    path.replace('\\', "\\\\").replace('\'', "''")
                );
                if function != "JSON_REMOVE" {
                    let value = match random.random_range(0..4) {
                        0 => random.random_range(0..100_000).to_string(),
                        1 => format!("'{}'", "x".repeat(random.random_range(0..40))),
                        _ => format!("CAST({} AS JSON)", literal(&value(random, 2))),
                    };
                    let _ = write!(expression, ", {value}");
                }
            }
            expression + ")"
        };
        // A small update of one column out of three also when the columns are many.
        let mut set = vec![
            format!("j = {}", column(&mut random, "j")),
            format!("n = {round}"),
        ];
        if random.random() {
            set.push(format!("other = {}", column(&mut random, "other")));
        }
        if random.random() {
            set.push(format!("skipped = {}", column(&mut random, "skipped")));
        }
        session
            .query_drop(format!("UPDATE part SET {}", set.join(", ")))
            .await?;
        let now: Option<String> = session.query_first(select).await?;
        let shown = |row: &Option<onair_model::Row>| {
            let fields = proto::fields(row.as_ref()?.bytes())?;
            let text = |number| match &fields[&number] {
                Wire::Varint(n) => (n / 2).to_string(),
                Wire::Bytes(text) => String::from_utf8_lossy(text).into_owned(),
                other => format!("{other:?}"),
            };
            Some([text(1), text(2), text(3)].join("|"))
        };
        let changes = follower.changes().await?;
        if now == printed {
            assert_eq!(changes, []);
        } else {
            assert_eq!(shown(&changes[0].before), printed, "{set:?}");
            assert_eq!(shown(&changes[0].after), now, "{set:?}");
        }
        printed = now;
    }
    let partial: Vec<_> = follower.recorded.iter().filter(|e| e.kind == 39).collect();
    eprintln!(
        "{} partial updates of {}",
        partial.len(),
        follower.recorded.len()
    );
    assert!(partial.len() > 100);
    let recorded: Vec<_> = follower
        .recorded
        .iter()
        .filter(|e| e.body.len() < 5000)
        .cloned()
        .collect();
    crate::damage::damaged_events_are_errors(&[feed], dialect(server), &recorded, 20_000)
}

fn literal(json: &str) -> String {
    format!("'{}'", json.replace('\\', "\\\\").replace('\'', "''"))
}

const KEYS: [&str; 8] = ["a", "b", "cc", "", "k y", "日本", "q\\\"t", "n\\u0001\\n"];

fn path(random: &mut SmallRng, root: bool) -> String {
    let mut path = "$".to_owned();
    for _ in 0..random.random_range(usize::from(!root)..4) {
        if random.random() {
            let key = KEYS[random.random_range(0..KEYS.len())];
            let _ = write!(path, ".\"{key}\"");
        } else {
            let _ = write!(path, "[{}]", random.random_range(0..4));
        }
    }
    path
}

fn container(random: &mut SmallRng, depth: usize) -> String {
    if random.random() {
        let values: Vec<_> = (0..random.random_range(0..5))
            .map(|_| value(random, depth - 1))
            .collect();
        return format!("[{}]", values.join(","));
    }
    let members: Vec<_> = (0..random.random_range(0..6))
        .map(|_| {
            let key = KEYS[random.random_range(0..KEYS.len())];
            format!("\"{key}\":{}", value(random, depth - 1))
        })
        .collect();
    format!("{{{}}}", members.join(","))
}

fn value(random: &mut SmallRng, depth: usize) -> String {
    match random.random_range(0..12) {
        0 => "null".to_owned(),
        1 => "true".to_owned(),
        2 => random.random_range(-100_000i64..100_000).to_string(),
        3 => random.random::<i64>().to_string(),
        4 => random.random::<u64>().to_string(),
        5 => format!("{:e}", random.random_range(-1e3..1e3f64)),
        6 => format!("\"{}\"", "text ".repeat(random.random_range(0..60))),
        7 => "\"\\u00e9 \\ud83d\\ude00 \\\\ \\\" \\t\"".to_owned(),
        _ if depth > 0 => container(random, depth),
        _ => "1".to_owned(),
    }
}
