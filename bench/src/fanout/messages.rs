//! What comes to a subscriber: gRPC messages cut out of bytes, what they say as far as the bench must know it, and
//! whether they come in order. Pure.

use anyhow::{Context as _, Result, bail, ensure};
use onair_proto::v1::SubscribeResponse;
use onair_proto::v1::subscribe_response::Message;
use prost::Message as _;

/// So much of a message is kept until it is whole; of a larger one only that it came is of interest.
const HEAD_BYTES: usize = 1024;
/// A compression flag and a length.
const PREFIX_BYTES: usize = 5;

/// Cuts a stream of bytes into messages.
#[derive(Debug, Default)]
pub(super) struct Cutter {
    prefix: [u8; PREFIX_BYTES],
    prefix_len: usize,
    /// Bytes of the message that are still to come.
    left: usize,
    /// Its beginning.
    head: Vec<u8>,
}

impl Cutter {
    /// Calls `whole` with the beginning of each message that ends in these bytes.
    pub(super) fn push(
        &mut self,
        mut bytes: &[u8],
        mut whole: impl FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        while !bytes.is_empty() {
            if self.prefix_len < PREFIX_BYTES {
                let taken = bytes.len().min(PREFIX_BYTES - self.prefix_len);
                self.prefix[self.prefix_len..][..taken].copy_from_slice(&bytes[..taken]);
                self.prefix_len += taken;
                bytes = &bytes[taken..];
                if self.prefix_len < PREFIX_BYTES {
                    return Ok(());
                }
                let [compressed, length @ ..] = self.prefix;
                ensure!(compressed == 0, "a message is compressed");
                self.left = u32::from_be_bytes(length) as usize;
                self.head.clear();
            }
            let taken = bytes.len().min(self.left);
            let (now, later) = bytes.split_at(taken);
            self.left -= taken;
            bytes = later;
            if self.left == 0 && self.head.is_empty() {
                // In one piece, as most are.
                whole(&now[..now.len().min(HEAD_BYTES)])?;
                self.prefix_len = 0;
                continue;
            }
            let kept = now.len().min(HEAD_BYTES - self.head.len());
            self.head.extend_from_slice(&now[..kept]);
            if self.left == 0 {
                whole(&self.head)?;
                self.prefix_len = 0;
            }
        }
        Ok(())
    }
}

/// Whose messages they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Tongue {
    /// `onair.bench.Update`.
    Update,
    /// `onair.v1.SubscribeResponse`.
    OnAir,
}

/// A version that a subscriber now holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) version: u64,
    /// When it was published, by the monotonic clock.
    pub(super) published_nanos: u64,
}

/// What one subscriber holds, and what may come next.
#[derive(Debug, Default)]
pub(super) struct Order {
    held: Option<u64>,
    /// Of the frame whose seal is still to come.
    frame_to: Option<u64>,
}

impl Order {
    pub(super) fn held(&self) -> Option<u64> {
        self.held
    }

    /// Takes the beginning of a message; the version that it makes whole, if any. Wrong: one is lost, or comes out of
    /// order.
    pub(super) fn take(&mut self, tongue: Tongue, head: &[u8]) -> Result<Option<Held>> {
        let held = match tongue {
            Tongue::Update => Some(self.update(head)?),
            Tongue::OnAir => self.onair(head)?,
        };
        if let Some(held) = held {
            self.held = Some(held.version);
        }
        Ok(held)
    }

    fn update(&self, head: &[u8]) -> Result<Held> {
        let mut fields = Fields(head);
        let mut held = Held {
            version: 0,
            published_nanos: 0,
        };
        while let Some((number, value)) = fields.number()? {
            match number {
                1 => held.version = value,
                2 => held.published_nanos = value,
                _ => {}
            }
        }
        if let Some(before) = self.held {
            let version = held.version;
            ensure!(version == before + 1, "after {before} came {version}");
        }
        Ok(held)
    }

    fn onair(&mut self, head: &[u8]) -> Result<Option<Held>> {
        // The kind of a message is its first tag.
        match head.first().map(|tag| tag >> 3) {
            Some(1 | 2 | 5) => Ok(None),
            Some(3) => {
                let mut outer = Fields(head);
                let mut inner = Fields(outer.inside()?);
                let (mut from, mut to) = (0, 0);
                while let Some((number, value)) = inner.number()? {
                    match number {
                        1 => from = value,
                        2 => to = value,
                        _ => {}
                    }
                }
                let held = self.held.context("a frame came before a snapshot")?;
                ensure!(
                    (from..to).contains(&held),
                    "after {held} came a frame from {from} to {to}"
                );
                self.frame_to = Some(to);
                Ok(None)
            }
            Some(4) => {
                let Some(Message::Seal(seal)) = SubscribeResponse::decode(head)?.message else {
                    bail!("a message is not what its tag says");
                };
                if let Some(to) = self.frame_to.take() {
                    let version = seal.version;
                    ensure!(to == version, "a frame to {to} is sealed at {version}");
                }
                Ok(Some(Held {
                    version: seal.version,
                    published_nanos: seal.commit_time.unsigned_abs() * 1000,
                }))
            }
            _ => bail!("the server said {:?}", SubscribeResponse::decode(head)),
        }
    }
}

