//! What stands in the log and should not, what does not any more, and what may not come in.

use onair_log::Ends;
use onair_log::kafka::Compression;
use onair_model::Bucket;
use rdkafka::TopicPartitionList;
use rdkafka::admin::{AlterConfig, ResourceSpecifier};
use rdkafka::producer::{FutureProducer, FutureRecord};

use super::*;
use crate::{cut, flush};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_is_said_and_passed_over() {
    let Some(server) = shared() else { return };
    let settings = settings(server);
    let log = log(&settings);
    open(&log, "f").await;
    let topic = log.topic(&layout("f"));
    let from = lows(&log, "f").await;
    log.append(flush("f", 1, 1, 10)).await.unwrap();
    let mut follower = log.follow("f", &from).await.unwrap();
    let mut entries = Vec::new();
    while entries.len() < 2 {
        entries.extend(next(&mut *follower).await.unwrap());
    }
    // Bytes of a record of bucket 1, as Kafka has them.
    let consumer: rdkafka::consumer::BaseConsumer =
        raw(&settings).set("group.id", "raw").create().unwrap();
    let mut place = TopicPartitionList::new();
    place
        .add_partition_offset(&topic, 1, rdkafka::Offset::Beginning)
        .unwrap();
    let record = {
        use rdkafka::Message as _;
        use rdkafka::consumer::Consumer as _;
        consumer.assign(&place).unwrap();
        let message = consumer.poll(PATIENCE).unwrap().unwrap();
        message.payload().unwrap().to_vec()
    };
    let producer: FutureProducer = raw(&settings).create().unwrap();
    let cuts_partition = i32::from(BUCKETS);
    let torn = &record[..record.len() - 2];
    for (partition, bytes) in [
        (0, Some(&b"\xff\xff\xffgarbage"[..])),
        (0, None),
        (0, Some(&record)),
        (1, Some(torn)),
        (cuts_partition, Some(&record)),
        (cuts_partition, Some(b"")),
    ] {
        let to = FutureRecord::<str, [u8]>::to(&topic).partition(partition);
        let to = match bytes {
            Some(bytes) => to.payload(bytes),
            None => to,
        };
        producer.send(to, PATIENCE).await.unwrap();
    }
    // One that says twice what it said is no garbage.
    let again = FutureRecord::<str, [u8]>::to(&topic)
        .partition(1)
        .payload(&record);
    producer.send(again, PATIENCE).await.unwrap();
    log.append(flush("f", 0, 2, 10)).await.unwrap();
    let mut garbage = Vec::new();
    while entries.len() < 2 + 7 + 2 {
        entries.extend(next(&mut *follower).await.unwrap());
    }
    for entry in &entries {
        if let Payload::Garbage(reason) = &entry.payload {
            println!("{}: {reason}", entry.partition);
            garbage.push(entry.partition);
        }
    }
    garbage.sort_unstable();
    let bucket = |bucket| Partition::Bucket(Bucket::new(bucket));
    let cuts_ = Partition::Cuts;
    assert_eq!(
        garbage,
        [bucket(0), bucket(0), bucket(0), bucket(1), cuts_, cuts_]
    );
    assert_eq!(cuts(&entries), [1, 2]);
    // The search passes over it too, and what it finds is whole.
    let last = log.last_cuts("f").await.unwrap();
    assert_eq!(
        last.iter()
            .map(|cut| cut.version.sequence())
            .collect::<Vec<_>>(),
        [1, 2]
    );
}

