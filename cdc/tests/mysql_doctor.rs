//! What the preflight says of good and of bad servers, tables and accounts.

use anyhow::{Context as _, Result};
use onair_cdc::source::{Finding, Level, Source as _};
use onair_xtask::servers::{Flavor, Options, Server};

use crate::on_each_server;
use crate::servers::{block_on, database, feed_config, source, source_at, table_name};

on_each_server!(
    a_good_server_has_nothing_to_mend,
    the_least_account_is_enough,
    a_bad_feed_is_told_what_to_mend,
);

/// Checks whose level is not `Ok`.
fn wrong(findings: &[Finding]) -> Vec<(&'static str, Level)> {
    let wrong = findings.iter().filter(|finding| finding.level != Level::Ok);
    wrong
        .map(|finding| (finding.check, finding.level))
        .collect()
}

fn the<'a>(findings: &'a [Finding], check: &str) -> Result<&'a Finding> {
    let found = findings.iter().find(|finding| finding.check == check);
    found.with_context(|| format!("no finding {check} in {findings:#?}"))
}

async fn a_good_server_has_nothing_to_mend(server: &Server) -> Result<()> {
    database(server, "doctor_good")?;
    server.sql(
        "CREATE TABLE doctor_good.room (id INT PRIMARY KEY, live TINYINT, title VARCHAR(20))",
    )?;
    let root = source_at(&server.url("root", ""));
    let feed = feed_config(&table_name("doctor_good", "room"), "live = 1", &["title"]);
    let findings = root.preflight(&[feed]).await?;
    assert_eq!(wrong(&findings), [], "{findings:#?}");
    for check in [
        "binlog_row_image",
        "binlog_access",
        "reader_server_id",
        "live_when",
        "foreign_keys",
    ] {
        the(&findings, check)?;
    }
    Ok(())
}

async fn the_least_account_is_enough(server: &Server) -> Result<()> {
    database(server, "doctor_least")?;
    server.sql(
        "CREATE TABLE doctor_least.room (id INT PRIMARY KEY, live TINYINT, title VARCHAR(20), secret INT);
         INSERT INTO doctor_least.room VALUES (1, 1, 'one', 1)",
    )?;
    let grants = [
        "REPLICATION SLAVE ON *.*",
        "SELECT (id, live, title) ON doctor_least.room",
    ];
    server.create_user("least", "secret", &grants)?;
    let least = source_at(&server.url("least:secret", ""));
    let name = table_name("doctor_least", "room");
    let findings = least
        .preflight(&[feed_config(&name, "live = 1", &["title"])])
        .await?;
    let mut expected = vec![("binlog_filters", Level::Warn)];
    if server.flavor().is_mariadb() {
        expected.push(("foreign_keys", Level::Warn));
    }
    assert_eq!(wrong(&findings), expected, "{findings:#?}");

    let identity = least.identity().await?;
    least.follow(&identity.executed).await?;
    let table = least.table(&name).await?;
    assert_eq!(table.columns.len(), 3);

    let findings = least
        .preflight(&[feed_config(&name, "secret = 1", &["title"])])
        .await?;
    the(&findings, "live_when").map(|finding| assert_eq!(finding.level, Level::Fail))?;

    server.create_user("none", "secret", &[])?;
    let none = source_at(&server.url("none:secret", ""));
    let findings = none
        .preflight(&[feed_config(&name, "live = 1", &["title"])])
        .await?;
    let access = the(&findings, "binlog_access")?;
    assert_eq!(access.level, Level::Fail);
    assert_eq!(access.fix, "GRANT REPLICATION SLAVE ON *.* TO 'none'@'%'");
    assert_eq!(the(&findings, "table")?.level, Level::Fail);
    Ok(())
}

