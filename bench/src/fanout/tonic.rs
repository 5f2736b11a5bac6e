//! A server of tonic and prost as their examples have it: a broadcast channel of messages, each of which is cloned and
//! encoded for each subscriber by generated code.

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use futures_util::{Stream, StreamExt as _};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::broadcast;
use tokio::task::JoinSet;
use tokio_stream::wrappers::BroadcastStream;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

use super::rows::room;
use super::{Published, clock, descriptors};
use crate::harness::child::say;

mod generated {
    #![allow(
        clippy::allow_attributes_without_reason,
        clippy::semicolon_if_nothing_returned,
        missing_debug_implementations,
        unreachable_pub,
        reason = "generated"
    )]
    tonic::include_proto!("onair.bench");
}
use generated::fanout_server::{Fanout, FanoutServer};
use generated::{Row, SubscribeRequest, Update};

/// Updates that wait for a subscriber before it misses some.
const CHANNEL: usize = 64;

/// Serves until there are no more orders.
pub(super) fn serve(subscribers: usize) -> Result<()> {
    descriptors::allow(subscribers)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(serving())?;
    runtime.shutdown_background();
    Ok(())
}

async fn serving() -> Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let port = listener.local_addr()?.port();
    let service = Arc::new(Service {
        updates: broadcast::Sender::new(CHANNEL),
        version: AtomicU64::new(0),
        snapshot: Mutex::default(),
    });
    let mut server = JoinSet::new();
    server.spawn({
        let service = FanoutServer::from_arc(Arc::clone(&service));
        let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
        Server::builder()
            .add_service(service)
            .serve_with_incoming(incoming)
    });
    say(&json!({ "ready": { "port": port } }))?;
    let mut orders = super::orders();
    while let Some(publish) = orders.recv().await.transpose()? {
        for due in publish.dues() {
            tokio::time::sleep(due.saturating_sub(clock::now()?)).await;
            service.publish(publish.rows);
        }
        Published {
            subscribers: service.updates.receiver_count(),
            version: Some(service.version.load(Ordering::Relaxed)),
            encodings: None,
        }
        .say()?;
    }
    Ok(())
}

struct Service {
    updates: broadcast::Sender<Update>,
    version: AtomicU64,
    /// The last snapshot that was asked for. It and the updates after it belong together.
    snapshot: Mutex<Arc<Update>>,
}

impl Service {
    fn publish(&self, rows: u32) {
        let _joining = self.snapshot.lock().unwrap_or_else(PoisonError::into_inner);
        let version = self.version.fetch_add(1, Ordering::Relaxed) + 1;
        // Nobody may be there.
        let _ = self.updates.send(update(version, rows));
    }
}

fn update(version: u64, rows: u32) -> Update {
    let row = |id| {
        let room = room(id, version);
        Row {
            id: room.id,
            uid: room.uid,
            area_id: room.area_id,
            title: room.title,
            live_time: room.live_time,
        }
    };
    Update {
        version,
        sent_nanos: clock::now().map_or(0, |now| now.as_nanos() as u64),
        rows: (0..u64::from(rows)).map(row).collect(),
    }
}

#[tonic::async_trait]
impl Fanout for Service {
    type SubscribeStream = Pin<Box<dyn Stream<Item = Result<Update, Status>> + Send>>;

    async fn subscribe(
        &self,
        request: Request<SubscribeRequest>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        let rows = request.into_inner().snapshot_rows;
        let (updates, snapshot) = {
            let mut held = self.snapshot.lock().unwrap_or_else(PoisonError::into_inner);
            let version = self.version.load(Ordering::Relaxed);
            if held.version != version || held.rows.len() != rows as usize {
                *held = Arc::new(update(version, rows));
            }
            (self.updates.subscribe(), Arc::clone(&held))
        };
        let first = (rows > 0).then(|| Ok(Update::clone(&snapshot)));
        let updates = BroadcastStream::new(updates)
            .map(|update| update.map_err(|error| Status::data_loss(error.to_string())));
        let stream = futures_util::stream::iter(first).chain(updates);
        Ok(Response::new(Box::pin(stream)))
    }
}
