//! `watch --from`: what changed since a version that this process does not hold.
//!
//! A server tells the keys that it touched since then; their rows come from a snapshot that was verified whole. So
//! what is shown is proven, and it applies to any copy at `from`; only whether a row was live at `from` is not known,
//! so rows that came on air stand among those that changed.

use std::collections::BTreeMap;

use onair_proto::entries::Entries;
use onair_proto::v1::subscribe_response::Message;
use onair_proto::{convert, v1};
use onair_sdk::{Feed, Key, Raw, Snapshot, Version};

use crate::client::Server;
use crate::exit::{Exit, Failure};

/// Where `watch` goes on.
pub(super) struct Resumed {
    /// The version asked for; `None` when the whole content comes instead.
    pub(super) from: Option<Version>,
    /// Why it comes whole.
    pub(super) reason: Option<String>,
    /// Keys touched since `from` and whether they are live now; `None`: the whole content.
    pub(super) touched: Option<BTreeMap<Key, bool>>,
    /// The verified content that all of it is taken from.
    pub(super) after: Snapshot<Raw>,
}

pub(super) async fn resume(
    server: &Server,
    feed: &Feed<Raw>,
    name: &str,
    from: Version,
) -> Result<Resumed, Failure> {
    let held = feed.snapshot();
    if from > held.version() {
        return Err(Failure::new(
            Exit::Different,
            format!(
                "{}: feed {name} is at {}, it has not reached {from}; watch without --from, or with a version up to it",
                server.url(),
                held.version()
            ),
        ));
    }
    if from == held.version() {
        return Ok(Resumed {
            from: Some(from),
            reason: None,
            touched: Some(BTreeMap::new()),
            after: held,
        });
    }
    let request = v1::SubscribeRequest {
        feed: name.to_owned(),
        view: String::new(),
        have: Some(v1::Have {
            lineage: convert::bytes16(held.lineage().get()),
            version: from.get(),
            digest: bytes::Bytes::new(),
        }),
        client: "onair watch --from".to_owned(),
    };
    let mut client = server.stream().await?;
    let mut stream = client
        .subscribe(request)
        .await
        .map_err(|status| server.failure(&status))?
        .into_inner();
    let mut touched = BTreeMap::new();
    loop {
        let message = stream
            .message()
            .await
            .map_err(|status| server.failure(&status))?;
        match message.and_then(|response| response.message) {
            Some(Message::Start(start)) if start.mode == i32::from(v1::start::Mode::Full) => {
                return Ok(Resumed {
                    from: None,
                    reason: Some(start.reason),
                    touched: None,
                    after: feed.snapshot(),
                });
            }
            Some(Message::Frame(frame)) => {
                for entry in Entries::new(frame.entries) {
                    let (key, row) = entry.map_err(|error| server.nonsense(&error.to_string()))?;
                    touched.insert(key, row.is_some());
                }
            }
            Some(Message::Seal(seal)) => {
                let version = convert::version(seal.version)
                    .map_err(|error| server.nonsense(&error.to_string()))?;
                if version >= held.version() {
                    return caught_up(feed, from, held, version, touched).await;
                }
            }
            Some(Message::GoAway(_) | Message::NotYet(_)) | None => {
                return Err(Failure::new(
                    Exit::Failed,
                    format!("{}: the server ended the stream; try again", server.url()),
                ));
            }
            Some(Message::Start(_) | Message::Chunk(_) | Message::Progress(_)) => {}
        }
    }
}

/// The replica is at `held`, the keys are those touched up to `version`: what changed between the two, and after it in
/// the replica, comes to them.
async fn caught_up(
    feed: &Feed<Raw>,
    from: Version,
    held: Snapshot<Raw>,
    version: Version,
    mut touched: BTreeMap<Key, bool>,
) -> Result<Resumed, Failure> {
    let closed = |_| Failure::new(Exit::Failed, "the feed was closed; try again");
    feed.wait_for(version).await.map_err(closed)?;
    let mut changes = feed.changes().after(held.clone());
    let mut after = held;
    if let Some(step) = changes.try_next() {
        let keys = step
            .on
            .iter()
            .map(|(key, _)| key)
            .chain(step.change.iter().map(|change| &change.key));
        touched.extend(
            keys.chain(step.off.iter().map(|(key, _)| key))
                .map(|key| (key.clone(), true)),
        );
        after = step.snapshot;
    }
    if after.version().epoch() != from.epoch() {
        return Ok(Resumed {
            from: None,
            reason: Some("exact".to_owned()),
            touched: None,
            after,
        });
    }
    for (key, live) in &mut touched {
        *live = after.contains(key);
    }
    Ok(Resumed {
        from: Some(from),
        reason: None,
        touched: Some(touched),
        after,
    })
}
