//! A feed's table: there, readable, of the right engine, and fit for what the feed asks of it.

use std::collections::BTreeSet;

use super::foreign_keys::{self, ForeignKey};
use super::{Seen, finding, ok};
use crate::bind::{BindProblem, FieldNumbers, bind};
use crate::feed::{Feed, FeedConfig, Table};
use crate::mysql::connect::{Session, identifier, literal};
use crate::mysql::errors::{explain, is_denied, said};
use crate::mysql::table;
use crate::source::{Dialect, Finding, Level, SourceError};

/// The checks of one feed.
pub(super) struct Check<'a> {
    pub(super) session: &'a mut Session,
    pub(super) dialect: Dialect,
    pub(super) seen: &'a Seen,
    /// Whom a GRANT must name.
    pub(super) account: &'a str,
    pub(super) feed: &'a FeedConfig,
}

impl Check<'_> {
    /// One after the other, as far as they make sense.
    pub(super) async fn run(&mut self, findings: &mut Vec<Finding>) -> Result<(), SourceError> {
        let Some(table) = self.table(findings).await? else {
            return Ok(());
        };
        self.engine(&table, findings).await?;
        let Some(feed) = self.bound(&table, findings) else {
            return Ok(());
        };
        self.select(&feed, findings).await?;
        self.foreign_keys(&feed, findings).await
    }

    async fn table(&mut self, findings: &mut Vec<Finding>) -> Result<Option<Table>, SourceError> {
        const CHECK: &str = "table";
        const WHY: &str = "a feed is made of the rows of one table with a primary key";
        let name = self.feed.table.clone();
        let failed = |seen: String, fix: String| Some(finding(CHECK, Level::Fail, seen, WHY, fix));
        let found = table::table(self.session, self.dialect, &name).await;
        let (table, problem) = match found {
            Ok(table) => (Some(table), None),
            Err(SourceError::NoTable { .. }) => (
                None,
                failed(
                    format!("{name} is not there, or the account may not see it"),
                    format!("create it, or GRANT SELECT ON {name} TO {}", self.account),
                ),
            ),
            Err(
                SourceError::Refused { reason, remedy, .. }
                | SourceError::Denied { reason, remedy, .. },
            ) => (None, failed(format!("{name}: {reason}"), remedy)),
            Err(other) => return Err(other),
        };
        findings.extend(problem);
        if let Some(table) = &table {
            let key: Vec<_> = table
                .primary_key
                .iter()
                .map(|at| &*table.columns[*at].name)
                .collect();
            findings.push(ok(
                CHECK,
                format!(
                    "{}: {} columns, primary key ({})",
                    table.name,
                    table.columns.len(),
                    key.join(", ")
                ),
                WHY,
            ));
        }
        Ok(table)
    }

    async fn engine(
        &mut self,
        table: &Table,
        findings: &mut Vec<Finding>,
    ) -> Result<(), SourceError> {
        const CHECK: &str = "engine";
        const WHY: &str =
            "only InnoDB writes and shows a transaction as one, which scan and stream rely on";
        let engine: Option<String> = self
            .session
            .one(&format!(
                "SELECT MAX(ENGINE) FROM information_schema.TABLES WHERE TABLE_SCHEMA = {} AND TABLE_NAME = {}",
                literal(&table.name.database),
                literal(&table.name.table)
            ))
            .await?;
        let engine = engine.unwrap_or_default();
        let seen = format!("{}: {engine}", table.name);
        findings.push(if engine.eq_ignore_ascii_case("InnoDB") {
            ok(CHECK, seen, WHY)
        } else {
            let fix = format!("ALTER TABLE {} ENGINE = InnoDB", table.name);
            finding(CHECK, Level::Fail, seen, WHY, fix)
        });
        Ok(())
    }

    /// Columns, predicate, key and character sets.
    fn bound(&self, table: &Table, findings: &mut Vec<Finding>) -> Option<Feed> {
        match bind(self.feed, table, &FieldNumbers::default()) {
            Ok((feed, _)) => {
                findings.push(ok("live_when", &*self.feed.live_when, LIVE_WHEN_WHY));
                findings.push(ok("columns", self.feed.columns.join(", "), COLUMNS_WHY));
                Some(feed)
            }
            Err(err) => {
                findings.extend(err.problems.iter().map(|problem| self.unfit(problem)));
                None
            }
        }
    }

    fn unfit(&self, problem: &BindProblem) -> Finding {
        let table = &self.feed.table;
        let (check, why, fix) = match problem {
            BindProblem::NoPrimaryKey { .. } => (
                "primary_key",
                "without one rows cannot be told apart",
                format!("ALTER TABLE {table} ADD PRIMARY KEY (..)"),
            ),
            BindProblem::KeyType { .. } => (
                "primary_key",
                "the bytes of a key must be the same wherever they come from",
                format!("ALTER TABLE {table} DROP PRIMARY KEY, ADD PRIMARY KEY (..)"),
            ),
            BindProblem::Charset { column, .. } => (
                "character_set",
                "clients get text as UTF-8, exactly as SELECT gives it",
                format!("ALTER TABLE {table} MODIFY {column} .. CHARACTER SET utf8mb4"),
            ),
            BindProblem::LiveWhen(_) => (
                "live_when",
                LIVE_WHEN_WHY,
                format!("correct live_when of feed {}", self.feed.name),
            ),
            BindProblem::UnknownColumn { .. }
            | BindProblem::DuplicateColumn { .. }
            | BindProblem::NoColumns { .. }
            | BindProblem::Unreadable { .. }
            | BindProblem::NoNumberLeft { .. } => (
                "columns",
                COLUMNS_WHY,
                format!("correct columns of feed {}", self.feed.name),
            ),
        };
        finding(check, Level::Fail, problem.to_string(), why, fix)
    }

    /// Asks the scan's question without wanting a row.
    async fn select(
        &mut self,
        feed: &Feed,
        findings: &mut Vec<Finding>,
    ) -> Result<(), SourceError> {
        const CHECK: &str = "select_access";
        const WHY: &str = "the scan reads the key, the exported columns and those of live_when";
        let table = &feed.config.table;
        let columns: Vec<_> = captured(feed)
            .into_iter()
            .map(|at| identifier(&feed.columns[at].name))
            .collect();
        let columns = columns.join(", ");
        let asked = self
            .session
            .try_run(&format!(
                "SELECT {columns} FROM {}.{} WHERE {} LIMIT 0",
                identifier(&table.database),
                identifier(&table.table),
                feed.live_when.to_sql()
            ))
            .await?;
        findings.push(match asked {
            Ok(()) => ok(CHECK, format!("{table}: {columns}"), WHY),
            Err(err) if is_denied(&err) => {
                let reason = match &err {
                    mysql_async::Error::Server(err) => said(err),
                    other => other.to_string(),
                };
                let fix = format!("GRANT SELECT ({columns}) ON {table} TO {}", self.account);
                finding(CHECK, Level::Fail, reason, WHY, fix)
            }
            Err(err) => return Err(explain(self.session.address(), &err)),
        });
        Ok(())
    }

    async fn foreign_keys(
        &mut self,
        feed: &Feed,
        findings: &mut Vec<Finding>,
    ) -> Result<(), SourceError> {
        const CHECK: &str = "foreign_keys";
        const WHY: &str =
            "InnoDB carries out cascades below the binlog: rows change without an event";
        let table = &feed.config.table;
        let logged = self
            .seen
            .get("innodb_native_foreign_keys")
            .is_some_and(|native| native.eq_ignore_ascii_case("OFF"));
        if logged {
            findings.push(ok(CHECK, "cascades are in this server's binlog", WHY));
            return Ok(());
        }
        let Some(keys) = foreign_keys::of(self.session, self.dialect, table).await? else {
            findings.push(finding(
                CHECK,
                Level::Warn,
                format!("{table}: the account may not see them"),
                WHY,
                format!(
                    "GRANT SELECT ON {table} TO {}, or see SHOW CREATE TABLE {table}",
                    self.account
                ),
            ));
            return Ok(());
        };
        let captured: BTreeSet<String> = captured(feed)
            .into_iter()
            .map(|at| feed.columns[at].name.to_lowercase())
            .collect();
        let harmful: Vec<&ForeignKey> = keys.iter().filter(|key| key.harms(&captured)).collect();
        findings.push(match harmful.first() {
            None => ok(CHECK, format!("{table}: no cascade changes what is captured"), WHY),
            Some(first) => {
                let all: Vec<_> = harmful.iter().map(|key| key.to_string()).collect();
                finding(
                    CHECK,
                    Level::Fail,
                    format!("{table}: {}", all.join(", ")),
                    WHY,
                    format!(
                        "ALTER TABLE {table} DROP FOREIGN KEY {}, and cascade in the application; from MySQL 9.6 \
                         on also SET PERSIST_ONLY innodb_native_foreign_keys = OFF and a restart",
                        identifier(&first.name)
                    ),
                )
            }
        });
        Ok(())
    }
}

const LIVE_WHEN_WHY: &str = "MySQL and OnAir must agree on which rows are live";
const COLUMNS_WHY: &str = "every exported column must be there and readable";

/// Ordinals of the key's, the exported and the predicate's columns.
fn captured(feed: &Feed) -> BTreeSet<usize> {
    let mut captured: BTreeSet<usize> = feed.key.iter().chain(&feed.exported).copied().collect();
    captured.extend(feed.live_when.columns());
    captured
}
