//! A verified, always current replica of an OnAir feed in the memory of your process.
//!
//! ```no_run
//! use onair_sdk::{Feed, Raw};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let rooms = Feed::<Raw>::connect(["http://127.0.0.1:7400"], "rooms").await?;
//! let now = rooms.snapshot();
//! println!("{} rooms at version {}", now.len(), now.version());
//! let mut changes = rooms.changes();
//! while let Some(step) = changes.next().await {
//!     println!("{}: {} on, {} off", step.to, step.on.len(), step.off.len());
//! }
//! # Ok(())
//! # }
//! ```
//!
//! What it promises:
//! - A snapshot is the table at one commit: whole, and verified by its digest before anybody sees it.
//! - Versions never go back within a lineage. What a server sends that is older, damaged or of another mix is
//!   refused, and the version held stays; [`Feed::status`] says so.
//! - Taking a snapshot and reading it never waits for the network or a writer.
//! - [`Feed::changes`] gives each net change exactly once, whatever happened to streams and servers.

#![deny(missing_docs)]

mod admit;
mod builder;
mod changes;
mod clock;
mod content;
mod endpoint;
mod feed;
mod index;
mod key;
mod message;
mod plan;
#[cfg(feature = "prost")]
mod prost_row;
pub mod raw;
mod refusal;
mod row;
mod session;
mod snapshot;
mod status;
mod task;
#[cfg(feature = "testing")]
pub mod testing;
#[cfg(test)]
mod texts;
mod wait;
mod wire;

pub use builder::{Builder, ConnectError};
pub use changes::{Change, Changes, Step};
pub use endpoint::Endpoint;
pub use feed::Feed;
pub use index::Index;
pub use key::{AsKey, KeyPart};
pub use onair_model::schema::{Field, FieldKind, Schema};
pub use onair_model::{Digest, Epoch, Gtid, GtidSet, Key, Lineage, Proven, Version};
pub use plan::Backoff;
#[cfg(feature = "prost")]
#[doc(hidden)]
pub use prost_row::read_message;
pub use raw::Raw;
pub use refusal::Refusal;
pub use row::{BadRow, FromRow, FromValue, RowError, RowRef};
pub use snapshot::Snapshot;
pub use status::{Cause, Problem, State, Status, StatusWatch};
pub use wait::{Target, WaitError};
