//! The last cuts that a log was given, added up.

use std::collections::BTreeMap;
use std::sync::Arc;

use onair_model::CutRecord;

/// The newest full cut, and everything newer in one partial cut on top of it.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Cuts {
    pub(crate) full: Option<Arc<CutRecord>>,
    pub(crate) since: Option<CutRecord>,
}

impl Cuts {
    /// In order.
    pub(crate) fn list(&self) -> Vec<CutRecord> {
        let full = self.full.as_deref().cloned();
        full.into_iter().chain(self.since.clone()).collect()
    }

    /// With one more cut; `None` when it adds nothing: older, or not on top of what is held.
    pub(crate) fn with(&self, cut: &CutRecord) -> Option<Cuts> {
        let fresh = |full: &CutRecord| {
            full.full.then(|| Cuts {
                full: Some(Arc::new(full.clone())),
                since: None,
            })
        };
        let Some(full) = &self.full else {
            return fresh(cut);
        };
        if full.lineage != cut.lineage {
            return fresh(cut);
        }
        let newest = self.since.as_ref().unwrap_or(full);
        let same = cut.version == newest.version;
        if cut.version < newest.version
            || (same && (cut.digest, cut.count) != (newest.digest, newest.count))
        {
            return None;
        }
        let mut merged = cut.clone();
        merged.proven = merged.proven.max(newest.proven);
        merged.source_time = merged.source_time.max(newest.source_time);
        merged.lost_tail |= newest.lost_tail && newest.epoch() == cut.epoch();
        merged.gtid = merged.gtid.or(newest.gtid.filter(|_| !cut.full));
        if cut.full {
            if same {
                merged.executed.union(&full.executed);
                merged.executed.union(&newest.executed);
            }
            return fresh(&merged);
        }
        if cut.epoch() != newest.epoch() || cut.prev_cut > newest.version {
            return None;
        }
        if let Some(since) = &self.since {
            merged.executed = since.executed.clone();
            merged.executed.union(&cut.executed);
            let touched: BTreeMap<_, _> =
                since.touched.iter().chain(&cut.touched).copied().collect();
            merged.touched = touched.into_iter().collect();
        }
        merged.prev_cut = full.version;
        Some(Cuts {
            full: Some(Arc::clone(full)),
            since: Some(merged),
        })
    }
}
