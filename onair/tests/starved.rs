//! A process that lacks something of its machine: somebody who reads its log, file descriptors, processor time.

use std::io::Read as _;
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::process::{Up, command};

/// Nothing here takes longer on the slowest machine.
const LONG: Duration = Duration::from_secs(60);

fn up<'a>(level: &'a str, rate: &'a str) -> [&'a str; 10] {
    [
        "up",
        "--json",
        "--listen",
        "127.0.0.1:0",
        "--demo-rows",
        "2000",
        "--demo-rate",
        rate,
        "--log-level",
        level,
    ]
}

fn feed(up: &Up) -> Value {
    up.lines(&["status", "--json"]).remove(0)["feeds"][0].clone()
}

/// The sequence of the version shown.
fn version(up: &Up) -> u64 {
    let feed = feed(up);
    let text = feed["version"].as_str().unwrap();
    text.split_once('-').unwrap().1.parse().unwrap()
}

/// Waits until so many more versions are shown, and they are young.
fn goes_on(up: &Up, versions: u64) {
    let wanted = version(up) + versions;
    let began = Instant::now();
    while version(up) < wanted || feed(up)["age_ms"].as_u64().unwrap() > 2_000 {
        assert!(began.elapsed() < LONG, "stuck: {}", feed(up));
    }
}

#[test]
fn logs_that_nobody_reads_hold_nothing_up_and_are_counted() {
    let mut words = command(&up("trace", "500"));
    words.stderr(Stdio::piped());
    let mut up = Up::of(words);
    // A pipe takes 64 KiB: far less than this brings.
    goes_on(&up, 3_000);
    let mut stderr = up.stderr();
    let reading = std::thread::spawn(move || {
        let mut text = String::new();
        stderr.read_to_string(&mut text).map(|_| text)
    });
    goes_on(&up, 100);
    up.stop();
    let text = reading.join().unwrap().unwrap();
    assert!(
        text.contains("lines of the log were lost"),
        "{} bytes of log",
        text.len()
    );
}

#[test]
fn a_full_disk_under_the_log_holds_nothing_up() {
    let full = std::fs::File::options()
        .write(true)
        .open("/dev/full")
        .unwrap();
    let mut words = command(&up("trace", "500"));
    words.stderr(full);
    let up = Up::of(words);
    goes_on(&up, 1_000);
    up.stop();
}

/// Processor time so far, of `/proc/PID/stat`: hundredths of a second.
fn ticks(up: &Up) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", up.id())).unwrap();
    let after = stat.rsplit_once(')').unwrap().1;
    let fields: Vec<&str> = after.split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

#[test]
fn without_file_descriptors_it_waits_at_rest_and_says_so() {
    const DESCRIPTORS: u32 = 64;
    let binary = env!("CARGO_BIN_EXE_onair");
    let mut words = Command::new("sh");
    words
        .arg("-c")
        .arg(format!("ulimit -n {DESCRIPTORS}; exec \"$0\" \"$@\""));
    // So slow that the demo's own work does not hide what is worked for nothing.
    words.arg(binary).args(up("info", "20"));
    words.stdin(Stdio::null()).stderr(Stdio::piped());
    let mut up = Up::of(words);
    let stderr = up.stderr();
    let mut said = std::io::BufRead::lines(std::io::BufReader::new(stderr));
    let address = up.address();
    // They connect, by the system's queue, and say nothing.
    let storm: Vec<TcpStream> = (0..2 * DESCRIPTORS)
        .map(|_| TcpStream::connect(&address).unwrap())
        .collect();
    let refused = said.find(|line| {
        line.as_ref()
            .unwrap()
            .contains("no connection can be accepted")
    });
    let line = refused.unwrap().unwrap();
    assert!(
        line.contains("ulimit -n") && line.contains("failed=1"),
        "{line}"
    );
    let before = ticks(&up);
    let window = Duration::from_secs(3);
    // Not a wait for something: what it works meanwhile is measured.
    std::thread::sleep(window);
    let worked = Duration::from_millis(10 * (ticks(&up) - before));
    assert!(
        worked < window / 3,
        "{worked:?} of {window:?} were worked for nothing"
    );
    drop(storm);
    let back = said.find(|line| {
        line.as_ref()
            .unwrap()
            .contains("connections are accepted again")
    });
    assert!(back.unwrap().unwrap().contains("failed="));
    std::thread::spawn(move || said.by_ref().count());
    assert_eq!(feed(&up)["ready"], true);
    up.stop();
}

/// It runs for five of each hundred milliseconds.
#[test]
fn with_hardly_any_processor_time_it_goes_on() {
    let up = Up::of(command(&up("info", "500")));
    let began = feed(&up);
    let signal = |name: &str| {
        let sent = Command::new("kill")
            .args([name, &up.id().to_string()])
            .status();
        assert!(sent.unwrap().success());
    };
    let before = version(&up);
    let end = Instant::now() + Duration::from_secs(10);
    while Instant::now() < end {
        signal("-STOP");
        std::thread::sleep(Duration::from_millis(95));
        signal("-CONT");
        std::thread::sleep(Duration::from_millis(5));
    }
    goes_on(&up, 10);
    assert!(version(&up) > before + 100, "it did not go on meanwhile");
    let epoch = |feed: &Value| {
        feed["version"]
            .as_str()
            .unwrap()
            .split_once('-')
            .unwrap()
            .0
            .to_owned()
    };
    assert_eq!(epoch(&feed(&up)), epoch(&began), "a new epoch");
    up.stop();
}
