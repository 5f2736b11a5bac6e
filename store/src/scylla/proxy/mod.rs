//! For tests: between driver and node, a proxy that knows CQL's frames and loses, delays or forges what a request meets.
//!
//! In: connections to a port of loopback. Out: the same to one node. A request that [`Plan::meets`] names meets each
//! [`Fault`] with the chance that [`CqlProxy::set`] gave it. Faults of an answer are only done to a compare-and-set that
//! *was applied*, so that a count of them is one of outcomes that nobody was told; another's answer passes. The driver
//! takes the proxy's address for the node's: name it in `Settings::nodes`.

mod frame;

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::io::AsyncWriteExt as _;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use frame::{Frame, Statements};

pub use frame::Request;

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Done, the answer lost.
    AnswerLost,
    /// Never gets there.
    RequestLost,
    /// Gets there when its sender has given up: after [`Plan::late`].
    Late,
    /// Done, and the answer says "unavailable", as of the last phase of a lightweight transaction.
    Unavailable,
    /// Done, and the answer says that a lightweight transaction timed out.
    Timeout,
    /// Done, and the connection breaks before the answer.
    Broken,
}

impl Fault {
    /// Each.
    pub const ALL: [Fault; 6] = [
        Fault::AnswerLost,
        Fault::RequestLost,
        Fault::Late,
        Fault::Unavailable,
        Fault::Timeout,
        Fault::Broken,
    ];
}

/// How a proxy is made.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Of all that is random.
    pub seed: u64,
    /// Which requests may meet a fault.
    pub meets: fn(&Request<'_>) -> bool,
    /// How late [`Fault::Late`] is: longer than the sender waits.
    pub late: Range<Duration>,
}

/// How often each fault was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    by_fault: [u64; Fault::ALL.len()],
    /// Of the late ones, those that were applied when they came.
    pub late_applied: u64,
}

impl Counts {
    /// How often this one was.
    pub fn of(&self, fault: Fault) -> u64 {
        self.by_fault[fault as usize]
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for fault in Fault::ALL {
            write!(f, "{fault:?} {}, ", self.of(fault))?;
        }
        write!(f, "late and applied {}", self.late_applied)
    }
}

/// A running proxy; it ends with this.
#[derive(Debug)]
pub struct CqlProxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    _task: JoinSet<()>,
}

#[derive(Debug)]
struct Shared {
    node: String,
    plan: Plan,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    rng: StdRng,
    chances: [f64; Fault::ALL.len()],
    counts: Counts,
    statements: Statements,
}

impl CqlProxy {
    /// In front of a node, doing nothing yet.
    pub async fn start(node: &str, plan: Plan) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            node: node.to_owned(),
            state: Mutex::new(State {
                rng: StdRng::seed_from_u64(plan.seed),
                chances: Default::default(),
                counts: Counts::default(),
                statements: Statements::new(),
            }),
            plan,
        });
        let mut task = JoinSet::new();
        task.spawn(serve(listener, Arc::clone(&shared)));
        Ok(CqlProxy {
            address,
            shared,
            _task: task,
        })
    }

    /// `host:port`.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// The chance of a request to meet this fault. The chances together are at most 1.
    ///
    /// # Panics
    /// When they are more.
    pub fn set(&self, fault: Fault, chance: f64) {
        let chances = &mut self.shared.lock().chances;
        chances[fault as usize] = chance;
        assert!(chances.iter().sum::<f64>() <= 1.0, "{chances:?}");
    }

    /// What was done so far.
    pub fn counts(&self) -> Counts {
        self.shared.lock().counts
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a request is to meet, and whether it is a compare-and-set.
    fn draw(&self, frame: &Frame) -> Option<(Fault, bool)> {
        let state = &mut *self.lock();
        let request = frame.executes(&state.statements)?;
        if !(self.plan.meets)(&request) {
            return None;
        }
        let mut roll = state.rng.random_range(0.0..1.0);
        let drawn = Fault::ALL.into_iter().find(|fault| {
            roll -= state.chances[*fault as usize];
            roll < 0.0
        });
        Some((drawn?, request.is_cas()))
    }

    fn done(&self, fault: Fault) {
        self.lock().counts.by_fault[fault as usize] += 1;
    }

    fn late(&self) -> Duration {
        let Range { start, end } = self.plan.late;
        start + (end - start).mul_f64(self.lock().rng.random_range(0.0..1.0))
    }
}

