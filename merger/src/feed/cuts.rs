//! The cuts head, which follows the bucket heads.
//!
//! In: cuts from the log, and how far the heads are, those of other mergers too. Out: the cuts head, moved to the
//! newest full cut that every bucket head has passed and that no base has left behind; full cuts in the history.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use onair_log::{Offset, Partition};
use onair_model::cut::{Admitted, Taken, admit};
use onair_model::plant::failpoint;
use onair_model::{Bucket, CutRecord, Epoch, GtidSet, Lineage, Version};
use onair_store::cells::{Moved, move_cell};
use onair_store::head::{CutsHead, Head};
use onair_store::{CellKey, Token};
use tokio::time::Instant;

use super::rota::Turn;
use super::{FeedMerger, Run, Trouble};

/// Full cuts that wait for the heads to pass them.
const WAITING_MAX: usize = 64;

/// Heads of other mergers that are read at once.
const LOOKS_AT_ONCE: usize = 8;

/// What is known of the cuts and of their head.
pub(super) struct Cuts {
    /// Whether the cuts head is ours to move.
    pub(super) keeps: bool,
    pub(super) taken: Option<Taken>,
    pub(super) head: Option<(Token, CutsHead)>,
    /// Full cuts that not every head has passed.
    waiting: Waiting,
    /// How far the heads of the other buckets were seen; they are another merger's.
    others: BTreeMap<Bucket, Passed>,
    /// Next offset to be read.
    pub(super) next_offset: u64,
    moved_at: Instant,
    history_at: Option<Instant>,
    /// The last epoch of which the end was entered in the history.
    pub(super) ended: Epoch,
}

impl Cuts {
    pub(super) fn new(keeps: bool, head: Option<(Token, CutsHead)>, next_offset: u64) -> Self {
        Cuts {
            keeps,
            taken: None,
            head,
            waiting: Waiting::default(),
            others: BTreeMap::new(),
            next_offset,
            moved_at: Instant::now(),
            history_at: None,
            ended: Epoch::NONE,
        }
    }

    /// Whether the cuts head is not in the newest epoch yet. Until it is, a restart scans.
    pub(super) fn is_opening(&self) -> bool {
        let held = self.head.as_ref().map(|(_, held)| held.cut.epoch());
        let newest = self.waiting.newest().map(CutRecord::epoch);
        newest.is_some() && newest != held
    }

    /// A bucket's data version at the cuts head's cut.
    pub(super) fn needed(&self, bucket: Bucket) -> Option<Version> {
        let (_, held) = self.head.as_ref()?;
        let mut named = held.cut.touched.iter();
        named.find(|(of, _)| *of == bucket).map(|(_, d)| *d)
    }
}

/// Full cuts that wait for the heads, oldest first, with the offset after each.
#[derive(Debug, Default)]
struct Waiting(VecDeque<(CutRecord, u64)>);

impl Waiting {
    /// When there are too many, every second one goes. The oldest stays: heads that take turns pass it within a period,
    /// however many cuts come in it. So does what is spread between it and the newest.
    fn push(&mut self, cut: CutRecord, next_offset: u64) {
        if self.0.len() == WAITING_MAX {
            let mut stays = false;
            self.0.retain(|_| {
                stays = !stays;
                stays
            });
        }
        self.0.push_back((cut, next_offset));
    }

    fn newest(&self) -> Option<&CutRecord> {
        self.0.back().map(|(cut, _)| cut)
    }

    /// Which is the newest that is passed.
    fn passed(&self, is_passed: impl Fn(&CutRecord) -> bool) -> Option<usize> {
        self.0.iter().rposition(|(cut, _)| is_passed(cut))
    }

    /// Takes one; older ones go.
    fn take(&mut self, at: usize) -> Option<(CutRecord, u64)> {
        self.0.drain(..=at).next_back()
    }
}

/// What a head has passed.
#[derive(Clone, Copy, Debug)]
struct Passed {
    epoch: Epoch,
    d: Version,
    base_d: Version,
}

