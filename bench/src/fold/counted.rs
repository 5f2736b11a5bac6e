//! A store that counts the compare-and-sets of heads, and knows how far each head is.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use onair_model::Version;
use onair_store::head::Head;
use onair_store::{Cas, Cell, CellKey, HistoryLine, SegmentId, ShardStore, StoreError, Token};

#[derive(Debug)]
pub(super) struct Counted {
    inner: Arc<dyn ShardStore>,
    heads: AtomicU64,
    ds: Mutex<Vec<Version>>,
}

impl Counted {
    pub(super) fn new(inner: Arc<dyn ShardStore>, buckets: usize) -> Self {
        Counted {
            inner,
            heads: AtomicU64::new(0),
            ds: Mutex::new(vec![Version::ZERO; buckets]),
        }
    }

    /// Head compare-and-sets so far, also those that were lost.
    pub(super) fn heads(&self) -> u64 {
        self.heads.load(Ordering::Relaxed)
    }

    /// The last data version of each head that was moved.
    pub(super) fn ds(&self) -> Vec<Version> {
        self.ds
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

#[async_trait]
impl ShardStore for Counted {
    async fn cell(&self, key: &CellKey) -> Result<Option<Cell>, StoreError> {
        self.inner.cell(key).await
    }

    async fn cas(
        &self,
        key: &CellKey,
        expect: Option<Token>,
        new: Option<Cell>,
    ) -> Result<Cas, StoreError> {
        let moved = match (key, &new) {
            (CellKey::Head(feed, bucket), Some(cell)) => {
                self.heads.fetch_add(1, Ordering::Relaxed);
                let head = Head::from_bytes(feed, &cell.value).ok();
                head.map(|head| (bucket.index(), head.state.d))
            }
            _ => None,
        };
        let cas = self.inner.cas(key, expect, new).await?;
        if let (Cas::Won, Some((bucket, d))) = (&cas, moved) {
            self.ds.lock().unwrap_or_else(PoisonError::into_inner)[bucket] = d;
        }
        Ok(cas)
    }

    async fn cells(&self, like: &CellKey) -> Result<Vec<(CellKey, Cell)>, StoreError> {
        self.inner.cells(like).await
    }

    async fn write_segment(
        &self,
        feed: &str,
        id: SegmentId,
        parts: Vec<Bytes>,
    ) -> Result<(), StoreError> {
        self.inner.write_segment(feed, id, parts).await
    }

    async fn read_segment(
        &self,
        feed: &str,
        id: SegmentId,
        parts: u32,
    ) -> Result<Vec<Bytes>, StoreError> {
        self.inner.read_segment(feed, id, parts).await
    }

    async fn delete_segment(
        &self,
        feed: &str,
        id: SegmentId,
        parts: u32,
    ) -> Result<(), StoreError> {
        self.inner.delete_segment(feed, id, parts).await
    }

    async fn write_history(&self, feed: &str, line: HistoryLine) -> Result<(), StoreError> {
        self.inner.write_history(feed, line).await
    }

    async fn history(
        &self,
        feed: &str,
        from: i64,
        to: i64,
        limit: usize,
    ) -> Result<Vec<HistoryLine>, StoreError> {
        self.inner.history(feed, from, to, limit).await
    }

    async fn delete_history(&self, feed: &str, lines: &[(i64, u128)]) -> Result<(), StoreError> {
        self.inner.delete_history(feed, lines).await
    }
}
