//! A feed that is given its messages as bytes in memory: to measure what a replica costs without what a connection
//! costs.

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use onair_proto::v1;
use prost::Message as _;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::feed::{Feed, Owner, Shared};
use crate::refusal::Refusal;
use crate::row::FromRow;
use crate::session::{Failure, Outcome, Session};
use crate::status::Told;
use crate::wire;

/// A stream without a connection. From the bytes of a message on it is what [`Feed::connect`] does: decoded, checked,
/// verified and shown by the same code. What a connection adds (the socket, HTTP/2, one copy of the bytes) is not in it.
pub struct Replay<T> {
    session: Session<T>,
    feed: Feed<T>,
    published: watch::Sender<u64>,
    /// Kept, so that the feed is not closed.
    _told: watch::Sender<Told>,
}

/// Why a message was refused.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub struct ReplayError(String);

impl<T: FromRow> Replay<T> {
    /// Nothing came yet.
    #[expect(
        clippy::new_without_default,
        reason = "it is made to be fed, not to be a field's default"
    )]
    pub fn new() -> Self {
        let (published, published_rx) = watch::channel(0);
        let (told, told_rx) = watch::channel(Told::default());
        let shared = Arc::new(Shared::new(published_rx, told_rx, Duration::MAX));
        let owner = Arc::new(Owner {
            tasks: Mutex::new(JoinSet::new()),
            fixed: Mutex::default(),
        });
        Replay {
            session: Session::new(None, false, u64::MAX),
            feed: Feed { shared, owner },
            published,
            _told: told,
        }
    }

    /// Takes the next message of the stream: one `SubscribeResponse`, without gRPC's prefix.
    pub fn take(&mut self, message: Bytes) -> Result<(), ReplayError> {
        let refused = |why: &dyn fmt::Display| ReplayError(why.to_string());
        let response = v1::SubscribeResponse::decode(message).map_err(|error| refused(&error))?;
        let message = wire::message(response)
            .map_err(|error| refused(&Refusal::Malformed(error.to_string())))?;
        let outcome = self
            .session
            .take(message)
            .map_err(|failure| match failure {
                Failure::Refused(refusal) => refused(&refusal),
                Failure::Row(row) => refused(&row),
            })?;
        match outcome {
            Outcome::Version(arrival) => {
                if let Some(verified) = self.session.held() {
                    self.feed.shared.show(verified, Some(&arrival));
                }
            }
            Outcome::Same(verified) => self.feed.shared.show(verified, None),
            Outcome::Progress(verified, progress) => {
                let age = Duration::from_millis(progress.age_ms);
                self.feed.shared.progress(verified, age);
            }
            Outcome::Nothing | Outcome::GoAway { .. } | Outcome::NotYet { .. } => return Ok(()),
        }
        self.published.send_modify(|times| *times += 1);
        Ok(())
    }

    /// The feed. It holds nothing before the first whole snapshot is sealed.
    pub const fn feed(&self) -> &Feed<T> {
        &self.feed
    }
}

impl<T> fmt::Debug for Replay<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replay")
            .field("feed", &self.feed)
            .finish_non_exhaustive()
    }
}
