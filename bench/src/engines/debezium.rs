//! Debezium's engine, which sees the same changes of a table of its own on the same server.

use anyhow::{Context as _, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use onair_xtask::peers::Peer;
use serde_json::{Value, json};

use super::World;
use crate::harness::child::{Placed, Served};
use crate::harness::{Report, Run};
use crate::latency::with;
use crate::load::{Load, Remote};
use crate::table::{self, Live};

/// Before its first measured run, for its compiler: so many transactions a second for so long.
const WARM_UP: (u32, u32) = (200, 30);

/// How often it looks for what has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Polls {
    /// All of its settings as they are: every 500 ms.
    Default,
    EveryMillisecond,
}

impl Polls {
    pub(super) fn name(self) -> &'static str {
        match self {
            Polls::Default => "Debezium's engine, defaults",
            Polls::EveryMillisecond => "Debezium's engine, poll 1 ms",
        }
    }

    /// Of its table: what is done there costs the others next to nothing, and the other way round.
    fn database(self) -> &'static str {
        match self {
            Polls::Default => table::BESIDE[0],
            Polls::EveryMillisecond => table::BESIDE[1],
        }
    }
}

/// The engine, frozen while others are measured.
pub(super) struct Debezium {
    remote: Remote,
    is_warm: bool,
    polls: Polls,
}

impl Debezium {
    /// Or why it cannot be run.
    pub(super) fn start(world: &World, polls: Polls) -> Result<Result<Self, String>> {
        let command = match Peer::Debezium.command() {
            Ok(command) => command,
            Err(reason) => return Ok(Err(reason)),
        };
        Report::say(polls.name());
        table::create_in(&world.mysql, polls.database(), 1_000, Live::All, 6)?;
        let poll = (polls == Polls::EveryMillisecond).then_some(1);
        let job = json!({ "latency": {
            "host": world.mysql.host(), "port": world.mysql.port(),
            "user": "bench", "password": "bench",
            "database": polls.database(), "table": "room", "poll_ms": poll,
        }});
        let mut command = command;
        command.arg(job.to_string());
        let mut served = Served::start(&command, Placed::Anywhere)?;
        served.ready::<Value>().context(polls.name())?;
        let debezium = Debezium {
            remote: Remote::of_changes(served),
            is_warm: false,
            polls,
        };
        debezium.signal(Signal::SIGSTOP)?;
        Ok(Ok(debezium))
    }

    /// Once; the first time after it got warm.
    pub(super) fn run(&mut self, world: &World, load: Load) -> Result<Run> {
        self.signal(Signal::SIGCONT)?;
        let load = Load {
            database: self.polls.database(),
            ..load
        };
        if !self.is_warm {
            let (rate, seconds) = WARM_UP;
            let warm_up = Load {
                rate,
                seconds: seconds.min(load.seconds * 3),
                ..load
            };
            self.watched(world, warm_up)?;
            self.is_warm = true;
        }
        let run = self.watched(world, load).context(self.polls.name())?;
        self.signal(Signal::SIGSTOP)?;
        Ok(run)
    }

    fn watched(&mut self, world: &World, load: Load) -> Result<Run> {
        let pid = self.remote.served().pid();
        let watch = || crate::harness::Watch::start(pid);
        let (ran, watch) = load.run(&world.mysql, &world.url, &mut self.remote, watch)?;
        Ok(with(watch.stop(ran.count, &[])?, ran))
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let pid = i32::try_from(self.remote.served().pid())?;
        Ok(kill(Pid::from_raw(pid), signal)?)
    }
}
