//! Steps of changes.

use crate::support::{connect, ids, room, server};

#[tokio::test(start_paused = true)]
async fn the_first_step_is_the_whole_content_then_each_net_change_once() {
    let server = server(3);
    let first = server.version();
    let rooms = connect(&server).await;
    let mut changes = rooms.changes();
    let step = changes.next().await.unwrap();
    assert_eq!((step.from, step.to), (None, first));
    assert_eq!(ids(&step), (vec![1, 2, 3], vec![], vec![]));
    assert_eq!(step.reason.as_deref(), Some("first"));

    server.on(2, room(20, "changed"));
    server.on(4, room(4, "new"));
    server.off(1);
    let second = server.commit();
    let step = changes.next().await.unwrap();
    assert_eq!((step.from, step.to, step.merged), (Some(first), second, 0));
    assert_eq!(ids(&step), (vec![4], vec![2], vec![1]));
    assert_eq!(
        (step.change[0].before.uid, step.change[0].after.uid),
        (2, 20)
    );
    assert_eq!(
        (step.reason, step.other_lineage, step.rewound),
        (None, false, false)
    );

    rooms.close().await;
    assert!(changes.next().await.is_none());
}
