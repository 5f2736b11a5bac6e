//! Every head that the store was seen to hold, compared with the server's own account.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU16;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use onair_bench::oracle::{State, Truth};
use onair_model::{Bucket, Buckets, Key, Version};
use onair_store::head::Head;
use onair_store::scylla::{ScyllaStore, Settings};
use onair_store::{CellKey, ShardStore as _};
use tokio::task::JoinSet;

use super::PATIENCE;

/// Between two looks; heads move about once a second.
pub(super) const LOOK: Duration = Duration::from_millis(200);

/// What a head said at a version: its last transaction, and the bucket's state.
type Said = (Option<String>, State);

/// Looks at the heads until it is dropped.
pub(super) struct Heads {
    seen: Arc<Mutex<Vec<(Bucket, Version, Said)>>>,
    _task: JoinSet<()>,
}

impl Heads {
    /// Straight to the store: what is done to the ways does not hide a head.
    pub(super) async fn watch(node: &str, keyspace: &str) -> Result<Self> {
        let store = ScyllaStore::open(Settings::new(vec![node.to_owned()], keyspace)).await?;
        let seen = Arc::new(Mutex::new(Vec::new()));
        let written = Arc::clone(&seen);
        let mut task = JoinSet::new();
        task.spawn(async move {
            let feed: Arc<str> = "room".into();
            let like = CellKey::Head(Arc::clone(&feed), Bucket::new(0));
            loop {
                // A store that is shot at does not always answer.
                for (key, cell) in store.cells(&like).await.unwrap_or_default() {
                    let CellKey::Head(_, bucket) = key else {
                        continue;
                    };
                    let head = Head::from_bytes(&feed, &cell.value).expect("a head");
                    let state = State {
                        digest: head.state.digest.get(),
                        count: head.state.count,
                    };
                    let gtid = head.gtid.map(|gtid| gtid.to_string());
                    let said = (bucket, head.state.d, (gtid, state));
                    let mut seen = written.lock().unwrap_or_else(PoisonError::into_inner);
                    if !seen.contains(&said) {
                        seen.push(said);
                    }
                }
                tokio::time::sleep(LOOK).await;
            }
        });
        Ok(Heads { seen, _task: task })
    }

    /// Waits until every bucket's head was seen past a version.
    pub(super) async fn past(&self, version: Version, buckets: NonZeroU16) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let behind = self.behind(version, buckets);
            if behind.is_empty() {
                return Ok(());
            }
            ensure!(
                Instant::now() < deadline,
                "after {PATIENCE:?} the heads of {behind:?} are not past {version}"
            );
            tokio::time::sleep(LOOK).await;
        }
    }

    /// The buckets whose heads were not seen past a version.
    fn behind(&self, version: Version, buckets: NonZeroU16) -> BTreeSet<Bucket> {
        let mut behind: BTreeSet<Bucket> = Buckets::new(buckets).all().collect();
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        for (bucket, d, _) in &*seen {
            if *d > version {
                behind.remove(bucket);
            }
        }
        behind
    }

    /// Compares what was seen; tells how many heads that were.
    pub(super) fn judge(&self, truth: &Truth, buckets: NonZeroU16) -> Result<usize> {
        let layout = Buckets::new(buckets);
        let states = truth.by_bucket(layout.count(), |key| layout.of(&Key::from_u64(key)).index());
        let mut at_version: BTreeMap<(Bucket, Version), &State> = BTreeMap::new();
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let mut compared = 0;
        for (bucket, d, (gtid, state)) in &*seen {
            let held = *at_version.entry((*bucket, *d)).or_insert(state);
            ensure!(held == state, "bucket {bucket} at {d} has two contents");
            // Until its first transaction a bucket's content is the scan's, which has no GTID of its own.
            if let Some(gtid) = gtid {
                let expected = states.after(gtid, bucket.index());
                ensure!(
                    expected == Some(*state),
                    "bucket {bucket} at {d}, {gtid}: the head says {state:?}, the table was {expected:?}"
                );
                compared += 1;
            }
        }
        ensure!(compared > 0, "no head was seen");
        Ok(compared)
    }
}
