//! From the end of a role to the next version at a client that stays.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use onair_sdk::{Backoff, Feed, GtidSet, Raw};

use super::World;
use super::heads::Heads;
use crate::harness::{
    Beside, Bound, Case, Figure, Latencies, Of, Program, Report, Role, Run, Target,
};

/// Until it is given up.
const PATIENCE: Duration = Duration::from_secs(60);
/// What is promised (the default patience of a standby is 6 s).
const TARGET_SECONDS: f64 = 10.0;

const NEXT: &str = "to the next version";
const FLOOR: &str = "nothing ends";
/// A transaction that touches every bucket.
const TOUCH_ALL: &str = "UPDATE live.room SET area_id = area_id + 1 WHERE id <= 400";
/// Between two looks at the heads.
const LOOK: Duration = Duration::from_millis(20);

/// What is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Killed {
    Reader,
    Merger,
    Server,
}

impl Killed {
    const ALL: [Killed; 3] = [Killed::Reader, Killed::Merger, Killed::Server];

    fn name(self) -> &'static str {
        match self {
            Killed::Reader => "the reader is killed, a standby takes over",
            Killed::Merger => "a merger is killed, the other moves its heads",
            Killed::Server => "a server is killed, the client goes to the other",
        }
    }
}

pub(super) fn measure(report: &mut Report<'_>, world: &mut World) -> Result<()> {
    let runtime = tokio::runtime::Runtime::new()?;
    let urls: Vec<String> = world
        .fleet
        .addresses()
        .iter()
        .map(|address| format!("http://{address}"))
        .collect();
    let backoff = Backoff {
        first: Duration::from_millis(50),
        max: Duration::from_millis(500),
    };
    let feed = runtime.block_on(
        Feed::<Raw>::builder(urls.iter().map(String::as_str), "room")
            .backoff(backoff)
            .connect(),
    )?;
    let heads = runtime.block_on(Heads::open(world.fleet.cassandra(), "onair"))?;
    for end in Killed::ALL {
        let world = std::cell::RefCell::new(&mut *world);
        // Of mergers nobody sees anything but the heads that they move.
        let heads = (end == Killed::Merger).then_some(&heads);
        let once = |end: Option<Killed>| {
            let mut world = world.borrow_mut();
            runtime.block_on(one(&mut world, (&feed, heads), end))
        };
        let programs = vec![
            Program::new(FLOOR, Role::Floor, || once(None)),
            Program::new("onair", Role::Ours, || once(Some(end))),
        ];
        let figure = Figure::Wall;
        report.measure(Case {
            targets: vec![Target {
                ours: Of::new("onair", figure),
                beside: Beside::Nothing,
                bound: Bound::TimesTheCost(TARGET_SECONDS),
            }],
            ..Case::new(
                format!("takeover: {}", end.name()),
                "takeover",
                figure,
                programs,
            )
        })?;
    }
    runtime.block_on(feed.close());
    Ok(())
}

/// Ends it, commits, and waits for the commit at the client, and where they are given in the heads; then starts it
/// again.
async fn one(
    world: &mut World,
    (feed, heads): (&Feed<Raw>, Option<&Heads>),
    end: Option<Killed>,
) -> Result<Run> {
    let name = match end {
        None => None,
        Some(Killed::Reader) => Some(world.fleet.reader()?),
        Some(Killed::Merger) => Some("merger-1".to_owned()),
        Some(Killed::Server) => Some(server_of(world, feed)?),
    };
    let begun = Instant::now();
    if let Some(name) = &name {
        world.fleet.role(name)?.kill9()?;
    }
    world.mysql.sql(TOUCH_ALL)?;
    let executed = world
        .mysql
        .sql("SELECT REPLACE(@@gtid_executed, '\\n', '')")?;
    let executed: GtidSet = executed.trim().parse()?;
    let seen = async {
        let snapshot = feed.wait_for(executed).await?;
        while let Some(heads) = heads
            && !heads.are_at(snapshot.version()).await?
        {
            tokio::time::sleep(LOOK).await;
        }
        anyhow::Ok(())
    };
    match tokio::time::timeout(PATIENCE, seen).await {
        Ok(seen) => seen?,
        Err(_) => bail!("not within {PATIENCE:?}\n{}", world.fleet.logs()),
    }
    let took = begun.elapsed();
    if let Some(name) = &name {
        world.fleet.role(name)?.begin()?;
        world.fleet.ready()?;
    }
    let mut next = Latencies::new();
    next.record(took)?;
    Ok(Run {
        units: 1,
        wall_seconds: took.as_secs_f64(),
        ..Run::default()
    }
    .with_latencies(NEXT, next))
}

/// That the client is at now.
fn server_of(world: &World, feed: &Feed<Raw>) -> Result<String> {
    let status = feed.status();
    let endpoint = status.endpoint.context("the client is nowhere")?;
    let at = |role: &&crate::process::OnAir| {
        role.name().starts_with("server") && endpoint.contains(role.address())
    };
    let role = world.fleet.roles.iter().find(at);
    Ok(role.context("the client is elsewhere")?.name().to_owned())
}
