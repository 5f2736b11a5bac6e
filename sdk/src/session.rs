//! One stream, message by message: what is put together aside, what proves it, and what may take the place of
//! the version held. No I/O, no clock.
//!
//! In: messages in their order. Out: verified versions, never older than the one held. May go wrong: anything
//! that a server can send ([`Refusal`]); then nothing of the group becomes visible.

use std::collections::BTreeSet;
use std::sync::Arc;

use onair_model::plant::{Bug, planted};
use onair_model::{Digest, Frame, Key, Seal, Sum, Version};
use onair_proto::entries::Entries;

use crate::admit::{Admitted, admit, union};
use crate::content::{Content, Draft, Held};
use crate::message::{Message, Progress, Start, Whole};
use crate::refusal::Refusal;
use crate::row::{BadRow, FromRow};

/// A version whose digest and count agree with its seal.
#[derive(Debug)]
pub(crate) struct Verified<T> {
    pub(crate) content: Arc<Content<T>>,
    pub(crate) seal: Seal,
}

impl<T> Clone for Verified<T> {
    fn clone(&self) -> Self {
        Verified {
            content: self.content.clone(),
            seal: self.seal.clone(),
        }
    }
}

/// What a message led to.
#[derive(Debug)]
pub(crate) enum Outcome<T> {
    /// Nothing to see yet.
    Nothing,
    /// A new version is held.
    Version(Arrival),
    /// The version held, its proof newer.
    Same(Verified<T>),
    /// The version held is still complete.
    Progress(Verified<T>, Progress),
    /// The server ends the stream soon.
    GoAway { retry_after_ms: u32, reason: String },
    /// The server has not reached the version held.
    NotYet {
        version: Version,
        retry_after_ms: u32,
    },
}

/// As what a version came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// Whole, and why.
    Whole(Arc<str>),
    /// As frames on the version held: the keys that they touch, ascending, each once.
    Frames(Arc<[Key]>),
}

/// How a version came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Arrival {
    pub(crate) form: Form,
    /// The source lost transactions that the version before had.
    pub(crate) rewound: bool,
}

impl Arrival {
    /// What came before something that came after it, when only the later one is shown.
    fn then(self, later: Arrival) -> Arrival {
        let form = match (self.form, later.form) {
            (_, whole @ Form::Whole(_)) | (whole @ Form::Whole(_), Form::Frames(_)) => whole,
            (Form::Frames(ours), Form::Frames(theirs)) => {
                let mut touched = [&*ours, &*theirs].concat();
                touched.sort();
                touched.dedup();
                Form::Frames(touched.into())
            }
        };
        Arrival {
            form,
            rewound: self.rewound || later.rewound,
        }
    }
}

/// What came in one go, and is shown at once.
#[derive(Debug, Default)]
pub(crate) struct Unshown {
    /// Of all versions together.
    pub(crate) arrival: Option<Arrival>,
    /// Of the last one.
    pub(crate) progress: Option<Progress>,
    /// How many versions.
    pub(crate) versions: u32,
}

impl Unshown {
    /// A version more, which takes the place of those before.
    pub(crate) fn version(&mut self, arrival: Arrival) {
        self.arrival = Some(match self.arrival.take() {
            Some(before) => before.then(arrival),
            None => arrival,
        });
        self.progress = None;
        self.versions += 1;
    }
}

/// Why a group is given up: what the server sent, or a row that the user's type does not fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    Refused(Refusal),
    Row(BadRow),
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Failure::Refused(refusal)
    }
}

impl From<BadRow> for Failure {
    fn from(row: BadRow) -> Self {
        Failure::Row(row)
    }
}

/// A stream in progress.
#[derive(Debug)]
pub(crate) struct Session<T> {
    /// Of the version held.
    seal: Option<Seal>,
    /// Its rows, unless a frame is being applied to them.
    content: Option<Arc<Content<T>>>,
    /// Whether the subscription asked to go on from what is held.
    resumes: bool,
    max_rows: u64,
    stage: Stage<T>,
}

