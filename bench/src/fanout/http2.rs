//! As much of HTTP/2 as a subscriber needs who must cost little: one request on one connection, and the bytes of its
//! answer. From RFC 9113 and, for the request's headers, RFC 7541 (literals only). Pure: bytes in, bytes out.

use anyhow::{Result, bail, ensure};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const HEADER_BYTES: usize = 9;
/// A control frame that is longer is none that we should get.
const CONTROL_BYTES_MAX: usize = 16 << 10;
/// What may be under way before anybody says otherwise.
const WINDOW_AT_FIRST: u32 = 65_535;
/// The only request's.
const STREAM: u32 = 1;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;

const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;

/// What a client lets a server send.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Limits {
    pub(crate) frame_bytes: u32,
    pub(crate) window_bytes: u32,
}

/// One connection with one stream.
#[derive(Debug)]
pub(super) struct Connection {
    limits: Limits,
    header: [u8; HEADER_BYTES],
    header_len: usize,
    /// Bytes of the frame that are still to come.
    left: usize,
    /// A control frame's so far.
    control: Vec<u8>,
    /// Received and not yet allowed anew: on the connection and on the stream, which are equally wide.
    consumed: u32,
}

impl Connection {
    /// And what is to be sent first.
    pub(super) fn new(limits: Limits) -> (Self, Vec<u8>) {
        let mut out = PREFACE.to_vec();
        let mut settings = Vec::new();
        // No push, the window of a stream, the largest frame.
        for (id, value) in [
            (2_u16, 0),
            (4, limits.window_bytes),
            (5, limits.frame_bytes),
        ] {
            settings.extend(id.to_be_bytes());
            settings.extend(u32::to_be_bytes(value));
        }
        frame(&mut out, SETTINGS, 0, 0, &settings);
        if let Some(more) = limits.window_bytes.checked_sub(WINDOW_AT_FIRST) {
            widen(&mut out, 0, more);
        }
        let connection = Connection {
            limits,
            header: [0; HEADER_BYTES],
            header_len: 0,
            left: 0,
            control: Vec::new(),
            consumed: 0,
        };
        (connection, out)
    }

    /// A gRPC call with this message, to be sent.
    pub(super) fn call(path: &str, message: &[u8]) -> Vec<u8> {
        // :method POST and :scheme http of the static table.
        let mut headers = vec![0x83, 0x86];
        let mut literal = |name: &[u8], value: &str| {
            headers.extend(name);
            headers.push(value.len() as u8);
            headers.extend(value.as_bytes());
        };
        // :path, :authority and content-type by their names in the static table.
        literal(&[0x04], path);
        literal(&[0x01], "localhost");
        literal(&[0x0f, 0x10], "application/grpc");
        literal(b"\x00\x02te", "trailers");
        let mut out = Vec::new();
        frame(&mut out, HEADERS, END_HEADERS, STREAM, &headers);
        let mut body = vec![0];
        body.extend((message.len() as u32).to_be_bytes());
        body.extend(message);
        frame(&mut out, DATA, END_STREAM, STREAM, &body);
        out
    }

    /// Takes what came: the answer's bytes go to `answer`, what is to be sent into `out`. Wrong: the answer ends.
    pub(super) fn push(
        &mut self,
        mut bytes: &[u8],
        out: &mut Vec<u8>,
        mut answer: impl FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        while !bytes.is_empty() {
            if self.header_len < HEADER_BYTES {
                let taken = bytes.len().min(HEADER_BYTES - self.header_len);
                self.header[self.header_len..][..taken].copy_from_slice(&bytes[..taken]);
                self.header_len += taken;
                bytes = &bytes[taken..];
                if self.header_len < HEADER_BYTES {
                    return Ok(());
                }
                let [a, b, c, ..] = self.header;
                self.left = u32::from_be_bytes([0, a, b, c]) as usize;
                self.control.clear();
            }
            let (kind, flags) = (self.header[3], self.header[4]);
            let (now, later) = bytes.split_at(bytes.len().min(self.left));
            self.left -= now.len();
            bytes = later;
            if kind == DATA {
                ensure!(flags & PADDED == 0, "a frame is padded");
                self.consumed += now.len() as u32;
                answer(now)?;
            } else {
                self.control.extend_from_slice(now);
                ensure!(
                    self.control.len() <= CONTROL_BYTES_MAX,
                    "a control frame is too long"
                );
            }
            if self.left == 0 {
                self.header_len = 0;
                self.frame_ended(kind, flags, out)?;
            }
        }
        if self.consumed >= self.limits.window_bytes / 2 {
            widen(out, 0, self.consumed);
            widen(out, STREAM, self.consumed);
            self.consumed = 0;
        }
        Ok(())
    }

