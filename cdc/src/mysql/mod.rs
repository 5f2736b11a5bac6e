//! The real source: MySQL 8.0 and later, MariaDB 10.6 and later.
//!
//! In: a URL. Out: identity, tables, raw binlog events, the rows of a scan, findings. Wrong: [`SourceError`],
//! which says what to do. Nothing outside this folder speaks MySQL.

mod config;
mod connect;
mod errors;
mod gtid;
mod scan;
mod server;
mod stream;
mod table;

use std::sync::Mutex;

use async_trait::async_trait;
use mysql_async::BinlogStreamRequest;
use onair_model::GtidSet;

pub use config::{ConfigErrors, MysqlConfig, SslMode, TlsConfig};

use self::connect::{Connector, Session};
use self::server::Server;
use self::stream::{Asked, Events};
use crate::feed::{FeedConfig, Table, TableName};
use crate::source::{
    Dialect, EventStream, Finding, Identity, RowSink, ScanRequest, Scanned, Source, SourceError,
};

/// Derived server ids lie here, far above what people give their servers.
const DERIVED_SERVER_IDS: std::ops::Range<u32> = 3_000_000_000..4_000_000_000;

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
            None => rand::random_range(DERIVED_SERVER_IDS),
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
        let mut request = BinlogStreamRequest::new(self.server_id);
        match server.dialect {
            Dialect::Mysql => {
                session
                    .run(&format!(
                        "SET @source_heartbeat_period = {HEARTBEAT_NANOS}, \
                         @master_heartbeat_period = {HEARTBEAT_NANOS}, @source_binlog_checksum = 'CRC32', \
                         @replica_uuid = '{uuid}', @slave_uuid = '{uuid}'",
                        uuid = self.reader_uuid
                    ))
                    .await?;
                request = request.with_gtid().with_gtid_set(gtid::sids(from));
            }
            Dialect::Mariadb => {
                session
                    .run(&format!(
                        "SET @master_heartbeat_period = {HEARTBEAT_NANOS}, @mariadb_slave_capability = 4, \
                         @slave_connect_state = '{from}', @slave_gtid_strict_mode = 1, \
                         @slave_gtid_ignore_duplicates = 0"
                    ))
                    .await?;
            }
        }
        let asked = Asked {
            address: self.connector.address().clone(),
            from: from.to_string(),
            server_id: self.server_id,
        };
        let stream = session
            .into_conn()
            .get_binlog_stream(request)
            .await
            .map_err(|err| {
                errors::explain_dump(&asked.address, &asked.from, asked.server_id, &err)
            })?;
        let events = Events::open(stream, asked).await?;
        if let Ok(mut followed) = self.followed.lock() {
            *followed = Some(server.id);
        }
        Ok(Box::new(events))
    }

    async fn scan(&self, request: &ScanRequest, sink: RowSink) -> Result<Scanned, SourceError> {
        let (session, server) = self.open().await?;
        session.leave().await;
        let followed = self
            .followed
            .lock()
            .map(|id| id.clone())
            .unwrap_or_default();
        scan::scan(&self.connector, server.dialect, followed, request, sink).await
    }

    async fn preflight(&self, _feeds: &[FeedConfig]) -> Result<Vec<Finding>, SourceError> {
        Ok(Vec::new())
    }
}

/// One heartbeat a second when nothing else is to be said.
const HEARTBEAT_NANOS: u64 = 1_000_000_000;

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
