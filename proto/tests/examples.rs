//! One value of every message, every field set, no two alike.

use bytes::Bytes;
use onair_proto::v1::record::Body;
use onair_proto::v1::subscribe_response::Message as Response;
use onair_proto::v1::{
    BasePart, BucketCheckpoint, BucketStatus, Carry, Checkpoint, Chunk, Columns, Commit, Commits,
    Cut, CutsHead, DeltaPart, Difference, Drift, EpochState, Event, ExplainRequest,
    ExplainResponse, FeedCheckpoint, FeedSchema, FeedStatus, Field, Fingerprint, Frame, GetRequest,
    GetResponse, GoAway, Have, Head, HistoryEntry, KeyHistoryRequest, KeyStep, Lease,
    MoveRunRequest, NotYet, PastRequest, Progress, Proven, ReconcileRequest, Record, Replace,
    ReplaceRequest, RoleStatus, Run, RunsRequest, RunsResponse, Schema, SchemaRequest,
    SchemaResponse, Seal, SegmentRef, Stage, Start, StatusRequest, StatusResponse,
    SubscribeRequest, SubscribeResponse, Superseded, Touched, difference, event, history_entry,
    key_step, past_request, run, start,
};

/// Whether bytes decode to the value.
type ReadsBack = Box<dyn Fn(&[u8]) -> bool>;

/// A value and its bytes.
pub(crate) struct Example {
    /// The message, and the variant after a colon when it has several examples.
    pub(crate) name: &'static str,
    pub(crate) bytes: Vec<u8>,
    pub(crate) reads_back: ReadsBack,
}

impl Example {
    pub(crate) fn message(&self) -> &'static str {
        self.name.split(':').next().unwrap_or_default()
    }
}

fn example<M: prost::Message + Default + PartialEq + 'static>(
    name: &'static str,
    value: M,
) -> Example {
    Example {
        name,
        bytes: value.encode_to_vec(),
        reads_back: Box::new(move |bytes| M::decode(bytes).is_ok_and(|read| read == value)),
    }
}

pub(crate) fn examples() -> Vec<Example> {
    let mut all = log();
    all.extend(store());
    all.extend(live());
    all
}

fn log() -> Vec<Example> {
    vec![
        example("Record: commits", record(Body::Commits(commits()))),
        example("Record: replace", record(Body::Replace(replace()))),
        example("Record: carry", record(Body::Carry(carry()))),
        example("Commits", commits()),
        example("Commit", commit()),
        example("Event: on", event(event::Kind::On)),
        example("Event: change", event(event::Kind::Change)),
        example("Event: off", event(event::Kind::Off)),
        example("Replace", replace()),
        example("Carry", carry()),
        example("Cut", cut()),
        example("Touched", touched()),
        example("Proven", proven()),
    ]
}

fn store() -> Vec<Example> {
    let history = |entry| HistoryEntry { entry: Some(entry) };
    vec![
        example("Head", head()),
        example(
            "FeedSchema",
            FeedSchema {
                since: 13,
                schema: Some(schema()),
            },
        ),
        example("SegmentRef", segment(1)),
        example(
            "CutsHead",
            CutsHead {
                cut: Some(cut()),
                log: "memory/2".to_owned(),
                next_offset: 91,
            },
        ),
        example(
            "BasePart",
            BasePart {
                entries: bytes(11, 9),
            },
        ),
        example(
            "DeltaPart",
            DeltaPart {
                commits: vec![commit()],
            },
        ),
        example(
            "Lease",
            Lease {
                reader_id: 0x1122_3344_5566_7788,
                beat: 301,
                holder: "db-host:4711".to_owned(),
            },
        ),
        example(
            "EpochState",
            EpochState {
                epoch: 4,
                server: "3e11fa47-71ca-11e1-9e33-c80aa9429562".to_owned(),
                executed: "3e11fa47-71ca-11e1-9e33-c80aa9429562:1-57".to_owned(),
                plan: 0x0102_0304_0506_0708,
                reason: "TRUNCATE".to_owned(),
            },
        ),
        example("Checkpoint", checkpoint()),
        example("FeedCheckpoint", feed_checkpoint()),
        example("BucketCheckpoint", bucket_checkpoint()),
        example("Fingerprint", fingerprint()),
        example(
            "Columns",
            Columns {
                numbers: [("title".to_owned(), 3)].into(),
            },
        ),
        example(
            "ReplaceRequest",
            ReplaceRequest {
                reason: "gap at 1-40".to_owned(),
            },
        ),
        example(
            "HistoryEntry: cut",
            history(history_entry::Entry::Cut(cut())),
        ),
        example(
            "HistoryEntry: superseded",
            history(history_entry::Entry::Superseded(superseded())),
        ),
        example(
            "HistoryEntry: schema",
            history(history_entry::Entry::Schema(FeedSchema {
                since: 12,
                schema: Some(schema()),
            })),
        ),
        example("Superseded", superseded()),
    ]
}

