//! `onair bench engines`: OnAir as one process a role, on a real Kafka and a real Cassandra.

mod debezium;
mod heads;
mod kafka;
mod latency;
mod replay;
mod size;
mod takeover;

use std::num::NonZeroU16;
use std::thread;

use anyhow::{Context as _, Result};
use clap::ValueEnum;
use onair_xtask::servers::{Cassandra, Engine, Flavor, Kafka, Options, Server};
use serde_json::json;
use tempfile::TempDir;

pub use self::kafka::ThroughKafka;
#[cfg(feature = "peers")]
pub(crate) use self::kafka::create_topic;
use crate::fleet::{Fleet, Places, Size};
use crate::harness::{Measuring, Placed, Report};
use crate::table::{self, Live};

/// As `onair` has it where nothing is said.
const BUCKETS: NonZeroU16 = NonZeroU16::new(16).expect("not zero");

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// From a commit to the client's callback, through Kafka
    Latency,
    /// From the end of a role to the next version at a client
    Takeover,
    /// A server that has much to read from the log
    Replay,
    /// Memory of each role, and the start of a server, with many live rows
    Size,
}

/// What, how fast and how long.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  cargo run --release --features peers,engines -- bench engines --only latency"
)]
pub struct EnginesArgs {
    /// Only this; may be given again for more
    #[arg(long, value_enum)]
    only: Vec<Part>,
    /// Transactions a second; may be given again for more
    #[arg(long, value_delimiter = ',', default_values_t = [200, 1_000], value_parser = clap::value_parser!(u32).range(1..))]
    rates: Vec<u32>,
    /// Length of a run; its first second does not count
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(2..=600))]
    seconds: u32,
    /// Rows that are live already
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..=2_000_000))]
    live: u64,
    /// Live rows of a feed whose size matters; may be given again for more
    #[arg(long, value_delimiter = ',', default_values_t = [100_000, 2_000_000], value_parser = clap::value_parser!(u64).range(1..=2_000_000))]
    rows: Vec<u64>,
    #[command(flatten)]
    pub measuring: Measuring,
}

/// The engines, and OnAir on them.
pub(crate) struct World {
    pub(crate) mysql: Server,
    pub(crate) kafka: Kafka,
    #[expect(dead_code, reason = "it lives as long as this")]
    cassandra: Cassandra,
    pub(crate) fleet: Fleet,
    /// Of the account that sends.
    pub(crate) url: String,
    #[expect(dead_code, reason = "it lives as long as this")]
    dir: TempDir,
}

impl World {
    /// Starts the engines, makes the table, and starts so many of each role.
    pub(crate) fn start(live: u64, size: Size, placed: Placed) -> Result<Self> {
        Self::start_with((live, Live::All), size, placed)
    }

    /// The same with rows that are not live.
    pub(crate) fn start_with(
        (rows, live): (u64, Live),
        size: Size,
        placed: Placed,
    ) -> Result<Self> {
        // All at once: each waits most of its time.
        let (mysql, kafka, cassandra) = thread::scope(|scope| {
            let options = Options {
                // Whose threads run how long is asked.
                extra_args: vec!["--performance-schema=ON".to_owned()],
                ..Options::default()
            };
            let mysql = scope.spawn(|| Server::start_own(Flavor::Mysql97, options));
            let kafka = scope.spawn(|| Kafka::start_own(None));
            let cassandra = scope.spawn(|| Cassandra::start_own(None));
            (mysql.join(), kafka.join(), cassandra.join())
        });
        let panicked = "starting a server panicked";
        let mysql = mysql.ok().context(panicked)??;
        let kafka = kafka.ok().context(panicked)??;
        let cassandra = cassandra.ok().context(panicked)??;
        table::create(&mysql, rows, live, 6)?;
        let url = table::account(&mysql)?;
        for user in ["onair", "poller"] {
            mysql.create_user(user, user, &table::GRANTS)?;
        }
        let dir = TempDir::new()?;
        let places = Places {
            mysql: mysql.url("onair:onair", ""),
            kafka: kafka.brokers().to_owned(),
            cassandra: cassandra.address().to_owned(),
        };
        let binary = std::env::current_exe()?;
        let mut fleet = Fleet::new(binary, places, size, (dir.path(), "onair"))?;
        for role in &mut fleet.roles {
            role.place(placed);
        }
        fleet.start()?;
        Ok(World {
            mysql,
            kafka,
            cassandra,
            fleet,
            url,
            dir,
        })
    }

    /// Ends the roles, and expects that they end well.
    pub(crate) fn end(mut self) -> Result<()> {
        for role in &mut self.fleet.roles {
            role.stop()?;
        }
        Ok(())
    }
}

/// Measures.
pub fn run(args: &EnginesArgs) -> Result<()> {
    let measuring = &args.measuring;
    let parts = if args.only.is_empty() {
        Part::value_variants()
    } else {
        &args.only
    };
    let rates = measuring.size(&args.rates[..], &[100]);
    let has = |part| parts.contains(&part);
    let rows = measuring.size(&args.rows[..], &[2_000]);
    let cases = usize::from(has(Part::Latency)) * rates.len()
        + usize::from(has(Part::Takeover)) * 3
        + usize::from(has(Part::Replay))
        + usize::from(has(Part::Size)) * 2 * rows.len();
    Report::say("starting MySQL, Kafka, Cassandra and the roles");
    let two = 2;
    let size = Size {
        readers: two,
        mergers: two,
        servers: two,
        buckets: BUCKETS,
    };
    let live = measuring.size(args.live, 1_000);
    let mut world = World::start(live, size, measuring.placed())?;
    let mut report = Report::begin(
        "engines",
        measuring,
        cases,
        json!({
            "onair": env!("CARGO_PKG_VERSION"),
            "mysql": table::version(&world.mysql)?,
            "kafka": Engine::Kafka.version(),
            "cassandra": Engine::Cassandra.version(),
        }),
        json!({
            "readers": two, "mergers": two, "servers": two, "buckets": BUCKETS, "live": args.live,
            "server": ["sync_binlog=1", "innodb_flush_log_at_trx_commit=1"],
            "cassandra": ["commitlog_sync: batch"],
        }),
    )?;
    if has(Part::Latency) {
        latency::measure(&mut report, &world, rates, measuring.size(args.seconds, 3))?;
    }
    if has(Part::Takeover) {
        takeover::measure(&mut report, &mut world)?;
    }
    if has(Part::Replay) {
        replay::measure(&mut report, &mut world, measuring.size(args.seconds, 1))?;
    }
    world.end()?;
    if has(Part::Size) {
        for &rows in rows {
            size::measure(&mut report, rows)?;
        }
    }
    report.end()?;
    Ok(())
}
