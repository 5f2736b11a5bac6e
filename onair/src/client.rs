//! A server as the read verbs see it: unary calls, and what their failures mean for people.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use onair_proto::v1::on_air_client::OnAirClient;
use onair_proto::{convert, v1};
use onair_sdk::dial::Connector;
use onair_sdk::{ConnectError, Feed, Key, Problem, Raw, Schema, Snapshot, Tls, TlsFault, Version};
use onair_store::runs::{Run, Wish};
use tokio::time::timeout;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

use crate::cli::TlsArgs;
use crate::exit::{Exit, Failure, chain};

/// The server when none is named.
pub const DEFAULT: &str = "http://127.0.0.1:7400";
const CONNECT: Duration = Duration::from_secs(3);
const ANSWER: Duration = Duration::from_secs(10);
const MESSAGE_MAX: usize = 64 << 20;

/// A server that answered.
#[derive(Clone, Debug)]
pub struct Server {
    url: String,
    tls: TlsArgs,
    channel: Channel,
    /// Of an https:// server.
    connector: Option<Connector>,
}

impl Server {
    /// Connects. A server that is not there is exit code 4.
    pub async fn connect(url: &str, tls: &TlsArgs) -> Result<Self, Failure> {
        let wrong = |why: String| {
            Failure::new(
                Exit::Usage,
                format!("--server {url:?}: {why}; write it like {DEFAULT}"),
            )
        };
        let endpoint =
            Endpoint::from_shared(url.to_owned()).map_err(|error| wrong(chain(&error)))?;
        match endpoint.uri().scheme_str() {
            Some("http" | "https") => {}
            Some(other) => {
                return Err(wrong(format!(
                    "{other} is not supported, http and https are"
                )));
            }
            None => return Err(wrong("there is no scheme".to_owned())),
        }
        let (channel, connector) = open(url, tls, Some(ANSWER)).await?;
        Ok(Server {
            url: url.to_owned(),
            tls: tls.clone(),
            channel,
            connector,
        })
    }

    /// One that nobody talked to yet.
    #[cfg(test)]
    pub(crate) fn lazy(url: &'static str) -> Self {
        Server {
            url: url.to_owned(),
            tls: TlsArgs::default(),
            connector: None,
            channel: Endpoint::from_static(url).connect_lazy(),
        }
    }

    /// Its address.
    pub fn url(&self) -> &str {
        &self.url
    }

    pub(crate) fn grpc(&self) -> OnAirClient<Channel> {
        OnAirClient::new(self.channel.clone()).max_decoding_message_size(MESSAGE_MAX)
    }

    /// A connection without a limit on how long an answer may take, for streams.
    pub(crate) async fn stream(&self) -> Result<OnAirClient<Channel>, Failure> {
        let (channel, _) = open(&self.url, &self.tls, None).await?;
        Ok(OnAirClient::new(channel).max_decoding_message_size(MESSAGE_MAX))
    }

    /// A feed's schema and its .proto text. A feed that is not there is exit code 2.
    pub async fn schema(&self, feed: &str) -> Result<(Arc<Schema>, String), Failure> {
        let request = v1::SchemaRequest {
            feed: feed.to_owned(),
        };
        let response = self
            .grpc()
            .schema(request)
            .await
            .map_err(|status| self.failure(&status))?
            .into_inner();
        let schema = response
            .schema
            .ok_or_else(|| self.nonsense("a schema without a schema"))?;
        let (schema, _) =
            convert::schema_from_wire(schema).map_err(|error| self.nonsense(&error.to_string()))?;
        Ok((Arc::new(schema), response.proto))
    }

    /// How server and feeds are.
    pub async fn status(&self) -> Result<v1::StatusResponse, Failure> {
        Ok(self
            .grpc()
            .status(v1::StatusRequest {})
            .await
            .map_err(|status| self.failure(&status))?
            .into_inner())
    }

    /// The version of a feed that it shows now, if it shows one.
    pub async fn shown(&self, feed: &str) -> Result<Option<Version>, Failure> {
        let status = self.status().await?;
        let found = status.feeds.into_iter().find(|found| found.feed == feed);
        let seal = found.and_then(|found| found.seal);
        let version = seal.map(|seal| convert::version(seal.version)).transpose();
        version.map_err(|error| self.nonsense(&error.to_string()))
    }

    /// Asks for a reconciliation run.
    pub async fn reconcile(&self, request: v1::ReconcileRequest) -> Result<Run, Failure> {
        let run = self.grpc().reconcile(request).await;
        self.run_of(run.map_err(|status| self.failure(&status))?.into_inner())
    }

    /// Runs of a feed (empty: of all), or the one of an id.
    pub async fn runs(&self, feed: &str, id: &str) -> Result<Vec<Run>, Failure> {
        let request = v1::RunsRequest {
            feed: feed.to_owned(),
            id: id.to_owned(),
        };
        let answer = self.grpc().runs(request).await;
        let answer = answer.map_err(|status| self.failure(&status))?.into_inner();
        answer
            .runs
            .into_iter()
            .map(|run| self.run_of(run))
            .collect()
    }

    /// Says what is wanted of a run.
    pub async fn move_run(&self, feed: &str, id: &str, wish: Wish) -> Result<Run, Failure> {
        let request = v1::MoveRunRequest {
            feed: feed.to_owned(),
            id: id.to_owned(),
            wish: wish.to_wire() as i32,
        };
        let run = self.grpc().move_run(request).await;
        self.run_of(run.map_err(|status| self.failure(&status))?.into_inner())
    }

    fn run_of(&self, wire: v1::Run) -> Result<Run, Failure> {
        Run::from_wire(wire).map_err(|error| self.nonsense(&error.to_string()))
    }

