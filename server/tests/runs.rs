//! Runs through the service: any server takes them, without a reader.

use std::sync::Arc;

use onair_log::testing::Workload;
use onair_proto::v1;
use onair_proto::v1::run::{State, Wish};
use onair_store::runs::{self, Drift};
use tonic::Code;

use crate::support::{FEED, World};

#[tokio::test(start_paused = true)]
async fn runs_are_asked_for_listed_and_moved_without_a_reader() {
    let mut workload = Workload::new(31, 20, 10);
    let world = World::new(2, workload.rows()).await;
    let server = world.start().await;
    let mut client = server.client().await;
    let request = v1::ReconcileRequest {
        feed: FEED.to_owned(),
        dry_run: true,
        rate_max: 7,
    };
    let asked = client
        .reconcile(request.clone())
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        (asked.state(), asked.dry_run, asked.rate_max),
        (State::Asked, true, 7)
    );
    let other = client.reconcile(request).await.unwrap().into_inner();
    let list = |feed: &str, id: &str| v1::RunsRequest {
        feed: feed.to_owned(),
        id: id.to_owned(),
    };
    for feed in ["", FEED] {
        let found = client.runs(list(feed, "")).await.unwrap().into_inner();
        let ids: Vec<&str> = found.runs.iter().map(|run| &*run.id).collect();
        let mut expected = [&*asked.id, &*other.id];
        expected.sort_unstable();
        assert_eq!(ids, expected);
    }
    let wish = |id: &str, wish: Wish| v1::MoveRunRequest {
        feed: String::new(),
        id: id.to_owned(),
        wish: wish as i32,
    };
    let paused = client.move_run(wish(&asked.id, Wish::Pause)).await.unwrap();
    assert_eq!(paused.into_inner().state(), State::Paused);
    let over = client
        .move_run(wish(&asked.id, Wish::Cancel))
        .await
        .unwrap();
    assert_eq!(over.into_inner().state(), State::Cancelled);

    let refused = [
        (wish(&asked.id, Wish::Resume), Code::FailedPrecondition),
        (wish("nothing", Wish::Resume), Code::NotFound),
        (wish(&other.id, Wish::Unspecified), Code::InvalidArgument),
    ];
    for (request, code) in refused {
        let status = client.move_run(request).await.unwrap_err();
        assert_eq!(status.code(), code, "{status:?}");
    }
    let unknown = client.runs(list("nothing", "")).await.unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound);
    let unknown = client.runs(list(FEED, "nothing")).await.unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound);
    server.ended().await;
}

#[tokio::test(start_paused = true)]
async fn examples_come_with_one_run_and_not_with_a_list() {
    let mut workload = Workload::new(32, 20, 10);
    let world = World::new(2, workload.rows()).await;
    let server = world.start().await;
    let mut client = server.client().await;
    let asked = runs::Asked {
        feed: FEED.into(),
        origin: runs::Origin::Schedule,
        dry_run: false,
        rate_max: None,
    };
    let mut run = runs::Run::new(asked, 1_795_384_800_000_000);
    run.begin("reader", 1_795_384_801_000_000);
    run.drift = Some(Drift {
        extra: 1,
        examples: vec![runs::Difference {
            key: onair_model::Key::copy_from(b"1"),
            sides: runs::Sides::Extra {
                held: onair_model::Row::new("row".into()),
            },
        }],
        ..Drift::default()
    });
    runs::save(&*world.store, None, run.clone()).await.unwrap();
    let mut found = async |id: &Arc<str>| {
        let request = v1::RunsRequest {
            feed: String::new(),
            id: id.to_string(),
        };
        let mut runs = client.runs(request).await.unwrap().into_inner().runs;
        assert_eq!(runs.len(), 1);
        runs::Run::from_wire(runs.remove(0)).unwrap()
    };
    assert_eq!(found(&run.id).await, run);
    let mut listed = run.clone();
    listed.drift.as_mut().unwrap().examples.clear();
    assert_eq!(found(&"".into()).await, listed);
    server.ended().await;
}
