//! What can be broken on the way.

use bytes::{Bytes, BytesMut};
use onair_proto::v1::subscribe_response::Message;

/// Something wrong with the next snapshot or frame. The first ones are for snapshots, the others for frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Damage {
    /// The second chunk is missing.
    ChunkLost,
    /// The first chunk comes twice.
    ChunkTwice,
    /// The first two chunks have each other's rows: harmless, the order of rows says nothing.
    ChunksSwapped,
    /// The second chunk says another version.
    ChunkOfOtherVersion,
    /// The last chunk ends in the middle of a row.
    ChunkTruncated,
    /// One byte of a row is another.
    ChunkRowChanged,
    /// The seal waits for `go_on`, as on a slow line.
    SnapshotSlow,
    /// The stream ends before the seal.
    SnapshotCut,
    /// The seal is of the next version.
    SnapshotSealOfOtherVersion,
    /// The seal's digest is another.
    SnapshotDigest,
    /// The seal's count is another.
    SnapshotCount,
    /// The frame is not sent: the next one does not follow.
    FrameLost,
    /// It says that it follows another version.
    FrameFrom,
    /// One key of it is missing.
    FrameKeyLost,
    /// One byte of a row is another.
    FrameRowChanged,
    /// It ends in the middle of a row.
    FrameTruncated,
    /// The stream ends before the seal.
    FrameCut,
    /// It comes twice.
    FrameTwice,
    /// The seal is of the next version.
    FrameSealOfOtherVersion,
    /// The seal's digest is another.
    FrameDigest,
    /// The seal's count is another.
    FrameCount,
}

/// What becomes of the stream after a damaged group.
pub(crate) enum Then {
    Stays,
    Ends,
    /// These messages wait.
    Waits(Vec<Message>),
}

impl Damage {
    /// All of them.
    pub const ALL: &[Damage] = &[
        Damage::ChunkLost,
        Damage::ChunkTwice,
        Damage::ChunksSwapped,
        Damage::ChunkOfOtherVersion,
        Damage::ChunkTruncated,
        Damage::ChunkRowChanged,
        Damage::SnapshotSlow,
        Damage::SnapshotCut,
        Damage::SnapshotSealOfOtherVersion,
        Damage::SnapshotDigest,
        Damage::SnapshotCount,
        Damage::FrameLost,
        Damage::FrameFrom,
        Damage::FrameKeyLost,
        Damage::FrameRowChanged,
        Damage::FrameTruncated,
        Damage::FrameCut,
        Damage::FrameTwice,
        Damage::FrameSealOfOtherVersion,
        Damage::FrameDigest,
        Damage::FrameCount,
    ];

    /// Whether it is for frames; otherwise it is for snapshots.
    pub const fn is_for_frames(self) -> bool {
        (self as u8) >= Damage::FrameLost as u8
    }

    /// Whether it can be done to this group.
    pub(crate) fn fits(self, group: &[Message]) -> bool {
        let is_frame = matches!(group.first(), Some(Message::Frame(_)));
        let bodies = group.len() - if is_frame { 1 } else { 2 };
        let needed = match self {
            Damage::ChunkLost | Damage::ChunksSwapped | Damage::ChunkOfOtherVersion => 2,
            _ => 1,
        };
        self.is_for_frames() == is_frame && bodies >= needed
    }

    /// Does it to one group.
    pub(crate) fn apply(self, group: &mut Vec<Message>) -> Then {
        let bodies = group
            .iter()
            .take_while(|message| !matches!(message, Message::Seal(_)))
            .count();
        let first = usize::from(!self.is_for_frames());
        match self {
            Damage::ChunkLost => {
                group.remove((first + 1).min(bodies - 1));
            }
            Damage::ChunkTwice | Damage::FrameTwice => group.insert(first, group[first].clone()),
            Damage::ChunksSwapped => {
                if let [Message::Chunk(a), Message::Chunk(b), ..] = &mut group[first..] {
                    std::mem::swap(&mut a.entries, &mut b.entries);
                }
            }
            Damage::ChunkOfOtherVersion => {
                if let Message::Chunk(chunk) = &mut group[(first + 1).min(bodies - 1)] {
                    chunk.version -= 1;
                }
            }
            Damage::ChunkTruncated | Damage::FrameTruncated => {
                let bytes = entries(&mut group[bodies - 1]);
                bytes.truncate(bytes.len().saturating_sub(1));
            }
            Damage::ChunkRowChanged | Damage::FrameRowChanged => {
                let bytes = entries(&mut group[bodies - 1]);
                let mut changed = BytesMut::from(&bytes[..]);
                if let Some(last) = changed.last_mut() {
                    *last ^= 1;
                }
                *bytes = changed.freeze();
            }
            Damage::SnapshotSlow => return Then::Waits(group.split_off(bodies)),
            Damage::SnapshotCut | Damage::FrameCut => {
                group.truncate(bodies);
                return Then::Ends;
            }
            Damage::FrameLost => group.clear(),
            Damage::FrameFrom => {
                if let Message::Frame(frame) = &mut group[first] {
                    frame.from = frame.to;
                    frame.to += 1;
                }
            }
            Damage::FrameKeyLost => {
                let bytes = entries(&mut group[bodies - 1]);
                *bytes = without_first(bytes);
            }
            Damage::SnapshotSealOfOtherVersion | Damage::FrameSealOfOtherVersion => {
                seal(group, |seal| seal.version += 1);
            }
            Damage::SnapshotDigest | Damage::FrameDigest => {
                seal(group, |seal| seal.digest = vec![7; 16].into());
            }
            Damage::SnapshotCount | Damage::FrameCount => seal(group, |seal| seal.count += 1),
        }
        Then::Stays
    }
}

fn entries(message: &mut Message) -> &mut Bytes {
    match message {
        Message::Chunk(chunk) => &mut chunk.entries,
        Message::Frame(frame) => &mut frame.entries,
        other => unreachable!("{other:?} has no entries"),
    }
}

fn seal(group: &mut [Message], change: impl FnOnce(&mut onair_proto::v1::Seal)) {
    if let Some(Message::Seal(seal)) = group.last_mut() {
        change(seal);
    }
}

/// The entries without the first one.
fn without_first(bytes: &Bytes) -> Bytes {
    let mut out = BytesMut::new();
    for entry in onair_proto::entries::Entries::new(bytes.clone())
        .skip(1)
        .flatten()
    {
        onair_proto::entries::write(&mut out, &entry.0, entry.1.as_ref());
    }
    out.freeze()
}
