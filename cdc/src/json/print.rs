//! JSON as SELECT prints it: `{"a": 1, "b": [1, 2]}`.

use std::io::Write as _;

use onair_model::value::DateTime;

use super::binary::View;
use super::diff::Tree;
use super::{BadJson, DEPTH_MAX, number};
use crate::decode::bin_to_decimal;
use crate::encode::print as value;

/// Appends a value and all in it, of a document of `size` bytes.
pub(super) fn view(view: View<'_>, size: usize, out: &mut Vec<u8>) -> Result<(), BadJson> {
    Printer::new(size, out).view(view)
}

/// Appends a tree, of documents of `size` bytes in all.
pub(super) fn tree(tree: &Tree<'_>, size: usize, out: &mut Vec<u8>) -> Result<(), BadJson> {
    Printer::new(size, out).tree(tree)
}

struct Printer<'o> {
    out: &'o mut Vec<u8>,
    depth: usize,
    /// What values and texts may still take. A sound document names each of its bytes once; a damaged one
    /// can name the same again and again.
    budget: usize,
}

impl<'o> Printer<'o> {
    fn new(size: usize, out: &'o mut Vec<u8>) -> Self {
        Printer {
            out,
            depth: 0,
            budget: size,
        }
    }

    fn view(&mut self, view: View<'_>) -> Result<(), BadJson> {
        self.spend(1)?;
        match view {
            View::Array(array) => {
                self.enter(b'[')?;
                for (i, value) in array.values().enumerate() {
                    self.separate(i);
                    self.view(value?)?;
                }
                self.leave(b']');
                Ok(())
            }
            View::Object(object) => {
                self.enter(b'{')?;
                for (i, member) in object.members().enumerate() {
                    let (key, value) = member?;
                    self.separate(i);
                    self.key(key)?;
                    self.view(value)?;
                }
                self.leave(b'}');
                Ok(())
            }
            scalar => self.scalar(scalar),
        }
    }

    fn tree(&mut self, tree: &Tree<'_>) -> Result<(), BadJson> {
        match tree {
            Tree::Array(values) => {
                self.enter(b'[')?;
                for (i, value) in values.iter().enumerate() {
                    self.separate(i);
                    self.tree(value)?;
                }
                self.leave(b']');
                Ok(())
            }
            Tree::Object(members) => {
                self.enter(b'{')?;
                for (i, (key, value)) in members.iter().enumerate() {
                    self.separate(i);
                    self.key(key)?;
                    self.tree(value)?;
                }
                self.leave(b'}');
                Ok(())
            }
            Tree::Untouched(view) => self.view(*view),
        }
    }

    fn spend(&mut self, bytes: usize) -> Result<(), BadJson> {
        let left = self.budget.checked_sub(bytes);
        self.budget = left.ok_or(BadJson("values that overlap"))?;
        Ok(())
    }

    fn enter(&mut self, bracket: u8) -> Result<(), BadJson> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(BadJson("more than 100 levels"));
        }
        self.out.push(bracket);
        Ok(())
    }

    fn separate(&mut self, index: usize) {
        if index > 0 {
            self.out.extend_from_slice(b", ");
        }
    }

    fn key(&mut self, key: &[u8]) -> Result<(), BadJson> {
        self.spend(key.len())?;
        quoted(key, self.out);
        self.out.extend_from_slice(b": ");
        Ok(())
    }

    fn leave(&mut self, bracket: u8) {
        self.depth -= 1;
        self.out.push(bracket);
    }

    fn scalar(&mut self, scalar: View<'_>) -> Result<(), BadJson> {
        if let View::String(bytes) | View::Opaque(_, bytes) = scalar {
            self.spend(bytes.len())?;
        }
        let out = &mut *self.out;
        match scalar {
            View::Null => out.extend_from_slice(b"null"),
            View::Bool(true) => out.extend_from_slice(b"true"),
            View::Bool(false) => out.extend_from_slice(b"false"),
            View::Int(n) => integer(format_args!("{n}"), out),
            View::UInt(n) => integer(format_args!("{n}"), out),
            View::Double(n) => number::double(n, out),
            View::String(text) => quoted(text, out),
            View::Opaque(field_type, bytes) => return opaque(field_type, bytes, out),
            View::Array(_) | View::Object(_) => {}
        }
        Ok(())
    }
}