async fn delete_up_to(settings: &Settings, topic: &str, partition: i32, offset: i64) {
    let mut place = TopicPartitionList::new();
    place
        .add_partition_offset(topic, partition, rdkafka::Offset::Offset(offset))
        .unwrap();
    admin(settings)
        .delete_records(&place, &options())
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_that_are_deleted_are_out_of_range() {
    let Some(server) = shared() else { return };
    let settings = Settings {
        message_bytes: 60_000,
        fetch_bytes: 100_000,
        compression: Compression::None,
        ..settings(server)
    };
    let log = log(&settings);
    open(&log, "f").await;
    let topic = log.topic(&layout("f"));
    for sequence in 1..=200 {
        log.append(flush("f", 0, sequence, 50_000)).await.unwrap();
    }
    let zero = Partition::Bucket(Bucket::new(0));
    let mut running = log.follow("f", &[(zero, Offset(0))]).await.unwrap();
    let first = next(&mut *running).await.unwrap();
    delete_up_to(&settings, &topic, 0, 150).await;
    let gone = Ends {
        low: Offset(150),
        high: Offset(200),
    };
    assert_eq!(log.ends("f").await.unwrap()[0], (zero, gone));
    // One who is behind is told when he comes to the hole.
    let mut seen = first.len() as u64;
    let error = loop {
        match next(&mut *running).await {
            Ok(entries) => seen += entries.len() as u64,
            Err(error) => break error,
        }
    };
    println!("after {seen}: {error}");
    let out_of_range = |error: &LogError, place: u64| {
        let LogError::OutOfRange {
            partition,
            asked,
            ends,
            ..
        } = error
        else {
            panic!("{error}");
        };
        assert_eq!((*partition, *asked, *ends), (zero, Offset(place), gone));
    };
    out_of_range(&error, seen);
    assert!(seen < 150);
    // One who comes later at once.
    let error = log
        .follow("f", &[(zero, Offset(7))])
        .await
        .map(drop)
        .unwrap_err();
    out_of_range(&error, 7);
    let mut rest = log.follow("f", &[(zero, gone.low)]).await.unwrap();
    assert_eq!(next(&mut *rest).await.unwrap()[0].offset, gone.low);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_too_large_is_refused_whole() {
    let Some(server) = shared() else { return };
    let settings = Settings {
        message_bytes: 100_000,
        check_interval: PATIENCE,
        compression: Compression::None,
        ..settings(server)
    };
    let log = log(&settings);
    open(&log, "f").await;
    let said = mismatch(log.append(flush("f", 0, 1, 100_000)).await);
    assert!(said.contains("log.kafka.message_bytes"), "{said}");
    for (_, ends) in log.ends("f").await.unwrap() {
        assert_eq!(ends.low, ends.high, "nothing of it was written");
    }
    log.append(flush("f", 0, 1, 99_000)).await.unwrap();
    // The broker takes less than we were told: the delivery fails, and with it the producer and what is behind.
    let topic = log.topic(&layout("f"));
    let small = AlterConfig::new(ResourceSpecifier::Topic(&topic)).set("max.message.bytes", "2000");
    admin(&settings)
        .alter_configs([&small], &options())
        .await
        .unwrap();
    let large = log.append(flush("f", 0, 2, 50_000));
    let behind = log.append(flush("f", 0, 3, 10));
    let (large, behind) = tokio::join!(large, behind);
    let error = large.unwrap_err();
    println!("{error}");
    assert!(matches!(error, LogError::Unknown { .. }));
    assert!(error.to_string().contains(&topic));
    assert!(behind.is_err(), "nothing goes out behind a hole");
    assert_eq!(log.status().producers, 1);
    // The next append has a new producer.
    log.append(flush("f", 0, 4, 10)).await.unwrap();
    assert_eq!(log.status().producers, 2);
    let from = lows(&log, "f").await;
    let mut follower = log.follow("f", &from).await;
    // The look at the start of following finds the topic's setting.
    mismatch(
        follower
            .as_mut()
            .map(|_| ())
            .map_err(|error| std::mem::replace(error, LogError::NotOpen { feed: "f".into() })),
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_full_cut_is_found_behind_thousands() {
    let Some(server) = shared() else { return };
    let log = log(&settings(server));
    open(&log, "f").await;
    let append = |sequence, full| {
        let mut flush = flush("f", 0, sequence, 10);
        flush.records.clear();
        flush.cut = cut(sequence, full);
        log.append(flush)
    };
    append(1, true).await.unwrap();
    let under_way: Vec<_> = (2..=5000).map(|sequence| append(sequence, false)).collect();
    for append in under_way {
        append.await.unwrap();
    }
    let begun = Instant::now();
    let last = log.last_cuts("f").await.unwrap();
    println!("5000 cuts searched in {:?}", begun.elapsed());
    let versions: Vec<_> = last.iter().map(|cut| cut.version.sequence()).collect();
    assert_eq!(versions, [1, 5000]);
    assert!(last[0].full);
}
