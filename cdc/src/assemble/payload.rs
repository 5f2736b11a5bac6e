//! TRANSACTION_PAYLOAD: a whole transaction but for its GTID, compressed. Its events come out one at a time, so that
//! the memory taken is that of the largest event, whatever the transaction unpacks to.

use std::fmt;

use zstd::stream::raw::{Decoder, Operation};

use super::body::{Body, Malformed};

/// The wrapper's header: a list of fields (type, length, value, all length-encoded integers) up to an end mark
/// (libs/mysql/binlog/event/codecs/binary.cpp, `Transaction_payload`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Payload<'a> {
    compression: u64,
    /// Bytes of all events together, if it says.
    unpacked: Option<u64>,
    data: &'a [u8],
}

const ZSTD: u64 = 0;
const UNCOMPRESSED: u64 = 255;

impl<'a> Payload<'a> {
    pub(super) fn parse(body: &'a [u8]) -> Result<Self, Malformed> {
        let mut body = Body(body);
        let (mut compression, mut unpacked, mut packed) = (None, None, None);
        loop {
            let field = body.lenenc()?;
            if field == 0 {
                break;
            }
            let length =
                usize::try_from(body.lenenc()?).map_err(|_| Malformed("a field is too long"))?;
            let mut value = Body(body.take(length)?);
            match field {
                1 => packed = Some(value.lenenc()?),
                2 => compression = Some(value.lenenc()?),
                3 => unpacked = Some(value.lenenc()?),
                _ => {}
            }
        }
        if packed.is_some_and(|packed| packed != body.0.len() as u64) {
            return Err(Malformed("it is not as long as it says"));
        }
        Ok(Payload {
            compression: compression.ok_or(Malformed("it does not say how it is compressed"))?,
            unpacked,
            data: body.0,
        })
    }
}

/// An event from inside: it has a header of its own and no checksum.
#[derive(Clone, Copy, Debug)]
pub(super) struct Inner<'a> {
    pub(super) kind: u8,
    pub(super) flags: u16,
    pub(super) body: &'a [u8],
}

/// Why no more events come out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    Malformed(Malformed),
    /// Sound as far as one can tell, but not for us: why.
    TooMuch(String),
}

impl From<Malformed> for Stop {
    fn from(malformed: Malformed) -> Self {
        Stop::Malformed(malformed)
    }
}

const BROKEN: Stop = Stop::Malformed(Malformed("its compressed data is damaged"));

/// Unpacks payloads. Kept from one to the next for its memory.
#[derive(Default)]
pub(super) struct Unpacker {
    zstd: Option<Decoder<'static>>,
    /// Unpacked bytes are at `from..to`.
    buffer: Vec<u8>,
    from: usize,
    to: usize,
    /// Unpacked in all, and events among them.
    unpacked: u64,
    events: u64,
    /// Whether the compressed data may end here.
    frame_done: bool,
}

impl Unpacker {
    const HEADER: usize = 19;
    /// Room to begin with, and at most kept for the next payload.
    const ROOM: usize = 64 << 10;
    const ROOM_KEPT: usize = 4 << 20;

    /// Prepares for another payload.
    pub(super) fn start(&mut self, payload: &Payload<'_>) -> Result<(), Stop> {
        (self.from, self.to, self.unpacked, self.events) = (0, 0, 0, 0);
        self.frame_done = true;
        if self.buffer.len() > Self::ROOM_KEPT {
            self.buffer = Vec::new();
        }
        match payload.compression {
            UNCOMPRESSED => Ok(()),
            ZSTD => {
                let fresh = match &mut self.zstd {
                    Some(zstd) => zstd.reinit(),
                    none => Decoder::new().map(|zstd| *none = Some(zstd)),
                };
                fresh.map_err(|error| Stop::TooMuch(format!("zstd cannot be used: {error}")))
            }
            unknown => Err(Stop::TooMuch(format!(
                "it is compressed in a way that is unknown, number {unknown}"
            ))),
        }
    }

