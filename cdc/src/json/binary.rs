//! Reading binary JSON in place.

use super::BadJson;

/// One value within a document.
#[derive(Clone, Copy, Debug)]
pub(crate) enum View<'a> {
    Null,
    Bool(bool),
    Int(i64),
    UInt(u64),
    Double(f64),
    String(&'a [u8]),
    /// A value of a MySQL type that JSON does not have, e.g. 246 for DECIMAL.
    Opaque(u8, &'a [u8]),
    Array(Container<'a>),
    Object(Container<'a>),
}

/// An array or object.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Container<'a> {
    /// From the element count on; offsets are from here.
    bytes: &'a [u8],
    count: usize,
    is_object: bool,
    /// Bytes of counts and offsets: 2, or 4 in large documents.
    word: usize,
}

const SHORT: BadJson = BadJson("it ends before its content does");

impl<'a> View<'a> {
    /// The root of a document: a type byte and its value.
    pub(crate) fn document(bytes: &'a [u8]) -> Result<Self, BadJson> {
        let (kind, value) = bytes.split_first().ok_or(SHORT)?;
        View::read(*kind, value)
    }

    fn read(kind: u8, bytes: &'a [u8]) -> Result<Self, BadJson> {
        Ok(match kind {
            0..=3 => {
                let is_object = kind < 2;
                let word = if kind & 1 == 0 { 2 } else { 4 };
                let container = Container::read(bytes, is_object, word)?;
                if is_object {
                    View::Object(container)
                } else {
                    View::Array(container)
                }
            }
            4 => match bytes.first().ok_or(SHORT)? {
                0 => View::Null,
                1 => View::Bool(true),
                2 => View::Bool(false),
                _ => return Err(BadJson("a literal that is not null, true or false")),
            },
            5 => View::Int(i64::from(i16::from_le_bytes(fixed(bytes)?))),
            6 => View::UInt(u64::from(u16::from_le_bytes(fixed(bytes)?))),
            7 => View::Int(i64::from(i32::from_le_bytes(fixed(bytes)?))),
            8 => View::UInt(u64::from(u32::from_le_bytes(fixed(bytes)?))),
            9 => View::Int(i64::from_le_bytes(fixed(bytes)?)),
            10 => View::UInt(u64::from_le_bytes(fixed(bytes)?)),
            11 => View::Double(f64::from_le_bytes(fixed(bytes)?)),
            12 => View::String(counted(bytes)?),
            15 => {
                let (field_type, value) = bytes.split_first().ok_or(SHORT)?;
                View::Opaque(*field_type, counted(value)?)
            }
            _ => return Err(BadJson("an unknown type of value")),
        })
    }
}

impl<'a> Container<'a> {
    fn read(bytes: &'a [u8], is_object: bool, word: usize) -> Result<Self, BadJson> {
        let count = uint(bytes, 0, word)?;
        let size = uint(bytes, word, word)?;
        let container = Container {
            bytes: bytes.get(..size).ok_or(SHORT)?,
            count,
            is_object,
            word,
        };
        let entries = count.checked_mul(container.key_entry() + container.value_entry());
        match entries.and_then(|entries| entries.checked_add(2 * word)) {
            Some(end) if end <= size => Ok(container),
            _ => Err(SHORT),
        }
    }

    fn key_entry(&self) -> usize {
        if self.is_object { self.word + 2 } else { 0 }
    }

    fn value_entry(&self) -> usize {
        1 + self.word
    }

    pub(crate) fn len(&self) -> usize {
        self.count
    }

    /// The values in order.
    pub(crate) fn values(self) -> impl Iterator<Item = Result<View<'a>, BadJson>> {
        (0..self.count).map(move |index| self.value(index))
    }

    /// The members of an object, in the order stored: short keys first, then by bytes.
    pub(crate) fn members(self) -> impl Iterator<Item = Result<(&'a [u8], View<'a>), BadJson>> {
        (0..self.count).map(move |index| Ok((self.key(index)?, self.value(index)?)))
    }

    fn key(&self, index: usize) -> Result<&'a [u8], BadJson> {
        let entry = 2 * self.word + index * self.key_entry();
        let at = uint(self.bytes, entry, self.word)?;
        let len = uint(self.bytes, entry + self.word, 2)?;
        let end = at.checked_add(len).ok_or(SHORT)?;
        self.bytes.get(at..end).ok_or(SHORT)
    }

    fn value(&self, index: usize) -> Result<View<'a>, BadJson> {
        let entry = 2 * self.word + self.count * self.key_entry() + index * self.value_entry();
        let kind = *self.bytes.get(entry).ok_or(SHORT)?;
        let inline = match kind {
            4..=6 => true,
            7 | 8 => self.word == 4,
            _ => false,
        };
        let at = if inline {
            entry + 1
        } else {
            uint(self.bytes, entry + 1, self.word)?
        };
        View::read(kind, self.bytes.get(at..).ok_or(SHORT)?)
    }
}

fn fixed<const N: usize>(bytes: &[u8]) -> Result<[u8; N], BadJson> {
    bytes.first_chunk::<N>().copied().ok_or(SHORT)
}

fn uint(bytes: &[u8], at: usize, word: usize) -> Result<usize, BadJson> {
    let bytes = bytes.get(at..).ok_or(SHORT)?;
    Ok(match word {
        2 => usize::from(u16::from_le_bytes(fixed(bytes)?)),
        _ => u32::from_le_bytes(fixed(bytes)?) as usize,
    })
}

/// Bytes behind their length: seven bits a byte, the lowest first.
fn counted(bytes: &[u8]) -> Result<&[u8], BadJson> {
    let mut len = 0usize;
    for (i, &byte) in bytes.iter().enumerate().take(5) {
        len |= usize::from(byte & 0x7f) << (7 * i);
        if byte & 0x80 == 0 {
            let end = (i + 1).checked_add(len).ok_or(SHORT)?;
            return bytes.get(i + 1..end).ok_or(SHORT);
        }
    }
    Err(SHORT)
}
