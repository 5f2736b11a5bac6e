//! Every error text of the reader and its source, every reason for an epoch, with what it means.

use std::sync::Arc;

use onair_log::LogError;
use onair_model::{Epoch, GtidSet, Version};
use onair_store::StoreError;
use onair_xtask::error_texts;
use onair_xtask::texts::Texts;

use crate::assemble::AssembleError;
use crate::barrier::Barrier;
use crate::bind::{BindError, BindProblem};
use crate::reader::ReaderError;
use crate::resume::Cause;
use crate::scan::ScanError;
use crate::sequence::EpochFull;
use crate::source::SourceError;

const DB: &str = "db.example:3306";
const ROOM: &str = "live.room";
const UUID: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562";

/// What OnAir does by itself.
const SCANS: &str =
    "Nothing: the next epoch is opened with a scan; clients keep what they have until it is done.";
const REWINDS: &str = "Nothing at once: the next epoch is opened with a scan and what is shown goes back, which clients \
                       are told (`rewound`). Find out why the server lost transactions that it had committed.";

fn set(numbers: &str) -> GtidSet {
    format!("{UUID}:{numbers}").parse().expect("a GTID set")
}

fn version() -> Version {
    "3-1842".parse().expect("a version")
}

fn epoch() -> Epoch {
    Epoch::new(3).expect("an epoch")
}

fn no_key() -> BindProblem {
    BindProblem::NoPrimaryKey { table: ROOM.into() }
}

#[test]
fn errors() {
    let mut texts = Texts::new();
    source(&mut texts);
    #[cfg(feature = "mysql")]
    crate::mysql::texts::add(&mut texts);
    feeds(&mut texts);
    reader(&mut texts);
    causes(&mut texts);
    barriers(&mut texts);
    texts.check(env!("CARGO_MANIFEST_DIR"));
}

fn source(texts: &mut Texts) {
    error_texts!(texts, SourceError:
        Unreachable = SourceError::Unreachable { address: DB.into(), reason: "Connection refused (os error 111)".into() } =>
            "No connection, or it broke.",
            "Check host, port and network. A running reader tries again, at most every 5 s; clients keep what they have \
             and its age grows.";
        Silent = SourceError::Silent { address: DB.into(), seconds: 6 } =>
            "The connection is half open: a firewall or a router dropped it without a word, or the server hangs.",
            "Nothing: the reader connects again. If it comes often, look at what stands between the two.";
        Denied = SourceError::Denied {
            address: DB.into(),
            reason: "error 1227: Access denied; you need (at least one of) the REPLICATION SLAVE privilege(s)".into(),
            remedy: "GRANT REPLICATION SLAVE ON *.* TO the account, and GRANT SELECT on each captured table".into(),
        } => "Login, TLS or a grant.", "As the text says; `onair doctor` checks it.";
        Purged = SourceError::Purged {
            address: DB.into(),
            from: format!("{UUID}:1-57"),
            reason: "error 1236: the source purged required binary logs".into(),
        } => "The reader was away for longer than the server keeps its binlog.",
            "Nothing: the table is scanned anew. Keep the binlog for longer than OnAir may be away \
             (binlog_expire_logs_seconds).";
        SameServerId = SourceError::SameServerId {
            address: DB.into(),
            server_id: 77,
            reason: "10.0.0.7 reads with it".into(),
        } => "Two clients that read the binlog under one number end each other's streams, so this one stopped.",
            "Give each its own: server_id under [source].";
        NoTable = SourceError::NoTable { table: ROOM.into() } =>
            "The table is not there, or the account may not see it.",
            "At start: create it, or grant. While running (between DROP and CREATE): the reader waits for it.";
        Refused = SourceError::Refused {
            what: "view live.on_air".into(),
            reason: "it is a view: changes are in the binlog under the tables that it reads".into(),
            remedy: "capture the table behind it".into(),
        } => "Server or table cannot be captured as it is.", "As the text says.";
        Damaged = SourceError::Damaged {
            at: format!("{DB}, binlog stream"),
            reason: "checksum 1234abcd, computed 1234abce".into(),
        } => "Bytes were damaged on the way or on the server's disk; nothing of them was used.",
            "Nothing at once: they are read again. If it stays: `mysqlbinlog --verify-binlog-checksum` on the server.";
    );
}

