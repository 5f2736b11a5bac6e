//! How often heads are compared and set in a store, and how far each head is.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use onair_model::Version;
use onair_store::head::Head;
use onair_store::watched::{Answer, Call, Watch, Watched};
use onair_store::{Cas, CellKey, ShardStore};

/// A store with its heads counted.
pub(super) type Counted = Watched<Heads, dyn ShardStore>;

#[derive(Debug)]
pub(super) struct Heads {
    tried: AtomicU64,
    ds: Mutex<Vec<Version>>,
}

impl Heads {
    pub(super) fn of(store: Arc<dyn ShardStore>, buckets: usize) -> Counted {
        let heads = Heads {
            tried: AtomicU64::new(0),
            ds: Mutex::new(vec![Version::ZERO; buckets]),
        };
        Watched::new(store, heads)
    }

    /// Compare-and-sets so far, also those that were lost.
    pub(super) fn tried(&self) -> u64 {
        self.tried.load(Ordering::Relaxed)
    }

    /// The last data version of each head that was moved.
    pub(super) fn ds(&self) -> Vec<Version> {
        self.ds
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

#[async_trait]
impl Watch for Heads {
    async fn before(&self, call: Call<'_>) {
        if let Call::Cas(CellKey::Head(..), Some(_)) = call {
            self.tried.fetch_add(1, Ordering::Relaxed);
        }
    }

    async fn after(&self, call: Call<'_>, answer: Answer<'_>) {
        let Call::Cas(CellKey::Head(feed, bucket), Some(cell)) = call else {
            return;
        };
        if let (Answer::Cas(Cas::Won), Ok(head)) = (answer, Head::from_bytes(feed, &cell.value)) {
            self.ds.lock().unwrap_or_else(PoisonError::into_inner)[bucket.index()] = head.state.d;
        }
    }
}
