//! The reader's tests against real servers, in one binary.
#![cfg(feature = "mysql")]
#![expect(clippy::unwrap_used, reason = "a test ends at its first surprise")]

mod all_types;
mod assemble;
mod barriers;
mod charsets;
mod damage;
mod follow;
mod hidden_columns;
mod json;
mod live_rows;
mod mysql_doctor;
mod mysql_follow;
mod mysql_login;
mod mysql_scan;
mod mysql_table;
mod predicate;
mod proto;
mod proxy;
mod servers;
