//! Where folding begins: what the store holds, and the log from where it ends.

use std::collections::BTreeMap;

use onair_log::{LogId, Offset, Partition};
use onair_model::cut::admit;
use tokio::time::Instant;

use super::cuts::Cuts;
use super::rota::Rota;
use super::{FeedMerger, Run, Trouble};
use crate::shard::Shard;

impl FeedMerger {
    pub(super) async fn begin(&self, id: LogId, ours: &[Partition]) -> Result<Run, Trouble> {
        let mut shards = BTreeMap::new();
        let mut named = BTreeMap::new();
        for partition in ours {
            let Partition::Bucket(bucket) = partition else {
                continue;
            };
            let shard = self.load(*bucket).await?;
            let head = shard.head.as_ref().map(|(_, head)| head);
            let of_log = head.filter(|head| *head.log == *id.0);
            named.insert(*partition, of_log.map(|head| Offset(head.next_offset)));
            shards.insert(*bucket, shard);
        }
        let cuts = self.cuts_head().await?;
        let of_log = cuts.as_ref().filter(|(_, cuts)| *cuts.log == *id.0);
        // Whoever keeps them: cuts say what a bucket has to have.
        named.insert(
            Partition::Cuts,
            of_log.map(|(_, cuts)| Offset(cuts.next_offset)),
        );
        // Asked after the heads were read: they are not beyond it unless the log has lost its end.
        let mut ends = self.log.ends(&self.feed.name).await?;
        ends.retain(|(partition, _)| named.contains_key(partition));
        for (partition, ends) in &ends {
            // Freed while we loaded, by one who has moved the head on: what can be read does not touch what we hold.
            let of = named.get(partition).copied().flatten();
            let is_gone = ends.low > of.unwrap_or(Offset(0));
            if let (Partition::Bucket(bucket), true) = (partition, is_gone) {
                let held = shards.get(bucket).and_then(Shard::token);
                if self.token(*bucket).await? != held {
                    return Err(Trouble::Overtaken(*partition));
                }
            }
        }
        let named: Vec<Option<Offset>> = ends
            .iter()
            .filter_map(|(partition, _)| named.get(partition).copied())
            .collect();
        let from = onair_log::places(&ends, &named);
        let mut cuts_next = 0;
        for (partition, next) in &from {
            match partition {
                Partition::Cuts => cuts_next = next.0,
                Partition::Bucket(bucket) => {
                    if let Some(shard) = shards.get_mut(bucket) {
                        shard.next_offset = next.0;
                    }
                }
            }
        }
        let follower = self.log.follow(&self.feed.name, &from).await?;
        let rota = Rota::new(shards.keys().copied(), self.settings.fold_interval);
        let keeps = ours.contains(&Partition::Cuts);
        let mut run = Run {
            id,
            follower,
            shards,
            cuts: Cuts::new(keeps, None, cuts_next),
            behind: BTreeMap::new(),
            clean_at: Instant::now(),
            rota,
        };
        if let Some((token, cuts)) = cuts {
            let buckets = self.feed.buckets.count();
            admit(self.lineage, buckets, &mut run.cuts.taken, &cuts.cut);
            run.settle(&cuts.cut);
            run.cuts.head = Some((token, cuts));
        }
        Ok(run)
    }
}
