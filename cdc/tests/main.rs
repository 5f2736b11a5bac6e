//! The reader against real servers: MySQL 9.7 (stands for 8.4), 8.0 and MariaDB 10.11.

#![expect(clippy::unwrap_used, reason = "a test ends at what it does not expect")]

mod all_types;
mod barriers;
mod follow;
mod hidden_columns;
mod mysql_follow;
mod mysql_scan;
mod mysql_table;
mod proto;
mod servers;
