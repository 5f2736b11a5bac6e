//! What the fake server holds and how it answers.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use onair_model::gtid::{SourceId, Tag};
use onair_model::schema::Schema;
use onair_model::{Digest, Epoch, Gtid, GtidSet, Key, Lineage, Proven, Row, Seal, Version};
use onair_proto::v1;
use onair_proto::v1::subscribe_response::Message;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tonic::Status;

use super::damage::Damage;
use super::messages;

/// Messages that wait for a subscriber; one that leaves more unread is cut.
const QUEUE: usize = 8192;
/// Frames kept for those who come back.
const FRAMES: usize = 1000;
const BUCKETS: usize = 4;
const RETRY_AFTER: Duration = Duration::from_millis(500);

/// How new subscriptions are answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Answer {
    /// As a server does: goes on where the client is if it can, else a whole snapshot; `NotYet` to one that is ahead.
    Well,
    /// A whole snapshot, whatever the client holds, also a newer version.
    Whole,
    /// Goes on from whatever the client holds, also if it holds nothing.
    Resume,
    /// No connection.
    Unreachable,
    /// Takes the subscription and says nothing.
    Nothing,
    /// Takes the subscription and says each second that it is well, but never what it has.
    OnlyProgress,
    /// Refuses for now.
    Busy,
    /// Knows no such feed.
    UnknownFeed,
    /// Does not allow it.
    NotAllowed,
}

/// What becomes of the transactions of the epoch before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tail {
    /// All are contained.
    Kept,
    /// The last one is lost, and the server says so.
    Lost,
    /// The last one is lost, and the server does not say so: it may not be shown.
    LostSilently,
}

/// A subscription that came.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Subscription {
    /// The version that the client said it has.
    pub have: Option<Version>,
    /// The name that it gave.
    pub client: String,
    /// The view that it asked for.
    pub view: String,
    /// Whether it was gone on with from there.
    pub resumed: bool,
}

pub(crate) struct World {
    schema: Schema,
    rows: BTreeMap<Key, Bytes>,
    staged: BTreeMap<Key, Option<Bytes>>,
    /// What is sent at the end of a group; `executed` is whole.
    seal: Seal,
    /// Transactions since the last seal.
    since: GtidSet,
    next_number: u64,
    frames: VecDeque<Frame>,
    subscribers: Vec<Subscriber>,
    silent: Vec<Messages>,
    subscriptions: Vec<Subscription>,
    damages: VecDeque<Damage>,
    answer: Answer,
    is_stalled: bool,
    chunk_rows: usize,
    age: Duration,
    held: String,
    /// Microseconds since 1970 at `began`.
    began_at: i64,
    began: Instant,
}

#[derive(Clone)]
struct Frame {
    from: Version,
    exact: bool,
    touched: Vec<(Key, Option<Row>)>,
    seal: Seal,
    added: GtidSet,
}

struct Subscriber {
    at: Version,
    messages: Messages,
}

type Messages = mpsc::Sender<Result<v1::SubscribeResponse, Status>>;

impl World {
    pub(crate) fn new(schema: Schema) -> Self {
        let (began_at, began) = (wall_clock(), Instant::now());
        World {
            schema,
            rows: BTreeMap::new(),
            staged: BTreeMap::new(),
            seal: Seal {
                lineage: Lineage::new(1),
                version: first_version(),
                digest: Digest::EMPTY,
                count: 0,
                commit_time: began_at,
                source_time: began_at,
                gtid: None,
                executed: Arc::new(GtidSet::mysql()),
                proven: None,
                rewound: false,
            },
            since: GtidSet::mysql(),
            next_number: 1,
            frames: VecDeque::new(),
            subscribers: Vec::new(),
            silent: Vec::new(),
            subscriptions: Vec::new(),
            damages: VecDeque::new(),
            answer: Answer::Well,
            is_stalled: false,
            chunk_rows: 100,
            age: Duration::ZERO,
            held: String::new(),
            began_at,
            began,
        }
    }

    pub(crate) fn fork(&self) -> World {
        World {
            rows: self.rows.clone(),
            seal: self.seal.clone(),
            since: self.since.clone(),
            next_number: self.next_number,
            frames: self.frames.clone(),
            chunk_rows: self.chunk_rows,
            ..World::new(self.schema.clone())
        }
    }