/// The numbers at the beginning of a message, up to its first field of another kind.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn number(&mut self) -> Result<Option<(u32, u64)>> {
        let Some(tag) = self.0.first() else {
            return Ok(None);
        };
        let (kind, number) = (tag & 7, u32::from(tag >> 3));
        match kind {
            0 => {
                self.0 = &self.0[1..];
                Ok(Some((number, self.varint()?)))
            }
            1 => {
                let value = self.0.get(1..9).context("a message is cut short")?;
                let value = u64::from_le_bytes(value.try_into()?);
                self.0 = &self.0[9..];
                Ok(Some((number, value)))
            }
            _ => Ok(None),
        }
    }

    /// What is inside of the message that stands here, as far as it is there.
    fn inside(&mut self) -> Result<&'a [u8]> {
        self.0 = self.0.get(1..).context("a message is cut short")?;
        let length = usize::try_from(self.varint()?)?;
        Ok(&self.0[..length.min(self.0.len())])
    }

    fn varint(&mut self) -> Result<u64> {
        Ok(prost::encoding::decode_varint(&mut self.0)?)
    }
}

#[cfg(test)]
mod tests {
    use onair_proto::v1::{Frame, Progress, Seal};

    use super::*;

    fn framed(message: &[u8]) -> Vec<u8> {
        let mut out = vec![0];
        out.extend((message.len() as u32).to_be_bytes());
        out.extend(message);
        out
    }

    /// What comes out when the bytes come in pieces of this size.
    fn cut(bytes: &[u8], piece: usize) -> Vec<Vec<u8>> {
        let mut cutter = Cutter::default();
        let mut heads = Vec::new();
        for piece in bytes.chunks(piece) {
            let whole = |head: &[u8]| {
                heads.push(head.to_vec());
                Ok(())
            };
            cutter.push(piece, whole).expect("it is sound");
        }
        heads
    }

    #[test]
    fn messages_are_counted_wherever_the_bytes_are_cut() {
        let sizes = [1_usize, 300, 5_000, 7];
        let messages = sizes.map(|size| vec![size as u8; size]);
        let bytes: Vec<u8> = messages.iter().flat_map(|m| framed(m)).collect();
        let heads = messages.map(|message| message[..message.len().min(HEAD_BYTES)].to_vec());
        for piece in [1, 2, 5, 6, 100, 1_024, 6_000] {
            assert_eq!(cut(&bytes, piece), heads, "in pieces of {piece}");
        }
    }

    #[test]
    fn an_empty_message_is_one() {
        let heads = cut(&[framed(&[]), framed(&[1])].concat(), 100);
        assert_eq!(heads, [vec![], vec![1]]);
    }

    fn update(version: u64) -> Vec<u8> {
        let mut out = vec![0x08];
        prost::encoding::encode_varint(version, &mut out);
        out.push(0x11);
        out.extend((version * 1000).to_le_bytes());
        out.extend([0x1a, 3, 1, 2, 3]);
        out
    }

    #[test]
    fn updates_come_one_after_the_other() {
        let mut order = Order::default();
        for version in [300, 301] {
            let held = order.take(Tongue::Update, &update(version));
            let published_nanos = version * 1000;
            let expected = Held {
                version,
                published_nanos,
            };
            assert_eq!(held.expect("in order"), Some(expected));
        }
        for version in [301, 303, 300] {
            let taken = order.take(Tongue::Update, &update(version));
            taken.expect_err("one was lost, or came twice");
        }
        assert_eq!(order.held(), Some(301));
    }

    fn said(message: Message) -> Vec<u8> {
        let message = Some(message);
        SubscribeResponse { message }.encode_to_vec()
    }

    fn frame(from: u64, to: u64) -> Vec<u8> {
        let entries = vec![7; 2_000].into();
        let exact = false;
        let whole = said(Message::Frame(Frame {
            from,
            to,
            exact,
            entries,
        }));
        whole[..HEAD_BYTES].to_vec()
    }

    fn seal(version: u64) -> Vec<u8> {
        let commit_time = 5;
        said(Message::Seal(Seal {
            version,
            commit_time,
            ..Seal::default()
        }))
    }

    #[test]
    fn a_version_is_held_when_it_is_sealed() {
        let mut order = Order::default();
        let mut take = |head: Vec<u8>| order.take(Tongue::OnAir, &head);
        take(frame(1, 2)).expect_err("nothing is held yet");
        let held = take(seal(5)).expect("a snapshot's").expect("it is whole");
        assert_eq!((held.version, held.published_nanos), (5, 5_000));
        assert_eq!(take(frame(4, 7)).expect("it applies"), None);
        take(seal(8)).expect_err("not what the frame leads to");
        assert_eq!(
            take(said(Message::Progress(Progress::default()))).expect("fine"),
            None
        );
        take(frame(3, 5)).expect_err("it leads nowhere");
        take(frame(6, 9)).expect_err("something is missing");
        take(said(Message::GoAway(onair_proto::v1::GoAway::default())))
            .expect_err("the server sent it away");
    }
}
