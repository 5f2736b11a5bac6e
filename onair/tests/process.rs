//! The process: ready line, steps, exit codes, signals, closed pipes. The source is the demo, the port any.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// Nothing here takes longer on the slowest machine.
const LONG: Duration = Duration::from_secs(60);

pub(crate) fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_onair"));
    command.args(arguments).stdin(Stdio::null());
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("ONAIR_") {
            command.env_remove(name);
        }
    }
    command
}

/// Runs a command to its end.
pub(crate) fn onair(arguments: &[&str]) -> Output {
    command(arguments).output().unwrap()
}

/// A running `onair up`.
pub(crate) struct Up {
    child: Child,
    out: BufReader<ChildStdout>,
    first: String,
}

impl Up {
    /// Starts it on any port and waits for its first line.
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let mut arguments = arguments.to_vec();
        arguments.splice(0..0, ["up", "--listen", "127.0.0.1:0"]);
        Up::of(command(&arguments))
    }

    /// Of a command that ends up as it.
    pub(crate) fn of(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut first = String::new();
        out.read_line(&mut first).unwrap();
        Up { child, out, first }
    }

    fn ready(&self) -> Value {
        serde_json::from_str(&self.first)
            .unwrap_or_else(|_| panic!("no ready line: {:?}", self.first))
    }

    /// Where it listens.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address())
    }

    /// The same as `host:port`.
    pub(crate) fn address(&self) -> String {
        self.ready()["grpc"].as_str().unwrap().to_owned()
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        let url = self.url();
        let mut arguments = arguments.to_vec();
        arguments.extend(["--server", &url]);
        onair(&arguments)
    }

    pub(crate) fn lines(&self, arguments: &[&str]) -> Vec<Value> {
        let ended = self.run(arguments);
        assert!(ended.status.success(), "{arguments:?}: {ended:?}");
        let text = String::from_utf8(ended.stdout).unwrap();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it writes to standard error, where that is a pipe.
    pub(crate) fn stderr(&mut self) -> std::process::ChildStderr {
        self.child.stderr.take().unwrap()
    }

    /// SIGTERM; the rest of its output, and how long it took.
    pub(crate) fn stop(self) -> (String, Duration) {
        self.end("-TERM")
    }

    /// Ends it by a signal, in peace; the rest of its output, and how long it took.
    fn end(mut self, signal: &str) -> (String, Duration) {
        let began = Instant::now();
        let killed = Command::new("kill")
            .args([signal, &self.child.id().to_string()])
            .status()
            .unwrap();
        assert!(killed.success());
        let mut rest = String::new();
        self.out.read_to_string(&mut rest).unwrap();
        let status = self.child.wait().unwrap();
        assert_eq!(status.code(), Some(0), "{rest}");
        (rest, began.elapsed())
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        // Dead already unless a test failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

type Content = BTreeMap<String, Value>;

fn apply(step: &Value, content: &mut Content) {
    for kind in ["on", "change"] {
        for entry in step[kind].as_array().unwrap() {
            content.insert(entry["key"].to_string(), entry["row"].clone());
        }
    }
    for entry in step["off"].as_array().unwrap() {
        content.remove(&entry["key"].to_string());
    }
    assert_eq!(
        step["count"],
        content.len(),
        "{} to {}",
        step["from"],
        step["version"]
    );
}

fn rows(dump: &[Value]) -> Content {
    let content: Content = dump[1..]
        .iter()
        .map(|line| (line["key"].to_string(), line["row"].clone()))
        .collect();
    assert_eq!(dump[0]["count"], content.len());
    content
}

#[test]
fn the_banner_comes_at_once_and_the_feed_soon() {
    let began = Instant::now();
    let mut up = Up::start(&[]);
    let banner = began.elapsed();
    let mut text = up.first.clone();
    while !text.contains("ready after") {
        assert_ne!(up.out.read_line(&mut text).unwrap(), 0, "{text}");
    }
    let ready = began.elapsed();
    for part in [
        "source",
        "built-in demo",
        "grpc",
        "http://127.0.0.1:",
        "keeps",
        "try:",
        "watch room",
        "status",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(!text.contains('\x1b'), "no colours in a pipe: {text:?}");
    let (rest, stopped) = up.stop();
    assert!(rest.contains("ended after"), "{rest}");
    println!("banner after {banner:?}, complete after {ready:?}, stopped after {stopped:?}");
    assert!(banner < LONG && ready < LONG && stopped < LONG);
}

#[test]
fn steps_add_up_to_what_dump_and_get_say() {
    let up = Up::start(&[
        "--json",
        "--demo-rows",
        "3000",
        // Not so many that a version is often shown together with the next one.
        "--demo-rate",
        "20",
        "--demo-seed",
        "7",
    ]);
    let ready = up.ready();
    assert_eq!(ready["event"], "ready");
    assert_eq!(ready["feeds"][0]["name"], "room");
    let url = up.url();
    let mut watching = command(&["watch", "room", "--json", "--for", "6s", "--server", &url])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut watched = BufReader::new(watching.stdout.take().unwrap());
    let mut lines = String::new();
    // A dump before the first step would be of a version that is never seen.
    watched.read_line(&mut lines).unwrap();
    let mut dumps = Vec::new();
    for _ in 0..12 {
        dumps.push(up.lines(&["dump", "room", "--json"]));
    }
    watched.read_to_string(&mut lines).unwrap();
    assert!(watching.wait().unwrap().success());
    let (mut content, mut states, mut last, mut progress) =
        (Content::new(), BTreeMap::new(), Value::Null, 0);
    for line in lines.lines() {
        let step: Value = serde_json::from_str(line).unwrap();
        match step["type"].as_str().unwrap() {
            "progress" => {
                assert_eq!(step["version"], last);
                progress += 1;
                continue;
            }
            kind => assert_eq!(kind == "snapshot", last.is_null()),
        }
        assert_eq!(step["from"], last);
        assert_eq!(step["gtid_set"].is_string(), last.is_null());
        last = step["version"].clone();
        apply(&step, &mut content);
        states.insert(last.to_string(), content.clone());
    }
    let compared = dumps.iter().filter(|dump| {
        let Some(state) = states.get(&dump[0]["version"].to_string()) else {
            return false;
        };
        assert_eq!(*state, rows(dump));
        true
    });
    let compared = compared.count();
    println!(
        "{} versions, {progress} progress lines, {compared} dumps compared",
        states.len()
    );
    assert!(states.len() > 5 && compared > 0);

    let dump = dumps.last().unwrap();
    let mut held = rows(dump);
    let version = dump[0]["version"].as_str().unwrap();
    let resumed = up.lines(&["watch", "room", "--json", "--for", "2s", "--from", version]);
    assert_eq!(resumed[0]["type"], "delta");
    assert_eq!(resumed[0]["from"], version);
    for step in resumed.iter().filter(|step| step["type"] != "progress") {
        apply(step, &mut held);
    }

    let gtid = resumed[0]["gtid"].as_str().unwrap().to_owned();
    assert!(
        up.run(&["watch", "room", "--until-gtid", &gtid, "--for", "30s"])
            .status
            .success()
    );
    up.stop();
}

/// What a probe answers: the status and the body.
fn probe(address: &str, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(LONG)).unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, body.to_owned())
}

#[test]
fn probes_tell_that_it_is_ready() {
    let up = Up::start(&[
        "--json",
        "--demo-rows",
        "500",
        "--demo-rate",
        "20",
        "--admin-listen",
        "127.0.0.1:0",
    ]);
    let ready = up.ready();
    let admin = ready["admin"].as_str().unwrap();
    assert_eq!(probe(admin, "/live"), (200, "live\n".to_owned()));
    // The feed is there; that the reader follows it may take a moment more.
    let began = Instant::now();
    let body = loop {
        let (status, body) = probe(admin, "/ready");
        let body: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(status == 200, body["ready"] == true, "{status}: {body}");
        if status == 200 {
            break body;
        }
        assert_eq!(status, 503, "{body}");
        assert!(began.elapsed() < LONG, "never ready: {body}");
    };
    let roles = body["roles"].as_array().unwrap().iter();
    let roles: Vec<_> = roles
        .map(|role| (role["role"].as_str().unwrap(), role["ready"] == true))
        .collect();
    assert_eq!(
        roles,
        [("reader", true), ("merger", true), ("server", true)]
    );
    assert_eq!(probe(admin, "/elsewhere").0, 404);
    up.stop();
}

#[test]
fn probes_tell_that_it_is_not_ready() {
    // A database that takes connections and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let source = format!("mysql://onair@{}", silent.local_addr().unwrap());
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data").display().to_string();
    let mut up = Up::start(&[
        "--mysql",
        &source,
        "--table",
        "live.room",
        "--live-when",
        "live_status = 1",
        "--columns",
        "uid",
        "--data-dir",
        &data,
        "--admin-listen",
        "127.0.0.1:0",
    ]);
    let mut line = up.first.clone();
    while !line.contains("admin") {
        line.clear();
        assert_ne!(up.out.read_line(&mut line).unwrap(), 0, "no banner");
    }
    let admin = line.trim().rsplit("http://").next().unwrap();
    let (status, body) = probe(admin, "/ready");
    assert_eq!(status, 503, "{body}");
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(
        body,
        serde_json::json!({"ready": false, "waiting": "starting", "roles": []})
    );
    assert_eq!(probe(admin, "/live").0, 200);
    up.stop();
}

#[test]
fn a_table_at_rest_reads_the_same_everywhere() {
    let up = Up::start(&[
        "--json",
        "--demo-rows",
        "1000",
        "--demo-rate",
        "0",
        "--demo-seed",
        "3",
    ]);
    let dump = up.lines(&["dump", "room", "--json"]);
    assert!(dump.len() > 3, "{dump:?}");
    let keys: Vec<u64> = dump[1..]
        .iter()
        .map(|line| line["key"]["id"].as_u64().unwrap())
        .collect();
    assert!(keys.is_sorted());
    let got = up.lines(&[
        "get",
        "room",
        &keys[0].to_string(),
        &keys[2].to_string(),
        "--json",
    ]);
    assert_eq!(got[0]["digest"], dump[0]["digest"]);
    assert_eq!(got[1..], [dump[1].clone(), dump[3].clone()]);
    let status = &up.lines(&["status", "--json"])[0];
    let feed = &status["feeds"][0];
    for key in ["version", "digest", "count", "gtid"] {
        assert_eq!(feed[key], dump[0][key], "{key}");
    }
    assert_eq!(feed["buckets"].as_array().unwrap().len(), 16);
    let roles: Vec<&str> = status["roles"]
        .as_array()
        .unwrap()
        .iter()
        .map(|role| role["role"].as_str().unwrap())
        .collect();
    assert_eq!(roles, ["reader", "merger", "server"]);
    let absent = up.run(&["get", "room", "999999", &keys[0].to_string(), "--json"]);
    assert_eq!(absent.status.code(), Some(3));
    let text = String::from_utf8(absent.stdout).unwrap();
    assert!(
        text.lines().nth(1).unwrap().ends_with("\"row\":null}"),
        "{text}"
    );
    let proto = String::from_utf8(up.run(&["schema", "room"]).stdout).unwrap();
    assert!(proto.contains("message Room {"), "{proto}");
    let (rest, _) = up.stop();
    let end: Value = serde_json::from_str(&rest).unwrap();
    assert_eq!(
        (&end["event"], &end["reason"]),
        (&"end".into(), &"signal".into())
    );
}

#[test]
fn a_closed_pipe_ends_in_peace() {
    let up = Up::start(&["--json", "--demo-rows", "50000", "--demo-rate", "100"]);
    let url = up.url();
    for verb in ["dump", "watch"] {
        let mut child = command(&[verb, "room", "--json", "--server", &url])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut byte = [0];
        let mut out = child.stdout.take().unwrap();
        out.read_exact(&mut byte).unwrap();
        drop(out);
        let ended = child.wait_with_output().unwrap();
        assert_eq!(ended.status.code(), Some(0), "{verb}: {ended:?}");
        assert!(ended.stderr.is_empty(), "{verb}: {ended:?}");
    }
    up.stop();
}

#[test]
fn a_data_directory_is_emptied_when_asked() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data").display().to_string();
    let stay = dir.path().join("data/mine.txt");
    let version = |arguments: &[&str]| {
        let up = Up::start(
            &[
                &[
                    "--json",
                    "--demo-rows",
                    "500",
                    "--demo-rate",
                    "50",
                    "--data-dir",
                    &data,
                ],
                arguments,
            ]
            .concat(),
        );
        let epoch = up.ready()["feeds"][0]["version"]
            .as_str()
            .unwrap()
            .split('-')
            .next()
            .unwrap()
            .to_owned();
        std::fs::write(&stay, "mine").unwrap();
        up.stop();
        epoch
    };
    assert_eq!(version(&[]), "1");
    assert_eq!(version(&["--reset", "--yes"]), "1", "a new lineage begins");
    assert!(stay.exists(), "only what OnAir put there goes");
}

