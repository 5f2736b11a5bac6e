//! A server in your test's process, that does what you say, and breaks what you say.
//!
//! ```
//! use onair_sdk::raw::Value;
//! use onair_sdk::testing::{FakeServer, schema, row};
//! use onair_sdk::{Feed, FieldKind, Raw};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let schema = schema("rooms", &[("id", FieldKind::UInt)], &[("title", FieldKind::Text)]);
//! let server = FakeServer::start(schema.clone());
//! server.on(42, row(&schema, &[("title", Value::Text("hello".into()))]));
//! server.commit();
//!
//! let rooms = Feed::<Raw>::connect([server.endpoint()], "rooms").await?;
//! assert_eq!(rooms.snapshot().get(&42).unwrap().get("title")?, Value::Text("hello".into()));
//!
//! server.off(42);
//! let version = server.commit();
//! assert!(rooms.wait_for(version).await?.is_empty());
//! # Ok(())
//! # }
//! ```
//!
//! Connections are pipes in memory, so tests may pause tokio's time; [`FakeServer::listen`] opens a port as well.

mod audience;
mod damage;
mod dial;
mod messages;
mod replay;
mod rows;
mod service;
mod world;

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use onair_model::schema::Schema;
use onair_model::{Gtid, Key, Lineage, Version};
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::endpoint::Endpoint;
use crate::key::{self, AsKey};

pub use audience::{Answer, Subscription};
pub use damage::Damage;
pub(crate) use dial::Dial;
pub use replay::{Replay, ReplayError};
pub use rows::{row, schema};
pub use world::Tail;

use audience::Audience;
use service::Service;
use world::World;

/// A server with one feed. Dropped, it is gone, and its streams end.
pub struct FakeServer {
    shared: Arc<Shared>,
    dial: Arc<Dial>,
    tasks: Mutex<JoinSet<()>>,
}

/// What the handle shares with the streams.
pub(crate) struct Shared {
    server: Mutex<Server>,
    /// Somebody subscribed.
    subscribed: Notify,
}

pub(crate) struct Server {
    world: World,
    audience: Audience,
}

impl Shared {
    pub(crate) fn server(&self) -> MutexGuard<'_, Server> {
        self.server.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Server {
    pub(crate) fn subscribe(
        &mut self,
        request: onair_proto::v1::SubscribeRequest,
    ) -> Result<audience::Stream, tonic::Status> {
        self.audience.subscribe(&self.world, request)
    }

    fn send_frames(&mut self) {
        self.audience.send_frames(&self.world);
    }

    fn progress(&mut self) {
        self.audience.send(&self.world.progress());
    }

    fn key(&self, key: &impl AsKey) -> Key {
        let columns = &self.world.schema().key;
        key::to_key(key, columns).expect("the value fits the feed's key columns")
    }
}

impl FakeServer {
    /// A server whose feed has this schema and no rows, at the start of epoch 1. Must be called within a tokio
    /// runtime.
    pub fn start(schema: Schema) -> Self {
        FakeServer::serve(World::new(schema))
    }

    fn serve(world: World) -> Self {
        let audience = Audience::new();
        let shared = Arc::new(Shared {
            server: Mutex::new(Server { world, audience }),
            subscribed: Notify::new(),
        });
        let (dial, incoming) = Dial::new();
        let mut tasks = JoinSet::new();
        tasks.spawn(service::serve(Service::new(shared.clone()), incoming));
        tasks.spawn(progress_each_second(shared.clone()));
        FakeServer {
            shared,
            dial: Arc::new(dial),
            tasks: Mutex::new(tasks),
        }
    }

    /// Another server of the same lineage with what this one has now: commit the same to both, and they are two
    /// servers of one feed; commit to this one only, and the other is behind.
    pub fn fork(&self) -> Self {
        FakeServer::serve(self.server().world.fork())
    }

    /// Where clients in this process find it.
    pub fn endpoint(&self) -> Endpoint {
        Endpoint::memory(self.dial.clone())
    }

    /// Opens a port on 127.0.0.1 too and gives its URL.
    pub async fn listen(&self) -> io::Result<String> {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let service = Service::new(self.shared.clone());
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        tasks.spawn(service::serve_port(service, listener));
        Ok(format!("http://{address}"))
    }

    fn server(&self) -> MutexGuard<'_, Server> {
        self.shared.server()
    }

    /// The next commit puts this row.
    pub fn on(&self, key: impl AsKey, row: impl Into<Bytes>) {
        let mut server = self.server();
        let key = server.key(&key);
        server.world.stage(key, Some(row.into()));
    }

    /// The next commit takes this key off.
    pub fn off(&self, key: impl AsKey) {
        let mut server = self.server();
        let key = server.key(&key);
        server.world.stage(key, None);
    }

