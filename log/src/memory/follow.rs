//! A follower of the memory log: a cursor and a wake-up.

use std::sync::Arc;

use async_trait::async_trait;
use onair_proto::{convert, v1};
use prost::Message;
use tokio::sync::watch;

use super::Feed;
use super::ring::{Cursor, Gone, Stored};
use crate::{Entry, Follower, LogError, Offset, Partition, Payload};

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
            payload: decode(partition, stored),
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

fn decode(partition: Partition, stored: Stored) -> Payload {
    let decoded = match partition {
        Partition::Cuts => v1::Cut::decode(stored.bytes)
            .map_err(convert::ConvertError::from)
            .and_then(convert::cut_from_wire)
            .map(Payload::Cut),
        Partition::Bucket(bucket) => v1::Record::decode(stored.bytes)
            .map_err(convert::ConvertError::from)
            .and_then(convert::record_from_wire)
            .map(|(of, record)| {
                if of == bucket {
                    Payload::Record(record)
                } else {
                    Payload::Garbage(format!("a record of bucket {of}"))
                }
            }),
    };
    decoded.unwrap_or_else(|err| Payload::Garbage(err.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use onair_model::Bucket;

    #[test]
    fn what_is_no_record_of_the_partition_is_garbage() {
        let (one, two) = (Bucket::new(1), Bucket::new(2));
        let wire = v1::Record {
            lineage: vec![0; 16].into(),
            epoch: 1,
            body: Some(v1::record::Body::Carry(v1::Carry { old: 0 })),
            digest: vec![0; 16].into(),
            bucket: 1,
            ..v1::Record::default()
        };
        let read = |partition, bytes: Vec<u8>| {
            let stored = Stored {
                partition: 0,
                offset: 0,
                bytes: bytes.into(),
            };
            decode(partition, stored)
        };
        let record = wire.encode_to_vec();
        let ours = read(Partition::Bucket(one), record.clone());
        assert!(matches!(ours, Payload::Record(_)), "{ours:?}");
        let torn = record[..record.len() - 3].to_vec();
        for (partition, bytes) in [
            (Partition::Bucket(two), record.clone()),
            (Partition::Bucket(one), torn),
            (Partition::Bucket(one), Vec::new()),
            (Partition::Cuts, record),
        ] {
            let found = read(partition, bytes);
            assert!(matches!(found, Payload::Garbage(_)), "{found:?}");
        }
    }
}
