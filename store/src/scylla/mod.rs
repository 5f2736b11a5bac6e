//! The store in ScyllaDB or Cassandra 5: for many processes on many machines.
//!
//! Only cells are moved by lightweight transactions, and nothing else ever writes them. Everything else is written
//! once under a key of its own at a quorum, and read at one. What the tables hold and why is in docs/scylla.md.
//! An outcome that the servers do not tell is [`StoreError::Unknown`]; it is never guessed here.

mod answer;
mod errors;
mod keys;
#[cfg(feature = "testing")]
mod operator;
#[cfg(feature = "testing")]
pub mod proxy;
mod schema;
mod session;
mod settings;
#[cfg(feature = "scylla-tls")]
mod tls;

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ::scylla::deserialize::row::DeserializeRow;
use ::scylla::response::{PagingState, PagingStateResponse};
use ::scylla::serialize::row::SerializeRow;
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use tokio::sync::Semaphore;

use crate::{
    Cas, Cell, CellKey, HistoryLine, LARGE_CELL_MAX, PART_MAX, SegmentId, ShardStore, StoreError,
    Token, fits,
};
use answer::{Answer, answer};
use keys::Place;
#[cfg(feature = "testing")]
pub use operator::Operator;
use session::{Ask, Link};
pub use settings::{Credentials, Replication, Scope, Settings};
#[cfg(feature = "scylla-tls")]
pub use tls::Tls;

/// Parts of segments on their way at once, in all calls together: 4 MB of them at most.
const PARTS_AT_ONCE: usize = 16;

/// Small rows asked for or deleted at once by one call.
const ROWS_AT_ONCE: usize = 16;

/// A store in a keyspace.
#[derive(Debug)]
pub struct ScyllaStore {
    link: Link,
    parts: Semaphore,
    forget_after: Duration,
    /// By feed the window that was last noted, and when.
    noted: Mutex<HashMap<String, (i64, Instant)>>,
}

/// A table is made by all nodes together, which takes seconds on busy ones.
const INIT_PATIENCE: Duration = Duration::from_secs(60);

impl ScyllaStore {
    /// Makes keyspace and tables. What is there already is left as it is and checked.
    ///
    /// # Errors
    /// [`StoreError::Unreadable`] when it is not OnAir's, or of another release.
    pub async fn init(settings: &Settings) -> Result<(), StoreError> {
        let settings = Settings {
            request_timeout: settings.request_timeout.max(INIT_PATIENCE),
            ..settings.clone()
        };
        let session = session::session(&settings).await?;
        schema::init(&session, &settings).await
    }

    /// Opens what [`ScyllaStore::init`] made, after a look at it.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when no node can be reached or none lets us in, [`StoreError::Unreadable`] when the
    /// tables are not as they should be.
    pub async fn open(settings: Settings) -> Result<Self, StoreError> {
        let session = session::session(&settings).await?;
        schema::check(&session, &settings).await?;
        Ok(ScyllaStore {
            forget_after: settings.forget_after,
            link: Link::on(session, settings).await?,
            parts: Semaphore::new(PARTS_AT_ONCE),
            noted: Mutex::default(),
        })
    }

    /// One row or none.
    async fn row<T>(
        &self,
        ask: Ask,
        values: impl SerializeRow + Send + Sync,
    ) -> Result<Option<T>, StoreError>
    where
        T: for<'f, 'm> DeserializeRow<'f, 'm>,
    {
        let result = self.link.ask(ask, values).await?;
        let unreadable = |reason: String| self.unreadable(ask, reason);
        let rows = result
            .into_rows_result()
            .map_err(|err| unreadable(err.to_string()))?;
        rows.maybe_first_row::<T>()
            .map_err(|err| unreadable(err.to_string()))
    }

