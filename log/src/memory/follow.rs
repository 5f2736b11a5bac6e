//! A follower of the memory log: a cursor and a wake-up.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::watch;

use super::Feed;
use super::ring::{Cursor, Gone, Stored};
use crate::wire;
use crate::{Entry, Follower, LogError, Offset, Partition};

pub(super) struct Reader {
    feed: Arc<Feed>,
    cursor: Cursor,
    grown: watch::Receiver<u64>,
}

impl Reader {
    pub(super) fn new(feed: Arc<Feed>, from: &[(Partition, Offset)]) -> Result<Self, LogError> {
        let asked: Vec<(usize, u64)> = from
            .iter()
            .map(|(partition, offset)| {
                let index = feed.index(*partition).ok_or_else(|| LogError::Refused {
                    reason: format!("feed {} has no {partition}", feed.layout.feed),
                })?;
                Ok((index, offset.0))
            })
            .collect::<Result<_, LogError>>()?;
        let grown = feed.grown.subscribe();
        let state = feed.lock();
        let cursor = state
            .ring
            .cursor(&asked)
            .map_err(|Gone { partition, asked }| {
                feed.out_of_range(&state.ring, partition, asked)
            })?;
        drop(state);
        Ok(Reader {
            feed,
            cursor,
            grown,
        })
    }

    fn read(&mut self) -> Result<Vec<Stored>, LogError> {
        let state = self.feed.lock();
        state
            .ring
            .read(&mut self.cursor)
            .map_err(|Gone { partition, asked }| {
                self.feed.out_of_range(&state.ring, partition, asked)
            })
    }

    fn entry(&self, stored: Stored) -> Entry {
        let partition = self.feed.partition(stored.partition);
        Entry {
            partition,
            offset: Offset(stored.offset),
            payload: wire::decode(partition, stored.bytes),
        }
    }
}

#[async_trait]
impl Follower for Reader {
    async fn next(&mut self) -> Result<Vec<Entry>, LogError> {
        loop {
            self.grown.mark_unchanged();
            let batch = self.read()?;
            if !batch.is_empty() {
                return Ok(batch.into_iter().map(|stored| self.entry(stored)).collect());
            }
            if self.grown.changed().await.is_err() {
                // The sender lives in the feed that we hold.
                return Err(LogError::Refused {
                    reason: "the log was closed".into(),
                });
            }
        }
    }
}
