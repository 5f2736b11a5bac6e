//! Rules left out, to see that the tests notice.

use std::panic::{AssertUnwindSafe, catch_unwind};

use onair_model::plant::{self, Bug};
use onair_sdk::testing::Damage;

use crate::damage;

/// Whether a damage passes as if nothing had been damaged, or is refused as it should be.
fn is_noticed(bugs: &[Bug], damage: Damage) -> bool {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime
        .enable_all()
        .start_paused(true)
        .build()
        .expect("a runtime");
    let run = || runtime.block_on(damage::check_refused(damage));
    // On this thread only: the runtime has no other.
    let ended = plant::with(bugs, || catch_unwind(AssertUnwindSafe(run)));
    ended.is_err()
}

#[test]
fn planted_chunks_spliced_digest_ignored_and_frame_range_ignored_are_noticed() {
    let cases: [(Bug, &[Damage]); 3] = [
        (Bug::ChunksSpliced, &[Damage::ChunkOfOtherVersion]),
        (
            Bug::DigestIgnored,
            &[
                Damage::ChunkRowChanged,
                Damage::SnapshotDigest,
                Damage::FrameKeyLost,
                Damage::FrameRowChanged,
                Damage::FrameCount,
            ],
        ),
        (Bug::FrameRangeIgnored, &[Damage::FrameLost]),
    ];
    for (bug, damages) in cases {
        for &damage in damages {
            assert!(
                !is_noticed(&[], damage),
                "{damage:?} fails without a planted bug"
            );
            assert!(
                is_noticed(&[bug], damage),
                "{} passes {damage:?}",
                bug.name()
            );
        }
    }
}
