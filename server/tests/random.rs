//! Random lives against the truth: servers that start and stop, clients that come, go on and read when they like, a
//! reader that restarts and opens epochs, a log and a store that fail, lose answers and (the log) lose records.
//! `ONAIR_SEED` repeats one; each prints its own.

use std::sync::Arc;
use std::time::Duration;

use onair_log::EventLog;
use onair_log::faulty as log;
use onair_log::testing::{Opening, Workload, append};
use onair_model::Version;
use onair_store::faulty as store;
use rand::RngExt;
use tokio::time::timeout;

use crate::client::{Client, Said};
use crate::support::{Running, World};

const LIVES: u64 = 6;
const STEPS: usize = 200;

/// What the log does: all that its contract allows, and records lost besides.
const LOG: log::Faults = log::Faults {
    dropped: 0.02,
    ..log::Faults::OFTEN
};

/// What the store does. Few segments have several parts to be torn, and few moves can be late or doubled.
const STORE: store::Faults = store::Faults {
    late: 0.1,
    twice: 0.12,
    torn: 0.3,
    ..store::Faults::OFTEN
};

/// What happened in all lives.
#[derive(Debug, Default)]
struct Seen {
    seals: u32,
    frames: usize,
    resumed: u32,
    whole: u32,
    not_yet: u32,
    servers: u32,
    restarts: u32,
    epochs: u32,
}

/// A client with the server that it is at.
struct Guest {
    client: Client,
    at: usize,
}

struct Life {
    world: World,
    workload: Workload,
    servers: Vec<Running>,
    guests: Vec<Guest>,
    log: Arc<log::Faulty<onair_log::memory::MemoryLog>>,
    store: Arc<store::Faulty<onair_store::redb::RedbStore>>,
}

impl Life {
    async fn new(seed: u64, (on_log, on_store): (log::Faults, store::Faults)) -> Self {
        let mut workload = Workload::new(seed, 240, 120_000);
        let mut world = World::new(3, workload.rows()).await;
        world.settings.ring_bytes = 400_000;
        world.settings.lost_tail_wait = Duration::from_secs(5);
        let log = Arc::new(log::Faulty::new(Arc::clone(&world.log), seed, on_log));
        let store = Arc::new(store::Faulty::new(Arc::clone(&world.store), seed, on_store));
        world.keeper = Arc::clone(&store) as _;
        let mut life = Life {
            world,
            workload,
            servers: Vec::new(),
            guests: Vec::new(),
            log,
            store,
        };
        for _ in 0..2 {
            life.serve().await;
        }
        life
    }

    async fn serve(&mut self) {
        let (log, store) = (Arc::clone(&self.log), Arc::clone(&self.store));
        let server = self.world.start_on(log, store).await;
        self.servers.push(server);
    }

    async fn step(&mut self, seen: &mut Seen) {
        let through: Arc<dyn EventLog> = Arc::clone(&self.log) as _;
        let writer = &mut self.world.writer;
        let rng = &mut self.workload.rng;
        match rng.random_range(0..80) {
            0 => {
                let from = self.workload.checkpoint(writer);
                writer.restart(from);
                seen.restarts += 1;
            }
            1 => {
                let drift = self.workload.writes();
                let rng = &mut self.workload.rng;
                let lost = rng
                    .random_range(0..3)
                    .min(writer.version().sequence() as usize);
                let opening = Opening {
                    lost,
                    said: rng.random(),
                    drift: if rng.random() { drift } else { Vec::new() },
                    restated: rng.random(),
                };
                append(&*through, writer.open_epoch(opening)).await;
                writer.acknowledge();
                seen.epochs += 1;
            }
            2 => {
                let gone = rng.random_range(0..self.servers.len());
                self.servers.swap_remove(gone).ended().await;
                for guest in &mut self.guests {
                    guest.at = guest.at.min(self.servers.len() - 1);
                }
                self.serve().await;
                seen.servers += 1;
            }
            3..6 if self.guests.len() < 6 => {
                let at = rng.random_range(0..self.servers.len());
                let client = Client::new(&self.servers[at].url).await;
                self.guests.push(Guest { client, at });
            }
            6..10 if !self.guests.is_empty() => {
                let who = rng.random_range(0..self.guests.len());
                let at = rng.random_range(0..self.servers.len());
                let guest = self.guests.swap_remove(who);
                if guest.client.version.is_some() {
                    let client = guest.client.again(&self.servers[at].url).await;
                    self.guests.push(Guest { client, at });
                }
            }
            10..15 => {
                writer.write(&*through, true).await;
                self.world.keep(self.world.writer.version()).await;
            }
            15..25 => {
                let pause = Duration::from_millis(rng.random_range(0..2000));
                tokio::time::sleep(pause).await;
            }
            _ => {}
        }
        let writer = &mut self.world.writer;
        for _ in 0..self.workload.rng.random_range(0..4) {
            self.workload.step(writer);
        }
        let full = self.workload.rng.random_ratio(1, 4);
        writer.write(&*through, full).await;
        self.read(seen).await;
    }

