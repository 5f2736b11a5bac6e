//! What the service refuses, and the gRPC status that says so.

use std::sync::Arc;

use onair_store::head::LoadError;
use onair_store::past::PastError;
use tonic::Status;

/// Why a request was not answered.
#[derive(Debug, Clone, thiserror::Error)]
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
    /// INVALID_ARGUMENT.
    #[error("a moment of the past is a version or a time; name one of them")]
    NoMoment,
    /// RESOURCE_EXHAUSTED: try again.
    #[error(
        "{limit} reads of the past are under way already; ask again in a moment, or another server"
    )]
    TooManyReads { limit: usize },
    /// UNAVAILABLE: try again.
    #[error("this server is going down; ask another one")]
    GoingDown,
    /// What the store says of the past: OUT_OF_RANGE where it does not reach, UNAVAILABLE where the store does not
    /// answer, DATA_LOSS where it is damaged.
    #[error("{}", with_causes(.0))]
    Past(Arc<PastError>),
}

/// The error with its causes, in one line: nothing else of them goes over the wire.
fn with_causes(error: &PastError) -> String {
    let mut text = error.to_string();
    let mut next = std::error::Error::source(error);
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
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
            Refusal::NoMoment => Status::invalid_argument(text),
            Refusal::TooManyReads { .. } => Status::resource_exhausted(text),
            Refusal::GoingDown => Status::unavailable(text),
            Refusal::Past(error) => match &*error {
                PastError::TooOld { .. }
                | PastError::Ahead { .. }
                | PastError::Nothing { .. }
                | PastError::Unstated { .. }
                | PastError::Undescribed { .. }
                | PastError::Gone { .. } => Status::out_of_range(text),
                PastError::Load {
                    source: LoadError::Store(_),
                    ..
                } => Status::unavailable(text),
                PastError::Digest { .. } | PastError::Sum { .. } | PastError::Load { .. } => {
                    Status::data_loss(text)
                }
            },
        }
    }
}
