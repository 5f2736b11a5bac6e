//! Programs in other languages that read the same backlog: `cargo xtask peers` builds them.

use anyhow::Result;
use onair_xtask::peers::Peer;
use onair_xtask::servers::Server;
use serde_json::{Value, json};

use super::backlog::Backlog;
use crate::harness::child::{self, Placed};
use crate::harness::{Program, Role, Run};
use crate::table::LIVE_STATUS_AT;

/// Others, as their documentation says that they are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Foreign {
    Canal,
    Replication,
    DebeziumDefault,
    DebeziumBest,
}

impl Foreign {
    pub(super) const ALL: [Self; 4] = [
        Self::Canal,
        Self::Replication,
        Self::DebeziumDefault,
        Self::DebeziumBest,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Foreign::Canal => "go-mysql, canal, defaults",
            Foreign::Replication => "go-mysql, replication, at its best",
            Foreign::DebeziumDefault => "Debezium's engine, defaults",
            Foreign::DebeziumBest => "Debezium's engine, at its best",
        }
    }

    fn peer(self) -> Peer {
        match self {
            Foreign::Canal | Foreign::Replication => Peer::Go,
            Foreign::DebeziumDefault | Foreign::DebeziumBest => Peer::Debezium,
        }
    }

    /// It warms up in each run, which takes long.
    pub(super) fn is_slow(self) -> bool {
        self.peer() == Peer::Debezium
    }

    fn job(self, server: &Server, backlog: &Backlog, warm_seconds: u32) -> Value {
        let mut drain = json!({
            "host": server.host(), "port": server.port(), "user": "bench", "password": "bench",
            "rows": backlog.rows, "transactions": backlog.transactions,
            "live_status_at": LIVE_STATUS_AT, "database": "live", "table": "room",
        });
        match self {
            Foreign::Canal => drain["library"] = "canal".into(),
            Foreign::Replication => drain["library"] = "replication".into(),
            Foreign::DebeziumDefault | Foreign::DebeziumBest => {
                let is_best = self == Foreign::DebeziumBest;
                drain["settings"] = if is_best { "best" } else { "default" }.into();
                drain["file"] = backlog.begin.file.clone().into();
                drain["pos"] = backlog.begin.position.into();
                drain["gtids"] = backlog.begin.executed.clone().into();
                drain["warm_seconds"] = warm_seconds.into();
            }
        }
        json!({ "drain": drain })
    }

    pub(super) fn program<'a>(
        self,
        server: &'a Server,
        backlog: &'a Backlog,
        (warm_seconds, placed): (u32, Placed),
    ) -> Program<'a> {
        let command = match self.peer().command() {
            Ok(command) => command,
            Err(reason) => return Program::not_run(self.name(), Role::Peer, reason),
        };
        let mut command = command;
        command.arg(self.job(server, backlog, warm_seconds).to_string());
        let run = move || -> Result<Run> { child::run(&command, placed) };
        let program = Program::new(self.name(), Role::Peer, run);
        if self.is_slow() {
            program.once_a_round()
        } else {
            program
        }
    }
}
