//! What `wait_for` can wait for.

use onair_model::{Gtid, GtidSet, Seal, Version};

/// A version, a transaction, or a set of transactions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target(Kind);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    Version(Version),
    Gtid(Gtid),
    Set(GtidSet),
    Unknown(String),
}

/// Why a wait ended without its target.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WaitError {
    /// The feed was closed.
    #[error("the feed was closed")]
    Closed,
    /// The text names neither a version nor transactions.
    #[error("{0:?} is neither a version (3-1842) nor a GTID or set of them (UUID:57, 0-1-57)")]
    NotATarget(String),
}

impl WaitError {
    /// Whether trying again may help: never.
    pub const fn is_retryable(&self) -> bool {
        false
    }
}

impl Target {
    pub(crate) fn check(self) -> Result<Self, WaitError> {
        match self.0 {
            Kind::Unknown(text) => Err(WaitError::NotATarget(text)),
            kind => Ok(Target(kind)),
        }
    }

    pub(crate) fn is_reached(&self, seal: &Seal) -> bool {
        match &self.0 {
            Kind::Version(version) => seal.version >= *version,
            Kind::Gtid(gtid) => seal.executed.contains(gtid),
            Kind::Set(set) => seal.executed.contains_set(set),
            Kind::Unknown(_) => false,
        }
    }
}

impl From<Version> for Target {
    fn from(version: Version) -> Self {
        Target(Kind::Version(version))
    }
}

impl From<Gtid> for Target {
    fn from(gtid: Gtid) -> Self {
        Target(Kind::Gtid(gtid))
    }
}

impl From<&Gtid> for Target {
    fn from(gtid: &Gtid) -> Self {
        Target(Kind::Gtid(*gtid))
    }
}

impl From<GtidSet> for Target {
    fn from(set: GtidSet) -> Self {
        Target(Kind::Set(set))
    }
}

impl From<&str> for Target {
    /// A version, a GTID or a GTID set in its text form.
    fn from(text: &str) -> Self {
        let trimmed = text.trim();
        Target(if let Ok(version) = trimmed.parse() {
            Kind::Version(version)
        } else {
            match trimmed.parse::<GtidSet>() {
                Ok(set) if !set.is_empty() => Kind::Set(set),
                _ => Kind::Unknown(text.to_owned()),
            }
        })
    }
}

impl From<String> for Target {
    fn from(text: String) -> Self {
        Target::from(text.as_str())
    }
}
