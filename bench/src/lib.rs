//! The measuring and proving instruments: benches, an oracle that owes nothing to our decoder, the process under test,
//! and what writes to the table meanwhile. They drive OnAir from outside, as a process and through its SDK; the benches
//! of one part call that part as the product does.

pub mod all;
pub mod command;
pub mod compare;
pub mod decode;
#[cfg(feature = "engines")]
pub mod engines;
pub mod fanout;
pub mod fleet;
pub mod fold;
pub mod growth;
pub mod harness;
#[cfg(feature = "engines")]
pub mod headline;
pub mod latency;
pub mod load;
pub mod observer;
pub mod oracle;
pub mod page;
pub mod process;
pub mod proxy;
pub mod scan;
pub mod sdk;
pub mod seed;
pub mod table;
pub mod workload;
