//! The subscribers of a bench, all in one process and one thread, each with a connection of its own.
//!
//! In: orders, a line each. Out: what came, and how long it took. Wrong: a message that is lost or out of order, a
//! connection that ends, nothing for a minute. They decode no more than a version and a time, so that thousands of
//! them take little from the server that they watch.

use std::collections::BTreeMap;
use std::io::{BufRead as _, ErrorKind, Read as _, Write as _, stdin};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use onair_proto::v1;
use prost::Message as _;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::http2::{Connection, Limits};
use super::messages::{Cutter, Order, Tongue};
use super::onair::FEED;
use super::{clock, descriptors};
use crate::harness::Latencies;
use crate::harness::child::say;

/// Until subscribers to whom nothing comes are given up.
const SILENCE_LIMIT: Duration = Duration::from_secs(60);
/// One read takes so much.
const READ_BYTES: usize = 256 << 10;
/// Marks standard input among the connections.
const ORDERS: u64 = u64::MAX;

/// Of whom, and how many.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Subscribers {
    pub(crate) port: u16,
    pub(crate) count: usize,
    /// So many of them stop reading once they have the snapshot.
    pub(crate) stopped: usize,
    pub(crate) wire: Wire,
    /// That a peer's snapshot has.
    pub(crate) snapshot_rows: u32,
}

/// How a server is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Wire {
    /// Nothing but messages; a byte asks for the snapshot.
    Bare,
    /// `onair.bench.Fanout`.
    Fanout(Limits),
    /// `onair.v1.OnAir`.
    OnAir(Limits),
}

impl Wire {
    fn tongue(self) -> Tongue {
        match self {
            Wire::Bare | Wire::Fanout(_) => Tongue::Update,
            Wire::OnAir(_) => Tongue::OnAir,
        }
    }

    fn limits(self) -> Option<Limits> {
        match self {
            Wire::Bare => None,
            Wire::Fanout(limits) | Wire::OnAir(limits) => Some(limits),
        }
    }
}

/// What they are told to do.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Ask {
    /// Connect, and be ready to ask.
    Connect,
    /// Ask for the snapshot, all within this time, and wait until all have it.
    Subscribe { within_ms: u64 },
    /// Wait until all that read hold this version.
    Receive { version: u64 },
}

/// What came since they were last asked.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Came {
    /// Versions that subscribers came to hold: snapshots, or updates.
    pub(super) deliveries: u64,
    pub(super) bytes: u64,
    /// From the order, or from the first request, until now.
    pub(super) took_seconds: f64,
    /// From each publication to each subscriber; after `Subscribe`: from each request to its snapshot.
    pub(super) each: Latencies,
    /// From each publication to the last subscriber.
    pub(super) last: Latencies,
}

impl Subscribers {
    /// Obeys until there are no more orders.
    pub(super) fn serve(&self) -> Result<()> {
        descriptors::allow(self.count)?;
        let epoll = Epoll::new(EpollCreateFlags::empty())?;
        epoll.add(stdin(), EpollEvent::new(EpollFlags::EPOLLIN, ORDERS))?;
        let mut all = All {
            of: self,
            epoll,
            each: Vec::with_capacity(self.count),
            tally: Tally::default(),
            task: Task::Idle,
            buffer: vec![0; READ_BYTES],
            silent_since: clock::now()?,
        };
        say(&json!({ "ready": {} }))?;
        while all.turn()? {}
        Ok(())
    }

    /// The smallest that a server may not fill: one that has stopped reading takes little more.
    const STOPPED_WINDOW: u32 = 16 << 10;

    fn limits(&self, index: usize) -> Option<Limits> {
        let mut limits = self.wire.limits()?;
        if index < self.stopped {
            limits.window_bytes = Self::STOPPED_WINDOW;
        }
        Some(limits)
    }

    fn request(&self) -> Vec<u8> {
        match self.wire {
            Wire::Bare => vec![1],
            Wire::Fanout(_) => {
                let mut request = Vec::new();
                prost::encoding::uint32::encode(1, &self.snapshot_rows, &mut request);
                Connection::call("/onair.bench.Fanout/Subscribe", &request)
            }
            Wire::OnAir(_) => {
                let request = v1::SubscribeRequest {
                    feed: FEED.to_owned(),
                    ..v1::SubscribeRequest::default()
                };
                Connection::call("/onair.v1.OnAir/Subscribe", &request.encode_to_vec())
            }
        }
    }
}

