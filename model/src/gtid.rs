//! GTIDs and sets of them, of MySQL (tagged too) and MariaDB, in their servers' own text forms.
//!
//! A set is kept verbatim, holes and all: merging holes loses transactions. A MariaDB set is a position:
//! the last transaction of each domain, which stands for all before it.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// One transaction's global id.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Gtid {
    /// `UUID:NUMBER` or `UUID:TAG:NUMBER`.
    Mysql {
        /// Who committed it first.
        source: SourceId,
        /// Its number there, from 1.
        number: u64,
    },
    /// `DOMAIN-SERVER-SEQUENCE`.
    Mariadb {
        /// Replication domain.
        domain: u32,
        /// Server id.
        server: u32,
        /// Number in the domain.
        sequence: u64,
    },
}

/// A MySQL server's UUID and, since 8.3, an optional tag: each has numbers of its own.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SourceId {
    /// The UUID, big-endian.
    pub uuid: u128,
    /// The tag, empty for none.
    pub tag: Tag,
}

/// A GTID's tag: up to 32 lowercase letters, digits and underscores.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Tag {
    bytes: [u8; 32],
    len: u8,
}

impl Tag {
    /// No tag.
    pub const NONE: Tag = Tag {
        bytes: [0; 32],
        len: 0,
    };

    /// A tag by its text, lowercased as the server does; `None` when it is not one.
    pub fn new(text: &str) -> Option<Self> {
        let mut tag = Tag {
            bytes: [0; 32],
            len: u8::try_from(text.len()).ok()?,
        };
        if text.len() > 32 {
            return None;
        }
        for (at, byte) in text.bytes().enumerate() {
            let byte = byte.to_ascii_lowercase();
            if !(byte == b'_' || byte.is_ascii_lowercase() || (at > 0 && byte.is_ascii_digit())) {
                return None;
            }
            tag.bytes[at] = byte;
        }
        Some(tag)
    }

    /// Its text, empty for none.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..self.len as usize]).unwrap_or_default()
    }
}

/// A set of transactions of one kind of server.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum GtidSet {
    /// Intervals of numbers, both ends inside, ascending and apart.
    Mysql(BTreeMap<SourceId, Vec<(u64, u64)>>),
    /// The last transaction of each domain: server and sequence.
    Mariadb(BTreeMap<u32, (u32, u64)>),
}

impl GtidSet {
    /// The empty set of a MySQL server.
    pub const fn mysql() -> Self {
        GtidSet::Mysql(BTreeMap::new())
    }

    /// The empty set of a MariaDB server.
    pub const fn mariadb() -> Self {
        GtidSet::Mariadb(BTreeMap::new())
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        match self {
            GtidSet::Mysql(sources) => sources.is_empty(),
            GtidSet::Mariadb(domains) => domains.is_empty(),
        }
    }

    /// Whether the transaction is in it. A GTID of the other kind never is.
    pub fn contains(&self, gtid: &Gtid) -> bool {
        match (self, gtid) {
            (GtidSet::Mysql(sources), Gtid::Mysql { source, number }) => sources
                .get(source)
                .is_some_and(|intervals| holds(intervals, *number, *number)),
            (
                GtidSet::Mariadb(domains),
                Gtid::Mariadb {
                    domain, sequence, ..
                },
            ) => domains
                .get(domain)
                .is_some_and(|(_, last)| last >= sequence),
            _ => false,
        }
    }

    /// Whether every transaction of `other` is in it. A set of the other kind is contained only when empty.
    pub fn contains_set(&self, other: &GtidSet) -> bool {
        match (self, other) {
            (GtidSet::Mysql(mine), GtidSet::Mysql(theirs)) => {
                theirs.iter().all(|(source, wanted)| {
                    mine.get(source).is_some_and(|have| {
                        wanted.iter().all(|&(first, last)| holds(have, first, last))
                    })
                })
            }
            (GtidSet::Mariadb(mine), GtidSet::Mariadb(theirs)) => {
                theirs.iter().all(|(domain, (_, wanted))| {
                    mine.get(domain).is_some_and(|(_, last)| last >= wanted)
                })
            }
            _ => other.is_empty(),
        }
    }

    /// Adds one transaction; for MariaDB, moves its domain on. A GTID of the other kind turns an empty set
    /// into one of its kind and is otherwise left out.
    pub fn insert(&mut self, gtid: &Gtid) {
        if self.is_empty() {
            *self = match gtid {
                Gtid::Mysql { .. } => GtidSet::mysql(),
                Gtid::Mariadb { .. } => GtidSet::mariadb(),
            };
        }
        match (self, gtid) {
            (GtidSet::Mysql(sources), Gtid::Mysql { source, number }) => {
                add(sources.entry(*source).or_default(), *number, *number);
            }
            (
                GtidSet::Mariadb(domains),
                Gtid::Mariadb {
                    domain,
                    server,
                    sequence,
                },
            ) => {
                let last = domains.entry(*domain).or_insert((*server, *sequence));
                if last.1 <= *sequence {
                    *last = (*server, *sequence);
                }
            }
            _ => {}
        }
    }

