//! Cases for a log that answers.

use super::*;

pub(super) async fn a_feed_is_opened_once(log: &dyn EventLog) {
    let layout = layout();
    let not_open = |done: Result<(), LogError>| {
        assert!(matches!(done, Err(LogError::NotOpen { .. })), "{done:?}");
    };
    not_open(log.append(small(&layout, 1, 1)).await);
    not_open(log.ends(&layout.feed).await.map(drop));
    not_open(log.follow(&layout.feed, &[]).await.map(drop));
    not_open(log.last_cuts(&layout.feed).await.map(drop));
    log.release(&layout.feed, Partition::Cuts, Offset(3));
    let id = log.open(&layout).await.unwrap();
    assert_eq!(log.open(&layout).await.unwrap(), id);
    let other = Layout {
        buckets: Buckets::new(NonZeroU16::new(BUCKETS + 1).unwrap()),
        ..layout.clone()
    };
    let opened = log.open(&other).await;
    assert!(
        matches!(opened, Err(LogError::Mismatch { .. })),
        "{opened:?}"
    );
    for (_, Ends { low, high }) in log.ends(&layout.feed).await.unwrap() {
        assert_eq!(low, high);
    }
    assert_eq!(log.last_cuts(&layout.feed).await.unwrap(), []);
    let nowhere = small(&layout, 1, 1);
    let nowhere = Flush {
        records: vec![(Bucket::new(BUCKETS), nowhere.records[0].1.clone())],
        ..nowhere
    };
    assert!(matches!(
        log.append(nowhere).await,
        Err(LogError::Refused { .. })
    ));
    for (_, Ends { low, high }) in log.ends(&layout.feed).await.unwrap() {
        assert_eq!(low, high, "nothing of a refused flush is there");
    }
}

pub(super) async fn entries_come_back_as_they_were_written(log: &dyn EventLog) {
    let layout = layout();
    log.open(&layout).await.unwrap();
    let whole = |body, part, parts| Record {
        body,
        part,
        parts,
        through: version(1, 900),
        ..record(u64::MAX, 7, 10)
    };
    let rows = vec![
        (Key::from_u64(1), Row::new(vec![7; 300_000].into())),
        (Key::copy_from(b"text"), Row::new(vec![].into())),
    ];
    let d = version(1, 6);
    let replace = |part| {
        whole(
            Body::Replace {
                d,
                rows: rows.clone(),
            },
            part,
            2,
        )
    };
    let progress = whole(
        Body::Commits {
            prev: d,
            commits: Vec::new(),
        },
        0,
        1,
    );
    let carry = whole(Body::Carry { old: version(0, 3) }, 0, 1);
    let many = CutRecord {
        executed: "3e11fa47-71ca-11e1-9e33-c80aa9429562:1-39:41:tag1:1-2"
            .parse()
            .unwrap(),
        gtid: None,
        touched: (0..BUCKETS)
            .map(|bucket| (Bucket::new(bucket), d))
            .collect(),
        full: true,
        proven: Some(Proven { version: d, at: -1 }),
        lost_tail: true,
        ..cut(1, 900)
    };
    let records = vec![(0, replace(0)), (0, replace(1)), (2, progress), (1, carry)];
    let written = flush(&layout, records, many);
    let from = lows(log, &layout).await;
    log.append(written.clone()).await.unwrap();
    let entries = read(log, &layout, &from, 5).await;
    Sorted::default().take(&entries);
    for partition in partitions() {
        let found: Vec<_> = entries
            .iter()
            .filter(|entry| entry.partition == partition)
            .collect();
        match partition {
            Partition::Cuts => {
                let [
                    Entry {
                        payload: Payload::Cut(cut),
                        ..
                    },
                ] = found[..]
                else {
                    panic!("{found:?}");
                };
                assert_eq!(*cut, written.cut);
            }
            Partition::Bucket(bucket) => {
                let written = written.records.iter().filter(|(of, _)| *of == bucket);
                let written: Vec<_> = written.map(|(_, record)| record).collect();
                let found: Vec<_> = found
                    .iter()
                    .map(|entry| match &entry.payload {
                        Payload::Record(record) => record,
                        other => panic!("{other:?}"),
                    })
                    .collect();
                assert_eq!(found, written);
            }
        }
    }
}

pub(super) async fn followers_see_their_partitions_from_their_offsets(log: &dyn EventLog) {
    let layout = layout();
    log.open(&layout).await.unwrap();
    let from = lows(log, &layout).await;
    for sequence in 1..=30 {
        log.append(small(&layout, 1, sequence)).await.unwrap();
    }
    let mut all = Sorted::default();
    let entries = read(log, &layout, &from, 60).await;
    all.take(&entries);
    assert_eq!(all.of(Partition::Cuts), (1..=30).collect::<Vec<_>>());
    for bucket in 0..BUCKETS {
        let of: Vec<u64> = (1..=30)
            .filter(|n| n % u64::from(BUCKETS) == u64::from(bucket))
            .collect();
        assert_eq!(all.of(Partition::Bucket(Bucket::new(bucket))), of);
    }
    for (partition, Ends { high, .. }) in log.ends(&layout.feed).await.unwrap() {
        assert!(all.last[&partition] < high);
    }
    // One partition from the middle of it, and from each offset that an entry has.
    let one = Partition::Bucket(Bucket::new(1));
    let mine: Vec<_> = entries
        .iter()
        .filter(|entry| entry.partition == one)
        .collect();
    for (at, entry) in mine.iter().enumerate() {
        let rest = read(log, &layout, &[(one, entry.offset)], mine.len() - at).await;
        assert!(rest.iter().all(|found| found.partition == one));
        assert_eq!(rest[0].offset, entry.offset);
    }
    // Two partitions from places of their own.
    let half = [
        (one, mine[6].offset),
        (Partition::Cuts, from[usize::from(BUCKETS)].1),
    ];
    let mut two = Sorted::default();
    two.take(&read(log, &layout, &half, mine.len() - 6 + 30).await);
    assert_eq!(two.of(one).len(), mine.len() - 6);
    // From the ends nothing comes but what is new.
    let ends = log.ends(&layout.feed).await.unwrap();
    let ends: Vec<_> = ends.iter().map(|(p, ends)| (*p, ends.high)).collect();
    log.append(small(&layout, 1, 31)).await.unwrap();
    let mut fresh = Sorted::default();
    fresh.take(&read(log, &layout, &ends, 2).await);
    assert_eq!(fresh.of(one), [31]);
    assert_eq!(fresh.of(Partition::Cuts), [31]);
}

