//! The store's tests, in one binary.

#![expect(
    clippy::unwrap_used,
    reason = "tests: a failure is a panic with its place"
)]

mod contracts;
mod crash;
mod disk;
mod lease;
mod moves;
mod open;
mod past;
mod power;
mod runs;
#[cfg(feature = "scylla")]
mod scylla;
mod texts;

use bytes::Bytes;

/// Bytes that do not compress, the same for the same seed.
fn noise(seed: u64, len: usize) -> Bytes {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..len)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as u8
        })
        .collect()
}
