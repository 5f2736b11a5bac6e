//! The differences of a partial update: paths into a document, and what to put there.
//!
//! Each is an operation byte, a length-encoded path and, but for a removal, a length-encoded binary value.

use super::binary::View;
use super::{BadJson, DEPTH_MAX, print};

/// A document that is being changed: what was not touched stays binary.
#[derive(Clone, Debug)]
pub(super) enum Tree<'a> {
    Array(Vec<Tree<'a>>),
    Object(Vec<(&'a [u8], Tree<'a>)>),
    Untouched(View<'a>),
}

/// Appends the text of `before` with the differences in `diffs` applied.
pub(crate) fn apply(before: &[u8], diffs: &[u8], out: &mut Vec<u8>) -> Result<(), BadJson> {
    let mut document = Tree::Untouched(View::document(before)?);
    let mut rest = diffs;
    // Keys in paths are unescaped here; trees borrow them.
    let paths = read_all(&mut rest)?;
    for diff in &paths {
        diff.apply(&mut document)?;
    }
    let size = before.len() + diffs.len();
    print::tree(&document, size, out)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    Replace,
    Insert,
    Remove,
}

#[derive(Debug)]
struct Diff<'a> {
    operation: Operation,
    path: Vec<Leg>,
    value: Option<View<'a>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Leg {
    Member(Vec<u8>),
    Cell(usize),
}

const SHORT: BadJson = BadJson("a difference that ends before its content does");
const NOWHERE: BadJson = BadJson("a difference at a path that is not there");

fn read_all<'a>(rest: &mut &'a [u8]) -> Result<Vec<Diff<'a>>, BadJson> {
    let mut diffs = Vec::new();
    while let Some((&operation, behind)) = rest.split_first() {
        *rest = behind;
        let operation = match operation {
            0 => Operation::Replace,
            1 => Operation::Insert,
            2 => Operation::Remove,
            _ => return Err(BadJson("an unknown operation in a difference")),
        };
        let path = path(lenenc_bytes(rest)?)?;
        let value = match operation {
            Operation::Remove => None,
            _ => Some(View::document(lenenc_bytes(rest)?)?),
        };
        diffs.push(Diff {
            operation,
            path,
            value,
        });
    }
    Ok(diffs)
}

fn lenenc_bytes<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], BadJson> {
    let (&first, behind) = rest.split_first().ok_or(SHORT)?;
    let width = match first {
        0..=250 => 0,
        252 => 2,
        253 => 3,
        254 => 8,
        _ => return Err(SHORT),
    };
    let (length, behind) = behind.split_at_checked(width).ok_or(SHORT)?;
    let length = match width {
        0 => usize::from(first),
        _ => length
            .iter()
            .rev()
            .fold(0, |sum, &byte| sum << 8 | usize::from(byte)),
    };
    let (bytes, behind) = behind.split_at_checked(length).ok_or(SHORT)?;
    *rest = behind;
    Ok(bytes)
}

impl<'a> Diff<'a> {
    fn apply<'p: 'a>(&'p self, document: &mut Tree<'a>) -> Result<(), BadJson> {
        let Some((last, parents)) = self.path.split_last() else {
            // The whole document: replaced only.
            *document = Tree::Untouched(self.value.ok_or(NOWHERE)?);
            return Ok(());
        };
        let mut parent = document;
        for leg in parents {
            parent = parent.child(leg)?.ok_or(NOWHERE)?;
        }
        match self.value {
            None => parent.remove(last),
            Some(value) if self.operation == Operation::Replace => {
                *parent.child(last)?.ok_or(NOWHERE)? = Tree::Untouched(value);
                Ok(())
            }
            Some(value) => parent.insert(last, Tree::Untouched(value)),
        }
    }
}