struct All<'a> {
    of: &'a Subscribers,
    epoll: Epoll,
    each: Vec<Subscriber>,
    tally: Tally,
    task: Task,
    buffer: Vec<u8>,
    silent_since: Duration,
}

struct Subscriber {
    stream: TcpStream,
    http2: Option<Connection>,
    cutter: Cutter,
    order: Order,
    asked_at: Duration,
}

/// What is waited for.
enum Task {
    Idle,
    Subscribe {
        begun: Duration,
        within: Duration,
        asked: usize,
        left: usize,
    },
    Receive {
        begun: Duration,
        version: u64,
        left: usize,
    },
}

#[derive(Default)]
struct Tally {
    deliveries: u64,
    bytes: u64,
    each: Latencies,
    /// By version: when it was published, and when the last subscriber had it.
    last: BTreeMap<u64, (u64, u64)>,
}

impl All<'_> {
    /// Takes what is there, or waits for something; `false` when there will be no more orders.
    fn turn(&mut self) -> Result<bool> {
        let timeout = self.ask_due()?;
        let mut events = [EpollEvent::empty(); 256];
        let count = self.epoll.wait(&mut events, timeout)?;
        let now = clock::now()?;
        if count > 0 || matches!(self.task, Task::Idle) {
            self.silent_since = now;
        }
        ensure!(
            now - self.silent_since < SILENCE_LIMIT,
            "nothing came for {SILENCE_LIMIT:?}: {} of {} have what is waited for",
            self.reading().filter(|one| self.has(one)).count(),
            self.reading().count()
        );
        for event in &events[..count] {
            if event.data() == ORDERS {
                let mut line = String::new();
                if stdin().lock().read_line(&mut line)? == 0 {
                    return Ok(false);
                }
                self.obey(serde_json::from_str(&line).context(line)?)?;
            } else {
                let index = event.data() as usize;
                self.read(index)
                    .with_context(|| format!("the subscriber {index}"))?;
            }
        }
        self.answer()?;
        Ok(true)
    }

    fn reading(&self) -> impl Iterator<Item = &Subscriber> {
        self.each.iter().skip(self.of.stopped)
    }

    fn has(&self, one: &Subscriber) -> bool {
        match self.task {
            Task::Receive { version, .. } => one.order.held().is_some_and(|held| held >= version),
            Task::Subscribe { .. } | Task::Idle => one.order.held().is_some(),
        }
    }

    fn obey(&mut self, ask: Ask) -> Result<()> {
        ensure!(matches!(self.task, Task::Idle), "one order at a time");
        let begun = clock::now()?;
        match ask {
            Ask::Connect => {
                for index in 0..self.of.count {
                    self.connect(index)
                        .with_context(|| format!("the subscriber {index}"))?;
                }
                say(&json!({ "connected": self.each.len() }))?;
            }
            Ask::Subscribe { within_ms } => {
                self.task = Task::Subscribe {
                    begun,
                    within: Duration::from_millis(within_ms),
                    asked: 0,
                    left: self.each.len(),
                };
            }
            Ask::Receive { version } => {
                let lacks = |one: &&Subscriber| one.order.held().is_none_or(|held| held < version);
                self.task = Task::Receive {
                    begun,
                    version,
                    left: self.reading().filter(lacks).count(),
                };
            }
        }
        Ok(())
    }

    fn connect(&mut self, index: usize) -> Result<()> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.of.port))?;
        stream.set_nodelay(true)?;
        let http2 = self.of.limits(index).map(Connection::new);
        if let Some((_, first)) = &http2 {
            stream.write_all(first)?;
        }
        // One after the other: what a server has not accepted yet waits in a short queue, which must not run over.
        let count = stream.read(&mut self.buffer)?;
        let http2 = match http2 {
            Some((mut http2, _)) => {
                let mut out = Vec::new();
                http2.push(&self.buffer[..count], &mut out, |_| Ok(()))?;
                stream.write_all(&out)?;
                Some(http2)
            }
            None => None,
        };
        stream.set_nonblocking(true)?;
        let event = EpollEvent::new(EpollFlags::EPOLLIN, index as u64);
        self.epoll.add(&stream, event)?;
        self.each.push(Subscriber {
            stream,
            http2,
            cutter: Cutter::default(),
            order: Order::default(),
            asked_at: Duration::ZERO,
        });
        Ok(())
    }

    /// Sends the requests that are due; until when the next one is not.
    fn ask_due(&mut self) -> Result<EpollTimeout> {
        let Task::Subscribe {
            begun,
            within,
            asked,
            ..
        } = &mut self.task
        else {
            return Ok(EpollTimeout::try_from(SILENCE_LIMIT)?);
        };
        let request = self.of.request();
        let count = self.each.len();
        while let Some(one) = self.each.get_mut(*asked) {
            let due = *begun + within.mul_f64(*asked as f64 / count as f64);
            let now = clock::now()?;
            if now < due {
                // Rounded up: a wait of nothing would be no wait.
                let left = due - now + Duration::from_micros(999);
                return Ok(EpollTimeout::try_from(left)?);
            }
            one.asked_at = due;
            one.stream.write_all(&request)?;
            *asked += 1;
        }
        Ok(EpollTimeout::try_from(SILENCE_LIMIT)?)
    }

    fn read(&mut self, index: usize) -> Result<()> {
        let one = &mut self.each[index];
        let count = match one.stream.read(&mut self.buffer) {
            Ok(0) => bail!("the server closed the connection"),
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let now = clock::now()?;
        let bytes = &self.buffer[..count];
        let counts = index >= self.of.stopped;
        let before = one.order.held();
        let Subscriber {
            http2,
            cutter,
            order,
            ..
        } = one;
        let tongue = self.of.wire.tongue();
        let tally = &mut self.tally;
        let mut whole = |head: &[u8]| {
            let is_first = order.held().is_none();
            let held = order.take(tongue, head)?;
            if let Some(held) = held.filter(|_| counts) {
                tally.deliveries += 1;
                if !is_first {
                    tally.update(held.version, held.published_nanos, now)?;
                }
            }
            Ok(())
        };
        match http2 {
            Some(http2) => {
                let mut out = Vec::new();
                http2.push(bytes, &mut out, |bytes| cutter.push(bytes, &mut whole))?;
                if !out.is_empty() {
                    one.stream.write_all(&out)?;
                }
            }
            None => cutter.push(bytes, &mut whole)?,
        }
        if counts {
            tally.bytes += count as u64;
        }
        let held = one.order.held();
        match &mut self.task {
            Task::Subscribe { left, .. } if before.is_none() && held.is_some() => {
                *left -= 1;
                if counts {
                    self.tally.each.record(now - one.asked_at)?;
                } else {
                    self.epoll.delete(&one.stream)?;
                }
            }
            Task::Receive { version, left, .. } if counts => {
                let had = before.is_some_and(|held| held >= *version);
                if !had && held.is_some_and(|held| held >= *version) {
                    *left -= 1;
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Answers the order when it is done.
    fn answer(&mut self) -> Result<()> {
        let (Task::Subscribe { begun, left: 0, .. } | Task::Receive { begun, left: 0, .. }) =
            self.task
        else {
            return Ok(());
        };
        self.task = Task::Idle;
        let tally = std::mem::take(&mut self.tally);
        let mut last = Latencies::new();
        for (published, came) in tally.last.into_values() {
            last.record(Duration::from_nanos(came.saturating_sub(published)))?;
        }
        say(&Came {
            deliveries: tally.deliveries,
            bytes: tally.bytes,
            took_seconds: (clock::now()? - begun).as_secs_f64(),
            each: tally.each,
            last,
        })
    }
}

impl Tally {
    fn update(&mut self, version: u64, published_nanos: u64, now: Duration) -> Result<()> {
        let now_nanos = u64::try_from(now.as_nanos())?;
        let latency = now_nanos.saturating_sub(published_nanos);
        self.each.record(Duration::from_nanos(latency))?;
        let last = self.last.entry(version).or_insert((published_nanos, 0));
        last.1 = last.1.max(now_nanos);
        Ok(())
    }
}
