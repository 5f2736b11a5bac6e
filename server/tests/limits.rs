//! Limits refuse with a status that says what to do; what is not there is refused by name.

use std::time::Duration;

use onair_log::testing::Workload;
use onair_model::Key;
use onair_proto::v1;
use onair_proto::v1::on_air_client::OnAirClient;
use tokio_stream::StreamExt;
use tonic::{Code, Status};
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

use crate::client::{Client, Said, channel, request};
use crate::support::{FEED, Running, World};

async fn refused(server: &Running, request: v1::SubscribeRequest) -> Status {
    let opened = Client::open(channel(&server.url).await, request).await;
    match opened {
        Ok(_) => panic!("it was let in"),
        Err(status) => status,
    }
}

#[tokio::test(start_paused = true)]
async fn unknown_feeds_and_views_are_refused_by_name() {
    let world = World::new(1, Vec::new()).await;
    let server = world.serving().await;
    let unknown = v1::SubscribeRequest {
        feed: "offers".into(),
        ..request(None)
    };
    let status = refused(&server, unknown).await;
    assert_eq!(status.code(), Code::NotFound);
    assert!(status.message().contains("offers") && status.message().contains(FEED));
    let view = v1::SubscribeRequest {
        view: "berlin".into(),
        ..request(None)
    };
    let status = refused(&server, view).await;
    assert_eq!(status.code(), Code::NotFound);
    assert!(status.message().contains("berlin"), "{status}");
    let mut client = server.client().await;
    let get = v1::GetRequest {
        feed: "offers".into(),
        keys: Vec::new(),
    };
    assert_eq!(client.get(get).await.unwrap_err().code(), Code::NotFound);
    let schema = v1::SchemaRequest {
        feed: "offers".into(),
    };
    assert_eq!(
        client.schema(schema).await.unwrap_err().code(),
        Code::NotFound
    );
    server.ended().await;
}

#[tokio::test(start_paused = true)]
async fn one_client_too_many_is_refused_until_another_leaves() {
    let mut world = World::new(1, Vec::new()).await;
    world.settings.clients_max = 2;
    let server = world.serving().await;
    let one = Client::new(&server.url).await;
    let mut two = Client::new(&server.url).await;
    let status = refused(&server, request(None)).await;
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert!(status.message().contains("another server"), "{status}");
    assert_eq!(server.report().clients, 2);
    drop(one);
    let left = async |server: &Running| server.report().clients == 1;
    server.until("one has left", left).await;
    let mut three = Client::new(&server.url).await;
    let version = world.writer.version();
    three.until(version).await;
    two.until(version).await;
    server.ended().await;
}

#[tokio::test(start_paused = true)]
async fn streams_of_one_connection_take_turns() {
    let mut world = World::new(1, Vec::new()).await;
    world.settings.streams_per_connection = 1;
    let server = world.serving().await;
    let shared = channel(&server.url).await;
    let mut one = Client::open(shared.clone(), request(None)).await.unwrap();
    one.until(world.writer.version()).await;
    let second = Client::open(shared, request(None));
    let mut second = std::pin::pin!(second);
    let waited = tokio::time::timeout(Duration::from_secs(5), &mut second).await;
    assert!(waited.is_err(), "two at once");
    // Another connection is no matter.
    let mut other = Client::new(&server.url).await;
    other.until(world.writer.version()).await;
    drop(one);
    let mut second = second.await.unwrap();
    second.until(world.writer.version()).await;
    server.ended().await;
}

#[tokio::test(start_paused = true)]
async fn requests_that_are_too_large_are_refused() {
    let mut world = World::new(1, Vec::new()).await;
    world.settings.request_bytes_max = 10_000;
    let server = world.serving().await;
    let large = v1::SubscribeRequest {
        client: "x".repeat(20_000),
        ..request(None)
    };
    let status = refused(&server, large).await;
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert!(status.message().contains("10000"), "{status}");
    let fits = v1::SubscribeRequest {
        client: "x".repeat(9_000),
        ..request(None)
    };
    let mut client = Client::open(channel(&server.url).await, fits)
        .await
        .unwrap();
    client.until(world.writer.version()).await;
    let large = v1::GetRequest {
        feed: FEED.into(),
        keys: vec![vec![0; 20_000].into()],
    };
    let status = server.client().await.get(large).await.unwrap_err();
    assert_eq!(status.code(), Code::OutOfRange, "{status}");
    let many = v1::GetRequest {
        feed: FEED.into(),
        keys: vec![Key::from_u64(1).to_bytes(); 1001],
    };
    world.settings.request_bytes_max = 64 << 10;
    let other = world.serving().await;
    let status = other.client().await.get(many).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().contains("1000"), "{status}");
    server.ended().await;
    other.ended().await;
}

