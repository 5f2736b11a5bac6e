//! The reader's tests against real servers, in one binary.
#![cfg(feature = "mysql")]
#![expect(clippy::unwrap_used, reason = "a test ends at what it does not expect")]

mod all_types;
mod assemble;
mod barriers;
mod damage;
mod follow;
mod hidden_columns;
mod json;
mod mysql_doctor;
mod mysql_follow;
mod mysql_scan;
mod mysql_table;
mod predicate;
mod proto;
mod proxy;
mod servers;
