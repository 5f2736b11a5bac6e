//! The server: base shards and increments in memory; versioned snapshots and frames to every subscriber.
//!
//! In: heads and segments from the store, records and cuts from the log. Out: the `OnAir` service. It serves
//! nothing that it has not verified, and keeps its last good snapshot whatever happens upstream.

mod clock;
pub mod config;
mod door;
mod explain;
mod feed;
mod past;
mod refusal;
mod ring;
mod runs;
mod service;
mod state;
mod subscribe;
#[cfg(test)]
mod texts;
mod tls;
mod wire;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use onair_log::EventLog;
use onair_model::{Lineage, Seal};
use onair_proto::v1::on_air_server::OnAirServer;
use onair_store::ShardStore;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::server::NamedService as _;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

pub use crate::config::{FeedLayout, Settings};
use crate::door::Door;
use crate::feed::Worker;
use crate::past::Archive;
use crate::ring::Ring;
pub use crate::service::{RoleReport, Roles};
use crate::service::{Served, Service};
use crate::state::FeedState;
pub use crate::tls::{Tls, TlsError, TlsFiles};

/// How long a connection's answer is waited for, in keep-alive intervals. The question waits behind what the client has
/// still to receive: a snapshot over a slow line, or everybody's at once, must not look like a dead client.
const KEEPALIVE_PATIENCE: u32 = 6;

/// What a server is made of.
pub struct Backends {
    /// The store's lineage.
    pub lineage: Lineage,
    /// Where the reader writes.
    pub log: Arc<dyn EventLog>,
    /// Where the merger writes.
    pub store: Arc<dyn ShardStore>,
    /// What other roles say of themselves.
    pub roles: Roles,
    /// Name, version and commit of the program.
    pub build: Arc<str>,
}

impl std::fmt::Debug for Backends {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Backends")
            .field("lineage", &self.lineage)
            .finish_non_exhaustive()
    }
}

/// A server that is not running yet.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    tls: Option<Tls>,
    backends: Backends,
    settings: Settings,
    feeds: Vec<FeedLayout>,
    served: Arc<BTreeMap<Arc<str>, Served>>,
}

/// Looks at a server from inside its process: readiness and figures.
#[derive(Clone, Debug)]
pub struct Handle {
    served: Arc<BTreeMap<Arc<str>, Served>>,
}

/// The figures of one feed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeedReport {
    /// The feed.
    pub feed: Arc<str>,
    /// What is shown, if anything is.
    pub seal: Option<Seal>,
    /// How long ago that was known to be complete.
    pub age: std::time::Duration,
    /// Whether a cut was verified and the log was read to the ends seen at start.
    pub ready: bool,
    /// Subscribers.
    pub clients: usize,
    /// Frames encoded so far: once for all subscribers, and once more for one that lags.
    pub encodings: u64,
    /// Why newer versions are held back; empty when they are not.
    pub held: String,
}