fn live() -> Vec<Example> {
    let response = |message| SubscribeResponse {
        message: Some(message),
    };
    vec![
        example(
            "SubscribeRequest",
            SubscribeRequest {
                feed: "room".to_owned(),
                view: "music".to_owned(),
                have: Some(have()),
                client: "search-7".to_owned(),
            },
        ),
        example("Have", have()),
        example(
            "SubscribeResponse: start",
            response(Response::Start(start(start::Mode::Full))),
        ),
        example(
            "SubscribeResponse: chunk",
            response(Response::Chunk(chunk())),
        ),
        example(
            "SubscribeResponse: frame",
            response(Response::Frame(frame())),
        ),
        example("SubscribeResponse: seal", response(Response::Seal(seal()))),
        example(
            "SubscribeResponse: progress",
            response(Response::Progress(progress())),
        ),
        example(
            "SubscribeResponse: go_away",
            response(Response::GoAway(go_away())),
        ),
        example(
            "SubscribeResponse: not_yet",
            response(Response::NotYet(not_yet())),
        ),
        example("Start: full", start(start::Mode::Full)),
        example("Start: resume", start(start::Mode::Resume)),
        example("Chunk", chunk()),
        example("Frame", frame()),
        example("Seal", seal()),
        example("Progress", progress()),
        example("GoAway", go_away()),
        example("NotYet", not_yet()),
        example("Schema", schema()),
        example("Field", field(2, "title", "text")),
        example(
            "GetRequest",
            GetRequest {
                feed: "room".to_owned(),
                keys: vec![bytes(8, 0x21), bytes(8, 0x31)],
            },
        ),
        example(
            "GetResponse",
            GetResponse {
                seal: Some(seal()),
                entries: bytes(12, 0x41),
            },
        ),
        example(
            "SchemaRequest",
            SchemaRequest {
                feed: "room".to_owned(),
            },
        ),
        example(
            "SchemaResponse",
            SchemaResponse {
                schema: Some(schema()),
                descriptor: bytes(6, 0x51),
                proto: "message Room {}".to_owned(),
            },
        ),
        example("StatusRequest", StatusRequest {}),
        example(
            "StatusResponse",
            StatusResponse {
                feeds: vec![feed_status()],
                roles: vec![role_status()],
                build: "onair 0.1.0 (0123abc)".to_owned(),
            },
        ),
        example("FeedStatus", feed_status()),
        example("BucketStatus", bucket_status()),
        example("RoleStatus", role_status()),
        example(
            "PastRequest: version",
            past(past_request::Moment::Version(version(44))),
        ),
        example(
            "PastRequest: time",
            past(past_request::Moment::Time(1_760_000_000_000_004)),
        ),
        example(
            "KeyHistoryRequest",
            KeyHistoryRequest {
                feed: "room".to_owned(),
                key: bytes(8, 0x22),
                from: Some(-2),
                to: Some(1_760_000_000_000_005),
            },
        ),
        example(
            "KeyStep: binlog",
            key_step(event::Kind::On, key_step::Cause::Binlog),
        ),
        example(
            "KeyStep: replace",
            key_step(event::Kind::Change, key_step::Cause::Replace),
        ),
        example(
            "KeyStep: epoch",
            key_step(event::Kind::Off, key_step::Cause::Epoch),
        ),
        example(
            "KeyStep: kept",
            key_step(event::Kind::On, key_step::Cause::Kept),
        ),
        example(
            "ExplainRequest",
            ExplainRequest {
                feed: "room".to_owned(),
                key: bytes(8, 0x23),
            },
        ),
        example(
            "ExplainResponse",
            ExplainResponse {
                bucket: 9,
                stages: vec![stage()],
            },
        ),
        example("Stage", stage()),
        example(
            "ReconcileRequest",
            ReconcileRequest {
                feed: "room".to_owned(),
                dry_run: true,
                rate_max: 50_000,
            },
        ),
        example(
            "RunsRequest",
            RunsRequest {
                feed: "room".to_owned(),
                id: "1qk3f97c".to_owned(),
            },
        ),
        example(
            "RunsResponse",
            RunsResponse {
                runs: vec![run(run::State::Held)],
            },
        ),
        example("MoveRunRequest: pause", move_run(run::Wish::Pause)),
        example("MoveRunRequest: resume", move_run(run::Wish::Resume)),
        example("MoveRunRequest: cancel", move_run(run::Wish::Cancel)),
        example("MoveRunRequest: approve", move_run(run::Wish::Approve)),
        example("Run: asked", run(run::State::Asked)),
        example("Run: running", run(run::State::Running)),
        example("Run: paused", run(run::State::Paused)),
        example("Run: held", run(run::State::Held)),
        example("Run: done", run(run::State::Done)),
        example("Run: cancelled", run(run::State::Cancelled)),
        example("Run: failed", run(run::State::Failed)),
        example("Drift", drift()),
        example("Difference: missing", difference(difference::Kind::Missing)),
        example("Difference: extra", difference(difference::Kind::Extra)),
        example("Difference: stale", difference(difference::Kind::Stale)),
    ]
}

