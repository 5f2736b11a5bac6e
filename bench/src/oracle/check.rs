//! Every version that a client saw, compared with the truth at its GTID.

use std::collections::{BTreeSet, HashMap};
use std::fmt;

use anyhow::{Result, bail, ensure};
use bytes::Bytes;
use onair_sdk::{Gtid, GtidSet, Version};

use super::{Content, State, Truth};
use crate::observer::Seen;

/// What is told in words; all of it is counted.
const EVIDENCE_MAX: usize = 8;

/// What was compared, and what was wrong with it.
#[derive(Clone, Debug, Default)]
pub struct Report {
    pub versions: usize,
    /// Versions seen as deltas, not as part of a whole set.
    pub deltas: usize,
    /// Contents compared row by row.
    pub contents: usize,
    pub epochs: BTreeSet<u32>,
    pub wrong: Wrong,
}

/// What was wrong, counted by kind.
#[derive(Clone, Debug, Default)]
pub struct Wrong {
    /// Rows that the table had and the version at its GTID did not, or not as they were; transactions left out.
    pub losses: usize,
    /// Rows that a version had and the table at its GTID did not; versions of transactions that the binlog does not have.
    pub ghosts: usize,
    /// Versions whose content is not the one of their commit, or that have two.
    pub torn: usize,
    /// Versions that came after a later one, or once more.
    pub backward: usize,
    /// In words, the first few.
    evidence: Vec<String>,
}

impl Report {
    /// Takes the account of another client in.
    pub fn add(&mut self, other: Report) {
        self.versions += other.versions;
        self.deltas += other.deltas;
        self.contents += other.contents;
        self.epochs.extend(other.epochs);
        self.wrong.losses += other.wrong.losses;
        self.wrong.ghosts += other.wrong.ghosts;
        self.wrong.torn += other.wrong.torn;
        self.wrong.backward += other.wrong.backward;
        let room = EVIDENCE_MAX.saturating_sub(self.wrong.evidence.len());
        let evidence = other.wrong.evidence.into_iter().take(room);
        self.wrong.evidence.extend(evidence);
    }
}

impl Wrong {
    /// An error with the counts and the evidence unless there was nothing.
    pub fn refuse(&self) -> Result<()> {
        ensure!(
            [self.losses, self.ghosts, self.torn, self.backward] == [0; 4],
            "{self}:\n{}",
            self.evidence.join("\n")
        );
        Ok(())
    }

    /// A version that has another content than it had elsewhere.
    pub fn two_contents(&mut self, version: Version) {
        self.torn += 1;
        self.say(format!("version {version} has two contents"));
    }

    /// A version that is not the table where it says that it is.
    fn differs(&mut self, what: String, truth: &Content, seen: &Content) {
        let is_lost = |(key, row): &(&u64, &Bytes)| seen.get(key) != Some(row);
        self.losses += truth.iter().filter(is_lost).count();
        self.ghosts += seen.keys().filter(|key| !truth.contains_key(key)).count();
        self.torn += 1;
        self.say(format!("{what}:\n{}", difference(truth, seen)));
    }

    fn say(&mut self, evidence: String) {
        if self.evidence.len() < EVIDENCE_MAX {
            self.evidence.push(evidence);
        }
    }
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "losses {}, ghosts {}, torn {}, backward {}",
            self.losses, self.ghosts, self.torn, self.backward
        )
    }
}

/// [`compare`], and nothing may be wrong.
pub fn check(truth: &Truth, seen: &[Seen]) -> Result<Report> {
    let report = compare(truth, seen)?;
    report.wrong.refuse()?;
    Ok(report)
}

