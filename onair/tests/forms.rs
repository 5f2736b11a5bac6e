//! The JSON forms, line by line, against a golden file.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use onair::json::{
    self, BucketForm, CompareChange, CompareEdge, CompareForm, CompareSide, DiffForm, DiffHeader,
    EndForm, ExplainForm, FeedForm, FindingForm, HeaderForm, KeyColumns, KeyRow, KeyStepForm,
    ProgressForm, ReadyForm, RoleForm, RowColumns, RunForm, StageForm, StatusForm, StepCause,
    StepEvent, StepForm, StepParts, UpFeedForm,
};
use onair_model::Row;
use onair_sdk::raw::Value;
use onair_sdk::testing::{FakeServer, Tail, row, schema};
use onair_sdk::{Feed, FieldKind, Key, Proven, Raw, Snapshot, Step};
use onair_store::runs::{Asked, Difference, Drift, Origin, Run, Sides, State, Wish};
use serde::Serialize;

use crate::golden;

fn step(step: &Step<Raw>) -> StepForm<'_> {
    StepForm::new(StepParts {
        from: step.from,
        reason: step.reason.as_deref(),
        after: &step.snapshot,
        rewound: step.rewound,
        other_lineage: step.other_lineage,
        on: step.on.iter().map(|(key, row)| (key, row)).collect(),
        change: step
            .change
            .iter()
            .map(|change| (&change.key, &change.after))
            .collect(),
        off: step.off.iter().map(|(key, _)| key).collect(),
    })
}

/// Takes out what is another at each run.
fn scrub(line: &str) -> String {
    let mut value: serde_json::Value = serde_json::from_str(line).unwrap();
    fn walk(value: &mut serde_json::Value) {
        let serde_json::Value::Object(map) = value else {
            if let serde_json::Value::Array(all) = value {
                all.iter_mut().for_each(walk);
            }
            return;
        };
        for (key, value) in map {
            match (key.as_str(), &mut *value) {
                (
                    "commit_time" | "at" | "asked" | "started" | "from_time" | "to_time",
                    serde_json::Value::String(time),
                ) => {
                    assert!(
                        time.len() == 27 && time.ends_with('Z') && time.as_bytes()[10] == b'T',
                        "{time}"
                    );
                    *time = "TIME".to_owned();
                }
                ("gtid" | "gtid_set", serde_json::Value::String(gtid)) => {
                    let (source, rest) = gtid.split_at(36);
                    assert_eq!(source.matches('-').count(), 4, "{gtid}");
                    *gtid = format!("UUID{rest}");
                }
                ("age_ms", age) => *age = 0.into(),
                (_, value) => walk(value),
            }
        }
    }
    walk(&mut value);
    value.to_string()
}

fn line(into: &mut String, form: &impl Serialize) {
    let mut bytes = Vec::new();
    json::line(&mut bytes, form).unwrap();
    let line = String::from_utf8(bytes).unwrap();
    assert_eq!(line.matches('\n').count(), 1);
    into.push_str(&scrub(&line));
    into.push('\n');
}