impl<'a> Tree<'a> {
    /// One level of a container as a tree; scalars stay.
    fn open(&mut self) -> Result<(), BadJson> {
        if let Tree::Untouched(view) = self {
            match *view {
                View::Array(array) => {
                    let mut values = Vec::with_capacity(array.len());
                    for value in array.values() {
                        values.push(Tree::Untouched(value?));
                    }
                    *self = Tree::Array(values);
                }
                View::Object(object) => {
                    let mut members = Vec::with_capacity(object.len());
                    for member in object.members() {
                        let (key, value) = member?;
                        members.push((key, Tree::Untouched(value)));
                    }
                    *self = Tree::Object(members);
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn child(&mut self, leg: &Leg) -> Result<Option<&mut Tree<'a>>, BadJson> {
        self.open()?;
        Ok(match (self, leg) {
            (Tree::Array(values), Leg::Cell(index)) => values.get_mut(*index),
            (Tree::Object(members), Leg::Member(name)) => {
                let found = members.iter_mut().find(|(key, _)| key == name);
                found.map(|(_, value)| value)
            }
            // A scalar counts as an array of itself.
            (scalar @ Tree::Untouched(_), Leg::Cell(0)) => Some(scalar),
            _ => None,
        })
    }

    fn remove(&mut self, leg: &Leg) -> Result<(), BadJson> {
        self.open()?;
        match (self, leg) {
            (Tree::Array(values), Leg::Cell(index)) if *index < values.len() => {
                values.remove(*index);
                Ok(())
            }
            (Tree::Object(members), Leg::Member(name)) => {
                let at = members.iter().position(|(key, _)| key == name);
                members.remove(at.ok_or(NOWHERE)?);
                Ok(())
            }
            _ => Err(NOWHERE),
        }
    }

    fn insert<'p: 'a>(&mut self, leg: &'p Leg, value: Tree<'a>) -> Result<(), BadJson> {
        self.open()?;
        match (self, leg) {
            (Tree::Array(values), Leg::Cell(index)) => {
                values.insert((*index).min(values.len()), value);
                Ok(())
            }
            (Tree::Object(members), Leg::Member(name)) => {
                // Stored order: short keys first, then by bytes.
                let order = |key: &[u8]| key.len().cmp(&name.len()).then_with(|| key.cmp(name));
                match members.binary_search_by(|(key, _)| order(key)) {
                    Ok(at) => members[at].1 = value,
                    Err(at) => members.insert(at, (name, value)),
                }
                Ok(())
            }
            _ => Err(NOWHERE),
        }
    }
}

/// `$`, then `.name`, `."quoted name"` and `[index]` (also `[last]` and `[last-n]` are never written here).
fn path(text: &[u8]) -> Result<Vec<Leg>, BadJson> {
    const BAD: BadJson = BadJson("a path that cannot be read");
    let mut rest = text.strip_prefix(b"$").ok_or(BAD)?;
    let mut legs = Vec::new();
    while let Some((&first, behind)) = rest.split_first() {
        if legs.len() == DEPTH_MAX {
            return Err(BAD);
        }
        rest = match first {
            b'.' if behind.first() == Some(&b'"') => {
                let (name, behind) = unquote(&behind[1..]).ok_or(BAD)?;
                legs.push(Leg::Member(name));
                behind
            }
            b'.' => {
                let end = behind.iter().position(|b| matches!(b, b'.' | b'['));
                let (name, behind) = behind.split_at(end.unwrap_or(behind.len()));
                legs.push(Leg::Member(name.to_vec()));
                behind
            }
            b'[' => {
                let end = behind.iter().position(|&b| b == b']').ok_or(BAD)?;
                let digits = std::str::from_utf8(&behind[..end]).map_err(|_| BAD)?;
                legs.push(Leg::Cell(digits.trim().parse().map_err(|_| BAD)?));
                &behind[end + 1..]
            }
            _ => return Err(BAD),
        };
    }
    Ok(legs)
}

/// A JSON string up to its closing quote, and what is behind it.
fn unquote(text: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut name = Vec::new();
    let mut at = 0;
    loop {
        match text.get(at)? {
            b'"' => return Some((name, &text[at + 1..])),
            b'\\' => {
                at += 1;
                match text.get(at)? {
                    b'b' => name.push(8),
                    b'f' => name.push(12),
                    b'n' => name.push(b'\n'),
                    b'r' => name.push(b'\r'),
                    b't' => name.push(b'\t'),
                    b'u' => {
                        // Only control characters are written so.
                        let hex = std::str::from_utf8(text.get(at + 1..at + 5)?).ok()?;
                        let c = char::from_u32(u32::from_str_radix(hex, 16).ok()?)?;
                        name.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                        at += 4;
                    }
                    &plain => name.push(plain),
                }
                at += 1;
            }
            &plain => {
                name.push(plain);
                at += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        let member = |name: &str| Leg::Member(name.as_bytes().to_vec());
        let legs = path(br#"$.a[12]."b \"c\\\u0001".d"#);
        let expected = vec![
            member("a"),
            Leg::Cell(12),
            member("b \"c\\\u{1}"),
            member("d"),
        ];
        assert_eq!(legs, Ok(expected));
        assert_eq!(path(b"$"), Ok(vec![]));
        for bad in [&b"a"[..], b"$[", b"$[x]", b"$.\"a", b"$x"] {
            assert!(path(bad).is_err());
        }
    }
}