fn integer(digits: std::fmt::Arguments<'_>, out: &mut Vec<u8>) {
    // Writing to a Vec cannot fail.
    let _ = out.write_fmt(digits);
}

fn quoted(text: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    for &byte in text {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            0x08 => out.extend_from_slice(b"\\b"),
            0x09 => out.extend_from_slice(b"\\t"),
            0x0a => out.extend_from_slice(b"\\n"),
            0x0c => out.extend_from_slice(b"\\f"),
            0x0d => out.extend_from_slice(b"\\r"),
            0x00..=0x1f => {
                let hex = |nibble: u8| b"0123456789abcdef"[usize::from(nibble)];
                out.extend_from_slice(&[b'\\', b'u', b'0', b'0', hex(byte >> 4), hex(byte & 15)]);
            }
            _ => out.push(byte),
        }
    }
    out.push(b'"');
}

fn opaque(field_type: u8, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), BadJson> {
    const DECIMAL: u8 = 246;
    const TIMESTAMP: u8 = 7;
    const DATE: u8 = 10;
    const TIME: u8 = 11;
    const DATETIME: u8 = 12;
    match field_type {
        DECIMAL => {
            let bad = BadJson("a DECIMAL that cannot be");
            let (&[precision, scale], digits) = bytes.split_first_chunk().ok_or(bad)?;
            let decimal = bin_to_decimal(precision, scale, digits).ok_or(bad)?;
            value::decimal(&decimal, out);
        }
        DATE | TIME | DATETIME | TIMESTAMP => {
            let bad = BadJson("a date or time that cannot be");
            let packed = i64::from_le_bytes(bytes.try_into().map_err(|_| bad)?);
            out.push(b'"');
            let text = match field_type {
                TIME => value::time(packed_time(packed).ok_or(bad)?, 6),
                DATE => value::date(&packed_date_time(packed).ok_or(bad)?),
                _ => value::date_time(&packed_date_time(packed).ok_or(bad)?, 6),
            };
            out.extend_from_slice(text.text());
            out.push(b'"');
        }
        _ => {
            integer(format_args!("\"base64:type{field_type}:"), out);
            base64(bytes, out);
            out.push(b'"');
        }
    }
    Ok(())
}

/// MySQL's `my_time_packed`: hours, minutes, seconds and microseconds in 10+, 6, 6 and 24 bits.
fn packed_time(packed: i64) -> Option<i64> {
    let n = packed.unsigned_abs();
    let (clock, micros) = (n >> 24, n & 0xff_ffff);
    let (hours, minutes, seconds) = (clock >> 12, clock >> 6 & 63, clock & 63);
    if hours > 838 || minutes > 59 || seconds > 59 || micros > 999_999 {
        return None;
    }
    let micros = ((hours * 60 + minutes) * 60 + seconds) * 1_000_000 + micros;
    Some(packed.signum() * micros as i64)
}

/// MySQL's `my_datetime_packed`: year * 13 + month, day, hour, minute, second and microseconds.
fn packed_date_time(packed: i64) -> Option<DateTime> {
    let n = packed.unsigned_abs();
    let (days, clock) = (n >> 41, n >> 24 & 0x1_ffff);
    let months = days >> 5;
    let value = DateTime {
        year: u16::try_from(months / 13).ok()?,
        month: (months % 13) as u8,
        day: (days & 31) as u8,
        hour: (clock >> 12) as u8,
        minute: (clock >> 6 & 63) as u8,
        second: (clock & 63) as u8,
        micros: (n & 0xff_ffff) as u32,
    };
    let sound = value.year <= 9999
        && value.hour <= 23
        && value.minute <= 59
        && value.second <= 59
        && value.micros <= 999_999;
    sound.then_some(value)
}

/// With a line feed, escaped, after each 76 characters but not at the end: MySQL's `base64_encode`.
fn base64(bytes: &[u8], out: &mut Vec<u8>) {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut column = 0;
    for group in bytes.chunks(3) {
        if column == 76 {
            out.extend_from_slice(b"\\n");
            column = 0;
        }
        let byte = |i: usize| u32::from(group.get(i).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        let digit = |i: u32| DIGITS[(bits >> (18 - 6 * i) & 63) as usize];
        out.extend_from_slice(&[digit(0), digit(1)]);
        out.push(if group.len() > 1 { digit(2) } else { b'=' });
        out.push(if group.len() > 2 { digit(3) } else { b'=' });
        column += 4;
    }
}