/// A run that was just asked for, one that is over, and a comparison.
fn runs(text: &mut String, now: &Snapshot<Raw>, keys: [Key; 2]) {
    let asked = Asked {
        feed: "rooms".into(),
        origin: Origin::Operator,
        dry_run: true,
        rate_max: std::num::NonZeroU64::new(50_000),
    };
    let mut run = Run::new(asked, 1_795_341_600_123_456);
    run.id = "1rxsyqkd".into();
    line(text, &RunForm::new(&run, None));
    let rows = keys.each_ref().map(|key| {
        let row = now.get(key).expect("it is live");
        Row::new(row.bytes().clone())
    });
    let schema = Arc::new(now.schema().clone());
    run.begin("process 7", 1_795_341_601_000_000);
    run.rows_expected = 3;
    run.rows_scanned = 2;
    run.database = Duration::from_millis(731);
    run.database_bytes = 5_120;
    run.compared = Some(now.version());
    run.drift_before = 2;
    run.drift_after = 2;
    run.wish = Some(Wish::Approve);
    run.drift = Some(Drift {
        missing: 0,
        extra: 1,
        stale: 1,
        examples: vec![
            Difference {
                key: keys[0].clone(),
                sides: Sides::Extra {
                    held: rows[0].clone(),
                },
            },
            Difference {
                key: keys[1].clone(),
                sides: Sides::Stale {
                    source: rows[1].clone(),
                    held: rows[0].clone(),
                },
            },
        ],
    });
    run.detail = "a scan leaves 1 of 3 rows".to_owned();
    run.state = State::Held;
    line(text, &RunForm::new(&run, Some(&schema)));
    let edges = [
        (true, Some(1_500_000), Some(0), None),
        (false, Some(0), Some(20_000), None),
        (true, None, Some(0), Some("feed")),
        (false, Some(0), None, Some("polling")),
        (true, None, Some(0), None),
    ];
    for (opened, polling, feed, only) in edges {
        let at = |micros: i64| 1_795_341_600_123_456 + micros;
        let edge = CompareEdge {
            opened,
            polling: polling.map(at),
            feed: feed.map(at),
            only,
        };
        line(
            text,
            &CompareChange::new(KeyColumns(&schema, &keys[0]), edge),
        );
    }
    let side = |opens, only| CompareSide {
        opens,
        closes: 3,
        only,
    };
    let compared = CompareForm {
        kind: "summary",
        feed: "rooms",
        ms: 60_004,
        poll_ms: 3000,
        old: side(4, 0),
        new: side(6, 2),
        polls: 21,
        polled_rows: 63,
        database_ms: 40,
        database_bytes: 107_520,
        sooner: 7,
        sooner_ms_p50: Some(1500),
        sooner_ms_max: Some(2990),
        later: 0,
        later_ms_p50: None,
        later_ms_max: None,
    };
    line(text, &compared);
}

