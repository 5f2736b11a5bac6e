//! What is damaged on the way is refused, said, and asked for anew; what was held stays meanwhile.

use onair_sdk::testing::{Answer, Damage};
use onair_sdk::{Problem, Refusal, Version};

use crate::support::{Mirror, agrees, builder, chain, connect, content, room, server, until};

/// Holds a version, gets a damaged later one, and comes to the sound one.
async fn check(damage: Damage) -> (Option<Problem>, u64) {
    let server = server(250);
    let rooms = connect(&server).await;
    let mut mirror = Mirror::new(&rooms);
    mirror.next().await;
    let before = rooms.snapshot();
    // A commit that is not sent as a frame when the damage is for a snapshot.
    if !damage.is_for_frames() {
        server.stall();
    }
    server.on(3, room(33, "changed"));
    server.on(1000, room(1000, "new"));
    server.off(5);
    server.damage_next(damage);
    server.commit();
    if damage.is_for_frames() {
        // A frame that is lost shows by the one after it.
        server.off(6);
        server.commit();
    } else {
        server.resend();
        server.go_on();
    }
    assert!(server.is_damage_done(), "{damage:?}");
    rooms
        .wait_for(server.version())
        .await
        .expect("the feed is open");
    mirror.catch_up();
    agrees(&rooms, &server);
    assert_eq!(
        (before.len(), before.get(&3).expect("room 3").uid),
        (250, 3)
    );
    (rooms.status().last_problem, rooms.status().refusals)
}

fn refusal((problem, refusals): (Option<Problem>, u64)) -> Refusal {
    assert_eq!(refusals, 1);
    match problem {
        Some(Problem::Refused { refusal, .. }) => refusal,
        other => panic!("{other:?}"),
    }
}

/// A damage is refused for the reason that it is.
pub(crate) async fn check_refused(damage: Damage) {
    let refusal = refusal(check(damage).await);
    let expected = match damage {
        Damage::ChunkOfOtherVersion => matches!(refusal, Refusal::ChunkVersion { .. }),
        Damage::ChunkLost | Damage::ChunkTwice => matches!(refusal, Refusal::ChunkIndex(_)),
        Damage::ChunkTruncated | Damage::FrameTruncated => matches!(refusal, Refusal::Malformed(_)),
        Damage::SnapshotSealOfOtherVersion | Damage::FrameSealOfOtherVersion => {
            matches!(refusal, Refusal::SealVersion { .. })
        }
        Damage::FrameLost | Damage::FrameFrom | Damage::FrameTwice => {
            matches!(refusal, Refusal::FrameRange { .. })
        }
        Damage::SnapshotCount | Damage::FrameCount => matches!(refusal, Refusal::Count { .. }),
        _ => matches!(refusal, Refusal::Digest { .. }),
    };
    assert!(expected, "{damage:?}: {refusal}");
}

#[tokio::test(start_paused = true)]
async fn v08_h30_a_chunk_of_another_version_is_refused() {
    check_refused(Damage::ChunkOfOtherVersion).await;
}

#[tokio::test(start_paused = true)]
async fn v08_chunks_lost_twice_truncated_or_changed_are_refused() {
    for damage in [
        Damage::ChunkLost,
        Damage::ChunkTwice,
        Damage::ChunkTruncated,
        Damage::ChunkRowChanged,
    ] {
        check_refused(damage).await;
    }
}

#[tokio::test(start_paused = true)]
async fn v08_chunks_whose_rows_are_swapped_are_the_same_set() {
    let (problem, refusals) = check(Damage::ChunksSwapped).await;
    assert!(problem.is_none() && refusals == 0, "{problem:?}");
}

#[tokio::test(start_paused = true)]
async fn v08_a_snapshot_without_its_own_seal_is_not_shown() {
    check_cut(Damage::SnapshotCut).await;
    for damage in [
        Damage::SnapshotSealOfOtherVersion,
        Damage::SnapshotDigest,
        Damage::SnapshotCount,
    ] {
        check_refused(damage).await;
    }
}

/// A stream that ends in the middle says nothing wrong.
async fn check_cut(damage: Damage) {
    let (problem, refusals) = check(damage).await;
    let ended = matches!(problem, Some(Problem::Ended { .. }));
    assert!(ended && refusals == 0, "{problem:?}");
}

#[tokio::test(start_paused = true)]
async fn v09_a_frame_that_does_not_follow_is_refused() {
    for damage in [Damage::FrameLost, Damage::FrameFrom, Damage::FrameTwice] {
        check_refused(damage).await;
    }
}

#[tokio::test(start_paused = true)]
async fn v09_a_frame_that_does_not_give_its_digest_is_refused() {
    for damage in [
        Damage::FrameKeyLost,
        Damage::FrameRowChanged,
        Damage::FrameDigest,
        Damage::FrameCount,
    ] {
        check_refused(damage).await;
    }
}

#[tokio::test(start_paused = true)]
async fn v09_a_frame_cut_short_or_sealed_as_another_is_not_shown() {
    check_refused(Damage::FrameTruncated).await;
    check_refused(Damage::FrameSealOfOtherVersion).await;
    check_cut(Damage::FrameCut).await;
}

#[tokio::test(start_paused = true)]
async fn damage_asks_for_everything_anew_and_a_cut_does_not() {
    for (damage, anew) in [(Damage::FrameDigest, true), (Damage::FrameCut, false)] {
        let server = server(10);
        let rooms = connect(&server).await;
        server.damage_next(damage);
        server.off(1);
        rooms.wait_for(server.commit()).await.unwrap();
        let have: Vec<Option<Version>> = server
            .subscriptions()
            .iter()
            .map(|subscription| subscription.have)
            .collect();
        assert_eq!((have.len(), have[1].is_none()), (2, anew), "{damage:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn every_damage_to_the_very_first_snapshot_is_survived() {
    for &damage in Damage::ALL.iter().filter(|damage| !damage.is_for_frames()) {
        let server = server(250);
        server.damage_next(damage);
        let rooms = connect(&server).await;
        assert!(server.is_damage_done());
        agrees(&rooms, &server);
    }
}

#[tokio::test(start_paused = true)]
async fn c07_other_content_at_the_version_held_is_refused() {
    let honest = server(10);
    let liar = honest.fork();
    liar.off(1);
    liar.commit();
    honest.off(2);
    honest.commit();
    assert_eq!(liar.version(), honest.version());
    liar.answer(Answer::Whole);
    let rooms = builder(&[&honest, &liar]).connect().await.unwrap();
    let before = content(&rooms.snapshot());
    honest.answer(Answer::Unreachable);
    honest.cut();
    let refused = |problem: &Option<Problem>| {
        matches!(
            problem,
            Some(Problem::Refused {
                refusal: Refusal::OtherContent(_),
                ..
            })
        )
    };
    until(&rooms, |status| refused(&status.last_problem)).await;
    assert_eq!(content(&rooms.snapshot()), before);
    honest.answer(Answer::Well);
    honest.off(3);
    rooms.wait_for(honest.commit()).await.unwrap();
    agrees(&rooms, &honest);
}

#[tokio::test(start_paused = true)]
async fn c07_a_stream_that_goes_on_from_nothing_is_refused() {
    let server = server(10);
    server.answer(Answer::Resume);
    let error = builder(&[&server]).connect().await.unwrap_err();
    assert!(chain(&error).contains("does not hold"), "{error}");
}