fn past(moment: past_request::Moment) -> PastRequest {
    PastRequest {
        feed: "room".to_owned(),
        moment: Some(moment),
    }
}

fn key_step(kind: event::Kind, cause: key_step::Cause) -> KeyStep {
    KeyStep {
        kind: kind.into(),
        version: version(45),
        commit_time: 1_760_000_000_000_006,
        gtid: "0-1-45".to_owned(),
        row: bytes(5, 0x24),
        cause: cause.into(),
        schema: Some(schema()),
    }
}

fn stage() -> Stage {
    Stage {
        name: "store".to_owned(),
        known: true,
        row: Some(bytes(5, 0x25)),
        version: version(47),
        since: version(46),
        gtid: "0-1-46".to_owned(),
        commit_time: 1_760_000_000_000_007,
        place: "base 01 at 3-46".to_owned(),
        source_time: 1_760_000_000_000_008,
        executed: "0-1-47".to_owned(),
        position: "binlog.000004:1234".to_owned(),
    }
}

fn move_run(wish: run::Wish) -> MoveRunRequest {
    MoveRunRequest {
        feed: "room".to_owned(),
        id: "1qk3f97c".to_owned(),
        wish: wish as i32,
    }
}

/// Of each state, with origins and wishes in turn.
fn run(state: run::State) -> Run {
    use run::{Origin, Wish};
    let turn = state as usize % 4;
    let origins = [
        Origin::Operator,
        Origin::Schedule,
        Origin::Epoch,
        Origin::Merger,
    ];
    let wishes = [Wish::Pause, Wish::Resume, Wish::Cancel, Wish::Approve];
    Run {
        id: "1qk3f97c".to_owned(),
        feed: "room".to_owned(),
        origin: origins[turn] as i32,
        dry_run: true,
        rate_max: 50_000,
        state: state as i32,
        wish: wishes[turn] as i32,
        asked: 1_760_000_000_000_001,
        started: 1_760_000_000_000_002,
        ended: 1_760_000_000_000_003,
        reader: "db-host:4711".to_owned(),
        begun: 2,
        rows_expected: 98_214,
        rows_scanned: 98_100,
        database_ms: 731,
        database_bytes: 5_120_000,
        compared: version(57),
        drift_before: 3,
        drift_after: 1,
        drift: Some(drift()),
        proven: Some(proven()),
        detail: "a scan leaves 8 of 98214 rows".to_owned(),
    }
}

