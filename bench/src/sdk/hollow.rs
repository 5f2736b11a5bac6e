//! Netflix Hollow, which `cargo xtask peers` builds. It warms itself up and measures everything at once, so it runs
//! once for each size; the same run then stands in every round.

use std::cell::OnceCell;
use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use onair_xtask::peers::Peer;
use serde_json::json;

use crate::harness::child::{Placed, Served};
use crate::harness::{Measuring, Program, Role, Run};

pub(super) const NAME: &str = "Hollow";

/// At one size.
#[derive(Debug)]
pub(super) struct Hollow<'a> {
    measuring: &'a Measuring,
    rows: u64,
    runs: OnceCell<BTreeMap<String, Run>>,
}

impl<'a> Hollow<'a> {
    pub(super) fn new(measuring: &'a Measuring, rows: u64) -> Self {
        Hollow {
            measuring,
            rows,
            runs: OnceCell::new(),
        }
    }

    /// One of `load`, `index`, `lookup`, `delta`, `memory`; several are added up.
    pub(super) fn program<'b>(&'b self, of: &'static [&'static str]) -> Program<'b> {
        match Peer::Hollow.command() {
            Err(reason) => Program::not_run(NAME, Role::Peer, reason),
            Ok(_) => Program::new(NAME, Role::Peer, move || self.run(of)),
        }
    }

    fn run(&self, of: &[&str]) -> Result<Run> {
        let runs = match self.runs.get() {
            Some(runs) => runs,
            None => {
                let runs = self.measured()?;
                self.runs.get_or_init(|| runs)
            }
        };
        let mut sum: Option<Run> = None;
        for of in of {
            let run = runs.get(*of).with_context(|| format!("it says no {of}"))?;
            match &mut sum {
                None => sum = Some(run.clone()),
                Some(sum) => {
                    sum.user_seconds += run.user_seconds;
                    sum.system_seconds += run.system_seconds;
                    sum.wall_seconds += run.wall_seconds;
                }
            }
        }
        sum.context("nothing was asked")
    }

    fn measured(&self) -> Result<BTreeMap<String, Run>> {
        let job = json!({ "sdk": {
            "rows": self.rows, "deltas": 20, "changes": 1000, "lookups": 1_000_000,
            "warm_seconds": self.measuring.size(30, 2),
        }});
        let mut command = Peer::Hollow.command().map_err(anyhow::Error::msg)?;
        command.arg(job.to_string());
        let placed: Placed = self.measuring.placed();
        let mut served = Served::start(&command, placed)?;
        let mut runs: BTreeMap<String, Run> = served.hear()?;
        served.end()?;
        // It counts what it changed and found by its own draw of ids.
        for run in runs.values_mut() {
            run.counts.clear();
        }
        Ok(runs)
    }
}
