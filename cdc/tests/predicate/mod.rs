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
use std::fmt::{self, Write as _};

use anyhow::{Context as _, Result, bail, ensure};
use mysql_async::prelude::Queryable as _;
use mysql_async::{Conn, Opts, Row, Value as Cell};
use onair_model::column::{Column, ColumnType};
use onair_model::predicate::{Predicate, Truth};
use onair_xtask::servers::{Flavor, Options, Server};
use rand::SeedableRng as _;
use rand::rngs::StdRng;

use generate::Generator;
use table::{Stored, Table};

const ROWS: usize = 250;
const PREDICATES: usize = 1_000;

/// The least number of (predicate, row) pairs on each server.
const PAIRS: u64 = 100_000;

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

crate::on_each_server!(agrees);

/// The next line of MariaDB, whose optimizer is another one.
#[test]
fn agrees_with_mariadb_11_8() -> Result<()> {
    let flavor = Flavor::Mariadb118;
    if flavor.is_left_out() {
        eprintln!("NOT RUN {flavor}: left out");
        return Ok(());
    }
    let server = Server::start(flavor, Options::default())?;
    crate::servers::block_on(agrees(&server))
}

async fn agrees(server: &Server) -> Result<()> {
    let seed = seed()?;
    let mut rng = StdRng::seed_from_u64(seed);
    let table = Table::new(server.flavor().is_mariadb(), &mut rng);
    let mut sessions = Sessions::open(server).await?;
    table.fill(&mut sessions.scan, ROWS, &mut rng).await?;
    let rows = table.read(&mut sessions.user).await?;
    ensure!(rows.len() == ROWS, "{} rows came back", rows.len());
    let columns = table.columns();
    let mut tally = Tally::default();
    for number in 0..PREDICATES {
        let text = Generator::new(&table, &mut rng).predicate();
        let predicate = Predicate::parse(&text, &columns)
            .with_context(|| format!("seed {seed}, predicate {number} was refused: {text}"))?;
        let case = Case {
            title: format!("{}, seed {seed}, predicate {number}", server.flavor()),
            sql: predicate.to_sql(),
            text,
            predicate,
            columns: &columns,
        };
        let answers = sessions.ask(&case, number).await;
        let answers = answers.with_context(|| case.describe())?;
        for (id, row) in rows.iter().enumerate() {
            let seen = Seen::new(&case, &answers, id, row);
            ensure!(seen.agrees(&case), "{}", seen.describe(&case, row));
            tally.add(&seen);
        }
    }
    let version = server.sql("SELECT VERSION()")?;
    println!(
        "{} {}: seed {seed}, {tally}",
        server.flavor(),
        version.trim()
    );
    tally.check()
}

/// A predicate as it was written, read and printed.
struct Case<'a> {
    title: String,
    text: String,
    sql: String,
    predicate: Predicate,
    columns: &'a [Column],
}

impl Case<'_> {
    fn describe(&self) -> String {
        format!("{}\n  text {}\n  sql  {}", self.title, self.text, self.sql)
    }

    fn reads_text(&self) -> bool {
        let is_text = |at: &usize| matches!(self.columns[*at].ty, ColumnType::Text { .. });
        self.predicate.columns().iter().any(is_text)
    }
}

struct Sessions {
    user: Conn,
    scan: Conn,
}

/// What the server makes of a predicate, by the rows' ids.
struct Answers {
    text: Vec<Truth>,
    text_found: BTreeSet<usize>,
    sql: Vec<Truth>,
    sql_found: BTreeSet<usize>,
}

impl Sessions {
    async fn open(server: &Server) -> Result<Self> {
        let mut user = connect(server).await?;
        let scan = connect(server).await?;
        // MySQL's default refuses zero dates in the user's text.
        user.query_drop(
            "SET sql_mode = REPLACE(REPLACE(@@sql_mode, 'NO_ZERO_IN_DATE', ''), 'NO_ZERO_DATE', '')",
        )
        .await?;
        Ok(Sessions { user, scan })
    }

