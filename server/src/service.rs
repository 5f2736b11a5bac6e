//! The gRPC service: requests in, the worker's shared state out. Generated types are named here and in `wire`.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};
use futures_util::Stream;
use onair_model::{Bucket, Buckets, GtidSet, Key};
use onair_proto::v1::on_air_server::OnAir;
use onair_proto::{convert, entries, v1};
use onair_store::ShardStore;
use prost::Message;
use tonic::{Request, Response, Status};

use crate::config::Settings;
use crate::past::{Answers, Archive};
use crate::refusal::Refusal;
use crate::ring::Ring;
use crate::state::{FeedState, Stopped};
use crate::subscribe::{self, Body, Subscription};

/// Largest number of keys in one Get.
const KEYS_MAX: usize = 1000;

/// A feed as the service sees it.
#[derive(Debug, Clone)]
pub(crate) struct Served {
    pub(crate) buckets: Buckets,
    pub(crate) ring: Arc<Ring>,
    pub(crate) state: Arc<FeedState>,
}

/// What other roles in or around this process say of themselves.
pub type Roles = Arc<dyn Fn() -> Vec<RoleReport> + Send + Sync>;

/// One role's own words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoleReport {
    /// "reader", "merger" or "server".
    pub role: String,
    /// In a word or two.
    pub state: String,
    /// In a sentence.
    pub detail: String,
    /// When, microseconds since 1970 by its own clock.
    pub at: i64,
    /// The process that says it.
    pub process: String,
}

#[derive(Clone)]
pub(crate) struct Service {
    pub(crate) feeds: Arc<BTreeMap<Arc<str>, Served>>,
    pub(crate) store: Arc<dyn ShardStore>,
    pub(crate) settings: Settings,
    pub(crate) build: Arc<str>,
    pub(crate) roles: Roles,
    pub(crate) archive: Archive,
}

impl Service {
    pub(crate) fn feed(&self, name: &str) -> Result<&Served, Status> {
        self.feeds.get(name).ok_or_else(|| {
            let known: Vec<&str> = self.feeds.keys().map(|name| &**name).collect();
            let (asked, here) = (name.to_owned(), known.join(", "));
            Refusal::NoFeed { asked, here }.into()
        })
    }

    /// A key, and its bucket.
    fn place(&self, feed: String, key: Bytes) -> Result<(Arc<str>, Bucket, Key), Status> {
        let buckets = self.feed(&feed)?.buckets;
        let key = Key::from_bytes(key);
        Ok((feed.into(), buckets.of(&key), key))
    }

    /// Answers Subscribe with bytes that are framed already.
    pub(crate) async fn subscribe_raw(
        self,
        body: axum::body::Body,
    ) -> http::Response<axum::body::Body> {
        match self.open(body).await {
            Ok(subscription) => {
                let body = axum::body::Body::new(Body::new(subscribe::stream(subscription)));
                let mut response = http::Response::new(body);
                let kind = http::HeaderValue::from_static("application/grpc");
                response
                    .headers_mut()
                    .insert(http::header::CONTENT_TYPE, kind);
                response
            }
            Err(status) => status.into_http(),
        }
    }

    async fn open(&self, body: axum::body::Body) -> Result<Subscription, Status> {
        let limit = self.settings.request_bytes_max;
        let bytes = axum::body::to_bytes(body, limit + 5)
            .await
            .map_err(|_| Refusal::TooLong { limit })?;
        let request = decode(bytes)?;
        let served = self.feed(&request.feed)?;
        if !request.view.is_empty() {
            let (feed, view) = (request.feed, request.view);
            return Err(Refusal::NoView { feed, view }.into());
        }
        let limit = self.settings.clients_max;
        let client = served
            .ring
            .join(limit)
            .ok_or_else(|| Refusal::TooManyClients {
                feed: request.feed.clone(),
                limit,
            })?;
        Ok(Subscription {
            ring: Arc::clone(&served.ring),
            client,
            have: request.have,
            retry_after: self.settings.retry_after,
        })
    }
}

/// The one message of a request body: a prefix of a compression flag and a length, then the message.
fn decode(mut bytes: Bytes) -> Result<v1::SubscribeRequest, Status> {
    let wrong = |what: &str| {
        Status::from(Refusal::Malformed {
            reason: what.to_owned(),
        })
    };
    if bytes.len() < 5 {
        return Err(wrong("the message is cut short"));
    }
    if bytes.get_u8() != 0 {
        return Err(Refusal::Compressed.into());
    }
    let len = bytes.get_u32() as usize;
    if len != bytes.len() {
        return Err(wrong("its length is not the one stated"));
    }
    v1::SubscribeRequest::decode(bytes).map_err(|error| wrong(&error.to_string()))
}

#[tonic::async_trait]
impl OnAir for Service {
    type SubscribeStream =
        Pin<Box<dyn Stream<Item = Result<v1::SubscribeResponse, Status>> + Send>>;

    async fn subscribe(
        &self,
        _: Request<v1::SubscribeRequest>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        // Its route is taken by `subscribe_raw`.
        Err(Refusal::Misrouted.into())
    }