fn drift() -> Drift {
    Drift {
        missing: 11,
        extra: 12,
        stale: 13,
        examples: vec![difference(difference::Kind::Stale)],
    }
}

fn difference(kind: difference::Kind) -> Difference {
    Difference {
        kind: kind as i32,
        key: bytes(8, 0x61),
        source_row: bytes(5, 0x71),
        held_row: bytes(6, 0x81),
    }
}

/// Consecutive bytes from `first`.
fn bytes(length: u8, first: u8) -> Bytes {
    (first..first + length).collect()
}

/// A version of epoch 3.
fn version(sequence: u64) -> u64 {
    (3 << 43) + sequence
}

fn record(body: Body) -> Record {
    Record {
        lineage: bytes(16, 0x10),
        epoch: 3,
        body: Some(body),
        through: version(58),
        digest: bytes(16, 0x20),
        count: 1842,
        source_time: 1_760_000_000_123_456,
        reader_id: 0xfedc_ba98_7654_3210,
        part: 1,
        parts: 2,
        bucket: 7,
    }
}

fn commits() -> Commits {
    Commits {
        prev: version(41),
        commits: vec![commit()],
    }
}

fn commit() -> Commit {
    Commit {
        version: version(57),
        commit_time: -1,
        gtid: "3e11fa47-71ca-11e1-9e33-c80aa9429562:57".to_owned(),
        events: vec![event(event::Kind::On), event(event::Kind::Off)],
    }
}

fn event(kind: event::Kind) -> Event {
    Event {
        kind: kind.into(),
        key: bytes(8, 0x61),
        row: bytes(5, 0x71),
    }
}

fn replace() -> Replace {
    Replace {
        d: version(40),
        entries: bytes(10, 0x81),
    }
}

fn carry() -> Carry {
    Carry { old: version(39) }
}

fn cut() -> Cut {
    Cut {
        lineage: bytes(16, 0x10),
        prev_cut: version(50),
        version: version(58),
        commit_time: 1_760_000_000_000_001,
        source_time: 1_760_000_000_000_002,
        gtid: "0-1-57".to_owned(),
        executed: "0-1-58".to_owned(),
        position: "binlog.000004:1234".to_owned(),
        digest: bytes(16, 0x91),
        count: 98_214,
        touched: vec![touched()],
        full: true,
        proven: Some(proven()),
        lost_tail: true,
    }
}

fn touched() -> Touched {
    Touched {
        bucket: 15,
        d: version(55),
    }
}

fn proven() -> Proven {
    Proven {
        version: version(30),
        at: 1_760_000_000_000_003,
    }
}

fn head() -> Head {
    Head {
        lineage: bytes(16, 0x10),
        epoch: 3,
        d: version(55),
        through: version(56),
        digest: bytes(16, 0x20),
        count: 77,
        claimed: version(57),
        gtid: "0-1-56".to_owned(),
        commit_time: 1_760_000_000_000_004,
        base: Some(segment(1)),
        deltas: vec![segment(2), segment(3)],
        log: "memory/1".to_owned(),
        next_offset: 90,
        old_base: Some(segment(4)),
        source_time: 1_760_000_000_000_005,
        old_deltas: vec![segment(5)],
    }
}

fn segment(nth: u8) -> SegmentRef {
    SegmentRef {
        id: bytes(16, 0xa0 + nth),
        parts: 2,
        bytes: 262_144,
        d: version(55 + u64::from(nth)),
        digest: bytes(16, 0xb0 + nth),
        count: 76,
        prev: version(20 + u64::from(nth)),
    }
}

fn checkpoint() -> Checkpoint {
    Checkpoint {
        epoch: 3,
        version: version(54),
        executed: "0-1-54".to_owned(),
        server: "mariadb 1".to_owned(),
        feeds: vec![feed_checkpoint()],
        fingerprints: vec![fingerprint()],
        plan: 0x8070_6050_4030_2010,
        commit_time: 1_760_000_000_000_006,
    }
}

