//! What a person sets: where the nodes are, whose quorum counts, how long to wait.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroU16;
use std::time::Duration;

use ::scylla::statement::{Consistency, SerialConsistency};

use crate::StoreError;

/// Where the store is and how it is used.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `host:port` of some nodes; the others are found by them.
    pub nodes: Vec<String>,
    /// Lower case letters, digits and `_`, a letter first, at most 48. Nothing but OnAir's tables is in it.
    pub keyspace: String,
    /// How many copies of each row; `init` makes the keyspace so.
    pub replication: Replication,
    /// Whose quorum decides.
    pub scope: Scope,
    /// The one whose nodes are asked. Must be said where the cluster has several and the scope is one of them.
    pub datacenter: Option<String>,
    /// Without them no one is asked for.
    pub credentials: Option<Credentials>,
    /// How nodes are known, and we by them. `None`: connections are not encrypted.
    #[cfg(feature = "scylla-tls")]
    pub tls: Option<super::Tls>,
    /// ScyllaDB only: whether `init` makes the keyspace with tablets. `None` says nothing, so that the server's default
    /// holds. `Some(false)` for versions that refuse lightweight transactions there.
    pub tablets: Option<bool>,
    /// After it a request has failed and its outcome is unknown. Longer than the servers' own, so that they say more.
    pub request_timeout: Duration,
    /// For a connection, and for a new session.
    pub connect_timeout: Duration,
    /// How long names of cells that are gone, and of windows of the history that are empty, stay listed. Longer than any
    /// write may be on its way.
    pub forget_after: Duration,
}

impl Settings {
    /// These nodes and this keyspace, the rest as it should be for most.
    pub fn new(nodes: Vec<String>, keyspace: impl Into<String>) -> Self {
        Settings {
            nodes,
            keyspace: keyspace.into(),
            replication: Replication::Everywhere(NonZeroU16::MIN.saturating_add(2)),
            scope: Scope::Datacenter,
            datacenter: None,
            credentials: None,
            #[cfg(feature = "scylla-tls")]
            tls: None,
            tablets: None,
            request_timeout: Duration::from_secs(3),
            connect_timeout: Duration::from_secs(2),
            forget_after: Duration::from_secs(24 * 60 * 60),
        }
    }

    /// For errors: the nodes that were named.
    pub(super) fn place(&self) -> String {
        format!("keyspace {} at {}", self.keyspace, self.nodes.join(", "))
    }

    /// The name goes into statements as it is.
    pub(super) fn checked_keyspace(&self) -> Result<&str, StoreError> {
        let name = self.keyspace.as_str();
        let fits = (1..=48).contains(&name.len())
            && name.starts_with(|first: char| first.is_ascii_lowercase())
            && name
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
        if fits {
            return Ok(name);
        }
        Err(StoreError::Unreadable {
            place: format!("keyspace {name:?}"),
            reason: "not a name for a keyspace".to_owned(),
            remedy: "use lower case letters, digits and _, a letter first, at most 48".to_owned(),
        })
    }
}

/// How many copies of each row there are. Three a datacenter stand the loss of one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Replication {
    /// As many in each datacenter there is.
    Everywhere(NonZeroU16),
    /// By datacenter; none in others.
    Datacenters(BTreeMap<String, NonZeroU16>),
}

/// Whose quorum decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// That of the datacenter that is asked: `LOCAL_SERIAL` and `LOCAL_QUORUM`. Only for a keyspace in one
    /// datacenter: of two, each would decide for itself.
    Datacenter,
    /// That of all: `SERIAL` and `QUORUM`, a round trip between datacenters a move.
    Keyspace,
}

impl Scope {
    /// Of compare-and-set.
    pub(super) fn serial(self) -> SerialConsistency {
        match self {
            Scope::Datacenter => SerialConsistency::LocalSerial,
            Scope::Keyspace => SerialConsistency::Serial,
        }
    }

    /// Of reads that must see it.
    pub(super) fn serial_read(self) -> Consistency {
        match self {
            Scope::Datacenter => Consistency::LocalSerial,
            Scope::Keyspace => Consistency::Serial,
        }
    }

    /// Of all other reads and writes: each read meets each acknowledged write in one replica at least.
    pub(super) fn quorum(self) -> Consistency {
        match self {
            Scope::Datacenter => Consistency::LocalQuorum,
            Scope::Keyspace => Consistency::Quorum,
        }
    }
}

/// Who asks.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The role.
    pub user: String,
    /// Its password.
    pub password: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_keyspace_is_a_plain_name_and_a_password_is_not_shown() {
        let of = |name: &str| Settings::new(Vec::new(), name);
        for name in ["onair", "o", "on_air2"] {
            assert_eq!(of(name).checked_keyspace(), Ok(name));
        }
        let long = "o".repeat(49);
        for name in ["", "OnAir", "1a", "_a", "a-b", "a\"; DROP", "ö", &long] {
            assert!(of(name).checked_keyspace().is_err(), "{name}");
        }
        let credentials = Credentials {
            user: "onair".into(),
            password: "secret".into(),
        };
        assert!(!format!("{credentials:?}").contains("secret"));
    }
}
