//! Rows of a SELECT by the binary protocol, as they were sent: nothing is copied or kept of one row beyond it.
//!
//! <https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_binary_resultset.html>

use bytes::Bytes;
use mysql_async::Error;
use mysql_async::consts::{ColumnFlags, ColumnType};
use mysql_common::io::ParseBuf;
use mysql_common::packets::{Column, StmtPacket};

use super::{END, ERROR, OK, Wire, server_error, unexpected};

const COM_STMT_PREPARE: u8 = 0x16;
const COM_STMT_EXECUTE: u8 = 0x17;
const COM_STMT_CLOSE: u8 = 0x19;
/// No cursor, and once.
const EXECUTE_FLAGS: [u8; 5] = [0, 1, 0, 0, 0];
/// Before the bitmap of NULLs; two bits of that are of no column.
const NULLS_AT: usize = 1;
const NULLS_OFFSET: usize = 2;

/// A value as the binary protocol has it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::mysql) enum Sent<'a> {
    Null,
    /// Text, decimals and bits too.
    Bytes(&'a [u8]),
    Int(i64),
    UInt(u64),
    Float(f32),
    Double(f64),
    Date {
        year: u16,
        /// Month, day, hour, minute, second.
        rest: [u8; 5],
        micros: u32,
    },
    Time {
        negative: bool,
        days: u32,
        /// Hours, minutes, seconds.
        rest: [u8; 3],
        micros: u32,
    },
}

/// How a column's values are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Signed(usize),
    Unsigned(usize),
    Float,
    Double,
    Date,
    Time,
    Bytes,
}

/// The rows of a SELECT, which must be read to their end before anything else is asked.
pub(in crate::mysql) struct Rows<'a> {
    wire: &'a mut Wire,
    statement: [u8; 4],
    forms: Vec<Form>,
}

/// A row. Its first byte is zero.
#[derive(Debug)]
pub(in crate::mysql) struct Row(Bytes);

/// The values of a row, one after the other.
pub(in crate::mysql) struct Values<'a> {
    forms: &'a [Form],
    nulls: &'a [u8],
    rest: &'a [u8],
    at: usize,
}

impl Wire {
    /// Begins to read the rows of a SELECT without parameters.
    pub(in crate::mysql) async fn select(&mut self, sql: &str) -> Result<Rows<'_>, Error> {
        let prepare = [&[COM_STMT_PREPARE], sql.as_bytes()].concat();
        self.packets.command(&prepare).await?;
        let packet = self.answer().await?;
        let prepared: StmtPacket = ParseBuf(&packet).parse(())?;
        if prepared.num_params() != 0 {
            return Err(unexpected(&packet));
        }
        self.columns(usize::from(prepared.num_columns())).await?;
        let statement = prepared.statement_id().to_le_bytes();
        let execute = [&[COM_STMT_EXECUTE], &statement[..], &EXECUTE_FLAGS].concat();
        self.packets.command(&execute).await?;
        let packet = self.answer().await?;
        let count = match packet[..] {
            [count @ 1..=0xfa] => usize::from(count),
            [0xfc, low, high] => usize::from(u16::from_le_bytes([low, high])),
            _ => return Err(unexpected(&packet)),
        };
        let forms = self.columns(count).await?;
        Ok(Rows {
            wire: self,
            statement,
            forms,
        })
    }

    /// The next packet, unless it says that something went wrong.
    async fn answer(&mut self) -> Result<Bytes, Error> {
        let packet = self.packets.next().await?;
        match packet.first() {
            Some(&ERROR) => Err(server_error(&packet)),
            _ => Ok(packet),
        }
    }

    /// So many columns, and that there are no more.
    async fn columns(&mut self, count: usize) -> Result<Vec<Form>, Error> {
        let mut forms = Vec::with_capacity(count);
        for _ in 0..count {
            let packet = self.answer().await?;
            let column: Column = ParseBuf(&packet).parse(())?;
            forms.push(Form::of(&column).ok_or_else(|| unexpected(&packet))?);
        }
        let end = self.answer().await?;
        match end.first() {
            Some(&END) if end.len() < 9 => Ok(forms),
            _ => Err(unexpected(&end)),
        }
    }
}

