//! Reconciliation runs: a row a run, moved by compare-and-set between who asks for it and the reader that does it.
//!
//! Two write to a row. Until a reader has taken it, it is the operators'; from then on all of it is the reader's but
//! [`Run::wish`], in which operators say what they want next. Each move reads, changes its own part and writes with
//! compare-and-set, so that neither undoes what the other said.

use std::fmt;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use onair_model::cut::Proven;
use onair_model::{Key, Row, Version};
use onair_proto::convert::{self, ConvertError};
use onair_proto::v1;
use prost::Message;

use crate::cells::{Moved, move_cell, random_id, remove_cell};
use crate::checkpoint::{self, CellValue, Held};
use crate::{CellKey, ShardStore, StoreError, Token};

/// Attempts to move a row beside others that move it too, or to find a name that nobody has.
const ATTEMPTS_MAX: u32 = 5;

/// Runs of a feed that may be there and not over, so that nobody fills the store by asking.
pub const STANDING_MAX: usize = 8;

/// What the first six characters of an id count from: 2025-01-01, in seconds since 1970.
const IDS_BEGIN: i64 = 1_735_689_600;

/// Digits and letters that nobody takes for one another, in ascending order.
const LETTERS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// A run of a feed: what was asked, how far it is, what it found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// Eight characters, rising with time.
    pub id: Arc<str>,
    /// The feed.
    pub feed: Arc<str>,
    /// Who asked.
    pub origin: Origin,
    /// Compare and report; change nothing.
    pub dry_run: bool,
    /// Rows a second at most; `None`: as the reader is set.
    pub rate_max: Option<NonZeroU64>,
    /// Where it is.
    pub state: State,
    /// What was wished and is not done yet.
    pub wish: Option<Wish>,
    /// When it was asked for, microseconds since 1970.
    pub asked: i64,
    /// When a reader took it first.
    pub started: Option<i64>,
    /// When it was over.
    pub ended: Option<i64>,
    /// The reader that took it last; empty: none yet.
    pub reader: String,
    /// How often its scan was begun.
    pub begun: u32,
    /// Rows of the feed when it was begun.
    pub rows_expected: u64,
    /// Live rows that its scan has read, or that its last one had.
    pub rows_scanned: u64,
    /// How long the database worked for it, over all connections.
    pub database: Duration,
    /// Bytes of rows that the database sent.
    pub database_bytes: u64,
    /// The version at which scan and feed were compared.
    pub compared: Option<Version>,
    /// Buckets that differed from the table then.
    pub drift_before: u32,
    /// Buckets that differed after the run.
    pub drift_after: u32,
    /// What differed, by rows. `None`: not known, or not yet; `detail` says why.
    pub drift: Option<Drift>,
    /// What the run proved.
    pub proven: Option<Proven>,
    /// Why it is where it is; empty: there is nothing to say.
    pub detail: String,
}

/// Who asked for a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Somebody, by hand.
    Operator,
    /// The clock.
    Schedule,
    /// An epoch that opens: its scan is held by the guard.
    Epoch,
    /// The merger asked for buckets, and the scan found something else.
    Merger,
}

/// Where a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Nobody has taken it yet.
    Asked,
    /// A reader is at it.
    Running,
    /// Its scan waits until somebody resumes it.
    Paused,
    /// It would take too many rows away: waits for a second scan that agrees, or for an approval.
    Held,
    /// Over: it compared, and mended what differed unless it was a dry run.
    Done,
    /// Over: somebody wished so.
    Cancelled,
    /// Over: it did not come to an end.
    Failed,
}

/// What an operator wants of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// Stop reading until resumed.
    Pause,
    /// Go on.
    Resume,
    /// End it.
    Cancel,
    /// Take what the guard holds.
    Approve,
}

/// What a scan found different from the feed, by rows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Drift {
    /// Rows live in the table and not in the feed.
    pub missing: u64,
    /// Rows in the feed and not live in the table.
    pub extra: u64,
    /// Rows in both that are not the same.
    pub stale: u64,
    /// Some of them.
    pub examples: Vec<Difference>,
}