    /// What of this set is not in `other`; adding it to `other` gives both. A position of MariaDB stands for all before it,
    /// so there the domains that moved remain.
    #[must_use]
    pub fn minus(&self, other: &GtidSet) -> GtidSet {
        match (self, other) {
            (GtidSet::Mysql(mine), GtidSet::Mysql(theirs)) => GtidSet::Mysql(
                mine.iter()
                    .filter_map(|(source, have)| {
                        let rest = match theirs.get(source) {
                            Some(taken) => subtract(have, taken),
                            None => have.clone(),
                        };
                        (!rest.is_empty()).then_some((*source, rest))
                    })
                    .collect(),
            ),
            (GtidSet::Mariadb(mine), GtidSet::Mariadb(theirs)) => GtidSet::Mariadb(
                mine.iter()
                    .filter(|(domain, last)| theirs.get(domain).is_none_or(|held| held.1 < last.1))
                    .map(|(domain, last)| (*domain, *last))
                    .collect(),
            ),
            _ => self.clone(),
        }
    }

    /// What of this set no transaction of `others` comes before: of each source the numbers below the first of `others`.
    /// A server gives its numbers in the binlog's order. A position of MariaDB is its own beginning.
    #[must_use]
    pub fn before(&self, others: &GtidSet) -> GtidSet {
        let (GtidSet::Mysql(mine), GtidSet::Mysql(theirs)) = (self, others) else {
            return self.clone();
        };
        let below = |source, have: &[(u64, u64)]| match theirs
            .get(source)
            .and_then(|others| others.first())
        {
            Some(&(first, _)) => subtract(have, &[(first, u64::MAX)]),
            None => have.to_vec(),
        };
        let kept = mine
            .iter()
            .map(|(source, have)| (*source, below(source, have)));
        GtidSet::Mysql(kept.filter(|(_, kept)| !kept.is_empty()).collect())
    }

    /// Adds all of `other`. A set of the other kind replaces an empty one and is otherwise left out.
    pub fn union(&mut self, other: &GtidSet) {
        if self.is_empty() {
            self.clone_from(other);
            return;
        }
        match (self, other) {
            (GtidSet::Mysql(mine), GtidSet::Mysql(theirs)) => {
                for (source, intervals) in theirs {
                    let have = mine.entry(*source).or_default();
                    for &(first, last) in intervals {
                        add(have, first, last);
                    }
                }
            }
            (GtidSet::Mariadb(mine), GtidSet::Mariadb(theirs)) => {
                for (domain, theirs) in theirs {
                    let last = mine.entry(*domain).or_insert(*theirs);
                    if last.1 <= theirs.1 {
                        *last = *theirs;
                    }
                }
            }
            _ => {}
        }
    }
}

fn holds(intervals: &[(u64, u64)], first: u64, last: u64) -> bool {
    let after = intervals.partition_point(|interval| interval.0 <= first);
    after > 0 && intervals[after - 1].1 >= last
}

/// The numbers of `have` that are not in `taken`.
fn subtract(have: &[(u64, u64)], taken: &[(u64, u64)]) -> Vec<(u64, u64)> {
    let mut rest = Vec::new();
    for &(first, last) in have {
        let mut from = first;
        let begin = taken.partition_point(|interval| interval.1 < first);
        for &(out_first, out_last) in taken[begin..]
            .iter()
            .take_while(|interval| interval.0 <= last)
        {
            if out_first > from {
                rest.push((from, out_first - 1));
            }
            from = from.max(out_last.saturating_add(1));
        }
        if from <= last {
            rest.push((from, last));
        }
    }
    rest
}

/// Adds `first..=last`, joining what touches it.
fn add(intervals: &mut Vec<(u64, u64)>, first: u64, last: u64) {
    // The common case: the next transaction of the newest interval.
    if let Some(newest) = intervals.last_mut()
        && first >= newest.0
        && first <= newest.1.saturating_add(1)
    {
        newest.1 = newest.1.max(last);
        return;
    }
    let from = intervals.partition_point(|interval| interval.1.saturating_add(1) < first);
    let to = intervals.partition_point(|interval| interval.0 <= last.saturating_add(1));
    let joined = intervals[from..to.max(from)]
        .iter()
        .fold((first, last), |joined, interval| {
            (joined.0.min(interval.0), joined.1.max(interval.1))
        });
    intervals.splice(from..to.max(from), [joined]);
}

