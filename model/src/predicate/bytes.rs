//! Literals of text, in the column's own character set, and of binary strings.

use crate::column::Collation;

use super::LiteralProblem;
use super::literal::Written;
use super::tree::{ByteRule, Literal};

fn bytes(bytes: Vec<u8>, rule: ByteRule) -> Literal {
    Literal::Bytes {
        bytes: rule.trim(&bytes).into(),
        rule,
    }
}

pub(super) fn text(written: &Written, collation: &Collation) -> Result<Literal, LiteralProblem> {
    if collation.charset() == "binary" {
        return Ok(bytes(binary(written)?, ByteRule::Exact));
    }
    let Written::Text(text) = written else {
        return Err(LiteralProblem::Kind {
            write: "text in quotes, e.g. 'on'",
        });
    };
    let rule = if collation.pads() {
        ByteRule::PadSpace
    } else {
        ByteRule::Exact
    };
    let mut out = Vec::with_capacity(text.len());
    for c in text.chars() {
        if !encode(c, collation.charset(), &mut out) {
            return Err(LiteralProblem::Unencodable {
                character: c,
                charset: collation.charset().to_owned(),
            });
        }
    }
    Ok(bytes(out, rule))
}

/// Whether text of a character set can be written here; see [`encode`].
pub(super) fn is_encodable(charset: &str) -> bool {
    matches!(charset, "utf8mb4" | "utf8mb3" | "utf8" | "ascii" | "latin1")
}

/// Appends a character in a column's set; false where the set has none.
fn encode(c: char, charset: &str, out: &mut Vec<u8>) -> bool {
    let code = u32::from(c);
    match charset {
        "utf8mb4" => {}
        "utf8mb3" | "utf8" if code <= 0xffff => {}
        "ascii" | "latin1" if c.is_ascii() => {}
        // MySQL's latin1 is Windows code page 1252.
        "latin1" => {
            let byte = match code {
                0xa0..=0xff => u8::try_from(code).ok(),
                _ => CP1252
                    .iter()
                    .zip(0x80..)
                    .find(|(at, _)| **at == c)
                    .map(|(_, byte)| byte),
            };
            out.extend(byte);
            return byte.is_some();
        }
        _ => return false,
    }
    out.extend(c.encode_utf8(&mut [0; 4]).bytes());
    true
}

/// 0x80 to 0x9f of Windows code page 1252; a NUL where it has nothing (MySQL has control characters there).
#[rustfmt::skip]
const CP1252: [char; 32] = [
    '€', '\0', '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', '\0', 'Ž', '\0',
    '\0', '‘', '’', '“', '”', '•', '–', '—', '˜', '™', 'š', '›', 'œ', '\0', 'ž', 'Ÿ',
];

/// VARBINARY and BLOB.
pub(super) fn variable_binary(written: &Written) -> Result<Literal, LiteralProblem> {
    Ok(bytes(binary(written)?, ByteRule::Exact))
}

/// Text in quotes stands for its bytes in UTF-8.
fn binary(written: &Written) -> Result<Vec<u8>, LiteralProblem> {
    match written {
        Written::Text(text) => Ok(text.clone().into_bytes()),
        Written::Hex(digits) => {
            let pairs = digits.as_bytes().chunks(2);
            pairs
                .map(|pair| match pair {
                    [high, low] => {
                        let high = char::from(*high).to_digit(16)?;
                        let low = char::from(*low).to_digit(16)?;
                        u8::try_from(high * 16 + low).ok()
                    }
                    _ => None,
                })
                .collect::<Option<_>>()
                .ok_or(LiteralProblem::HexDigits)
        }
        _ => Err(LiteralProblem::Kind {
            write: "bytes as x'..' or text in quotes",
        }),
    }
}

pub(super) fn fixed_binary(written: &Written, len: u16) -> Result<Literal, LiteralProblem> {
    let value = binary(written)?;
    if value.len() != usize::from(len) {
        return Err(LiteralProblem::Length {
            len,
            given: value.len(),
        });
    }
    Ok(bytes(value, ByteRule::PadZero))
}
