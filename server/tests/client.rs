//! A subscriber as the .proto files tell anybody to write one: it puts and deletes what it is sent, and believes nothing
//! before its Seal agrees.

use std::collections::BTreeMap;

use onair_log::testing::Content;
use onair_model::{Digest, GtidSet, Version};
use onair_proto::entries::Entries;
use onair_proto::v1::on_air_client::OnAirClient;
use onair_proto::v1::subscribe_response::Message;
use onair_proto::{convert, v1};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status, Streaming};

use crate::support::FEED;

/// Seconds of Progress, one each, in which what is waited for must come.
const PATIENCE: u32 = 400;

/// What a stream said, as far as anybody can see it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Said {
    Full(String),
    Resume,
    Sealed(Version),
    Progress(Box<v1::Progress>),
    NotYet(Version),
    GoAway(String),
    /// The stream is over.
    End,
}

/// One stream and what it led to.
pub(crate) struct Client {
    stream: Streaming<v1::SubscribeResponse>,
    pub(crate) rows: Content,
    pub(crate) version: Option<Version>,
    pub(crate) lineage: Vec<u8>,
    pub(crate) digest: Digest,
    /// The last seal.
    pub(crate) seal: Option<v1::Seal>,
    /// As the seals and progress add up.
    pub(crate) executed: GtidSet,
    /// Frames since the start, each with its range.
    pub(crate) frames: Vec<(Version, Version, bool)>,
    /// As the last start stated it.
    pub(crate) schema: Option<v1::Schema>,
    /// Bytes of chunks and frames.
    pub(crate) bytes: usize,
    staged: Option<Content>,
    is_whole: bool,
}

pub(crate) async fn channel(address: &str) -> Channel {
    Endpoint::from_shared(address.to_owned())
        .unwrap()
        .connect()
        .await
        .unwrap()
}

/// A request for the feed.
pub(crate) fn request(have: Option<v1::Have>) -> v1::SubscribeRequest {
    v1::SubscribeRequest {
        feed: FEED.into(),
        view: String::new(),
        have,
        client: "test".into(),
    }
}

impl Client {
    /// Subscribes on a connection of its own.
    pub(crate) async fn new(address: &str) -> Self {
        Client::open(channel(address).await, request(None))
            .await
            .unwrap()
    }

    pub(crate) async fn open(
        channel: Channel,
        request: v1::SubscribeRequest,
    ) -> Result<Self, Status> {
        let mut client = OnAirClient::new(channel);
        let stream = client.subscribe(request).await?.into_inner();
        Ok(Client {
            stream,
            rows: BTreeMap::new(),
            version: None,
            lineage: Vec::new(),
            digest: Digest::EMPTY,
            seal: None,
            executed: GtidSet::mysql(),
            schema: None,
            frames: Vec::new(),
            bytes: 0,
            staged: None,
            is_whole: false,
        })
    }

    /// What to say to go on from here.
    pub(crate) fn have(&self) -> v1::Have {
        v1::Have {
            lineage: self.lineage.clone().into(),
            version: self.version.unwrap().get(),
            digest: convert::bytes16(self.digest.get()),
        }
    }

    /// Goes on from here on another stream.
    pub(crate) async fn again(self, address: &str) -> Self {
        let request = request(Some(self.have()));
        let mut next = Client::open(channel(address).await, request).await.unwrap();
        next.rows = self.rows;
        next.version = self.version;
        next.lineage = self.lineage;
        next.digest = self.digest;
        next.executed = self.executed;
        next
    }

