//! Random lives against the truth: a reader that restarts and opens epochs, a merger that is killed and doubled, a log
//! and a store that fail, lose answers and (the log) lose records. `ONAIR_SEED` repeats one; each prints its own.

use std::sync::Arc;
use std::time::Duration;

use onair_log::EventLog;
use onair_log::faulty as log;
use onair_log::testing::{Opening, Workload, append};
use onair_store::faulty as store;
use rand::RngExt;

use crate::support::World;

const LIVES: u64 = 4;
const STEPS: usize = 180;

/// What the log does: all that its contract allows, and records lost besides. A follower is asked seldom.
const LOG: log::Faults = log::Faults {
    dropped: 0.02,
    broken: 0.1,
    ..log::Faults::OFTEN
};

/// What the store does. Few segments have several parts to be torn, and few moves can be late or doubled.
const STORE: store::Faults = store::Faults {
    late: 0.1,
    twice: 0.12,
    torn: 0.4,
    ..store::Faults::OFTEN
};

/// What happened in a life.
#[derive(Debug, Default)]
struct Seen {
    kills: u32,
    restarts: u32,
    epochs: u32,
    answers: usize,
    cuts: usize,
}

struct Fate {
    log: log::Faults,
    store: store::Faults,
}

async fn live(seed: u64, fate: &Fate, seen: &mut Seen) -> (log::Counts, store::Counts) {
    let mut workload = Workload::new(seed, 160, 120_000);
    let mut world = World::new(3, workload.rows()).await;
    world.settings.deltas_max = 4;
    world.settings.fold_bytes = 300_000;
    world.settings.history_every = Duration::from_secs(1);
    world.settings.history_window = Duration::ZERO;
    let log = Arc::new(log::Faulty::new(Arc::clone(&world.log), seed, fate.log));
    let store = Arc::new(store::Faulty::new(
        Arc::clone(&world.store),
        seed,
        fate.store,
    ));
    let through: Arc<dyn EventLog> = Arc::clone(&log) as _;
    let start = |world: &World| world.start_on(Arc::clone(&log) as _, Arc::clone(&store) as _);
    let mut mergers = vec![start(&world)];
    for _ in 0..STEPS {
        match workload.rng.random_range(0..60) {
            0 => {
                let from = workload.checkpoint(&world.writer);
                world.writer.restart(from);
                seen.restarts += 1;
            }
            1 => {
                let drift = if workload.rng.random() {
                    workload.writes()
                } else {
                    Vec::new()
                };
                let lost = workload.rng.random_range(0..3);
                let sequence = world.writer.version().sequence() as usize;
                let opening = Opening {
                    lost: lost.min(sequence),
                    said: true,
                    drift,
                    restated: workload.rng.random(),
                };
                append(&*through, world.writer.open_epoch(opening)).await;
                world.writer.acknowledge();
                seen.epochs += 1;
            }
            2..4 => {
                let at = workload.rng.random_range(0..mergers.len());
                mergers.swap_remove(at).kill().await;
                seen.kills += 1;
                if mergers.is_empty() {
                    // Nobody moves anything now: what the store alone holds is whole.
                    if world.whole_cut().await.is_some() {
                        seen.cuts += 1;
                    }
                    mergers.push(start(&world));
                } else if workload.rng.random() {
                    mergers.push(start(&world));
                }
            }
            4 if mergers.len() < 2 => mergers.push(start(&world)),
            5..20 => {
                let pause = Duration::from_millis(workload.rng.random_range(0..3000));
                tokio::time::sleep(pause).await;
                seen.answers += world.answer(&*through).await;
            }
            _ => {}
        }
        for _ in 0..workload.rng.random_range(0..4) {
            workload.step(&mut world.writer);
        }
        let full = workload.rng.random_ratio(1, 4);
        world.writer.write(&*through, full).await;
        for bucket in world.buckets().all() {
            world.check_bucket(bucket).await;
        }
    }
    // The faults end, the reader goes on: all is folded.
    log.set(log::Faults::NONE);
    store.set(store::Faults::NONE);
    let end = world.writer.commit(workload.writes());
    world.writer.write(&*through, true).await;
    for _ in 0..60 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        seen.answers += world.answer(&*through).await;
        world.writer.write(&*through, true).await;
    }
    world.until_folded().await;
    world.until_cut(end).await;
    for merger in mergers {
        assert_eq!(merger.feed().stopped, []);
        merger.stop().await;
    }
    assert_eq!(world.whole_cut().await, Some(end));
    (log.counts(), store.counts())
}

fn seeds() -> std::ops::Range<u64> {
    #[expect(clippy::disallowed_methods, reason = "a test's own switch")]
    let given = std::env::var("ONAIR_SEED");
    match given.ok().and_then(|seed| seed.parse().ok()) {
        Some(seed) => seed..seed + 1,
        None => 1..LIVES + 1,
    }
}

#[tokio::test(start_paused = true)]
async fn without_faults_every_head_is_the_truth() {
    let fate = Fate {
        log: log::Faults::NONE,
        store: store::Faults::NONE,
    };
    for seed in seeds() {
        println!("seed {seed}");
        let mut seen = Seen::default();
        live(seed, &fate, &mut seen).await;
        assert_eq!(seen.answers, 0, "nothing was lost, nothing is asked for");
        println!("seed {seed}: {seen:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn under_faults_every_head_is_the_truth() {
    let fate = Fate {
        log: LOG,
        store: STORE,
    };
    let (mut logs, mut stores) = (log::Counts::default(), store::Counts::default());
    let mut seen = Seen::default();
    for seed in seeds() {
        println!("seed {seed}");
        let (log, store) = live(seed, &fate, &mut seen).await;
        println!("seed {seed}: log: {log}");
        println!("seed {seed}: store: {store}");
        (logs, stores) = (logs + log, stores + store);
    }
    println!("{seen:?}");
    if seeds().count() == 1 {
        return;
    }
    assert_eq!(logs.never(), [""; 0], "a kind of fault never fired");
    assert_eq!(stores.never(), [""; 0], "a kind of fault never fired");
    let Seen {
        kills,
        restarts,
        epochs,
        cuts,
        // Depends on when a kill strikes; `heals` asks for certain.
        answers: _,
    } = seen;
    assert!(kills > 5 && restarts > 5 && epochs > 5 && cuts > 5);
}
