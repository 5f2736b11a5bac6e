//! `onair bench decode`: a backlog of changed rows is drained from a real server, by us and by others.
//!
//! The server's binlog is prepared, then each program reads all of it from the first transaction, as a process of
//! its own. Nothing writes meanwhile.

mod backlog;
mod drain;
#[cfg(feature = "peers")]
mod peers;

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::Result;
use serde_json::json;

pub use self::backlog::Shape;
use self::backlog::{Backlog, KEYS};
pub use self::drain::{Drain, Drainer};
use crate::harness::child::Job;
use crate::harness::{Bound, Case, Figure, Program, Report, Target};
use crate::table;

/// What is drained, and how often.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  cargo run --release --features peers -- bench decode --rows 2000000\n\nThe peers, mysql_cdc and mysql_async with decoded rows, are in builds with the feature `peers`,\nwhich needs the headers of OpenSSL (Debian: libssl-dev). Without it they are printed as NOT RUN\nand their targets as unknown."
)]
pub struct DecodeArgs {
    /// Changed rows in each backlog
    #[arg(long, default_value_t = 300_000)]
    rows: u64,
    /// Rounds of floor, peers, ours, peers, ours, floor
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Only this shape of backlog; may be given again for more
    #[arg(long, value_enum)]
    shape: Vec<Shape>,
    /// Only this share of the rows in the feed, in percent; may be given again for more
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u64).range(1..=100))]
    live: Vec<u64>,
    /// Gets the results
    #[arg(long, value_name = "DIR", default_value = "bench-results")]
    out: PathBuf,
}

/// Measures.
pub fn run(args: &DecodeArgs) -> Result<()> {
    let server = backlog::server()?;
    let url = table::account(&server)?;
    let mut report = Report::begin(
        "decode",
        &args.out,
        json!({
            "onair": env!("CARGO_PKG_VERSION"),
            "mysql": table::version(&server)?,
            "mysql_async": "0.37",
            "mysql_cdc": cfg!(feature = "peers").then_some("0.2"),
        }),
        json!({ "rows": args.rows, "rounds": args.rounds, "server": backlog::SETTINGS }),
    )?;
    let shapes = if args.shape.is_empty() {
        &Shape::ALL[..]
    } else {
        &args.shape
    };
    let shares = if args.live.is_empty() {
        &[1, 100][..]
    } else {
        &args.live
    };
    for &live in shares {
        Report::say("making the table");
        backlog::create(&server, live)?;
        for &shape in shapes {
            Report::say(&format!("making the backlog: {}", shape.in_words()));
            let backlog = Backlog::make(&server, shape, live, args.rows)?;
            let case = case(&url, &backlog);
            report.add(case.measure(args.rounds, &mut Report::say)?);
        }
    }
    report.end()?;
    Ok(())
}

fn case<'a>(url: &'a str, backlog: &'a Backlog) -> Case<'a> {
    let program = |drainer: Drainer| {
        let (name, role) = (drainer.name(), drainer.role());
        if let Some(reason) = drainer.missing() {
            return Program::not_run(name, role, reason);
        }
        let drain = Drain {
            drainer,
            url: url.to_owned(),
            rows: backlog.rows,
            transactions: backlog.transactions,
        };
        Program::new(name, role, move || Job::Drain(drain.clone()).run())
    };
    let beside = |other: Drainer, bound| Target {
        beside: vec![other.name().to_owned()],
        bound,
    };
    let targets = match backlog.shape {
        Shape::ManyRows => vec![
            beside(Drainer::MysqlCdc, Bound::TimesCheaper(4.0)),
            beside(Drainer::MysqlAsync, Bound::TimesCheaper(20.0)),
        ],
        Shape::OneRowAnEvent => Vec::new(),
        Shape::OneRowATransaction => vec![
            beside(Drainer::MysqlCdc, Bound::TimesCheaper(2.0)),
            beside(Drainer::Floor, Bound::TimesTheCost(1.4)),
        ],
    };
    Case {
        name: format!(
            "decode, {}, {} % of the rows in the feed",
            backlog.shape.in_words(),
            backlog.live
        ),
        unit: "row",
        figure: Figure::Cpu,
        programs: Drainer::ALL.into_iter().map(program).collect(),
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
    }
}
