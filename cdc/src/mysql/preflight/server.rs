//! What the server does besides its settings: replication, binlog filters, the transport that we got.

use std::net::IpAddr;

use mysql_async::Row;

use super::{Seen, finding, ok};
use crate::feed::FeedConfig;
use crate::mysql::connect::Session;
use crate::mysql::errors::{explain, is_denied, is_unknown};
use crate::source::{Dialect, Finding, Level, SourceError};

/// Whether the server replicates from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Primary,
    Replica,
    /// The account may not ask.
    Hidden,
}

/// Asks for the replication status.
pub(super) async fn role(session: &mut Session, dialect: Dialect) -> Result<Role, SourceError> {
    let statements: &[&str] = match dialect {
        Dialect::Mysql => &["SHOW REPLICA STATUS", "SHOW SLAVE STATUS"],
        Dialect::Mariadb => &["SHOW ALL SLAVES STATUS"],
    };
    Ok(match first_known(session, statements).await? {
        Some(rows) if rows.is_empty() => Role::Primary,
        Some(_) => Role::Replica,
        None => Role::Hidden,
    })
}

/// The rows of the first statement that the server knows; `None` when the account may not run it.
async fn first_known(
    session: &mut Session,
    statements: &[&str],
) -> Result<Option<Vec<Row>>, SourceError> {
    for statement in statements {
        match session.try_rows::<Row>(statement).await? {
            Ok(rows) => return Ok(Some(rows)),
            Err(err) if is_denied(&err) => return Ok(None),
            Err(err) if is_unknown(&err) => {}
            Err(err) => return Err(explain(session.address(), &err)),
        }
    }
    Ok(None)
}

/// What matters only on a replica.
pub(super) fn check_replica(seen: &Seen, role: Role, findings: &mut Vec<Finding>) {
    const UPDATES_WHY: &str =
        "a replica that does not write what it replicates to its own binlog shows us nothing";
    const ORDER_WHY: &str =
        "a replica that commits out of order shows states that its source never had";
    let value = |names: [&str; 2]| names.iter().find_map(|name| seen.get(*name));
    let level = match role {
        Role::Primary => Level::Ok,
        Role::Replica => Level::Fail,
        Role::Hidden => Level::Warn,
    };
    let state = match role {
        Role::Primary => "not a replica",
        Role::Replica => "a replica",
        Role::Hidden => "the account may not see whether this is a replica (REPLICATION CLIENT)",
    };
    if let Some(updates) = value(["log_replica_updates", "log_slave_updates"]) {
        findings.push(if is_on(updates) {
            ok("log_replica_updates", updates, UPDATES_WHY)
        } else {
            finding(
                "log_replica_updates",
                level,
                format!("{updates}, {state}"),
                UPDATES_WHY,
                fix_unless_ok(level, "restart the server with --log-replica-updates=ON (MariaDB: --log-slave-updates=ON)"),
            )
        });
    }
    let Some(order) = value([
        "replica_preserve_commit_order",
        "slave_preserve_commit_order",
    ]) else {
        return;
    };
    let workers = value(["replica_parallel_workers", "slave_parallel_workers"]);
    let one_worker = workers.is_some_and(|workers| matches!(&**workers, "0" | "1"));
    findings.push(if is_on(order) || one_worker {
        ok("replica_preserve_commit_order", order, ORDER_WHY)
    } else {
        finding(
            "replica_preserve_commit_order",
            level,
            format!("{order}, {state}"),
            ORDER_WHY,
            fix_unless_ok(
                level,
                "STOP REPLICA SQL_THREAD; SET PERSIST replica_preserve_commit_order = ON; START REPLICA SQL_THREAD",
            ),
        )
    });
}

fn is_on(value: &str) -> bool {
    value.eq_ignore_ascii_case("ON") || value == "1"
}

fn fix_unless_ok(level: Level, fix: &str) -> String {
    if level == Level::Ok {
        String::new()
    } else {
        fix.to_owned()
    }
}

/// Whether the binlog leaves out a captured database.
pub(super) async fn check_filters(
    session: &mut Session,
    feeds: &[FeedConfig],
    findings: &mut Vec<Finding>,
) -> Result<(), SourceError> {
    const CHECK: &str = "binlog_filters";
    const WHY: &str = "changes of a database that the binlog leaves out are never seen";
    let status = first_known(session, &["SHOW BINARY LOG STATUS", "SHOW MASTER STATUS"]).await?;
    let Some(status) = status else {
        findings.push(finding(
            CHECK,
            Level::Warn,
            "the account may not see them",
            WHY,
            "look for Binlog_Do_DB and Binlog_Ignore_DB in SHOW BINARY LOG STATUS (SHOW MASTER STATUS), or \
             GRANT REPLICATION CLIENT ON *.* TO the account",
        ));
        return Ok(());
    };
    let text = |name: &str| {
        let row = status.first()?;
        row.get_opt::<String, &str>(name)?.ok()
    };
    let only = text("Binlog_Do_DB").unwrap_or_default();
    let never = text("Binlog_Ignore_DB").unwrap_or_default();
    let lists = |list: &str, database: &str| list.split(',').any(|name| name.trim() == database);
    let left_out = feeds.iter().find(|feed| {
        let database = &*feed.table.database;
        (!only.is_empty() && !lists(&only, database)) || lists(&never, database)
    });
    findings.push(match left_out {
        Some(feed) => finding(
            CHECK,
            Level::Fail,
            format!(
                "binlog-do-db {only:?}, binlog-ignore-db {never:?}: {} is left out",
                feed.table.database
            ),
            WHY,
            "restart the server without --binlog-do-db and --binlog-ignore-db",
        ),
        None if only.is_empty() && never.is_empty() => ok(CHECK, "none", WHY),
        None => ok(
            CHECK,
            format!("binlog-do-db {only:?}, binlog-ignore-db {never:?}"),
            WHY,
        ),
    });
    Ok(())
}

/// Whether anybody on the way can read along.
pub(super) async fn check_transport(
    session: &mut Session,
    host: &str,
    findings: &mut Vec<Finding>,
) -> Result<(), SourceError> {
    const CHECK: &str = "transport";
    const WHY: &str =
        "without TLS the rows, and with some accounts the password, can be read on the way";
    let cipher: Vec<(String, String)> = session
        .rows("SHOW SESSION STATUS LIKE 'Ssl_cipher'")
        .await?;
    let cipher = cipher
        .into_iter()
        .next()
        .map_or(String::new(), |(_, cipher)| cipher);
    let local = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    findings.push(match (cipher.is_empty(), local) {
        (false, _) => ok(CHECK, cipher, WHY),
        (true, true) => ok(CHECK, "plain text on this machine", WHY),
        (true, false) => finding(
            CHECK,
            Level::Warn,
            "plain text",
            WHY,
            "give the server ssl_cert and ssl_key, and the source's URL ?ssl-mode=verify-full&ssl-ca=..",
        ),
    });
    Ok(())
}
