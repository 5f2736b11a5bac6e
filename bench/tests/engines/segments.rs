//! The tables in Cassandra: changed behind everybody's back, left by mergers that die between two writes, rewritten under
//! servers that load them. What heads name is whole, or the merger asks for it and then it is.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use onair_bench::seed::seed;
use onair_log::memory::{MemoryConfig, MemoryLog};
use onair_log::testing::Workload;
use onair_model::Bucket;
use onair_store::cells::{Moved, move_cell};
use onair_store::scylla::{Operator, ScyllaStore};
use onair_store::{CellKey, SegmentId, ShardStore};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::time::{Instant, sleep};

use super::feed::Feed;
use super::roles::{Merging, Serving};
use super::{cassandra, keyspace, open, until};

const BUCKETS: u16 = 2;
const B0: Bucket = Bucket::new(0);

struct World {
    log: Arc<MemoryLog>,
    store: Arc<ScyllaStore>,
    operator: Operator,
    feed: Feed,
}

impl World {
    /// A feed whose heads have a base and deltas.
    async fn new(seed: u64) -> Option<Self> {
        let settings = keyspace(cassandra()?).await;
        let store = open(&settings).await;
        let log = Arc::new(MemoryLog::new(MemoryConfig::default()));
        let workload = Workload::new(seed, 40, 2000);
        let (of_log, of_store) = (Arc::clone(&log), Arc::clone(&store));
        let mut feed = Feed::open("rooms", BUCKETS, workload, of_log, of_store).await;
        let operator = Operator::new(&settings).await;
        let merging = merge(&feed, &log, &store, settings_of_merger());
        for _ in 0..3 {
            feed.write(true).await;
            feed.until_folded().await;
        }
        merging.stop().await;
        Some(World {
            log,
            store,
            operator,
            feed,
        })
    }

    fn merge(&self) -> Merging {
        self.merge_with(settings_of_merger())
    }

    fn merge_with(&self, settings: onair_merger::Settings) -> Merging {
        merge(&self.feed, &self.log, &self.store, settings)
    }

    async fn head_segments(&self) -> Vec<SegmentId> {
        let head = self.feed.head(B0).await.expect("a head");
        head.segments().map(|segment| segment.id).collect()
    }

    /// Starts a merger, which asks for these buckets; and all is whole again.
    async fn heals(&mut self, buckets: &[Bucket]) {
        let merging = self.merge();
        self.feed.until_asked(buckets).await;
        self.settle(&merging).await;
        merging.stop().await;
    }

    async fn settle(&mut self, merging: &Merging) {
        self.feed.write(true).await;
        let feed = &self.feed;
        let is_whole = async || merging.of(feed).stopped.is_empty();
        until("no bucket is stopped", is_whole).await;
        self.feed.until_folded().await;
        let (log, store) = (Arc::clone(&self.log), Arc::clone(&self.store));
        let serving = Serving::start(&self.feed, log, store).await;
        serving.until_shown(&self.feed).await;
        serving.stop().await;
    }
}

fn settings_of_merger() -> onair_merger::Settings {
    onair_merger::Settings {
        fold_interval: Duration::from_millis(200),
        ..onair_merger::Settings::default()
    }
}

fn merge(
    feed: &Feed,
    log: &Arc<MemoryLog>,
    store: &Arc<ScyllaStore>,
    settings: onair_merger::Settings,
) -> Merging {
    let (log, store) = (Arc::clone(log), Arc::clone(store));
    Merging::start(std::slice::from_ref(feed), log, store, settings)
}

