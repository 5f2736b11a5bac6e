//! `onair bench fanout`, `memory`, `slow` and `storm`: one server and thousands of subscribers, each with a connection
//! of its own, beside bare `write()`, tonic + prost and grpc-go.
//!
//! Server and subscribers are processes of their own; only the server is measured. The rows that are sent are the same
//! everywhere, the bytes as nearly as two encodings allow: they are in the facts of each case.

mod bare;
mod clock;
mod deliver;
mod descriptors;
mod http2;
mod many;
mod memory;
mod messages;
mod onair;
mod rows;
mod slow;
mod stage;
mod storm;
mod subscribers;
#[cfg(feature = "peers")]
mod tonic;

use std::io::stdin;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::mpsc::{Receiver, channel};

pub use self::deliver::FanoutArgs;
pub(crate) use self::many::case as many;
pub use self::memory::MemoryArgs;
pub use self::slow::SlowArgs;
pub use self::storm::StormArgs;
use crate::harness::child::{Served, say};

/// Rows of an update, about 1.6 kB, and of a snapshot, about 165 kB.
const UPDATE_ROWS: u32 = 25;
const SNAPSHOT_ROWS: u32 = 2_800;

/// A process of these benches.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    #[expect(private_interfaces, reason = "nobody else makes one")]
    Bare(bare::Bare),
    /// Of so many subscribers.
    Tonic(usize),
    #[expect(private_interfaces, reason = "nobody else makes one")]
    OnAir(onair::OnAir),
    #[expect(private_interfaces, reason = "nobody else makes one")]
    Subscribers(subscribers::Subscribers),
}

impl Part {
    /// Until it gets no more orders.
    pub(crate) fn serve(&self) -> Result<()> {
        match self {
            Part::Bare(bare) => bare.serve(),
            #[cfg(feature = "peers")]
            Part::Tonic(subscribers) => tonic::serve(*subscribers),
            #[cfg(not(feature = "peers"))]
            Part::Tonic(_) => anyhow::bail!("tonic is in builds with --features peers"),
            Part::OnAir(onair) => onair.serve(),
            Part::Subscribers(subscribers) => subscribers.serve(),
        }
    }
}

/// Measures.
pub fn run(args: &FanoutArgs) -> Result<()> {
    deliver::run(args)
}

/// Measures.
pub fn run_memory(args: &MemoryArgs) -> Result<()> {
    memory::run(args)
}

/// Measures.
pub fn run_slow(args: &SlowArgs) -> Result<()> {
    slow::run(args)
}

/// Measures.
pub fn run_storm(args: &StormArgs) -> Result<()> {
    storm::run(args)
}

/// What a server is told: so many updates of so many rows, at so many a second.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Publish {
    count: u64,
    hz: f64,
    rows: u32,
}

#[derive(Deserialize)]
struct Order {
    publish: Publish,
}

/// What it says when it has done so.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Published {
    subscribers: usize,
    /// Of the last update, where that is not their count.
    version: Option<u64>,
    /// How often it has encoded a frame by now, where it counts that.
    encodings: Option<u64>,
}

/// What is told on standard input, until there is no more.
fn orders() -> Receiver<Result<Publish>> {
    let (told, orders) = channel(1);
    thread::spawn(move || {
        for line in stdin().lines() {
            let order = line.map_err(anyhow::Error::from);
            let order = order.and_then(|line| Publish::of(&line));
            if told.blocking_send(order).is_err() {
                return;
            }
        }
    });
    orders
}

#[derive(Deserialize)]
struct Done {
    published: Published,
}

impl Publish {
    /// Of the line that says so.
    fn of(line: &str) -> Result<Self> {
        let order: Order = serde_json::from_str(line).with_context(|| format!("told {line:?}"))?;
        Ok(order.publish)
    }

    fn ask(self, server: &mut Served) -> Result<Published> {
        let done: Done = server.ask(&json!({ "publish": self }))?;
        Ok(done.published)
    }

    /// When each is due, by the monotonic clock, from now on.
    fn dues(&self) -> impl Iterator<Item = Duration> + use<> {
        let begun = clock::now().unwrap_or_default();
        let hz = self.hz;
        (0..self.count).map(move |k| begun + Duration::from_secs_f64(k as f64 / hz))
    }
}

impl Published {
    fn say(self) -> Result<()> {
        say(&json!({ "published": self }))
    }
}

fn versions() -> serde_json::Value {
    json!({ "onair": env!("CARGO_PKG_VERSION"), "tonic": "0.14", "grpc-go": "as bench/peers/go/go.mod says" })
}
