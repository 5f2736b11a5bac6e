//! Connections: TCP, TLS and login by `mysql_async`, under time limits, with the session state that every
//! query of ours relies on.

use std::sync::Arc;
use std::time::Duration;

use mysql_async::prelude::{FromRow, Queryable};
use mysql_async::{Conn, DriverError, Error, Opts, OptsBuilder, Row};
use tokio::time::timeout;

use super::config::{ConfigErrors, MysqlConfig, SslMode};
use super::errors::explain;
use super::tls::Tls;
use super::wire::{Endpoint, EndpointTls, KEEPALIVE, PACKET_MAX, Wire};
use crate::source::SourceError;

/// TCP, TLS and login together.
const CONNECT_MAX: Duration = Duration::from_secs(10);
/// A question about the server or a table; none reads user rows.
const QUERY_MAX: Duration = Duration::from_secs(30);
/// Leaving in good order is a courtesy.
const LEAVE_MAX: Duration = Duration::from_secs(1);
/// What the server may keep a connection idle for; we set it instead of asking for it.
const WAIT_SECONDS: usize = 28_800;

/// Opens connections to one server.
#[derive(Clone)]
pub(super) struct Connector {
    first: Opts,
    /// `prefer`: what to do when the server has no TLS.
    plain: Option<Opts>,
    /// The same for the binlog's connection.
    endpoint: Arc<Endpoint>,
    address: Arc<str>,
}

impl std::fmt::Debug for Connector {
    /// Without the driver's options: they hold the password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Connector").field(&self.address).finish()
    }
}

impl Connector {
    /// Reads the certificate files; nothing is connected yet.
    pub(super) fn new(config: &MysqlConfig) -> Result<Self, ConfigErrors> {
        // The driver asks rustls for the process's default, which is not clear when another crate of the
        // process brings a second one. Whoever came first is fine.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let plain = Opts::from(
            OptsBuilder::default()
                .ip_or_hostname(config.host())
                .tcp_port(config.port())
                .user(Some(config.user()))
                .pass(config.password())
                .prefer_socket(false)
                .tcp_nodelay(true)
                .tcp_keepalive(Some(KEEPALIVE))
                .max_allowed_packet(Some(PACKET_MAX as usize))
                .wait_timeout(Some(WAIT_SECONDS))
                .connect_attribute("program_name", "onair"),
        );
        let mode = config.tls().mode;
        let tls = match mode {
            SslMode::Disable => None,
            SslMode::Prefer | SslMode::Require | SslMode::VerifyFull => {
                Some(Tls::read(config.tls())?)
            }
        };
        let first = match &tls {
            None => plain.clone(),
            Some(tls) => OptsBuilder::from_opts(plain.clone())
                .ssl_opts(tls.for_driver())
                .into(),
        };
        let wire_tls = tls.as_ref().map(Tls::for_rustls).transpose()?;
        Ok(Connector {
            first,
            plain: (mode == SslMode::Prefer).then_some(plain),
            endpoint: Arc::new(Endpoint {
                host: config.host().to_owned(),
                port: config.port(),
                user: config.user().to_owned(),
                password: config.password().map(str::to_owned),
                tls: wire_tls.map(|config| EndpointTls {
                    config,
                    optional: mode == SslMode::Prefer,
                }),
            }),
            address: config.address().into(),
        })
    }

    /// `host:port`.
    pub(super) fn address(&self) -> &Arc<str> {
        &self.address
    }

    /// A connection with nothing set.
    pub(super) async fn open_bare(&self) -> Result<Session, SourceError> {
        let attempt = match self.connect(&self.first).await? {
            Err(Error::Driver(DriverError::NoClientSslFlagFromServer)) => match &self.plain {
                Some(plain) => self.connect(plain).await?,
                None => Err(DriverError::NoClientSslFlagFromServer.into()),
            },
            done => done,
        };
        let conn = attempt.map_err(|err| explain(&self.address, &err))?;
        Ok(Session {
            conn,
            address: Arc::clone(&self.address),
        })
    }

    /// A connection for asking questions: UTF-8, plain SQL, nothing that the server's defaults may change.
    pub(super) async fn open(&self) -> Result<Session, SourceError> {
        let mut session = self.open_bare().await?;
        session
            .run("SET NAMES utf8mb4, sql_mode = '', autocommit = 1")
            .await?;
        Ok(session)
    }

    /// A connection for the binlog and for the rows of a scan.
    pub(super) async fn open_wire(&self) -> Result<Wire, SourceError> {
        timeout(CONNECT_MAX, Wire::connect(&self.endpoint))
            .await
            .map_err(|_| self.no_login())?
            .map_err(|err| explain(&self.address, &err))
    }

    fn no_login(&self) -> SourceError {
        SourceError::Unreachable {
            address: self.address.to_string(),
            reason: format!("no login within {} s", CONNECT_MAX.as_secs()),
        }
    }

    async fn connect(&self, opts: &Opts) -> Result<Result<Conn, Error>, SourceError> {
        timeout(CONNECT_MAX, Conn::new(opts.clone()))
            .await
            .map_err(|_| self.no_login())
    }
}