fn blob(id: SegmentId) -> String {
    format!("0x{:032x}", id.0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_segment_that_is_gone_or_changed_is_asked_for() {
    let Some(mut world) = World::new(1).await else {
        return;
    };
    let segments = world.head_segments().await;
    assert!(segments.len() > 1, "a base and deltas: {segments:?}");
    for (nth, damage) in [
        (0, "DELETE FROM {}.segments WHERE"),
        (1, "DELETE FROM {}.segments WHERE"),
        (0, "UPDATE {}.segments SET bytes = 0x00 WHERE"),
    ] {
        let segments = world.head_segments().await;
        let of = blob(segments[nth.min(segments.len() - 1)]);
        let text = format!("{damage} feed = 'rooms' AND id = {of} AND part = 0");
        world.operator.run(&text).await;
        world.heals(&[B0]).await;
    }
    // Sound bytes, and another bucket's.
    let ours = blob(world.head_segments().await[0]);
    let other = world.feed.head(Bucket::new(1)).await.expect("a head");
    let parts = world.store.read_segment("rooms", other.base.id, 1).await;
    let hex: String = parts.expect("its base")[0]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let text = format!(
        "UPDATE {{}}.segments SET bytes = 0x{hex} WHERE feed = 'rooms' AND id = {ours} AND part = 0"
    );
    world.operator.run(&text).await;
    world.heals(&[B0]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_that_are_emptied_by_hand_are_filled_again() {
    let Some(mut world) = World::new(2).await else {
        return;
    };
    world.operator.run("TRUNCATE {}.segments").await;
    let all: Vec<Bucket> = world.feed.buckets().all().collect();
    world.heals(&all).await;
    // Under a merger that runs: its next move finds no head, and it begins from the log.
    let merging = world.merge();
    world.operator.run("TRUNCATE {}.cells").await;
    world.operator.run("TRUNCATE {}.names").await;
    world.feed.forget_heads();
    world.feed.write(true).await;
    world.feed.until_folded().await;
    merging.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heads_from_an_older_backup_are_folded_on_from() {
    let Some(mut world) = World::new(3).await else {
        return;
    };
    let feed = world.feed.name();
    let keys = || {
        let heads = world.feed.buckets().all();
        let heads = heads.map(|bucket| CellKey::Head(Arc::clone(&feed), bucket));
        heads.chain([CellKey::CutsHead(Arc::clone(&feed))])
    };
    let mut backup = Vec::new();
    for key in keys() {
        let cell = world.store.cell(&key).await.expect("a cell");
        backup.push((key, cell.expect("a head").value));
    }
    let merging = world.merge();
    for _ in 0..5 {
        world.feed.write(true).await;
        world.feed.until_folded().await;
    }
    for (key, value) in &backup {
        let stands = world.store.cell(key).await.expect("a cell");
        let expect = stands.map(|cell| cell.token);
        let set = move_cell(&*world.store, key, expect, value.clone()).await;
        assert!(matches!(set, Ok(Moved::Won(_))), "{set:?}");
    }
    world.feed.forget_heads();
    world.settle(&merging).await;
    assert_eq!(world.feed.asked().await, [], "the log has it all");
    merging.stop().await;
}

/// A room that is on air for longer than anything is kept: nothing that a merger writes ends by itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_row_of_any_table_ends_by_itself() {
    let Some(world) = World::new(4).await else {
        return;
    };
    for (table, column) in [
        ("cells", "value"),
        ("segments", "bytes"),
        ("names", "noted"),
        ("windows", "noted"),
        ("history", "value"),
        ("meta", "version"),
    ] {
        let text = format!("SELECT ttl({column}) FROM {{}}.{table}");
        let found = world.operator.ints(&text).await;
        assert!(!found.is_empty(), "{table} is empty");
        assert!(found.iter().all(Option::is_none), "{table}: {found:?}");
    }
}

/// Between its segments and its head, between head and index: what it leaves is in nobody's way.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_merger_that_dies_anywhere_leaves_whole_heads() {
    const KILLS: u32 = 40;
    let seed = seed("a merger that dies");
    let Some(mut world) = World::new(seed).await else {
        return;
    };
    let mut rng = StdRng::seed_from_u64(seed);
    let eager = onair_merger::Settings {
        fold_bytes: 0,
        deltas_max: 3,
        ..settings_of_merger()
    };
    let mut folds = 0;
    for _ in 0..KILLS {
        let merging = world.merge_with(eager.clone());
        let end = Instant::now() + Duration::from_millis(rng.random_range(0..400));
        while Instant::now() < end {
            world.feed.write(rng.random()).await;
            sleep(Duration::from_millis(3)).await;
        }
        folds += merging.folds();
        drop(merging);
        world.feed.check().await;
        world.feed.whole_cut().await;
    }
    println!("{KILLS} deaths, {folds} heads moved");
    assert!(folds > u64::from(KILLS));
    let merging = world.merge();
    world.settle(&merging).await;
    assert_eq!(world.feed.asked().await, [], "nothing was lost");
    merging.stop().await;
}

/// Bases are rewritten, and what they replace is deleted at once, while servers load them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_that_load_while_bases_are_rewritten_show_the_truth() {
    const SERVERS: usize = 20;
    const WRITES: usize = 20;
    let Some(mut world) = World::new(6).await else {
        return;
    };
    let eager = onair_merger::Settings {
        fold_bytes: 0,
        deltas_max: 2,
        history_window: Duration::ZERO,
        ..settings_of_merger()
    };
    let merging = world.merge_with(eager);
    let mut bases = BTreeSet::new();
    for _ in 0..SERVERS {
        let (log, store) = (Arc::clone(&world.log), Arc::clone(&world.store));
        let serving = Serving::start(&world.feed, log, store).await;
        for _ in 0..WRITES {
            world.feed.write(true).await;
            sleep(Duration::from_millis(10)).await;
            let head = world.feed.check_bucket(B0).await;
            bases.insert(head.expect("a head").base.id);
            serving.shown(&world.feed);
        }
        serving.until_shown(&world.feed).await;
        serving.stop().await;
    }
    println!("{} bases under {SERVERS} servers", bases.len());
    assert!(bases.len() > SERVERS / 2);
    world.settle(&merging).await;
    merging.stop().await;
}
