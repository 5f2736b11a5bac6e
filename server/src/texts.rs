//! Every error text of the server, every status that it gives and every reason to hold back, with what it means.

use std::sync::Arc;

use onair_model::Bucket;
use onair_model::assembly::Hold;
use onair_store::past::PastError;
use onair_xtask::error_texts;
use onair_xtask::servers::Certificates;
use onair_xtask::texts::Texts;
use tonic::{Code, Status};

use crate::ServeError;
use crate::feed::{UNDESCRIBED, held};
use crate::past::READS_MAX;
use crate::refusal::Refusal;
use crate::{Tls, TlsError, TlsFiles};

#[tokio::test]
async fn errors() {
    let mut texts = Texts::new();
    error_texts!(texts, Refusal:
        NoFeed = says(Code::NotFound, Refusal::NoFeed { asked: "rooms".into(), here: "room".into() }) =>
            "gRPC status NOT_FOUND. The name is another, or this server does not have that feed.", "Use one of the names given.";
        NoView = says(Code::NotFound, Refusal::NoView { feed: "room".into(), view: "music".into() }) =>
            "gRPC status NOT_FOUND. There are no views yet.", "Leave the view empty.";
        TooLong = says(Code::ResourceExhausted, Refusal::TooLong { limit: 65_536 }) =>
            "gRPC status RESOURCE_EXHAUSTED. A Subscribe request passes server.request_bytes_max.", "Ask for less, or allow more.";
        TooManyClients = says(Code::ResourceExhausted, Refusal::TooManyClients { feed: "room".into(), limit: 20_000 }) =>
            "gRPC status RESOURCE_EXHAUSTED. server.clients_max subscribers are there.", "Use another server, or allow more.";
        Malformed = says(Code::InvalidArgument, Refusal::Malformed { reason: "the message is cut short".into() }) =>
            "gRPC status INVALID_ARGUMENT. The client is faulty, or no gRPC client.", "Use the messages of live.proto.";
        Compressed = says(Code::Unimplemented, Refusal::Compressed) => "gRPC status UNIMPLEMENTED. The client compresses its request.", "Turn that off for requests.";
        TooManyKeys = says(Code::InvalidArgument, Refusal::TooManyKeys { limit: 1000 }) => "gRPC status INVALID_ARGUMENT. One Get asks for too many keys.", "Ask in several requests.";
        NoCut = says(Code::Unavailable, Refusal::NoCut { feed: "room".into() }) =>
            "gRPC status UNAVAILABLE. The server just started, or the first scan is not done.", "Try again in a moment; `onair status` says what it waits for.";
        NotBound = says(Code::Unavailable, Refusal::NotBound { feed: "room".into() }) =>
            "gRPC status UNAVAILABLE. The reader has not looked at the table yet.", "Try again in a moment; `onair status` says what it waits for.";
        NoRun = says(Code::NotFound, Refusal::NoRun { id: "1qk3f97c".into() }) =>
            "gRPC status NOT_FOUND. The id is another, or the run is older than the history window.", "Use an id that `onair runs` lists.";
        TwoRuns = says(Code::InvalidArgument, Refusal::TwoRuns { id: "1qk3f97c".into(), feed: "room".into() }) =>
            "gRPC status INVALID_ARGUMENT. Two feeds were asked for in one second and got the same id by chance.", "Name the feed too.";
        NoWish = says(Code::InvalidArgument, Refusal::NoWish { reason: "field wish is missing or out of range".into() }) =>
            "gRPC status INVALID_ARGUMENT. The client is of a later release, or faulty.", "Use the messages of live.proto.";
        Misrouted = says(Code::Internal, Refusal::Misrouted) => "gRPC status INTERNAL. A fault of the server.", "Report it.";
        NoMoment = says(Code::InvalidArgument, Refusal::NoMoment) => "gRPC status INVALID_ARGUMENT. A Past request names no moment, or no version at all.", "As the text says.";
        TooManyReads = says(Code::ResourceExhausted, Refusal::TooManyReads { limit: READS_MAX }) =>
            "gRPC status RESOURCE_EXHAUSTED. Reads of the past are few at once, so that subscribers never wait for them.", "As the text says.";
        GoingDown = says(Code::Unavailable, Refusal::GoingDown) => "gRPC status UNAVAILABLE. The server was told to end.", "As the text says.";
        Past = says(Code::OutOfRange, Refusal::Past(Arc::new(PastError::Nothing { feed: "room".into() }))) =>
            "What the store says of the past: `PastError` of onair-store. gRPC status OUT_OF_RANGE where the past does not \
             reach, UNAVAILABLE where the store does not answer, DATA_LOSS where it is damaged.", "As the text says.";
    );
    let address = "127.0.0.1:7400".parse().expect("an address");
    let refused = tonic::transport::Endpoint::from_static("http://127.0.0.1:1")
        .connect()
        .await;
    error_texts!(texts, ServeError:
        Serve = ServeError::Serve { address, source: refused.expect_err("nobody listens there") } =>
            "Listening ended.", "As the text says.";
        Socket = ServeError::Socket(std::io::Error::other("Bad file descriptor (os error 9)")) =>
            "The listener is broken.", "As the text says.";
        Reflection = ServeError::Reflection(tonic_reflection::server::Error::InvalidFileDescriptorSet("cut short".into())) =>
            "The program is damaged.", "Install it again; report it if it stays.";
    );
    tls(&mut texts);
    let three = Bucket::new(3);
    let holds = [
        Hold::NoCut,
        Hold::Reading(three),
        Hold::Forked(three),
        Hold::CutForked,
        Hold::Sum,
        Hold::Uncontained,
    ];
    for hold in holds {
        let (name, means) = because(hold);
        texts.text(
            name,
            &held(Some(hold)),
            means,
            "Nothing while it passes: what is shown stays, and ages. If it lasts, see what `onair status` says of the reader.",
        );
    }
    texts.text(
        "Undescribed",
        UNDESCRIBED,
        "The reader wrote the schema of a later epoch over it, or has written none.",
        "Nothing while it passes: what is shown stays, and ages. If it lasts, see what `onair status` says of the reader.",
    );
    texts.check(env!("CARGO_MANIFEST_DIR"));
}

