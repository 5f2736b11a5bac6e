//! The floor: bytes that are there, written to each socket in turn.

use std::io::{Read as _, Write as _, stdin};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::{Mutex, PoisonError};
use std::thread;

use anyhow::Result;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Publish, Published, clock, descriptors};
use crate::harness::child::say;

/// Marks the listener among the connections.
const LISTENER: u64 = u64::MAX;

/// As many bytes as ours sends.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Bare {
    pub(crate) subscribers: usize,
    pub(crate) update_bytes: usize,
    pub(crate) snapshot_bytes: usize,
}

impl Bare {
    pub(super) fn serve(&self) -> Result<()> {
        descriptors::allow(self.subscribers)?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = listener.local_addr()?.port();
        let sockets = Mutex::new(Vec::new());
        thread::scope(|scope| {
            // It ends with the process.
            scope.spawn(|| {
                if let Err(error) = self.welcome(&listener, &sockets) {
                    eprintln!("{error:#}");
                    std::process::exit(1);
                }
            });
            say(&json!({ "ready": { "port": port } }))?;
            let mut version = 0;
            for line in stdin().lines() {
                let publish = Publish::of(&line?)?;
                let mut subscribers = 0;
                for due in publish.dues() {
                    thread::sleep(due.saturating_sub(clock::now()?));
                    version += 1;
                    let update = message(version, self.update_bytes)?;
                    let sockets = sockets.lock().unwrap_or_else(PoisonError::into_inner);
                    subscribers = sockets.len();
                    for mut socket in sockets.iter() {
                        socket.write_all(&update)?;
                    }
                }
                Published {
                    subscribers,
                    version: Some(version),
                    encodings: None,
                }
                .say()?;
            }
            std::process::exit(0)
        })
    }

    /// Accepts, and answers each byte with the snapshot.
    fn welcome(&self, listener: &TcpListener, sockets: &Mutex<Vec<TcpStream>>) -> Result<()> {
        let snapshot = message(0, self.snapshot_bytes)?;
        let epoll = Epoll::new(EpollCreateFlags::empty())?;
        epoll.add(listener, EpollEvent::new(EpollFlags::EPOLLIN, LISTENER))?;
        let mut events = [EpollEvent::empty(); 256];
        loop {
            let count = epoll.wait(&mut events, EpollTimeout::NONE)?;
            let mut sockets = sockets.lock().unwrap_or_else(PoisonError::into_inner);
            for event in &events[..count] {
                if event.data() == LISTENER {
                    let (mut socket, _) = listener.accept()?;
                    socket.set_nodelay(true)?;
                    // As an HTTP/2 server says something first.
                    socket.write_all(&[0])?;
                    let index = sockets.len() as u64;
                    epoll.add(&socket, EpollEvent::new(EpollFlags::EPOLLIN, index))?;
                    sockets.push(socket);
                    continue;
                }
                let mut socket = &sockets[event.data() as usize];
                let mut asked = [0];
                match socket.read(&mut asked) {
                    Ok(1..) => socket.write_all(&snapshot)?,
                    Ok(0) | Err(_) => epoll.delete(socket)?,
                }
            }
        }
    }
}

/// An `onair.bench.Update` as gRPC frames it, of so many bytes, most of them in a field that nobody knows.
fn message(version: u64, bytes: usize) -> Result<Vec<u8>> {
    let mut body = vec![0x11];
    body.extend(u64::try_from(clock::now()?.as_nanos())?.to_le_bytes());
    body.push(0x08);
    prost::encoding::encode_varint(version, &mut body);
    let padding = bytes.saturating_sub(5 + body.len() + 4);
    body.push(0x7a);
    prost::encoding::encode_varint(padding as u64, &mut body);
    body.resize(body.len() + padding, b'~');
    let mut framed = vec![0];
    framed.extend(u32::try_from(body.len())?.to_be_bytes());
    framed.extend(body);
    Ok(framed)
}