    /// Every row, page by page, until `each` has enough.
    async fn rows<T>(
        &self,
        ask: Ask,
        values: impl SerializeRow + Send + Sync + Copy,
        mut each: impl FnMut(T) -> ControlFlow<()> + Send,
    ) -> Result<ControlFlow<()>, StoreError>
    where
        T: for<'f, 'm> DeserializeRow<'f, 'm>,
    {
        let mut page = PagingState::start();
        loop {
            let (result, next) = self.link.page(ask, values, page).await?;
            let unreadable = |reason: String| self.unreadable(ask, reason);
            let rows = result
                .into_rows_result()
                .map_err(|err| unreadable(err.to_string()))?;
            for row in rows
                .rows::<T>()
                .map_err(|err| unreadable(err.to_string()))?
            {
                let row = row.map_err(|err| unreadable(err.to_string()))?;
                if each(row).is_break() {
                    return Ok(ControlFlow::Break(()));
                }
            }
            page = match next {
                PagingStateResponse::HasMorePages { state } => state,
                PagingStateResponse::NoMorePages => return Ok(ControlFlow::Continue(())),
            };
        }
    }

    fn unreadable(&self, ask: Ask, reason: String) -> StoreError {
        StoreError::Unreadable {
            place: self.link.place(ask.table()),
            reason,
            remedy: errors::INIT.to_owned(),
        }
    }

    /// What stands there, after a compare-and-set that said no without saying all of it. When that is not to be had
    /// either, nothing is known: a "no" can be the servers' second look at what they did themselves.
    async fn lost(&self, key: &CellKey) -> Result<Cas, StoreError> {
        match self.cell(key).await {
            Ok(found) => Ok(Cas::Lost(found)),
            Err(StoreError::Unavailable { reason }) => Err(StoreError::Unknown { reason }),
            Err(error) => Err(error),
        }
    }

    /// Notes the window that a line is about to be in, unless that was done a moment ago.
    async fn note_window(&self, feed: &str, window: i64) -> Result<(), StoreError> {
        // So that nobody forgets it while lines are still written to it.
        let lately = self.forget_after / 2;
        let noted = |noted: &HashMap<String, (i64, Instant)>| {
            let last = noted.get(feed);
            last.is_some_and(|(last, at)| *last == window && at.elapsed() < lately)
        };
        if noted(&lock(&self.noted)) {
            return Ok(());
        }
        let at = Instant::now();
        not_begun(self.link.ask(Ask::NoteWindow, (feed, window)).await)?;
        lock(&self.noted).insert(feed.to_owned(), (window, at));
        Ok(())
    }

    /// Whether a name was last noted so long ago that nothing of it can be on its way: both times are the servers'.
    fn is_old(&self, noted: i64, now: i64) -> bool {
        let forget_after = i64::try_from(self.forget_after.as_micros()).unwrap_or(i64::MAX);
        now.saturating_mul(1000).saturating_sub(noted) > forget_after
    }

    /// Lines of a window, and whether there are none at all in it.
    async fn lines(
        &self,
        (feed, window): (&str, i64),
        (from, to): (i64, i64),
        lines: &mut Vec<HistoryLine>,
        limit: usize,
    ) -> Result<ControlFlow<()>, StoreError> {
        let mut damaged = None;
        let each = |(at, id, value): (i64, Vec<u8>, Bytes)| {
            if lines.len() >= limit && lines.last().is_none_or(|last| last.at != at) {
                return ControlFlow::Break(());
            }
            let Some(id) = keys::id(&id) else {
                damaged = Some(at);
                return ControlFlow::Break(());
            };
            lines.push(HistoryLine { at, id, value });
            ControlFlow::Continue(())
        };
        let read = self
            .rows(Ask::Lines, (feed, window, from, to), each)
            .await?;
        match damaged {
            Some(at) => Err(self.unreadable(Ask::Lines, format!("the line at {at} has no id"))),
            None => Ok(read),
        }
    }
}

/// The name and its two times: noted, and now.
type Noted<T> = (T, Option<i64>, i64);

#[async_trait]
impl ShardStore for ScyllaStore {
    async fn cell(&self, key: &CellKey) -> Result<Option<Cell>, StoreError> {
        let Place {
            kind,
            first,
            second,
        } = Place::of(key);
        let row: Option<(Option<Vec<u8>>, Option<Bytes>)> =
            self.row(Ask::Cell, (kind, first, &*second)).await?;
        let Some((token, value)) = row else {
            return Ok(None);
        };
        let token = token.and_then(|token| keys::id(&token)).zip(value);
        let (token, value) = token.ok_or_else(|| {
            crate::cells::unreadable(key, "its row was not written by OnAir, or not all of it")
        })?;
        Ok(Some(Cell {
            token: Token(token),
            value,
        }))
    }

