//! The service by TLS: who gets in, and what those are told who do not.

use std::path::{Path, PathBuf};

use onair_sdk::{ConnectError, Feed, Problem, Raw, Tls, TlsFault};
use onair_xtask::servers::Certificates;
use serde_json::Value;

use crate::golden;
use crate::process::{Up, onair};

/// Certificates, and servers that use them.
struct Places {
    dir: tempfile::TempDir,
    ours: Certificates,
    /// Of another authority.
    strange: Certificates,
}

impl Places {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let make = |name: &str| Certificates::make(&dir.path().join(name)).unwrap();
        let (ours, strange) = (make("ours"), make("strange"));
        Places { dir, ours, strange }
    }

    /// A server of the demo with these lines in `[server.tls]`, or without TLS.
    fn start(&self, name: &str, tls: &[(&str, &Path)]) -> (Up, String) {
        let lines: String = tls
            .iter()
            .map(|(key, path)| format!("{key} = {path:?}\n"))
            .collect();
        let text = format!("[demo]\nrows = 500\nrate = 20\n[server.tls]\n{lines}");
        let config = self.dir.path().join(format!("{name}.toml"));
        std::fs::write(&config, text).unwrap();
        let up = Up::start(&["--json", "--config", &config.display().to_string()]);
        let address = up.address();
        (up, address)
    }

    fn identity<'a>(&self, of: &'a Certificates) -> [(&'static str, &'a Path); 2] {
        [("certificate", &of.server), ("key", &of.server_key)]
    }

    fn mutual(&self) -> (Up, String) {
        let [certificate, key] = self.identity(&self.ours);
        let client_ca = ("client_ca", self.ours.authority.as_path());
        self.start("mutual", &[certificate, key, client_ca])
    }
}

fn flag(name: &str, path: &Path) -> [String; 2] {
    [name.to_owned(), path.display().to_string()]
}

#[test]
fn every_refusal_is_told() {
    let places = Places::new();
    let (ours, strange) = (&places.ours, &places.strange);
    let (plain, plain_at) = places.start("plain", &[]);
    let (tls, tls_at) = places.start("tls", &places.identity(ours));
    let (mutual, mutual_at) = places.mutual();
    let expired = Certificates::make_expired(&places.dir.path().join("expired")).unwrap();
    let (old, old_at) = places.start("expired", &places.identity(&expired));
    let status = |url: String, flags: &[&[String]]| {
        let mut arguments = vec!["status".to_owned(), "--server".to_owned(), url];
        arguments.extend(flags.iter().copied().flatten().cloned());
        arguments
    };
    let here = |address: &str| format!("https://{address}");
    let ca = flag("--ca", &ours.authority);
    let stranger = [
        flag("--cert", &strange.client),
        flag("--key", &strange.client_key),
    ]
    .concat();
    let watch = |mut arguments: Vec<String>| {
        arguments.splice(0..1, ["watch".to_owned(), "room".to_owned()]);
        arguments
    };
    let up = |name: &str, text: &str| {
        let config = places.dir.path().join(name);
        std::fs::write(&config, text).unwrap();
        ["up", "--config", &config.display().to_string()].map(str::to_owned)
    };
    let mismatch = format!(
        "[server.tls]\ncertificate = {:?}\nkey = {:?}\n",
        ours.server, strange.server_key
    );
    let cases = [
        status(here(&tls_at), &[]),
        status(here(&tls_at), &[&flag("--ca", &strange.authority)]),
        status(here(&old_at), &[&flag("--ca", &expired.authority)]),
        status(here(&plain_at), &[&ca]),
        status(format!("http://{tls_at}"), &[]),
        watch(status(format!("http://{tls_at}"), &[])),
        status(here(&mutual_at), &[&ca]),
        status(here(&mutual_at), &[&ca, &stranger]),
        status(
            here(&tls_at),
            &[&flag("--ca", Path::new("/nonexistent/ca.pem"))],
        ),
        status(here(&tls_at), &[&flag("--ca", &ours.server_key)]),
        status(here(&tls_at), &[&ca, &flag("--cert", &ours.client)]),
        up("mismatch.toml", &mismatch).to_vec(),
    ];
    let mut text = String::new();
    for arguments in cases {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let ended = onair(&arguments);
        let said = String::from_utf8(ended.stderr).unwrap();
        let code = ended.status.code().unwrap();
        assert_ne!(code, 0, "{arguments:?} did not fail");
        let command = arguments.join(" ");
        text.push_str(&format!("--- onair {command}\n{said}exit code {code}\n"));
    }
    let names = [
        (&plain_at, "PLAIN"),
        (&tls_at, "TLS"),
        (&mutual_at, "MTLS"),
        (&old_at, "EXPIRED"),
    ];
    for (address, name) in names {
        text = text.replace(address, name);
    }
    text = text.replace(&places.dir.path().display().to_string(), "DIR");
    golden("tls-errors.txt", &text);
    for up in [plain, tls, mutual, old] {
        up.stop();
    }
}

