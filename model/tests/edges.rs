//! Single rules at their edges.

use std::sync::Arc;

use onair_model::cut::{Admitted, Taken, admit};
use onair_model::event::{Body, Record};
use onair_model::fold::{Fork, Outcome, fold};
use onair_model::frame::{FrameError, compose};
use onair_model::parts::{Parts, split};
use onair_model::{Bucket, BucketState, CutRecord, Digest, Frame, Key, Proven, Row, Rows, Version};

use crate::history::{
    Content, History, LINEAGE, NOTHING, Writes, gtids, keys, layout, row, rows_of, sum,
};
use crate::worlds::merges;

/// One bucket, `size` keys, each transaction writes all of them.
fn wide(size: usize, transactions: u32) -> History {
    let keys = keys(layout(1), 0, size);
    let writes = |value| -> Writes { keys.iter().map(|key| (*key, Some(value))).collect() };
    let all: Vec<_> = (1..=transactions)
        .map(|at| (u64::from(at), writes(at)))
        .collect();
    History::new(1, layout(1), &Content::new(), gtids([50]), &all)
}

/// A bucket that takes whole records only.
struct Follower {
    parts: Parts,
    state: BucketState,
    rows: Rows<Row>,
    forks: usize,
    gaps: usize,
}

impl Follower {
    fn new(history: &History) -> Self {
        let mut new = Follower {
            parts: Parts::default(),
            state: BucketState::NOTHING,
            rows: Rows::new(),
            forks: 0,
            gaps: 0,
        };
        new.take(history.replace(0, 0), 0);
        new
    }

    fn take(&mut self, record: Record, offset: u64) {
        let Some(record) = self.parts.push(record, offset) else {
            return;
        };
        let step = fold(LINEAGE, &self.state, &self.rows, &record);
        self.state = step.state;
        match (step.outcome, record.body) {
            (Outcome::Folded { first, .. }, Body::Commits { commits, .. }) => {
                for commit in &commits[first..] {
                    onair_model::assembly::apply(&mut self.rows, &commit.events);
                }
            }
            (Outcome::Replaced, Body::Replace { rows, .. }) => {
                self.rows = rows.into_iter().collect();
            }
            (Outcome::Fork(_), _) => self.forks += 1,
            (Outcome::Gap, _) => self.gaps += 1,
            _ => {}
        }
        self.parts.passed(&self.state);
    }
}

/// Two readers' sets of parts of the same transactions, merged in every way, with every single loss and repeat.
pub(crate) fn parts_world() -> Result<usize, String> {
    let history = wide(3, 2);
    let cut = |from, to, reader_id| {
        let record = Record {
            reader_id,
            ..history.record(0, from, to)
        };
        split(record, 60)
    };
    let sets = [
        (cut(0, 2, 1), [cut(0, 1, 2), cut(1, 2, 2)].concat()),
        (cut(0, 2, 1), cut(0, 2, 2)),
        (cut(0, 1, 1), cut(0, 2, 2)),
        ([cut(0, 1, 1), cut(1, 2, 1)].concat(), Vec::new()),
        ([cut(0, 1, 1), cut(0, 2, 1)].concat(), Vec::new()),
    ];
    let mut logs = 0;
    for (first, second) in &sets {
        let unplaced = |set: &[Record]| set.iter().map(|r| (0, r.clone())).collect::<Vec<_>>();
        for merged in merges(&unplaced(first), &unplaced(second)) {
            logs += 1;
            follow(&history, &merged, false)?;
            for at in 0..merged.len() {
                let mut lost = merged.clone();
                lost.remove(at);
                follow(&history, &lost, true)?;
                for again in at + 1..=merged.len() {
                    // One part again, anywhere: where a reader's next set is under way, it may cost that set.
                    let mut repeated = merged.clone();
                    repeated.insert(again, merged[at].clone());
                    follow(&history, &repeated, again > at + 1)?;
                    // All from there on again, as a producer does that got no answer.
                    let retried = [&merged[..again], &merged[at..]].concat();
                    follow(&history, &retried, false)?;
                }
            }
        }
    }
    Ok(logs)
}