    /// The next thing that can be seen.
    pub(crate) async fn next(&mut self) -> Said {
        loop {
            let message = match self.stream.message().await {
                Ok(Some(response)) => response.message.unwrap(),
                Ok(None) => return Said::End,
                // The server is gone.
                Err(status) => {
                    let gone = matches!(status.code(), Code::Unknown | Code::Unavailable);
                    assert!(gone || status.code() == Code::Cancelled, "{status}");
                    return Said::End;
                }
            };
            match message {
                Message::Start(start) => {
                    assert!(self.staged.is_none(), "a group was not sealed");
                    self.schema = start.schema.clone();
                    self.is_whole = start.mode() == v1::start::Mode::Full;
                    if self.is_whole {
                        self.lineage = start.lineage.to_vec();
                        self.staged = Some(BTreeMap::new());
                        return Said::Full(start.reason);
                    }
                    assert_eq!(self.lineage, start.lineage);
                    return Said::Resume;
                }
                Message::Chunk(chunk) => {
                    assert!(self.is_whole, "a chunk outside a snapshot");
                    self.bytes += chunk.entries.len();
                    self.put(chunk.entries);
                }
                Message::Frame(frame) => {
                    self.bytes += frame.entries.len();
                    let held = self.version.expect("a frame applies to something");
                    let parsed = convert::frame_from_wire(frame.clone(), Digest::EMPTY, 0).unwrap();
                    assert!(parsed.applies_to(held), "{held}: {parsed:?}");
                    if self.frames.last() != Some(&(parsed.from, parsed.to, parsed.exact)) {
                        self.frames.push((parsed.from, parsed.to, parsed.exact));
                    }
                    self.staged.get_or_insert_with(|| self.rows.clone());
                    self.put(frame.entries);
                }
                Message::Seal(seal) => return self.seal(seal),
                Message::Progress(progress) => {
                    assert_eq!(self.version.map(Version::get), Some(progress.version));
                    self.executed.union(&progress.executed.parse().unwrap());
                    return Said::Progress(Box::new(progress));
                }
                Message::GoAway(away) => return Said::GoAway(away.reason),
                Message::NotYet(not_yet) => {
                    return Said::NotYet(Version::from_u64(not_yet.version).unwrap());
                }
            }
        }
    }

    fn put(&mut self, entries: bytes::Bytes) {
        let staged = self.staged.as_mut().expect("a group has begun");
        for entry in Entries::new(entries) {
            match entry.unwrap() {
                (key, Some(row)) => staged.insert(key, row),
                (key, None) => staged.remove(&key),
            };
        }
    }

    fn seal(&mut self, seal: v1::Seal) -> Said {
        let version = Version::from_u64(seal.version).unwrap();
        assert!(
            self.version.is_none_or(|held| held <= version),
            "from {:?} back to {version}, whole {}",
            self.version,
            self.is_whole
        );
        if let Some(staged) = self.staged.take() {
            self.rows = staged;
        }
        let digests = self.rows.iter().map(|(key, row)| Digest::of(key, row));
        let digest = digests.fold(Digest::EMPTY, Digest::plus);
        assert_eq!(convert::bytes16(digest.get()), seal.digest, "{version}");
        assert_eq!(self.rows.len() as u64, seal.count);
        assert_eq!(self.lineage, seal.lineage);
        let executed: GtidSet = seal.executed.parse().unwrap();
        let crosses = self
            .version
            .is_none_or(|held| held.epoch() != version.epoch());
        if self.is_whole || crosses {
            self.executed = executed;
        } else {
            self.executed.union(&executed);
        }
        self.is_whole = false;
        self.version = Some(version);
        self.digest = digest;
        self.seal = Some(seal);
        Said::Sealed(version)
    }

    /// Reads on until it holds `version`.
    pub(crate) async fn until(&mut self, version: Version) {
        let mut patience = PATIENCE;
        while self.version != Some(version) {
            match self.next().await {
                Said::Full(_) | Said::Resume | Said::Sealed(_) => {}
                Said::Progress(progress) => {
                    assert!(patience > 0, "{version} never came: {progress:?}");
                    patience -= 1;
                }
                said => panic!("{said:?} before {version}, at {:?}", self.version),
            }
        }
    }

    /// The next thing that is not progress.
    pub(crate) async fn news(&mut self) -> Said {
        for _ in 0..PATIENCE {
            match self.next().await {
                Said::Progress(_) => {}
                said => return said,
            }
        }
        panic!("nothing but progress at {:?}", self.version);
    }

    /// The next progress.
    pub(crate) async fn progress(&mut self) -> v1::Progress {
        loop {
            if let Said::Progress(progress) = self.next().await {
                return *progress;
            }
        }
    }
}
