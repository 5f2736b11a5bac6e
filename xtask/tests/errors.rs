//! docs/errors.md is made of the golden files of error texts, and is what they give now.
//!
//! `ONAIR_BLESS=1` writes it anew, after the crates' own tests wrote their files.

use std::fmt::Write as _;
use std::path::Path;

use onair_xtask::texts::{golden, parse};

/// Each crate with texts, in the order in which users meet them, and what its section says.
const CRATES: &[(&str, &str, &str)] = &[
    (
        "onair",
        "The process",
        "What `onair up` ends with, and what the verbs that read make of a server's answer.",
    ),
    (
        "cdc",
        "Source and reader",
        "What the database says, what keeps a feed from its table, why an epoch ends \
     (`Cause`: in the log at WARN as `the epoch is over`, in `onair status` while the next one is opened) and what in \
     the binlog ends one (`Barrier`), and the settings that `onair doctor` asks for.",
    ),
    (
        "model",
        "live_when",
        "Each refusal of a predicate, by one example.",
    ),
    (
        "store",
        "Store",
        "What the store's file or its content can be like.",
    ),
    (
        "log",
        "Log",
        "What the log between reader and server can be like.",
    ),
    (
        "merger",
        "Merger",
        "Shown in `onair status` and logged at WARN; the merger tries again by itself.",
    ),
    (
        "server",
        "Server",
        "What clients are refused with, why newer content is held back (`onair status`, and the \
     `held` of a progress message), and what ends the server.",
    ),
    (
        "sdk",
        "SDK",
        "`ConnectError` and `WaitError` are returned; a `Problem` stands in `status()` while the SDK tries \
     on; a `Refusal` is why something that a server sent was not shown.",
    ),
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap()
}

#[test]
fn the_page_is_up_to_date() {
    golden(&root().join("docs/errors.md"), &page());
}

#[test]
fn every_golden_file_has_a_section() {
    for entry in std::fs::read_dir(root()).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        if entry.path().join("tests/golden/errors.txt").exists() {
            assert!(CRATES.iter().any(|(known, _, _)| *known == name), "{name}");
        }
    }
}

fn page() -> String {
    let mut page = String::from(
        "# Errors\n\n\
         Every text that a user can meet, with an example of each kind, what it means and what to do. Made from the \
         tests' golden files by `ONAIR_BLESS=1 cargo test -p onair-xtask errors`; a kind of error without an \
         example does not compile.\n\n\
         Exit codes of `onair`: 0 done, 1 failed, 2 usage (command line, configuration or a name), 3 absent or \
         different, 4 unreachable, 5 refused for safety, 130 and 143 ended by Ctrl-C or SIGTERM before \
         there was an answer. The text goes to standard error, behind `onair: `.\n\n",
    );
    let _ = write!(
        page,
        "- [Command line](#command-line)\n- [Configuration](#configuration)\n"
    );
    for (_, title, _) in CRATES {
        let anchor = title.to_lowercase().replace(' ', "-");
        let _ = writeln!(page, "- [{title}](#{anchor})");
    }
    let _ = write!(
        page,
        "\n## Command line\n\nA command and what it says; `HERE` is a running server.\n{}",
        commands(&read("onair/tests/golden/cli-errors.txt"))
    );
    let _ = write!(
        page,
        "\n### TLS\n\n`TLS` is a server with `[server.tls]`, `MTLS` one with a `client_ca` too, `EXPIRED` one with an old \
         certificate, `PLAIN` one without.\n{}",
        commands(&read("onair/tests/golden/tls-errors.txt"))
    );
    let _ = write!(
        page,
        "\n## Configuration\n\nExit code 2. All that is wrong is said at once, with its line, or the variable or \
         option that it came from; `onair config check FILE` says it without starting anything.\n\n```text\n{}```\n",
        read("onair/tests/golden/config-errors.txt")
    );
    for (name, title, about) in CRATES {
        let _ = write!(page, "\n## {title}\n\n{about}\n");
        for example in parse(&read(&format!("{name}/tests/golden/errors.txt"))) {
            let _ = write!(
                page,
                "\n**{}**\n\n```text\n{}\n```\n\n{}  \nDo: {}\n",
                example.name, example.text, example.means, example.remedy
            );
        }
    }
    page
}

/// `--- onair ..`, what it says, `exit code N`: a code block each, with its exit code in front.
fn commands(golden: &str) -> String {
    let mut out = String::new();
    for case in golden.split("--- ").filter(|case| !case.is_empty()) {
        let (command, said) = case.split_once('\n').unwrap();
        let (said, code) = said.rsplit_once("exit code ").unwrap();
        let _ = write!(
            out,
            "\nExit code {}: `{command}`\n\n```text\n{}\n```\n",
            code.trim(),
            if said.is_empty() {
                "(nothing: the answer says it)"
            } else {
                said.trim_end()
            }
        );
    }
    out
}
