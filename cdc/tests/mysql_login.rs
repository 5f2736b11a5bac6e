//! Login and TLS: what works, and what a user is told when it does not.

use anyhow::Result;
use onair_cdc::mysql::{MysqlConfig, MysqlSource};
use onair_cdc::source::{Source as _, SourceError};
use onair_xtask::servers::{Flavor, Options, Server, Tls};

use crate::on_each_server;
use crate::proxy::{Mischief, Proxy};
use crate::servers::{block_on, read_until, source_at};

on_each_server!(
    a_wrong_password_says_so_without_showing_it,
    passwords_work_with_and_without_tls,
    nobody_home_is_worth_another_try,
);

async fn a_wrong_password_says_so_without_showing_it(server: &Server) -> Result<()> {
    let source = source_at(&server.url("onair:wr0ng-secret", ""));
    let err = source.identity().await.unwrap_err();
    assert!(matches!(err, SourceError::Denied { .. }), "{err:?}");
    assert!(err.is_final());
    let text = format!("{err} {err:?} {source:?}");
    assert!(
        text.contains("ONAIR_SOURCE_PASSWORD") && text.contains("1045"),
        "{text}"
    );
    assert!(!text.contains("wr0ng-secret"), "{text}");
    let config = MysqlConfig::from_url(&server.url("onair", ""))?.with_password("secret");
    MysqlSource::new(config)?.identity().await?;
    Ok(())
}

/// For each plugin that the server has: the first login of an account, which needs the whole password, and the
/// second, which the server answers from its cache.
async fn passwords_work_with_and_without_tls(server: &Server) -> Result<()> {
    let plugins: &[&str] = match server.flavor() {
        Flavor::Mysql97 => &["caching_sha2_password"],
        Flavor::Mysql80 => &["caching_sha2_password", "mysql_native_password"],
        _ => &["mysql_native_password"],
    };
    let modes: &[&str] = if server.flavor().is_mariadb() {
        &["disable", "prefer"]
    } else {
        &["disable", "prefer", "require"]
    };
    let password = "secret with spaces & ünïcode %";
    for plugin in plugins {
        for mode in modes {
            let by = if server.flavor().is_mariadb() {
                "USING PASSWORD"
            } else {
                "BY"
            };
            let quoted = if by == "BY" {
                format!("'{password}'")
            } else {
                format!("('{password}')")
            };
            server.sql(&format!(
                "DROP USER IF EXISTS login; CREATE USER login IDENTIFIED WITH {plugin} {by}{quoted}; \
                 GRANT REPLICATION SLAVE ON *.* TO login"
            ))?;
            let config = MysqlConfig::from_url(&server.url("login", &format!("?ssl-mode={mode}")))?;
            let source = MysqlSource::new(config.with_password(password))?;
            for _ in 0..2 {
                let identity = source.identity().await?;
                let mut events = source.follow(&identity.executed).await?;
                read_until(&mut *events, |event| event.kind == 15).await?;
            }
        }
    }
    Ok(())
}

async fn nobody_home_is_worth_another_try(server: &Server) -> Result<()> {
    let proxy = Proxy::start(
        "127.0.0.1",
        (server.host(), server.port()),
        Mischief::default(),
    )
    .await?;
    let url = proxy.url("onair:secret", "");
    let source = source_at(&url);
    source.identity().await?;
    drop(proxy);
    let err = source.identity().await.unwrap_err();
    assert!(matches!(err, SourceError::Unreachable { .. }), "{err:?}");
    assert!(!err.is_final());
    Ok(())
}

/// A URL of the server with these parameters, and what its identity comes to.
async fn try_tls(host: &str, port: u16, user: &str, parameters: &str) -> Result<(), SourceError> {
    let url = format!("mysql://{user}@{host}:{port}?{parameters}");
    source_at(&url).identity().await.map(drop)
}