#[derive(Debug)]
enum Stage<T> {
    /// Before the Start.
    Opening,
    /// Chunks of a snapshot.
    Building(Building<T>),
    /// Between groups.
    Following,
    /// A frame waits for its seal.
    Framed(Framed<T>),
}

#[derive(Debug)]
struct Building<T> {
    whole: Whole,
    draft: Draft<T>,
    /// Which indexes came: chunks in any order, each once.
    seen: BTreeSet<u32>,
}

#[derive(Debug)]
struct Framed<T> {
    /// The range of the last frame. A large one comes in pieces of the same range.
    from: Version,
    to: Version,
    content: Content<T>,
    touched: Vec<Key>,
}

impl<T: FromRow> Session<T> {
    /// A stream for a client that holds `held`, or nothing yet, and asked to go on from it, or for everything anew;
    /// that takes so many rows at most.
    pub(crate) fn new(held: Option<Verified<T>>, resumes: bool, max_rows: u64) -> Self {
        let (seal, content) = held.map(|held| (held.seal, held.content)).unzip();
        Session {
            seal,
            content,
            resumes,
            max_rows,
            stage: Stage::Opening,
        }
    }

    /// The version held.
    pub(crate) fn held(&self) -> Option<Verified<T>> {
        Some(Verified {
            seal: self.seal.clone()?,
            content: self.content.clone()?,
        })
    }

    /// Whether a whole snapshot is on its way.
    pub(crate) const fn is_arriving(&self) -> bool {
        matches!(self.stage, Stage::Building(_))
    }

    /// Takes the next message.
    pub(crate) fn take(&mut self, message: Message) -> Result<Outcome<T>, Failure> {
        match message {
            Message::Start(start) => self.start(start),
            Message::Chunk {
                version,
                index,
                entries,
            } => self.chunk(version, index, &entries),
            Message::Frame {
                from,
                to,
                exact,
                entries,
            } => self.frame(from, to, exact, &entries),
            Message::Seal(seal) => self.seal(seal),
            Message::Progress(progress) => self.progress(progress),
            Message::Unknown => Ok(Outcome::Nothing),
            Message::GoAway {
                retry_after_ms,
                reason,
            } => Ok(Outcome::GoAway {
                retry_after_ms,
                reason,
            }),
            Message::NotYet {
                version,
                retry_after_ms,
            } => Ok(Outcome::NotYet {
                version,
                retry_after_ms,
            }),
        }
    }

    /// Whatever was being put together is dropped: a Start begins anew.
    fn start(&mut self, start: Start) -> Result<Outcome<T>, Failure> {
        self.stage = match start {
            Start::Full(whole) => Stage::Building(self.begin(whole)?),
            Start::Resume { lineage, schema } => {
                let held = self.seal.as_ref().zip(self.content.as_ref());
                let held = held.filter(|_| self.resumes);
                let (seal, content) = held.ok_or(Refusal::NothingToResume)?;
                if lineage != seal.lineage {
                    return Err(Refusal::Lineage.into());
                }
                // Rows are read by their schema: with another one they must be read again.
                if schema.is_some_and(|schema| schema != *content.schema()) {
                    return Err(Refusal::Schema.into());
                }
                Stage::Following
            }
        };
        Ok(Outcome::Nothing)
    }

    fn begin(&self, whole: Whole) -> Result<Building<T>, Failure> {
        // Not worth its chunks.
        if let Some(ours) = self
            .seal
            .as_ref()
            .filter(|ours| ours.lineage == whole.lineage)
            && whole.version < ours.version
        {
            let (ours, theirs) = (ours.version, whole.version);
            return Err(Refusal::Backwards { ours, theirs }.into());
        }
        if whole.count > self.max_rows {
            return Err(Refusal::TooMany(self.max_rows).into());
        }
        T::check(&whole.schema).map_err(|error| BadRow { key: None, error })?;
        Ok(Building {
            draft: Draft::new(whole.schema.clone(), whole.layout, whole.count),
            seen: BTreeSet::new(),
            whole,
        })
    }

