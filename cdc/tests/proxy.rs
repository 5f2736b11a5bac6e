//! A TCP proxy between us and a server that changes or withholds what the server sends.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use anyhow::Result;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// What happens to the bytes that the server sends. Changes also while connections are open.
#[derive(Debug, Default)]
pub(crate) struct Mischief {
    /// Nothing goes through any more, in either direction, and nobody is told.
    pub(crate) silent: AtomicBool,
    /// Bytes of the server to look for, and what to send instead.
    pub(crate) replace: Option<(Vec<u8>, Vec<u8>)>,
    /// Another server for connections made from now on.
    pub(crate) elsewhere: Mutex<Option<(String, u16)>>,
}

/// A running proxy; it ends with this.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    pub(crate) mischief: Arc<Mischief>,
    _tasks: JoinSet<()>,
}

impl Proxy {
    /// Between a free port of `host` and the server.
    pub(crate) async fn start(host: &str, server: (&str, u16), mischief: Mischief) -> Result<Self> {
        let listener = TcpListener::bind((host, 0)).await?;
        let address = listener.local_addr()?;
        let mischief = Arc::new(mischief);
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(
            listener,
            (server.0.to_owned(), server.1),
            Arc::clone(&mischief),
        ));
        Ok(Proxy {
            address,
            mischief,
            _tasks: tasks,
        })
    }

    /// `mysql://..` through it.
    pub(crate) fn url(&self, user: &str, parameters: &str) -> String {
        format!("mysql://{user}@{}{parameters}", self.address)
    }
}

async fn accept(listener: TcpListener, server: (String, u16), mischief: Arc<Mischief>) {
    let mut pipes = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        let elsewhere = mischief.elsewhere.lock().unwrap().clone();
        let Ok(server) = TcpStream::connect(elsewhere.as_ref().unwrap_or(&server)).await else {
            continue;
        };
        let (client_read, client_write) = client.into_split();
        let (server_read, server_write) = server.into_split();
        let up = Arc::new(Mischief::default());
        pipes.spawn(pipe(client_read, server_write, up, Arc::clone(&mischief)));
        let down = Arc::clone(&mischief);
        pipes.spawn(pipe(server_read, client_write, down, Arc::clone(&mischief)));
    }
}

async fn pipe(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    change: Arc<Mischief>,
    shared: Arc<Mischief>,
) {
    let mut buffer = vec![0; 1 << 16];
    while let Ok(len) = from.read(&mut buffer).await {
        if shared.silent.load(Ordering::Relaxed) {
            // Both ends stay open, and what was read is lost.
            std::future::pending::<()>().await;
        }
        let bytes = &mut buffer[..len];
        if let Some((wanted, instead)) = &change.replace {
            let found = bytes
                .windows(wanted.len())
                .position(|window| window == wanted);
            if let Some(at) = found {
                bytes[at..at + instead.len()].copy_from_slice(instead);
            }
        }
        if len == 0 || to.write_all(bytes).await.is_err() {
            return;
        }
    }
}
