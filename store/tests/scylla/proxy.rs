//! Between driver and node: a proxy that knows CQL's frames and loses, or forges, what a request is answered with.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use onair_store::cells::{Moved, move_cell};
use onair_store::scylla::ScyllaStore;
use onair_store::{Cell, CellKey, ShardStore, StoreError};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::{drop_keyspace, settings, shared};

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// Done, the answer lost.
    AnswerLost,
    /// Never gets there.
    RequestLost,
    /// Done, and the answer says "unavailable".
    Unavailable,
    /// Done, and the answer says that a lightweight transaction timed out.
    Timeout,
    /// Done, and the connection breaks before the answer.
    Broken,
}

impl Fault {
    const ALL: [Fault; 5] = [
        Fault::AnswerLost,
        Fault::RequestLost,
        Fault::Unavailable,
        Fault::Timeout,
        Fault::Broken,
    ];
}

#[derive(Debug)]
struct Plan {
    is_on: AtomicBool,
    rng: Mutex<StdRng>,
    counts: [AtomicU64; Fault::ALL.len()],
}

const HEADER: usize = 9;
const EXECUTE: u8 = 0x0a;
/// One request in so many meets each kind.
const ONE_IN: u32 = 25;

impl Plan {
    fn draw(&self) -> Option<Fault> {
        if !self.is_on.load(Relaxed) {
            return None;
        }
        let mut rng = self.rng.lock().unwrap();
        let drawn = Fault::ALL.into_iter().find(|_| rng.random_ratio(1, ONE_IN));
        if let Some(fault) = drawn {
            self.counts[fault as usize].fetch_add(1, Relaxed);
        }
        drawn
    }
}

/// A whole frame, `None` at the end of the connection.
async fn frame(from: &mut OwnedReadHalf) -> Option<Vec<u8>> {
    let mut frame = vec![0; HEADER];
    from.read_exact(&mut frame).await.ok()?;
    let len = u32::from_be_bytes(frame[5..].try_into().unwrap()) as usize;
    frame.resize(HEADER + len, 0);
    from.read_exact(&mut frame[HEADER..]).await.ok()?;
    Some(frame)
}

fn stream_of(frame: &[u8]) -> [u8; 2] {
    [frame[2], frame[3]]
}

/// An ERROR frame on a stream.
fn error(stream: [u8; 2], code: u32, details: &[u8]) -> Vec<u8> {
    let message = b"forged";
    let mut body = code.to_be_bytes().to_vec();
    body.extend((message.len() as u16).to_be_bytes());
    body.extend(message);
    body.extend(details);
    let mut frame = vec![0x84, 0, stream[0], stream[1], 0];
    frame.extend((body.len() as u32).to_be_bytes());
    frame.extend(body);
    frame
}

/// LOCAL_SERIAL, of two one.
const LOCAL_SERIAL: [u8; 2] = [0, 9];

type Waiting = Arc<Mutex<Vec<([u8; 2], Fault)>>>;

async fn requests(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    plan: Arc<Plan>,
    waiting: Waiting,
) {
    while let Some(frame) = frame(&mut from).await {
        if frame[4] == EXECUTE
            && let Some(fault) = plan.draw()
        {
            if fault == Fault::RequestLost {
                continue;
            }
            waiting.lock().unwrap().push((stream_of(&frame), fault));
        }
        if to.write_all(&frame).await.is_err() {
            return;
        }
    }
}

async fn answers(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, waiting: Waiting) {
    while let Some(mut frame) = frame(&mut from).await {
        let stream = stream_of(&frame);
        let fault = {
            let mut waiting = waiting.lock().unwrap();
            let at = waiting.iter().position(|(of, _)| *of == stream);
            at.map(|at| waiting.swap_remove(at).1)
        };
        match fault {
            Some(Fault::AnswerLost) => continue,
            Some(Fault::Broken) => return,
            Some(Fault::Unavailable) => {
                let details = [&LOCAL_SERIAL[..], &[0, 0, 0, 2, 0, 0, 0, 1]].concat();
                frame = error(stream, 0x1000, &details);
            }
            Some(Fault::Timeout) => {
                let details = [&LOCAL_SERIAL[..], &[0, 0, 0, 1, 0, 0, 0, 2, 0, 3], b"CAS"];
                frame = error(stream, 0x1100, &details.concat());
            }
            Some(Fault::RequestLost) | None => {}
        }
        if to.write_all(&frame).await.is_err() {
            return;
        }
    }
}

