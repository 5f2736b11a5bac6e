//! An honest reader for tests: real records and cuts of any workload, with plain maps beside them as the truth.
//!
//! In: writes, transaction by transaction, or a seeded workload. Out: flushes as a reader makes them (commits on the
//! chain, parts, progress, partial and full cuts, Replace, Carry), and what the feed holds at every version. Nothing of
//! `fold`, `cut`, `assembly` or `frame` is used to make either.

#![expect(
    clippy::unwrap_used,
    reason = "for tests: a failure is a panic with its place"
)]

mod truth;
mod workload;
mod writer;

pub use truth::{Content, Moment, Writes};
pub use workload::Workload;
pub use writer::{Opening, Writer, append};
