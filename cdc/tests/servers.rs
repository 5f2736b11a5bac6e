//! Servers for the tests, one of each kind for all tests that leave it as it is, and what every test needs of
//! them.

use std::num::NonZeroU16;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::{Context as _, Result};
use onair_cdc::bind::{FieldNumbers, bind};
use onair_cdc::feed::{Feed, FeedConfig, TableName};
use onair_cdc::mysql::{MysqlConfig, MysqlSource};
use onair_cdc::source::{EventStream, RawEvent, Source as _};
use onair_model::Buckets;
use onair_xtask::servers::{Flavor, Options, Server};

/// Until a test gives up on an event that must come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Makes one test for each kind of server of each `async fn(&Server) -> Result<()>` named.
#[macro_export]
macro_rules! on_each_server {
    ($($name:ident),+ $(,)?) => { $(
        mod $name {
            use onair_xtask::servers::Flavor;
            #[test]
            fn mysql_9_7() {
                $crate::servers::run(Flavor::Mysql97, super::$name);
            }
            #[test]
            fn mysql_8_0() {
                $crate::servers::run(Flavor::Mysql80, super::$name);
            }
            #[test]
            fn mariadb_10_11() {
                $crate::servers::run(Flavor::Mariadb1011, super::$name);
            }
        }
    )+ };
}

/// Runs a test on the server of that kind that all tests share.
pub(crate) fn run(flavor: Flavor, test: impl AsyncFn(&Server) -> Result<()>) {
    if flavor.is_left_out() {
        eprintln!("NOT RUN {flavor}: left out");
        return;
    }
    let server = shared(flavor);
    block_on(test(server)).unwrap_or_else(|err| panic!("{flavor}: {err:?}"));
}

/// Runs a future as `#[tokio::test]` would.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}

fn shared(flavor: Flavor) -> &'static Server {
    static MYSQL97: OnceLock<Server> = OnceLock::new();
    static MYSQL80: OnceLock<Server> = OnceLock::new();
    static MARIADB: OnceLock<Server> = OnceLock::new();
    let server = match flavor {
        Flavor::Mysql97 => &MYSQL97,
        Flavor::Mysql80 => &MYSQL80,
        _ => &MARIADB,
    };
    server.get_or_init(|| {
        let server = Server::start(flavor, Options::default()).unwrap();
        server
            .create_user(
                "onair",
                "secret",
                &["REPLICATION SLAVE ON *.*", "SELECT ON *.*"],
            )
            .unwrap();
        server
    })
}

/// The source on a server, as the account that the tests share.
pub(crate) fn source(server: &Server) -> MysqlSource {
    source_at(&server.url("onair:secret", ""))
}

pub(crate) fn source_at(url: &str) -> MysqlSource {
    MysqlSource::new(MysqlConfig::from_url(url).unwrap()).unwrap()
}

/// A fresh database of that name.
pub(crate) fn database(server: &Server, name: &str) -> Result<()> {
    server.sql(&format!(
        "DROP DATABASE IF EXISTS {name}; CREATE DATABASE {name}"
    ))?;
    Ok(())
}

pub(crate) fn table_name(database: &str, table: &str) -> TableName {
    TableName {
        database: database.into(),
        table: table.into(),
    }
}

/// A feed of a table as it is now.
pub(crate) async fn feed(
    source: &MysqlSource,
    name: &TableName,
    live_when: &str,
    columns: &[&str],
) -> Result<Arc<Feed>> {
    let table = source.table(name).await?;
    let (feed, _) = bind(
        &feed_config(name, live_when, columns),
        &table,
        &FieldNumbers::default(),
    )?;
    Ok(Arc::new(feed))
}

pub(crate) fn feed_config(name: &TableName, live_when: &str, columns: &[&str]) -> FeedConfig {
    FeedConfig {
        name: Arc::clone(&name.table),
        table: name.clone(),
        live_when: live_when.to_owned(),
        columns: columns.iter().map(|c| (*c).to_owned()).collect(),
        buckets: Buckets::new(NonZeroU16::MIN),
    }
}

/// Reads on until `wanted` is true of an event; gives all that came, that one last.
pub(crate) async fn read_until(
    events: &mut dyn EventStream,
    wanted: impl Fn(&RawEvent) -> bool,
) -> Result<Vec<RawEvent>> {
    let mut seen = Vec::new();
    let reading = async {
        loop {
            let event = events.next().await?;
            let done = wanted(&event);
            seen.push(event);
            if done {
                return Ok::<(), onair_cdc::source::SourceError>(());
            }
        }
    };
    let read = tokio::time::timeout(PATIENCE, reading).await;
    let kinds: Vec<_> = seen.iter().map(|event| event.kind).collect();
    read.with_context(|| format!("the event never came, only {kinds:?}"))??;
    Ok(seen)
}
