//! Text in a column's character set to UTF-8, as the servers themselves convert it.
//!
//! Only sets whose every character was compared with a server's own conversion are here (the test
//! `charsets` does it again); others are refused when a feed is bound.

use encoding_rs::{Encoding, GBK, WINDOWS_1252};

/// A character set that can be turned into UTF-8 without loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Charset {
    /// utf8mb4 and utf8mb3.
    Utf8,
    /// Seven bits.
    Ascii,
    /// utf16: big-endian with surrogates.
    Utf16,
    /// utf16le.
    Utf16Le,
    /// ucs2: big-endian, no surrogates.
    Ucs2,
    /// utf32: big-endian.
    Utf32,
    /// One that `encoding_rs` converts like the server.
    Other(&'static Encoding),
}

impl Charset {
    /// The set with the server's name for it, if it can be converted.
    pub fn named(name: &str) -> Option<Charset> {
        Some(match name {
            "utf8mb4" | "utf8mb3" | "utf8" => Charset::Utf8,
            "ascii" => Charset::Ascii,
            "latin1" => Charset::Other(WINDOWS_1252),
            "gbk" => Charset::Other(GBK),
            "utf16" => Charset::Utf16,
            "utf16le" => Charset::Utf16Le,
            "ucs2" => Charset::Ucs2,
            "utf32" => Charset::Utf32,
            _ => return None,
        })
    }

    /// The text as it stands, when its bytes are sound UTF-8 already.
    pub(crate) fn as_utf8(self, raw: &[u8]) -> Option<&[u8]> {
        let same = match self {
            Charset::Utf8 => std::str::from_utf8(raw).is_ok(),
            Charset::Ascii | Charset::Other(_) => raw.is_ascii(),
            Charset::Utf16 | Charset::Utf16Le | Charset::Ucs2 | Charset::Utf32 => raw.is_empty(),
        };
        same.then_some(raw)
    }

    /// Appends the text in UTF-8. Returns how many sequences were invalid and became U+FFFD.
    pub(crate) fn append(self, raw: &[u8], out: &mut Vec<u8>) -> u64 {
        match self {
            Charset::Utf8 => append_lossy(raw, out),
            Charset::Ascii => append_chars(
                raw.iter().map(|&b| b.is_ascii().then_some(char::from(b))),
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
            Charset::Other(encoding) => append_encoded(encoding, raw, out),
        }
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