impl fmt::Display for SourceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hex = format!("{:032x}", self.uuid);
        write!(
            f,
            "{}-{}-{}-{}-{}",
            &hex[..8],
            &hex[8..12],
            &hex[12..16],
            &hex[16..20],
            &hex[20..]
        )?;
        if self.tag != Tag::NONE {
            write!(f, ":{}", self.tag.as_str())?;
        }
        Ok(())
    }
}

impl fmt::Display for Gtid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Gtid::Mysql { source, number } => write!(f, "{source}:{number}"),
            Gtid::Mariadb {
                domain,
                server,
                sequence,
            } => write!(f, "{domain}-{server}-{sequence}"),
        }
    }
}

impl fmt::Display for GtidSet {
    /// MySQL's canonical text without line breaks (a UUID once, its tags after it), or MariaDB's position.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        match self {
            GtidSet::Mysql(sources) => {
                let mut uuid = None;
                for (source, intervals) in sources {
                    if uuid == Some(source.uuid) {
                        write!(f, ":{}", source.tag.as_str())?;
                    } else {
                        write!(f, "{separator}{source}")?;
                    }
                    uuid = Some(source.uuid);
                    separator = ",";
                    for (first, last) in intervals {
                        if first == last {
                            write!(f, ":{first}")?;
                        } else {
                            write!(f, ":{first}-{last}")?;
                        }
                    }
                }
            }
            GtidSet::Mariadb(domains) => {
                for (domain, (server, sequence)) in domains {
                    write!(f, "{separator}{domain}-{server}-{sequence}")?;
                    separator = ",";
                }
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Debug for SourceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Debug for Gtid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Debug for GtidSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GtidSet({self})")
    }
}

/// A text that is neither a GTID nor a set of them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a GTID or GTID set: UUID:1-57 (MySQL, a tag may stand before the numbers) or 0-1-57 (MariaDB)"
)]
pub struct ParseGtidError(String);

impl FromStr for Gtid {
    type Err = ParseGtidError;

    fn from_str(text: &str) -> Result<Self, ParseGtidError> {
        let wrong = || ParseGtidError(text.to_owned());
        let mut found = None;
        match text.parse::<GtidSet>()? {
            GtidSet::Mysql(sources) => {
                for (source, intervals) in sources {
                    match intervals[..] {
                        [(first, last)] if first == last && found.is_none() => {
                            found = Some(Gtid::Mysql {
                                source,
                                number: first,
                            });
                        }
                        _ => return Err(wrong()),
                    }
                }
            }
            GtidSet::Mariadb(domains) => {
                if domains.len() == 1 {
                    found = domains
                        .into_iter()
                        .next()
                        .map(|(domain, (server, sequence))| Gtid::Mariadb {
                            domain,
                            server,
                            sequence,
                        });
                }
            }
        }
        found.ok_or_else(wrong)
    }
}

impl FromStr for GtidSet {
    type Err = ParseGtidError;

    /// Either server's text; empty text is MySQL's empty set. White space is ignored.
    fn from_str(text: &str) -> Result<Self, ParseGtidError> {
        let wrong = || ParseGtidError(text.to_owned());
        let clean: String = text.chars().filter(|c| !c.is_whitespace()).collect();
        if clean.is_empty() {
            return Ok(GtidSet::mysql());
        }
        let parsed = if clean.contains(':') {
            parse_mysql(&clean)
        } else {
            parse_mariadb(&clean)
        };
        parsed.ok_or_else(wrong)
    }
}

fn parse_mysql(text: &str) -> Option<GtidSet> {
    let mut sources = BTreeMap::<SourceId, Vec<(u64, u64)>>::new();
    for part in text.split(',').filter(|part| !part.is_empty()) {
        let mut fields = part.split(':');
        let mut source = SourceId {
            uuid: parse_uuid(fields.next()?)?,
            tag: Tag::NONE,
        };
        let mut any = false;
        for field in fields {
            if field.starts_with(|c: char| c.is_ascii_digit()) {
                let (first, last) = match field.split_once('-') {
                    Some((first, last)) => (first.parse().ok()?, last.parse().ok()?),
                    None => (field.parse().ok()?, field.parse().ok()?),
                };
                if first == 0 || last < first {
                    return None;
                }
                add(sources.entry(source).or_default(), first, last);
                any = true;
            } else {
                source.tag = Tag::new(field).filter(|tag| *tag != Tag::NONE)?;
            }
        }
        if !any {
            return None;
        }
    }
    Some(GtidSet::Mysql(sources))
}

fn parse_uuid(text: &str) -> Option<u128> {
    let hex: String = text.chars().filter(|c| *c != '-').collect();
    if hex.len() != 32 || !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    u128::from_str_radix(&hex, 16).ok()
}

