//! `onair bench headline`: from a commit to the last of a thousand replicas, and beside the old way.
//!
//! OnAir runs as one process a role on Kafka and Cassandra; the replicas are in one process of their own. Rows are
//! opened and closed. Beside it the naive stack (Debezium, Kafka, a consumer that sends each change to every stream),
//! and polling by SQL, each with a table of its own.

mod board;
mod clients;
#[cfg(feature = "peers")]
mod naive;
mod poller;

use std::cell::RefCell;
use std::num::NonZeroU16;
use std::process::Command;

use anyhow::{Context as _, Result};
use onair_xtask::peers::Peer;
use onair_xtask::servers::Engine;
use serde_json::json;

pub use self::clients::Clients;
#[cfg(feature = "peers")]
pub use self::naive::{Service, Watchers};
pub use self::poller::Poller;
use crate::engines::World;
use crate::fleet::Size;
use crate::harness::child::{Job, Placed, Served};
use crate::harness::{
    Beside, Bound, Case, Figure, Measuring, Of, Program, Report, Role, Run, Target,
};
use crate::latency::{ACKNOWLEDGED, SEEN, with};
use crate::load::{Load, Remote};
use crate::table::{self, Live};

/// Server threads of an account, while something was measured.
const DATABASE_CPU: &str = "database CPU in us";
const ONAIR: &str = "onair";

/// How many, how fast, how long.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  cargo run --release --features peers,engines -- bench headline"
)]
pub struct HeadlineArgs {
    /// Replicas
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    clients: u32,
    /// Transactions a second
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..))]
    rate: u32,
    /// Length of a run; its first second does not count
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(2..=600))]
    seconds: u32,
    /// Rows that are live already, where many replicas hold them
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    live: u64,
    /// Rows of the table that is polled; one in twenty is live
    #[arg(long, default_value_t = 2_000_000, value_parser = clap::value_parser!(u64).range(20..))]
    polled: u64,
    #[command(flatten)]
    pub measuring: Measuring,
}

/// Measures.
pub fn run(args: &HeadlineArgs) -> Result<()> {
    let measuring = &args.measuring;
    let load = Load {
        rate: args.rate,
        seconds: measuring.size(args.seconds, 3),
        closes: true,
        database: "live",
    };
    let clients = measuring.size(args.clients, 20);
    let mut report = None;
    for (rows, live, clients) in [
        (args.live, Live::All, clients),
        (measuring.size(args.polled, 10_000), Live::OneIn(20), 1),
    ] {
        Report::say(&format!("a table of {rows} rows, {clients} replicas"));
        let world = world(rows, live, args.measuring.placed())?;
        let report = match &mut report {
            Some(report) => report,
            None => report.insert(begin(args, &world)?),
        };
        if live == Live::All {
            report.measure(many(&world, load, clients, measuring)?)?;
        } else {
            table::create_in(&world.mysql, table::BESIDE[0], rows, live, 6)?;
            report.measure(polling(&world, load, measuring)?)?;
        }
        world.end()?;
    }
    if let Some(report) = report {
        report.end()?;
    }
    Ok(())
}

fn world(rows: u64, live: Live, placed: Placed) -> Result<World> {
    let size = Size {
        readers: 1,
        mergers: 1,
        servers: 1,
        buckets: NonZeroU16::new(16).context("not zero")?,
    };
    World::start_with((rows, live), size, placed)
}

fn begin<'a>(args: &'a HeadlineArgs, world: &World) -> Result<Report<'a>> {
    Report::begin(
        "headline",
        &args.measuring,
        2,
        json!({
            "onair": env!("CARGO_PKG_VERSION"),
            "mysql": table::version(&world.mysql)?,
            "kafka": Engine::Kafka.version(),
            "cassandra": Engine::Cassandra.version(),
        }),
        json!({
            "clients": args.clients, "rate": args.rate, "seconds": args.seconds, "live": args.live,
            "polled": args.polled,
        }),
    )
}

/// Our replicas, in a process of their own.
fn replicas(world: &World, count: u32, placed: Placed) -> Result<Remote> {
    let job = Job::Clients(Clients {
        address: world.fleet.addresses()[0].to_owned(),
        count,
    });
    let mut served = Served::start(&job.command()?, placed)?;
    served.ready::<serde_json::Value>()?;
    Ok(Remote::new(served))
}

