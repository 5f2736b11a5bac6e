//! A full pass over the live rows of a table, tied to the GTID set that it shows (DESIGN section 5).
//!
//! In: a feed and what the stream has delivered. Out: rows to the sink, then the set that contains every
//! transaction that a row may show. No locks, no writes. Wrong: any connection's error ends the whole scan;
//! rows may then have been given to the sink, and the caller forgets them.

mod key;
mod mariadb;
mod mysql;
mod ranges;
mod throttle;
mod values;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mysql_async::Row;
use mysql_async::prelude::Queryable;
use onair_model::column::Column;
use onair_model::value::Value;
use onair_model::{GtidSet, Key};
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;

use self::key::KeyColumns;
use self::ranges::Plan;
use self::throttle::Throttle;
use super::connect::{Connector, Session, identifier};
use super::errors::explain;
use super::server;
use crate::feed::{Feed, TableName};
use crate::source::{Dialect, Gate, RowSink, ScanRequest, Scanned, SourceError};

/// More ranges than connections, so that those that finish early find more to do.
const RANGES_PER_CONNECTION: usize = 4;
/// Far above what a server gains from.
const CONNECTIONS_MAX: usize = 64;

/// Scans; `expected` is the server that the stream follows, if one is followed.
pub(super) async fn scan(
    connector: &Connector,
    dialect: Dialect,
    expected: Option<String>,
    request: &ScanRequest,
    sink: RowSink,
) -> Result<Scanned, SourceError> {
    let parallel = request.parallel.clamp(1, CONNECTIONS_MAX);
    let (mut planner, id) = connect(connector, dialect).await?;
    if let Some(expected) = expected {
        same_server(&planner, &expected, &id)?;
    }
    if dialect == Dialect::Mysql {
        mysql::wait_for(&mut planner, &request.delivered).await?;
    }
    // They log in while the ranges are planned.
    let mut connecting = JoinSet::new();
    for _ in 0..parallel {
        let connector = connector.clone();
        connecting.spawn(async move { connect(&connector, dialect).await });
    }
    let throttle = Throttle::new(request.max_rate);
    let work = Work::plan(&mut planner, &request.feed, parallel, throttle).await?;
    let work = Arc::new(work);

    let mut readers = JoinSet::new();
    while let Some(connected) = connecting.join_next().await {
        let (session, reached) = connected.map_err(|err| ended_early(connector, &err))??;
        same_server(&session, &id, &reached)?;
        let reader = Reader {
            number: readers.len(),
            session,
            dialect,
            delivered: request.delivered.clone(),
            work: Arc::clone(&work),
            gate: request.gate.clone(),
            sink: Arc::clone(&sink),
        };
        readers.spawn(reader.run());
    }
    let mut scanned = Scanned {
        high: request.delivered.clone(),
        rows: 0,
        bytes: 0,
        busy: Duration::ZERO,
    };
    // Dropping the set, here on an error or by our caller, ends the others.
    while let Some(read) = readers.join_next().await {
        let read = read.map_err(|err| ended_early(connector, &err))??;
        scanned.rows += read.rows;
        scanned.bytes += read.bytes;
        scanned.busy += read.busy;
        scanned.high.union(&read.view);
    }
    if dialect == Dialect::Mysql {
        scanned.high.union(&server::assigned(&mut planner).await?);
    }
    planner.leave().await;
    Ok(scanned)
}

fn ended_early(connector: &Connector, err: &JoinError) -> SourceError {
    SourceError::Unreachable {
        address: connector.address().to_string(),
        reason: format!("a scanning task ended early: {err}"),
    }
}

/// Reads the live row of one key.
pub(super) async fn one(
    connector: &Connector,
    dialect: Dialect,
    (feed, key): (&Feed, &Key),
    sink: RowSink,
) -> Result<(), SourceError> {
    let (select, columns) = selecting(feed);
    let keys = KeyColumns::new(columns[..feed.key.len()].to_vec());
    let condition = keys.equal_to(key).ok_or_else(|| SourceError::Refused {
        what: format!("a key of {}", feed.config.table),
        reason: "its bytes are not those of the table's key columns".into(),
        remedy: "ask for it as the feed's schema has it".into(),
    })?;
    let (mut session, _) = connect(connector, dialect).await?;
    let address = session.address().clone();
    let failed = |err: mysql_async::Error| explain(&address, &err);
    let conn = session.conn();
    let statement = conn.prep(format!("{select}{condition}")).await;
    let statement = statement.map_err(failed)?;
    let row = conn.exec_first(&statement, ()).await.map_err(failed)?;
    if let Some(row) = row {
        give(&address, &columns, row, |values| sink(0, values))?;
    }
    session.leave().await;
    Ok(())
}

/// Everything before a condition on the key, and the columns that it gives.
fn selecting(feed: &Feed) -> (String, Vec<Column>) {
    let ordinals = feed.key.iter().chain(&feed.exported);
    let columns: Vec<Column> = ordinals
        .map(|ordinal| feed.columns[*ordinal].clone())
        .collect();
    let list: Vec<_> = columns.iter().map(values::selected).collect();
    let select = format!(
        "SELECT {} FROM {} WHERE ({}) AND ",
        list.join(", "),
        quoted(&feed.config.table),
        feed.live_when.to_sql()
    );
    (select, columns)
}

/// What the connections of one scan share.
struct Work {
    /// Everything before the range's condition.
    select: String,
    columns: Vec<Column>,
    /// Conditions with the rows estimated, the largest first.
    queue: Mutex<VecDeque<(String, u64)>>,
    throttle: Throttle,
}