async fn a_bad_feed_is_told_what_to_mend(server: &Server) -> Result<()> {
    database(server, "doctor_bad")?;
    server.sql(
        "CREATE TABLE doctor_bad.p (id INT PRIMARY KEY);
         CREATE TABLE doctor_bad.cascades (id INT PRIMARY KEY, p INT,
             FOREIGN KEY (p) REFERENCES doctor_bad.p (id) ON DELETE CASCADE);
         CREATE TABLE doctor_bad.keyless (id INT);
         CREATE TABLE doctor_bad.other (id INT PRIMARY KEY, j JSON, t VARCHAR(10)) ENGINE = MyISAM;
         CREATE TABLE doctor_bad.prefix (t VARCHAR(20), PRIMARY KEY (t(3)));
         CREATE VIEW doctor_bad.view AS SELECT * FROM doctor_bad.p;",
    )?;
    let source = source(server);
    let check = async |table: &str, live_when: &str, column: &str| {
        let feed = feed_config(&table_name("doctor_bad", table), live_when, &[column]);
        let findings = source.preflight(&[feed]).await?;
        let failed = findings
            .into_iter()
            .filter(|finding| finding.level == Level::Fail);
        anyhow::Ok(failed.collect::<Vec<_>>())
    };
    let has = |findings: &[Finding], check: &str, fix: &str| {
        let found = findings
            .iter()
            .any(|f| f.check == check && f.fix.contains(fix));
        assert!(found, "{check} {fix} not in {findings:#?}");
    };
    let cascades = check("cascades", "id = 1", "p").await?;
    if server.flavor() == Flavor::Mysql97 {
        assert_eq!(cascades, []);
    } else {
        has(
            &cascades,
            "foreign_keys",
            "DROP FOREIGN KEY `cascades_ibfk_1`",
        );
    }
    has(
        &check("keyless", "id = 1", "id").await?,
        "primary_key",
        "ADD PRIMARY KEY",
    );
    has(
        &check("other", "id = 1", "t").await?,
        "engine",
        "ENGINE = InnoDB",
    );
    has(
        &check("other", "NOW() > 1", "t").await?,
        "live_when",
        "correct live_when",
    );
    has(
        &check("other", "id = 1", "missing").await?,
        "columns",
        "correct columns",
    );
    has(
        &check("prefix", "t = 1", "t").await?,
        "table",
        "whole columns",
    );
    has(
        &check("view", "id = 1", "id").await?,
        "table",
        "table below it",
    );
    has(
        &check("nowhere", "id = 1", "id").await?,
        "table",
        "GRANT SELECT ON doctor_bad.nowhere TO 'onair'@'%'",
    );
    Ok(())
}

#[test]
fn a_misconfigured_mysql_gets_the_statements_that_mend_it() {
    for flavor in [Flavor::Mysql97, Flavor::Mysql80] {
        misconfigured(
            flavor,
            &[
                "--binlog-row-image=MINIMAL",
                "--binlog-format=STATEMENT",
                "--binlog-row-metadata=MINIMAL",
                "--sync-binlog=0",
                "--innodb-flush-log-at-trx-commit=2",
                "--binlog-checksum=NONE",
                "--binlog-expire-logs-seconds=600",
                "--gtid-mode=OFF",
                "--enforce-gtid-consistency=OFF",
            ],
            &[
                ("gtid_mode", Level::Fail, "SET PERSIST gtid_mode = ON"),
                (
                    "enforce_gtid_consistency",
                    Level::Fail,
                    "SET PERSIST enforce_gtid_consistency = ON",
                ),
                (
                    "binlog_format",
                    Level::Fail,
                    "SET PERSIST binlog_format = ROW",
                ),
                (
                    "binlog_row_image",
                    Level::Fail,
                    "SET PERSIST binlog_row_image = FULL",
                ),
                (
                    "binlog_row_metadata",
                    Level::Warn,
                    "SET PERSIST binlog_row_metadata = FULL",
                ),
                (
                    "binlog_checksum",
                    Level::Warn,
                    "SET PERSIST binlog_checksum = CRC32",
                ),
                ("sync_binlog", Level::Warn, "SET PERSIST sync_binlog = 1"),
                (
                    "innodb_flush_log_at_trx_commit",
                    Level::Warn,
                    "SET PERSIST innodb_flush_log_at_trx_commit = 1",
                ),
                (
                    "binlog_expire_logs_seconds",
                    Level::Warn,
                    "SET PERSIST binlog_expire_logs_seconds = 604800",
                ),
                ("binlog_access", Level::Fail, "gtid_mode"),
            ],
        );
    }
}