    fn chunk(
        &mut self,
        version: Version,
        index: u32,
        entries: &Entries,
    ) -> Result<Outcome<T>, Failure> {
        let Stage::Building(building) = &mut self.stage else {
            return Err(Refusal::Unexpected("a chunk outside a snapshot").into());
        };
        if version != building.whole.version && !planted(Bug::ChunksSpliced) {
            return Err(Refusal::ChunkVersion {
                snapshot: building.whole.version,
                chunk: version,
            }
            .into());
        }
        if !building.seen.insert(index) {
            return Err(Refusal::ChunkIndex(index).into());
        }
        // Rows held already are not read again, unless they were read by another schema.
        let known = self.content.as_deref();
        let known = known.filter(|known| known.schema() == building.draft.schema());
        for entry in entries.slices() {
            let (key, row) = entry.map_err(Refusal::from)?;
            let row = row.ok_or(Refusal::Unexpected("a key without a row in a snapshot"))?;
            let added = building.draft.add(key, row, known)?;
            added.map_err(|Held| Refusal::KeyTwice)?;
            if building.draft.sum().count > building.whole.count {
                return Err(Refusal::TooMany(building.whole.count).into());
            }
        }
        Ok(Outcome::Nothing)
    }

    fn frame(
        &mut self,
        from: Version,
        to: Version,
        exact: bool,
        entries: &Entries,
    ) -> Result<Outcome<T>, Failure> {
        let held = self.seal.as_ref().ok_or(Refusal::NothingToResume)?.version;
        let mut is_piece = false;
        let (ours, mut content, mut touched) =
            match std::mem::replace(&mut self.stage, Stage::Following) {
                Stage::Following => {
                    // Changed in place where nobody was shown it.
                    let content = self.content.take().ok_or(Refusal::NothingToResume)?;
                    (held, Arc::unwrap_or_clone(content), Vec::new())
                }
                Stage::Framed(framed) => {
                    // Keys ascend from piece to piece: the same one twice is none.
                    let first = entries.slices().next().and_then(Result::ok);
                    let goes_on = first
                        .is_some_and(|(key, _)| framed.touched.last() < Some(&Key::copy_from(key)));
                    is_piece = goes_on && (framed.from, framed.to) == (from, to);
                    (framed.to, framed.content, framed.touched)
                }
                stage @ (Stage::Opening | Stage::Building(_)) => {
                    self.stage = stage;
                    return Err(Refusal::Unexpected("a frame before the snapshot's seal").into());
                }
            };
        // Only the range is asked of the frame here; its sums come with the seal.
        let range = Frame {
            from,
            to,
            exact,
            touched: Vec::new(),
            digest: Digest::EMPTY,
            count: 0,
        };
        if !is_piece && (!range.applies_to(ours) || to <= ours) {
            return Err(Refusal::FrameRange { from, to, ours }.into());
        }
        for entry in entries.slices() {
            let (key, row) = entry.map_err(Refusal::from)?;
            match row {
                Some(row) => content.put(key, row)?,
                None => content.remove(key),
            }
            if content.sum().count > self.max_rows {
                return Err(Refusal::TooMany(self.max_rows).into());
            }
            touched.push(Key::copy_from(key));
        }
        self.stage = Stage::Framed(Framed {
            from,
            to,
            content,
            touched,
        });
        Ok(Outcome::Nothing)
    }

    fn seal(&mut self, seal: Seal) -> Result<Outcome<T>, Failure> {
        match std::mem::replace(&mut self.stage, Stage::Following) {
            Stage::Building(building) => self.seal_whole(building, seal),
            Stage::Framed(framed) => self.seal_frame(framed, seal),
            Stage::Opening | Stage::Following => {
                Err(Refusal::Unexpected("a seal of nothing").into())
            }
        }
    }