impl Rows<'_> {
    /// The next row; `None` after the last one.
    pub(in crate::mysql) async fn next(&mut self) -> Result<Option<Row>, Error> {
        let packet = self.wire.answer().await?;
        match packet.first() {
            Some(&OK) => Ok(Some(Row(packet))),
            Some(&END) if packet.len() < 9 => Ok(None),
            _ => Err(unexpected(&packet)),
        }
    }

    /// The values of one of its rows.
    pub(in crate::mysql) fn values<'a>(&'a self, row: &'a Row) -> Values<'a> {
        let nulls = (self.forms.len() + NULLS_OFFSET).div_ceil(8);
        let after = row.0.get(NULLS_AT..).unwrap_or_default();
        // One that is too short has no values.
        let (nulls, rest) = after.split_at_checked(nulls).unwrap_or_default();
        Values {
            forms: &self.forms,
            nulls,
            rest,
            at: 0,
        }
    }

    /// Forgets the statement, after its last row.
    pub(in crate::mysql) async fn close(self) -> Result<(), Error> {
        let close = [&[COM_STMT_CLOSE], &self.statement[..]].concat();
        Ok(self.wire.packets.command(&close).await?)
    }
}

impl Row {
    /// As it was sent.
    pub(in crate::mysql) fn bytes(&self) -> usize {
        self.0.len()
    }
}

impl<'a> Iterator for Values<'a> {
    /// `None` is a value that is not there whole.
    type Item = Option<Sent<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        let form = self.forms.get(self.at)?;
        let bit = self.at + NULLS_OFFSET;
        self.at += 1;
        let is_null = |byte: &u8| byte >> (bit % 8) & 1 == 1;
        Some(match self.nulls.get(bit / 8).map(is_null) {
            None => None,
            Some(true) => Some(Sent::Null),
            Some(false) => form.read(&mut self.rest),
        })
    }
}

impl Form {
    fn of(column: &Column) -> Option<Self> {
        let int = match column.flags().contains(ColumnFlags::UNSIGNED_FLAG) {
            true => Form::Unsigned,
            false => Form::Signed,
        };
        Some(match column.column_type() {
            ColumnType::MYSQL_TYPE_TINY => int(1),
            ColumnType::MYSQL_TYPE_SHORT | ColumnType::MYSQL_TYPE_YEAR => int(2),
            ColumnType::MYSQL_TYPE_LONG | ColumnType::MYSQL_TYPE_INT24 => int(4),
            ColumnType::MYSQL_TYPE_LONGLONG => int(8),
            ColumnType::MYSQL_TYPE_FLOAT => Form::Float,
            ColumnType::MYSQL_TYPE_DOUBLE => Form::Double,
            ColumnType::MYSQL_TYPE_DATE
            | ColumnType::MYSQL_TYPE_NEWDATE
            | ColumnType::MYSQL_TYPE_DATETIME
            | ColumnType::MYSQL_TYPE_TIMESTAMP => Form::Date,
            ColumnType::MYSQL_TYPE_TIME => Form::Time,
            ColumnType::MYSQL_TYPE_DECIMAL
            | ColumnType::MYSQL_TYPE_NEWDECIMAL
            | ColumnType::MYSQL_TYPE_VARCHAR
            | ColumnType::MYSQL_TYPE_VAR_STRING
            | ColumnType::MYSQL_TYPE_STRING
            | ColumnType::MYSQL_TYPE_ENUM
            | ColumnType::MYSQL_TYPE_SET
            | ColumnType::MYSQL_TYPE_BIT
            | ColumnType::MYSQL_TYPE_TINY_BLOB
            | ColumnType::MYSQL_TYPE_MEDIUM_BLOB
            | ColumnType::MYSQL_TYPE_LONG_BLOB
            | ColumnType::MYSQL_TYPE_BLOB
            | ColumnType::MYSQL_TYPE_JSON
            | ColumnType::MYSQL_TYPE_VECTOR
            | ColumnType::MYSQL_TYPE_GEOMETRY => Form::Bytes,
            _ => return None,
        })
    }

    /// Takes a value from the front.
    fn read<'a>(self, rest: &mut &'a [u8]) -> Option<Sent<'a>> {
        Some(match self {
            Form::Unsigned(len) => Sent::UInt(number(take(rest, len)?)),
            Form::Signed(len) => {
                let unused = 64 - 8 * len as u32;
                Sent::Int((number(take(rest, len)?) << unused) as i64 >> unused)
            }
            Form::Float => Sent::Float(f32::from_bits(number(take(rest, 4)?) as u32)),
            Form::Double => Sent::Double(f64::from_bits(number(take(rest, 8)?))),
            Form::Bytes => {
                let len = length(rest)?;
                Sent::Bytes(take(rest, len)?)
            }
            Form::Date => {
                let len = length(rest)?;
                date(take(rest, len)?)?
            }
            Form::Time => {
                let len = length(rest)?;
                time(take(rest, len)?)?
            }
        })
    }
}

fn take<'a>(rest: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
    let (taken, after) = rest.split_at_checked(len)?;
    *rest = after;
    Some(taken)
}

