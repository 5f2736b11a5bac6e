//! `onair bench decode`: a backlog of changed rows is drained from a real server, by us and by others.
//!
//! The server's binlog is prepared, then each program reads all of it from the first transaction, as a process of
//! its own. Nothing writes meanwhile.

mod backlog;
mod drain;
mod foreign;
#[cfg(feature = "peers")]
mod peers;

use std::collections::BTreeMap;

use anyhow::Result;
use onair_xtask::servers::Server;
use serde_json::json;

pub use self::backlog::Shape;
use self::backlog::{Backlog, KEYS};
pub(crate) use self::drain::{Counts, feed, sequence};
pub use self::drain::{Drain, Drainer};
use self::foreign::Foreign;
use crate::harness::child::Job;
use crate::harness::{Bound, Case, Figure, Measuring, Program, Report, Target};
use crate::table;

/// What is drained, and how often.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  cargo run --release --features peers -- bench decode --shape many-rows\n\nThe peers, mysql_cdc and mysql_async with decoded rows, are in builds with the feature `peers`,\nwhich needs the headers of OpenSSL (Debian: libssl-dev). Without it they are printed as NOT RUN\nand their targets as unknown."
)]
pub struct DecodeArgs {
    /// Changed rows in each backlog [default: 2000000 where events have many of 6 columns, else 300000]
    #[arg(long)]
    rows: Option<u64>,
    /// Only this shape of backlog; may be given again for more
    #[arg(long, value_enum)]
    shape: Vec<Shape>,
    /// Only this share of the rows in the feed, in percent; may be given again for more
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u64).range(1..=100))]
    live: Vec<u64>,
    /// Only a table with this many columns; may be given again for more
    #[arg(long, value_parser = clap::value_parser!(u64).range(6..=500))]
    columns: Vec<u64>,
    #[command(flatten)]
    pub measuring: Measuring,
}

/// Measures.
pub fn run(args: &DecodeArgs) -> Result<()> {
    let server = backlog::server()?;
    let url = table::account(&server)?;
    let measuring = &args.measuring;
    let shapes = given(&args.shape, &Shape::ALL);
    let tables = tables(args);
    let mut report = Report::begin(
        "decode",
        measuring,
        tables.len() * shapes.len(),
        json!({
            "onair": env!("CARGO_PKG_VERSION"),
            "mysql": table::version(&server)?,
            "mysql_async": "0.37",
            "mysql_cdc": cfg!(feature = "peers").then_some("0.2"),
        }),
        json!({ "rows": args.rows, "server": backlog::SETTINGS }),
    )?;
    for (live, columns) in tables {
        Report::say("making the table");
        backlog::create(&server, live, columns)?;
        for &shape in shapes {
            Report::say(&format!("making the backlog: {}", shape.in_words()));
            let rows = measuring.size(args.rows.unwrap_or(rows(shape, columns)), 20_000);
            let backlog = Backlog::make(&server, shape, (live, columns), rows)?;
            report.measure(case((&server, &url), &backlog, measuring))?;
        }
    }
    report.end()?;
    Ok(())
}

/// Of a backlog where nothing is said. In the others the slowest of the peers takes several times as long for a row, and so
/// does making the backlog: two million in each would be hours.
fn rows(shape: Shape, columns: usize) -> u64 {
    match (shape, columns) {
        (Shape::ManyRows, 6) => 2_000_000,
        _ => 300_000,
    }
}

/// What was asked for, or the usual.
fn given<'a, T>(asked: &'a [T], usual: &'a [T]) -> &'a [T] {
    if asked.is_empty() { usual } else { asked }
}

/// Percent of the rows in the feed, and number of columns: the wide table only with few of them, unless asked for.
fn tables(args: &DecodeArgs) -> Vec<(u64, usize)> {
    if args.live.is_empty() && args.columns.is_empty() {
        return vec![(1, 6), (100, 6), (1, 50)];
    }
    let each = |live: &u64| {
        let columns = given(&args.columns, &[6]).to_vec();
        let live = *live;
        columns
            .into_iter()
            .map(move |columns| (live, columns as usize))
    };
    given(&args.live, &[1]).iter().flat_map(each).collect()
}

fn case<'a>(
    (server, url): (&'a Server, &'a str),
    backlog: &'a Backlog,
    measuring: &'a Measuring,
) -> Case<'a> {
    let ours = Drainer::Ours.name();
    let program = |drainer: Drainer| {
        let (name, role) = (drainer.name(), drainer.role());
        if let Some(reason) = drainer.missing() {
            return Program::not_run(name, role, reason);
        }
        let drain = Drain {
            drainer,
            url: url.to_owned(),
            from: backlog.begin.executed.clone(),
            rows: backlog.rows,
            transactions: backlog.transactions,
        };
        Program::new(name, role, move || {
            Job::Drain(drain.clone()).run(measuring.placed())
        })
    };
    let beside = |others: &[&str], times| {
        let others = others.iter().copied();
        Target::beside(ours, others, Figure::Cpu, Bound::TimesCheaper(times))
    };
    let floor = |figure, bound| Target::beside(ours, [Drainer::Floor.name()], figure, bound);
    let go = [Foreign::Canal.name(), Foreign::Replication.name()];
    let debezium = [
        Foreign::DebeziumDefault.name(),
        Foreign::DebeziumBest.name(),
    ];
    let mut targets = match backlog.shape {
        Shape::ManyRows => vec![
            beside(&[Drainer::MysqlCdc.name()], 4.0),
            beside(&go, 10.0),
            beside(&[Drainer::MysqlAsync.name()], 20.0),
            // 70 % of its rows a second.
            floor(Figure::Wall, Bound::TimesTheCost(1.0 / 0.7)),
        ],
        Shape::OneRowAnEvent => Vec::new(),
        Shape::OneRowATransaction => vec![
            floor(Figure::Cpu, Bound::TimesTheCost(1.4)),
            beside(&[Drainer::MysqlCdc.name()], 2.0),
            beside(&go, 3.0),
        ],
    };
    // A JVM warms up in each of its runs: beside the usual table only.
    let with_debezium = (backlog.live, backlog.columns) == (1, 6);
    match backlog.shape {
        Shape::ManyRows if with_debezium => targets.push(beside(&debezium, 100.0)),
        Shape::OneRowATransaction if with_debezium => targets.push(beside(&debezium, 15.0)),
        _ => {}
    }
    let warm_seconds = measuring.size(30, 1);
    let foreign = Foreign::ALL
        .into_iter()
        .filter(|foreign| with_debezium || !foreign.is_slow())
        .map(|foreign| foreign.program(server, backlog, (warm_seconds, measuring.placed())));
    let mut programs: Vec<Program<'_>> = Drainer::ALL.into_iter().map(program).collect();
    // Ours is the last one.
    let at = programs.len() - 1;
    programs.splice(at..at, foreign);
    let name = format!(
        "decode, {}, {} % of the rows in the feed, {} columns",
        backlog.shape.in_words(),
        backlog.live,
        backlog.columns,
    );
    Case {
        expected: BTreeMap::from([
            ("rows".to_owned(), backlog.rows),
            ("rows in the feed".to_owned(), backlog.touching),
            ("transactions".to_owned(), backlog.transactions),
        ]),
        targets,
        facts: json!({
            "rows": backlog.rows,
            "rows_in_the_feed": backlog.touching,
            "transactions": backlog.transactions,
            "binlog_bytes": backlog.bytes,
            "keys": KEYS,
        }),
        ..Case::new(name, "row", Figure::Cpu, programs)
    }
}
