//! Records too large for one log entry travel in numbered parts: cut here, put together there.
//!
//! Every part carries the whole record's `through`: with what it follows it says which commits the set holds, and so
//! tells it from another set of the same reader. Digest and count are the last part's.

use crate::event::{Body, Commit, Record};
use crate::fold::BucketState;
use crate::plant::{Bug, planted};
use crate::version::Version;

/// Splits a record so that no part holds more than about `size_max` bytes of keys and rows.
pub fn split(record: Record, size_max: usize) -> Vec<Record> {
    let size = |key: &crate::Key, row: Option<&crate::Row>| {
        16 + key.with_bytes(<[u8]>::len) + row.map_or(0, |row| row.bytes().len())
    };
    let mut bodies = Vec::new();
    match record.body.clone() {
        Body::Carry { .. } => return vec![record],
        Body::Replace { d, rows } => {
            let mut held = Vec::new();
            let mut bytes = 0;
            for (key, row) in rows {
                let next = size(&key, Some(&row));
                if bytes + next > size_max && !held.is_empty() {
                    bodies.push(Body::Replace {
                        d,
                        rows: std::mem::take(&mut held),
                    });
                    bytes = 0;
                }
                bytes += next;
                held.push((key, row));
            }
            bodies.push(Body::Replace { d, rows: held });
        }
        Body::Commits { prev, commits } => {
            let mut held: Vec<Commit> = Vec::new();
            let mut bytes = 0;
            for Commit {
                version,
                commit_time,
                gtid,
                events,
            } in commits
            {
                held.push(Commit {
                    version,
                    commit_time,
                    gtid,
                    events: Vec::new(),
                });
                for event in events {
                    let next = size(event.key(), event.row());
                    if bytes + next > size_max && bytes > 0 {
                        bodies.push(Body::Commits {
                            prev,
                            commits: std::mem::take(&mut held),
                        });
                        held.push(Commit {
                            version,
                            commit_time,
                            gtid,
                            events: Vec::new(),
                        });
                        bytes = 0;
                    }
                    bytes += next;
                    if let Some(commit) = held.last_mut() {
                        commit.events.push(event);
                    }
                }
            }
            bodies.push(Body::Commits {
                prev,
                commits: held,
            });
        }
    }
    let parts = bodies.len() as u32;
    (0..)
        .zip(bodies)
        .map(|(part, body)| Record {
            body,
            part,
            parts,
            ..record.clone()
        })
        .collect()
}

/// Puts parts of one bucket together. Holds at most one set a reader, and drops it when it cannot be completed.
#[derive(Clone, Debug, Default)]
pub struct Parts {
    sets: Vec<Set>,
}

/// Readers whose sets are held at once: the one that leads and one that it took over from.
const SETS_MAX: usize = 4;

#[derive(Clone, Debug)]
struct Set {
    /// Where in the log the set began; the caller's next offset stays here.
    offset: u64,
    next: u32,
    whole: Record,
}

impl Set {
    /// Whether it is a part of this set's record.
    fn is_of(&self, part: &Record) -> bool {
        let of = |record: &Record| {
            (
                (record.lineage, record.reader_id, record.epoch),
                (follows(record), record.through, record.parts),
            )
        };
        of(&self.whole) == of(part)
    }
}

impl Parts {
    /// Takes a record or a part of one at log offset `offset`; gives the whole record once it is there.
    /// A part that does not follow its set drops the set: what it held is then missing, and the chain shows it.
    pub fn push(&mut self, record: Record, offset: u64) -> Option<Record> {
        if record.parts <= 1 {
            return Some(record);
        }
        let same = self.sets.iter().position(|set| set.is_of(&record));
        if record.part == 0 {
            if same.is_some() {
                // A repeat: what follows it is known, or comes again too.
                return None;
            }
            self.sets
                .retain(|set| set.whole.reader_id != record.reader_id);
            if self.sets.len() == SETS_MAX {
                self.sets.remove(0);
            }
            if planted(Bug::PartsIncomplete) {
                return Some(record);
            }
            self.sets.push(Set {
                offset,
                next: 1,
                whole: record,
            });
            return None;
        }
        let at = same?;
        if record.part < self.sets[at].next {
            return None;
        }
        if record.part > self.sets[at].next {
            self.sets.remove(at);
            return None;
        }
        let last = record.part + 1 == record.parts;
        let set = &mut self.sets[at];
        set.next += 1;
        set.whole.digest = record.digest;
        set.whole.count = record.count;
        set.whole.source_time = record.source_time;
        append(&mut set.whole.body, record.body);
        if !last {
            return None;
        }
        let mut whole = self.sets.remove(at).whole;
        whole.part = 0;
        whole.parts = 1;
        Some(whole)
    }

    /// Gives up sets that the chain has passed: whatever they hold, it is known already. `state` is the bucket's now.
    pub fn passed(&mut self, state: &BucketState) {
        if planted(Bug::PartsKept) {
            return;
        }
        self.sets.retain(|set| {
            let whole = &set.whole;
            let news = match &whole.body {
                // Not its first version: the rest of a set may lie beyond what another reader has written.
                Body::Commits { .. } => whole.through > state.through,
                // At our version it may be what ends a fork.
                Body::Replace { d, .. } => *d >= state.d,
                Body::Carry { .. } => false,
            };
            whole.epoch > state.epoch || (whole.epoch == state.epoch && news)
        });
    }

    /// The lowest log offset that a held set needs, if any: a stored offset must not pass it.
    pub fn oldest_offset(&self) -> Option<u64> {
        self.sets.iter().map(|set| set.offset).min()
    }
}

/// What a record goes on from; the same in each of its parts.
fn follows(record: &Record) -> (u8, Version) {
    match &record.body {
        Body::Commits { prev, .. } => (0, *prev),
        Body::Replace { d, .. } => (1, *d),
        Body::Carry { old } => (2, *old),
    }
}

fn append(whole: &mut Body, part: Body) {
    match (whole, part) {
        (Body::Commits { commits, .. }, Body::Commits { commits: more, .. }) => {
            for commit in more {
                match commits
                    .last_mut()
                    .filter(|last| last.version == commit.version)
                {
                    Some(last) => last.events.extend(commit.events),
                    None => commits.push(commit),
                }
            }
        }
        (Body::Replace { rows, .. }, Body::Replace { rows: more, .. }) => rows.extend(more),
        // Parts of two kinds are never of one set.
        _ => {}
    }
}
