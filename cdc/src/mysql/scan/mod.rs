//! A full pass over the live rows of a table, tied to the GTID set that it shows (DESIGN section 5).
//!
//! In: a feed and what the stream has delivered. Out: rows to the sink, then the set that contains every
//! transaction that a row may show. No locks, no writes. Wrong: any connection's error ends the whole scan;
//! rows may then have been given to the sink, and the caller forgets them.

mod connection;
mod key;
mod mariadb;
mod mysql;
mod ranges;
mod throttle;
mod values;

use std::sync::Arc;
use std::time::Duration;

use onair_model::column::Column;
use onair_model::value::Value;
use onair_model::{GtidSet, Key};
use tokio::sync::{Mutex, mpsc};
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;

use self::connection::{Connection, Given, settings};
use self::key::KeyColumns;
use self::ranges::Plan;
use self::throttle::Throttle;
use super::connect::{Connector, Session, identifier};
use super::server::{self, Server};
use crate::feed::{Feed, TableName};
use crate::source::{Dialect, Gate, RowSink, ScanRequest, Scanned, SourceError};

/// More ranges than connections, so that those that finish early find more to do.
const RANGES_PER_CONNECTION: usize = 4;
/// Far above what a server gains from.
const CONNECTIONS_MAX: usize = 64;

/// Scans, planned by a connection that is there; `expected` is the server that the stream follows, if one is followed.
pub(super) async fn scan(
    connector: &Connector,
    (mut planner, server): (Session, Server),
    expected: Option<String>,
    request: &ScanRequest,
    sink: RowSink,
) -> Result<Scanned, SourceError> {
    if let Some(expected) = expected {
        same_server(planner.address(), &expected, &server.id)?;
    }
    let dialect = server.dialect;
    let parallel = request.parallel.clamp(1, CONNECTIONS_MAX);
    let throttle = Throttle::new(request.max_rate);
    let rows_max = throttle.range_rows(parallel);
    let (select, columns) = selecting(&request.feed);
    let key = KeyColumns::new(columns[..request.feed.key.len()].to_vec());
    let (planned, ranges) = mpsc::channel(ranges::MOST);
    let work = Arc::new(Work {
        select,
        columns,
        ranges: Mutex::new(ranges),
        throttle,
    });
    // They log in while the ranges are looked for.
    let mut readers = JoinSet::new();
    for number in 0..parallel {
        let reader = Reader {
            number,
            server: server.clone(),
            delivered: request.delivered.clone(),
            work: Arc::clone(&work),
            gate: request.gate.clone(),
            sink: Arc::clone(&sink),
        };
        let connector = connector.clone();
        readers.spawn(async move { reader.run(&connector).await });
    }
    drop(work);
    for statement in settings(dialect) {
        planner.run(&statement).await?;
    }
    if dialect == Dialect::Mysql {
        mysql::wait_for(&mut planner, &request.delivered).await?;
    }
    let plan = Plan {
        table: &quoted(&request.feed.config.table),
        key: &key,
        wanted: parallel * RANGES_PER_CONNECTION,
        rows_max,
    };
    let found = plan.ranges(&mut planner).await?;
    tracing::debug!(
        feed = %request.feed.config.name,
        ranges = found.len(),
        largest = found.first().map_or(0, |range| range.rows),
        "scan planned"
    );
    for range in found {
        let condition = plan.condition(&range);
        let rows = range.rows;
        if planned.send(Planned { condition, rows }).await.is_err() {
            // Nobody reads any more, and says why below.
            break;
        }
    }
    // There are no more.
    drop(planned);
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
    let (mut connection, _) = Connection::open(connector, dialect).await?;
    let sql = format!("{select}{condition}");
    connection
        .read(&sql, &columns, |values| sink(0, values))
        .await?;
    connection.leave().await;
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
    /// Those that nobody reads yet, the largest first.
    ranges: Mutex<mpsc::Receiver<Planned>>,
    throttle: Throttle,
}

/// A range to be read.
struct Planned {
    /// SQL that is true of its keys.
    condition: String,
    /// The server's estimate.
    rows: u64,
}

impl Work {
    /// `None` when there are no more.
    async fn next(&self) -> Option<Planned> {
        self.ranges.lock().await.recv().await
    }
}

/// One connection of a scan.
struct Reader {
    number: usize,
    /// Which it must reach.
    server: Server,
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
    async fn run(self, connector: &Connector) -> Result<Read, SourceError> {
        let dialect = self.server.dialect;
        let (mut connection, reached) = Connection::open(connector, dialect).await?;
        same_server(connection.address(), &self.server.id, &reached)?;
        let mut read = Read {
            rows: 0,
            bytes: 0,
            busy: Duration::ZERO,
            view: self.delivered.clone(),
        };
        if dialect == Dialect::Mariadb {
            read.view = mariadb::open_view(&mut connection, &self.delivered).await?;
        }
        let throttle = &self.work.throttle;
        while let Some(range) = self.work.next().await {
            throttle.charge(range.rows).await;
            self.gate.pass().await;
            let begun = Instant::now();
            let Given { rows, bytes } = self.read(&mut connection, &range.condition).await?;
            read.busy += begun.elapsed();
            read.bytes += bytes;
            // More than was estimated: the next range pays for them.
            throttle.charge(rows.saturating_sub(range.rows)).await;
            read.rows += rows;
        }
        connection.leave().await;
        Ok(read)
    }

    async fn read(&self, from: &mut Connection, condition: &str) -> Result<Given, SourceError> {
        let sql = format!("{}{condition}", self.work.select);
        let sink = |values: &[Value<'_>]| (self.sink)(self.number, values);
        from.read(&sql, &self.work.columns, sink).await
    }
}

fn same_server(address: &str, expected: &str, found: &str) -> Result<(), SourceError> {
    if expected == found {
        return Ok(());
    }
    Err(SourceError::Unreachable {
        address: address.to_owned(),
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
