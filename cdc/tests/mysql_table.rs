//! Tables as real servers describe them: the same columns that their row images carry.

use anyhow::{Context as _, Result};
use onair_cdc::source::{Source as _, SourceError};
use onair_model::column::ColumnType;
use onair_xtask::servers::{Options, Server};

use crate::on_each_server;
use crate::servers::{block_on, database, read_until, source, source_at, table_name};

on_each_server!(
    columns_are_those_of_row_images,
    what_cannot_be_captured_is_refused,
    names_are_spelled_as_the_server_does,
    columns_that_may_not_be_seen_matter_only_without_names,
);

const TABLE_MAP: u8 = 19;
/// Optional metadata of a table map: the columns' names.
const COLUMN_NAMES: u8 = 4;

/// Name, columns and one row; `{key}` columns come first.
const TABLES: &[(&str, &str, &str)] = &[
    ("plain", "(id INT PRIMARY KEY, v INT)", "VALUES (1, 1)"),
    (
        "generated",
        "(id INT PRIMARY KEY, v INT, w INT AS (v + 1) VIRTUAL, s INT AS (v + 2) STORED)",
        "(id, v) VALUES (1, 1)",
    ),
    (
        "invisible",
        "(id INT PRIMARY KEY, v INT INVISIBLE, w INT)",
        "(id, v) VALUES (1, 1)",
    ),
    (
        "parted",
        "(b INT, a INT, v INT, PRIMARY KEY (a, b)) PARTITION BY HASH (a) PARTITIONS 3",
        "VALUES (1, 2, 3)",
    ),
];
const MYSQL_TABLES: &[(&str, &str, &str)] = &[
    (
        "functional",
        "(id INT PRIMARY KEY, v INT, KEY ((v + 1)), UNIQUE ((v * 2)))",
        "VALUES (1, 1)",
    ),
    (
        "multivalued",
        "(id INT PRIMARY KEY, j JSON, KEY mv ((CAST(j->'$' AS UNSIGNED ARRAY))))",
        "VALUES (1, '[1, 2]')",
    ),
];
const MARIADB_TABLES: &[(&str, &str, &str)] = &[
    (
        "hashed",
        "(id INT PRIMARY KEY, a TEXT, b TEXT, UNIQUE (a), UNIQUE (b, a))",
        "VALUES (1, 'a', 'b')",
    ),
    (
        "period",
        "(id INT PRIMARY KEY, a DATE, b DATE, PERIOD FOR p (a, b))",
        "VALUES (1, '2020-01-01', '2021-01-01')",
    ),
];

async fn columns_are_those_of_row_images(server: &Server) -> Result<()> {
    database(server, "table_columns")?;
    let source = source(server);
    let mariadb = server.flavor().is_mariadb();
    let own = if mariadb {
        MARIADB_TABLES
    } else {
        MYSQL_TABLES
    };
    for (name, columns, _) in TABLES.iter().chain(own) {
        server.sql(&format!("CREATE TABLE table_columns.{name} {columns}"))?;
    }
    let mut names: Vec<&str> = TABLES.iter().chain(own).map(|(name, ..)| *name).collect();
    if mariadb {
        // The hidden column stays last.
        server.sql("ALTER TABLE table_columns.hashed ADD COLUMN c INT")?;
    } else {
        server.sql(
            "SET SESSION sql_generate_invisible_primary_key = ON;
             CREATE TABLE table_columns.keyless (v INT)",
        )?;
        names.push("keyless");
    }
    let from = source.identity().await?.executed;
    for (name, _, row) in TABLES.iter().chain(own) {
        let row = if *name == "hashed" {
            "(id, a, b) VALUES (1, 'a', 'b')"
        } else {
            row
        };
        server.sql(&format!("INSERT INTO table_columns.{name} {row}"))?;
    }
    if !mariadb {
        server.sql("INSERT INTO table_columns.keyless VALUES (5)")?;
    }
    let mut events = source.follow(&from).await?;
    for name in names {
        let seen = read_until(&mut *events, |event| {
            event.kind == TABLE_MAP
                && table_map(&event.body).is_some_and(|(table, _)| table == name)
        })
        .await?;
        let (_, sent) = table_map(&seen.last().context("map")?.body).context("names")?;
        let table = source.table(&table_name("table_columns", name)).await?;
        let ours: Vec<_> = table
            .columns
            .iter()
            .map(|column| column.name.to_string())
            .collect();
        assert_eq!(ours, sent, "{name}");
        let key: Vec<_> = table
            .primary_key
            .iter()
            .map(|at| ours[*at].as_str())
            .collect();
        assert_eq!(
            key,
            match name {
                "parted" => vec!["a", "b"],
                "keyless" => vec!["my_row_id"],
                _ => vec!["id"],
            }
        );
    }
    Ok(())
}