impl Passed {
    fn of(head: &Head) -> Self {
        Passed {
            epoch: head.state.epoch,
            d: head.state.d,
            base_d: head.base.d,
        }
    }

    /// Whether the head is at or beyond this data version of this epoch.
    fn is_at(&self, epoch: Epoch, d: Version) -> bool {
        self.epoch == epoch && self.d >= d
    }
}

impl Run {
    /// Whether every head is at or beyond this cut and can still give its content.
    fn has_passed(&self, cut: &CutRecord) -> bool {
        cut.touched.iter().all(|(bucket, d)| {
            let ours = self
                .shards
                .get(bucket)
                .and_then(|shard| shard.head.as_ref());
            let passed = match ours {
                Some((_, head)) => Some(Passed::of(head)),
                None => self.cuts.others.get(bucket).copied(),
            };
            passed.is_some_and(|passed| passed.is_at(cut.epoch(), *d) && passed.base_d <= *d)
        })
    }

    /// The last cut of an epoch that ends and that the heads can give: the newest taken, else the one in the cuts head.
    pub(super) fn last_of(&self, lineage: Lineage, epoch: Epoch) -> Option<CutRecord> {
        let taken = self.cuts.taken.as_ref().map(|taken| whole(lineage, taken));
        let held = || self.cuts.head.as_ref().map(|(_, held)| held.cut.clone());
        let last = taken.filter(|last| self.has_passed(last)).or_else(held);
        last.filter(|cut| cut.epoch() == epoch)
    }

    /// The cuts head is here: bases may go up to it.
    pub(super) fn settle(&mut self, cut: &CutRecord) {
        for (bucket, d) in &cut.touched {
            if let Some(shard) = self.shards.get_mut(bucket) {
                shard.settle(*d);
            }
        }
    }

    /// Buckets of other mergers whose heads are not known to have passed the newest cut that waits.
    fn unpassed_others(&self) -> Vec<Bucket> {
        let Some(newest) = self.cuts.waiting.newest() else {
            return Vec::new();
        };
        let is_unpassed = |(bucket, d): &(Bucket, Version)| {
            let seen = self.cuts.others.get(bucket);
            let is_at = seen.is_some_and(|seen| seen.is_at(newest.epoch(), *d));
            (!is_at && !self.shards.contains_key(bucket)).then_some(*bucket)
        };
        newest.touched.iter().filter_map(is_unpassed).collect()
    }
}

/// The full cut that the cuts taken add up to.
fn whole(lineage: Lineage, taken: &Taken) -> CutRecord {
    CutRecord {
        lineage,
        prev_cut: taken.version,
        version: taken.version,
        commit_time: taken.commit_time,
        source_time: taken.source_time,
        gtid: taken.gtid,
        executed: GtidSet::clone(&taken.executed),
        position: taken.position.clone(),
        digest: taken.digest,
        count: taken.count,
        touched: (0..)
            .map(Bucket::new)
            .zip(taken.vector.iter().copied())
            .collect(),
        full: true,
        proven: taken.proven,
        lost_tail: taken.lost_tail,
    }
}

impl FeedMerger {
    pub(super) async fn cuts_head(&self) -> Result<Option<(Token, CutsHead)>, Trouble> {
        let key = CellKey::CutsHead(Arc::clone(&self.feed.name));
        let Some(cell) = self.store.cell(&key).await? else {
            return Ok(None);
        };
        let head = CutsHead::from_bytes(&self.feed.name, &cell.value)?;
        Ok(Some((cell.token, head)))
    }

    pub(super) fn take_cut(&self, run: &mut Run, cut: CutRecord) {
        let buckets = self.feed.buckets.count();
        let admitted = admit(self.lineage, buckets, &mut run.cuts.taken, &cut);
        if !matches!(admitted, Admitted::Taken | Admitted::Merged) {
            return;
        }
        for (bucket, d) in &cut.touched {
            if let Some(shard) = run.shards.get_mut(bucket) {
                shard.state.claim(*d);
            }
        }
        if cut.full && run.cuts.keeps {
            let next_offset = run.cuts.next_offset;
            run.cuts.waiting.push(cut, next_offset);
        }
    }

