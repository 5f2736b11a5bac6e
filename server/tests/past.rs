//! Reads of the past and of where a key is: true, few at once, and no burden to subscribers.

use std::collections::BTreeMap;

use onair_log::testing::{Content, Workload};
use onair_model::{Bucket, Key, Version};
use onair_proto::entries::Entries;
use onair_proto::v1::past_request::Moment;
use onair_proto::v1::subscribe_response::Message;
use onair_proto::{convert, v1};
use tonic::{Code, Status, Streaming};

use crate::client::Client;
use crate::support::{FEED, Running, World};

/// Rows so large that a snapshot is more than a client takes unasked.
const LARGE: usize = 200_000;

async fn open(
    server: &Running,
    moment: Moment,
) -> Result<Streaming<v1::SubscribeResponse>, Status> {
    let request = v1::PastRequest {
        feed: FEED.into(),
        moment: Some(moment),
    };
    let opened = server.client().await.past(request).await?;
    Ok(opened.into_inner())
}

/// A whole stream: what it began with, its rows, its seal.
async fn read(
    mut stream: Streaming<v1::SubscribeResponse>,
) -> Result<(Option<v1::Start>, Content, v1::Seal), Status> {
    let mut start = None;
    let (mut rows, mut indexes) = (Content::new(), 0..);
    loop {
        let message = stream.message().await?;
        let message = message.ok_or_else(|| Status::aborted("it ended before its seal"))?;
        match message.message.unwrap() {
            Message::Start(first) => start = Some(first),
            Message::Chunk(chunk) => {
                assert_eq!(Some(chunk.index), indexes.next());
                for entry in Entries::new(chunk.entries) {
                    let (key, row) = entry.unwrap();
                    assert_eq!(rows.insert(key, row.unwrap()), None);
                }
            }
            Message::Seal(seal) => {
                assert!(stream.message().await?.is_none(), "the stream ends with it");
                return Ok((start, rows, seal));
            }
            other => panic!("{other:?}"),
        }
    }
}

