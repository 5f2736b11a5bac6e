//! `status`: how a server, its feeds and the roles behind it are.

use std::io::Write as _;
use std::time::Duration;

use jiff::Timestamp;
use onair_proto::{convert, v1};

use crate::cli::StatusArgs;
use crate::client::Server;
use crate::exit::Failure;
use crate::json::{self, BucketForm, FeedForm, RoleForm, StatusForm};
use crate::output::{Output, Tone, ago, grouped};

pub(crate) async fn run(args: StatusArgs, out: &mut Output) -> Result<(), Failure> {
    let server = Server::connect(&args.read.server, &args.read.tls).await?;
    let status =
        form(server.status().await?).map_err(|error| server.nonsense(&error.to_string()))?;
    if args.read.json {
        return Ok(json::line(out, &status)?);
    }
    let all_ready = status
        .feeds
        .iter()
        .all(|feed| feed.ready && feed.held.is_none());
    let word = if all_ready {
        out.tone(Tone::Good, "healthy")
    } else {
        out.tone(Tone::Notice, "look below")
    };
    let title = out.tone(Tone::Strong, server.url());
    out.line(&format!("{title}  {word}  {}", status.build))?;
    let rows: Vec<Vec<String>> = status
        .feeds
        .iter()
        .map(|feed| {
            vec![
                feed.feed.clone(),
                if feed.ready {
                    "ready".to_owned()
                } else {
                    "starting".to_owned()
                },
                feed.version
                    .map_or_else(|| "-".to_owned(), |version| version.to_string()),
                feed.count.map_or_else(|| "-".to_owned(), grouped),
                feed.age_ms
                    .map_or_else(|| "-".to_owned(), |ms| ago(Duration::from_millis(ms))),
                feed.proven_at().unwrap_or_else(|| "not yet".to_owned()),
                feed.clients.to_string(),
                feed.held.clone().unwrap_or_default(),
            ]
        })
        .collect();
    out.table(
        &[
            "feed",
            "state",
            "version",
            "rows",
            "age",
            "proven",
            "clients",
            "held back",
        ],
        &rows,
    )?;
    for feed in &status.feeds {
        for bucket in feed
            .buckets
            .iter()
            .filter(|bucket| bucket.stopped.is_some())
        {
            let why = bucket.stopped.as_deref().unwrap_or_default();
            let word = out.tone(Tone::Bad, "stopped");
            out.line(&format!(
                "{word}  feed {} bucket {}: {why} at {}",
                feed.feed, bucket.bucket, bucket.d
            ))?;
        }
    }
    out.line("")?;
    let rows: Vec<Vec<String>> = status.roles.iter().map(role_row).collect();
    if !rows.is_empty() {
        out.table(&["role", "process", "state", "said", "detail"], &rows)?;
    }
    Ok(out.flush()?)
}

/// A role says something each second; one that has been silent for long is not well.
fn role_row(role: &RoleForm) -> Vec<String> {
    let at = role.at.as_ref().and_then(|at| at.parse::<Timestamp>().ok());
    let ago = at.map(|at| Timestamp::now().duration_since(at));
    let silent = ago.and_then(|ago| Duration::try_from(ago).ok());
    vec![
        role.role.clone(),
        role.process.clone(),
        role.state.clone(),
        silent.map_or_else(
            || "now".to_owned(),
            |silent| format!("{} ago", crate::output::ago(silent)),
        ),
        role.detail.clone(),
    ]
}

impl FeedForm {
    fn proven_at(&self) -> Option<String> {
        self.proven.map(|proven| proven.version().to_string())
    }
}

fn form(wire: v1::StatusResponse) -> Result<StatusForm, convert::ConvertError> {
    Ok(StatusForm {
        build: wire.build,
        feeds: wire.feeds.into_iter().map(feed).collect::<Result<_, _>>()?,
        roles: wire
            .roles
            .into_iter()
            .map(|role| RoleForm {
                role: role.role,
                state: role.state,
                detail: role.detail,
                process: role.process,
                at: json::time(role.at),
            })
            .collect(),
    })
}

fn feed(wire: v1::FeedStatus) -> Result<FeedForm, convert::ConvertError> {
    let seal = wire.seal.map(convert::seal_from_wire).transpose()?;
    let words = |text: String| (!text.is_empty()).then_some(text);
    Ok(FeedForm {
        feed: wire.feed,
        ready: wire.ready,
        version: seal.as_ref().map(|seal| seal.version),
        count: seal.as_ref().map(|seal| seal.count),
        digest: seal.as_ref().map(|seal| seal.digest),
        gtid: seal
            .as_ref()
            .and_then(|seal| seal.gtid)
            .map(|gtid| gtid.to_string()),
        commit_time: seal.as_ref().and_then(|seal| json::time(seal.commit_time)),
        age_ms: seal.as_ref().map(|_| wire.age_ms),
        proven: seal.as_ref().and_then(|seal| seal.proven).map(Into::into),
        clients: wire.clients,
        held: words(wire.held),
        buckets: wire
            .buckets
            .into_iter()
            .map(|bucket| {
                Ok(BucketForm {
                    bucket: bucket.bucket,
                    d: convert::version(bucket.d)?,
                    through: convert::version(bucket.through)?,
                    count: bucket.count,
                    stopped: words(bucket.stopped),
                })
            })
            .collect::<Result<_, convert::ConvertError>>()?,
    })
}
