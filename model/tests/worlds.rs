//! Small worlds, searched through: see [`crate::search`] for what is asked of each state.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use onair_model::assembly::Rewind;
use onair_model::{Body, CutRecord, Digest, GtidSet, Lineage, Record};

use crate::history::{Content, History, Writes, gtids, keys, layout};
use crate::search::{Op, Stats, World};

/// What a transaction does to one bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Touch {
    /// Nothing.
    No,
    /// Its first key, on or off with the same row each time: every second one restores an older content.
    Toggle,
    /// Its first key, on with a row that was never there.
    Change,
    /// Its two keys, one on and the other off: the count stays.
    Pair,
    /// Its second key, on or off.
    Second,
}

use Touch::{Change, No, Pair, Second, Toggle};

/// A transaction: what it does to bucket 0 and to bucket 1.
pub(crate) type Transaction = [Touch; 2];

const START: u32 = 1;

/// The first key of each of the two buckets is live, the second is not.
pub(crate) fn start() -> Content {
    let buckets = (0..2).map(|bucket| keys(layout(2), bucket, 2)[0]);
    buckets.map(|key| (key, START)).collect()
}

/// The writes of `transactions` after `content`; `fresh` keeps their rows apart from another history's.
pub(crate) fn writes(content: &Content, transactions: &[Transaction], fresh: u32) -> Vec<Writes> {
    let mut content = content.clone();
    let mut all = Vec::new();
    for (at, transaction) in (0..).zip(transactions) {
        let mut writes = Writes::new();
        for (bucket, touch) in transaction.iter().enumerate() {
            let [first, second] = keys(layout(2), bucket, 2)[..] else {
                unreachable!()
            };
            let toggled = |key| (key, (!content.contains_key(&key)).then_some(START));
            match touch {
                No => {}
                Toggle => writes.push(toggled(first)),
                Change => writes.push((first, Some(fresh + at))),
                Second => writes.push(toggled(second)),
                Pair => writes.extend([toggled(first), toggled(second)]),
            }
        }
        for (key, value) in &writes {
            match value {
                Some(value) => content.insert(*key, *value),
                None => content.remove(key),
            };
        }
        all.push(writes);
    }
    all
}

fn history(
    epoch: u32,
    start: &Content,
    before: GtidSet,
    transactions: &[Transaction],
    numbers: &[u64],
    fresh: u32,
) -> History {
    let writes = writes(start, transactions, fresh);
    let numbered: Vec<_> = numbers.iter().copied().zip(writes).collect();
    History::new(epoch, layout(2), start, before, &numbered)
}

/// Everything that readers of one epoch may write: a flush of every range, a Replace and a cut at every version.
fn said(history: &History, ops: &mut Vec<(String, Op)>, replaces: std::ops::RangeInclusive<u64>) {
    let (epoch, end) = (history.epoch, history.end());
    for bucket in 0..2 {
        for from in 0..=end {
            for to in from..=end {
                let record = history.record(bucket, from, to);
                let name = format!("b{bucket} ({epoch}-{from}, {epoch}-{to}]");
                ops.push((name, Op::Record(bucket, record)));
            }
        }
        for at in replaces.clone() {
            let record = history.replace(bucket, at);
            ops.push((
                format!("b{bucket} replace at {epoch}-{at}"),
                Op::Record(bucket, record),
            ));
        }
    }
    for to in 0..=end {
        // Where a transaction that touches nothing follows: everywhere in the shortest worlds only.
        let idles: &[bool] = match to == end {
            true => &[true],
            false if replaces.end() - replaces.start() == 2 => &[false, true],
            false => &[false],
        };
        for &idle in idles {
            let cut = history.cut(to, to, true, idle);
            let seen = if idle { " and idle" } else { "" };
            ops.push((format!("full cut {epoch}-{to}{seen}"), Op::Cut(cut)));
        }
        for from in 0..to {
            let cut = history.cut(from, to, false, false);
            ops.push((format!("cut {epoch}-{to} after {from}"), Op::Cut(cut)));
        }
    }
}

/// What mergers may have stored of one epoch.
fn stored(history: &History, ops: &mut Vec<(String, Op)>, bases: impl Fn(u64, u64) -> bool) {
    let (epoch, end) = (history.epoch, history.end());
    for bucket in 0..2 {
        for at in 0..=end {
            for base in (0..=at).filter(|base| bases(*base, at)) {
                let loaded = history.loaded(bucket, base, at);
                let name = format!("load b{bucket} {epoch}-{base} to {epoch}-{at}");
                ops.push((name, Op::Load(bucket, loaded)));
            }
        }
    }
}

