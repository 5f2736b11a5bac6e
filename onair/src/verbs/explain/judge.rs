//! Whether places agree on a key. Decisions only.

use bytes::Bytes;
use onair_sdk::{Gtid, GtidSet, Version};

use crate::output::Tone;

/// What one place says of a key.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) name: String,
    /// The server that was asked.
    pub(super) server: Option<String>,
    pub(super) known: bool,
    /// `None`: not live.
    pub(super) row: Option<Bytes>,
    /// The row is so at all versions from the first through the second. `None`: MySQL, which has none.
    pub(super) versions: Option<(Version, Version)>,
    pub(super) gtid: Option<Gtid>,
    pub(super) commit_time: i64,
    /// Source time through which it is complete; 0 where that is not known.
    pub(super) complete: i64,
    /// What is contained; of MySQL: what was, before the row was read for the first time.
    pub(super) executed: Option<GtidSet>,
    pub(super) place: String,
    /// Binlog position at or before which the transaction `gtid` ends; empty where that is not known.
    pub(super) position: String,
}

impl Place {
    /// One that does not say: why.
    pub(super) fn silent(name: &str, why: String) -> Self {
        Place {
            name: name.to_owned(),
            server: None,
            known: false,
            row: None,
            versions: None,
            gtid: None,
            commit_time: 0,
            complete: 0,
            executed: None,
            place: why,
            position: String::new(),
        }
    }
}

/// What a place is, beside those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The same, or nothing stands before it.
    Agrees,
    /// It does not know what came before.
    Behind,
    /// It knows something later.
    Ahead,
    /// It should be the same and is not.
    Disagrees,
    /// It does not say.
    Unknown,
}

impl Verdict {
    pub(super) const fn word(self) -> &'static str {
        match self {
            Verdict::Agrees => "agrees",
            Verdict::Behind => "behind",
            Verdict::Ahead => "ahead",
            Verdict::Disagrees => "disagrees",
            Verdict::Unknown => "unknown",
        }
    }

    /// For people: the words of one width.
    pub(super) const fn shown(self) -> (Tone, &'static str) {
        match self {
            Verdict::Agrees => (Tone::Good, "agrees   "),
            Verdict::Behind => (Tone::Notice, "behind   "),
            Verdict::Ahead => (Tone::Notice, "ahead    "),
            Verdict::Disagrees => (Tone::Bad, "DISAGREES"),
            Verdict::Unknown => (Tone::Faint, "unknown  "),
        }
    }
}

/// A verdict a place: with the one before it that is known, and with MySQL where it was asked. Only the first that
/// disagrees is said to: those after it may just have taken it over.
pub(super) fn judge(places: &[Place]) -> Vec<Verdict> {
    let (mut verdicts, mut before) = (Vec::with_capacity(places.len()), None);
    let table = places.first().filter(|first| first.versions.is_none());
    let reached = table.and_then(|table| reached(table, places));
    let mut disagreed = false;
    for place in places {
        if !place.known {
            verdicts.push(Verdict::Unknown);
            continue;
        }
        let with_before = before.map_or(Verdict::Agrees, |before| beside(before, place));
        let with_table = match table.filter(|table| table.known) {
            Some(table) => against(table, place, reached),
            None => Verdict::Agrees,
        };
        let verdict = match (with_before, with_table) {
            (_, Verdict::Disagrees) => Verdict::Disagrees,
            (Verdict::Agrees, with_table) => with_table,
            (with_before, _) => with_before,
        };
        verdicts.push(match (verdict, disagreed) {
            (Verdict::Disagrees, true) => Verdict::Agrees,
            (verdict, _) => verdict,
        });
        disagreed |= verdict == Verdict::Disagrees;
        before = place.versions.map(|versions| (place, versions)).or(before);
    }
    verdicts
}

/// The lowest version that a server showed that contains all that MySQL had executed: whoever is complete through it
/// has all of that too.
fn reached(table: &Place, places: &[Place]) -> Option<Version> {
    let all = table.executed.as_ref()?;
    let has_all = |place: &&Place| {
        let executed = place.executed.as_ref();
        place.known && executed.is_some_and(|executed| executed.contains_set(all))
    };
    let versions = places.iter().filter(has_all);
    versions
        .filter_map(|place| place.versions)
        .map(|(_, version)| version)
        .min()
}

