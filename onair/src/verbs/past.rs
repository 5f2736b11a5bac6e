//! The live set as it was, from a server: whole, and verified here.

use std::collections::BTreeMap;
use std::sync::Arc;

use onair_model::{Digest, Row, Seal};
use onair_proto::entries::Entries;
use onair_proto::v1::subscribe_response::Message;
use onair_proto::{convert, v1};
use onair_sdk::{Key, Raw, Schema};

use crate::client::Server;
use crate::exit::{Exit, Failure};
use crate::json::HeaderForm;
use crate::moment::Moment;

/// A feed at a moment of the past.
pub(super) struct PastSet {
    pub(super) schema: Arc<Schema>,
    pub(super) seal: Seal,
    pub(super) rows: BTreeMap<Key, Raw>,
}

impl PastSet {
    /// The first line of its JSON form.
    pub(super) fn header<'a>(&'a self, feed: &'a str) -> HeaderForm<'a> {
        HeaderForm {
            feed,
            version: self.seal.version,
            gtid: self.seal.gtid.as_ref(),
            commit_time: self.seal.commit_time,
            count: self.seal.count,
            digest: self.seal.digest,
            proven: self.seal.proven.map(Into::into),
        }
    }
}

/// Reads it; what does not give its Seal's digest and count is refused.
pub(super) async fn read(server: &Server, feed: &str, moment: Moment) -> Result<PastSet, Failure> {
    let request = v1::PastRequest {
        feed: feed.to_owned(),
        moment: Some(moment.to_wire()),
    };
    let mut client = server.stream().await?;
    let stream = client.past(request).await;
    let mut stream = stream
        .map_err(|status| server.failure(&status))?
        .into_inner();
    let mut schema = None;
    let mut rows = BTreeMap::new();
    let mut digest = Digest::EMPTY;
    loop {
        let message = stream.message().await;
        let message = message.map_err(|status| server.failure(&status))?;
        match message.and_then(|response| response.message) {
            Some(Message::Start(start)) => {
                let of_rows = start.schema;
                let of_rows =
                    of_rows.ok_or_else(|| server.nonsense("a snapshot without a schema"))?;
                let of_rows = convert::schema_from_wire(of_rows);
                let (of_rows, _) = of_rows.map_err(|error| server.nonsense(&error.to_string()))?;
                schema = Some(Arc::new(of_rows));
            }
            Some(Message::Chunk(chunk)) => {
                let schema = (schema.as_ref())
                    .ok_or_else(|| server.nonsense("a chunk outside a snapshot"))?;
                for entry in Entries::new(chunk.entries) {
                    let (key, row) = entry.map_err(|error| server.nonsense(&error.to_string()))?;
                    let row: Row =
                        row.ok_or_else(|| server.nonsense("a key without a row in a snapshot"))?;
                    digest = digest.plus(Digest::of(&key, &row));
                    let row = Raw::new(row.bytes().clone(), Arc::clone(schema));
                    if rows.insert(key, row).is_some() {
                        return Err(server.nonsense("a key twice in a snapshot"));
                    }
                }
            }
            Some(Message::Seal(seal)) => {
                let seal = convert::seal_from_wire(seal)
                    .map_err(|error| server.nonsense(&error.to_string()))?;
                let schema = schema.ok_or_else(|| server.nonsense("a seal of nothing"))?;
                if (seal.digest, seal.count) != (digest, rows.len() as u64) {
                    return Err(disagrees(server, &seal, digest, rows.len() as u64));
                }
                return Ok(PastSet { schema, seal, rows });
            }
            Some(Message::Frame(_) | Message::Progress(_) | Message::NotYet(_)) => {
                return Err(server.nonsense("a change in a snapshot of the past"));
            }
            Some(Message::GoAway(_)) | None => {
                return Err(Failure::new(
                    Exit::Failed,
                    format!(
                        "{}: the server ended the stream before its seal; try again",
                        server.url()
                    ),
                ));
            }
        }
    }
}

/// The rows that came are not those that the seal is of.
pub(crate) fn disagrees(server: &Server, seal: &Seal, digest: Digest, count: u64) -> Failure {
    Failure::new(
        Exit::Failed,
        format!(
            "{}: what came for {} has {count} rows and digest {digest}, but {} and {} are stated: nothing of it is shown; try again, and report it if it stays",
            server.url(),
            seal.version,
            seal.count,
            seal.digest
        ),
    )
}