#[test]
fn a_misconfigured_mariadb_gets_the_statements_that_mend_it() {
    misconfigured(
        Flavor::Mariadb1011,
        &[
            "--binlog-row-image=MINIMAL",
            "--binlog-format=MIXED",
            "--binlog-row-metadata=NO_LOG",
            "--sync-binlog=0",
            "--gtid-strict-mode=OFF",
            "--binlog-ignore-db=live",
        ],
        &[
            (
                "gtid_strict_mode",
                Level::Warn,
                "SET GLOBAL gtid_strict_mode = ON",
            ),
            (
                "binlog_format",
                Level::Fail,
                "SET GLOBAL binlog_format = ROW, and binlog_format = ROW under",
            ),
            (
                "binlog_row_image",
                Level::Fail,
                "SET GLOBAL binlog_row_image = FULL",
            ),
            (
                "binlog_row_metadata",
                Level::Warn,
                "SET GLOBAL binlog_row_metadata = FULL",
            ),
            ("sync_binlog", Level::Warn, "SET GLOBAL sync_binlog = 1"),
            ("binlog_filters", Level::Fail, "without --binlog-do-db"),
            ("table", Level::Fail, "create it"),
        ],
    );
}

/// A replica whose own binlog would mislead us: with privileges the doctor knows that it is one, without it warns.
#[test]
fn a_replica_must_keep_its_sources_order_and_write_it_down() {
    let flavor = Flavor::Mysql97;
    if flavor.is_left_out() {
        eprintln!("NOT RUN {flavor}: left out");
        return;
    }
    let server = Server::start_own(flavor, Options::default()).unwrap();
    server
        .create_user("replica", "secret", &["REPLICATION SLAVE ON *.*"])
        .unwrap();
    let arguments = [
        "--replica-parallel-workers=4",
        "--replica-preserve-commit-order=OFF",
        "--log-replica-updates=OFF",
    ];
    let options = Options {
        extra_args: arguments.map(str::to_owned).into(),
        ..Options::default()
    };
    let replica = Server::start_own(flavor, options).unwrap();
    replica
        .create_user("least", "secret", &["REPLICATION SLAVE ON *.*"])
        .unwrap();
    let levels = |user: &str| {
        let findings = block_on(source_at(&replica.url(user, "")).preflight(&[])).unwrap();
        ["log_replica_updates", "replica_preserve_commit_order"]
            .map(|check| the(&findings, check).unwrap().level)
    };
    assert_eq!(levels("root"), [Level::Ok, Level::Ok]);
    replica
        .sql(&format!(
            "CHANGE REPLICATION SOURCE TO SOURCE_HOST = '{}', SOURCE_PORT = {}, SOURCE_USER = 'replica', \
             SOURCE_PASSWORD = 'secret', SOURCE_SSL = 1, SOURCE_AUTO_POSITION = 1",
            server.host(),
            server.port()
        ))
        .unwrap();
    assert_eq!(levels("root"), [Level::Fail, Level::Fail]);
    assert_eq!(levels("least:secret"), [Level::Warn, Level::Warn]);
}

#[test]
fn a_server_without_binlog_is_refused() {
    for (flavor, off) in [
        (Flavor::Mysql97, "--skip-log-bin"),
        (Flavor::Mariadb1011, "--skip-log-bin"),
    ] {
        misconfigured(
            flavor,
            &[off],
            &[
                ("log_bin", Level::Fail, "--log-bin"),
                ("binlog_access", Level::Fail, "--log-bin"),
            ],
        );
    }
}

fn misconfigured(flavor: Flavor, arguments: &[&str], expected: &[(&str, Level, &str)]) {
    if flavor.is_left_out() {
        eprintln!("NOT RUN {flavor}: left out");
        return;
    }
    let options = Options {
        extra_args: arguments.iter().map(|a| (*a).to_owned()).collect(),
        ..Options::default()
    };
    let server = Server::start_own(flavor, options).unwrap();
    let source = source_at(&server.url("root", ""));
    let feed = feed_config(&table_name("live", "room"), "id = 1", &["id"]);
    let findings = block_on(source.preflight(&[feed])).unwrap();
    for (check, level, fix) in expected {
        let finding = the(&findings, check).unwrap();
        assert_eq!(finding.level, *level, "{finding:#?}");
        assert!(finding.fix.contains(fix), "{finding:#?}");
        assert!(
            !finding.why.is_empty() && !finding.seen.is_empty(),
            "{finding:#?}"
        );
    }
    for (check, level) in wrong(&findings) {
        let known = expected.iter().any(|(expected, _, _)| *expected == check);
        assert!(
            known || check == "table",
            "{flavor}: {check} {level:?} was not expected: {findings:#?}"
        );
    }
}
