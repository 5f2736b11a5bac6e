//! The proofs of the model: small worlds searched through, random ones sampled, every rule left out once.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod edges;
mod history;
#[cfg(feature = "plant")]
mod mutations;

mod properties;
mod search;
mod worlds;
