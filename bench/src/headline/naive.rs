//! The naive stack: what Debezium wrote to Kafka is read by a service, which sends each change to every stream as a
//! message of tonic and prost.
//!
//! The service is what a team writes in an afternoon: one consumer, one broadcast channel, generated code. Its clients
//! hold no state; they note what they see.

use std::io::BufRead as _;
use std::pin::Pin;
use std::sync::Arc;
use std::thread;

use anyhow::{Context as _, Result};
use futures_util::{Stream, StreamExt as _};
use rdkafka::consumer::{Consumer as _, StreamConsumer};
use rdkafka::{ClientConfig, Message as _, Offset, TopicPartitionList};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::broadcast;
use tokio::task::JoinSet;
use tokio_stream::wrappers::BroadcastStream;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Endpoint, Server};
use tonic::{Request, Response, Status};

use super::board::Board;
use crate::harness::child::say;
use crate::load::{CLOSED, OPENED, Order, Seen, nanos};

mod generated {
    #![allow(
        clippy::allow_attributes_without_reason,
        clippy::semicolon_if_nothing_returned,
        missing_debug_implementations,
        unreachable_pub,
        reason = "generated"
    )]
    tonic::include_proto!("onair.bench.naive");
}
use generated::rooms_client::RoomsClient;
use generated::rooms_server::{Rooms, RoomsServer};
use generated::{Change, WatchRequest};

/// Changes that wait for a slow client before it misses some: enough for a burst of Debezium's at its defaults.
const CHANNEL: usize = 16_384;
/// Connections that are made at once.
const AT_ONCE: usize = 50;

/// The service.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Service {
    pub brokers: String,
    /// What Debezium writes to; one partition.
    pub topic: String,
}

impl Service {
    /// Serves until standard input is closed.
    pub fn run(&self) -> Result<()> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()?;
        let mut tasks = runtime.block_on(self.start())?;
        for line in std::io::stdin().lock().lines() {
            line?;
        }
        tasks.abort_all();
        runtime.shutdown_background();
        Ok(())
    }

    async fn start(&self) -> Result<JoinSet<Result<()>>> {
        let consumer: StreamConsumer = ClientConfig::new()
            .set("bootstrap.servers", &self.brokers)
            .set("group.id", &self.topic)
            .set("enable.auto.commit", "false")
            .create()?;
        let mut from = TopicPartitionList::new();
        from.add_partition_offset(&self.topic, 0, Offset::Beginning)?;
        consumer.assign(&from)?;
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let port = listener.local_addr()?.port();
        let changes = broadcast::Sender::new(CHANNEL);
        let mut tasks = JoinSet::new();
        let service = RoomsServer::new(Broadcast(changes.clone()));
        tasks.spawn(async move {
            let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
            let server = Server::builder().add_service(service);
            Ok(server.serve_with_incoming(incoming).await?)
        });
        tasks.spawn(async move {
            loop {
                let message = consumer.recv().await?;
                if let Some(payload) = message.payload()
                    && let Some(change) = change(payload)?
                {
                    // Nobody may be there.
                    let _ = changes.send(change);
                }
            }
        });
        say(&json!({ "ready": { "port": port } }))?;
        Ok(tasks)
    }
}

struct Broadcast(broadcast::Sender<Change>);

#[tonic::async_trait]
impl Rooms for Broadcast {
    type WatchStream = Pin<Box<dyn Stream<Item = Result<Change, Status>> + Send>>;

    async fn watch(
        &self,
        _request: Request<WatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let changes = BroadcastStream::new(self.0.subscribe());
        let changes =
            changes.map(|change| change.map_err(|lagged| Status::data_loss(lagged.to_string())));
        Ok(Response::new(Box::pin(changes)))
    }
}

/// What an event of Debezium's says, with its schema or without; `None` for one that opens and closes nothing.
fn change(event: &[u8]) -> Result<Option<Change>> {
    let event: Value = serde_json::from_slice(event)?;
    let event = event.get("payload").unwrap_or(&event);
    let live = |image: &Value| image["live_status"] == 1;
    let (before, after) = (&event["before"], &event["after"]);
    let row = match (live(before), live(after)) {
        (_, true) => after,
        (true, false) => before,
        (false, false) => return Ok(None),
    };
    let number = |name: &str| row[name].as_u64().with_context(|| format!("no {name}"));
    Ok(Some(Change {
        id: number("id")?,
        live: live(after),
        uid: number("uid")?,
        area_id: u32::try_from(number("area_id")?)?,
        title: row["title"].as_str().context("no title")?.to_owned(),
        live_time: number("live_time")?,
    }))
}

/// Its clients, in one process.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Watchers {
    pub port: u16,
    pub count: u32,
}

impl Watchers {
    /// Connects, and obeys until there is nothing more to obey.
    pub fn run(&self) -> Result<()> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()?;
        let board = Arc::new(Board::new(self.count));
        let mut streams = runtime.block_on(self.connect())?;
        let mut watching = JoinSet::new();
        for stream in streams.drain(..) {
            watching.spawn_on(note(stream, Arc::clone(&board)), runtime.handle());
        }
        // A client that ends has lost something.
        thread::spawn(move || {
            let ended = runtime.block_on(watching.join_next());
            eprintln!("a client ended: {ended:?}");
        });
        say(&json!({ "ready": {} }))?;
        for line in std::io::stdin().lock().lines() {
            match serde_json::from_str(&line?)? {
                Order::Load(expected) => {
                    board.begin(&expected);
                    say(&json!({ "ready": {} }))?;
                }
                Order::End {} => say(&Seen { seen: board.take() })?,
            }
        }
        Ok(())
    }

    async fn connect(&self) -> Result<Vec<tonic::Streaming<Change>>> {
        let endpoint = Endpoint::from_shared(format!("http://127.0.0.1:{}", self.port))?;
        let mut streams = Vec::new();
        while streams.len() < self.count as usize {
            let mut connecting = JoinSet::new();
            for _ in 0..AT_ONCE.min(self.count as usize - streams.len()) {
                let endpoint = endpoint.clone();
                connecting.spawn(async move {
                    let mut client = RoomsClient::new(endpoint.connect().await?);
                    anyhow::Ok(client.watch(WatchRequest {}).await?.into_inner())
                });
            }
            while let Some(stream) = connecting.join_next().await {
                streams.push(stream??);
            }
        }
        Ok(streams)
    }
}

async fn note(mut stream: tonic::Streaming<Change>, board: Arc<Board>) -> Result<()> {
    while let Some(change) = stream.message().await? {
        let now = nanos()?;
        match (change.id, change.live) {
            (id, false) if id >= CLOSED => board.see(id - CLOSED, now),
            (id, true) if (OPENED..CLOSED).contains(&id) => board.see(change.uid, now),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_of_debezium_with_and_without_their_schema() {
        let row = |live: u8| json!({ "id": 7, "uid": 8, "area_id": 9, "title": "t", "live_status": live, "live_time": 5 });
        let opened = json!({ "payload": { "before": null, "after": row(1) }, "schema": {} });
        let of = |event: &Value| change(event.to_string().as_bytes()).expect("an event");
        let opened = of(&opened).expect("it opens");
        assert!(opened.live && opened.uid == 8);
        let closed = of(&json!({ "before": row(1), "after": row(0) })).expect("it closes");
        assert!(!closed.live && closed.id == 7);
        assert_eq!(of(&json!({ "before": row(0), "after": null })), None);
    }
}
