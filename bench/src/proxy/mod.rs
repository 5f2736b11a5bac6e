//! A TCP proxy between what is tested and a server of its, to break the way between them while both run.
//!
//! In: connections to a port of loopback. Out: the same to [`Proxy::lead_to`]'s target, each direction carried as
//! [`Carry`] says at that moment. It knows bytes and no protocol, keeps at most [`CONNECTIONS_MAX`] connections with
//! some 400 KiB each way, and counts what it did, so that a test can assert that each fault has happened. What may go
//! wrong: the port is taken by another while [`Door::Refuse`] is set, which [`Proxy::set_door`] says.
//!
//! A client has to be kept on the proxy where a server tells its own address:
//! - **MySQL** tells none: the proxy's address goes into the URL.
//! - **Kafka** answers a client's first question with each broker's *advertised* address, and the client goes there. Start
//!   it with `Kafka::start_behind(proxy.port())`: that broker has a second listener that advertises the proxy, so that
//!   whoever comes through the proxy stays on it and whoever asks `Kafka::brokers` goes straight. The proxy leads to
//!   `Kafka::behind`.
//! - **Cassandra and ScyllaDB** tell in `system.local` and `system.peers` where nodes are. The driver uses the address that
//!   it came by for the node that it asked, so that one node stays behind the proxy without more: name the proxy in
//!   `nodes`. Several nodes would each need a proxy and an address of their own that they broadcast
//!   (`broadcast_rpc_address` is an IP; the port is one for all nodes), for example 127.0.0.2 and so on.
//!
//! What a request *means* it cannot see: to lose the answer of a compare-and-set, take `onair_store::scylla::proxy`.

mod counts;
mod door;
mod pump;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;

pub use counts::{Counts, WayCounts};
pub use door::CONNECTIONS_MAX;

/// A direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From the client to the server.
    Up,
    /// From the server to the client.
    Down,
}

/// What becomes of the bytes of one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carry {
    /// They arrive.
    Pass,
    /// They arrive this much later, and up to `jitter` more; in order.
    Delay {
        /// At least.
        least: Duration,
        /// Up to this much more.
        jitter: Duration,
    },
    /// They are gone, the end of the stream too, and nobody is told. A connection that lost a byte stays so in this
    /// direction: TCP never shows a stream with a hole. [`Proxy::reset`] ends it.
    Vanish,
    /// Nothing is read any more: a half-open peer. What is held here goes on afterwards.
    Stall,
    /// Both sides are reset (RST) as soon as there is a byte.
    Reset,
    /// They arrive in writes of one to this many.
    Slice {
        /// Bytes of a write, at most.
        most: NonZeroUsize,
    },
}

/// What becomes of new connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// They are led to the target. One that cannot be reached resets them.
    Open,
    /// They are accepted, and nothing happens until the door opens: a process that is frozen.
    Hold,
    /// Refused by the system, as when nobody listens; so they are in no count. The port stays ours. Held ones are reset.
    Refuse,
}

/// A running proxy; it ends with this, and its connections with it.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    orders: mpsc::Sender<Order>,
    _task: JoinSet<()>,
}

/// A new state of the door, and whom to tell when it is so.
type Order = (Door, oneshot::Sender<io::Result<()>>);

#[derive(Debug)]
struct Shared {
    seed: u64,
    target: Mutex<Option<String>>,
    up: watch::Sender<Carry>,
    down: watch::Sender<Carry>,
    door: watch::Sender<Door>,
    resets: watch::Sender<u64>,
    counts: Mutex<Counts>,
}

impl Proxy {
    /// On a free port, passing everything on as soon as it knows to where; all that is random comes from `seed`.
    pub async fn start(seed: u64) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            seed,
            target: Mutex::default(),
            up: watch::Sender::new(Carry::Pass),
            down: watch::Sender::new(Carry::Pass),
            door: watch::Sender::new(Door::Open),
            resets: watch::Sender::new(0),
            counts: Mutex::default(),
        });
        let (orders, taken) = mpsc::channel(1);
        let mut task = JoinSet::new();
        task.spawn(door::keep(listener, address, taken, Arc::clone(&shared)));
        Ok(Proxy {
            address,
            shared,
            orders,
            _task: task,
        })
    }

    /// [`Proxy::start`] with a target at once.
    pub async fn to(target: &str, seed: u64) -> io::Result<Self> {
        let proxy = Proxy::start(seed).await?;
        proxy.lead_to(target);
        Ok(proxy)
    }

    /// Where connections made from now on go: `host:port`. Those that are there stay.
    pub fn lead_to(&self, target: &str) {
        *lock(&self.shared.target) = Some(target.to_owned());
    }

    /// Where it listens.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// Its port on loopback.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// What becomes of the bytes of one direction that are sent from now on, on all connections. A write that is under way
    /// is finished.
    pub fn set(&self, way: Way, carry: Carry) {
        self.shared.carry(way).send_replace(carry);
    }

    /// [`Proxy::set`] in both directions.
    pub fn set_both(&self, carry: Carry) {
        self.set(Way::Up, carry);
        self.set(Way::Down, carry);
    }

    /// What becomes of connections made from now on; done when it is so.
    pub async fn set_door(&self, door: Door) -> io::Result<()> {
        let gone = || io::Error::other("the proxy's door is gone: an earlier order failed");
        let (done, is_so) = oneshot::channel();
        let sent = self.orders.send((door, done)).await;
        sent.map_err(|_| gone())?;
        is_so.await.unwrap_or_else(|_| Err(gone()))
    }

    /// Resets (RST) every connection that there is, held ones too, on both sides. To the server one that is only just being
    /// made is closed.
    pub fn reset(&self) {
        self.shared.resets.send_modify(|count| *count += 1);
    }

    /// What happened so far.
    pub fn counts(&self) -> Counts {
        *lock(&self.shared.counts)
    }
}

impl Shared {
    fn carry(&self, way: Way) -> &watch::Sender<Carry> {
        match way {
            Way::Up => &self.up,
            Way::Down => &self.down,
        }
    }

    fn count(&self, note: impl FnOnce(&mut Counts)) {
        note(&mut lock(&self.counts));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