    fn frame_ended(&self, kind: u8, flags: u8, out: &mut Vec<u8>) -> Result<()> {
        match kind {
            SETTINGS if flags & ACK == 0 => frame(out, SETTINGS, ACK, 0, &[]),
            PING if flags & ACK == 0 => frame(out, PING, ACK, 0, &self.control),
            RST_STREAM | GOAWAY => bail!("the server ended it: {:?}", self.control),
            DATA | HEADERS if flags & END_STREAM != 0 => {
                let text = String::from_utf8_lossy(&self.control).into_owned();
                bail!("the server ended the answer: {text:?}")
            }
            _ => {}
        }
        Ok(())
    }
}

fn frame(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    out.extend(&(payload.len() as u32).to_be_bytes()[1..]);
    out.extend([kind, flags]);
    out.extend(stream.to_be_bytes());
    out.extend(payload);
}

fn widen(out: &mut Vec<u8>, stream: u32, by: u32) {
    frame(out, WINDOW_UPDATE, 0, stream, &by.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        frame_bytes: 1 << 14,
        window_bytes: 100_000,
    };

    #[test]
    fn an_answer_is_taken_out_of_its_frames_wherever_they_are_cut() {
        let mut sent = Vec::new();
        frame(&mut sent, SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 9]);
        frame(&mut sent, HEADERS, END_HEADERS, STREAM, &[0x88]);
        frame(&mut sent, DATA, 0, STREAM, b"late night ");
        frame(&mut sent, PING, 0, 0, b"12345678");
        frame(&mut sent, DATA, 0, STREAM, b"jazz");
        let mut expected = Vec::new();
        frame(&mut expected, SETTINGS, ACK, 0, &[]);
        frame(&mut expected, PING, ACK, 0, b"12345678");
        for piece in [1, 3, 9, 10, 200] {
            let (mut connection, _) = Connection::new(LIMITS);
            let (mut out, mut answer) = (Vec::new(), Vec::new());
            for piece in sent.chunks(piece) {
                let take = |bytes: &[u8]| {
                    answer.extend_from_slice(bytes);
                    Ok(())
                };
                connection.push(piece, &mut out, take).expect("it is sound");
            }
            assert_eq!(answer, b"late night jazz", "in pieces of {piece}");
            assert_eq!(out, expected, "in pieces of {piece}");
        }
    }

    #[test]
    fn windows_are_opened_again_when_half_of_them_is_used() {
        let (mut connection, first) = Connection::new(LIMITS);
        let mut expected = Vec::new();
        widen(&mut expected, 0, 100_000 - WINDOW_AT_FIRST);
        assert!(first.ends_with(&expected));
        let mut sent = Vec::new();
        frame(&mut sent, DATA, 0, STREAM, &[7; 10_000]);
        let mut out = Vec::new();
        for _ in 0..4 {
            let taken = connection.push(&sent, &mut out, |_| Ok(()));
            taken.expect("it is sound");
        }
        assert!(out.is_empty());
        let taken = connection.push(&sent, &mut out, |_| Ok(()));
        taken.expect("it is sound");
        let mut expected = Vec::new();
        widen(&mut expected, 0, 50_000);
        widen(&mut expected, STREAM, 50_000);
        assert_eq!(out, expected);
    }

    #[test]
    fn the_end_of_an_answer_is_an_error() {
        let mut sent = Vec::new();
        frame(&mut sent, HEADERS, END_HEADERS | END_STREAM, STREAM, b"x");
        let (mut connection, _) = Connection::new(LIMITS);
        let taken = connection.push(&sent, &mut Vec::new(), |_| Ok(()));
        taken.expect_err("nothing more will come");
    }
}
