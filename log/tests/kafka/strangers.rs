//! What somebody else does with the cluster: offsets that are moved, times that cannot be, bytes that rot on its disk.

use std::fs;

use onair_log::kafka::{Compression, Operator};
use onair_model::Bucket;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::{Message as _, Timestamp, TopicPartitionList};

use super::*;
use crate::flush;

const ZERO: Partition = Partition::Bucket(Bucket::new(0));

/// Bytes of a batch of one record of these tests before the record's value: the batch's header (61, of the format's
/// version 2), the record's lengths, deltas and key. After it: its one header.
const BEFORE_VALUE: usize = 71;
const AFTER_VALUE: usize = 15;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn offsets_that_kafka_keeps_move_nobody() {
    let Some(server) = shared() else { return };
    let log = log(&settings(server));
    open(&log, "f").await;
    let from = lows(&log, "f").await;
    let mut running = log.follow("f", &from).await.unwrap();
    for sequence in 1..=9 {
        log.append(flush("f", 0, sequence, 10)).await.unwrap();
    }
    let operator = Operator::new(&log, &layout("f"));
    let moved = [(ZERO, Offset(7)), (Partition::Cuts, Offset(2))];
    tokio::task::spawn_blocking(move || operator.move_group(&moved))
        .await
        .unwrap();
    let mut later = log.follow("f", &from).await.unwrap();
    log.append(flush("f", 0, 10, 10)).await.unwrap();
    let all: Vec<u64> = (1..=10).collect();
    for follower in [&mut running, &mut later] {
        let mut seen = Vec::new();
        while seen.len() < all.len() {
            seen.extend(cuts(&next(&mut **follower).await.unwrap()));
        }
        assert_eq!(seen, all);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn times_that_cannot_be_are_not_taken() {
    /// Milliseconds since 1970.
    const YEAR_2020: i64 = 1_577_836_800_000;
    const YEAR_2100: i64 = 4_102_444_800_000;
    let Some(server) = shared() else { return };
    let settings = settings(server);
    let log = log(&settings);
    open(&log, "f").await;
    let operator = Operator::new(&log, &layout("f"));
    for (partition, time) in [(0_u16, 0), (1, YEAR_2100)] {
        let of = Partition::Bucket(Bucket::new(partition));
        operator.put(&[(of, Some(b"\xff"), time)]).await;
    }
    // What is too old is looked for every second; by its own time the first would be.
    sleep(Duration::from_secs(3)).await;
    let ends = log.ends("f").await.unwrap();
    for partition in 0..2_u16 {
        let found = ends[usize::from(partition)].1;
        assert_eq!((found.low, found.high), (Offset(0), Offset(1)));
        let consumer: BaseConsumer = raw(&settings).set("group.id", "raw").create().unwrap();
        let mut place = TopicPartitionList::new();
        let topic = log.topic(&layout("f"));
        place
            .add_partition_offset(&topic, i32::from(partition), rdkafka::Offset::Beginning)
            .unwrap();
        consumer.assign(&place).unwrap();
        let message = consumer.poll(PATIENCE).unwrap().unwrap();
        let Timestamp::LogAppendTime(time) = message.timestamp() else {
            panic!("{:?}", message.timestamp());
        };
        assert!((YEAR_2020..YEAR_2100).contains(&time), "{time}");
    }
}

/// One bit of a record in the middle of a partition, another in each feed: that record is garbage, and no other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_that_rot_on_the_brokers_disk_are_not_believed() {
    const FEEDS: usize = 8;
    const RECORDS: u64 = 5;
    const DAMAGED: u64 = 2;
    let Some(server) = own() else { return };
    let seed = rand::random();
    println!("seed {seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let settings = Settings {
        compression: Compression::None,
        ..settings(&server)
    };
    let log = log(&settings);
    let feeds: Vec<String> = (0..FEEDS).map(|feed| format!("f{feed}")).collect();
    for feed in &feeds {
        open(&log, feed).await;
        for sequence in 1..=RECORDS {
            log.append(flush(feed, 0, sequence, 300)).await.unwrap();
        }
    }
    server.stop().unwrap();
    for feed in &feeds {
        let (topic, data) = (log.topic(&layout(feed)), server.data_dir().unwrap());
        let path = data.join(format!("log/{topic}-0/00000000000000000000.log"));
        let mut bytes = fs::read(&path).unwrap();
        // Batches of one record and of one length.
        let batch = bytes.len() / RECORDS as usize;
        let at = rng.random_range(BEFORE_VALUE..batch - AFTER_VALUE);
        bytes[DAMAGED as usize * batch + at] ^= 1 << rng.random_range(0..8);
        fs::write(&path, bytes).unwrap();
    }
    server.restart().unwrap();
    for feed in &feeds {
        let mut follower = loop {
            match log.follow(feed, &[(ZERO, Offset(0))]).await {
                Ok(follower) => break follower,
                Err(LogError::Refused { .. }) => sleep(Duration::from_millis(50)).await,
                Err(error) => panic!("{error}"),
            }
        };
        let mut seen = Vec::new();
        while seen.len() < RECORDS as usize {
            seen.extend(next(&mut *follower).await.unwrap());
        }
        for (place, entry) in (0..).zip(seen) {
            assert_eq!(entry.offset, Offset(place));
            match entry.payload {
                Payload::Garbage(_) => assert_eq!(place, DAMAGED, "{feed}"),
                Payload::Record(record) => {
                    assert_ne!(place, DAMAGED, "{feed}");
                    let written = flush(feed, 0, place + 1, 300).records.remove(0).1;
                    assert_eq!(record, written);
                }
                Payload::Cut(cut) => panic!("{cut:?}"),
            }
        }
    }
}