    pub(crate) const fn schema(&self) -> &Schema {
        &self.schema
    }

    pub(crate) fn stage(&mut self, key: Key, row: Option<Bytes>) {
        self.staged.insert(key, row);
    }

    fn now(&self) -> i64 {
        let elapsed = self.began.elapsed().as_micros();
        self.began_at
            .saturating_add(i64::try_from(elapsed).unwrap_or(i64::MAX))
    }

    fn next_gtid(&mut self) -> Gtid {
        let number = self.next_number;
        self.next_number += 1;
        Gtid::Mysql {
            source: source(),
            number,
        }
    }

    pub(crate) fn commit(&mut self) -> Version {
        let gtid = self.next_gtid();
        self.since.insert(&gtid);
        self.seal.gtid = Some(gtid);
        Arc::make_mut(&mut self.seal.executed).insert(&gtid);
        let to = self
            .seal
            .version
            .next()
            .expect("an epoch is not used up in a test");
        self.advance(to, false);
        to
    }

    /// Applies what is staged as the content at `to`, and sends it.
    fn advance(&mut self, to: Version, exact: bool) {
        let from = self.seal.version;
        let touched: Vec<(Key, Option<Row>)> = std::mem::take(&mut self.staged)
            .into_iter()
            .map(|(key, row)| (key, row.map(Row::new)))
            .collect();
        for (key, row) in &touched {
            let before = match row {
                Some(row) => {
                    self.seal.digest = self.seal.digest.plus(Digest::of(key, row));
                    self.rows.insert(key.clone(), row.bytes().clone())
                }
                None => self.rows.remove(key),
            };
            if let Some(before) = before {
                self.seal.digest = self.seal.digest.minus(Digest::of(key, &Row::new(before)));
            }
        }
        self.seal.version = to;
        self.seal.count = self.rows.len() as u64;
        self.seal.commit_time = self.now();
        self.seal.source_time = self.now();
        let added = std::mem::replace(&mut self.since, GtidSet::mysql());
        // An epoch that lost transactions says its whole set.
        let added = if exact {
            GtidSet::clone(&self.seal.executed)
        } else {
            added
        };
        self.frames.push_back(Frame {
            from,
            exact,
            touched,
            seal: self.seal.clone(),
            added,
        });
        if self.frames.len() > FRAMES {
            self.frames.pop_front();
        }
        self.send_frames();
    }

    pub(crate) fn commit_elsewhere(&mut self) -> Gtid {
        let gtid = self.next_gtid();
        self.since.insert(&gtid);
        Arc::make_mut(&mut self.seal.executed).insert(&gtid);
        gtid
    }

    pub(crate) fn prove(&mut self) {
        self.seal.proven = Some(Proven {
            version: self.seal.version,
            at: self.now(),
        });
    }

    pub(crate) const fn set_age(&mut self, age: Duration) {
        self.age = age;
    }

    pub(crate) fn hold(&mut self, why: &str) {
        self.held = why.to_owned();
    }

    pub(crate) fn progress(&mut self) {
        if self.is_stalled {
            return;
        }
        self.seal.source_time = self.now() - i64::try_from(self.age.as_micros()).unwrap_or(0);
        let message = messages::progress(&self.seal, &self.since, &self.held, self.age);
        self.subscribers
            .retain(|subscriber| subscriber.send(message.clone()));
    }

    pub(crate) const fn stall(&mut self) {
        self.is_stalled = true;
    }

    pub(crate) fn go_on(&mut self) {
        self.is_stalled = false;
        self.send_frames();
    }

    pub(crate) fn cut(&mut self) {
        self.silent.clear();
        for subscriber in self.subscribers.drain(..) {
            // One that is gone, or reads nothing, is cut by the drop.
            let _ = subscriber
                .messages
                .try_send(Err(Status::unavailable("cut")));
        }
    }

    pub(crate) fn go_away(&mut self, retry_after: Duration) {
        let message = messages::go_away(retry_after, "restart");
        self.subscribers
            .retain(|subscriber| subscriber.send(message.clone()));
    }

    pub(crate) fn resend(&mut self, reason: &str) {
        for mut subscriber in std::mem::take(&mut self.subscribers) {
            let group = self.whole(reason);
            if self.send_group(&mut subscriber, group) {
                self.subscribers.push(subscriber);
            }
        }
    }