/// The table's name and its columns' names, where all lengths fit a byte.
fn table_map(body: &[u8]) -> Option<(String, Vec<String>)> {
    let counted = |bytes: &mut &[u8]| {
        let (len, rest) = bytes.split_first()?;
        let (text, rest) = rest.split_at_checked(usize::from(*len))?;
        *bytes = rest;
        Some(text.to_vec())
    };
    let mut rest = body.get(8..)?;
    counted(&mut rest)?;
    rest = rest.get(1..)?;
    let table = String::from_utf8(counted(&mut rest)?).ok()?;
    rest = rest.get(1..)?;
    let columns = counted(&mut rest)?.len();
    counted(&mut rest)?;
    rest = rest.get(columns.div_ceil(8)..)?;
    let mut names = Vec::new();
    while let Some((kind, tail)) = rest.split_first() {
        rest = tail;
        let value = counted(&mut rest)?;
        let mut value = &value[..];
        while *kind == COLUMN_NAMES && !value.is_empty() {
            names.push(String::from_utf8(counted(&mut value)?).ok()?);
        }
    }
    Some((table, names))
}

async fn what_cannot_be_captured_is_refused(server: &Server) -> Result<()> {
    database(server, "table_refused")?;
    server.sql(
        "CREATE TABLE table_refused.t (id INT PRIMARY KEY);
         CREATE VIEW table_refused.v AS SELECT * FROM table_refused.t;
         CREATE TABLE table_refused.prefix (t VARCHAR(20), n INT, PRIMARY KEY (n, t(3)));",
    )?;
    let source = source(server);
    let refused = async |table: &str| match source.table(&table_name("table_refused", table)).await
    {
        Err(err) => err,
        Ok(table) => panic!("{table:?}"),
    };
    let view = refused("v").await;
    assert!(
        matches!(&view, SourceError::Refused { .. }) && view.to_string().contains("view"),
        "{view}"
    );
    let prefix = refused("prefix").await;
    assert!(
        prefix.to_string().contains("first 3 characters of t"),
        "{prefix}"
    );
    let missing = refused("nowhere").await;
    assert!(matches!(missing, SourceError::NoTable { .. }), "{missing}");
    assert!(matches!(refused("T").await, SourceError::NoTable { .. }));
    if server.flavor().is_mariadb() {
        server.sql("CREATE TABLE table_refused.past (id INT PRIMARY KEY) WITH SYSTEM VERSIONING; CREATE SEQUENCE table_refused.s")?;
        assert!(
            refused("past")
                .await
                .to_string()
                .contains("system-versioned")
        );
        assert!(refused("s").await.to_string().contains("SEQUENCE"));
    }
    Ok(())
}

async fn names_are_spelled_as_the_server_does(server: &Server) -> Result<()> {
    database(server, "table_names")?;
    let odd = "a`b 'c\\\" é";
    let quoted = odd.replace('`', "``");
    server.sql(&format!(
        "CREATE TABLE table_names.`{quoted}` (`{quoted}` ENUM('x', 'it''s', 'é\\\\') PRIMARY KEY)"
    ))?;
    let table = source(server)
        .table(&table_name("table_names", odd))
        .await?;
    assert_eq!(&*table.name.table, odd);
    assert_eq!(&*table.columns[0].name, odd);
    let ColumnType::Enum { labels } = &table.columns[0].ty else {
        panic!("{table:?}");
    };
    let labels: Vec<&str> = labels.iter().map(|label| &**label).collect();
    assert_eq!(labels, ["x", "it's", "é\\"]);
    Ok(())
}

async fn columns_that_may_not_be_seen_matter_only_without_names(server: &Server) -> Result<()> {
    let arguments = ["--binlog-row-metadata=MINIMAL".to_owned()];
    let options = Options {
        extra_args: arguments.into(),
        ..Options::default()
    };
    let nameless = Server::start_own(server.flavor(), options)?;
    let partly = async |server: &Server| -> Result<_> {
        database(server, "table_partly")?;
        server.sql("CREATE TABLE table_partly.t (a INT, id INT PRIMARY KEY, b INT)")?;
        server.create_user("partly", "secret", &["SELECT (a, id) ON table_partly.t"])?;
        let source = source_at(&server.url("partly:secret", ""));
        Ok(source.table(&table_name("table_partly", "t")).await)
    };
    assert_eq!(partly(server).await??.columns.len(), 2);
    let err = partly(&nameless).await?.unwrap_err();
    assert!(
        err.to_string().contains("binlog_row_metadata = FULL"),
        "{err}"
    );
    Ok(())
}

#[test]
fn a_server_that_folds_names_gives_its_own_spelling() {
    let flavor = onair_xtask::servers::Flavor::Mariadb1011;
    if flavor.is_left_out() {
        eprintln!("NOT RUN {flavor}: left out");
        return;
    }
    let options = Options {
        extra_args: vec!["--lower-case-table-names=1".to_owned()],
        ..Options::default()
    };
    let server = Server::start_own(flavor, options).unwrap();
    server
        .sql("CREATE DATABASE Live; CREATE TABLE Live.Room (id INT PRIMARY KEY)")
        .unwrap();
    let source = source_at(&server.url("root", ""));
    let table = block_on(source.table(&table_name("Live", "Room"))).unwrap();
    assert_eq!(table.name.to_string(), "live.room");
}
