//! Who listens to the fake server, and what each gets.

use std::collections::VecDeque;
use std::time::Duration;

use onair_model::{Lineage, Version};
use onair_proto::v1;
use onair_proto::v1::subscribe_response::Message;
use tokio::sync::mpsc;
use tonic::Status;

use super::damage::{Damage, Then};
use super::messages;
use super::world::World;

/// Messages that wait for a subscriber; one that leaves more unread is cut.
const QUEUE: usize = 8192;
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

/// The streams, and how they are treated.
pub(crate) struct Audience {
    subscribers: Vec<Subscriber>,
    /// Streams that are kept open and never written to.
    silent: Vec<Messages>,
    /// Streams with messages that wait for `go_on`.
    slow: Vec<(Subscriber, Vec<Message>)>,
    subscriptions: Vec<Subscription>,
    damages: VecDeque<Damage>,
    answer: Answer,
    is_stalled: bool,
}

#[derive(Clone)]
struct Subscriber {
    at: Version,
    messages: Messages,
}

type Messages = mpsc::Sender<Result<v1::SubscribeResponse, Status>>;

/// The messages of one stream.
pub(crate) type Stream = mpsc::Receiver<Result<v1::SubscribeResponse, Status>>;

impl Audience {
    pub(crate) const fn new() -> Self {
        Audience {
            subscribers: Vec::new(),
            silent: Vec::new(),
            slow: Vec::new(),
            subscriptions: Vec::new(),
            damages: VecDeque::new(),
            answer: Answer::Well,
            is_stalled: false,
        }
    }

    pub(crate) fn subscribe(
        &mut self,
        world: &World,
        request: v1::SubscribeRequest,
    ) -> Result<Stream, Status> {
        let unknown = || Status::not_found(format!("no feed {:?}", request.feed));
        match self.answer {
            Answer::Busy => return Err(Status::resource_exhausted("too many streams")),
            Answer::UnknownFeed => return Err(unknown()),
            Answer::NotAllowed => return Err(Status::permission_denied("not allowed")),
            _ if request.feed != *world.schema().feed => return Err(unknown()),
            _ => {}
        }
        let have = request.have.map(|have| {
            let lineage = <[u8; 16]>::try_from(&have.lineage[..]).map(u128::from_be_bytes);
            let version = Version::from_u64(have.version).unwrap_or(Version::ZERO);
            (Lineage::new(lineage.unwrap_or(0)), version)
        });
        let (messages, receiver) = mpsc::channel(QUEUE);
        let at = world.version();
        let mut subscriber = Subscriber { at, messages };
        let (resumed, stays) = self.welcome(world, &mut subscriber, have);
        self.subscriptions.push(Subscription {
            have: have.map(|(_, version)| version),
            client: request.client,
            view: request.view,
            resumed,
        });
        if stays {
            self.subscribers.push(subscriber);
            self.send_frames(world);
        }
        Ok(receiver)
    }

    /// The first messages of a stream: whether it goes on from what the client has, and whether it stays.
    fn welcome(
        &mut self,
        world: &World,
        subscriber: &mut Subscriber,
        have: Option<(Lineage, Version)>,
    ) -> (bool, bool) {
        let ours = world.version();
        let reason = match (self.answer, have) {
            (Answer::Nothing, _) => {
                self.silent.push(subscriber.messages.clone());
                return (false, false);
            }
            (Answer::OnlyProgress, _) => return (false, true),
            (Answer::Resume, _) => {
                subscriber.at = have.map_or(ours, |(_, version)| version);
                return (true, subscriber.send(world.resume(subscriber.at)));
            }
            (Answer::Whole, _) => "other content",
            (_, None) => "first",
            (_, Some((lineage, _))) if lineage != world.lineage() => "other lineage",
            (_, Some((_, version))) if version > ours => {
                subscriber.send(messages::not_yet(version, RETRY_AFTER));
                return (false, false);
            }
            (_, Some((_, version))) if version == ours || world.reaches(version) => {
                subscriber.at = version;
                return (true, subscriber.send(world.resume(version)));
            }
            _ => "too old",
        };
        let group = world.whole(reason);
        (false, self.send_group(subscriber, group))
    }

    /// Sends each subscriber what it does not have yet.
    pub(crate) fn send_frames(&mut self, world: &World) {
        if self.is_stalled {
            return;
        }
        for mut subscriber in std::mem::take(&mut self.subscribers) {
            let mut frames = world.frames_after(subscriber.at);
            if frames.all(|group| self.send_group(&mut subscriber, group)) {
                self.subscribers.push(subscriber);
            }
        }
    }

    /// Starts every stream over with a whole snapshot.
    pub(crate) fn resend(&mut self, world: &World, reason: &str) {
        for mut subscriber in std::mem::take(&mut self.subscribers) {
            if self.send_group(&mut subscriber, world.whole(reason)) {
                self.subscribers.push(subscriber);
            }
        }
    }

    /// Whether the subscriber stays.
    fn send_group(&mut self, subscriber: &mut Subscriber, mut group: Vec<Message>) -> bool {
        if let Some(Message::Seal(seal)) = group.last()
            && let Some(version) = Version::from_u64(seal.version)
        {
            subscriber.at = version;
        }
        let fits = |damage: &Damage| damage.fits(&group);
        let then = match self.damages.pop_front_if(|damage| fits(damage)) {
            Some(damage) => damage.apply(&mut group),
            None => Then::Stays,
        };
        let sent = group.into_iter().all(|message| subscriber.send(message));
        match then {
            Then::Stays => sent,
            Then::Ends => false,
            Then::Waits(rest) => {
                self.slow.push((subscriber.clone(), rest));
                false
            }
        }
    }

    /// Sends what waited, and to everybody again.
    pub(crate) fn go_on(&mut self, world: &World) {
        self.is_stalled = false;
        for (subscriber, messages) in std::mem::take(&mut self.slow) {
            if messages.into_iter().all(|message| subscriber.send(message)) {
                self.subscribers.push(subscriber);
            }
        }
        self.send_frames(world);
    }

    pub(crate) const fn stall(&mut self) {
        self.is_stalled = true;
    }

    /// Sends every subscriber the same message; those who do not read are cut.
    pub(crate) fn send(&mut self, message: &Message) {
        if !self.is_stalled {
            self.subscribers
                .retain(|subscriber| subscriber.send(message.clone()));
        }
    }

    pub(crate) fn cut(&mut self) {
        self.silent.clear();
        self.slow.clear();
        for subscriber in self.subscribers.drain(..) {
            let cut = Err(Status::unavailable("cut"));
            // One that is gone, or reads nothing, is cut by the drop.
            let _ = subscriber.messages.try_send(cut);
        }
    }

    pub(crate) const fn set_answer(&mut self, answer: Answer) {
        self.answer = answer;
    }

    pub(crate) fn damage_next(&mut self, damage: Damage) {
        self.damages.push_back(damage);
    }

    pub(crate) fn is_damage_done(&self) -> bool {
        self.damages.is_empty()
    }

    pub(crate) fn subscriptions(&self) -> &[Subscription] {
        &self.subscriptions
    }
}

impl Subscriber {
    fn send(&self, message: Message) -> bool {
        let message = Some(message);
        self.messages
            .try_send(Ok(v1::SubscribeResponse { message }))
            .is_ok()
    }
}