fn follow(history: &History, log: &[Record], lossy: bool) -> Result<(), String> {
    let mut follower = Follower::new(history);
    let trace = || {
        let parts = log
            .iter()
            .map(|r| format!("{}:{}/{}", r.reader_id, r.part, r.parts));
        parts.collect::<Vec<_>>().join(" ")
    };
    for (offset, record) in (1..).zip(log) {
        follower.take(record.clone(), offset);
        let state = &follower.state;
        if follower.forks > 0 || !history.agrees(0, state) {
            return Err(format!("{state:?} after {offset} of {}", trace()));
        }
        if follower
            .parts
            .oldest_offset()
            .is_some_and(|oldest| oldest > offset)
        {
            return Err(format!("an offset from nowhere: {}", trace()));
        }
    }
    let end = history.version(history.end());
    let mut state = follower.state;
    if !lossy && (state.d != end || follower.gaps > 0) {
        return Err(format!("{state:?} although nothing was lost: {}", trace()));
    }
    state.claim(end);
    if state.d != end && !state.is_behind_claim() {
        return Err(format!("a loss that nobody sees: {}", trace()));
    }
    // The bucket goes on: nothing that was given up pins the log.
    follower.take(history.replace(0, history.end()), 100);
    match follower.parts.oldest_offset() {
        Some(pinned) => Err(format!("offset {pinned} is pinned: {}", trace())),
        None => Ok(()),
    }
}

#[test]
fn parts_of_two_readers_merged_lost_and_repeated() {
    let logs = parts_world().unwrap_or_else(|violation| panic!("{violation}"));
    println!("parts: {logs} logs, each with every loss and every repeat of one part");
}

#[test]
fn a_replace_in_parts_at_our_version_is_kept_until_it_is_whole() {
    let history = wide(3, 1);
    let parts = split(history.replace(0, 1), 30);
    assert!(parts.len() > 2);
    let mut follower = Follower::new(&history);
    follower.take(history.record(0, 0, 1), 1);
    follower.state.through = follower.state.d;
    for (offset, part) in (2..).zip(parts) {
        follower.take(part, offset);
        follower.take(history.record(0, 1, 1), 50);
    }
    assert_eq!(follower.parts.oldest_offset(), None);
    assert_eq!(follower.forks, 0);
}

#[test]
fn a_set_of_the_epoch_before_is_given_up() {
    let history = wide(3, 1);
    let mut parts = split(history.record(0, 0, 1), 30);
    parts.pop();
    let mut follower = Follower::new(&history);
    for (offset, part) in (1..).zip(parts) {
        follower.take(part, offset);
    }
    assert_eq!(follower.parts.oldest_offset(), Some(1));
    let next = History::new(2, layout(1), &history.content(1), gtids([]), &[]);
    follower.take(next.replace(0, 0), 9);
    assert_eq!(follower.parts.oldest_offset(), None);
}

#[test]
fn splitting_loses_nothing_at_any_size() {
    let history = wide(5, 3);
    for size in 1..400 {
        for record in [
            history.record(0, 0, 3),
            history.record(0, 1, 3),
            history.replace(0, 3),
        ] {
            let parts = split(record.clone(), size);
            assert_eq!(parts.len(), parts[0].parts as usize);
            let mut held = Parts::default();
            let mut whole: Vec<_> = parts.into_iter().filter_map(|p| held.push(p, 0)).collect();
            assert_eq!(whole.pop(), Some(record), "{size}");
            assert!(whole.is_empty());
        }
    }
}

fn pair() -> History {
    let keys = [keys(layout(2), 0, 1)[0], keys(layout(2), 1, 1)[0]];
    let writes: Vec<_> = (1..=4)
        .map(|at| (at, vec![(keys[at as usize % 2], Some(at as u32))]))
        .collect();
    History::new(1, layout(2), &Content::new(), gtids([50]), &writes)
}

fn take(taken: &mut Option<Taken>, cut: &CutRecord) -> Admitted {
    admit(LINEAGE, 2, taken, cut)
}