    /// Moves the cuts head, or looks where another merger has moved it.
    pub(super) async fn follow_heads(&self, run: &mut Run) -> Result<(), Trouble> {
        if run.cuts.keeps {
            self.move_cuts(run).await
        } else {
            self.look_at_cuts(run).await
        }
    }

    /// Another merger moves the cuts head: what it holds lets our bases go on.
    async fn look_at_cuts(&self, run: &mut Run) -> Result<(), Trouble> {
        let Some((token, cuts)) = self.cuts_head().await? else {
            return Ok(());
        };
        self.status.cut(&self.feed.name, cuts.cut.version);
        run.settle(&cuts.cut);
        run.cuts.head = Some((token, cuts));
        Ok(())
    }

    /// How far the heads are that other mergers move: those of this turn, or all.
    pub(super) async fn look_at_others(
        &self,
        run: &mut Run,
        turn: Option<Turn>,
    ) -> Result<(), Trouble> {
        let mut buckets = run.unpassed_others();
        buckets.retain(|bucket| turn.is_none_or(|turn| turn.looks_at(*bucket)));
        let look = |bucket: Bucket| async move {
            let key = CellKey::Head(Arc::clone(&self.feed.name), bucket);
            let Some(cell) = self.store.cell(&key).await? else {
                return Ok(None);
            };
            let head = Head::from_bytes(&self.feed.name, &cell.value)?;
            Ok::<_, Trouble>(Some((bucket, Passed::of(&head))))
        };
        let seen: Vec<_> = stream::iter(buckets)
            .map(look)
            .buffer_unordered(LOOKS_AT_ONCE)
            .try_collect()
            .await?;
        run.cuts.others.extend(seen.into_iter().flatten());
        Ok(())
    }

    /// Moves the cuts head to the newest full cut that every head has passed.
    pub(super) async fn move_cuts(&self, run: &mut Run) -> Result<(), Trouble> {
        let passed = run.cuts.waiting.passed(|cut| run.has_passed(cut));
        let Some((cut, next_offset)) = passed.and_then(|at| run.cuts.waiting.take(at)) else {
            return Ok(());
        };
        let held = run.cuts.head.as_ref().map(|(_, held)| held.cut.version);
        if held.is_some_and(|held| held > cut.version) {
            return Ok(());
        }
        let same = held == Some(cut.version);
        if same && run.cuts.moved_at.elapsed() < self.settings.history_every {
            return Ok(());
        }
        run.cuts.moved_at = Instant::now();
        failpoint("cuts head");
        let next = CutsHead {
            cut,
            log: run.id.0.to_string(),
            next_offset,
        };
        let key = CellKey::CutsHead(Arc::clone(&self.feed.name));
        let expect = run.cuts.head.as_ref().map(|(token, _)| *token);
        let Moved::Won(token) = move_cell(&*self.store, &key, expect, next.to_bytes()).await?
        else {
            return Err(Trouble::Overtaken(Partition::Cuts));
        };
        run.settle(&next.cut);
        self.log
            .release(&self.feed.name, Partition::Cuts, Offset(next_offset));
        self.status.cut(&self.feed.name, next.cut.version);
        let due = run
            .cuts
            .history_at
            .is_none_or(|at| at.elapsed() >= self.settings.history_every);
        let new_epoch = run
            .cuts
            .head
            .as_ref()
            .is_none_or(|(_, held)| held.cut.epoch() != next.cut.epoch());
        if due || new_epoch {
            run.cuts.history_at = Some(Instant::now());
            self.history().cut(&next.cut).await?;
        }
        run.cuts.head = Some((token, next));
        Ok(())
    }
}
