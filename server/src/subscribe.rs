//! One subscriber: one stream and one code path for first connect, resume, lag and restart.
//!
//! The body of the response is made of bytes that were framed once for everybody (module `wire`); what is a
//! subscriber's own is its place in the ring.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use http::HeaderMap;
use onair_model::Version;
use onair_proto::v1::subscribe_response::Message;
use onair_proto::{convert, v1};
use tokio::sync::watch;

use crate::ring::{Client, EncodedSnapshot, Next, Resume, Ring};
use crate::wire;

/// A client that fell behind this often without catching up between is told to go away.
const LAGS_MAX: u32 = 4;

/// What a subscription needs of the server.
#[derive(Debug)]
pub(crate) struct Subscription {
    pub(crate) ring: Arc<Ring>,
    pub(crate) client: Client,
    pub(crate) have: Option<v1::Have>,
    pub(crate) retry_after: Duration,
}

/// The stream's bytes, message after message.
pub(crate) fn stream(subscription: Subscription) -> impl Stream<Item = Bytes> + Send {
    let Subscription {
        ring,
        client,
        have,
        retry_after,
    } = subscription;
    let end = ring.watch();
    let state = State {
        ring,
        _client: client,
        end,
        retry_after,
        lags: 0,
        queue: Vec::new().into_iter(),
        stage: Stage::Begin(have),
    };
    futures_util::stream::unfold(state, |mut state| async move {
        let bytes = state.next().await?;
        Some((bytes, state))
    })
}

struct State {
    ring: Arc<Ring>,
    _client: Client,
    end: watch::Receiver<u64>,
    retry_after: Duration,
    lags: u32,
    /// Bytes to be sent before anything else.
    queue: std::vec::IntoIter<Bytes>,
    stage: Stage,
}

