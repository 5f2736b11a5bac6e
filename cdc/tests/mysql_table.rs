//! Tables as real servers describe them.

use anyhow::{Context as _, Result};
use onair_cdc::source::Source as _;
use onair_xtask::servers::Server;

use crate::on_each_server;
use crate::servers::{database, read_until, source, table_name};

on_each_server!(explore);

async fn explore(server: &Server) -> Result<()> {
    database(server, "table_columns")?;
    let source = source(server);
    let maria = server.flavor().is_mariadb();
    let tables = [
        ("plain", "(id INT PRIMARY KEY, v INT)", "VALUES (1, 1)"),
        (
            "virt",
            "(id INT PRIMARY KEY, v INT, w INT AS (v+1) VIRTUAL, s INT AS (v+2) STORED)",
            "(id, v) VALUES (1, 1)",
        ),
        (
            "invis",
            "(id INT PRIMARY KEY, v INT INVISIBLE, w INT)",
            "(id, v) VALUES (1, 1)",
        ),
        (
            "func",
            if maria {
                "(id INT PRIMARY KEY, v TEXT, UNIQUE (v))"
            } else {
                "(id INT PRIMARY KEY, v INT, KEY ((v + 1)), KEY ((v * 2)))"
            },
            "(id, v) VALUES (1, 1)",
        ),
        (
            "two",
            if maria {
                "(id INT PRIMARY KEY, a TEXT, b TEXT, UNIQUE (a), UNIQUE (b, a))"
            } else {
                "(id INT PRIMARY KEY, a INT, b INT)"
            },
            "VALUES (1, '2', '3')",
        ),
        (
            "per",
            if maria {
                "(id INT PRIMARY KEY, a DATE, b DATE, PERIOD FOR p(a,b))"
            } else {
                "(id INT PRIMARY KEY, a DATE, b DATE)"
            },
            "VALUES (1, '2020-01-01', '2021-01-01')",
        ),
        (
            "chk",
            "(id INT, v INT, c INT CHECK (c > 0), PRIMARY KEY (id))",
            "VALUES (1, 1, 1)",
        ),
        (
            "arr",
            if maria {
                "(id INT PRIMARY KEY, v INT)"
            } else {
                "(id INT PRIMARY KEY, j JSON, KEY mv ((CAST(j->'$' AS UNSIGNED ARRAY))))"
            },
            if maria {
                "VALUES (1,1)"
            } else {
                "VALUES (1, '[1,2]')"
            },
        ),
    ];
    let from = source.identity().await?.executed;
    for (name, columns, values) in &tables {
        server.sql(&format!(
            "CREATE TABLE table_columns.{name} {columns}; INSERT INTO table_columns.{name} {values}"
        ))?;
    }
    if server.flavor().name() != "mariadb-10.11" {
        println!("{:?}", server.sql("SET SESSION sql_generate_invisible_primary_key=ON; CREATE TABLE table_columns.gipk (v INT); INSERT INTO table_columns.gipk VALUES (5)"));
        let t = source.table(&table_name("table_columns", "gipk")).await;
        println!("{t:?}");
    }
    if maria {
        server.sql("ALTER TABLE table_columns.two ADD COLUMN c INT; INSERT INTO table_columns.two VALUES (2, 3, 4, 5)")?;
    }
    server.sql("CREATE TABLE table_columns.the_end (id INT PRIMARY KEY); INSERT INTO table_columns.the_end VALUES (1)")?;
    let mut events = source.follow(&from).await?;
    let seen = read_until(&mut *events, |e| {
        e.kind == 19 && e.body.windows(7).any(|w| w == b"the_end")
    })
    .await?;
    for e in seen.iter().filter(|e| e.kind == 19) {
        let (table, names) = names(&e.body).context("map")?;
        let t = source.table(&table_name("table_columns", &table)).await?;
        let ours: Vec<_> = t.columns.iter().map(|c| c.name.to_string()).collect();
        println!(
            "{table}: {names:?} {} {:?}",
            if names == ours { "same" } else { "DIFFER" },
            ours
        );
    }
    Ok(())
}

fn names(body: &[u8]) -> Option<(String, Vec<String>)> {
    let rest = &body[8..];
    let (db, rest) = rest[1..].split_at(rest[0] as usize);
    let rest = &rest[1..];
    let (table, rest) = rest[1..].split_at(rest[0] as usize);
    let rest = &rest[1..];
    let n = rest[0] as usize;
    let rest = &rest[1 + n..];
    let m = rest[0] as usize;
    let mut rest = &rest[1 + m + n.div_ceil(8)..];
    let _ = db;
    let mut names = vec![format!("#{n}")];
    while rest.len() > 2 {
        let (kind, len) = (rest[0], rest[1] as usize);
        let value = &rest[2..2 + len];
        if kind == 4 {
            names.clear();
            let mut v = value;
            while !v.is_empty() {
                let (name, tail) = v[1..].split_at(v[0] as usize);
                names.push(String::from_utf8_lossy(name).into_owned());
                v = tail;
            }
        }
        rest = &rest[2 + len..];
    }
    Some((String::from_utf8_lossy(table).into_owned(), names))
}
