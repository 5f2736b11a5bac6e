//! What somebody else does with the cluster: offsets that are moved, times that cannot be, bytes that rot on its disk.

use std::fs;

use onair_log::kafka::Operator;
use onair_model::Bucket;

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::{Message as _, Timestamp, TopicPartitionList};

use super::*;
use crate::flush;

const ZERO: Partition = Partition::Bucket(Bucket::new(0));

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
    for (partition, time) in [(0, 0), (1, YEAR_2100)] {
        let of = Partition::Bucket(Bucket::new(partition));
        operator.put(&[(of, Some(b"\xff"), time)]).await;
    }
    // What is too old is looked for every second; by its own time the first would be.
    sleep(Duration::from_secs(3)).await;
    let ends = log.ends("f").await.unwrap();
    for partition in 0..2 {
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_that_rot_on_the_brokers_disk_are_said() {
    let Some(server) = own() else { return };
    let settings = settings(&server);
    let log = log(&settings);
    open(&log, "f").await;
    let from = lows(&log, "f").await;
    for sequence in 1..=5 {
        log.append(flush("f", 0, sequence, 100)).await.unwrap();
    }
    server.stop().unwrap();
    let topic = log.topic(&layout("f"));
    let path = server
        .data_dir()
        .unwrap()
        .join("log")
        .join(format!("{topic}-0/00000000000000000000.log"));
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&path, bytes).unwrap();
    server.restart().unwrap();
    let mut follower = log.follow("f", &from).await;
    let mut follower = follower.unwrap();
    for _ in 0..10 {
        let got = timeout(Duration::from_secs(5), follower.next()).await;
        println!("{got:?}");
    }
}
