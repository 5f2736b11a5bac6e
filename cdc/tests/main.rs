//! The reader against real servers: MySQL 9.7 (stands for 8.4), 8.0 and MariaDB 10.11.

#![expect(clippy::unwrap_used, reason = "a test ends at its first surprise")]

mod all_types;
mod mysql_doctor;
mod mysql_follow;
mod mysql_login;
mod mysql_scan;
mod mysql_table;
mod proxy;
mod servers;