fn world(name: String, histories: Vec<History>, honest: bool, ops: Vec<(String, Op)>) -> World {
    World {
        name,
        layout: layout(2),
        histories,
        honest,
        ops,
    }
}

/// One epoch of these transactions.
pub(crate) fn epoch(transactions: &[Transaction]) -> World {
    let numbers: Vec<u64> = (1..).take(transactions.len()).collect();
    let history = history(1, &start(), gtids([50]), transactions, &numbers, 100);
    let mut ops = Vec::new();
    said(&history, &mut ops, 0..=history.end());
    let short = transactions.len() < 3;
    stored(&history, &mut ops, |base, at| {
        short || base == 0 || base == at
    });
    ops.push(("publish".to_owned(), Op::Publish(Rewind::Wait)));
    world(format!("{transactions:?}"), vec![history], true, ops)
}

/// How an epoch goes on after another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Opening {
    /// From its end.
    After,
    /// The last transaction of the old epoch is lost, and the cuts say so.
    LostTail,
    /// The same, and nobody knows.
    LostSilently,
    /// Before the last transaction of the old epoch, which comes again as the first of the new one.
    Behind,
    /// From its end, but the scan found other rows in bucket 0.
    Drift,
}

/// Two epochs: a zombie of the old one writes all that it can while the new one opens.
pub(crate) fn epochs(old: &[Transaction], opening: Opening, new: &[Transaction]) -> World {
    let numbers: Vec<u64> = (1..).take(old.len()).collect();
    let first = history(1, &start(), gtids([50]), old, &numbers, 100);
    let end = first.end();
    let (from, lost) = match opening {
        Opening::After | Opening::Drift => (end, false),
        Opening::LostTail | Opening::LostSilently | Opening::Behind => (end - 1, true),
    };
    let mut content = first.content(from);
    if opening == Opening::Drift {
        content.insert(keys(layout(2), 0, 3)[2], 9);
    }
    let before = if lost {
        first.executed_least(from)
    } else {
        first.executed_most(from)
    };
    let mut transactions = new.to_vec();
    let mut numbers: Vec<u64> = (11..).take(new.len()).collect();
    if opening == Opening::Behind {
        transactions.insert(0, *old.last().unwrap());
        numbers.insert(0, end);
    }
    let mut second = history(2, &content, before, &transactions, &numbers, 200);
    second.lost_tail = opening == Opening::LostTail;
    let mut ops = Vec::new();
    said(&first, &mut ops, 0..=0);
    said(&second, &mut ops, 0..=second.end());
    stored(&second, &mut ops, |base, at| base == 0 || base == at);
    for bucket in 0..2 {
        for at in (0..=end).filter(|at| second.may_carry(bucket, &first, *at)) {
            let carry = second.carry(bucket, &first, at, 0);
            ops.push((
                format!("b{bucket} carry of 1-{at}"),
                Op::Record(bucket, carry),
            ));
        }
        for (name, lie) in lies(&first, &second, bucket) {
            ops.push((name, Op::Record(bucket, lie)));
        }
    }
    ops.push((
        "a partial cut opens the epoch".to_owned(),
        Op::Cut(opens_partially(&second)),
    ));
    ops.push(("publish".to_owned(), Op::Publish(Rewind::Wait)));
    if opening == Opening::LostSilently {
        ops.push((
            "publish all the same".to_owned(),
            Op::Publish(Rewind::Allow),
        ));
    }
    let name = format!("{old:?}, {opening:?}, {new:?}");
    world(name, vec![first, second], true, ops)
}

/// What only a broken reader writes.
fn lies(first: &History, second: &History, bucket: usize) -> Vec<(String, Record)> {
    let mut lies = Vec::new();
    let mut damaged = first.replace(bucket, first.end());
    damaged.digest = damaged.digest.plus(Digest::new(1));
    lies.push((
        format!("b{bucket} damaged replace of the old epoch"),
        damaged,
    ));
    // It goes on in the new epoch without having scanned: from what it believes that the old one was.
    for at in 0..=first.end() {
        let start = first.sums[at as usize][bucket];
        if start == second.sums[0][bucket] || second.end() == 0 {
            continue;
        }
        let mut record = second.record(bucket, 0, second.end());
        let Body::Commits { prev, commits } = &mut record.body else {
            unreachable!()
        };
        *prev = first.version(first.d(bucket, at));
        let rows = &first.rows[at as usize][bucket];
        let Some(sums) = onair_model::fold::replay(start, rows, commits) else {
            continue;
        };
        let Some(sum) = sums.last() else { continue };
        (record.digest, record.count) = (sum.digest, sum.count);
        lies.push((
            format!("b{bucket} goes on from 1-{at} without a scan"),
            record,
        ));
    }
    lies
}

