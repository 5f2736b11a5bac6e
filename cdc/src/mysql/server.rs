//! Who answers: the dialect is found by what the server has, not by the number in its version.

use std::collections::HashMap;

use onair_model::GtidSet;

use super::connect::Session;
use super::gtid;
use crate::source::{Dialect, Identity, RowMetadata, SourceError};

/// The variables that tell servers apart, and those that every start needs.
const ASKED: &str = "SHOW GLOBAL VARIABLES WHERE Variable_name IN ('version', 'version_comment', \
     'server_uuid', 'server_id', 'port', 'gtid_mode', 'gtid_domain_id', 'binlog_row_metadata', 'log_bin', \
     'tidb_server_memory_limit', 'tidb_mem_quota_query')";
const SUPPORTED: &str =
    "OnAir reads MySQL 8.0, 8.4, 9.x and what is compatible with them, and MariaDB 10.6 and later";

/// A server that we can work with, and what it said of itself.
#[derive(Clone, Debug)]
pub(super) struct Server {
    /// What it speaks.
    pub(super) dialect: Dialect,
    /// `@@version` and `@@version_comment`.
    pub(super) version: String,
    /// See [`Identity::server`].
    pub(super) id: String,
}

/// Asks who is there; refuses what cannot be followed.
pub(super) async fn probe(session: &mut Session) -> Result<Server, SourceError> {
    let seen: Vec<(String, String)> = session.rows(ASKED).await?;
    let seen = seen
        .into_iter()
        .map(|(name, value)| (name.to_ascii_lowercase(), value))
        .collect();
    let server = tell(&seen).map_err(|(reason, remedy)| refused(session, &seen, reason, remedy))?;
    Ok(server)
}

/// That the server writes a binlog with GTIDs; without them there is nothing to follow.
pub(super) async fn require_gtids(
    session: &mut Session,
    server: &Server,
) -> Result<(), SourceError> {
    let log_bin: u8 = session.one("SELECT @@global.log_bin").await?;
    let what = format!("the server at {}", session.address());
    if log_bin == 0 {
        return Err(SourceError::Refused {
            what,
            reason: "it writes no binlog (log_bin is OFF)".to_owned(),
            remedy: "start it with --log-bin and a --server-id".to_owned(),
        });
    }
    if server.dialect == Dialect::Mysql {
        let mode: String = session.one("SELECT @@global.gtid_mode").await?;
        if !mode.eq_ignore_ascii_case("ON") {
            return Err(SourceError::Refused {
                what,
                reason: format!("its transactions have no GTIDs (gtid_mode is {mode})"),
                remedy: GTID_MODE_REMEDY.to_owned(),
            });
        }
    }
    Ok(())
}

/// The way to GTIDs without a restart, one step at a time.
pub(super) const GTID_MODE_REMEDY: &str = "SET PERSIST enforce_gtid_consistency = ON; SET PERSIST gtid_mode = \
     OFF_PERMISSIVE; SET PERSIST gtid_mode = ON_PERMISSIVE; wait until SHOW STATUS LIKE \
     'Ongoing_anonymous_transaction_count' is 0; SET PERSIST gtid_mode = ON";

/// Everything that [`crate::source::Source::identity`] says.
pub(super) async fn identity(
    session: &mut Session,
    server: &Server,
) -> Result<Identity, SourceError> {
    let (executed, in_flight, purged) = match server.dialect {
        Dialect::Mysql => {
            let (executed, purged): (String, String) = session
                .one("SELECT @@global.gtid_executed, @@global.gtid_purged")
                .await?;
            let executed = gtid_set(session.address(), Dialect::Mysql, &executed)?;
            let in_flight = assigned(session).await?.minus(&executed);
            let purged = gtid_set(session.address(), Dialect::Mysql, &purged)?;
            (executed, in_flight, purged)
        }
        Dialect::Mariadb => {
            let executed: String = session.one("SELECT @@global.gtid_binlog_pos").await?;
            (
                gtid_set(session.address(), Dialect::Mariadb, &executed)?,
                GtidSet::mariadb(),
                GtidSet::mariadb(),
            )
        }
    };
    let metadata: String = session.one("SELECT @@global.binlog_row_metadata").await?;
    Ok(Identity {
        dialect: server.dialect,
        server: server.id.clone(),
        version: server.version.clone(),
        metadata: match metadata.eq_ignore_ascii_case("FULL") {
            true => RowMetadata::Full,
            false => RowMetadata::Minimal,
        },
        executed,
        in_flight,
        purged,
    })
}

/// Every transaction of MySQL that has its GTID: what the binlog may show and what a SELECT may have seen before this.
/// A commit is shown and visible before it counts as executed, but until then it is owned. Owned must be asked first,
/// or one could move from one to the other unseen.
pub(super) async fn assigned(session: &mut Session) -> Result<GtidSet, SourceError> {
    let owned: String = session.one("SELECT @@global.gtid_owned").await?;
    let executed: String = session.one("SELECT @@global.gtid_executed").await?;
    let mut assigned = gtid_set(session.address(), Dialect::Mysql, &executed)?;
    let owned = gtid::owned(&owned).ok_or_else(|| SourceError::Damaged {
        at: session.address().to_string(),
        reason: format!("@@gtid_owned cannot be read: {owned:?}"),
    })?;
    assigned.union(&owned);
    Ok(assigned)
}

