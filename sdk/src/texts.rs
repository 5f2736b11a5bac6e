//! Every error text that a user can meet, with what it means. A variant without an example does not compile.

use std::sync::Arc;
use std::time::Duration;

use onair_xtask::{error_texts, texts::Texts};

use crate::{
    BadRow, ConnectError, Digest, Problem, Refusal, RowError, TlsFault, Version, WaitError,
};

fn version(text: &str) -> Version {
    text.parse().expect("a version")
}

fn row() -> BadRow {
    BadRow {
        key: Some("id=7".into()),
        error: RowError::new("uid", "too large"),
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
fn errors() {
    let mut texts = Texts::new();
    connecting(&mut texts);
    problems(&mut texts);
    faults(&mut texts);
    refusals(&mut texts);
    rows(&mut texts);
    texts.check(env!("CARGO_MANIFEST_DIR"));
}

fn connecting(texts: &mut Texts) {
    let after = Duration::from_secs(10);
    error_texts!(texts, ConnectError:
        Settings = ConnectError::Settings(vec!["no server is given".into(), "x".into()]) =>
            "The builder was given what cannot work; all of it is said.", "Correct the call.";
        Refused = ConnectError::Refused(unreachable()) =>
            "Every server refuses for good, or the type does not fit the feed.", "As the text behind it says.";
        Timeout = ConnectError::Timeout { after, last: Some(unreachable()) } =>
            "No verified version came within `init_timeout`.",
            "See to the cause behind it; a server that scans a large table for the first time needs longer.";
        Stopped = ConnectError::Stopped => "A fault of the SDK.", "Report it.";
    );
    error_texts!(texts, WaitError:
        Closed = WaitError::Closed => "The feed was dropped or closed while somebody waited.", "Keep it while you wait.";
        NotATarget = WaitError::NotATarget("57".into()) => "The text to wait for cannot be read.", "As the text says.";
    );
}

fn problems(texts: &mut Texts) {
    const TRIES: &str =
        "Nothing: the SDK tries this server and the others again, and shows what it has meanwhile.";
    let endpoint: Arc<str> = "http://a:7400".into();
    let endpoint = || endpoint.clone();
    error_texts!(texts, Problem:
        Unreachable = unreachable() => "No connection.", "Check address and network if it stays; the SDK tries again.";
        Tls = Problem::Tls { endpoint: endpoint(), fault: TlsFault::Untrusted } => "TLS could not be had with it: one of the faults below. Before the first \
             version it is final; later the SDK tries again.", "As the fault says.";
        Rejected = Problem::Rejected { endpoint: endpoint(), message: "there is no feed \"x\" here".into() } =>
            "The server does not take the subscription.", "As the server's text says.";
        Ended = Problem::Ended { endpoint: endpoint(), message: "connection reset".into() } => "The stream broke.", TRIES;
        Silent = Problem::Silent { endpoint: endpoint(), after: Duration::from_secs(5) } =>
            "Not even progress came, which a server sends each second: the connection is half open or the server hangs.", TRIES;
        Refused = Problem::Refused { endpoint: endpoint(), refusal: Refusal::KeyTwice } =>
            "What came was not what it should be, and was not shown: one of the refusals below.", TRIES;
        Row = Problem::Row { endpoint: endpoint(), row: row() } => "A row does not fit the type that it is read into.",
            "Make the type wide enough; `onair schema FEED` prints the feed's.";
        Behind = Problem::Behind { endpoint: endpoint(), version: version("2-5") } =>
            "That server is behind another that was used before; the SDK does not go back.", TRIES;
        Drained = Problem::Drained { endpoint: endpoint(), reason: "this server is going down".into() } =>
            "The server stops.", TRIES;
    );
}

fn faults(texts: &mut Texts) {
    const SAYS: &str = "As the text says.";
    let unknown = || "UnknownCA".to_owned();
    error_texts!(texts, TlsFault:
        Unusable = TlsFault::Unusable { place: "/etc/onair/ca.pem".into(), reason: "there is no certificate in it".into() } =>
            "A file that the client was given cannot be used.", SAYS;
        Untrusted = TlsFault::Untrusted => "The server may be another one than it says; nothing was sent to it.", SAYS;
        OtherName = TlsFault::OtherName => "The certificate is for other names or addresses.", SAYS;
        Expired = TlsFault::Expired => "By this machine's clock the certificate's time is over.", SAYS;
        NotYetValid = TlsFault::NotYetValid => "By this machine's clock the certificate's time has not come.", SAYS;
        Unfit = TlsFault::Unfit("Revoked".into()) => "The certificate is revoked, malformed or for another purpose.", SAYS;
        Plain = TlsFault::Plain => "An https:// address of a server without TLS, or of something else.", SAYS;
        Wanted = TlsFault::Wanted => "An http:// address of a server with TLS.", SAYS;
        Anonymous = TlsFault::Anonymous => "The server has a client_ca, and we show no certificate.", SAYS;
        Refused = TlsFault::Refused(unknown()) => "Our certificate is of another authority, expired or revoked; the server's word for it is given.", SAYS;
        Handshake = TlsFault::Handshake("peer is incompatible".into()) => "Something else of TLS.", "Report it if both are of one release.";
    );
}

fn refusals(texts: &mut Texts) {
    const AGAIN: &str = "Nothing: nothing of it is shown, and the SDK asks for a whole snapshot.";
    const REPORT: &str = "Nothing at once: nothing of it is shown, and the SDK asks for a whole snapshot. If it comes \
                          again, report it.";
    let (ours, theirs) = (version("2-5"), version("2-4"));
    let (stated, found) = (Digest::new(1), Digest::new(2));
    error_texts!(texts, Refusal:
        Malformed = Refusal::Malformed("field version is missing".into()) => "A message does not follow live.proto.", REPORT;
        Unexpected = Refusal::Unexpected("a seal of nothing") => "A message came where it has no meaning.", REPORT;
        NothingToResume = Refusal::NothingToResume => "The server answers as if the client held something.", REPORT;
        Lineage = Refusal::Lineage => "The stream is of another store than it was.", AGAIN;
        Schema = Refusal::Schema => "Other columns are exported now.", AGAIN;
        ChunkVersion = Refusal::ChunkVersion { snapshot: ours, chunk: theirs } => "A snapshot was mixed of two versions.", REPORT;
        ChunkIndex = Refusal::ChunkIndex(3) => "A piece of a snapshot was lost or repeated.", REPORT;
        KeyTwice = Refusal::KeyTwice => "A snapshot is malformed.", REPORT;
        TooMany = Refusal::TooMany(9) => "More rows than stated, or than `max_rows` allows.", "Allow more if the set is that large.";
        TooLong = Refusal::TooLong("found 100 bytes, the limit is 10 bytes".into()) =>
            "A message is longer than `max_message_size` allows.", "Allow more.";
        FrameRange = Refusal::FrameRange { from: version("2-7"), to: version("2-8"), ours } =>
            "A frame was lost, or is for somebody else.", REPORT;
        SealVersion = Refusal::SealVersion { expected: ours, sealed: theirs } => "The proof is not of this content.", REPORT;
        Digest = Refusal::Digest { version: ours, stated, found } =>
            "The content is not the one that the reader computed from the binlog.", REPORT;
        Count = Refusal::Count { version: ours, stated: 1, found: 2 } =>
            "The content is not the one that the reader computed from the binlog.", REPORT;
        Backwards = Refusal::Backwards { ours, theirs } => "The server is behind what was shown.", AGAIN;
        OtherContent = Refusal::OtherContent(ours) => "Two servers show different content at one version.", REPORT;
        LosesTransactions = Refusal::LosesTransactions { ours, theirs: version("3-0") } =>
            "A new epoch lacks transactions that are shown, and does not say that the source lost them.", AGAIN;
    );
}

fn rows(texts: &mut Texts) {
    let remedy = "Make the type fit; `onair schema FEED` prints the feed's.";
    let misfit = BadRow {
        key: None,
        error: RowError::new("area", "the feed does not export it"),
    };
    texts.error(
        "BadRow",
        &misfit,
        "The type asks for what the feed does not have.",
        remedy,
    );
    texts.error("BadRow", &row(), "One row does not fit.", remedy);
    let panicked = RowError::whole("reading it panicked");
    texts.error(
        "RowError",
        &panicked,
        "The user's own code that reads a row panicked.",
        "Correct it.",
    );
}