impl Work {
    async fn plan(
        planner: &mut Session,
        feed: &Feed,
        parallel: usize,
        throttle: Throttle,
    ) -> Result<Self, SourceError> {
        let (select, columns) = selecting(feed);
        let key = columns[..feed.key.len()].to_vec();
        let plan = Plan {
            table: &quoted(&feed.config.table),
            key: &KeyColumns::new(key),
            wanted: parallel * RANGES_PER_CONNECTION,
            rows_max: throttle.range_rows(parallel),
        };
        let ranges = plan.ranges(planner).await?;
        tracing::debug!(
            feed = %feed.config.name,
            ranges = ranges.len(),
            largest = ranges.first().map_or(0, |range| range.rows),
            "scan planned"
        );
        let queue = ranges
            .iter()
            .map(|range| (plan.condition(range), range.rows))
            .collect();
        Ok(Work {
            select,
            columns,
            queue: Mutex::new(queue),
            throttle,
        })
    }

    fn next(&self) -> Option<(String, u64)> {
        self.lock().pop_front()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<(String, u64)>> {
        match self.queue.lock() {
            Ok(queue) => queue,
            Err(poisoned) => poisoned.into_inner(),
        }
    }
}

/// One connection of a scan.
struct Reader {
    number: usize,
    session: Session,
    dialect: Dialect,
    delivered: GtidSet,
    work: Arc<Work>,
    gate: Gate,
    sink: RowSink,
}

/// What one connection has read.
struct Read {
    rows: u64,
    bytes: u64,
    busy: Duration,
    /// MariaDB: exactly what its view contains. MySQL: nothing, the whole scan is asked at its end.
    view: GtidSet,
}

impl Reader {
    async fn run(mut self) -> Result<Read, SourceError> {
        let mut read = Read {
            rows: 0,
            bytes: 0,
            busy: Duration::ZERO,
            view: self.delivered.clone(),
        };
        if self.dialect == Dialect::Mariadb {
            read.view = mariadb::open_view(&mut self.session, &self.delivered).await?;
        }
        while let Some((condition, estimate)) = self.work.next() {
            self.work.throttle.charge(estimate).await;
            self.gate.pass().await;
            let begun = Instant::now();
            let (rows, bytes) = self.read_range(&condition).await?;
            read.busy += begun.elapsed();
            read.bytes += bytes;
            // More than was estimated: the next range pays for them.
            self.work
                .throttle
                .charge(rows.saturating_sub(estimate))
                .await;
            read.rows += rows;
        }
        self.session.leave().await;
        Ok(read)
    }

    /// Rows of the range, and their bytes.
    async fn read_range(&mut self, condition: &str) -> Result<(u64, u64), SourceError> {
        let address = self.session.address().clone();
        let failed = |err: mysql_async::Error| explain(&address, &err);
        let sql = format!("{}{condition}", self.work.select);
        let conn = self.session.conn();
        let statement = conn.prep(&sql).await.map_err(failed)?;
        let mut result = conn.exec_iter(&statement, ()).await.map_err(failed)?;
        let (mut rows, mut bytes) = (0, 0);
        while let Some(row) = result.next().await.map_err(failed)? {
            bytes += give(&address, &self.work.columns, row, |values| {
                (self.sink)(self.number, values);
            })?;
            rows += 1;
        }
        drop(result);
        conn.close(statement).await.map_err(failed)?;
        Ok((rows, bytes))
    }
}

/// Gives a row to the sink; its bytes as they were sent.
fn give(
    address: &str,
    columns: &[Column],
    row: Row,
    sink: impl FnOnce(&[Value<'_>]),
) -> Result<u64, SourceError> {
    let sent = row.unwrap();
    let bytes = sent.iter().map(mysql_async::Value::bin_len).sum();
    let values: Result<Vec<Value<'_>>, String> = columns
        .iter()
        .zip(&sent)
        .map(|(column, sent)| values::value(column, sent))
        .collect();
    let values = values.map_err(|reason| SourceError::Damaged {
        at: format!("{address}, scan"),
        reason,
    })?;
    sink(&values);
    Ok(bytes)
}

/// A connection for reading rows as they are stored, and the server that it reached.
async fn connect(
    connector: &Connector,
    dialect: Dialect,
) -> Result<(Session, String), SourceError> {
    let mut session = connector.open().await?;
    // Text comes in the column's own character set, times in UTC; no default of the server's may hide rows,
    // show uncommitted ones, pad or end the query; and waiting for a lock ends soon, because we retry.
    session
        .run(
            "SET character_set_results = NULL, time_zone = '+00:00', sql_auto_is_null = 0, \
             sql_select_limit = 18446744073709551615, net_write_timeout = 600, lock_wait_timeout = 10",
        )
        .await?;
    session
        .run("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        .await?;
    session
        .run(match dialect {
            Dialect::Mysql => "SET max_execution_time = 0",
            Dialect::Mariadb => "SET max_statement_time = 0",
        })
        .await?;
    let id = server::id(&mut session, dialect).await?;
    Ok((session, id))
}

fn same_server(session: &Session, expected: &str, found: &str) -> Result<(), SourceError> {
    if expected == found {
        return Ok(());
    }
    Err(SourceError::Unreachable {
        address: session.address().to_string(),
        reason: format!(
            "connections reach different servers ({expected} and {found}), and a scan must come from the one \
             that the stream follows; give the address of one server, not of a balancer"
        ),
    })
}

fn quoted(table: &TableName) -> String {
    format!(
        "{}.{}",
        identifier(&table.database),
        identifier(&table.table)
    )
}
