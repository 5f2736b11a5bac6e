//! What the command line says when something is wrong: every text and its exit code, against a golden file.

use crate::golden;
use crate::process::{Up, onair};

#[test]
fn every_error_text() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let bad = file("bad.toml", "[server]\nlistn = 1\nclients_max = 0\n");
    let absent_password = file(
        "password.toml",
        "[source]\nurl = \"mysql://onair@127.0.0.1:1\"\npassword_file = \"/nonexistent/password\"\n[[feed]]\ntable = \"live.room\"\nlive_when = \"TRUE\"\ncolumns = [\"uid\"]\n",
    );
    let no_condition = file(
        "condition.toml",
        "[source]\nurl = \"mysql://onair@127.0.0.1:1\"\n[[feed]]\ntable = \"live.room\"\nlive_when = \"a = = NOW(\"\ncolumns = [\"uid\"]\n",
    );
    let other_table = file(
        "table.toml",
        "[[feed]]\ntable = \"live.seat\"\nlive_when = \"TRUE\"\ncolumns = [\"uid\"]\n",
    );
    let demo_table = file(
        "demo.toml",
        "[[feed]]\ntable = \"live.room\"\nlive_when = \"TRUE\"\ncolumns = [\"uid\"]\n",
    );
    let data = dir.path().join("data").display().to_string();
    let not_a_dir = file("file", "x");
    let up = Up::start(&[
        "--json",
        "--demo-rows",
        "500",
        "--demo-rate",
        "20",
        "--data-dir",
        &data,
    ]);
    let here = up.url();
    let address = here.trim_start_matches("http://").to_owned();
    let read = |verb: &'static [&'static str]| {
        let mut arguments = verb.to_vec();
        arguments.extend(["--server", &here]);
        arguments
            .into_iter()
            .map(str::to_owned)
            .collect::<Vec<String>>()
    };
    let run = |arguments: &[&str]| {
        arguments
            .iter()
            .map(|argument| (*argument).to_owned())
            .collect::<Vec<String>>()
    };
    let mysql = [
        "up",
        "--mysql",
        "mysql://onair:tops3cret@127.0.0.1:1",
        "--listen",
        "127.0.0.1:0",
    ];
    let feed = [
        "--table",
        "live.room",
        "--live-when",
        "live_status = 1",
        "--columns",
        "uid",
    ];
    // It takes connections, and says nothing.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let quiet = format!("mysql://onair@{}", listener.local_addr().unwrap());
    let silent = [
        "up",
        "--mysql",
        &quiet,
        "--listen",
        "127.0.0.1:0",
        "--for",
        "1s",
        "--log-level",
        "off",
    ];
    let cases = [
        run(&["wach"]),
        run(&["watch"]),
        run(&["up", "--for", "soon"]),
        run(&["up", "--table", "live.room"]),
        run(&mysql),
        run(&[&mysql[..], &feed[..]].concat()),
        run(&["up", "--config", "/nonexistent/onair.toml"]),
        run(&["up", "--config", &bad]),
        run(&["up", "--config", &absent_password]),
        run(&["up", "--config", &other_table, "--listen", "127.0.0.1:0"]),
        run(&["up", "--listen", &address]),
        run(&["up", "--listen", "nowhere"]),
        run(&["up", "--listen", "127.0.0.1:0", "--data-dir", &data]),
        run(&[
            "up",
            "--listen",
            "127.0.0.1:0",
            "--data-dir",
            &data,
            "--reset",
        ]),
        run(&[
            "up",
            "--listen",
            "127.0.0.1:0",
            "--data-dir",
            &data,
            "--reset",
            "--yes",
        ]),
        run(&["up", "--listen", "127.0.0.1:0", "--data-dir", &not_a_dir]),
        run(&["up", "--demo-rows", "few"]),
        run(&["up", "--log-level", "loud"]),
        run(&["doctor", "--config", &other_table]),
        run(&[
            &["doctor", "--mysql", "mysql://onair:tops3cret@127.0.0.1:1"][..],
            &feed[..],
        ]
        .concat()),
        run(&["config", "check", &bad]),
        run(&["config", "check", &no_condition]),
        run(&["config", "check", &absent_password]),
        run(&[&silent[..], &feed[..]].concat()),
        run(&["up", "--listen", "127.0.0.1:0", "--admin-listen", &address]),
        run(&["cdc", "--config", &other_table]),
        run(&["merger", "--config", &other_table, "--buckets", "7-0"]),
        run(&["server", "--config", &other_table]),
        run(&["store", "init", "--config", &other_table]),
        run(&["re-derive", "--config", &other_table, "--data-dir", &data]),
        run(&["status", "--server", "http://127.0.0.1:1"]),
        run(&["status", "--server", "ftp://x"]),
        run(&["status", "--server", "127.0.0.1:7400"]),
        run(&["status", "--server", ""]),
        read(&["watch", "rooms"]),
        read(&["dump", "rooms"]),
        read(&["get", "rooms", "1"]),
        read(&["schema", "rooms"]),
        read(&["get", "room", "one"]),
        read(&["get", "room", "9999999999"]),
        read(&["reconcile", "rooms"]),
        read(&["reconcile", "room", "--max-rate", "0"]),
        read(&["runs", "rooms"]),
        read(&["runs", "show", "nothing"]),
        read(&["runs", "approve", "room/nothing"]),
        run(&["compare", "room"]),
        run(&[
            &["compare", "rooms", "--mysql", "mysql://onair@127.0.0.1:1"][..],
            &feed[..],
        ]
        .concat()),
        read(&["watch", "room", "--from", "yesterday"]),
        read(&["watch", "room", "--from", "9-1"]),
        read(&["watch", "room", "--until-gtid", "soon"]),
        read(&[
            "watch",
            "room",
            "--until-gtid",
            "3E11FA47-71CA-11E1-9E33-C80AA9429562:57",
            "--for",
            "1s",
        ]),
        read(&["dump", "room", "--at", "soon"]),
        read(&["dump", "room", "--at", "9-1"]),
        read(&["dump", "rooms", "--at", "9-1"]),
        read(&["diff", "room", "soon", "0"]),
        read(&["history", "room", "one"]),
        read(&["history", "room", "1", "--from", "soon"]),
        read(&["history", "room", "1", "--to", "3-1842"]),
        read(&["history", "room", "9999999999"]),
        read(&["explain", "rooms", "1"]),
        read(&["explain", "room", "one"]),
        run(&[
            "explain",
            "room",
            "1",
            "--server",
            &here,
            "--config",
            &demo_table,
        ]),
        run(&[
            "explain",
            "room",
            "1",
            "--server",
            &here,
            "--config",
            &other_table,
        ]),
    ];
    let mut text = String::new();
    for arguments in cases {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let ended = onair(&arguments);
        let said = String::from_utf8(ended.stderr).unwrap();
        let code = ended.status.code().unwrap();
        assert_ne!(code, 0, "{arguments:?} did not fail");
        text.push_str(&format!(
            "--- onair {}\n{said}exit code {code}\n",
            arguments.join(" ")
        ));
    }
    assert!(
        !text.replace("onair:tops3cret@", "").contains("tops3cret"),
        "{text}"
    );
    let version = version_after(&text, "feed room is at ", ',');
    let stored = version_after(&text, "in the store yet, which is at ", ';');
    let text = text
        .replace(&dir.path().display().to_string(), "DIR")
        .replace(&quiet, "mysql://onair@QUIET")
        .replace(&here, "http://HERE")
        .replace(&address, "HERE")
        .replace(&format!("which is at {stored};"), "which is at STORED;")
        .replace(&version, "VERSION");
    golden("cli-errors.txt", &text);
    up.stop();
}

