//! The reader's tests against real servers, in one binary.
#![cfg(feature = "mysql")]

mod all_types;
mod mysql_doctor;
mod mysql_follow;
mod mysql_scan;
mod mysql_table;
mod predicate;
mod proxy;
mod servers;