/// Why a server ended.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The listener or the HTTP stack failed.
    #[error("serving on {address} failed; start again, or choose another address with --listen")]
    Serve {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: tonic::transport::Error,
    },
    /// The listener has no address.
    #[error(
        "the listening socket is unusable; start again, or choose another address with --listen"
    )]
    Socket(#[from] std::io::Error),
    /// The reflection service could not be made of the embedded descriptor.
    #[error("the embedded descriptor is unusable; please report it as a fault of OnAir")]
    Reflection(#[from] tonic_reflection::server::Error),
}

impl Server {
    /// Puts a server together on a bound listener.
    pub fn new(
        listener: TcpListener,
        backends: Backends,
        feeds: Vec<FeedLayout>,
        settings: Settings,
    ) -> Self {
        let served = feeds
            .iter()
            .map(|feed| {
                let ring = Arc::new(Ring::new(settings.ring_bytes, feed.buckets.count()));
                (
                    Arc::clone(&feed.name),
                    Served {
                        buckets: feed.buckets,
                        ring,
                        state: Arc::new(FeedState::new()),
                    },
                )
            })
            .collect();
        Server {
            listener,
            tls: None,
            backends,
            settings,
            feeds,
            served: Arc::new(served),
        }
    }

    /// The same, spoken to by TLS only.
    #[must_use]
    pub fn with_tls(mut self, tls: Tls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// To look at it while it runs.
    pub fn handle(&self) -> Handle {
        Handle {
            served: Arc::clone(&self.served),
        }
    }

    /// Serves until `shutdown`; then streams are told to go away, and get `Settings::drain` to end.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), ServeError> {
        let address = self.listener.local_addr()?;
        let Server {
            listener,
            tls,
            backends,
            settings,
            feeds,
            served,
        } = self;
        let mut workers = JoinSet::new();
        let stop_workers = CancellationToken::new();
        for feed in feeds {
            let Some(of_feed) = served.get(&feed.name) else {
                continue;
            };
            let worker = Worker {
                lineage: backends.lineage,
                log: Arc::clone(&backends.log),
                store: Arc::clone(&backends.store),
                ring: Arc::clone(&of_feed.ring),
                state: Arc::clone(&of_feed.state),
                settings: settings.clone(),
                feed,
            };
            workers.spawn(worker.run(stop_workers.clone()));
        }
        let (health, health_service) = tonic_health::server::health_reporter();
        say_health(&health, ServingStatus::NotServing).await;
        workers.spawn({
            let (draining, stop) = (shutdown.clone(), stop_workers.clone());
            let served = Arc::clone(&served);
            async move {
                let serving = async {
                    Handle { served }.ready().await;
                    say_health(&health, ServingStatus::Serving).await;
                    std::future::pending::<()>().await;
                };
                tokio::select! {
                    () = draining.cancelled() => say_health(&health, ServingStatus::NotServing).await,
                    () = stop.cancelled() => {}
                    () = serving => {}
                }
            }
        });
        let service = Service {
            feeds: Arc::clone(&served),
            store: Arc::clone(&backends.store),
            settings: settings.clone(),
            build: backends.build,
            roles: backends.roles,
            archive: Archive::new(
                backends.lineage,
                (backends.log, backends.store),
                shutdown.clone(),
            ),
        };
        let reflection = tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(onair_proto::DESCRIPTOR)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            .build_v1()?;
        let subscribe = service.clone();
        let generated =
            OnAirServer::new(service).max_decoding_message_size(settings.request_bytes_max);
        let router = tonic::service::Routes::new(generated)
            .add_service(health_service)
            .add_service(reflection)
            .prepare()
            .into_axum_router()
            .route(
                "/onair.v1.OnAir/Subscribe",
                axum::routing::post(move |request: axum::extract::Request| {
                    subscribe.subscribe_raw(request.into_body())
                }),
            );
        let mut builder = tonic::transport::Server::builder()
            .max_concurrent_streams(settings.streams_per_connection)
            .http2_keepalive_interval(Some(settings.keepalive))
            .http2_keepalive_timeout(Some(settings.keepalive * KEEPALIVE_PATIENCE))
            .max_frame_size(Some(256 << 10));
        if let Some(age) = settings.connection_age_max {
            builder = builder.max_connection_age(age);
        }
        let drained = CancellationToken::new();
        let service = builder.add_routes(tonic::service::Routes::from(router));
        let drain = drained.clone().cancelled_owned();
        let mut serve: Pin<Box<dyn Future<Output = _> + Send>> = match &tls {
            Some(tls) => {
                let incoming = Box::pin(tls::incoming(Door::new(listener), tls));
                Box::pin(service.serve_with_incoming_shutdown(incoming, drain))
            }
            None => {
                let incoming = Box::pin(Door::new(listener).plain());
                Box::pin(service.serve_with_incoming_shutdown(incoming, drain))
            }
        };
        let ended = tokio::select! {
            ended = &mut serve => ended,
            () = shutdown.cancelled() => {
                for of_feed in served.values() {
                    of_feed.ring.drain();
                }
                // Streams say GoAway and end; idle connections would hold the server for as long as they live.
                drained.cancel();
                tokio::time::timeout(settings.drain, &mut serve).await.unwrap_or(Ok(()))
            }
        };
        stop_workers.cancel();
        while workers.join_next().await.is_some() {}
        ended.map_err(|source| ServeError::Serve { address, source })
    }
}

/// Of the service, and of the server as a whole, which has the empty name.
async fn say_health(health: &HealthReporter, status: ServingStatus) {
    for name in ["", OnAirServer::<Service>::NAME] {
        health.set_service_status(name, status).await;
    }
}

impl Handle {
    /// Waits until every feed has a verified cut and the log was read to the ends seen at start.
    pub async fn ready(&self) {
        for served in self.served.values() {
            // The sender lives as long as the state that we hold.
            let _ = served.state.ready().wait_for(|ready| *ready).await;
        }
    }

    /// The figures of every feed.
    pub fn feeds(&self) -> Vec<FeedReport> {
        self.served
            .iter()
            .map(|(feed, served)| {
                let inner = served.state.get();
                FeedReport {
                    feed: Arc::clone(feed),
                    seal: inner.seal,
                    age: served.state.age(),
                    ready: *served.state.ready().borrow(),
                    clients: served.ring.clients(),
                    encodings: served.ring.encodings(),
                    held: inner.trouble.unwrap_or(inner.held),
                }
            })
            .collect()
    }
}