pub(super) async fn a_waiting_follower_is_woken_and_may_be_cancelled(log: &dyn EventLog) {
    let layout = layout();
    log.open(&layout).await.unwrap();
    let from = lows(log, &layout).await;
    let mut follower = log.follow(&layout.feed, &from).await.unwrap();
    let mut seen = Sorted::default();
    let count = |seen: &Sorted| seen.versions.values().flatten().count();
    for sequence in 1..=20 {
        // Given up while it waits: nothing is lost.
        let given_up = tokio::select! {
            biased;
            more = follower.next() => panic!("{more:?}"),
            () = tokio::task::yield_now() => log.append(small(&layout, 1, 2 * sequence - 1)),
        };
        given_up.await.unwrap();
        // Waiting while the next is appended: woken.
        while count(&seen) < 4 * sequence as usize - 2 {
            seen.take(&follower.next().await.unwrap());
        }
        let (more, appended) = tokio::join!(
            biased;
            follower.next(),
            log.append(small(&layout, 1, 2 * sequence))
        );
        appended.unwrap();
        seen.take(&more.unwrap());
        while count(&seen) < 4 * sequence as usize {
            seen.take(&follower.next().await.unwrap());
        }
    }
    assert_eq!(seen.of(Partition::Cuts), (1..=40).collect::<Vec<_>>());
}

pub(super) async fn places_that_never_were_are_out_of_range(log: &dyn EventLog) {
    let layout = layout();
    log.open(&layout).await.unwrap();
    log.append(small(&layout, 1, 1)).await.unwrap();
    let ends = log.ends(&layout.feed).await.unwrap();
    for (partition, Ends { high, .. }) in ends {
        let beyond = Offset(high.0 + 1);
        let error = match log.follow(&layout.feed, &[(partition, beyond)]).await {
            Ok(mut follower) => follower.next().await.unwrap_err(),
            Err(error) => error,
        };
        let LogError::OutOfRange {
            asked,
            partition: of,
            ..
        } = error
        else {
            panic!("{error}");
        };
        assert_eq!((asked, of), (beyond, partition));
    }
}

pub(super) async fn appends_begun_in_order_stay_in_order(log: Log) {
    let layout = layout();
    log.open(&layout).await.unwrap();
    let from = lows(&*log, &layout).await;
    let mut begun = Vec::new();
    for sequence in 1..=40 {
        let mut append = log.append(small(&layout, 1, sequence));
        let first = std::future::poll_fn(|cx| std::task::Poll::Ready(append.as_mut().poll(cx)));
        if let std::task::Poll::Ready(done) = first.await {
            done.unwrap();
        } else {
            begun.push(append);
        }
    }
    for append in begun.into_iter().rev() {
        append.await.unwrap();
    }
    let mut seen = Sorted::default();
    seen.take(&read(&*log, &layout, &from, 80).await);
    assert_eq!(seen.of(Partition::Cuts), (1..=40).collect::<Vec<_>>());
    assert!(seen.versions.values().all(|versions| versions.is_sorted()));
}

pub(super) async fn what_is_not_released_stays(log: &dyn EventLog) {
    let layout = layout();
    log.open(&layout).await.unwrap();
    let from = lows(log, &layout).await;
    for sequence in 1..=20 {
        log.append(small(&layout, 1, sequence)).await.unwrap();
    }
    let entries = read(log, &layout, &from, 40).await;
    let half = entries
        .iter()
        .filter(|entry| entry.partition == Partition::Cuts)
        .nth(10)
        .unwrap();
    log.release(&layout.feed, Partition::Cuts, half.offset);
    log.release(&layout.feed, Partition::Cuts, Offset(0));
    let buckets: Vec<_> = from
        .iter()
        .filter(|(p, _)| *p != Partition::Cuts)
        .copied()
        .collect();
    read(log, &layout, &buckets, 20).await;
    let rest = read(log, &layout, &[(Partition::Cuts, half.offset)], 10).await;
    assert_eq!(rest[0].offset, half.offset);
}

pub(super) async fn who_is_alone_has_all_of_the_work(log: &dyn EventLog) {
    let layout = layout();
    assert!(matches!(
        log.share(&layout.feed).await.map(drop),
        Err(LogError::NotOpen { .. })
    ));
    log.open(&layout).await.unwrap();
    let mut share = log.share(&layout.feed).await.unwrap();
    let mut ours = share.next().await.unwrap();
    ours.sort_unstable();
    assert_eq!(ours, partitions());
    // Nothing else changes, and asking may be given up.
    let more = tokio::time::timeout(Duration::from_millis(200), share.next()).await;
    assert!(more.is_err(), "{more:?}");
}
