//! Real MySQL, MariaDB, Kafka and Cassandra servers for tests: fetched, initialised and started on
//! loopback with a data directory of their own, without installing anything and without root.
//!
//! ```no_run
//! use onair_xtask::servers::{Flavor, Options, Server};
//! # fn main() -> anyhow::Result<()> {
//! let server = Server::start(Flavor::Mysql97, Options::default())?;
//! server.sql("CREATE DATABASE live")?;
//! server.create_user("onair", "secret", &["REPLICATION SLAVE ON *.*", "SELECT ON live.*"])?;
//! let url = server.url("onair:secret", "live");
//! # Ok(()) }
//! ```
//!
//! What may go wrong: a package client or the network is missing ([`fetch()`] says which), a server
//! does not start (the error has the end of its log). Nothing here waits for a fixed time.

mod address;
mod cassandra;
mod certificates;
mod child;
mod fetch;
mod java;
pub mod kafka;
mod mariadb;
mod mysql;
mod own;
pub(crate) mod packages;
pub(crate) mod place;
pub mod process;
mod server;

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::str::FromStr;

pub use cassandra::Cassandra;
pub use certificates::Certificates;
pub use fetch::{Dist, Program, fetch};
pub use java::{Engine, Jars, fetch_engine};
pub use kafka::Kafka;
pub use place::{WITHOUT, cache_dir};
pub use server::{Options, Server, Tls};

/// A server that OnAir is tested with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Flavor {
    /// Stands for 8.4 and later: no 8.4 server can be had as a package.
    Mysql97,
    Mysql80,
    Mariadb1011,
    Mariadb118,
}

impl Flavor {
    pub const ALL: [Self; 4] = [
        Self::Mysql97,
        Self::Mysql80,
        Self::Mariadb1011,
        Self::Mariadb118,
    ];

    /// As on the command line: `mysql-9.7`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Mysql97 => "mysql-9.7",
            Self::Mysql80 => "mysql-8.0",
            Self::Mariadb1011 => "mariadb-10.11",
            Self::Mariadb118 => "mariadb-11.8",
        }
    }

    pub fn is_mariadb(self) -> bool {
        matches!(self, Self::Mariadb1011 | Self::Mariadb118)
    }

    /// The environment variable in which a user gives the address of a running one to test with.
    pub fn variable(self) -> &'static str {
        match self {
            Self::Mysql97 => "ONAIR_TEST_MYSQL",
            Self::Mysql80 => "ONAIR_TEST_MYSQL80",
            Self::Mariadb1011 => "ONAIR_TEST_MARIADB",
            Self::Mariadb118 => "ONAIR_TEST_MARIADB118",
        }
    }

    /// The address in [`Flavor::variable`], if the user gave one.
    pub fn given_address(self) -> Option<String> {
        place::given_address(self)
    }

    /// Whether this run does without it (see [`WITHOUT`]): a test that needs it then says so on
    /// standard error and ends.
    pub fn is_left_out(self) -> bool {
        place::is_left_out(self.name())
    }
}

impl fmt::Display for Flavor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Flavor {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|flavor| flavor.name() == text)
            .ok_or_else(|| {
                let names = Self::ALL.map(Self::name).join(", ");
                anyhow::anyhow!("`{text}` is no server that can be fetched; there are {names}")
            })
    }
}

/// `--name=value` for a value that is a path.
fn flag(name: &str, value: impl AsRef<OsStr>) -> OsString {
    let mut flag = OsString::from(name);
    flag.push(value);
    flag
}
