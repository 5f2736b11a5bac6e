//! The JSON forms: what programs read. Stable, and described in docs/json.md.
//!
//! In: versions, keys and rows as the SDK has them. Out: one line of JSON each. May go wrong: a row whose bytes are
//! damaged, which is an error and never a guess.

mod runs;

use std::collections::BTreeMap;
use std::fmt::Display;
use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use onair_sdk::raw::{self, Value};
use onair_sdk::{
    Digest, Field, FieldKind, Gtid, GtidSet, Key, Proven, Raw, Schema, Snapshot, Version,
};
use serde::ser::{Error as _, SerializeMap as _};
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

pub use self::runs::{CompareChange, CompareEdge, CompareForm, CompareSide, RunForm};

/// Microseconds since 1970 as `2026-11-22T10:00:00.123456Z`; nothing for 0, which stands for a time that is not known
/// (no transaction since the scan), and for one that cannot be written so.
pub fn time(micros: i64) -> Option<String> {
    let time = Timestamp::from_microsecond(micros)
        .ok()
        .filter(|_| micros != 0)?;
    Some(time.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string())
}

/// Writes one line and flushes it.
pub fn line(out: &mut dyn Write, value: &impl Serialize) -> io::Result<()> {
    write_line(out, value)?;
    out.flush()
}

/// Writes one line.
pub fn write_line(out: &mut dyn Write, value: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer(&mut *out, value)?;
    out.write_all(b"\n")
}

fn text<T: Display, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

fn optional_text<T: Display, S: Serializer>(
    value: &Option<T>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => serializer.collect_str(value),
        None => serializer.serialize_none(),
    }
}

fn micros<S: Serializer>(value: &i64, serializer: S) -> Result<S::Ok, S::Error> {
    time(*value).serialize(serializer)
}

/// A column's value.
#[derive(Debug)]
pub struct Column<'a>(pub FieldKind, pub Value<'a>);

impl Serialize for Column<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.1 {
            Value::Null => serializer.serialize_none(),
            Value::Int(n) => serializer.serialize_i64(*n),
            Value::UInt(n) => serializer.serialize_u64(*n),
            Value::Float(n) => serializer.serialize_f32(*n),
            Value::Double(n) => serializer.serialize_f64(*n),
            Value::Bytes(bytes) => serializer.serialize_str(&STANDARD.encode(bytes)),
            Value::Text(text) if self.0 == FieldKind::Json => match embedded(text) {
                Some(json) => json.serialize(serializer),
                None => serializer.serialize_str(text),
            },
            Value::Text(text) => serializer.serialize_str(text),
        }
    }
}

/// The text of a JSON column as it stands, numbers with all their digits, on one line.
fn embedded(text: &str) -> Option<Box<RawValue>> {
    // A line break in valid JSON stands between tokens: in a string it would be escaped.
    let one_line = text.replace(['\n', '\r'], " ");
    RawValue::from_string(one_line).ok()
}

/// Columns with their values as an object.
#[derive(Debug)]
pub struct Columns<'a>(pub Vec<(&'a Field, Value<'a>)>);

impl Serialize for Columns<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (field, value) in &self.0 {
            map.serialize_entry(&*field.column, &Column(field.kind, value.clone()))?;
        }
        map.end()
    }
}

/// A key by its columns.
#[derive(Debug)]
pub struct KeyColumns<'a>(pub &'a Schema, pub &'a Key);

impl Serialize for KeyColumns<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Columns(raw::key_values(self.0, self.1).map_err(S::Error::custom)?).serialize(serializer)
    }
}

/// A row by its columns.
#[derive(Debug)]
pub struct RowColumns<'a>(pub &'a Raw);

impl Serialize for RowColumns<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Columns(self.0.values().map_err(S::Error::custom)?).serialize(serializer)
    }
}

/// `{"key":..,"row":..}`; a row of `None` is null.
#[derive(Debug, Serialize)]
pub struct KeyRow<'a> {
    key: KeyColumns<'a>,
    row: Option<RowColumns<'a>>,
}

impl<'a> KeyRow<'a> {
    /// Of a key and its row, if it is live.
    pub fn new(schema: &'a Schema, key: &'a Key, row: Option<&'a Raw>) -> Self {
        KeyRow {
            key: KeyColumns(schema, key),
            row: row.map(RowColumns),
        }
    }
}

