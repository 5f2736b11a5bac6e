//! Every error text of the log, with what it means.

use onair_log::{Ends, LogError, Offset, Partition};
use onair_model::Bucket;
use onair_xtask::{error_texts, texts::Texts};

#[test]
fn errors() {
    let mut texts = Texts::new();
    error_texts!(texts, LogError:
        OutOfRange = LogError::OutOfRange {
            feed: "room".into(),
            partition: Partition::Bucket(Bucket::new(3)),
            asked: Offset(41),
            ends: Ends { low: Offset(90), high: Offset(120) },
        } => "Merger or server was away for longer than the log keeps, and what it wanted next is gone.",
            "Nothing: the bucket is loaded from the store again, or the reader states it anew. If it comes often, give \
             the log more room (log.memory.capacity), or more time in Kafka (log.kafka.retention).";
        Refused = LogError::Refused { reason: "/var/lib/onair/log/room: No space left on device (os error 28)".into() } =>
            "The log took nothing of what was sent.",
            "See to the reason given; the reader tries again by itself.";
        Refused = LogError::Refused {
            reason: "Kafka at kafka:9092, topic onair.room.16: Failed while waiting for controller: Local: Timed out \
                     (kafka:9092/bootstrap: Connect to ipv4#10.0.0.7:9092 failed: Connection refused)"
                .into(),
        } => "No broker answered in time. Appends that are under way wait; only a question is given up.",
            "See that the brokers run and can be reached from here; OnAir goes on by itself.";
        Unknown = LogError::Unknown { reason: "timed out".into() } =>
            "It is not known whether what was sent is in the log.",
            "Nothing: it is sent again, and whoever has it already drops the repeat.";
        Unknown = LogError::Unknown {
            reason: "Kafka at kafka:9092, topic onair.room.16, partition 3: Message production error: \
                     MessageSizeTooLarge (Broker: Message size too large)"
                .into(),
        } => "A record was not delivered, and what was sent behind it was given up with it.",
            "See to the reason given; the reader sends everything since its checkpoint again.";
        Mismatch = LogError::Mismatch {
            feed: "room".into(),
            reason: "topic onair.room.16: cleanup.policy is `compact` and should be `delete`".into(),
            remedy: "kafka-configs.sh --bootstrap-server kafka:9092 --alter --entity-type topics --entity-name \
                     onair.room.16 --add-config cleanup.policy=delete"
                .into(),
        } => "The topic was made or changed by somebody else, and could lose what OnAir needs.",
            "As the text says, then start OnAir again.";
        Mismatch = LogError::Mismatch {
            feed: "room".into(),
            reason: "it has 16 buckets, 32 were asked for".into(),
            remedy: "restart the process to change the number of buckets".into(),
        } => "The log that is there was made with other settings, by another release, or is used by another process.",
            "As the text says.";
        NotOpen = LogError::NotOpen { feed: "room".into() } => "OnAir asked for a log that it had not opened.",
            "Restart, and report it.";
    );
    texts.check(env!("CARGO_MANIFEST_DIR"));
}