    async fn get(
        &self,
        request: Request<v1::GetRequest>,
    ) -> Result<Response<v1::GetResponse>, Status> {
        let request = request.into_inner();
        let served = self.feed(&request.feed)?;
        if request.keys.len() > KEYS_MAX {
            return Err(Refusal::TooManyKeys { limit: KEYS_MAX }.into());
        }
        let snapshot = served.ring.snapshot().ok_or_else(|| Refusal::NoCut {
            feed: request.feed.clone(),
        })?;
        let mut out = BytesMut::new();
        for key in request.keys {
            let key = Key::from_bytes(key);
            entries::write(&mut out, &key, snapshot.get(&key));
        }
        let seal = convert::seal_to_wire(&snapshot.seal, &snapshot.seal.executed);
        Ok(Response::new(v1::GetResponse {
            seal: Some(seal),
            entries: out.freeze(),
        }))
    }

    async fn status(
        &self,
        _: Request<v1::StatusRequest>,
    ) -> Result<Response<v1::StatusResponse>, Status> {
        let feeds = self
            .feeds
            .iter()
            .map(|(name, served)| feed_status(name, served))
            .collect();
        let roles = (self.roles)()
            .into_iter()
            .map(|report| v1::RoleStatus {
                role: report.role,
                state: report.state,
                detail: report.detail,
                at: report.at,
                process: report.process,
            })
            .collect();
        Ok(Response::new(v1::StatusResponse {
            feeds,
            roles,
            build: self.build.to_string(),
        }))
    }

    async fn schema(
        &self,
        request: Request<v1::SchemaRequest>,
    ) -> Result<Response<v1::SchemaResponse>, Status> {
        let feed = request.into_inner().feed;
        let (schema, buckets) = self
            .feed(&feed)?
            .ring
            .schema()
            .ok_or(Refusal::NotBound { feed })?;
        Ok(Response::new(v1::SchemaResponse {
            schema: Some(convert::schema_to_wire(&schema, buckets)),
            descriptor: Bytes::new(),
            proto: onair_proto::schema_text::proto(&schema),
        }))
    }

    type PastStream = Answers<v1::SubscribeResponse>;

    async fn past(
        &self,
        request: Request<v1::PastRequest>,
    ) -> Result<Response<Self::PastStream>, Status> {
        let request = request.into_inner();
        let moment = request.moment.ok_or(Refusal::NoMoment)?;
        self.feed(&request.feed)?;
        let past = self.archive.past(request.feed.into(), moment).await?;
        Ok(Response::new(past))
    }

    type KeyHistoryStream = Answers<v1::KeyStep>;

    async fn key_history(
        &self,
        request: Request<v1::KeyHistoryRequest>,
    ) -> Result<Response<Self::KeyHistoryStream>, Status> {
        let request = request.into_inner();
        let (feed, bucket, key) = self.place(request.feed, request.key)?;
        let times = (
            request.from.unwrap_or(i64::MIN),
            request.to.unwrap_or(i64::MAX),
        );
        let steps = self.archive.key_history(feed, (bucket, key), times).await?;
        Ok(Response::new(steps))
    }

    async fn explain(
        &self,
        request: Request<v1::ExplainRequest>,
    ) -> Result<Response<v1::ExplainResponse>, Status> {
        let request = request.into_inner();
        let ring = Arc::clone(&self.feed(&request.feed)?.ring);
        let (feed, bucket, key) = self.place(request.feed, request.key)?;
        let explained = self.archive.explain(feed, (bucket, key), ring).await?;
        Ok(Response::new(explained))
    }

    async fn reconcile(
        &self,
        request: Request<v1::ReconcileRequest>,
    ) -> Result<Response<v1::Run>, Status> {
        self.ask_run(request.into_inner()).await.map(Response::new)
    }

    async fn runs(
        &self,
        request: Request<v1::RunsRequest>,
    ) -> Result<Response<v1::RunsResponse>, Status> {
        self.list_runs(request.into_inner())
            .await
            .map(Response::new)
    }

    async fn move_run(
        &self,
        request: Request<v1::MoveRunRequest>,
    ) -> Result<Response<v1::Run>, Status> {
        self.wish_of_run(request.into_inner())
            .await
            .map(Response::new)
    }
}

fn feed_status(name: &str, served: &Served) -> v1::FeedStatus {
    let inner = served.state.get();
    let age = served.state.age();
    let stopped = |bucket: usize| {
        let found = inner
            .stopped
            .iter()
            .find(|(stopped, _)| stopped.index() == bucket);
        match found {
            Some((_, Stopped::Gap)) => "gap",
            Some((_, Stopped::Fork)) => "fork",
            None => "",
        }
    };
    v1::FeedStatus {
        feed: name.to_owned(),
        seal: inner
            .seal
            .as_ref()
            .map(|seal| convert::seal_to_wire(seal, &GtidSet::clone(&seal.executed))),
        age_ms: u64::try_from(age.as_millis()).unwrap_or(u64::MAX),
        clients: u32::try_from(served.ring.clients()).unwrap_or(u32::MAX),
        buckets: inner
            .buckets
            .iter()
            .enumerate()
            .map(|(number, (state, _))| v1::BucketStatus {
                bucket: number as u32,
                d: state.d.get(),
                through: state.through.get(),
                count: state.count,
                stopped: stopped(number).to_owned(),
            })
            .collect(),
        held: inner.trouble.clone().unwrap_or_else(|| inner.held.clone()),
        ready: *served.state.ready().borrow(),
        frames: inner.frames,
        spacing_ms: inner.spacing.as_millis() as u32,
    }
}