/// `{"key":..}`.
#[derive(Debug, Serialize)]
pub struct OnlyKey<'a> {
    key: KeyColumns<'a>,
}

/// A proof.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct ProvenForm {
    #[serde(serialize_with = "text")]
    version: Version,
    #[serde(serialize_with = "micros")]
    at: i64,
}

impl ProvenForm {
    /// The version that a scan agreed with.
    pub const fn version(&self) -> Version {
        self.version
    }
}

impl From<Proven> for ProvenForm {
    fn from(proven: Proven) -> Self {
        ProvenForm {
            version: proven.version,
            at: proven.at,
        }
    }
}

/// What a line of `watch` is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum StepKind {
    /// `on` is the whole content.
    Snapshot,
    /// What changed since `from`.
    Delta,
}

/// A step of `watch`.
#[derive(Debug, Serialize)]
pub struct StepForm<'a> {
    #[serde(rename = "type")]
    kind: StepKind,
    feed: &'a str,
    #[serde(serialize_with = "text")]
    version: Version,
    #[serde(serialize_with = "optional_text")]
    from: Option<Version>,
    reason: Option<&'a str>,
    #[serde(serialize_with = "optional_text")]
    gtid: Option<&'a Gtid>,
    #[serde(
        serialize_with = "optional_text",
        skip_serializing_if = "Option::is_none"
    )]
    gtid_set: Option<&'a GtidSet>,
    #[serde(serialize_with = "micros")]
    commit_time: i64,
    count: usize,
    #[serde(serialize_with = "text")]
    digest: Digest,
    #[serde(skip_serializing_if = "is_false")]
    rewound: bool,
    #[serde(skip_serializing_if = "is_false")]
    other_lineage: bool,
    on: Vec<KeyRow<'a>>,
    change: Vec<KeyRow<'a>>,
    off: Vec<OnlyKey<'a>>,
}

fn is_false(value: &bool) -> bool {
    !*value
}

/// What a step is made of.
#[derive(Debug)]
pub struct StepParts<'a> {
    /// The version before it, if there is one.
    pub from: Option<Version>,
    /// Why it came whole, if it did.
    pub reason: Option<&'a str>,
    /// The feed after it.
    pub after: &'a Snapshot<Raw>,
    /// The source lost transactions that `from` contained.
    pub rewound: bool,
    /// `from` is of another lineage.
    pub other_lineage: bool,
    /// Rows that came on air.
    pub on: Vec<(&'a Key, &'a Raw)>,
    /// Rows that changed.
    pub change: Vec<(&'a Key, &'a Raw)>,
    /// Keys that went off air.
    pub off: Vec<&'a Key>,
}

impl<'a> StepForm<'a> {
    /// Of its parts.
    pub fn new(parts: StepParts<'a>) -> Self {
        let schema = parts.after.schema();
        let row = |(key, row)| KeyRow::new(schema, key, Some(row));
        let new_epoch = parts
            .from
            .is_none_or(|from| from.epoch() != parts.after.version().epoch());
        StepForm {
            kind: if parts.from.is_none() {
                StepKind::Snapshot
            } else {
                StepKind::Delta
            },
            feed: &schema.feed,
            version: parts.after.version(),
            from: parts.from,
            reason: parts.reason,
            gtid: parts.after.gtid(),
            gtid_set: (new_epoch || parts.other_lineage).then(|| parts.after.executed()),
            commit_time: parts.after.commit_time(),
            count: parts.after.len(),
            digest: parts.after.digest(),
            rewound: parts.rewound,
            other_lineage: parts.other_lineage,
            on: parts.on.into_iter().map(row).collect(),
            change: parts.change.into_iter().map(row).collect(),
            off: parts
                .off
                .into_iter()
                .map(|key| OnlyKey {
                    key: KeyColumns(schema, key),
                })
                .collect(),
        }
    }
}

/// A line of `watch` between steps.
#[derive(Debug, Serialize)]
pub struct ProgressForm {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(serialize_with = "text")]
    version: Version,
    age_ms: u64,
    proven: Option<ProvenForm>,
}

impl ProgressForm {
    /// Of the version held.
    pub fn new(snapshot: &Snapshot<Raw>) -> Self {
        ProgressForm {
            kind: "progress",
            version: snapshot.version(),
            age_ms: snapshot.age().as_millis().try_into().unwrap_or(u64::MAX),
            proven: snapshot.proven().map(Into::into),
        }
    }
}