    fn seal_whole(&mut self, building: Building<T>, seal: Seal) -> Result<Outcome<T>, Failure> {
        if seal.lineage != building.whole.lineage {
            return Err(Refusal::Lineage.into());
        }
        if seal.version != building.whole.version {
            return Err(Refusal::SealVersion {
                expected: building.whole.version,
                sealed: seal.version,
            }
            .into());
        }
        let mut expected = 0..;
        if let Some(missing) = building
            .seen
            .iter()
            .zip(&mut expected)
            .find(|(seen, index)| *seen != index)
        {
            return Err(Refusal::ChunkIndex(missing.1).into());
        }
        let verified = verify(building.draft.finish(), seal)?;
        self.admit(verified, Form::Whole(building.whole.reason.into()))
    }

    fn seal_frame(&mut self, framed: Framed<T>, mut seal: Seal) -> Result<Outcome<T>, Failure> {
        let held = self.seal.as_ref().ok_or(Refusal::NothingToResume)?;
        if seal.lineage != held.lineage {
            return Err(Refusal::Lineage.into());
        }
        if seal.version != framed.to {
            return Err(Refusal::SealVersion {
                expected: framed.to,
                sealed: seal.version,
            }
            .into());
        }
        let enters_epoch = seal.version.epoch() != held.version.epoch();
        // What was added since the seal before; an epoch that lost transactions says the whole set.
        if !(enters_epoch && seal.rewound) {
            seal.executed = union(&held.executed, &seal.executed);
        }
        let verified = verify(framed.content, seal)?;
        let mut touched = framed.touched;
        touched.sort_unstable();
        touched.dedup();
        self.admit(verified, Form::Frames(touched.into()))
    }

    /// Shows a verified version if it may take the place of the one held.
    fn admit(&mut self, mut verified: Verified<T>, form: Form) -> Result<Outcome<T>, Failure> {
        let admitted = admit(self.seal.as_ref(), &mut verified.seal)?;
        self.seal = Some(verified.seal.clone());
        if let (Admitted::Same, Some(held)) = (admitted, &self.content) {
            verified.content = held.clone();
            return Ok(Outcome::Same(verified));
        }
        self.content = Some(verified.content);
        let rewound = admitted == Admitted::Rewound;
        Ok(Outcome::Version(Arrival { form, rewound }))
    }

    /// Progress of another version than ours says nothing of ours: only that the server lives.
    fn progress(&mut self, progress: Progress) -> Result<Outcome<T>, Failure> {
        if matches!(self.stage, Stage::Opening) {
            return Err(Refusal::Unexpected("progress before the start").into());
        }
        let between = matches!(self.stage, Stage::Following);
        let held = self.seal.as_mut().zip(self.content.as_ref());
        let Some((seal, content)) =
            held.filter(|(seal, _)| between && seal.version == progress.version)
        else {
            return Ok(Outcome::Nothing);
        };
        seal.executed = union(&seal.executed, &progress.executed);
        seal.proven = seal.proven.max(progress.proven);
        seal.source_time = seal.source_time.max(progress.source_time);
        let verified = Verified {
            content: content.clone(),
            seal: seal.clone(),
        };
        Ok(Outcome::Progress(verified, progress))
    }
}

fn verify<T>(content: Content<T>, seal: Seal) -> Result<Verified<T>, Refusal> {
    let Sum { digest, count } = content.sum();
    if digest != seal.digest && !planted(Bug::DigestIgnored) {
        return Err(Refusal::Digest {
            version: seal.version,
            stated: seal.digest,
            found: digest,
        });
    }
    if count != seal.count && !planted(Bug::DigestIgnored) {
        return Err(Refusal::Count {
            version: seal.version,
            stated: seal.count,
            found: count,
        });
    }
    let content = Arc::new(content);
    Ok(Verified { content, seal })
}

#[cfg(test)]
mod tests;
