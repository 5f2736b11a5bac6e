//! The verbs that read the past, against what `watch` saw as it happened. The source is the demo.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::process::{Up, onair};

/// Nothing here takes longer on the slowest machine.
const LONG: Duration = Duration::from_secs(60);

type Content = BTreeMap<String, Value>;

/// The feed at every version that `watch` showed, in order, and which keys its steps named.
fn seen(steps: &[Value]) -> Vec<(String, Content)> {
    let mut content = Content::new();
    let mut seen = Vec::new();
    for step in steps.iter().filter(|step| step["type"] != "progress") {
        for kind in ["on", "change"] {
            for entry in step[kind].as_array().unwrap() {
                content.insert(entry["key"].to_string(), entry["row"].clone());
            }
        }
        for entry in step["off"].as_array().unwrap() {
            content.remove(&entry["key"].to_string());
        }
        seen.push((
            step["version"].as_str().unwrap().to_owned(),
            content.clone(),
        ));
    }
    seen
}

fn rows(lines: &[Value]) -> Content {
    let row = |line: &Value| (line["key"].to_string(), line["row"].clone());
    lines.iter().map(row).collect()
}

/// A command against the server: its exit code and the lines that it wrote.
fn read(up: &Up, arguments: &[&str]) -> (i32, Vec<Value>) {
    let url = up.url();
    let ended = onair(&[arguments, &["--json", "--server", &url]].concat());
    let text = String::from_utf8(ended.stdout.clone()).unwrap();
    let lines = text.lines().map(serde_json::from_str);
    let lines = lines.collect::<Result<_, _>>();
    let code = ended.status.code().unwrap();
    (
        code,
        lines.unwrap_or_else(|_| panic!("{arguments:?}: {ended:?}")),
    )
}

/// The one column of a key.
fn number(key: &str) -> String {
    let key: Value = serde_json::from_str(key).unwrap();
    let mut columns = key.as_object().unwrap().values();
    columns.next().unwrap().to_string()
}

/// How many places of `explain` tell where in the binlog the last change is.
fn positioned(stages: &Value) -> usize {
    let mut count = 0;
    for stage in stages.as_array().unwrap() {
        let Some(position) = stage["position"].as_str() else {
            continue;
        };
        let (file, at) = position.split_once(':').unwrap();
        assert!(
            !file.is_empty() && at.parse::<u64>().unwrap() > 4,
            "{stage}"
        );
        assert!(stage["gtid"].is_string(), "{stage}");
        count += 1;
    }
    count
}

