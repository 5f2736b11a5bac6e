//! End-to-end tests on real servers: OnAir runs as a process, and what its clients saw is compared with the server's
//! own account of what it committed.

mod barriers;
#[cfg(feature = "engines")]
mod engines;
mod failback;
mod fire;
#[cfg(feature = "engines")]
mod fleet;
mod kills;
mod lost_tail;
mod oracle;
mod past;
mod proxy;
mod replica;
mod runs;
mod server_id;
mod slow_link;
mod source_killed;
mod system;
mod world;