/// The first line of `dump` and `get`.
#[derive(Debug, Serialize)]
pub struct HeaderForm<'a> {
    /// The feed.
    pub feed: &'a str,
    /// The version.
    #[serde(serialize_with = "text")]
    pub version: Version,
    /// The last transaction contained.
    #[serde(serialize_with = "optional_text")]
    pub gtid: Option<&'a Gtid>,
    /// When it was committed.
    #[serde(serialize_with = "micros")]
    pub commit_time: i64,
    /// Rows of the feed.
    pub count: u64,
    /// Digest of the feed.
    #[serde(serialize_with = "text")]
    pub digest: Digest,
    /// The newest proof.
    pub proven: Option<ProvenForm>,
}

/// What happened to a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum StepEvent {
    /// It came on air.
    On,
    /// Its row changed.
    Change,
    /// It went off air.
    Off,
}

/// Why a key's row became what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum StepCause {
    /// A transaction in the binlog.
    Binlog,
    /// The bucket was stated anew after it had lacked data.
    Replace,
    /// Another epoch began with a scan that found it so.
    Epoch,
    /// It was so where what is kept, or was asked for, begins.
    Kept,
}

/// A line of `history`.
#[derive(Debug, Serialize)]
pub struct KeyStepForm<'a> {
    /// What happened.
    #[serde(rename = "type")]
    pub event: StepEvent,
    /// The version at which it was so.
    #[serde(serialize_with = "text")]
    pub version: Version,
    /// Why.
    pub cause: StepCause,
    /// The transaction, if it was one.
    #[serde(serialize_with = "optional_text")]
    pub gtid: Option<Gtid>,
    /// When it was committed.
    #[serde(serialize_with = "micros")]
    pub commit_time: i64,
    /// The row after it.
    pub row: Option<RowColumns<'a>>,
}

/// The first line of `diff`.
#[derive(Debug, Serialize)]
pub struct DiffHeader<'a> {
    /// The feed.
    pub feed: &'a str,
    /// The first version.
    #[serde(serialize_with = "text")]
    pub from: Version,
    /// When its last transaction was committed.
    #[serde(serialize_with = "micros")]
    pub from_time: i64,
    /// The second version.
    #[serde(serialize_with = "text")]
    pub to: Version,
    /// When its last transaction was committed.
    #[serde(serialize_with = "micros")]
    pub to_time: i64,
    /// Keys only in the second.
    pub on: usize,
    /// Keys with another row.
    pub change: usize,
    /// Keys only in the first.
    pub off: usize,
}

/// A line of `diff`.
#[derive(Debug, Serialize)]
pub struct DiffForm<'a> {
    #[serde(rename = "type")]
    event: StepEvent,
    key: KeyColumns<'a>,
    before: Option<RowColumns<'a>>,
    row: Option<RowColumns<'a>>,
}

impl<'a> DiffForm<'a> {
    /// Of a key and its rows before and after.
    pub fn new(
        event: StepEvent,
        schema: &'a Schema,
        key: &'a Key,
        (before, after): (Option<&'a Raw>, Option<&'a Raw>),
    ) -> Self {
        DiffForm {
            event,
            key: KeyColumns(schema, key),
            before: before.map(RowColumns),
            row: after.map(RowColumns),
        }
    }
}

/// What `explain` says.
#[derive(Debug, Serialize)]
pub struct ExplainForm<'a> {
    /// The feed.
    pub feed: &'a str,
    /// The key.
    pub key: KeyColumns<'a>,
    /// Its bucket.
    pub bucket: u32,
    /// Place by place.
    pub stages: Vec<StageForm<'a>>,
}

