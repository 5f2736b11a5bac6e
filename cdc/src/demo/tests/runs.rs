//! Reconciliation runs through a reader on the demo server: asked, paused, held, approved, interrupted.
//!
//! No merger is there, so the store never has the versions compared: which rows differ cannot be told, and the runs say
//! so. With all roles: `bench/tests/runs.rs`.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use onair_model::Bucket;
use onair_store::requests;
use onair_store::runs::{self, Asked, Origin, Run, State, Wish};
use tokio::time::{Instant, timeout};

use super::super::Network;
use super::lives::{Life, World};
use super::reader::on_air;
use crate::status::Phase;

/// Nothing takes longer, in paused time.
const PATIENCE: Duration = Duration::from_secs(120);

impl World {
    /// One whose scans read by one connection, statement after statement.
    async fn narrow(seed: u64) -> World {
        let mut world = World::new(seed).await;
        world.settings.scan.parallel = 1;
        world
    }

    async fn ask(&self, change: impl FnOnce(&mut Asked)) -> Run {
        let mut asked = Asked {
            feed: Arc::clone(&self.feed.config.name),
            origin: Origin::Operator,
            dry_run: false,
            rate_max: None,
        };
        change(&mut asked);
        let now = crate::clock::unix_micros();
        runs::ask(&*self.store, asked, now).await.unwrap()
    }

    /// A run that takes some 15 s: 2,000 rows of the table, 100 a second, but for the last statement.
    async fn ask_slow(&self) -> Run {
        self.ask(|asked| asked.rate_max = NonZeroU64::new(100))
            .await
    }

    async fn wish(&self, run: &Run, wish: Wish) {
        let now = crate::clock::unix_micros();
        let name = (&run.feed, &run.id);
        runs::wish(&*self.store, name, wish, now).await.unwrap();
    }

    async fn runs(&self) -> Vec<Run> {
        let all = runs::list(&*self.store, &self.feed.config.name).await;
        all.unwrap().into_iter().map(|held| held.value).collect()
    }

