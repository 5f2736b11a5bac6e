//! The verbs of reconciliation runs on a running `onair up` with the demo, and what `compare` says where it cannot.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::process::{Up, command, onair};

/// Nothing here takes longer on the slowest machine.
const LONG: Duration = Duration::from_secs(60);

fn up(rate: &str) -> Up {
    Up::start(&["--json", "--demo-rows", "4000", "--demo-rate", rate])
}

fn id(run: &Value) -> String {
    run["run"].as_str().unwrap().to_owned()
}

/// Shows the run until it is so.
fn until(up: &Up, id: &str, what: &str, so: impl Fn(&Value) -> bool) -> Value {
    let began = Instant::now();
    loop {
        let run = up.lines(&["runs", "show", id, "--json"]).remove(0);
        if so(&run) {
            return run;
        }
        assert!(began.elapsed() < LONG, "never {what}: {run}");
    }
}

#[test]
fn a_run_is_asked_for_waited_for_listed_and_shown() {
    let up = up("100");
    // A pipe: JSON lines without being asked for them.
    let waited = up.run(&["reconcile", "room", "--wait"]);
    assert_eq!(waited.status.code(), Some(0), "{waited:?}");
    let text = String::from_utf8(waited.stdout).unwrap();
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines[0]["state"], "asked");
    let last = lines.last().unwrap();
    assert_eq!(
        (&last["state"], &last["origin"]),
        (&"done".into(), &"operator".into())
    );
    assert_eq!(
        (&last["buckets_before"], &last["buckets_after"]),
        (&0.into(), &0.into())
    );
    assert_eq!(last["drift"]["missing"], 0);
    assert!(last["rows_scanned"].as_u64() > Some(0), "{last}");
    assert!(last["proven"]["version"].is_string(), "{last}");

    let dry = up
        .lines(&["reconcile", "room", "--dry-run", "--json"])
        .remove(0);
    assert_eq!(
        (&dry["state"], &dry["dry_run"]),
        (&"asked".into(), &true.into())
    );
    let dry = until(&up, &id(&dry), "over", |run| run["ended"].is_string());
    assert_eq!(dry["state"], "done");

    let listed = up.lines(&["runs", "room", "--json"]);
    let ids: Vec<String> = listed.iter().map(id).collect();
    assert!(
        ids.contains(&id(last)) && ids.contains(&id(&dry)),
        "{ids:?}"
    );
    let table = String::from_utf8(up.run(&["runs"]).stdout).unwrap();
    assert!(table.starts_with("run\tfeed\tstate\torigin\t"), "{table}");
    assert!(table.contains("\tdone, dry\toperator\t"), "{table}");
    let named = format!("room/{}", id(last));
    let shown = String::from_utf8(up.run(&["runs", "show", &named]).stdout).unwrap();
    for part in [
        "of feed room: done",
        "asked",
        "scanned",
        "drift     none",
        "proven",
    ] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    up.stop();
}

#[test]
fn a_run_is_paused_resumed_and_cancelled() {
    let up = up("0");
    // 4,000 rows of the table, 100 a second.
    let slow = ["reconcile", "room", "--max-rate", "100", "--json"];
    let run = id(&up.lines(&slow)[0]);
    until(&up, &run, "running", |run| run["state"] == "running");
    let paused = up.lines(&["runs", "pause", &run, "--json"]).remove(0);
    assert_eq!(paused["wish"], "pause");
    until(&up, &run, "paused", |run| run["state"] == "paused");
    let refused = up.run(&["runs", "approve", &run]);
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    up.lines(&["runs", "resume", &run, "--json"]);
    until(&up, &run, "running", |run| run["state"] == "running");
    let text = up.run(&["runs", "cancel", &run]);
    let text = String::from_utf8(text.stdout).unwrap();
    assert!(text.contains("told to cancel it"), "{text}");
    let over = until(&up, &run, "over", |run| run["ended"].is_string());
    assert_eq!(
        (&over["state"], &over["begun"]),
        (&"cancelled".into(), &1.into())
    );

    // Who waits for a run that is cancelled is told so.
    let url = up.url();
    let waiting = std::thread::spawn(move || {
        let waits = [
            "reconcile",
            "room",
            "--wait",
            "--max-rate",
            "100",
            "--server",
            &url,
        ];
        onair(&waits)
    });
    let began = Instant::now();
    let run = loop {
        let runs = up.lines(&["runs", "--json"]);
        if let Some(run) = runs.iter().find(|run| run["state"] == "running") {
            break id(run);
        }
        assert!(began.elapsed() < LONG, "never running");
    };
    up.lines(&["runs", "cancel", &run, "--json"]);
    assert_eq!(waiting.join().unwrap().status.code(), Some(1));
    up.stop();
}

#[test]
fn who_stops_waiting_is_not_told_that_nothing_differs() {
    let up = up("0");
    for (signal, code) in [("INT", 130), ("TERM", 143)] {
        let url = up.url();
        let arguments = ["reconcile", "room", "--wait", "--max-rate", "100"];
        let mut words = command(&[&arguments[..], &["--server", &url]].concat());
        words.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut waiting = words.spawn().unwrap();
        // It listens to signals once it says how the run is.
        let mut lines = BufReader::new(waiting.stdout.take().unwrap()).lines();
        let run = loop {
            let line = lines.next().expect("it waits").unwrap();
            let run: Value = serde_json::from_str(&line).unwrap();
            if run["state"] == "running" {
                break id(&run);
            }
        };
        let sent = Command::new("kill")
            .args([format!("-{signal}"), waiting.id().to_string()])
            .status();
        assert!(sent.unwrap().success());
        let ended = waiting.wait_with_output().unwrap();
        assert_eq!(ended.status.code(), Some(code), "{ended:?}");
        let said = String::from_utf8(ended.stderr).unwrap();
        assert!(said.contains("the run goes on"), "{said}");
        let goes_on = up.lines(&["runs", "show", &run, "--json"]).remove(0);
        assert_eq!(goes_on["state"], "running");
        up.lines(&["runs", "cancel", &run, "--json"]);
        until(&up, &run, "over", |run| run["ended"].is_string());
    }
    up.stop();
}

#[test]
fn the_demo_cannot_be_polled() {
    let demo = onair(&["compare", "room"]);
    assert_eq!(demo.status.code(), Some(2), "{demo:?}");
    let text = String::from_utf8(demo.stderr).unwrap();
    assert!(
        text.contains("the demo's table stands in the memory of `onair up`"),
        "{text}"
    );
}