/// A feed with a base at the first version, and what came since as deltas.
async fn kept(workload: &mut Workload, commits: usize) -> World {
    let mut world = World::new(3, workload.rows()).await;
    let base = world.writer.version();
    for _ in 0..commits {
        let writes = workload.writes();
        world.writer.commit(writes);
    }
    let log = std::sync::Arc::clone(&world.log);
    world.writer.write(&*log, true).await;
    world.keep(base).await;
    world
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_past_is_a_snapshot_with_its_seal() {
    let mut workload = Workload::new(3, 60, LARGE);
    let world = kept(&mut workload, 12).await;
    let server = world.serving().await;
    let last = world.writer.version();
    for version in world.writer.versions() {
        let stream = open(&server, Moment::Version(version.get())).await.unwrap();
        let (start, rows, seal) = read(stream).await.unwrap();
        let start = start.unwrap();
        let truth = world.writer.at(version);
        let total = truth.total();
        assert_eq!(rows, truth.content(), "{version}");
        assert_eq!(
            (start.version, seal.version),
            (version.get(), version.get())
        );
        assert_eq!((start.count, seal.count), (total.count, total.count));
        assert_eq!(seal.digest, convert::bytes16(total.digest.get()));
        assert_eq!(start.mode(), v1::start::Mode::Full);
        assert_eq!(start.schema.unwrap().feed, FEED);
        // Only the last one is a cut that is kept; no other has a set that anybody stated.
        let executed = (version == last).then(|| truth.executed.to_string());
        assert_eq!(seal.executed, executed.unwrap_or_default());
    }
    let truth = world.writer.at(last);
    let stream = open(&server, Moment::Time(truth.commit_time)).await;
    let (_, rows, seal) = read(stream.unwrap()).await.unwrap();
    assert_eq!((seal.version, rows), (last.get(), truth.content()));
    assert_eq!(seal.commit_time, truth.commit_time);

    let refused = async |moment| open(&server, moment).await.unwrap_err().code();
    assert_eq!(
        refused(Moment::Time(truth.commit_time - 1)).await,
        Code::OutOfRange
    );
    let next = last.next().unwrap().get();
    assert_eq!(refused(Moment::Version(next)).await, Code::OutOfRange);
    assert_eq!(
        refused(Moment::Version(u64::MAX)).await,
        Code::InvalidArgument
    );
    server.ended().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn few_reads_are_let_in_and_a_slow_one_disturbs_nobody() {
    let mut workload = Workload::new(4, 800, LARGE);
    let mut world = kept(&mut workload, 3).await;
    let server = world.serving().await;
    let begun = world.writer.version();
    let moment = Moment::Version(begun.get());
    let mut slow = Vec::new();
    let refused = loop {
        match open(&server, moment).await {
            Ok(mut stream) => {
                stream.message().await.unwrap();
                slow.push(stream);
            }
            Err(status) => break status,
        }
    };
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
    assert_eq!(slow.len(), 4);
    // They stand still, and frames go out as ever.
    let mut client = Client::new(&server.url).await;
    world.publish(&mut workload, &server, 20).await;
    client.until(world.writer.version()).await;
    world.check(&client);
    drop(slow.pop());
    let let_in = async |server: &Running| open(server, moment).await.is_ok();
    server.until("another is let in", let_in).await;
    // One that was begun is whole, however long it stood.
    let (_, rows, _) = read(slow.pop().unwrap()).await.unwrap();
    assert_eq!(rows, world.writer.at(begun).content());
    // A stream under way does not hold the server up.
    let began = std::time::Instant::now();
    server.ended().await;
    assert!(began.elapsed() < world.settings.drain * 3);
    for stream in slow {
        assert!(read(stream).await.is_err(), "it cannot be whole");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_is_told_step_by_step_and_where_it_is() {
    let mut workload = Workload::new(5, 40, 100);
    let mut world = World::new(2, workload.rows()).await;
    let base = world.writer.version();
    let bucket = Bucket::new(1);
    let key = world.key(bucket, 3);
    let mut expected: BTreeMap<Version, Option<bytes::Bytes>> = BTreeMap::new();
    let first = world
        .writer
        .now()
        .bucket(bucket)
        .get(&Key::from_u64(key))
        .cloned();
    expected.extend(first.map(|row| (base, Some(row.bytes().clone()))));
    for off in [false, true, false, false] {
        let row = (!off).then(|| workload.row(20));
        let version = world.writer.commit(vec![(key, row.clone())]);
        expected.insert(version, row.map(|row| row.bytes().clone()));
        world.touch(&mut workload, Bucket::new(0));
    }
    let log = std::sync::Arc::clone(&world.log);
    world.writer.write(&*log, true).await;
    world.keep(base).await;
    let server = world.serving().await;
    let request = v1::KeyHistoryRequest {
        feed: FEED.into(),
        key: Key::from_u64(key).to_bytes(),
        from: None,
        to: None,
    };
    let steps = server.client().await.key_history(request).await;
    let mut steps = steps.unwrap().into_inner();
    let mut told = BTreeMap::new();
    while let Some(step) = steps.message().await.unwrap() {
        let version = convert::version(step.version).unwrap();
        let is_first = version == base;
        let cause = match is_first {
            true => v1::key_step::Cause::Kept,
            false => v1::key_step::Cause::Binlog,
        };
        assert_eq!(step.cause(), cause);
        assert_eq!(step.gtid.is_empty(), is_first);
        assert_eq!(step.schema.is_some(), told.is_empty());
        let is_off = step.kind() == v1::event::Kind::Off;
        told.insert(version, (!is_off).then_some(step.row));
    }
    assert_eq!(told, expected);

    let request = v1::ExplainRequest {
        feed: FEED.into(),
        key: Key::from_u64(key).to_bytes(),
    };
    let explained = server.client().await.explain(request).await;
    let explained = explained.unwrap().into_inner();
    assert_eq!(explained.bucket, 1);
    let (last, row) = expected.last_key_value().unwrap();
    let names: Vec<&str> = explained.stages.iter().map(|stage| &*stage.name).collect();
    assert_eq!(names, ["log", "store", "server"]);
    for stage in &explained.stages {
        assert!(stage.known, "{stage:?}");
        assert_eq!(stage.row, *row, "{stage:?}");
        assert!(stage.version >= last.get(), "{stage:?}");
        let since = if stage.name == "server" {
            world.writer.version()
        } else {
            *last
        };
        assert_eq!(stage.since, since.get(), "{stage:?}");
        assert_eq!(stage.gtid.is_empty(), stage.name == "server", "{stage:?}");
    }
    assert!(!explained.stages[2].executed.is_empty());
    server.ended().await;
}
