//! Heads take turns over the period: what a merger asks of its store is a small load all the time, and the cuts head
//! follows.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use onair_log::EventLog;
use onair_log::testing::Workload;
use onair_model::{Bucket, Version};
use onair_store::{Cas, Cell, CellKey, HistoryLine, SegmentId, ShardStore, StoreError, Token};
use tokio::time::{Instant, sleep};

use crate::support::{Running, World};

/// A store that notes when its cells were read and moved.
#[derive(Debug)]
struct Noting {
    inner: Arc<dyn ShardStore>,
    calls: Mutex<Vec<(Instant, Call)>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Call {
    Read(CellKey),
    Move(CellKey),
    /// All cells of a kind.
    List,
}

impl Noting {
    fn on(world: &World) -> Arc<Self> {
        Arc::new(Noting {
            inner: Arc::clone(&world.store) as _,
            calls: Mutex::default(),
        })
    }

    fn note(&self, call: Call) {
        self.calls.lock().unwrap().push((Instant::now(), call));
    }

    /// What was noted since the last time.
    fn take(&self) -> Vec<(Instant, Call)> {
        std::mem::take(&mut self.calls.lock().unwrap())
    }
}

#[async_trait]
impl ShardStore for Noting {
    async fn cell(&self, key: &CellKey) -> Result<Option<Cell>, StoreError> {
        self.note(Call::Read(key.clone()));
        self.inner.cell(key).await
    }

    async fn cas(
        &self,
        key: &CellKey,
        expect: Option<Token>,
        new: Option<Cell>,
    ) -> Result<Cas, StoreError> {
        self.note(Call::Move(key.clone()));
        self.inner.cas(key, expect, new).await
    }

    async fn cells(&self, like: &CellKey) -> Result<Vec<(CellKey, Cell)>, StoreError> {
        self.note(Call::List);
        self.inner.cells(like).await
    }

    async fn write_segment(
        &self,
        feed: &str,
        id: SegmentId,
        parts: Vec<Bytes>,
    ) -> Result<(), StoreError> {
        self.inner.write_segment(feed, id, parts).await
    }

    async fn read_segment(
        &self,
        feed: &str,
        id: SegmentId,
        parts: u32,
    ) -> Result<Vec<Bytes>, StoreError> {
        self.inner.read_segment(feed, id, parts).await
    }

    async fn delete_segment(
        &self,
        feed: &str,
        id: SegmentId,
        parts: u32,
    ) -> Result<(), StoreError> {
        self.inner.delete_segment(feed, id, parts).await
    }

    async fn write_history(&self, feed: &str, line: HistoryLine) -> Result<(), StoreError> {
        self.inner.write_history(feed, line).await
    }

    async fn history(
        &self,
        feed: &str,
        from: i64,
        to: i64,
        limit: usize,
    ) -> Result<Vec<HistoryLine>, StoreError> {
        self.inner.history(feed, from, to, limit).await
    }

    async fn delete_history(&self, feed: &str, lines: &[(i64, u128)]) -> Result<(), StoreError> {
        self.inner.delete_history(feed, lines).await
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
fn moves(calls: &[(Instant, Call)]) -> BTreeMap<Bucket, Vec<Instant>> {
    let mut moves: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for (at, call) in calls {
        if let Call::Move(CellKey::Head(_, bucket)) = call {
            moves.entry(*bucket).or_default().push(*at);
        }
    }
    moves
}

fn moments(calls: &[(Instant, Call)], is_one: impl Fn(&Call) -> bool) -> Vec<Instant> {
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
    let store = Noting::on(&world);
    let merger = start(&world, &store);
    world.until_cut(world.writer.version()).await;
    busy(&mut world, &mut workload, 2 * period).await;
    store.take();
    let ages = busy(&mut world, &mut workload, 20 * period).await;
    let calls = store.take();
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
        |call| matches!(call, Call::Move(key) if is_head(key)),
    );
    let at_once = most_within(period / 10, &heads);
    assert!(at_once <= 2, "{at_once} heads in a tenth of the period");
    let all = moments(&calls, |call| matches!(call, Call::Move(_)));
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
    let (ours, theirs) = (Noting::on(&world), Noting::on(&world));
    world.settings.buckets = Some("0-7".parse().unwrap());
    let keeper = start(&world, &ours);
    world.settings.buckets = Some("8-15".parse().unwrap());
    let other = start(&world, &theirs);
    world.until_cut(world.writer.version()).await;
    busy(&mut world, &mut workload, 3 * SECOND).await;
    ours.take();
    theirs.take();
    let ages = busy(&mut world, &mut workload, 30 * SECOND).await;
    let (ours_calls, theirs_calls) = (ours.take(), theirs.take());
    // The other's heads have moved after it, were then looked at, and then the cuts head has its turn.
    let oldest = ages.into_iter().max().unwrap();
    assert!(oldest <= 4 * SECOND, "{oldest:?}");
    let is_list = |call: &Call| *call == Call::List;
    let is_look = |call: &Call| matches!(call, Call::Read(key) if is_head(key));
    assert_eq!(moments(&ours_calls, is_list), []);
    // Each of the other's heads once a period, spread over it.
    let looks = moments(&ours_calls, is_look);
    assert!(looks.len() <= 8 * 30, "{}", looks.len());
    assert!(most_within(SECOND / 5, &looks) <= 3);
    // The other looks at the cuts head, and at nothing else.
    let looks = moments(&theirs_calls, |call| matches!(call, Call::Read(_)));
    assert!(looks.len() <= 31, "{}", looks.len());
    assert_eq!(moments(&theirs_calls, is_look), []);
    for calls in [&ours_calls, &theirs_calls] {
        let moves = moments(calls, |call| matches!(call, Call::Move(_)));
        assert!(most_within(SECOND, &moves) <= 10);
    }
    // Nobody writes: full cuts say the same again and again, and nothing is read or moved for them.
    let log = Arc::clone(&world.log);
    let version = world.writer.version();
    world.writer.write(&*log, true).await;
    world.until_cut(version).await;
    ours.take();
    theirs.take();
    for _ in 0..9 {
        world.writer.write(&*log, true).await;
        sleep(SECOND).await;
    }
    for calls in [ours.take(), theirs.take()] {
        assert_eq!(moments(&calls, is_look), []);
        let moves = moments(&calls, |call| matches!(call, Call::Move(_)));
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
    let store = Noting::on(&world);
    let merger = start(&world, &store);
    world.until_cut(world.writer.version()).await;
    let ages = busy(&mut world, &mut workload, 5 * period).await;
    let oldest = ages.into_iter().max().unwrap();
    assert!(oldest <= 2 * period + SECOND, "{oldest:?}");
    merger.stop().await;
    world.until_folded().await;
    world.whole_cut().await;
}
