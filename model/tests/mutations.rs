//! Every rule of the records left out in turn: the search must say that something is wrong.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use onair_model::plant::{Bug, with};

use crate::edges::parts_world;
use crate::search::World;
use crate::worlds::{crossing, forks, honest, lineages};

/// The rules of fold, parts, cut, publish and frame: the others belong to other crates.
fn rules() -> &'static [Bug] {
    let last = Bug::ALL
        .iter()
        .position(|bug| *bug == Bug::FrameRangeIgnored);
    &Bug::ALL[..=last.unwrap()]
}

/// What the search says first with the bug planted, and where.
fn first(groups: &[(&'static str, Vec<World>)], bug: Bug) -> Option<(&'static str, String)> {
    with(&[bug], || {
        let parts = parts_world().err().map(|violation| ("parts", violation));
        parts.or_else(|| {
            groups.iter().find_map(|(name, worlds)| {
                let violation = worlds.iter().find_map(|world| world.search().err())?;
                Some((*name, violation))
            })
        })
    })
}

#[test]
fn every_rule_left_out_is_noticed() {
    // Some of the worlds are enough here, and keep this short.
    let groups = [
        ("two lineages", lineages()),
        ("one epoch", honest().into_iter().step_by(4).collect()),
        ("two histories", forks().into_iter().step_by(2).collect()),
        ("two epochs", crossing().into_iter().step_by(6).collect()),
    ];
    let (next, survivors) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(|| {
                while let Some(bug) = rules().get(next.fetch_add(1, Ordering::Relaxed)) {
                    match first(&groups, *bug) {
                        Some((group, violation)) => {
                            println!("{:22} {group}: {violation}", bug.name());
                        }
                        None => survivors.lock().unwrap().push(bug.name()),
                    }
                }
            });
        }
    });
    let survivors = survivors.into_inner().unwrap();
    assert!(survivors.is_empty(), "nobody noticed: {survivors:?}");
}