fn parse_mariadb(text: &str) -> Option<GtidSet> {
    let mut domains = BTreeMap::new();
    for part in text.split(',') {
        let mut fields = part.split('-');
        let domain = fields.next()?.parse().ok()?;
        let server = fields.next()?.parse().ok()?;
        let sequence = fields.next()?.parse().ok()?;
        if fields.next().is_some() || domains.insert(domain, (server, sequence)).is_some() {
            return None;
        }
    }
    Some(GtidSet::Mariadb(domains))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    const A: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562";
    const B: &str = "4e11fa47-71ca-11e1-9e33-c80aa9429562";

    fn set(text: &str) -> GtidSet {
        text.parse().unwrap()
    }

    #[test]
    fn texts_of_both_servers_round_trip() {
        for text in [
            format!("{A}:1-39:41:tag1:1-2:tag2:1,{B}:7"),
            "0-1-57,3-2-9".to_owned(),
            String::new(),
        ] {
            assert_eq!(set(&text).to_string(), text);
        }
        assert_eq!(
            set(&format!("{A}:1-3,\n{A}:4:x:2")).to_string(),
            format!("{A}:1-4:x:2")
        );
        for wrong in [
            "x",
            "1-2",
            "0-1-2-3",
            "0-1-2,0-1-3",
            A,
            &format!("{A}:0"),
            &format!("{A}:5-4"),
            &format!("{A}::4"),
        ] {
            assert!(wrong.parse::<GtidSet>().is_err(), "{wrong}");
        }
        assert_eq!(
            format!("{A}:t:9").parse::<Gtid>().unwrap().to_string(),
            format!("{A}:t:9")
        );
        assert!(format!("{A}:1-2").parse::<Gtid>().is_err());
        assert_eq!("0-1-57".parse::<Gtid>().unwrap().to_string(), "0-1-57");
    }

    #[test]
    fn holes_and_tags_are_told_apart() {
        let have = set(&format!("{A}:1-10:20-30:t:5"));
        assert!(have.contains_set(&set(&format!("{A}:3-10:20"))));
        assert!(!have.contains_set(&set(&format!("{A}:10-20"))));
        assert!(!have.contains_set(&set(&format!("{A}:5,{B}:1"))));
        assert!(!have.contains(&format!("{A}:u:5").parse().unwrap()));
        assert!(have.contains(&format!("{A}:t:5").parse().unwrap()));
        assert!(set("0-1-57").contains_set(&set("0-9-56")));
        assert!(!set("0-1-57").contains_set(&set("1-1-1")));
    }

    #[test]
    fn before_ends_where_another_source_transaction_begins() {
        let have = set(&format!("{A}:1-10:12-14:t:5,{B}:1-3"));
        let begun = have.before(&set(&format!("{A}:11:15,{B}:7")));
        assert_eq!(begun.to_string(), format!("{A}:1-10:t:5,{B}:1-3"));
        assert_eq!(
            have.before(&set(&format!("{B}:1"))),
            set(&format!("{A}:1-10:12-14:t:5"))
        );
        assert_eq!(have.before(&GtidSet::mysql()), have);
        assert_eq!(set("0-1-57").before(&GtidSet::mariadb()), set("0-1-57"));
    }

    proptest! {
        #[test]
        fn intervals_behave_as_the_set_of_their_numbers(
            adds in proptest::collection::vec((1u64..40, 0u64..6), 0..30),
            asked in (1u64..40, 0u64..6),
            out in proptest::collection::vec((1u64..40, 0u64..6), 0..30),
        ) {
            let mut intervals = Vec::new();
            let mut model = BTreeSet::new();
            for (first, len) in adds {
                add(&mut intervals, first, first + len);
                model.extend(first..=first + len);
            }
            let listed: BTreeSet<u64> = intervals.iter().flat_map(|&(a, b)| a..=b).collect();
            prop_assert_eq!(&listed, &model);
            prop_assert!(intervals.windows(2).all(|pair| pair[0].1 + 1 < pair[1].0));
            let mut taken = Vec::new();
            for (first, len) in out {
                add(&mut taken, first, first + len);
            }
            let gone: BTreeSet<u64> = taken.iter().flat_map(|&(a, b)| a..=b).collect();
            let rest: BTreeSet<u64> = subtract(&intervals, &taken).iter().flat_map(|&(a, b)| a..=b).collect();
            prop_assert_eq!(rest, model.difference(&gone).copied().collect::<BTreeSet<_>>());
            let (first, last) = (asked.0, asked.0 + asked.1);
            prop_assert_eq!(holds(&intervals, first, last), (first..=last).all(|n| model.contains(&n)));
        }
    }
}
