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
//! - [`Feed::changes`] gives each net change exactly once, whatever happened to streams and servers. A consumer that
//!   lags gets the changes of several versions as one step, and is told.
//!
//! What to know:
//! - [`Feed::connect`] returns with a verified version or an error; from then on there is always one to read, however
//!   long servers are away. [`Feed::age`] says how old it may be, [`Feed::status`] why.
//! - Read your own writes with [`Feed::wait_for`] and the GTID of your transaction, in its text form:
//!   `rooms.wait_for("3e11fa47-71ca-11e1-9e33-c80aa9429562:57").await?`.
//! - Rows are decoded once, by [`FromRow`], on the feed's one task. Versions share all rows that are the same; while a
//!   whole snapshot arrives there are two maps, and one copy of each row that did not change.
//! - Features: `prost` for rows that are generated messages, `tls` for `https://` servers ([`Builder::tls`]),
//!   `testing` for a server in your tests that does, and breaks, what you say. For tests without any server there is
//!   [`Feed::fixed`].

#![deny(missing_docs)]

mod admit;
mod builder;
mod changes;
mod clock;
mod content;
#[cfg(feature = "tls")]
#[doc(hidden)]
pub mod dial;
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
mod tls;
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
pub use tls::{Tls, TlsFault};
pub use wait::{Target, WaitError};