#[test]
fn each_tls_mode_does_what_it_says() {
    for flavor in [Flavor::Mysql97, Flavor::Mysql80, Flavor::Mariadb1011] {
        with_tls(flavor, Tls::Certified, async |server| {
            let port = server.port();
            let certificates = server.certificates().unwrap();
            let ca = format!(
                "ssl-mode=verify-full&ssl-ca={}",
                certificates.authority.display()
            );
            for host in ["127.0.0.1", "localhost"] {
                for parameters in [
                    "ssl-mode=disable",
                    "ssl-mode=prefer",
                    "ssl-mode=require",
                    &ca,
                ] {
                    try_tls(host, port, "onair:secret", parameters).await?;
                }
            }

            // Not an authority that is known, and not the host that the certificate names.
            let unknown = try_tls("127.0.0.1", port, "onair:secret", "ssl-mode=verify-full").await;
            told(unknown, "UnknownIssuer", "ssl-ca");
            let proxy = Proxy::start("127.0.0.2", ("127.0.0.1", port), Mischief::default()).await?;
            let elsewhere = proxy.address.port();
            let other = try_tls("127.0.0.2", elsewhere, "onair:secret", &ca).await;
            told(other, "not valid for name", "subject alternative name");
            try_tls("127.0.0.2", elsewhere, "onair:secret", "ssl-mode=require").await?;

            // An account that must show a certificate.
            server.sql("CREATE USER certified IDENTIFIED BY 'secret' REQUIRE X509")?;
            let bare = try_tls("localhost", port, "certified:secret", &ca).await;
            told(bare, "1045", "ssl-cert");
            let identity = format!(
                "{ca}&ssl-cert={}&ssl-key={}",
                certificates.client.display(),
                certificates.client_key.display()
            );
            try_tls("localhost", port, "certified:secret", &identity).await?;

            // A server that wants TLS.
            server.sql("SET GLOBAL require_secure_transport = ON")?;
            let plain = try_tls("127.0.0.1", port, "onair:secret", "ssl-mode=disable").await;
            let words = if flavor.is_mariadb() {
                "1045"
            } else {
                "insecure transport"
            };
            told(plain, words, "ssl-mode=require");
            try_tls("127.0.0.1", port, "onair:secret", "ssl-mode=prefer").await?;

            // And the stream runs over it, as the doctor sees.
            let source = source_at(&format!("mysql://onair:secret@localhost:{port}?{identity}"));
            let mut events = source.follow(&source.identity().await?.executed).await?;
            read_until(&mut *events, |event| event.kind == 15).await?;
            let findings = source.preflight(&[]).await?;
            let transport = findings
                .iter()
                .find(|finding| finding.check == "transport")
                .unwrap();
            assert!(transport.seen.starts_with("TLS_"), "{transport:?}");
            Ok(())
        });
    }
}

#[test]
fn a_server_without_tls_is_used_plain_only_when_that_is_allowed() {
    for flavor in [Flavor::Mysql97, Flavor::Mariadb1011] {
        with_tls(flavor, Tls::Off, async |server| {
            let port = server.port();
            for parameters in ["ssl-mode=disable", "ssl-mode=prefer", ""] {
                try_tls("127.0.0.1", port, "onair:secret", parameters).await?;
            }
            for parameters in ["ssl-mode=require", "ssl-mode=verify-full"] {
                let refused = try_tls("127.0.0.1", port, "onair:secret", parameters).await;
                told(refused, "does not offer TLS", "ssl-mode=prefer");
            }
            Ok(())
        });
    }
}

#[test]
fn certificate_files_are_read_at_once() {
    let config = MysqlConfig::from_url(
        "mysql://onair@db?ssl-mode=verify-full&ssl-ca=/nowhere/ca.pem&ssl-cert=/dev/null&ssl-key=/dev/null",
    )
    .unwrap();
    let wrong = MysqlSource::new(config).unwrap_err().to_string();
    for part in [
        "ssl-ca /nowhere/ca.pem: No such file",
        "ssl-cert /dev/null: no certificate",
        "no private key",
    ] {
        assert!(wrong.contains(part), "{wrong}");
    }
}

fn told(outcome: Result<(), SourceError>, seen: &str, todo: &str) {
    match outcome {
        Err(SourceError::Denied { reason, remedy, .. }) => {
            assert!(reason.contains(seen), "{reason}");
            assert!(remedy.contains(todo), "{remedy}");
        }
        other => panic!("{other:?}"),
    }
}

fn with_tls(flavor: Flavor, tls: Tls, test: impl AsyncFn(&Server) -> Result<()>) {
    if flavor.is_left_out() {
        eprintln!("NOT RUN {flavor}: left out");
        return;
    }
    let options = Options {
        tls,
        ..Options::default()
    };
    let server = Server::start_own(flavor, options).unwrap();
    server
        .create_user("onair", "secret", &["REPLICATION SLAVE ON *.*"])
        .unwrap();
    block_on(test(&server)).unwrap_or_else(|err| panic!("{flavor}: {err:?}"));
}