/// CPU is that of all roles together.
fn ours(world: &World, load: Load, replicas: &mut Remote) -> Result<Run> {
    let watch = || {
        let roles = world.fleet.roles.iter().map(|role| role.watch());
        anyhow::Ok((
            roles.collect::<Result<Vec<_>>>()?,
            database_cpu(world, "onair")?,
        ))
    };
    let (ran, (watches, before)) = load
        .run(&world.mysql, &world.url, replicas, watch)
        .with_context(|| world.fleet.logs())?;
    let after = database_cpu(world, "onair")?;
    let runs = watches
        .into_iter()
        .map(|watch| watch.stop(ran.count, &[]))
        .collect::<Result<Vec<_>>>()?;
    let run = with(Run::together(runs), ran);
    Ok(run.with_counts(&[(DATABASE_CPU, after.saturating_sub(before))]))
}

/// Microseconds that the server's threads of this account have run so far.
fn database_cpu(world: &World, user: &str) -> Result<u64> {
    let threads = world.mysql.sql(&format!(
        "SELECT thread_os_id FROM performance_schema.threads WHERE processlist_user = '{user}'"
    ))?;
    let process = world.mysql.process_id().context("the server is not ours")?;
    let mut nanos = 0;
    for thread in threads.split_whitespace() {
        nanos += crate::harness::meter::thread_nanos(process, thread.parse()?)?;
    }
    Ok(nanos / 1_000)
}

/// How the naive stack is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Naive {
    Defaults,
    /// Debezium looks every millisecond, its messages carry no schema, its producer does not linger.
    Best,
}

impl Naive {
    const ALL: [Naive; 2] = [Naive::Defaults, Naive::Best];

    fn name(self) -> &'static str {
        match self {
            Naive::Defaults => "naive stack, Debezium's defaults",
            Naive::Best => "naive stack, at its best",
        }
    }

    /// Of its table.
    fn database(self) -> &'static str {
        match self {
            Naive::Defaults => table::BESIDE[0],
            Naive::Best => table::BESIDE[1],
        }
    }
}

/// The last of many replicas.
fn many<'a>(world: &'a World, load: Load, count: u32, measuring: &Measuring) -> Result<Case<'a>> {
    let replicas = RefCell::new(replicas(world, count, Placed::Anywhere)?);
    let seen = Figure::Latency(SEEN, 0.99);
    let mut programs = Vec::new();
    for naive in Naive::ALL {
        let name = naive.name();
        let load = Load {
            database: naive.database(),
            ..load
        };
        table::create_in(&world.mysql, naive.database(), 1_000, Live::All, 6)?;
        let warm_up = measuring.size(30, 1);
        programs.push(match Peer::Debezium.command() {
            Ok(_) if !cfg!(feature = "peers") => {
                Program::not_run(name, Role::Peer, "not in this build: --features peers")
            }
            Err(reason) => Program::not_run(name, Role::Peer, reason),
            Ok(command) => Program::new(name, Role::Peer, move || {
                stack(world, (load, warm_up), count, (&command, naive))
            })
            .once_a_round(),
        });
    }
    programs.push(Program::new(ONAIR, Role::Ours, move || {
        ours(world, load, &mut replicas.borrow_mut())
    }));
    let beside = [Naive::Defaults.name()];
    Ok(Case {
        targets: vec![Target::beside(
            ONAIR,
            beside,
            seen,
            Bound::TimesCheaper(20.0),
        )],
        noise: Some(Of::new(ONAIR, Figure::Latency(ACKNOWLEDGED, 0.99))),
        ..Case::new(
            format!(
                "from a commit to the last of {count} clients, {} transactions a second",
                load.rate
            ),
            "transaction",
            seen,
            programs,
        )
    })
}

