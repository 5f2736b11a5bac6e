//! MariaDB: a consistent view knows its own binlog position, so nothing is waited for or asked afterwards.

use onair_model::GtidSet;
use tokio::time::{Duration, Instant, sleep};

use crate::mysql::connect::{Session, literal};
use crate::mysql::server::gtid_set;
use crate::source::{Dialect, SourceError};

/// Between two tries for a view that is new enough.
const PAUSE: Duration = Duration::from_millis(20);
/// How long a commit may stay in the binlog without being visible.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// Opens a view that contains everything delivered, and says exactly what it contains.
pub(super) async fn open_view(
    session: &mut Session,
    delivered: &GtidSet,
) -> Result<GtidSet, SourceError> {
    let start = Instant::now();
    loop {
        session
            .run("START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY")
            .await?;
        let view = position(session).await?;
        if view.contains_set(delivered) {
            return Ok(view);
        }
        if start.elapsed() > WAIT_MAX {
            return Err(SourceError::Unreachable {
                address: session.address().to_string(),
                reason: format!(
                    "after {} s a view is still at {view}, though the binlog has shown {delivered}; is this \
                     another server?",
                    start.elapsed().as_secs()
                ),
            });
        }
        session.run("ROLLBACK").await?;
        sleep(PAUSE).await;
    }
}

async fn position(session: &mut Session) -> Result<GtidSet, SourceError> {
    let status: Vec<(String, String)> = session
        .rows("SHOW SESSION STATUS LIKE 'binlog\\_snapshot\\_%'")
        .await?;
    let value = |name: &str| {
        let found = status.iter().find(|(n, _)| n.eq_ignore_ascii_case(name));
        found.map_or("", |(_, value)| value.as_str())
    };
    let (file, offset) = (
        value("binlog_snapshot_file"),
        value("binlog_snapshot_position").parse::<u64>(),
    );
    let found: Option<String> = match offset {
        Ok(offset) if !file.is_empty() => {
            let file = literal(file);
            session
                .one(&format!("SELECT BINLOG_GTID_POS({file}, {offset})"))
                .await?
        }
        _ => None,
    };
    let found = found.ok_or_else(|| SourceError::Unreachable {
        address: session.address().to_string(),
        reason:
            "the server does not say at which binlog position its view is (binlog_snapshot_file, \
                 BINLOG_GTID_POS)"
                .to_owned(),
    })?;
    gtid_set(session, Dialect::Mariadb, &found)
}
