//! The real source: MySQL 8.0 and later, MariaDB 10.6 and later.
//!
//! In: a URL. Out: identity, tables, raw binlog events, the rows of a scan, findings. Wrong: [`SourceError`],
//! which says what to do. Nothing outside this folder speaks MySQL.

mod config;
mod connect;
mod errors;
mod gtid;
mod preflight;
mod replicas;
mod scan;
mod server;
mod stream;
mod table;
#[cfg(test)]
pub(crate) mod texts;
mod tls;
mod wire;

use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use mysql_common::packets::{ComBinlogDump, ComBinlogDumpGtid, ComRegisterSlave};
use onair_model::{GtidSet, Key};
use tokio::time::{Instant, sleep, timeout};

pub use config::{ConfigErrors, MysqlConfig, SslMode, TlsConfig};

use self::connect::{Connector, Session};
use self::server::Server;
use self::stream::{Asked, Events};
use self::wire::Wire;
use crate::feed::{Feed, FeedConfig, Table, TableName};
use crate::source::{
    Dialect, EventStream, Finding, Identity, RowSink, SILENCE_MAX, ScanRequest, Scanned, Source,
    SourceError,
};

/// Derived server ids lie here, far above what people give their servers.
const DERIVED_SERVER_IDS: std::ops::Range<u32> = 3_000_000_000..4_000_000_000;

/// One heartbeat a second when nothing else is to be said.
const HEARTBEAT_NANOS: u64 = 1_000_000_000;
/// What the server lists us as.
const READER_NAME: &[u8] = b"onair";
/// After a binlog file's magic number.
const BINLOG_START: u64 = 4;
/// A reader that died is listed until a heartbeat to it fails.
const GHOST_MAX: Duration = Duration::from_secs(5);
const GHOST_PAUSE: Duration = Duration::from_millis(250);

/// A MySQL or MariaDB server.
#[derive(Debug)]
pub struct MysqlSource {
    config: MysqlConfig,
    connector: Connector,
    server_id: u32,
    /// Ours for as long as we live: the server ends an older dump of the same reader when it opens the next.
    reader_uuid: String,
    /// The server that the latest stream comes from: a scan must read the same one.
    followed: Mutex<Option<String>>,
}

impl MysqlSource {
    /// Reads the certificate files; nothing is connected yet.
    pub fn new(config: MysqlConfig) -> Result<Self, ConfigErrors> {
        let connector = Connector::new(&config)?;
        let server_id = match config.server_id() {
            Some(id) => id.get(),
            None => derived_server_id(),
        };
        Ok(MysqlSource {
            config,
            connector,
            server_id,
            reader_uuid: random_uuid(),
            followed: Mutex::new(None),
        })
    }

    /// What it was made with.
    pub fn config(&self) -> &MysqlConfig {
        &self.config
    }

    /// The id that it shows to the server: configured, or random between 3 and 4 thousand million.
    pub fn server_id(&self) -> u32 {
        self.server_id
    }

    /// A connection to a server that we can work with.
    async fn open(&self) -> Result<(Session, Server), SourceError> {
        let mut session = self.connector.open().await?;
        let server = server::probe(&mut session).await?;
        Ok((session, server))
    }

    /// Refuses when another reader shows our server id. One that died a moment ago is listed until the server
    /// notices, so it is given some time to go.
    async fn require_own_id(
        &self,
        session: &mut Session,
        server: &Server,
    ) -> Result<(), SourceError> {
        let start = Instant::now();
        loop {
            let other =
                replicas::other(session, server.dialect, self.server_id, &self.reader_uuid).await?;
            let Some(other) = other else {
                return Ok(());
            };
            if start.elapsed() > GHOST_MAX {
                return Err(SourceError::SameServerId {
                    address: self.connector.address().to_string(),
                    server_id: self.server_id,
                    reason: format!("{other} reads with it"),
                });
            }
            sleep(GHOST_PAUSE).await;
        }
    }

    /// Opens the stream that begins after `from`.
    async fn dump(&self, server: &Server, from: &GtidSet) -> Result<Events, SourceError> {
        let asked = Asked {
            address: self.connector.address().clone(),
            from: from.to_string(),
            server_id: self.server_id,
        };
        let mut wire = self.connector.open_wire().await?;
        let begun = timeout(SILENCE_MAX, self.begin(&mut wire, server, from)).await;
        begun
            .map_err(|_| asked.silent(SILENCE_MAX))?
            .map_err(|err| asked.explain(&err))??;
        Events::open(wire, asked).await
    }

