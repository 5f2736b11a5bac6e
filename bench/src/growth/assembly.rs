//! The part of a server that depends on how many rows it holds: records folded, cuts taken, snapshots and frames
//! published.

use anyhow::{Context as _, Result, ensure};
use onair_model::assembly::{Assembly, Rewind};
use serde::{Deserialize, Serialize};

use crate::fold::BUCKETS;
use crate::fold::stream::{LINEAGE, Stream};
use crate::harness::{Meter, Run};

/// So many commits of one row each, published one by one.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Assembling {
    /// Live before them.
    pub rows: u64,
    pub commits: u64,
}

impl Assembling {
    /// Does it, here and now.
    pub fn run(&self) -> Result<Run> {
        let mut stream = Stream::new(BUCKETS, self.rows)?;
        let mut assembly = Assembly::new(LINEAGE, BUCKETS);
        let opening = stream.opening();
        for (_, record) in &opening.records {
            ensure!(record.parts == 1, "whole records");
        }
        let mut flushes = vec![opening];
        for _ in 0..self.commits {
            stream.step()?;
            flushes.push(stream.flush(false));
        }
        let mut flushes = flushes.into_iter();
        let mut take = |assembly: &mut Assembly| -> Result<()> {
            let flush = flushes.next().context("no more")?;
            for (bucket, record) in flush.records {
                assembly.record(bucket, record);
            }
            assembly.cut(&flush.cut);
            let published = assembly.publish(Rewind::Wait);
            published.map_err(|hold| anyhow::anyhow!("{hold:?}"))?;
            Ok(())
        };
        take(&mut assembly)?;
        let meter = Meter::start()?;
        for _ in 0..self.commits {
            take(&mut assembly)?;
        }
        meter.stop(self.commits, &[])
    }
}