fn feed_checkpoint() -> FeedCheckpoint {
    FeedCheckpoint {
        feed: "room".to_owned(),
        buckets: vec![bucket_checkpoint()],
        gtid: "0-1-53".to_owned(),
        proven: Some(proven()),
        lost_tail: true,
        log: "kafka:MkU3OEVBNTcwNTJENDM2Qk/pT1kDyV8RWqZ6LDc2sDbmA".to_owned(),
    }
}

fn bucket_checkpoint() -> BucketCheckpoint {
    BucketCheckpoint {
        d: version(52),
        digest: bytes(16, 0xc0),
        count: 75,
    }
}

fn fingerprint() -> Fingerprint {
    Fingerprint {
        gtid: "0-1-52".to_owned(),
        crc: 0xdead_beef,
    }
}

fn superseded() -> Superseded {
    Superseded {
        bucket: 14,
        bases: vec![segment(6)],
        deltas: vec![segment(7), segment(8)],
    }
}

fn have() -> Have {
    Have {
        lineage: bytes(16, 0x10),
        version: version(33),
        digest: bytes(16, 0xd0),
    }
}

fn start(mode: start::Mode) -> Start {
    Start {
        mode: mode.into(),
        reason: "too old".to_owned(),
        lineage: bytes(16, 0x10),
        schema: Some(schema()),
        count: 98_214,
        version: version(58),
    }
}

fn chunk() -> Chunk {
    Chunk {
        version: version(58),
        index: 5,
        entries: bytes(10, 0x81),
    }
}

fn frame() -> Frame {
    Frame {
        from: version(57),
        to: version(58),
        exact: true,
        entries: bytes(9, 0x89),
    }
}

fn seal() -> Seal {
    Seal {
        version: version(58),
        digest: bytes(16, 0x91),
        count: 98_214,
        commit_time: 1_760_000_000_000_001,
        gtid: "0-1-57".to_owned(),
        executed: "0-1-58".to_owned(),
        proven: Some(proven()),
        source_time: 1_760_000_000_000_002,
        rewound: true,
        lineage: bytes(16, 0x10),
    }
}

fn progress() -> Progress {
    Progress {
        version: version(58),
        source_time: 1_760_000_000_000_007,
        executed: "0-1-59".to_owned(),
        proven: Some(proven()),
        held: "gap in bucket 7".to_owned(),
        age_ms: 840,
    }
}

fn go_away() -> GoAway {
    GoAway {
        retry_after_ms: 500,
        reason: "shutting down".to_owned(),
    }
}

fn not_yet() -> NotYet {
    NotYet {
        version: version(12),
        retry_after_ms: 250,
    }
}

fn schema() -> Schema {
    Schema {
        feed: "room".to_owned(),
        table: "live.room".to_owned(),
        key: vec![field(1, "id", "uint")],
        columns: vec![field(2, "title", "text"), field(3, "live-time", "datetime")],
        buckets: 16,
    }
}

fn field(number: u32, column: &str, kind: &str) -> Field {
    Field {
        column: column.to_owned(),
        name: format!("{}_{number}", column.replace('-', "_")),
        number,
        kind: kind.to_owned(),
    }
}

fn feed_status() -> FeedStatus {
    FeedStatus {
        feed: "room".to_owned(),
        seal: Some(seal()),
        age_ms: 12,
        clients: 3,
        buckets: vec![bucket_status()],
        held: "fork in bucket 2".to_owned(),
        ready: true,
        frames: 4711,
        spacing_ms: 20,
    }
}

fn bucket_status() -> BucketStatus {
    BucketStatus {
        bucket: 2,
        d: version(51),
        through: version(53),
        count: 74,
        stopped: "gap".to_owned(),
    }
}

fn role_status() -> RoleStatus {
    RoleStatus {
        role: "reader".to_owned(),
        state: "opening epoch".to_owned(),
        detail: "scanning live.room".to_owned(),
        at: 1_760_000_000_000_008,
        process: "db-7".to_owned(),
    }
}
