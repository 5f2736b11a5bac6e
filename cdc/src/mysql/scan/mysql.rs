//! MySQL: before the scan wait until a SELECT sees what the stream has delivered; after it ask what a SELECT may
//! have seen.

use onair_model::GtidSet;
use tokio::time::{Duration, Instant};

use crate::mysql::connect::Session;

use crate::source::SourceError;

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
