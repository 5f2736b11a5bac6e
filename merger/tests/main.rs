//! The merger on the memory log and redb: an honest reader writes, plain maps are the truth. Time is tokio's, paused.

#![expect(
    clippy::unwrap_used,
    reason = "tests: a failure is a panic with its place"
)]

mod cuts;
mod epochs;
mod folds;
mod heals;
mod history;
mod past;
mod random;
mod rivals;
mod stops;
mod support;
mod turns;