fn feeds(texts: &mut Texts) {
    let live_when = "live_status = @x".to_owned();
    let refused = onair_model::predicate::Predicate::parse(&live_when, &[])
        .expect_err("a variable is refused");
    error_texts!(texts, BindProblem:
        NoPrimaryKey = no_key() => "A feed is a set of keys.", "Add a primary key.";
        KeyType = BindProblem::KeyType {
            table: ROOM.into(),
            column: "score".into(),
            ty: "double",
            reason: "whose values are equal only by accident",
        } => "A key's bytes must be the same wherever they come from.", "As the text says.";
        UnknownColumn = BindProblem::UnknownColumn {
            table: ROOM.into(),
            column: "titel".into(),
            present: "id, title, live_status".into(),
        } => "A name under `columns` that the table does not have.", "As the text says.";
        DuplicateColumn = BindProblem::DuplicateColumn { column: "Title".into() } =>
            "A name stands twice under `columns`.", "As the text says.";
        NoColumns = BindProblem::NoColumns { table: ROOM.into(), present: "id, title, live_status".into() } =>
            "A feed without columns has keys only.", "As the text says.";
        Charset = BindProblem::Charset { table: ROOM.into(), column: "title".into(), charset: "gb18030".into() } =>
            "Clients get text as UTF-8, exactly as SELECT gives it, which this character set does not allow.",
            "As the text says.";
        Unreadable = BindProblem::Unreadable {
            table: ROOM.into(),
            column: "extra".into(),
            declared: "inet6".into(),
        } => "OnAir does not know this type (docs/types.md has those that it does).", "As the text says.";
        LiveWhen = BindProblem::LiveWhen(refused) =>
            "The predicate was refused; docs/live-when.md says what may stand there, each refusal what to write instead.",
            "As the text says.";
        NoNumberLeft = BindProblem::NoNumberLeft { column: "title".into(), count: 18_999 } =>
            "Field numbers are never reused, and all are given away.", "As the text says.";
    );
}

fn reader(texts: &mut Texts) {
    error_texts!(texts, ReaderError:
        Source = ReaderError::Source(SourceError::NoTable { table: ROOM.into() }) =>
            "The source refuses for good.", "As the source's text says.";
        Assemble = ReaderError::Assemble(AssembleError::Refused {
            what: "the source writes transactions without a GTID".into(),
            remedy: "set gtid_mode = ON on the source, step by step as MySQL's manual says",
        }) => "The server was changed so that it cannot be followed.", "As the text says, then start again.";
        Bind = ReaderError::Bind(BindError { feed: "room".into(), problems: vec![no_key()] }) =>
            "The table was changed so that the feed does not fit it, or never did.",
            "As the text says, then start again. `onair doctor` shows all of it.";
        Log = ReaderError::Log(LogError::Mismatch {
            feed: "room".into(),
            reason: "it has 16 buckets, 32 were asked for".into(),
            remedy: "restart the process to change the number of buckets".into(),
        }) => "The log is not the one that it should be.", "As the log's text says.";
        Store = ReaderError::Store(StoreError::InUse { place: "/var/lib/onair/onair.redb".into() }) =>
            "The store's content cannot be used.", "As the store's text says.";
        EpochsFull = ReaderError::EpochsFull => "A million epochs were opened with this data directory.",
            "Stop, and start with --reset: clients get one whole snapshot.";
    );
    error_texts!(texts, AssembleError:
        Damaged = AssembleError::Damaged {
            place: format!("after transaction {UUID}:57"),
            event: "XID (16)".into(),
            reason: "it belongs to no transaction".into(),
        } => "An event does not follow the format, or stands where it cannot.",
            "Nothing at once: it is read again. If it stays, report it with that piece of the binlog.";
        Refused = AssembleError::Refused {
            what: "the source sends its binlog encrypted".into(),
            remedy: "set encrypt_binlog = OFF on the source",
        } => "The server was changed so that it cannot be followed.", "As the text says, then start again.";
    );
    error_texts!(texts, ScanError:
        Source = ScanError::Source(SourceError::Unreachable { address: DB.into(), reason: "no answer within 30 s".into() }) =>
            "The server did not finish the scan.", "Nothing: the reader begins again.";
        Misfit = ScanError::Misfit { table: ROOM.into(), column: Arc::from("area_id") } =>
            "The table was altered while it was scanned.", SCANS;
    );
}

