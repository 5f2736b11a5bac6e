//! A feed's topic: its name, its settings, and what differs from them. Pure.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::time::Duration;

use xxhash_rust::xxh3::xxh3_64;

use super::ask::Described;
use super::settings::Settings;
use crate::Layout;

/// Kafka's limit of a topic's name.
const NAME_MAX: usize = 249;

/// The topic of a feed and layout: `PREFIX.FEED.BUCKETS`. A byte of the feed's name that may not stand in a topic's, and
/// the dot, is written as `.XX`; a name that would be too long is cut and gets its hash.
pub(super) fn name(prefix: &str, layout: &Layout) -> String {
    let mut feed = String::new();
    for byte in layout.feed.bytes() {
        if byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-' {
            feed.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(feed, ".{byte:02X}");
        }
    }
    let buckets = layout.buckets.count();
    let name = format!("{prefix}.{feed}.{buckets}");
    if name.len() <= NAME_MAX {
        return name;
    }
    let hash = xxh3_64(layout.feed.as_bytes());
    let end = format!(".{hash:016x}.{buckets}");
    feed.truncate(NAME_MAX - prefix.len() - 1 - end.len());
    format!("{prefix}.{feed}{end}")
}

/// The settings that a topic of ours is made with.
pub(super) fn made_with(settings: &Settings) -> Vec<(&'static str, String)> {
    vec![
        ("cleanup.policy", "delete".into()),
        ("message.timestamp.type", "LogAppendTime".into()),
        ("retention.ms", millis(settings.retention).to_string()),
        ("retention.bytes", "-1".into()),
        (
            "min.insync.replicas",
            settings.min_insync_replicas.to_string(),
        ),
        ("unclean.leader.election.enable", "false".into()),
        ("max.message.bytes", settings.batch_bytes().to_string()),
        ("compression.type", "producer".into()),
    ]
}

fn millis(retention: Option<Duration>) -> i64 {
    retention.map_or(-1, |retention| {
        retention.as_millis().try_into().unwrap_or(i64::MAX)
    })
}

/// What is wrong with a topic, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wrong {
    pub(super) reason: String,
    pub(super) remedy: String,
}

/// Looks at a topic that is there.
pub(super) fn check(
    topic: &str,
    settings: &Settings,
    buckets: usize,
    is: &Described,
    has: &HashMap<String, String>,
) -> Result<(), Wrong> {
    let partitions = is.replicas.len();
    if partitions != buckets + 1 {
        return Err(Wrong {
            reason: format!(
                "topic {topic} has {partitions} partitions, {buckets} buckets and the cuts need {}",
                buckets + 1
            ),
            remedy: "delete it if nobody needs what is in it (it is made again with the next start), or give another \
                     log.kafka.prefix; never add partitions"
                .into(),
        });
    }
    if is.id.bytes().all(|byte| byte == b'A') {
        return Err(Wrong {
            reason: format!("the brokers give topic {topic} no id"),
            remedy: "use Kafka 3.1 or later in KRaft mode, so that a topic made again is told from the first".into(),
        });
    }
    let least = is.replicas.iter().min().copied().unwrap_or(0);
    let asked = usize::from(settings.replication_factor);
    if least < asked {
        return Err(Wrong {
            reason: format!("topic {topic} has {least} replicas, {asked} were asked for"),
            remedy: "add replicas with kafka-reassign-partitions.sh, or set log.kafka.replication_factor".into(),
        });
    }
    let mut differ = String::new();
    let mut put_right = String::new();
    for (key, should) in made_with(settings) {
        let found = has.get(key).map_or("", String::as_str);
        if !is_right(key, found, &should) {
            let comma = if differ.is_empty() { "" } else { ", " };
            // Writing to a string cannot fail.
            let _ = write!(differ, "{comma}{key} is `{found}` and should be `{should}`");
            let comma = comma.trim_end();
            let _ = write!(put_right, "{comma}{key}={should}");
        }
    }
    if differ.is_empty() {
        return Ok(());
    }
    Err(Wrong {
        reason: format!("topic {topic}: {differ}"),
        remedy: format!(
            "kafka-configs.sh --bootstrap-server {} --alter --entity-type topics --entity-name {topic} --add-config \
             {put_right}",
            settings.brokers
        ),
    })
}

/// More room, time or safety than asked for is right too.
fn is_right(key: &str, found: &str, should: &str) -> bool {
    let number = |text: &str| text.parse::<i64>().ok();
    let (is, asked) = (number(found), number(should));
    match key {
        // -1 is without end.
        "retention.ms" | "retention.bytes" => {
            is == Some(-1) || (asked != Some(-1) && is.is_some() && is >= asked)
        }
        "min.insync.replicas" | "max.message.bytes" => is.is_some() && is >= asked,
        // Another one costs the broker time and harms nothing.
        "compression.type" => true,
        _ => found == should,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use onair_model::Buckets;
    use std::num::NonZeroU16;

    fn layout(feed: &str) -> Layout {
        Layout {
            feed: feed.into(),
            buckets: Buckets::new(NonZeroU16::new(16).unwrap()),
        }
    }

    #[test]
    fn names_are_legal_and_different() {
        let name = |feed: &str| name("on-air", &layout(feed));
        assert_eq!(name("live_rooms-2"), "on-air.live_rooms-2.16");
        assert_eq!(name("a.b/ü"), "on-air.a.2Eb.2F.C3.BC.16");
        let (long, other) = ("x".repeat(300), "x".repeat(301));
        assert_eq!(name(&long).len(), NAME_MAX);
        assert_ne!(name(&long), name(&other));
        assert!(name(&long).ends_with(".16"));
    }

    #[test]
    fn what_differs_is_said_with_the_remedy() {
        let settings = Settings::default();
        let is = Described {
            id: "Zt1v".into(),
            replicas: vec![3; 17],
        };
        let has: HashMap<String, String> = made_with(&settings)
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value))
            .collect();
        let check = |is: &Described, has: &HashMap<String, String>| {
            let checked = check("t", &settings, 16, is, has);
            checked.map_err(|wrong| format!("{}; {}", wrong.reason, wrong.remedy))
        };
        assert_eq!(check(&is, &has), Ok(()));
        let with = |key: &str, value: &str| {
            let mut has = has.clone();
            has.insert(key.into(), value.into());
            check(&is, &has)
        };
        for (key, right) in [
            ("retention.ms", "-1"),
            ("retention.ms", "999999999999"),
            ("min.insync.replicas", "3"),
            ("max.message.bytes", "99999999"),
            ("compression.type", "gzip"),
        ] {
            assert_eq!(with(key, right), Ok(()), "{key}={right}");
        }
        for (key, wrong) in [
            ("cleanup.policy", "compact"),
            ("cleanup.policy", "compact,delete"),
            ("message.timestamp.type", "CreateTime"),
            ("retention.ms", "1000"),
            ("retention.bytes", "1000000"),
            ("min.insync.replicas", "1"),
            ("unclean.leader.election.enable", "true"),
            ("max.message.bytes", "1048588"),
            ("retention.ms", ""),
        ] {
            let said = with(key, wrong).unwrap_err();
            assert!(said.contains(&format!("--add-config {key}=")), "{said}");
            println!("{said}");
        }
        for is in [
            Described {
                replicas: vec![3; 16],
                ..is.clone()
            },
            Described {
                replicas: [vec![3; 16], vec![2]].concat(),
                ..is.clone()
            },
            Described {
                id: "AAAAAAAAAAAAAAAAAAAAAA".into(),
                ..is.clone()
            },
        ] {
            println!("{}", check(&is, &has).unwrap_err());
        }
    }
}
