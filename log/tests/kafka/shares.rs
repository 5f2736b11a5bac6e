//! Work on a feed is divided among those that are there.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use onair_log::kafka::{KafkaLog, Settings};
use onair_log::{EventLog as _, Partition};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use super::{PATIENCE, log, open, settings, shared};
use crate::BUCKETS;

/// One of those that work; ends with the value, as a process does.
struct Worker {
    _log: Arc<KafkaLog>,
    ours: watch::Receiver<BTreeSet<Partition>>,
    _task: JoinSet<()>,
}

impl Worker {
    async fn start(settings: &Settings, feed: &'static str) -> Self {
        let log = log(settings);
        open(&log, feed).await;
        let mut share = log.share(feed).await.unwrap();
        let (tell, ours) = watch::channel(BTreeSet::new());
        let mut task = JoinSet::new();
        task.spawn(async move {
            loop {
                let partitions: Vec<Partition> = share.next().await.unwrap();
                tell.send_replace(partitions.into_iter().collect());
            }
        });
        Worker {
            _log: log,
            ours,
            _task: task,
        }
    }

    fn ours(&self) -> BTreeSet<Partition> {
        self.ours.borrow().clone()
    }
}

/// Waits until these have everything between them, each at most one partition more than another.
async fn divided(workers: &mut [&mut Worker]) {
    let since = Instant::now();
    let all = usize::from(BUCKETS) + 1;
    let least = all / workers.len();
    timeout(PATIENCE, async {
        loop {
            let shares: Vec<BTreeSet<Partition>> =
                workers.iter().map(|worker| worker.ours()).collect();
            let together: BTreeSet<&Partition> = shares.iter().flatten().collect();
            let sum: usize = shares.iter().map(BTreeSet::len).sum();
            let is_even = shares.iter().all(|share| share.len() >= least);
            if together.len() == all && sum == all && is_even {
                println!(
                    "{} workers after {:?}: {shares:?}",
                    shares.len(),
                    since.elapsed()
                );
                return;
            }
            let changes = workers
                .iter_mut()
                .map(|worker| Box::pin(worker.ours.changed()));
            let (changed, ..) = futures_util::future::select_all(changes).await;
            changed.unwrap();
        }
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn partitions_are_divided_among_all_that_are_there() {
    let Some(server) = shared() else { return };
    let settings = settings(server);
    let mut a = Worker::start(&settings, "room").await;
    divided(&mut [&mut a]).await;
    let mut b = Worker::start(&settings, "room").await;
    divided(&mut [&mut a, &mut b]).await;
    let kept = b.ours();
    drop(a);
    divided(&mut [&mut b]).await;
    assert!(b.ours().is_superset(&kept), "what it had it keeps");
}

/// Each of the storm's members is there for less than it takes to divide the work anew.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_that_come_and_go_all_the_time_leave_no_work_undone() {
    const STORM: usize = 12;
    let Some(server) = shared() else { return };
    let settings = settings(server);
    let mut stays = Worker::start(&settings, "room").await;
    divided(&mut [&mut stays]).await;
    for _ in 0..STORM {
        let mut comes = Worker::start(&settings, "room").await;
        // It may have been given something, or not yet.
        let given = comes.ours.changed();
        let _ = timeout(Duration::from_millis(300), given).await;
        drop(comes);
    }
    divided(&mut [&mut stays]).await;
    let mut late = Worker::start(&settings, "room").await;
    divided(&mut [&mut stays, &mut late]).await;
}