/// The version of a feed that goes on meanwhile, between these words and this mark.
fn version_after(text: &str, words: &str, mark: char) -> String {
    let at = text.find(words).unwrap() + words.len();
    text[at..].split(mark).next().unwrap().to_owned()
}

/// Where failures are made, and how many: a new one needs an example above, in tls.rs or in src/texts.rs, then its number here.
/// Without an example are those that a test cannot bring about: an output that is full, threads, signals or a temporary
/// directory that cannot be had, an answer on a terminal, a server that ends a stream or a feed while it is read, or
/// stays behind; a database that has the table otherwise than the server's reader found it, or alters it while it is
/// polled; and a bench that fails, which is not in every build.
const FAILURES: [(&str, usize); 21] = [
    ("admin.rs", 1),
    ("client.rs", 10),
    ("lib.rs", 3),
    ("output.rs", 1),
    ("signals.rs", 1),
    ("source.rs", 8),
    ("verbs/compare/mod.rs", 6),
    ("verbs/diff.rs", 1),
    ("verbs/doctor.rs", 2),
    ("verbs/dump.rs", 1),
    ("verbs/explain.rs", 6),
    ("verbs/get.rs", 1),
    ("verbs/history.rs", 2),
    ("verbs/mod.rs", 1),
    ("verbs/past.rs", 2),
    ("verbs/re_derive.rs", 1),
    ("verbs/resume.rs", 3),
    ("verbs/role.rs", 3),
    ("verbs/store.rs", 1),
    ("verbs/up.rs", 10),
    ("verbs/watch.rs", 3),
];

#[test]
fn every_place_that_makes_a_failure_is_known() {
    let mut found = Vec::new();
    let mut dirs = vec![std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    let src = dirs[0].clone();
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            let count = text.matches("Failure::new(").count();
            if count > 0 {
                let name = path.strip_prefix(&src).unwrap().display().to_string();
                found.push((name, count));
            }
        }
    }
    found.sort();
    let known = FAILURES.map(|(name, count)| (name.to_owned(), count));
    assert_eq!(found, known);
}
