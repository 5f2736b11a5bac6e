//! The reader: MySQL's binlog in, the events of the live set out. The only writer of truth.
//!
//! The path of a change: [`source`] (raw events) -> [`decode`] (row images, only the columns needed) -> `live`
//! (before and after against `live_when`) -> `sequence` (version, chain, digest) -> the log.

pub mod assemble;
pub mod barrier;
pub mod bind;
pub mod change;
mod chores;
mod clock;
pub mod column_def;
pub mod config;
pub mod ddl;
pub mod decode;
pub mod demo;
pub mod encode;
mod explain;
pub mod failover;
pub mod feed;
mod json;
mod live;
#[cfg(feature = "mysql")]
pub mod mysql;
pub mod reader;
pub mod resume;
mod runs;
pub mod scan;
pub mod sequence;
pub mod source;
pub mod status;
mod steady;
pub mod stream;
#[cfg(test)]
mod texts;
