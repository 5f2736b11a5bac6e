//! The SDK against a server in this process that does, and breaks, what a test says. Time is tokio's, paused: no
//! test waits for a clock.

mod changes;
mod connect;
mod damage;
mod plants;
mod random;
mod resume;
mod rows;
mod status;
mod support;
mod threads;
mod wait;
