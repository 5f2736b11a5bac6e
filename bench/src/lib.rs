//! The measuring and proving instruments: an oracle that owes nothing to our decoder, the process under test, and
//! what writes to the table meanwhile. They drive OnAir from outside: as a process and through its SDK.

pub mod observer;
pub mod oracle;
pub mod process;
pub mod seed;
pub mod workload;
