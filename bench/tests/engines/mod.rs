//! One process a role, on real engines.

mod chaos;
mod fleet;
mod roles;
