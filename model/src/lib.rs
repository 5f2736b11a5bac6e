//! OnAir's words as types. Pure: no async, no clock, no randomness, no logging, no I/O.

#![deny(missing_docs)]

pub mod bucket;
pub mod column;
pub mod digest;
pub mod gtid;
pub mod key;
#[cfg(feature = "predicate")]
pub mod predicate;
pub mod schema;
pub mod value;
pub mod version;

pub use bucket::{Bucket, Buckets};
pub use digest::Digest;
pub use gtid::{Gtid, GtidSet};
pub use key::{Key, Row};
pub use version::{Epoch, Lineage, Version};
