//! Planted bugs: places where the proofs can leave a rule out, to see that leaving it out is noticed.
//!
//! Without the feature `plant` every question here is a constant `false` and compiles away. With it, a test plants a
//! bug on its thread (`with`), and the environment of a process plants one in all of it (`ONAIR_PLANT=name`) or
//! ends it at a failpoint (`ONAIR_FAILPOINT=name:hits`).

macro_rules! bugs {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// A rule that can be left out.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Bug { $($(#[$doc])* $name,)* }

        impl Bug {
            /// All of them.
            pub const ALL: &[Bug] = &[$(Bug::$name,)*];

            /// Its name on the command line.
            pub const fn name(self) -> &'static str {
                match self { $(Bug::$name => $text,)* }
            }

            /// The one of this name.
            pub fn named(name: &str) -> Option<Bug> {
                Bug::ALL.iter().copied().find(|bug| bug.name() == name)
            }
        }
    };
}

bugs! {
    /// fold: a record of another lineage is applied as if it were of ours.
    ForeignRecordTaken = "foreign-record-taken",
    /// fold: a record of an older epoch is applied as if it were of ours.
    OlderEpochTaken = "older-epoch-taken",
    /// fold: a commit of a newer epoch is taken without Replace or Carry.
    NewerEpochTaken = "newer-epoch-taken",
    /// fold: a record whose `prev` lies above ours is folded over the hole.
    GapIgnored = "gap-ignored",
    /// fold: a record of a chain that branched off below ours is folded.
    BranchFolded = "branch-folded",
    /// fold: a new commit at or below `through` is taken.
    LateCommitTaken = "late-commit-taken",
    /// fold: digest and count after a fold are not compared.
    DigestUnchecked = "digest-unchecked",
    /// fold: a duplicate whose last version is ours is not compared.
    DuplicateUnchecked = "duplicate-unchecked",
    /// fold: `claimed` does not rise when a record names data that we lack.
    ClaimForgotten = "claim-forgotten",
    /// fold: commits that we have are applied again instead of being skipped.
    CommitsRepeated = "commits-repeated",
    /// fold: a Replace below our data version is adopted.
    ReplaceBackwards = "replace-backwards",
    /// fold: a Replace above our data version but at or below `through` is adopted.
    ReplaceLate = "replace-late",
    /// fold: a Replace at our data version is not compared.
    ReplaceUnchecked = "replace-unchecked",
    /// fold: a Carry is taken by a bucket at another state.
    CarryUnchecked = "carry-unchecked",
    /// parts: a set is given on before all of it is there.
    PartsIncomplete = "parts-incomplete",
    /// parts: a set that the chain has passed is kept.
    PartsKept = "parts-kept",
    /// cut: one of another lineage is taken as if it were of ours.
    ForeignCutTaken = "foreign-cut-taken",
    /// cut: what one of another lineage names counts as claimed.
    ForeignCutClaims = "foreign-cut-claims",
    /// cut: one older than ours is taken.
    OlderCutTaken = "older-cut-taken",
    /// cut: a partial cut is taken over a hole.
    CutHoleTaken = "cut-hole-taken",
    /// cut: a partial cut is taken into another epoch.
    CutEpochCrossed = "cut-epoch-crossed",
    /// cut: a cut of our version with another digest is not noticed.
    CutUnchecked = "cut-unchecked",
    /// publish: buckets short of the vector are published.
    VectorUnchecked = "vector-unchecked",
    /// publish: commits after the cut are not held back.
    LaterNotHeld = "later-not-held",
    /// publish: a fork of a bucket holds nothing back.
    ForkPublished = "fork-published",
    /// publish: a fork of the cuts holds nothing back.
    CutForkPublished = "cut-fork-published",
    /// publish: the sums are not compared.
    SumUnchecked = "sum-unchecked",
    /// publish: a later epoch is shown whatever its executed set.
    ContainmentUnchecked = "containment-unchecked",
    /// frame: one that spans a Replace is not marked exact.
    ExactForgotten = "exact-forgotten",
    /// frame: a key whose net change is nothing is left out.
    NetNothingDropped = "net-nothing-dropped",
    /// frame: digest and count at its end are not compared.
    FrameUnchecked = "frame-unchecked",
    /// frame: applied to a replica before its range.
    FrameRangeIgnored = "frame-range-ignored",
    /// decoder: the second change of a transaction to one bucket is dropped.
    SiblingDropped = "sibling-dropped",
    /// reader: a cut is written without the buckets whose records went before it.
    CutRecordsForgotten = "cut-records-forgotten",
    /// reader: fingerprints are not compared on resume.
    FingerprintSkipped = "fingerprint-skipped",
    /// scan: only keys touched up to `high` are taken from the stream.
    WindowClosedAtHigh = "window-closed-at-high",
    /// decoder: signed integers are read as unsigned.
    SignLost = "sign-lost",
    /// sdk: chunks of two versions are put into one snapshot.
    ChunksSpliced = "chunks-spliced",
    /// server: resuming starts one frame too late.
    ResumeOffByOne = "resume-off-by-one",
    /// decoder: an Off is lost.
    OffLost = "off-lost",
    /// sdk and server: a digest that differs is accepted.
    DigestIgnored = "digest-ignored",
    /// reader: the checkpoint passes an open XA PREPARE.
    CheckpointPastXa = "checkpoint-past-xa",
    /// reader: the checkpoint is where it stands, not what is acknowledged.
    CheckpointUnacknowledged = "checkpoint-unacknowledged",
    /// store: a cell is moved whatever token it has.
    TokenIgnored = "token-ignored",
    /// store: an outcome that is not known counts as lost.
    UnknownIsLost = "unknown-is-lost",
    /// store: an outcome that is not known counts as won.
    UnknownIsWon = "unknown-is-won",
    /// merger: a base is written of the newest content, also beyond the cuts head.
    BaseBeyondCuts = "base-beyond-cuts",
    /// store: what a head names expires.
    SegmentsExpire = "segments-expire",
    /// merger: the head names an offset beyond what is folded.
    OffsetBeforeFold = "offset-before-fold",
    /// store: any checkpoint replaces any other.
    ZombieCheckpoint = "zombie-checkpoint",
    /// store: who lost an epoch's number uses it all the same.
    EpochTwice = "epoch-twice",
}

