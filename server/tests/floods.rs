//! Clients that speak HTTP/2 to be in the way: the server ends them, or they cost it nothing, and others are served.

use std::time::Duration;

use onair_log::testing::Workload;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use crate::client::Client;
use crate::support::World;

/// Frames of one flood, unless the server ends it before.
const FRAMES: u32 = 50_000;
/// What the whole process may grow by meanwhile: all of these frames are some megabytes.
const GROWTH_MAX: usize = 48 << 20;
/// Until another client must have been served.
const PATIENCE: Duration = Duration::from_secs(10);

// RFC 9113, section 6.
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 4;
const END_STREAM: u8 = 1;

fn frame(kind: u8, flags: u8, stream: u32, content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(content.len()).unwrap().to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend(stream.to_be_bytes());
    frame.extend(content);
    frame
}

/// POST to Subscribe, by indices of HPACK's static table and one literal.
fn subscribe() -> Vec<u8> {
    let path = b"/onair.v1.OnAir/Subscribe";
    let mut headers = vec![0x83, 0x86, 0x04, path.len() as u8];
    headers.extend(path);
    headers
}

/// Bytes of memory that this process has.
fn resident() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    text.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

/// Sends all of it; how many frames went out before the server ended the connection, if it did.
async fn flood(address: &str, begin: &[u8], next: impl Fn(u32) -> Vec<u8>) -> Option<u32> {
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut from, mut to) = stream.into_split();
    let mut answers = JoinSet::new();
    answers.spawn(async move {
        let mut passed_over = vec![0; 64 << 10];
        // However it ends.
        while matches!(from.read(&mut passed_over).await, Ok(1..)) {}
    });
    to.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        .await
        .unwrap();
    to.write_all(&frame(SETTINGS, 0, 0, &[])).await.unwrap();
    to.write_all(begin).await.unwrap();
    for number in 0..FRAMES {
        let ended = answers.try_join_next().is_some();
        if ended || to.write_all(&next(number)).await.is_err() {
            return Some(number);
        }
    }
    None
}

async fn check(what: &str, begin: &[u8], next: impl Fn(u32) -> Vec<u8>) -> Option<u32> {
    let mut workload = Workload::new(1, 40, 16);
    let world = World::new(1, workload.rows()).await;
    let server = world.serving().await;
    let address = server.url.trim_start_matches("http://").to_owned();
    let before = resident();
    let began = Instant::now();
    let ended = flood(&address, begin, next).await;
    let mut other = Client::new(&server.url).await;
    let served = timeout(PATIENCE, other.until(world.writer.version())).await;
    served.unwrap_or_else(|_| panic!("{what}: nobody else is served"));
    let growth = resident().saturating_sub(before);
    println!(
        "{what}: ended at {ended:?}, {growth} bytes more, {:?}",
        began.elapsed()
    );
    assert!(growth < GROWTH_MAX, "{what}: {growth} bytes");
    server.ended().await;
    ended
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn headers_that_never_end_are_ended() {
    let begin = frame(HEADERS, 0, 1, &subscribe());
    // A literal that is not to be indexed: "x" with 64 bytes.
    let mut junk = vec![0x00, 1, b'x', 64];
    junk.extend([b'y'; 64]);
    let ended = check("CONTINUATION", &begin, |_| frame(CONTINUATION, 0, 1, &junk)).await;
    assert!(ended.is_some(), "they were taken to the end");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_that_are_reset_at_once_disturb_nobody() {
    let reset = |number: u32| {
        let stream = 2 * number + 1;
        let mut both = frame(HEADERS, END_HEADERS | END_STREAM, stream, &subscribe());
        both.extend(frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes()));
        both
    };
    check("rapid reset", &[], reset).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn empty_data_and_pings_disturb_nobody() {
    let begin = frame(HEADERS, END_HEADERS, 1, &subscribe());
    check("empty DATA", &begin, |_| frame(DATA, 0, 1, &[])).await;
    check("PING", &[], |number| {
        frame(PING, 0, 0, &u64::from(number).to_be_bytes())
    })
    .await;
    check("SETTINGS", &[], |_| frame(SETTINGS, 0, 0, &[])).await;
}
