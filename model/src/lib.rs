//! OnAir's words as types. Pure: no async, no clock, no randomness, no logging, no I/O.

#![deny(missing_docs)]

pub mod column;
#[cfg(feature = "predicate")]
pub mod predicate;
pub mod schema;
pub mod value;