    async fn cas(
        &self,
        key: &CellKey,
        expect: Option<Token>,
        new: Option<Cell>,
    ) -> Result<Cas, StoreError> {
        let bytes = new.as_ref().map_or(0, |cell| cell.value.len());
        fits(key, bytes, key.value_max())?;
        let Place {
            kind,
            first,
            second,
        } = Place::of(key);
        let second = &*second;
        let (ask, result) = match (expect, &new) {
            (None, None) => {
                return Ok(match self.cell(key).await? {
                    None => Cas::Won,
                    found => Cas::Lost(found),
                });
            }
            (None, Some(Cell { token, value })) => {
                // Before the cell, so that no cell is ever without it.
                if !keys::is_single(key) {
                    not_begun(self.link.ask(Ask::NoteName, (kind, first, second)).await)?;
                }
                let values = (kind, first, second, token.0.to_be_bytes(), value);
                let ask = Ask::InsertCell;
                (ask, self.link.ask(ask, values).await?)
            }
            (Some(expect), Some(Cell { token, value })) => {
                let (token, expect) = (token.0.to_be_bytes(), expect.0.to_be_bytes());
                let values = (token, value, kind, first, second, expect);
                let ask = Ask::MoveCell;
                (ask, self.link.ask(ask, values).await?)
            }
            (Some(expect), None) => {
                let values = (kind, first, second, expect.0.to_be_bytes());
                let ask = Ask::DeleteCell;
                (ask, self.link.ask(ask, values).await?)
            }
        };
        match answer(result) {
            Ok(Answer::Applied) => Ok(Cas::Won),
            Ok(Answer::Absent) => Ok(Cas::Lost(None)),
            Ok(Answer::Found(cell)) => Ok(Cas::Lost(Some(cell))),
            Ok(Answer::Other) => self.lost(key).await,
            Err(reason) => {
                let place = self.link.place(ask.table());
                Err(StoreError::Unknown {
                    reason: format!("{place}: {reason}"),
                })
            }
        }
    }

    async fn cells(&self, like: &CellKey) -> Result<Vec<(CellKey, Cell)>, StoreError> {
        if keys::is_single(like) {
            let found = self.cell(like).await?;
            return Ok(found.map(|cell| (like.clone(), cell)).into_iter().collect());
        }
        let Place { kind, first, .. } = Place::of(like);
        let mut names: Vec<Noted<String>> = Vec::new();
        let each = |name| {
            names.push(name);
            ControlFlow::Continue(())
        };
        let _: ControlFlow<()> = self.rows(Ask::Names, (kind, first), each).await?;
        let look = |(second, noted, now): Noted<String>| async move {
            let key = keys::named(like, &second).ok_or_else(|| {
                self.unreadable(Ask::Names, format!("{second:?} is no name of a {kind}"))
            })?;
            let found = self.cell(&key).await?;
            if found.is_none()
                && let Some(noted) = noted
                && self.is_old(noted, now)
            {
                // Done again by the next who looks, if it is not done now.
                let values = (noted, kind, first, &*second);
                let _ = self.link.ask(Ask::ForgetName, values).await;
            }
            Ok(found.map(|cell| (key, cell)))
        };
        let found: Vec<_> = stream::iter(names)
            .map(look)
            .buffer_unordered(ROWS_AT_ONCE)
            .try_collect()
            .await?;
        let mut found: Vec<_> = found.into_iter().flatten().collect();
        found.sort_by(|(one, _), (other, _)| one.cmp(other));
        Ok(found)
    }