/// A place beside one before it.
fn beside((before, (since, version)): (&Place, (Version, Version)), place: &Place) -> Verdict {
    match place.versions {
        _ if before.row == place.row => Verdict::Agrees,
        Some((_, through)) if through < since => Verdict::Behind,
        Some((from, _)) if from > version => Verdict::Ahead,
        _ => Verdict::Disagrees,
    }
}

/// A place beside MySQL, whose row was the same for as long as the places were asked.
fn against(table: &Place, place: &Place, reached: Option<Version>) -> Verdict {
    if table.row == place.row {
        return Verdict::Agrees;
    }
    match (place.versions, reached) {
        (Some((_, version)), Some(reached)) if version >= reached => Verdict::Disagrees,
        _ => Verdict::Behind,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Verdict::{Agrees, Ahead, Behind, Disagrees, Unknown};

    fn place(row: Option<&'static str>, versions: Option<(u64, u64)>, executed: &str) -> Place {
        let version = |sequence| format!("3-{sequence}").parse().unwrap();
        Place {
            name: String::new(),
            server: None,
            known: true,
            row: row.map(|row| Bytes::from_static(row.as_bytes())),
            versions: versions.map(|(since, through)| (version(since), version(through))),
            gtid: None,
            commit_time: 0,
            complete: 0,
            executed: (!executed.is_empty()).then(|| executed.parse().unwrap()),
            place: String::new(),
            position: String::new(),
        }
    }

    fn at(row: &'static str, since: u64, through: u64) -> Place {
        place(Some(row), Some((since, through)), "")
    }

    fn server(row: &'static str, version: u64, executed: &str) -> Place {
        place(Some(row), Some((version, version)), executed)
    }

    const E57: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562:1-57";
    const E58: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562:1-58";

    #[track_caller]
    fn check(places: &[Place], expected: &[Verdict]) {
        assert_eq!(judge(places), expected);
    }

    #[test]
    fn places_of_other_versions_do_not_contradict_each_other() {
        check(&[], &[]);
        check(
            &[at("a", 5, 9), at("a", 5, 7), at("a", 8, 8)],
            &[Agrees, Agrees, Agrees],
        );
        check(&[at("b", 8, 9), at("a", 5, 7)], &[Agrees, Behind]);
        check(&[at("a", 5, 7), at("b", 8, 8)], &[Agrees, Ahead]);
        check(
            &[at("b", 8, 9), at("a", 5, 7), at("b", 9, 9)],
            &[Agrees, Behind, Ahead],
        );
    }

    #[test]
    fn the_first_that_contradicts_is_marked() {
        check(&[at("b", 8, 9), at("a", 5, 8)], &[Agrees, Disagrees]);
        check(
            &[at("b", 8, 9), at("a", 9, 9), at("a", 9, 9)],
            &[Agrees, Disagrees, Agrees],
        );
        check(
            &[at("b", 8, 9), place(None, Some((9, 9)), "")],
            &[Agrees, Disagrees],
        );
        let mut log = at("x", 1, 1);
        log.known = false;
        check(
            &[log, at("b", 8, 9), at("a", 9, 9)],
            &[Unknown, Agrees, Disagrees],
        );
    }

    #[test]
    fn the_table_is_compared_with_who_has_all_that_it_had() {
        let table = |row| place(Some(row), None, E57);
        let all = |row| [at(row, 5, 9), at(row, 5, 8), server(row, 9, E58)];
        let places = |table: Place, rest: [Place; 3]| -> Vec<Place> {
            std::iter::once(table).chain(rest).collect()
        };
        check(&places(table("a"), all("a")), &[Agrees; 4]);
        // Nobody read the change from the binlog.
        check(
            &places(table("b"), all("a")),
            &[Agrees, Disagrees, Behind, Agrees],
        );
        // The server does not have it yet, for all that is known.
        let late = [
            at("a", 5, 9),
            at("a", 5, 8),
            server("a", 9, "3e11fa47-71ca-11e1-9e33-c80aa9429562:1-56"),
        ];
        check(&places(table("b"), late), &[Agrees, Behind, Behind, Behind]);
        // Log and store have it, the server does not.
        let lost = [at("b", 7, 9), at("b", 7, 8), server("a", 9, E57)];
        check(
            &places(table("b"), lost),
            &[Agrees, Agrees, Agrees, Disagrees],
        );
        // The row changed meanwhile: nothing is said of it.
        let mut moving = table("b");
        moving.known = false;
        check(
            &places(moving, all("a")),
            &[Unknown, Agrees, Agrees, Agrees],
        );
    }
}
