//! The one place of this crate that reads the wall clock.

use jiff::Timestamp;

/// Now, by this machine.
pub(crate) fn now() -> Timestamp {
    Timestamp::now()
}