/// What another world writes in an epoch of the same number: other rows, and further.
fn foreign(ours: &History, ops: &mut Vec<(String, Op)>) {
    let transactions = vec![[Change, Change]; ours.end() as usize + 1];
    let numbers: Vec<u64> = (1..).take(transactions.len()).collect();
    let epoch = ours.epoch.get();
    let theirs = history(epoch, &start(), gtids([60]), &transactions, &numbers, 900);
    let end = theirs.end();
    let lineage = Lineage::new(8);
    for bucket in 0..2 {
        for record in [theirs.replace(bucket, end), theirs.record(bucket, 0, end)] {
            let record = Record { lineage, ..record };
            ops.push((
                format!("b{bucket} of another world"),
                Op::Record(bucket, record),
            ));
        }
    }
    let cut = CutRecord {
        lineage,
        ..theirs.cut(end, end, true, false)
    };
    ops.push(("cut of another world".to_owned(), Op::Cut(cut)));
}

/// A new epoch's first cut, without what a first cut must say.
fn opens_partially(second: &History) -> CutRecord {
    let end = second.end();
    CutRecord {
        prev_cut: onair_model::Version::ZERO,
        touched: second.cut(end, end, true, false).touched,
        ..second.cut(0, end, false, false)
    }
}

/// Two histories of one epoch after a common beginning: the premise of all rules is broken.
pub(crate) fn fork(common: &[Transaction], a: &[Transaction], b: &[Transaction]) -> World {
    let all = |tail: &[Transaction], fresh| {
        let transactions = [common, tail].concat();
        let mut all = writes(&start(), common, 100);
        let mut content = start();
        for (key, value) in all.iter().flatten() {
            match value {
                Some(value) => content.insert(*key, *value),
                None => content.remove(key),
            };
        }
        all.extend(writes(&content, tail, fresh));
        let numbered: Vec<_> = (1..).zip(all).collect();
        assert_eq!(numbered.len(), transactions.len());
        History::new(1, layout(2), &start(), gtids([50]), &numbered)
    };
    let (one, other) = (all(a, 200), all(b, 300));
    let mut ops = Vec::new();
    said(&one, &mut ops, 0..=one.end());
    let firsts = ops.len();
    said(&other, &mut ops, 0..=other.end());
    for (name, _) in &mut ops[firsts..] {
        name.push_str(" of the other");
    }
    ops.retain(|(_, op)| !matches!(op, Op::Cut(cut) if cut.source_time > cut.commit_time));
    ops.push(("publish".to_owned(), Op::Publish(Rewind::Wait)));
    world(
        format!("{common:?}, {a:?} or {b:?}"),
        vec![one, other],
        false,
        ops,
    )
}

/// Every pattern of touched buckets of `count` transactions, but one of two that differ in the buckets' names only.
fn patterns(count: u32) -> Vec<Vec<[bool; 2]>> {
    let all = (0..4u32.pow(count)).map(|code| {
        let touched = |at| (code >> (2 * at)) & 3;
        (0..count)
            .map(|at| [touched(at) & 1 != 0, touched(at) & 2 != 0])
            .collect()
    });
    all.filter(|pattern: &Vec<[bool; 2]>| {
        let mirrored: Vec<_> = pattern.iter().map(|[a, b]| [*b, *a]).collect();
        *pattern <= mirrored
    })
    .collect()
}

fn styled(pattern: &[[bool; 2]], style: impl Fn(usize) -> Touch) -> Vec<Transaction> {
    let touch = |at, touched: bool| if touched { style(at) } else { No };
    (pattern.iter().enumerate())
        .map(|(at, [a, b])| [touch(at, *a), touch(at, *b)])
        .collect()
}

/// The worlds that mutations are looked for in, and that the search begins with.
pub(crate) fn honest() -> Vec<World> {
    let mut worlds = Vec::new();
    for pattern in patterns(2) {
        for style in [Toggle, Change, Pair] {
            worlds.push(epoch(&styled(&pattern, |_| style)));
        }
    }
    worlds
}

pub(crate) fn three() -> Vec<World> {
    let mut worlds = Vec::new();
    for (at, pattern) in patterns(3).iter().enumerate() {
        // The style decides which contents are equal: in turn, so that each pattern has one.
        let style = [Toggle, Pair, Change][at % 3];
        worlds.push(epoch(&styled(pattern, |_| style)));
    }
    worlds
}

