//! Foreign keys of a captured table that change its rows when rows of another table change.

use std::collections::BTreeSet;
use std::fmt;

use crate::feed::TableName;
use crate::mysql::connect::{Session, identifier, literal};
use crate::mysql::errors::{explain, is_denied};
use crate::source::{Dialect, SourceError};

/// One foreign key of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ForeignKey {
    pub(super) name: String,
    /// Its columns in small letters; `None` when the account may not see all of them.
    columns: Option<Vec<String>>,
    on_delete: String,
    on_update: String,
}

impl ForeignKey {
    /// Whether it can change a row's presence or one of these columns (in small letters).
    pub(super) fn harms(&self, captured: &BTreeSet<String>) -> bool {
        let acts = |rule: &str| matches!(rule, "CASCADE" | "SET NULL" | "SET DEFAULT");
        let touches = match &self.columns {
            Some(columns) => columns.iter().any(|column| captured.contains(column)),
            None => true,
        };
        self.on_delete == "CASCADE" || ((acts(&self.on_delete) || acts(&self.on_update)) && touches)
    }
}

impl fmt::Display for ForeignKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} ON DELETE {} ON UPDATE {}",
            self.name, self.on_delete, self.on_update
        )
    }
}

/// The table's foreign keys; `None` when the account may not see them.
pub(super) async fn of(
    session: &mut Session,
    dialect: Dialect,
    table: &TableName,
) -> Result<Option<Vec<ForeignKey>>, SourceError> {
    match dialect {
        Dialect::Mysql => from_schema(session, table).await.map(Some),
        // Its information schema shows them only to accounts that may change the table.
        Dialect::Mariadb => from_definition(session, table).await,
    }
}

async fn from_schema(
    session: &mut Session,
    table: &TableName,
) -> Result<Vec<ForeignKey>, SourceError> {
    let (database, table) = (literal(&table.database), literal(&table.table));
    let keys: Vec<(String, String, String)> = session
        .rows(&format!(
            "SELECT CONSTRAINT_NAME, DELETE_RULE, UPDATE_RULE \
             FROM information_schema.REFERENTIAL_CONSTRAINTS \
             WHERE CONSTRAINT_SCHEMA = {database} AND TABLE_NAME = {table}"
        ))
        .await?;
    let columns: Vec<(String, String)> = session
        .rows(&format!(
            "SELECT CONSTRAINT_NAME, COLUMN_NAME FROM information_schema.KEY_COLUMN_USAGE \
             WHERE TABLE_SCHEMA = {database} AND TABLE_NAME = {table} AND REFERENCED_TABLE_NAME IS NOT NULL"
        ))
        .await?;
    let columns = |name: &str| {
        let own = columns.iter().filter(|(constraint, _)| constraint == name);
        let own: Vec<_> = own.map(|(_, column)| column.to_lowercase()).collect();
        (!own.is_empty()).then_some(own)
    };
    Ok(keys
        .into_iter()
        .map(|(name, on_delete, on_update)| ForeignKey {
            columns: columns(&name),
            name,
            on_delete,
            on_update,
        })
        .collect())
}

async fn from_definition(
    session: &mut Session,
    table: &TableName,
) -> Result<Option<Vec<ForeignKey>>, SourceError> {
    let shown: Result<Vec<(String, String)>, _> = session
        .try_rows(&format!(
            "SHOW CREATE TABLE {}.{}",
            identifier(&table.database),
            identifier(&table.table)
        ))
        .await?;
    match shown {
        Ok(rows) => Ok(Some(
            rows.iter()
                .flat_map(|(_, definition)| definition.lines())
                .filter_map(foreign_key)
                .collect(),
        )),
        Err(err) if is_denied(&err) => Ok(None),
        Err(err) => Err(explain(session.address(), &err)),
    }
}

/// ``CONSTRAINT `name` FOREIGN KEY (`a`, `b`) REFERENCES .. ON DELETE CASCADE``, a line of a definition.
fn foreign_key(line: &str) -> Option<ForeignKey> {
    let line = line.trim_start().strip_prefix("CONSTRAINT `")?;
    let (name, rest) = line.split_once("` FOREIGN KEY (")?;
    let (columns, rest) = rest.split_once(") REFERENCES ")?;
    let columns = columns
        .split(", ")
        .map(|column| column.trim_matches('`').replace("``", "`").to_lowercase())
        .collect();
    // The actions stand after the last parenthesis, where no name can be.
    let actions = rest.rsplit_once(')').map_or("", |(_, actions)| actions);
    let rule = |event: &str| {
        let found = [
            "CASCADE",
            "SET NULL",
            "SET DEFAULT",
            "NO ACTION",
            "RESTRICT",
        ]
        .into_iter()
        .find(|rule| actions.contains(&format!("{event} {rule}")));
        found.unwrap_or("RESTRICT").to_owned()
    };
    Some(ForeignKey {
        name: name.to_owned(),
        columns: Some(columns),
        on_delete: rule("ON DELETE"),
        on_update: rule("ON UPDATE"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cascades_harm_when_they_reach_what_is_captured() {
        let captured: BTreeSet<String> = ["id".to_owned(), "owner".to_owned()].into();
        let harms = |line: &str| foreign_key(line).map(|key| key.harms(&captured));
        let line = |column: &str, actions: &str| {
            format!("  CONSTRAINT `c` FOREIGN KEY (`{column}`) REFERENCES `p` (`id`) {actions},")
        };
        assert_eq!(harms(&line("x", "ON DELETE CASCADE")), Some(true));
        assert_eq!(harms(&line("x", "ON DELETE SET NULL")), Some(false));
        assert_eq!(harms(&line("Owner", "ON DELETE SET NULL")), Some(true));
        assert_eq!(
            harms(&line("owner", "ON DELETE NO ACTION ON UPDATE CASCADE")),
            Some(true)
        );
        assert_eq!(harms(&line("owner", "")), Some(false));
        assert_eq!(harms("  `FOREIGN KEY` int(11) DEFAULT NULL,"), None);
        assert_eq!(harms("  CONSTRAINT `k` CHECK (`a` > 1)"), None);
    }
}
