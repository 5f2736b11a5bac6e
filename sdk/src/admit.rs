//! Which version may take the place of the one held: what makes versions never go back.

use std::sync::Arc;

use onair_model::{GtidSet, Seal};

use crate::refusal::Refusal;

/// What a verified version is to the one held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admitted {
    /// The first one, a later one, or one of another lineage.
    Taken,
    /// A later epoch that says that it lost transactions which the version held contains.
    Rewound,
    /// The version held.
    Same,
}

/// Decides, and adds to the new seal what the old one knew of the same history.
pub(crate) fn admit(ours: Option<&Seal>, theirs: &mut Seal) -> Result<Admitted, Refusal> {
    // Versions of two lineages cannot be compared.
    let Some(ours) = ours.filter(|ours| ours.lineage == theirs.lineage) else {
        return Ok(Admitted::Taken);
    };
    let versions = (ours.version, theirs.version);
    if theirs.version < ours.version {
        let (ours, theirs) = versions;
        return Err(Refusal::Backwards { ours, theirs });
    }
    if theirs.version.epoch() != ours.version.epoch() {
        if theirs.rewound {
            return Ok(Admitted::Rewound);
        }
        if !theirs.executed.contains_set(&ours.executed) {
            let (ours, theirs) = versions;
            return Err(Refusal::LosesTransactions { ours, theirs });
        }
        return Ok(Admitted::Taken);
    }
    if theirs.version == ours.version && (theirs.digest, theirs.count) != (ours.digest, ours.count)
    {
        return Err(Refusal::OtherContent(ours.version));
    }
    // Both sets are true of what the later version holds.
    theirs.executed = union(&ours.executed, &theirs.executed);
    theirs.proven = theirs.proven.max(ours.proven);
    theirs.source_time = theirs.source_time.max(ours.source_time);
    Ok(if theirs.version == ours.version {
        Admitted::Same
    } else {
        Admitted::Taken
    })
}

/// The union of two sets; no copy when there is nothing to add.
pub(crate) fn union(ours: &Arc<GtidSet>, more: &GtidSet) -> Arc<GtidSet> {
    if ours.contains_set(more) {
        return ours.clone();
    }
    let mut all = ours.clone();
    Arc::make_mut(&mut all).union(more);
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use onair_model::{Digest, Lineage, Version};

    fn seal(lineage: u128, version: &str, executed: &str) -> Seal {
        Seal {
            lineage: Lineage::new(lineage),
            version: version.parse().expect("a version"),
            digest: Digest::new(7),
            count: 1,
            commit_time: 0,
            source_time: 0,
            gtid: None,
            executed: Arc::new(executed.parse().expect("a set")),
            proven: None,
            rewound: false,
        }
    }

    fn version(text: &str) -> Version {
        text.parse().expect("a version")
    }

    fn check(ours: &Seal, mut theirs: Seal, expected: Result<Admitted, Refusal>) {
        assert_eq!(admit(Some(ours), &mut theirs), expected, "{theirs:?}");
    }

    #[test]
    fn versions_never_go_back() {
        let ours = seal(1, "2-5", "0-1-50");
        check(&ours, seal(1, "2-6", "0-1-51"), Ok(Admitted::Taken));
        check(&ours, seal(1, "2-5", "0-1-50"), Ok(Admitted::Same));
        for older in ["2-4", "1-900"] {
            let (ours_at, theirs) = (version("2-5"), version(older));
            let refused = Refusal::Backwards {
                ours: ours_at,
                theirs,
            };
            check(&ours, seal(1, older, "0-1-99"), Err(refused));
        }
        let other = Seal {
            digest: Digest::new(8),
            ..seal(1, "2-5", "0-1-50")
        };
        check(&ours, other, Err(Refusal::OtherContent(version("2-5"))));
        // Another world, whatever its numbers.
        check(&ours, seal(2, "1-1", ""), Ok(Admitted::Taken));
    }

    #[test]
    fn a_later_epoch_must_contain_everything_or_say_that_it_does_not() {
        let ours = seal(1, "2-5", "0-1-50");
        check(&ours, seal(1, "3-0", "0-1-50"), Ok(Admitted::Taken));
        let (ours_at, theirs) = (version("2-5"), version("3-9"));
        let refused = Refusal::LosesTransactions {
            ours: ours_at,
            theirs,
        };
        check(&ours, seal(1, "3-9", "0-1-49"), Err(refused));
        let rewound = Seal {
            rewound: true,
            ..seal(1, "3-0", "0-1-49")
        };
        check(&ours, rewound, Ok(Admitted::Rewound));
        // Within the epoch that lost them nothing more is lost.
        let ours = Seal {
            rewound: true,
            ..seal(1, "3-0", "0-1-49")
        };
        let later = Seal {
            rewound: true,
            ..seal(1, "3-1", "0-1-51")
        };
        check(&ours, later, Ok(Admitted::Taken));
    }

    #[test]
    fn what_progress_added_to_the_set_is_kept_at_the_same_version() {
        let ours = seal(1, "2-5", "0-1-55");
        let mut theirs = seal(1, "2-5", "0-1-50");
        assert_eq!(admit(Some(&ours), &mut theirs), Ok(Admitted::Same));
        assert_eq!(theirs.executed.to_string(), "0-1-55");
    }
}
