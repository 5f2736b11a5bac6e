//! The reader against real servers: MySQL 9.7 (stands for 8.4), 8.0 and MariaDB 10.11.

mod all_types;
mod mysql_doctor;
mod mysql_follow;
mod mysql_scan;
mod mysql_table;
mod proxy;
mod servers;
