//! What the reader does in the store once a second, beside its loop: lease, checkpoint, the merger's requests, runs.

use std::sync::Arc;

use onair_model::plant::failpoint;
use onair_model::{Bucket, Version};
use onair_store::checkpoint::{self, Checkpoint, Held, Saved};
use onair_store::head::CutsHead;
use onair_store::lease::{Beat, HeldLease};
use onair_store::{CellKey, ShardStore, requests};
use tracing::warn;

use crate::feed::Feed;
use crate::reader::Ended;
use crate::resume::Cause;
use crate::runs::{self, Brought, Errand};

/// What is to be done.
pub(crate) struct Chores {
    pub(crate) source: Arc<str>,
    pub(crate) feeds: Vec<Arc<str>>,
    pub(crate) beat: bool,
    pub(crate) lease: HeldLease,
    pub(crate) durable: bool,
    /// Checkpoints that may be written, oldest first.
    pub(crate) candidates: Vec<Checkpoint>,
    pub(crate) checkpoint: Option<Held<Checkpoint>>,
    /// Whether requests can be answered now.
    pub(crate) asks: bool,
    pub(crate) errand: Errand,
}

/// What was done.
pub(crate) struct Done {
    pub(crate) lease: HeldLease,
    /// The checkpoint that was written.
    pub(crate) saved: Option<Held<Checkpoint>>,
    pub(crate) requests: Vec<Request>,
    pub(crate) brought: Brought,
}

/// The merger asks for a bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) feed: usize,
    pub(crate) bucket: Bucket,
    pub(crate) held: Held<String>,
}

pub(crate) async fn run(store: Arc<dyn ShardStore>, mut chores: Chores) -> Result<Done, Ended> {
    let store = &*store;
    if chores.beat {
        match chores.lease.beat(store).await {
            Ok(Beat::Held) => {}
            Ok(Beat::Lost(_)) => return Err(Ended::LeaseLost),
            // It is ours until its time is over; the next second beats again.
            Err(error) if chores.lease.is_sure() => {
                warn!(error = %error, "the lease could not be kept this second");
            }
            Err(error) => return Err(error.into()),
        }
    }
    let mut saved = None;
    if let Some(checkpoint) = ready(store, &chores).await? {
        failpoint("checkpoint");
        match checkpoint::save(store, &chores.source, chores.checkpoint.clone(), checkpoint).await?
        {
            Saved::Yes(held) => saved = Some(held),
            Saved::Behind(_) => return Err(Ended::LeaseLost),
            Saved::Forgotten => return Err(Ended::Epoch(Cause::Forgotten)),
        }
    }
    let mut asked = Vec::new();
    if chores.asks {
        for (feed, name) in chores.feeds.iter().enumerate() {
            let standing = requests::standing(store, name).await?;
            asked.extend(
                standing
                    .into_iter()
                    .map(|(bucket, held)| Request { feed, bucket, held }),
            );
        }
    }
    // A bucket that waits goes before a run.
    chores.errand.is_idle &= asked.is_empty();
    let brought = runs::run(store, chores.errand).await?;
    Ok(Done {
        lease: chores.lease,
        saved,
        requests: asked,
        brought,
    })
}

/// The newest candidate that is durable downstream: what was acknowledged, or, where the log is volatile, what every
/// bucket's head has passed, which the cuts heads tell.
async fn ready<'a>(
    store: &dyn ShardStore,
    chores: &'a Chores,
) -> Result<Option<&'a Checkpoint>, Ended> {
    if chores.durable {
        return Ok(chores.candidates.last());
    }
    if chores.candidates.is_empty() {
        return Ok(None);
    }
    let mut passed: Option<Version> = None;
    for feed in &chores.feeds {
        let Some(cell) = store.cell(&CellKey::CutsHead(Arc::clone(feed))).await? else {
            return Ok(None);
        };
        let cuts = match CutsHead::from_bytes(feed, &cell.value) {
            Ok(cuts) => cuts,
            Err(error) => {
                warn!(error = %error, "the cuts head cannot be read; the checkpoint stays");
                return Ok(None);
            }
        };
        let version = cuts.cut.version;
        passed = Some(passed.map_or(version, |before| before.min(version)));
    }
    let Some(passed) = passed else {
        return Ok(None);
    };
    let of_epoch = |candidate: &&Checkpoint| {
        candidate.version.epoch() == passed.epoch() && candidate.version <= passed
    };
    Ok(chores.candidates.iter().rev().find(of_epoch))
}

/// Takes answered requests away.
pub(crate) async fn answered(
    store: &dyn ShardStore,
    feeds: &[Arc<Feed>],
    answers: &[Request],
) -> Result<(), Ended> {
    for request in answers {
        let feed = &feeds[request.feed].config.name;
        requests::answered(store, feed, request.bucket, &request.held).await?;
    }
    Ok(())
}