pub(crate) fn crossing() -> Vec<World> {
    let mut worlds = Vec::new();
    let openings = [
        Opening::After,
        Opening::LostTail,
        Opening::LostSilently,
        Opening::Behind,
        Opening::Drift,
    ];
    for opening in openings {
        for old in [[Toggle, No], [Toggle, Toggle], [No, No]] {
            for new in [[Toggle, No], [Pair, Change]] {
                worlds.push(epochs(&[old], opening, &[new]));
            }
        }
    }
    worlds
}

pub(crate) fn lineages() -> Vec<World> {
    let mut worlds = vec![
        epoch(&[[Change, Second]]),
        epochs(&[[Toggle, No]], Opening::After, &[[Toggle, No]]),
    ];
    for world in &mut worlds {
        foreign(world.histories.last().unwrap(), &mut world.ops);
        world.name.push_str(" beside another world");
    }
    worlds
}

pub(crate) fn forks() -> Vec<World> {
    vec![
        fork(
            &[],
            &[[Change, Change], [No, No]],
            &[[Change, Change], [Second, Second]],
        ),
        fork(
            &[[Toggle, Toggle]],
            &[[Change, Change]],
            &[[Change, Change]],
        ),
        fork(
            &[],
            &[[Change, No], [No, Change]],
            &[[No, Change], [Change, No]],
        ),
        fork(
            &[],
            &[[Toggle, No], [Toggle, No]],
            &[[No, No], [Change, No]],
        ),
    ]
}

/// Searches worlds on all cores.
fn search(name: &str, worlds: &[World]) -> Stats {
    let (next, total) = (AtomicUsize::new(0), Mutex::new(Stats::default()));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(|| {
                while let Some(world) = worlds.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let stats = world
                        .search()
                        .unwrap_or_else(|violation| panic!("{violation}"));
                    total.lock().unwrap().add(stats);
                }
            });
        }
    });
    let total = *total.lock().unwrap();
    println!("{name}: {total:?}");
    total
}

#[test]
fn two_transactions_in_one_epoch() {
    search("two transactions", &honest());
}

#[test]
fn three_transactions_in_one_epoch() {
    search("three transactions", &three());
}

#[test]
fn a_zombie_while_the_next_epoch_opens() {
    search("two epochs", &crossing());
}

#[test]
fn another_world_is_not_heard() {
    search("two lineages", &lineages());
}

#[test]
fn two_histories_of_one_epoch_never_mix() {
    search("two histories", &forks());
}

/// The flushes of a reader that starts at `from`: every way to cut the versions after it.
fn flushes(from: u64, end: u64) -> Vec<Vec<(u64, u64)>> {
    if from == end {
        return vec![Vec::new()];
    }
    (from + 1..=end)
        .flat_map(|to| {
            flushes(to, end)
                .into_iter()
                .map(move |rest| [vec![(from, to)], rest].concat())
        })
        .collect()
}

/// One partition's records, each with the sequence that its reader had come to.
type Written<T> = Vec<(u64, T)>;

/// All orders in which two readers' records come to a partition; the second one starts only after what the first had
/// written through `checkpoint`.
fn orders<T: Clone>(first: &Written<T>, second: &Written<T>, checkpoint: u64) -> Vec<Vec<T>> {
    let done = first.iter().take_while(|(at, _)| *at <= checkpoint).count();
    let (before, beside) = first.split_at(done);
    let before: Vec<T> = before.iter().map(|(_, record)| record.clone()).collect();
    merges(beside, second)
        .into_iter()
        .map(|rest| [before.clone(), rest].concat())
        .collect()
}

pub(crate) fn merges<T: Clone>(a: &[(u64, T)], b: &[(u64, T)]) -> Vec<Vec<T>> {
    let only =
        |rest: &[(u64, T)]| -> Vec<T> { rest.iter().map(|(_, record)| record.clone()).collect() };
    let (Some((x, rest_a)), Some((y, rest_b))) = (a.split_first(), b.split_first()) else {
        return vec![[only(a), only(b)].concat()];
    };
    let with = |first: &T, rest: Vec<Vec<T>>| {
        rest.into_iter()
            .map(|rest| [vec![first.clone()], rest].concat())
            .collect::<Vec<_>>()
    };
    [with(&x.1, merges(rest_a, b)), with(&y.1, merges(a, rest_b))].concat()
}

