//! One stream, message by message: what is put together aside, what proves it, and what may take the place of
//! the version held. No I/O, no clock.
//!
//! In: messages in their order. Out: verified versions, never older than the one held. May go wrong: anything
//! that a server can send ([`Refusal`]); then nothing of the group becomes visible.

use std::collections::BTreeSet;
use std::sync::Arc;

use onair_model::plant::{Bug, planted};
use onair_model::schema::Schema;
use onair_model::{Buckets, Digest, Frame, GtidSet, Lineage, Row, Seal, Sum, Version};
use onair_proto::entries::Entries;

use crate::content::{Content, Put};
use crate::refusal::Refusal;
use crate::row::{BadRow, FromRow};

/// A message of the stream, its numbers checked.
#[derive(Clone, Debug)]
pub(crate) enum Message {
    Start(Start),
    Chunk {
        version: Version,
        index: u32,
        entries: Entries,
    },
    Frame {
        from: Version,
        to: Version,
        exact: bool,
        entries: Entries,
    },
    Seal(Seal),
    Progress(Progress),
    GoAway {
        retry_after_ms: u32,
        reason: String,
    },
    NotYet {
        version: Version,
        retry_after_ms: u32,
    },
}

#[derive(Clone, Debug)]
pub(crate) enum Start {
    Full {
        reason: String,
        lineage: Lineage,
        schema: Arc<Schema>,
        layout: Buckets,
        count: u64,
        version: Version,
    },
    Resume {
        lineage: Lineage,
        schema: Option<Arc<Schema>>,
    },
}

#[derive(Clone, Debug)]
pub(crate) struct Progress {
    pub(crate) version: Version,
    pub(crate) source_time: i64,
    pub(crate) executed: GtidSet,
    pub(crate) proven: Option<onair_model::Proven>,
    pub(crate) held: String,
    pub(crate) age_ms: u64,
}

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
    /// A new version.
    Version(Verified<T>, Arrival),
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

/// How a version came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Arrival {
    /// Why it came whole; `None` when it came as a frame.
    pub(crate) whole: Option<Arc<str>>,
    /// The source lost transactions that the version before had.
    pub(crate) rewound: bool,
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
    held: Option<Verified<T>>,
    /// Whether the subscription asked to go on from `held`.
    resumes: bool,
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
    reason: Arc<str>,
    lineage: Lineage,
    version: Version,
    count: u64,
    content: Content<T>,
    /// Which indexes came: chunks in any order, each once.
    seen: BTreeSet<u32>,
}

#[derive(Debug)]
struct Framed<T> {
    to: Version,
    content: Content<T>,
}

impl<T: FromRow> Session<T> {
    /// A stream for a client that holds `held`, or nothing yet, and asked to go on from it, or for everything anew.
    pub(crate) fn new(held: Option<Verified<T>>, resumes: bool) -> Self {
        Session {
            held,
            resumes,
            stage: Stage::Opening,
        }
    }