#[test]
fn cuts_are_admitted_by_version_and_by_what_they_follow() {
    let history = pair();
    let mut taken = None;
    assert_eq!(
        take(&mut taken, &history.cut(0, 1, false, false)),
        Admitted::Hole
    );
    assert_eq!(
        take(&mut taken, &history.cut(1, 1, true, false)),
        Admitted::Taken
    );
    assert_eq!(
        take(&mut taken, &history.cut(2, 3, false, false)),
        Admitted::Hole
    );
    assert_eq!(
        take(&mut taken, &history.cut(0, 2, false, false)),
        Admitted::Taken
    );
    assert_eq!(
        take(&mut taken, &history.cut(1, 2, false, false)),
        Admitted::Merged
    );
    assert_eq!(
        take(&mut taken, &history.cut(0, 1, false, false)),
        Admitted::Dropped
    );
    assert_eq!(
        take(&mut taken, &history.cut(2, 4, false, false)),
        Admitted::Taken
    );
    let held = taken.unwrap();
    assert_eq!(held.vector, [history.version(4), history.version(3)]);
    assert!(held.executed.contains_set(&history.executed_least(4)));
}

#[test]
fn a_cut_of_another_world_or_with_buckets_missing_is_not_taken() {
    let history = pair();
    let full = history.cut(4, 4, true, false);
    let foreign = CutRecord {
        lineage: onair_model::Lineage::new(8),
        ..full.clone()
    };
    let twice = CutRecord {
        touched: vec![full.touched[0], full.touched[0]],
        ..full.clone()
    };
    let unknown = CutRecord {
        touched: vec![full.touched[0], (Bucket::new(2), history.version(1))],
        ..full.clone()
    };
    let mut taken = None;
    assert_eq!(take(&mut taken, &foreign), Admitted::Dropped);
    assert_eq!(take(&mut taken, &twice), Admitted::Hole);
    assert_eq!(take(&mut taken, &unknown), Admitted::Hole);
    assert_eq!(taken, None);
}

#[test]
fn a_cut_of_our_version_merges_upward_or_forks() {
    let history = pair();
    let mut taken = None;
    let proven = Some(Proven {
        version: history.version(2),
        at: 5,
    });
    let full = history.cut(2, 2, true, false);
    assert_eq!(take(&mut taken, &full), Admitted::Taken);
    let newer = CutRecord {
        source_time: 99,
        proven,
        lost_tail: true,
        ..history.cut(2, 2, true, true)
    };
    assert_eq!(take(&mut taken, &newer), Admitted::Merged);
    assert_eq!(take(&mut taken, &full), Admitted::Merged);
    let held = taken.clone().unwrap();
    assert_eq!(
        (held.source_time, held.proven, held.lost_tail),
        (99, proven, true)
    );
    assert!(held.executed.contains_set(&newer.executed));
    let other = CutRecord {
        count: full.count + 1,
        ..full
    };
    assert_eq!(take(&mut taken, &other), Admitted::Fork);
    assert_eq!(taken, Some(held));
    // Later ones keep what they cannot lower.
    assert_eq!(
        take(&mut taken, &history.cut(3, 3, true, false)),
        Admitted::Taken
    );
    let held = taken.unwrap();
    assert_eq!(
        (held.source_time, held.proven, held.lost_tail),
        (99, proven, true)
    );
}

#[test]
fn a_partial_cut_never_opens_an_epoch() {
    let history = pair();
    let mut taken = None;
    take(&mut taken, &history.cut(4, 4, true, false));
    let next = History::new(
        2,
        layout(2),
        &history.content(4),
        gtids([]),
        &[(9, vec![(1, None)])],
    );
    assert_eq!(
        take(&mut taken, &next.cut(0, 1, false, false)),
        Admitted::Hole
    );
    let crossing = CutRecord {
        prev_cut: history.version(4),
        ..next.cut(0, 1, false, false)
    };
    assert_eq!(take(&mut taken, &crossing), Admitted::Hole);
    assert_eq!(
        take(&mut taken, &next.cut(1, 1, true, false)),
        Admitted::Taken
    );
    assert_eq!(
        take(&mut taken, &history.cut(4, 4, true, true)),
        Admitted::Dropped
    );
    assert!(Arc::strong_count(&taken.unwrap().executed) == 1);
}