    async fn ask(&mut self, case: &Case<'_>, number: usize) -> Result<Answers> {
        let mode = SCAN_MODES[number % SCAN_MODES.len()];
        let collation = COLLATIONS[number % COLLATIONS.len()];
        let set = format!("SET sql_mode = {mode}, collation_connection = {collation}");
        self.scan.query_drop(set).await?;
        Ok(Answers {
            text: truths(&mut self.user, &case.text).await?,
            text_found: found(&mut self.user, &format!("({})", case.text)).await?,
            sql: truths(&mut self.scan, &case.sql).await?,
            // The scan asks by ranges of the key.
            sql_found: found(&mut self.scan, &format!("{} AND (id >= 0)", case.sql)).await?,
        })
    }
}

/// One row, seen from all sides.
#[derive(Debug)]
struct Seen {
    id: usize,
    eval: Truth,
    /// With the values as a row image has them.
    eval_on_image: Truth,
    text: Truth,
    text_found: bool,
    sql: Truth,
    sql_found: bool,
}

impl Seen {
    fn new(case: &Case<'_>, answers: &Answers, id: usize, row: &[Stored]) -> Self {
        let cells = || case.predicate.columns().iter().map(|at| &row[*at]);
        let values: Vec<_> = cells().map(Stored::value).collect();
        let image: Vec<_> = cells().map(Stored::image).collect();
        Seen {
            id,
            eval: case.predicate.eval(&values),
            eval_on_image: case.predicate.eval(&image),
            text: answers.text[id],
            text_found: answers.text_found.contains(&id),
            sql: answers.sql[id],
            sql_found: answers.sql_found.contains(&id),
        }
    }

    fn agrees(&self, case: &Case<'_>) -> bool {
        let live = self.eval == Truth::True;
        self.eval_on_image == self.eval
            && self.text == self.eval
            && self.sql == self.eval
            && self.sql_found == live
            && (self.text_found == live || case.reads_text())
    }

    fn describe(&self, case: &Case<'_>, row: &[Stored]) -> String {
        let mut out = format!("{}\n  row {}: {self:?}", case.describe(), self.id);
        for at in case.predicate.columns() {
            let _ = write!(out, "\n  {:?} = {:?}", case.columns[*at], row[*at]);
        }
        out
    }
}

/// What came out.
#[derive(Default)]
struct Tally {
    outcomes: [u64; 3],
    /// Rows that the user's text finds in a WHERE and is not true of in a SELECT list, or the reverse: with an index
    /// MySQL 8.0 and MariaDB 11.8 compare two literals that meet on one column of text by the collation of
    /// literals. Our SQL is never taken so.
    server_with_itself: u64,
}

impl Tally {
    fn add(&mut self, seen: &Seen) {
        self.outcomes[seen.eval as usize] += 1;
        self.server_with_itself += u64::from(seen.text_found != (seen.text == Truth::True));
    }

    fn pairs(&self) -> u64 {
        self.outcomes.iter().sum()
    }

    fn share(&self, truth: Truth) -> f64 {
        self.outcomes[truth as usize] as f64 / self.pairs() as f64
    }

    fn check(&self) -> Result<()> {
        let pairs = self.pairs();
        ensure!(pairs >= PAIRS, "only {pairs} pairs");
        for truth in [Truth::True, Truth::False, Truth::Null] {
            let share = self.share(truth);
            ensure!(share >= SHARE, "{truth:?} is {share:.3} of the outcomes");
        }
        let strange = self.server_with_itself;
        ensure!(
            strange < pairs / 1000,
            "the server disagrees with itself {strange} times"
        );
        Ok(())
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = |truth| 100.0 * self.share(truth);
        write!(
            f,
            "{PREDICATES} predicates x {ROWS} rows: {} pairs agree; TRUE {:.1} %, FALSE {:.1} %, NULL {:.1} %; the \
             server disagrees with itself on {}",
            self.pairs(),
            percent(Truth::True),
            percent(Truth::False),
            percent(Truth::Null),
            self.server_with_itself
        )
    }
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

/// The rows for which it holds, asked by the binary protocol. The table has an index on most columns, and the server may use them.
async fn found(connection: &mut Conn, condition: &str) -> Result<BTreeSet<usize>> {
    let ids: Vec<usize> = connection
        .exec(format!("SELECT id FROM t WHERE {condition}"), ())
        .await?;
    Ok(ids.into_iter().collect())
}
