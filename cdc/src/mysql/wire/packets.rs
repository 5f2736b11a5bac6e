//! Packets of the client protocol over TCP or TLS, without a copy for those that fit one (below 16 MiB).
//!
//! Format: three bytes of length, one of sequence, the payload; a payload of the full length is continued in the
//! next packet. <https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_basic_packets.html>

use std::io::{Error, ErrorKind, Result};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWriteExt as _, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_util::io::poll_read_buf;

/// A payload of this length goes on in the next packet.
const FULL: usize = 0xff_ffff;
/// The server's own limit for a packet, with room for what it puts before an event.
const LARGEST: usize = (1 << 30) + (1 << 16);
/// What is read at once. Payloads are slices of such a block, which lives as long as any of them.
const BLOCK: usize = 64 << 10;
/// Below this much room a new block is begun.
const ROOM_MIN: usize = 8 << 10;

/// The transport of one connection.
pub(super) enum Transport {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// Packets of one connection.
pub(super) struct Packets {
    transport: Transport,
    read: BytesMut,
    /// The first parts of a payload of several packets.
    parts: BytesMut,
    /// The number that the next packet must have.
    sequence: u8,
}

impl Packets {
    pub(super) fn new(transport: Transport) -> Self {
        Packets {
            transport,
            read: BytesMut::with_capacity(BLOCK),
            parts: BytesMut::new(),
            sequence: 0,
        }
    }

    /// The transport, to be wrapped. Nothing may have been read ahead: it would be lost.
    pub(super) fn into_transport(self) -> Result<(Transport, u8)> {
        if !self.read.is_empty() {
            // Bytes injected before TLS must not be taken as having come through it.
            return Err(invalid("the server sent more than its greeting before TLS"));
        }
        Ok((self.transport, self.sequence))
    }

    /// After [`Packets::into_transport`].
    pub(super) fn resumed(transport: Transport, sequence: u8) -> Self {
        Packets {
            sequence,
            ..Packets::new(transport)
        }
    }

    pub(super) fn is_encrypted(&self) -> bool {
        matches!(self.transport, Transport::Tls(_))
    }

    /// Sends the first packet of a command.
    pub(super) async fn command(&mut self, payload: &[u8]) -> Result<()> {
        self.sequence = 0;
        self.send(payload).await
    }

    /// Sends the next packet of an exchange.
    pub(super) async fn send(&mut self, payload: &[u8]) -> Result<()> {
        if payload.len() >= FULL {
            return Err(invalid("what we want to say does not fit a packet"));
        }
        let mut packet = Vec::with_capacity(4 + payload.len());
        packet.extend_from_slice(&(payload.len() as u32).to_le_bytes()[..3]);
        packet.push(self.sequence);
        packet.extend_from_slice(payload);
        self.sequence = self.sequence.wrapping_add(1);
        match &mut self.transport {
            Transport::Plain(tcp) => tcp.write_all(&packet).await,
            Transport::Tls(tls) => {
                tls.write_all(&packet).await?;
                tls.flush().await
            }
        }
    }

    /// Waits for the next payload. Cancel safe.
    pub(super) async fn next(&mut self) -> Result<Bytes> {
        std::future::poll_fn(|cx| self.poll_next(cx)).await
    }

    /// The next payload if it has come.
    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Bytes>> {
        loop {
            if let Some(payload) = self.buffered()? {
                return Poll::Ready(Ok(payload));
            }
            if self.read.capacity() - self.read.len() < ROOM_MIN {
                self.read.reserve(BLOCK);
            }
            let transport = Pin::new(&mut self.transport);
            if ready!(poll_read_buf(transport, cx, &mut self.read))? == 0 {
                let reason = "the server closed the connection";
                return Poll::Ready(Err(Error::new(ErrorKind::UnexpectedEof, reason)));
            }
        }
    }

    /// The next payload among what was read; otherwise room is made for it.
    fn buffered(&mut self) -> Result<Option<Bytes>> {
        loop {
            let Some(&[a, b, c, sequence]) = self.read.first_chunk::<4>() else {
                return Ok(None);
            };
            let len = u32::from_le_bytes([a, b, c, 0]) as usize;
            if self.read.len() < 4 + len {
                self.read.reserve(4 + len - self.read.len());
                return Ok(None);
            }
            if sequence != self.sequence {
                return Err(invalid("packets are out of order"));
            }
            self.sequence = sequence.wrapping_add(1);
            self.read.advance(4);
            let part = self.read.split_to(len);
            if len < FULL && self.parts.is_empty() {
                return Ok(Some(part.freeze()));
            }
            if self.parts.len() + len > LARGEST {
                return Err(invalid("a packet is larger than any server may send"));
            }
            self.parts.extend_from_slice(&part);
            if len < FULL {
                return Ok(Some(std::mem::take(&mut self.parts).freeze()));
            }
        }
    }
}

fn invalid(reason: &'static str) -> Error {
    Error::new(ErrorKind::InvalidData, reason)
}

impl AsyncRead for Transport {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<Result<()>> {
        match self.get_mut() {
            Transport::Plain(tcp) => Pin::new(tcp).poll_read(cx, buf),
            Transport::Tls(tls) => Pin::new(tls).poll_read(cx, buf),
        }
    }
}