    pub(crate) fn damage_next(&mut self, damage: Damage) {
        self.damages.push_back(damage);
    }

    pub(crate) fn is_damage_done(&self) -> bool {
        self.damages.is_empty()
    }

    pub(crate) const fn answer(&mut self, answer: Answer) {
        self.answer = answer;
    }

    pub(crate) fn forget_frames(&mut self) {
        self.frames.clear();
    }

    pub(crate) const fn set_chunk_rows(&mut self, rows: usize) {
        self.chunk_rows = rows;
    }

    pub(crate) fn new_lineage(&mut self) -> Lineage {
        self.seal.lineage = Lineage::new(self.seal.lineage.get() + 1);
        self.seal.version = first_version();
        self.frames.clear();
        self.cut();
        self.seal.lineage
    }

    pub(crate) fn open_epoch(&mut self, tail: Tail) -> Version {
        let epoch = self
            .seal
            .version
            .epoch()
            .next()
            .expect("epochs are not used up in a test");
        self.seal.rewound = tail == Tail::Lost;
        if tail != Tail::Kept {
            let last = self.next_number - 1;
            self.next_number = last;
            let mut executed = GtidSet::mysql();
            for number in 1..last {
                executed.insert(&Gtid::Mysql {
                    source: source(),
                    number,
                });
            }
            self.seal.executed = Arc::new(executed);
        }
        self.seal.gtid = None;
        if tail == Tail::LostSilently {
            let subscribers = std::mem::take(&mut self.subscribers);
            self.advance(epoch.start(), true);
            self.frames.clear();
            self.subscribers = subscribers;
            self.resend("exact");
        } else {
            self.advance(epoch.start(), true);
        }
        epoch.start()
    }

    pub(crate) const fn version(&self) -> Version {
        self.seal.version
    }

    pub(crate) const fn gtid(&self) -> Option<Gtid> {
        self.seal.gtid
    }

    pub(crate) fn rows(&self) -> Vec<(Key, Bytes)> {
        self.rows
            .iter()
            .map(|(key, row)| (key.clone(), row.clone()))
            .collect()
    }

    pub(crate) fn subscriptions(&self) -> Vec<Subscription> {
        self.subscriptions.clone()
    }

    pub(crate) fn subscriptions_so_far(&self) -> usize {
        self.subscriptions.len()
    }

    pub(crate) fn subscribe(
        &mut self,
        request: v1::SubscribeRequest,
    ) -> Result<mpsc::Receiver<Result<v1::SubscribeResponse, Status>>, Status> {
        match self.answer {
            Answer::Busy => return Err(Status::resource_exhausted("too many streams")),
            Answer::UnknownFeed => {
                return Err(Status::not_found(format!("no feed {:?}", request.feed)));
            }
            Answer::NotAllowed => return Err(Status::permission_denied("not allowed")),
            _ if request.feed != *self.schema.feed => {
                return Err(Status::not_found(format!("no feed {:?}", request.feed)));
            }
            _ => {}
        }
        let have = request.have.map(|have| {
            let lineage = <[u8; 16]>::try_from(&have.lineage[..]).map(u128::from_be_bytes);
            (
                Lineage::new(lineage.unwrap_or(0)),
                Version::from_u64(have.version).unwrap_or(Version::ZERO),
            )
        });
        let (messages, receiver) = mpsc::channel(QUEUE);
        let mut subscriber = Subscriber {
            at: self.seal.version,
            messages,
        };
        let (resumed, stays) = self.welcome(&mut subscriber, have);
        self.subscriptions.push(Subscription {
            have: have.map(|(_, version)| version),
            client: request.client,
            view: request.view,
            resumed,
        });
        if stays {
            self.subscribers.push(subscriber);
            self.send_frames();
        }
        Ok(receiver)
    }

