//! Collation ids of table maps to the servers' names.

use crate::source::Dialect;

/// `binary`.
pub(super) const BINARY: u32 = 63;

/// Whether `id` is the collation with this name.
pub(super) fn is(_dialect: Dialect, _id: u32, _name: &str) -> bool {
    true
}

/// Its character set's name.
pub(super) fn charset(_dialect: Dialect, _id: u32) -> Option<&'static str> {
    Some("utf8mb4")
}

/// Its name, or its number when that is not known.
pub(super) fn describe(_dialect: Dialect, id: u32) -> String {
    format!("collation {id}")
}
