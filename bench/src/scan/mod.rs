//! `onair bench scan`: a full pass over the live rows of a large table, by our scan, by bare SELECTs and by Debezium's
//! snapshot; with and without an index for it, while nothing writes and beside writes.
//!
//! The server does most of the work, so time by the clock is compared. Everything is in its memory.

mod debezium;
mod pass;
mod writer;

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use onair_xtask::servers::{Flavor, Options, Server};
use serde_json::json;

pub use self::pass::{Pass, Reading};
use self::writer::Writer;
use crate::harness::child::Job;
use crate::harness::{Bound, Case, Figure, Measuring, Program, Report, Role, Run, Target};
use crate::table::{self, Live};

const SETTINGS: [&str; 4] = [
    "--innodb-buffer-pool-size=1G",
    "--innodb-redo-log-capacity=1G",
    "--innodb-flush-log-at-trx-commit=0",
    "--sync-binlog=0",
];

/// What every program counts.
const LIVE_ROWS: &str = "live rows";
/// Transactions that were committed while a program ran. Not compared with anything.
const WRITES: &str = "writes beside it";

/// What is scanned, and how often.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  cargo run --release --features bench -- bench scan")]
pub struct ScanArgs {
    /// Rows of the table
    #[arg(long, default_value_t = 2_000_000)]
    rows: u64,
    /// One row in this many is live
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..))]
    live_one_in: u64,
    /// Connections of our scan
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..))]
    parallel: u32,
    /// Updates a second in the cases in which somebody writes
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    writes: u32,
    #[command(flatten)]
    pub measuring: Measuring,
}

/// Measures.
pub fn run(args: &ScanArgs) -> Result<()> {
    let options = Options {
        extra_args: SETTINGS.map(str::to_owned).to_vec(),
        ..Options::default()
    };
    let server = Server::start_own(Flavor::Mysql97, options)?;
    let url = table::account(&server)?;
    let measuring = &args.measuring;
    let rows = measuring.size(args.rows, 20_000);
    let bench = Bench {
        server: &server,
        url: &url,
        rows,
        live: rows / args.live_one_in,
        args,
    };
    let mut report = Report::begin(
        "scan",
        measuring,
        Index::ALL.len() * 2,
        json!({
            "onair": env!("CARGO_PKG_VERSION"),
            "mysql": table::version(&server)?,
            "mysql_async": "0.37",
        }),
        json!({
            "rows": rows, "live_one_in": args.live_one_in, "parallel": args.parallel,
            "writes_a_second": args.writes, "server": SETTINGS,
        }),
    )?;
    Report::say("filling the table");
    bench.create()?;
    for index in Index::ALL {
        index.make(&server)?;
        report.measure(bench.case(index, None))?;
        let writer = Writer::start(&url, args.writes, (rows, args.live_one_in))?;
        let measured = report.measure(bench.case(index, Some(&writer)));
        // A writer that failed is why the rest did.
        writer.end()?;
        measured?;
    }
    report.end()?;
    Ok(())
}

/// How the server finds the live rows.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Index {
    None,
    /// Predicate and key: the other columns are looked up row by row.
    Filtered,
    /// All that is read.
    Covering,
}

impl Index {
    const ALL: [Self; 3] = [Self::None, Self::Filtered, Self::Covering];

    fn columns(self) -> Option<String> {
        let filtered = "live_status, id";
        match self {
            Index::None => None,
            Index::Filtered => Some(filtered.to_owned()),
            Index::Covering => Some(format!("{filtered}, {}", table::COLUMNS.join(", "))),
        }
    }

    fn in_words(self) -> String {
        match self.columns() {
            None => "no index".to_owned(),
            Some(columns) => format!("an index on ({columns})"),
        }
    }

    /// The table gets it in the place of the one before.
    fn make(self, server: &Server) -> Result<()> {
        let Some(columns) = self.columns() else {
            return Ok(());
        };
        Report::say("making the index");
        let instead = match self {
            Index::Covering => "DROP INDEX live,",
            Index::None | Index::Filtered => "",
        };
        server.sql(&format!(
            "SET sql_log_bin = 0; ALTER TABLE live.room {instead} ADD INDEX live ({columns});
             ANALYZE TABLE live.room;"
        ))?;
        Ok(())
    }
}

struct Bench<'a> {
    server: &'a Server,
    url: &'a str,
    rows: u64,
    live: u64,
    args: &'a ScanArgs,
}

impl<'a> Bench<'a> {
    fn create(&self) -> Result<()> {
        let live = Live::OneIn(self.args.live_one_in);
        table::create(self.server, self.rows, live, 6)?;
        // Into the server's memory; and it must be what it is said to be.
        let live = self
            .server
            .sql("SELECT COUNT(*) FROM live.room WHERE live_status = 1 AND uid > 0")?;
        ensure!(
            live.trim() == self.live.to_string(),
            "{} rows are live",
            live.trim()
        );
        Ok(())
    }

    fn case(&self, index: Index, writer: Option<&'a Writer>) -> Case<'a> {
        let bare = |parallel| Reading::Bare { parallel };
        let several = [2, 4, 8].map(bare);
        let ours = Reading::Ours {
            parallel: self.args.parallel,
        };
        let mut programs = vec![self.pass(&bare(1), Role::Floor, writer)];
        for reading in &several {
            programs.push(self.pass(reading, Role::Peer, writer));
        }
        programs.push(self.debezium(writer));
        programs.push(self.pass(&ours, Role::Ours, writer));
        let beside = match writer {
            None => "nothing writes".to_owned(),
            Some(_) => format!("{} updates a second", self.args.writes),
        };
        let target =
            |others: Vec<String>, bound| Target::beside(ours.name(), others, Figure::Wall, bound);
        let name = format!(
            "scan of {} rows, {} of them live, {}, {beside}",
            self.rows,
            self.live,
            index.in_words()
        );
        Case {
            expected: BTreeMap::from([(LIVE_ROWS.to_owned(), self.live)]),
            targets: vec![
                target(
                    several.iter().map(Reading::name).collect(),
                    Bound::TimesTheCost(1.2),
                ),
                target(vec![debezium::NAME.to_owned()], Bound::TimesCheaper(8.0)),
            ],
            facts: json!({ "rows": self.rows, "live": self.live }),
            ..Case::new(name, "row", Figure::Wall, programs)
        }
    }

    fn pass(&self, reading: &Reading, role: Role, writer: Option<&'a Writer>) -> Program<'a> {
        let pass = Pass {
            reading: reading.clone(),
            url: self.url.to_owned(),
            rows: self.rows,
        };
        let placed = self.args.measuring.placed();
        Program::new(reading.name(), role, move || {
            beside(writer, || Job::Scan(pass.clone()).run(placed))
        })
    }

    fn debezium(&self, writer: Option<&'a Writer>) -> Program<'a> {
        let measuring = &self.args.measuring;
        let (rows, placed) = (self.rows, measuring.placed());
        match debezium::command(self.server, measuring) {
            Ok(command) => Program::new(debezium::NAME, Role::Peer, move || {
                beside(writer, || debezium::run(&command, rows, placed))
            })
            .once_a_round(),
            Err(reason) => Program::not_run(debezium::NAME, Role::Peer, reason),
        }
    }
}

/// Runs it, and counts what was written meanwhile.
fn beside(writer: Option<&Writer>, run: impl FnOnce() -> Result<Run>) -> Result<Run> {
    let Some(writer) = writer else {
        return run();
    };
    let before = writer.written();
    let run = run()?;
    Ok(run.with_counts(&[(WRITES, writer.written() - before)]))
}