    /// The run once it is so.
    async fn until(&self, run: &Run, what: &str, so: impl Fn(&Run) -> bool) -> Run {
        let found = async {
            loop {
                let found = runs::find(&*self.store, &run.feed, &run.id).await;
                let found = found.unwrap().expect("the run is kept").value;
                if so(&found) {
                    return found;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        match timeout(PATIENCE, found).await {
            Ok(run) => run,
            Err(_) => panic!("never {what}: {:?}", self.runs().await),
        }
    }

    async fn until_over(&self, run: &Run) -> Run {
        self.until(run, "over", |run| run.state.is_over()).await
    }

    /// Follows; the epoch is open.
    async fn following(&self) -> Life {
        let mut life = self.start();
        life.wait("following", |now| {
            now.phase == Phase::Following && now.proofs > 0
        })
        .await;
        life
    }

    /// The smallest ids on air.
    fn on_air(&self) -> Vec<u64> {
        let rooms = self.server.table();
        let live = rooms.values().filter(|room| room.live_status == 1);
        live.map(|room| room.id).collect()
    }

    /// Scans see all rows but the first ones that are live.
    fn hide(&self, rows: usize) {
        let below = self.on_air()[rows];
        self.source.below.store(below, Ordering::Relaxed);
    }
}

#[tokio::test(start_paused = true)]
async fn a_run_that_agrees_proves_the_feed_and_reports_what_it_cost() {
    let world = World::new(41).await;
    let life = world.following().await;
    world.server.work(30);
    world.equal().await;
    let run = world.ask(|_| {}).await;
    let run = world.until_over(&run).await;
    let live = world.on_air().len() as u64;
    assert_eq!(
        (run.state, run.begun, run.detail.as_str()),
        (State::Done, 1, "")
    );
    assert_eq!((run.rows_expected, run.rows_scanned), (live, live));
    assert!(run.database_bytes > live * 8, "{run:?}");
    let drift = run.drift.clone().unwrap();
    assert_eq!((run.drift_before, run.drift_after, drift.rows()), (0, 0, 0));
    let taken = world.equal().await;
    assert_eq!(taken.proven, run.proven);
    assert_eq!(run.proven.map(|proven| proven.version), run.compared);
    assert!(run.asked <= run.started.unwrap() && run.started <= run.ended);
    life.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn drift_is_mended_and_told_though_no_merger_can_name_its_rows() {
    let world = World::new(42).await;
    let life = world.following().await;
    let before = world.equal().await;
    world.server.unlogged(|t| {
        t.insert(on_air(9_000_001, "unlogged")).unwrap();
    });
    let run = world.ask(|_| {}).await;
    let run = world.until_over(&run).await;
    assert_eq!(
        (run.state, run.drift_before, run.drift_after),
        (State::Done, 1, 0)
    );
    assert_eq!(run.drift, None);
    assert!(
        run.detail.contains("is a merger running?"),
        "{}",
        run.detail
    );
    let after = world.equal().await;
    assert_eq!(
        after.version.epoch(),
        before.version.epoch().next().unwrap()
    );
    assert_eq!(after.count, before.count + 1);
    assert_eq!(run.proven, after.proven);
    life.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_commits_while_a_finding_is_looked_up_is_in_the_new_epoch() {
    let world = World::new(43).await;
    let life = world.following().await;
    world.server.unlogged(|t| {
        t.insert(on_air(9_000_001, "unlogged")).unwrap();
    });
    let run = world.ask(|_| {}).await;
    world
        .until(&run, "compared", |run| run.compared.is_some())
        .await;
    world.server.work(100);
    let run = world.until_over(&run).await;
    assert_eq!((run.drift_before, run.drift_after), (1, 0));
    let after = world.equal().await;
    assert!(after.version.epoch() > run.compared.unwrap().epoch());
    life.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_dry_run_reports_and_changes_nothing() {
    let world = World::new(44).await;
    let life = world.following().await;
    let before = world.equal().await;
    // Beyond the guard, too.
    world.hide(200);
    let run = world.ask(|asked| asked.dry_run = true).await;
    let run = world.until_over(&run).await;
    assert_eq!(
        (run.state, run.drift_before, run.drift_after),
        (State::Done, 1, 1)
    );
    assert_eq!(run.proven, None);
    assert!(
        run.detail.contains("a run that is not dry would be held"),
        "{}",
        run.detail
    );
    world.source.below.store(0, Ordering::Relaxed);
    world.server.work(5);
    let after = world.equal().await;
    assert_eq!(after.version.epoch(), before.version.epoch());
    assert_eq!(after.proven, before.proven);
    // One that agrees does prove.
    let run = world.ask(|asked| asked.dry_run = true).await;
    let run = world.until_over(&run).await;
    assert!(run.proven.is_some() && run.drift_before == 0, "{run:?}");
    life.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn two_runs_asked_at_once_go_one_after_the_other() {
    let world = World::narrow(45).await;
    let life = world.following().await;
    let (one, two) = (world.ask_slow().await, world.ask_slow().await);
    let (first, second) = if one.id < two.id {
        (one, two)
    } else {
        (two, one)
    };
    world
        .until(&first, "running", |run| run.state == State::Running)
        .await;
    for _ in 0..50 {
        let running = world.runs().await;
        let running = running.iter().filter(|run| run.state == State::Running);
        assert!(running.count() <= 1);
        tokio::time::sleep(Duration::from_millis(700)).await;
    }
    let (first, second) = (
        world.until_over(&first).await,
        world.until_over(&second).await,
    );
    assert!(first.ended <= second.started, "{first:?} {second:?}");
    assert_eq!((first.state, second.state), (State::Done, State::Done));
    assert_eq!(world.server.counts().scans, 3);
    life.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_run_ends_at_once_and_the_next_one_begins() {
    let world = World::narrow(46).await;
    let life = world.following().await;
    let slow = world.ask_slow().await;
    world
        .until(&slow, "running", |run| run.state == State::Running)
        .await;
    let next = world.ask(|_| {}).await;
    world.wish(&slow, Wish::Cancel).await;
    let slow = world.until_over(&slow).await;
    assert_eq!((slow.state, slow.compared), (State::Cancelled, None));
    let next = world.until_over(&next).await;
    assert_eq!(next.state, State::Done);
    life.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_paused_run_goes_on_where_it_was() {
    let world = World::narrow(47).await;
    let life = world.following().await;
    let run = world.ask_slow().await;
    world
        .until(&run, "under way", |run| run.rows_scanned > 0)
        .await;
    world.wish(&run, Wish::Pause).await;
    let paused = world
        .until(&run, "paused", |run| run.state == State::Paused)
        .await;
    assert_eq!(paused.wish, None);
    let views = world.server.counts().views;
    for _ in 0..30 {
        world.server.work(3);
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert!(
        world.server.counts().views <= views + 4,
        "only ranges that were begun"
    );
    world.equal().await;
    world.wish(&run, Wish::Resume).await;
    let run = world.until_over(&run).await;
    assert_eq!(
        (run.state, run.begun, run.drift_before),
        (State::Done, 1, 0)
    );
    assert_eq!(world.server.counts().scans, 2, "the epoch's and this one");
    assert!(run.proven.is_some());
    life.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_paused_run_gives_way_to_the_merger_and_says_so_when_it_begins_again() {
    let world = World::narrow(48).await;
    let mut life = world.following().await;
    let run = world.ask_slow().await;
    world.wish(&run, Wish::Pause).await;
    assert_eq!(
        world.runs().await[0].state,
        State::Paused,
        "nobody had it yet"
    );
    world.wish(&run, Wish::Resume).await;
    world
        .until(&run, "running", |run| run.state == State::Running)
        .await;
    world.wish(&run, Wish::Pause).await;
    world
        .until(&run, "paused", |run| run.state == State::Paused)
        .await;
    let proofs = life.status.borrow().proofs;
    let store = &*world.store;
    requests::ask(store, &run.feed, Bucket::new(0), "gap")
        .await
        .unwrap();
    life.wait("the bucket stated", |now| now.proofs > proofs)
        .await;
    let answered = async {
        while !requests::standing(store, &run.feed)
            .await
            .unwrap()
            .is_empty()
        {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(PATIENCE, answered).await.expect("it is answered");
    world.wish(&run, Wish::Resume).await;
    let run = world.until_over(&run).await;
    assert_eq!((run.state, run.begun), (State::Done, 2));
    assert_eq!(
        run.detail,
        "begun again: the merger needed a scan meanwhile"
    );
    life.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_is_killed_or_stopped_leaves_its_run_to_the_next() {
    let world = World::narrow(49).await;
    let life = world.following().await;
    let run = world.ask_slow().await;
    world
        .until(&run, "under way", |run| run.rows_scanned > 0)
        .await;
    life.kill().await;
    let life = world.start();
    let again = world.until(&run, "begun again", |run| run.begun == 2).await;
    assert_eq!(again.detail, "begun again: the reader was restarted");
    assert_eq!(
        (again.state, again.started),
        (State::Running, run_started(&world, &run).await)
    );
    life.stop().await.unwrap();
    let left = world
        .until(&run, "left", |run| !run.detail.is_empty())
        .await;
    assert_eq!(left.detail, "interrupted: the reader was told to stop");
    let life = world.start();
    let run = world.until_over(&run).await;
    assert_eq!((run.state, run.begun), (State::Done, 3));
    assert_eq!(run.detail, "begun again: the reader was told to stop");
    life.stop().await.unwrap();
}

async fn run_started(world: &World, run: &Run) -> Option<i64> {
    world.until(run, "there", |_| true).await.started
}

#[tokio::test(start_paused = true)]
async fn a_run_whose_row_is_gone_is_dropped_and_the_reader_goes_on() {
    let world = World::narrow(56).await;
    let life = world.following().await;
    let run = world.ask_slow().await;
    let running = |run: &Run| run.state == State::Running;
    world.until(&run, "running", running).await;
    let forgotten = async {
        // Unless the reader moves it just then.
        while !world.runs().await.is_empty() {
            let all = runs::list(&*world.store, &run.feed).await.unwrap();
            runs::forget(&*world.store, &all[0]).await.unwrap();
        }
    };
    timeout(PATIENCE, forgotten).await.expect("it goes");
    let forgotten_at = Instant::now();
    let next = world.ask(|_| {}).await;
    let next = world.until_over(&next).await;
    assert_eq!((next.state, next.begun), (State::Done, 1));
    let took = forgotten_at.elapsed();
    assert!(
        took < Duration::from_secs(8),
        "not after the other's scan: {took:?}"
    );
    assert_eq!(world.runs().await, [next]);
    life.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn drift_that_a_scan_for_the_merger_finds_is_a_run_too() {
    let world = World::new(57).await;
    let life = world.following().await;
    world.server.unlogged(|t| {
        t.insert(on_air(9_000_001, "unlogged")).unwrap();
    });
    let feed = &world.feed.config.name;
    requests::ask(&*world.store, feed, Bucket::new(0), "fork")
        .await
        .unwrap();
    world.equal().await;
    let found = async {
        loop {
            match world.runs().await.pop() {
                Some(run) if run.state.is_over() => return run,
                _ => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    };
    let run = timeout(PATIENCE, found).await.unwrap();
    assert_eq!((run.origin, run.state), (Origin::Merger, State::Done));
    assert_eq!((run.drift_before, run.drift_after), (1, 0));
    life.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_run_whose_source_goes_away_begins_again_and_says_why() {
    let world = World::narrow(55).await;
    let mut life = world.following().await;
    let run = world.ask_slow().await;
    world
        .until(&run, "under way", |run| run.rows_scanned > 0)
        .await;
    world.server.network(Network::Down);
    let why = |run: &Run| run.detail.starts_with("interrupted: demo: cannot talk");
    world.until(&run, "interrupted", why).await;
    life.wait("connecting", |now| now.phase == Phase::Connecting)
        .await;
    world.server.network(Network::Up);
    let run = world.until_over(&run).await;
    assert_eq!((run.state, run.begun), (State::Done, 2));
    assert!(
        run.detail.starts_with("begun again: demo: cannot talk"),
        "{}",
        run.detail
    );
    life.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_approval_lets_this_finding_through_and_no_other() {
    let world = World::narrow(50).await;
    let mut life = world.following().await;
    let before = world.equal().await;
    world.hide(150);
    let run = world.ask_slow().await;
    life.wait("held", |now| now.phase == Phase::Held).await;
    let held = world
        .until(&run, "held", |run| run.state == State::Held)
        .await;
    assert!(held.detail.contains("a scan leaves"), "{}", held.detail);
    // The second scan, which is slow, too, would find everything there again.
    let below = world.source.below.swap(0, Ordering::Relaxed);
    world.server.transaction(|t| {
        t.insert(on_air(9_000_001, "meanwhile")).unwrap();
    });
    world.wish(&run, Wish::Approve).await;
    let run = world.until_over(&run).await;
    assert_eq!((run.state, run.drift_after), (State::Done, 0));
    assert!(
        run.detail.starts_with("taken: it was approved"),
        "{}",
        run.detail
    );
    world.source.below.store(below, Ordering::Relaxed);
    let after = world.equal().await;
    assert!(after.version.epoch() > before.version.epoch());
    assert!(
        after.count + 100 < before.count,
        "{} {}",
        after.count,
        before.count
    );
    assert_eq!(after.proven, run.proven);
    life.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_is_held_is_taken_when_a_second_scan_agrees_and_dropped_when_it_finds_nothing() {
    let world = World::narrow(51).await;
    let mut life = world.following().await;
    world.hide(150);
    let run = world.ask(|_| {}).await;
    life.wait("held", |now| now.phase == Phase::Held).await;
    let run = world.until_over(&run).await;
    assert_eq!((run.state, run.drift_after), (State::Done, 0));
    assert!(
        run.detail.contains("a second scan found the same"),
        "{}",
        run.detail
    );
    world.equal().await;

    // Everything is back: no loss, no guard.
    world.source.below.store(0, Ordering::Relaxed);
    let run = world.ask(|_| {}).await;
    assert_eq!(world.until_over(&run).await.drift_before, 1);
    let whole = world.equal().await;

    // Gone for one scan only.
    world.hide(150);
    world.source.then.lock().unwrap().push(0);
    let run = world.ask(|_| {}).await;
    let run = world.until_over(&run).await;
    assert_eq!((run.state, run.drift_before), (State::Done, 0));
    assert!(
        run.detail.contains("a second scan found no difference"),
        "{}",
        run.detail
    );
    assert_eq!(world.equal().await.version.epoch(), whole.version.epoch());
    life.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_held_run_can_be_cancelled_and_what_it_found_stays_as_it_was() {
    let world = World::narrow(52).await;
    let mut life = world.following().await;
    let before = world.equal().await;
    world.hide(150);
    let run = world.ask_slow().await;
    world
        .until(&run, "held", |run| run.state == State::Held)
        .await;
    world.wish(&run, Wish::Cancel).await;
    let run = world.until_over(&run).await;
    assert_eq!((run.state, run.drift_after), (State::Cancelled, 1));
    life.wait("following", |now| now.phase == Phase::Following)
        .await;
    world.source.below.store(0, Ordering::Relaxed);
    assert_eq!(world.equal().await.version.epoch(), before.version.epoch());
    life.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_epoch_that_is_held_can_be_approved() {
    let world = World::new(53).await;
    let before = world.lived().await;
    world.folded(&before).await;
    world.server.truncate();
    let mut life = world.start();
    world.source.slow.store(30_000, Ordering::Relaxed);
    life.wait("held", |now| now.phase == Phase::Held).await;
    world.server.transaction(|t| {
        t.insert(on_air(9_000_001, "after the scan")).unwrap();
    });
    let run = async {
        loop {
            if let Some(run) = world.runs().await.pop() {
                return run;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let run = timeout(PATIENCE, run).await.unwrap();
    assert_eq!((run.origin, run.state), (Origin::Epoch, State::Held));
    assert_eq!(run.rows_expected, before.count);
    world.wish(&run, Wish::Approve).await;
    let run = world.until_over(&run).await;
    assert_eq!(run.state, State::Done);
    assert!(
        run.detail.starts_with("taken: it was approved"),
        "{}",
        run.detail
    );
    let after = world.equal().await;
    assert_eq!(after.count, 1);
    assert_eq!(after.proven, run.proven);
    life.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_clock_asks_for_runs_and_old_ones_are_forgotten() {
    let mut world = World::new(54).await;
    world.settings.scan_period = Some(Duration::from_secs(10));
    let mut life = world.following().await;
    let proofs = life.status.borrow().proofs;
    life.wait("three more proofs", |now| now.proofs >= proofs + 3)
        .await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let all = world.runs().await;
    assert!(all.len() >= 3, "{all:?}");
    let as_asked = |run: &Run| run.origin == Origin::Schedule && run.state == State::Done;
    assert!(all.iter().all(as_asked), "{all:?}");
    life.stop().await.unwrap();

    world.settings.scan_period = None;
    world.settings.history_window = Duration::ZERO;
    let life = world.start();
    let gone = async {
        while !world.runs().await.is_empty() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(PATIENCE, gone).await.expect("they are forgotten");
    life.stop().await.unwrap();
}