#[test]
fn the_past_is_what_was_seen() {
    let up = Up::start(&["--json", "--demo-rows", "600", "--demo-rate", "60"]);
    let (code, steps) = read(&up, &["watch", "room", "--for", "8s"]);
    assert_eq!(code, 0);
    let seen = seen(&steps);
    // What was shown last may not be folded yet.
    let folded = &seen[..seen.len() * 2 / 3];
    assert!(folded.len() > 50, "{}", folded.len());

    for (version, content) in folded.iter().step_by(folded.len() / 12) {
        let (code, dump) = read(&up, &["dump", "room", "--at", version]);
        assert_eq!(code, 0, "{dump:?}");
        assert_eq!(dump[0]["version"], **version);
        assert_eq!(dump[0]["count"], content.len());
        assert_eq!(rows(&dump[1..]), *content, "at {version}");
    }

    // Before the first cut there is nothing, also where that has no transaction yet.
    assert_eq!(read(&up, &["dump", "room", "--at", "1h"]), (1, Vec::new()));
    let (code, dump) = read(&up, &["dump", "room", "--at", "1s"]);
    assert_eq!(code, 0, "{dump:?}");
    assert_eq!(dump[0]["count"], dump.len() - 1);
    let at = dump[0]["version"].as_str().unwrap();
    if let Some((_, content)) = seen.iter().find(|(version, _)| version == at) {
        assert_eq!(rows(&dump[1..]), *content, "at {at}");
    }

    let ((from, before), (to, after)) = (&folded[0], &folded[folded.len() - 1]);
    let (code, diff) = read(&up, &["diff", "room", from, to]);
    assert_eq!(code, 3);
    assert_eq!(
        (&diff[0]["from"], &diff[0]["to"]),
        (&from[..].into(), &to[..].into())
    );
    let mut patched = before.clone();
    for line in &diff[1..] {
        let key = line["key"].to_string();
        let held = patched.get(&key).cloned().unwrap_or_default();
        assert_eq!(line["before"], held, "{line}");
        match line["type"].as_str().unwrap() {
            "off" => assert_eq!(patched.remove(&key), Some(held)),
            kind => {
                assert_eq!(kind == "on", held.is_null(), "{line}");
                assert_ne!(line["row"], held);
                patched.insert(key, line["row"].clone());
            }
        }
    }
    assert_eq!(patched, *after);
    let counted: u64 = ["on", "change", "off"]
        .iter()
        .map(|kind| diff[0][kind].as_u64().unwrap())
        .sum();
    assert_eq!(counted, diff.len() as u64 - 1);
    let (code, diff) = read(&up, &["diff", "room", to, to]);
    assert_eq!((code, diff.len()), (0, 1));

    // The keys that changed most often, step by step.
    let mut changes: BTreeMap<&str, usize> = BTreeMap::new();
    for pair in folded.windows(2) {
        let (before, after) = (&pair[0].1, &pair[1].1);
        for key in before.keys().chain(after.keys()) {
            if before.get(key) != after.get(key) {
                *changes.entry(key).or_default() += 1;
            }
        }
    }
    let mut often: Vec<_> = changes.into_iter().collect();
    often.sort_by_key(|(_, changes)| std::cmp::Reverse(*changes));
    for (key, _) in &often[..3] {
        let id = number(key);
        let (code, history) = read(&up, &["history", "room", &id]);
        assert_eq!(code, 0);
        let version = |text: &str| -> (u64, u64) {
            let (epoch, sequence) = text.split_once('-').unwrap();
            (epoch.parse().unwrap(), sequence.parse().unwrap())
        };
        for (at, content) in folded {
            let until = history
                .iter()
                .take_while(|step| version(step["version"].as_str().unwrap()) <= version(at));
            let row = until.last().map_or(&Value::Null, |step| &step["row"]);
            assert_eq!(
                row,
                content.get(*key).unwrap_or(&Value::Null),
                "{key} at {at}"
            );
        }
        for (at, step) in history.iter().enumerate() {
            let is_first = at == 0 && step["cause"] == "kept";
            assert!(is_first || step["cause"] == "binlog", "{step}");
            assert_eq!(step["gtid"].is_string(), !is_first, "{step}");
            assert_eq!(step["commit_time"].is_string(), !is_first, "{step}");
        }
        let last = history.last().unwrap()["commit_time"].as_str().unwrap();
        let (code, since) = read(&up, &["history", "room", &id, "--from", last, "--to", last]);
        assert_eq!(code, 0);
        assert_eq!(
            since
                .iter()
                .filter(|step| step["cause"] == "binlog")
                .collect::<Vec<_>>(),
            [history.last().unwrap()]
        );
    }
    // A key that changes all the time is somewhere on its way, and nobody contradicts another.
    let mut positions = 0;
    for (key, _) in &often[..10] {
        let id = number(key);
        let (code, explained) = read(&up, &["explain", "room", &id, "--server", &up.url()]);
        let stages = explained[0]["stages"].as_array().unwrap();
        let names: Vec<_> = stages.iter().map(|stage| &stage["name"]).collect();
        // The same server twice: log and store are told once. No configuration: the table is not asked, and that is told.
        assert_eq!(names, ["mysql", "log", "store", "server", "server"]);
        let why = stages[0]["place"].as_str().unwrap();
        assert!(
            why.starts_with("not asked: ") && why.contains("--config"),
            "{why}"
        );
        assert_eq!(code, 0, "{stages:?}");
        for stage in stages {
            assert_ne!(stage["verdict"], "disagrees", "{stages:?}");
            assert_eq!(stage["live"].is_null(), stage["verdict"] == "unknown");
            let known = stage["live"] == true;
            assert_eq!(stage["row"].is_object(), known, "{stages:?}");
        }
        assert!(
            stages[2..].iter().all(|stage| stage["version"].is_string()),
            "{stages:?}"
        );
        positions += positioned(&explained[0]["stages"]);
    }
    // Sooner or later one of them has just changed.
    let began = Instant::now();
    for (key, _) in often.iter().cycle() {
        if positions > 0 {
            break;
        }
        assert!(
            began.elapsed() < LONG,
            "no place knows where in the binlog a change is"
        );
        let (_, explained) = read(&up, &["explain", "room", &number(key)]);
        positions += positioned(&explained[0]["stages"]);
    }
    let (code, history) = read(&up, &["history", "room", "999999999"]);
    assert_eq!((code, history.len()), (3, 0));
}
