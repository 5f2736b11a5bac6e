//! What the reader does in the store once a second, beside its loop: lease, checkpoint, the merger's requests.

use std::sync::Arc;

use onair_model::plant::failpoint;
use onair_model::{Bucket, GtidSet, Version};
use onair_store::cells::{Moved, move_cell};
use onair_store::checkpoint::{CellValue, Checkpoint, Lease};
use onair_store::head::CutsHead;
use onair_store::{CellKey, ShardStore, Token};
use tracing::warn;

use crate::feed::Feed;
use crate::reader::Ended;

/// What is to be done.
pub(crate) struct Chores {
    pub(crate) source: Arc<str>,
    pub(crate) feeds: Vec<Arc<str>>,
    pub(crate) beat: bool,
    pub(crate) lease: (Token, Lease),
    pub(crate) durable: bool,
    /// Checkpoints that may be written, oldest first.
    pub(crate) candidates: Vec<Checkpoint>,
    pub(crate) checkpoint_token: Option<Token>,
    /// Whether requests can be answered now.
    pub(crate) asks: bool,
}

/// What was done.
pub(crate) struct Done {
    pub(crate) lease: (Token, Lease),
    pub(crate) checkpoint_token: Option<Token>,
    /// Version and GTID set of the checkpoint that was written.
    pub(crate) saved: Option<(Version, GtidSet)>,
    pub(crate) requests: Vec<Request>,
}

/// The merger asks for a bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) feed: usize,
    pub(crate) bucket: Bucket,
    pub(crate) reason: String,
    pub(crate) token: Token,
}

pub(crate) async fn run(store: Arc<dyn ShardStore>, chores: Chores) -> Result<Done, Ended> {
    let store = &*store;
    let mut lease = chores.lease.clone();
    if chores.beat {
        lease.1.beat += 1;
        let key = CellKey::Lease(Arc::clone(&chores.source));
        match move_cell(store, &key, Some(lease.0), lease.1.to_bytes()).await? {
            Moved::Won(token) => lease.0 = token,
            Moved::Lost(_) => return Err(Ended::LeaseLost),
        }
    }
    let mut checkpoint_token = chores.checkpoint_token;
    let mut saved = None;
    if let Some(checkpoint) = ready(store, &chores).await? {
        failpoint("checkpoint");
        let key = CellKey::Checkpoint(Arc::clone(&chores.source));
        match move_cell(store, &key, checkpoint_token, checkpoint.to_bytes()).await? {
            Moved::Won(token) => {
                checkpoint_token = Some(token);
                saved = Some((checkpoint.version, checkpoint.executed.clone()));
            }
            Moved::Lost(_) => return Err(Ended::LeaseLost),
        }
    }
    let requests = if chores.asks {
        requests(store, &chores.feeds).await?
    } else {
        Vec::new()
    };
    Ok(Done {
        lease,
        checkpoint_token,
        saved,
        requests,
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

/// What the merger asks for.
async fn requests(store: &dyn ShardStore, feeds: &[Arc<str>]) -> Result<Vec<Request>, Ended> {
    let mut found = Vec::new();
    for (index, feed) in feeds.iter().enumerate() {
        let like = CellKey::ReplaceRequest(Arc::clone(feed), Bucket::new(0));
        for (key, cell) in store.cells(&like).await? {
            let CellKey::ReplaceRequest(_, bucket) = key else {
                continue;
            };
            let reason = String::from_bytes(&cell.value).unwrap_or_default();
            found.push(Request {
                feed: index,
                bucket,
                reason,
                token: cell.token,
            });
        }
    }
    Ok(found)
}

/// Takes answered requests away.
pub(crate) async fn answered(
    store: &dyn ShardStore,
    feeds: &[Arc<Feed>],
    requests: &[Request],
) -> Result<(), Ended> {
    for request in requests {
        let key =
            CellKey::ReplaceRequest(Arc::clone(&feeds[request.feed].config.name), request.bucket);
        // Lost: somebody asked again meanwhile, and will be answered again.
        store.cas(&key, Some(request.token), None).await?;
    }
    Ok(())
}
