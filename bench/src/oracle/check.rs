//! Every version that a client saw, compared with the truth at its GTID.

use std::collections::{BTreeSet, HashMap};

use anyhow::{Result, bail};
use onair_sdk::{Gtid, GtidSet};

use super::{Content, State, Truth};
use crate::observer::Seen;

/// What was compared.
#[derive(Clone, Debug, Default)]
pub struct Report {
    pub versions: usize,
    /// Versions seen as deltas, not as part of a whole set.
    pub deltas: usize,
    /// Contents compared row by row.
    pub contents: usize,
    pub epochs: BTreeSet<u32>,
}

/// All that one client saw, in its order.
pub fn check(truth: &Truth, seen: &[Seen]) -> Result<Report> {
    let mut report = Report::default();
    let gtids: Vec<Gtid> = truth
        .steps
        .iter()
        .map(|step| step.gtid.parse())
        .collect::<Result<_, _>>()?;
    let mut by_version: HashMap<_, State> = HashMap::new();
    let mut content = Content::new();
    let mut state = State::EMPTY;
    let mut contents_due = 0;
    for (at, now) in seen.iter().enumerate() {
        if let Some(before) = at.checked_sub(1).map(|at| &seen[at])
            && now.version <= before.version
        {
            bail!("version {} came after {}", now.version, before.version);
        }
        if *by_version.entry(now.version).or_insert(now.state) != now.state {
            bail!("version {} has two contents", now.version);
        }
        for (key, row) in &now.changes {
            state.put(&mut content, *key, row.clone());
        }
        if state != now.state {
            bail!(
                "version {}: the steps add up to {state:?}, the snapshot says {:?}",
                now.version,
                now.state
            );
        }
        let transactions = position(&gtids, &now.executed)?;
        let is_same = truth.after(transactions) == now.state;
        let at_gtid = now.gtid.as_ref().map(|gtid| {
            truth
                .by_gtid
                .get(gtid)
                .map(|&index| (index + 1, truth.after(index + 1)))
        });
        match at_gtid {
            Some(None) => bail!(
                "version {} names {:?}, which the binlog does not have",
                now.version,
                now.gtid
            ),
            Some(Some((place, expected))) if expected != now.state => {
                bail!(
                    "version {} differs from the table at {:?}:\n{}",
                    now.version,
                    now.gtid,
                    difference(&truth.content(place), &content)
                );
            }
            _ => {}
        }
        if !is_same {
            bail!(
                "version {} (gtid {:?}) differs from the table at its executed set {} (transaction {}):\n{}",
                now.version,
                now.gtid,
                now.executed,
                transactions,
                difference(&truth.content(transactions), &content)
            );
        }
        // A digest may lie; rows do not.
        contents_due += 1;
        if contents_due == 100 || at + 1 == seen.len() {
            contents_due = 0;
            if truth.content(transactions) != content {
                bail!(
                    "version {}: same digest, other rows:\n{}",
                    now.version,
                    difference(&truth.content(transactions), &content)
                );
            }
            report.contents += 1;
        }
        report.versions += 1;
        report.deltas += usize::from(now.is_delta);
        report.epochs.insert(now.version.epoch().get());
    }
    Ok(report)
}

/// How many transactions a set has: it must be the first so many of the binlog.
fn position(gtids: &[Gtid], executed: &GtidSet) -> Result<usize> {
    let count = gtids.partition_point(|gtid| executed.contains(gtid));
    let last = gtids[count..]
        .iter()
        .position(|gtid| executed.contains(gtid));
    if let Some(later) = last {
        bail!(
            "the executed set {executed} has a hole before {}",
            gtids[count + later]
        );
    }
    Ok(count)
}

/// The rows in which two contents differ, the first few.
pub fn difference(truth: &Content, seen: &Content) -> String {
    const SHOWN: usize = 12;
    let keys: BTreeSet<u64> = truth.keys().chain(seen.keys()).copied().collect();
    let mut lines = Vec::new();
    for key in keys {
        let (wanted, got) = (truth.get(&key), seen.get(&key));
        if wanted != got {
            lines.push(format!("  key {key}: table {wanted:?}, seen {got:?}"));
        }
    }
    let more = lines.len().saturating_sub(SHOWN);
    lines.truncate(SHOWN);
    lines.push(format!(
        "  ({} rows in the table, {} seen, {more} more differences)",
        truth.len(),
        seen.len()
    ));
    lines.join("\n")
}
