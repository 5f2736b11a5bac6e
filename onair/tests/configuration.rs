//! Configuration: every error text, the effective values, the schema, the table in docs.

use onair::config::{FeedFlags, Input, SETTINGS, load, report};

use crate::golden;

fn input(text: &str) -> Input {
    Input {
        file: Some(("onair.toml".to_owned(), text.to_owned())),
        ..Input::default()
    }
}

const GOOD: &str = r#"
data_dir = "/var/lib/onair"

[source]
url = "mysql://onair:tops3cret@db.example:3307/live?ssl-mode=require"
server_id = 77

[[feed]]
name = "rooms"
table = "room"
live_when = "live_status = 1"
columns = ["uid", "title"]
buckets = 4

[[feed]]
table = "shop.offer"
live_when = "TRUE"
columns = ["price"]

[server]
listen = "0.0.0.0:7400"
connection_age_max = "1h"

[reader]
scan_period = "off"
guard_feed_share_max = 0.02

[log.memory]
capacity = "128MiB"
"#;

#[test]
fn everything_wrong_is_said_at_once_with_its_line() {
    let wrong = r#"
data_dri = "/x"
server = 5
admin = { listen = "7480" }

[source]
url = "postgres://onair@db"
password = "x"
password_file = 3
server_id = "seven"

[[feed]]
name = "bad name!"
table = "a.b.c"
live_when = ""
columns = []
buckets = 0
bucket = 4

[[feed]]
table = 3
live_when = 4
columns = "uid"
buckets = "many"

[[feed]]
name = "twice"
table = "live.room"
live_when = "TRUE"
columns = ["uid"]

[[feed]]
name = "twice"
table = "live.room"
live_when = "TRUE"
columns = ["uid"]

[[feed]]
table = "room"
live_when = "TRUE"
columns = ["uid"]

[server]
listen = "localhost"
listn = "x"
clients_max = 0
progress = "5s"
tls = { client_ca = "ca.pem" }
keepalive = 10
ring_bytes = "lots"
fanout_share = 2.5

[reader]
scan_period = "sometimes"
scan_rate_max = "fast"
flush_interval = true

[merger]
history_every = "0s"

[loging]
level = "info"

[logging]
level = "loud"

[log.kafka]
prefix = "rooms"

[store.scylla]
keyspace = "onair"
nodes = "scylla:9042"
replication = ["three"]

[store.redb]
file = "x"
"#;
    let mut input = input(wrong);
    input.environment = [
        ("ONAIR_SERVER_LISTN", "x"),
        ("ONAIR_MERGER_FOLD_INTERVAL", "never"),
        ("ONAIR_SERVER", "http://not.a.setting:1"),
        ("ONAIR_TEST_MYSQL", "not a setting either"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .to_vec();
    input.flags = vec![("demo.rows", "--demo-rows", "no".to_owned())];
    let errors = load(&input).unwrap_err();
    golden("config-errors.txt", &format!("{errors}\n"));
}

#[test]
fn smaller_mistakes() {
    let mut text = String::new();
    for wrong in [
        "[source\nurl = 1\n[server]\nlistn = 3",
        "[source]\nurl = \"mysql://onair@db\"",
        "[feed]\nname = \"x\"",
        "feed = [1]",
        "[[feed]]",
        "[server]\nclients_max = 99999999999999999999",
        "[server]\nclients_max = -1",
        "[demo]\nrate = -1.0\nlive_share = 7\nrows = 1.5",
        "[source]\nurl = \"mysql://onair:top%zzs3cret@db\"",
        "a = 1\na = 2",
        "[log]\nlevel = \"info\"",
    ] {
        let errors = load(&input(wrong)).unwrap_err();
        text.push_str(&format!("--- {}\n{errors}\n", wrong.replace('\n', " / ")));
    }
    assert!(
        !text.replace("onair:top%zzs3cret@db", "").contains("s3cret"),
        "{text}"
    );
    golden("config-mistakes.txt", &text);
}

#[test]
fn effective_values_say_where_they_come_from() {
    let mut input = input(GOOD);
    input.environment = vec![
        ("ONAIR_SOURCE_PASSWORD".to_owned(), "an0ther".to_owned()),
        ("ONAIR_SERVER_LISTEN".to_owned(), "0.0.0.0:7401".to_owned()),
    ];
    input.flags = vec![("logging.level", "--log-level", "debug".to_owned())];
    let loaded = load(&input).unwrap();
    let mut text = String::new();
    for line in report::lines(&loaded) {
        text.push_str(&format!(
            "{} = {} ({})\n",
            line.name, line.value, line.origin
        ));
    }
    assert!(
        !text.contains("s3cret") && !text.contains("an0ther"),
        "{text}"
    );
    let debug = format!("{:?}", loaded.config);
    assert!(
        !debug.contains("s3cret") && !debug.contains("an0ther"),
        "{debug}"
    );
    assert_eq!(loaded.config.feeds[0].table.to_string(), "live.room");
    assert_eq!(&*loaded.config.feeds[1].name, "offer");
    assert_eq!(loaded.config.log_bytes, 128 << 20);
    assert_eq!(loaded.config.reader.scan_period, None);
    // The machine's processors are no setting, so the file is the same everywhere.
    golden("config-show.txt", &text);
}

#[test]
fn a_feed_from_the_command_line() {
    let feed = FeedFlags {
        name: None,
        table: "live.room".to_owned(),
        live_when: "live_status = 1".to_owned(),
        columns: vec!["uid".to_owned()],
        buckets: Some("0".to_owned()),
    };
    let errors = load(&Input {
        feed: Some(feed.clone()),
        ..Input::default()
    })
    .unwrap_err();
    assert_eq!(
        errors.to_string(),
        "--buckets: feed: buckets: \"0\" is not a number from 1 to 1024"
    );
    let loaded = load(&Input {
        feed: Some(FeedFlags {
            buckets: None,
            ..feed
        }),
        ..Input::default()
    })
    .unwrap();
    assert_eq!(&*loaded.config.feeds[0].name, "room");
    assert!(loaded.config.is_demo());
}

#[test]
fn every_default_is_a_value_that_the_file_takes() {
    let defaults = load(&Input::default()).unwrap();
    for (setting, line) in SETTINGS.iter().zip(report::lines(&defaults)) {
        if line.value.is_empty() {
            continue;
        }
        // They mean nothing without a place, and a build without the engine refuses them.
        let place = match setting.name {
            name if name.starts_with("log.kafka.") => ("ONAIR_LOG_KAFKA_BROKERS", "kafka:9092"),
            name if name.starts_with("store.scylla.") => {
                ("ONAIR_STORE_SCYLLA_NODES", "scylla:9042")
            }
            _ => ("PATH", ""),
        };
        if place.0 != "PATH" && !cfg!(all(feature = "kafka", feature = "scylla")) {
            continue;
        }
        let again = Input {
            environment: vec![
                (place.0.to_owned(), place.1.to_owned()),
                (setting.variable(), line.value.clone()),
            ],
            ..Input::default()
        };
        let again = load(&again).unwrap_or_else(|errors| panic!("{}: {errors}", setting.name));
        let shown = report::lines(&again)
            .into_iter()
            .find(|shown| shown.name == line.name)
            .unwrap();
        assert_eq!(shown.value, line.value, "{}", setting.name);
    }
}

#[test]
fn the_schema_and_the_table_are_those_of_the_settings() {
    let schema = serde_json::to_string_pretty(&report::schema()).unwrap();
    golden("config-schema.json", &format!("{schema}\n"));
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/configuration.md");
    let text = std::fs::read_to_string(path).unwrap();
    let begin = text.find("| setting |").unwrap();
    let end = begin
        + text[begin..]
            .find("\n\n")
            .map_or(text.len() - begin, |end| end + 1);
    let table = report::markdown();
    if std::env::var_os("ONAIR_BLESS").is_some() {
        std::fs::write(path, format!("{}{table}{}", &text[..begin], &text[end..])).unwrap();
        return;
    }
    assert_eq!(
        text[begin..end],
        table,
        "docs/configuration.md differs; run with ONAIR_BLESS=1"
    );
}
