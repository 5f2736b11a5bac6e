//! The predicate against real servers: the user's text, our SQL and our evaluation must give the same outcome
//! for every row.
//!
//! A table of hostile rows is filled, random predicates over it are written as users write them, and each is
//! asked of the server four times for every row (the user's text and our SQL, each in a SELECT list and in a
//! WHERE) and of [`Predicate::eval`]. Values come from the server by the binary protocol.
//!
//! `ONAIR_TEST_SEED` gives another seed; it is printed.

mod columns;
mod generate;
mod table;

use std::collections::BTreeSet;
use std::fmt::Write as _;

use anyhow::{Context as _, Result, bail, ensure};
use mysql_async::prelude::Queryable as _;
use mysql_async::{Conn, Opts, Row, Value as Cell};
use onair_model::column::ColumnType;
use onair_model::predicate::{Predicate, Truth};
use onair_xtask::servers::{Flavor, Options, Server};
use rand::SeedableRng as _;
use rand::rngs::StdRng;

use generate::Generator;
use table::Table;

const ROWS: usize = 250;
const PREDICATES: usize = 1_000;

/// The least share of each outcome among all pairs.
const SHARE: f64 = 0.15;

/// The modes that the scan's session may have. The first is the server's own.
const SCAN_MODES: [&str; 3] = [
    "DEFAULT",
    "''",
    "'ANSI,NO_BACKSLASH_ESCAPES,HIGH_NOT_PRECEDENCE,TRADITIONAL,NO_UNSIGNED_SUBTRACTION,IGNORE_SPACE'",
];

/// What the scan's session may compare its own literals by.
const COLLATIONS: [&str; 4] = ["DEFAULT", "utf8mb4_bin", "latin1_german1_ci", "binary"];

#[test]
fn mysql97_agrees() -> Result<()> {
    agrees(Flavor::Mysql97)
}

#[test]
fn mysql80_agrees() -> Result<()> {
    agrees(Flavor::Mysql80)
}

#[test]
fn mariadb1011_agrees() -> Result<()> {
    agrees(Flavor::Mariadb1011)
}

#[test]
fn mariadb118_agrees() -> Result<()> {
    agrees(Flavor::Mariadb118)
}

fn agrees(flavor: Flavor) -> Result<()> {
    if flavor.is_left_out() {
        eprintln!("NOT RUN {flavor}: left out");
        return Ok(());
    }
    let server = Server::start(flavor, Options::default())?;
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(compare(&server, flavor))
}