/// All that one client saw, in its order.
pub fn compare(truth: &Truth, seen: &[Seen]) -> Result<Report> {
    let mut report = Report::default();
    let wrong = &mut report.wrong;
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
        report.versions += 1;
        report.deltas += usize::from(now.is_delta);
        report.epochs.insert(now.version.epoch().get());
        if let Some(before) = at.checked_sub(1).map(|at| &seen[at])
            && now.version <= before.version
        {
            wrong.backward += 1;
            wrong.say(format!(
                "version {} came after {}",
                now.version, before.version
            ));
        }
        if *by_version.entry(now.version).or_insert(now.state) != now.state {
            wrong.two_contents(now.version);
        }
        for (key, row) in &now.changes {
            state.put(&mut content, *key, row.clone());
        }
        if state != now.state {
            wrong.torn += 1;
            wrong.say(format!(
                "version {}: the steps add up to {state:?}, the snapshot says {:?}",
                now.version, now.state
            ));
            continue;
        }
        if let Some(gtid) = &now.gtid {
            match truth.by_gtid.get(gtid).map(|index| index + 1) {
                None => {
                    wrong.ghosts += 1;
                    wrong.say(format!(
                        "version {} names {gtid}, which the binlog does not have",
                        now.version
                    ));
                }
                Some(place) if truth.after(place) != now.state => {
                    let what = format!("version {} differs from the table at {gtid}", now.version);
                    wrong.differs(what, &truth.content(place), &content);
                    continue;
                }
                Some(_) => {}
            }
        }
        let transactions = match position(&gtids, &now.executed) {
            Ok(transactions) => transactions,
            Err(hole) => {
                wrong.losses += 1;
                wrong.say(format!("version {}: {hole}", now.version));
                continue;
            }
        };
        if truth.after(transactions) != now.state {
            let what = format!(
                "version {} (gtid {:?}) differs from the table at its executed set {} (transaction {transactions})",
                now.version, now.gtid, now.executed
            );
            wrong.differs(what, &truth.content(transactions), &content);
            continue;
        }
        // A digest may lie; rows do not.
        contents_due += 1;
        if contents_due == 100 || at + 1 == seen.len() {
            contents_due = 0;
            let table = truth.content(transactions);
            if table != content {
                let what = format!("version {}: same digest, other rows", now.version);
                wrong.differs(what, &table, &content);
            }
            report.contents += 1;
        }
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

#[cfg(test)]
mod tests {
    use super::super::Step;
    use super::*;

    const SOURCE: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562";

    fn row(text: &'static str) -> Option<Bytes> {
        Some(Bytes::from_static(text.as_bytes()))
    }

    /// Three transactions, and a client that saw each.
    fn honest() -> (Truth, Vec<Seen>) {
        let all = [
            vec![(1, row("a"))],
            vec![(2, row("b")), (3, row("c"))],
            vec![(1, row("d")), (2, None)],
        ];
        let mut truth = Truth {
            steps: Vec::new(),
            by_gtid: HashMap::new(),
        };
        let mut seen = Vec::new();
        for (number, changes) in (1..).zip(all) {
            let gtid = format!("{SOURCE}:{number}");
            seen.push(Seen {
                version: format!("1-{number}").parse().unwrap(),
                gtid: Some(gtid.clone()),
                executed: format!("{SOURCE}:1-{number}").parse().unwrap(),
                state: State::EMPTY,
                changes: changes.clone(),
                is_delta: number > 1,
                merged: 0,
            });
            add_up(&mut seen);
            truth.by_gtid.insert(gtid.clone(), truth.steps.len());
            truth.steps.push(Step {
                gtid,
                is_emptied: false,
                changes,
                after: seen[seen.len() - 1].state,
            });
        }
        (truth, seen)
    }

    /// Each state is what the changes up to it give.
    fn add_up(seen: &mut [Seen]) {
        let (mut content, mut state) = (Content::new(), State::EMPTY);
        for now in seen {
            for (key, row) in &now.changes {
                state.put(&mut content, *key, row.clone());
            }
            now.state = state;
        }
    }

    /// Losses, ghosts, torn, backward.
    #[track_caller]
    fn counted(lie: impl FnOnce(&mut Vec<Seen>), expected: [usize; 4]) {
        let (truth, mut seen) = honest();
        lie(&mut seen);
        let wrong = compare(&truth, &seen).unwrap().wrong;
        let counts = [wrong.losses, wrong.ghosts, wrong.torn, wrong.backward];
        assert_eq!(counts, expected, "{:?}", wrong.evidence);
        assert_eq!(check(&truth, &seen).is_ok(), expected == [0; 4]);
    }

    #[test]
    fn what_is_wrong_is_counted_by_its_kind() {
        counted(|_| {}, [0, 0, 0, 0]);
        let row_left_out = |seen: &mut Vec<Seen>| {
            seen[1].changes.remove(0);
            add_up(seen);
        };
        counted(row_left_out, [1, 0, 1, 0]);
        let row_is_old = |seen: &mut Vec<Seen>| {
            seen[2].changes.remove(0);
            add_up(seen);
        };
        counted(row_is_old, [1, 0, 1, 0]);
        let row_stays = |seen: &mut Vec<Seen>| {
            seen[2].changes.remove(1);
            add_up(seen);
        };
        counted(row_stays, [0, 1, 1, 0]);
        let row_from_nowhere = |seen: &mut Vec<Seen>| {
            seen[1].changes.push((9, row("x")));
            add_up(seen);
        };
        counted(row_from_nowhere, [0, 2, 2, 0]);
        counted(|seen| seen[1].state.count += 1, [0, 0, 1, 0]);
        let transaction_from_nowhere = |seen: &mut Vec<Seen>| {
            seen[2].gtid = Some(format!("{SOURCE}:7"));
        };
        counted(transaction_from_nowhere, [0, 1, 0, 0]);
        let transaction_left_out = |seen: &mut Vec<Seen>| {
            seen[2].executed = format!("{SOURCE}:1:3").parse().unwrap();
        };
        counted(transaction_left_out, [1, 0, 0, 0]);
        counted(
            |seen| seen[0].version = "1-9".parse().unwrap(),
            [0, 0, 0, 1],
        );
    }
}
