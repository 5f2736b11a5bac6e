//! The memory log when it is full: appends wait in their order, followers that are too slow are told.

use std::sync::Arc;
use std::task::Poll;

use onair_log::memory::{MemoryConfig, MemoryLog};
use onair_log::{EventLog, LogError, Offset, Partition, Payload};
use onair_model::Bucket;

use crate::{cut, flush, layout};

const B0: Partition = Partition::Bucket(Bucket::new(0));

/// A log with room for four flushes of 1000 bytes, and no fifth.
async fn small() -> Arc<MemoryLog> {
    let log = MemoryLog::new(MemoryConfig {
        capacity: 6600,
        tail: None,
    });
    log.open(&layout("f")).await.unwrap();
    Arc::new(log)
}

fn of(sequence: u64) -> onair_log::Flush {
    flush("f", 0, sequence, 1000)
}

/// The offsets that the partition holds.
async fn high(log: &MemoryLog, partition: Partition) -> u64 {
    let ends = log.ends("f").await.unwrap();
    let (_, ends) = ends.into_iter().find(|(p, _)| *p == partition).unwrap();
    ends.high.0
}

/// Whether a future is done now.
async fn is_done<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
    std::future::poll_fn(|cx| {
        Poll::Ready(match std::pin::Pin::new(&mut *future).poll(cx) {
            Poll::Ready(done) => Some(done),
            Poll::Pending => None,
        })
    })
    .await
}

#[tokio::test]
async fn an_append_without_room_waits_for_a_release_and_the_next_for_its_turn() {
    let log = small().await;
    for sequence in 1..=4 {
        log.append(of(sequence)).await.unwrap();
    }
    let mut fifth = log.append(of(5));
    let mut sixth = log.append(of(6));
    // A tiny one would fit, and must not go before them.
    let mut seventh = log.append(flush("f", 0, 7, 0));
    assert!(is_done(&mut seventh).await.is_none());
    assert!(is_done(&mut fifth).await.is_none());
    assert_eq!(high(&log, B0).await, 4);
    log.release("f", B0, Offset(1));
    log.release("f", Partition::Cuts, Offset(1));
    // Done by the release, in the order of the calls, polled or not.
    assert_eq!(high(&log, B0).await, 5);
    assert!(is_done(&mut sixth).await.is_none());
    is_done(&mut fifth).await.unwrap().unwrap();
    // Dropped before it was begun, it is not done and keeps nobody waiting.
    drop(sixth);
    assert_eq!(high(&log, B0).await, 6);
    is_done(&mut seventh).await.unwrap().unwrap();
    let mut follower = log.follow("f", &[(B0, Offset(4))]).await.unwrap();
    let entries = follower.next().await.unwrap();
    let versions: Vec<_> = entries
        .iter()
        .map(|entry| match &entry.payload {
            Payload::Record(record) => record.claims().sequence(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(versions, [5, 7]);
}

#[tokio::test]
async fn a_follower_whose_next_entry_is_gone_is_told_and_others_go_on() {
    let log = small().await;
    let from = [(B0, Offset(0)), (Partition::Cuts, Offset(0))];
    let mut slow = log.follow("f", &from).await.unwrap();
    let mut fast = log.follow("f", &from).await.unwrap();
    for sequence in 1..=40u64 {
        log.append(of(sequence)).await.unwrap();
        assert_eq!(fast.next().await.unwrap().len(), 2);
        log.release("f", B0, Offset(sequence));
        log.release("f", Partition::Cuts, Offset(sequence));
    }
    for _ in 0..2 {
        let error = slow.next().await.unwrap_err();
        let LogError::OutOfRange {
            partition,
            asked,
            ends,
            ..
        } = error
        else {
            panic!("{error}");
        };
        assert_eq!((partition, asked), (B0, Offset(0)));
        assert!(ends.low > asked && ends.high == Offset(40));
        let again = log.follow("f", &from).await.map(drop);
        assert!(matches!(again, Err(LogError::OutOfRange { .. })));
    }
    let low = log.ends("f").await.unwrap()[0].1.low;
    assert!(log.follow("f", &[(B0, low)]).await.is_ok());
}

#[tokio::test]
async fn an_idle_bucket_that_nobody_folds_does_not_stop_the_others() {
    let log = small().await;
    log.append(flush("f", 2, 1, 10)).await.unwrap();
    for sequence in 2..=500u64 {
        log.append(of(sequence)).await.unwrap();
        log.release("f", B0, Offset(sequence));
        log.release("f", Partition::Cuts, Offset(sequence));
    }
    let idle = Partition::Bucket(Bucket::new(2));
    let mut follower = log.follow("f", &[(idle, Offset(0))]).await.unwrap();
    assert_eq!(follower.next().await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_flush_larger_than_all_of_it_is_taken_when_half_is_free() {
    let log = small().await;
    for sequence in 1..=4 {
        log.append(of(sequence)).await.unwrap();
    }
    let mut large = log.append(flush("f", 1, 5, 50_000));
    assert!(is_done(&mut large).await.is_none());
    log.release("f", B0, Offset(2));
    assert!(is_done(&mut large).await.is_none());
    log.release("f", B0, Offset(4));
    log.release("f", Partition::Cuts, Offset(4));
    is_done(&mut large).await.unwrap().unwrap();
    let last = log.last_cuts("f").await.unwrap();
    assert_eq!(last.last().unwrap().version, cut(5, false).version);
}