/// A row that differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Its key.
    pub key: Key,
    /// What each side has.
    pub sides: Sides,
}

/// What table and feed have of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sides {
    /// Only the table has it.
    Missing {
        /// The table's row.
        source: Row,
    },
    /// Only the feed has it.
    Extra {
        /// The feed's row.
        held: Row,
    },
    /// Both have it.
    Stale {
        /// The table's row.
        source: Row,
        /// The feed's row.
        held: Row,
    },
}

/// What somebody asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The feed.
    pub feed: Arc<str>,
    /// Who asks.
    pub origin: Origin,
    /// Compare and report only.
    pub dry_run: bool,
    /// Rows a second at most.
    pub rate_max: Option<NonZeroU64>,
}

/// Why a run was not asked for, or not moved.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// [`STANDING_MAX`] are there.
    #[error(
        "feed {feed}: {standing} runs are asked for or under way, and no more than {STANDING_MAX} may be; wait for them, or cancel some (`onair runs {feed}`)"
    )]
    TooMany {
        /// The feed.
        feed: Arc<str>,
        /// How many there are.
        standing: usize,
    },
    /// There is no such run.
    #[error("feed {feed}: there is no run {id}; `onair runs {feed}` lists those that are kept")]
    Unknown {
        /// The feed.
        feed: Arc<str>,
        /// The id asked for.
        id: Arc<str>,
    },
    /// What is wished makes no sense in the state that it is in.
    #[error("run {id} of feed {feed} is {state}, so it cannot be {wished}; {remedy}")]
    NotNow {
        /// The feed.
        feed: Arc<str>,
        /// The run.
        id: Arc<str>,
        /// Where it is.
        state: State,
        /// What was wished, as a participle.
        wished: &'static str,
        /// What to do.
        remedy: &'static str,
    },
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Run {
    /// A run that nobody has taken.
    pub fn new(asked: Asked, now: i64) -> Self {
        let Asked {
            feed,
            origin,
            dry_run,
            rate_max,
        } = asked;
        Run {
            id: new_id(now),
            feed,
            origin,
            dry_run,
            rate_max,
            state: State::Asked,
            wish: None,
            asked: now,
            started: None,
            ended: None,
            reader: String::new(),
            begun: 0,
            rows_expected: 0,
            rows_scanned: 0,
            database: Duration::ZERO,
            database_bytes: 0,
            compared: None,
            drift_before: 0,
            drift_after: 0,
            drift: None,
            proven: None,
            detail: String::new(),
        }
    }

    /// A reader takes it, or takes it again: what was found so far is forgotten.
    pub fn begin(&mut self, reader: &str, now: i64) {
        self.state = State::Running;
        self.wish = None;
        self.started.get_or_insert(now);
        reader.clone_into(&mut self.reader);
        self.begun += 1;
        self.rows_scanned = 0;
        self.compared = None;
        self.drift_before = 0;
        self.drift = None;
    }

    /// It is over.
    pub fn end(&mut self, state: State, now: i64) {
        self.state = state;
        self.wish = None;
        self.ended = Some(now);
    }

    /// Whether a reader has taken it, so that it is the reader's.
    pub fn is_taken(&self) -> bool {
        self.begun > 0
    }

    /// What an operator's wish makes of it.
    fn wished(&mut self, wish: Wish, now: i64) -> Result<(), RunError> {
        match (self.state, wish, self.is_taken()) {
            (State::Asked, Wish::Pause, false) => self.state = State::Paused,
            (State::Paused, Wish::Resume, false) => self.state = State::Asked,
            (State::Asked | State::Paused, Wish::Cancel, false) => {
                self.end(State::Cancelled, now);
            }
            (State::Running, Wish::Pause | Wish::Cancel, true)
            | (State::Paused, Wish::Resume | Wish::Cancel, true)
            | (State::Held, Wish::Approve, true) => self.wish = Some(wish),
            (State::Held, Wish::Cancel, true) if self.origin != Origin::Epoch => {
                self.wish = Some(wish);
            }
            (state, wish, _) => {
                return Err(RunError::NotNow {
                    feed: Arc::clone(&self.feed),
                    id: Arc::clone(&self.id),
                    state,
                    wished: wish.participle(),
                    remedy: remedy(state, wish),
                });
            }
        }
        Ok(())
    }

    /// As it goes over the wire and into its cell.
    pub fn to_wire(&self) -> v1::Run {
        v1::Run {
            id: self.id.to_string(),
            feed: self.feed.to_string(),
            origin: self.origin.to_wire() as i32,
            dry_run: self.dry_run,
            rate_max: self.rate_max.map_or(0, NonZeroU64::get),
            state: self.state.to_wire() as i32,
            wish: self.wish.map_or(0, |wish| wish.to_wire() as i32),
            asked: self.asked,
            started: self.started.unwrap_or(0),
            ended: self.ended.unwrap_or(0),
            reader: self.reader.clone(),
            begun: self.begun,
            rows_expected: self.rows_expected,
            rows_scanned: self.rows_scanned,
            database_ms: u64::try_from(self.database.as_millis()).unwrap_or(u64::MAX),
            database_bytes: self.database_bytes,
            compared: self.compared.map_or(0, Version::get),
            drift_before: self.drift_before,
            drift_after: self.drift_after,
            drift: self.drift.as_ref().map(Drift::to_wire),
            proven: self.proven.map(convert::proven_to_wire),
            detail: self.detail.clone(),
        }
    }

    /// From the wire or its cell.
    pub fn from_wire(wire: v1::Run) -> Result<Self, ConvertError> {
        let time = |micros: i64| (micros != 0).then_some(micros);
        Ok(Run {
            id: wire.id.into(),
            feed: wire.feed.into(),
            origin: Origin::from_wire(wire.origin)?,
            dry_run: wire.dry_run,
            rate_max: NonZeroU64::new(wire.rate_max),
            state: State::from_wire(wire.state)?,
            wish: match wire.wish {
                0 => None,
                wish => Some(Wish::from_wire(wish)?),
            },
            asked: wire.asked,
            started: time(wire.started),
            ended: time(wire.ended),
            reader: wire.reader,
            begun: wire.begun,
            rows_expected: wire.rows_expected,
            rows_scanned: wire.rows_scanned,
            database: Duration::from_millis(wire.database_ms),
            database_bytes: wire.database_bytes,
            compared: match wire.compared {
                0 => None,
                version => Some(convert::version(version)?),
            },
            drift_before: wire.drift_before,
            drift_after: wire.drift_after,
            drift: wire.drift.map(Drift::from_wire).transpose()?,
            proven: wire.proven.map(convert::proven_from_wire).transpose()?,
            detail: wire.detail,
        })
    }
}

