//! OnAir's words as types. Pure: no async, no clock, no randomness, no logging, no I/O.

#![deny(missing_docs)]

pub mod assembly;
pub mod bucket;
pub mod column;
pub mod cut;
pub mod digest;
pub mod event;
pub mod fold;
pub mod frame;
pub mod gtid;
pub mod key;
pub mod parts;
pub mod plant;
#[cfg(feature = "predicate")]
pub mod predicate;
pub mod rows;
pub mod schema;
pub mod snapshot;
pub mod value;
pub mod version;

pub use bucket::{Bucket, Buckets};
pub use cut::{CutRecord, Proven};
pub use digest::Digest;
pub use event::{Body, Commit, Event, Record};
pub use fold::{BucketState, Sum};
pub use frame::Frame;
pub use gtid::{Gtid, GtidSet};
pub use key::{Key, Row};
pub use rows::{Rows, RowsBuilder};
pub use snapshot::{Seal, Snapshot};
pub use version::{Epoch, Lineage, Version};