#[test]
fn an_end_before_it_is_ready_is_told() {
    // It takes connections, and says nothing.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("mysql://onair@{}", silent.local_addr().unwrap());
    let of_table = [
        "--mysql",
        &url,
        "--table",
        "live.room",
        "--live-when",
        "TRUE",
        "--columns",
        "uid",
    ];
    let words = [&["up", "--listen", "127.0.0.1:0"][..], &of_table].concat();

    let ended = onair(&[&words[..], &["--json", "--for", "1s"]].concat());
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    let end: Value = serde_json::from_slice(&ended.stdout).unwrap();
    assert_eq!(
        (&end["event"], &end["reason"]),
        (&"end".into(), &"time".into())
    );
    assert_eq!(end["feeds"], Value::Array(Vec::new()));

    // Its first line is the banner's.
    let up = Up::of(command(&words));
    let (rest, _) = up.end("-INT");
    assert!(rest.contains("it was never ready"), "{rest}");
}

#[test]
fn the_time_ends_it_too() {
    let ended = onair(&[
        "up",
        "--listen",
        "127.0.0.1:0",
        "--json",
        "--for",
        "2s",
        "--demo-rows",
        "100",
    ]);
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    let text = String::from_utf8(ended.stdout).unwrap();
    assert!(
        text.lines().last().unwrap().contains("\"reason\":\"time\""),
        "{text}"
    );
}

#[test]
fn every_verb_helps_with_an_example() {
    for verb in [
        "up",
        "watch",
        "get",
        "dump",
        "status",
        "doctor",
        "schema",
        "reconcile",
        "runs",
        "compare",
        "config",
    ] {
        let help = String::from_utf8(onair(&[verb, "--help"]).stdout).unwrap();
        assert!(help.contains(&format!("  onair {verb}")), "{help}");
    }
    let version = String::from_utf8(onair(&["--version"]).stdout).unwrap();
    assert!(
        version.starts_with("onair 0.") && version.contains('('),
        "{version}"
    );
}
