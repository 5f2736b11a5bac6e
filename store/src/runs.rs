//! Reconciliation runs: a row a run, moved by compare-and-set between who asks for it and the reader that does it.
//!
//! Two write to a row. Until a reader has taken it, it is the operators'; from then on all of it is the reader's but
//! [`Run::wish`], in which operators say what they want next. Each move reads, changes its own part and writes with
//! compare-and-set, so that neither undoes what the other said.

mod wire;

use std::fmt;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use onair_model::cut::Proven;
use onair_model::{Key, Row, Version};

use crate::cells::{Moved, move_cell, random_id, remove_cell};
use crate::checkpoint::{self, CellValue as _, Held};
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