    async fn begin(
        &self,
        wire: &mut Wire,
        server: &Server,
        from: &GtidSet,
    ) -> Result<Result<(), SourceError>, mysql_async::Error> {
        let reached = wire.ask(server::id_query(server.dialect)).await?;
        if reached != server.id {
            return Ok(Err(SourceError::Unreachable {
                address: self.connector.address().to_string(),
                reason: format!("two connections reached {} and {reached}", server.id),
            }));
        }
        wire.run(&match server.dialect {
            Dialect::Mysql => format!(
                "SET @source_heartbeat_period = {HEARTBEAT_NANOS}, \
                 @master_heartbeat_period = {HEARTBEAT_NANOS}, @source_binlog_checksum = 'CRC32', \
                 @master_binlog_checksum = 'CRC32', @replica_uuid = '{uuid}', @slave_uuid = '{uuid}'",
                uuid = self.reader_uuid
            ),
            Dialect::Mariadb => format!(
                "SET @master_heartbeat_period = {HEARTBEAT_NANOS}, @master_binlog_checksum = 'CRC32', \
                 @mariadb_slave_capability = 4, @slave_connect_state = '{from}', \
                 @slave_gtid_strict_mode = 1, @slave_gtid_ignore_duplicates = 0"
            ),
        })
        .await?;
        wire.command(&ComRegisterSlave::new(self.server_id).with_hostname(READER_NAME))
            .await?;
        match server.dialect {
            Dialect::Mysql => {
                let dump = ComBinlogDumpGtid::new(self.server_id).with_pos(BINLOG_START);
                wire.begin(&dump.with_sids(gtid::sids(from))).await?;
            }
            Dialect::Mariadb => {
                let dump = ComBinlogDump::new(self.server_id).with_pos(BINLOG_START as u32);
                wire.begin(&dump).await?;
            }
        }
        Ok(Ok(()))
    }

    /// Another reader of the same server.
    fn sibling(&self) -> Self {
        MysqlSource {
            config: self.config.clone(),
            connector: self.connector.clone(),
            server_id: derived_server_id(),
            reader_uuid: random_uuid(),
            followed: Mutex::new(None),
        }
    }
}

#[async_trait]
impl Source for MysqlSource {
    async fn identity(&self) -> Result<Identity, SourceError> {
        let (mut session, server) = self.open().await?;
        server::require_gtids(&mut session, &server).await?;
        let identity = server::identity(&mut session, &server).await?;
        session.leave().await;
        Ok(identity)
    }

    async fn table(&self, name: &TableName) -> Result<Table, SourceError> {
        let (mut session, server) = self.open().await?;
        let table = table::table(&mut session, server.dialect, name).await?;
        session.leave().await;
        Ok(table)
    }

    async fn follow(&self, from: &GtidSet) -> Result<Box<dyn EventStream>, SourceError> {
        let (mut session, server) = self.open().await?;
        server::require_gtids(&mut session, &server).await?;
        self.require_own_id(&mut session, &server).await?;
        session.leave().await;
        let events = self.dump(&server, from).await?;
        if let Ok(mut followed) = self.followed.lock() {
            *followed = Some(server.id);
        }
        Ok(Box::new(events))
    }

    async fn scan(&self, request: &ScanRequest, sink: RowSink) -> Result<Scanned, SourceError> {
        let planner = self.open().await?;
        let followed = self
            .followed
            .lock()
            .map(|id| id.clone())
            .unwrap_or_default();
        scan::scan(&self.connector, planner, followed, request, sink).await
    }

    async fn row(&self, feed: &Feed, key: &Key, sink: RowSink) -> Result<(), SourceError> {
        let (session, server) = self.open().await?;
        session.leave().await;
        scan::one(&self.connector, server.dialect, (feed, key), sink).await
    }

    async fn preflight(&self, feeds: &[FeedConfig]) -> Result<Vec<Finding>, SourceError> {
        preflight::preflight(self, feeds).await
    }
}

fn derived_server_id() -> u32 {
    rand::random_range(DERIVED_SERVER_IDS)
}

fn random_uuid() -> String {
    let hex = format!("{:032x}", rand::random::<u128>());
    format!(
        "{}-{}-{}-{}-{}",
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..]
    )
}