enum Stage {
    /// Nothing was said yet; what the client holds.
    Begin(Option<v1::Have>),
    /// Send the snapshot, for this reason, and none below what the client holds.
    Snapshot(&'static str, Version),
    /// Send a snapshot, shared with everybody who gets it, from this message on.
    Sending(Arc<EncodedSnapshot>, usize),
    /// Follow the ring from this index. `caught_up`: the whole GTID set was sent once the client had all frames.
    Follow { index: u64, caught_up: bool },
    /// Nothing more.
    Done,
}

impl State {
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(bytes) = self.queue.next() {
                return Some(bytes);
            }
            let may_leave = !matches!(self.stage, Stage::Done | Stage::Sending(..));
            if self.ring.is_draining() && may_leave {
                return Some(self.go_away("this server is going down"));
            }
            match std::mem::replace(&mut self.stage, Stage::Done) {
                Stage::Done => return None,
                Stage::Begin(have) => self.begin(have).await,
                Stage::Snapshot(reason, least) => self.snapshot(reason, least).await,
                Stage::Sending(encoded, at) => {
                    if let Some(bytes) = encoded.messages.get(at).cloned() {
                        self.stage = Stage::Sending(encoded, at + 1);
                        return Some(bytes);
                    }
                    self.stage = Stage::Follow {
                        index: encoded.next,
                        caught_up: true,
                    };
                }
                Stage::Follow { index, caught_up } => self.follow(index, caught_up).await,
            }
        }
    }

    async fn begin(&mut self, have: Option<v1::Have>) {
        let Some(held) = &have else {
            self.stage = Stage::Snapshot("first", Version::ZERO);
            return;
        };
        match self.ring.resume(held) {
            Resume::At(index) => {
                // It is ours, or nothing would lead on from it.
                let lineage = held.lineage.clone();
                let start = self.start(v1::start::Mode::Resume, "", lineage);
                self.say(Message::Start(start));
                self.stage = Stage::Follow {
                    index,
                    caught_up: false,
                };
            }
            Resume::Full(reason) => {
                let version = Version::from_u64(held.version).unwrap_or(Version::ZERO);
                // What it holds in another lineage is no measure.
                let least = version.min(self.ring.version());
                self.stage = Stage::Snapshot(reason, least);
            }
            Resume::NotYet(version) => {
                let retry_after_ms = self.retry_after.as_millis() as u32;
                self.say(Message::NotYet(v1::NotYet {
                    version: version.get(),
                    retry_after_ms,
                }));
                self.stage = Stage::Done;
            }
            Resume::Empty => {
                self.wait().await;
                self.stage = Stage::Begin(have);
            }
        }
    }

    async fn snapshot(&mut self, reason: &'static str, least: Version) {
        let Some(encoded) = self.ring.encoded(least).await else {
            self.wait().await;
            self.stage = Stage::Snapshot(reason, least);
            return;
        };
        let seal = &encoded.seal;
        let lineage = convert::bytes16(seal.lineage.get());
        self.say(Message::Start(v1::Start {
            count: seal.count,
            version: seal.version.get(),
            ..self.start(v1::start::Mode::Full, reason, lineage)
        }));
        self.stage = Stage::Sending(encoded, 0);
    }

    async fn follow(&mut self, index: u64, caught_up: bool) {
        match self.ring.next(index) {
            Next::Items(items, index) => {
                self.queue = items.into_iter();
                self.stage = Stage::Follow { index, caught_up };
            }
            Next::Wait if !caught_up => {
                // What the client missed of the GTID set while it was away touched nothing that it lacks now.
                if let Some(snapshot) = self.ring.snapshot() {
                    self.say(Message::Progress(v1::Progress {
                        version: snapshot.seal.version.get(),
                        source_time: snapshot.seal.source_time,
                        executed: snapshot.seal.executed.to_string(),
                        proven: snapshot.seal.proven.map(convert::proven_to_wire),
                        held: String::new(),
                        age_ms: 0,
                    }));
                }
                self.stage = Stage::Follow {
                    index,
                    caught_up: true,
                };
            }
            Next::Wait => {
                self.lags = 0;
                self.wait().await;
                self.stage = Stage::Follow { index, caught_up };
            }
            // What the ring leads on from is later than what this cursor has.
            Next::Redefined => self.stage = Stage::Snapshot("other schema", Version::ZERO),
            Next::Lagged => {
                self.lags += 1;
                if self.lags > LAGS_MAX {
                    let bytes = self.go_away("this client reads more slowly than the feed changes");
                    self.queue = vec![bytes].into_iter();
                } else {
                    self.stage = Stage::Snapshot("lagged", Version::ZERO);
                }
            }
        }
    }

    /// Waits until the ring moves or the server drains.
    async fn wait(&mut self) {
        // Its sender is the ring that we hold.
        let _ = self.end.changed().await;
    }

    fn say(&mut self, message: Message) {
        self.queue = vec![wire::message(message)].into_iter();
    }

    fn go_away(&mut self, reason: &str) -> Bytes {
        self.stage = Stage::Done;
        wire::message(Message::GoAway(v1::GoAway {
            retry_after_ms: self.retry_after.as_millis() as u32,
            reason: reason.to_owned(),
        }))
    }

    fn start(&self, mode: v1::start::Mode, reason: &str, lineage: Bytes) -> v1::Start {
        let schema = self.ring.schema();
        v1::Start {
            mode: mode.into(),
            reason: reason.to_owned(),
            lineage,
            schema: schema.map(|(schema, buckets)| convert::schema_to_wire(&schema, buckets)),
            ..v1::Start::default()
        }
    }
}

/// A response body of framed bytes, closed by gRPC's trailers.
pub(crate) struct Body<S> {
    stream: Pin<Box<S>>,
    ended: bool,
}

impl<S> Body<S> {
    pub(crate) fn new(stream: S) -> Self {
        Body {
            stream: Box::pin(stream),
            ended: false,
        }
    }
}

impl<S: Stream<Item = Bytes>> http_body::Body for Body<S> {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, Infallible>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        Poll::Ready(Some(Ok(
            match std::task::ready!(self.stream.as_mut().poll_next(cx)) {
                Some(bytes) => http_body::Frame::data(bytes),
                None => {
                    self.ended = true;
                    let mut trailers = HeaderMap::new();
                    trailers.insert("grpc-status", http::HeaderValue::from_static("0"));
                    http_body::Frame::trailers(trailers)
                }
            },
        )))
    }
}