#[cfg(feature = "plant")]
mod active {
    use std::cell::Cell;
    use std::sync::{LazyLock, Mutex, PoisonError};

    use super::Bug;

    /// `ONAIR_PLANT=name`: the bug that this process runs with, from its first question on.
    static PROCESS: LazyLock<u64> = LazyLock::new(|| {
        variable("ONAIR_PLANT").map_or(0, |name| match Bug::named(&name) {
            Some(bug) => mask(&[bug]),
            None => panic!("ONAIR_PLANT={name}: no bug of that name"),
        })
    });

    /// `ONAIR_FAILPOINT=name:hits`: where this process ends as if by `kill -9`, and how many hits are left.
    static FAIL: LazyLock<Option<(String, Mutex<u32>)>> = LazyLock::new(|| {
        let text = variable("ONAIR_FAILPOINT")?;
        match text
            .rsplit_once(':')
            .map(|(name, hits)| (name, hits.parse()))
        {
            Some((name, Ok(hits))) => Some((name.to_owned(), Mutex::new(hits))),
            _ => panic!("ONAIR_FAILPOINT={text}: not a name, a colon and a number"),
        }
    });

    thread_local! {
        static THREAD: Cell<u64> = const { Cell::new(0) };
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "not configuration: a test's trigger, absent from real builds"
    )]
    fn variable(name: &str) -> Option<String> {
        std::env::var(name).ok()
    }

    /// Runs `f` with bugs planted on this thread.
    pub fn with<T>(bugs: &[Bug], f: impl FnOnce() -> T) -> T {
        let before = THREAD.replace(mask(bugs));
        let result = f();
        THREAD.set(before);
        result
    }

    pub(super) fn reach(name: &str) {
        if let Some((wanted, hits)) = &*FAIL
            && wanted == name
        {
            let mut hits = hits.lock().unwrap_or_else(PoisonError::into_inner);
            *hits = hits.saturating_sub(1);
            if *hits == 0 {
                std::process::abort();
            }
        }
    }

    fn mask(bugs: &[Bug]) -> u64 {
        bugs.iter().fold(0, |mask, bug| mask | 1 << (*bug as u64))
    }

    pub(super) fn planted(bug: Bug) -> bool {
        (*PROCESS | THREAD.get()) & (1 << (bug as u64)) != 0
    }
}

#[cfg(feature = "plant")]
pub use active::with;

/// A place where a test may end the process as if by `kill -9`.
#[inline]
pub fn failpoint(name: &'static str) {
    #[cfg(feature = "plant")]
    active::reach(name);
    #[cfg(not(feature = "plant"))]
    let _ = name;
}

/// Whether a rule is left out here.
#[inline]
pub fn planted(bug: Bug) -> bool {
    #[cfg(feature = "plant")]
    return active::planted(bug);
    #[cfg(not(feature = "plant"))]
    {
        let _ = bug;
        false
    }
}