    /// Commits what was put and taken off as one transaction, and sends it to every subscriber.
    pub fn commit(&self) -> Version {
        let mut server = self.server();
        let version = server.world.commit();
        server.send_frames();
        version
    }

    /// A transaction that does not touch the feed: it shows in the next progress only.
    pub fn commit_elsewhere(&self) -> Gtid {
        self.server().world.commit_elsewhere()
    }

    /// Says at once that the content is complete, as it does each second.
    pub fn progress(&self) {
        self.server().progress();
    }

    /// A scan agreed with the version now; the next progress says so.
    pub fn prove(&self) {
        self.server().world.prove();
    }

    /// Progress says from now on that the content was last complete this long ago.
    pub fn set_age(&self, age: Duration) {
        self.server().world.set_age(age);
    }

    /// Progress says from now on that newer versions are held back, and why; empty: they are not.
    pub fn hold(&self, why: &str) {
        self.server().world.hold(why);
    }

    /// Sends nothing any more to those who listen, as a machine that hangs, until [`FakeServer::go_on`].
    pub fn stall(&self) {
        self.server().audience.stall();
    }

    /// Sends again, beginning with what was not sent meanwhile.
    pub fn go_on(&self) {
        let Server { world, audience } = &mut *self.server();
        audience.go_on(world);
    }

    /// Ends every stream; new ones are welcome.
    pub fn cut(&self) {
        self.server().audience.cut();
    }

    /// Asks every client to leave.
    pub fn go_away(&self, retry_after: Duration) {
        self.server()
            .audience
            .send(&messages::go_away(retry_after, "restart"));
    }

    /// Starts every stream over with a whole snapshot, as for a client that lagged.
    pub fn resend(&self) {
        let Server { world, audience } = &mut *self.server();
        audience.resend(world, "lagged");
    }

    /// Damages the next snapshot or frame that is sent, whichever the damage is for. Several are used one by one.
    pub fn damage_next(&self, damage: Damage) {
        self.server().audience.damage_next(damage);
    }

    /// Whether every damage asked for was done.
    pub fn is_damage_done(&self) -> bool {
        self.server().audience.is_damage_done()
    }

    /// How it answers new subscriptions.
    pub fn answer(&self, answer: Answer) {
        self.dial.set_reachable(answer != Answer::Unreachable);
        self.server().audience.set_answer(answer);
    }

    /// Forgets the frames so far: whoever is behind gets a whole snapshot.
    pub fn forget_frames(&self) {
        self.server().world.forget_frames();
    }

    /// Rows in one chunk of a snapshot, 100 at first.
    pub fn set_chunk_rows(&self, rows: usize) {
        self.server().world.set_chunk_rows(rows);
    }

    /// Another world: a new lineage with the same rows at version 1-0. Streams end.
    pub fn new_lineage(&self) -> Lineage {
        let mut server = self.server();
        server.audience.cut();
        server.world.new_lineage()
    }

    /// Opens the next epoch with what was put and taken off, and sends it: as an exact frame, or whole when
    /// transactions are lost silently.
    pub fn open_epoch(&self, tail: Tail) -> Version {
        let Server { world, audience } = &mut *self.server();
        let version = world.open_epoch(tail);
        match tail {
            Tail::Kept | Tail::Lost => audience.send_frames(world),
            Tail::LostSilently => audience.resend(world, "exact"),
        }
        version
    }

    /// Where it is.
    pub fn version(&self) -> Version {
        self.server().world.version()
    }

    /// The last transaction of the feed.
    pub fn gtid(&self) -> Option<Gtid> {
        self.server().world.gtid()
    }

    /// The rows now, by key.
    pub fn rows(&self) -> Vec<(Key, Bytes)> {
        self.server().world.rows()
    }

    /// The key that a value names in this feed.
    pub fn key(&self, key: impl AsKey) -> Key {
        self.server().key(&key)
    }

    /// Every subscription that there was, oldest first.
    pub fn subscriptions(&self) -> Vec<Subscription> {
        self.server().audience.subscriptions().to_vec()
    }

    /// Waits until there were this many subscriptions.
    pub async fn wait_for_subscriptions(&self, count: usize) {
        loop {
            let subscribed = self.shared.subscribed.notified();
            tokio::pin!(subscribed);
            subscribed.as_mut().enable();
            if self.server().audience.subscriptions().len() >= count {
                return;
            }
            subscribed.await;
        }
    }
}

async fn progress_each_second(shared: Arc<Shared>) {
    let mut second = tokio::time::interval(Duration::from_secs(1));
    loop {
        second.tick().await;
        shared.server().progress();
    }
}

impl fmt::Debug for FakeServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FakeServer")
            .field("version", &self.version())
            .finish_non_exhaustive()
    }
}