fn causes(texts: &mut Texts) {
    let gtid = format!("{UUID}:57").parse().expect("a GTID");
    error_texts!(texts, Cause:
        FirstStart = Cause::FirstStart => "The store is empty.", "Nothing: the table is scanned.";
        LostShown = Cause::LostShown { missing: set("58-60"), version: version() } =>
            "The server was restored, failed over with a loss, or lost the end of its binlog in a crash.", REWINDS;
        LostRead = Cause::LostRead { missing: set("58-60") } =>
            "The same, found by the checkpoint.", REWINDS;
        LostTail = Cause::LostTail => "The same, found while the binlog was read again.", REWINDS;
        Moved = Cause::Moved { gtid } => "The server's binlog has another order than it had: it was restored or rebuilt.", REWINDS;
        ReusedGtid = Cause::ReusedGtid { gtid } =>
            "The server gave a GTID a second time, after RESET, a restore or a crash with sync_binlog other than 1.", REWINDS;
        OtherContent = Cause::OtherContent { version: version() } =>
            "Read again, the binlog gives another set than was shown at that version: its history is another one.", REWINDS;
        NoCheckpoint = Cause::NoCheckpoint { epoch: epoch() } =>
            "The process ended while it opened that epoch, before its first checkpoint.", SCANS;
        Forgotten = Cause::Forgotten => "`onair re-derive` was run.", SCANS;
        PartialCheckpoint = Cause::PartialCheckpoint => "The checkpoint in the store is damaged.", SCANS;
        OtherLog = Cause::OtherLog { epoch: epoch() } => "The log's last cut is of an older epoch.", SCANS;
        OtherPlan = Cause::OtherPlan =>
            "A feed was added, removed or changed (table, columns, live_when, buckets), the table's definition is \
             another, or this release reads rows otherwise.", SCANS;
        OtherServer = Cause::OtherServer { now: UUID.into(), before: "5b7a4f4e-0000-11e1-9e33-c80aa9429562".into() } =>
            "A failover, or another address in the configuration.", SCANS;
        Purged = Cause::Purged { gone: set("58-60") } => "OnAir was away for longer than the server keeps its binlog.", SCANS;
        PurgedAtSource = Cause::PurgedAtSource(SourceError::Purged {
            address: DB.into(),
            from: "0-1-57".into(),
            reason: "error 1236: Could not find GTID state requested by slave in any binlog files".into(),
        }.to_string()) => "The same, found by the server.", SCANS;
        Barrier = Cause::barrier(Barrier::Savepoint, &set("1-57"), None) =>
            "A transaction whose rows do not tell what the table is now: one of the reasons below.", SCANS;
        AlteredInScan = Cause::AlteredInScan(ScanError::Misfit {
            table: ROOM.into(),
            column: "area_id".into(),
        }.to_string()) => "The table was altered while it was scanned.", SCANS;
        XaStays = Cause::XaStays =>
            "Somebody prepared an XA transaction and neither committed nor rolled it back; until then OnAir cannot move \
             its checkpoint.",
            "Find it with XA RECOVER and end it. OnAir goes on with a new epoch.";
        WithLoss = Cause::XaStays.with_loss() =>
            "What came first ended the epoch; before the next was open the server was restored, or failed over with a loss.", REWINDS;
        SecondFork = Cause::SecondFork =>
            "Records of one bucket contradicted each other twice in one epoch: two readers, a damaged log, or a fault of \
             OnAir.",
            "Make sure that one reader writes; report it if so. OnAir goes on with a new epoch.";
        EpochFull = Cause::EpochFull(EpochFull(epoch())) => "8.8 million million transactions were read in one epoch.", SCANS;
    );
}