impl CellValue for Run {
    fn to_bytes(&self) -> Bytes {
        self.to_wire().encode_to_vec().into()
    }

    fn from_bytes(bytes: &Bytes) -> Result<Self, ConvertError> {
        Run::from_wire(v1::Run::decode(bytes.clone())?)
    }
}

/// Asks for a run of a feed; `now` in microseconds since 1970.
pub async fn ask(store: &dyn ShardStore, asked: Asked, now: i64) -> Result<Run, RunError> {
    let all = list(store, &asked.feed).await?;
    let standing = all.iter().filter(|run| !run.value.state.is_over()).count();
    if standing >= STANDING_MAX {
        let feed = asked.feed;
        return Err(RunError::TooMany { feed, standing });
    }
    let mut run = Run::new(asked, now);
    for _ in 0..ATTEMPTS_MAX {
        if let Moved::Won(_) = write(store, &run, None).await? {
            return Ok(run);
        }
        run.id = new_id(now);
    }
    let reason = format!("feed {}: no free id for a run was found", run.feed);
    Err(StoreError::Unavailable { reason }.into())
}

/// All runs of a feed that are kept, the oldest first.
pub async fn list(store: &dyn ShardStore, feed: &Arc<str>) -> Result<Vec<Held<Run>>, StoreError> {
    let like = CellKey::Run(Arc::clone(feed), "".into());
    let cells = store.cells(&like).await?;
    cells
        .iter()
        .map(|(key, cell)| Held::of(key, cell))
        .collect()
}

