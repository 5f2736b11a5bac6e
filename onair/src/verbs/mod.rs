//! One file a verb.

pub(crate) mod compare;
pub(crate) mod config;
pub(crate) mod diff;
pub(crate) mod doctor;
pub(crate) mod dump;
pub(crate) mod explain;
pub(crate) mod get;
pub(crate) mod history;
pub(crate) mod past;
pub(crate) mod re_derive;
pub(crate) mod reconcile;
mod resume;
pub(crate) mod role;
pub(crate) mod runs;
pub(crate) mod schema;
pub(crate) mod status;
pub(crate) mod store;
pub(crate) mod up;
pub(crate) mod watch;

use onair_sdk::raw::{self, Value};
use onair_sdk::{Key, Raw, RowError, Schema, Snapshot};

use crate::exit::{Exit, Failure};
use crate::json::{Column, HeaderForm, StepCause, StepEvent};
use crate::output::{Tone, one_line};

/// A value for people: as the JSON form, text without quotes.
fn shown(field: &onair_sdk::Field, value: &Value<'_>) -> String {
    match value {
        Value::Null => "NULL".to_owned(),
        Value::Text(text) => one_line(text),
        value => {
            let form =
                serde_json::to_string(&Column(field.kind, value.clone())).unwrap_or_default();
            form.trim_matches('"').to_owned()
        }
    }
}

/// The cells of a row: its key's columns, then the exported ones.
fn cells(schema: &Schema, key: &Key, row: &Raw) -> Result<Vec<String>, RowError> {
    let key =
        raw::key_values(schema, key).map_err(|error| RowError::new("(key)", error.to_string()))?;
    let mut cells: Vec<String> = key
        .iter()
        .map(|(field, value)| shown(field, value))
        .collect();
    cells.extend(
        row.values()?
            .iter()
            .map(|(field, value)| shown(field, value)),
    );
    Ok(cells)
}

/// The heads of [`cells`].
fn heads(schema: &Schema) -> Vec<&str> {
    schema
        .key
        .iter()
        .chain(&schema.columns)
        .map(|field| &*field.column)
        .collect()
}

/// `uid=7 title="..."`.
fn pairs(row: &Raw) -> Result<String, RowError> {
    let values = row.values()?;
    let pairs: Vec<String> = values
        .iter()
        .map(|(field, value)| match value {
            Value::Text(text) => format!("{}={:?}", field.column, text),
            value => format!("{}={}", field.column, shown(field, value)),
        })
        .collect();
    Ok(pairs.join(" "))
}

fn damaged(error: &RowError) -> Failure {
    Failure::new(
        Exit::Failed,
        format!("a row cannot be read: {error}; are server and `onair` of the same release?"),
    )
}

impl StepEvent {
    /// The word for it, as wide as all others.
    const fn shown(self) -> (Tone, &'static str) {
        match self {
            StepEvent::On => (Tone::Good, "on    "),
            StepEvent::Change => (Tone::Notice, "change"),
            StepEvent::Off => (Tone::Bad, "off   "),
        }
    }
}

impl StepCause {
    const fn shown(self) -> &'static str {
        match self {
            StepCause::Binlog => "binlog",
            StepCause::Replace => "(found so when the bucket was stated anew)",
            StepCause::Epoch => "(found so when the epoch began)",
            StepCause::Kept => "(so already where this begins)",
        }
    }
}

/// The first line of `dump --json`.
fn header<'a>(feed: &'a str, snapshot: &'a Snapshot<Raw>) -> HeaderForm<'a> {
    HeaderForm {
        feed,
        version: snapshot.version(),
        gtid: snapshot.gtid(),
        commit_time: snapshot.commit_time(),
        count: snapshot.len() as u64,
        digest: snapshot.digest(),
        proven: snapshot.proven().map(Into::into),
    }
}
