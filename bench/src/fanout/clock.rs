//! The clock that all processes of a bench share.

use std::time::Duration;

use anyhow::Result;
use nix::time::{ClockId, clock_gettime};

/// CLOCK_MONOTONIC.
pub(super) fn now() -> Result<Duration> {
    Ok(Duration::from(clock_gettime(ClockId::CLOCK_MONOTONIC)?))
}

/// Microseconds since 1970.
pub(super) fn wall_micros() -> Result<i64> {
    let now = Duration::from(clock_gettime(ClockId::CLOCK_REALTIME)?);
    Ok(i64::try_from(now.as_micros())?)
}
