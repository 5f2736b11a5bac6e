//! The connection that the binlog and the rows of a scan come through.
//!
//! The driver's own binlog stream is not used: it takes an event's length on trust (a damaged one ends the
//! process), unpacks compressed transactions that we unpack ourselves, keeps every table map of the server, and
//! copies each event twice before anybody has looked at its checksum; and it makes two allocations and more of each row.
//! The messages are `mysql_common`'s.

mod login;
mod packets;
mod rows;

use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use mysql_async::{DriverError, Error, ServerError};
use mysql_common::proto::MySerialize;
use rustls::ClientConfig;

use self::packets::Packets;
pub(super) use self::rows::{Row, Rows, Sent};

/// The largest packet that we take, and the protocol knows.
pub(super) const PACKET_MAX: u32 = 1 << 30;
/// A half-open connection is also noticed by the kernel.
pub(super) const KEEPALIVE: Duration = Duration::from_secs(30);

const OK: u8 = 0x00;
const END: u8 = 0xfe;
const ERROR: u8 = 0xff;
const COM_QUIT: u8 = 0x01;
const COM_QUERY: u8 = 0x03;

/// Where to connect, and as whom.
#[derive(Clone)]
pub(super) struct Endpoint {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) user: String,
    pub(super) password: Option<String>,
    pub(super) tls: Option<EndpointTls>,
}

/// How to encrypt.
#[derive(Clone)]
pub(super) struct EndpointTls {
    pub(super) config: Arc<ClientConfig>,
    /// Go on in plain text when the server has no TLS.
    pub(super) optional: bool,
}

/// A connection that is logged in.
pub(super) struct Wire {
    packets: Packets,
}

impl Wire {
    /// Connects and logs in.
    pub(super) async fn connect(endpoint: &Endpoint) -> Result<Self, Error> {
        let packets = login::login(endpoint).await?;
        Ok(Wire { packets })
    }

    /// Runs a statement that has no result.
    pub(super) async fn run(&mut self, sql: &str) -> Result<(), Error> {
        self.packets.command(&query(sql)).await?;
        self.ok().await
    }

    /// The one column of the one row of a query.
    pub(super) async fn ask(&mut self, sql: &str) -> Result<String, Error> {
        self.packets.command(&query(sql)).await?;
        let mut ends = 0;
        let mut answer = None;
        while ends < 2 {
            let packet = self.packets.next().await?;
            match packet.first() {
                Some(&ERROR) => return Err(server_error(&packet)),
                Some(&END) if packet.len() < 9 => ends += 1,
                // After the columns: one length below 251 and that many bytes.
                Some(&len) if ends == 1 && packet.len() == usize::from(len) + 1 => {
                    answer = Some(String::from_utf8_lossy(&packet[1..]).into_owned());
                }
                Some(_) if ends == 0 => {}
                _ => return Err(unexpected(&packet)),
            }
        }
        answer.ok_or_else(|| unexpected(&[]))
    }

    /// Says goodbye.
    pub(super) async fn quit(mut self) -> Result<(), Error> {
        Ok(self.packets.command(&[COM_QUIT]).await?)
    }

    /// Sends a command whose only answer is "done".
    pub(super) async fn command(&mut self, message: &impl MySerialize) -> Result<(), Error> {
        self.begin(message).await?;
        self.ok().await
    }

    /// Sends the command whose answer is the stream.
    pub(super) async fn begin(&mut self, message: &impl MySerialize) -> Result<(), Error> {
        let mut payload = Vec::new();
        message.serialize(&mut payload);
        Ok(self.packets.command(&payload).await?)
    }

    async fn ok(&mut self) -> Result<(), Error> {
        let packet = self.packets.next().await?;
        match packet.first() {
            Some(&OK) => Ok(()),
            Some(&ERROR) => Err(server_error(&packet)),
            _ => Err(unexpected(&packet)),
        }
    }

    /// Waits for the next event of the stream, with its header and checksum. Cancel safe.
    pub(super) async fn event(&mut self) -> Result<Bytes, Error> {
        let packet = self.packets.next().await?;
        event(packet)
    }

    /// The next event if it has come.
    pub(super) fn try_event(&mut self) -> Result<Option<Bytes>, Error> {
        // Nobody is woken by this look; whoever waits polls again and is registered then.
        match self
            .packets
            .poll_next(&mut Context::from_waker(Waker::noop()))
        {
            Poll::Ready(packet) => event(packet?).map(Some),
            Poll::Pending => Ok(None),
        }
    }
}

fn event(packet: Bytes) -> Result<Bytes, Error> {
    match packet.first() {
        Some(&OK) => Ok(packet.slice(1..)),
        Some(&ERROR) => Err(server_error(&packet)),
        Some(&END) if packet.len() < 9 => Err(DriverError::ConnectionClosed.into()),
        _ => Err(unexpected(&packet)),
    }
}

fn query(sql: &str) -> Vec<u8> {
    let mut payload = vec![COM_QUERY];
    payload.extend_from_slice(sql.as_bytes());
    payload
}

/// `ff CODE #STATE MESSAGE`, the state only once both sides know each other.
fn server_error(packet: &[u8]) -> Error {
    let Some((&[_, low, high], rest)) = packet.split_first_chunk::<3>() else {
        return unexpected(packet);
    };
    let (state, message) = match rest {
        [b'#', rest @ ..] if rest.len() >= 5 => rest.split_at(5),
        rest => (&b"HY000"[..], rest),
    };
    Error::Server(ServerError {
        code: u16::from_le_bytes([low, high]),
        state: String::from_utf8_lossy(state).into_owned(),
        message: String::from_utf8_lossy(message).into_owned(),
    })
}

fn unexpected(packet: &[u8]) -> Error {
    DriverError::UnexpectedPacket {
        payload: packet.to_vec(),
    }
    .into()
}
