//! What the tasks of this repository share with its integration tests and its bench: real
//! database servers, fetched and started without an installation and without root, foreign programs to be measured
//! beside, and golden error texts.
//!
//! Everything here is blocking. Call it from a test's own thread, or from `spawn_blocking`.

pub mod cargo;
pub mod peers;
pub mod servers;
pub mod texts;