/// What is wrong with files of certificates, each caused by such a file.
fn tls(texts: &mut Texts) {
    let dir = tempfile::tempdir().expect("a folder");
    let one = Certificates::make(&dir.path().join("one")).expect("certificates");
    let other = Certificates::make(&dir.path().join("other")).expect("certificates");
    let no_pem = dir.path().join("empty.pem");
    std::fs::write(&no_pem, "").expect("a file");
    let not_der = dir.path().join("not-der.pem");
    let armour = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    std::fs::write(&not_der, armour).expect("a file");
    let files = || TlsFiles {
        certificate: one.server.clone(),
        key: one.server_key.clone(),
        client_ca: Some(one.authority.clone()),
    };
    let read = |files: TlsFiles| Tls::read(&files).expect_err("files that are of no use");
    let at = |path: &str| std::path::PathBuf::from(path);
    error_texts!(texts, TlsError:
        Unreadable = read(TlsFiles { certificate: at("/nonexistent/server.pem"), ..files() }) =>
            "A file of [server.tls] is not there, may not be read, or is damaged. Exit code 1.", "As the text says.";
        Unreadable = named(read(TlsFiles { key: no_pem.clone(), ..files() })) => "A file of [server.tls] has no key. Exit code 1.", "As the text says.";
        Empty = named(read(TlsFiles { certificate: no_pem.clone(), ..files() })) =>
            "A file of [server.tls] is of something else. Exit code 1.", "As the text says.";
        Identity = named(read(TlsFiles { key: other.server_key.clone(), ..files() })) =>
            "The key is of another certificate. Exit code 1.", "As the text says.";
        Authority = named(read(TlsFiles { client_ca: Some(not_der.clone()), ..files() })) =>
            "client_ca is of something else. Exit code 1.", "As the text says.";
    );
    assert!(Tls::read(&files()).is_ok());
}

/// The same of files with names that stay.
fn named(error: TlsError) -> TlsError {
    let plain = |path: std::path::PathBuf| {
        std::path::Path::new("/etc/onair").join(path.file_name().expect("a file"))
    };
    match error {
        TlsError::Unreadable { path, source } => TlsError::Unreadable {
            path: plain(path),
            source,
        },
        TlsError::Empty { path } => TlsError::Empty { path: plain(path) },
        TlsError::Identity {
            certificate,
            key,
            source,
        } => TlsError::Identity {
            certificate: plain(certificate),
            key: plain(key),
            source,
        },
        TlsError::Authority { path, source } => TlsError::Authority {
            path: plain(path),
            source,
        },
    }
}

/// A refusal, that goes out with this code.
fn says(code: Code, refusal: Refusal) -> Refusal {
    assert_eq!(Status::from(refusal.clone()).code(), code);
    refusal
}

/// Why something newer is held back. A new reason belongs into the list above, too.
fn because(hold: Hold) -> (&'static str, &'static str) {
    match hold {
        Hold::Done => ("Hold::Done", "Nothing is held back."),
        Hold::NoCut => (
            "Hold::NoCut",
            "The server has read no full cut since it started.",
        ),
        Hold::Reading(_) => (
            "Hold::Reading",
            "The log was not read far enough yet, or a record is missing; then the bucket is loaded from the store.",
        ),
        Hold::Forked(_) => (
            "Hold::Forked",
            "Two records contradict each other; the reader is asked for the bucket's whole content.",
        ),
        Hold::CutForked => (
            "Hold::CutForked",
            "Two statements of one version contradict each other.",
        ),
        Hold::Sum => (
            "Hold::Sum",
            "The buckets do not give the digest that the cut states; nothing is shown until they do.",
        ),
        Hold::Uncontained => (
            "Hold::Uncontained",
            "A new epoch lacks transactions that are shown, and does not say that the source lost them.",
        ),
    }
}
