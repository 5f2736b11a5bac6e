//! The forms of `reconcile`, `runs` and `compare`.

use onair_sdk::{Raw, Schema, Version};
use onair_store::runs::{Difference, Run, Sides};
use serde::Serialize;
use std::sync::Arc;

use super::{KeyColumns, ProvenForm, RowColumns, optional_text, time};

/// A run.
#[derive(Debug, Serialize)]
pub struct RunForm<'a> {
    run: &'a str,
    feed: &'a str,
    origin: &'static str,
    dry_run: bool,
    rate_max: Option<u64>,
    state: &'static str,
    wish: Option<&'static str>,
    asked: Option<String>,
    started: Option<String>,
    ended: Option<String>,
    reader: Option<&'a str>,
    begun: u32,
    rows_expected: u64,
    rows_scanned: u64,
    database_ms: u64,
    database_bytes: u64,
    #[serde(serialize_with = "optional_text")]
    compared: Option<Version>,
    buckets_before: u32,
    buckets_after: u32,
    drift: Option<DriftForm<'a>>,
    proven: Option<ProvenForm>,
    detail: &'a str,
}

#[derive(Debug, Serialize)]
struct DriftForm<'a> {
    missing: u64,
    extra: u64,
    stale: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    examples: Option<Vec<DifferenceForm<'a>>>,
}

#[derive(Debug, Serialize)]
struct DifferenceForm<'a> {
    kind: &'static str,
    key: KeyColumns<'a>,
    source: Option<RowForm>,
    held: Option<RowForm>,
}

/// A row that the form itself holds.
#[derive(Debug)]
struct RowForm(Raw);

impl Serialize for RowForm {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        RowColumns(&self.0).serialize(serializer)
    }
}

impl<'a> RunForm<'a> {
    /// Of a run; with a schema its examples are shown, without one left out.
    pub fn new(run: &'a Run, schema: Option<&'a Arc<Schema>>) -> Self {
        let micros = |at: Option<i64>| at.and_then(time);
        RunForm {
            run: &run.id,
            feed: &run.feed,
            origin: run.origin.name(),
            dry_run: run.dry_run,
            rate_max: run.rate_max.map(Into::into),
            state: run.state.name(),
            wish: run.wish.map(|wish| wish.name()),
            asked: time(run.asked),
            started: micros(run.started),
            ended: micros(run.ended),
            reader: Some(&*run.reader).filter(|reader| !reader.is_empty()),
            begun: run.begun,
            rows_expected: run.rows_expected,
            rows_scanned: run.rows_scanned,
            database_ms: u64::try_from(run.database.as_millis()).unwrap_or(u64::MAX),
            database_bytes: run.database_bytes,
            compared: run.compared,
            buckets_before: run.drift_before,
            buckets_after: run.drift_after,
            drift: run.drift.as_ref().map(|drift| DriftForm {
                missing: drift.missing,
                extra: drift.extra,
                stale: drift.stale,
                examples: schema.map(|schema| {
                    let form = |example| DifferenceForm::new(example, schema);
                    drift.examples.iter().map(form).collect()
                }),
            }),
            proven: run.proven.map(Into::into),
            detail: &run.detail,
        }
    }
}

impl<'a> DifferenceForm<'a> {
    fn new(difference: &'a Difference, schema: &'a Arc<Schema>) -> Self {
        let form =
            |row: &onair_model::Row| RowForm(Raw::new(row.bytes().clone(), Arc::clone(schema)));
        let (kind, source, held) = match &difference.sides {
            Sides::Missing { source } => ("missing", Some(form(source)), None),
            Sides::Extra { held } => ("extra", None, Some(form(held))),
            Sides::Stale { source, held } => ("stale", Some(form(source)), Some(form(held))),
        };
        DifferenceForm {
            kind,
            key: KeyColumns(schema, &difference.key),
            source,
            held,
        }
    }
}

/// A line of `compare`: a key came on air, or went off.
#[derive(Debug, Serialize)]
pub struct CompareChange<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    /// The key.
    key: KeyColumns<'a>,
    /// `open` or `close`.
    edge: &'static str,
    /// When polling saw it.
    polling: Option<String>,
    /// When the feed showed it.
    feed: Option<String>,
    /// By how many milliseconds the feed was first; below zero: polling was.
    lead_ms: Option<i64>,
    /// The side that alone saw it, `polling` or `feed`.
    only: Option<&'static str>,
}

/// What a line of `compare` is made of. Times are microseconds since 1970.
#[derive(Clone, Copy, Debug)]
pub struct CompareEdge {
    /// Whether it came on air.
    pub opened: bool,
    /// When polling saw it.
    pub polling: Option<i64>,
    /// When the feed showed it.
    pub feed: Option<i64>,
    /// The side that alone saw it.
    pub only: Option<&'static str>,
}

impl<'a> CompareChange<'a> {
    /// Of a key and what became of it.
    pub fn new(key: KeyColumns<'a>, edge: CompareEdge) -> Self {
        let lead = edge.polling.zip(edge.feed);
        CompareChange {
            kind: "change",
            key,
            edge: if edge.opened { "open" } else { "close" },
            polling: edge.polling.and_then(time),
            feed: edge.feed.and_then(time),
            lead_ms: lead.map(|(polling, feed)| (polling - feed) / 1000),
            only: edge.only,
        }
    }
}

/// The last line of `compare`.
#[derive(Debug, Serialize)]
pub struct CompareForm<'a> {
    /// `summary`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// The feed.
    pub feed: &'a str,
    /// Milliseconds compared.
    pub ms: u64,
    /// Milliseconds between two polls.
    pub poll_ms: u64,
    /// What polling saw.
    pub old: CompareSide,
    /// What the feed showed.
    pub new: CompareSide,
    /// Polls that were made.
    pub polls: u64,
    /// Rows that they read.
    pub polled_rows: u64,
    /// Milliseconds that the database worked for them.
    pub database_ms: u64,
    /// Bytes that the database sent for them.
    pub database_bytes: u64,
    /// Opens and closes that the feed showed first.
    pub sooner: u64,
    /// By how many milliseconds, median of them.
    pub sooner_ms_p50: Option<u64>,
    /// At most.
    pub sooner_ms_max: Option<u64>,
    /// Opens and closes that polling saw first.
    pub later: u64,
    /// By how many milliseconds, median of them.
    pub later_ms_p50: Option<u64>,
    /// At most.
    pub later_ms_max: Option<u64>,
}

/// One side of `compare`.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct CompareSide {
    /// Keys that came on air.
    pub opens: u64,
    /// Keys that went off air.
    pub closes: u64,
    /// Opens and closes that the other side did not see.
    pub only: u64,
}