#[tokio::test]
async fn every_form() {
    let mut text = String::new();
    let keys = [("region", FieldKind::Text), ("id", FieldKind::UInt)];
    let columns = [
        ("title", FieldKind::Text),
        ("price", FieldKind::Decimal),
        ("extra", FieldKind::Json),
        ("photo", FieldKind::Binary),
    ];
    let schema = schema("rooms", &keys, &columns);
    let room = |title: &'static str| {
        let values = [
            ("title", Value::Text(Cow::Borrowed(title))),
            ("price", Value::Text("-1.50".into())),
            ("extra", Value::Text(r#"{"a": [1, 2.50]}"#.into())),
            ("photo", Value::Bytes(Cow::Borrowed(b"\x00\xff"))),
        ];
        row(&schema, &values)
    };
    let server = FakeServer::start(schema.clone());
    server.on(("eu", 1), room("one"));
    server.on(("eu", 2), room("two"));
    server.commit();
    server.prove();
    let feed = Feed::<Raw>::connect([server.endpoint()], "rooms")
        .await
        .unwrap();
    let mut changes = feed.changes();
    let first = changes.next().await.unwrap();
    line(&mut text, &step(&first));
    line(&mut text, &ProgressForm::new(&first.snapshot));

    server.on(
        ("us", 3),
        row(&schema, &[("title", Value::Text("three".into()))]),
    );
    server.on(("eu", 1), room("one, changed"));
    server.off(("eu", 2));
    let version = server.commit();
    feed.wait_for(version).await.unwrap();
    let second = changes.next().await.unwrap();
    line(&mut text, &step(&second));

    let version = server.open_epoch(Tail::Lost);
    feed.wait_for(version).await.unwrap();
    let third = changes.next().await.unwrap();
    line(&mut text, &step(&third));

    let now = feed.snapshot();
    let proven = Proven {
        version: now.version(),
        at: 1_795_341_600_123_456,
    };
    line(
        &mut text,
        &HeaderForm {
            feed: "rooms",
            version: now.version(),
            gtid: now.gtid(),
            commit_time: now.commit_time(),
            count: now.len() as u64,
            digest: now.digest(),
            proven: Some(proven.into()),
        },
    );
    runs(
        &mut text,
        &now,
        [server.key(("eu", 1)), server.key(("us", 3))],
    );
    let key = server.key(("us", 3));
    line(&mut text, &KeyRow::new(&schema, &key, now.get(&key)));
    line(
        &mut text,
        &KeyRow::new(&schema, &server.key(("us", 4)), None),
    );
    line(
        &mut text,
        &StatusForm {
            build: "onair 0.1.0 (abc)".to_owned(),
            feeds: vec![FeedForm {
                feed: "rooms".to_owned(),
                ready: true,
                version: Some(now.version()),
                count: Some(2),
                digest: Some(now.digest()),
                gtid: now.gtid().map(ToString::to_string),
                commit_time: json::time(now.commit_time()),
                age_ms: Some(7),
                proven: Some(proven.into()),
                clients: 1,
                held: None,
                buckets: vec![BucketForm {
                    bucket: 0,
                    d: now.version(),
                    through: now.version(),
                    count: 2,
                    stopped: Some("gap".to_owned()),
                }],
            }],
            roles: vec![RoleForm {
                role: "reader".to_owned(),
                state: "following".to_owned(),
                detail: String::new(),
                process: "db-7:7480".to_owned(),
                at: onair::json::time(1_760_000_000_000_000),
            }],
        },
    );
    line(
        &mut text,
        &[FindingForm {
            check: "gtid_mode",
            level: "fail",
            seen: "OFF",
            why: "positions are GTID sets",
            fix: "SET ..",
        }],
    );
    let of_feed = || {
        vec![UpFeedForm {
            name: "room".into(),
            version: Some(now.version()),
            count: 98_214,
        }]
    };
    line(
        &mut text,
        &ReadyForm::new(
            (
                "127.0.0.1:7400".to_owned(),
                Some("127.0.0.1:7480".to_owned()),
            ),
            of_feed(),
            "/data".to_owned(),
        ),
    );
    line(&mut text, &EndForm::new("signal", 1200, of_feed()));
    line(
        &mut text,
        &DiffHeader {
            feed: "rooms",
            from: first.snapshot.version(),
            from_time: 1_795_341_600_123_456,
            to: now.version(),
            to_time: 0,
            on: 1,
            change: 1,
            off: 1,
        },
    );
    let row = now.get(&key);
    line(
        &mut text,
        &DiffForm::new(StepEvent::On, &schema, &key, (None, row)),
    );
    line(
        &mut text,
        &DiffForm::new(StepEvent::Off, &schema, &key, (row, None)),
    );
    let causes = [
        (StepEvent::On, StepCause::Kept),
        (StepEvent::Change, StepCause::Epoch),
        (StepEvent::Change, StepCause::Replace),
        (StepEvent::Off, StepCause::Binlog),
    ];
    for (event, cause) in causes {
        let gtid = first.snapshot.gtid().copied();
        line(
            &mut text,
            &KeyStepForm {
                event,
                version: now.version(),
                cause,
                gtid: gtid.filter(|_| cause == StepCause::Binlog),
                commit_time: i64::from(cause == StepCause::Binlog),
                row: row.filter(|_| event != StepEvent::Off).map(RowColumns),
            },
        );
    }
    line(
        &mut text,
        &ExplainForm {
            feed: "rooms",
            key: KeyColumns(&schema, &key),
            bucket: 3,
            stages: vec![
                StageForm {
                    name: "store",
                    server: Some("http://127.0.0.1:7400"),
                    verdict: "agrees",
                    live: Some(true),
                    row: row.map(RowColumns),
                    since: Some(first.snapshot.version()),
                    version: Some(now.version()),
                    gtid: first.snapshot.gtid().copied(),
                    commit_time: 1,
                    position: Some("binlog.000004:1234"),
                    age_ms: Some(7),
                    place: "base 01 at 1-1",
                },
                StageForm {
                    name: "log",
                    server: None,
                    verdict: "unknown",
                    live: None,
                    row: None,
                    since: None,
                    version: None,
                    gtid: None,
                    commit_time: 0,
                    position: None,
                    age_ms: None,
                    place: "no entry touches the key",
                },
            ],
        },
    );
    golden("json-forms.jsonl", &text);
}
