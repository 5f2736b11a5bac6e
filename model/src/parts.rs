//! Records too large for one log entry travel in numbered parts: cut here, put together there.

use crate::event::{Body, Commit, Record};
use crate::plant::{Bug, planted};
use crate::version::{Epoch, Version};

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
    reader_id: u64,
    epoch: Epoch,
    first: Version,
    /// Where in the log the set began; the caller's next offset stays here.
    offset: u64,
    next: u32,
    whole: Record,
}

impl Parts {
    /// Takes a record or a part of one at log offset `offset`; gives the whole record once it is there.
    /// A part that does not follow its set drops the set: what it held is then missing, and the chain shows it.
    pub fn push(&mut self, record: Record, offset: u64) -> Option<Record> {
        if record.parts <= 1 {
            return Some(record);
        }
        let first = first_version(&record);
        let same = |set: &Set| {
            set.reader_id == record.reader_id && set.epoch == record.epoch && set.first == first
        };
        if record.part == 0 {
            self.sets.retain(|set| set.reader_id != record.reader_id);
            if self.sets.len() == SETS_MAX {
                self.sets.remove(0);
            }
            let (reader_id, epoch) = (record.reader_id, record.epoch);
            if planted(Bug::PartsIncomplete) {
                return Some(record);
            }
            self.sets.push(Set {
                reader_id,
                epoch,
                first,
                offset,
                next: 1,
                whole: record,
            });
            return None;
        }
        let at = self.sets.iter().position(same)?;
        if record.part < self.sets[at].next {
            return None;
        }
        if record.part > self.sets[at].next || record.parts != self.sets[at].whole.parts {
            self.sets.remove(at);
            return None;
        }
        let last = record.part + 1 == record.parts;
        let set = &mut self.sets[at];
        set.next += 1;
        set.whole.through = record.through;
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

    /// Gives up sets that the chain has passed: `d` is the bucket's last data version now.
    pub fn passed(&mut self, d: Version) {
        self.sets.retain(|set| set.first > d);
    }

    /// The lowest log offset that a held set needs, if any: a stored offset must not pass it.
    pub fn oldest_offset(&self) -> Option<u64> {
        self.sets.iter().map(|set| set.offset).min()
    }
}

fn first_version(record: &Record) -> Version {
    match &record.body {
        // A set is told by what it follows: the first commit of a later part is a later one.
        Body::Commits { prev, .. } => prev.next().unwrap_or(*prev),
        Body::Replace { d, .. } => *d,
        Body::Carry { .. } => record.epoch.start(),
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
        // Parts of two kinds under one id: the digest of the last part will not fit.
        _ => {}
    }
}
