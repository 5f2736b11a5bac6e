//! Error texts of the process and of the read verbs that tests of the command line cannot cause, with what they mean.

use std::sync::Arc;

use onair_cdc::reader::ReaderError;
use onair_cdc::source::SourceError;
use onair_log::LogError;
use onair_model::{Digest, Epoch, GtidSet, Lineage, Seal};
use onair_server::ServeError;
use onair_store::StoreError;
use onair_xtask::error_texts;
use onair_xtask::texts::Texts;
use tonic::{Code, Status};

use crate::backends::BackendError;
use crate::client::Server;
use crate::exit::Exit;
use crate::system::SystemError;
use crate::verbs::past::disagrees;
use crate::verbs::up::{exit, unusable};

/// An error with which `up` ends with this exit code.
fn ends(code: Exit, error: SystemError) -> SystemError {
    assert_eq!(exit(&error), code);
    error
}

#[tokio::test]
async fn errors() {
    let mut texts = Texts::new();
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(std::future::pending::<()>()).abort();
    let aborted = tasks.join_next().await.expect("one task");
    error_texts!(texts, SystemError:
        Reader = ends(Exit::Unreachable, SystemError::Reader(ReaderError::Source(SourceError::Silent {
            address: "db.example:3306".into(),
            seconds: 6,
        }))) =>
            "The reader ended. Exit code 4 when the source cannot be reached at the start, else 1; once it runs, the \
             reader tries again.", "As the reader's text says.";
        Server = SystemError::Server(ServeError::Socket(std::io::Error::other("Bad file descriptor (os error 9)"))) =>
            "The server ended. Exit code 1.", "As the server's text says.";
        Role = SystemError::Role(aborted.expect_err("it was aborted")) =>
            "A fault of OnAir. Exit code 1.", "Start again; what was durable is found again. Report it with the log.";
    );
    backends(&mut texts).await;
    statuses(&mut texts);
    texts.check(env!("CARGO_MANIFEST_DIR"));
}

/// Log and store that cannot be had.
async fn backends(texts: &mut Texts) {
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(std::future::pending::<()>()).abort();
    let aborted = tasks.join_next().await.expect("one task");
    let refused = |code: Exit, error: BackendError| {
        let text = error.to_string();
        assert_eq!(unusable(error).exit, code, "{text}");
    };
    let in_use = || StoreError::InUse {
        place: "onair-data/onair.redb".into(),
    };
    let away = || StoreError::Unavailable {
        reason: "no node answers".into(),
    };
    refused(Exit::Refused, BackendError::Store(in_use()));
    refused(Exit::Unreachable, BackendError::Store(away()));
    error_texts!(texts, BackendError:
        Store = BackendError::Store(in_use()) =>
            "The store cannot be used. Exit code 5 when another process has it, 4 when it cannot be reached, else 1. Roles of \
             their own wait for one that cannot be reached.", "As the store's text says.";
        Log = BackendError::Log(LogError::Refused { reason: "the prefix `a b` cannot begin a topic's name".into() }) =>
            "The settings of the log make no sense. Exit code 1.", "As the log's text says.";
        DataDir = BackendError::DataDir {
            path: "/var/lib/onair".into(),
            source: std::io::Error::from_raw_os_error(13),
        } => "The data directory cannot be made or used. Exit code 1.", "Give it to the account that OnAir runs under, or use another.";
        Password = BackendError::Password {
            setting: "log.kafka.password_file",
            path: "/run/secrets/kafka".into(),
            source: std::io::Error::from_raw_os_error(13),
        } => "A file with a password cannot be read. Exit code 1.", "Give it to the account that OnAir runs under.";
        Task = BackendError::Task(aborted.expect_err("it was aborted")) =>
            "A fault of OnAir. Exit code 1.", "Start again. Report it with the log.";
    );
}

/// What the read verbs make of a server's answer.
fn statuses(texts: &mut Texts) {
    let server = Server::lazy("http://127.0.0.1:7400");
    let codes = [
        (
            Code::NotFound,
            Exit::Usage,
            "there is no feed \"rooms\" here; this server has room",
        ),
        (
            Code::InvalidArgument,
            Exit::Usage,
            "at most 1000 keys in one request",
        ),
        (
            Code::Unavailable,
            Exit::Failed,
            "feed room has no verified cut yet",
        ),
        (Code::DeadlineExceeded, Exit::Unreachable, "Timeout expired"),
        (
            Code::ResourceExhausted,
            Exit::Failed,
            "20000 clients are subscribed to room already; try another server",
        ),
    ];
    for (code, exit, text) in codes {
        let failure = server.failure(&Status::new(code, text));
        assert_eq!(failure.exit, exit, "{code:?}");
        texts.text(
            &format!("read verbs, {code:?}"),
            &failure.text,
            &format!("What the server answered. Exit code {}.", exit as u8),
            "As the text says.",
        );
    }
    texts.text(
        "read verbs, nonsense",
        &server.nonsense("a schema without a schema").text,
        "The answer does not follow live.proto. Exit code 1.",
        "Use the release of the server.",
    );
    let seal = Seal {
        lineage: Lineage::new(1),
        version: Epoch::new(3).expect("an epoch").start(),
        digest: Digest::new(7),
        count: 98_214,
        commit_time: 0,
        source_time: 0,
        gtid: None,
        executed: Arc::new(GtidSet::mysql()),
        proven: None,
        rewound: false,
    };
    texts.text(
        "read verbs, a past that disagrees",
        &disagrees(&server, &seal, Digest::new(8), 98_213).text,
        "The rows are not those that the server's seal is of. Exit code 1.",
        "As the text says.",
    );
}