#[test]
fn who_shows_the_right_certificate_reads_follows_and_is_told_of_a_drain() {
    let places = Places::new();
    let ours = &places.ours;
    let (up, address) = places.mutual();
    let url = format!("https://{address}");
    let flags = [
        flag("--ca", &ours.authority),
        flag("--cert", &ours.client),
        flag("--key", &ours.client_key),
    ]
    .concat();
    for verb in [
        &["status"][..],
        &["dump", "room"],
        &["watch", "room", "--for", "1s"],
    ] {
        let mut arguments: Vec<&str> = verb.to_vec();
        arguments.extend(["--json", "--server", &url]);
        arguments.extend(flags.iter().map(String::as_str));
        let ended = onair(&arguments);
        assert!(ended.status.success(), "{arguments:?}: {ended:?}");
        let first = String::from_utf8(ended.stdout).unwrap();
        let first: Value = serde_json::from_str(first.lines().next().unwrap()).unwrap();
        assert!(first.is_object(), "{first}");
    }
    runtime().block_on(async {
        let read = |path: &PathBuf| std::fs::read(path).unwrap();
        let by_files = Tls::new()
            .ca_file(&ours.authority)
            .identity_files(&ours.client, &ours.client_key);
        let by_bytes = Tls::new()
            .ca_pem(read(&ours.authority))
            .identity_pem(read(&ours.client), read(&ours.client_key));
        let feed = connect(&url, by_files).await.unwrap();
        let again = connect(&url, by_bytes.server_name("localhost"))
            .await
            .unwrap();
        // They may show versions of different moments; what they hold was verified.
        let reached = feed.wait_for(again.snapshot().version()).await.unwrap();
        assert!(!reached.is_empty() && !again.snapshot().is_empty());
        let mut status = feed.status_watch();
        up.stop();
        let drained = status
            .wait_for(|status| matches!(status.last_problem, Some(Problem::Drained { .. })))
            .await;
        assert!(drained.is_some());
        assert!(!feed.snapshot().is_empty());
    });
}

#[test]
fn the_sdk_is_told_at_once_why_it_is_refused() {
    let places = Places::new();
    let (ours, strange) = (&places.ours, &places.strange);
    let (plain, plain_at) = places.start("plain", &[]);
    let (mutual, mutual_at) = places.mutual();
    let trusting = || Tls::new().ca_file(&ours.authority);
    let secure = format!("https://{mutual_at}");
    runtime().block_on(async {
        let cases = [
            (secure.clone(), Tls::new(), "Untrusted"),
            (secure.clone(), trusting(), "Anonymous"),
            (
                secure.clone(),
                trusting().identity_files(&strange.client, &strange.client_key),
                "Refused",
            ),
            (secure.clone(), trusting().server_name("db.example"), "OtherName"),
            (format!("http://{mutual_at}"), trusting(), "Wanted"),
            (format!("https://{plain_at}"), trusting(), "Plain"),
        ];
        for (url, tls, expected) in cases {
            let error = connect(&url, tls).await.expect_err(expected);
            let ConnectError::Refused(Problem::Tls { fault, .. }) = &error else {
                panic!("{expected}: {error:?}");
            };
            assert!(format!("{fault:?}").starts_with(expected), "{fault:?}");
            assert!(!error.is_retryable());
        }
        let unusable = connect(&secure, Tls::new().ca_file("/nonexistent/ca.pem")).await;
        let error = unusable.expect_err("there is no such file");
        assert!(
            matches!(&error, ConnectError::Settings(faults) if faults[0].contains("/nonexistent/ca.pem")),
            "{error}"
        );
        assert_eq!(TlsFault::of(&error), None);
    });
    plain.stop();
    mutual.stop();
}

async fn connect(url: &str, tls: Tls) -> Result<Feed<Raw>, ConnectError> {
    Feed::<Raw>::builder([url], "room").tls(tls).connect().await
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}
