//! Topics that are not as they should be, at the start and later.

use rdkafka::admin::{AlterConfig, NewPartitions, NewTopic, ResourceSpecifier, TopicReplication};

use super::*;
use crate::flush;

async fn make(settings: &Settings, topic: &str, partitions: usize, with: &[(&str, &str)]) {
    let topic = NewTopic::new(topic, partitions as i32, TopicReplication::Fixed(1));
    let topic = with
        .iter()
        .fold(topic, |topic, (key, value)| topic.set(key, value));
    let made = admin(settings).create_topics([&topic], &options()).await;
    for made in made.unwrap() {
        made.unwrap();
    }
}

/// The settings that the log makes its topics with, in which it finds nothing wrong.
async fn right(settings: &Settings) -> Vec<(String, String)> {
    let log = log(settings);
    open(&log, "model").await;
    let topic = log.topic(&layout("model"));
    let asked = [ResourceSpecifier::Topic(&topic)];
    let has = admin(settings).describe_configs(&asked, &options()).await;
    let has = has.unwrap().remove(0).unwrap();
    let entries = has.entries.into_iter().filter(|entry| !entry.is_default);
    entries
        .filter_map(|entry| Some((entry.name, entry.value?)))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_with_other_partitions_or_settings_is_refused() {
    let Some(server) = shared() else { return };
    let settings = settings(server);
    let right = right(&settings).await;
    let right: Vec<_> = right
        .iter()
        .map(|(a, b)| (a.as_str(), b.as_str()))
        .collect();
    let log = log(&settings);
    for (number, (partitions, other)) in [
        (1, ("cleanup.policy", "delete")),
        (PARTITIONS - 1, ("cleanup.policy", "delete")),
        (PARTITIONS + 1, ("cleanup.policy", "delete")),
        (PARTITIONS, ("cleanup.policy", "compact")),
        (PARTITIONS, ("cleanup.policy", "compact,delete")),
        (PARTITIONS, ("message.timestamp.type", "CreateTime")),
        (PARTITIONS, ("retention.ms", "1000")),
        (PARTITIONS, ("retention.bytes", "1000000")),
        (PARTITIONS, ("max.message.bytes", "1048588")),
        (PARTITIONS, ("unclean.leader.election.enable", "true")),
    ]
    .into_iter()
    .enumerate()
    {
        let feed = layout(&format!("wrong-{number}"));
        let mut with = right.clone();
        with.retain(|(key, _)| *key != other.0);
        with.push(other);
        make(&settings, &log.topic(&feed), partitions, &with).await;
        let said = mismatch(log.open(&feed).await);
        assert!(partitions != PARTITIONS || said.contains(other.0), "{said}");
        let not_open = log.ends(&feed.feed).await;
        assert!(
            matches!(not_open, Err(LogError::NotOpen { .. })),
            "{not_open:?}"
        );
    }
    // One with these settings that somebody else made is as good as one of ours, and more copies than brokers are not.
    let feed = layout("right");
    make(&settings, &log.topic(&feed), PARTITIONS, &right).await;
    open(&log, &feed.feed).await;
    let many = KafkaLog::new(Settings {
        replication_factor: 3,
        ..settings.clone()
    });
    let many = many.unwrap();
    mismatch(many.open(&feed).await);
    let refused = many.open(&layout("many")).await.unwrap_err().to_string();
    assert!(
        refused.contains("log.kafka.replication_factor"),
        "{refused}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_while_it_runs_stops_reading_and_writing() {
    let Some(server) = shared() else { return };
    let settings = settings(server);
    let admin = admin(&settings);
    for feed in ["partitions", "compacted"] {
        let log = log(&settings);
        open(&log, feed).await;
        let topic = log.topic(&layout(feed));
        let from = lows(&log, feed).await;
        let mut follower = log.follow(feed, &from).await.unwrap();
        log.append(flush(feed, 0, 1, 10)).await.unwrap();
        let mut seen = 0;
        while seen < 2 {
            seen += next(&mut *follower).await.unwrap().len();
        }
        if feed == "partitions" {
            let more = NewPartitions::new(&topic, PARTITIONS + 1);
            admin.create_partitions([&more], &options()).await.unwrap()[0]
                .as_ref()
                .unwrap();
        } else {
            let compact = AlterConfig::new(ResourceSpecifier::Topic(&topic));
            let compact = compact.set("cleanup.policy", "compact");
            admin.alter_configs([&compact], &options()).await.unwrap()[0]
                .as_ref()
                .unwrap();
        }
        mismatch(next(&mut *follower).await);
        mismatch(log.append(flush(feed, 0, 2, 10)).await);
        mismatch(log.ends(feed).await);
        mismatch(log.last_cuts(feed).await);
        mismatch(log.follow(feed, &from).await.map(drop));
        mismatch(log.open(&layout(feed)).await);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_deleted_or_made_again_is_noticed_and_another_log() {
    let Some(server) = shared() else { return };
    let settings = settings(server);
    let admin = admin(&settings);
    let right = right(&settings).await;
    let right: Vec<_> = right
        .iter()
        .map(|(a, b)| (a.as_str(), b.as_str()))
        .collect();
    for feed in ["deleted", "again"] {
        let log_ = log(&settings);
        let id = open(&log_, feed).await;
        assert_eq!(open(&log(&settings), feed).await, id, "the same for all");
        let topic = log_.topic(&layout(feed));
        let from = lows(&log_, feed).await;
        for sequence in 1..=9 {
            log_.append(flush(feed, 0, sequence, 10)).await.unwrap();
        }
        let mut follower = log_.follow(feed, &from).await.unwrap();
        let mut seen = 0;
        while seen < 18 {
            seen += next(&mut *follower).await.unwrap().len();
        }
        admin.delete_topics(&[&topic], &options()).await.unwrap()[0]
            .as_ref()
            .unwrap();
        if feed == "again" {
            let end = Instant::now() + PATIENCE;
            let topic = NewTopic::new(&topic, PARTITIONS as i32, TopicReplication::Fixed(1));
            let topic = right
                .iter()
                .fold(topic, |topic, (key, value)| topic.set(key, value));
            loop {
                let made = admin.create_topics([&topic], &options()).await.unwrap();
                match &made[0] {
                    Ok(_) => break,
                    Err(error) => assert!(Instant::now() < end, "{error:?}"),
                }
                sleep(Duration::from_millis(20)).await;
            }
        }
        let stopped = loop {
            match next(&mut *follower).await {
                Err(LogError::Refused { .. }) => sleep(Duration::from_millis(50)).await,
                other => break other,
            }
        };
        let said = mismatch(stopped);
        assert!(said.contains("was deleted"), "{said}");
        mismatch(log_.append(flush(feed, 0, 10, 10)).await);
        mismatch(log_.open(&layout(feed)).await);
        // Who starts anew has another log, in which the old offsets mean nothing.
        let other = open(&log(&settings), feed).await;
        println!("{} was {}", other.0, id.0);
        assert_ne!(other, id);
    }
}