/// One connection.
pub(super) struct Session {
    conn: Conn,
    address: Arc<str>,
}

impl Session {
    /// Runs a statement whose result does not matter.
    pub(super) async fn run(&mut self, sql: &str) -> Result<(), SourceError> {
        let done = self.try_run(sql).await?;
        done.map_err(|err| explain(&self.address, &err))
    }

    /// Runs a statement that the server may not know or not allow.
    pub(super) async fn try_run(&mut self, sql: &str) -> Result<Result<(), Error>, SourceError> {
        limited(&self.address, self.conn.query_drop(sql)).await
    }

    /// All rows of a query.
    pub(super) async fn rows<T>(&mut self, sql: &str) -> Result<Vec<T>, SourceError>
    where
        T: FromRow + Send + 'static,
    {
        let rows = self.try_rows(sql).await?;
        rows.map_err(|err| explain(&self.address, &err))
    }

    /// All rows of a query that the server may not know or not allow.
    pub(super) async fn try_rows<T>(
        &mut self,
        sql: &str,
    ) -> Result<Result<Vec<T>, Error>, SourceError>
    where
        T: FromRow + Send + 'static,
    {
        limited(&self.address, self.conn.query(sql)).await
    }

    /// All rows of a query by the binary protocol, which gives numbers and dates as such.
    pub(super) async fn exec(&mut self, sql: &str) -> Result<Vec<Row>, SourceError> {
        let rows = limited(&self.address, self.conn.exec(sql, ())).await?;
        rows.map_err(|err| explain(&self.address, &err))
    }

    /// The only row of a query that always has one.
    pub(super) async fn one<T>(&mut self, sql: &str) -> Result<T, SourceError>
    where
        T: FromRow + Send + 'static,
    {
        let row = limited(&self.address, self.conn.query_first(sql)).await?;
        row.map_err(|err| explain(&self.address, &err))?
            .ok_or_else(|| SourceError::Damaged {
                at: self.address.to_string(),
                reason: format!("no row came back for: {sql}"),
            })
    }

    /// `host:port`.
    pub(super) fn address(&self) -> &Arc<str> {
        &self.address
    }

    /// Says goodbye. Dropping a session also closes it, a little later.
    pub(super) async fn leave(self) {
        let _ = timeout(LEAVE_MAX, self.conn.disconnect()).await;
    }
}

/// `'text'` as a literal under any `sql_mode`: no character of it means anything.
pub(super) fn literal(text: &str) -> String {
    if text.is_empty() {
        return "''".to_owned();
    }
    let hex: String = text.bytes().map(|byte| format!("{byte:02x}")).collect();
    format!("CONVERT(0x{hex} USING utf8mb4)")
}

/// `` `name` ``, whatever is in the name.
pub(super) fn identifier(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

/// What the server answers, if it does so soon.
pub(super) async fn limited<T>(
    address: &str,
    answer: impl Future<Output = Result<T, Error>>,
) -> Result<Result<T, Error>, SourceError> {
    timeout(QUERY_MAX, answer)
        .await
        .map_err(|_| SourceError::Unreachable {
            address: address.to_owned(),
            reason: format!("no answer within {} s", QUERY_MAX.as_secs()),
        })
}
