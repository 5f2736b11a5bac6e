//! Brokers that speak TLS and know users. By a command of its own, since the build needs OpenSSL's headers:
//! `cargo test -p onair-log --features kafka-tls --test main -- kafka::tls`.

use std::path::Path;
use std::time::Duration;

use onair_log::kafka::{KafkaLog, Settings};
use onair_log::{EventLog as _, LogError, Partition};
use onair_model::Bucket;
use onair_xtask::servers::kafka::{PASSWORD, USER};
use onair_xtask::servers::{Certificates, Kafka};

use super::{cuts, is_left_out, log, lows, next, open};
use crate::{flush, layout};

/// What a client is told.
struct Client<'a> {
    authority: &'a Path,
    identity: Option<(&'a Path, &'a Path)>,
    mechanism: &'a str,
    password: &'a str,
}

impl<'a> Client<'a> {
    fn good(certificates: &'a Certificates) -> Self {
        Client {
            authority: &certificates.authority,
            identity: Some((&certificates.client, &certificates.client_key)),
            mechanism: "SCRAM-SHA-512",
            password: PASSWORD,
        }
    }

    fn settings(&self, server: &Kafka) -> Settings {
        let text = |path: &Path| path.display().to_string();
        let mut options = vec![
            ("security.protocol", "sasl_ssl".to_owned()),
            ("sasl.mechanism", self.mechanism.to_owned()),
            ("sasl.username", USER.to_owned()),
            ("sasl.password", self.password.to_owned()),
            ("ssl.ca.location", text(self.authority)),
        ];
        if let Some((certificate, key)) = self.identity {
            options.push(("ssl.certificate.location", text(certificate)));
            options.push(("ssl.key.location", text(key)));
        }
        let options = options
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value));
        Settings {
            brokers: server.secure().unwrap(),
            options: options.collect(),
            request_timeout: Duration::from_secs(3),
            ..super::settings(server)
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn brokers_are_spoken_to_by_tls_with_plain_and_scram() {
    if is_left_out() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let make = |name: &str| Certificates::make(&dir.path().join(name)).unwrap();
    let (ours, strange) = (make("ours"), make("strange"));
    let server = Kafka::start_secure(ours.clone()).unwrap();
    for mechanism in ["PLAIN", "SCRAM-SHA-512"] {
        let client = Client {
            mechanism,
            ..Client::good(&ours)
        };
        let log = log(&client.settings(&server));
        open(&log, "room").await;
        for sequence in 1..=5 {
            log.append(flush("room", 1, sequence, 10)).await.unwrap();
        }
        let from = lows(&log, "room").await;
        let only: Vec<_> = from
            .into_iter()
            .filter(|(partition, _)| *partition == Partition::Cuts)
            .collect();
        let mut follower = log.follow("room", &only).await.unwrap();
        let mut seen = Vec::new();
        while seen.len() < 5 {
            seen.extend(cuts(&next(&mut *follower).await.unwrap()));
        }
        assert_eq!(seen, [1, 2, 3, 4, 5], "{mechanism}");
        let ends = log.ends("room").await.unwrap();
        let bucket = Partition::Bucket(Bucket::new(1));
        let end = ends
            .iter()
            .find(|(partition, _)| *partition == bucket)
            .unwrap();
        assert!(end.1.high.0 >= 5, "{ends:?}");
    }

    let good = || Client::good(&ours);
    let wrong = [
        (
            "another authority",
            Client {
                authority: &strange.authority,
                ..good()
            },
            "certificate verify failed",
        ),
        (
            "no certificate",
            Client {
                identity: None,
                ..good()
            },
            "SSL",
        ),
        (
            "another password",
            Client {
                password: "guessed",
                ..good()
            },
            "uthentication failed",
        ),
    ];
    for (what, client, words) in wrong {
        let said = refused(&log(&client.settings(&server))).await;
        println!("{what}: {said}");
        assert!(said.contains(words), "{what}: {said}");
        assert!(!said.contains("guessed"), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_brokers_certificate_that_expired_is_told() {
    if is_left_out() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let expired = Certificates::make_expired(dir.path()).unwrap();
    let server = Kafka::start_secure(expired.clone()).unwrap();
    let said = refused(&log(&Client::good(&expired).settings(&server))).await;
    println!("{said}");
    assert!(said.contains("certificate verify failed"), "{said}");
}

/// What is said of a log that cannot be opened.
async fn refused(log: &KafkaLog) -> String {
    match log.open(&layout("other")).await {
        Err(error @ LogError::Refused { .. }) => error.to_string(),
        other => panic!("{other:?}"),
    }
}
