//! MariaDB: a consistent view knows its own binlog position, so nothing is waited for or asked afterwards.

use onair_model::GtidSet;
use tokio::time::{Duration, Instant, sleep};

use super::connection::Connection;
use crate::mysql::connect::literal;
use crate::mysql::server::gtid_set;
use crate::source::{Dialect, SourceError};

/// Between two tries for a view that is new enough.
const PAUSE: Duration = Duration::from_millis(20);
/// How long a commit may stay in the binlog without being visible.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// Opens a view that contains everything delivered, and says exactly what it contains.
pub(super) async fn open_view(
    connection: &mut Connection,
    delivered: &GtidSet,
) -> Result<GtidSet, SourceError> {
    let start = Instant::now();
    loop {
        connection
            .run("START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY")
            .await?;
        let view = position(connection).await?;
        if view.contains_set(delivered) {
            return Ok(view);
        }
        if start.elapsed() > WAIT_MAX {
            return Err(SourceError::Unreachable {
                address: connection.address().to_string(),
                reason: format!(
                    "after {} s a view is still at {view}, though the binlog has shown {delivered}; is this \
                     another server?",
                    start.elapsed().as_secs()
                ),
            });
        }
        connection.run("ROLLBACK").await?;
        sleep(PAUSE).await;
    }
}

async fn position(connection: &mut Connection) -> Result<GtidSet, SourceError> {
    let status = connection
        .texts("SHOW SESSION STATUS LIKE 'binlog\\_snapshot\\_%'")
        .await?;
    let value = |name: &str| {
        let value = status.iter().find_map(|row| match &row[..] {
            [Some(of), Some(value)] if of.eq_ignore_ascii_case(name) => Some(value.as_str()),
            _ => None,
        });
        value.unwrap_or_default()
    };
    let (file, offset) = (
        value("binlog_snapshot_file"),
        value("binlog_snapshot_position").parse::<u64>(),
    );
    let found: Option<String> = match offset {
        Ok(offset) if !file.is_empty() => {
            let file = literal(file);
            let found = connection
                .texts(&format!("SELECT BINLOG_GTID_POS({file}, {offset})"))
                .await?;
            found.into_iter().flatten().next().flatten()
        }
        _ => None,
    };
    let found = found.ok_or_else(|| SourceError::Unreachable {
        address: connection.address().to_string(),
        reason:
            "the server does not say at which binlog position its view is (binlog_snapshot_file, \
                 BINLOG_GTID_POS)"
                .to_owned(),
    })?;
    gtid_set(connection.address(), Dialect::Mariadb, &found)
}