#[tokio::test(start_paused = true)]
async fn compressed_requests_are_refused() {
    let world = World::new(1, Vec::new()).await;
    let server = world.serving().await;
    let body = |flag: u8, len: u32, rest: &[u8]| {
        let mut body = vec![flag];
        body.extend_from_slice(&len.to_be_bytes());
        body.extend_from_slice(rest);
        body
    };
    for (body, code) in [
        (Vec::new(), Code::InvalidArgument),
        (body(0, 9, b""), Code::InvalidArgument),
        (body(0, 2, b"\xff\xff"), Code::InvalidArgument),
        (body(1, 2, b"ab"), Code::Unimplemented),
    ] {
        let status = raw(&server, body).await;
        assert_eq!(status, Some(code as i32));
    }
    server.ended().await;
}

/// The gRPC status of a Subscribe with this body.
async fn raw(server: &Running, body: Vec<u8>) -> Option<i32> {
    use tonic::codegen::Service as _;
    let mut channel = channel(&server.url).await;
    let full = tonic::body::Body::new(body::Once::new(body));
    let request = http::Request::post(format!("{}/onair.v1.OnAir/Subscribe", server.url))
        .header("content-type", "application/grpc")
        .body(full)
        .unwrap();
    std::future::poll_fn(|cx| channel.poll_ready(cx))
        .await
        .unwrap();
    let response = channel.call(request).await.unwrap();
    let status = response.headers().get("grpc-status")?;
    status.to_str().unwrap().parse().ok()
}

/// A body of one piece.
mod body {
    use std::convert::Infallible;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use bytes::Bytes;

    pub(super) struct Once(Option<Bytes>);

    impl Once {
        pub(super) fn new(bytes: Vec<u8>) -> Self {
            Once(Some(bytes.into()))
        }
    }

    impl http_body::Body for Once {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<http_body::Frame<Bytes>, Infallible>>> {
            Poll::Ready(self.0.take().map(|bytes| Ok(http_body::Frame::data(bytes))))
        }
    }
}

#[tokio::test(start_paused = true)]
async fn get_before_the_first_cut_says_that_there_is_none() {
    let world = World::new(1, Vec::new()).await;
    let empty: std::sync::Arc<onair_log::memory::MemoryLog> =
        std::sync::Arc::new(onair_log::memory::MemoryLog::new(Default::default()));
    let store = std::sync::Arc::clone(&world.store);
    let server = world.start_on(empty, store).await;
    let get = v1::GetRequest {
        feed: FEED.into(),
        keys: Vec::new(),
    };
    let status = server.client().await.get(get).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    // And a subscriber that waits for it is sent away when the server goes.
    let mut client = Client::new(&server.url).await;
    server.begin_stop();
    assert!(matches!(client.next().await, Said::GoAway(_)));
    server.ended().await;
}

#[tokio::test(start_paused = true)]
async fn schema_status_and_reflection_answer() {
    let mut workload = Workload::new(1, 20, 50);
    let mut world = World::new(2, workload.rows()).await;
    let server = world.serving().await;
    world.publish(&mut workload, &server, 3).await;
    let mut client: OnAirClient<_> = server.client().await;
    let schema = v1::SchemaRequest { feed: FEED.into() };
    let schema = client.schema(schema).await.unwrap().into_inner();
    assert_eq!(schema.schema.unwrap().buckets, 2);
    let status = client.status(v1::StatusRequest {}).await.unwrap();
    let status = status.into_inner();
    assert_eq!(status.build, "onair test");
    let feed = &status.feeds[0];
    assert_eq!(
        feed.seal.as_ref().unwrap().version,
        world.writer.version().get()
    );
    assert_eq!(feed.frames, 4);
    assert!(feed.ready && feed.held.is_empty());
    let mut reflection = ServerReflectionClient::new(channel(&server.url).await);
    let list = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let answers = reflection
        .server_reflection_info(tokio_stream::once(list))
        .await;
    let answer = answers.unwrap().into_inner().next().await.unwrap().unwrap();
    let Some(MessageResponse::ListServicesResponse(list)) = answer.message_response else {
        panic!("no list")
    };
    let names: Vec<_> = list
        .service
        .iter()
        .map(|service| &service.name[..])
        .collect();
    assert!(names.contains(&"onair.v1.OnAir") && names.contains(&"grpc.health.v1.Health"));
    server.ended().await;
}
