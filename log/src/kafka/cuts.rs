//! The last cuts: the cuts partition read backwards, in steps that grow, until it is certain that nothing before it
//! matters.
//!
//! A full cut stands there about once a second, so the last entries nearly always hold one. But the newest by version is
//! not always the last by place: a reader that begins again states what was there already. Each cut carries the newest
//! version that its writer knew of; the search goes on until what it added up has come that far.

use std::sync::Arc;

use futures_util::StreamExt as _;
use onair_model::CutRecord;
use rdkafka::error::KafkaError;
use rdkafka::message::Message as _;
use tokio::time::timeout;

use super::append::{NEWEST, header};
use super::follow::Consumer;
use super::{Feed, Shared, blocking};
use crate::cuts::Cuts;
use crate::{Ends, LogError, Partition, Payload};

/// Entries that the first step looks at: seconds of a busy reader.
const STEP: u64 = 4096;

/// Each next step looks at so many times more.
const GROWS: u64 = 4;

/// Entries that a search looks at in all: minutes of the busiest reader, days of an idle one.
const ENTRIES_MAX: u64 = 1 << 18;

/// A cut and the newest version that its writer knew of.
type Found = (CutRecord, u64);

pub(super) async fn last(
    shared: &Arc<Shared>,
    feed: &Arc<Feed>,
) -> Result<Vec<CutRecord>, LogError> {
    let partition = feed.index(Partition::Cuts)?;
    let ends = shared.ends(feed, vec![partition]).await?;
    let [Ends { low, high }] = ends[..] else {
        return Err(shared.refused(&feed.topic, "no answer about the cuts"));
    };
    let (low, high) = (low.0, high.0);
    let mut step = STEP;
    loop {
        let from = high.saturating_sub(step).max(low);
        let found = read(shared, feed, partition, from, high).await?;
        let (cuts, is_certain) = add_up(&found);
        let is_enough = is_certain || (step >= ENTRIES_MAX && cuts.full.is_some());
        if is_enough || from == low {
            let cuts = cuts.list();
            for cut in &cuts {
                feed.note(cut.lineage, cut.version);
            }
            return Ok(cuts);
        }
        if step >= ENTRIES_MAX {
            return Err(LogError::Mismatch {
                feed: Arc::clone(&feed.layout.feed),
                reason: format!(
                    "topic {}: no full cut among the last {step} entries of partition {partition}",
                    feed.topic
                ),
                remedy: "see what else writes to it; then delete the topic, or give another log.kafka.prefix".into(),
            });
        }
        step *= GROWS;
    }
}

/// What these cuts come to, and whether nothing before them can change it: what follows the first full cut among them
/// has come as far as everything that is known to have been written before.
fn add_up(found: &[Found]) -> (Cuts, bool) {
    let mut cuts = Cuts::default();
    for (cut, _) in found {
        cuts = cuts.with(cut).unwrap_or(cuts);
    }
    let newest = cuts.since.as_ref().or(cuts.full.as_deref());
    let is_certain = newest.is_some_and(|newest| {
        let first_full = found.iter().position(|(cut, _)| cut.full).unwrap_or(0);
        let ours = |found: &&Found| found.0.lineage == newest.lineage;
        let versions = |found: &[Found]| {
            let found = found.iter().filter(ours);
            found.map(|(cut, _)| cut.version.get()).max()
        };
        let known = found.iter().filter(ours).map(|(_, known)| *known).max();
        let (before, after) = found.split_at(first_full);
        known.max(versions(before)) <= versions(after)
    });
    (cuts, is_certain)
}

/// The cuts from one offset to another; what is no cut is passed over.
async fn read(
    shared: &Arc<Shared>,
    feed: &Arc<Feed>,
    partition: i32,
    from: u64,
    to: u64,
) -> Result<Vec<Found>, LogError> {
    if from >= to {
        return Ok(Vec::new());
    }
    let consumer = {
        let (shared, feed) = (Arc::clone(shared), Arc::clone(feed));
        blocking(move || Consumer::assign(&shared, &feed.topic, &[(partition, from)], true)).await?
    };
    let limit = shared.settings.request_timeout;
    let refused = |reason: &str| shared.refused(&feed.topic, reason);
    let mut stream = match consumer.get() {
        Some(consumer) => consumer.stream(),
        None => return Err(refused("the consumer is gone")),
    };
    let mut found = Vec::new();
    loop {
        let message = timeout(limit, stream.next()).await;
        let message = message.map_err(|_| refused(&format!("no answer within {limit:?}")))?;
        match message {
            Some(Ok(message)) => {
                let offset = message.offset().unsigned_abs();
                if offset < to
                    && let Payload::Cut(cut) = feed.entry(&message).payload
                {
                    let known = header(&message, NEWEST).unwrap_or(0).max(cut.version.get());
                    found.push((cut, known));
                }
                if offset + 1 >= to {
                    return Ok(found);
                }
            }
            Some(Err(KafkaError::PartitionEOF(_))) | None => return Ok(found),
            Some(Err(error)) if super::follow::is_passing(&error) => {}
            Some(Err(error)) => return Err(refused(&error.to_string())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use onair_model::{Digest, Epoch, GtidSet, Lineage, Version};

    fn cut(sequence: u64, full: bool) -> CutRecord {
        let version = |sequence| Version::new(Epoch::new(1).unwrap(), sequence).unwrap();
        CutRecord {
            lineage: Lineage::new(1),
            prev_cut: version(sequence - 1),
            version: version(sequence),
            commit_time: 0,
            source_time: 0,
            gtid: None,
            executed: GtidSet::mysql(),
            position: String::new(),
            digest: Digest::EMPTY,
            count: sequence,
            touched: Vec::new(),
            full,
            proven: None,
            lost_tail: false,
        }
    }

    #[test]
    fn the_search_goes_on_behind_a_reader_that_began_again() {
        // A full cut at 10, partial ones to 13; then a reader begins again at 8, knowing of 13, and dies at 9.
        let log = [
            (cut(10, true), 0),
            (cut(11, false), 0),
            (cut(12, false), 0),
            (cut(13, false), 0),
            (cut(8, true), cut(13, false).version.get()),
            (cut(9, true), 0),
        ];
        let last = |from: usize| {
            let (cuts, is_certain) = add_up(&log[from..]);
            let versions = cuts
                .list()
                .iter()
                .map(|cut| cut.version.sequence())
                .collect();
            (versions, is_certain)
        };
        assert_eq!(last(0), (vec![10, 13], true));
        // Neither what the reader knew nor what is seen without a full cut under it is passed over.
        for from in 1..=4 {
            assert_eq!(last(from), (vec![9], false), "from {from}");
        }
        // What nobody knew of and is not looked at cannot be missed.
        assert_eq!(last(5), (vec![9], true));
        assert_eq!(add_up(&log[1..4]), (Cuts::default(), false));
    }
}
