//! The store on a real Cassandra 5: one node for all tests that leave it as it is, nodes of their own for the others.

mod contract;
mod node;
mod proxy;
mod rivals;
mod schema;

use std::num::NonZeroU16;
use std::sync::OnceLock;

use ::scylla::client::session::Session;
use ::scylla::client::session_builder::SessionBuilder;
use onair_store::cells::random_id;
use onair_store::scylla::{Replication, ScyllaStore, Settings};
use onair_xtask::servers::{Cassandra, Engine};
use tokio::sync::{Mutex, MutexGuard};

/// The node that all tests share, or nothing and a word about it when this run does without.
fn shared() -> Option<&'static Cassandra> {
    static NODE: OnceLock<Cassandra> = OnceLock::new();
    is_wanted().then(|| NODE.get_or_init(|| Cassandra::start().unwrap()))
}

/// A node to be killed: one at a time, for the memory's sake.
async fn own() -> Option<(MutexGuard<'static, ()>, Cassandra)> {
    static ONE: Mutex<()> = Mutex::const_new(());
    if !is_wanted() {
        return None;
    }
    let turn = ONE.lock().await;
    Some((turn, Cassandra::start_own(None).unwrap()))
}

fn is_wanted() -> bool {
    let is_left_out = Engine::Cassandra.is_left_out();
    if is_left_out {
        eprintln!("NOT RUN cassandra: left out");
    }
    !is_left_out
}

/// A keyspace of its own, not made yet.
fn settings(node: &Cassandra) -> Settings {
    let mut settings = Settings::new(
        vec![node.address().to_owned()],
        format!("t{:032x}", random_id()),
    );
    settings.replication = Replication::Everywhere(NonZeroU16::MIN);
    settings
}

/// An empty store.
async fn store(settings: &Settings) -> ScyllaStore {
    ScyllaStore::init(settings).await.unwrap();
    ScyllaStore::open(settings.clone()).await.unwrap()
}

/// To look at the tables, and to do what the store never does.
async fn session(settings: &Settings) -> Session {
    SessionBuilder::new()
        .known_nodes(&settings.nodes)
        .build()
        .await
        .unwrap()
}

/// Runs a statement about `{}`, the keyspace.
async fn cql(session: &Session, settings: &Settings, text: &str) {
    let text = text.replace("{}", &settings.keyspace);
    session.query_unpaged(text, ()).await.unwrap();
}

async fn drop_keyspace(settings: &Settings) {
    let session = session(settings).await;
    cql(&session, settings, "DROP KEYSPACE {}").await;
}