    async fn write_segment(
        &self,
        feed: &str,
        id: SegmentId,
        parts: Vec<Bytes>,
    ) -> Result<(), StoreError> {
        for part in &parts {
            fits(&"a part of a segment", part.len(), PART_MAX)?;
        }
        let write = |(at, part): (u32, Bytes)| async move {
            let _turn = self.parts.acquire().await;
            let values = (feed, id.0.to_be_bytes(), keys::part(at)?, part);
            self.link.ask(Ask::WritePart, values).await.map(drop)
        };
        stream::iter((0..).zip(parts))
            .map(write)
            .buffer_unordered(PARTS_AT_ONCE)
            .try_collect()
            .await
    }

    async fn read_segment(
        &self,
        feed: &str,
        id: SegmentId,
        parts: u32,
    ) -> Result<Vec<Bytes>, StoreError> {
        let read = |part: u32| async move {
            let _turn = self.parts.acquire().await;
            let values = (feed, id.0.to_be_bytes(), keys::part(part)?);
            let row: Option<(Option<Bytes>,)> = self.row(Ask::Part, values).await?;
            let bytes = row.and_then(|(bytes,)| bytes);
            bytes.ok_or_else(|| StoreError::Missing {
                feed: Arc::from(feed),
                segment: id,
                part,
            })
        };
        stream::iter(0..parts)
            .map(read)
            .buffered(PARTS_AT_ONCE)
            .try_collect()
            .await
    }

    async fn delete_segment(
        &self,
        feed: &str,
        id: SegmentId,
        parts: u32,
    ) -> Result<(), StoreError> {
        let delete = |part: u32| async move {
            let values = (feed, id.0.to_be_bytes(), keys::part(part)?);
            self.link.ask(Ask::DeletePart, values).await.map(drop)
        };
        stream::iter(0..parts)
            .map(delete)
            .buffer_unordered(ROWS_AT_ONCE)
            .try_collect()
            .await
    }

    async fn write_history(&self, feed: &str, line: HistoryLine) -> Result<(), StoreError> {
        let what = "a line of the history";
        fits(&what, line.value.len(), LARGE_CELL_MAX)?;
        let window = keys::window(line.at);
        self.note_window(feed, window).await?;
        let id = line.id.to_be_bytes();
        let values = (feed, window, line.at, id, line.value);
        self.link.ask(Ask::WriteLine, values).await.map(drop)
    }

    async fn history(
        &self,
        feed: &str,
        from: i64,
        to: i64,
        limit: usize,
    ) -> Result<Vec<HistoryLine>, StoreError> {
        if from >= to {
            return Ok(Vec::new());
        }
        let mut windows: Vec<Noted<i64>> = Vec::new();
        let each = |window| {
            windows.push(window);
            ControlFlow::Continue(())
        };
        let range = (feed, keys::window(from), keys::window(to - 1));
        let _: ControlFlow<()> = self.rows(Ask::Windows, range, each).await?;
        let mut lines = Vec::new();
        for (window, noted, now) in windows {
            let before = lines.len();
            let within = self.lines((feed, window), (from, to), &mut lines, limit);
            if within.await?.is_break() {
                break;
            }
            let is_empty = lines.len() == before && keys::covers(from, to, window);
            if is_empty
                && let Some(noted) = noted
                && self.is_old(noted, now)
            {
                // As for names of cells.
                let _ = self
                    .link
                    .ask(Ask::ForgetWindow, (noted, feed, window))
                    .await;
            }
        }
        Ok(lines)
    }

    async fn delete_history(&self, feed: &str, lines: &[(i64, u128)]) -> Result<(), StoreError> {
        let delete = |(at, id): (i64, u128)| async move {
            let values = (feed, keys::window(at), at, id.to_be_bytes());
            self.link.ask(Ask::DeleteLine, values).await.map(drop)
        };
        stream::iter(lines.iter().copied())
            .map(delete)
            .buffer_unordered(ROWS_AT_ONCE)
            .try_collect()
            .await
    }
}

/// What comes before a write and can be done any number of times: when it failed, the write itself is certainly not
/// done.
fn not_begun<T>(noted: Result<T, StoreError>) -> Result<(), StoreError> {
    match noted {
        Err(StoreError::Unknown { reason }) => Err(StoreError::Unavailable { reason }),
        other => other.map(drop),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
