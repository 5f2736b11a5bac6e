//! GTID sets as the server wants them in a dump request, and as it shows those of commits under way.

use mysql_async::{GnoInterval, Sid};
use mysql_common::packets::Tag as WireTag;
use onair_model::gtid::{SourceId, Tag};
use onair_model::{Gtid, GtidSet};

/// One entry for each (UUID, tag); the wire's intervals end before their end.
pub(super) fn sids(set: &GtidSet) -> Vec<Sid<'static>> {
    let GtidSet::Mysql(sources) = set else {
        return Vec::new();
    };
    sources
        .iter()
        .map(|(source, intervals)| {
            let intervals = intervals
                .iter()
                .map(|&(first, last)| GnoInterval::new(first, last.saturating_add(1)))
                .collect();
            let sid = Sid::new(source.uuid.to_be_bytes()).with_intervals(intervals);
            match WireTag::new(source.tag.as_str().to_owned()) {
                Ok(tag) => sid.with_tag(tag),
                Err(_) => sid,
            }
        })
        .collect()
}

/// Reads `@@global.gtid_owned`: `UUID:5#12:6#13UUID:tag:9#155`, with nothing between one UUID's last owner and
/// the next UUID, whose first digits therefore look like part of the owner. `None` when it has another shape.
pub(super) fn owned(text: &str) -> Option<GtidSet> {
    let text: String = text
        .chars()
        .filter(|c| !c.is_whitespace() && *c != ',')
        .collect();
    let mut set = GtidSet::mysql();
    let starts = uuid_starts(text.as_bytes());
    if starts.first().map_or(!text.is_empty(), |first| *first != 0) {
        return None;
    }
    for (index, &start) in starts.iter().enumerate() {
        let end = starts.get(index + 1).copied().unwrap_or(text.len());
        let (uuid, numbers) = text[start..end].split_at(UUID_LEN);
        let mut source = SourceId {
            uuid: u128::from_str_radix(&uuid.replace('-', ""), 16).ok()?,
            tag: Tag::NONE,
        };
        for part in numbers.strip_prefix(':')?.split(':') {
            match part.split_once('#') {
                Some((number, _owner)) => {
                    let number = number.parse().ok()?;
                    set.insert(&Gtid::Mysql { source, number });
                }
                None => source.tag = Tag::new(part).filter(|tag| *tag != Tag::NONE)?,
            }
        }
    }
    Some(set)
}

const UUID_LEN: usize = 36;

/// Where UUIDs begin: 8-4-4-4-12 hex digits. The digits before one belong to an owner's thread id, so a match
/// is pinned by its first dash.
fn uuid_starts(text: &[u8]) -> Vec<usize> {
    let shape = |at: usize| {
        text.get(at..at + UUID_LEN).is_some_and(|part| {
            part.iter().enumerate().all(|(i, byte)| match i {
                8 | 13 | 18 | 23 => *byte == b'-',
                _ => byte.is_ascii_hexdigit(),
            })
        })
    };
    let mut starts = Vec::new();
    let mut at = 0;
    while at + UUID_LEN <= text.len() {
        if shape(at) {
            starts.push(at);
            at += UUID_LEN;
        } else {
            at += 1;
        }
    }
    starts
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562";
    const B: &str = "91234567-71ca-11e1-9e33-c80aa9429562";

    #[test]
    fn the_wire_form_has_one_entry_for_each_tag_and_open_ends() {
        let set: GtidSet = format!("{A}:1-5:9,{A}:blue:3").parse().unwrap();
        let sids = sids(&set);
        assert_eq!(sids.len(), 2);
        assert_eq!(sids[0].tag(), None);
        let ends: Vec<_> = sids[0]
            .intervals()
            .iter()
            .map(|i| (i.start(), i.end()))
            .collect();
        assert_eq!(ends, [(1, 6), (9, 10)]);
        assert_eq!(sids[1].tag().unwrap().as_str(), "blue");
    }

    #[test]
    fn owned_gtids_are_found_though_nothing_separates_uuids() {
        let set = owned(&format!("{A}:9063#13{B}:9170#155:9171#156")).unwrap();
        assert_eq!(set.to_string(), format!("{A}:9063,{B}:9170-9171"));
        let set = owned(&format!("{A}:5#9:blue:7#10{B}:1#2")).unwrap();
        assert_eq!(set.to_string(), format!("{A}:5:blue:7,{B}:1"));
        assert_eq!(owned("").unwrap(), GtidSet::mysql());
        assert_eq!(owned("nonsense"), None);
        assert_eq!(owned(&format!("{A}:x#y#z")), None);
    }
}