/// Asks which server a connection reached, as [`Identity::server`] names it.
pub(super) fn id_query(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::Mysql => "SELECT @@global.server_uuid",
        Dialect::Mariadb => "SELECT CONCAT('mariadb-', @@global.server_id, '-', @@global.port)",
    }
}

/// A set as the server prints it; its empty text says nothing of the dialect.
pub(super) fn gtid_set(
    address: &str,
    dialect: Dialect,
    text: &str,
) -> Result<GtidSet, SourceError> {
    let empty = match dialect {
        Dialect::Mysql => GtidSet::mysql(),
        Dialect::Mariadb => GtidSet::mariadb(),
    };
    if text.trim().is_empty() {
        return Ok(empty);
    }
    match text.parse::<GtidSet>() {
        Ok(set) if std::mem::discriminant(&set) == std::mem::discriminant(&empty) => Ok(set),
        _ => Err(SourceError::Damaged {
            at: address.to_owned(),
            reason: format!("the server's GTID set cannot be read: {text:?}"),
        }),
    }
}

type Seen = HashMap<String, String>;

fn refused(session: &Session, seen: &Seen, reason: String, remedy: &str) -> SourceError {
    SourceError::Refused {
        what: format!(
            "the server at {} ({})",
            session.address(),
            seen.get("version").map_or("no version", String::as_str)
        ),
        reason,
        remedy: remedy.to_owned(),
    }
}

fn tell(seen: &Seen) -> Result<Server, (String, &'static str)> {
    let value = |name: &str| seen.get(name).map_or("", String::as_str);
    let version = format!("{} {}", value("version"), value("version_comment"))
        .trim()
        .to_owned();
    if seen.keys().any(|name| name.starts_with("tidb_")) || version.contains("TiDB") {
        return Err((
            "it is TiDB, which has no MySQL binlog".to_owned(),
            "use TiCDC for it, or replicate into a MySQL 8.0 or later and point OnAir there",
        ));
    }
    if seen.contains_key("gtid_domain_id") {
        let number = leading_numbers(value("version"));
        if number.is_some_and(|number| number < (10, 6))
            || !seen.contains_key("binlog_row_metadata")
        {
            return Err((
                "it is a MariaDB before 10.6".to_owned(),
                "upgrade it to 10.6 or later",
            ));
        }
        return Ok(Server {
            dialect: Dialect::Mariadb,
            version,
            id: format!("mariadb-{}-{}", value("server_id"), value("port")),
        });
    }
    if !seen.contains_key("server_uuid") || !seen.contains_key("gtid_mode") {
        return Err((
            "it has neither MySQL's nor MariaDB's GTIDs".to_owned(),
            SUPPORTED,
        ));
    }
    if !seen.contains_key("binlog_row_metadata") {
        return Err((
            "it is a MySQL before 8.0 (there is no binlog_row_metadata)".to_owned(),
            "upgrade it to 8.0 or later, or replicate into one and point OnAir there",
        ));
    }
    Ok(Server {
        dialect: Dialect::Mysql,
        version,
        id: value("server_uuid").to_owned(),
    })
}

/// `10.11.18-MariaDB` is (10, 11). MariaDB keeps this form; nothing is concluded when it is another.
fn leading_numbers(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(pairs: &[(&str, &str)]) -> Seen {
        pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    const MYSQL: &[(&str, &str)] = &[
        ("version", "26.10.0-3-log"),
        ("server_uuid", "3e11fa47-71ca-11e1-9e33-c80aa9429562"),
        ("server_id", "1"),
        ("gtid_mode", "ON"),
        ("binlog_row_metadata", "FULL"),
    ];
    const MARIADB: &[(&str, &str)] = &[
        ("version", "10.11.18-MariaDB-deb12-log"),
        ("server_id", "4"),
        ("port", "3307"),
        ("gtid_domain_id", "0"),
        ("binlog_row_metadata", "FULL"),
    ];

    #[test]
    fn features_decide_not_version_numbers() {
        let server = tell(&seen(MYSQL)).unwrap();
        assert_eq!(server.dialect, Dialect::Mysql);
        assert_eq!(server.id, "3e11fa47-71ca-11e1-9e33-c80aa9429562");
        let server = tell(&seen(MARIADB)).unwrap();
        assert_eq!(server.dialect, Dialect::Mariadb);
        assert_eq!(server.id, "mariadb-4-3307");
    }

    #[test]
    fn others_are_refused_with_a_remedy() {
        let without = |pairs: &[(&str, &str)], name| {
            let mut seen = seen(pairs);
            seen.remove(name);
            seen
        };
        let refusal = |seen: &Seen| {
            let (reason, remedy) = tell(seen).unwrap_err();
            assert!(!remedy.is_empty());
            reason
        };
        assert!(refusal(&without(MYSQL, "binlog_row_metadata")).contains("before 8.0"));
        assert!(refusal(&without(MYSQL, "server_uuid")).contains("neither"));
        assert!(refusal(&without(MARIADB, "binlog_row_metadata")).contains("before 10.6"));
        let mut old = seen(MARIADB);
        old.insert("version".to_owned(), "10.5.29-MariaDB".to_owned());
        assert!(refusal(&old).contains("before 10.6"));
        let mut tidb = seen(MYSQL);
        tidb.insert("version".to_owned(), "8.0.11-TiDB-v8.5.0".to_owned());
        assert!(refusal(&tidb).contains("TiDB"));
    }
}