async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (client, _) = accepted.expect("a listening socket accepts");
                connections.spawn(connection(client, Arc::clone(&shared)));
            }
            Some(ended) = connections.join_next() => {
                ended.expect("a connection's task ends by itself");
            }
        }
    }
}

/// What is to become of answers, by stream.
type Waiting = Mutex<HashMap<[u8; 2], Awaited>>;

enum Awaited {
    /// The answer to a PREPARE of this text.
    Statement(String),
    /// The answer to what meets a fault; whether it is a compare-and-set.
    Fault(Fault, bool),
}

/// The way to the node, for requests in order and for late ones.
type Way = Arc<tokio::sync::Mutex<OwnedWriteHalf>>;

/// One connection; when one side ends, so does the other.
async fn connection(client: TcpStream, shared: Arc<Shared>) {
    let Ok(server) = TcpStream::connect(&shared.node).await else {
        return;
    };
    for stream in [&client, &server] {
        if stream.set_nodelay(true).is_err() {
            return;
        }
    }
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let to_server = Arc::new(tokio::sync::Mutex::new(to_server));
    let waiting = Arc::new(Waiting::default());
    tokio::select! {
        () = requests(from_client, to_server, &shared, &waiting) => {}
        () = answers(from_server, to_client, &shared, &waiting) => {}
    }
}

async fn requests(mut from: OwnedReadHalf, to: Way, shared: &Arc<Shared>, waiting: &Arc<Waiting>) {
    // They end with the connection, as what a kernel holds would.
    let mut late = JoinSet::new();
    while let Some(frame) = Frame::read(&mut from).await {
        while late.try_join_next().is_some() {}
        if let Some(text) = frame.prepares() {
            let awaited = Awaited::Statement(text);
            lock(waiting).insert(frame.stream(), awaited);
        }
        match shared.draw(&frame) {
            Some((Fault::RequestLost, _)) => {
                shared.done(Fault::RequestLost);
                continue;
            }
            Some((Fault::Late, is_cas)) => {
                let (to, shared) = (Arc::clone(&to), Arc::clone(shared));
                let (waiting, pause) = (Arc::clone(waiting), shared.late());
                late.spawn(async move {
                    tokio::time::sleep(pause).await;
                    let awaited = Awaited::Fault(Fault::Late, is_cas);
                    lock(&waiting).insert(frame.stream(), awaited);
                    if to.lock().await.write_all(frame.bytes()).await.is_ok() {
                        shared.done(Fault::Late);
                    }
                });
                continue;
            }
            Some((fault, is_cas)) => {
                let awaited = Awaited::Fault(fault, is_cas);
                lock(waiting).insert(frame.stream(), awaited);
            }
            None => {}
        }
        if to.lock().await.write_all(frame.bytes()).await.is_err() {
            return;
        }
    }
}

/// LOCAL_SERIAL.
const LOCAL_SERIAL: [u8; 2] = [0, 9];

async fn answers(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    shared: &Shared,
    waiting: &Waiting,
) {
    while let Some(mut frame) = Frame::read(&mut from).await {
        let stream = frame.stream();
        let awaited = lock(waiting).remove(&stream);
        match awaited {
            Some(Awaited::Statement(text)) => {
                if let Some(id) = frame.prepared() {
                    shared.lock().statements.insert(id, text);
                }
            }
            Some(Awaited::Fault(Fault::Late, _)) => {
                shared.lock().counts.late_applied += u64::from(frame.is_applied());
            }
            Some(Awaited::Fault(fault, is_cas)) if !is_cas || frame.is_applied() => {
                shared.done(fault);
                match fault {
                    Fault::AnswerLost => continue,
                    Fault::Broken => return,
                    // Of two one is alive.
                    Fault::Unavailable => {
                        let details = [&LOCAL_SERIAL[..], &[0, 0, 0, 2, 0, 0, 0, 1]].concat();
                        frame = Frame::error(stream, 0x1000, &details);
                    }
                    // Of two one has answered.
                    Fault::Timeout => {
                        let details = [&LOCAL_SERIAL[..], &[0, 0, 0, 1, 0, 0, 0, 2, 0, 3], b"CAS"];
                        frame = Frame::error(stream, 0x1100, &details.concat());
                    }
                    Fault::RequestLost | Fault::Late => {}
                }
            }
            Some(Awaited::Fault(..)) | None => {}
        }
        if to.write_all(frame.bytes()).await.is_err() {
            return;
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
