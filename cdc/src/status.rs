//! What a reader says of itself.

use onair_model::Version;

/// A reader's state, for status and logs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// What it is doing.
    pub phase: Phase,
    /// In a sentence.
    pub detail: String,
    /// Last version given.
    pub version: Option<Version>,
    /// Last version that a restart will not derive again.
    pub checkpoint: Option<Version>,
    /// Scans that agreed.
    pub proofs: u64,
    /// Epochs opened by this process, with their causes.
    pub epochs: u64,
    /// Rows that the scan under way has read, or the last one when none is.
    pub scanned: u64,
    /// Keys that came on air, changed and went off air by the stream since this process began. Told each second.
    pub on: u64,
    /// See `on`.
    pub changed: u64,
    /// See `on`.
    pub off: u64,
}

/// What a reader is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// Waits for another reader's lease to end.
    Standby,
    /// Talks to the source, or tries to.
    #[default]
    Connecting,
    /// Derives again what was produced before.
    Resuming,
    /// Scans for a new epoch.
    Opening,
    /// A scan would take too much away; waits for another that agrees.
    Held,
    /// Follows the binlog.
    Following,
    /// Ended.
    Stopped,
}

impl Phase {
    /// In a word or two.
    pub const fn name(self) -> &'static str {
        match self {
            Phase::Standby => "standby",
            Phase::Connecting => "connecting",
            Phase::Resuming => "resuming",
            Phase::Opening => "opening epoch",
            Phase::Held => "held by the guard",
            Phase::Following => "following",
            Phase::Stopped => "stopped",
        }
    }
}
