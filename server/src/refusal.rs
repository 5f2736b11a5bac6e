//! What the service refuses, and the gRPC status that says so.

use tonic::Status;

/// Why a request was not answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    /// NOT_FOUND.
    #[error("there is no feed {asked:?} here; this server has {here}")]
    NoFeed { asked: String, here: String },
    /// NOT_FOUND.
    #[error("feed {feed} has no view {view:?}; subscribe without one")]
    NoView { feed: String, view: String },
    /// RESOURCE_EXHAUSTED.
    #[error("the request is larger than {limit} bytes; ask for less at once")]
    TooLong { limit: usize },
    /// RESOURCE_EXHAUSTED.
    #[error("{limit} clients are subscribed to {feed} already; try another server")]
    TooManyClients { feed: String, limit: usize },
    /// INVALID_ARGUMENT.
    #[error("not a SubscribeRequest: {reason}")]
    Malformed { reason: String },
    /// UNIMPLEMENTED.
    #[error("compressed requests are not understood; send them plain")]
    Compressed,
    /// INVALID_ARGUMENT.
    #[error("at most {limit} keys in one request")]
    TooManyKeys { limit: usize },
    /// UNAVAILABLE: try again.
    #[error("feed {feed} has no verified cut yet")]
    NoCut { feed: String },
    /// UNAVAILABLE: try again.
    #[error("feed {feed} is not bound to its table yet")]
    NotBound { feed: String },
    /// NOT_FOUND.
    #[error("there is no run {id:?}; `onair runs` lists those that are kept")]
    NoRun { id: String },
    /// INVALID_ARGUMENT.
    #[error("two feeds have a run {id}; name it with its feed, like {feed}/{id}")]
    TwoRuns { id: String, feed: String },
    /// INVALID_ARGUMENT.
    #[error("what is wished of the run is unknown: {reason}; use the release of the server")]
    NoWish { reason: String },
    /// INTERNAL: a fault of the server.
    #[error("Subscribe is answered by another route; please report it as a fault of OnAir")]
    Misrouted,
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        let text = refusal.to_string();
        match refusal {
            Refusal::NoFeed { .. } | Refusal::NoView { .. } | Refusal::NoRun { .. } => {
                Status::not_found(text)
            }
            Refusal::TooLong { .. } | Refusal::TooManyClients { .. } => {
                Status::resource_exhausted(text)
            }
            Refusal::Malformed { .. }
            | Refusal::TooManyKeys { .. }
            | Refusal::TwoRuns { .. }
            | Refusal::NoWish { .. } => Status::invalid_argument(text),
            Refusal::Compressed => Status::unimplemented(text),
            Refusal::NoCut { .. } | Refusal::NotBound { .. } => Status::unavailable(text),
            Refusal::Misrouted => Status::internal(text),
        }
    }
}
