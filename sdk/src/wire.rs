//! The wire: subscribes, and turns generated messages into [`Message`]s. The only file of the replica that names
//! generated types.

use std::collections::VecDeque;
use std::error::Error as _;
use std::num::NonZeroU16;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use onair_model::schema::Schema;
use onair_model::{Buckets, Lineage, Seal};
use onair_proto::convert::{self, ConvertError};
use onair_proto::entries::Entries;
use onair_proto::v1;
use onair_proto::v1::on_air_client::OnAirClient;
use onair_proto::v1::subscribe_response::Message as Wire;
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::message::{Message, Progress, Start, Whole};
use crate::refusal::Refusal;
use crate::status::Problem;
use crate::tls::TlsFault;

/// What to subscribe to.
#[derive(Debug)]
pub(crate) struct Request<'a> {
    pub(crate) feed: &'a str,
    pub(crate) view: &'a str,
    pub(crate) client: &'a str,
    /// What to go on from.
    pub(crate) have: Option<&'a Seal>,
    /// Messages above this many bytes are refused.
    pub(crate) max_message: usize,
}

/// A subscription's messages.
#[derive(Debug)]
pub(crate) struct Stream {
    endpoint: Arc<str>,
    messages: tonic::Streaming<v1::SubscribeResponse>,
}

pub(crate) async fn subscribe(
    endpoint: Arc<str>,
    channel: Channel,
    request: Request<'_>,
) -> Result<Stream, Problem> {
    let mut client = OnAirClient::new(channel).max_decoding_message_size(request.max_message);
    let request = v1::SubscribeRequest {
        feed: request.feed.to_owned(),
        view: request.view.to_owned(),
        client: request.client.to_owned(),
        have: request.have.map(|seal| v1::Have {
            lineage: convert::bytes16(seal.lineage.get()),
            version: seal.version.get(),
            digest: convert::bytes16(seal.digest.get()),
        }),
    };
    match client.subscribe(request).await {
        Ok(response) => Ok(Stream {
            endpoint,
            messages: response.into_inner(),
        }),
        Err(status) => Err(problem(endpoint, &status)),
    }
}

impl Stream {
    /// Takes the messages that are there already, up to the first that is no frame; whether that one came. A frame is no
    /// use without its seal.
    pub(crate) fn ready(&mut self, into: &mut VecDeque<Message>) -> Result<bool, Problem> {
        loop {
            let next = pin!(self.next());
            let Poll::Ready(message) = next.poll(&mut Context::from_waker(Waker::noop())) else {
                return Ok(false);
            };
            let message = message?;
            let is_frame = matches!(message, Message::Frame { .. });
            into.push_back(message);
            if !is_frame {
                return Ok(true);
            }
        }
    }

    /// The next message. Dropping the future loses nothing.
    pub(crate) async fn next(&mut self) -> Result<Message, Problem> {
        let endpoint = || self.endpoint.clone();
        match self.messages.message().await {
            Ok(Some(response)) => message(response).map_err(|error| Problem::Refused {
                endpoint: endpoint(),
                refusal: Refusal::Malformed(error.to_string()),
            }),
            Ok(None) => Err(Problem::Ended {
                endpoint: endpoint(),
                message: "the server closed it".into(),
            }),
            Err(status) => Err(problem(endpoint(), &status)),
        }
    }
}

fn problem(endpoint: Arc<str>, status: &Status) -> Problem {
    let message = match status.message() {
        "" => status.code().description(),
        message => message,
    };
    match status.code() {
        // Not the server's word, but HTTP/2's INADEQUATE_SECURITY.
        Code::PermissionDenied if status.source().is_some() => Problem::Tls {
            endpoint,
            fault: TlsFault::Wanted,
        },
        Code::NotFound
        | Code::InvalidArgument
        | Code::Unauthenticated
        | Code::PermissionDenied
        | Code::Unimplemented => Problem::Rejected {
            endpoint,
            message: message.into(),
        },
        // How tonic says that a message is above `max_decoding_message_size`.
        Code::OutOfRange => Problem::Refused {
            endpoint,
            refusal: Refusal::TooLong(message.to_owned()),
        },
        _ => Problem::Ended {
            endpoint,
            message: message.into(),
        },
    }
}

pub(crate) fn message(response: v1::SubscribeResponse) -> Result<Message, ConvertError> {
    // A kind of message that a later server knows and we do not: were it needed, the digest would not agree.
    let Some(wire) = response.message else {
        return Ok(Message::Unknown);
    };
    Ok(match wire {
        Wire::Start(wire) => Message::Start(start(wire)?),
        Wire::Chunk(wire) => Message::Chunk {
            version: convert::version(wire.version)?,
            index: wire.index,
            entries: Entries::new(wire.entries),
        },
        Wire::Frame(wire) => Message::Frame {
            from: convert::version(wire.from)?,
            to: convert::version(wire.to)?,
            exact: wire.exact,
            entries: Entries::new(wire.entries),
        },
        Wire::Seal(wire) => Message::Seal(convert::seal_from_wire(wire)?),
        Wire::Progress(wire) => Message::Progress(Progress {
            version: convert::version(wire.version)?,
            source_time: wire.source_time,
            executed: convert::gtid_set(&wire.executed)?,
            proven: wire.proven.map(convert::proven_from_wire).transpose()?,
            held: wire.held,
            age_ms: wire.age_ms,
        }),
        Wire::GoAway(wire) => Message::GoAway {
            retry_after_ms: wire.retry_after_ms,
            reason: wire.reason,
        },
        Wire::NotYet(wire) => Message::NotYet {
            version: convert::version(wire.version)?,
            retry_after_ms: wire.retry_after_ms,
        },
    })
}

fn start(wire: v1::Start) -> Result<Start, ConvertError> {
    let mode = v1::start::Mode::try_from(wire.mode).map_err(|_| ConvertError::Field("mode"))?;
    let lineage: Lineage = convert::lineage(&wire.lineage)?;
    let schema = wire.schema.map(convert::schema_from_wire).transpose()?;
    match mode {
        v1::start::Mode::Full => {
            let (schema, buckets): (Schema, u32) = schema.ok_or(ConvertError::Field("schema"))?;
            let buckets = u16::try_from(buckets).ok().and_then(NonZeroU16::new);
            Ok(Start::Full(Whole {
                reason: wire.reason,
                lineage,
                schema: Arc::new(schema),
                layout: Buckets::new(buckets.ok_or(ConvertError::Field("buckets"))?),
                count: wire.count,
                version: convert::version(wire.version)?,
            }))
        }
        v1::start::Mode::Resume => Ok(Start::Resume {
            lineage,
            schema: schema.map(|(schema, _)| Arc::new(schema)),
        }),
        v1::start::Mode::Unspecified => Err(ConvertError::Field("mode")),
    }
}
