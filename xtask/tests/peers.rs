//! The protocol of the foreign programs under bench/peers, with those that are built.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Stdio};

use onair_xtask::peers::Peer;
use onair_xtask::servers::process;

/// Nothing when it is not built, which is said.
fn start(peer: Peer, job: &str) -> Option<Child> {
    let mut command = match peer.command() {
        Ok(command) => command,
        Err(reason) => {
            eprintln!("NOT RUN {peer}: {reason}");
            return None;
        }
    };
    command
        .arg(job)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    Some(process::spawn(command).unwrap())
}

#[test]
fn a_job_that_is_none_is_refused() {
    for peer in Peer::ALL {
        for job in ["", "{}", r#"{"dance":{}}"#, r#"{"drain":{"rows":1}}"#] {
            let Some(child) = start(peer, job) else {
                break;
            };
            let output = child.wait_with_output().unwrap();
            assert_eq!(output.status.code(), Some(1), "{peer} {job}");
            assert!(output.stdout.is_empty(), "{peer} {job}");
            let said = String::from_utf8(output.stderr).unwrap();
            assert!(said.starts_with("peer: "), "{peer} {job}: {said}");
        }
    }
}

#[test]
fn a_long_job_is_ready_obeys_and_ends_with_its_orders() {
    for mode in ["send", "prepared"] {
        let job = format!(r#"{{"fanout":{{"mode":"{mode}"}}}}"#);
        let Some(mut child) = start(Peer::Go, &job) else {
            return;
        };
        let mut orders = child.stdin.take().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut next = || lines.next().unwrap().unwrap();
        assert!(next().starts_with(r#"{"ready":{"port":"#));
        writeln!(orders, r#"{{"publish":{{"count":3,"hz":100.0,"rows":2}}}}"#).unwrap();
        assert_eq!(next(), r#"{"published":{"count":3,"subscribers":0}}"#);
        drop(orders);
        assert!(child.wait().unwrap().success());
    }
}