async fn compare(server: &Server, flavor: Flavor) -> Result<()> {
    let seed = seed()?;
    let mut rng = StdRng::seed_from_u64(seed);
    let table = Table::new(flavor.is_mariadb(), &mut rng);
    let mut user = connect(server).await?;
    table.fill(&mut user, ROWS, &mut rng).await?;
    let rows = table.read(&mut user).await?;
    ensure!(rows.len() == ROWS, "{} rows came back", rows.len());
    let mut scan = connect(server).await?;
    // A column of zero dates may be asked for them in the user's text, which the server's default refuses.
    user.query_drop(
        "SET sql_mode = REPLACE(REPLACE(@@sql_mode, 'NO_ZERO_IN_DATE', ''), 'NO_ZERO_DATE', '')",
    )
    .await?;

    let columns = table.columns();
    let mut outcomes = [0_u64; 3];
    // The user's text in a WHERE, where the server disagrees with itself. With an index it compares two literals that
    // meet on one column of text by the collation of literals. We never ask so.
    let mut own = 0;
    for number in 0..PREDICATES {
        let mode = SCAN_MODES[number % SCAN_MODES.len()];
        let collation = COLLATIONS[number % COLLATIONS.len()];
        scan.query_drop(format!(
            "SET sql_mode = {mode}, collation_connection = {collation}"
        ))
        .await?;
        let text = Generator::new(&table, &mut rng).predicate();
        let predicate = Predicate::parse(&text, &columns)
            .with_context(|| format!("seed {seed}, predicate {number} was refused: {text}"))?;
        let sql = predicate.to_sql();
        let describe = || {
            format!(
                "{flavor}, seed {seed}, predicate {number}\n  text {text}\n  sql  {sql}\n  mode {mode}"
            )
        };
        let asked = truths(&mut user, &text).await.with_context(describe)?;
        let ours = truths(&mut scan, &sql).await.with_context(describe)?;
        let meant = found(&mut user, &text).await.with_context(describe)?;
        let found = found(&mut scan, &sql).await.with_context(describe)?;
        let reads_text =
            (predicate.columns().iter()).any(|c| matches!(columns[*c].ty, ColumnType::Text { .. }));
        for (id, row) in rows.iter().enumerate() {
            let values: Vec<_> = predicate
                .columns()
                .iter()
                .map(|c| row[*c].borrowed())
                .collect();
            let trimmed: Vec<_> = predicate
                .columns()
                .iter()
                .map(|c| row[*c].trimmed())
                .collect();
            let truth = predicate.eval(&values);
            outcomes[truth as usize] += 1;
            let same = asked[id] == truth
                && ours[id] == truth
                && predicate.eval(&trimmed) == truth
                && (reads_text || meant.contains(&id) == (truth == Truth::True))
                && found.contains(&id) == (truth == Truth::True);
            own += u64::from(meant.contains(&id) != (truth == Truth::True));
            if !same {
                let mut message = describe();
                let _ = write!(
                    message,
                    "\n  row {id}: server on the text {:?} (in WHERE {}), on our SQL {:?} (in WHERE {}), eval {truth:?} (trimmed {:?})",
                    asked[id],
                    meant.contains(&id),
                    ours[id],
                    found.contains(&id),
                    predicate.eval(&trimmed),
                );
                for (column, value) in predicate.columns().iter().zip(&values) {
                    let _ = write!(message, "\n  {:?} = {value:?}", columns[*column]);
                }
                bail!(message);
            }
        }
    }
    let pairs: u64 = outcomes.iter().sum();
    let share = |truth: Truth| outcomes[truth as usize] as f64 / pairs as f64;
    println!(
        "{flavor} {}: seed {seed}, {PREDICATES} predicates x {ROWS} rows = {pairs} pairs agree; TRUE {:.1} %, FALSE {:.1} %, NULL {:.1} %; the server disagrees with itself on {own}",
        server.sql("SELECT VERSION()")?.trim(),
        100.0 * share(Truth::True),
        100.0 * share(Truth::False),
        100.0 * share(Truth::Null),
    );
    ensure!(pairs >= 100_000, "only {pairs} pairs");
    ensure!(
        own < pairs / 1000,
        "the server disagrees with itself on {own} pairs"
    );
    for truth in [Truth::True, Truth::False, Truth::Null] {
        ensure!(share(truth) >= SHARE, "{truth:?} is rarer than {SHARE}");
    }
    Ok(())
}

#[expect(
    clippy::disallowed_methods,
    reason = "a test's seed has no configuration to come from"
)]
fn seed() -> Result<u64> {
    match std::env::var("ONAIR_TEST_SEED") {
        Ok(seed) => Ok(seed.parse()?),
        Err(_) => Ok(20_261_122),
    }
}

async fn connect(server: &Server) -> Result<Conn> {
    let mut connection = Conn::new(Opts::from_url(&server.url("root", ""))?).await?;
    connection
        .query_drop("SET time_zone = '+00:00', character_set_results = NULL")
        .await?;
    connection
        .query_drop("CREATE DATABASE IF NOT EXISTS predicate")
        .await?;
    connection.query_drop("USE predicate").await?;
    Ok(connection)
}

/// What a condition is for each row. The OR makes a truth of a bare column.
async fn truths(connection: &mut Conn, condition: &str) -> Result<Vec<Truth>> {
    let rows: Vec<Row> = connection
        .query(format!("SELECT ({condition}) OR FALSE FROM t ORDER BY id"))
        .await?;
    rows.into_iter()
        .map(|row| match row.unwrap().as_slice() {
            [Cell::NULL] => Ok(Truth::Null),
            [Cell::Bytes(bytes)] if bytes == b"0" => Ok(Truth::False),
            [Cell::Bytes(bytes)] if bytes == b"1" => Ok(Truth::True),
            other => bail!("{other:?} is no truth"),
        })
        .collect()
}

/// The rows for which it holds, as the scan asks. The table has an index on most columns, and the server may use them.
async fn found(connection: &mut Conn, condition: &str) -> Result<BTreeSet<usize>> {
    let ids: Vec<usize> = connection
        .exec(format!("SELECT id FROM t WHERE {condition}"), ())
        .await?;
    Ok(ids.into_iter().collect())
}
