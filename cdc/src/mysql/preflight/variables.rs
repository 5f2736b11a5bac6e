//! Settings of the server: a table of what each must be and why.

use super::{Seen, finding, ok};
use crate::mysql::connect::Session;
use crate::mysql::server::GTID_MODE_REMEDY;
use crate::source::{Dialect, Finding, Level, SourceError};

/// One day: how long OnAir should be able to be away without a new scan.
const EXPIRY_MIN_SECONDS: u64 = 86_400;

/// What one setting must be.
struct Need {
    /// The finding's name, and the variable's.
    check: &'static str,
    /// The only dialect that has it.
    only: Option<Dialect>,
    /// Whether a value, in capitals, is good.
    good: fn(&str) -> bool,
    /// How bad anything else is.
    otherwise: Level,
    why: &'static str,
    fix: Fix,
}

enum Fix {
    /// To be set while the server runs.
    Set(&'static str),
    /// Something else.
    Do(&'static str),
}

const NEEDS: &[Need] = &[
    Need {
        check: "log_bin",
        only: None,
        good: is_on,
        otherwise: Level::Fail,
        why: "without a binlog there is nothing to follow",
        fix: Fix::Do("restart the server with --log-bin=binlog and a --server-id other than 0"),
    },
    Need {
        check: "server_id",
        only: None,
        good: |value| value != "0",
        otherwise: Level::Fail,
        why: "a server with id 0 refuses every reader of its binlog",
        fix: Fix::Set("1"),
    },
    Need {
        check: "gtid_mode",
        only: Some(Dialect::Mysql),
        good: is_on,
        otherwise: Level::Fail,
        why: "a position that survives restarts and failovers is a GTID set",
        fix: Fix::Do(GTID_MODE_REMEDY),
    },
    Need {
        check: "enforce_gtid_consistency",
        only: Some(Dialect::Mysql),
        good: is_on,
        otherwise: Level::Fail,
        why: "statements that break GTIDs must be refused",
        fix: Fix::Set("ON"),
    },
    Need {
        check: "gtid_strict_mode",
        only: Some(Dialect::Mariadb),
        good: is_on,
        otherwise: Level::Warn,
        why: "without it sequence numbers of a domain may come twice or out of order",
        fix: Fix::Set("ON"),
    },
    Need {
        check: "binlog_storage_engine",
        only: Some(Dialect::Mariadb),
        good: str::is_empty,
        otherwise: Level::Fail,
        why: "OnAir has not been tried with a binlog inside InnoDB",
        fix: Fix::Do("restart the server with an empty binlog_storage_engine"),
    },
    Need {
        check: "binlog_format",
        only: None,
        good: |value| value == "ROW",
        otherwise: Level::Fail,
        why: "only row events tell what a row became; a statement in the binlog forces a new scan",
        fix: Fix::Set("ROW"),
    },
    Need {
        check: "binlog_row_image",
        only: None,
        good: |value| value == "FULL",
        otherwise: Level::Fail,
        why: "whether a row was live before a change is in its before image",
        fix: Fix::Set("FULL"),
    },
    Need {
        check: "binlog_row_metadata",
        only: None,
        good: |value| value == "FULL",
        otherwise: Level::Warn,
        why: "with column names in the binlog an ALTER of other columns goes unnoticed; without, every \
              change of the table opens a new epoch with a scan",
        fix: Fix::Set("FULL"),
    },
    Need {
        check: "binlog_row_value_options",
        only: Some(Dialect::Mysql),
        good: |_| true,
        otherwise: Level::Ok,
        why: "partial JSON updates are understood",
        fix: Fix::Set("''"),
    },
    Need {
        check: "binlog_transaction_compression",
        only: Some(Dialect::Mysql),
        good: |_| true,
        otherwise: Level::Ok,
        why: "compressed transactions are understood",
        fix: Fix::Set("OFF"),
    },
    Need {
        check: "log_bin_compress",
        only: Some(Dialect::Mariadb),
        good: |_| true,
        otherwise: Level::Ok,
        why: "compressed events are understood",
        fix: Fix::Set("OFF"),
    },
    Need {
        check: "binlog_checksum",
        only: None,
        good: |value| value == "CRC32",
        otherwise: Level::Warn,
        why: "without checksums damage on disk or on the way goes unnoticed",
        fix: Fix::Set("CRC32"),
    },
    Need {
        check: "sync_binlog",
        only: None,
        good: |value| value == "1",
        otherwise: Level::Warn,
        why: "with any other value a crash of the server takes back transactions that clients have seen",
        fix: Fix::Set("1"),
    },
    Need {
        check: "innodb_flush_log_at_trx_commit",
        only: None,
        good: |value| value == "1",
        otherwise: Level::Warn,
        why: "with any other value a crash may leave tables behind the binlog",
        fix: Fix::Set("1"),
    },
    Need {
        check: "binlog_expire_logs_seconds",
        only: None,
        good: |value| {
            let seconds: Option<u64> = value.parse().ok();
            seconds.is_some_and(|seconds| seconds == 0 || seconds >= EXPIRY_MIN_SECONDS)
        },
        otherwise: Level::Warn,
        why: "a reader that was away for longer than the binlog is kept must scan the table again",
        fix: Fix::Set("604800"),
    },
];

/// Asked besides: what other checks look at.
const OTHERS: &[&str] = &[
    "log_replica_updates",
    "log_slave_updates",
    "replica_preserve_commit_order",
    "slave_preserve_commit_order",
    "replica_parallel_workers",
    "slave_parallel_workers",
    "innodb_native_foreign_keys",
];

fn is_on(value: &str) -> bool {
    value == "ON"
}

/// The variables that the checks look at.
pub(super) async fn seen(session: &mut Session) -> Result<Seen, SourceError> {
    let names: Vec<_> = NEEDS
        .iter()
        .map(|need| need.check)
        .chain(OTHERS.iter().copied())
        .map(|name| format!("'{name}'"))
        .collect();
    let rows: Vec<(String, String)> = session
        .rows(&format!(
            "SHOW GLOBAL VARIABLES WHERE Variable_name IN ({})",
            names.join(", ")
        ))
        .await?;
    Ok(rows
        .into_iter()
        .map(|(name, value)| (name.to_ascii_lowercase(), value))
        .collect())
}

/// One finding for each setting that this server has.
pub(super) fn check(seen: &Seen, dialect: Dialect, findings: &mut Vec<Finding>) {
    for need in NEEDS {
        if need.only.is_some_and(|only| only != dialect) {
            continue;
        }
        // A setting that is gone has become what it must be: newer servers drop the others.
        let Some(value) = seen.get(need.check) else {
            continue;
        };
        findings.push(if (need.good)(&value.to_ascii_uppercase()) {
            ok(need.check, value, need.why)
        } else {
            finding(
                need.check,
                need.otherwise,
                value,
                need.why,
                need.fix(dialect),
            )
        });
    }
}

/// A finding for each setting that can be wrong, as if it were.
#[cfg(test)]
pub(super) fn all_wrong(dialect: Dialect) -> Vec<Finding> {
    NEEDS
        .iter()
        .filter(|need| need.only.is_none_or(|only| only == dialect) && need.otherwise != Level::Ok)
        .map(|need| finding(need.check, need.otherwise, "", need.why, need.fix(dialect)))
        .collect()
}

impl Need {
    fn fix(&self, dialect: Dialect) -> String {
        match (&self.fix, dialect) {
            (Fix::Do(what), _) => (*what).to_owned(),
            (Fix::Set(value), Dialect::Mysql) => format!("SET PERSIST {} = {value}", self.check),
            (Fix::Set(value), Dialect::Mariadb) => format!(
                "SET GLOBAL {name} = {value}, and {name} = {value} under [mariadbd] in its configuration file",
                name = self.check
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_setting_is_judged_by_its_own_rule() {
        let levels = |dialect, pairs: &[(&str, &str)]| {
            let seen = pairs
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect();
            let mut findings = Vec::new();
            check(&seen, dialect, &mut findings);
            findings
                .into_iter()
                .map(|finding| (finding.check, finding.level, finding.fix))
                .collect::<Vec<_>>()
        };
        let found = levels(
            Dialect::Mysql,
            &[
                ("binlog_row_image", "MINIMAL"),
                ("sync_binlog", "0"),
                ("binlog_expire_logs_seconds", "3600"),
                ("gtid_strict_mode", "OFF"),
                ("binlog_format", "ROW"),
            ],
        );
        assert_eq!(
            found,
            [
                ("binlog_format", Level::Ok, String::new()),
                (
                    "binlog_row_image",
                    Level::Fail,
                    "SET PERSIST binlog_row_image = FULL".to_owned()
                ),
                (
                    "sync_binlog",
                    Level::Warn,
                    "SET PERSIST sync_binlog = 1".to_owned()
                ),
                (
                    "binlog_expire_logs_seconds",
                    Level::Warn,
                    "SET PERSIST binlog_expire_logs_seconds = 604800".to_owned()
                ),
            ]
        );
        let found = levels(Dialect::Mariadb, &[("binlog_expire_logs_seconds", "0")]);
        assert_eq!(found[0].1, Level::Ok);
    }
}
