use super::*;
use std::num::NonZeroU16;

use onair_model::schema::Schema;
use onair_model::{Buckets, Gtid, GtidSet, Lineage, Proven, Row};
use onair_proto::entries;

use crate::raw::Raw;

type Rows<'a> = &'a [(u64, Option<&'static str>)];

fn version(text: &str) -> Version {
    text.parse().expect("a version")
}

fn schema() -> Arc<Schema> {
    Arc::new(Schema {
        feed: "f".into(),
        table: "t".into(),
        key: Vec::new(),
        columns: Vec::new(),
    })
}

fn row(text: &'static str) -> Row {
    Row::new(text.as_bytes().into())
}

fn entries(rows: Rows<'_>) -> Entries {
    let rows: Vec<(Key, Option<Row>)> = rows
        .iter()
        .map(|(key, text)| (Key::from_u64(*key), text.map(row)))
        .collect();
    Entries::new(entries::encode(
        rows.iter().map(|(key, row)| (key, row.as_ref())),
    ))
}

fn whole(at: &str, count: u64) -> Message {
    Message::Start(Start::Full(Whole {
        reason: "first".into(),
        lineage: Lineage::new(1),
        schema: schema(),
        layout: Buckets::new(NonZeroU16::new(3).expect("not zero")),
        count,
        version: version(at),
    }))
}

fn resume() -> Message {
    Message::Start(Start::Resume {
        lineage: Lineage::new(1),
        schema: Some(schema()),
    })
}

fn chunk(at: &str, index: u32, rows: Rows<'_>) -> Message {
    Message::Chunk {
        version: version(at),
        index,
        entries: entries(rows),
    }
}

fn frame(from: &str, to: &str, exact: bool, rows: Rows<'_>) -> Message {
    Message::Frame {
        from: version(from),
        to: version(to),
        exact,
        entries: entries(rows),
    }
}

/// The seal of exactly these rows.
fn seal(at: &str, rows: Rows<'_>) -> Message {
    Message::Seal(sealed(at, rows))
}

fn sealed(at: &str, rows: Rows<'_>) -> Seal {
    let digests = rows
        .iter()
        .filter_map(|(key, text)| Some(Digest::of(&Key::from_u64(*key), &row((*text)?))));
    Seal {
        lineage: Lineage::new(1),
        version: version(at),
        digest: digests.fold(Digest::EMPTY, Digest::plus),
        count: rows.len() as u64,
        commit_time: 0,
        source_time: 0,
        gtid: None,
        executed: Arc::new(GtidSet::mariadb()),
        proven: None,
        rewound: false,
    }
}

fn progress(at: &str, executed: &str) -> Message {
    Message::Progress(Progress {
        version: version(at),
        source_time: 9,
        executed: executed.parse().expect("a set"),
        proven: Some(Proven {
            version: version(at),
            at: 8,
        }),
        held: String::new(),
        age_ms: 7,
    })
}

const HELD: Rows<'_> = &[(1, Some("one")), (2, Some("two"))];

/// A session that holds version 2-5 with [`HELD`] and was resumed.
fn following() -> Session<Raw> {
    let mut first = Session::new(None, true, 100);
    let mut take = |message| first.take(message).expect("it is sound");
    take(whole("2-5", 2));
    take(chunk("2-5", 0, HELD));
    assert!(matches!(take(seal("2-5", HELD)), Outcome::Version(_)));
    let mut session = Session::new(first.held(), true, 100);
    session.take(resume()).expect("it is sound");
    session
}

/// Takes messages up to the last, which is refused.
#[track_caller]
fn refused(mut session: Session<Raw>, messages: Vec<Message>) -> Refusal {
    let last = messages.len() - 1;
    for (at, message) in messages.into_iter().enumerate() {
        match session.take(message) {
            Err(Failure::Refused(refusal)) if at == last => return refusal,
            Ok(Outcome::Nothing) if at < last => {}
            outcome => panic!("message {at}: {outcome:?}"),
        }
    }
    panic!("the last message was taken");
}

/// Takes messages of which only the last shows something: its rows, ascending.
#[track_caller]
fn shown(session: &mut Session<Raw>, messages: Vec<Message>) -> Vec<(u64, Vec<u8>)> {
    let last = messages.len() - 1;
    for (at, message) in messages.into_iter().enumerate() {
        match session.take(message) {
            Ok(Outcome::Version(_)) if at == last => {
                return rows(&session.held().expect("it holds a version").content);
            }
            Ok(Outcome::Nothing) if at < last => {}
            outcome => panic!("message {at}: {outcome:?}"),
        }
    }
    panic!("the last message showed nothing");
}

fn rows(content: &Content<Raw>) -> Vec<(u64, Vec<u8>)> {
    let mut rows: Vec<(u64, Vec<u8>)> = content
        .iter()
        .map(|(key, row)| (key.as_u64().unwrap_or(0), row.bytes().to_vec()))
        .collect();
    rows.sort();
    rows
}

fn empty() -> Session<Raw> {
    Session::new(None, true, 100)
}

#[test]
fn messages_out_of_place_are_refused() {
    let unexpected = |session: Session<Raw>, messages: Vec<Message>| {
        let refusal = refused(session, messages);
        assert!(matches!(refusal, Refusal::Unexpected(_)), "{refusal}");
    };
    unexpected(empty(), vec![chunk("2-5", 0, HELD)]);
    unexpected(empty(), vec![seal("2-5", HELD)]);
    unexpected(empty(), vec![progress("2-5", "")]);
    unexpected(following(), vec![chunk("2-5", 0, HELD)]);
    unexpected(following(), vec![seal("2-5", HELD)]);
    unexpected(
        following(),
        vec![whole("2-6", 2), frame("2-5", "2-6", false, &[])],
    );
    unexpected(
        empty(),
        vec![whole("2-5", 2), chunk("2-5", 0, &[(1, None)])],
    );
    assert_eq!(
        refused(empty(), vec![frame("2-5", "2-6", false, &[])]),
        Refusal::NothingToResume
    );
}

#[test]
fn h30_a_chunk_of_another_version_is_refused_also_with_the_right_rows() {
    let messages = vec![whole("2-5", 2), chunk("2-4", 0, HELD)];
    let refusal = Refusal::ChunkVersion {
        snapshot: version("2-5"),
        chunk: version("2-4"),
    };
    assert_eq!(refused(empty(), messages), refusal);
}

#[test]
fn v08_chunks_come_in_any_order_and_each_once() {
    let (one, two) = (&HELD[..1], &HELD[1..]);
    let messages = vec![
        whole("2-5", 2),
        chunk("2-5", 1, two),
        chunk("2-5", 0, one),
        seal("2-5", HELD),
    ];
    assert_eq!(shown(&mut empty(), messages).len(), 2);
    let messages = vec![whole("2-5", 2), chunk("2-5", 0, one), chunk("2-5", 0, two)];
    assert_eq!(refused(empty(), messages), Refusal::ChunkIndex(0));
    let messages = vec![
        whole("2-5", 2),
        chunk("2-5", 0, one),
        chunk("2-5", 2, two),
        seal("2-5", HELD),
    ];
    assert_eq!(refused(empty(), messages), Refusal::ChunkIndex(1));
}

#[test]
fn a_snapshot_holds_each_key_once_and_as_many_rows_as_it_says() {
    let twice = vec![
        whole("2-5", 2),
        chunk("2-5", 0, &[(1, Some("one")), (1, Some("two"))]),
    ];
    assert_eq!(refused(empty(), twice), Refusal::KeyTwice);
    let same = vec![
        whole("2-5", 2),
        chunk("2-5", 0, &[(1, Some("one")), (1, Some("one"))]),
    ];
    assert_eq!(refused(empty(), same), Refusal::KeyTwice);
    assert_eq!(
        refused(empty(), vec![whole("2-5", 1), chunk("2-5", 0, HELD)]),
        Refusal::TooMany(1)
    );
    assert_eq!(
        refused(empty(), vec![whole("2-5", 101)]),
        Refusal::TooMany(100)
    );
    let fewer = vec![
        whole("2-5", 3),
        chunk("2-5", 0, HELD),
        seal("2-5", &[HELD[0], HELD[1], (3, Some("x"))]),
    ];
    assert!(matches!(refused(empty(), fewer), Refusal::Digest { .. }));
}

#[test]
fn resuming_needs_what_is_resumed() {
    assert_eq!(refused(empty(), vec![resume()]), Refusal::NothingToResume);
    let held = following().held();
    // Asked for everything anew, nothing is gone on with.
    assert_eq!(
        refused(Session::new(held.clone(), false, 100), vec![resume()]),
        Refusal::NothingToResume
    );
    let other = Message::Start(Start::Resume {
        lineage: Lineage::new(2),
        schema: None,
    });
    assert_eq!(
        refused(Session::new(held.clone(), true, 100), vec![other]),
        Refusal::Lineage
    );
    let columns = Arc::new(Schema {
        table: "other".into(),
        ..Schema::clone(&schema())
    });
    let other = Message::Start(Start::Resume {
        lineage: Lineage::new(1),
        schema: Some(columns),
    });
    assert_eq!(
        refused(Session::new(held, true, 100), vec![other]),
        Refusal::Schema
    );
}

#[test]
fn v02_frames_apply_within_their_range_only() {
    let after: Rows<'_> = &[(1, Some("one")), (3, Some("three"))];
    let changes: Rows<'_> = &[(2, None), (3, Some("three"))];
    for (from, exact) in [("2-5", true), ("2-5", false), ("2-0", false)] {
        let messages = vec![frame(from, "2-8", exact, changes), seal("2-8", after)];
        assert_eq!(shown(&mut following(), messages).len(), 2);
    }
    for (from, to, exact) in [
        ("2-6", "2-8", false),
        ("2-4", "2-8", true),
        ("2-3", "2-5", false),
        ("2-5", "2-5", true),
        ("1-5", "1-8", false),
        ("2-5", "3-0", false),
    ] {
        let refusal = refused(following(), vec![frame(from, to, exact, changes)]);
        let (from, to) = (version(from), version(to));
        assert_eq!(
            refusal,
            Refusal::FrameRange {
                from,
                to,
                ours: version("2-5")
            }
        );
    }
}

#[test]
fn nothing_shows_before_its_seal_and_frames_may_share_one() {
    let mut session = following();
    let messages = vec![
        frame("2-5", "2-6", false, &[(3, Some("three"))]),
        frame("2-6", "2-7", false, &[(1, None)]),
        seal("2-7", &[(2, Some("two")), (3, Some("three"))]),
    ];
    assert_eq!(
        shown(&mut session, messages),
        [(2, b"two".to_vec()), (3, b"three".to_vec())]
    );
    let skips = vec![
        frame("2-5", "2-6", false, &[]),
        frame("2-7", "2-8", false, &[]),
    ];
    assert!(matches!(
        refused(following(), skips),
        Refusal::FrameRange { .. }
    ));
}

#[test]
fn a_start_begins_anew_whatever_was_under_way() {
    let mut session = following();
    let messages = vec![
        frame("2-5", "2-6", false, &[(3, Some("lost"))]),
        whole("2-7", 9),
        chunk("2-7", 0, &[(4, Some("lost"))]),
        whole("2-8", 1),
        chunk("2-8", 0, &HELD[..1]),
        seal("2-8", &HELD[..1]),
    ];
    assert_eq!(shown(&mut session, messages), [(1, b"one".to_vec())]);
    // And frames go on from there.
    let messages = vec![frame("2-8", "2-9", false, &[(1, None)]), seal("2-9", &[])];
    assert_eq!(shown(&mut session, messages), []);
}

#[test]
fn seals_must_be_of_what_came_before_them() {
    let frames = |sealed| vec![frame("2-5", "2-6", false, &[]), sealed];
    let refusal = refused(following(), frames(seal("2-7", HELD)));
    assert_eq!(
        refusal,
        Refusal::SealVersion {
            expected: version("2-6"),
            sealed: version("2-7")
        }
    );
    let other = Message::Seal(Seal {
        lineage: Lineage::new(2),
        ..sealed("2-6", HELD)
    });
    assert_eq!(refused(following(), frames(other)), Refusal::Lineage);
    let count = Message::Seal(Seal {
        count: 3,
        ..sealed("2-6", HELD)
    });
    let refusal = refused(following(), frames(count));
    assert_eq!(
        refusal,
        Refusal::Count {
            version: version("2-6"),
            stated: 3,
            found: 2
        }
    );
    let other = Message::Seal(Seal {
        lineage: Lineage::new(2),
        ..sealed("2-6", HELD)
    });
    let messages = vec![whole("2-6", 2), chunk("2-6", 0, HELD), other];
    assert_eq!(refused(following(), messages), Refusal::Lineage);
}

#[test]
fn transactions_add_up_over_seals_and_progress() {
    let mut session = following();
    let executed = |session: &mut Session<Raw>, message: Message| match session.take(message) {
        Ok(Outcome::Version(_) | Outcome::Progress(..)) => {
            let held = session.held().expect("it holds a version");
            held.seal.executed.to_string()
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(executed(&mut session, progress("2-5", "0-1-7")), "0-1-7");
    // Of another version: it says nothing of ours.
    assert!(matches!(
        session.take(progress("2-6", "0-1-99")),
        Ok(Outcome::Nothing)
    ));
    assert!(matches!(
        session.take(frame("2-5", "2-6", false, &[])),
        Ok(Outcome::Nothing)
    ));
    assert!(matches!(
        session.take(progress("2-5", "0-1-99")),
        Ok(Outcome::Nothing)
    ));
    let gtid: Gtid = "1-1-3".parse().expect("a gtid");
    let mut added = GtidSet::mariadb();
    added.insert(&gtid);
    let more = Seal {
        executed: Arc::new(added),
        gtid: Some(gtid),
        ..sealed("2-6", HELD)
    };
    assert_eq!(executed(&mut session, Message::Seal(more)), "0-1-7,1-1-3");
    let proven = session.held().and_then(|held| held.seal.proven);
    assert_eq!(
        proven,
        Some(Proven {
            version: version("2-5"),
            at: 8
        })
    );
}

#[test]
fn rows_are_read_again_when_the_columns_change() {
    let columns = Arc::new(Schema {
        table: "other".into(),
        ..Schema::clone(&schema())
    });
    for (columns, layout, is_shared) in [
        (schema(), 3, true),
        (schema(), 5, true),
        (columns, 3, false),
    ] {
        let mut session = following();
        let before = session.held().expect("it holds a version").content;
        let Message::Start(Start::Full(whole)) = whole("2-6", 2) else {
            unreachable!()
        };
        let layout = Buckets::new(NonZeroU16::new(layout).expect("not zero"));
        let whole = Whole {
            schema: columns.clone(),
            layout,
            ..whole
        };
        let start = Message::Start(Start::Full(whole));
        shown(
            &mut session,
            vec![start, chunk("2-6", 0, HELD), seal("2-6", HELD)],
        );
        let after = session.held().expect("it holds a version").content;
        for (key, row) in after.iter() {
            let held = before.get(key).expect("the same keys");
            assert_eq!(
                (row.bytes().as_ptr() == held.bytes().as_ptr(), row.schema()),
                (is_shared, &columns)
            );
        }
        // The same rows, however they lie.
        Content::differing(&before, &after, None, |key, _, _| panic!("{key:?} differs"));
    }
}

#[test]
fn a_large_frame_comes_in_pieces() {
    let after: Rows<'_> = &[(1, Some("six")), (3, Some("three"))];
    for exact in [false, true] {
        let pieces = || {
            [
                frame("2-5", "2-6", exact, &after[..1]),
                frame("2-5", "2-6", exact, &[(2, None)]),
                frame("2-5", "2-6", exact, &after[1..]),
            ]
        };
        let whole = pieces().into_iter().chain([seal("2-6", after)]).collect();
        assert_eq!(shown(&mut following(), whole).len(), 2);
        // Without one of them it is not what the seal says.
        let lacking = pieces().into_iter().skip(1).chain([seal("2-6", after)]);
        assert!(matches!(
            refused(following(), lacking.collect()),
            Refusal::Digest { .. }
        ));
    }
    // Another range is another frame, which must follow.
    let other = vec![
        frame("2-5", "2-7", false, &after[..1]),
        frame("2-5", "2-6", false, &after[1..]),
    ];
    assert!(matches!(
        refused(following(), other),
        Refusal::FrameRange { .. }
    ));
}

#[test]
fn after_a_frame_without_its_seal_there_is_nothing_to_go_on_from() {
    let unsealed = || frame("2-5", "2-6", false, &[(1, None)]);
    assert_eq!(
        refused(following(), vec![unsealed(), resume()]),
        Refusal::NothingToResume
    );
    let backwards = Refusal::Backwards {
        ours: version("2-5"),
        theirs: version("2-4"),
    };
    assert_eq!(
        refused(following(), vec![unsealed(), whole("2-4", 2)]),
        backwards
    );
    let messages = vec![
        unsealed(),
        whole("2-6", 2),
        chunk("2-6", 0, HELD),
        seal("2-6", HELD),
    ];
    assert_eq!(shown(&mut following(), messages).len(), 2);
}

#[test]
fn rows_that_somebody_was_shown_are_not_changed_in_place() {
    let mut session = following();
    let shown = session.held().expect("it holds a version").content;
    let rows_before = rows(&shown);
    for (from, to, row) in [("2-5", "2-6", "six"), ("2-6", "2-7", "seven")] {
        let changed = &[(1, Some(row)), HELD[1]];
        let messages = [frame(from, to, false, &changed[..1]), seal(to, changed)];
        for message in messages {
            session.take(message).expect("it is sound");
        }
        let content = session.content.as_ref().expect("it holds rows");
        assert_eq!(rows(content)[0].1, row.as_bytes());
    }
    assert_eq!(rows(&shown), rows_before);
}

#[test]
fn c06_a_message_of_a_later_server_is_passed_over() {
    let mut session = following();
    assert!(matches!(
        session.take(Message::Unknown),
        Ok(Outcome::Nothing)
    ));
    let messages = vec![
        frame("2-5", "2-6", false, &[(1, None)]),
        seal("2-6", &HELD[1..]),
    ];
    assert_eq!(shown(&mut session, messages).len(), 1);
}
