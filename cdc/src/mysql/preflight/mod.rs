//! What `onair doctor` asks of a source: each requirement one finding, with what was seen and what mends it.
//!
//! In: the server and the feeds as configured. Out: [`Finding`]s, also where the account may not look: then a
//! warning says so. Wrong: only what keeps us from asking at all.

mod foreign_keys;
mod server;
mod tables;
mod variables;

use std::collections::HashMap;

use onair_model::GtidSet;

use super::connect::Session;
use super::{MysqlSource, replicas};
use crate::feed::FeedConfig;
use crate::source::{Dialect, Finding, Level, SourceError};

/// All checks.
pub(super) async fn preflight(
    source: &MysqlSource,
    feeds: &[FeedConfig],
) -> Result<Vec<Finding>, SourceError> {
    let mut session = source.connector.open().await?;
    let server = match super::server::probe(&mut session).await {
        Ok(server) => server,
        Err(SourceError::Refused {
            what,
            reason,
            remedy,
        }) => {
            return Ok(vec![finding(
                "server_version",
                Level::Fail,
                format!("{what}: {reason}"),
                "OnAir reads the binlogs of MySQL 8.0 and later and of MariaDB 10.6 and later",
                remedy,
            )]);
        }
        Err(other) => return Err(other),
    };
    let mut findings = vec![ok("server_version", server.version.clone(), SERVER_WHY)];
    let seen = variables::seen(&mut session).await?;
    variables::check(&seen, server.dialect, &mut findings);
    let role = server::role(&mut session, server.dialect).await?;
    server::check_replica(&seen, role, &mut findings);
    server::check_filters(&mut session, feeds, &mut findings).await?;
    server::check_transport(&mut session, source.config.host(), &mut findings).await?;
    check_server_id(source, &mut session, server.dialect, &mut findings).await?;
    let account = account(&mut session).await?;
    check_dump(source, server.dialect, &account, &mut findings).await?;
    for feed in feeds {
        let mut table = tables::Check {
            session: &mut session,
            dialect: server.dialect,
            seen: &seen,
            account: &account,
            feed,
        };
        table.run(&mut findings).await?;
    }
    session.leave().await;
    Ok(findings)
}

/// A finding for each setting, as if all were wrong, on a server that replicates from another.
#[cfg(test)]
pub(super) fn bad_settings(dialect: Dialect) -> Vec<Finding> {
    let mut findings = variables::all_wrong(dialect);
    // MariaDB has no setting for the order of commits.
    let names: &[&str] = match dialect {
        Dialect::Mysql => &["log_replica_updates", "replica_preserve_commit_order"],
        Dialect::Mariadb => &["log_slave_updates"],
    };
    let off = |name: &&str| ((*name).to_owned(), "OFF".to_owned());
    let seen = names.iter().map(off).collect();
    server::check_replica(&seen, server::Role::Replica, &mut findings);
    findings
}

const SERVER_WHY: &str = "the dialect of the binlog and of the scan depends on it";

/// Global variables by name in small letters, values as `SHOW VARIABLES` gives them.
type Seen = HashMap<String, String>;

fn finding(
    check: &'static str,
    level: Level,
    seen: impl Into<String>,
    why: &'static str,
    fix: impl Into<String>,
) -> Finding {
    Finding {
        check,
        level,
        seen: seen.into(),
        why,
        fix: fix.into(),
    }
}

fn ok(check: &'static str, seen: impl Into<String>, why: &'static str) -> Finding {
    finding(check, Level::Ok, seen, why, "")
}

/// `'onair'@'%'`: whom a GRANT must name.
async fn account(session: &mut Session) -> Result<String, SourceError> {
    let account: String = session.one("SELECT CURRENT_USER()").await?;
    let (user, host) = account.rsplit_once('@').unwrap_or((&account, "%"));
    let quoted = |text: &str| format!("'{}'", text.replace('\'', "''"));
    Ok(format!("{}@{}", quoted(user), quoted(host)))
}

async fn check_server_id(
    source: &MysqlSource,
    session: &mut Session,
    dialect: Dialect,
    findings: &mut Vec<Finding>,
) -> Result<(), SourceError> {
    const WHY: &str = "two readers with one server_id end each other's streams";
    let id = source.server_id;
    findings.push(
        match replicas::other(session, dialect, id, &source.reader_uuid).await? {
            Some(other) => finding(
                "reader_server_id",
                Level::Fail,
                format!("{id}, which {other} uses"),
                WHY,
                "set [source] server_id to a number of its own for each reader, or leave it out",
            ),
            None => ok("reader_server_id", id.to_string(), WHY),
        },
    );
    Ok(())
}

/// Opens the binlog at its end and leaves: the one proof that the account may.
async fn check_dump(
    source: &MysqlSource,
    dialect: Dialect,
    account: &str,
    findings: &mut Vec<Finding>,
) -> Result<(), SourceError> {
    const WHY: &str = "OnAir reads the binlog as a replica does";
    const CHECK: &str = "binlog_access";
    let opened = match try_dump(source).await {
        Ok(()) => ok(CHECK, "opened", WHY),
        Err(SourceError::Denied { reason, .. }) => finding(
            CHECK,
            Level::Fail,
            reason,
            WHY,
            format!("GRANT REPLICATION SLAVE ON *.* TO {account}"),
        ),
        // The settings behind these have findings of their own.
        Err(SourceError::Refused { reason, remedy, .. }) => {
            finding(CHECK, Level::Fail, reason, WHY, remedy)
        }
        Err(SourceError::Purged { reason, .. }) => finding(
            CHECK,
            Level::Fail,
            reason,
            WHY,
            match dialect {
                Dialect::Mysql => "RESET BINARY LOGS AND GTIDS, if no replica needs them any more",
                Dialect::Mariadb => "FLUSH BINARY LOGS",
            },
        ),
        Err(other) => return Err(other),
    };
    findings.push(opened);
    Ok(())
}

async fn try_dump(source: &MysqlSource) -> Result<(), SourceError> {
    let (mut session, server) = source.open().await?;
    super::server::require_gtids(&mut session, &server).await?;
    let end: GtidSet = super::server::identity(&mut session, &server)
        .await?
        .executed;
    // Not under the reader's own id: that would end the stream of one that runs.
    session.leave().await;
    source.sibling().dump(&server, &end).await.map(drop)
}
