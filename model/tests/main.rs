//! The proofs of the model: small worlds searched through, random ones sampled, every rule left out once.

mod edges;
mod history;
#[cfg(feature = "plant")]
mod mutations;

mod search;
mod worlds;