/// Serves connections until it is dropped.
async fn serve(listener: TcpListener, node: String, plan: Arc<Plan>) {
    let mut connections = JoinSet::new();
    loop {
        let (client, _) = listener.accept().await.unwrap();
        let Ok(server) = TcpStream::connect(&node).await else {
            continue;
        };
        let (plan, waiting) = (Arc::clone(&plan), Waiting::default());
        connections.spawn(async move {
            client.set_nodelay(true).unwrap();
            server.set_nodelay(true).unwrap();
            let (from_client, to_client) = client.into_split();
            let (from_server, to_server) = server.into_split();
            // When one side ends, so does the other.
            tokio::select! {
                () = requests(from_client, to_server, plan, Arc::clone(&waiting)) => {}
                () = answers(from_server, to_client, waiting) => {}
            }
        });
    }
}

const RIVALS: usize = 2;
const MOVES: u64 = 250;

fn key() -> CellKey {
    CellKey::CutsHead("f".into())
}

fn tally(cell: Option<&Cell>) -> [u64; RIVALS] {
    let mut tally = [0; RIVALS];
    if let Some(cell) = cell {
        for (at, bytes) in cell.value.chunks_exact(8).enumerate() {
            tally[at] = u64::from_be_bytes(bytes.try_into().unwrap());
        }
    }
    tally
}

/// What one rival met.
#[derive(Debug, Default)]
struct Met {
    lost: u64,
    unknown: u64,
    unavailable: u64,
    reads_again: u64,
}

/// Moves the cell on [`MOVES`] times; each step is checked against what it knows to be done.
async fn rival(store: Arc<ScyllaStore>, me: usize) -> Met {
    let mut met = Met::default();
    for round in 1..=MOVES {
        loop {
            let found = loop {
                match store.cell(&key()).await {
                    Ok(found) => break found,
                    Err(StoreError::Unavailable { .. }) => {
                        met.reads_again += 1;
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                    Err(error) => panic!("{error}"),
                }
            };
            let mut counts = tally(found.as_ref());
            if counts[me] == round {
                break;
            }
            assert_eq!(counts[me], round - 1, "a move is gone, or was done twice");
            counts[me] = round;
            let value: Bytes = counts
                .iter()
                .flat_map(|count| count.to_be_bytes())
                .collect();
            let expect = found.map(|cell| cell.token);
            match move_cell(&*store, &key(), expect, value).await {
                Ok(Moved::Won(_)) => break,
                Ok(Moved::Lost(_)) => met.lost += 1,
                Err(StoreError::Unknown { .. }) => met.unknown += 1,
                Err(StoreError::Unavailable { .. }) => met.unavailable += 1,
                Err(error) => panic!("{error}"),
            }
        }
    }
    met
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_that_are_lost_or_forged_lose_no_move_and_repeat_none() {
    let Some(node) = shared() else { return };
    let seed = rand::random();
    println!("seed {seed}");
    let plan = Arc::new(Plan {
        is_on: AtomicBool::new(false),
        rng: Mutex::new(StdRng::seed_from_u64(seed)),
        counts: Default::default(),
    });
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let mut settings = settings(node);
    settings.request_timeout = Duration::from_millis(300);
    settings.nodes = vec![listener.local_addr().unwrap().to_string()];
    let mut proxy = JoinSet::new();
    proxy.spawn(serve(
        listener,
        node.address().to_owned(),
        Arc::clone(&plan),
    ));

    let mut direct = settings.clone();
    direct.nodes = vec![node.address().to_owned()];
    direct.request_timeout = Duration::from_secs(10);
    let truth = super::store(&direct).await;
    let mut rivals = JoinSet::new();
    let mut stores = Vec::new();
    for _ in 0..RIVALS {
        let store = ScyllaStore::open(settings.clone()).await.unwrap();
        stores.push(Arc::new(store));
    }
    plan.is_on.store(true, Relaxed);
    for (me, store) in stores.into_iter().enumerate() {
        rivals.spawn(rival(store, me));
    }
    while let Some(met) = rivals.join_next().await {
        println!("{:?}", met.unwrap());
    }
    for fault in Fault::ALL {
        let count = plan.counts[fault as usize].load(Relaxed);
        println!("{fault:?} {count}");
        assert!(count > 0, "{fault:?} never fired");
    }
    let stands = truth.cell(&key()).await.unwrap();
    assert_eq!(tally(stands.as_ref()), [MOVES; RIVALS]);
    drop_keyspace(&direct).await;
}
