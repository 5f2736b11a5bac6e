//! Every error text of the store, with what it means.

use onair_model::{Bucket, Epoch, Version};
use onair_proto::convert::ConvertError;
use onair_store::head::LoadError;
use onair_store::past::{Moment, PastError};
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
    past(&mut texts);
    runs(&mut texts);
    texts.check(env!("CARGO_MANIFEST_DIR"));
}

/// What may be wrong with a read of the past.
fn past(texts: &mut Texts) {
    let version = |sequence| Version::new(Epoch::new(3).unwrap(), sequence).unwrap();
    let feed = || "room".into();
    let bucket = Bucket::new(3);
    error_texts!(texts, PastError:
        TooOld = PastError::TooOld {
            feed: feed(),
            asked: Moment::Time(1_795_341_600_000_000),
            version: version(1842),
            time: 1_795_345_200_000_000,
        } => "merger.history_window has passed over the moment, or nothing was kept then.",
            "Ask for the moment given or a later one; keep more from now on with a longer window.";
        Ahead = PastError::Ahead { feed: feed(), asked: Moment::Version(version(1900)), newest: version(1842) } =>
            "The version was not folded yet, or never will be.",
            "Ask again in a second; `onair get` and `onair dump` show what the server has now.";
        Nothing = PastError::Nothing { feed: feed() } => "The first scan is not done, or the merger has not folded it yet.", "As the text says.";
        Unstated = PastError::Unstated { feed: feed(), bucket, version: version(1842) } =>
            "Records of the bucket were lost and its content was stated anew, so that nobody knows what it held in \
             between; or no transaction had this version.", "Ask for the version of a full cut: any time gives one.";
        Undescribed = PastError::Undescribed { feed: feed(), epoch: Epoch::new(2).unwrap() } =>
            "The schema was replaced longer ago than the window.", "As the text says.";
        Gone = PastError::Gone { feed: feed(), bucket, version: version(1842), source: missing() } =>
            "The merger deletes what the window has passed over, and did so between two reads; or something else deletes \
             from the store.", "As the text says. If moments within the window say so, find out who deletes.";
        Digest = PastError::Digest { feed: feed(), bucket, version: version(1842) } =>
            "A segment is not what was written. Nothing of it is shown.", "As the text says. What is live now does not depend on it.";
        Sum = PastError::Sum { feed: feed(), version: version(1842) } =>
            "Every bucket gives its own digest and all of them not the feed's. Nothing of it is shown.", "As the text says.";
        Load = PastError::Load { feed: feed(), source: LoadError::Store(missing()) } =>
            "The store does not answer, or something in it cannot be read.", "As the cause says.";
    );
}

/// What may be wrong with a run.
fn runs(texts: &mut Texts) {
    let feed = || "room".into();
    let id = || "1qk3f97c".into();
    error_texts!(texts, RunError:
        TooMany = RunError::TooMany { feed: feed(), standing: 8 } =>
            "More runs were asked for than the reader has come to.", "Wait, or cancel those that nobody needs.";
        Unknown = RunError::Unknown { feed: feed(), id: id() } =>
            "The id is another, or the run is older than the history window.", "Use an id that is listed.";
        NotNow = RunError::NotNow {
            feed: feed(),
            id: id(),
            state: State::Running,
            wished: "approved",
            remedy: "only what the guard holds needs an approval",
        } => "What is wished of a run does not fit the state that it is in.", "As the text says.";
        Store = RunError::Store(missing()) => "The store did not give or take the run's row.", "As for the store's own text.";
    );
}
