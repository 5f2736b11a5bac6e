//! Heads take turns over the period: what a merger asks of its store is a small load all the time, and the cuts head
//! follows.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use onair_log::EventLog;
use onair_log::testing::Workload;
use onair_model::{Bucket, Version};
use onair_store::redb::RedbStore;
use onair_store::watched::{Call, Watch, Watched};
use onair_store::{CellKey, ShardStore};
use tokio::time::{Instant, sleep};

use crate::support::{Running, World};

/// Notes when a store's cells were read and moved.
#[derive(Debug, Default)]
struct Notes(Mutex<Vec<(Instant, Noted)>>);

type Noting = Watched<Notes, RedbStore>;

#[derive(Clone, Debug, PartialEq, Eq)]
enum Noted {
    Read(CellKey),
    Move(CellKey),
    /// All cells of a kind.
    List,
}

impl Notes {
    fn on(world: &World) -> Arc<Noting> {
        Arc::new(Watched::new(Arc::clone(&world.store), Notes::default()))
    }

    /// What was noted since the last time.
    fn take(&self) -> Vec<(Instant, Noted)> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

#[async_trait]
impl Watch for Notes {
    async fn before(&self, call: Call<'_>) {
        let noted = match call {
            Call::Cell(key) => Noted::Read(key.clone()),
            Call::Cas(key, _) => Noted::Move(key.clone()),
            Call::Cells(_) => Noted::List,
            _ => return,
        };
        self.0.lock().unwrap().push((Instant::now(), noted));
    }
}

/// Between two flushes, each of which touches every bucket.
const SPACING: Duration = Duration::from_millis(50);

/// Flushes until the next full cut.
const FULL_EVERY: u32 = 20;

/// One second: the period of a merger with less than ten buckets, and the spacing of full cuts.
const SECOND: Duration = Duration::from_secs(1);

fn start(world: &World, store: &Arc<Noting>) -> Running {
    let log = Arc::clone(&world.log) as Arc<dyn EventLog>;
    world.start_on(log, Arc::clone(store) as Arc<dyn ShardStore>)
}

/// Touches every bucket all the time for so long. What the cuts head was at each look, and how old its cut was then: the
/// time since the first full cut that is newer.
async fn busy(world: &mut World, workload: &mut Workload, long: Duration) -> Vec<Duration> {
    let log = Arc::clone(&world.log);
    let begun = Instant::now();
    let mut cuts: Vec<(Version, Instant)> = Vec::new();
    let mut ages = Vec::new();
    for number in 0.. {
        if begun.elapsed() >= long {
            break;
        }
        for bucket in world.buckets().all() {
            world.touch(workload, bucket);
        }
        let full = number % FULL_EVERY == 0;
        world.writer.write(&*log, full).await;
        if full {
            cuts.push((world.writer.version(), Instant::now()));
        }
        sleep(SPACING).await;
        let held = world.cuts_head().await.unwrap().cut.version;
        let newer = cuts.iter().find(|(version, _)| *version > held);
        ages.push(newer.map_or(Duration::ZERO, |(_, at)| at.elapsed()));
    }
    ages
}

/// The most of these moments that are within any stretch of this length.
fn most_within(length: Duration, moments: &[Instant]) -> usize {
    let within = |from: &Instant| {
        let later = moments.iter().filter(|at| *at >= from);
        later.take_while(|at| **at - *from < length).count()
    };
    moments.iter().map(within).max().unwrap_or(0)
}

/// When which head was moved.
fn moves(calls: &[(Instant, Noted)]) -> BTreeMap<Bucket, Vec<Instant>> {
    let mut moves: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for (at, call) in calls {
        if let Noted::Move(CellKey::Head(_, bucket)) = call {
            moves.entry(*bucket).or_default().push(*at);
        }
    }
    moves
}

fn moments(calls: &[(Instant, Noted)], is_one: impl Fn(&Noted) -> bool) -> Vec<Instant> {
    let each = calls.iter().filter(|(_, call)| is_one(call));
    each.map(|(at, _)| *at).collect()
}

const fn is_head(key: &CellKey) -> bool {
    matches!(key, CellKey::Head(..))
}

#[tokio::test(start_paused = true)]
async fn heads_are_spread_over_the_period_and_each_moves_once_in_it() {
    // Sixteen heads and the cuts head, ten a second.
    let period = Duration::from_millis(1700);
    let mut workload = Workload::new(1, 100, 16);
    let mut world = World::new(16, workload.rows()).await;
    let store = Notes::on(&world);
    let merger = start(&world, &store);
    world.until_cut(world.writer.version()).await;
    busy(&mut world, &mut workload, 2 * period).await;
    store.watch.take();
    let ages = busy(&mut world, &mut workload, 20 * period).await;
    let calls = store.watch.take();
    let by_bucket = moves(&calls);
    assert_eq!(by_bucket.len(), 16);
    for (bucket, moments) in &by_bucket {
        for pair in moments.windows(2) {
            let after = pair[1] - pair[0];
            let slack = after.abs_diff(period);
            assert!(slack < SPACING, "{bucket} moved again after {after:?}");
        }
        assert!((19..=21).contains(&moments.len()), "{bucket}: {moments:?}");
    }
    let heads = moments(
        &calls,
        |call| matches!(call, Noted::Move(key) if is_head(key)),
    );
    let at_once = most_within(period / 10, &heads);
    assert!(at_once <= 2, "{at_once} heads in a tenth of the period");
    let all = moments(&calls, |call| matches!(call, Noted::Move(_)));
    let a_second = most_within(SECOND, &all);
    assert!(a_second <= 10, "{a_second} moves in a second");
    // A cut is passed when all have moved after it, and the cuts head has its turn within one more period.
    let oldest = ages.into_iter().max().unwrap();
    assert!(oldest <= 2 * period + SECOND, "{oldest:?}");
    merger.stop().await;
    world.until_folded().await;
    world.whole_cut().await;
}

#[tokio::test(start_paused = true)]
async fn the_cuts_head_follows_the_heads_of_two_mergers() {
    let mut workload = Workload::new(2, 100, 16);
    let mut world = World::new(16, workload.rows()).await;
    let (ours, theirs) = (Notes::on(&world), Notes::on(&world));
    world.settings.buckets = Some("0-7".parse().unwrap());
    let keeper = start(&world, &ours);
    world.settings.buckets = Some("8-15".parse().unwrap());
    let other = start(&world, &theirs);
    world.until_cut(world.writer.version()).await;
    busy(&mut world, &mut workload, 3 * SECOND).await;
    ours.watch.take();
    theirs.watch.take();
    let ages = busy(&mut world, &mut workload, 30 * SECOND).await;
    let (ours_calls, theirs_calls) = (ours.watch.take(), theirs.watch.take());
    // The other's heads have moved after it, were then looked at, and then the cuts head has its turn.
    let oldest = ages.into_iter().max().unwrap();
    assert!(oldest <= 4 * SECOND, "{oldest:?}");
    let is_list = |call: &Noted| *call == Noted::List;
    let is_look = |call: &Noted| matches!(call, Noted::Read(key) if is_head(key));
    assert_eq!(moments(&ours_calls, is_list), []);
    // Each of the other's heads once a period, spread over it.
    let looks = moments(&ours_calls, is_look);
    assert!(looks.len() <= 8 * 30, "{}", looks.len());
    assert!(most_within(SECOND / 5, &looks) <= 3);
    // The other looks at the cuts head, and at nothing else.
    let looks = moments(&theirs_calls, |call| matches!(call, Noted::Read(_)));
    assert!(looks.len() <= 31, "{}", looks.len());
    assert_eq!(moments(&theirs_calls, is_look), []);
    for calls in [&ours_calls, &theirs_calls] {
        let moves = moments(calls, |call| matches!(call, Noted::Move(_)));
        assert!(most_within(SECOND, &moves) <= 10);
    }
    // Nobody writes: full cuts say the same again and again, and nothing is read or moved for them.
    let log = Arc::clone(&world.log);
    let version = world.writer.version();
    world.writer.write(&*log, true).await;
    world.until_cut(version).await;
    ours.watch.take();
    theirs.watch.take();
    for _ in 0..9 {
        world.writer.write(&*log, true).await;
        sleep(SECOND).await;
    }
    for calls in [ours.watch.take(), theirs.watch.take()] {
        assert_eq!(moments(&calls, is_look), []);
        let moves = moments(&calls, |call| matches!(call, Noted::Move(_)));
        assert!(moves.len() <= 1, "the cut's history: {calls:?}");
    }
    keeper.stop().await;
    other.stop().await;
    assert_eq!(world.whole_cut().await, Some(version));
}

/// More cuts come in a period than can wait.
#[tokio::test(start_paused = true)]
async fn the_cuts_head_advances_however_long_the_period() {
    let period = 200 * SECOND;
    let mut workload = Workload::new(3, 20, 16);
    let mut world = World::new(2, workload.rows()).await;
    world.settings.fold_interval = period;
    let store = Notes::on(&world);
    let merger = start(&world, &store);
    world.until_cut(world.writer.version()).await;
    let ages = busy(&mut world, &mut workload, 5 * period).await;
    let oldest = ages.into_iter().max().unwrap();
    assert!(oldest <= 2 * period + SECOND, "{oldest:?}");
    merger.stop().await;
    world.until_folded().await;
    world.whole_cut().await;
}
