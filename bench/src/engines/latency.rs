//! From a commit to the client's callback through Kafka, beside Kafka alone and beside Debezium.

use std::cell::RefCell;

use anyhow::{Context as _, Result};

use super::World;
use super::debezium::{Debezium, Polls};
use super::kafka::{RECEIVED, ThroughKafka};
use crate::harness::child::Job;
use crate::harness::{Beside, Bound, Case, Figure, Of, Program, Report, Role, Run, Target};
use crate::latency::{ACKNOWLEDGED, SEEN, with};
use crate::load::{Client, Load};

const KAFKA: &str = "Kafka alone, produced to received";
const ONAIR: &str = "onair, commit to the client";

pub(super) fn measure(
    report: &mut Report<'_>,
    world: &World,
    rates: &[u32],
    seconds: u32,
) -> Result<()> {
    let polls = [Polls::Default, Polls::EveryMillisecond];
    let debezium = polls.map(|polls| match Debezium::start(world, polls) {
        Ok(Ok(debezium)) => Ok(Ok(RefCell::new(debezium))),
        Ok(Err(reason)) => Ok(Err(reason)),
        Err(error) => Err(error),
    });
    let debezium: Vec<_> = debezium.into_iter().collect::<Result<_>>()?;
    for &rate in rates {
        let load = Load {
            rate,
            seconds,
            closes: false,
            database: "live",
        };
        let alone = ThroughKafka {
            brokers: world.kafka.brokers().to_owned(),
            rate,
            seconds,
        };
        let placed = report.placed();
        let mut programs = vec![Program::new(KAFKA, Role::Floor, move || {
            Job::ThroughKafka(alone.clone()).run(placed)
        })];
        for (polls, debezium) in polls.iter().zip(&debezium) {
            programs.push(match debezium {
                Ok(debezium) => Program::new(polls.name(), Role::Peer, move || {
                    debezium.borrow_mut().run(world, load)
                }),
                Err(reason) => Program::not_run(polls.name(), Role::Peer, reason),
            });
        }
        programs.push(Program::new(ONAIR, Role::Ours, || ours(world, load)));
        report.measure(case(rate, programs))?;
    }
    Ok(())
}

/// CPU is that of all roles together.
fn ours(world: &World, load: Load) -> Result<Run> {
    let mut client = Client::connect(world.fleet.addresses()[0])?;
    let watch = || world.fleet.roles.iter().map(|role| role.watch()).collect();
    let (ran, watches): (_, Vec<_>) = load
        .run(&world.mysql, &world.url, &mut client, watch)
        .with_context(|| world.fleet.logs())?;
    let runs = watches
        .into_iter()
        .map(|watch| watch.stop(ran.count, &[]))
        .collect::<Result<Vec<_>>>()?;
    Ok(with(Run::together(runs), ran))
}

fn case(rate: u32, programs: Vec<Program<'_>>) -> Case<'_> {
    let seen = Figure::Latency(SEEN, 0.99);
    let ours = Of::new(ONAIR, seen);
    let floor = Of::new(KAFKA, Figure::Latency(RECEIVED, 0.99));
    let acknowledged = Of::new(ONAIR, Figure::Latency(ACKNOWLEDGED, 0.99));
    let debezium = |polls: Polls, times| {
        let ours = ONAIR;
        Target::beside(ours, [polls.name()], seen, Bound::TimesCheaper(times))
    };
    Case {
        targets: vec![
            Target {
                ours,
                beside: Beside::Sum(vec![floor.clone(), acknowledged]),
                bound: Bound::TimesTheCost(1.5),
            },
            debezium(Polls::Default, 20.0),
            debezium(Polls::EveryMillisecond, 2.0),
        ],
        noise: Some(floor),
        ..Case::new(
            format!("through Kafka, {rate} transactions a second"),
            "transaction",
            seen,
            programs,
        )
    }
}
