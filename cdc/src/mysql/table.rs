//! A table's columns and primary key, from the information schema.
//!
//! In: a name. Out: [`Table`], its columns as row images carry them: stored, virtual and invisible ones, and the
//! invisible primary key that MySQL generates. Wrong: what cannot be captured is refused with the remedy.

use mysql_async::Row;
use onair_model::column::{Column, ColumnType, IntWidth};

use super::connect::{Session, identifier, literal};
use super::errors::{explain, is_denied, is_unknown};
use crate::column_def::{Declared, column_type};
use crate::feed::{Table, TableName};
use crate::source::{Dialect, SourceError};

/// Looks a table up.
pub(super) async fn table(
    session: &mut Session,
    dialect: Dialect,
    name: &TableName,
) -> Result<Table, SourceError> {
    if dialect == Dialect::Mysql {
        show_generated_keys(session).await?;
    }
    let (name, kind) = spelled(session, name).await?;
    check_kind(&name, &kind)?;
    let columns = columns(session, &name).await?;
    let primary_key = primary_key(session, &name, &columns).await?;
    check_complete(session, &name, &columns).await?;
    let mut columns: Vec<_> = columns.into_iter().map(|(_, column)| column).collect();
    if dialect == Dialect::Mariadb {
        columns.extend(hidden_hashes(session, &name).await?);
    }
    Ok(Table {
        name,
        columns,
        primary_key,
    })
}

/// A hidden generated primary key is in row images, so it must not be hidden from us. MySQL 8.0.30 and later.
async fn show_generated_keys(session: &mut Session) -> Result<(), SourceError> {
    let shown = session
        .try_run("SET SESSION show_gipk_in_create_table_and_information_schema = ON")
        .await?;
    match shown {
        Err(err) if !is_unknown(&err) && !is_denied(&err) => Err(explain(session.address(), &err)),
        _ => Ok(()),
    }
}

/// The name as the server spells it, and what kind of table it is.
async fn spelled(
    session: &mut Session,
    name: &TableName,
) -> Result<(TableName, String), SourceError> {
    let found: Vec<(String, String, String)> = session
        .rows(&format!(
            "SELECT TABLE_SCHEMA, TABLE_NAME, TABLE_TYPE FROM information_schema.TABLES \
             WHERE TABLE_SCHEMA = {} AND TABLE_NAME = {}",
            literal(&name.database),
            literal(&name.table)
        ))
        .await?;
    let folds: u8 = session
        .one("SELECT @@global.lower_case_table_names")
        .await?;
    let exact = |(database, table, _): &&(String, String, String)| {
        **database == *name.database && **table == *name.table
    };
    let (database, table, kind) = found
        .iter()
        .find(exact)
        .or_else(|| found.first().filter(|_| folds != 0))
        .ok_or_else(|| SourceError::NoTable {
            table: name.to_string(),
        })?;
    let name = TableName {
        database: database.as_str().into(),
        table: table.as_str().into(),
    };
    Ok((name, kind.clone()))
}

fn check_kind(name: &TableName, kind: &str) -> Result<(), SourceError> {
    let (reason, remedy) = match kind.to_ascii_uppercase().as_str() {
        "BASE TABLE" => return Ok(()),
        kind if kind.contains("VIEW") => (
            "it is a view, and the binlog has no changes of views".to_owned(),
            "make a feed of the table below it, with the view's condition in live_when",
        ),
        "SYSTEM VERSIONED" => (
            "it is system-versioned: an UPDATE leaves the old row in it under the same key"
                .to_owned(),
            "ALTER TABLE .. DROP SYSTEM VERSIONING, or keep the history in another table",
        ),
        other => (
            format!("it is a {other}"),
            "make a feed of an ordinary InnoDB table",
        ),
    };
    Err(SourceError::Refused {
        what: format!("table {name}"),
        reason,
        remedy: remedy.to_owned(),
    })
}

/// Columns with their ordinal positions, in order.
async fn columns(
    session: &mut Session,
    name: &TableName,
) -> Result<Vec<(u64, Column)>, SourceError> {
    let rows: Vec<Row> = session
        .rows(&format!(
            "SELECT ORDINAL_POSITION, COLUMN_NAME, DATA_TYPE, COLUMN_TYPE, COLLATION_NAME, IS_NULLABLE \
             FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = {} AND TABLE_NAME = {} \
             ORDER BY ORDINAL_POSITION",
            literal(&name.database),
            literal(&name.table)
        ))
        .await?;
    let mut columns = Vec::with_capacity(rows.len());
    for row in rows {
        columns.push(column(session, name, &row)?);
    }
    if columns.is_empty() {
        return Err(no_select(
            session,
            name,
            "the account may see none of its columns",
        ));
    }
    Ok(columns)
}

