//! Every error text of the store, with what it means.

use onair_proto::convert::ConvertError;
use onair_store::head::LoadError;
use onair_store::runs::{RunError, State};
use onair_store::{SegmentId, StoreError};
use onair_xtask::{error_texts, texts::Texts};

const PLACE: &str = "/var/lib/onair/onair.redb";

fn missing() -> StoreError {
    StoreError::Missing {
        feed: "room".into(),
        segment: SegmentId(7),
        part: 2,
    }
}

#[test]
fn errors() {
    let mut texts = Texts::new();
    error_texts!(texts, StoreError:
        Unavailable = StoreError::Unavailable { reason: format!("{PLACE}: Permission denied (os error 13)") } =>
            "The store did not do what was asked, certainly.",
            "At start: see to the reason given. Later: merger and reader try again by themselves.";
        Unknown = StoreError::Unknown { reason: "the disk failed while it was written".into() } =>
            "A write was begun, and it is not known whether it was done.",
            "Nothing: it is read back, and done again if it was not. See to the disk if it comes again.";
        Missing = missing() => "A head names a segment that is not there: part of the store was deleted or lost.",
            "Nothing at once: the reader states the bucket again. Find out who deletes from the data directory.";
        Full = StoreError::Full { place: PLACE.into(), reason: "No space left on device (os error 28)".into() } =>
            "The disk is full. Nothing is lost: what is not in the store yet stays in the log.",
            "Make room. Readers of the feed are served on from memory; the log fills up and then the reader waits.";
        InUse = StoreError::InUse { place: PLACE.into() } => "Another OnAir process has this data directory open.",
            "Stop it, or give this one another --data-dir.";
        Unreadable = StoreError::Unreadable {
            place: PLACE.into(),
            reason: "not a store, or damaged: bad magic".into(),
            remedy: "put a copy of the file back, or use an empty --data-dir (everything is then scanned again)".into(),
        } => "The file is damaged, of another release, or not OnAir's.",
            "Nothing in it is needed to serve MySQL's present content: an empty data directory begins with a scan. What \
             goes is the lineage (clients get one whole snapshot), field numbers and the history.";
        TooLarge = StoreError::TooLarge {
            what: "one row".into(),
            bytes: 300_000,
            max: 262_144,
            remedy: "leave its largest columns out of the feed",
        } => "A limit of the store is passed.",
            "As the text says.";
    );
    error_texts!(texts, LoadError:
        Store = LoadError::Store(missing()) => "The store did not give a bucket's content.", "As for the store's own text.";
        Damaged = LoadError::Damaged {
            feed: "room".into(),
            what: "the head of bucket 3".into(),
            source: ConvertError::Field("digest"),
        } => "A head or a segment is not what was written.",
            "Nothing at once: the reader states the bucket again. Check the disk.";
        Packed = LoadError::Packed {
            feed: "room".into(),
            what: "part 0 of Segment(00000000000000000000000000000007)".into(),
            source: std::io::Error::other("Unknown frame descriptor"),
        } => "A segment's compressed bytes are not what was written.",
            "Nothing at once: the reader states the bucket again. Check the disk.";
    );
    let feed = || "room".into();
    error_texts!(texts, RunError:
        TooMany = RunError::TooMany { feed: feed(), standing: 8 } =>
            "More runs were asked for than the reader has come to.", "Wait, or cancel those that nobody needs.";
        Unknown = RunError::Unknown { feed: feed(), id: "1qk3f97c".into() } =>
            "The id is another, or the run is older than the history window.", "Use an id that is listed.";
        NotNow = RunError::NotNow {
            feed: feed(),
            id: "1qk3f97c".into(),
            state: State::Running,
            wished: "approved",
            remedy: "only what the guard holds needs an approval",
        } => "What is wished of a run does not fit the state that it is in.", "As the text says.";
        Store = RunError::Store(missing()) => "The store did not give or take the run's row.", "As for the store's own text.";
    );
    texts.check(env!("CARGO_MANIFEST_DIR"));
}