fn frame(history: &History, from: u64, to: u64, exact: bool) -> Frame {
    let after = history.content(to);
    let mut touched: Vec<(Key, Option<Row>)> = (from + 1..=to)
        .flat_map(|at| {
            let (old, new) = (history.content(at - 1), history.content(at));
            let all: Vec<u64> = old.keys().chain(new.keys()).copied().collect();
            all.into_iter()
                .filter(move |key| old.get(key) != new.get(key))
        })
        .map(|key| (Key::from_u64(key), after.get(&key).map(|value| row(*value))))
        .collect();
    touched.sort_by(|a, b| a.0.cmp(&b.0));
    touched.dedup();
    let sum = history.sum(to);
    Frame {
        from: history.version(from),
        to: history.version(to),
        exact,
        touched,
        digest: sum.digest,
        count: sum.count,
    }
}

fn check(frame: &Frame, version: Version, content: &Content) -> Result<(), FrameError> {
    frame.check(version, sum(content), &rows_of(content))
}

#[test]
fn a_frame_applies_from_its_first_version_until_before_its_last() {
    let history = pair();
    let (ranged, exact) = (frame(&history, 1, 3, false), frame(&history, 1, 3, true));
    let at = |at| (history.version(at), history.content(at));
    for (version, content) in [at(0), at(3), at(4)] {
        assert_eq!(
            check(&ranged, version, &content),
            Err(FrameError::OutOfRange),
            "{version}"
        );
        assert_eq!(
            check(&exact, version, &content),
            Err(FrameError::OutOfRange),
            "{version}"
        );
    }
    let ((one, first), (two, second)) = (at(1), at(2));
    assert_eq!(check(&ranged, one, &first), Ok(()));
    assert_eq!(check(&ranged, two, &second), Ok(()));
    assert_eq!(check(&exact, one, &first), Ok(()));
    assert_eq!(check(&exact, two, &second), Err(FrameError::OutOfRange));
    let other_epoch: Version = "2-2".parse().unwrap();
    assert_eq!(
        check(&ranged, other_epoch, &second),
        Err(FrameError::OutOfRange)
    );
    let mut other = first;
    other.insert(99, 1);
    assert_eq!(check(&ranged, one, &other), Err(FrameError::Digest));
}

#[test]
fn a_frame_that_names_a_key_twice_is_refused() {
    let first = (Key::from_u64(1), Some(row(1)));
    let second = (Key::from_u64(1), Some(row(2)));
    let digest = Digest::of(&first.0, &row(1)).plus(Digest::of(&second.0, &row(2)));
    let frame = Frame {
        from: "1-0".parse().unwrap(),
        to: "1-1".parse().unwrap(),
        exact: false,
        touched: vec![first, second],
        digest,
        count: 2,
    };
    let rows = Rows::new();
    assert_eq!(
        frame.check(frame.from, NOTHING, &rows),
        Err(FrameError::Digest)
    );
}

#[test]
fn frames_compose_only_when_they_follow_each_other() {
    let history = pair();
    let part = |from, to| frame(&history, from, to, false);
    let (a, b, c) = (part(0, 1), part(1, 3), part(3, 4));
    assert_eq!(compose(&[]), None);
    assert_eq!(compose(&[&a]), Some(a.clone()));
    assert_eq!(compose(&[&a, &c]), None);
    assert_eq!(compose(&[&b, &a]), None);
    assert_eq!(compose(&[&a, &b, &c]), Some(part(0, 4)));
    let exact = frame(&history, 1, 3, true);
    assert!(compose(&[&a, &exact, &c]).unwrap().exact);
}

#[test]
fn a_record_that_says_less_than_it_holds_does_not_lower_through() {
    let history = wide(1, 2);
    let mut follower = Follower::new(&history);
    let short = Record {
        through: history.version(1),
        ..history.record(0, 0, 2)
    };
    follower.take(short, 1);
    assert_eq!(follower.state.through, history.version(2));
    let other = Record {
        digest: Digest::new(5),
        ..history.record(0, 0, 2)
    };
    let step = fold(LINEAGE, &follower.state, &follower.rows, &other);
    assert_eq!(step.outcome, Outcome::Fork(Fork::Digest));
}
