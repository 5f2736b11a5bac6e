//! `onair bench scan`: a full pass over the live rows of a large table, by our scan and by bare SELECTs.
//!
//! The server does most of the work, so time by the clock is compared. Everything is in its memory; nothing writes.

mod pass;

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Result, ensure};
use onair_xtask::servers::{Flavor, Options, Server};
use serde_json::json;

pub use self::pass::{Pass, Reading};
use crate::harness::child::Job;
use crate::harness::{Bound, Case, Figure, Program, Report, Role, Target};
use crate::table;

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
    /// Rounds of floor, peers, ours, peers, ours, floor
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Gets the results
    #[arg(long, value_name = "DIR", default_value = "bench-results")]
    out: PathBuf,
}

/// Measures.
pub fn run(args: &ScanArgs) -> Result<()> {
    let options = Options {
        extra_args: SETTINGS.map(str::to_owned).to_vec(),
        ..Options::default()
    };
    let server = Server::start_own(Flavor::Mysql97, options)?;
    let url = table::account(&server)?;
    let mut report = Report::begin(
        "scan",
        &args.out,
        json!({
            "onair": env!("CARGO_PKG_VERSION"),
            "mysql": table::version(&server)?,
            "mysql_async": "0.37",
        }),
        json!({
            "rows": args.rows, "live_one_in": args.live_one_in, "parallel": args.parallel,
            "rounds": args.rounds, "server": SETTINGS,
        }),
    )?;
    Report::say("filling the table");
    create(&server, args)?;
    for index in [Index::None, Index::Filtered] {
        if index == Index::Filtered {
            Report::say("making the index");
            server.sql(
                "SET sql_log_bin = 0; CREATE INDEX live ON live.room (live_status, id);
                 ANALYZE TABLE live.room;",
            )?;
        }
        let case = case(&url, args, index);
        report.add(case.measure(args.rounds, &mut Report::say)?);
    }
    report.end()?;
    Ok(())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Index {
    None,
    Filtered,
}

fn create(server: &Server, args: &ScanArgs) -> Result<()> {
    let ScanArgs {
        rows, live_one_in, ..
    } = args;
    server.sql(&format!(
        "SET sql_log_bin = 0;
         CREATE DATABASE live;
         CREATE TABLE live.room (
           uid         BIGINT UNSIGNED NOT NULL,
           id          BIGINT UNSIGNED NOT NULL PRIMARY KEY,
           area_id     INT NOT NULL,
           title       VARCHAR(120) CHARACTER SET utf8mb4 NOT NULL,
           live_status TINYINT NOT NULL,
           live_time   DATETIME(6) NULL
         );
         SET SESSION cte_max_recursion_depth = {rows};
         INSERT INTO live.room (uid, id, area_id, title, live_status, live_time)
         WITH RECURSIVE room (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM room WHERE n < {rows})
         SELECT 1000000 + n * 7, n, n % 40, CONCAT('Late night jazz and tea, ', LPAD(n, 7, '0')),
                n % {live_one_in} = 0, '2026-11-22 10:00:00.123456'
         FROM room;
         ANALYZE TABLE live.room;"
    ))?;
    // Into the server's memory; and it must be what it is said to be.
    let live = server.sql("SELECT COUNT(*) FROM live.room WHERE live_status = 1 AND uid > 0")?;
    ensure!(
        live.trim() == (rows / live_one_in).to_string(),
        "{} rows are live",
        live.trim()
    );
    Ok(())
}

fn case<'a>(url: &'a str, args: &'a ScanArgs, index: Index) -> Case<'a> {
    let program = |reading: Reading, role: Role| {
        let pass = Pass {
            reading,
            url: url.to_owned(),
            rows: args.rows,
        };
        Program::new(pass.reading.name(), role, move || {
            Job::Scan(pass.clone()).run()
        })
    };
    let bare = |parallel| Reading::Bare { parallel };
    let several = [2, 4, 8].map(bare);
    let mut programs = vec![program(bare(1), Role::Floor)];
    programs.extend(several.iter().map(|way| program(way.clone(), Role::Peer)));
    let ours = Reading::Ours {
        parallel: args.parallel,
    };
    programs.push(program(ours, Role::Ours));
    let how = match index {
        Index::None => "no index",
        Index::Filtered => "an index on (live_status, id)",
    };
    let live = args.rows / args.live_one_in;
    Case {
        name: format!("scan of {} rows, {live} of them live, {how}", args.rows),
        unit: "row",
        figure: Figure::Wall,
        programs,
        expected: BTreeMap::from([("live rows".to_owned(), live)]),
        targets: vec![Target {
            beside: several.iter().map(Reading::name).collect(),
            bound: Bound::TimesTheCost(1.2),
        }],
        facts: json!({ "rows": args.rows, "live": live }),
    }
}