    /// Rows of keys at one version.
    pub async fn get(&self, feed: &str, keys: &[Key]) -> Result<v1::GetResponse, Failure> {
        let keys: Vec<Bytes> = keys.iter().map(Key::to_bytes).collect();
        let request = v1::GetRequest {
            feed: feed.to_owned(),
            keys,
        };
        Ok(self
            .grpc()
            .get(request)
            .await
            .map_err(|status| self.failure(&status))?
            .into_inner())
    }

    /// A verified replica of a feed.
    pub async fn replica(
        &self,
        feed: &str,
        verb: &str,
        patience: Duration,
    ) -> Result<Feed<Raw>, Failure> {
        Feed::<Raw>::builder([self.url.as_str()], feed)
            .client_name(verb)
            .tls(tls_of(&self.tls))
            .init_timeout(patience)
            .max_message_size(MESSAGE_MAX)
            .connect()
            .await
            .map_err(|error| self.not_connected(&error))
    }

    /// What the server shows now, or something newer, verified.
    pub async fn newest(
        &self,
        feed: &str,
        verb: &str,
        patience: Duration,
    ) -> Result<Snapshot<Raw>, Failure> {
        let shown = self.shown(feed).await?.unwrap_or(Version::ZERO);
        let replica = self.replica(feed, verb, patience).await?;
        // A server sends a snapshot that others were sent shortly before, and then what came since.
        let reached = timeout(patience, replica.wait_for(shown)).await;
        replica.close().await;
        match reached {
            Ok(Ok(snapshot)) => Ok(snapshot),
            _ => Err(self.late(&format!("version {shown} did not come within {patience:?}"))),
        }
    }

    fn late(&self, what: &str) -> Failure {
        Failure::new(
            Exit::Failed,
            format!(
                "{}: {what}; see `onair status` for what it is doing",
                self.url
            ),
        )
    }

    fn not_connected(&self, error: &ConnectError) -> Failure {
        match error {
            ConnectError::Timeout { .. } => self.late(&chain(error)),
            ConnectError::Refused(Problem::Tls { fault, .. }) => insecure(&self.url, fault),
            error => Failure::new(Exit::Failed, format!("{}: {}", self.url, chain(error))),
        }
    }

    pub(crate) fn failure(&self, status: &Status) -> Failure {
        let url = &self.url;
        let from_network = std::error::Error::source(status).is_some();
        if let Some(fault) = self.connector.as_ref().and_then(Connector::fault) {
            return insecure(url, &fault);
        }
        match status.code() {
            // HTTP/2's INADEQUATE_SECURITY.
            Code::PermissionDenied if from_network => insecure(url, &TlsFault::Wanted),
            Code::NotFound | Code::InvalidArgument => {
                Failure::new(Exit::Usage, format!("{url}: {}", status.message()))
            }
            // The server's own word, not the network's.
            Code::Unavailable if !from_network => Failure::new(
                Exit::Failed,
                format!(
                    "{url}: {}; try again in a moment, or see `onair status`",
                    status.message()
                ),
            ),
            Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled => {
                unreachable(url, status.message())
            }
            _ => Failure::new(Exit::Failed, format!("{url}: {}", status.message())),
        }
    }

    pub(crate) fn nonsense(&self, what: &str) -> Failure {
        Failure::new(
            Exit::Failed,
            format!(
                "{}: the answer cannot be read: {what}; are server and `onair` of the same release? (`onair status`, `onair --version`)",
                self.url
            ),
        )
    }
}

/// What the SDK is told.
fn tls_of(args: &TlsArgs) -> Tls {
    let mut tls = Tls::new();
    if let Some(ca) = &args.ca {
        tls = tls.ca_file(ca);
    }
    match args.cert.as_ref().zip(args.key.as_ref()) {
        Some((certificate, key)) => tls.identity_files(certificate, key),
        None => tls,
    }
}

/// A connection of our own, and what knows what TLS failed of on it.
async fn open(
    url: &str,
    tls: &TlsArgs,
    patience: Option<Duration>,
) -> Result<(Channel, Option<Connector>), Failure> {
    let endpoint = |url: String| {
        let endpoint = Endpoint::from_shared(url)
            .map_err(|error| unreachable(DEFAULT, &chain(&error)))?
            .connect_timeout(CONNECT);
        Ok::<_, Failure>(match patience {
            Some(patience) => endpoint.timeout(patience),
            None => endpoint,
        })
    };
    let outer = endpoint(url.to_owned())?;
    if outer.uri().scheme_str() != Some("https") {
        let opened = outer.connect().await;
        let opened = opened.map_err(|error| unreachable(url, &chain(&error)))?;
        return Ok((opened, None));
    }
    let connector = Connector::new(outer.uri(), &tls_of(tls))
        .map_err(|fault| Failure::new(Exit::Usage, fault.to_string()))?;
    let within = endpoint(url.replacen("https", "http", 1))?;
    let opened = within.connect_with_connector(connector.clone()).await;
    let opened = opened.map_err(|error| match connector.fault() {
        Some(fault) => insecure(url, &fault),
        None => unreachable(url, &chain(&error)),
    })?;
    Ok((opened, Some(connector)))
}

fn insecure(url: &str, fault: &TlsFault) -> Failure {
    Failure::new(Exit::Unreachable, format!("{url}: {fault}"))
}

fn unreachable(url: &str, why: &str) -> Failure {
    Failure::new(
        Exit::Unreachable,
        format!(
            "{url}: no OnAir server answers: {why}\nstart one with `onair up`, or name another with --server URL or ONAIR_SERVER"
        ),
    )
}
