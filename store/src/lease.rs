//! Who may write to a source's logs: one holder that beats, and standbys that watch.
//!
//! No wall clock is compared with another. A standby takes the lease over when the cell has not been moved for
//! `patience` of its own monotonic time; the holder counts from before each beat, so it knows that it may have lost
//! the lease before anybody can take it. A holder that slept through all of it does no harm: epochs and chains see to
//! that, the lease only keeps two readers from working at once.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::cells::{Moved, move_cell, remove_cell};
use crate::checkpoint::{self, CellValue, Held, Lease};
use crate::{CellKey, ShardStore, StoreError, Token};

/// What a standby has seen of the lease so far. Pure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Watch {
    seen: Option<(Token, Duration)>,
}

/// What a look at the lease says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nobody has it.
    Free,
    /// Somebody beats, or did until less than `patience` ago.
    Beating,
    /// Nobody has moved it for `patience`: it may be taken.
    Lapsed,
}

impl Watch {
    /// Looks at the lease's token at `now`, a monotonic time of this process. With no patience at all, which is
    /// right where nobody else can be alive (a store that only one process can open), it has always lapsed.
    pub fn look(&mut self, token: Option<Token>, now: Duration, patience: Duration) -> Verdict {
        let Some(token) = token else {
            self.seen = None;
            return Verdict::Free;
        };
        let since = match self.seen {
            Some((seen, since)) if seen == token => since,
            _ => now,
        };
        self.seen = Some((token, since));
        if now.saturating_sub(since) >= patience {
            Verdict::Lapsed
        } else {
            Verdict::Beating
        }
    }
}

/// A process that wants the lease of a source.
#[derive(Debug)]
pub struct Standby {
    key: CellKey,
    reader_id: u64,
    holder: String,
    patience: Duration,
    watch: Watch,
    started: Instant,
}

/// What one step of a standby came to.
#[derive(Debug)]
pub enum Step {
    /// The lease is ours.
    Taken(HeldLease),
    /// It is this one's, or was taken and given up just now; look again in a while.
    Waiting(Option<Lease>),
}

impl Standby {
    /// A standby that has seen nothing yet. `reader_id` is new with each process; `holder` is for people.
    pub fn new(source: &Arc<str>, reader_id: u64, holder: String, patience: Duration) -> Self {
        Standby {
            key: CellKey::Lease(Arc::clone(source)),
            reader_id,
            holder,
            patience,
            watch: Watch::default(),
            started: Instant::now(),
        }
    }

    /// Looks once and takes the lease if it may be taken. To be called several times within `patience`; after an
    /// error too.
    pub async fn step(&mut self, store: &dyn ShardStore) -> Result<Step, StoreError> {
        let found = checkpoint::read::<Lease>(store, &self.key).await?;
        // An earlier attempt of ours whose outcome was not known.
        if let Some(held) = &found
            && held.value.reader_id == self.reader_id
        {
            return self.beat_first(store, held).await;
        }
        let token = found.as_ref().map(|held| held.token);
        let verdict = self
            .watch
            .look(token, self.started.elapsed(), self.patience);
        match found {
            Some(held) if verdict == Verdict::Beating => Ok(Step::Waiting(Some(held.value))),
            _ => self.take(store, token, 0).await,
        }
    }

    /// What stands there is ours, but since when is not known: a beat settles it.
    async fn beat_first(
        &self,
        store: &dyn ShardStore,
        held: &Held<Lease>,
    ) -> Result<Step, StoreError> {
        self.take(store, Some(held.token), held.value.beat + 1)
            .await
    }

    async fn take(
        &self,
        store: &dyn ShardStore,
        expect: Option<Token>,
        beat: u64,
    ) -> Result<Step, StoreError> {
        let lease = Lease {
            reader_id: self.reader_id,
            beat,
            holder: self.holder.clone(),
        };
        let began = Instant::now();
        match move_cell(store, &self.key, expect, lease.to_bytes()).await? {
            Moved::Won(token) => Ok(Step::Taken(HeldLease {
                key: self.key.clone(),
                lease,
                token,
                began,
                patience: self.patience,
            })),
            Moved::Lost(Some(cell)) => {
                let other = Lease::from_bytes(&cell.value)
                    .map_err(|error| crate::cells::unreadable(&self.key, error))?;
                Ok(Step::Waiting(Some(other)))
            }
            Moved::Lost(None) => Ok(Step::Waiting(None)),
        }
    }
}

/// The lease, held by this process until it stops beating.
#[derive(Debug)]
pub struct HeldLease {
    key: CellKey,
    lease: Lease,
    token: Token,
    /// Before the last beat that is known to have been done.
    began: Instant,
    patience: Duration,
}

/// What a beat came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Beat {
    /// Still ours.
    Held,
    /// Another's, or nobody's: stop writing.
    Lost(Option<Lease>),
}

impl HeldLease {
    /// Who holds it: this process.
    pub fn lease(&self) -> &Lease {
        &self.lease
    }

    /// Whether nobody else can have it yet. When not, stop writing until a beat says that it is still ours.
    pub fn is_sure(&self) -> bool {
        self.began.elapsed() < self.patience
    }

    /// Moves the lease on. After an error it may still be ours: beat again, and ask [`HeldLease::is_sure`].
    pub async fn beat(&mut self, store: &dyn ShardStore) -> Result<Beat, StoreError> {
        let next = Lease {
            beat: self.lease.beat + 1,
            ..self.lease.clone()
        };
        let began = Instant::now();
        match move_cell(store, &self.key, Some(self.token), next.to_bytes()).await? {
            Moved::Won(token) => {
                (self.token, self.lease, self.began) = (token, next, began);
                Ok(Beat::Held)
            }
            Moved::Lost(None) => Ok(Beat::Lost(None)),
            Moved::Lost(Some(cell)) => {
                let found = Lease::from_bytes(&cell.value)
                    .map_err(|error| crate::cells::unreadable(&self.key, error))?;
                if found.reader_id != self.lease.reader_id {
                    return Ok(Beat::Lost(Some(found)));
                }
                // An earlier beat whose outcome was not known. It was done after `self.began`; when, only
                // the next one says.
                (self.token, self.lease) = (cell.token, found);
                Ok(Beat::Held)
            }
        }
    }

    /// Gives the lease up, so that a standby need not wait.
    pub async fn release(self, store: &dyn ShardStore) -> Result<(), StoreError> {
        remove_cell(store, &self.key, self.token).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_standby_counts_from_its_own_first_look_at_each_beat() {
        let s = Duration::from_secs;
        let mut watch = Watch::default();
        let mut look = |token: Option<u128>, now| watch.look(token.map(Token), s(now), s(5));
        assert_eq!(look(Some(1), 100), Verdict::Beating);
        assert_eq!(look(Some(1), 104), Verdict::Beating);
        assert_eq!(look(Some(2), 104), Verdict::Beating);
        assert_eq!(look(Some(2), 108), Verdict::Beating);
        assert_eq!(look(Some(2), 109), Verdict::Lapsed);
        assert_eq!(look(Some(3), 110), Verdict::Beating);
        assert_eq!(look(None, 111), Verdict::Free);
        // The same token after it was gone is a new sight.
        assert_eq!(look(Some(3), 120), Verdict::Beating);
        assert_eq!(
            Watch::default().look(Some(Token(9)), s(0), Duration::ZERO),
            Verdict::Lapsed
        );
    }
}
