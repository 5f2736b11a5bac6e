//! The bucket heads: loaded from the store, moved by folding.
//!
//! In: buckets in memory, and what the log says next. Out: segments, then the head that names them. May go wrong: the
//! store, or another merger has moved the head.

use std::sync::Arc;

use onair_log::{Entry, Offset, Partition, Payload};
use onair_model::plant::failpoint;
use onair_model::{Body, Bucket, Epoch};
use onair_store::cells::{Moved, move_cell};
use onair_store::head::{self, Head, LoadError};
use onair_store::{CellKey, StoreError, Token};
use tracing::{debug, warn};

use super::{FeedMerger, Run, Trouble};
use crate::shard::{Plan, Shard};

impl FeedMerger {
    /// The token of a bucket's head as it stands.
    pub(super) async fn token(&self, bucket: Bucket) -> Result<Option<Token>, StoreError> {
        let key = CellKey::Head(Arc::clone(&self.feed.name), bucket);
        Ok(self.store.cell(&key).await?.map(|cell| cell.token))
    }

    /// Loads a bucket from the store. One that cannot be loaded begins with nothing, behind the claim of its head: the
    /// reader is asked for it.
    pub(super) async fn load(&self, bucket: Bucket) -> Result<Shard, Trouble> {
        let mut shard = Shard::new();
        let key = CellKey::Head(Arc::clone(&self.feed.name), bucket);
        let Some(cell) = self.store.cell(&key).await? else {
            return Ok(shard);
        };
        let head = Head::from_bytes(&self.feed.name, &cell.value)?;
        let fault = match head::load_bucket(&*self.store, &self.feed.name, &head).await {
            Ok(loaded) => match shard.load(cell.token, head.clone(), loaded) {
                Ok(()) => None,
                Err(_) => Some("base and deltas do not give the head's digest".to_owned()),
            },
            Err(LoadError::Store(
                error @ (StoreError::Unavailable { .. } | StoreError::Unknown { .. }),
            )) => {
                return Err(error.into());
            }
            Err(error) => Some(error.to_string()),
        };
        if let Some(fault) = fault {
            warn!(feed = %self.feed.name, %bucket, fault, "a base shard is damaged; the reader is asked to state it again");
            shard = Shard::damaged(cell.token, head);
        }
        Ok(shard)
    }

    /// What an entry states anew takes the place of what was held: that stays in the history, with the last version of
    /// an epoch that ends.
    pub(super) async fn keep_before(&self, run: &mut Run, entry: &Entry) -> Result<(), Trouble> {
        let (Partition::Bucket(bucket), Payload::Record(record)) =
            (entry.partition, &entry.payload)
        else {
            return Ok(());
        };
        if matches!(record.body, Body::Commits { .. }) {
            return Ok(());
        }
        let Some(shard) = run.shards.get(&bucket) else {
            return Ok(());
        };
        let held = shard.state.epoch;
        let ends =
            run.cuts.keeps && held != Epoch::NONE && record.epoch > held && run.cuts.ended < held;
        if shard.is_dirty() || ends {
            self.fold_all(run).await?;
        }
        if ends {
            run.cuts.ended = held;
            if let Some(cut) = run.last_of(self.lineage, held) {
                self.history().cut(&cut).await?;
            }
        }
        Ok(())
    }

    /// Moves every head that lacks something, then the cuts head.
    pub(super) async fn fold_all(&self, run: &mut Run) -> Result<(), Trouble> {
        let buckets: Vec<Bucket> = run.shards.keys().copied().collect();
        for bucket in buckets {
            self.fold_or_release(run, bucket).await?;
        }
        if run.cuts.keeps {
            self.look_at_others(run, None).await?;
        }
        self.follow_heads(run).await
    }

    /// Moves a head that lacks something; lets the log free what is folded.
    pub(super) async fn fold_or_release(
        &self,
        run: &mut Run,
        bucket: Bucket,
    ) -> Result<(), Trouble> {
        let Some(shard) = run.shards.get(&bucket) else {
            return Ok(());
        };
        if shard.is_dirty() {
            return self.fold(run, bucket).await;
        }
        if shard.is_clean() {
            let (feed, offset) = (&self.feed.name, Offset(shard.next_offset));
            self.log.release(feed, Partition::Bucket(bucket), offset);
        }
        Ok(())
    }

    /// Moves the heads that do not wait for their turn: stated anew, or with a lot to fold.
    pub(super) async fn fold_urgent(&self, run: &mut Run) -> Result<(), Trouble> {
        let is_urgent = |(bucket, shard): (&Bucket, &Shard)| {
            let large = shard.fresh_bytes() > self.settings.fold_bytes;
            (shard.restated || large).then_some(*bucket)
        };
        let urgent: Vec<Bucket> = run.shards.iter().filter_map(is_urgent).collect();
        for bucket in urgent {
            self.fold(run, bucket).await?;
        }
        Ok(())
    }

    /// Writes what one bucket's head lacks, then moves the head.
    async fn fold(&self, run: &mut Run, bucket: Bucket) -> Result<(), Trouble> {
        let Some(shard) = run.shards.get_mut(&bucket) else {
            return Ok(());
        };
        let plan = shard.plan(self.settings.deltas_max, self.settings.delta_share_max);
        let feed = &self.feed.name;
        let (base, deltas) = match plan {
            Plan::Nothing => return Ok(()),
            Plan::Restate | Plan::Rebase => {
                if matches!(plan, Plan::Rebase) {
                    failpoint("base rewrite");
                }
                let (d, sum, rows) = shard.settled();
                let base = head::write_base(&*self.store, feed, d, sum, rows.iter()).await?;
                let later = shard.unsettled();
                let delta = head::write_delta(&*self.store, feed, d, shard.sum(), &later).await?;
                (base, delta.into_iter().collect())
            }
            Plan::Delta { merge } => {
                let Some((_, held)) = &shard.head else {
                    return Ok(());
                };
                let (base, mut deltas) = (held.base, held.deltas.clone());
                if merge {
                    let mut commits = Vec::new();
                    for delta in &deltas {
                        commits.append(&mut head::read_delta(&*self.store, feed, delta).await?);
                    }
                    commits.extend_from_slice(shard.fresh());
                    deltas = head::write_delta(&*self.store, feed, base.d, shard.sum(), &commits)
                        .await?
                        .into_iter()
                        .collect();
                } else {
                    let prev = held.state.d;
                    deltas.extend(
                        head::write_delta(&*self.store, feed, prev, shard.sum(), shard.fresh())
                            .await?,
                    );
                }
                (base, deltas)
            }
        };
        failpoint("fold");
        let needed = run.cuts.needed(bucket);
        let next = shard.next_head((self.lineage, &run.id), needed, base, deltas);
        let key = CellKey::Head(Arc::clone(feed), bucket);
        let expect = shard.head.as_ref().map(|(token, _)| *token);
        if let Some((_, before)) = &shard.head {
            self.history().supersede(bucket, before, &next).await?;
        }
        match move_cell(&*self.store, &key, expect, next.to_bytes()).await? {
            Moved::Won(token) => {
                let offset = next.next_offset;
                debug!(feed = %feed, %bucket, d = %next.state.d, deltas = next.deltas.len(), ?plan, "head moved");
                shard.moved(token, next);
                self.log
                    .release(feed, Partition::Bucket(bucket), Offset(offset));
                self.status.folded(feed);
                Ok(())
            }
            Moved::Lost(_) => Err(Trouble::Overtaken(Partition::Bucket(bucket))),
        }
    }
}