/// A place in `explain`.
#[derive(Debug, Serialize)]
pub struct StageForm<'a> {
    /// `mysql`, `log`, `store` or `server`.
    pub name: &'a str,
    /// The server that was asked.
    pub server: Option<&'a str>,
    /// `agrees`, `behind`, `ahead`, `disagrees` or `unknown`.
    pub verdict: &'static str,
    /// Whether the key is live there, if that is known.
    pub live: Option<bool>,
    /// Its row.
    pub row: Option<RowColumns<'a>>,
    /// It has been so since this version at the latest.
    #[serde(serialize_with = "optional_text")]
    pub since: Option<Version>,
    /// It was so at this version.
    #[serde(serialize_with = "optional_text")]
    pub version: Option<Version>,
    /// The transaction at `since`, where it is known to be the last change.
    #[serde(serialize_with = "optional_text")]
    pub gtid: Option<Gtid>,
    /// When that was committed.
    #[serde(serialize_with = "micros")]
    pub commit_time: i64,
    /// Binlog file and position at or before which it ends.
    pub position: Option<&'a str>,
    /// Milliseconds since the place was known to be complete.
    pub age_ms: Option<u64>,
    /// Where in it, or why it is not known.
    pub place: &'a str,
}

/// What `status` says.
#[derive(Debug, Serialize)]
pub struct StatusForm {
    /// Name, version and commit of the server.
    pub build: String,
    /// Its feeds.
    pub feeds: Vec<FeedForm>,
    /// The roles that it knows of.
    pub roles: Vec<RoleForm>,
}

/// A feed in `status`.
#[derive(Debug, Serialize)]
pub struct FeedForm {
    /// Its name.
    pub feed: String,
    /// Whether it serves.
    pub ready: bool,
    /// What it shows.
    #[serde(serialize_with = "optional_text")]
    pub version: Option<Version>,
    /// Its rows.
    pub count: Option<u64>,
    /// Its digest.
    #[serde(serialize_with = "optional_text")]
    pub digest: Option<Digest>,
    /// The last transaction contained.
    pub gtid: Option<String>,
    /// When it was committed.
    pub commit_time: Option<String>,
    /// Milliseconds since the content was last known to be complete.
    pub age_ms: Option<u64>,
    /// The newest proof.
    pub proven: Option<ProvenForm>,
    /// Subscribers.
    pub clients: u32,
    /// Why newer versions are held back.
    pub held: Option<String>,
    /// Its buckets.
    pub buckets: Vec<BucketForm>,
}

/// A bucket in `status`.
#[derive(Debug, Serialize)]
pub struct BucketForm {
    /// Its number.
    pub bucket: u32,
    /// Its last data version.
    #[serde(serialize_with = "text")]
    pub d: Version,
    /// What it is complete through.
    #[serde(serialize_with = "text")]
    pub through: Version,
    /// Its rows.
    pub count: u64,
    /// `gap` or `fork`.
    pub stopped: Option<String>,
}

/// A role in `status`.
#[derive(Debug, Serialize)]
pub struct RoleForm {
    /// `reader`, `merger` or `server`.
    pub role: String,
    /// In a word or two.
    pub state: String,
    /// In a sentence.
    pub detail: String,
    /// The process that says it.
    pub process: String,
    /// When it said so, by its own clock.
    pub at: Option<String>,
}

/// A line of `doctor`.
#[derive(Debug, Serialize)]
pub struct FindingForm<'a> {
    /// Its stable name.
    pub check: &'a str,
    /// `ok`, `warn` or `fail`.
    pub level: &'static str,
    /// The value seen.
    pub seen: &'a str,
    /// Why it matters.
    pub why: &'a str,
    /// What mends it; empty: nothing is to be done.
    pub fix: &'a str,
}

/// `up --json`, when every feed is complete.
#[derive(Debug, Serialize)]
pub struct ReadyForm {
    event: &'static str,
    grpc: String,
    /// Where probes are answered, if they are.
    admin: Option<String>,
    feeds: Vec<UpFeedForm>,
    data_dir: String,
}

impl ReadyForm {
    /// The line.
    pub fn new(
        (grpc, admin): (String, Option<String>),
        feeds: Vec<UpFeedForm>,
        data_dir: String,
    ) -> Self {
        ReadyForm {
            event: "ready",
            grpc,
            admin,
            feeds,
            data_dir,
        }
    }
}

/// `cdc`, `merger` and `server` with `--json`, when the role does its work.
#[derive(Debug, Serialize)]
pub struct RoleReadyForm<'a> {
    event: &'static str,
    role: &'static str,
    process: &'a str,
    /// Where it listens, by what for: `grpc`, `admin`.
    addresses: BTreeMap<&'static str, String>,
    after_ms: u64,
}

