//! Readers on threads of their own while versions come.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use crate::support::{connect, room, server};

const VERSIONS: u64 = 300;
const READS_MIN: u64 = 1000;

/// Every version holds exactly one of two rooms, and a count of versions: a torn read shows.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c03_readers_see_whole_versions_that_never_go_back() {
    let server = server(100);
    server.off(2);
    server.on(1000, room(0, "count"));
    let first = server.commit();
    let rooms = connect(&server).await;
    rooms.wait_for(first).await.unwrap();
    let (done, reads) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        let read = || {
            let mut last = rooms.snapshot();
            while !done.load(Ordering::Relaxed) {
                let now = rooms.snapshot();
                assert!(now.version() >= last.version());
                let count = now.get(&1000).map(|room| room.uid);
                assert_eq!(count, Some(now.version().sequence() - first.sequence()));
                assert_eq!(
                    (now.contains(&1), now.contains(&2)),
                    (
                        count.is_some_and(|n| n % 2 == 0),
                        count.is_some_and(|n| n % 2 == 1)
                    )
                );
                assert_eq!(now.len(), 100);
                reads.fetch_add(1, Ordering::Relaxed);
                last = now;
            }
        };
        scope.spawn(read);
        scope.spawn(read);
        for version in 1..=VERSIONS {
            let (on, off) = if version % 2 == 0 { (1, 2) } else { (2, 1) };
            server.on(on, room(on, "here"));
            server.off(off);
            server.on(1000, room(version, "count"));
            server.commit();
        }
        let last = tokio::task::block_in_place(|| {
            tokio::runtime::Handle::current().block_on(rooms.wait_for(server.version()))
        });
        while reads.load(Ordering::Relaxed) < READS_MIN {
            thread::yield_now();
        }
        done.store(true, Ordering::Relaxed);
        assert!(last.is_ok());
    });
}
