//! MySQL: before the scan wait until a SELECT sees what the stream has delivered; after it ask what a SELECT may
//! have seen.

use onair_model::GtidSet;
use tokio::time::{Duration, Instant};

use crate::mysql::connect::Session;
use crate::mysql::gtid;
use crate::mysql::server::gtid_set;
use crate::source::{Dialect, SourceError};

/// One question; the server sleeps meanwhile.
const ASK_SECONDS: u64 = 5;
/// A commit can wait this long for a semi-synchronous replica after the binlog has shown it.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// Waits until everything delivered is visible: the binlog shows a transaction before its engine commit.
pub(super) async fn wait_for(
    session: &mut Session,
    delivered: &GtidSet,
) -> Result<(), SourceError> {
    if delivered.is_empty() {
        return Ok(());
    }
    let start = Instant::now();
    loop {
        let timed_out: u8 = session
            .one(&format!(
                "SELECT WAIT_FOR_EXECUTED_GTID_SET('{delivered}', {ASK_SECONDS})"
            ))
            .await?;
        if timed_out == 0 {
            return Ok(());
        }
        if start.elapsed() > WAIT_MAX {
            return Err(SourceError::Unreachable {
                address: session.address().to_string(),
                reason: format!(
                    "after {} s the server has not committed everything that its binlog already shows; is it \
                     waiting for a semi-synchronous replica, or is this another server?",
                    start.elapsed().as_secs()
                ),
            });
        }
    }
}

/// Everything that a SELECT before this may have seen: a commit is visible before it counts as executed, but
/// until then it is owned. Owned must be asked first, or one could move from one to the other unseen.
pub(super) async fn high(session: &mut Session) -> Result<GtidSet, SourceError> {
    let owned: String = session.one("SELECT @@global.gtid_owned").await?;
    let executed: String = session.one("SELECT @@global.gtid_executed").await?;
    let mut high = gtid_set(session, Dialect::Mysql, &executed)?;
    let owned = gtid::owned(&owned).ok_or_else(|| SourceError::Damaged {
        at: session.address().to_string(),
        reason: format!("@@gtid_owned cannot be read: {owned:?}"),
    })?;
    high.union(&owned);
    Ok(high)
}
