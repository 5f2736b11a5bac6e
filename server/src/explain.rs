//! Where one key is: what the log, the store and this server hold of it, in the order in which a change passes them.
//!
//! Each is read at its own moment, so each says over which versions its row holds: from `since` through `version`.

use std::sync::Arc;
use std::time::Duration;

use onair_log::{Entry, EventLog, LogError, Offset, Partition, Payload};
use onair_model::assembly::apply;
use onair_model::fold::{replay, sum_of};
use onair_model::parts::Parts;
use onair_model::{
    Body, Bucket, CutRecord, Digest, Gtid, Key, Lineage, Record, Row, Snapshot, Sum, Version,
};
use onair_proto::{convert, v1};
use onair_store::head::{self, Head, LoadError};
use onair_store::{CellKey, ShardStore, StoreError, past};
use tokio::time::{Instant, timeout_at};

/// Offsets of the bucket's partition that are searched, from its end.
const LOG_OFFSETS_MAX: u64 = 4096;

/// How long the log is searched.
const LOG_TIME_MAX: Duration = Duration::from_secs(2);

/// Which key.
#[derive(Clone, Debug)]
pub(crate) struct Subject {
    pub(crate) lineage: Lineage,
    pub(crate) feed: Arc<str>,
    pub(crate) bucket: Bucket,
    pub(crate) key: Key,
}

/// What a place knows.
#[derive(Debug)]
struct Held {
    row: Option<Row>,
    since: Version,
    version: Version,
    /// The transaction at `since`, if that is the last change.
    change: Option<(Gtid, i64)>,
    source_time: i64,
    place: String,
    /// Binlog position at or before which that transaction ends.
    position: String,
}

fn stage(name: &str, held: Result<Held, String>) -> v1::Stage {
    let held = match held {
        Ok(held) => held,
        Err(place) => {
            return v1::Stage {
                name: name.to_owned(),
                place,
                ..v1::Stage::default()
            };
        }
    };
    v1::Stage {
        name: name.to_owned(),
        known: true,
        row: held.row.map(|row| row.bytes().clone()),
        version: held.version.get(),
        since: held.since.get(),
        gtid: convert::gtid_text(held.change.as_ref().map(|(gtid, _)| gtid)),
        commit_time: held.change.map_or(0, |(_, time)| time),
        place: held.place,
        source_time: held.source_time,
        executed: String::new(),
        position: held.position,
    }
}

/// The last entry of the bucket's partition that touches the key, as far back as is searched.
pub(crate) async fn in_log(log: &dyn EventLog, subject: &Subject) -> v1::Stage {
    let mut found = search(log, subject).await;
    if let Ok(Ok(held)) = &mut found
        && held.change.is_some()
    {
        // The row is told also where the cuts cannot be read.
        let cut = first_cut(log, subject, held.since).await.ok().flatten();
        held.position = cut.map(|cut| cut.position).unwrap_or_default();
    }
    stage("log", found.unwrap_or_else(|error| Err(error.to_string())))
}

/// The first cut at or after a version, as far back as is searched: it stands in the same flush as the version.
async fn first_cut(
    log: &dyn EventLog,
    subject: &Subject,
    version: Version,
) -> Result<Option<CutRecord>, LogError> {
    let mut found = None;
    read_back(log, &subject.feed, Partition::Cuts, |entry| {
        if let Payload::Cut(cut) = entry.payload {
            let is_first = cut.prev_cut < version && version <= cut.version;
            let is_ours = cut.lineage == subject.lineage && cut.epoch() == version.epoch();
            if is_first && is_ours && found.is_none() {
                found = Some(cut);
            }
        }
    })
    .await?;
    Ok(found)
}

async fn search(log: &dyn EventLog, subject: &Subject) -> Result<Result<Held, String>, LogError> {
    let partition = Partition::Bucket(subject.bucket);
    let mut search = Search {
        subject,
        parts: Parts::default(),
        found: None,
    };
    let read = read_back(log, &subject.feed, partition, |entry| search.take(entry)).await?;
    let Some((first, next)) = read else {
        return Ok(Err(format!("there is no {partition}")));
    };
    Ok(search.found.ok_or_else(|| {
        format!("{partition}: no entry from offset {first} to {next} touches the key")
    }))
}

/// Reads the end of a partition: from which offset, and to which.
async fn read_back(
    log: &dyn EventLog,
    feed: &str,
    partition: Partition,
    mut take: impl FnMut(Entry) + Send,
) -> Result<Option<(u64, u64)>, LogError> {
    let ends = log.ends(feed).await?;
    let Some((_, ends)) = ends.iter().find(|(of, _)| *of == partition) else {
        return Ok(None);
    };
    let high = ends.high.0;
    let first = ends.low.0.max(high.saturating_sub(LOG_OFFSETS_MAX));
    let deadline = Instant::now() + LOG_TIME_MAX;
    let mut next = first;
    if first < high {
        let mut follower = log.follow(feed, &[(partition, Offset(first))]).await?;
        while next < high {
            let Ok(entries) = timeout_at(deadline, follower.next()).await else {
                break;
            };
            for entry in entries? {
                next = entry.offset.0 + 1;
                take(entry);
            }
        }
    }
    Ok(Some((first, next)))
}

