//! What a transaction may do, and what it leaves behind.

use super::super::{Gift, RowError, TITLE_MAX, Transaction};
use super::reader::{Reader, live, on_air};
use super::server;

#[test]
fn statements_fail_whole() {
    let server = server(10, 1);
    let before = server.table();
    let check = |work: &dyn Fn(&mut Transaction<'_>)| {
        let committed = server.transaction(|t| work(t));
        assert_eq!(committed, None);
        assert_eq!(server.table(), before);
    };
    check(&|t| assert_eq!(t.insert(on_air(3, "")), Err(RowError::Duplicate(3))));
    check(&|t| {
        let rows = [on_air(50, ""), on_air(51, ""), on_air(50, "")];
        assert_eq!(t.insert_all(rows), Err(RowError::Duplicate(50)));
        assert_eq!(t.get(50), None);
    });
    check(&|t| {
        let long = "é".repeat(TITLE_MAX + 1);
        let refused = t.insert(on_air(50, &long));
        assert_eq!(refused, Err(RowError::TitleTooLong(TITLE_MAX + 1)));
    });
    check(&|t| {
        let mut ids = [20, 4].into_iter();
        let moved = t.update_all([1, 2, 3], |room| room.id = ids.next().unwrap());
        assert_eq!(moved, Err(RowError::Duplicate(4)));
        assert!(t.get(1).is_some() && t.get(20).is_none());
    });
    check(&|t| assert_eq!(t.update(99, |room| room.online = Some(1)), Ok(false)));
    check(&|t| assert_eq!(t.update(3, |room| room.live_status += 0), Ok(false)));
    check(&|t| assert!(!t.delete(99)));
    check(&|t| t.gifts(Vec::new()));
}

#[tokio::test(start_paused = true)]
async fn a_rollback_shows_nowhere() {
    let server = server(10, 1);
    let mut reader = Reader::open(&server).await;
    let (before, written) = (server.table(), server.written());
    let committed = server.transaction(|t| {
        t.insert(on_air(50, "")).unwrap();
        assert!(t.delete(1));
        t.rollback();
    });
    assert_eq!(committed, None);
    assert_eq!(
        (server.table(), server.written()),
        (before, written.clone())
    );
    assert_eq!(server.counts().rollbacks, 1);
    server.transaction(|t| t.insert(on_air(51, "")).unwrap());
    reader.reach(&server.written()).await.unwrap();
    assert_eq!(reader.held, live(&reader.feed, &server.table()));
}

#[tokio::test(start_paused = true)]
async fn everything_in_one_transaction_is_seen_as_its_net_effect() {
    let server = server(40, 4);
    let mut reader = Reader::open(&server).await;
    let one = server.transaction(|t| {
        t.insert(on_air(50, "a")).unwrap();
        t.update(50, |room| room.title = Some("b".into())).unwrap();
        t.update(50, |room| room.id = 60).unwrap();
        t.insert(on_air(50, "c")).unwrap();
        t.delete(50);
        let all = 1..=20;
        t.update_all(all, |room| room.live_status = 1 - room.live_status.min(1))
            .unwrap();
        t.delete_all(30..=35);
        t.gifts(vec![Gift {
            id: 1,
            room_id: 60,
            kind: 1,
            cents: 5,
        }]);
    });
    assert!(one.is_some());
    // One statement over so many rows that it takes several events.
    server.transaction(|t| {
        let rooms = (1_000..3_000).map(|id| on_air(id, "a title of some length"));
        t.insert_all(rooms).unwrap();
    });
    server.transaction(|t| {
        let areas = t.update_all(1_000..2_500, |room| room.area_id = Some(7));
        assert_eq!(areas, Ok(1_500));
    });
    reader.reach(&server.written()).await.unwrap();
    assert_eq!(reader.held, live(&reader.feed, &server.table()));
    assert!(server.table().contains_key(&60));
}
