//! The servers of the tests, the programs of the benches, and the page made of golden texts.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod engines;
mod errors;
mod peers;
mod servers;
