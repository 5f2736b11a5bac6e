//! A connection that reads rows as they are stored.

use std::sync::Arc;

use mysql_async::Error;
use onair_model::column::Column;
use onair_model::value::Value;

use super::values;
use crate::mysql::connect::{Connector, limited};
use crate::mysql::errors::explain;
use crate::mysql::server;
use crate::mysql::wire::{Row, Rows, Sent, Wire};
use crate::source::{Dialect, SourceError};

/// What a connection sets before it looks at rows. Text comes in the column's own character set, times in UTC; no
/// default of the server's may hide rows, show uncommitted ones, pad or end the query; and waiting for a lock ends soon,
/// because we retry.
pub(super) fn settings(dialect: Dialect) -> [String; 2] {
    let time_max = match dialect {
        Dialect::Mysql => "max_execution_time",
        Dialect::Mariadb => "max_statement_time",
    };
    [
        format!(
            "SET NAMES utf8mb4, sql_mode = '', autocommit = 1, character_set_results = NULL, \
             time_zone = '+00:00', sql_auto_is_null = 0, sql_select_limit = 18446744073709551615, \
             net_write_timeout = 600, lock_wait_timeout = 10, {time_max} = 0"
        ),
        "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY".to_owned(),
    ]
}

pub(super) struct Connection {
    wire: Wire,
    address: Arc<str>,
}

/// What one statement gave.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Given {
    pub(super) rows: u64,
    /// As they were sent.
    pub(super) bytes: u64,
}

impl Connection {
    /// Opens one, and says which server it reached.
    pub(super) async fn open(
        connector: &Connector,
        dialect: Dialect,
    ) -> Result<(Self, String), SourceError> {
        let mut connection = Connection {
            wire: connector.open_wire().await?,
            address: Arc::clone(connector.address()),
        };
        for statement in settings(dialect) {
            connection.run(&statement).await?;
        }
        let asking = connection.wire.ask(server::id_query(dialect));
        let id = limited(&connection.address, asking).await?;
        let id = id.map_err(|err| explain(&connection.address, &err))?;
        Ok((connection, id))
    }

    /// `host:port`.
    pub(super) fn address(&self) -> &Arc<str> {
        &self.address
    }

    /// Runs a statement that has no result.
    pub(super) async fn run(&mut self, sql: &str) -> Result<(), SourceError> {
        let done = limited(&self.address, self.wire.run(sql)).await?;
        done.map_err(|err| explain(&self.address, &err))
    }

    /// The rows of a query whose columns are texts; `None` for what is none.
    pub(super) async fn texts(
        &mut self,
        sql: &str,
    ) -> Result<Vec<Vec<Option<String>>>, SourceError> {
        let found = limited(&self.address, texts(&mut self.wire, sql)).await?;
        found.map_err(|err| explain(&self.address, &err))
    }

    /// Gives all rows of a query to the sink.
    pub(super) async fn read(
        &mut self,
        sql: &str,
        columns: &[Column],
        mut sink: impl FnMut(&[Value<'_>]),
    ) -> Result<Given, SourceError> {
        let address = &self.address;
        let failed = |err: Error| explain(address, &err);
        let mut rows = self.wire.select(sql).await.map_err(failed)?;
        let mut given = Given::default();
        while let Some(row) = rows.next().await.map_err(failed)? {
            let values = taken_apart(&rows, &row, columns);
            let values = values.map_err(|reason| SourceError::Damaged {
                at: format!("{address}, scan"),
                reason,
            })?;
            sink(&values);
            given.rows += 1;
            given.bytes += row.bytes() as u64;
        }
        rows.close().await.map_err(failed)?;
        Ok(given)
    }

    /// Says goodbye, which is a courtesy.
    pub(super) async fn leave(self) {
        let _ = limited(&self.address, self.wire.quit()).await;
    }
}

async fn texts(wire: &mut Wire, sql: &str) -> Result<Vec<Vec<Option<String>>>, Error> {
    let mut rows = wire.select(sql).await?;
    let mut found = Vec::new();
    while let Some(row) = rows.next().await? {
        let text = |sent| match sent {
            Some(Sent::Bytes(text)) => Some(String::from_utf8_lossy(text).into_owned()),
            _ => None,
        };
        found.push(rows.values(&row).map(text).collect());
    }
    rows.close().await?;
    Ok(found)
}

fn taken_apart<'a>(
    rows: &'a Rows<'_>,
    row: &'a Row,
    columns: &[Column],
) -> Result<Vec<Value<'a>>, String> {
    let mut values = Vec::with_capacity(columns.len());
    let mut sent = rows.values(row);
    for column in columns {
        let Some(Some(sent)) = sent.next() else {
            return Err(format!("column {} is not there whole", column.name));
        };
        values.push(values::value(column, sent)?);
    }
    Ok(values)
}