struct Search<'a> {
    subject: &'a Subject,
    parts: Parts,
    found: Option<Held>,
}

impl Search<'_> {
    fn take(&mut self, entry: Entry) {
        let (partition, offset) = (entry.partition, entry.offset.0);
        let Payload::Record(record) = entry.payload else {
            return;
        };
        if record.lineage != self.subject.lineage {
            return;
        }
        if let Some(record) = self.parts.push(record, offset) {
            self.record(&record, format!("{partition}, offset {offset}"));
        }
    }

    fn record(&mut self, record: &Record, place: String) {
        let mut hold = |row, since: Version, change| {
            // What is produced again says nothing new.
            if self.found.as_ref().is_none_or(|found| found.since < since) {
                self.found = Some(Held {
                    row,
                    since,
                    version: since,
                    change,
                    source_time: 0,
                    place: place.clone(),
                    position: String::new(),
                });
            }
        };
        let key = &self.subject.key;
        match &record.body {
            Body::Commits { commits, .. } => {
                for commit in commits {
                    for event in commit.events.iter().filter(|event| event.key() == key) {
                        let change = Some((commit.gtid, commit.commit_time));
                        hold(event.row().cloned(), commit.version, change);
                    }
                }
            }
            Body::Replace { d, rows } => {
                let row = rows.iter().find(|(of, _)| of == key);
                hold(row.map(|(_, row)| row.clone()), *d, None);
            }
            Body::Carry { .. } => {}
        }
        if let Some(found) = &mut self.found
            && record.through.epoch() >= found.since.epoch()
        {
            found.version = found.version.max(record.through);
            found.source_time = found.source_time.max(record.source_time);
        }
    }
}

/// What base and deltas of the bucket's head hold.
pub(crate) async fn in_store(store: &dyn ShardStore, subject: &Subject) -> v1::Stage {
    let held = load(store, subject).await;
    stage("store", held.unwrap_or_else(|error| Err(said(&error))))
}

async fn load(
    store: &dyn ShardStore,
    subject: &Subject,
) -> Result<Result<Held, String>, LoadError> {
    let cell = CellKey::Head(Arc::clone(&subject.feed), subject.bucket);
    // Between two reads the head may move on and its segments go.
    let mut attempts = 3;
    let (head, loaded) = loop {
        let Some(cell) = store.cell(&cell).await? else {
            return Ok(Err("the bucket has no head yet".to_owned()));
        };
        let head = Head::from_bytes(&subject.feed, &cell.value)?;
        match head::load_bucket(store, &subject.feed, &head).await {
            Ok(loaded) => break (head, loaded),
            Err(LoadError::Store(StoreError::Missing { .. })) if attempts > 1 => attempts -= 1,
            Err(error) => return Err(error),
        }
    };
    let base = sum_of(loaded.base.iter().map(|(key, row)| Digest::of(key, row)));
    let stated = Sum {
        digest: head.state.digest,
        count: head.state.count,
    };
    let sums = replay(base, &loaded.base, &loaded.commits);
    if sums.is_none_or(|sums| sums.last().copied().unwrap_or(base) != stated) {
        return Ok(Err(
            "base and deltas do not give the head's digest; the reader will be asked for the bucket again"
                .to_owned(),
        ));
    }
    let key = &subject.key;
    let mut rows = loaded.base;
    let (mut since, mut change) = (loaded.base_d, None);
    for commit in &loaded.commits {
        if commit.events.iter().any(|event| event.key() == key) {
            (since, change) = (commit.version, Some((commit.gtid, commit.commit_time)));
        }
        apply(&mut rows, &commit.events);
    }
    let of_change = |delta: &&head::SegmentRef| delta.prev < since && since <= delta.d;
    let delta = head.deltas.iter().find(of_change);
    let place = match delta.filter(|_| change.is_some()) {
        Some(delta) => format!(
            "delta {:032x} from {} to {}, on base {:032x} at {}",
            delta.id.0, delta.prev, delta.d, head.base.id.0, head.base.d
        ),
        None => format!(
            "base {:032x} at {}, none of {} deltas to {} touches the key",
            head.base.id.0,
            head.base.d,
            head.deltas.len(),
            head.state.d
        ),
    };
    // The row is told also where the history cannot be read.
    let cut = match change {
        Some(_) => past::full_cut_from(store, &subject.feed, since).await.ok(),
        None => None,
    };
    Ok(Ok(Held {
        position: cut.flatten().map(|cut| cut.position).unwrap_or_default(),
        row: rows.get(key).cloned(),
        since,
        version: head.state.through,
        change,
        source_time: head.source_time,
        place,
    }))
}

fn said(error: &LoadError) -> String {
    match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

/// What this server shows.
pub(crate) fn shown(snapshot: Option<&Snapshot>, subject: &Subject) -> v1::Stage {
    let Some(snapshot) = snapshot else {
        return stage("server", Err("nothing is shown yet".to_owned()));
    };
    let seal = &snapshot.seal;
    let held = Held {
        row: snapshot.get(&subject.key).cloned(),
        since: seal.version,
        version: seal.version,
        change: None,
        source_time: seal.source_time,
        position: String::new(),
        place: format!("snapshot of {} rows", seal.count),
    };
    v1::Stage {
        executed: seal.executed.to_string(),
        ..stage("server", Ok(held))
    }
}
