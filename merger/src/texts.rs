//! Every error text of the merger, with what it means.

use onair_log::{LogError, Partition};
use onair_model::Bucket;
use onair_store::StoreError;
use onair_store::head::LoadError;
use onair_xtask::{error_texts, texts::Texts};

use crate::feed::Trouble;

#[test]
fn errors() {
    let store = || StoreError::Full {
        place: "/var/lib/onair/onair.redb".into(),
        reason: "No space left on device (os error 28)".into(),
    };
    let mut texts = Texts::new();
    error_texts!(texts, Trouble:
        Log = Trouble::Log(LogError::Refused { reason: "the log is closed".into() }) =>
            "The log does not answer.", "Nothing: the merger tries again. What is shown does not depend on it.";
        Store = Trouble::Store(store()) =>
            "The store does not answer.", "As the store's text says; the merger tries again by itself.";
        Load = Trouble::Load(LoadError::Store(store())) =>
            "A bucket cannot be loaded.", "As the store's text says; the merger tries again by itself.";
        Overtaken = Trouble::Overtaken(Partition::Bucket(Bucket::new(3))) =>
            "Another merger works on the same bucket.", "Nothing, while mergers come and go. If it stays so: two of them were told the same merger.buckets. This one goes on from the head that is there.";
    );
    texts.check(env!("CARGO_MANIFEST_DIR"));
}
