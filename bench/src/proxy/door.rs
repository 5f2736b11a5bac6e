//! The listening side: who comes in, and one connection from its beginning to its end.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use rand::SeedableRng as _;
use rand::rngs::StdRng;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::pump::{Pump, Torn};
use super::{Door, Order, Shared, Way, lock};

/// Connections at once; more wait in the system's own queue.
pub const CONNECTIONS_MAX: usize = 256;

/// The system's queue of connections that nobody has accepted.
const BACKLOG: u32 = 128;

/// What holds the port.
enum Ear {
    Listens(TcpListener),
    /// Bound and not listening: the system refuses, and nobody else gets the port.
    Deaf(TcpSocket),
}

impl Ear {
    /// Between a listener that closes and the socket that takes its place anybody may take the port: the error.
    fn turn(self, door: Door, address: SocketAddr) -> io::Result<Self> {
        match (self, door) {
            (Ear::Listens(listener), Door::Refuse) => {
                drop(listener);
                let socket = TcpSocket::new_v4()?;
                socket.set_reuseaddr(true)?;
                socket.bind(address)?;
                Ok(Ear::Deaf(socket))
            }
            (Ear::Deaf(socket), Door::Open | Door::Hold) => {
                socket.listen(BACKLOG).map(Ear::Listens)
            }
            (same, _) => Ok(same),
        }
    }

    async fn accept(&self) -> io::Result<TcpStream> {
        match self {
            Ear::Listens(listener) => listener.accept().await.map(|(client, _)| client),
            Ear::Deaf(_) => std::future::pending().await,
        }
    }
}

/// Lets connections in until the proxy is dropped.
pub(super) async fn keep(
    listener: TcpListener,
    address: SocketAddr,
    mut orders: mpsc::Receiver<Order>,
    shared: Arc<Shared>,
) {
    let mut ear = Ear::Listens(listener);
    let mut connections = JoinSet::new();
    let mut number = 0;
    loop {
        tokio::select! {
            biased;
            order = orders.recv() => {
                let Some((door, done)) = order else { return };
                let turned = match ear.turn(door, address) {
                    Ok(turned) => turned,
                    Err(error) => {
                        // Whoever does not wait hears it with the next order.
                        let _ = done.send(Err(error));
                        return;
                    }
                };
                ear = turned;
                shared.door.send_replace(door);
                let _ = done.send(Ok(()));
            }
            Some(ended) = connections.join_next() => {
                ended.expect("a connection's task ends by itself");
            }
            client = ear.accept(), if connections.len() < CONNECTIONS_MAX => {
                let client = client.expect("a listening socket accepts");
                shared.count(|counts| counts.accepted += 1);
                number += 1;
                let resets = shared.resets.subscribe();
                let connection = Connection { shared: Arc::clone(&shared), number, resets };
                connections.spawn(connection.serve(client));
            }
        }
    }
}

struct Connection {
    shared: Arc<Shared>,
    number: u64,
    resets: watch::Receiver<u64>,
}

impl Connection {
    async fn serve(mut self, mut client: TcpStream) {
        let mut server = None;
        let ended = tokio::select! {
            biased;
            _ = self.resets.changed() => Err(Torn),
            ended = through(&self.shared, self.number, &mut client, &mut server) => ended,
        };
        if ended.is_err() {
            self.shared.count(|counts| counts.reset += 1);
            for stream in [Some(client), server].into_iter().flatten() {
                // One that its peer has reset already cannot be set, and need not be.
                let _ = stream.set_zero_linger();
            }
        }
    }
}

/// One connection until both directions have ended.
async fn through(
    shared: &Shared,
    number: u64,
    client: &mut TcpStream,
    server: &mut Option<TcpStream>,
) -> Result<(), Torn> {
    let mut door = shared.door.subscribe();
    if *door.borrow_and_update() == Door::Hold {
        shared.count(|counts| counts.held += 1);
    }
    let opened = door.wait_for(|door| *door != Door::Hold).await;
    if opened.is_ok_and(|door| *door == Door::Refuse) {
        return Err(Torn);
    }
    let target = lock(&shared.target).clone();
    let connected = match target {
        Some(target) => TcpStream::connect(target).await.ok(),
        None => None,
    };
    let Some(connected) = connected else {
        shared.count(|counts| counts.unreachable += 1);
        return Err(Torn);
    };
    let server = server.insert(connected);
    client.set_nodelay(true).map_err(|_| Torn)?;
    server.set_nodelay(true).map_err(|_| Torn)?;
    let (from_client, to_client) = client.split();
    let (from_server, to_server) = server.split();
    let pump = |from, to, way| Pump {
        from,
        to,
        way,
        carry: shared.carry(way).subscribe(),
        rng: StdRng::seed_from_u64(shared.seed.wrapping_add(number * 2 + way as u64)),
        shared,
    };
    let up = pump(from_client, to_server, Way::Up);
    let down = pump(from_server, to_client, Way::Down);
    tokio::try_join!(up.run(), down.run()).map(drop)
}
