//! How fast a server reads what the log holds beyond the heads.

use std::time::Instant;

use anyhow::{Context as _, Result};

use super::World;
use crate::harness::{Case, Figure, Program, Report, Role, Run};
use crate::load::{Client, Load};

/// Transactions a second while there is no merger.
const RATE: u32 = 2_000;

/// `seconds` of transactions of one row each are in the log and not in the heads, since no merger runs: then a server
/// starts. What it needs beyond them is in the time, too.
pub(super) fn measure(report: &mut Report<'_>, world: &mut World, seconds: u32) -> Result<()> {
    let load = Load {
        rate: RATE,
        seconds,
        closes: false,
        database: "live",
    };
    let world = std::cell::RefCell::new(world);
    let once = |is_behind: bool| -> Result<Run> {
        let mut world = world.borrow_mut();
        if is_behind {
            each(&mut world, "merger", |role| role.stop())?;
            let mut client = Client::connect(world.fleet.addresses()[0])?;
            load.run(&world.mysql, &world.url, &mut client, || Ok(()))
                .with_context(|| world.fleet.logs())?;
        }
        let server = world.fleet.role("server-2")?;
        server.stop()?;
        let begun = Instant::now();
        server.start()?;
        let took = begun.elapsed();
        let memory = server.watch()?.stop(1, &[])?.memory_peak_bytes;
        each(&mut world, "merger", |role| match role.is_running()? {
            true => Ok(()),
            false => role.begin(),
        })?;
        world.fleet.ready()?;
        Ok(Run {
            units: load.count(),
            wall_seconds: took.as_secs_f64(),
            memory_peak_bytes: memory,
            ..Run::default()
        })
    };
    let programs = vec![
        Program::new("the same start with nothing to replay", Role::Floor, || {
            once(false)
        }),
        Program::new("onair server", Role::Ours, || once(true)),
    ];
    let name = format!(
        "a server starts with {} transactions to replay",
        load.count()
    );
    report.measure(Case::new(name, "transaction", Figure::Wall, programs))
}

fn each(
    world: &mut World,
    role: &str,
    mut what: impl FnMut(&mut crate::process::OnAir) -> Result<()>,
) -> Result<()> {
    let mut roles = world.fleet.roles.iter_mut();
    roles.try_for_each(|of| {
        if of.name().starts_with(role) {
            what(of)
        } else {
            Ok(())
        }
    })
}