/// One run.
pub async fn find(
    store: &dyn ShardStore,
    feed: &Arc<str>,
    id: &Arc<str>,
) -> Result<Option<Held<Run>>, StoreError> {
    checkpoint::read(store, &CellKey::Run(Arc::clone(feed), Arc::clone(id))).await
}

/// An operator's wish: done at once while nobody has taken the run, else noted for its reader.
pub async fn wish(
    store: &dyn ShardStore,
    (feed, id): (&Arc<str>, &Arc<str>),
    wish: Wish,
    now: i64,
) -> Result<Run, RunError> {
    for _ in 0..ATTEMPTS_MAX {
        let Some(Held {
            token,
            value: mut run,
        }) = find(store, feed, id).await?
        else {
            let (feed, id) = (Arc::clone(feed), Arc::clone(id));
            return Err(RunError::Unknown { feed, id });
        };
        run.wished(wish, now)?;
        if let Moved::Won(_) = write(store, &run, Some(token)).await? {
            return Ok(run);
        }
    }
    Err(moved_always(feed, id).into())
}

/// A reader takes a run, unless it was moved since it was seen.
pub async fn take(
    store: &dyn ShardStore,
    seen: Held<Run>,
    reader: &str,
    now: i64,
) -> Result<Option<Held<Run>>, StoreError> {
    let Held {
        token,
        value: mut run,
    } = seen;
    run.begin(reader, now);
    Ok(match write(store, &run, Some(token)).await? {
        Moved::Won(token) => Some(Held { token, value: run }),
        Moved::Lost(_) => None,
    })
}

/// What became of a reader's report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Saved {
    /// It stands there, with the wish that operators have meanwhile.
    Yes(Box<Held<Run>>),
    /// The run is over, gone, or another reader's.
    TakenAway,
}

/// The reader that took a run says how it is. `held` is what this reader last knew to stand there, `None` for a run of
/// its own making. An operator's wish that came meanwhile is kept.
pub async fn save(
    store: &dyn ShardStore,
    held: Option<Token>,
    mut run: Run,
) -> Result<Saved, StoreError> {
    let mut expect = held;
    for _ in 0..ATTEMPTS_MAX {
        match write(store, &run, expect).await? {
            Moved::Won(token) => {
                return Ok(Saved::Yes(Box::new(Held { token, value: run })));
            }
            Moved::Lost(None) => return Ok(Saved::TakenAway),
            Moved::Lost(Some(cell)) => {
                let key = CellKey::Run(Arc::clone(&run.feed), Arc::clone(&run.id));
                let stands = Held::<Run>::of(&key, &cell)?;
                let other = stands.value;
                // Begun again since it was last saved, it is still ours.
                let ours = other.reader == run.reader && other.begun <= run.begun;
                if !ours || other.state.is_over() {
                    return Ok(Saved::TakenAway);
                }
                expect = Some(stands.token);
                if !run.state.is_over() {
                    run.wish = other.wish;
                }
            }
        }
    }
    Err(moved_always(&run.feed, &run.id))
}

/// Deletes a run that is over, unless it was moved since it was seen.
pub async fn forget(store: &dyn ShardStore, seen: &Held<Run>) -> Result<(), StoreError> {
    let run = &seen.value;
    let key = CellKey::Run(Arc::clone(&run.feed), Arc::clone(&run.id));
    remove_cell(store, &key, seen.token).await.map(drop)
}

async fn write(
    store: &dyn ShardStore,
    run: &Run,
    expect: Option<Token>,
) -> Result<Moved, StoreError> {
    let key = CellKey::Run(Arc::clone(&run.feed), Arc::clone(&run.id));
    move_cell(store, &key, expect, run.to_bytes()).await
}