    /// The next event of the payload, which gets shorter as it is read; `None` after the last one.
    pub(super) fn next(
        &mut self,
        payload: &mut Payload<'_>,
        limit: usize,
    ) -> Result<Option<Inner<'_>>, Stop> {
        loop {
            let have = self.to - self.from;
            let mut wanted = Self::HEADER;
            if have >= Self::HEADER {
                let mut header = Body(&self.buffer[self.from..self.to]);
                let _timestamp = header.u32()?;
                let kind = header.u8()?;
                let _server = header.u32()?;
                wanted = header.length(4)?;
                let _position = header.u32()?;
                let flags = header.u16()?;
                if wanted < Self::HEADER {
                    return Err(Malformed("an event in it is shorter than its header").into());
                }
                if wanted > limit {
                    return Err(Stop::TooMuch(format!(
                        "an event in it has {wanted} bytes, more than {limit}"
                    )));
                }
                if have >= wanted {
                    let body = self.from + Self::HEADER..self.from + wanted;
                    self.from += wanted;
                    self.events += 1;
                    return Ok(Some(Inner {
                        kind,
                        flags,
                        body: &self.buffer[body],
                    }));
                }
            }
            if !self.fill(payload, wanted)? {
                return self.finish(payload, have);
            }
        }
    }

    /// Unpacks some more; `false` when there is no more.
    fn fill(&mut self, payload: &mut Payload<'_>, wanted: usize) -> Result<bool, Stop> {
        self.buffer.copy_within(self.from..self.to, 0);
        (self.from, self.to) = (0, self.to - self.from);
        if self.to == self.buffer.len() {
            // Doubled as data arrives: an event that only says to be large costs nothing.
            let room = wanted.min(2 * self.buffer.len()).max(Self::ROOM);
            self.buffer.resize(room, 0);
        }
        let room = &mut self.buffer[self.to..];
        let more = if payload.compression == UNCOMPRESSED {
            let count = room.len().min(payload.data.len());
            let (now, later) = payload.data.split_at(count);
            room[..count].copy_from_slice(now);
            payload.data = later;
            count
        } else {
            let zstd = self.zstd.as_mut().ok_or(BROKEN)?;
            decompress(zstd, &mut payload.data, room, &mut self.frame_done)?
        };
        self.to += more;
        self.unpacked += more as u64;
        if payload.unpacked.is_some_and(|says| self.unpacked > says) {
            return Err(Malformed("it unpacks to more than it says").into());
        }
        Ok(more > 0)
    }

    fn finish(&self, payload: &Payload<'_>, left: usize) -> Result<Option<Inner<'_>>, Stop> {
        if left > 0 {
            return Err(Malformed("its last event is cut off").into());
        }
        if payload.unpacked.is_some_and(|says| self.unpacked < says) {
            return Err(Malformed("it unpacks to less than it says").into());
        }
        if self.events == 0 {
            return Err(Malformed("it holds no events").into());
        }
        Ok(None)
    }
}

/// Writes to `room`, which is not empty, and shortens `data` by what was read. 0 at the end of the data.
fn decompress(
    zstd: &mut Decoder<'static>,
    data: &mut &[u8],
    room: &mut [u8],
    frame_done: &mut bool,
) -> Result<usize, Stop> {
    while !(data.is_empty() && *frame_done) {
        let status = zstd.run_on_buffers(data, room).map_err(|_| BROKEN)?;
        *data = &data[status.bytes_read..];
        *frame_done = status.remaining == 0;
        if status.bytes_written > 0 {
            return Ok(status.bytes_written);
        }
        if status.bytes_read == 0 {
            return Err(BROKEN);
        }
    }
    Ok(0)
}

impl fmt::Debug for Unpacker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unpacker")
            .field("room", &self.buffer.len())
            .finish_non_exhaustive()
    }
}
