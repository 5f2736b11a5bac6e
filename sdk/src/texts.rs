//! Every error text that a user can meet. A variant without its text here does not compile.

use std::sync::Arc;
use std::time::Duration;

use crate::{BadRow, ConnectError, Digest, Problem, Refusal, RowError, Version, WaitError};

/// One line a variant: its pattern, a value of it, its text.
macro_rules! check {
    ($type:ty: $($pattern:pat => $value:expr, $text:expr;)*) => {{
        // No wildcard: a new variant needs a line.
        let _: fn(&$type) = |value| match value { $($pattern => {})* };
        $(
            let value: $type = $value;
            assert!(matches!(&value, $pattern));
            assert_eq!(value.to_string(), $text);
        )*
    }};
}

fn version(text: &str) -> Version {
    text.parse().expect("a version")
}

fn row() -> BadRow {
    BadRow {
        key: Some("id=7".into()),
        error: RowError::new("uid", "too large"),
    }
}

#[test]
fn refusals() {
    let (ours, theirs) = (version("2-5"), version("2-4"));
    check! { Refusal:
        Refusal::Malformed(_) => Refusal::Malformed("field version is missing".into()),
            "a message is malformed: field version is missing";
        Refusal::Unexpected(_) => Refusal::Unexpected("a seal of nothing"), "unexpected: a seal of nothing";
        Refusal::NothingToResume => Refusal::NothingToResume,
            "the server goes on from a version that this client does not hold";
        Refusal::Lineage => Refusal::Lineage, "the stream changed its lineage without a snapshot";
        Refusal::Schema => Refusal::Schema, "the feed's columns changed";
        Refusal::ChunkVersion { .. } => Refusal::ChunkVersion { snapshot: ours, chunk: theirs },
            "a chunk of version 2-4 in a snapshot of version 2-5";
        Refusal::ChunkIndex(_) => Refusal::ChunkIndex(3), "chunk 3 is missing, came twice, or cannot be";
        Refusal::KeyTwice => Refusal::KeyTwice, "a snapshot names a key twice";
        Refusal::TooMany(_) => Refusal::TooMany(9), "more than 9 rows";
        Refusal::TooLong(_) => Refusal::TooLong("found 100 bytes, the limit is 10 bytes".into()),
            "a message is too long: found 100 bytes, the limit is 10 bytes";
        Refusal::FrameRange { .. } => Refusal::FrameRange { from: version("2-7"), to: version("2-8"), ours },
            "a frame from 2-7 to 2-8 does not follow version 2-5";
        Refusal::SealVersion { .. } => Refusal::SealVersion { expected: ours, sealed: theirs },
            "a seal of version 2-4 after the content of version 2-5";
        Refusal::Digest { .. } => Refusal::Digest { version: ours, stated: Digest::new(1), found: Digest::new(2) },
            "version 2-5 has digest 00000000000000000000000000000002, its seal says 00000000000000000000000000000001";
        Refusal::Count { .. } => Refusal::Count { version: ours, stated: 1, found: 2 },
            "version 2-5 has 2 rows, its seal says 1";
        Refusal::Backwards { .. } => Refusal::Backwards { ours, theirs },
            "the server offers version 2-4, older than version 2-5 held";
        Refusal::OtherContent(_) => Refusal::OtherContent(ours), "the server has other content at version 2-5";
        Refusal::LosesTransactions { .. } => Refusal::LosesTransactions { ours, theirs: version("3-0") },
            "version 3-0 does not contain every transaction of version 2-5 held";
    }
}

fn unreachable() -> Problem {
    let cause = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
    Problem::Unreachable {
        endpoint: "http://a:7400".into(),
        cause: Arc::new(cause),
    }
}

#[test]
fn problems() {
    let endpoint: Arc<str> = "http://a:7400".into();
    let endpoint = || endpoint.clone();
    check! { Problem:
        Problem::Unreachable { .. } => unreachable(), "cannot connect to http://a:7400";
        Problem::Rejected { .. } => Problem::Rejected { endpoint: endpoint(), message: "no feed \"x\"".into() },
            "http://a:7400 refuses the subscription: no feed \"x\"";
        Problem::Ended { .. } => Problem::Ended { endpoint: endpoint(), message: "shutting down".into() },
            "the stream from http://a:7400 ended: shutting down";
        Problem::Silent { .. } => Problem::Silent { endpoint: endpoint(), after: Duration::from_secs(5) },
            "http://a:7400 said nothing for 5s";
        Problem::Refused { .. } => Problem::Refused { endpoint: endpoint(), refusal: Refusal::KeyTwice },
            "what http://a:7400 sent was refused: a snapshot names a key twice";
        Problem::Row { .. } => Problem::Row { endpoint: endpoint(), row: row() },
            "feed from http://a:7400: the row with key id=7 does not fit the type that it is read into: \
             column uid: too large";
        Problem::Behind { .. } => Problem::Behind { endpoint: endpoint(), version: version("2-5") },
            "http://a:7400 has not reached version 2-5 yet";
        Problem::Drained { .. } => Problem::Drained { endpoint: endpoint(), reason: "restart".into() },
            "http://a:7400 asked its clients to leave: restart";
    }
}

#[test]
fn connecting_and_waiting() {
    let after = Duration::from_secs(10);
    check! { ConnectError:
        ConnectError::Settings(_) => ConnectError::Settings(vec!["no server is given".into(), "x".into()]),
            "settings: no server is given; x";
        ConnectError::Refused(_) => ConnectError::Refused(unreachable()), "cannot connect to http://a:7400";
        ConnectError::Timeout { .. } => ConnectError::Timeout { after, last: Some(unreachable()) },
            "no server gave a version within 10s";
        ConnectError::Stopped => ConnectError::Stopped,
            "the feed's task stopped: please report it as a fault of onair-sdk";
    }
    check! { WaitError:
        WaitError::Closed => WaitError::Closed, "the feed was closed";
        WaitError::NotATarget(_) => WaitError::NotATarget("57".into()),
            "\"57\" is neither a version (3-1842) nor a GTID or set of them (UUID:57, 0-1-57)";
    }
}

#[test]
fn rows() {
    assert_eq!(
        RowError::whole("reading it panicked").to_string(),
        "reading it panicked"
    );
    let misfit = BadRow {
        key: None,
        error: RowError::new("area", "the feed does not export it"),
    };
    assert_eq!(
        misfit.to_string(),
        "the type does not fit the feed: column area: the feed does not export it"
    );
}