fn moved_always(feed: &Arc<str>, id: &Arc<str>) -> StoreError {
    StoreError::Unavailable {
        reason: format!("run {id} of feed {feed} is moved by another process all the time"),
    }
}

/// Six characters of seconds, which last until 2059, and two that tell runs of one second apart.
fn new_id(now: i64) -> Arc<str> {
    let seconds = u64::try_from(now / 1_000_000 - IDS_BEGIN).unwrap_or(0);
    let number = seconds << 10 | random_id() as u64 & 0x3ff;
    let letter = |at: u32| LETTERS[(number >> (5 * at)) as usize & 31] as char;
    (0..8).rev().map(letter).collect::<String>().into()
}

/// What to do where a wish makes no sense.
const fn remedy(state: State, wish: Wish) -> &'static str {
    match (state, wish) {
        (State::Done | State::Cancelled | State::Failed, _) => {
            "ask for another one with `onair reconcile`"
        }
        (State::Held, Wish::Cancel) => {
            "an epoch cannot open without its scan: approve it, or mend the table"
        }
        (State::Held, _) => "approve or cancel it, or wait for the second scan",
        (State::Paused, _) => "resume it, or cancel it",
        (_, Wish::Approve) => "only what the guard holds needs an approval",
        (_, Wish::Resume) => "only what is paused can go on",
        _ => "wait for it",
    }
}

impl Drift {
    fn to_wire(&self) -> v1::Drift {
        let example = |difference: &Difference| {
            use v1::difference::Kind;
            let bytes = |row: &Row| row.bytes().clone();
            let (kind, source_row, held_row) = match &difference.sides {
                Sides::Missing { source } => (Kind::Missing, bytes(source), Bytes::new()),
                Sides::Extra { held } => (Kind::Extra, Bytes::new(), bytes(held)),
                Sides::Stale { source, held } => (Kind::Stale, bytes(source), bytes(held)),
            };
            v1::Difference {
                kind: kind as i32,
                key: difference.key.to_bytes(),
                source_row,
                held_row,
            }
        };
        v1::Drift {
            missing: self.missing,
            extra: self.extra,
            stale: self.stale,
            examples: self.examples.iter().map(example).collect(),
        }
    }

    fn from_wire(wire: v1::Drift) -> Result<Self, ConvertError> {
        let example = |wire: v1::Difference| {
            use v1::difference::Kind;
            let (source, held) = (Row::new(wire.source_row), Row::new(wire.held_row));
            let sides = match Kind::try_from(wire.kind) {
                Ok(Kind::Missing) => Sides::Missing { source },
                Ok(Kind::Extra) => Sides::Extra { held },
                Ok(Kind::Stale) => Sides::Stale { source, held },
                Ok(Kind::Unspecified) | Err(_) => return Err(ConvertError::Field("kind")),
            };
            Ok(Difference {
                key: Key::from_bytes(wire.key),
                sides,
            })
        };
        Ok(Drift {
            missing: wire.missing,
            extra: wire.extra,
            stale: wire.stale,
            examples: wire
                .examples
                .into_iter()
                .map(example)
                .collect::<Result<_, _>>()?,
        })
    }

    /// Rows that differ, in all.
    pub fn rows(&self) -> u64 {
        self.missing + self.extra + self.stale
    }
}

impl Sides {
    /// Bytes of its rows.
    pub fn bytes(&self) -> usize {
        let len = |row: &Row| row.bytes().len();
        match self {
            Sides::Missing { source } => len(source),
            Sides::Extra { held } => len(held),
            Sides::Stale { source, held } => len(source) + len(held),
        }
    }
}

impl Origin {
    const fn to_wire(self) -> v1::run::Origin {
        match self {
            Origin::Operator => v1::run::Origin::Operator,
            Origin::Schedule => v1::run::Origin::Schedule,
            Origin::Epoch => v1::run::Origin::Epoch,
            Origin::Merger => v1::run::Origin::Merger,
        }
    }