    /// Takes the next message.
    pub(crate) fn take(&mut self, message: Message) -> Result<Outcome<T>, Failure> {
        match message {
            Message::Start(start) => self.start(start),
            Message::Chunk {
                version,
                index,
                entries,
            } => self.chunk(version, index, entries),
            Message::Frame {
                from,
                to,
                exact,
                entries,
            } => self.frame(from, to, exact, entries),
            Message::Seal(seal) => self.seal(seal),
            Message::Progress(progress) => Ok(self.progress(progress)),
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
        let stage = match start {
            Start::Full {
                reason,
                lineage,
                schema,
                layout,
                count,
                version,
            } => {
                T::check(&schema).map_err(|error| BadRow {
                    key: "(any)".into(),
                    error,
                })?;
                Stage::Building(Building {
                    reason: reason.into(),
                    lineage,
                    version,
                    count,
                    content: Content::empty(schema, layout, count),
                    seen: BTreeSet::new(),
                })
            }
            Start::Resume { lineage, schema } => {
                let resumes = self.resumes;
                let held = self
                    .held
                    .as_mut()
                    .filter(|_| resumes)
                    .ok_or(Refusal::NothingToResume)?;
                if lineage != held.seal.lineage {
                    return Err(Refusal::Lineage.into());
                }
                if let Some(schema) = schema.filter(|schema| schema != held.content.schema()) {
                    if schema.key != held.content.schema().key {
                        return Err(Refusal::Schema.into());
                    }
                    Arc::make_mut(&mut held.content).set_schema(schema);
                }
                Stage::Following
            }
        };
        self.stage = stage;
        Ok(Outcome::Nothing)
    }

    fn chunk(
        &mut self,
        version: Version,
        index: u32,
        entries: Entries,
    ) -> Result<Outcome<T>, Failure> {
        let Stage::Building(building) = &mut self.stage else {
            return Err(Refusal::Unexpected("a chunk outside a snapshot").into());
        };
        if version != building.version && !planted(Bug::ChunksSpliced) {
            return Err(Refusal::ChunkVersion {
                snapshot: building.version,
                chunk: version,
            }
            .into());
        }
        if !building.seen.insert(index) {
            return Err(Refusal::ChunkIndex(index).into());
        }
        let known = self.held.as_ref().map(|held| &*held.content);
        for entry in entries {
            let (key, row) = entry.map_err(Refusal::from)?;
            let row: Row = row.ok_or(Refusal::Unexpected("a key without a row in a snapshot"))?;
            if building.content.put(&key, &row, known)? == Put::Held {
                return Err(Refusal::KeyTwice.into());
            }
            if building.content.sum().count > building.count {
                return Err(Refusal::TooMany(building.count).into());
            }
        }
        Ok(Outcome::Nothing)
    }

    fn frame(
        &mut self,
        from: Version,
        to: Version,
        exact: bool,
        entries: Entries,
    ) -> Result<Outcome<T>, Failure> {
        let held = self.held.as_ref().ok_or(Refusal::NothingToResume)?;
        let (ours, mut content) = match std::mem::replace(&mut self.stage, Stage::Following) {
            Stage::Following => (held.seal.version, Content::clone(&held.content)),
            Stage::Framed(framed) => (framed.to, framed.content),
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
        if !range.applies_to(ours) || to <= ours {
            return Err(Refusal::FrameRange { from, to, ours }.into());
        }
        for entry in entries {
            match entry.map_err(Refusal::from)? {
                (key, Some(row)) => {
                    content.put(&key, &row, None)?;
                }
                (key, None) => content.remove(&key),
            }
        }
        self.stage = Stage::Framed(Framed { to, content });
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
        if seal.lineage != building.lineage {
            return Err(Refusal::Lineage.into());
        }
        if seal.version != building.version {
            return Err(Refusal::SealVersion {
                expected: building.version,
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
        let verified = verify(building.content, seal)?;
        self.admit(verified, Some(building.reason))
    }

    fn seal_frame(&mut self, framed: Framed<T>, mut seal: Seal) -> Result<Outcome<T>, Failure> {
        let held = self.held.as_ref().ok_or(Refusal::NothingToResume)?;
        if seal.lineage != held.seal.lineage {
            return Err(Refusal::Lineage.into());
        }
        if seal.version != framed.to {
            return Err(Refusal::SealVersion {
                expected: framed.to,
                sealed: seal.version,
            }
            .into());
        }
        let enters_epoch = seal.version.epoch() != held.seal.version.epoch();
        // What was added since the seal before; an epoch that lost transactions says the whole set.
        if !(enters_epoch && seal.rewound) {
            seal.executed = union(&held.seal.executed, &seal.executed);
        }
        let verified = verify(framed.content, seal)?;
        self.admit(verified, None)
    }

    /// Whether a verified version may take the place of the one held.
    fn admit(
        &mut self,
        mut verified: Verified<T>,
        whole: Option<Arc<str>>,
    ) -> Result<Outcome<T>, Failure> {
        let mut rewound = false;
        if let Some(held) = self
            .held
            .as_ref()
            .filter(|held| held.seal.lineage == verified.seal.lineage)
        {
            let (ours, theirs) = (&held.seal, &mut verified.seal);
            if theirs.version < ours.version {
                return Err(Refusal::Backwards {
                    ours: ours.version,
                    theirs: theirs.version,
                }
                .into());
            }
            if theirs.version.epoch() == ours.version.epoch() {
                // Both sets are true of what the later version holds.
                theirs.executed = union(&ours.executed, &theirs.executed);
                theirs.proven = theirs.proven.max(ours.proven);
                theirs.source_time = theirs.source_time.max(ours.source_time);
            } else if theirs.rewound {
                rewound = true;
            } else if !theirs.executed.contains_set(&ours.executed) {
                return Err(Refusal::LosesTransactions {
                    ours: ours.version,
                    theirs: theirs.version,
                }
                .into());
            }
            if theirs.version == ours.version {
                if (theirs.digest, theirs.count) != (ours.digest, ours.count) {
                    return Err(Refusal::OtherContent(ours.version).into());
                }
                verified.content = held.content.clone();
                self.held = Some(verified.clone());
                return Ok(Outcome::Same(verified));
            }
        }
        self.held = Some(verified.clone());
        Ok(Outcome::Version(verified, Arrival { whole, rewound }))
    }

    /// Progress of another version than ours says nothing of ours: only that the server lives.
    fn progress(&mut self, progress: Progress) -> Outcome<T> {
        let between = matches!(self.stage, Stage::Following);
        let Some(held) = self
            .held
            .as_mut()
            .filter(|held| between && held.seal.version == progress.version)
        else {
            return Outcome::Nothing;
        };
        let seal = &mut held.seal;
        seal.executed = union(&seal.executed, &progress.executed);
        seal.proven = seal.proven.max(progress.proven);
        seal.source_time = seal.source_time.max(progress.source_time);
        Outcome::Progress(held.clone(), progress)
    }
}

fn verify<T>(content: Content<T>, seal: Seal) -> Result<Verified<T>, Refusal> {
    let sum = content.sum();
    let stated = Sum {
        digest: seal.digest,
        count: seal.count,
    };
    if sum != stated && !planted(Bug::DigestIgnored) {
        return Err(Refusal::Digest {
            version: seal.version,
            stated: seal.digest,
            found: sum.digest,
        });
    }
    Ok(Verified {
        content: Arc::new(content),
        seal,
    })
}

fn union(ours: &Arc<GtidSet>, more: &GtidSet) -> Arc<GtidSet> {
    if ours.contains_set(more) {
        return ours.clone();
    }
    let mut all = ours.clone();
    Arc::make_mut(&mut all).union(more);
    all
}
