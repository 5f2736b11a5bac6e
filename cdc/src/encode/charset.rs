//! Text in a column's character set to UTF-8, as the servers themselves convert it.
//!
//! Only sets whose every character is converted as the servers do it (the test `charsets` compares them) are
//! here; others are refused when a feed is bound: big5, ujis, eucjpms and gb18030, where `encoding_rs` has other
//! characters in places, and swe7, which is not ASCII.

use std::sync::LazyLock;

use encoding_rs::Encoding;

/// A character set that can be turned into UTF-8 without loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Charset {
    /// utf8mb4 and utf8mb3.
    Utf8,
    /// Seven bits.
    Ascii,
    /// One byte a character, ASCII below 0x80, these from there on.
    SingleByte(&'static Upper),
    /// utf16: big-endian with surrogates.
    Utf16,
    /// utf16le.
    Utf16Le,
    /// ucs2: big-endian, no surrogates.
    Ucs2,
    /// utf32: big-endian.
    Utf32,
    /// One that `encoding_rs` converts like the server, but for some characters.
    Other {
        /// The one of `encoding_rs`.
        encoding: &'static Encoding,
        /// Its characters that the server gives as others.
        instead: &'static [(char, char)],
    },
}

/// What the server's sjis has for characters of Windows-31J.
const SJIS: &[(char, char)] = &[
    ('＼', '\\'),
    ('～', '〜'),
    ('∥', '‖'),
    ('－', '−'),
    ('￠', '¢'),
    ('￡', '£'),
    ('￢', '¬'),
];

/// The characters of the bytes from 0x80 to 0xff; U+FFFD where there is none.
type Upper = [char; 128];

/// Sets of one byte a character: a name, and four hexadecimal digits a character. From MySQL's own conversion;
/// MariaDB's is the same. Not all are what the world calls so: latin1 is Windows-1252 with the five bytes that
/// have no character there as control characters.
static SINGLE_BYTE: LazyLock<Vec<(&str, Upper)>> = LazyLock::new(|| {
    let sets = include_str!("single_byte.txt").lines();
    let sets = sets.filter_map(|line| line.split_once(' '));
    sets.map(|(name, digits)| (name, upper(digits))).collect()
});

fn upper(digits: &str) -> Upper {
    std::array::from_fn(|i| {
        let code = digits.get(4 * i..4 * i + 4);
        let code = code.and_then(|code| u32::from_str_radix(code, 16).ok());
        code.and_then(char::from_u32)
            .unwrap_or(char::REPLACEMENT_CHARACTER)
    })
}

impl Charset {
    /// The set with the server's name for it, if it can be converted.
    pub fn named(name: &str) -> Option<Charset> {
        Some(match name {
            "utf8mb4" | "utf8mb3" | "utf8" => Charset::Utf8,
            "ascii" => Charset::Ascii,
            "gbk" => Charset::other(encoding_rs::GBK, &[]),
            "gb2312" => Charset::other(encoding_rs::GBK, &[('·', '・'), ('—', '―')]),
            "cp932" => Charset::other(encoding_rs::SHIFT_JIS, &[]),
            "sjis" => Charset::other(encoding_rs::SHIFT_JIS, SJIS),
            "euckr" => Charset::other(encoding_rs::EUC_KR, &[]),
            "utf16" => Charset::Utf16,
            "utf16le" => Charset::Utf16Le,
            "ucs2" => Charset::Ucs2,
            "utf32" => Charset::Utf32,
            _ => {
                let (_, upper) = SINGLE_BYTE.iter().find(|(single, _)| *single == name)?;
                Charset::SingleByte(upper)
            }
        })
    }

    /// The text as it stands, when its bytes are sound UTF-8 already.
    pub(crate) fn as_utf8(self, raw: &[u8]) -> Option<&[u8]> {
        let same = match self {
            Charset::Utf8 => std::str::from_utf8(raw).is_ok(),
            Charset::Ascii | Charset::SingleByte(_) | Charset::Other { .. } => raw.is_ascii(),
            Charset::Utf16 | Charset::Utf16Le | Charset::Ucs2 | Charset::Utf32 => raw.is_empty(),
        };
        same.then_some(raw)
    }

    /// Appends the text in UTF-8. Returns how many sequences were invalid and became U+FFFD.
    pub fn append(self, raw: &[u8], out: &mut Vec<u8>) -> u64 {
        match self {
            Charset::Utf8 => append_lossy(raw, out),
            Charset::Ascii => append_chars(
                raw.iter().map(|&b| b.is_ascii().then_some(char::from(b))),
                out,
            ),
            Charset::SingleByte(upper) => append_chars(
                raw.iter().map(|&byte| match byte.checked_sub(0x80) {
                    None => Some(char::from(byte)),
                    Some(i) => {
                        let c = upper[usize::from(i)];
                        (c != char::REPLACEMENT_CHARACTER).then_some(c)
                    }
                }),
                out,
            ),
            Charset::Utf16 => append_utf16(raw, u16::from_be_bytes, out),
            Charset::Utf16Le => append_utf16(raw, u16::from_le_bytes, out),
            Charset::Ucs2 => {
                let units = raw.chunks(2).map(|unit| {
                    let unit = <[u8; 2]>::try_from(unit).ok()?;
                    char::from_u32(u32::from(u16::from_be_bytes(unit)))
                });
                append_chars(units, out)
            }
            Charset::Utf32 => {
                let units = raw.chunks(4).map(|unit| {
                    let unit = <[u8; 4]>::try_from(unit).ok()?;
                    char::from_u32(u32::from_be_bytes(unit))
                });
                append_chars(units, out)
            }
            Charset::Other { encoding, instead } => {
                let start = out.len();
                let invalid = append_encoded(encoding, raw, out);
                replace(instead, start, out);
                invalid
            }
        }
    }