fn column(session: &Session, table: &TableName, row: &Row) -> Result<(u64, Column), SourceError> {
    let text = |index| row.get::<Option<String>, usize>(index).flatten();
    let damaged = |reason: String| SourceError::Damaged {
        at: session.address().to_string(),
        reason,
    };
    let (Some(position), Some(column), Some(data_type), Some(full_type)) =
        (row.get::<u64, usize>(0), text(1), text(2), text(3))
    else {
        return Err(damaged(format!("a column of {table} without name or type")));
    };
    let collation = text(4);
    let declared = Declared {
        data_type: &data_type,
        column_type: &full_type,
        collation: collation.as_deref(),
    };
    let ty = column_type(&declared).map_err(|err| damaged(format!("{table}.{column}: {err}")))?;
    let nullable = text(5).is_none_or(|nullable| nullable != "NO");
    Ok((
        position,
        Column {
            name: column.into(),
            ty,
            nullable,
        },
    ))
}

/// Ordinals of the primary key's columns.
async fn primary_key(
    session: &mut Session,
    name: &TableName,
    columns: &[(u64, Column)],
) -> Result<Vec<usize>, SourceError> {
    let parts: Vec<(Option<String>, Option<u64>)> = session
        .rows(&format!(
            "SELECT COLUMN_NAME, SUB_PART FROM information_schema.STATISTICS WHERE TABLE_SCHEMA = {} \
             AND TABLE_NAME = {} AND INDEX_NAME = 'PRIMARY' ORDER BY SEQ_IN_INDEX",
            literal(&name.database),
            literal(&name.table)
        ))
        .await?;
    let mut key = Vec::with_capacity(parts.len());
    for (column, prefix) in parts {
        let column = column.unwrap_or_default();
        if let Some(prefix) = prefix {
            return Err(SourceError::Refused {
                what: format!("table {name}"),
                reason: format!(
                    "its primary key has only the first {prefix} characters of {column}, so that rows cannot \
                     be told apart by it"
                ),
                remedy: "ALTER TABLE it to a primary key of whole columns".to_owned(),
            });
        }
        let found = columns.iter().position(|(_, c)| *c.name == *column);
        key.push(found.ok_or_else(|| {
            no_select(
                session,
                name,
                &format!("the account may not see its key column {column}"),
            )
        })?);
    }
    Ok(key)
}

/// With grants on single columns the information schema hides the others. Row images have them all, which is
/// no harm while the binlog names its columns.
async fn check_complete(
    session: &mut Session,
    name: &TableName,
    columns: &[(u64, Column)],
) -> Result<(), SourceError> {
    let metadata: String = session.one("SELECT @@global.binlog_row_metadata").await?;
    if metadata.eq_ignore_ascii_case("FULL") {
        return Ok(());
    }
    let gap = columns
        .iter()
        .zip(1..)
        .any(|((position, _), expected)| *position != expected);
    let all = session
        .try_run(&format!(
            "SELECT * FROM {}.{} LIMIT 0",
            identifier(&name.database),
            identifier(&name.table)
        ))
        .await?;
    match all {
        Ok(()) if !gap => Ok(()),
        Err(err) if !is_denied(&err) => Err(explain(session.address(), &err)),
        _ => Err(SourceError::Denied {
            address: session.address().to_string(),
            reason: format!(
                "table {name}: the account may see only some of its columns, and with binlog_row_metadata = \
                 {metadata} the binlog does not name them, so that rows cannot be read"
            ),
            remedy: format!(
                "SET PERSIST binlog_row_metadata = FULL (MariaDB: SET GLOBAL, and in its configuration file), or \
                 GRANT SELECT ON {name} TO the account"
            ),
        }),
    }
}

/// MariaDB keeps the hash of a unique key over long columns in a hidden column after all others.
async fn hidden_hashes(
    session: &mut Session,
    name: &TableName,
) -> Result<Vec<Column>, SourceError> {
    let keys: u64 = session
        .one(&format!(
            "SELECT COUNT(DISTINCT INDEX_NAME) FROM information_schema.STATISTICS WHERE TABLE_SCHEMA = {} \
             AND TABLE_NAME = {} AND INDEX_TYPE = 'HASH' AND NON_UNIQUE = 0",
            literal(&name.database),
            literal(&name.table)
        ))
        .await?;
    let hash = |number| Column {
        name: format!("DB_ROW_HASH_{number}").into(),
        ty: ColumnType::Int {
            width: IntWidth::Big,
            unsigned: true,
        },
        nullable: true,
    };
    Ok((1..=keys).map(hash).collect())
}

fn no_select(session: &Session, name: &TableName, reason: &str) -> SourceError {
    SourceError::Denied {
        address: session.address().to_string(),
        reason: format!("table {name}: {reason}"),
        remedy: format!("GRANT SELECT ON {name} TO the account"),
    }
}
