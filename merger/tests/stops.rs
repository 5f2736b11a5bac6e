//! A merger that is stopped at any point, and started again: the same content, nothing folded twice, nothing left
//! behind.

use std::collections::BTreeMap;
use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use onair_log::EventLog;
use onair_log::testing::{Opening, Workload, append};
use onair_store::head::{self, SegmentRef};
use onair_store::index::Entry;
use onair_store::redb::RedbStore;
use onair_store::watched::{Answer, Call, Watch, Watched};
use onair_store::{SegmentId, ShardStore};
use tokio::sync::Notify;

use crate::support::{FEED, World};

/// One write to the store never comes back: the place where its caller is stopped.
#[derive(Debug)]
struct Stops {
    /// Writes until then; reads are not counted, nothing differs after them.
    left: AtomicUsize,
    /// Whether the last one is done before it hangs.
    done: bool,
    reached: Notify,
}

impl Stops {
    async fn count(&self) {
        if self.left.fetch_sub(1, Ordering::Relaxed) == 0 {
            self.reached.notify_one();
            // So that what follows it cannot come to pass either.
            self.left.store(0, Ordering::Relaxed);
            pending::<()>().await;
        }
    }
}

#[async_trait]
impl Watch for Stops {
    async fn before(&self, call: Call<'_>) {
        if call.is_write() && !self.done {
            self.count().await;
        }
    }

    async fn after(&self, call: Call<'_>, _: Answer<'_>) {
        if call.is_write() && self.done {
            self.count().await;
        }
    }
}

/// Every segment that a head names or the index has.
pub(crate) async fn known(world: &World) -> BTreeMap<SegmentId, SegmentRef> {
    let mut known = BTreeMap::new();
    for bucket in world.buckets().all() {
        let head = world.head(bucket).await;
        let segments = head.iter().flat_map(head::Head::segments);
        known.extend(segments.map(|segment| (segment.id, *segment)));
    }
    let lines = world.store.history(FEED, 0, i64::MAX, 10_000).await;
    for line in lines.unwrap() {
        let entry = Entry::from_bytes(&FEED.into(), &line.value).unwrap();
        if let Entry::Superseded(gone) = entry {
            known.extend(gone.segments().map(|segment| (segment.id, *segment)));
        }
    }
    known
}

const STEPS: usize = 7;

/// The same short life each time, in which everything happens that a merger writes: first bases, deltas, merged
/// deltas, bases written anew, cuts heads, an epoch with Replace and Carry.
async fn live(world: &mut World, stops: &Arc<Watched<Stops, RedbStore>>) -> bool {
    let mut workload = Workload::new(9, 30, 3000);
    let log: Arc<dyn EventLog> = Arc::clone(&world.log) as _;
    let mut merger =
        Some(world.start_on(Arc::clone(&log), Arc::clone(stops) as Arc<dyn ShardStore>));
    let mut seen = BTreeMap::new();
    let mut killed = false;
    for step in 0..STEPS {
        if step == 4 {
            let drift = workload.writes();
            let opening = Opening {
                drift,
                ..Opening::default()
            };
            append(&*log, world.writer.open_epoch(opening)).await;
            world.writer.acknowledge();
        } else {
            let writes = workload.writes();
            world.writer.commit(writes);
            let full = step % 3 != 1 || step + 1 == STEPS;
            world.writer.write(&*log, full).await;
        }
        let folded = async {
            world.until_folded().await;
            if step + 1 == STEPS {
                world.until_cut(world.writer.version()).await;
            }
        };
        let stopped = tokio::select! {
            biased;
            () = stops.watch.reached.notified(), if !killed => true,
            () = folded => false,
        };
        if stopped {
            killed = true;
            merger.take().unwrap().kill().await;
            seen.extend(known(world).await);
            world.whole_cut().await;
            merger = Some(world.start());
            world.until_folded().await;
        }
        seen.extend(known(world).await);
    }
    let version = world.writer.version();
    world.until_cut(version).await;
    assert_eq!(world.whole_cut().await, Some(version));
    let known = known(world).await;
    for (id, segment) in seen {
        assert!(known.contains_key(&id), "left behind: {segment:?}");
    }
    merger.unwrap().stop().await;
    killed
}

#[tokio::test(start_paused = true)]
async fn a_merger_stopped_at_any_write_goes_on_as_if_it_had_not_been() {
    let mut stopped = 0;
    'points: for point in 0.. {
        for done in [false, true] {
            let mut world = World::new(2, Workload::new(8, 30, 3000).rows()).await;
            world.settings.deltas_max = 2;
            world.settings.delta_share_max = 0.25;
            println!("stopped at write {point}, done: {done}");
            let stops = Stops {
                left: AtomicUsize::new(point),
                done,
                reached: Notify::new(),
            };
            let stops = Arc::new(Watched::new(Arc::clone(&world.store), stops));
            if !live(&mut world, &stops).await {
                break 'points;
            }
            stopped += 1;
        }
    }
    println!("stopped at {stopped} points");
    assert!(stopped > 50, "{stopped}");
}