/// Little-endian, eight bytes at most.
fn number(bytes: &[u8]) -> u64 {
    let mut wide = [0; 8];
    wide[..bytes.len()].copy_from_slice(bytes);
    u64::from_le_bytes(wide)
}

fn length(rest: &mut &[u8]) -> Option<usize> {
    let long = match take(rest, 1)? {
        &[short @ ..=0xfa] => return Some(usize::from(short)),
        [0xfc] => take(rest, 2)?,
        [0xfd] => take(rest, 3)?,
        [0xfe] => take(rest, 8)?,
        _ => return None,
    };
    usize::try_from(number(long)).ok()
}

/// What is zero at the end is left out.
fn date(bytes: &[u8]) -> Option<Sent<'_>> {
    let mut all = [0; 11];
    let filled = matches!(bytes.len(), 0 | 4 | 7 | 11);
    all.get_mut(..bytes.len())?.copy_from_slice(bytes);
    let [y, year, month, day, hour, minute, second, micros @ ..] = all;
    filled.then_some(Sent::Date {
        year: u16::from_le_bytes([y, year]),
        rest: [month, day, hour, minute, second],
        micros: u32::from_le_bytes(micros),
    })
}

fn time(bytes: &[u8]) -> Option<Sent<'_>> {
    let mut all = [0; 12];
    let filled = matches!(bytes.len(), 0 | 8 | 12);
    all.get_mut(..bytes.len())?.copy_from_slice(bytes);
    let [negative, a, b, c, d, hours, minutes, seconds, micros @ ..] = all;
    filled.then_some(Sent::Time {
        negative: negative == 1,
        days: u32::from_le_bytes([a, b, c, d]),
        rest: [hours, minutes, seconds],
        micros: u32::from_le_bytes(micros),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_every_width_keep_their_sign() {
        let read = |form: Form, bytes: &[u8]| {
            let mut rest = bytes;
            let sent = form.read(&mut rest).map(|sent| format!("{sent:?}"));
            (sent, rest.len())
        };
        let whole = |text: &str| (Some(text.to_owned()), 0);
        assert_eq!(read(Form::Signed(1), &[0xff]), whole("Int(-1)"));
        assert_eq!(read(Form::Unsigned(1), &[0xff]), whole("UInt(255)"));
        assert_eq!(read(Form::Signed(2), &[0, 0x80]), whole("Int(-32768)"));
        assert_eq!(read(Form::Signed(4), &[1, 0, 0, 0]), whole("Int(1)"));
        let least = [0, 0, 0, 0, 0, 0, 0, 0x80];
        assert_eq!(
            read(Form::Signed(8), &least),
            whole("Int(-9223372036854775808)")
        );
        assert_eq!(
            read(Form::Unsigned(8), &least),
            whole("UInt(9223372036854775808)")
        );
        assert_eq!(
            read(Form::Double, &1.5_f64.to_le_bytes()),
            whole("Double(1.5)")
        );
        assert_eq!(read(Form::Signed(4), &[1, 0, 0]), (None, 3));
    }

    #[test]
    fn lengths_dates_and_times() {
        let read = |form: Form, bytes: &'static [u8]| form.read(&mut &bytes[..]);
        assert_eq!(read(Form::Bytes, b"\x02ab"), Some(Sent::Bytes(b"ab")));
        assert_eq!(
            read(Form::Bytes, b"\xfc\x02\x00ab"),
            Some(Sent::Bytes(b"ab"))
        );
        assert_eq!(read(Form::Bytes, b"\x03ab"), None);
        assert_eq!(read(Form::Bytes, b"\xfe\x01"), None);
        let date = |rest, micros| Sent::Date {
            year: 2026,
            rest,
            micros,
        };
        let long = b"\x0b\xea\x07\x0b\x16\x0a\x00\x01\x40\xe2\x01\x00";
        assert_eq!(
            read(Form::Date, long),
            Some(date([11, 22, 10, 0, 1], 123_456))
        );
        assert_eq!(
            read(Form::Date, b"\x04\xea\x07\x0b\x16"),
            Some(date([11, 22, 0, 0, 0], 0))
        );
        assert_eq!(read(Form::Date, b"\x05\xea\x07\x0b\x16\x01"), None);
        assert_eq!(read(Form::Date, &[12; 13]), None);
        let time = Sent::Time {
            negative: true,
            days: 34,
            rest: [22, 59, 58],
            micros: 0,
        };
        assert_eq!(
            read(Form::Time, b"\x08\x01\x22\x00\x00\x00\x16\x3b\x3a"),
            Some(time)
        );
    }
}
