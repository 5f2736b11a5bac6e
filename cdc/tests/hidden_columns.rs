//! Columns that nobody selects: those of functional and multi-valued indexes, generated primary keys,
//! virtual ones; and partitioned tables.

use anyhow::Result;
use onair_xtask::servers::Server;

use crate::follow::Follower;
use crate::on_each_server;
use crate::proto::{self, Wire};
use crate::servers::{database, feed, source, table_name};

on_each_server!(
    columns_of_indexes,
    a_generated_primary_key,
    virtual_columns_between,
    partitions,
);

/// Writes two rows, changes one; the exported column `v` must come through.
async fn check(server: &Server, table: &str, create: &str, insert: &str) -> Result<()> {
    let database_name = format!("hidden_{table}");
    database(server, &database_name)?;
    server.sql(&format!("USE {database_name}; {create}"))?;
    let source = source(server);
    let feed = feed(
        &source,
        &table_name(&database_name, table),
        "v IS NOT NULL",
        &["v"],
    )
    .await?;
    let mut follower = Follower::new(server, &source, &[feed]).await?;
    server.sql(&format!(
        "USE {database_name}; {insert}; UPDATE {table} SET v = v + 1 WHERE v = 8; DELETE FROM {table} WHERE v = 7;"
    ))?;
    let mut seen = Vec::new();
    for _ in 0..3 {
        for change in follower.changes().await? {
            let value = |row: Option<onair_model::Row>| {
                row.map(|row| proto::fields(row.bytes()).unwrap()[&1].clone())
            };
            seen.push((value(change.before), value(change.after)));
        }
    }
    let v = |n: u64| Some(Wire::Varint(2 * n));
    let expected = [(None, v(7)), (None, v(8)), (v(8), v(9)), (v(7), None)];
    assert_eq!(seen, expected);
    Ok(())
}

async fn columns_of_indexes(server: &Server) -> Result<()> {
    let (create, insert) = if server.flavor().is_mariadb() {
        // A hidden column with the hash of what is too long for an index.
        (
            "CREATE TABLE indexed (id INT PRIMARY KEY, t TEXT, UNIQUE (t), v INT)",
            "INSERT INTO indexed VALUES (1, 'a', 7), (2, 'b', 8)",
        )
    } else {
        (
            "CREATE TABLE indexed (id INT PRIMARY KEY, a VARCHAR(20), INDEX ((UPPER(a))), j JSON, \
             INDEX ((CAST(j->'$.x' AS UNSIGNED ARRAY))), v INT, INDEX ((v + 1)))",
            "INSERT INTO indexed VALUES (1, 'a', '{\"x\": [1, 2]}', 7), (2, 'b', NULL, 8)",
        )
    };
    check(server, "indexed", create, insert).await
}

async fn a_generated_primary_key(server: &Server) -> Result<()> {
    if server.flavor().is_mariadb() {
        return Ok(());
    }
    let create =
        "SET sql_generate_invisible_primary_key = ON; CREATE TABLE keyless (a VARCHAR(20), v INT)";
    check(
        server,
        "keyless",
        create,
        "INSERT INTO keyless VALUES ('a', 7), ('b', 8)",
    )
    .await
}

async fn virtual_columns_between(server: &Server) -> Result<()> {
    let create = "CREATE TABLE made (id INT PRIMARY KEY, a VARCHAR(20), b VARCHAR(40) AS (CONCAT(a, a)) VIRTUAL, \
        c INT AS (LENGTH(a)) VIRTUAL, d INT AS (LENGTH(a)) STORED, v INT, e VARCHAR(20) AS (CONCAT(a, v)) VIRTUAL)";
    let insert = "INSERT INTO made (id, a, v) VALUES (1, 'one', 7), (2, 'two', 8)";
    check(server, "made", create, insert).await
}

async fn partitions(server: &Server) -> Result<()> {
    let create =
        "CREATE TABLE parted (id INT PRIMARY KEY, v INT) PARTITION BY HASH (id) PARTITIONS 4";
    check(
        server,
        "parted",
        create,
        "INSERT INTO parted VALUES (1, 7), (2, 8)",
    )
    .await
}