impl<'a> RoleReadyForm<'a> {
    /// The line.
    pub fn new(
        role: &'static str,
        process: &'a str,
        addresses: BTreeMap<&'static str, String>,
        after: Duration,
    ) -> Self {
        RoleReadyForm {
            event: "ready",
            role,
            process,
            addresses,
            after_ms: after.as_millis() as u64,
        }
    }
}

/// The same at the end.
#[derive(Debug, Serialize)]
pub struct RoleEndForm {
    event: &'static str,
    reason: &'static str,
    uptime_ms: u64,
}

impl RoleEndForm {
    /// The line.
    pub fn new(reason: &'static str, uptime: Duration) -> Self {
        RoleEndForm {
            event: "end",
            reason,
            uptime_ms: uptime.as_millis() as u64,
        }
    }
}

/// `re-derive --json`.
#[derive(Debug, Serialize)]
pub struct ReDeriveForm {
    /// The version of the checkpoint that was taken away, if there was one.
    #[serde(serialize_with = "optional_text")]
    pub checkpoint: Option<Version>,
}

/// A feed in the lines of `up --json`.
#[derive(Debug, Serialize)]
pub struct UpFeedForm {
    /// Its name.
    #[serde(serialize_with = "text")]
    pub name: Arc<str>,
    /// What it shows.
    #[serde(serialize_with = "optional_text")]
    pub version: Option<Version>,
    /// Its rows.
    pub count: u64,
}

/// `up --json`, at the end.
#[derive(Debug, Serialize)]
pub struct EndForm {
    event: &'static str,
    reason: &'static str,
    uptime_ms: u64,
    feeds: Vec<UpFeedForm>,
}

impl EndForm {
    /// The line.
    pub const fn new(reason: &'static str, uptime_ms: u64, feeds: Vec<UpFeedForm>) -> Self {
        EndForm {
            event: "end",
            reason,
            uptime_ms,
            feeds,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::*;

    #[test]
    fn values_have_their_forms() {
        let text = |text: &'static str| Value::Text(Cow::Borrowed(text));
        for (kind, value, expected) in [
            (FieldKind::Int, Value::Null, "null"),
            (FieldKind::Int, Value::Int(i64::MIN), "-9223372036854775808"),
            (
                FieldKind::UInt,
                Value::UInt(u64::MAX),
                "18446744073709551615",
            ),
            (FieldKind::Bit, Value::UInt(1 << 63), "9223372036854775808"),
            (FieldKind::Year, Value::UInt(2026), "2026"),
            (FieldKind::Float, Value::Float(0.1), "0.1"),
            (FieldKind::Float, Value::Float(1e30), "1e+30"),
            (
                FieldKind::Double,
                Value::Double(0.1 + 0.2),
                "0.30000000000000004",
            ),
            (FieldKind::Decimal, text("-12.3400"), r#""-12.3400""#),
            (
                FieldKind::Text,
                text("a\"\u{1}\u{1F600}"),
                "\"a\\\"\\u0001\u{1F600}\"",
            ),
            (FieldKind::Enum, text("on"), r#""on""#),
            (
                FieldKind::DateTime,
                text("2026-11-22 10:00:00.5"),
                r#""2026-11-22 10:00:00.5""#,
            ),
            (FieldKind::Date, text("0000-00-00"), r#""0000-00-00""#),
            (
                FieldKind::Binary,
                Value::Bytes(Cow::Borrowed(b"\x00\xff")),
                r#""AP8=""#,
            ),
            (
                FieldKind::Json,
                text(r#"{"a": 1.10, "b": [18446744073709551616]}"#),
                r#"{"a": 1.10, "b": [18446744073709551616]}"#,
            ),
            (FieldKind::Json, text("[1,\n2]"), "[1, 2]"),
            (FieldKind::Json, text("{damaged"), r#""{damaged""#),
        ] {
            let written = serde_json::to_string(&Column(kind, value.clone())).unwrap();
            assert_eq!(written, expected, "{kind:?} {value:?}");
        }
    }

    #[test]
    fn times_are_utc_with_microseconds() {
        assert_eq!(
            time(1_795_341_600_123_456).as_deref(),
            Some("2026-11-22T10:00:00.123456Z")
        );
        assert_eq!(time(1).as_deref(), Some("1970-01-01T00:00:00.000001Z"));
        assert_eq!(time(0), None);
        assert_eq!(time(i64::MAX), None);
    }
}