    /// The first messages of a stream: whether it goes on from what the client has, and whether it stays.
    fn welcome(
        &mut self,
        subscriber: &mut Subscriber,
        have: Option<(Lineage, Version)>,
    ) -> (bool, bool) {
        let ours = self.seal.version;
        let resume =
            |version| messages::start_resume(&self.schema, self.seal.lineage, version, BUCKETS);
        let reason = match (self.answer, have) {
            (Answer::Nothing, _) => {
                // Kept open, and never written to.
                self.silent.push(subscriber.messages.clone());
                return (false, false);
            }
            (Answer::OnlyProgress, _) => return (false, true),
            (Answer::Resume, _) => {
                let version = have.map_or(ours, |(_, version)| version);
                subscriber.at = version;
                return (true, subscriber.send(resume(version)));
            }
            (Answer::Whole, _) => "other content",
            (_, None) => "first",
            (_, Some((lineage, _))) if lineage != self.seal.lineage => "other lineage",
            (_, Some((_, version))) if version > ours => {
                subscriber.send(messages::not_yet(version, RETRY_AFTER));
                return (false, false);
            }
            (_, Some((_, version))) if version == ours || self.reaches(version) => {
                subscriber.at = version;
                return (true, subscriber.send(resume(version)));
            }
            _ => "too old",
        };
        let group = self.whole(reason);
        (false, self.send_group(subscriber, group))
    }

    /// Whether the frames kept go on from a version.
    fn reaches(&self, version: Version) -> bool {
        let next = self
            .frames
            .iter()
            .find(|frame| frame.seal.version > version);
        next.is_some_and(|frame| frame.from == version || (!frame.exact && frame.from <= version))
    }

    fn whole(&self, reason: &str) -> Vec<Message> {
        let rows = self.rows();
        let mut group = vec![messages::start_whole(
            &self.schema,
            &self.seal,
            BUCKETS,
            reason,
        )];
        let chunks = (0..).zip(rows.chunks(self.chunk_rows));
        group.extend(chunks.map(|(index, rows)| messages::chunk(self.seal.version, index, rows)));
        group.push(messages::seal(&self.seal, &self.seal.executed));
        group
    }

    /// Sends each subscriber what it does not have yet.
    fn send_frames(&mut self) {
        if self.is_stalled {
            return;
        }
        for mut subscriber in std::mem::take(&mut self.subscribers) {
            let frames: Vec<Frame> = self
                .frames
                .iter()
                .filter(|frame| frame.seal.version > subscriber.at)
                .cloned()
                .collect();
            let stays = frames.into_iter().all(|frame| {
                let to = frame.seal.version;
                let group = vec![
                    messages::frame(frame.from, to, frame.exact, &frame.touched),
                    messages::seal(&frame.seal, &frame.added),
                ];
                self.send_group(&mut subscriber, group)
            });
            if stays {
                self.subscribers.push(subscriber);
            }
        }
    }

    /// Whether the subscriber stays.
    fn send_group(&mut self, subscriber: &mut Subscriber, mut group: Vec<Message>) -> bool {
        subscriber.at = self.seal.version;
        if let Some(Message::Seal(seal)) = group.last()
            && let Some(version) = Version::from_u64(seal.version)
        {
            subscriber.at = version;
        }
        let is_frame = matches!(group.first(), Some(Message::Frame(_)));
        let has_two_chunks = group.len() > 3;
        let fits = |damage: &&Damage| {
            let needs_two = matches!(
                damage,
                Damage::ChunkLost | Damage::ChunksSwapped | Damage::ChunkOfOtherVersion
            );
            damage.is_for_frames() == is_frame
                && (has_two_chunks || !needs_two)
                && (is_frame || group.len() > 2)
        };
        let ends = self
            .damages
            .front()
            .filter(fits)
            .copied()
            .is_some_and(|damage| {
                self.damages.pop_front();
                damage.apply(&mut group)
            });
        group.into_iter().all(|message| subscriber.send(message)) && !ends
    }
}

impl Subscriber {
    fn send(&self, message: Message) -> bool {
        self.messages
            .try_send(Ok(v1::SubscribeResponse {
                message: Some(message),
            }))
            .is_ok()
    }
}

fn first_version() -> Version {
    Epoch::NONE.next().map_or(Version::ZERO, Epoch::start)
}

fn source() -> SourceId {
    SourceId {
        uuid: 0x3e11_fa47_71ca_11e1_9e33_c80a_a942_9562,
        tag: Tag::NONE,
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a fake source has a clock of its own"
)]
fn wall_clock() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since
        .ok()
        .and_then(|since| i64::try_from(since.as_micros()).ok())
        .unwrap_or(0)
}