fn barriers(texts: &mut Texts) {
    let column = |what: &str| Barrier::Column {
        table: ROOM.into(),
        column: "live_status".into(),
        what: what.to_owned(),
    };
    error_texts!(texts, Barrier:
        Statement = Barrier::Statement {
            what: "TRUNCATE of live.room".into(),
            text: "TRUNCATE TABLE room".into(),
        } => "A statement changes the captured table without row events: TRUNCATE, DROP, RENAME, partitions, a \
              statement-format change, or one that OnAir does not understand and that may touch it.", SCANS;
        UnknownEvent = Barrier::UnknownEvent("200".into()) => "The server is newer than this release.", SCANS;
        Incident = Barrier::Incident { number: 1, message: "the server was out of disk".into() } =>
            "The server itself says that its binlog has a hole.", SCANS;
        TooLarge = Barrier::TooLarge { limit: 268_435_456 } => "One transaction changed more of the feeds than fits.",
            "Nothing: the table is scanned anew. Allow more (reader.transaction_bytes_max) if it comes often.";
        EventTooLarge = Barrier::EventTooLarge { length: 300_000_000, limit: 268_435_456 } =>
            "One event is larger than what is unpacked in memory.",
            "Nothing: the table is scanned anew. Allow more (reader.transaction_bytes_max) if it comes often.";
        Payload = Barrier::Payload("an event in it has 300000000 bytes, more than 268435456".into()) =>
            "A compressed transaction cannot be unpacked within the limits, or in no way that is known.", SCANS;
        Rollback = Barrier::Rollback => "A table without transactions was changed in one that rolled back.",
            "Nothing at once. Make captured tables InnoDB.";
        Savepoint = Barrier::Savepoint => "The same, back to a savepoint.", "Nothing at once. Make captured tables InnoDB.";
        XaUnseen = Barrier::XaUnseen { xid: "X'61',X'',1".into() } =>
            "Rows of an XA transaction were written before OnAir began to read.", SCANS;
        XaTooMany = Barrier::XaTooMany { limit: 1024 } => "Prepared XA transactions are kept in memory until they end.",
            "End those that XA RECOVER shows, or allow more (reader.xa_open_max).";
        RowImage = Barrier::RowImage { table: ROOM.into(), column: "title".into() } =>
            "A session overrode the server's binlog_row_image; what the row was cannot be known.",
            "Nothing at once: the table is scanned anew, each time. Find the session.";
        UnknownType = Barrier::UnknownType { table: ROOM.into(), place: 4, code: 99 } =>
            "The server is newer than this release.", SCANS;
        NoNames = Barrier::NoNames { table: ROOM.into() } => "Somebody changed binlog_row_metadata.",
            "Set it to FULL again. Meanwhile every change of the table's definition opens an epoch.";
        PrimaryKey = Barrier::PrimaryKey { table: ROOM.into() } => "An ALTER changed the primary key.", SCANS;
        ColumnCount = Barrier::ColumnCount { table: ROOM.into(), was: 5, is: 6 } =>
            "An ALTER added or dropped columns, and without binlog_row_metadata=FULL it is not told which.", SCANS;
        Column = column("is gone") => "An ALTER dropped or renamed a column that is read. If the configuration names \
            it, the reader stops until that is corrected.", SCANS;
        Column = column("is UNSIGNED now") => "An ALTER changed a column that is read.", SCANS;
        Column = column("has other labels now") => "The same for ENUM and SET.", SCANS;
    );
}