/// What a reader writes to a bucket: a record a flush that touches it, progress at its end.
fn bucket_log(history: &History, bucket: usize, flushes: &[(u64, u64)]) -> Written<Record> {
    let end = history.end();
    let touched = flushes
        .iter()
        .filter(|(from, to)| history.d(bucket, *to) > *from);
    let mut log: Written<Record> = touched
        .map(|(from, to)| (*to, history.record(bucket, *from, *to)))
        .collect();
    log.push((end + 1, history.record(bucket, end, end)));
    log
}

/// What it writes of cuts: its first one and its last one are full.
fn cut_log(history: &History, from: u64, flushes: &[(u64, u64)]) -> Written<CutRecord> {
    let end = history.end();
    let mut log = vec![(from, history.cut(from, from, true, false))];
    log.extend(
        flushes
            .iter()
            .map(|(from, to)| (*to, history.cut(*from, *to, false, false))),
    );
    log.push((end + 1, history.cut(end, end, true, true)));
    log
}

/// A log, the same with every single record lost, and with every single one repeated at once or at the end; true
/// where something is missing.
fn faults<T: Clone>(log: &[T]) -> Vec<(Vec<T>, bool)> {
    let mut all = vec![(log.to_vec(), false)];
    for at in 0..log.len() {
        let mut lost = log.to_vec();
        lost.remove(at);
        all.push((lost, true));
        let mut repeated = log.to_vec();
        repeated.insert(at, log[at].clone());
        all.push((repeated, false));
        all.push(([log, &log[at..=at]].concat(), false));
    }
    all
}

#[test]
fn two_readers_with_every_flush_boundary_loss_and_repeat() {
    let (mut logs, mut records) = (0, 0);
    for touched in 0..8u32 {
        let transactions: Vec<Transaction> = (0..3)
            .map(|at| [if touched >> at & 1 == 1 { Toggle } else { No }, Change])
            .collect();
        let world = epoch(&transactions);
        let history = world.last();
        let end = history.end();
        for first in flushes(0, end) {
            let checkpoints = [0].into_iter().chain(first.iter().map(|(_, to)| *to));
            for checkpoint in checkpoints {
                for second in flushes(checkpoint, end) {
                    let one = bucket_log(history, 0, &first);
                    let other = bucket_log(history, 0, &second);
                    for log in orders(&one, &other, checkpoint) {
                        for (log, lost) in faults(&log) {
                            logs += 1;
                            records += log.len();
                            follow_bucket(&world, &log, lost);
                        }
                    }
                    let one = cut_log(history, 0, &first);
                    let other = cut_log(history, checkpoint, &second);
                    if touched != 5 {
                        continue;
                    }
                    for log in orders(&one, &other, checkpoint) {
                        for (log, lost) in faults(&log) {
                            logs += 1;
                            records += log.len();
                            follow_cuts(&world, &log, lost);
                        }
                    }
                }
            }
        }
    }
    println!("two readers in order: {logs} logs of one partition, {records} records");
}

fn follow_bucket(world: &World, log: &[Record], lost: bool) {
    use onair_model::Bucket;
    use onair_model::fold::Outcome;
    let history = world.last();
    let end = history.end();
    let mut state = onair_model::BucketState::NOTHING;
    let opening = history.replace(0, 0);
    for record in [&opening].into_iter().chain(log) {
        let rows = &history.rows[state.d.sequence() as usize][0];
        let step = onair_model::fold::fold(crate::history::LINEAGE, &state, rows, record);
        state = step.state;
        let alarm = match step.outcome {
            Outcome::Fork(_) => true,
            Outcome::Gap => !lost,
            _ => false,
        };
        assert!(
            !alarm,
            "{}: {:?} at {record:?} of {log:?}",
            world.name, step.outcome
        );
        assert!(
            history.agrees(0, &state),
            "{}: {state:?} of {log:?}",
            world.name
        );
    }
    let cut = history.cut(end, end, true, true);
    let named = cut
        .touched
        .iter()
        .find(|(bucket, _)| *bucket == Bucket::new(0));
    let d = named.unwrap().1;
    state.claim(d);
    assert!(
        state.d == d || (lost && state.is_behind_claim()),
        "{}: {log:?}",
        world.name
    );
}

fn follow_cuts(world: &World, log: &[CutRecord], lost: bool) {
    use onair_model::cut::Admitted;
    let history = world.last();
    let mut receiver = world.receiver();
    for cut in log {
        let admitted = world.cut(&mut receiver, cut).unwrap();
        assert!(
            lost || admitted != Admitted::Hole,
            "{}: {cut:?} of {log:?}",
            world.name
        );
    }
    // The last one may be the one that is lost: then the other reader's is there.
    let taken = receiver.assembly.taken().unwrap();
    assert_eq!(taken.version, history.version(history.end()));
}
