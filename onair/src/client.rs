//! A server as the read verbs see it: unary calls, and what their failures mean for people.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use onair_proto::v1::on_air_client::OnAirClient;
use onair_proto::{convert, v1};
use onair_sdk::{ConnectError, Feed, Key, Raw, Schema};
use onair_store::runs::{Run, Wish};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

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
    channel: Channel,
}

impl Server {
    /// Connects. A server that is not there is exit code 4.
    pub async fn connect(url: &str) -> Result<Self, Failure> {
        let wrong = |why: String| {
            Failure::new(
                Exit::Usage,
                format!("--server {url:?}: {why}; write it like {DEFAULT}"),
            )
        };
        let endpoint =
            Endpoint::from_shared(url.to_owned()).map_err(|error| wrong(chain(&error)))?;
        match endpoint.uri().scheme_str() {
            Some("http") => {}
            Some(other) => return Err(wrong(format!("{other} is not supported, http is"))),
            None => return Err(wrong("there is no scheme".to_owned())),
        }
        let channel = endpoint
            .connect_timeout(CONNECT)
            .timeout(ANSWER)
            .connect()
            .await
            .map_err(|error| unreachable(url, &chain(&error)))?;
        Ok(Server {
            url: url.to_owned(),
            channel,
        })
    }

    /// One that nobody talked to yet.
    #[cfg(test)]
    pub(crate) fn lazy(url: &'static str) -> Self {
        Server {
            url: url.to_owned(),
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
        let endpoint = Endpoint::from_shared(self.url.clone())
            .map_err(|error| unreachable(&self.url, &chain(&error)))?;
        let channel = endpoint
            .connect_timeout(CONNECT)
            .connect()
            .await
            .map_err(|error| unreachable(&self.url, &chain(&error)))?;
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
            .init_timeout(patience)
            .max_message_size(MESSAGE_MAX)
            .connect()
            .await
            .map_err(|error| self.not_connected(&error))
    }

    fn not_connected(&self, error: &ConnectError) -> Failure {
        match error {
            ConnectError::Timeout { .. } => Failure::new(
                Exit::Failed,
                format!(
                    "{}: {}; see `onair status` for what it is doing",
                    self.url,
                    chain(error)
                ),
            ),
            error => Failure::new(Exit::Failed, format!("{}: {}", self.url, chain(error))),
        }
    }

    pub(crate) fn failure(&self, status: &Status) -> Failure {
        let url = &self.url;
        match status.code() {
            Code::NotFound | Code::InvalidArgument => {
                Failure::new(Exit::Usage, format!("{url}: {}", status.message()))
            }
            // The server's own word, not the network's.
            Code::Unavailable if std::error::Error::source(status).is_none() => Failure::new(
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

fn unreachable(url: &str, why: &str) -> Failure {
    Failure::new(
        Exit::Unreachable,
        format!(
            "{url}: no OnAir server answers: {why}\nstart one with `onair up`, or name another with --server URL or ONAIR_SERVER"
        ),
    )
}
