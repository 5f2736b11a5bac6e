//! What each role holds in memory, and how long a server takes to start, with many live rows.

use std::cell::RefCell;
use std::time::Instant;

use anyhow::{Context as _, Result};

use super::{BUCKETS, World};
use crate::fleet::Size;
use crate::harness::meter::resident_bytes;
use crate::harness::{Case, Figure, Program, Report, Role, Run};

/// One of each role, and a feed that nothing else is done to.
pub(super) fn measure(report: &mut Report<'_>, rows: u64) -> Result<()> {
    let size = Size {
        readers: 1,
        mergers: 1,
        servers: 1,
        buckets: BUCKETS,
    };
    Report::say(&format!("a feed of {rows} rows"));
    let world = RefCell::new(World::start(rows, size, report.placed())?);
    let held = |name: &'static str| {
        let world = &world;
        Program::new(name, Role::Ours, move || {
            let world = world.borrow();
            let role = world.fleet.roles.iter().find(|role| role.name() == name);
            let pid = role.and_then(|role| role.pid());
            Ok(Run {
                units: rows,
                memory_bytes: Some(resident_bytes(pid.context("it does not run")?)?),
                ..Run::default()
            })
        })
    };
    let programs = ["cdc-1", "merger-1", "server-1"].map(held).into();
    report.measure(Case::new(
        format!("memory of each role, {rows} live rows"),
        "row",
        Figure::Memory,
        programs,
    ))?;
    let start = Program::new("onair server", Role::Ours, || {
        let mut world = world.borrow_mut();
        let server = world.fleet.role("server-1")?;
        server.stop()?;
        let begun = Instant::now();
        server.start()?;
        let wall_seconds = begun.elapsed().as_secs_f64();
        // The CPU of its whole life is that of its start.
        let run = server.lived(rows)?;
        Ok(Run {
            wall_seconds,
            ..run
        })
    });
    report.measure(Case::new(
        format!("a server starts from base shards of {rows} live rows"),
        "row",
        Figure::Wall,
        vec![start],
    ))?;
    world.into_inner().end()
}