/// The naive stack, from its start to its end: others are measured without it. CPU is that of Debezium and the service.
#[cfg(feature = "peers")]
fn stack(
    world: &World,
    (load, warm_up): (Load, u32),
    count: u32,
    (command, naive): (&Command, Naive),
) -> Result<Run> {
    let topic = format!("naive-{:016x}", rand::random::<u64>());
    crate::engines::create_topic(world.kafka.brokers(), &topic)?;
    let is_best = naive == Naive::Best;
    let job = json!({ "to_kafka": {
        "host": world.mysql.host(), "port": world.mysql.port(), "user": "bench", "password": "bench",
        "database": naive.database(), "table": "room", "brokers": world.kafka.brokers(), "topic": topic,
        "poll_ms": is_best.then_some(1), "schemas": !is_best,
    }});
    let mut debezium = copy(command);
    debezium.arg(job.to_string());
    let mut debezium = Served::start(&debezium, Placed::Anywhere)?;
    debezium.ready::<serde_json::Value>().context("Debezium")?;
    let service = Job::NaiveService(Service {
        brokers: world.kafka.brokers().to_owned(),
        topic,
    });
    #[derive(serde::Deserialize)]
    struct Port {
        port: u16,
    }
    let mut service = Served::start(&service.command()?, Placed::Anywhere)?;
    let Port { port } = service.ready()?;
    let watchers = Job::NaiveWatchers(Watchers { port, count });
    let mut watchers = Served::start(&watchers.command()?, Placed::Anywhere)?;
    watchers.ready::<serde_json::Value>()?;
    let mut remote = Remote::new(watchers);
    let warm_up = Load {
        seconds: warm_up,
        ..load
    };
    let nothing = || Ok(());
    warm_up.run(&world.mysql, &world.url, &mut remote, nothing)?;
    let watch = || {
        [&debezium, &service]
            .map(Served::watch)
            .into_iter()
            .collect()
    };
    let (ran, watches): (_, Result<Vec<_>>) =
        load.run(&world.mysql, &world.url, &mut remote, || Ok(watch()))?;
    let runs = watches?
        .into_iter()
        .map(|watch| watch.stop(ran.count, &[]))
        .collect::<Result<Vec<_>>>()?;
    Ok(with(Run::together(runs), ran))
}

#[cfg(feature = "peers")]
fn copy(command: &Command) -> Command {
    let mut copy = Command::new(command.get_program());
    copy.args(command.get_args());
    copy
}

#[cfg(not(feature = "peers"))]
fn stack(_: &World, _: (Load, u32), _: u32, _: (&Command, Naive)) -> Result<Run> {
    anyhow::bail!("not in this build: --features peers")
}

/// One replica beside polls of a table like ours.
fn polling<'a>(world: &'a World, load: Load, measuring: &Measuring) -> Result<Case<'a>> {
    let one = RefCell::new(replicas(world, 1, measuring.placed())?);
    let seen = Figure::Latency(SEEN, 0.99);
    let mut programs = Vec::new();
    let name = |seconds: u64| format!("polling every {seconds} s");
    for seconds in measuring.size(&[1, 3, 5][..], &[1]) {
        let poller = Poller {
            url: world.mysql.url("poller:poller", ""),
            database: table::BESIDE[0].to_owned(),
            every_ms: seconds * 1_000,
        };
        programs.push(Program::new(name(*seconds), Role::Peer, move || {
            poll(world, load, &poller)
        }));
    }
    programs.push(Program::new(ONAIR, Role::Ours, move || {
        ours(world, load, &mut one.borrow_mut())
    }));
    let beside =
        |figure, times| Target::beside(ONAIR, [name(3)], figure, Bound::TimesCheaper(times));
    Ok(Case {
        targets: vec![
            beside(Figure::Latency(SEEN, 0.5), 100.0),
            beside(Figure::Count(DATABASE_CPU), 20.0),
            Target {
                ours: Of::new(ONAIR, seen),
                beside: Beside::Best(vec![Of::new(name(3), seen)]),
                bound: Bound::TimesCheaper(100.0),
            },
        ],
        noise: Some(Of::new(ONAIR, Figure::Latency(ACKNOWLEDGED, 0.99))),
        ..Case::new(
            format!("opens and closes seen, {} transactions a second", load.rate),
            "transaction",
            seen,
            programs,
        )
    })
}

fn poll(world: &World, load: Load, poller: &Poller) -> Result<Run> {
    let job = Job::Poller(poller.clone());
    let mut served = Served::start(&job.command()?, Placed::Anywhere)?;
    served.ready::<serde_json::Value>()?;
    let pid = served.pid();
    let mut remote = Remote::new(served);
    let load = Load {
        database: table::BESIDE[0],
        ..load
    };
    let watch = || {
        anyhow::Ok((
            crate::harness::Watch::start(pid)?,
            database_cpu(world, "poller")?,
        ))
    };
    let (ran, (watch, before)) = load.run(&world.mysql, &world.url, &mut remote, watch)?;
    let spent = database_cpu(world, "poller")?.saturating_sub(before);
    let run = watch.stop(ran.count, &[])?;
    Ok(with(run, ran).with_counts(&[(DATABASE_CPU, spent)]))
}
