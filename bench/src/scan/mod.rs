//! `onair bench scan`: a full pass over the live rows of a large table, by our scan and by bare SELECTs.
//!
//! The server does most of the work, so time by the clock is compared. Everything is in its memory; nothing writes.

mod pass;

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use onair_xtask::servers::{Flavor, Options, Server};
use serde_json::json;

pub use self::pass::{Pass, Reading};
use crate::harness::child::Job;
use crate::harness::{Bound, Case, Figure, Measuring, Program, Report, Role, Target};
use crate::table::{self, Live};

const SETTINGS: [&str; 4] = [
    "--innodb-buffer-pool-size=1G",
    "--innodb-redo-log-capacity=1G",
    "--innodb-flush-log-at-trx-commit=0",
    "--sync-binlog=0",
];

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
    let mut report = Report::begin(
        "scan",
        measuring,
        2,
        json!({
            "onair": env!("CARGO_PKG_VERSION"),
            "mysql": table::version(&server)?,
            "mysql_async": "0.37",
        }),
        json!({
            "rows": rows, "live_one_in": args.live_one_in, "parallel": args.parallel,
            "server": SETTINGS,
        }),
    )?;
    Report::say("filling the table");
    create(&server, rows, args.live_one_in)?;
    for index in [Index::None, Index::Filtered] {
        if index == Index::Filtered {
            Report::say("making the index");
            server.sql(
                "SET sql_log_bin = 0; CREATE INDEX live ON live.room (live_status, id);
                 ANALYZE TABLE live.room;",
            )?;
        }
        report.measure(case(&url, (rows, args), index))?;
    }
    report.end()?;
    Ok(())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Index {
    None,
    Filtered,
}

fn create(server: &Server, rows: u64, live_one_in: u64) -> Result<()> {
    table::create(server, rows, Live::OneIn(live_one_in), 6)?;
    // Into the server's memory; and it must be what it is said to be.
    let live = server.sql("SELECT COUNT(*) FROM live.room WHERE live_status = 1 AND uid > 0")?;
    ensure!(
        live.trim() == (rows / live_one_in).to_string(),
        "{} rows are live",
        live.trim()
    );
    Ok(())
}

fn case<'a>(url: &'a str, (rows, args): (u64, &'a ScanArgs), index: Index) -> Case<'a> {
    let program = |reading: Reading, role: Role| {
        let pass = Pass {
            reading,
            url: url.to_owned(),
            rows,
        };
        Program::new(pass.reading.name(), role, move || {
            Job::Scan(pass.clone()).run(args.measuring.placed())
        })
    };
    let bare = |parallel| Reading::Bare { parallel };
    let several = [2, 4, 8].map(bare);
    let mut programs = vec![program(bare(1), Role::Floor)];
    programs.extend(several.iter().map(|way| program(way.clone(), Role::Peer)));
    let ours = Reading::Ours {
        parallel: args.parallel,
    };
    programs.push(program(ours.clone(), Role::Ours));
    let how = match index {
        Index::None => "no index",
        Index::Filtered => "an index on (live_status, id)",
    };
    let live = rows / args.live_one_in;
    let name = format!("scan of {rows} rows, {live} of them live, {how}");
    Case {
        expected: BTreeMap::from([("live rows".to_owned(), live)]),
        targets: vec![Target::beside(
            ours.name(),
            several.iter().map(Reading::name),
            Figure::Wall,
            Bound::TimesTheCost(1.2),
        )],
        facts: json!({ "rows": rows, "live": live }),
        ..Case::new(name, "row", Figure::Wall, programs)
    }
}
