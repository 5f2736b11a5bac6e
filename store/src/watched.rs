//! A store whose calls are looked at, around any other: for those who count them, note them or stop at one.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use crate::{Cas, Cell, CellKey, HistoryLine, SegmentId, ShardStore, StoreError, Token};

/// One call.
#[derive(Clone, Copy, Debug)]
pub enum Call<'a> {
    /// [`ShardStore::cell`].
    Cell(&'a CellKey),
    /// [`ShardStore::cas`], and what is to stand there.
    Cas(&'a CellKey, Option<&'a Cell>),
    /// [`ShardStore::cells`].
    Cells(&'a CellKey),
    /// [`ShardStore::write_segment`].
    WriteSegment(SegmentId),
    /// [`ShardStore::read_segment`].
    ReadSegment(SegmentId),
    /// [`ShardStore::delete_segment`].
    DeleteSegment(SegmentId),
    /// [`ShardStore::write_history`].
    WriteHistory,
    /// [`ShardStore::history`].
    History,
    /// [`ShardStore::delete_history`].
    DeleteHistory,
}

impl Call<'_> {
    /// Whether something may differ after it.
    pub const fn is_write(&self) -> bool {
        match self {
            Call::Cas(..)
            | Call::WriteSegment(_)
            | Call::DeleteSegment(_)
            | Call::WriteHistory
            | Call::DeleteHistory => true,
            Call::Cell(_) | Call::Cells(_) | Call::ReadSegment(_) | Call::History => false,
        }
    }
}

/// What a call that went well gave.
#[derive(Clone, Copy, Debug)]
pub enum Answer<'a> {
    /// A compare-and-set's outcome.
    Cas(&'a Cas),
    /// So many lines of the history.
    Lines(usize),
    /// Anything else.
    Done,
}

/// Who looks. A call is as late as its look takes, and is not made, or does not come back, when a look never ends.
#[async_trait]
pub trait Watch: Send + Sync + fmt::Debug {
    /// A call is about to be made.
    async fn before(&self, call: Call<'_>) {
        let _ = call;
    }

    /// A call went well.
    async fn after(&self, call: Call<'_>, answer: Answer<'_>) {
        let _ = (call, answer);
    }
}

/// The decorator.
#[derive(Debug)]
pub struct Watched<W, S: ?Sized> {
    /// Who looks.
    pub watch: W,
    inner: Arc<S>,
}

impl<W: Watch, S: ShardStore + ?Sized> Watched<W, S> {
    /// Around `inner`.
    pub fn new(inner: Arc<S>, watch: W) -> Self {
        Watched { watch, inner }
    }

    async fn look<T: Sync>(
        &self,
        call: Call<'_>,
        made: impl Future<Output = Result<T, StoreError>> + Send,
        answer: fn(&T) -> Answer<'_>,
    ) -> Result<T, StoreError> {
        self.watch.before(call).await;
        let came = made.await?;
        self.watch.after(call, answer(&came)).await;
        Ok(came)
    }
}

#[async_trait]
impl<W: Watch, S: ShardStore + ?Sized> ShardStore for Watched<W, S> {
    async fn cell(&self, key: &CellKey) -> Result<Option<Cell>, StoreError> {
        let made = self.inner.cell(key);
        self.look(Call::Cell(key), made, |_| Answer::Done).await
    }

    async fn cas(
        &self,
        key: &CellKey,
        expect: Option<Token>,
        new: Option<Cell>,
    ) -> Result<Cas, StoreError> {
        let made = self.inner.cas(key, expect, new.clone());
        self.look(Call::Cas(key, new.as_ref()), made, |cas| Answer::Cas(cas))
            .await
    }

    async fn cells(&self, like: &CellKey) -> Result<Vec<(CellKey, Cell)>, StoreError> {
        let made = self.inner.cells(like);
        self.look(Call::Cells(like), made, |_| Answer::Done).await
    }

    async fn write_segment(
        &self,
        feed: &str,
        id: SegmentId,
        parts: Vec<Bytes>,
    ) -> Result<(), StoreError> {
        let made = self.inner.write_segment(feed, id, parts);
        self.look(Call::WriteSegment(id), made, |()| Answer::Done)
            .await
    }

    async fn read_segment(
        &self,
        feed: &str,
        id: SegmentId,
        parts: u32,
    ) -> Result<Vec<Bytes>, StoreError> {
        let made = self.inner.read_segment(feed, id, parts);
        self.look(Call::ReadSegment(id), made, |_| Answer::Done)
            .await
    }

    async fn delete_segment(
        &self,
        feed: &str,
        id: SegmentId,
        parts: u32,
    ) -> Result<(), StoreError> {
        let made = self.inner.delete_segment(feed, id, parts);
        self.look(Call::DeleteSegment(id), made, |()| Answer::Done)
            .await
    }

    async fn write_history(&self, feed: &str, line: HistoryLine) -> Result<(), StoreError> {
        let made = self.inner.write_history(feed, line);
        self.look(Call::WriteHistory, made, |()| Answer::Done).await
    }

    async fn history(
        &self,
        feed: &str,
        from: i64,
        to: i64,
        limit: usize,
    ) -> Result<Vec<HistoryLine>, StoreError> {
        let made = self.inner.history(feed, from, to, limit);
        self.look(Call::History, made, |lines| Answer::Lines(lines.len()))
            .await
    }

    async fn delete_history(&self, feed: &str, lines: &[(i64, u128)]) -> Result<(), StoreError> {
        let made = self.inner.delete_history(feed, lines);
        self.look(Call::DeleteHistory, made, |()| Answer::Done)
            .await
    }
}