    fn other(encoding: &'static Encoding, instead: &'static [(char, char)]) -> Charset {
        Charset::Other { encoding, instead }
    }
}

const REPLACEMENT: &str = "\u{fffd}";

fn append_lossy(raw: &[u8], out: &mut Vec<u8>) -> u64 {
    let mut invalid = 0;
    for chunk in raw.utf8_chunks() {
        out.extend_from_slice(chunk.valid().as_bytes());
        if !chunk.invalid().is_empty() {
            out.extend_from_slice(REPLACEMENT.as_bytes());
            invalid += 1;
        }
    }
    invalid
}

fn append_chars(chars: impl Iterator<Item = Option<char>>, out: &mut Vec<u8>) -> u64 {
    let mut invalid = 0;
    let mut utf8 = [0; 4];
    for c in chars {
        invalid += u64::from(c.is_none());
        let c = c.unwrap_or(char::REPLACEMENT_CHARACTER);
        out.extend_from_slice(c.encode_utf8(&mut utf8).as_bytes());
    }
    invalid
}

fn append_utf16(raw: &[u8], unit: fn([u8; 2]) -> u16, out: &mut Vec<u8>) -> u64 {
    let (pairs, rest) = raw.as_chunks::<2>();
    let units = pairs.iter().map(|&pair| unit(pair));
    let invalid = append_chars(char::decode_utf16(units).map(Result::ok), out);
    if rest.is_empty() {
        return invalid;
    }
    out.extend_from_slice(REPLACEMENT.as_bytes());
    invalid + 1
}

fn append_encoded(encoding: &'static Encoding, raw: &[u8], out: &mut Vec<u8>) -> u64 {
    let mut decoder = encoding.new_decoder_without_bom_handling();
    let mut invalid = 0;
    let mut rest = raw;
    loop {
        let room = decoder
            .max_utf8_buffer_length_without_replacement(rest.len())
            .unwrap_or(rest.len() * 4 + 16);
        let start = out.len();
        out.resize(start + room, 0);
        let (result, read, written) =
            decoder.decode_to_utf8_without_replacement(rest, &mut out[start..], true);
        out.truncate(start + written);
        rest = &rest[read..];
        match result {
            encoding_rs::DecoderResult::InputEmpty => return invalid,
            encoding_rs::DecoderResult::OutputFull => {}
            encoding_rs::DecoderResult::Malformed(_, _) => {
                out.extend_from_slice(REPLACEMENT.as_bytes());
                invalid += 1;
            }
        }
    }
}

/// Puts other characters for some, from `start` on. None of them is ASCII.
fn replace(instead: &[(char, char)], start: usize, out: &mut Vec<u8>) {
    if instead.is_empty() {
        return;
    }
    let text = String::from_utf8_lossy(&out[start..]).into_owned();
    out.truncate(start);
    let mut utf8 = [0; 4];
    for c in text.chars() {
        let found = instead.iter().find(|(theirs, _)| *theirs == c);
        let c = found.map_or(c, |(_, server)| *server);
        out.extend_from_slice(c.encode_utf8(&mut utf8).as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(name: &str, raw: &[u8], expected: &str, invalid: u64) {
        let charset = Charset::named(name).expect("known");
        let mut out = Vec::new();
        let counted = charset.append(raw, &mut out);
        assert_eq!(
            (std::str::from_utf8(&out), counted),
            (Ok(expected), invalid)
        );
        if let Some(same) = charset.as_utf8(raw) {
            assert_eq!((same, 0), (expected.as_bytes(), invalid));
        }
    }

    #[test]
    fn each_set_and_what_is_invalid_in_it() {
        check("utf8mb4", "\u{1f600}é".as_bytes(), "\u{1f600}é", 0);
        check("utf8mb4", b"a\xffb\xe2\x82", "a\u{fffd}b\u{fffd}", 2);
        check("ascii", b"a\x80", "a\u{fffd}", 1);
        check("latin1", b"\x80\x81\xe9", "€\u{81}é", 0);
        check("gbk", b"\xd6\xd0a", "中a", 0);
        check("gbk", b"a\xd6", "a\u{fffd}", 1);
        check("utf16", b"\xd8\x3d\xde\x00\0a", "\u{1f600}a", 0);
        check("utf16", b"\xd8\x3d\0", "\u{fffd}\u{fffd}", 2);
        check("utf16le", b"a\0", "a", 0);
        check("ucs2", b"\x4e\x2d", "中", 0);
        check("ucs2", b"\xd8\x3d", "\u{fffd}", 1);
        check("utf32", b"\0\x01\xf6\0", "\u{1f600}", 0);
        assert_eq!(Charset::named("klingon"), None);
    }
}
