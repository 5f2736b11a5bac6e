//! The server on the memory log and redb, asked over gRPC as anybody would: an honest reader writes, plain maps are the
//! truth. Time is tokio's, paused.

#![expect(
    clippy::unwrap_used,
    reason = "tests: a failure is a panic with its place"
)]

mod client;
mod epochs;
mod floods;
mod limits;
mod past;
mod publish;
mod random;
mod runs;
mod slow;
mod start;
mod subscribe;
mod support;