    /// Some clients read what there is for them.
    async fn read(&mut self, seen: &mut Seen) {
        let mut left = Vec::new();
        for mut guest in std::mem::take(&mut self.guests) {
            let mut stays = true;
            if self.workload.rng.random() {
                while let Ok(said) = timeout(Duration::from_millis(5), guest.client.next()).await {
                    match said {
                        Said::Sealed(_) => {
                            seen.seals += 1;
                            self.world.check_rows(&guest.client);
                        }
                        Said::Full(_) => seen.whole += 1,
                        Said::Resume => seen.resumed += 1,
                        Said::Progress(_) => {}
                        Said::NotYet(_) | Said::GoAway(_) | Said::End => {
                            seen.not_yet += u32::from(matches!(said, Said::NotYet(_)));
                            stays = false;
                            break;
                        }
                    }
                }
                seen.frames += std::mem::take(&mut guest.client.frames).len();
            }
            if stays {
                left.push(guest);
            } else if guest.client.version.is_some() {
                let client = guest.client.again(&self.servers[guest.at].url).await;
                left.push(Guest { client, ..guest });
            }
        }
        self.guests = left;
    }

    /// The faults end, the reader goes on: everybody gets there.
    async fn settle(&mut self) {
        self.log.set(log::Faults::NONE);
        self.store.set(store::Faults::NONE);
        let writes = self.workload.writes();
        let end: Version = self.world.writer.commit(writes);
        self.world.writer.write(&*self.world.log, true).await;
        self.world.keep(end).await;
        for server in &self.servers {
            server.until_at(end).await;
            server.handle.ready().await;
            let mut client = Client::new(&server.url).await;
            client.until(end).await;
            self.world.check(&client);
        }
        for guest in std::mem::take(&mut self.guests) {
            if guest.client.version.is_none() {
                continue;
            }
            let mut client = guest.client.again(&self.servers[guest.at].url).await;
            client.until(end).await;
            self.world.check_rows(&client);
        }
        for server in std::mem::take(&mut self.servers) {
            server.ended().await;
        }
    }
}

async fn live(
    seed: u64,
    fate: (log::Faults, store::Faults),
    seen: &mut Seen,
) -> (log::Counts, store::Counts) {
    let mut life = Life::new(seed, fate).await;
    for _ in 0..STEPS {
        life.step(seen).await;
    }
    life.settle().await;
    (life.log.counts(), life.store.counts())
}

fn seeds() -> std::ops::Range<u64> {
    #[expect(clippy::disallowed_methods, reason = "a test's own switch")]
    let given = std::env::var("ONAIR_SEED");
    match given.ok().and_then(|seed| seed.parse().ok()) {
        Some(seed) => seed..seed + 1,
        None => 1..LIVES + 1,
    }
}

#[tokio::test(start_paused = true)]
async fn without_faults_everybody_sees_the_truth() {
    for seed in seeds() {
        let mut seen = Seen::default();
        println!("seed {seed}");
        live(seed, (log::Faults::NONE, store::Faults::NONE), &mut seen).await;
        println!("seed {seed}: {seen:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn under_faults_everybody_sees_the_truth() {
    let (mut logs, mut stores) = (log::Counts::default(), store::Counts::default());
    let mut seen = Seen::default();
    for seed in seeds() {
        println!("seed {seed}");
        let (log, store) = live(seed, (LOG, STORE), &mut seen).await;
        println!("seed {seed}: log: {log}");
        println!("seed {seed}: store: {store}");
        (logs, stores) = (logs + log, stores + store);
    }
    println!("{seen:?}");
    if seeds().count() == 1 {
        return;
    }
    assert_eq!(logs.never(), [""; 0], "a kind of fault never fired");
    assert_eq!(stores.never(), [""; 0], "a kind of fault never fired");
    let Seen {
        seals,
        frames,
        resumed,
        whole,
        not_yet,
        servers,
        restarts,
        epochs,
    } = seen;
    assert!(seals > 300 && frames > 200 && resumed > 20 && whole > 20);
    assert!(not_yet > 0 && servers > 2 && restarts > 2 && epochs > 2);
}