    fn from_wire(wire: i32) -> Result<Self, ConvertError> {
        Ok(match v1::run::Origin::try_from(wire) {
            Ok(v1::run::Origin::Operator) => Origin::Operator,
            Ok(v1::run::Origin::Schedule) => Origin::Schedule,
            Ok(v1::run::Origin::Epoch) => Origin::Epoch,
            Ok(v1::run::Origin::Merger) => Origin::Merger,
            Ok(v1::run::Origin::Unspecified) | Err(_) => return Err(ConvertError::Field("origin")),
        })
    }

    /// In a word.
    pub const fn name(self) -> &'static str {
        match self {
            Origin::Operator => "operator",
            Origin::Schedule => "schedule",
            Origin::Epoch => "epoch",
            Origin::Merger => "merger",
        }
    }
}

impl State {
    const fn to_wire(self) -> v1::run::State {
        match self {
            State::Asked => v1::run::State::Asked,
            State::Running => v1::run::State::Running,
            State::Paused => v1::run::State::Paused,
            State::Held => v1::run::State::Held,
            State::Done => v1::run::State::Done,
            State::Cancelled => v1::run::State::Cancelled,
            State::Failed => v1::run::State::Failed,
        }
    }

    fn from_wire(wire: i32) -> Result<Self, ConvertError> {
        Ok(match v1::run::State::try_from(wire) {
            Ok(v1::run::State::Asked) => State::Asked,
            Ok(v1::run::State::Running) => State::Running,
            Ok(v1::run::State::Paused) => State::Paused,
            Ok(v1::run::State::Held) => State::Held,
            Ok(v1::run::State::Done) => State::Done,
            Ok(v1::run::State::Cancelled) => State::Cancelled,
            Ok(v1::run::State::Failed) => State::Failed,
            Ok(v1::run::State::Unspecified) | Err(_) => return Err(ConvertError::Field("state")),
        })
    }

    /// In a word.
    pub const fn name(self) -> &'static str {
        match self {
            State::Asked => "asked",
            State::Running => "running",
            State::Paused => "paused",
            State::Held => "held",
            State::Done => "done",
            State::Cancelled => "cancelled",
            State::Failed => "failed",
        }
    }

    /// Whether it stays so.
    pub const fn is_over(self) -> bool {
        matches!(self, State::Done | State::Cancelled | State::Failed)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Wish {
    /// For the wire.
    pub const fn to_wire(self) -> v1::run::Wish {
        match self {
            Wish::Pause => v1::run::Wish::Pause,
            Wish::Resume => v1::run::Wish::Resume,
            Wish::Cancel => v1::run::Wish::Cancel,
            Wish::Approve => v1::run::Wish::Approve,
        }
    }

    /// From the wire.
    pub fn from_wire(wire: i32) -> Result<Self, ConvertError> {
        Ok(match v1::run::Wish::try_from(wire) {
            Ok(v1::run::Wish::Pause) => Wish::Pause,
            Ok(v1::run::Wish::Resume) => Wish::Resume,
            Ok(v1::run::Wish::Cancel) => Wish::Cancel,
            Ok(v1::run::Wish::Approve) => Wish::Approve,
            Ok(v1::run::Wish::Unspecified) | Err(_) => return Err(ConvertError::Field("wish")),
        })
    }

    /// In a word.
    pub const fn name(self) -> &'static str {
        match self {
            Wish::Pause => "pause",
            Wish::Resume => "resume",
            Wish::Cancel => "cancel",
            Wish::Approve => "approve",
        }
    }

    const fn participle(self) -> &'static str {
        match self {
            Wish::Pause => "paused",
            Wish::Resume => "resumed",
            Wish::Cancel => "cancelled",
            Wish::Approve => "approved",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_rise_with_time_and_are_short() {
        let at = |seconds: i64| new_id((IDS_BEGIN + seconds) * 1_000_000);
        let ids: Vec<_> = [0, 1, 31, 32, 59_000_000, 1 << 29].map(at).into();
        assert!(
            ids.is_sorted() && ids.iter().all(|id| id.len() == 8),
            "{ids:?}"
        );
    }
}
