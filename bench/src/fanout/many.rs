//! What a commit costs a server of few subscribers and of many, and how often it is encoded. Part of `onair bench growth`.

use std::time::Duration;

use anyhow::{Context as _, Result};

use super::UPDATE_ROWS;
use super::stage::{Program, Scene, Stage};
use crate::harness::{self, Beside, Bound, Case, Figure, Measuring, Of, Role, Run, Target};

/// Commits a second.
const HZ: f64 = 2.0;
const ENCODED: &str = "frames encoded";

/// The first of `subscribers` is the measure for the others.
pub(crate) fn case<'a>(measuring: &Measuring, subscribers: &[usize]) -> Result<Case<'a>> {
    let commits = measuring.size(10, 2);
    let (scene, facts) = Scene::new(measuring, UPDATE_ROWS, UPDATE_ROWS)?;
    let name = |subscribers: usize| match subscribers {
        1 => "1 subscriber".to_owned(),
        many => format!("{many} subscribers"),
    };
    let last = subscribers.len() - 1;
    let program = |(at, &count): (usize, &usize)| {
        let role = match at {
            0 => Role::Floor,
            at if at == last => Role::Ours,
            _ => Role::Peer,
        };
        let scene = scene.with(count);
        harness::Program::new(name(count), role, move || run(&scene, commits))
    };
    let once = |&count: &usize| Target {
        ours: Of::new(name(count), Figure::Count(ENCODED)),
        beside: Beside::Nothing,
        bound: Bound::TimesTheCost(1.0),
    };
    Ok(Case {
        targets: subscribers.iter().map(once).collect(),
        facts,
        ..Case::new(
            "growth, the server with its subscribers: a frame of 25 rows",
            "commit",
            Figure::Cpu,
            subscribers.iter().enumerate().map(program).collect(),
        )
    })
}

fn run(scene: &Scene, commits: u64) -> Result<Run> {
    let mut stage = Stage::start(Program::OnAir, scene)?;
    stage.connect()?;
    stage.subscribe(Duration::ZERO)?;
    // What is done for the first time does not count.
    stage.publish(2, HZ)?;
    let encodings = |stage: &Stage| {
        stage
            .encodings()
            .context("it does not say how often it encoded")
    };
    let before = encodings(&stage)?;
    let watch = stage.watch()?;
    stage.publish(commits, HZ)?;
    let encoded = encodings(&stage)? - before;
    let run = watch.stop(commits, &[(ENCODED, encoded)])?;
    stage.end()?;
    Ok(run)
}
