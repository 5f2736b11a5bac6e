//! What a proxy did, by kind.

use super::Way;

/// Since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Connections that were let in.
    pub accepted: u64,
    /// Of those, accepted and held.
    pub held: u64,
    /// Of those, reset because the target could not be reached.
    pub unreachable: u64,
    /// Connections reset, for whatever reason.
    pub reset: u64,
    /// From the client to the server.
    pub up: WayCounts,
    /// From the server to the client.
    pub down: WayCounts,
}

/// Of one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WayCounts {
    /// Bytes that were written on.
    pub bytes: u64,
    /// Pieces that were delayed.
    pub delayed: u64,
    /// Bytes that vanished.
    pub vanished: u64,
    /// Ends of a stream that vanished.
    pub vanished_ends: u64,
    /// Times that a connection had something to say and was not read.
    pub stalled: u64,
    /// Connections reset by their own bytes.
    pub reset: u64,
    /// Writes of sliced bytes.
    pub slices: u64,
}

impl Counts {
    pub(super) fn way(&mut self, way: Way) -> &mut WayCounts {
        match way {
            Way::Up => &mut self.up,
            Way::Down => &mut self.down,
        }
    }
}
